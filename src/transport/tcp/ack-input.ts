/**
 * What an acknowledgement does (RFC 9293 §3.10.7.4 fifth; Linux tcp_ack): frees what is acknowledged, measures the
 * round trip, follows the window, feeds loss recovery and lets output go on.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { seqDiff, seqGt, seqLt } from "../../base/seq.ts";
import { MILLISECOND, type Ns } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import { Flag } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { type AckOutcome, Resend } from "./ack-outcome.ts";
import { sendChallengeAck } from "./challenge.ts";
import type { TcpContext } from "./context.ts";
import {
  armXmitTimer,
  probeBackoffNs,
  pushPending,
  rearmRto,
  retransmitLost,
  scheduleLossProbe,
  stopXmitTimer,
} from "./output.ts";
import { setPredictionFlags } from "./prediction.ts";
import { rackAdvance, updateReorderingWindow } from "./rack.ts";
import { controlWindow, onSuspiciousAck, removeRenoSacks } from "./recovery.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import { onRttSample } from "./rto.ts";
import { checkReordering, highestArrivedOffset, processSack } from "./sack.ts";
import { syncMss } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { onAckOfProbe } from "./tail-loss-probe.ts";
import { CaState, Nagle, Shutdown, type Tcb, XmitTimer } from "./tcb.ts";
import { isEchoBefore } from "./undo.ts";

/** perMss of Linux tcp_sndbuf_expand: payload, headers and descriptor of one segment, rounded up to a power of two. */
const SEGMENT_OVERHEAD_BYTES = 640;
const SKBUFF_BYTES = 256;

/**
 * Processes the acknowledgement of a segment. `DropReason.none` if it was acceptable, else why the segment must be
 * discarded. `slow` is false on the path of header prediction, which vouches for an unchanged window.
 */
export function processAck(tcp: TcpContext, tcb: Tcb, segment: Segment, slow: boolean): DropReason {
  const { ack } = segment;
  const outcome = tcp.ackOutcome;
  const hasSack = tcb.sackOk && segment.options.sackCount > 0;
  outcome.start(tcb.sndUnaOffset, highestArrivedOffset(tcb), tcb.deliveredSegments, tcb.lostTotal);
  if (segment.options.hasTimestamps) outcome.tsEcr = segment.options.tsEcr;
  if (seqLt(ack, tcb.sndUna)) {
    if (seqDiff(tcb.sndUna, ack) > tcb.maxWindow && tcb.maxWindow > 0) {
      sendChallengeAck(tcp, tcb);
      return DropReason.tcpTooOldAck;
    }
    if (hasSack) onOldAckWithSack(tcp, tcb, segment, outcome);
    return DropReason.none;
  }
  if (seqGt(ack, tcb.sndNxt)) return DropReason.tcpAckUnsentData;

  const ackOffset = tcb.sentOffset(ack);
  outcome.advanced = ackOffset > tcb.sndUnaOffset;
  if (!slow && outcome.advanced) {
    tcb.sndWl1 = segment.seq;
    outcome.notDuplicate = true;
    tcp.count(MibId.TcpExtTCPHPAcks);
  } else {
    const isPure = segment.seq === segment.end;
    if (isPure) tcp.count(MibId.TcpExtTCPPureAcks);
    const windowChanged = updateWindow(tcp, tcb, segment, ackOffset);
    outcome.notDuplicate = !isPure || windowChanged;
    if (hasSack) processSack(tcp, tcb, segment, outcome);
  }
  if (outcome.advanced) {
    tcb.setSndUna(ackOffset);
    tcb.timeouts = 0;
  }
  tcb.softError = 0;
  tcb.probesOut = 0;
  tcb.lastAckNs = tcp.nowNs;
  if (tcb.retransmitQueue.packetsOut === 0) onAckOfNothing(tcp, tcb, outcome);
  else onAckOfData(tcp, tcb, ackOffset, outcome);
  return DropReason.none;
}

/** Something was in flight when the ACK came. */
function onAckOfData(tcp: TcpContext, tcb: Tcb, ackOffset: number, outcome: AckOutcome): void {
  cleanRetransmitQueue(tcp, tcb, ackOffset, outcome);
  updateReorderingWindow(tcp, tcb, outcome);
  if (tcb.probeHighOffset >= 0) onAckOfProbe(tcp, tcb, outcome);
  const isDsack = outcome.dsackSegments > 0;
  if (tcb.caState !== CaState.open || outcome.sacked || isDsack || !outcome.notDuplicate) {
    outcome.duplicate = !outcome.advanced && !outcome.notDuplicate && !isDsack;
    onSuspiciousAck(tcp, tcb, outcome);
  }
  if (outcome.setTimer && !scheduleLossProbe(tcp, tcb, true)) rearmRto(tcp, tcb);
  controlWindow(tcp, tcb, outcome);
  resendAfter(tcp, tcb, outcome);
  if (outcome.advanced && tcp.traced(tcb.connId)) {
    const acked = Math.min(Math.max(ackOffset, 0), tcb.writtenOffset);
    tcp.env.trace.stamp(Point.acked, tcb.connId, acked, tcb.cwndSegments * tcb.mssBytes);
  }
  tcp.dropRetransmitQueue(tcb);
}

