/**
 * Output: which bytes may leave now (Linux tcp_write_xmit, RFC 9293 §3.8). @hot
 *
 * Four tests, in this order: congestion window, the peer's window, Nagle (with Minshall's variant), cork. The first
 * that refuses is stamped `held`, so that a journey can say why a response waited.
 */
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { Held, Point } from "../../base/tracepoints.ts";
import { Flag } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { INITIAL_CWND_SEGMENTS, RESOURCE_PROBE_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import { currentMss, sendProbe, syncMss, transmit } from "./segment.ts";
import { CaState, Nagle, type Tcb, XmitTimer } from "./tcb.ts";

/** Sends what may be sent; `nonagle` overrides the socket's (Linux __tcp_push_pending_frames). */
export function pushPending(tcp: TcpContext, tcb: Tcb, nonagle: number = tcb.nonagle): void {
  if (!tcb.hasUnsent || tcb.state === TcpState.close) return;
  writeSegments(tcp, tcb, nonagle);
  if (tcb.retransmitQueue.packetsOut === 0 && tcb.hasUnsent && tcb.xmitTimerKind === XmitTimer.none) {
    // Nothing in flight will bring an ACK that opens the way: probe.
    armXmitTimer(tcp, tcb, XmitTimer.probe, probeBaseNs(tcp, tcb));
  }
}

/** The loop of tcp_write_xmit: cuts and sends segments until a test refuses. */
function writeSegments(tcp: TcpContext, tcb: Tcb, nonagle: number): void {
  const queue = tcb.retransmitQueue;
  const mss = currentMss(tcb);
  let sent = 0;
  let cwndLimited = false;
  while (tcb.hasUnsent) {
    const lo = tcb.sndNxtOffset;
    const left = tcb.sendQueue.endOffset - lo;
    const len = Math.min(left, mss);
    const isLast = len === left;
    const withFin = isLast && tcb.finQueued;
    if (queue.inFlight >= tcb.cwndSegments && !withFin) {
      cwndLimited = true;
      hold(tcp, tcb, queue.lostOut > 0 ? Held.retransmit : Held.cwnd, lo);
      break;
    }
    if (lo + len > tcb.sndWindowEnd) {
      hold(tcp, tcb, Held.rwnd, lo);
      break;
    }
    if (isLast && !withFin && !nagleAllows(tcb, len, nonagle)) {
      hold(tcp, tcb, (nonagle & Nagle.cork) !== 0 ? Held.cork : Held.nagle, lo);
      break;
    }
    if (!sendNew(tcp, tcb, lo, lo + len, withFin)) break;
    sent++;
  }
  if (sent > 0 || cwndLimited) validateCwnd(tcp, tcb, cwndLimited || queue.inFlight >= tcb.cwndSegments);
}

/** Nagle's test: may this last piece of `len` bytes leave? (Linux tcp_nagle_check, Minshall's tcp_minshall_check). */
function nagleAllows(tcb: Tcb, len: number, nonagle: number): boolean {
  if (len >= currentMss(tcb) || (nonagle & Nagle.push) !== 0) return true;
  if ((nonagle & Nagle.cork) !== 0) return false;
  if ((nonagle & Nagle.off) !== 0 || tcb.retransmitQueue.packetsOut === 0) return true;
  // Only a small segment that is still unacknowledged holds the next small one.
  return tcb.smallSentOffset <= tcb.sndUnaOffset;
}

/** Sends one new segment and books it; false if there was no memory or no route. */
function sendNew(tcp: TcpContext, tcb: Tcb, lo: number, end: number, withFin: boolean): boolean {
  const hi = withFin ? end + 1 : end;
  const isPushed = end === tcb.sendQueue.endOffset || (lo < tcb.pushOffset && tcb.pushOffset <= end);
  const flags = Flag.ack | (isPushed && end > lo ? Flag.psh : 0) | (withFin ? Flag.fin : 0);
  if (tcb.retransmitQueue.packetsOut === 0) restartAfterIdle(tcp, tcb);
  const result = transmit(tcp, tcb, lo, hi, flags);
  if (result === -Errno.ENOMEM || result === -Errno.ENOBUFS) {
    if (tcb.retransmitQueue.packetsOut === 0) armXmitTimer(tcp, tcb, XmitTimer.probe, RESOURCE_PROBE_NS);
    return false;
  }
  if (end - lo < currentMss(tcb) && end > lo) tcb.smallSentOffset = end;
  tcb.held = Held.none;
  tcb.heldOffset = -1;
  if (withFin) {
    tcb.finSent = true;
    if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.finSent, tcb.connId, end, 0);
  }
  bookNew(tcp, tcb, lo, hi, flags);
  return true;
}

