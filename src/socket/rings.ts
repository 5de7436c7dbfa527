/**
 * SyscallRings: the memory a process and the kernel share (io_uring's shape), laid over one ArrayBufferLike.
 *
 * ```
 *  control words (one per 64-byte line) │ submission records │ completion records │ staging bytes
 *  sqHead sqTail cqHead cqTail stagedTo │  64 B each          │  96 B each          │  byte FIFO
 * ```
 * Each index has one writer. A record is written plainly, then published by an atomic store of the tail; the reader
 * loads the tail atomically first. That is all the synchronisation there is; rings that no second thread can see (no
 * SharedArrayBuffer) do without. Indices are free-running 32-bit counters; sizes are powers of two.
 *
 * The staging area is a ring of bytes in which each allocation is contiguous (one that would cross the end skips it).
 * Allocations are freed in order: a submission carries the counter up to which the area is free once it was consumed.
 */
import { assert } from "../base/assert.ts";

/** Words of one submission record, and their places. */
export const SQ_WORDS = 16;
export const Sq = {
  op: 0,
  fd: 1,
  token: 2,
  gid: 3,
  a: 4,
  b: 5,
  c: 6,
  d: 7,
  address: 8,
  port: 12,
  staged: 13,
  timeNs: 14,
} as const;

/**
 * Words of one completion record, and their places. `offset`, `arrivedNs`, `queuedNs` are doubles (two words). The
 * names are there only if `hasNames` is 1.
 */
export const CQ_WORDS = 24;
export const Cq = {
  token: 0,
  result: 1,
  flags: 2,
  fd: 3,
  data: 4,
  address: 5,
  offset: 6,
  arrivedNs: 8,
  queuedNs: 10,
  peerWords: 12,
  peerPort: 16,
  localWords: 17,
  localPort: 21,
  hasNames: 22,
} as const;

/** Control words: index into `control`. Each on its own cache line. */
const LINE = 16;
export const Control = {
  /** Next submission the kernel will read. Writer: kernel. */
  sqHead: 0 * LINE,
  /** Next submission the process will write. Writer: process. */
  sqTail: 1 * LINE,
  /** Next completion the process will read. Writer: process. */
  cqHead: 2 * LINE,
  /** Next completion the kernel will write. Writer: kernel. */
  cqTail: 3 * LINE,
  /** Staging bytes below this counter are free. Writer: kernel. */
  stagingHead: 4 * LINE,
  /** Counts rings of the process's doorbell; a process thread may Atomics.wait on it. */
  processDoorbell: 5 * LINE,
  /** 1 while the process sleeps (`RingPort.prepareSleep`). */
  processSleeping: 6 * LINE,
  /** 1 from the first completion posted until the process has seen the ring empty: one `toProcess` per batch. */
  notified: 7 * LINE,
  /**
   * 1 while the kernel holds completions that found no room: ring its doorbell once there is (io_uring CQ overflow).
   */
  overflow: 8 * LINE,
} as const;
const CONTROL_WORDS = 9 * LINE;

export interface RingSizes {
  /** Submission records; a power of two. */
  readonly submissions: number;
  /** Completion records; a power of two. */
  readonly completions: number;
  /** Staging area in bytes; a power of two. */
  readonly stagingBytes: number;
}

export const DEFAULT_RING_SIZES: RingSizes = { submissions: 1024, completions: 2048, stagingBytes: 1 << 20 };

/** Views over the shared memory; each side makes its own from the same buffer. */
export class SyscallRings {
  readonly buffer: ArrayBufferLike;
  readonly sizes: RingSizes;
  /** Control words: through `load`, `store` and `exchange`. */
  readonly control: Int32Array;
  private readonly isShared: boolean;
  /** Submission records as words and as doubles (the same memory). */
  readonly sq: Int32Array;
  readonly sqTimes: Float64Array;
  /** Completion records as words and as doubles (the same memory). */
  readonly cq: Int32Array;
  readonly cqDoubles: Float64Array;
  readonly staging: Uint8Array;

  /** `buffer` must have `SyscallRings.bytesFor(sizes)` zero bytes; without one, private memory is made. */
  constructor(sizes: RingSizes = DEFAULT_RING_SIZES, buffer?: ArrayBufferLike) {
    for (const size of [sizes.submissions, sizes.completions, sizes.stagingBytes]) {
      assert(size > 0 && (size & (size - 1)) === 0, "ring sizes are powers of two");
    }
    const memory = buffer ?? new ArrayBuffer(SyscallRings.bytesFor(sizes));
    const sqAt = CONTROL_WORDS * 4;
    const sqWords = sizes.submissions * SQ_WORDS;
    const cqAt = sqAt + sqWords * 4;
    const cqWords = sizes.completions * CQ_WORDS;
    this.buffer = memory;
    this.sizes = sizes;
    // Not "instanceof SharedArrayBuffer": some realms have none.
    this.isShared = !(memory instanceof ArrayBuffer);
    this.control = new Int32Array(memory, 0, CONTROL_WORDS);
    this.sq = new Int32Array(memory, sqAt, sqWords);
    this.sqTimes = new Float64Array(memory, sqAt, sqWords / 2);
    this.cq = new Int32Array(memory, cqAt, cqWords);
    this.cqDoubles = new Float64Array(memory, cqAt, cqWords / 2);
    this.staging = new Uint8Array(memory, cqAt + cqWords * 4, sizes.stagingBytes);
  }

  /** Bytes of memory rings of these sizes need. */
  static bytesFor(sizes: RingSizes): number {
    const words = CONTROL_WORDS + sizes.submissions * SQ_WORDS + sizes.completions * CQ_WORDS;
    return words * 4 + sizes.stagingBytes;
  }

  /** Rings over memory that two threads can share. */
  static shared(sizes: RingSizes = DEFAULT_RING_SIZES): SyscallRings {
    return new SyscallRings(sizes, new SharedArrayBuffer(SyscallRings.bytesFor(sizes)));
  }

  /** A control word. */
  load(word: number): number {
    return this.isShared ? Atomics.load(this.control, word) : (this.control[word] as number);
  }

  /** Publishes what was written before it. */
  store(word: number, value: number): void {
    if (this.isShared) Atomics.store(this.control, word, value);
    else this.control[word] = value;
  }

  /** Stores and returns what was there. */
  exchange(word: number, value: number): number {
    if (this.isShared) return Atomics.exchange(this.control, word, value);
    const before = this.control[word] as number;
    this.control[word] = value;
    return before;
  }

  /** Submissions published and not yet consumed. */
  get submitted(): number {
    return (this.load(Control.sqTail) - this.load(Control.sqHead)) >>> 0;
  }

  /** Completions posted and not yet reaped. */
  get completed(): number {
    return (this.load(Control.cqTail) - this.load(Control.cqHead)) >>> 0;
  }

  /** Rings the process's doorbell and wakes a process thread that waits on it. */
  ringProcess(): void {
    Atomics.add(this.control, Control.processDoorbell, 1);
    Atomics.notify(this.control, Control.processDoorbell);
  }
}