/** What recovery has decided may go again goes, as far as the window now allows (Linux tcp_xmit_recovery). */
function resendAfter(tcp: TcpContext, tcb: Tcb, outcome: AckOutcome): void {
  if (outcome.resend === Resend.nothing) return;
  if (outcome.resend === Resend.unsent) {
    pushPending(tcp, tcb, Nagle.off);
    if (tcb.sndNxtOffset > tcb.highOffset) return;
    tcb.frto = false;
  }
  retransmitLost(tcp, tcb);
}

/** An ACK while nothing is in flight: DSACKs may undo a reduction, or it opened the window (tcp_ack_probe). */
function onAckOfNothing(tcp: TcpContext, tcb: Tcb, outcome: AckOutcome): void {
  if (outcome.dsackSegments > 0) {
    updateReorderingWindow(tcp, tcb, outcome);
    onSuspiciousAck(tcp, tcb, outcome);
  }
  if (tcb.probeHighOffset >= 0) onAckOfProbe(tcp, tcb, outcome);
  if (!tcb.hasUnsent || tcb.xmitTimerKind !== XmitTimer.probe) return;
  const lo = tcb.sndNxtOffset;
  const len = Math.min(tcb.writtenOffset - lo, tcb.mssBytes);
  if (lo + len <= tcb.sndWindowEnd) {
    tcb.backoff = 0;
    tcb.probesStartNs = 0;
    stopXmitTimer(tcp, tcb);
  } else {
    armXmitTimer(tcp, tcb, XmitTimer.probe, probeBackoffNs(tcp, tcb));
  }
}

/** RFC 9293 SND.WND update; true if the window changed (Linux tcp_ack_update_window). */
function updateWindow(tcp: TcpContext, tcb: Tcb, segment: Segment, ackOffset: number): boolean {
  const scaled = (segment.flags & Flag.syn) !== 0 ? segment.window : segment.window << tcb.sndWindowScale;
  const isNewer =
    ackOffset > tcb.sndUnaOffset ||
    seqGt(segment.seq, tcb.sndWl1) ||
    (segment.seq === tcb.sndWl1 && (scaled > tcb.sndWnd || scaled === 0));
  if (!isNewer) return false;
  tcb.sndWl1 = segment.seq;
  const old = tcb.sndWnd;
  if (old === scaled) return true;
  tcb.sndWnd = scaled;
  if ((old === 0) !== (scaled === 0) && tcp.traced(tcb.connId)) {
    tcp.env.trace.stamp(Point.zeroWindow, tcb.connId, scaled === 0 ? 1 : 0, Math.max(0, ackOffset));
  }
  tcb.predFlags = 0;
  setPredictionFlags(tcb);
  if (scaled > tcb.maxWindow) {
    tcb.maxWindow = scaled;
    syncMss(tcb);
  }
  return true;
}

/** Takes acknowledged segments out, frees their bytes, and measures the round trip (Linux tcp_clean_rtx_queue). */
function cleanRetransmitQueue(tcp: TcpContext, tcb: Tcb, ackOffset: number, outcome: AckOutcome): void {
  const queue = tcb.retransmitQueue;
  let firstSentNs = -1;
  let lastSentNs = -1;
  let lowestFirstCopy = Number.POSITIVE_INFINITY;
  for (let head = queue.head; head !== null && head.hi <= ackOffset; head = queue.head) {
    queue.removeHead();
    outcome.ackedSegments++;
    if (head.retransmits > 0) {
      outcome.retransmittedAcked = true;
    } else if (!head.sacked) {
      if (firstSentNs < 0) firstSentNs = head.sentNs;
      lastSentNs = head.sentNs;
      if (head.lo < lowestFirstCopy) lowestFirstCopy = head.lo;
      if (head.hi <= tcb.highOffset) outcome.originalAcked = true;
    }
    if ((head.flags & Flag.syn) === 0) outcome.dataAcked = true;
    if (tcb.sackOk && !head.sacked) {
      tcb.deliveredSegments++;
      tcp.count(MibId.TcpExtTCPDelivered);
      if (!isNeedless(tcb, head, outcome)) rackAdvance(tcp, tcb, head);
    }
    tcp.sentSegments.put(head);
  }
  tcb.sendQueue.acknowledge(ackOffset);
  tcp.dropSendQueue(tcb);
  outcome.reneged = queue.head?.sacked === true;
  const firstRttNs = firstSentNs < 0 || outcome.retransmittedAcked ? -1 : tcp.nowNs - firstSentNs;
  const lastRttNs = firstRttNs < 0 ? -1 : tcp.nowNs - lastSentNs;
  const hasSample = sampleRtt(tcp, tcb, firstRttNs, lastRttNs, outcome);
  if (outcome.ackedSegments > 0) {
    outcome.setTimer = true;
    outcome.notDuplicate = true;
    if (!tcb.sackOk) {
      removeRenoSacks(tcp, tcb, outcome.ackedSegments);
      // Nothing says which copy arrived.
      if (outcome.retransmittedAcked) outcome.originalAcked = false;
    } else if (lowestFirstCopy < outcome.priorHighestOffset) {
      // A hole that was never sent again got filled: reordering.
      checkReordering(tcp, tcb, lowestFirstCopy, false);
    }
  } else if (hasSample && queue.head !== null && outcome.firstSackedNs >= 0) {
    // Sacked data that was sent before the head went (again) must not put its timeout off.
    outcome.setTimer = outcome.firstSackedNs < queue.head.sentNs;
  }
}

