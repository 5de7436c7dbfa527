/**
 * Segment arrives (RFC 9293 §3.10.7; Linux tcp_v4_rcv, tcp_rcv_established, tcp_rcv_state_process).
 *
 * In order: sizes and checksum, look-up, header prediction, and then the RFC's eight steps, with RFC 5961's challenge
 * ACKs in place of blind resets.
 */
import { assert } from "../../base/assert.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { seqAdd, seqGt, seqLeq, seqLt } from "../../base/seq.ts";
import { Ending } from "../../base/tracepoints.ts";
import { type SkBuff, Summed } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { checkAckDue, enterQuickAck } from "./ack.ts";
import { checkSendSpace, processAck } from "./ack-input.ts";
import { isRateLimited, sendChallengeAck } from "./challenge.ts";
import { finTimeoutNs, onReset, orphanInFinWait2 } from "./close.ts";
import { MAX_QUICKACKS, PAWS_24_DAYS_NS, PAWS_WINDOW_TICKS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { isDataAfterClose, queueData } from "./data-input.ts";
import { done } from "./done.ts";
import { noteDuplicate } from "./dsack.ts";
import { tryFastPath } from "./fast-path.ts";
import { challengeSyn, completeSimultaneousOpen, isSimultaneousSynAck, receiveInSynSent } from "./handshake.ts";
import { receiveInListen, receiveInSynQueue } from "./listener.ts";
import { pushPending } from "./output.ts";
import { sendResetReply } from "./reset.ts";
import { sendAck } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { RequestSock, Tcb, TimeWaitSock } from "./tcb.ts";
import { enterTimeWait, receiveInTimeWait, reusedIsn, TimeWaitVerdict } from "./time-wait.ts";

const { Flag } = wire;
const PURPOSE_REUSEPORT = 4;

/** A segment from IP (Linux tcp_v4_rcv). *Takes* the skb. Never nested: the record of the segment is one per host. */
export function receive(tcp: TcpContext, skb: SkBuff): void {
  assert(!tcp.receiving, "TCP input called from inside TCP input: a device must not deliver while it transmits");
  tcp.receiving = true;
  receiveSegment(tcp, skb);
  tcp.receiving = false;
}

function receiveSegment(tcp: TcpContext, skb: SkBuff): void {
  const { env } = tcp;
  tcp.count(MibId.TcpInSegs);
  const view = skb.view;
  const at = skb.transport;
  const malformed = wire.check(view, at, skb.tail);
  if (malformed !== DropReason.none) {
    tcp.count(MibId.TcpInErrs);
    env.drops.drop(skb, malformed);
    return;
  }
  // Signed words: small integers, where unsigned ones would be new objects.
  const src = ipv4.src(view, skb.net) | 0;
  const dst = ipv4.dst(view, skb.net) | 0;
  if (skb.summed === Summed.none && !wire.hasGoodChecksumV4(skb.bytes, at, skb.tail - at, src, dst)) {
    tcp.count(MibId.TcpInCsumErrors);
    tcp.count(MibId.TcpInErrs);
    env.drops.drop(skb, DropReason.tcpCsum);
    return;
  }
  const { segment } = tcp;
  segment.read(skb);
  skb.data = at + segment.headerLen;
  const srcPort = wire.srcPort(view, at);
  const dstPort = wire.dstPort(view, at);
  const sock = tcp.connections.find(src, dst, srcPort, dstPort);
  if (sock instanceof Tcb) receiveForTcb(tcp, sock, skb, segment);
  else if (sock instanceof RequestSock) receiveInSynQueue(tcp, sock, skb, segment);
  else if (sock instanceof TimeWaitSock) receiveForTimeWait(tcp, sock, skb, segment);
  else receiveForListener(tcp, skb, segment, 0);
}

/** No connection: the best listener, or a RST (rows 16–19). *Takes* the skb. */
function receiveForListener(tcp: TcpContext, skb: SkBuff, segment: Segment, isnFromTimeWait: number): void {
  const listener = findListener(tcp, skb);
  if (listener !== null) {
    receiveInListen(tcp, listener, skb, segment, isnFromTimeWait);
    return;
  }
  sendResetReply(tcp, skb, segment);
  tcp.env.drops.drop(skb, DropReason.noSocket);
}

function findListener(tcp: TcpContext, skb: SkBuff): Tcb | null {
  const view = skb.view;
  const at = skb.transport;
  const src = ipv4.src(view, skb.net);
  const dst = ipv4.dst(view, skb.net);
  const ports = (wire.srcPort(view, at) << 16) | wire.dstPort(view, at);
  const hash = tcp.isn.words(src | 0, dst | 0, ports, PURPOSE_REUSEPORT);
  return tcp.listeners.find(dst | 0, wire.dstPort(view, at), skb.ifindex, hash);
}

function receiveForTimeWait(tcp: TcpContext, tw: TimeWaitSock, skb: SkBuff, segment: Segment): void {
  if (receiveInTimeWait(tcp, tw, skb, segment) === TimeWaitVerdict.handled) return;
  const listener = findListener(tcp, skb);
  if (listener === null) {
    sendResetReply(tcp, skb, segment);
    tcp.env.drops.drop(skb, DropReason.noSocket);
    return;
  }
  const isn = reusedIsn(tw);
  tcp.timeWaits.kill(tw);
  receiveInListen(tcp, listener, skb, segment, isn);
}

/** A segment for a full endpoint. *Takes* the skb, whose data is the payload. */
export function receiveForTcb(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  tcb.segmentsIn += skb.gsoSize === 0 ? 1 : Math.max(1, Math.ceil(segment.payloadLen / skb.gsoSize));
  if (tcb.state === TcpState.established && tryFastPath(tcp, tcb, skb, segment)) return;
  if (tcb.state === TcpState.synSent) {
    receiveInSynSent(tcp, tcb, skb, segment);
    return;
  }
  if (tcb.state === TcpState.close) {
    tcp.env.drops.drop(skb, DropReason.tcpClose);
    return;
  }
  segment.readOptions(skb);
  if (!validate(tcp, tcb, skb, segment)) return;
  receiveAcceptable(tcp, tcb, skb, segment);
}

/**
 * Steps 1 to 4: sequence number, RST, SYN (Linux tcp_validate_incoming). False if it was dropped (*takes* the skb
 * then).
 */
function validate(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): boolean {
  const { drops } = tcp.env;
  const isReset = segment.has(Flag.rst);
  if (isPawsReject(tcp, tcb, segment) && !isReset) {
    tcp.count(MibId.TcpExtPAWSEstab);
    answerInvalid(tcp, tcb, segment, MibId.TcpExtTCPACKSkippedPAWS);
    drops.drop(skb, DropReason.tcpPaws);
    return false;
  }
  const isOld = seqLt(segment.end, tcb.rcvWup);
  const isBeyond = seqGt(segment.seq, seqAdd(tcb.rcvNxt, tcb.receiveWindow()));
  if (isOld || isBeyond) {
    if (isReset) {
      if (isResetOfFin(tcb, segment)) onReset(tcp, tcb);
    } else if (segment.has(Flag.syn)) {
      tcp.count(MibId.TcpInErrs);
      challengeSyn(tcp, tcb);
    } else {
      answerInvalid(tcp, tcb, segment, MibId.TcpExtTCPACKSkippedSeq);
    }
    drops.drop(skb, isOld ? DropReason.tcpOldData : DropReason.tcpInvalidSequence);
    return false;
  }
  if (isReset) {
    // RFC 5961 §3: only an exact match resets, all else in the window is challenged.
    if (segment.seq === tcb.rcvNxt || isResetOfFin(tcb, segment)) onReset(tcp, tcb);
    else sendChallengeAck(tcp, tcb);
    drops.drop(skb, DropReason.tcpReset);
    return false;
  }
  if (segment.has(Flag.syn) && !isSimultaneousSynAck(tcb, segment)) {
    tcp.count(MibId.TcpInErrs);
    challengeSyn(tcp, tcb);
    drops.drop(skb, DropReason.tcpInvalidSyn);
    return false;
  }
  return true;
}

/** RFC 7323 §5.3 R1, with Linux's exception for reordered pure ACKs (tcp_paws_discard, tcp_disordered_ack). */
function isPawsReject(tcp: TcpContext, tcb: Tcb, segment: Segment): boolean {
  const { options } = segment;
  if (!tcb.timestampsOk || !options.hasTimestamps || options.tsVal === 0) return false;
  const behind = (tcb.tsRecent - options.tsVal) | 0;
  if (behind <= PAWS_WINDOW_TICKS || tcp.nowNs - tcb.tsRecentNs >= PAWS_24_DAYS_NS) return false;
  const isPureAck = segment.has(Flag.ack) && segment.seq === segment.end && segment.seq === tcb.rcvNxt;
  const changesWindow = segment.window << tcb.sndWindowScale !== tcb.sndWnd;
  return !(isPureAck && segment.ack === tcb.sndUna && !changesWindow && behind <= tcb.rtoNs / 1e6);
}

/** A RST for the sequence number of the FIN we have consumed is exact too (Linux tcp_reset_check). */
function isResetOfFin(tcb: Tcb, segment: Segment): boolean {
  const closing = tcb.state === TcpState.closeWait || tcb.state === TcpState.lastAck || tcb.state === TcpState.closing;
  return closing && segment.seq === seqAdd(tcb.rcvNxt, -1);
}

/** An unacceptable segment is answered by an ACK, rate limited unless it carries data (tcp_send_dupack). */
function answerInvalid(tcp: TcpContext, tcb: Tcb, segment: Segment, skipped: number): void {
  const isData = segment.payloadLen > 0 && !segment.has(Flag.syn);
  if (!isData && isRateLimited(tcp, tcb, skipped)) return;
  if (segment.end !== segment.seq && seqLt(segment.seq, tcb.rcvNxt)) {
    tcp.count(MibId.TcpExtDelayedACKLost);
    enterQuickAck(tcb, MAX_QUICKACKS);
    noteDuplicate(tcp, tcb, segment.seq, seqGt(segment.end, tcb.rcvNxt) ? tcb.rcvNxt : segment.end);
  }
  sendAck(tcp, tcb);
}

/** Steps 5 to 8: ACK, data, FIN. *Takes* the skb. */
function receiveAcceptable(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  const { drops } = tcp.env;
  if (!segment.has(Flag.ack)) {
    drops.drop(skb, DropReason.tcpFlags);
    return;
  }
  rememberTimestamp(tcp, tcb, segment);
  const verdict = processAck(tcp, tcb, segment, true);
  if (verdict !== DropReason.none) {
    if (tcb.state === TcpState.synReceived) sendResetReply(tcp, skb, segment);
    drops.drop(skb, verdict);
    return;
  }
  if (tcb.state !== TcpState.established && !advanceState(tcp, tcb, skb, segment)) return;
  const isFinWait = tcb.state === TcpState.finWait1 || tcb.state === TcpState.finWait2;
  if (isFinWait && isDataAfterClose(tcb, segment)) {
    abortForData(tcp, tcb, skb, segment);
    return;
  }
  if (mayQueue(tcb, segment)) queueData(tcp, tcb, skb, segment);
  else drops.consume(skb);
  if (tcb.state === TcpState.close) return;
  pushPending(tcp, tcb);
  checkSendSpace(tcp, tcb);
  checkAckDue(tcp, tcb);
}

/** RFC 7323 §4.3 (2): a segment at or before Last.ACK.sent sets TS.Recent (Linux tcp_replace_ts_recent). */
function rememberTimestamp(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  const { options } = segment;
  if (!tcb.timestampsOk || !options.hasTimestamps || seqGt(segment.seq, tcb.rcvWup)) return;
  if (((options.tsVal - tcb.tsRecent) | 0) < 0 && tcp.nowNs - tcb.tsRecentNs < PAWS_24_DAYS_NS) return;
  tcb.tsRecent = options.tsVal;
  tcb.tsRecentNs = tcp.nowNs;
}

/** What the ACK means in the states around ESTABLISHED; false when the connection is over (*takes* the skb then). */
function advanceState(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): boolean {
  const finAcked = tcb.finSent && tcb.sndUnaOffset > tcb.writtenOffset;
  switch (tcb.state) {
    case TcpState.synReceived:
      if (tcb.sndUnaOffset < 0) break;
      completeSimultaneousOpen(tcp, tcb);
      break;
    case TcpState.finWait1:
      if (finAcked) return enterFinWait2(tcp, tcb, skb, segment);
      break;
    case TcpState.closing:
      if (!finAcked) break;
      enterTimeWait(tcp, tcb, TcpState.timeWait, 0);
      tcp.env.drops.consume(skb);
      return false;
    case TcpState.lastAck:
      if (!finAcked) break;
      tcp.stampClosed(tcb, Ending.fin);
      done(tcp, tcb);
      tcp.env.drops.consume(skb);
      return false;
    default:
      break;
  }
  return true;
}

/** Our FIN is acknowledged: FIN_WAIT2; an orphan waits there only for a while (rows 24). */
function enterFinWait2(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): boolean {
  tcp.setState(tcb, TcpState.finWait2);
  tcb.shutdown |= 2;
  if (!tcb.orphan) {
    tcb.upcalls.stateChanged();
    return true;
  }
  // TCP_LINGER2 below zero wants no FIN_WAIT2 at all; Linux counts that as data, too.
  if (tcb.linger2Ns < 0 || (segment.payloadLen > 0 && isDataAfterClose(tcb, segment))) {
    abortForData(tcp, tcb, skb, segment);
    return false;
  }
  if (segment.has(Flag.fin)) {
    // The FIN is processed next; should it be out of order, this bounds the wait for a good one.
    tcp.armKeepalive(tcb, tcp.nowNs + finTimeoutNs(tcp, tcb));
    return true;
  }
  orphanInFinWait2(tcp, tcb);
  tcp.env.drops.consume(skb);
  return false;
}

/** Bytes nobody will read: RST, so that the peer learns of it (RFC 1122 §4.2.2.13). *Takes* the skb. */
function abortForData(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  tcp.count(MibId.TcpExtTCPAbortOnData);
  sendResetReply(tcp, skb, segment);
  tcp.stampClosed(tcb, Ending.resetSent);
  // Whoever still holds the socket hears of it as of a reset (Linux tcp_reset).
  if (!tcb.orphan) tcb.error = Errno.ECONNRESET;
  done(tcp, tcb);
  tcp.env.drops.drop(skb, DropReason.tcpAbortOnData);
}

/** After the peer's FIN nothing new can come; what is old still gets its ACK. */
function mayQueue(tcb: Tcb, segment: Segment): boolean {
  if (!tcb.finReceived) return true;
  return segment.seq !== segment.end && seqLeq(segment.end, tcb.rcvNxt);
}
