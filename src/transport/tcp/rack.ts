/**
 * RACK: loss is told by time (RFC 8985 §6; Linux tcp_recovery.c). A segment is lost when one that was sent after it has
 * arrived and a reordering window has passed since it should have arrived too. So a lost retransmission is found like
 * any other loss, and overtaking by three segments is no proof on a path that reorders.
 */
import type { Ns } from "../../base/time.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import { RACK_PERSIST_RECOVERIES } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { markLost } from "./mark-lost.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import { CaState, type Tcb } from "./tcb.ts";

/** Bits of net.ipv4.tcp_recovery. */
const Recovery = { rack: 1, staticWindow: 2, noDupThreshold: 4 } as const;
/** Most quarters of the least RTT the reordering window grows to. */
const MAX_STEPS = 255;

/** Is RACK what finds the losses of this connection? It needs SACK. */
export function isRackOn(tcp: TcpContext, tcb: Tcb): boolean {
  return tcb.sackOk && (tcp.env.sysctl.tcpRecovery & Recovery.rack) !== 0;
}

/**
 * `segment` has arrived (RFC 8985 §6.2 steps 1 and 2). Of one that was sent twice an answer within less than any round
 * trip must be to the first copy, and says nothing about what was sent since.
 */
export function rackAdvance(tcp: TcpContext, tcb: Tcb, segment: SentSegment): void {
  const rttNs = tcp.nowNs - segment.sentNs;
  if (segment.retransmits > 0 && rttNs < tcb.minRttNs) return;
  tcb.rackAdvanced = true;
  tcb.rackRttNs = rttNs;
  if (segment.order < tcb.rackOrder) return;
  tcb.rackSentNs = segment.sentNs;
  tcb.rackOrder = segment.order;
}

/**
 * How much later than expected a segment may arrive (RFC 8985 §6.2 step 4): nothing where no reordering was seen and
 * there is loss or as good as; else quarters of the least RTT, at most one smoothed RTT.
 */
function reorderingWindowNs(tcp: TcpContext, tcb: Tcb): Ns {
  if (!tcb.reorderingSeen) {
    if (tcb.caState >= CaState.recovery) return 0;
    const threshold = (tcp.env.sysctl.tcpRecovery & Recovery.noDupThreshold) === 0;
    if (threshold && tcb.retransmitQueue.sackedOut >= tcb.reorderingSegments) return 0;
  }
  return Math.min((tcb.minRttNs / 4) * tcb.reorderingWindowSteps, tcb.srttNs);
}

/** How long until `segment` must be called lost, in ns, with a reordering window of `windowNs`; not positive: it is. */
export function rackRemainingNs(tcp: TcpContext, tcb: Tcb, segment: SentSegment, windowNs: Ns): Ns {
  return tcb.rackRttNs + windowNs - (tcp.nowNs - segment.sentNs);
}

/**
 * Marks what is lost now and returns after how many ns to look again, 0 = not at all (RFC 8985 §6.2 step 5). First
 * transmissions follow each other in the queue, so that what comes behind the first one sent too late was, too. Linux
 * and the RFC compare times, and offsets where they are equal; one clock reading per batch makes that common here, so
 * the order is kept instead.
 */
export function detectLoss(tcp: TcpContext, tcb: Tcb): Ns {
  const windowNs = reorderingWindowNs(tcp, tcb);
  let waitNs = 0;
  for (let s = tcb.retransmitQueue.head; s !== null && s.firstSentNs <= tcb.rackSentNs; s = s.next) {
    if (s.sacked || (s.lost && !s.retransmitted) || s.order > tcb.rackOrder) continue;
    const remainingNs = rackRemainingNs(tcp, tcb, s, windowNs);
    if (remainingNs <= 0) markLost(tcp, tcb, s);
    else waitNs = Math.max(waitNs, remainingNs);
  }
  return waitNs;
}

/**
 * A DSACK on a path that reorders says that the window was too small: it grows by a quarter of the least RTT, once per
 * round, and is small again after sixteen recoveries without one (RFC 8985 §6.2 step 4; tcp_rack_update_reo_wnd).
 */
export function updateReorderingWindow(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  if ((tcp.env.sysctl.tcpRecovery & Recovery.staticWindow) !== 0) return;
  if (tcb.dsackRoundOffset >= 0 && tcb.sndUnaOffset >= tcb.dsackRoundOffset) tcb.dsackRoundOffset = -1;
  if (ack.dsackSegments > 0 && tcb.reorderingSeen && !ack.dsackOfProbe && tcb.dsackRoundOffset < 0) {
    tcb.dsackRoundOffset = tcb.sndNxtOffset;
    tcb.reorderingWindowSteps = Math.min(MAX_STEPS, tcb.reorderingWindowSteps + 1);
    tcb.reorderingWindowPersist = RACK_PERSIST_RECOVERIES;
  } else if (tcb.reorderingWindowPersist === 0) {
    tcb.reorderingWindowSteps = 1;
  }
}
