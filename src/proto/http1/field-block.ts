/**
 * A block of field lines by offsets: where each name and value is in the bytes they came in. Strings are made when
 * somebody asks.
 *
 * The bytes are *borrowed* from the feeder until `detach` copies them, or until a head that came in pieces made the
 * parser collect it here. Offsets are relative to `base`, so that moving the bytes moves nothing else.
 */
import { equalsIgnoreCase, latin1 } from "./text.ts";

const NO_BYTES = new Uint8Array(0);
const FIRST_STORE_BYTES = 1024;
const FIRST_FIELDS = 16;

export class FieldBlock {
  /** The bytes the offsets point into, from `base` on. */
  bytes: Uint8Array = NO_BYTES;
  base = 0;
  /** Bytes of the block known so far, from `base`. */
  length = 0;
  /** Number of complete field lines. */
  count = 0;
  /** Four numbers per field: name begin, name end, value begin, value end. */
  private spans = new Int32Array(4 * FIRST_FIELDS);
  private store: Uint8Array = NO_BYTES;

  /** Forgets the fields; keeps the memory. */
  clear(): void {
    this.count = 0;
    this.length = 0;
    this.bytes = NO_BYTES;
    this.base = 0;
  }

  /** Points the block at somebody's bytes. */
  borrow(bytes: Uint8Array, base: number, length: number): void {
    this.bytes = bytes;
    this.base = base;
    this.length = length;
  }

  /** True while the bytes belong to the feeder. */
  get borrowed(): boolean {
    return this.length > 0 && this.bytes !== this.store;
  }

  /** Copies borrowed bytes into the block's own memory: call it before the feeder's buffer is used again. */
  detach(): void {
    if (!this.borrowed) return;
    const { bytes, base, length } = this;
    this.length = 0;
    this.append(bytes, base, length);
  }

  /** Collects bytes of a block that comes in pieces. */
  append(bytes: Uint8Array, at: number, length: number): void {
    const total = this.length + length;
    if (this.store.length < total) {
      const grown = new Uint8Array(Math.max(FIRST_STORE_BYTES, 2 ** Math.ceil(Math.log2(total))));
      grown.set(this.store.subarray(0, this.length));
      this.store = grown;
    }
    this.store.set(bytes.subarray(at, at + length), this.length);
    this.bytes = this.store;
    this.base = 0;
    this.length = total;
  }

  /** Adds a field line; offsets from `base`. */
  push(nameAt: number, nameEnd: number, valueAt: number, valueEnd: number): void {
    const i = this.count * 4;
    if (i === this.spans.length) {
      const grown = new Int32Array(2 * i);
      grown.set(this.spans);
      this.spans = grown;
    }
    this.spans[i] = nameAt;
    this.spans[i + 1] = nameEnd;
    this.spans[i + 2] = valueAt;
    this.spans[i + 3] = valueEnd;
    this.count++;
  }

  /** Offset from `base` of the field's name. */
  nameAt(i: number): number {
    return this.spans[i * 4];
  }

  /** Offset from `base` of the field's value, white space around it taken off. */
  valueAt(i: number): number {
    return this.spans[i * 4 + 2];
  }

  /** The name of field `i` as it was written. */
  name(i: number): string {
    return latin1(this.bytes, this.base + this.spans[i * 4], this.base + this.spans[i * 4 + 1]);
  }

  /** The value of field `i`. */
  value(i: number): string {
    return latin1(this.bytes, this.base + this.spans[i * 4 + 2], this.base + this.spans[i * 4 + 3]);
  }

  /** Index of the first field of this name (given in lower case) at or after `from`, or -1. */
  find(lowerName: string, from = 0): number {
    const { base, bytes, spans } = this;
    for (let i = from; i < this.count; i++) {
      const at = spans[i * 4];
      const end = spans[i * 4 + 1];
      if (end - at === lowerName.length && equalsIgnoreCase(bytes, base + at, base + end, lowerName)) return i;
    }
    return -1;
  }

  /** The value of a field by name (any case), several joined by ", " (RFC 9110 §5.3); `undefined` if there is none. */
  header(name: string): string | undefined {
    const lower = name.toLowerCase();
    let i = this.find(lower);
    if (i < 0) return undefined;
    let text = this.value(i);
    for (i = this.find(lower, i + 1); i >= 0; i = this.find(lower, i + 1)) text += `, ${this.value(i)}`;
    return text;
  }

  /** Names and values in the order they came. */
  *[Symbol.iterator](): IterableIterator<[name: string, value: string]> {
    for (let i = 0; i < this.count; i++) yield [this.name(i), this.value(i)];
  }
}
