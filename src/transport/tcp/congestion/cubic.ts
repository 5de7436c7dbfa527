/**
 * CUBIC (RFC 9438; Linux tcp_cubic.c): after a loss the window returns along a cubic curve, steep far from the window
 * of that loss, flat near it, and independent of the round-trip time. HyStart leaves slow start before it loses: when a
 * train of ACKs grows as long as half a round trip, or when round trips begin to lengthen.
 *
 * Linux counts time in jiffies of 4 ms (HZ = 250) and in 1/1024 s; here it is nanoseconds and seconds, and the curve is
 * W(t) = 0.4 (t − K)³ + origin in segments, with 410/1024 for 0.4 as in Linux.
 */
import { MibId } from "../../../base/mib.ts";
import { MILLISECOND, type Ns, SECOND } from "../../../base/time.ts";
import type { TcpContext } from "../context.ts";
import type { Tcb } from "../tcb.ts";
import type { CongestionControl } from "./congestion-control.ts";
import { additiveIncrease, isCwndLimited, slowStart } from "./cwnd.ts";

/** What is left of the window after a loss: 717/1024 = 0.7 (RFC 9438 §4.6). */
const BETA = 717 / 1024;
/** C of the curve, in segments per second cubed (RFC 9438 §4.1). */
const C = 410 / 1024;
/** ACKs in which Reno with β = 0.7 would grow by a segment, per segment of window: Linux's beta_scale 15 / 8. */
const RENO_ACKS_PER_SEGMENT = 15 / 8;
/** Before the first loss the window grows by a twentieth per round trip at least. */
const MAX_ACKS_BEFORE_LOSS = 20;
/** The curve never asks for more than one segment per two that are acknowledged. */
const MIN_ACKS = 2;
/** One jiffy: the curve is computed once in it. */
const JIFFY_NS = 4 * MILLISECOND;
/** HZ / 32, whole jiffies: with an unchanged window the curve is computed no more often. */
const UPDATE_INTERVAL_NS = 7 * JIFFY_NS;

/** HyStart acts from this window on. */
const HYSTART_LOW_WINDOW_SEGMENTS = 16;
/** ACKs that follow each other as fast as this belong to one train. */
const HYSTART_ACK_DELTA_NS = 2 * MILLISECOND;
/** Round trips looked at in each round before their least is believed. */
const HYSTART_MIN_SAMPLES = 8;
/** How much longer than the least an RTT must be: an eighth, between these. */
const HYSTART_DELAY_MIN_NS = 4 * MILLISECOND;
const HYSTART_DELAY_MAX_NS = 16 * MILLISECOND;
/** GSO_MAX_SIZE: the largest burst of ACKs a train may owe to super-segments. */
const GSO_MAX_BYTES = 65536;

export class Cubic implements CongestionControl {
  readonly name = "cubic";

  onAck(tcp: TcpContext, tcb: Tcb, deliveredSegments: number): void {
    if (!isCwndLimited(tcb)) return;
    let acked = deliveredSegments;
    if (tcb.cwndSegments < tcb.ssthreshSegments) {
      acked = slowStart(tcb, acked);
      if (acked === 0) return;
    }
    update(tcb, tcp.nowNs, acked);
    additiveIncrease(tcb, tcb.cubicAcksPerSegment, acked);
  }

  ssthresh(tcb: Tcb): number {
    const cwnd = tcb.cwndSegments;
    tcb.cubicEpochStartNs = -1;
    tcb.cubicLastMaxSegments = cwnd < tcb.cubicLastMaxSegments ? Math.floor((cwnd * (1 + BETA)) / 2) : cwnd;
    return Math.max(Math.floor(cwnd * BETA), 2);
  }

