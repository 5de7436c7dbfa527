/**
 * The bytes of one fuzz input while it is made (`Draft`), and as a target gets them (`Exact`): in memory that ends
 * where they end.
 */

/** The input under construction: `bytes[0 … len)`. In shared memory, so that a watchdog can tell what it was. */
export class Draft {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  len = 0;

  constructor(maxBytes: number) {
    this.bytes = new Uint8Array(new SharedArrayBuffer(maxBytes));
    this.view = new DataView(this.bytes.buffer);
  }

  get maxBytes(): number {
    return this.bytes.length;
  }

  /** Becomes a copy of `bytes`, cut to what fits. */
  load(bytes: Uint8Array): void {
    this.len = Math.min(bytes.length, this.maxBytes);
    if (this.len === bytes.length) this.bytes.set(bytes);
    else this.bytes.set(bytes.subarray(0, this.len));
  }

  /** A copy of the input. */
  toBytes(): Uint8Array {
    return this.bytes.slice(0, this.len);
  }
}

/** Bytes of memory in front of an input, so that a function must respect `at`. */
const LEAD_BYTES = 16;

/**
 * An input at the very end of its memory: `view.getUint8(end)` throws. Views are made once per length; what stands in
 * front of the input is never zero, so that a read before `at` is not without consequence.
 */
export class Exact {
  readonly at: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;

  private constructor(len: number) {
    this.at = LEAD_BYTES;
    this.end = LEAD_BYTES + len;
    this.bytes = new Uint8Array(this.end).fill(0xa5, 0, LEAD_BYTES);
    this.view = new DataView(this.bytes.buffer);
  }

  get len(): number {
    return this.end - this.at;
  }

  /** One per length up to `maxBytes`. */
  static table(maxBytes: number): Exact[] {
    return Array.from({ length: maxBytes + 1 }, (_, len) => new Exact(len));
  }

  load(draft: Draft): void {
    const { at, bytes } = this;
    const { len } = draft;
    for (let i = 0; i < len; i++) bytes[at + i] = draft.bytes[i];
  }
}

/** "0a0b0c" ⇄ bytes. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function fromHex(text: string): Uint8Array {
  if (!/^([0-9a-f]{2})*$/i.test(text)) throw new RangeError(`not hexadecimal: "${text.slice(0, 40)}"`);
  return new Uint8Array(Buffer.from(text, "hex"));
}
