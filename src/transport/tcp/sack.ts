/**
 * Selective acknowledgements (RFC 2018; Linux tcp_sacktag_write_queue): which segments have arrived, which arrived
 * twice (DSACK, RFC 2883), and which arrived late, so that the path is known to reorder.
 */
import { MibId } from "../../base/mib.ts";
import { seqGeq, seqGt, seqLt } from "../../base/seq.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import type { TcpContext } from "./context.ts";
import { rackAdvance } from "./rack.ts";
import type { SentSegment } from "./retransmit-queue.ts";
import type { Segment } from "./segment-info.ts";
import { CaState, type Tcb } from "./tcb.ts";

/** Takes the SACK blocks of a segment in, before SND.UNA moves. */
export function processSack(tcp: TcpContext, tcb: Tcb, segment: Segment, ack: AckOutcome): void {
  const { sackCount, sackBlocks } = segment.options;
  if (tcb.retransmitQueue.sackedOut === 0) tcb.highestSackedOffset = tcb.sndUnaOffset;
  const isDsackFirst = readDsack(tcp, tcb, segment, ack);
  if (tcb.retransmitQueue.packetsOut === 0) return;
  for (let i = 0; i < sackCount; i++) {
    const isDsack = i === 0 && isDsackFirst;
    const left = tcb.sentOffset(sackBlocks[2 * i]);
    const right = tcb.sentOffset(sackBlocks[2 * i + 1]);
    if (!isValidBlock(tcb, isDsack, left, right)) {
      // Old blocks of an ACK that was overtaken are no news.
      if (isDsack || segment.ack === tcb.sndUna || right > tcb.sndUnaOffset) tcp.count(discardCounter(tcb, isDsack));
    } else if (right > tcb.sndUnaOffset) {
      for (let s = tcb.retransmitQueue.head; s !== null && s.lo < right; s = s.next) {
        if (s.lo >= left && s.hi <= right) tag(tcp, tcb, ack, s, isDsack);
      }
    }
  }
  if (tcb.caState !== CaState.loss || tcb.undoOffset >= 0) checkReordering(tcp, tcb, ack.reorderedOffset, false);
}

/** Highest byte known to have arrived: by SACK, else by acknowledgement (Linux tcp_highest_sack_seq). */
export function highestArrivedOffset(tcb: Tcb): number {
  return tcb.retransmitQueue.sackedOut > 0 ? tcb.highestSackedOffset : tcb.sndUnaOffset;
}

/**
 * The segment at `offset`, sent once, arrived after higher ones: the path reorders, at least so far (Linux
 * tcp_check_sack_reordering). `byTimestamp`: the timestamp has told.
 */
export function checkReordering(tcp: TcpContext, tcb: Tcb, offset: number, byTimestamp: boolean): void {
  const distance = highestArrivedOffset(tcb) - offset;
  if (distance <= 0) return;
  if (distance > tcb.reorderingSegments * tcb.mssBytes) {
    const { tcpMaxReordering } = tcp.env.sysctl;
    tcb.reorderingSegments = Math.min(Math.ceil(distance / tcb.mssBytes), tcpMaxReordering);
  }
  tcb.reorderingSeen = true;
  tcp.count(byTimestamp ? MibId.TcpExtTCPTSReorder : MibId.TcpExtTCPSACKReorder);
}

/**
 * Is the first block a DSACK? It is if it lies below the acknowledgement, or inside the second block (RFC 2883 §4).
 * Counts what it says (Linux tcp_check_dsack, tcp_dsack_seen).
 */
