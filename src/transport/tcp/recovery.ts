/**
 * Loss recovery: how far the congestion window falls when something is lost (Linux tcp_fastretrans_alert and friends).
 *
 *   Open ──dup ACK──► Disorder ──something is lost──► Recovery ──all of it acknowledged──► Open
 *     └──────────────────── RTO ──────────────────► Loss ──all of it acknowledged──► Open
 *
 * What is lost is said by RACK (`rack.ts`); with net.ipv4.tcp_recovery = 0 by three sacked segments above (RFC 6675);
 * and without SACK by duplicate ACKs. There each duplicate counts as one segment that reached the peer ("Reno SACK"),
 * which makes limited transmit (RFC 3042) and NewReno (RFC 6582) fall out of the same test inFlight < cwnd. The window
 * in recovery follows proportional rate reduction (RFC 6937). What turns out to be needless is undone (`undo.ts`).
 */
import { MibId } from "../../base/mib.ts";
import { MILLISECOND } from "../../base/time.ts";
import { type AckOutcome, Resend } from "./ack-outcome.ts";
import { currentSsthresh } from "./congestion/cwnd.ts";
import { INFINITE_SSTHRESH_SEGMENTS, TIMEOUT_MIN_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { markLost } from "./mark-lost.ts";
import { armXmitTimer, rearmRto, retransmitLost } from "./output.ts";
import { detectLoss, isRackOn, rackRemainingNs } from "./rack.ts";
import { CaState, type Tcb, XmitTimer } from "./tcb.ts";
import {
  forgetStamp,
  PartialUndo,
  startUndo,
  tryUndoByDsack,
  tryUndoLoss,
  tryUndoPartial,
  tryUndoRecovery,
} from "./undo.ts";

/** How long a peer that threw sacked data away gets to change its mind, at least; else half a round trip. */
const RENEGING_DELAY_NS = 10 * MILLISECOND;

/** The state machine, for an ACK that is suspicious or meets a connection that is not Open. Sets `ack.resend`. */
export function onSuspiciousAck(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const queue = tcb.retransmitQueue;
  if (queue.packetsOut === 0) queue.sackedOut = 0;
  if (ack.reneged && ack.advanced) {
    // The head was sacked and is not acknowledged: a short timeout sends everything again (tcp_check_sack_reneging).
    armXmitTimer(tcp, tcb, XmitTimer.retransmit, Math.max(tcb.srttNs / 2, RENEGING_DELAY_NS));
    ack.setTimer = false;
    return;
  }
  if (tcb.caState === CaState.open) tcb.retransStampNs = 0;
  else if (tcb.sndUnaOffset >= tcb.highOffset && endState(tcp, tcb, ack)) return;

  if (tcb.caState === CaState.recovery) {
    if (!continueRecovery(tcp, tcb, ack)) return;
  } else if (tcb.caState === CaState.loss) {
    processLoss(tcp, tcb, ack);
    identifyLoss(tcp, tcb, ack);
    // It goes on where the timeout was undone, and where a retransmission was lost.
    if ((tcb.caState as CaState) !== CaState.open && !ack.retransmissionLost) return;
    if (!considerRecovery(tcp, tcb, ack)) return;
  } else if (!considerRecovery(tcp, tcb, ack)) {
    return;
  }
  ack.resend = Resend.lost;
}

/** What was out when trouble began is acknowledged. True if the state must be kept nevertheless. */
function endState(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (tcb.caState === CaState.cwr && tcb.sndUnaOffset !== tcb.highOffset) {
    endReduction(tcp, tcb);
    tcb.caState = CaState.open;
  } else if (tcb.caState === CaState.recovery) {
    if (!tcb.sackOk) tcb.retransmitQueue.sackedOut = 0;
    if (tryUndoRecovery(tcp, tcb, ack)) return true;
    endReduction(tcp, tcb);
  }
  return false;
}

/** An ACK in Recovery; false if nothing may be sent again. */
function continueRecovery(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (!ack.advanced) {
    addRenoSack(tcp, tcb, ack);
  } else {
    const undone = tryUndoPartial(tcp, tcb, ack);
    if (undone === PartialUndo.wait) return false;
    if (undone === PartialUndo.done) keepOpen(tcb);
  }
  if (tryUndoByDsack(tcp, tcb)) tryToOpen(tcb);
  identifyLoss(tcp, tcb, ack);
  if (tcb.caState === CaState.recovery) return true;
  // Undone; but if something is lost for certain, a new recovery begins at once.
  if (tcb.retransmitQueue.lostOut === 0) return false;
  enterRecovery(tcp, tcb);
  return true;
}

/** An ACK outside of Recovery: does one begin? */
function considerRecovery(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (!tcb.sackOk && ack.advanced) tcb.retransmitQueue.sackedOut = 0;
  addRenoSack(tcp, tcb, ack);
  if (tcb.caState <= CaState.disorder) tryUndoByDsack(tcp, tcb);
  identifyLoss(tcp, tcb, ack);
  if (tcb.retransmitQueue.lostOut === 0) {
    tryToOpen(tcb);
    return false;
  }
  enterRecovery(tcp, tcb);
  return true;
}

/** After the state machine: the window's move for this ACK (Linux tcp_cong_control). */
export function controlWindow(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const delivered = tcb.deliveredSegments - ack.deliveredBefore;
  if (tcb.caState === CaState.recovery || tcb.caState === CaState.cwr) {
    reduceWindow(tcb, delivered, ack.advanced && tcb.lostTotal === ack.lostBefore);
  } else if (delivered > 0 && mayGrow(tcp, tcb, ack)) {
    tcb.congestion.onAck(tcp, tcb, delivered);
    tcb.cwndStampNs = tcp.nowNs;
  }
}

/** The window grows on data in order; on a path that reorders on any that arrives (Linux tcp_may_raise_cwnd). */
function mayGrow(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (ack.dataAcked) return true;
  return tcb.reorderingSegments > tcp.env.sysctl.tcpReordering && (ack.sacked || ack.ackedSegments > 0);
}

/** Proportional rate reduction (RFC 6937 §3; Linux tcp_cwnd_reduction). `isClean`: progress without a new loss. */
function reduceWindow(tcb: Tcb, delivered: number, isClean: boolean): void {
  if (delivered <= 0 || tcb.priorCwndSegments === 0) return;
  const inFlight = tcb.retransmitQueue.inFlight;
  const room = tcb.ssthreshSegments - inFlight;
  tcb.prrDelivered += delivered;
  let send: number;
  if (room < 0) {
    send = Math.ceil((tcb.ssthreshSegments * tcb.prrDelivered) / tcb.priorCwndSegments) - tcb.prrOut;
  } else {
    send = Math.max(tcb.prrDelivered - tcb.prrOut, delivered);
    if (isClean) send++;
    send = Math.min(room, send);
  }
  // The first segment of a recovery always goes.
  send = Math.max(send, tcb.prrOut > 0 ? 0 : 1);
  tcb.cwndSegments = inFlight + send;
}

// ── without SACK: duplicate ACKs ──────────────────────────────────────────────────────────────────────────────────

/** A duplicate ACK without SACK: one more segment has reached the peer. */
function addRenoSack(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  if (tcb.sackOk || !ack.duplicate) return;
  const queue = tcb.retransmitQueue;
  const before = queue.sackedOut++;
  limitRenoSacks(tcp, tcb, 0);
  if (queue.sackedOut <= before) return;
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
  limitRenoSacks(tcp, tcb, acked);
}

/** More duplicates than there can be segments above the holes: the network reorders (tcp_check_reno_reordering). */
function limitRenoSacks(tcp: TcpContext, tcb: Tcb, acked: number): void {
  const queue = tcb.retransmitQueue;
  const holes = Math.min(Math.max(queue.lostOut, 1), queue.packetsOut);
  if (queue.sackedOut + holes <= queue.packetsOut) return;
  queue.sackedOut = queue.packetsOut - holes;
  tcb.reorderingSegments = Math.min(queue.packetsOut + acked, tcp.env.sysctl.tcpMaxReordering);
  tcb.reorderingSeen = true;
  tcp.count(MibId.TcpExtTCPRenoReorder);
}

// ── what is lost ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Marks what must be lost by now (Linux tcp_identify_packet_loss). */
function identifyLoss(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const queue = tcb.retransmitQueue;
  if (queue.head === null) return;
  const retransmitted = queue.retransOut;
  if (!tcb.sackOk) markHeadLost(tcp, tcb, ack.advanced);
  else if (!isRackOn(tcp, tcb)) markLostBySack(tcp, tcb);
  else if (tcb.rackAdvanced && runRack(tcp, tcb)) ack.setTimer = false;
  if (retransmitted > queue.retransOut) ack.retransmissionLost = true;
}

/** NewReno: the head is lost after three duplicate ACKs, or when an ACK stops short in Recovery. */
function markHeadLost(tcp: TcpContext, tcb: Tcb, advanced: boolean): void {
  const { head, sackedOut } = tcb.retransmitQueue;
  const enoughDupAcks = tcb.caState < CaState.recovery && sackedOut >= tcb.reorderingSegments;
  const partialAck = tcb.caState === CaState.recovery && advanced;
  if (head !== null && (enoughDupAcks || partialAck) && !head.lost) markLost(tcp, tcb, head);
}

/** RFC 6675 §4 IsLost in segments: everything below the `reordering`th sacked segment from the top. */
function markLostBySack(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  let sackedAbove = queue.sackedOut;
  for (let s = queue.head; s !== null && sackedAbove >= tcb.reorderingSegments; s = s.next) {
    if (s.sacked) sackedAbove--;
    else if (!s.lost) markLost(tcp, tcb, s);
  }
}

/** Looks for losses by RACK; true if it set a timer for what may be lost soon (Linux tcp_rack_mark_lost). */
function runRack(tcp: TcpContext, tcb: Tcb): boolean {
  tcb.rackAdvanced = false;
  const waitNs = detectLoss(tcp, tcb);
  if (waitNs === 0) return false;
  armXmitTimer(tcp, tcb, XmitTimer.reorder, Math.min(waitNs + TIMEOUT_MIN_NS, tcb.rtoNs));
  return true;
}

/** The reordering window is over: what has not arrived in it is lost (Linux tcp_rack_reo_timeout). */
export function onReorderingTimeout(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  const before = queue.inFlight;
  detectLoss(tcp, tcb);
  if (queue.inFlight !== before) {
    if (tcb.caState !== CaState.recovery) {
      enterRecovery(tcp, tcb);
      reduceWindow(tcb, 1, false);
    }
    retransmitLost(tcp, tcb);
  }
  if (tcb.xmitTimerKind !== XmitTimer.retransmit) rearmRto(tcp, tcb);
}

// ── entering and leaving ──────────────────────────────────────────────────────────────────────────────────────────

/** Fast retransmit begins (RFC 6582 §3.2 step 2; Linux tcp_enter_recovery). */
function enterRecovery(tcp: TcpContext, tcb: Tcb): void {
  tcp.count(tcb.sackOk ? MibId.TcpExtTCPSackRecovery : MibId.TcpExtTCPRenoRecovery);
  forgetStamp(tcb);
  startUndo(tcb);
  if (tcb.caState !== CaState.cwr && tcb.caState !== CaState.recovery) {
    tcb.undoSsthreshSegments = currentSsthresh(tcb);
    startReduction(tcb);
  }
  tcb.caState = CaState.recovery;
}

/** The window is going to fall to what the algorithm says (Linux tcp_init_cwnd_reduction). */
export function startReduction(tcb: Tcb): void {
  tcb.highOffset = tcb.sndNxtOffset;
  tcb.probeHighOffset = -1;
  tcb.cwndCount = 0;
  tcb.priorCwndSegments = tcb.cwndSegments;
  tcb.prrDelivered = 0;
  tcb.prrOut = 0;
  tcb.ssthreshSegments = tcb.congestion.ssthresh(tcb);
}

/** The reduction is over: the window is what it aimed at (Linux tcp_end_cwnd_reduction). */
export function endReduction(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.ssthreshSegments < INFINITE_SSTHRESH_SEGMENTS && (tcb.caState === CaState.cwr || tcb.undoOffset >= 0)) {
    tcb.cwndSegments = tcb.ssthreshSegments;
    tcb.cwndStampNs = tcp.nowNs;
  }
}