  onRtt(tcp: TcpContext, tcb: Tcb, rttNs: Ns): void {
    const now = tcp.nowNs;
    // Round trips measured right after a loss belong to the queue that overflowed.
    if (tcb.cubicEpochStartNs >= 0 && now - tcb.cubicEpochStartNs < SECOND) return;
    const delayNs = Math.max(rttNs, 1);
    if (tcb.cubicDelayMinNs === 0 || delayNs < tcb.cubicDelayMinNs) tcb.cubicDelayMinNs = delayNs;
    if (tcb.hystartFound === 0 && tcb.cwndSegments < tcb.ssthreshSegments) hystart(tcp, tcb, delayNs);
  }

  start(tcb: Tcb): void {
    forgetPath(tcb);
    tcb.hystartRoundStartNs = 0;
    tcb.hystartLastAckNs = 0;
    tcb.hystartRoundEndOffset = -1;
    tcb.hystartRoundRttNs = Number.POSITIVE_INFINITY;
    tcb.hystartSamples = 0;
  }

  onTimeout(tcp: TcpContext, tcb: Tcb): void {
    forgetPath(tcb);
    startRound(tcp.nowNs, tcb);
  }

  /** The curve does not go on while the application is idle. */
  onRestart(tcp: TcpContext, tcb: Tcb, idleNs: Ns): void {
    if (tcb.cubicEpochStartNs < 0 || idleNs <= 0) return;
    tcb.cubicEpochStartNs = Math.min(tcb.cubicEpochStartNs + idleNs, tcp.nowNs);
  }
}

/** What was learnt of the path is void (bictcp_reset). */
function forgetPath(tcb: Tcb): void {
  tcb.cubicAcksPerSegment = 0;
  tcb.cubicLastMaxSegments = 0;
  tcb.cubicLastCwndSegments = 0;
  tcb.cubicLastUpdateNs = 0;
  tcb.cubicOriginSegments = 0;
  tcb.cubicKSeconds = 0;
  tcb.cubicDelayMinNs = 0;
  tcb.cubicEpochStartNs = -1;
  tcb.cubicRenoSegments = 0;
  tcb.cubicRenoAcks = 0;
  tcb.hystartFound = 0;
}

/** How many segments must be acknowledged for one more in the window (bictcp_update). */
function update(tcb: Tcb, nowNs: Ns, acked: number): void {
  const cwnd = tcb.cwndSegments;
  tcb.cubicRenoAcks += acked;
  const sinceNs = nowNs - tcb.cubicLastUpdateNs;
  if (tcb.cubicLastCwndSegments === cwnd && sinceNs <= UPDATE_INTERVAL_NS) return;
  if (tcb.cubicEpochStartNs < 0 || sinceNs >= JIFFY_NS) {
    tcb.cubicLastCwndSegments = cwnd;
    tcb.cubicLastUpdateNs = nowNs;
    if (tcb.cubicEpochStartNs < 0) startEpoch(tcb, nowNs, acked);
    tcb.cubicAcksPerSegment = followCurve(tcb, nowNs);
  }
  tcb.cubicAcksPerSegment = Math.max(Math.min(tcb.cubicAcksPerSegment, renoLimit(tcb)), MIN_ACKS);
}

function startEpoch(tcb: Tcb, nowNs: Ns, acked: number): void {
  const cwnd = tcb.cwndSegments;
  tcb.cubicEpochStartNs = nowNs;
  tcb.cubicRenoAcks = acked;
  tcb.cubicRenoSegments = cwnd;
  const below = tcb.cubicLastMaxSegments - cwnd;
  tcb.cubicKSeconds = below > 0 ? Math.cbrt(below / C) : 0;
  tcb.cubicOriginSegments = below > 0 ? tcb.cubicLastMaxSegments : cwnd;
}

