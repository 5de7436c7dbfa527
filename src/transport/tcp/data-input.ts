/**
 * Received bytes (RFC 9293 §3.10.7.4 seventh and eighth; Linux tcp_data_queue, tcp_fin): in order to the receive queue,
 * behind a hole to the out-of-order queue, old or beyond the window away.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { seqGeq, seqGt, seqLeq, seqLt } from "../../base/seq.ts";
import { MILLISECOND } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import type { SkBuff } from "../../skb/skb.ts";
import { Flag } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { enterQuickAck, onDataReceived } from "./ack.ts";
import { MAX_QUICKACKS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { noteDuplicate } from "./dsack.ts";
import { hasPage } from "./pages.ts";
import { setPredictionFlags } from "./prediction.ts";
import { NOTHING_OUT_OF_ORDER, Reassembly } from "./reassembly.ts";
import { sendAck } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { AckPending, Shutdown, type Tcb } from "./tcb.ts";
import { enterTimeWait } from "./time-wait.ts";
import { onReceiveRtt } from "./window.ts";

/** Takes the payload (and FIN) of an acceptable segment. *Takes* the skb, whose data is the payload. */
export function queueData(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  const { seq, end } = segment;
  if (seq === end) {
    tcp.env.drops.consume(skb);
    return;
  }
  stampSegment(tcp, tcb, skb, segment);
  skb.seq = seq;
  skb.seqEnd = end;
  const window = tcb.receiveWindow();
  if (seqLeq(end, tcb.rcvNxt)) {
    tcp.count(MibId.TcpExtDelayedACKLost);
    noteDuplicate(tcp, tcb, seq, end);
    dropAndAck(tcp, tcb, skb, DropReason.tcpOldData);
  } else if (seqGeq(seq, tcb.rcvNxt + window) && !(window === 0 && seq === tcb.rcvNxt)) {
    dropAndAck(tcp, tcb, skb, DropReason.tcpOverWindow);
  } else if (seqLeq(seq, tcb.rcvNxt)) {
    if (window === 0 && segment.payloadLen > 0) {
      tcp.count(MibId.TcpExtTCPZeroWindowDrop);
      dropAndAck(tcp, tcb, skb, DropReason.tcpZeroWindow);
    } else {
      if (seqLt(seq, tcb.rcvNxt)) noteDuplicate(tcp, tcb, seq, tcb.rcvNxt);
      queueInOrder(tcp, tcb, skb, segment);
    }
  } else {
    queueOutOfOrder(tcp, tcb, skb, segment);
  }
}

/** A segment brought stream bytes: tell the journey which frame they came in. */
export function stampSegment(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  const { env } = tcp;
  if ((tcb.connId & env.trace.mask) !== 0 || segment.payloadLen === 0) return;
  if (skb.id === 0) skb.id = env.nextFrameId();
  env.trace.stamp(Point.frameReceived, skb.id, skb.arrivedNs, skb.polledNs);
  const lo = tcb.receivedOffset(segment.seq);
  env.trace.link(Point.segmentReceived, skb.id, tcb.connId, lo, lo + segment.payloadLen);
}

/** The bytes are unusable; the peer should know at once where we are. */
function dropAndAck(tcp: TcpContext, tcb: Tcb, skb: SkBuff, reason: DropReason): void {
  enterQuickAck(tcb, MAX_QUICKACKS);
  tcb.ackPending |= AckPending.scheduled;
  tcp.env.drops.drop(skb, reason);
}

function queueInOrder(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  // A reader that has taken all gets more whatever others hold (Linux sk_forced_mem_schedule).
  if (tcb.receiveQueue.length > 0 && !hasRoom(tcp, tcb, hasPage(skb.arena, tcb.receiveQueue.length))) {
    tcp.count(MibId.TcpExtTCPRcvQDrop);
    tcb.ackPending |= AckPending.scheduled;
    tcp.env.drops.drop(skb, DropReason.protoMem);
    return;
  }
  const { flags, headerLen } = segment;
  if (segment.payloadLen > 0) {
    onDataReceived(tcp, tcb, skb, headerLen, flags);
    measureRttByTimestamp(tcp, tcb, segment);
  }
  appendTrimmed(tcp, tcb, skb);
  let fin = (flags & Flag.fin) !== 0;
  if (!fin && tcb.reassembly.length > 0) fin = drainReassembly(tcp, tcb);
  if (tcb.rcvNxt !== segment.seq) stampDelivered(tcp, tcb);
  if (fin) {
    receiveFin(tcp, tcb);
    return;
  }
  setPredictionFlags(tcb);
  tcb.upcalls.readable();
}

/** Appends an skb that starts at or before rcvNxt, cutting what is already there. *Takes* the skb. */
export function appendTrimmed(tcp: TcpContext, tcb: Tcb, skb: SkBuff): void {
  const old = tcb.rcvNxtOffset - tcb.receivedOffset(skb.seq);
  const len = skb.len;
  if (old >= len) {
    tcp.env.drops.consume(skb);
    return;
  }
  if (old > 0) skb.pull(old);
  // Before rcvNxt moves: it is where a new queue begins.
  const queue = tcp.ownReceiveQueue(tcb);
  tcb.setRcvNxt(tcb.rcvNxtOffset + skb.len);
  tcp.env.drops.delivered();
  queue.append(skb, tcp.nowNs);
}

