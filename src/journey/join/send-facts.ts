/**
 * What is known of a connection's send stream: writes, frames cut from it, why output held back, acknowledgements,
 * losses.
 * Facts below the oldest unfinished response are forgotten.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import { Held } from "../../base/tracepoints.ts";
import { Fifo } from "./fifo.ts";
import { Limits } from "./limits.ts";

/** One frame cut from the send stream; NEVER for what has not happened. */
export interface SentFrame {
  frameId: number;
  lo: number;
  hi: number;
  cutNs: Ns;
  /** Entered the qdisc; left it for the driver; entered the TX ring; left it for the wire. */
  enqueuedNs: Ns;
  leftNs: Ns;
  postedNs: Ns;
  transmittedNs: Ns;
  /** Discarded on its way out. */
  droppedNs: Ns;
  qdiscDepth: number;
  ringDepth: number;
  /** This row stands for so many frames (limit `sentFrames`). */
  count: number;
}

export interface WriteFact {
  lo: number;
  hi: number;
  startNs: Ns;
  endNs: Ns;
}

/** From `atNs` on, output held bytes for `code` (`Held.none`: it held nothing). */
export interface HeldChange {
  atNs: Ns;
  code: number;
}

export interface AckFact {
  atNs: Ns;
  offset: number;
}

export interface LostFact {
  atNs: Ns;
  lo: number;
  hi: number;
}

export class SendFacts {
  readonly frames = new Fifo<SentFrame>();
  readonly retransmissions = new Fifo<SentFrame>();
  readonly writes = new Fifo<WriteFact>();
  readonly held = new Fifo<HeldChange>();
  readonly acks = new Fifo<AckFact>();
  readonly lost = new Fifo<LostFact>();
  writtenHi = 0;
  sentHi = 0;
  ackedHi = 0;
  coarse = false;

  /** write(2) of [lo,hi) begins. */
  write(lo: number, hi: number, atNs: Ns): void {
    this.writtenHi = Math.max(this.writtenHi, hi);
    this.writes.push({ lo, hi, startNs: atNs, endNs: NEVER });
    if (this.writes.length > Limits.intervals) this.writes.shift();
  }

  /** The bytes below `hi` are the kernel's; a short write is known by a smaller `hi` than was begun. */
  writeEnd(hi: number, atNs: Ns): void {
    const write = this.writes.last;
    if (write === undefined || write.endNs !== NEVER) return;
    write.endNs = atNs;
    if (hi >= write.lo && hi < write.hi) {
      write.hi = hi;
      this.writtenHi = Math.max(this.sentHi, hi);
    }
  }

  /** Output cut [lo,hi) into a frame; below what was sent before it is a retransmission. */
  sent(frameId: number, lo: number, hi: number, atNs: Ns): SentFrame {
    const frame: SentFrame = {
      frameId,
      lo,
      hi,
      cutNs: atNs,
      enqueuedNs: NEVER,
      leftNs: NEVER,
      postedNs: NEVER,
      transmittedNs: NEVER,
      droppedNs: NEVER,
      qdiscDepth: 0,
      ringDepth: 0,
      count: 1,
    };
    if (lo < this.sentHi && hi <= this.sentHi) {
      this.retransmissions.push(frame);
      if (this.retransmissions.length > Limits.retransmissions) this.retransmissions.shift();
      return frame;
    }
    this.sentHi = Math.max(this.sentHi, hi);
    this.frames.push(frame);
    if (this.frames.length > Limits.sentFrames) this.mergeFrames();
    if (hi >= this.writtenHi) this.holds(Held.none, atNs);
    return frame;
  }

  /** A test of output refused to send, or (`Held.none`) nothing is held any more. True if that is news. */
  holds(code: number, atNs: Ns): boolean {
    if (code === Held.fullQueue) return false; // known from the parked writer; other tests hold what is in the queue
    const last = this.held.last;
    if ((last?.code ?? Held.none) === code) return false;
    this.held.push({ atNs, code });
    if (this.held.length > Limits.heldChanges) this.held.shift();
    return true;
  }

