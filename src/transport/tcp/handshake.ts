/**
 * The active side of the handshake (RFC 9293 §3.10.1, §3.10.7.3; Linux tcp_v4_connect, tcp_rcv_synsent_state_process),
 * and simultaneous open.
 *
 * SYNs go at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67 s (tcp_syn_linear_timeouts = 4 of them a second apart, then doubling)
 * and the call fails with ETIMEDOUT at 131 s.
 */
import type { Address } from "../../base/address.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { seqAdd, seqGt, seqLeq } from "../../base/seq.ts";
import { MILLISECOND } from "../../base/time.ts";
import { Ending } from "../../base/tracepoints.ts";
import type { SkBuff } from "../../skb/skb.ts";
import { Flag } from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { enterQuickAck, sendDelayedAck } from "./ack.ts";
import { advertisedMss } from "./advertised-mss.ts";
import { sendChallengeAck } from "./challenge.ts";
import { onReset } from "./close.ts";
import { MAX_QUICKACKS, MSS_DEFAULT_BYTES, RTO_INITIAL_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { done } from "./done.ts";
import { becomeEstablished } from "./open-child.ts";
import { bookNew, pushPending } from "./output.ts";
import { sendResetReply } from "./reset.ts";
import { sendAck, syncMss, transmit } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { AckPending, type Sock, type Tcb, TimeWaitSock } from "./tcb.ts";
import { initialWindow, windowFromSpace, windowScaleToOffer } from "./window.ts";

const PURPOSE_PORT = 3;

/** Starts connecting: -EINPROGRESS, or why not. */
export function connect(tcp: TcpContext, tcb: Tcb, address: Address, port: number): number {
  if (tcb.state === TcpState.synSent || tcb.state === TcpState.synReceived) return -Errno.EALREADY;
  if (tcb.state !== TcpState.close || tcb.hashed) return -Errno.EISCONN;
  if (tcb.error !== 0) return -tcb.takeError();
  const route = tcp.ip.route(address, tcb.addressBound ? tcb.localAddress : null, tcb.boundIfindex);
  if (typeof route === "number") return route;
  tcb.route = route;
  if (!tcb.addressBound) tcb.localAddress = route.source;
  tcb.remoteAddress = route.destination;
  tcb.remotePort = port;
  const bound = choosePort(tcp, tcb);
  if (bound < 0) return bound;
  if (!tcp.connections.add(tcb)) {
    if (!tcb.portBound) {
      tcp.ports.release(tcb);
      tcb.localPort = 0;
    }
    return -Errno.ENOBUFS;
  }
  tcb.hashed = true;
  tcb.shutdown = 0;
  tcp.count(MibId.TcpActiveOpens);
  sendSyn(tcp, tcb);
  return -Errno.EINPROGRESS;
}

/** Claims a 4-tuple: the bound port, or an ephemeral one (RFC 6056 algorithm 4). */
function choosePort(tcp: TcpContext, tcb: Tcb): number {
  const remote = tcb.remoteAddress;
  const isTaken = (port: number) => {
    const other = tcp.connections.find(remote.w3, tcb.localAddress.w3, tcb.remotePort, port);
    return other !== null && !mayReuse(tcp, other);
  };
  if (tcb.localPort !== 0) {
    // A port that bind() named does not wait for TIME_WAIT's second.
    const old = tcp.connections.find(remote.w3, tcb.localAddress.w3, tcb.remotePort, tcb.localPort);
    const isFree = old === null || (old instanceof TimeWaitSock && old.timestampsOk);
    if (!isFree) return -Errno.EADDRNOTAVAIL;
  } else {
    const hash = tcp.tupleHash(tcb.localAddress, 0, remote, tcb.remotePort, PURPOSE_PORT);
    const port = tcp.ports.chooseForConnect(tcb, hash, isTaken);
    if (port === 0) return -Errno.EADDRNOTAVAIL;
    tcb.localPort = port;
  }
  const old = tcp.connections.find(remote.w3, tcb.localAddress.w3, tcb.remotePort, tcb.localPort);
  if (old instanceof TimeWaitSock) {
    tcp.count(MibId.TcpExtTWRecycled);
    tcp.timeWaits.kill(old);
  }
  return 0;
}

/**
 * A TIME_WAIT's 4-tuple may be taken over a second later if timestamps keep old segments out (Linux tcp_twsk_unique).
 */
function mayReuse(tcp: TcpContext, sock: Sock): boolean {
  if (!(sock instanceof TimeWaitSock) || !sock.timestampsOk) return false;
  const reuse = tcp.env.sysctl.tcpTwReuse;
  const isLoopback = sock.remoteAddress.v4 >>> 24 === 127;
  if (reuse === 0 || (reuse === 2 && !isLoopback)) return false;
  return tcp.nowNs - sock.tsRecentNs > 1000 * MILLISECOND;
}

/** Builds the send side and sends the first SYN (Linux tcp_connect_init, tcp_connect). */
function sendSyn(tcp: TcpContext, tcb: Tcb): void {
  const { sysctl } = tcp.env;
  const { localAddress, localPort, remoteAddress, remotePort, route } = tcb;
  tcb.startSend(tcp.isn.isn(localAddress, localPort, remoteAddress, remotePort, tcp.nowNs));
  tcb.tsOffset = tcp.isn.timestampOffset(localAddress, remoteAddress);
  tcb.timestampsOk = sysctl.tcpTimestamps !== 0;
  tcb.sackOk = sysctl.tcpSack !== 0;
  tcb.offersWindowScale = sysctl.tcpWindowScaling !== 0;
  tcb.tsRecent = 0;
  if (route !== null) tcb.advMssBytes = advertisedMss(tcb, route);
  tcb.mssClampBytes = tcb.advMssBytes;
  tcb.rcvWnd = initialWindow(tcb.rcvbufBytes, tcb.windowClampUser, tcb.advMssBytes);
  tcb.windowClamp = windowFromSpace(tcb.rcvbufBytes);
  tcb.rcvSsthresh = tcb.rcvWnd;
  tcb.rcvWindowScale = windowScaleToOffer(sysctl, tcb, tcb.windowClamp);
  tcb.sndWnd = 0;
  tcb.maxWindow = 0;
  tcb.rtoNs = RTO_INITIAL_NS;
  tcb.timeouts = tcb.timeoutsTotal = 0;
  tcb.backoff = 0;
  syncMss(tcb);
  tcp.setState(tcb, TcpState.synSent);
  // The time of its timestamp, not of its departure: sending takes time, and a millisecond may end meanwhile.
  const sentNs = tcp.nowNs;
  // For a SYN, give-up counts from its first copy (Linux tcp_connect).
  tcb.retransStampNs = sentNs;
  transmit(tcp, tcb, -1, 0, Flag.syn);
  bookNew(tcp, tcb, -1, 0, Flag.syn, sentNs);
}

/** A segment in SYN_SENT (RFC 9293 §3.10.7.3). *Takes* the skb. */
export function receiveInSynSent(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  segment.readOptions(skb);
  const { drops } = tcp.env;
  const { ack, options } = segment;
  if (segment.has(Flag.ack)) {
    const echoOk = !options.hasTimestamps || options.tsEcr === 0 || isEchoPlausible(tcp, tcb, options.tsEcr);
    if (seqLeq(ack, tcb.iss) || seqGt(ack, tcb.sndNxt) || !echoOk) {
      if (!echoOk) tcp.count(MibId.TcpExtPAWSActive);
      sendResetReply(tcp, skb, segment);
      drops.drop(skb, DropReason.tcpInvalidAckSequence);
      return;
    }
    if (segment.has(Flag.rst)) {
      onReset(tcp, tcb);
      drops.drop(skb, DropReason.tcpReset);
      return;
    }
    if (!segment.has(Flag.syn)) {
      drops.drop(skb, DropReason.tcpFlags);
      return;
    }
    onSynAck(tcp, tcb, segment);
    drops.consume(skb);
  } else if (segment.has(Flag.rst)) {
    drops.drop(skb, DropReason.tcpReset);
  } else if (segment.has(Flag.syn)) {
    onCrossedSyn(tcp, tcb, segment);
    drops.consume(skb);
  } else {
    drops.drop(skb, DropReason.tcpFlags);
  }
}

function isEchoPlausible(tcp: TcpContext, tcb: Tcb, tsEcr: number): boolean {
  const now = tcp.timestamp(tcb.tsOffset);
  const head = tcb.retransmitQueue.head;
  const first = head === null ? now : (Math.floor(head.firstSentNs / MILLISECOND) + tcb.tsOffset) >>> 0;
  return ((tsEcr - first) | 0) >= 0 && ((now - tsEcr) | 0) >= 0;
}

/** Takes the peer's SYN options over; what was not offered by both is off. */
function agreeOnOptions(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  const { options } = segment;
  tcb.startReceive(segment.seq);
  tcb.timestampsOk = tcb.timestampsOk && options.hasTimestamps;
  tcb.sackOk = tcb.sackOk && options.sackPermitted;
  if (tcb.offersWindowScale && options.windowScale >= 0) {
    tcb.sndWindowScale = options.windowScale;
  } else {
    tcb.sndWindowScale = 0;
    tcb.rcvWindowScale = 0;
    tcb.offersWindowScale = false;
    tcb.windowClamp = Math.min(tcb.windowClamp, 65535);
  }
  if (tcb.timestampsOk) {
    tcb.tsRecent = options.tsVal;
    tcb.tsRecentNs = tcp.nowNs;
  }
  const mss = options.mss || MSS_DEFAULT_BYTES;
  tcb.mssClampBytes = tcb.userMssBytes > 0 ? Math.min(mss, tcb.userMssBytes) : mss;
  tcb.sndWnd = segment.window;
  tcb.maxWindow = segment.window;
  tcb.sndWl1 = segment.seq;
  syncMss(tcb);
}

/** SYN-ACK: the connection is established. */
function onSynAck(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  agreeOnOptions(tcp, tcb, segment);
  const queue = tcb.retransmitQueue;
  const syn = queue.head;
  const rttNs = syn !== null && syn.retransmits === 0 ? tcp.nowNs - syn.sentNs : -1;
  const resent = syn !== null && syn.retransmits > 0;
  queue.clear(tcp.sentSegments);
  tcp.dropRetransmitQueue(tcb);
  tcb.setSndUna(0);
  tcp.cancel(tcb.xmitTimer);
  tcb.xmitTimerKind = 0;
  tcb.synReceivedNs = tcp.nowNs;
  becomeEstablished(tcp, tcb, rttNs, resent);
  countSynDelivered(tcp, tcb);
  if (tcb.hasUnsent || tcb.pingpong) {
    // The request is about to carry the ACK.
    enterQuickAck(tcb, MAX_QUICKACKS);
    tcb.ackPending |= AckPending.scheduled;
    sendDelayedAck(tcp, tcb);
  } else {
    sendAck(tcp, tcb);
  }
  pushPending(tcp, tcb);
  tcb.upcalls.stateChanged();
  tcb.upcalls.writable();
}

/** Our SYN is the first segment the peer has got (Linux tcp_ack; a SYN-ACK is not counted). */
function countSynDelivered(tcp: TcpContext, tcb: Tcb): void {
  tcb.deliveredSegments++;
  tcp.count(MibId.TcpExtTCPDelivered);
}

/** Simultaneous open (RFC 9293 figure 8): both SYNs crossed; answer with SYN-ACK and wait for its ACK. */
function onCrossedSyn(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  agreeOnOptions(tcp, tcb, segment);
  tcp.setState(tcb, TcpState.synReceived);
  const syn = tcb.retransmitQueue.head;
  if (syn !== null) syn.flags = Flag.syn | Flag.ack;
  transmit(tcp, tcb, -1, 0, Flag.syn | Flag.ack);
}

/** The ACK of our SYN in SYN_RECEIVED after a simultaneous open. */
export function completeSimultaneousOpen(tcp: TcpContext, tcb: Tcb): void {
  countSynDelivered(tcp, tcb);
  becomeEstablished(tcp, tcb, tcb.srttNs > 0 ? tcb.srttNs : -1, false);
  tcb.upcalls.stateChanged();
  tcb.upcalls.writable();
}

/** A connection attempt failed for good: error to the caller (Linux tcp_done_with_error). */
export function failConnect(tcp: TcpContext, tcb: Tcb, errno: number): void {
  tcb.error = errno;
  tcp.stampClosed(tcb, errno === Errno.ECONNREFUSED ? Ending.refused : Ending.timeout);
  done(tcp, tcb);
}

/** A SYN in a synchronised state is answered by a challenge ACK (RFC 5961 §4). */
export function challengeSyn(tcp: TcpContext, tcb: Tcb): void {
  tcp.count(MibId.TcpExtTCPSYNChallenge);
  sendChallengeAck(tcp, tcb);
}

/** True for the SYN-ACK that completes a simultaneous open, which must not be challenged. */
export function isSimultaneousSynAck(tcb: Tcb, segment: Segment): boolean {
  return (
    tcb.state === TcpState.synReceived &&
    segment.has(Flag.ack) &&
    segment.end === seqAdd(segment.seq, 1) &&
    seqAdd(segment.seq, 1) === tcb.rcvNxt &&
    segment.ack === tcb.sndNxt
  );
}