/** The retransmission timer fired: what is old is lost, the window falls to one segment (tcp_enter_loss). */
export function enterLoss(tcp: TcpContext, tcb: Tcb): void {
  const isNew = tcb.caState < CaState.recovery;
  markTimedOut(tcp, tcb);
  const queue = tcb.retransmitQueue;
  const firstOfWindow =
    tcb.caState <= CaState.disorder ||
    tcb.sndUnaOffset >= tcb.highOffset ||
    (tcb.caState === CaState.loss && tcb.timeouts === 0);
  if (firstOfWindow) {
    tcb.undoSsthreshSegments = currentSsthresh(tcb);
    tcb.priorCwndSegments = tcb.cwndSegments;
    tcb.ssthreshSegments = tcb.congestion.ssthresh(tcb);
    startUndo(tcb);
  }
  tcb.cwndSegments = queue.inFlight + 1;
  tcb.cwndCount = 0;
  tcb.cwndStampNs = tcp.nowNs;
  // Many duplicates and still a timeout: reordering was over-estimated.
  const { tcpReordering, tcpFrto } = tcp.env.sysctl;
  if (tcb.caState <= CaState.disorder && queue.sackedOut >= tcpReordering) {
    tcb.reorderingSegments = Math.min(tcb.reorderingSegments, tcpReordering);
  }
  tcb.congestion.onTimeout(tcp, tcb);
  tcb.caState = CaState.loss;
  tcb.highOffset = tcb.sndNxtOffset;
  tcb.probeHighOffset = -1;
  tcb.frto = tcpFrto !== 0 && (isNew || tcb.timeouts > 0);
}

