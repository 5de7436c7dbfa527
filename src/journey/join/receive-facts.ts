/**
 * What is known of a connection's receive stream, and the **frontier**: the lowest byte not parsed yet.
 *
 * Only the frontier byte decides a label (contract §1, rule 1), so when the parser moves on, the times of the byte it
 * leaves are written into one `Step` and every fact below the new frontier is forgotten. A 100 MB upload is some
 * thousand steps, never 70,000 frames.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import { Fifo } from "./fifo.ts";
import { Limits } from "./limits.ts";

export interface ReceivedFrame {
  lo: number;
  hi: number;
  /** End of DMA; taken out of the ring by NAPI; TCP has looked at it. */
  arrivedNs: Ns;
  polledNs: Ns;
  processedNs: Ns;
  /** False if an earlier byte was missing when TCP looked at it. */
  inOrder: boolean;
  /** When NAPI had looked before. */
  pollBeforeNs: Ns;
  /** Out of order only: when the hole before it was filled. */
  filledNs: Ns;
  /** The request it was last counted for. */
  countedFor: number;
}

export interface ReadFact {
  lo: number;
  hi: number;
  startNs: Ns;
  endNs: Ns;
  pid: number;
}

/** The life of one frontier byte; NEVER for what has not happened. The frontier left it at `parsedNs`. */
export interface Step {
  offset: number;
  arrivedNs: Ns;
  /** A later byte arrived, or a frame of this connection was dropped, while this one was missing. */
  missedNs: Ns;
  polledNs: Ns;
  pollBeforeNs: Ns;
  processedNs: Ns;
  inOrder: boolean;
  deliveredNs: Ns;
  /** Receive queue after delivery, bytes. */
  depthBytes: number;
  readNs: Ns;
  readEndNs: Ns;
  pid: number;
  parseNs: Ns;
  parsedNs: Ns;
  /** Frames first seen with this step: how many, and the first of them. */
  frameCount: number;
  frames: ReceivedFrame[];
}

export class ReceiveFacts {
  /** Lowest unparsed byte; −1 while unknown (recording began after the connection). */
  frontier: number;
  /** End of what processes have read. */
  readHi = 0;
  /** Facts were merged or forgotten. */
  coarse = false;
  /** When a data frame of this connection was last dropped on its way in. */
  droppedNs: Ns = NEVER;
  private readonly frames = new Fifo<ReceivedFrame>();
  private readonly deliveries = new Fifo<{ atNs: Ns; offset: number; depth: number }>();
  private readonly reads = new Fifo<ReadFact>();
  private readonly holes: ReceivedFrame[] = [];
  private deliveredHi = 0;
  private parseNs: Ns = NEVER;
  private countingFor = 0;

  constructor(frontier: number) {
    this.frontier = frontier;
    this.deliveredHi = Math.max(0, frontier);
  }

  /** Bytes [lo,hi) came in a frame. */
  segment(lo: number, hi: number, arrivedNs: Ns, polledNs: Ns, atNs: Ns, pollBeforeNs: Ns): void {
    if (hi <= this.frontier) return;
    const inOrder = this.frontier < 0 || lo <= this.deliveredHi;
    const frame: ReceivedFrame = {
      lo,
      hi,
      arrivedNs,
      polledNs,
      processedNs: atNs,
      inOrder,
      pollBeforeNs,
      filledNs: NEVER,
      countedFor: -1,
    };
    this.frames.push(frame);
    if (!inOrder) this.holes.push(frame);
    if (this.frames.length > Limits.receivedFrames) this.mergeOldestFrames();
  }

  /** Bytes below `offset` are in order. */
  delivered(offset: number, depth: number, atNs: Ns): void {
    if (offset <= this.deliveredHi) return;
    this.deliveredHi = offset;
    this.deliveries.push({ atNs, offset, depth });
    if (this.deliveries.length > Limits.intervals) this.deliveries.shift();
    for (let i = this.holes.length - 1; i >= 0; i--) {
      const frame = this.holes[i] as ReceivedFrame;
      if (frame.hi > offset) continue;
      frame.filledNs = atNs;
      this.holes.splice(i, 1);
    }
  }

  /** The copy of [lo,hi) to process `pid` begins. */
  read(pid: number, lo: number, hi: number, atNs: Ns): void {
    this.readHi = Math.max(this.readHi, hi);
    this.reads.push({ lo, hi, startNs: atNs, endNs: NEVER, pid });
    if (this.reads.length > Limits.intervals) this.reads.shift();
  }

  /** The copy up to `hi` ended. */
  readEnd(hi: number, atNs: Ns): void {
    for (let i = this.reads.length - 1; i >= 0; i--) {
      const read = this.reads.at(i) as ReadFact;
      if (read.endNs !== NEVER) return;
      if (read.hi <= hi) read.endNs = atNs;
    }
  }

  parseBegin(atNs: Ns): void {
    this.parseNs = atNs;
  }

  /** The parser stopped (it wants more bytes, or the request is whole). */
  parseEnd(): void {
    this.parseNs = NEVER;
  }

