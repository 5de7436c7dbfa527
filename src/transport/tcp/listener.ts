/**
 * The passive side of the handshake (Linux tcp_conn_request, tcp_check_req, reqsk_timer_handler).
 *
 *   SYN ──► request sock in the SYN queue ──final ACK──► Tcb in the accept queue ──accept(2)──► the process
 *            └── SYN-ACK again at 1, 3, 7, 15, 31 s, gone at 63 s
 *
 * Both queues hold backlog + 1. A SYN that meets a full accept queue is dropped; a final ACK that meets one is dropped
 * too and its request stays, so the client believes it is connected (tcp_abort_on_overflow turns that into a RST).
 */
import { Address } from "../../base/address.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { seqAdd, seqGt } from "../../base/seq.ts";
import { MILLISECOND, type Ns, SECOND } from "../../base/time.ts";
import { Ending, Label, Point } from "../../base/tracepoints.ts";
import type { Route } from "../../network/port.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { advertisedMss } from "./advertised-mss.ts";
import { isRateLimited } from "./challenge.ts";
import { MSS_DEFAULT_BYTES, RTO_INITIAL_NS, YOUNG_LIMIT_CONNS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { checkCookie, cookieIsn } from "./cookies.ts";
import { destroy } from "./done.ts";
import type { Listener } from "./listener-queues.ts";
import { openChild } from "./open-child.ts";
import { sendResetReply } from "./reset.ts";
import { bareSegment, sendActiveReset, sendBare, synOptionsBytes, writeHandshakeOptions } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { RequestSock, type Tcb } from "./tcb.ts";
import { isInWindow } from "./time-wait.ts";
import { initialWindow, windowFromSpace, windowScaleToOffer } from "./window.ts";

const { Flag } = wire;

/** A SYN's timer starts at 1 s and doubles. */
const SYN_ACK_TIMEOUT_NS = RTO_INITIAL_NS;

/** A segment for a listener: only a SYN does something (RFC 9293 §3.10.7.2; rows 16–19). *Takes* the skb. */
export function receiveInListen(
  tcp: TcpContext,
  tcb: Tcb,
  skb: SkBuff,
  segment: Segment,
  isnFromTimeWait: number,
): void {
  const { flags } = segment;
  if ((flags & Flag.rst) !== 0) {
    tcp.env.drops.drop(skb, DropReason.tcpReset);
  } else if ((flags & Flag.ack) !== 0) {
    receiveAckInListen(tcp, tcb, skb, segment);
  } else if ((flags & Flag.syn) === 0 || (flags & Flag.fin) !== 0) {
    tcp.env.drops.drop(skb, DropReason.tcpFlags);
  } else {
    receiveSyn(tcp, tcb, skb, segment, isnFromTimeWait);
  }
}

/** An ACK that no request sock knows: a cookie comes back, or a stranger gets a RST. */
function receiveAckInListen(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): void {
  if ((segment.flags & Flag.syn) === 0 && tcp.env.sysctl.tcpSyncookies !== 0) {
    const request = checkCookie(tcp, tcb, skb, segment);
    if (request !== null) {
      chooseWindow(tcp, tcb, request, request.route);
      if (!(tcb.listener as Listener).acceptQueueFull) stampSyn(tcp, request, skb);
      if (!promote(tcp, request, skb, segment)) tcp.env.drops.drop(skb, DropReason.tcpListenOverflow);
      return;
    }
  }
  sendResetReply(tcp, skb, segment);
  tcp.env.drops.drop(skb, DropReason.tcpFlags);
}

/** A first SYN (Linux tcp_conn_request): rows 1–6. */
function receiveSyn(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment, isnFromTimeWait: number): void {
  const listener = tcb.listener as Listener;
  const { sysctl } = tcp.env;
  const connId = tcp.env.nextConnId();
  let wantCookie = false;
  if ((sysctl.tcpSyncookies === 2 || listener.synQueueFull) && isnFromTimeWait === 0) {
    wantCookie = sysctl.tcpSyncookies !== 0;
    tcp.count(wantCookie ? MibId.TcpExtTCPReqQFullDoCookies : MibId.TcpExtTCPReqQFullDrop);
    if (!wantCookie) {
      dropSyn(tcp, listener, skb, connId, DropReason.tcpReqQFull);
      return;
    }
  }
  if (listener.acceptQueueFull) {
    tcp.count(MibId.TcpExtListenOverflows);
    dropSyn(tcp, listener, skb, connId, DropReason.tcpListenOverflow);
    return;
  }
  const request = makeRequest(tcp, tcb, skb, segment, connId, wantCookie);
  if (request === null) {
    dropSyn(tcp, listener, skb, connId, DropReason.ipOutNoRoutes);
    return;
  }
  if (!wantCookie && isnFromTimeWait === 0 && sysctl.tcpSyncookies === 0) {
    // Without cookies the last quarter of tcp_max_syn_backlog is kept for proven peers (row 4).
    const left = sysctl.tcpMaxSynBacklog - listener.requests.size;
    if (left < sysctl.tcpMaxSynBacklog >>> 2) {
      dropSyn(tcp, listener, skb, connId, DropReason.tcpReqQFull);
      return;
    }
  }
  request.sntIsn = (wantCookie ? cookieIsn(tcp, request, segment) : isnFromTimeWait || newIsn(tcp, request)) | 0;
  if (wantCookie) stampCookie(tcp, connId, skb);
  else stampSyn(tcp, request, skb);
  if (wantCookie) answerWithCookie(tcp, listener, request);
  else if (!remember(tcp, listener, request)) {
    dropSyn(tcp, listener, skb, connId, DropReason.noMem);
    return;
  }
  tcp.env.drops.consume(skb);
}

/** Enters the SYN queue and sends the first SYN-ACK; false if the connection table is full. */
function remember(tcp: TcpContext, listener: Listener, request: RequestSock): boolean {
  if (!tcp.connections.add(request)) return false;
  listener.requests.add(request);
  listener.youngConns++;
  tcp.armSynAck(request, tcp.nowNs + SYN_ACK_TIMEOUT_NS);
  sendSynAck(tcp, request);
  return true;
}

function newIsn(tcp: TcpContext, request: RequestSock): number {
  const { localAddress, localPort, remoteAddress, remotePort } = request;
  return tcp.isn.isn(localAddress, localPort, remoteAddress, remotePort, tcp.nowNs);
}

function answerWithCookie(tcp: TcpContext, listener: Listener, request: RequestSock): void {
  tcp.count(MibId.TcpExtSyncookiesSent);
  listener.cookieSentNs = tcp.nowNs;
  sendSynAck(tcp, request);
}

/** Counts and says why a SYN was dropped (Linux tcp_listendrop). *Takes* the skb. */
function dropSyn(tcp: TcpContext, listener: Listener, skb: SkBuff, connId: number, reason: DropReason): void {
  tcp.count(MibId.TcpExtListenDrops);
  listener.drops++;
  nameFrame(tcp, connId, skb);
  tcp.env.drops.drop(skb, reason);
}

/** A frame with an id tells of its drop; whoever listens knows by the addresses in it whose it was. */
function nameFrame(tcp: TcpContext, connId: number, skb: SkBuff): void {
  if (skb.id === 0 && tcp.traced(connId)) skb.id = tcp.env.nextFrameId();
}

/** Nothing is kept of a SYN answered with a cookie: the frame itself tells who came, and when. */
function stampCookie(tcp: TcpContext, connId: number, skb: SkBuff): void {
  if (!tcp.traced(connId)) return;
  nameFrame(tcp, connId, skb);
  tcp.env.drops.name(skb);
  tcp.env.trace.stamp(Point.synCookie, skb.id, 0, 0);
}

/** `synReceived`, and the 4-tuple and initial sequence numbers of a SYN that was taken in. */
function stampSyn(tcp: TcpContext, request: RequestSock, skb: SkBuff): void {
  const { connId } = request;
  if (!tcp.traced(connId)) return;
  const { trace } = tcp.env;
  trace.stamp(Point.synReceived, connId, skb.arrivedNs, skb.polledNs);
  const { tupleBytes, tupleView } = tcp;
  Address.v4(ipv4.dst(skb.view, skb.net)).write(tupleView, 0);
  Address.v4(ipv4.src(skb.view, skb.net)).write(tupleView, 16);
  tupleView.setUint16(32, wire.dstPort(skb.view, skb.transport));
  tupleView.setUint16(34, wire.srcPort(skb.view, skb.transport));
  tupleView.setUint32(36, request.rcvIsn);
  tupleView.setUint32(40, request.sntIsn);
  trace.label(Label.tuple, connId, tupleBytes, 0, tupleBytes.length);
}

/** A request sock with the SYN's options; null if there is no route back. */
function makeRequest(
  tcp: TcpContext,
  tcb: Tcb,
  skb: SkBuff,
  segment: Segment,
  connId: number,
  forCookie: boolean,
): RequestSock | null {
  const { sysctl } = tcp.env;
  const to = Address.v4(ipv4.dst(skb.view, skb.net));
  const route = tcp.ip.route(Address.v4(ipv4.src(skb.view, skb.net)), to, tcb.boundIfindex);
  if (typeof route === "number") return null;
  // The route's own addresses: a thousand connections from one client need not keep a thousand copies.
  const local = route.source.equals(to) ? route.source : to;
  const remote = route.destination;
  const at = skb.transport;
  const arrivedNs = skb.arrivedNs > 0 ? skb.arrivedNs : tcp.nowNs;
  const request = new RequestSock(
    tcb,
    connId,
    local,
    wire.dstPort(skb.view, at),
    remote,
    wire.srcPort(skb.view, at),
    route,
    skb.ifindex,
    arrivedNs,
  );
  segment.readOptions(skb);
  const { options } = segment;
  // A cookie remembers scale and SACK only in the timestamp it gets echoed.
  const usable = !forCookie || options.hasTimestamps;
  request.rcvIsn = segment.seq;
  request.sndWnd = segment.window;
  request.timestampsOk = options.hasTimestamps && sysctl.tcpTimestamps !== 0;
  request.tsRecent = options.tsVal;
  request.sackOk = usable && options.sackPermitted && sysctl.tcpSack !== 0;
  request.sndWindowScale = usable && sysctl.tcpWindowScaling !== 0 ? options.windowScale : -1;
  request.mssBytes = options.mss || MSS_DEFAULT_BYTES;
  if (tcb.userMssBytes > 0) request.mssBytes = Math.min(request.mssBytes, tcb.userMssBytes);
  request.tsOffset = tcp.isn.timestampOffset(local, remote);
  chooseWindow(tcp, tcb, request, route);
  return request;
}

/**
 * Our first window and its scale (Linux tcp_openreq_init_rwin): whole segments, 65160 with timestamps, 64240 without.
 */
export function chooseWindow(tcp: TcpContext, tcb: Tcb, request: RequestSock, route: Route): void {
  const payload = advertisedMss(tcb, route) - (request.timestampsOk ? 12 : 0);
  request.rcvWnd = initialWindow(tcb.rcvbufBytes, tcb.windowClampUser, payload);
  request.windowClamp = windowFromSpace(tcb.rcvbufBytes);
  request.rcvWindowScale =
    request.sndWindowScale >= 0 ? windowScaleToOffer(tcp.env.sysctl, tcb, request.windowClamp) : 0;
}

/** Builds and sends the SYN-ACK of a request (Linux tcp_make_synack). */
function sendSynAck(tcp: TcpContext, request: RequestSock): void {
  if (!request.route.valid) {
    const route = tcp.ip.route(request.remoteAddress, request.localAddress, request.listener.boundIfindex);
    if (typeof route === "number") return;
    request.route = route;
  }
  const scale = request.sndWindowScale >= 0 ? request.rcvWindowScale : -1;
  const headerLen = wire.HEADER_LEN + synOptionsBytes(request.timestampsOk, request.sackOk, scale >= 0);
  const skb = bareSegment(tcp, headerLen);
  if (skb === null) return;
  const at = skb.transport;
  wire.writeHeader(
    skb.view,
    at,
    request.localPort,
    request.remotePort,
    request.sntIsn,
    seqAdd(request.rcvIsn, 1),
    headerLen,
    Flag.syn | Flag.ack,
    Math.min(request.rcvWnd, 65535),
  );
  const tsVal = request.timestampsOk ? tcp.timestamp(request.tsOffset) : 0;
  writeHandshakeOptions(
    skb.view,
    at + wire.HEADER_LEN,
    advertisedMss(request.listener, request.route),
    request.timestampsOk,
    tsVal,
    request.tsRecent,
    request.sackOk,
    scale,
  );
  if (request.synAckSentNs === 0) request.synAckSentNs = tcp.nowNs;
  if (tcp.traced(request.connId)) {
    skb.id = tcp.env.nextFrameId();
    tcp.env.trace.stamp(Point.synAckSent, request.connId, request.retransmits, 0);
  }
  sendBare(tcp, skb, request.route, request.localAddress.v4, request.remoteAddress.v4);
}

function resendSynAck(tcp: TcpContext, request: RequestSock): void {
  request.retransmits++;
  sendSynAck(tcp, request);
  tcp.count(MibId.TcpRetransSegs);
  tcp.count(MibId.TcpExtTCPSynRetrans);
}

/** The SYN-ACK timer (Linux reqsk_timer_handler): rows 7, 11, 14, 15. */
export function onSynAckTimeout(tcp: TcpContext, request: RequestSock): void {
  const tcb = request.listener;
  const listener = tcb.listener as Listener;
  let retries = tcb.synCount || tcp.env.sysctl.tcpSynackRetries;
  if (listener.requests.size * 2 > Math.max(YOUNG_LIMIT_CONNS, listener.backlog)) {
    // Half full: old requests get fewer retries, the fuller the more, so that young ones find room.
    for (let young = listener.youngConns * 2; retries > 2 && listener.requests.size >= young; young *= 2) retries--;
  }
  const defer = tcb.deferAcceptTimeouts;
  const isExpired = request.timeouts >= retries && (defer === 0 || !request.acked || request.timeouts >= defer);
  const resend = defer === 0 || !request.acked || request.timeouts >= defer - 1;
  tcp.count(MibId.TcpExtTCPTimeouts);
  if (isExpired) {
    if (tcp.traced(request.connId)) {
      tcp.env.trace.stamp(Point.closed, request.connId, Ending.handshakeExpired, 0);
    }
    forget(tcp, request);
    return;
  }
  if (resend) resendSynAck(tcp, request);
  if (request.timeouts++ === 0) listener.youngConns--;
  tcp.armSynAck(request, tcp.nowNs + synAckTimeoutNs(tcp, request));
}

function synAckTimeoutNs(tcp: TcpContext, request: RequestSock): Ns {
  return Math.min(SYN_ACK_TIMEOUT_NS * 2 ** request.timeouts, tcp.rtoMaxNs);
}

/** Takes a request out of the SYN queue and the table. */
export function forget(tcp: TcpContext, request: RequestSock): void {
  tcp.connections.remove(request);
  leaveSynQueue(tcp, request);
}

function leaveSynQueue(tcp: TcpContext, request: RequestSock): void {
  const listener = request.listener.listener as Listener;
  if (!listener.requests.delete(request)) return;
  if (request.timeouts === 0) listener.youngConns--;
  tcp.forget(request.timer);
}

/** A segment for a half-open connection (Linux tcp_check_req): rows 7, 8, 12–14. *Takes* the skb. */
export function receiveInSynQueue(tcp: TcpContext, request: RequestSock, skb: SkBuff, segment: Segment): void {
  segment.readOptions(skb);
  const { options, seq, end, flags } = segment;
  const paws =
    request.timestampsOk &&
    options.hasTimestamps &&
    (flags & Flag.rst) === 0 &&
    ((options.tsVal - request.tsRecent) | 0) < 0;
  if (seq === request.rcvIsn && (flags & (Flag.syn | Flag.ack | Flag.rst)) === Flag.syn && !paws) {
    onRepeatedSyn(tcp, request, skb);
    return;
  }
  if ((flags & Flag.ack) !== 0 && (flags & Flag.rst) === 0 && segment.ack !== seqAdd(request.sntIsn, 1)) {
    sendResetReply(tcp, skb, segment);
    tcp.env.drops.drop(skb, DropReason.tcpInvalidAckSequence);
    return;
  }
  const rcvNxt = seqAdd(request.rcvIsn, 1);
  if (paws || !isInWindow(seq, end, rcvNxt, rcvNxt + request.rcvWnd)) {
    if ((flags & Flag.rst) === 0 && !isRateLimited(tcp, request, MibId.TcpExtTCPACKSkippedSynRecv))
      sendRequestAck(tcp, request);
    if (paws) tcp.count(MibId.TcpExtPAWSEstab);
    tcp.env.drops.drop(skb, paws ? DropReason.tcpPaws : DropReason.tcpInvalidSequence);
    return;
  }
  if (options.hasTimestamps && !seqGt(seq, rcvNxt)) request.tsRecent = options.tsVal;
  const live = seq === request.rcvIsn ? flags & ~Flag.syn : flags;
  if ((live & (Flag.rst | Flag.syn)) !== 0) {
    onResetInSynQueue(tcp, request, skb, segment, live);
    return;
  }
  if ((live & Flag.ack) === 0) {
    tcp.env.drops.drop(skb, DropReason.tcpFlags);
    return;
  }
  onFinalAck(tcp, request, skb, segment);
}

/** The client sent its SYN again: the SYN-ACK may have been lost. */
function onRepeatedSyn(tcp: TcpContext, request: RequestSock, skb: SkBuff): void {
  if (tcp.traced(request.connId)) {
    tcp.env.trace.stamp(Point.synReceived, request.connId, skb.arrivedNs, skb.polledNs);
  }
  if (!isRateLimited(tcp, request, MibId.TcpExtTCPACKSkippedSynRecv)) {
    resendSynAck(tcp, request);
    tcp.armSynAck(request, tcp.nowNs + synAckTimeoutNs(tcp, request));
  }
  tcp.env.drops.consume(skb);
}

/** RST (or a second SYN inside the window) for a half-open connection: row 13. */
function onResetInSynQueue(tcp: TcpContext, request: RequestSock, skb: SkBuff, segment: Segment, live: number): void {
  const isReset = (live & Flag.rst) !== 0;
  if (isReset && segment.seq !== seqAdd(request.rcvIsn, 1)) {
    if (!isRateLimited(tcp, request, MibId.TcpExtTCPACKSkippedChallenge)) {
      tcp.count(MibId.TcpExtTCPChallengeACK);
      sendRequestAck(tcp, request);
    }
    tcp.env.drops.drop(skb, DropReason.tcpInvalidSequence);
    return;
  }
  tcp.count(MibId.TcpAttemptFails);
  if (!isReset) sendResetReply(tcp, skb, segment);
  endRequest(tcp, request, isReset ? Ending.resetReceived : Ending.resetSent);
  tcp.env.drops.drop(skb, isReset ? DropReason.tcpReset : DropReason.tcpInvalidSyn);
}

function endRequest(tcp: TcpContext, request: RequestSock, ending: Ending): void {
  if (tcp.traced(request.connId)) tcp.env.trace.stamp(Point.closed, request.connId, ending, 0);
  tcp.count(MibId.TcpExtEmbryonicRsts);
  forget(tcp, request);
}

/** The ACK that completes the handshake. */
function onFinalAck(tcp: TcpContext, request: RequestSock, skb: SkBuff, segment: Segment): void {
  const defer = request.listener.deferAcceptTimeouts;
  if (request.timeouts < defer && segment.end === seqAdd(request.rcvIsn, 1)) {
    request.acked = true;
    tcp.count(MibId.TcpExtTCPDeferAcceptDrop);
    tcp.env.drops.drop(skb, DropReason.tcpDeferAccept);
    return;
  }
  if (promote(tcp, request, skb, segment)) return;
  const listener = request.listener.listener as Listener;
  nameFrame(tcp, request.connId, skb);
  if (tcp.traced(request.connId)) {
    tcp.env.trace.stamp(Point.handshakeHeld, request.connId, listener.acceptQueue.length, listener.backlog + 1);
  }
  if (tcp.env.sysctl.tcpAbortOnOverflow === 0) {
    request.acked = true;
    // The skb is dropped at the listener too: Linux counts sk_drops twice (row 7).
    listener.drops++;
  } else {
    sendResetReply(tcp, skb, segment);
    endRequest(tcp, request, Ending.resetSent);
  }
  tcp.env.drops.drop(skb, DropReason.tcpListenOverflow);
}

/**
 * Makes the connection and queues it for accept(2); false, counted, if the accept queue is full. *Takes* the skb on
 * success: bytes it carries are the connection's first.
 */
function promote(tcp: TcpContext, request: RequestSock, skb: SkBuff, segment: Segment): boolean {
  const tcb = request.listener;
  const listener = tcb.listener as Listener;
  if (listener.acceptQueueFull) {
    tcp.count(MibId.TcpExtListenOverflows);
    tcp.count(MibId.TcpExtListenDrops);
    listener.drops++;
    return false;
  }
  const isHashed = listener.requests.has(request);
  leaveSynQueue(tcp, request);
  const child = openChild(tcp, request, isHashed);
  if (child === null) return false;
  child.acceptOffset = listener.queuedTotal++;
  listener.acceptQueue.push(child);
  if (tcp.traced(child.connId)) {
    tcp.env.trace.stamp(Point.established, child.connId, listener.acceptQueue.length, listener.backlog + 1);
  }
  tcp.hooks.childSegment(child, skb, segment);
  tcb.upcalls.readable();
  return true;
}

/** An ACK in the name of a half-open connection. */
function sendRequestAck(tcp: TcpContext, request: RequestSock): void {
  const headerLen = wire.HEADER_LEN + (request.timestampsOk ? 12 : 0);
  const skb = bareSegment(tcp, headerLen);
  if (skb === null) return;
  const window = Math.min(0xffff, request.rcvWnd >>> request.rcvWindowScale);
  wire.writeHeader(
    skb.view,
    skb.transport,
    request.localPort,
    request.remotePort,
    seqAdd(request.sntIsn, 1),
    seqAdd(request.rcvIsn, 1),
    headerLen,
    Flag.ack,
    window,
  );
  if (request.timestampsOk) {
    wire.writeNopNopTimestamps(
      skb.view,
      skb.transport + wire.HEADER_LEN,
      tcp.timestamp(request.tsOffset),
      request.tsRecent,
    );
  }
  sendBare(tcp, skb, request.route, request.localAddress.v4, request.remoteAddress.v4);
}

/** The listener goes: half-open connections are forgotten, queued ones reset (Linux inet_csk_listen_stop; row 21). */
export function stopListening(tcp: TcpContext, tcb: Tcb): void {
  const listener = tcb.listener as Listener;
  tcp.listeners.remove(tcb);
  for (const request of [...listener.requests]) forget(tcp, request);
  for (const child of listener.acceptQueue.splice(0)) {
    child.acceptedBy = null;
    if (child.state !== TcpState.close) {
      sendActiveReset(tcp, child);
      tcp.stampClosed(child, Ending.resetSent);
      tcp.setState(child, TcpState.close);
    }
    destroy(tcp, child);
  }
  tcb.listener = null;
}

/** TCP_DEFER_ACCEPT: seconds as a number of SYN-ACK timeouts, rounded up (Linux secs_to_retrans). */
export function secondsToTimeouts(seconds: number, timeoutNs: Ns, maxNs: Ns): number {
  if (seconds <= 0) return 0;
  let timeouts = 1;
  let period = timeoutNs;
  for (let total = timeoutNs; seconds * SECOND > total && timeouts < 255; timeouts++) {
    period = Math.min(period * 2, maxNs);
    total += period;
  }
  return timeouts;
}

/** And back, in seconds (Linux retrans_to_secs). */
export function timeoutsToSeconds(timeouts: number, timeoutNs: Ns, maxNs: Ns): number {
  let total = timeouts > 0 ? timeoutNs : 0;
  let period = timeoutNs;
  for (let i = 1; i < timeouts; i++) {
    period = Math.min(period * 2, maxNs);
    total += period;
  }
  return Math.floor(total / (1000 * MILLISECOND));
}
