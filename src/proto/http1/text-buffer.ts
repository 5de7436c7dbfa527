/**
 * Text put together as bytes, one per character (latin-1): what a head is written into, piece by piece.
 *
 * A head built as one string of pieces must be flattened and read again to be sent, which costs twice as much.
 */
import { ZERO } from "./tables.ts";
import { latin1 } from "./text.ts";

const FIRST_BYTES = 1024;

export class TextBuffer {
  /** The bytes are [0, length). Replaced when it grows. */
  bytes = new Uint8Array(FIRST_BYTES);
  length = 0;

  /** Forgets the text; keeps the memory. */
  clear(): void {
    this.length = 0;
  }

  /** Appends text: the low eight bits of each character's code. */
  add(text: string): this {
    const { length } = text;
    const at = this.reserve(length);
    const { bytes } = this;
    for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
    return this;
  }

  /** Appends bytes from `from` on (*borrowed*): what is always the same is better kept as bytes than as text. */
  addBytes(text: Uint8Array, from = 0): this {
    const length = text.length - from;
    const at = this.reserve(length);
    const { bytes } = this;
    for (let i = 0; i < length; i++) bytes[at + i] = text[from + i];
    return this;
  }

  /** Appends a whole number ≥ 0 in decimal, with zeros in front up to `digits`. */
  addNumber(value: number, digits = 1): this {
    let count = 1;
    for (let limit = 10; value >= limit; limit *= 10) count++;
    count = Math.max(count, digits);
    const at = this.reserve(count);
    const { bytes } = this;
    let rest = value;
    for (let i = at + count - 1; i >= at; i--) {
      const tens = Math.floor(rest / 10);
      bytes[i] = ZERO + (rest - tens * 10);
      rest = tens;
    }
    return this;
  }

  toString(): string {
    return latin1(this.bytes, 0, this.length);
  }

  /** Makes room for `count` bytes; returns where they begin. */
  private reserve(count: number): number {
    const at = this.length;
    this.length = at + count;
    if (this.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.length));
      grown.set(this.bytes);
      this.bytes = grown;
    }
    return at;
  }
}
