/**
 * The queueing discipline of a device: who waits, who goes next, who is dropped (Linux sch_generic.h).
 */
import type { SkBuff } from "../skb/skb.ts";

/** As `tc -s qdisc` shows them. */
export interface QdiscStats {
  /** Frames and bytes handed to the driver. */
  sentPackets: number;
  sentBytes: number;
  dropped: number;
  /** Frames that had to be enqueued although earlier ones were to go (always 0 for fifos). */
  overlimits: number;
  /** Frames the driver gave back because its ring was full. */
  requeues: number;
}

export interface Qdisc {
  /** As `tc qdisc show` names it. */
  readonly kind: string;
  /** True for `noqueue`: frames go straight to the device. */
  readonly isDirect: boolean;
  /** Frames and bytes that wait. */
  readonly length: number;
  readonly backlogBytes: number;
  readonly stats: QdiscStats;
  /** True: *takes* the skb. False: no room, the caller keeps (and drops) it; counted. */
  enqueue(skb: SkBuff): boolean;
  /** The next frame to send, or null. The caller takes it. */
  dequeue(): SkBuff | null;
  /** The next frame, left in its place. */
  peek(): SkBuff | null;
  /** *Takes* back a frame just dequeued: the ring was full. It goes first. */
  requeue(skb: SkBuff): void;
}

export function emptyQdiscStats(): QdiscStats {
  return { sentPackets: 0, sentBytes: 0, dropped: 0, overlimits: 0, requeues: 0 };
}

/** One row of `tc -s qdisc`. */
export interface QdiscRow extends Readonly<QdiscStats> {
  readonly kind: string;
  readonly dev: string;
  readonly length: number;
  readonly backlogBytes: number;
}