/** Enters a segment sent for the first time into the retransmission queue (Linux tcp_event_new_data_sent). */
export function bookNew(tcp: TcpContext, tcb: Tcb, lo: number, hi: number, flags: number, sentNs = tcp.nowNs): void {
  const queue = tcb.retransmitQueue;
  const wasEmpty = queue.packetsOut === 0;
  queue.append(tcp.sentSegments.take(lo, hi, flags, sentNs));
  tcb.setSndNxt(hi);
  if (tcb.caState === CaState.recovery || tcb.caState === CaState.cwr) tcb.prrOut++;
  if ((flags & Flag.syn) === 0) tcp.count(MibId.TcpExtTCPOrigDataSent);
  if (wasEmpty || tcb.xmitTimerKind !== XmitTimer.retransmit) rearmRto(tcp, tcb);
}

/** Stamps why output stopped, when that changes. */
function hold(tcp: TcpContext, tcb: Tcb, reason: Held, offset: number): void {
  if (tcb.held === reason && tcb.heldOffset === offset) return;
  tcb.held = reason;
  tcb.heldOffset = offset;
  if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.held, tcb.connId, reason, offset);
}

/** Sends one segment again, cut to the present MSS and window; 0, or -errno if it could not be (tcp_retransmit_skb). */
export function retransmit(tcp: TcpContext, tcb: Tcb, segment: SentSegment): number {
  const queue = tcb.retransmitQueue;
  if (segment.lo < tcb.sndUnaOffset) segment.lo = tcb.sndUnaOffset;
  const isHandshake = (segment.flags & Flag.syn) !== 0;
  if (!isHandshake) {
    syncMss(tcb);
    let room = tcb.sndWindowEnd - segment.lo;
    if (room <= 0) {
      if (segment.lo !== tcb.sndUnaOffset) return -Errno.EAGAIN;
      room = currentMss(tcb);
    }
    const most = Math.min(currentMss(tcb), room);
    const dataEnd = (segment.flags & Flag.fin) !== 0 ? segment.hi - 1 : segment.hi;
    if (dataEnd - segment.lo > most) queue.split(segment, segment.lo + most, tcp.sentSegments, Flag.fin);
  }
  // The time of its timestamp: an echo of it must never look older than the retransmission (Eifel).
  const sentNs = tcp.nowNs;
  const result = transmit(tcp, tcb, segment.lo, segment.hi, segment.flags);
  tcp.count(MibId.TcpRetransSegs);
  if (isHandshake) tcp.count(MibId.TcpExtTCPSynRetrans);
  tcb.retransmitsTotal++;
  if (result < 0) {
    tcp.count(MibId.TcpExtTCPRetransFail);
    return result;
  }
  if (tcb.retransStampNs === 0) tcb.retransStampNs = sentNs;
  tcb.undoRetransmits++;
  queue.markRetransmitted(segment, tcp.nowNs);
  return 0;
}

/** Sends segments marked lost again, as far as the congestion window goes (Linux tcp_xmit_retransmit_queue). */
export function retransmitLost(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  if (queue.lostOut === 0) return;
  const counter = tcb.caState === CaState.loss ? MibId.TcpExtTCPSlowStartRetrans : MibId.TcpExtTCPFastRetrans;
  for (let segment = queue.head; segment !== null; segment = segment.next) {
    if (queue.inFlight >= tcb.cwndSegments) return;
    if (!segment.lost || segment.retransmitted || segment.sacked) continue;
    if (retransmit(tcp, tcb, segment) < 0) return;
    tcp.count(counter);
    if (tcb.caState === CaState.recovery) tcb.prrOut++;
    if (segment === queue.head) rearmRto(tcp, tcb);
  }
}

// ── timers of output ──────────────────────────────────────────────────────────────────────────────────────────────

export function armXmitTimer(tcp: TcpContext, tcb: Tcb, kind: XmitTimer, delayNs: number): void {
  tcb.xmitTimerKind = kind;
  tcp.armXmit(tcb, tcp.nowNs + Math.min(delayNs, tcp.rtoMaxNs));
}

export function stopXmitTimer(tcp: TcpContext, tcb: Tcb): void {
  tcb.xmitTimerKind = XmitTimer.none;
  tcp.cancel(tcb.xmitTimer);
}

/** Restarts the retransmission timer if something is in flight, else stops it (RFC 6298 §5.2, §5.3; tcp_rearm_rto). */
export function rearmRto(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.retransmitQueue.packetsOut === 0) stopXmitTimer(tcp, tcb);
  else armXmitTimer(tcp, tcb, XmitTimer.retransmit, tcb.rtoNs);
}

/** First interval of the persist timer: the RTO, at least 200 ms (Linux tcp_probe0_base). */
export function probeBaseNs(tcp: TcpContext, tcb: Tcb): number {
  return Math.max(tcb.rtoNs, tcp.rtoMinNs);
}