/**
 * The head is lost, and with it whatever was sent so long ago that RACK would say so; all of it where there is no RACK.
 * A head that was sacked shows that the peer throws away what it reported (Linux tcp_timeout_mark_lost).
 */
function markTimedOut(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  const { head } = queue;
  const hasReneged = head?.sacked === true;
  if (hasReneged) {
    tcp.count(MibId.TcpExtTCPSACKReneging);
    queue.forgetSacks();
  } else if (!tcb.sackOk) {
    queue.sackedOut = 0;
  }
  const sparesRecent = !hasReneged && isRackOn(tcp, tcb);
  for (let s = head; s !== null; s = s.next) {
    if (s === head || !sparesRecent || rackRemainingNs(tcp, tcb, s, 0) <= 0) markLost(tcp, tcb, s);
  }
}

/** An ACK in Loss, with F-RTO (RFC 5682; Linux tcp_process_loss). */
function processLoss(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  const hasRecovered = tcb.sndUnaOffset >= tcb.highOffset;
  if (ack.advanced && tryUndoLoss(tcp, tcb, ack, false)) return;
  if (tcb.frto && processFrto(tcp, tcb, ack, hasRecovered)) return;
  if (hasRecovered) {
    tryUndoRecovery(tcp, tcb, ack);
    return;
  }
  if (!tcb.sackOk) {
    if (tcb.sndNxtOffset > tcb.highOffset) addRenoSack(tcp, tcb, ack);
    else if (ack.advanced) tcb.retransmitQueue.sackedOut = 0;
  }
  ack.resend = Resend.lost;
}