/** The hole is filled: what stood behind it follows (Linux tcp_ofo_queue). True if it ends with the peer's FIN. */
function drainReassembly(tcp: TcpContext, tcb: Tcb): boolean {
  for (let skb = tcb.reassembly.takeReady(tcb.rcvNxt); skb !== null; skb = tcb.reassembly.takeReady(tcb.rcvNxt)) {
    const fin = skb.scratch === Flag.fin;
    appendTrimmed(tcp, tcb, skb);
    if (fin) return true;
  }
  // RFC 5681 §4.2: a segment that fills a gap is acknowledged at once.
  if (tcb.reassembly.length === 0) tcb.ackPending |= AckPending.now;
  return false;
}

function queueOutOfOrder(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  tcb.predFlags = 0;
  if (!hasRoom(tcp, tcb, skb.arena.isRoomy(skb.end - skb.head))) {
    tcp.count(MibId.TcpExtTCPOFODrop);
    tcb.ackPending |= AckPending.scheduled;
    tcp.env.drops.drop(skb, DropReason.tcpOfoDrop);
    return;
  }
  if (segment.payloadLen > 0) onDataReceived(tcp, tcb, skb, segment.headerLen, segment.flags);
  tcb.ackPending |= AckPending.scheduled;
  tcp.count(MibId.TcpExtTCPOFOQueue);
  // A FIN out of order is remembered beside its payload; it counts in seqEnd.
  skb.scratch = (segment.flags & Flag.fin) !== 0 ? Flag.fin : 0;
  if (tcb.reassembly === NOTHING_OUT_OF_ORDER) tcb.reassembly = new Reassembly();
  const isNew = tcb.reassembly.insert(skb, tcp.env.drops, tcp.env.mib);
  if (!isNew) noteDuplicate(tcp, tcb, segment.seq, segment.end);
}

/**
 * Is there room in the receive buffer, if need be at the expense of what is out of order? (tcp_try_rmem_schedule).
 * `isRoomy`: the host's packet memory is not short.
 */
function hasRoom(tcp: TcpContext, tcb: Tcb, isRoomy: boolean): boolean {
  const held = tcb.receiveQueue.memoryBytes;
  if (isRoomy && held + tcb.reassembly.memoryBytes <= tcb.rcvbufBytes) return true;
  tcp.count(MibId.TcpExtPruneCalled);
  if (!isRoomy) {
    tcp.count(MibId.TcpExtRcvPruned);
    return false;
  }
  // An eighth more than needed, so that a flood does not prune once per segment.
  const goal = Math.max(0, tcb.rcvbufBytes - held - (tcb.rcvbufBytes >>> 3));
  tcb.reassembly.prune(goal, tcp.env.drops, tcp.env.mib);
  if (held + tcb.reassembly.memoryBytes <= tcb.rcvbufBytes) return true;
  tcp.count(MibId.TcpExtRcvPruned);
  return false;
}

/** Data that echoes a timestamp of ours gives the receive RTT (Linux tcp_rcv_rtt_measure_ts). */
export function measureRttByTimestamp(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  const { options } = segment;
  if (!options.hasTimestamps || options.tsEcr === 0 || segment.payloadLen < tcb.rcvMssBytes) return;
  const ticks = (tcp.timestamp(tcb.tsOffset) - options.tsEcr) | 0;
  if (ticks >= 0) onReceiveRtt(tcb, Math.max(1, ticks) * MILLISECOND);
}

export function stampDelivered(tcp: TcpContext, tcb: Tcb): void {
  if (!tcp.traced(tcb.connId)) return;
  const unread = tcb.receiveQueue.length;
  tcp.env.trace.stamp(Point.delivered, tcb.connId, tcb.readOffset + unread, unread);
}

/** The peer's FIN is in order (Linux tcp_fin). */
function receiveFin(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.finReceived) return;
  if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.finReceived, tcb.connId, tcb.rcvNxtOffset, 0);
  tcb.finReceived = true;
  tcb.predFlags = 0;
  tcb.setRcvNxt(tcb.rcvNxtOffset + 1);
  tcb.shutdown |= Shutdown.receive;
  tcb.ackPending |= AckPending.scheduled;
  tcb.reassembly.clear(tcp.env.drops, DropReason.tcpOldData);
  switch (tcb.state) {
    case TcpState.synReceived:
    case TcpState.established:
      tcp.setState(tcb, TcpState.closeWait);
      tcb.pingpong = true;
      break;
    case TcpState.finWait1:
      // Simultaneous close: our FIN is not acknowledged yet.
      sendAck(tcp, tcb);
      tcp.setState(tcb, TcpState.closing);
      break;
    case TcpState.finWait2:
      sendAck(tcp, tcb);
      enterTimeWait(tcp, tcb, TcpState.timeWait, 0);
      return;
    default:
      break;
  }
  if (!tcb.orphan) {
    tcb.upcalls.stateChanged();
    tcb.upcalls.readable();
  }
}

/**
 * True if a segment brings bytes nobody will read: the socket is closed or shut down for reading (RFC 1122 §4.2.2.13).
 */
export function isDataAfterClose(tcb: Tcb, segment: Segment): boolean {
  if ((tcb.shutdown & Shutdown.receive) === 0 || segment.payloadLen === 0) return false;
  return seqGt((segment.seq + segment.payloadLen) >>> 0, tcb.rcvNxt) && !seqLt(segment.end, tcb.rcvNxt);
}
