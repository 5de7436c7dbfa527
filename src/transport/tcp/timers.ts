/**
 * What happens when a timer of a connection fires: retransmission, zero-window probe, keep-alive, FIN_WAIT2 (Linux
 * tcp_timer.c). The delayed ACK is in `ack.ts`, the SYN-ACK in `listener.ts`.
 */
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { type Ns, SECOND } from "../../base/time.ts";
import { Ending } from "../../base/tracepoints.ts";
import { Flag } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { finTimeoutNs, onGiveUp } from "./close.ts";
import { RESOURCE_PROBE_NS, RTO_INITIAL_NS, TIME_WAIT_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { done } from "./done.ts";
import { armXmitTimer, probeBackoffNs, retransmit, writeWakeup } from "./output.ts";
import { enterLoss, onReorderingTimeout } from "./recovery.ts";
import { modelTimeoutNs } from "./rto.ts";
import { sendActiveReset, sendProbe } from "./segment.ts";
import { sendLossProbe } from "./tail-loss-probe.ts";
import { CaState, type Tcb, XmitTimer } from "./tcb.ts";
import { enterTimeWait } from "./time-wait.ts";

/** tcp_orphan_retries = 0 stands for this many while the peer is alive. */
const DEFAULT_ORPHAN_RETRIES = 8;

export function onXmitTimeout(tcp: TcpContext, tcb: Tcb): void {
  const kind = tcb.xmitTimerKind;
  if (kind === XmitTimer.lossProbe) {
    sendLossProbe(tcp, tcb);
  } else if (kind === XmitTimer.reorder) {
    onReorderingTimeout(tcp, tcb);
  } else {
    tcb.xmitTimerKind = XmitTimer.none;
    if (kind === XmitTimer.retransmit) onRetransmitTimeout(tcp, tcb);
    else if (kind === XmitTimer.probe) onProbeTimeout(tcp, tcb);
  }
}

/** The retransmission timer (RFC 6298 §5.4 to 5.6; Linux tcp_retransmit_timer). */
function onRetransmitTimeout(tcp: TcpContext, tcb: Tcb): void {
  const head = tcb.retransmitQueue.head;
  if (head === null) return;
  const isHandshake = (head.flags & Flag.syn) !== 0;
  if (tcb.sndWnd === 0 && !tcb.orphan && !isHandshake) {
    retransmitIntoClosedWindow(tcp, tcb);
    return;
  }
  tcp.count(MibId.TcpExtTCPTimeouts);
  if (isOutOfRetries(tcp, tcb)) {
    onGiveUp(tcp, tcb);
    return;
  }
  if (tcb.timeouts === 0) countFirstTimeout(tcp, tcb);
  enterLoss(tcp, tcb);
  tcb.timeouts++;
  tcb.timeoutsTotal++;
  const segment = tcb.retransmitQueue.head;
  if (segment !== null && retransmit(tcp, tcb, segment) === -Errno.ENOBUFS) {
    // Memory is out here, which says nothing about the network: try again soon, without back-off.
    armXmitTimer(tcp, tcb, XmitTimer.retransmit, Math.min(tcb.rtoNs, RESOURCE_PROBE_NS));
    return;
  }
  if (tcb.state !== TcpState.synSent || tcb.timeoutsTotal > tcp.env.sysctl.tcpSynLinearTimeouts) {
    tcb.backoff++;
    tcb.rtoNs = Math.min(tcb.rtoNs * 2, tcp.rtoMaxNs);
  }
  armXmitTimer(tcp, tcb, XmitTimer.retransmit, clampToUserTimeout(tcp, tcb, tcb.rtoNs));
}

/** The peer shrank its window under data in flight: keep asking, for as long as it answers. */
function retransmitIntoClosedWindow(tcp: TcpContext, tcb: Tcb): void {
  const { head } = tcb.retransmitQueue;
  const silentNs = tcp.nowNs - tcb.lastAckNs;
  const resendingNs = tcp.nowNs - (tcb.retransStampNs || (head?.sentNs ?? tcp.nowNs));
  // Linux tcp_rtx_probe0_timed_out.
  const isSilent = Math.min(silentNs, resendingNs) > 2 * tcp.rtoMaxNs;
  if (isSilent || isPastUserTimeout(tcp, tcb)) {
    onGiveUp(tcp, tcb);
    return;
  }
  enterLoss(tcp, tcb);
  if (head !== null) retransmit(tcp, tcb, head);
  tcb.backoff++;
  tcb.rtoNs = Math.min(tcb.rtoNs * 2, tcp.rtoMaxNs);
  armXmitTimer(tcp, tcb, XmitTimer.retransmit, tcb.rtoNs);
}

/** The MIB says in which state trouble began. */
function countFirstTimeout(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.caState === CaState.recovery)
    tcp.count(tcb.sackOk ? MibId.TcpExtTCPSackRecoveryFail : MibId.TcpExtTCPRenoRecoveryFail);
  else if (tcb.caState === CaState.loss) tcp.count(MibId.TcpExtTCPLossFailures);
  else if (tcb.caState === CaState.disorder || tcb.retransmitQueue.sackedOut > 0) {
    tcp.count(tcb.sackOk ? MibId.TcpExtTCPSackFailures : MibId.TcpExtTCPRenoFailures);
  }
}