/** A retransmission is acknowledged by an echo of an older timestamp: it was the original that arrived. */
function isNeedless(tcb: Tcb, segment: SentSegment, outcome: AckOutcome): boolean {
  return segment.retransmits > 0 && outcome.tsEcr !== 0 && isEchoBefore(tcb, outcome.tsEcr, segment.sentNs);
}

/**
 * Takes a round trip in, by the clock or else by timestamps: by Karn's rule a segment sent twice has none, unless the
 * echo tells which copy was acknowledged. True if there was one (Linux tcp_ack_update_rtt).
 */
function sampleRtt(tcp: TcpContext, tcb: Tcb, firstRttNs: Ns, lastRttNs: Ns, outcome: AckOutcome): boolean {
  let sample = firstRttNs;
  let latest = lastRttNs;
  if (outcome.firstSackedNs >= 0) {
    latest = tcp.nowNs - outcome.lastSackedNs;
    if (sample < 0) sample = tcp.nowNs - outcome.firstSackedNs;
  }
  if (sample < 0 && tcb.timestampsOk && outcome.tsEcr !== 0 && outcome.ackedSegments > 0) {
    const ticks = (tcp.timestamp(tcb.tsOffset) - outcome.tsEcr) | 0;
    if (ticks >= 0) sample = latest = Math.max(ticks, 1) * MILLISECOND;
  }
  if (sample < 0) return false;
  onRttSample(tcp, tcb, sample, latest);
  tcb.congestion.onRtt(tcp, tcb, latest);
  return true;
}

/** An old ACK still brings news by SACK. */
function onOldAckWithSack(tcp: TcpContext, tcb: Tcb, segment: Segment, outcome: AckOutcome): void {
  processSack(tcp, tcb, segment, outcome);
  onSuspiciousAck(tcp, tcb, outcome);
  resendAfter(tcp, tcb, outcome);
}

/** Lets the send buffer follow the congestion window (Linux tcp_sndbuf_expand). */
export function expandSendBuffer(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.sndbufLocked) return;
  const raw = Math.max(tcb.mssClampBytes, tcb.mssBytes) + SEGMENT_OVERHEAD_BYTES;
  const perSegment = 2 ** Math.ceil(Math.log2(raw)) + SKBUFF_BYTES;
  const segments = Math.max(10, tcb.cwndSegments, tcb.reorderingSegments + 1);
  const target = Math.min(2 * segments * perSegment, tcp.env.sysctl.tcpWmemMax);
  if (target > tcb.sndbufBytes) tcb.sndbufBytes = target;
}

/** Wakes a writer once at least a third of the buffer is free (Linux tcp_check_space, sk_stream_is_writeable). */
export function checkSendSpace(tcp: TcpContext, tcb: Tcb): void {
  if (!tcb.noSpace) return;
  tcb.starved = false;
  if (tcb.retransmitQueue.inFlight < tcb.cwndSegments) expandSendBuffer(tcp, tcb);
  if (!isWriteable(tcb)) return;
  tcb.noSpace = false;
  tcb.upcalls.writable();
}

/** EPOLLOUT: free space is at least half of what is queued, and unsent bytes are below TCP_NOTSENT_LOWAT. */
export function isWriteable(tcb: Tcb): boolean {
  if ((tcb.shutdown & Shutdown.send) !== 0) return true;
  if (tcb.starved) return false;
  const queued = tcb.sendQueue.length;
  const unsent = tcb.writtenOffset - Math.max(0, tcb.sndNxtOffset);
  return tcb.state !== TcpState.synSent && tcb.sndbufBytes - queued >= queued >>> 1 && unsent < tcb.notsentLowat;
}
