/**
 * Loss recovery: what is lost, and how far the congestion window falls (Linux tcp_fastretrans_alert and friends).
 *
 *   Open ──dup ACK──► Disorder ──3 dup ACKs──► Recovery ──all of it acknowledged──► Open
 *     └──────────────────── RTO ──────────────────► Loss ──all of it acknowledged──► Open
 *
 * Without SACK each duplicate ACK counts as one segment that reached the peer ("Reno SACK"), which makes limited
 * transmit (RFC 3042) and NewReno (RFC 6582) fall out of the same test inFlight < cwnd. With SACK the peer says which.
 * The window in recovery follows proportional rate reduction (RFC 6937).
 */
import { MibId } from "../../base/mib.ts";
import { MILLISECOND } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import { INFINITE_SSTHRESH_SEGMENTS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { isCwndLimited } from "./output.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import { CaState, type Tcb } from "./tcb.ts";

/** The state machine, for an ACK that is suspicious or meets a connection that is not Open. */
export function onSuspiciousAck(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const queue = tcb.retransmitQueue;
  if (tcb.caState === CaState.open) {
    tcb.retransStampNs = 0;
  } else if (tcb.sndUnaOffset >= tcb.highOffset) {
    if (tcb.caState === CaState.recovery) {
      if (!tcb.sackOk) queue.sackedOut = 0;
      if (tryUndoRecovery(tcp, tcb, ack)) return;
      endReduction(tcp, tcb);
    } else if (tcb.caState === CaState.cwr && tcb.sndUnaOffset !== tcb.highOffset) {
      endReduction(tcp, tcb);
      tcb.caState = CaState.open;
    }
  }
  if (tcb.caState === CaState.recovery) {
    if (!ack.advanced && ack.duplicate) addRenoSack(tcp, tcb);
    identifyLoss(tcp, tcb, ack.advanced);
    return;
  }
  if (tcb.caState === CaState.loss) {
    processLoss(tcp, tcb, ack);
    identifyLoss(tcp, tcb, ack.advanced);
  }
  // Out of Loss it goes on here, as in Linux: what is Open again forgets when its trouble began (retrans_stamp).
  if (tcb.caState !== CaState.loss) {
    if (!tcb.sackOk && ack.advanced) queue.sackedOut = 0;
    if (ack.duplicate) addRenoSack(tcp, tcb);
    identifyLoss(tcp, tcb, ack.advanced);
    if (queue.lostOut > 0) enterRecovery(tcp, tcb);
    else tryToOpen(tcb);
  }
}

/** After the state machine: the window's move for this ACK (Linux tcp_cong_control). */
export function controlWindow(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const delivered = tcb.deliveredSegments - ack.deliveredBefore;
  if (tcb.caState === CaState.recovery || tcb.caState === CaState.cwr) {
    reduceWindow(tcb, delivered, ack);
  } else if (ack.dataAcked && delivered > 0) {
    tcb.cwndLimited = isCwndLimited(tcb);
    tcb.congestion.onAck(tcb, delivered, tcp.nowNs);
    tcb.cwndStampNs = tcp.nowNs;
  }
}

/** Proportional rate reduction (RFC 6937 §3; Linux tcp_cwnd_reduction). */
function reduceWindow(tcb: Tcb, delivered: number, ack: AckOutcome): void {
  if (delivered <= 0 || tcb.priorCwndSegments === 0) return;
  const inFlight = tcb.retransmitQueue.inFlight;
  const room = tcb.ssthreshSegments - inFlight;
  tcb.prrDelivered += delivered;
  let send: number;
  if (room < 0) {
    send = Math.ceil((tcb.ssthreshSegments * tcb.prrDelivered) / tcb.priorCwndSegments) - tcb.prrOut;
  } else {
    send = Math.max(tcb.prrDelivered - tcb.prrOut, delivered);
    if (ack.advanced && tcb.lostTotal === ack.lostBefore) send++;
    send = Math.min(room, send);
  }
  // The first segment of a recovery always goes.
  send = Math.max(send, tcb.prrOut > 0 ? 0 : 1);
  tcb.cwndSegments = inFlight + send;
}

/** A duplicate ACK without SACK: one more segment has reached the peer, never more than there can be. */
function addRenoSack(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.sackOk) return;
  const queue = tcb.retransmitQueue;
  const holes = Math.min(Math.max(queue.lostOut, 1), queue.packetsOut);
  if (queue.sackedOut + 1 + holes > queue.packetsOut) {
    queue.sackedOut = queue.packetsOut - holes;
    return;
  }
  queue.sackedOut++;
  tcb.deliveredSegments++;
  tcp.count(MibId.TcpExtTCPDelivered);
}

