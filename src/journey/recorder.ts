/**
 * The recorder: `Tracepoints` over a record ring. One per clock — one for each host's kernel, one for each process.
 *
 * @hot — a record is six stores, one time from the host's clock (already read by the driver) and one publication.
 * Nothing is allocated. A full ring loses the record and counts it; it never blocks (law 6).
 */
import type { Clock } from "../base/time.ts";
import type { Label, Point, Tracepoints } from "../base/tracepoints.ts";
import {
  DEFAULT_LABEL_BYTES,
  DEFAULT_RECORDS,
  KIND_FACTOR,
  Kind,
  LABEL_MAX_BYTES,
  newRing,
  OP_GAP,
  RECORD_NUMBERS,
  RingViews,
  Word,
} from "./record-ring.ts";

export class Recorder implements Tracepoints {
  mask = 0;
  /** The memory to hand to `Collector.attach`, maybe in another thread. */
  readonly buffer: ArrayBufferLike;
  private readonly clock: Clock;
  private readonly words: Int32Array;
  private readonly records: Float64Array;
  private readonly labels: Uint8Array;
  private readonly indexMask: number;
  private head: number;
  private tailSeen: number;
  private labelHead: number;
  private lostNow = 0;
  private firstLostNs = 0;
  private lastLostNs = 0;

  /** Over `buffer`, which `initRing` has made (or a fresh plain one). The time of a record is `clock.nowNs`. */
  constructor(clock: Clock, buffer: ArrayBufferLike = Recorder.newBuffer()) {
    this.clock = clock;
    this.buffer = buffer;
    const views = new RingViews(buffer);
    this.words = views.words;
    this.records = views.records;
    this.labels = views.labels;
    this.indexMask = views.recordCount - 1;
    this.head = Atomics.load(this.words, Word.head);
    this.tailSeen = Atomics.load(this.words, Word.tail);
    this.labelHead = Atomics.load(this.words, Word.labelHead);
    this.sync();
  }

  /** A fresh, initialised ring; `shared` for one that crosses threads. */
  static newBuffer(shared = false, records = DEFAULT_RECORDS, labelBytes = DEFAULT_LABEL_BYTES): ArrayBufferLike {
    return newRing(shared, records, labelBytes);
  }

  /** The driver calls it once per batch: takes over the collector's sampling mask. */
  sync(): void {
    this.mask = Atomics.load(this.words, Word.mask);
  }

  /** Records lost because the ring was full. */
  get lost(): number {
    return Atomics.load(this.words, Word.lost) >>> 0;
  }

  stamp(point: Point, id: number, a: number, b: number): void {
    this.put(point, id, a, b, 0);
  }

  link(point: Point, child: number, parent: number, lo: number, hi: number): void {
    this.put(Kind.link * KIND_FACTOR + point, child, parent, lo, hi);
  }

  drop(reason: number, id: number): void {
    this.put(Kind.drop * KIND_FACTOR + reason, id, 0, 0, 0);
  }

  label(kind: Label, id: number, bytes: Uint8Array, at: number, len: number): void {
    const count = len < LABEL_MAX_BYTES ? len : LABEL_MAX_BYTES;
    const labels = this.labels;
    const start = this.labelHead;
    const used = (start - Atomics.load(this.words, Word.labelTail)) >>> 0;
    if (used + count > labels.length) {
      this.lose();
      return;
    }
    const wrap = labels.length - 1;
    for (let i = 0; i < count; i++) labels[(start + i) & wrap] = bytes[at + i] as number;
    if (!this.put(Kind.label * KIND_FACTOR + kind, id, start, count, 0)) return;
    this.labelHead = (start + count) | 0;
  }

  private put(op: number, id: number, a: number, b: number, c: number): boolean {
    if (((this.head - this.tailSeen) >>> 0) + 1 > this.indexMask && !this.makeRoom()) return false;
    this.write(this.clock.nowNs, op, id, a, b, c);
    return true;
  }

  private write(timeNs: number, op: number, id: number, a: number, b: number, c: number): void {
    const records = this.records;
    const at = (this.head & this.indexMask) * RECORD_NUMBERS;
    records[at] = timeNs;
    records[at + 1] = op;
    records[at + 2] = id;
    records[at + 3] = a;
    records[at + 4] = b;
    records[at + 5] = c;
    this.head = (this.head + 1) | 0;
    Atomics.store(this.words, Word.head, this.head);
  }

  /** The ring looked full: looks again, and confesses earlier losses now that there is room for two. */
  private makeRoom(): boolean {
    this.tailSeen = Atomics.load(this.words, Word.tail);
    if (((this.head - this.tailSeen) >>> 0) + 1 > this.indexMask) {
      this.lose();
      return false;
    }
    if (this.lostNow > 0) {
      this.write(this.clock.nowNs, OP_GAP, this.lostNow, this.firstLostNs, this.lastLostNs, 0);
      this.lostNow = 0;
    }
    return true;
  }

  private lose(): void {
    if (this.lostNow === 0) this.firstLostNs = this.clock.nowNs;
    this.lastLostNs = this.clock.nowNs;
    this.lostNow++;
    Atomics.add(this.words, Word.lost, 1);
    this.tailSeen = (this.head - this.indexMask) | 0; // the next record asks again and writes the gap record first
  }
}
