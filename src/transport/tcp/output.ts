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
import { currentSsthresh, isCwndLimited } from "./congestion/cwnd.ts";
import {
  DEFER_DIVISOR,
  DEFER_NS,
  INITIAL_CWND_SEGMENTS,
  RESOURCE_PROBE_NS,
  RTO_INITIAL_NS,
  TIMEOUT_MIN_NS,
} from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { NOTHING_IN_FLIGHT, type SentSegment } from "./retransmit-queue.ts";
import { currentMss, sendProbe, superSegmentBytes, syncMss, transmit } from "./segment.ts";
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

/** The loop of tcp_write_xmit: cuts and sends segments, or super-segments, until a test refuses. */
function writeSegments(tcp: TcpContext, tcb: Tcb, nonagle: number): void {
  let queue = tcb.retransmitQueue;
  const mss = currentMss(tcb);
  const most = superSegmentBytes(tcb, mss);
  let sent = 0;
  let cwndLimited = false;
  while (tcb.hasUnsent) {
    const lo = tcb.sndNxtOffset;
    const left = tcb.writtenOffset - lo;
    const one = Math.min(left, mss);
    const isLast = one === left;
    const withFin = isLast && tcb.finQueued;
    if (queue.inFlight >= tcb.cwndSegments && !withFin) {
      cwndLimited = true;
      hold(tcp, tcb, queue.lostOut > 0 ? Held.retransmit : Held.cwnd, lo);
      break;
    }
    if (lo + one > tcb.sndWindowEnd) {
      hold(tcp, tcb, Held.rwnd, lo);
      break;
    }
    if (isLast && !withFin && !nagleAllows(tcb, one, nonagle)) {
      hold(tcp, tcb, (nonagle & Nagle.cork) !== 0 ? Held.cork : Held.nagle, lo);
      break;
    }
    if (queue.packetsOut === 0) restartAfterIdle(tcp, tcb);
    let end = lo + one;
    if (most > 0 && !isLast) {
      const room = Math.min((tcb.cwndSegments - queue.inFlight) * mss, tcb.sndWindowEnd - lo);
      if (room < Math.min(left, most) && shouldDefer(tcp, tcb, room, mss)) {
        cwndLimited = lo + room < tcb.sndWindowEnd;
        hold(tcp, tcb, cwndLimited ? Held.cwnd : Held.rwnd, lo);
        break;
      }
      end = lo + superLen(tcb, left, Math.min(room, most), mss, nonagle);
    }
    if (!sendNew(tcp, tcb, lo, end, mss)) break;
    sent++;
    // The first segment in flight brings a queue.
    queue = tcb.retransmitQueue;
  }
  if (sent > 0 || cwndLimited) validateCwnd(tcp, tcb, cwndLimited || queue.inFlight >= tcb.cwndSegments);
  if (sent > 0) scheduleLossProbe(tcp, tcb, false);
}

/** Nagle's test: may this last piece of `len` bytes leave? (Linux tcp_nagle_check, Minshall's tcp_minshall_check). */
function nagleAllows(tcb: Tcb, len: number, nonagle: number): boolean {
  if (len >= currentMss(tcb) || (nonagle & Nagle.push) !== 0) return true;
  if ((nonagle & Nagle.cork) !== 0) return false;
  if ((nonagle & Nagle.off) !== 0 || tcb.retransmitQueue.packetsOut === 0) return true;
  // Only a small segment that is still unacknowledged holds the next small one.
  return tcb.smallSentOffset <= tcb.sndUnaOffset;
}

/**
 * Bytes of the next super-segment: whole segments of at most `most` bytes; all `left` bytes if they fit and nothing
 * holds the small rest back (Linux tcp_mss_split_point). At least one segment.
 */
function superLen(tcb: Tcb, left: number, most: number, mss: number, nonagle: number): number {
  if (left > most) return most - (most % mss);
  const rest = left % mss;
  return rest === 0 || tcb.finQueued || nagleAllows(tcb, rest, nonagle) ? left : left - rest;
}

/**
 * Is it better to let the windows open a little further than to send the `room` bytes they allow of what is queued? At
 * most a third of a window waits, while segments flow, and only if the next ACK is due within half a round trip (Linux
 * tcp_tso_should_defer).
 */
function shouldDefer(tcp: TcpContext, tcb: Tcb, room: number, mss: number): boolean {
  const { head } = tcb.retransmitQueue;
  const { nowNs } = tcp;
  if (head === null || tcb.caState >= CaState.recovery || nowNs - tcb.lastSentNs > DEFER_NS) return false;
  if (room >= Math.min(tcb.sndWnd, tcb.cwndSegments * mss) / DEFER_DIVISOR) return false;
  return nowNs - head.sentNs >= tcb.srttNs / 2;
}