/**
 * `acked` segments were acknowledged cumulatively: so many duplicate ACKs are explained (Linux tcp_remove_reno_sacks).
 */
export function removeRenoSacks(tcp: TcpContext, tcb: Tcb, acked: number): void {
  const queue = tcb.retransmitQueue;
  if (tcb.sackOk) return;
  const delivered = Math.max(acked - queue.sackedOut, 1);
  tcb.deliveredSegments += delivered;
  tcp.env.mib.values[MibId.TcpExtTCPDelivered] += delivered;
  queue.sackedOut = Math.max(0, queue.sackedOut - (acked - 1));
  queue.sackedOut = Math.min(queue.sackedOut, queue.packetsOut);
}

/** Marks what must be lost: the head (NewReno), or with SACK every segment with three sacked ones above it. */
function identifyLoss(tcp: TcpContext, tcb: Tcb, advanced: boolean): void {
  const queue = tcb.retransmitQueue;
  const head = queue.head;
  if (head === null) return;
  if (tcb.sackOk) {
    markLostBySack(tcp, tcb);
    return;
  }
  const enoughDupAcks = tcb.caState < CaState.recovery && queue.sackedOut >= tcb.reorderingSegments;
  const partialAck = tcb.caState === CaState.recovery && advanced;
  if ((enoughDupAcks || partialAck) && !head.lost) markLost(tcp, tcb, head);
}

/**
 * RFC 6675 §4 IsLost in segments: everything below the `reordering`th sacked segment from the top. A retransmission is
 * lost again if something that was sent after it has been sacked (the idea of RACK, RFC 8985, without its timer).
 */
function markLostBySack(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  let sackedAbove = queue.sackedOut;
  let newestSackedNs = -1;
  for (let s = queue.head; s !== null; s = s.next) {
    if (s.sacked && s.retransmits === 0 && s.sentNs > newestSackedNs) newestSackedNs = s.sentNs;
  }
  for (let s = queue.head; s !== null && sackedAbove > 0; s = s.next) {
    if (s.sacked) {
      sackedAbove--;
      continue;
    }
    if (s.retransmitted) {
      if (newestSackedNs > s.sentNs + tcb.srttNs / 4 && sackedAbove > 0) markLost(tcp, tcb, s);
    } else if (!s.lost && sackedAbove >= tcb.reorderingSegments) {
      markLost(tcp, tcb, s);
    }
  }
}

/** Marks one segment lost and says so. */
function markLost(tcp: TcpContext, tcb: Tcb, segment: SentSegment): void {
  if (segment.retransmitted) tcp.count(MibId.TcpExtTCPLostRetransmit);
  tcb.retransmitQueue.markLost(segment);
  tcb.lostTotal++;
  if (!tcp.traced(tcb.connId)) return;
  const lo = Math.max(segment.lo, 0);
  tcp.env.trace.stamp(Point.lost, tcb.connId, lo, Math.max(lo, Math.min(segment.hi, tcb.sendQueue.endOffset)));
}

/** Fast retransmit begins (RFC 6582 §3.2 step 2; Linux tcp_enter_recovery). */
function enterRecovery(tcp: TcpContext, tcb: Tcb): void {
  tcp.count(tcb.sackOk ? MibId.TcpExtTCPSackRecovery : MibId.TcpExtTCPRenoRecovery);
  startUndo(tcb);
  if (tcb.caState !== CaState.cwr) {
    tcb.undoSsthreshSegments = tcb.ssthreshSegments;
    tcb.highOffset = tcb.sndNxtOffset;
    tcb.cwndCount = 0;
    tcb.priorCwndSegments = tcb.cwndSegments;
    tcb.prrDelivered = 0;
    tcb.prrOut = 0;
    tcb.ssthreshSegments = tcb.congestion.ssthresh(tcb);
  }
  tcb.caState = CaState.recovery;
}

