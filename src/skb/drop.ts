/**
 * The one way to discard a frame (law 4): count the reason, tell the tracepoints, free the skb.
 *
 * Conservation: frames in = delivered + dropped + still owned. A frame that did its work (`consumed`) is delivered.
 */
import { DROP_REASONS, DropReason } from "../base/drop-reasons.ts";
import { Label, Point, type Tracepoints } from "../base/tracepoints.ts";
import type { SkBuff, SkBuffPool } from "./skb.ts";

/** Enough for an IP header with options and the ports behind it. */
const PACKET_LABEL_BYTES = 64;

export class DropCounters {
  /** Frames by reason number. `counts[DropReason.consumed]` are deliveries. */
  readonly counts = new Float64Array(DROP_REASONS.length);
  private readonly pool: SkBuffPool;
  private readonly trace: Tracepoints;

  constructor(pool: SkBuffPool, trace: Tracepoints) {
    this.pool = pool;
    this.trace = trace;
  }

  /** Discards. *Takes* the skb. */
  drop(skb: SkBuff, reason: DropReason): void {
    this.counts[reason]++;
    if (skb.id !== 0) {
      this.name(skb);
      this.trace.drop(reason, skb.id);
    }
    this.pool.release(skb);
  }

  /**
   * Tells the tracepoints when a frame with an id had come (if from a wire), and whose it is: the join finds the
   * connection by the addresses and ports in the packet's first bytes. *Borrows* the skb.
   */
  name(skb: SkBuff): void {
    if (skb.arrivedNs > 0) this.trace.stamp(Point.frameReceived, skb.id, skb.arrivedNs, skb.polledNs);
    if (skb.net === 0) return;
    const len = Math.min(PACKET_LABEL_BYTES, skb.tail - skb.net);
    this.trace.label(Label.packet, skb.id, skb.bytes, skb.net, len);
  }

  /** The frame has done its work. *Takes* the skb. */
  consume(skb: SkBuff): void {
    this.counts[DropReason.consumed]++;
    this.pool.release(skb);
  }

  /** Counts a frame that did its work although its skb goes on (a queue *takes* it and frees it itself). */
  delivered(): void {
    this.counts[DropReason.consumed]++;
  }

  /** Counts a discard of something that never became an skb (RX ring full, a lost frame on a link). */
  count(reason: DropReason): void {
    this.counts[reason]++;
  }

  /** Frames by Linux name of the reason, those that occurred. */
  rows(): Record<string, number> {
    const rows: Record<string, number> = {};
    for (const { id, name } of DROP_REASONS) {
      if (id !== DropReason.none && id !== DropReason.consumed && this.counts[id] > 0) rows[name] = this.counts[id];
    }
    return rows;
  }

  /** Frames discarded for any reason. */
  get total(): number {
    let sum = 0;
    for (let i = 1; i < this.counts.length; i++) if (i !== DropReason.consumed) sum += this.counts[i] as number;
    return sum;
  }
}