/** Sends new bytes, as a super-segment if they are more than one, and books them; false if memory was out. */
function sendNew(tcp: TcpContext, tcb: Tcb, lo: number, end: number, mss: number): boolean {
  const endOffset = tcb.writtenOffset;
  const withFin = end === endOffset && tcb.finQueued;
  const hi = withFin ? end + 1 : end;
  const isPushed = end === endOffset || (lo < tcb.pushOffset && tcb.pushOffset <= end);
  const flags = Flag.ack | (isPushed && end > lo ? Flag.psh : 0) | (withFin ? Flag.fin : 0);
  const isSuper = end - lo > mss;
  const result = transmit(tcp, tcb, lo, hi, flags, isSuper ? mss : 0);
  if (result === -Errno.ENOMEM && isSuper) return sendNew(tcp, tcb, lo, lo + mss, mss);
  if (result === -Errno.ENOMEM || result === -Errno.ENOBUFS) {
    if (tcb.retransmitQueue.packetsOut === 0) armXmitTimer(tcp, tcb, XmitTimer.probe, RESOURCE_PROBE_NS);
    return false;
  }
  if ((end - lo) % mss !== 0) tcb.smallSentOffset = end;
  tcb.held = Held.none;
  tcb.heldOffset = -1;
  if (withFin) {
    tcb.finSent = true;
    if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.finSent, tcb.connId, end, 0);
  }
  // Loss strikes segments, not frames: each is booked alone.
  let at = lo;
  for (; end - at > mss; at += mss) bookNew(tcp, tcb, at, at + mss, Flag.ack);
  bookNew(tcp, tcb, at, hi, flags);
  return true;
}

/** Enters a segment sent for the first time into the retransmission queue (Linux tcp_event_new_data_sent). */
export function bookNew(tcp: TcpContext, tcb: Tcb, lo: number, hi: number, flags: number, sentNs = tcp.nowNs): void {
  if (tcb.retransmitQueue === NOTHING_IN_FLIGHT) tcb.retransmitQueue = tcp.sentSegments.takeQueue();
  const queue = tcb.retransmitQueue;
  const wasEmpty = queue.packetsOut === 0;
  queue.append(tcp.sentSegments.take(lo, hi, flags, sentNs));
  tcb.setSndNxt(hi);
  if (tcb.caState === CaState.recovery || tcb.caState === CaState.cwr) tcb.prrOut++;
  if ((flags & Flag.syn) === 0) tcp.count(MibId.TcpExtTCPOrigDataSent);
  if (wasEmpty || tcb.xmitTimerKind === XmitTimer.lossProbe) rearmRto(tcp, tcb);
}

/** Stamps why output stopped, when that changes. */
function hold(tcp: TcpContext, tcb: Tcb, reason: Held, offset: number): void {
  if (tcb.held === reason && tcb.heldOffset === offset) return;
  tcb.held = reason;
  tcb.heldOffset = offset;
  if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.held, tcb.connId, reason, offset);
}

/** Sends a segment believed lost again; 0, or -errno if it could not be (Linux tcp_retransmit_skb). */
export function retransmit(tcp: TcpContext, tcb: Tcb, segment: SentSegment): number {
  // The time of its timestamp: an echo of it must never look older than the retransmission (Eifel).
  const sentNs = tcp.nowNs;
  const result = resend(tcp, tcb, segment);
  // Give-up counts from the first attempt, whatever became of it.
  if (tcb.retransStampNs === 0) tcb.retransStampNs = sentNs;
  tcb.undoRetransmits = Math.max(0, tcb.undoRetransmits) + 1;
  if (result < 0) return result;
  tcb.retransmitQueue.markRetransmitted(segment);
  return 0;
}

/** The same bytes once more, cut to the present MSS and window; 0 or -errno (Linux __tcp_retransmit_skb). */
export function resend(tcp: TcpContext, tcb: Tcb, segment: SentSegment): number {
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
  const result = transmit(tcp, tcb, segment.lo, segment.hi, segment.flags);
  tcp.count(MibId.TcpRetransSegs);
  if (isHandshake) tcp.count(MibId.TcpExtTCPSynRetrans);
  tcb.retransmitsTotal++;
  if (result < 0) {
    tcp.count(MibId.TcpExtTCPRetransFail);
    return result;
  }
  queue.markResent(segment, tcp.nowNs, tcp.sentSegments.nextOrder());
  return 0;
}

