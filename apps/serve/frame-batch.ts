/**
 * Captured frames on their way from the kernel's thread to the one that writes them: records in one buffer, so that a
 * batch crosses as a copy of bytes.
 *
 *   ┌ atNs f64 ┬ len u32 ┬ missed u32 ┬ iface u16 ┬ flags u16 ┬ 4 free ┬ frame … ┬ to a multiple of 8 ┐
 */

/** Where the frame was going, seen from the host; what is known of it. */
export const FrameFlag = { outbound: 1, partial: 2, lost: 4 } as const;

export interface BatchedFrame {
  readonly atNs: number;
  readonly iface: number;
  /** `FrameFlag`s. */
  readonly flags: number;
  /** Frames before this one that were left out because nobody fetched. */
  readonly missed: number;
  /** `bytes[at … at+len)` is the frame. */
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly len: number;
}

const HEADER_BYTES = 24;
const FIRST_CAPACITY = 64 * 1024;

/** Grows up to a limit; beyond it frames are left out and counted. */
export class FrameBatch {
  private bytes = new Uint8Array(FIRST_CAPACITY);
  private view = new DataView(this.bytes.buffer);
  private used = 0;
  private missed = 0;
  private readonly limitBytes: number;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** *Borrows* the bytes. */
  add(iface: number, flags: number, atNs: number, bytes: Uint8Array, from: number, len: number): void {
    const size = HEADER_BYTES + ((len + 7) & ~7);
    if (this.used + size > this.limitBytes) {
      this.missed++;
      return;
    }
    if (this.used + size > this.bytes.length) this.grow(this.used + size);
    const at = this.used;
    this.view.setFloat64(at, atNs);
    this.view.setUint32(at + 8, len);
    this.view.setUint32(at + 12, this.missed);
    this.view.setUint16(at + 16, iface);
    this.view.setUint16(at + 18, flags);
    this.bytes.set(bytes.subarray(from, from + len), at + HEADER_BYTES);
    this.used += size;
    this.missed = 0;
  }

  /** What was added since the last take. */
  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.used);
    this.used = 0;
    return taken;
  }

  private grow(least: number): void {
    const larger = new Uint8Array(Math.max(least, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.used));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }
}

/** Hands each frame of a batch to `sink`, which *borrows* the bytes. */
export function forEachFrame(batch: Uint8Array, sink: (frame: BatchedFrame) => void): void {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
  for (let at = 0; at < batch.length; ) {
    const len = view.getUint32(at + 8);
    sink({
      atNs: view.getFloat64(at),
      iface: view.getUint16(at + 16),
      flags: view.getUint16(at + 18),
      missed: view.getUint32(at + 12),
      bytes: batch,
      at: at + HEADER_BYTES,
      len,
    });
    at += HEADER_BYTES + ((len + 7) & ~7);
  }
}
