/**
 * A byte stream between two threads: one writer, one reader, bounded, without locks.
 *
 * ```
 *        head (reader)            tail (writer)
 *          ▼                        ▼
 *   ┌──────┬────────────────────────┬──────┐     used = tail − head, free = capacity − used
 *   │ free │ published, not yet read │ free │
 *   └──────┴────────────────────────┴──────┘
 * ```
 * Each index has one writer. Bytes are written plainly and published by an atomic store of the tail; the reader loads
 * the tail atomically first. Both sides work ahead of their index (`copyIn`, `copyOut` at an offset) and publish or
 * release a whole batch at once. Indices are free-running 32-bit counters; the capacity is a power of two.
 */
import { assert } from "../base/assert.ts";

/** Control words, each on its own cache line. */
const HEAD = 0;
const TAIL = 16;
const CONTROL_BYTES = 128;
const MAX_CAPACITY_BYTES = 1 << 30;

export class ByteRing {
  readonly capacityBytes: number;
  /** The ring's memory; position `n` of the stream stands at `n & (capacity - 1)`. */
  readonly bytes: Uint8Array;
  private readonly control: Int32Array;
  private readonly mask: number;

  /** Lays a ring over `bytesFor(capacityBytes)` zero bytes of `buffer` from `at`; the other side does the same. */
  constructor(buffer: SharedArrayBuffer, at: number, capacityBytes: number) {
    assert(
      capacityBytes > 0 && capacityBytes <= MAX_CAPACITY_BYTES && (capacityBytes & (capacityBytes - 1)) === 0,
      "the capacity of a byte ring is a power of two",
    );
    this.capacityBytes = capacityBytes;
    this.mask = capacityBytes - 1;
    this.control = new Int32Array(buffer, at, CONTROL_BYTES / 4);
    this.bytes = new Uint8Array(buffer, at + CONTROL_BYTES, capacityBytes);
  }

  /** Bytes of memory a ring of this capacity needs. */
  static bytesFor(capacityBytes: number): number {
    return CONTROL_BYTES + capacityBytes;
  }

  /** Bytes published and not yet released. */
  get used(): number {
    return (Atomics.load(this.control, TAIL) - Atomics.load(this.control, HEAD)) >>> 0;
  }

  /** Bytes the writer may publish. */
  get free(): number {
    return this.capacityBytes - this.used;
  }

  // ── the writer ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Copies `len` bytes of `from` at `at` to `offset` bytes behind the tail. The caller has seen that they fit. */
  copyIn(offset: number, from: Uint8Array, at: number, len: number): void {
    const to = this.placeOf(TAIL, offset);
    const first = Math.min(len, this.capacityBytes - to);
    this.bytes.set(from.subarray(at, at + first), to);
    if (first < len) this.bytes.set(from.subarray(at + first, at + len), 0);
  }

  /** Writes a 32-bit number, most significant byte first, `offset` bytes behind the tail. */
  putUint32(offset: number, value: number): void {
    for (let i = 0; i < 4; i++) this.bytes[this.placeOf(TAIL, offset + i)] = value >>> (24 - 8 * i);
  }

  /** Shows the next `len` bytes to the reader. */
  publish(len: number): void {
    assert(len <= this.free, "a byte ring was written over its end");
    Atomics.store(this.control, TAIL, (this.control[TAIL] + len) | 0);
  }

  // ── the reader ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Copies `len` bytes from `offset` bytes behind the head to `into` at `at`. The caller has seen that they exist. */
  copyOut(offset: number, into: Uint8Array, at: number, len: number): void {
    const from = this.placeOf(HEAD, offset);
    const first = Math.min(len, this.capacityBytes - from);
    into.set(this.bytes.subarray(from, from + first), at);
    if (first < len) into.set(this.bytes.subarray(0, len - first), at + first);
  }

  /** The 32-bit number, most significant byte first, `offset` bytes behind the head. */
  getUint32(offset: number): number {
    let value = 0;
    for (let i = 0; i < 4; i++) value = value * 256 + this.bytes[this.placeOf(HEAD, offset + i)];
    return value;
  }

  /** Where in `bytes` the byte `offset` behind the head stands. */
  readPlace(offset: number): number {
    return this.placeOf(HEAD, offset);
  }

  /** Gives the oldest `len` bytes up. */
  release(len: number): void {
    assert(len <= this.used, "a byte ring was read over its end");
    Atomics.store(this.control, HEAD, (this.control[HEAD] + len) | 0);
  }

  /** Only the side that writes the index `word` asks: it may read it plainly. */
  private placeOf(word: number, offset: number): number {
    return (this.control[word] + offset) & this.mask;
  }
}
