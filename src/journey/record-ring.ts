/**
 * The record ring: how a recorder in one thread hands its records to the collector in another.
 *
 *     header (64 B)        records × 48 B                         label bytes
 *     ┌──────────────────┬──────────────────────────────────────┬──────────────┐
 *     │ head tail lost … │ timeNs op id a b c │ timeNs op id …  │ GET/hello…   │
 *     └──────────────────┴──────────────────────────────────────┴──────────────┘
 *
 * One writer, one reader, one `ArrayBufferLike` (shared between threads, plain in one thread). Positions run free and
 * wrap at 2^32; an index is a position modulo a power of two. The writer publishes with `Atomics.store(head)` after
 * the record is complete; the reader gives room back with `Atomics.store(tail)`. A full ring never blocks its writer:
 * the
 * record is counted as lost and a `gap` record says so as soon as there is room.
 */

/** Numbers per record: time, op, and four arguments. */
export const RECORD_NUMBERS = 6;
const RECORD_BYTES = RECORD_NUMBERS * 8;
const HEADER_BYTES = 64;

/** Limit `recordsPerRing`: records a ring holds before it loses some. 3 MB. */
export const DEFAULT_RECORDS = 65_536;
/** Limit `labelBytesPerRing`. */
export const DEFAULT_LABEL_BYTES = 256 * 1024;
/** Limit `labelBytes`: a longer label (a request target may be 8 KiB) is cut. */
export const LABEL_MAX_BYTES = 1024;

/** Positions of the header words (Int32). */
export const Word = {
  head: 0,
  tail: 1,
  lost: 2,
  mask: 3,
  labelHead: 4,
  labelTail: 5,
  records: 6,
  labelBytes: 7,
} as const;

/** `op = kind × 1000 + point` (for drops the reason, for labels the label kind). */
export const Kind = { stamp: 0, link: 1, drop: 2, label: 3, gap: 4 } as const;
export const KIND_FACTOR = 1000;
/**
 * Written before the first record that fits after some were lost: id = how many, a and b = times of the first and
 * last lost.
 */
export const OP_GAP = Kind.gap * KIND_FACTOR;

/**
 * Bytes of a ring with room for `records` records (a power of two) and `labelBytes` bytes of labels (a power of
 * two).
 */
export function ringByteLength(records = DEFAULT_RECORDS, labelBytes = DEFAULT_LABEL_BYTES): number {
  return HEADER_BYTES + records * RECORD_BYTES + labelBytes;
}

/**
 * Makes an empty ring in `buffer` (which must be zeroed and of `ringByteLength` bytes). Call once, before both
 * ends attach.
 */
export function initRing(buffer: ArrayBufferLike, records = DEFAULT_RECORDS, labelBytes = DEFAULT_LABEL_BYTES): void {
  if (!isPowerOfTwo(records) || !isPowerOfTwo(labelBytes)) throw new RangeError("ring sizes must be powers of two");
  if (buffer.byteLength < ringByteLength(records, labelBytes)) throw new RangeError("buffer too small for the ring");
  const words = new Int32Array(buffer, 0, HEADER_BYTES / 4);
  words[Word.records] = records;
  words[Word.labelBytes] = labelBytes;
}

/** A fresh, empty ring; `shared` for one that crosses threads. */
export function newRing(shared: boolean, records: number, labelBytes: number): ArrayBufferLike {
  const length = ringByteLength(records, labelBytes);
  const buffer = shared ? new SharedArrayBuffer(length) : new ArrayBuffer(length);
  initRing(buffer, records, labelBytes);
  return buffer;
}

function isPowerOfTwo(n: number): boolean {
  return Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0;
}

/** The typed views of one ring. */
export class RingViews {
  readonly words: Int32Array;
  readonly records: Float64Array;
  readonly labels: Uint8Array;
  readonly recordCount: number;

  constructor(buffer: ArrayBufferLike) {
    this.words = new Int32Array(buffer, 0, HEADER_BYTES / 4);
    this.recordCount = this.words[Word.records] as number;
    const labelBytes = this.words[Word.labelBytes] as number;
    if (this.recordCount === 0) throw new RangeError("not an initialised record ring");
    this.records = new Float64Array(buffer, HEADER_BYTES, this.recordCount * RECORD_NUMBERS);
    this.labels = new Uint8Array(buffer, HEADER_BYTES + this.recordCount * RECORD_BYTES, labelBytes);
  }
}

/** The collector's end of a ring. `load` looks at the oldest record without taking it. */
export class RingReader {
  readonly name: string;
  timeNs = 0;
  op = 0;
  id = 0;
  a = 0;
  b = 0;
  c = 0;
  private readonly views: RingViews;
  private tail: number;
  private head: number;
  private labelTail: number;

  constructor(buffer: ArrayBufferLike, name: string) {
    this.name = name;
    this.views = new RingViews(buffer);
    this.tail = Atomics.load(this.views.words, Word.tail);
    this.labelTail = Atomics.load(this.views.words, Word.labelTail);
    this.head = this.tail;
  }

  /** Looks at what was published up to now. Returns how many records wait. */
  refresh(): number {
    this.head = Atomics.load(this.views.words, Word.head);
    return (this.head - this.tail) >>> 0;
  }

  /** Reads the oldest record into the fields; false if none was published at the last `refresh`. */
  load(): boolean {
    if (this.tail === this.head) return false;
    const records = this.views.records;
    const at = (this.tail & (this.views.recordCount - 1)) * RECORD_NUMBERS;
    this.timeNs = records[at] as number;
    this.op = records[at + 1] as number;
    this.id = records[at + 2] as number;
    this.a = records[at + 3] as number;
    this.b = records[at + 4] as number;
    this.c = records[at + 5] as number;
    return true;
  }

  /** Takes the loaded record; its room is given back by `release`. */
  take(): void {
    if (this.op >= Kind.label * KIND_FACTOR && this.op < OP_GAP) this.labelTail = (this.a + this.b) | 0;
    this.tail = (this.tail + 1) | 0;
  }

  /** A copy of the bytes of the loaded label record. */
  labelBytes(): Uint8Array {
    const labels = this.views.labels;
    const out = new Uint8Array(this.b);
    for (let i = 0; i < out.length; i++) out[i] = labels[(this.a + i) & (labels.length - 1)] as number;
    return out;
  }

  /** Gives the room of taken records back to the writer. Once per batch. */
  release(): void {
    Atomics.store(this.views.words, Word.labelTail, this.labelTail);
    Atomics.store(this.views.words, Word.tail, this.tail);
  }

  /** Records this ring has lost since it was made. */
  get lost(): number {
    return Atomics.load(this.views.words, Word.lost) >>> 0;
  }

  /** Tells the writer's side which connections to record; it looks at its next `sync`. */
  setMask(mask: number): void {
    Atomics.store(this.views.words, Word.mask, mask);
  }
}