/** Sends segments marked lost again, as far as the congestion window goes (Linux tcp_xmit_retransmit_queue). */
export function retransmitLost(tcp: TcpContext, tcb: Tcb): void {
  const queue = tcb.retransmitQueue;
  const counter = tcb.caState === CaState.loss ? MibId.TcpExtTCPSlowStartRetrans : MibId.TcpExtTCPFastRetrans;
  let headSent = false;
  for (let s = queue.head; s !== null && queue.retransOut < queue.lostOut; s = s.next) {
    if (queue.inFlight >= tcb.cwndSegments) break;
    if (!s.lost || s.retransmitted || s.sacked) continue;
    if (retransmit(tcp, tcb, s) < 0) break;
    tcp.count(counter);
    if (tcb.caState === CaState.recovery || tcb.caState === CaState.cwr) tcb.prrOut++;
    if (s === queue.head) headSent = true;
  }
  if (headSent && tcb.xmitTimerKind !== XmitTimer.reorder) armXmitTimer(tcp, tcb, XmitTimer.retransmit, tcb.rtoNs);
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

/**
 * Restarts the retransmission timer if something is in flight, else stops it (RFC 6298 §5.2, §5.3; tcp_rearm_rto).
 * Where a probe's or RACK's timer ran meanwhile, the time since the head was sent counts.
 */
export function rearmRto(tcp: TcpContext, tcb: Tcb): void {
  const kind = tcb.xmitTimerKind;
  if (tcb.retransmitQueue.packetsOut === 0) {
    stopXmitTimer(tcp, tcb);
    return;
  }
  const inPlaceOfRto = kind === XmitTimer.lossProbe || kind === XmitTimer.reorder;
  armXmitTimer(tcp, tcb, XmitTimer.retransmit, inPlaceOfRto ? Math.max(rtoLeftNs(tcp, tcb), 1) : tcb.rtoNs);
}

/** How far away the timeout of the head is (Linux tcp_rto_delta_us). */
function rtoLeftNs(tcp: TcpContext, tcb: Tcb): number {
  const { head } = tcb.retransmitQueue;
  return head === null ? tcb.rtoNs : head.sentNs + tcb.rtoNs - tcp.nowNs;
}

/**
 * Sets the timer to a tail loss probe in two round trips, if the connection has SACK and nothing is amiss; true if it
 * did (RFC 8985 §7.2; Linux tcp_schedule_loss_probe). A lone segment may meet a delayed ACK, which gets 200 ms more.
 * `advancing`: an ACK restarts the timeout, which else may be nearer than the probe.
 */
export function scheduleLossProbe(tcp: TcpContext, tcb: Tcb, advancing: boolean): boolean {
  const { packetsOut } = tcb.retransmitQueue;
  if (!tcb.sackOk || packetsOut === 0 || tcp.env.sysctl.tcpEarlyRetrans < 3) return false;
  if (tcb.caState !== CaState.open && tcb.caState !== CaState.cwr) return false;
  const slackNs = packetsOut === 1 ? tcp.rtoMinNs : TIMEOUT_MIN_NS;
  const probeNs = tcb.srttNs > 0 ? 2 * tcb.srttNs + slackNs : RTO_INITIAL_NS;
  const rtoNs = advancing ? tcb.rtoNs : rtoLeftNs(tcp, tcb);
  armXmitTimer(tcp, tcb, XmitTimer.lossProbe, rtoNs > 0 ? Math.min(probeNs, rtoNs) : probeNs);
  return true;
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
    const mss = currentMss(tcb);
    const end = Math.min(tcb.writtenOffset, tcb.sndWindowEnd, lo + mss);
    if (tcb.pushOffset < end) tcb.pushOffset = end;
    if (tcb.retransmitQueue.packetsOut === 0) restartAfterIdle(tcp, tcb);
    return sendNew(tcp, tcb, lo, end, mss) ? 0 : -Errno.ENOBUFS;
  }
  tcp.count(MibId.TcpExtTCPWinProbe);
  return sendProbe(tcp, tcb);
}

/** One new segment although the congestion window is full: a tail loss probe. False if it cannot go. */
export function sendBeyondWindow(tcp: TcpContext, tcb: Tcb): boolean {
  const lo = tcb.sndNxtOffset;
  const mss = currentMss(tcb);
  const end = Math.min(tcb.writtenOffset, lo + mss);
  return end <= tcb.sndWindowEnd && sendNew(tcp, tcb, lo, end, mss);
}

// ── the congestion window's use ───────────────────────────────────────────────────────────────────────────────────

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
  if (tcb.lastSentNs === 0) return;
  let idle = now - tcb.lastSentNs;
  tcb.congestion.onRestart(tcp, tcb, idle);
  if (tcp.env.sysctl.tcpSlowStartAfterIdle === 0 || idle <= tcb.rtoNs) return;
  const restart = Math.min(INITIAL_CWND_SEGMENTS, tcb.cwndSegments);
  tcb.ssthreshSegments = currentSsthresh(tcb);
  let cwnd = tcb.cwndSegments;
  for (idle -= tcb.rtoNs; idle > 0 && cwnd > restart; idle -= tcb.rtoNs) cwnd >>>= 1;
  tcb.cwndSegments = Math.max(cwnd, restart);
  tcb.cwndStampNs = now;
  tcb.cwndUsed = 0;
}