/** Linux tcp_write_timeout. */
function isOutOfRetries(tcp: TcpContext, tcb: Tcb): boolean {
  const { sysctl } = tcp.env;
  if (tcb.state === TcpState.synSent) {
    const retries = tcb.synCount || sysctl.tcpSynRetries;
    // The time of few retries is over before the linear timeouts are.
    const isOver = hasTimedOut(tcp, tcb, retries, tcb.userTimeoutNs, RTO_INITIAL_NS);
    return isOver || tcb.timeouts >= retries + sysctl.tcpSynLinearTimeouts;
  }
  if (tcb.state === TcpState.synReceived) return tcb.timeouts >= (tcb.synCount || sysctl.tcpSynackRetries);
  let boundary = sysctl.tcpRetries2;
  if (tcb.orphan) {
    boundary = orphanRetries(tcp, tcb, tcb.rtoNs < tcp.rtoMaxNs);
    const isAlive = tcb.rtoNs < tcp.rtoMaxNs || !hasTimedOut(tcp, tcb, boundary, 0);
    if (tcp.orphanCount > sysctl.tcpMaxOrphans && !isAlive) return true;
  }
  return hasTimedOut(tcp, tcb, boundary, tcb.userTimeoutNs);
}

/** How often an orphan is retransmitted (Linux tcp_orphan_retries). */
function orphanRetries(tcp: TcpContext, tcb: Tcb, isAlive: boolean): number {
  if (tcb.softError !== 0 && !isAlive) return 0;
  return tcp.env.sysctl.tcpOrphanRetries || (isAlive ? DEFAULT_ORPHAN_RETRIES : 0);
}

/**
 * Has as much time passed since the first retransmission (of a SYN: since the first copy) as `boundary` of them take
 * from `baseNs` on? (Linux retransmits_timed_out).
 */
function hasTimedOut(tcp: TcpContext, tcb: Tcb, boundary: number, timeoutNs: Ns, baseNs = tcp.rtoMinNs): boolean {
  if (tcb.timeouts === 0 || tcb.retransStampNs === 0) return false;
  const limit = timeoutNs > 0 ? timeoutNs : modelTimeoutNs(boundary, baseNs, tcp.rtoMaxNs);
  return tcp.nowNs - tcb.retransStampNs >= limit;
}

function isPastUserTimeout(tcp: TcpContext, tcb: Tcb): boolean {
  return tcb.userTimeoutNs > 0 && tcb.retransStampNs > 0 && tcp.nowNs - tcb.retransStampNs >= tcb.userTimeoutNs;
}

/** The next retransmission must not come later than TCP_USER_TIMEOUT (Linux tcp_clamp_rto_to_user_timeout). */
function clampToUserTimeout(tcp: TcpContext, tcb: Tcb, rtoNs: Ns): Ns {
  if (tcb.userTimeoutNs === 0 || tcb.retransStampNs === 0) return rtoNs;
  const left = tcb.userTimeoutNs - (tcp.nowNs - tcb.retransStampNs);
  return left <= 0 ? 1 : Math.min(rtoNs, left);
}

/** The persist timer: the window is closed and nothing is in flight (RFC 9293 §3.8.6.1; Linux tcp_probe_timer). */
function onProbeTimeout(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.retransmitQueue.packetsOut > 0 || !tcb.hasUnsent) {
    tcb.probesOut = 0;
    tcb.probesStartNs = 0;
    return;
  }
  if (tcb.probesStartNs === 0) tcb.probesStartNs = tcp.nowNs;
  let most = tcp.env.sysctl.tcpRetries2;
  if (tcb.userTimeoutNs > 0 && tcp.nowNs - tcb.probesStartNs >= tcb.userTimeoutNs) {
    onGiveUp(tcp, tcb);
    return;
  }
  if (tcb.orphan) {
    const isAlive = probeBackoffNs(tcp, tcb) < tcp.rtoMaxNs;
    most = orphanRetries(tcp, tcb, isAlive);
    if (!isAlive && tcb.backoff >= most) {
      onGiveUp(tcp, tcb);
      return;
    }
  }
  if (tcb.probesOut >= most) onGiveUp(tcp, tcb);
  else sendWindowProbe(tcp, tcb);
}

