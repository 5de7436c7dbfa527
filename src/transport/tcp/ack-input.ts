/**
 * What an acknowledgement does (RFC 9293 §3.10.7.4 fifth; Linux tcp_ack): frees what is acknowledged, measures the
 * round trip, follows the window, feeds loss recovery and lets output go on.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { seqDiff, seqGt, seqLt } from "../../base/seq.ts";
import { MILLISECOND } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import { Flag, type TcpOptions } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import { sendChallengeAck } from "./challenge.ts";
import type { TcpContext } from "./context.ts";
import { armXmitTimer, probeBackoffNs, rearmRto, retransmitLost, stopXmitTimer } from "./output.ts";
import { setPredictionFlags } from "./prediction.ts";
import { controlWindow, onSuspiciousAck, removeRenoSacks } from "./recovery.ts";
import { onRttSample } from "./rto.ts";
import { syncMss } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { CaState, Shutdown, type Tcb, XmitTimer } from "./tcb.ts";

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
  startOutcome(tcb, segment, outcome);
  if (seqLt(ack, tcb.sndUna)) {
    if (seqDiff(tcb.sndUna, ack) > tcb.maxWindow && tcb.maxWindow > 0) {
      sendChallengeAck(tcp, tcb);
      return DropReason.tcpTooOldAck;
    }
    if (tcb.sackOk && segment.options.sackCount > 0) onOldAckWithSack(tcp, tcb, segment, outcome);
    return DropReason.none;
  }
  if (seqGt(ack, tcb.sndNxt)) return DropReason.tcpAckUnsentData;

  const ackOffset = tcb.sentOffset(ack);
  outcome.advanced = ackOffset > tcb.sndUnaOffset;
  let windowChanged = false;
  if (!slow && outcome.advanced) {
    tcb.sndWl1 = segment.seq;
    windowChanged = true;
    tcp.count(MibId.TcpExtTCPHPAcks);
  } else {
    if (segment.seq === segment.end) tcp.count(MibId.TcpExtTCPPureAcks);
    windowChanged = updateWindow(tcp, tcb, segment, ackOffset);
    if (tcb.sackOk && segment.options.sackCount > 0) outcome.sacked = markSacked(tcp, tcb, segment.options);
  }
  if (outcome.advanced) {
    tcb.bytesAcked += ackOffset - Math.max(0, tcb.sndUnaOffset);
    tcb.setSndUna(ackOffset);
    tcb.timeouts = 0;
  }
  tcb.softError = 0;
  tcb.probesOut = 0;
  tcb.lastAckNs = tcp.nowNs;
  if (tcb.retransmitQueue.packetsOut === 0) onAckOfNothing(tcp, tcb);
  else onAckOfData(tcp, tcb, segment, ackOffset, windowChanged, outcome);
  return DropReason.none;
}

function startOutcome(tcb: Tcb, segment: Segment, outcome: AckOutcome): void {
  outcome.advanced = false;
  outcome.dataAcked = false;
  outcome.duplicate = false;
  outcome.sacked = false;
  outcome.ackedSegments = 0;
  outcome.retransmittedAcked = false;
  outcome.deliveredBefore = tcb.deliveredSegments;
  outcome.lostBefore = tcb.lostTotal;
  outcome.tsEcr = segment.options.hasTimestamps ? segment.options.tsEcr : 0;
}

/** Something was in flight when the ACK came. */
function onAckOfData(
  tcp: TcpContext,
  tcb: Tcb,
  segment: Segment,
  ackOffset: number,
  windowChanged: boolean,
  outcome: AckOutcome,
): void {
  cleanRetransmitQueue(tcp, tcb, ackOffset, outcome);
  outcome.duplicate =
    !outcome.advanced &&
    !windowChanged &&
    segment.payloadLen === 0 &&
    (segment.flags & (Flag.syn | Flag.fin)) === 0 &&
    !(tcb.sackOk && !outcome.sacked);
  const suspicious =
    tcb.caState !== CaState.open ||
    outcome.sacked ||
    !(segment.payloadLen > 0 || windowChanged || outcome.ackedSegments > 0);
  if (suspicious) onSuspiciousAck(tcp, tcb, outcome);
  if (outcome.ackedSegments > 0) rearmRto(tcp, tcb);
  controlWindow(tcp, tcb, outcome);
  retransmitLost(tcp, tcb);
  if (outcome.advanced && tcp.traced(tcb.connId)) {
    const acked = Math.min(Math.max(ackOffset, 0), tcb.sendQueue.endOffset);
    tcp.env.trace.stamp(Point.acked, tcb.connId, acked, tcb.cwndSegments * tcb.mssBytes);
  }
}

