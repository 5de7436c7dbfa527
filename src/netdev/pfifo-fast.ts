/**
 * `pfifo_fast`, Linux's built-in default: three first-in-first-out bands, a lower band goes first (sch_generic.c).
 *
 * The band follows from `skb.priority` through the priority map; each band holds txqueuelen frames. A full band drops
 * the frame that comes (tail drop).
 */
import { Ring } from "../base/ring.ts";
import type { SkBuff } from "../skb/skb.ts";
import { emptyQdiscStats, type Qdisc } from "./qdisc.ts";

/** Default txqueuelen in frames. */
export const DEFAULT_TX_QUEUE_LEN = 1000;
/** priority → band, as `tc qdisc show` prints it. */
export const PRIOMAP: readonly number[] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

export class PfifoFast implements Qdisc {
  readonly kind = "pfifo_fast";
  readonly isDirect = false;
  readonly stats = emptyQdiscStats();
  backlogBytes = 0;
  length = 0;
  private readonly bands: readonly [Ring<SkBuff>, Ring<SkBuff>, Ring<SkBuff>];
  /** The frame the driver gave back. */
  private requeued: SkBuff | null = null;

  /** `txQueueLen` frames fit in each band. */
  constructor(txQueueLen: number = DEFAULT_TX_QUEUE_LEN) {
    this.bands = [new Ring(txQueueLen), new Ring(txQueueLen), new Ring(txQueueLen)];
  }

  enqueue(skb: SkBuff): boolean {
    const len = skb.len;
    if (!this.bands[PRIOMAP[skb.priority & 15]].push(skb)) {
      this.stats.dropped++;
      return false;
    }
    this.length++;
    this.backlogBytes += len;
    return true;
  }

  dequeue(): SkBuff | null {
    let skb = this.requeued;
    if (skb !== null) this.requeued = null;
    else skb = this.bands[0].shift() ?? this.bands[1].shift() ?? this.bands[2].shift() ?? null;
    if (skb === null) return null;
    this.length--;
    this.backlogBytes -= skb.len;
    this.stats.sentPackets++;
    this.stats.sentBytes += skb.len;
    return skb;
  }

  peek(): SkBuff | null {
    return this.requeued ?? this.bands[0].peek() ?? this.bands[1].peek() ?? this.bands[2].peek() ?? null;
  }

  requeue(skb: SkBuff): void {
    this.requeued = skb;
    this.length++;
    this.backlogBytes += skb.len;
    this.stats.requeues++;
    this.stats.sentPackets--;
    this.stats.sentBytes -= skb.len;
  }
}