/** Linux tcp_send_probe0. */
function sendWindowProbe(tcp: TcpContext, tcb: Tcb): void {
  const result = writeWakeup(tcp, tcb);
  if (tcb.retransmitQueue.packetsOut > 0 || !tcb.hasUnsent) {
    tcb.probesOut = 0;
    tcb.backoff = 0;
    tcb.probesStartNs = 0;
    return;
  }
  tcb.probesOut++;
  let wait = RESOURCE_PROBE_NS;
  if (result >= 0) {
    if (tcb.backoff < tcp.env.sysctl.tcpRetries2) tcb.backoff++;
    wait = probeBackoffNs(tcp, tcb);
  }
  armXmitTimer(tcp, tcb, XmitTimer.probe, wait);
}

// ── keep-alive ────────────────────────────────────────────────────────────────────────────────────────────────────

export function keepaliveTimeNs(tcp: TcpContext, tcb: Tcb): Ns {
  return tcb.keepaliveTimeNs || tcp.env.sysctl.tcpKeepaliveTime * SECOND;
}

function keepaliveIntervalNs(tcp: TcpContext, tcb: Tcb): Ns {
  return tcb.keepaliveIntervalNs || tcp.env.sysctl.tcpKeepaliveIntvl * SECOND;
}

/** Turns the keep-alive timer on or off, as SO_KEEPALIVE and the state say. */
export function startKeepalive(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.keepalive && tcb.state !== TcpState.close && tcb.state !== TcpState.listen) {
    tcp.armKeepalive(tcb, tcp.nowNs + keepaliveTimeNs(tcp, tcb));
  } else {
    tcp.cancel(tcb.keepaliveTimer);
  }
}

/** Keep-alive, or the end of an orphan's long FIN_WAIT2 (Linux tcp_keepalive_timer). */
export function onKeepaliveTimeout(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.state === TcpState.finWait2 && tcb.orphan) {
    const left = finTimeoutNs(tcp, tcb) - TIME_WAIT_NS;
    if (tcb.linger2Ns >= 0 && left > 0) {
      enterTimeWait(tcp, tcb, TcpState.finWait2, left);
    } else {
      sendActiveReset(tcp, tcb);
      tcp.stampClosed(tcb, Ending.resetSent);
      done(tcp, tcb);
    }
    return;
  }
  if (!tcb.keepalive || tcb.state === TcpState.close || tcb.state === TcpState.synSent) return;
  const now = tcp.nowNs;
  let wait = keepaliveTimeNs(tcp, tcb);
  const isBusy = tcb.retransmitQueue.packetsOut > 0 || tcb.hasUnsent;
  const idle = now - Math.max(tcb.lastReceivedNs, tcb.lastAckNs);
  if (!isBusy && idle < wait) {
    wait -= idle;
  } else if (!isBusy) {
    if (isKeepaliveOver(tcp, tcb, idle)) {
      sendActiveReset(tcp, tcb);
      onGiveUp(tcp, tcb);
      return;
    }
    tcp.count(MibId.TcpExtTCPKeepAlive);
    if (sendProbe(tcp, tcb) < 0) {
      wait = RESOURCE_PROBE_NS;
    } else {
      tcb.probesOut++;
      wait = keepaliveIntervalNs(tcp, tcb);
    }
  }
  tcp.armKeepalive(tcb, now + wait);
}

function isKeepaliveOver(tcp: TcpContext, tcb: Tcb, idleNs: Ns): boolean {
  if (tcb.userTimeoutNs > 0) return idleNs >= tcb.userTimeoutNs && tcb.probesOut > 0;
  return tcb.probesOut >= (tcb.keepaliveProbes || tcp.env.sysctl.tcpKeepaliveProbes);
}

/** For tests and `ss -o`: which timer runs, and until when. */
export function timerName(tcb: Tcb): string {
  if (tcb.xmitTimerKind === XmitTimer.probe) return "persist";
  if (tcb.xmitTimerKind !== XmitTimer.none) return "on";
  return tcb.keepaliveTimer !== null && tcb.keepaliveTimer.armed ? "keepalive" : "off";
}
