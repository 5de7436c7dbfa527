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

  /** Acknowledged segments per segment of growth, now. */
  private acksPerSegment = 0;
  /** Window before the last loss; a flow that gives way remembers less (fast convergence). 0: no loss yet. */
  private lastMaxSegments = 0;
  /** Where the curve is flat, and how long after its beginning. */
  private originSegments = 0;
  private kSeconds = 0;
  /** Least round trip, 0 = none seen. */
  private delayMinNs: Ns = 0;
  /** When the curve began, −1 = it begins at the next ACK. */
  private epochStartNs: Ns = -1;
  private lastUpdateNs: Ns = 0;
  private lastCwndSegments = 0;
  /** The window Reno would have, and the ACKs towards its next segment (RFC 9438 §4.3). */
  private renoSegments = 0;
  private renoAcks = 0;

  /** HyStart: it has found the end of slow start; of the present round its begin, end, last ACK, least RTT, samples. */
  private found = false;
  private roundStartNs: Ns = 0;
  private roundEndOffset = -1;
  private lastAckNs: Ns = 0;
  private roundRttNs: Ns = Number.POSITIVE_INFINITY;
  private samples = 0;

  onAck(tcp: TcpContext, tcb: Tcb, deliveredSegments: number): void {
    if (!isCwndLimited(tcb)) return;
    let acked = deliveredSegments;
    if (tcb.cwndSegments < tcb.ssthreshSegments) {
      acked = slowStart(tcb, acked);
      if (acked === 0) return;
    }
    this.update(tcp.nowNs, tcb.cwndSegments, acked);
    additiveIncrease(tcb, this.acksPerSegment, acked);
  }

  ssthresh(tcb: Tcb): number {
    const cwnd = tcb.cwndSegments;
    this.epochStartNs = -1;
    this.lastMaxSegments = cwnd < this.lastMaxSegments ? Math.floor((cwnd * (1 + BETA)) / 2) : cwnd;
    return Math.max(Math.floor(cwnd * BETA), 2);
  }

  onRtt(tcp: TcpContext, tcb: Tcb, rttNs: Ns): void {
    const now = tcp.nowNs;
    // Round trips measured right after a loss belong to the queue that overflowed.
    if (this.epochStartNs >= 0 && now - this.epochStartNs < SECOND) return;
    const delayNs = Math.max(rttNs, 1);
    if (this.delayMinNs === 0 || delayNs < this.delayMinNs) this.delayMinNs = delayNs;
    if (!this.found && tcb.cwndSegments < tcb.ssthreshSegments) this.hystart(tcp, tcb, delayNs);
  }

  onTimeout(tcp: TcpContext, tcb: Tcb): void {
    this.acksPerSegment = 0;
    this.lastMaxSegments = 0;
    this.lastCwndSegments = 0;
    this.lastUpdateNs = 0;
    this.originSegments = 0;
    this.kSeconds = 0;
    this.delayMinNs = 0;
    this.epochStartNs = -1;
    this.renoSegments = 0;
    this.renoAcks = 0;
    this.found = false;
    this.startRound(tcp.nowNs, tcb);
  }

  /** The curve does not go on while the application is idle. */
  onRestart(tcp: TcpContext, idleNs: Ns): void {
    if (this.epochStartNs < 0 || idleNs <= 0) return;
    this.epochStartNs = Math.min(this.epochStartNs + idleNs, tcp.nowNs);
  }

  /** How many segments must be acknowledged for one more in the window (bictcp_update). */
  private update(nowNs: Ns, cwnd: number, acked: number): void {
    this.renoAcks += acked;
    const sinceNs = nowNs - this.lastUpdateNs;
    if (this.lastCwndSegments === cwnd && sinceNs <= UPDATE_INTERVAL_NS) return;
    if (this.epochStartNs < 0 || sinceNs >= JIFFY_NS) {
      this.lastCwndSegments = cwnd;
      this.lastUpdateNs = nowNs;
      if (this.epochStartNs < 0) this.startEpoch(nowNs, cwnd, acked);
      this.acksPerSegment = this.followCurve(nowNs, cwnd);
    }
    this.acksPerSegment = Math.max(Math.min(this.acksPerSegment, this.renoLimit(cwnd)), MIN_ACKS);
  }

  private startEpoch(nowNs: Ns, cwnd: number, acked: number): void {
    this.epochStartNs = nowNs;
    this.renoAcks = acked;
    this.renoSegments = cwnd;
    const below = this.lastMaxSegments - cwnd;
    this.kSeconds = below > 0 ? Math.cbrt(below / C) : 0;
    this.originSegments = below > 0 ? this.lastMaxSegments : cwnd;
  }

  /** The distance to where the curve will be one least RTT from now. */
  private followCurve(nowNs: Ns, cwnd: number): number {
    const t = (nowNs - this.epochStartNs + this.delayMinNs) / SECOND - this.kSeconds;
    const target = this.originSegments + Math.sign(t) * Math.floor(C * Math.abs(t) ** 3);
    const acks = target > cwnd ? Math.floor(cwnd / (target - cwnd)) : 100 * cwnd;
    return this.lastMaxSegments === 0 ? Math.min(acks, MAX_ACKS_BEFORE_LOSS) : acks;
  }

  /** Never slower than Reno would be (tcp_friendliness). */
  private renoLimit(cwnd: number): number {
    const step = Math.floor(cwnd * RENO_ACKS_PER_SEGMENT);
    while (this.renoAcks > step) {
      this.renoAcks -= step;
      this.renoSegments++;
    }
    const ahead = this.renoSegments - cwnd;
    return ahead > 0 ? Math.floor(cwnd / ahead) : Number.POSITIVE_INFINITY;
  }

  // ── HyStart ─────────────────────────────────────────────────────────────────────────────────────────────────────

  private startRound(nowNs: Ns, tcb: Tcb): void {
    this.roundStartNs = nowNs;
    this.lastAckNs = nowNs;
    this.roundEndOffset = tcb.sndNxtOffset;
    this.roundRttNs = Number.POSITIVE_INFINITY;
    this.samples = 0;
  }

  private hystart(tcp: TcpContext, tcb: Tcb, delayNs: Ns): void {
    const now = tcp.nowNs;
    if (tcb.sndUnaOffset > this.roundEndOffset) this.startRound(now, tcb);
    if (tcb.cwndSegments < HYSTART_LOW_WINDOW_SEGMENTS) return;
    if (now - this.lastAckNs <= HYSTART_ACK_DELTA_NS) {
      this.lastAckNs = now;
      const trainNs = (this.delayMinNs + ackDelayNs(tcb)) / 2;
      if (now - this.roundStartNs > trainNs) {
        this.leaveSlowStart(tcp, tcb, MibId.TcpExtTCPHystartTrainDetect, MibId.TcpExtTCPHystartTrainCwnd);
      }
    }
    this.roundRttNs = Math.min(this.roundRttNs, delayNs);
    if (this.samples < HYSTART_MIN_SAMPLES) {
      this.samples++;
      return;
    }
    const slack = Math.min(Math.max(this.delayMinNs / 8, HYSTART_DELAY_MIN_NS), HYSTART_DELAY_MAX_NS);
    if (this.roundRttNs > this.delayMinNs + slack) {
      this.leaveSlowStart(tcp, tcb, MibId.TcpExtTCPHystartDelayDetect, MibId.TcpExtTCPHystartDelayCwnd);
    }
  }

  private leaveSlowStart(tcp: TcpContext, tcb: Tcb, events: number, windows: number): void {
    this.found = true;
    tcp.count(events);
    tcp.env.mib.values[windows] += tcb.cwndSegments;
    tcb.ssthreshSegments = tcb.cwndSegments;
  }
}

/** What four of the largest super-segments need at the rate of the window, 1 ms at most (hystart_ack_delay). */
function ackDelayNs(tcb: Tcb): Ns {
  if (tcb.srttNs === 0) return 0;
  const ratio = tcb.cwndSegments < tcb.ssthreshSegments / 2 ? 2 : 1.2;
  const bytesPerNs = (ratio * tcb.mssBytes * Math.max(tcb.cwndSegments, tcb.retransmitQueue.packetsOut)) / tcb.srttNs;
  return Math.min(MILLISECOND, (4 * GSO_MAX_BYTES) / bytesPerNs);
}