function readDsack(tcp: TcpContext, tcb: Tcb, segment: Segment, ack: AckOutcome): boolean {
  const { sackCount, sackBlocks } = segment.options;
  const left = sackBlocks[0];
  const right = sackBlocks[1];
  if (seqLt(left, segment.ack)) {
    tcp.count(MibId.TcpExtTCPDSACKRecv);
  } else if (sackCount > 1 && seqGeq(left, sackBlocks[2]) && !seqGt(right, sackBlocks[3])) {
    tcp.count(MibId.TcpExtTCPDSACKOfoRecv);
  } else {
    return false;
  }
  const len = (right - left) | 0;
  const segments = Math.max(1, Math.ceil(len / tcb.mssBytes));
  if (len > 0 && len <= tcb.maxWindow) tcb.dsackSegments += segments;
  if (len <= 0 || len > tcb.maxWindow || tcb.dsackSegments > tcb.retransmitsTotal) {
    tcp.count(MibId.TcpExtTCPDSACKIgnoredDubious);
    return false;
  }
  const end = tcb.sentOffset(right);
  ack.dsackSegments = segments;
  ack.dsackOfProbe = segments === 1 && tcb.probeHighOffset >= 0 && end === tcb.probeHighOffset;
  tcb.deliveredSegments += segments;
  tcp.env.mib.values[MibId.TcpExtTCPDelivered] += segments;
  tcp.env.mib.values[MibId.TcpExtTCPDSACKRecvSegs] += segments;
  // What is acknowledged has no record any more: count dumbly.
  if (tcb.undoOffset >= 0 && tcb.undoRetransmits > 0 && end <= tcb.sndUnaOffset && end > tcb.undoOffset) {
    tcb.undoRetransmits = Math.max(0, tcb.undoRetransmits - segments);
  }
  return true;
}

/** Is it about bytes that can have come out of order, or of a DSACK: twice? (Linux tcp_is_sackblock_valid). */
function isValidBlock(tcb: Tcb, isDsack: boolean, left: number, right: number): boolean {
  if (right > tcb.sndNxtOffset || left >= right) return false;
  if (left > tcb.sndUnaOffset) return true;
  if (!isDsack || tcb.undoOffset < 0 || right > tcb.sndUnaOffset) return false;
  if (left >= tcb.undoOffset) return true;
  return right > tcb.undoOffset && left >= right - tcb.maxWindow;
}

function discardCounter(tcb: Tcb, isDsack: boolean): number {
  if (!isDsack) return MibId.TcpExtTCPSACKDiscard;
  return tcb.undoOffset < 0 ? MibId.TcpExtTCPDSACKIgnoredNoUndo : MibId.TcpExtTCPDSACKIgnoredOld;
}

/** One segment is covered by a block (Linux tcp_sacktag_one). */
function tag(tcp: TcpContext, tcb: Tcb, ack: AckOutcome, segment: SentSegment, isDsack: boolean): void {
  const queue = tcb.retransmitQueue;
  if (isDsack && segment.retransmits > 0) {
    if (tcb.undoOffset >= 0 && tcb.undoRetransmits > 0 && segment.hi > tcb.undoOffset) tcb.undoRetransmits--;
    if (segment.sacked) ack.reorderedOffset = Math.min(ack.reorderedOffset, segment.lo);
  }
  if (!segment.sacked) {
    rackAdvance(tcp, tcb, segment);
    if (segment.retransmits === 0) noteFirstCopy(tcb, ack, segment);
    queue.markSacked(segment);
    ack.sacked = true;
    tcb.deliveredSegments++;
    tcp.count(MibId.TcpExtTCPDelivered);
    if (segment.hi > tcb.highestSackedOffset) tcb.highestSackedOffset = segment.hi;
  }
  if (isDsack) queue.forgetRetransmission(segment);
}

/** A segment that was sent once has arrived: when it did tells of the round trip, of reordering, and of F-RTO. */
function noteFirstCopy(tcb: Tcb, ack: AckOutcome, segment: SentSegment): void {
  if (segment.lo < tcb.highestSackedOffset) ack.reorderedOffset = Math.min(ack.reorderedOffset, segment.lo);
  if (segment.hi <= tcb.highOffset) ack.originalAcked = true;
  if (ack.firstSackedNs < 0) ack.firstSackedNs = segment.sentNs;
  ack.lastSackedNs = segment.sentNs;
}