  /** From here on frames are counted for the next request. */
  countForNext(): void {
    this.countingFor++;
  }

  /** The parser has consumed everything below `to`: the step of the byte it leaves, or null if it did not move. */
  advance(to: number, atNs: Ns): Step | null {
    if (to <= this.frontier) return null;
    const step = this.frontier < 0 ? null : this.step(to, true);
    if (step !== null) {
      step.parsedNs = atNs;
      settleStep(step);
    }
    this.frontier = to;
    this.prune(to);
    return step;
  }

  /** The unfinished step of the present frontier (for stories that end or are looked at before the parser moves). */
  openStep(): Step {
    const step = this.step(Number.POSITIVE_INFINITY, false);
    settleStep(step);
    return step;
  }

  /** True if a byte at or above the frontier has arrived. */
  get hasUnparsed(): boolean {
    for (let i = 0; i < this.frames.length; i++) {
      if ((this.frames.at(i) as ReceivedFrame).hi > this.frontier) return true;
    }
    return this.readHi > this.frontier && this.frontier >= 0;
  }

  private step(to: number, counting: boolean): Step {
    const u = this.frontier;
    const step: Step = {
      offset: u,
      arrivedNs: NEVER,
      missedNs: NEVER,
      polledNs: NEVER,
      pollBeforeNs: 0,
      processedNs: NEVER,
      inOrder: true,
      deliveredNs: NEVER,
      depthBytes: 0,
      readNs: NEVER,
      readEndNs: NEVER,
      pid: 0,
      parseNs: NEVER,
      parsedNs: NEVER,
      frameCount: 0,
      frames: [],
    };
    let missedNs = this.droppedNs;
    for (let i = 0; i < this.frames.length; i++) {
      const frame = this.frames.at(i) as ReceivedFrame;
      if (step.arrivedNs === NEVER && frame.lo <= u && u < frame.hi) this.fillArrival(step, frame);
      if (frame.lo > u && step.arrivedNs === NEVER) missedNs = Math.min(missedNs, frame.arrivedNs);
      if (frame.lo < to) countFrame(step, frame, this.countingFor, counting);
      else if (frame.inOrder) break;
    }
    if (missedNs < step.arrivedNs) step.missedNs = missedNs;
    const delivery = this.deliveries.at(0);
    if (delivery !== undefined && delivery.offset > u) {
      step.deliveredNs = delivery.atNs;
      step.depthBytes = delivery.depth;
    }
    const read = this.reads.at(0);
    if (read !== undefined && read.lo <= u && u < read.hi) {
      step.readNs = read.startNs;
      step.readEndNs = read.endNs;
      step.pid = read.pid;
      if (this.parseNs >= read.startNs && this.parseNs !== NEVER) step.parseNs = this.parseNs;
    }
    return step;
  }

  private fillArrival(step: Step, frame: ReceivedFrame): void {
    step.arrivedNs = frame.arrivedNs;
    step.polledNs = frame.polledNs;
    step.pollBeforeNs = frame.pollBeforeNs;
    step.processedNs = frame.processedNs;
    step.inOrder = frame.inOrder;
  }

  private prune(to: number): void {
    while (this.frames.length > 0 && (this.frames.at(0) as ReceivedFrame).hi <= to) this.frames.shift();
    if (this.frames.length > 1 && this.frames.length <= 64) {
      const kept = [...this.frames].filter((f) => f.hi > to);
      if (kept.length !== this.frames.length) this.frames.replace(kept);
    }
    while (this.deliveries.length > 0 && (this.deliveries.at(0) as { offset: number }).offset <= to)
      this.deliveries.shift();
    while (this.reads.length > 0 && (this.reads.at(0) as ReadFact).hi <= to) this.reads.shift();
    this.droppedNs = NEVER;
  }

  private mergeOldestFrames(): void {
    const first = this.frames.shift() as ReceivedFrame;
    const next = this.frames.at(0) as ReceivedFrame;
    next.lo = Math.min(first.lo, next.lo);
    next.arrivedNs = Math.min(first.arrivedNs, next.arrivedNs);
    next.polledNs = Math.min(first.polledNs, next.polledNs);
    this.coarse = true;
  }
}

function countFrame(step: Step, frame: ReceivedFrame, countingFor: number, counting: boolean): void {
  if (frame.countedFor === countingFor) return;
  if (counting) frame.countedFor = countingFor;
  step.frameCount++;
  if (step.frames.length < Limits.spansPerQueue) step.frames.push(frame);
}

/** Times go forward along a byte's life; one that no floor stamped is the next known one. */
function settleStep(step: Step): void {
  step.parseNs = Math.min(step.parseNs, step.parsedNs);
  step.readEndNs = Math.min(step.readEndNs, step.parseNs);
  step.readNs = Math.min(step.readNs, step.readEndNs);
  step.deliveredNs = Math.min(step.deliveredNs, step.readNs);
  step.processedNs = Math.min(step.processedNs, step.deliveredNs);
  step.polledNs = Math.min(step.polledNs, step.processedNs);
}