/** The retransmission timer fired: everything not sacked is lost, the window falls to one segment (tcp_enter_loss). */
export function enterLoss(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  if (!tcb.sackOk) queue.sackedOut = 0;
  for (let s = queue.head; s !== null; s = s.next) if (!s.sacked) markLost(tcp, tcb, s);
  const firstOfWindow =
    tcb.caState <= CaState.disorder ||
    tcb.sndUnaOffset >= tcb.highOffset ||
    (tcb.caState === CaState.loss && tcb.timeouts === 0);
  if (firstOfWindow) {
    tcb.undoSsthreshSegments = tcb.ssthreshSegments;
    tcb.priorCwndSegments = tcb.cwndSegments;
    tcb.ssthreshSegments = tcb.congestion.ssthresh(tcb);
    startUndo(tcb);
  }
  tcb.cwndSegments = queue.inFlight + 1;
  tcb.cwndCount = 0;
  tcb.cwndStampNs = tcp.nowNs;
  tcb.caState = CaState.loss;
  tcb.highOffset = tcb.sndNxtOffset;
}

/** An ACK in Loss (Linux tcp_process_loss, without F-RTO). */
function processLoss(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const queue = tcb.retransmitQueue;
  if (ack.advanced && wasSpurious(tcp, tcb, ack)) {
    undo(tcp, tcb, true);
    tcp.count(MibId.TcpExtTCPLossUndo);
    tcp.count(MibId.TcpExtTCPSpuriousRTOs);
    tcb.timeouts = 0;
    tcb.caState = CaState.open;
    return;
  }
  if (tcb.sndUnaOffset >= tcb.highOffset) {
    tryUndoRecovery(tcp, tcb, ack);
    return;
  }
  if (tcb.sackOk) return;
  if (tcb.sndNxtOffset > tcb.highOffset && ack.duplicate) addRenoSack(tcp, tcb);
  else if (ack.advanced) queue.sackedOut = 0;
}

/**
 * Everything outstanding when trouble began is acknowledged. True while the old state must be kept: without SACK, until
 * something above `highOffset` is acknowledged, or old duplicate ACKs would start a false fast retransmit (RFC 6582
 * §6).
 */
function tryUndoRecovery(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (wasSpurious(tcp, tcb, ack)) {
    tcp.count(tcb.caState === CaState.loss ? MibId.TcpExtTCPLossUndo : MibId.TcpExtTCPFullUndo);
    undo(tcp, tcb, false);
  }
  if (tcb.sndUnaOffset === tcb.highOffset && !tcb.sackOk && tcb.sndUnaOffset < tcb.sndNxtOffset) {
    tcb.retransStampNs = 0;
    return true;
  }
  tcb.caState = CaState.open;
  return false;
}

/** Eifel detection (RFC 3522): the ACK echoes a timestamp from before the first retransmission, so nothing was lost. */
function wasSpurious(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (tcb.undoOffset < 0 || !tcb.timestampsOk || ack.tsEcr === 0 || tcb.retransStampNs === 0) return false;
  const resent = (Math.floor(tcb.retransStampNs / MILLISECOND) + tcb.tsOffset) | 0;
  return ((ack.tsEcr - resent) | 0) < 0 && tcp.nowNs >= tcb.retransStampNs;
}

function startUndo(tcb: Tcb): void {
  tcb.undoOffset = tcb.sndUnaOffset;
  tcb.undoRetransmits = 0;
}

/** Takes a reduction back (Linux tcp_undo_cwnd_reduction). */
function undo(tcp: TcpContext, tcb: Tcb, unmarkLost: boolean): void {
  if (unmarkLost) {
    const queue = tcb.retransmitQueue;
    for (let s = queue.head; s !== null; s = s.next) s.lost = false;
    queue.lostOut = 0;
  }
  tcb.cwndSegments = Math.max(tcb.cwndSegments, tcb.priorCwndSegments);
  tcb.ssthreshSegments = Math.max(tcb.ssthreshSegments, tcb.undoSsthreshSegments);
  tcb.cwndStampNs = tcp.nowNs;
  tcb.undoOffset = -1;
}

/** Leaves recovery: the window is what the reduction aimed at (Linux tcp_end_cwnd_reduction). */
function endReduction(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.ssthreshSegments < INFINITE_SSTHRESH_SEGMENTS && (tcb.caState === CaState.cwr || tcb.undoOffset >= 0)) {
    tcb.cwndSegments = tcb.ssthreshSegments;
    tcb.cwndStampNs = tcp.nowNs;
  }
}

/** Open if nothing is out of order any more, else Disorder (Linux tcp_try_keep_open). */
function tryToOpen(tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  if (queue.retransOut === 0) tcb.retransStampNs = 0;
  const state = queue.sackedOut + queue.lostOut > 0 || queue.retransOut > 0 ? CaState.disorder : CaState.open;
  if (tcb.caState === CaState.cwr || tcb.caState === state) return;
  tcb.caState = state;
  tcb.highOffset = tcb.sndNxtOffset;
}