/** The distance to where the curve will be one least RTT from now. */
function followCurve(tcb: Tcb, nowNs: Ns): number {
  const cwnd = tcb.cwndSegments;
  const t = (nowNs - tcb.cubicEpochStartNs + tcb.cubicDelayMinNs) / SECOND - tcb.cubicKSeconds;
  const target = tcb.cubicOriginSegments + Math.sign(t) * Math.floor(C * Math.abs(t) ** 3);
  const acks = target > cwnd ? Math.floor(cwnd / (target - cwnd)) : 100 * cwnd;
  return tcb.cubicLastMaxSegments === 0 ? Math.min(acks, MAX_ACKS_BEFORE_LOSS) : acks;
}

/** Never slower than Reno would be (tcp_friendliness). */
function renoLimit(tcb: Tcb): number {
  const cwnd = tcb.cwndSegments;
  const step = Math.floor(cwnd * RENO_ACKS_PER_SEGMENT);
  while (tcb.cubicRenoAcks > step) {
    tcb.cubicRenoAcks -= step;
    tcb.cubicRenoSegments++;
  }
  const ahead = tcb.cubicRenoSegments - cwnd;
  return ahead > 0 ? Math.floor(cwnd / ahead) : Number.POSITIVE_INFINITY;
}

// ── HyStart ─────────────────────────────────────────────────────────────────────────────────────────────────────

function startRound(nowNs: Ns, tcb: Tcb): void {
  tcb.hystartRoundStartNs = nowNs;
  tcb.hystartLastAckNs = nowNs;
  tcb.hystartRoundEndOffset = tcb.sndNxtOffset;
  tcb.hystartRoundRttNs = Number.POSITIVE_INFINITY;
  tcb.hystartSamples = 0;
}

function hystart(tcp: TcpContext, tcb: Tcb, delayNs: Ns): void {
  const now = tcp.nowNs;
  if (tcb.sndUnaOffset > tcb.hystartRoundEndOffset) startRound(now, tcb);
  if (tcb.cwndSegments < HYSTART_LOW_WINDOW_SEGMENTS) return;
  if (now - tcb.hystartLastAckNs <= HYSTART_ACK_DELTA_NS) {
    tcb.hystartLastAckNs = now;
    const trainNs = (tcb.cubicDelayMinNs + ackDelayNs(tcb)) / 2;
    if (now - tcb.hystartRoundStartNs > trainNs) {
      leaveSlowStart(tcp, tcb, MibId.TcpExtTCPHystartTrainDetect, MibId.TcpExtTCPHystartTrainCwnd);
    }
  }
  tcb.hystartRoundRttNs = Math.min(tcb.hystartRoundRttNs, delayNs);
  if (tcb.hystartSamples < HYSTART_MIN_SAMPLES) {
    tcb.hystartSamples++;
    return;
  }
  const slack = Math.min(Math.max(tcb.cubicDelayMinNs / 8, HYSTART_DELAY_MIN_NS), HYSTART_DELAY_MAX_NS);
  if (tcb.hystartRoundRttNs > tcb.cubicDelayMinNs + slack) {
    leaveSlowStart(tcp, tcb, MibId.TcpExtTCPHystartDelayDetect, MibId.TcpExtTCPHystartDelayCwnd);
  }
}

function leaveSlowStart(tcp: TcpContext, tcb: Tcb, events: number, windows: number): void {
  tcb.hystartFound = 1;
  tcp.count(events);
  tcp.env.mib.values[windows] += tcb.cwndSegments;
  tcb.ssthreshSegments = tcb.cwndSegments;
}

/** What four of the largest super-segments need at the rate of the window, 1 ms at most (hystart_ack_delay). */
function ackDelayNs(tcb: Tcb): Ns {
  if (tcb.srttNs === 0) return 0;
  const ratio = tcb.cwndSegments < tcb.ssthreshSegments / 2 ? 2 : 1.2;
  const bytesPerNs = (ratio * tcb.mssBytes * Math.max(tcb.cwndSegments, tcb.retransmitQueue.packetsOut)) / tcb.srttNs;
  return Math.min(MILLISECOND, (4 * GSO_MAX_BYTES) / bytesPerNs);
}