/** The next one, backed off (Linux tcp_probe0_when). */
export function probeBackoffNs(tcp: TcpContext, tcb: Tcb): number {
  return Math.min(probeBaseNs(tcp, tcb) * 2 ** tcb.backoff, tcp.rtoMaxNs);
}

/**
 * The probe itself (Linux tcp_write_wakeup): as many bytes as the window takes if any, else an empty segment with an
 * old sequence number. Returns 0, or -errno.
 */
export function writeWakeup(tcp: TcpContext, tcb: Tcb): number {
  const lo = tcb.sndNxtOffset;
  if (tcb.hasUnsent && lo < tcb.sndWindowEnd) {
    const left = tcb.sendQueue.endOffset - lo;
    const len = Math.min(left, tcb.sndWindowEnd - lo, currentMss(tcb));
    if (tcb.pushOffset < lo + len) tcb.pushOffset = lo + len;
    return sendNew(tcp, tcb, lo, lo + len, len === left && tcb.finQueued) ? 0 : -Errno.ENOBUFS;
  }
  tcp.count(MibId.TcpExtTCPWinProbe);
  return sendProbe(tcp, tcb);
}

// ── the congestion window's use ───────────────────────────────────────────────────────────────────────────────────

/** True if the window was what limited output lately: only then may it grow (Linux tcp_is_cwnd_limited). */
export function isCwndLimited(tcb: Tcb): boolean {
  if (tcb.cwndLimited) return true;
  return tcb.cwndSegments < tcb.ssthreshSegments && tcb.cwndSegments < 2 * tcb.maxInFlight;
}

/** Notes whether the window limits output, and lets an unused one shrink (Linux tcp_cwnd_validate, RFC 7661). */
function validateCwnd(tcp: TcpContext, tcb: Tcb, limited: boolean): void {
  const out = tcb.retransmitQueue.packetsOut;
  if (tcb.sndUnaOffset >= tcb.cwndUsageOffset || limited || (!tcb.cwndLimited && out > tcb.maxInFlight)) {
    tcb.cwndLimited = limited;
    tcb.maxInFlight = out;
    tcb.cwndUsageOffset = tcb.sndNxtOffset;
  }
  const now = tcp.nowNs;
  if (isCwndLimited(tcb)) {
    tcb.cwndUsed = 0;
    tcb.cwndStampNs = now;
    return;
  }
  if (out > tcb.cwndUsed) tcb.cwndUsed = out;
  if (tcp.env.sysctl.tcpSlowStartAfterIdle !== 0 && now - tcb.cwndStampNs >= tcb.rtoNs) shrinkUnused(tcb, now);
}

/** The application used only part of the window for an RTO: go half way down to that (tcp_cwnd_application_limited). */
function shrinkUnused(tcb: Tcb, nowNs: number): void {
  if (tcb.caState === CaState.open && !tcb.noSpace) {
    const used = Math.max(tcb.cwndUsed, INITIAL_CWND_SEGMENTS);
    if (used < tcb.cwndSegments) {
      tcb.ssthreshSegments = currentSsthresh(tcb);
      tcb.cwndSegments = (tcb.cwndSegments + used) >>> 1;
    }
    tcb.cwndUsed = 0;
  }
  tcb.cwndStampNs = nowNs;
}

/** Slow-start restart after idle (RFC 5681 §4.1; Linux tcp_cwnd_restart): halve once per idle RTO down to IW. */
function restartAfterIdle(tcp: TcpContext, tcb: Tcb): void {
  const now = tcp.nowNs;
  let idle = now - tcb.lastSentNs;
  if (tcp.env.sysctl.tcpSlowStartAfterIdle === 0 || tcb.lastSentNs === 0 || idle <= tcb.rtoNs) return;
  const restart = Math.min(INITIAL_CWND_SEGMENTS, tcb.cwndSegments);
  tcb.ssthreshSegments = currentSsthresh(tcb);
  let cwnd = tcb.cwndSegments;
  for (idle -= tcb.rtoNs; idle > 0 && cwnd > restart; idle -= tcb.rtoNs) cwnd >>>= 1;
  tcb.cwndSegments = Math.max(cwnd, restart);
  tcb.cwndStampNs = now;
  tcb.cwndUsed = 0;
}

/** Linux tcp_current_ssthresh: three quarters of the window count as proven. */
function currentSsthresh(tcb: Tcb): number {
  if (tcb.caState === CaState.cwr || tcb.caState === CaState.recovery) return tcb.ssthreshSegments;
  return Math.max(tcb.ssthreshSegments, (tcb.cwndSegments >>> 1) + (tcb.cwndSegments >>> 2));
}
