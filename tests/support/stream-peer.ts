/**
 * The other end of a framed stream, by hand: what QEMU would say and understand. Shares no code with what it tests.
 */

/** A frame behind its length. */
export function framed(frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + frame.length);
  new DataView(bytes.buffer).setUint32(0, frame.length);
  bytes.set(frame, 4);
  return bytes;
}

/** One array out of many. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

/** Collects bytes and gives the whole frames in them. */
export class FrameReader {
  /** What has come of the next frame. */
  rest: Uint8Array = new Uint8Array(0);

  /** Whole frames, oldest first. *Borrows* the bytes. */
  push(bytes: Uint8Array): Uint8Array[] {
    const all = joined([this.rest, bytes]);
    const view = new DataView(all.buffer);
    const frames: Uint8Array[] = [];
    let at = 0;
    while (at + 4 <= all.length && at + 4 + view.getUint32(at) <= all.length) {
      const end = at + 4 + view.getUint32(at);
      frames.push(all.slice(at + 4, end));
      at = end;
    }
    this.rest = all.slice(at);
    return frames;
  }
}