  /** Everything below `offset` is acknowledged. */
  acked(offset: number, atNs: Ns): void {
    if (offset <= this.ackedHi) return;
    this.ackedHi = offset;
    this.acks.push({ atNs, offset });
    if (this.acks.length > Limits.acks) this.acks.shift();
  }

  /** [lo,hi) was marked lost. */
  markLost(lo: number, hi: number, atNs: Ns): void {
    this.lost.push({ atNs, lo, hi });
    if (this.lost.length > Limits.lostRanges) this.lost.shift();
  }

  /** When the first acknowledgement covered `offset`; NEVER if none has. */
  ackedNs(offset: number): Ns {
    return this.acks.at(this.acks.search((ack) => ack.offset >= offset))?.atNs ?? NEVER;
  }

  /** When the frame with the byte before `offset` was on the wire for the first time. */
  deviceNs(offset: number): Ns {
    const frame = this.frames.at(this.frames.search((f) => f.hi >= offset));
    if (frame === undefined || frame.lo >= offset) return NEVER;
    return this.frameDeviceNs(frame, offset);
  }

  /**
   * When `frame` (or the retransmission that replaced it) was on the wire; `offset`: the byte asked for lies before
   * it.
   */
  frameDeviceNs(frame: SentFrame, offset: number): Ns {
    if (frame.transmittedNs !== NEVER) return frame.transmittedNs;
    const acked = this.ackedHi >= offset;
    if (frame.droppedNs === NEVER && acked) return Math.min(lastKnownNs(frame), this.ackedNs(offset));
    for (const again of this.retransmissions) {
      if (again.lo >= offset || again.hi < offset || again.cutNs < frame.cutNs) continue;
      if (again.transmittedNs !== NEVER) return again.transmittedNs;
      if (again.droppedNs === NEVER && acked) return lastKnownNs(again);
    }
    return NEVER;
  }

  /** The retransmission that replaced `frame` after it was dropped. */
  replacement(frame: SentFrame): SentFrame | undefined {
    for (const again of this.retransmissions) {
      if (again.lo <= frame.lo && frame.lo < again.hi && again.cutNs >= frame.droppedNs) return again;
    }
    return undefined;
  }

  /** Forgets what lies below `offset`. */
  prune(offset: number): void {
    while (this.frames.length > 0 && (this.frames.at(0) as SentFrame).hi <= offset) this.frames.shift();
    while (this.retransmissions.length > 0 && (this.retransmissions.at(0) as SentFrame).hi <= offset)
      this.retransmissions.shift();
    while (this.writes.length > 0 && (this.writes.at(0) as WriteFact).hi <= offset) this.writes.shift();
    while (this.acks.length > 0 && (this.acks.at(0) as AckFact).offset <= offset) this.acks.shift();
    while (this.lost.length > 0 && (this.lost.at(0) as LostFact).hi <= offset) this.lost.shift();
    const floorNs = this.frames.at(0)?.cutNs ?? this.writes.at(0)?.startNs ?? NEVER;
    while (this.held.length > 1 && (this.held.at(1) as HeldChange).atNs < floorNs) this.held.shift();
  }

  /** Merges pairs of frames that have left, all but the newest thousand. */
  private mergeFrames(): void {
    const all = [...this.frames];
    const kept: SentFrame[] = [];
    const border = all.length - 1024;
    for (let i = 0; i < all.length; i++) {
      const frame = all[i] as SentFrame;
      const next = all[i + 1];
      if (i + 1 >= border || next === undefined || frame.transmittedNs === NEVER || next.transmittedNs === NEVER) {
        kept.push(frame);
        continue;
      }
      kept.push({ ...next, lo: frame.lo, count: frame.count + next.count });
      i++;
    }
    this.frames.replace(kept);
    this.coarse = true;
  }
}

/** The last thing seen of a frame whose device does not report the wire. */
function lastKnownNs(frame: SentFrame): Ns {
  if (frame.postedNs !== NEVER) return frame.postedNs;
  return frame.leftNs !== NEVER ? frame.leftNs : frame.cutNs;
}