/** F-RTO (RFC 5682 §3.1); true if it has decided what this ACK does. */
function processFrto(tcp: TcpContext, tcb: Tcb, ack: AckOutcome, hasRecovered: boolean): boolean {
  // Step 3.b: data that was sent only once has arrived, so the timeout was spurious.
  if (ack.originalAcked && tryUndoLoss(tcp, tcb, ack, true)) return true;
  if (tcb.sndNxtOffset > tcb.highOffset) {
    // Step 3.a: the loss was real.
    if (ack.sacked || ack.duplicate) tcb.frto = false;
  } else if (ack.advanced && !hasRecovered) {
    // Step 2.b: send new data and see what becomes of it, if there is any and the window takes it.
    tcb.highOffset = tcb.sndNxtOffset;
    if (tcb.hasUnsent && tcb.sndWindowEnd > tcb.sndNxtOffset) {
      ack.resend = Resend.unsent;
      return true;
    }
    tcb.frto = false;
  }
  return false;
}

/** Open if nothing is out of order any more, else Disorder (Linux tcp_try_to_open). */
function tryToOpen(tcb: Tcb): void {
  forgetStamp(tcb);
  if (tcb.caState !== CaState.cwr) keepOpen(tcb);
}

/** Linux tcp_try_keep_open. */
export function keepOpen(tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  const state = queue.sackedOut + queue.lostOut > 0 || queue.hasRetransmitted ? CaState.disorder : CaState.open;
  if (tcb.caState === state) return;
  tcb.caState = state;
  tcb.highOffset = tcb.sndNxtOffset;
}