/** An ACK while nothing is in flight: it may have opened the window (Linux tcp_ack_probe). */
function onAckOfNothing(tcp: TcpContext, tcb: Tcb): void {
  if (!tcb.hasUnsent || tcb.xmitTimerKind !== XmitTimer.probe) return;
  const lo = tcb.sndNxtOffset;
  const len = Math.min(tcb.sendQueue.endOffset - lo, tcb.mssBytes);
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
  const now = tcp.nowNs;
  let firstSentNs = -1;
  for (let head = queue.head; head !== null && head.hi <= ackOffset; head = queue.head) {
    queue.removeHead();
    outcome.ackedSegments++;
    if (head.retransmits > 0) outcome.retransmittedAcked = true;
    else if (firstSentNs < 0 && !head.sacked) firstSentNs = head.sentNs;
    if ((head.flags & Flag.syn) === 0) outcome.dataAcked = true;
    if (tcb.sackOk && !head.sacked) {
      tcb.deliveredSegments++;
      tcp.count(MibId.TcpExtTCPDelivered);
    }
    tcp.sentSegments.put(head);
  }
  tcb.sendQueue.acknowledge(ackOffset);
  if (outcome.ackedSegments === 0) return;
  removeRenoSacks(tcp, tcb, outcome.ackedSegments);
  sampleRtt(tcp, tcb, firstSentNs < 0 || outcome.retransmittedAcked ? -1 : now - firstSentNs, outcome);
}

/** Karn's rule: a retransmitted segment gives no sample, unless timestamps tell which copy was acknowledged. */
function sampleRtt(tcp: TcpContext, tcb: Tcb, rttNs: number, outcome: AckOutcome): void {
  let sample = rttNs;
  if (sample < 0 && tcb.timestampsOk && outcome.tsEcr !== 0) {
    const ticks = (tcp.timestamp(tcb.tsOffset) - outcome.tsEcr) | 0;
    if (ticks >= 0) sample = Math.max(ticks, 1) * MILLISECOND;
  }
  if (sample >= 0) onRttSample(tcp, tcb, sample);
}

/** Marks segments the SACK blocks cover; true if any is new (RFC 2018 §5; Linux tcp_sacktag_write_queue). */
function markSacked(tcp: TcpContext, tcb: Tcb, options: TcpOptions): boolean {
  const queue = tcb.retransmitQueue;
  let found = false;
  for (let i = 0; i < options.sackCount; i++) {
    const left = tcb.sentOffset(options.sackBlocks[2 * i]);
    const right = tcb.sentOffset(options.sackBlocks[2 * i + 1]);
    if (right <= tcb.sndUnaOffset) {
      if (i === 0) tcp.count(MibId.TcpExtTCPDSACKRecv);
      continue;
    }
    if (left >= right || right > tcb.sndNxtOffset || left < tcb.sndUnaOffset) {
      tcp.count(MibId.TcpExtTCPSACKDiscard);
      continue;
    }
    for (let s = queue.head; s !== null && s.lo < right; s = s.next) {
      if (s.sacked || s.lo < left || s.hi > right) continue;
      queue.markSacked(s);
      tcb.deliveredSegments++;
      tcp.count(MibId.TcpExtTCPDelivered);
      found = true;
    }
  }
  return found;
}

/** An old ACK still brings news by SACK. */
function onOldAckWithSack(tcp: TcpContext, tcb: Tcb, segment: Segment, outcome: AckOutcome): void {
  outcome.sacked = markSacked(tcp, tcb, segment.options);
  if (!outcome.sacked) return;
  onSuspiciousAck(tcp, tcb, outcome);
  controlWindow(tcp, tcb, outcome);
  retransmitLost(tcp, tcb);
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
  if (tcb.retransmitQueue.inFlight < tcb.cwndSegments) expandSendBuffer(tcp, tcb);
  if (!isWriteable(tcb)) return;
  tcb.noSpace = false;
  tcb.upcalls.writable();
}

/** EPOLLOUT: free space is at least half of what is queued, and unsent bytes are below TCP_NOTSENT_LOWAT. */
export function isWriteable(tcb: Tcb): boolean {
  if ((tcb.shutdown & Shutdown.send) !== 0) return true;
  const queued = tcb.sendQueue.length;
  const unsent = tcb.sendQueue.endOffset - Math.max(0, tcb.sndNxtOffset);
  return tcb.state !== TcpState.synSent && tcb.sndbufBytes - queued >= queued >>> 1 && unsent < tcb.notsentLowat;
}
