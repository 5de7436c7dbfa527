/**
 * A fingerprint of everything that departed on the cables of a run: two runs with the same one had the same frames at
 * the same nanoseconds. On the way it notes the segments that end connections.
 */
import type { Ns } from "../../src/base/time.ts";
import type { LinkTap } from "../../src/device/wire-link.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { viewSegment } from "../support/segment-view.ts";

/** Of the flags in a TCP header. */
const FLAGS_OFFSET = 13;
const SHORTEST_SEGMENT_BYTES = ethernet.HEADER_LEN + ipv4.HEADER_LEN + tcp.HEADER_LEN;
/** Headers, and the beginning of a payload. */
const HASHED_BYTES = 96;
const FNV_PRIME = 0x01000193;

/** A FIN or a RST. */
export interface SeenEnding {
  readonly isReset: boolean;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly atNs: Ns;
}

export class TraceHash {
  readonly endings: SeenEnding[] = [];
  private a = 0x811c9dc5;
  private b = 0x9747b28c;

  /** 64 bits, hexadecimal. */
  get text(): string {
    return [this.a, this.b].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  /** The tap of link number `link`. */
  tap(link: number): LinkTap {
    let view: DataView | null = null;
    return (direction, bytes, at, len, nowNs, lost) => {
      if (view?.buffer !== bytes.buffer) view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.mix((link << 8) | (direction << 1) | (lost ? 1 : 0));
      this.mix(nowNs | 0);
      this.mix((nowNs / 0x100000000) | 0);
      this.mix(len);
      const end = at + (Math.min(len, HASHED_BYTES) & ~3);
      for (let i = at; i < end; i += 4) this.mix(view.getInt32(i));
      if (len >= SHORTEST_SEGMENT_BYTES) this.noteEnding(bytes, at, len, nowNs);
    };
  }

  private mix(word: number): void {
    this.a = Math.imul(this.a ^ word, FNV_PRIME);
    this.a ^= this.a >>> 15;
    this.b = Math.imul((this.b << 5) ^ (this.b >>> 27) ^ word, FNV_PRIME);
  }

  private noteEnding(bytes: Uint8Array, at: number, len: number, atNs: Ns): void {
    const flags = at + ethernet.HEADER_LEN + ipv4.HEADER_LEN + FLAGS_OFFSET;
    if (((bytes[flags] as number) & (tcp.Flag.fin | tcp.Flag.rst)) === 0) return;
    // A bit that a wire has turned over is no flag: the segment must be whole.
    const segment = viewSegment(bytes, at, len);
    if (segment === null) return;
    const { srcPort, dstPort } = segment;
    this.endings.push({ isReset: (segment.flags & tcp.Flag.rst) !== 0, srcPort, dstPort, atNs });
  }
}
