/**
 * Calling a segment lost: the counters, and what the journey is told (Linux tcp_mark_skb_lost).
 */
import { MibId } from "../../base/mib.ts";
import { Point } from "../../base/tracepoints.ts";
import type { TcpContext } from "./context.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import type { Tcb } from "./tcb.ts";

/** Marks one segment lost, or its retransmission lost again. */
export function markLost(tcp: TcpContext, tcb: Tcb, segment: SentSegment): void {
  if (segment.sacked || (segment.lost && !segment.retransmitted)) return;
  if (segment.retransmitted) tcp.count(MibId.TcpExtTCPLostRetransmit);
  tcb.retransmitQueue.markLost(segment);
  tcb.lostTotal++;
  stampLost(tcp, tcb, segment);
}

/** Tells the journey that these bytes are waiting for another copy. */
export function stampLost(tcp: TcpContext, tcb: Tcb, segment: SentSegment): void {
  if (!tcp.traced(tcb.connId)) return;
  const lo = Math.max(segment.lo, 0);
  tcp.env.trace.stamp(Point.lost, tcb.connId, lo, Math.max(lo, Math.min(segment.hi, tcb.writtenOffset)));
}
