/**
 * Taking back a reduction of the window that was not needed (Linux tcp_undo_*): because a timestamp shows that the
 * original arrived (Eifel, RFC 3522), because DSACKs call every retransmission needless, or because F-RTO says so.
 */
import { MibId } from "../../base/mib.ts";
import { MILLISECOND } from "../../base/time.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import { RACK_PERSIST_RECOVERIES } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { checkReordering } from "./sack.ts";
import { CaState, type Tcb } from "./tcb.ts";

/** Remembers where a reduction begins (Linux tcp_init_undo). A probe that is out may still be called needless. */
export function startUndo(tcb: Tcb): void {
  const probes = tcb.probeHighOffset >= 0 && tcb.probeRetransmitted ? 1 : 0;
  tcb.undoOffset = tcb.sndUnaOffset;
  tcb.undoRetransmits = tcb.retransmitQueue.retransOut + probes || -1;
}

/** Out of Recovery or Loss everything is acknowledged (Linux tcp_try_undo_recovery). True: the old state is kept. */
export function tryUndoRecovery(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): boolean {
  if (mayUndo(tcb, ack)) {
    tcp.count(tcb.caState === CaState.loss ? MibId.TcpExtTCPLossUndo : MibId.TcpExtTCPFullUndo);
    undo(tcp, tcb, false);
  } else if (tcb.reorderingWindowPersist > 0) {
    tcb.reorderingWindowPersist--;
  }
  if (mustKeepState(tcb)) return true;
  tcb.caState = CaState.open;
  return false;
}

/** The timeout was spurious, as the ACK says, or `byFrto`: original data was acknowledged (Linux tcp_try_undo_loss). */
export function tryUndoLoss(tcp: TcpContext, tcb: Tcb, ack: AckOutcome, byFrto: boolean): boolean {
  if (!byFrto && !mayUndo(tcb, ack)) return false;
  undo(tcp, tcb, true);
  tcp.count(MibId.TcpExtTCPLossUndo);
  if (byFrto) tcp.count(MibId.TcpExtTCPSpuriousRTOs);
  tcb.timeouts = 0;
  if (!mustKeepState(tcb) && (byFrto || tcb.sackOk)) tcb.caState = CaState.open;
  return true;
}

/** In Recovery, with every retransmission called needless by DSACK (Linux tcp_try_undo_dsack). */
export function tryUndoByDsack(tcp: TcpContext, tcb: Tcb): boolean {
  if (tcb.undoOffset < 0 || tcb.undoRetransmits !== 0) return false;
  tcb.reorderingWindowPersist = Math.min(RACK_PERSIST_RECOVERIES, tcb.reorderingWindowPersist + 1);
  tcp.count(MibId.TcpExtTCPDSACKUndo);
  undo(tcp, tcb, false);
  return true;
}

/** What a partial ACK in Recovery does (Linux tcp_try_undo_partial). */
export const PartialUndo = { none: 0, done: 1, wait: 2 } as const;
export type PartialUndo = (typeof PartialUndo)[keyof typeof PartialUndo];

/**
 * A hole was filled by the original, late: the path reorders. The reduction is taken back unless retransmissions are
 * out; then new data clocks out, and nothing else is called lost (`wait`).
 */
export function tryUndoPartial(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): PartialUndo {
  if (tcb.undoOffset < 0 || !isOriginalDelayed(tcb, ack)) return PartialUndo.none;
  checkReordering(tcp, tcb, ack.priorUnaOffset, true);
  if (tcb.retransmitQueue.retransOut > 0) return PartialUndo.wait;
  forgetStamp(tcb);
  undo(tcp, tcb, true);
  tcp.count(MibId.TcpExtTCPPartialUndo);
  return PartialUndo.done;
}

/** The clock of give-up starts anew once nothing that is out was sent twice (Linux tcp_retrans_stamp_cleanup). */
export function forgetStamp(tcb: Tcb): void {
  if (!tcb.retransmitQueue.hasRetransmitted) tcb.retransStampNs = 0;
}

function mayUndo(tcb: Tcb, ack: AckOutcome): boolean {
  return tcb.undoOffset >= 0 && (tcb.undoRetransmits === 0 || isOriginalDelayed(tcb, ack));
}

/**
 * Eifel detection: the ACK echoes a timestamp from before the first retransmission — or there was none (Linux
 * tcp_packet_delayed).
 */
function isOriginalDelayed(tcb: Tcb, ack: AckOutcome): boolean {
  // Without SACK `mustKeepState` has forgotten when the first was.
  if (tcb.retransStampNs === 0) return tcb.sackOk || tcb.sndUnaOffset < tcb.highOffset;
  if (!tcb.timestampsOk || ack.tsEcr === 0) return false;
  return isEchoBefore(tcb, ack.tsEcr, tcb.retransStampNs);
}

/** Is `tsEcr` an echo of a segment sent in an earlier millisecond than `sentNs`? */
export function isEchoBefore(tcb: Tcb, tsEcr: number, sentNs: number): boolean {
  return ((tsEcr - ((Math.floor(sentNs / MILLISECOND) + tcb.tsOffset) | 0)) | 0) < 0;
}

/**
 * Without SACK the state is kept until something above `highOffset` is acknowledged, or old duplicate ACKs would start
 * a false fast retransmit (RFC 6582 §6; Linux tcp_is_non_sack_preventing_reopen).
 */
function mustKeepState(tcb: Tcb): boolean {
  if (tcb.sackOk || tcb.sndUnaOffset !== tcb.highOffset) return false;
  forgetStamp(tcb);
  return true;
}

/** Linux tcp_undo_cwnd_reduction. */
function undo(tcp: TcpContext, tcb: Tcb, unmarkLost: boolean): void {
  if (unmarkLost) tcb.retransmitQueue.forgetLosses();
  tcb.cwndSegments = Math.max(tcb.cwndSegments, tcb.priorCwndSegments);
  tcb.ssthreshSegments = Math.max(tcb.ssthreshSegments, tcb.undoSsthreshSegments);
  tcb.cwndStampNs = tcp.nowNs;
  tcb.undoOffset = -1;
  // What was called lost is looked at again.
  tcb.rackAdvanced = true;
}
