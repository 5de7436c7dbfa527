/**
 * Building one segment and handing it to IP (Linux __tcp_transmit_skb, tcp_options_write). @hot
 *
 * The payload is copied from the send queue into the frame in one pass with its checksum; the header's words are added
 * to that sum. On a path that takes super-segments the device makes the checksums and the pass is a bare copy.
 * Everything that must happen whenever an acknowledgement or data leaves happens here.
 */
import { finish, fold, pseudoHeaderV4, sum } from "../../base/checksum.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { Cost } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import { IpProtocol, type Route } from "../../network/port.ts";
import { type SkBuff, Summed } from "../../skb/skb.ts";
import * as wire from "../../wire/tcp.ts";
import { ATO_MIN_NS, HEADERS_LEN_V4, MAX_PAYLOAD_BYTES } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { AckPending, RowWord, type Tcb } from "./tcb.ts";
import { advertise } from "./window.ts";

const { Flag } = wire;

/** Bytes of options a segment of this connection carries after the handshake, SACK not counted. */
export function fixedOptionsLen(tcb: Tcb): number {
  return tcb.timestampsOk ? 12 : 0;
}

/**
 * The route of a connection, looked up again if the table or the path's MTU changed. Null, with the error kept, when
 * there is none.
 */
export function routeOf(tcp: TcpContext, tcb: Tcb): Route | null {
  const route = tcb.route;
  if (route !== null && route.valid) return route;
  const found = tcp.ip.route(tcb.remoteAddress, tcb.localAddress, tcb.boundIfindex);
  if (typeof found === "number") {
    tcb.softError = -found;
    return null;
  }
  tcb.route = found;
  syncMss(tcb);
  return found;
}

/**
 * Recomputes the payload of a full segment: path MTU, the peer's MSS, options, half of the largest window
 * (tcp_sync_mss).
 */
export function syncMss(tcb: Tcb): void {
  const mtu = tcb.route === null ? 1500 : tcb.route.mtu;
  let mss = Math.min(mtu - 40, tcb.mssClampBytes, MAX_PAYLOAD_BYTES) - fixedOptionsLen(tcb);
  const half = tcb.maxWindow > 536 ? tcb.maxWindow >>> 1 : tcb.maxWindow;
  if (half > 0 && mss > half) mss = Math.max(half, 68 - 20 - fixedOptionsLen(tcb));
  tcb.mssBytes = Math.max(mss, 48 - fixedOptionsLen(tcb));
}

/** Payload of a full segment now: SACK blocks, while there are any, take their room from it (tcp_current_mss). */
export function currentMss(tcb: Tcb): number {
  return tcb.mssBytes - sackOptionLen(tcb);
}

/**
 * Payload of the largest super-segment this path takes now, in bytes: whole segments of `mss`; 0 if it takes none, or
 * none of two segments. One frame holds it with all its headers, and IP can tell its length.
 */
export function superSegmentBytes(tcb: Tcb, mss: number): number {
  const { route } = tcb;
  if (route === null || route.gsoMaxBytes === 0) return 0;
  const headersLen = HEADERS_LEN_V4 + fixedOptionsLen(tcb) + sackOptionLen(tcb);
  const most = Math.min(route.gsoMaxBytes - headersLen, MAX_PAYLOAD_BYTES);
  return most < 2 * mss ? 0 : most - (most % mss);
}

/**
 * Sends stream bytes [lo, hi) with `flags`; a FIN counts one in `hi`, a SYN −1 in `lo`. With a `gsoSize` they are a
 * super-segment of so many bytes each. Returns 0 or -errno; the segment then simply was not sent, as if the wire had
 * lost it. -ENOMEM: there is no slot for so large a frame, a smaller one may find one.
 */
export function transmit(tcp: TcpContext, tcb: Tcb, lo: number, hi: number, flags: number, gsoSize = 0): number {
  const { env } = tcp;
  const route = routeOf(tcp, tcb);
  if (route === null) return -Errno.EHOSTUNREACH;
  const from = lo < 0 ? 0 : lo;
  const payloadLen = Math.max(0, Math.min(hi, tcb.writtenOffset) - from);
  const optionsLen = (flags & Flag.syn) !== 0 ? synOptionsLen(tcb) : fixedOptionsLen(tcb) + sackOptionLen(tcb);
  const headerLen = wire.HEADER_LEN + optionsLen;
  const skb = env.pool.alloc(headerLen + payloadLen);
  if (skb === null) {
    if (gsoSize > 0) return -Errno.ENOMEM;
    env.drops.count(DropReason.noMem);
    return -Errno.ENOBUFS;
  }
  env.clock.charge(Cost.txFrame, 1);
  const offload = route.gsoMaxBytes > 0;
  const at = skb.put(headerLen + payloadLen);
  const partial = tcb.sendQueue.copyOut(from, payloadLen, at + headerLen, !offload);
  const window = (flags & Flag.syn) !== 0 ? synWindow(tcb) : advertise(tcp, tcb);
  // As a signed word, which is a small integer: an unsigned one above 2^31 would be a new object (addresses too).
  const ack = (flags & Flag.ack) !== 0 ? tcb.words[tcb.at + RowWord.rcvNxt] : 0;
  const view = skb.view;
  wire.writeHeader(view, at, tcb.localPort, tcb.remotePort, tcb.seqOfSent(lo), ack, headerLen, flags, window);
  if ((flags & Flag.syn) !== 0) writeSynOptions(tcp, tcb, view, at + wire.HEADER_LEN);
  else if (optionsLen > 0) writeOptions(tcp, tcb, view, at + wire.HEADER_LEN);
  const pseudo = pseudoHeaderV4(tcb.localAddress.w3, tcb.remoteAddress.w3, IpProtocol.tcp, headerLen + payloadLen);
  if (offload) {
    wire.setChecksum(view, at, fold(pseudo));
    skb.summed = Summed.partial;
  } else {
    wire.setChecksum(view, at, finish(sum(skb.bytes, at, headerLen, partial + pseudo)));
  }
  skb.transport = at;
  skb.gsoSize = gsoSize;

  if ((flags & Flag.ack) !== 0) onAckSent(tcp, tcb);
  if (payloadLen > 0) onDataSent(tcp, tcb, skb, from, from + payloadLen);
  const segments = gsoSize === 0 ? 1 : Math.ceil(payloadLen / gsoSize);
  if (hi > tcb.sndNxtOffset || lo === hi) env.mib.values[MibId.TcpOutSegs] += segments;
  tcb.segmentsOut += segments;
  return tcp.ip.output(skb, route, IpProtocol.tcp, tcb.outputOptions);
}

/** An acknowledgement leaves with this segment (Linux tcp_event_ack_sent). */
function onAckSent(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.quickAcks > 0 && (tcb.ackPending & AckPending.scheduled) !== 0) {
    if (--tcb.quickAcks === 0) tcb.atoNs = ATO_MIN_NS;
  }
  tcb.ackPending = 0;
  tcp.cancel(tcb.delackTimer);
}

/** Data leaves: is this conversation interactive? (Linux tcp_event_data_sent). Also what the journey needs to know. */
function onDataSent(tcp: TcpContext, tcb: Tcb, skb: SkBuff, lo: number, hi: number): void {
  const { env } = tcp;
  const now = env.clock.nowNs;
  tcb.lastSentNs = now;
  if (now - tcb.lastReceivedNs < tcb.atoNs) tcb.pingpong = true;
  if ((tcb.connId & env.trace.mask) !== 0) return;
  skb.id = env.nextFrameId();
  env.trace.link(Point.segmentSent, skb.id, tcb.connId, lo, hi);
}

/** A bare acknowledgement now (Linux tcp_send_ack). */
export function sendAck(tcp: TcpContext, tcb: Tcb): void {
  if (transmit(tcp, tcb, tcb.sndNxtOffset, tcb.sndNxtOffset, Flag.ack) === -Errno.ENOBUFS) {
    // No memory: the delayed-ACK timer tries again.
    tcb.ackPending |= AckPending.scheduled | AckPending.timer;
    tcp.armDelack(tcb, tcp.nowNs + 2 * ATO_MIN_NS);
  }
}

/** A zero-window or keep-alive probe: an old sequence number makes the peer answer (Linux tcp_xmit_probe_skb). */
export function sendProbe(tcp: TcpContext, tcb: Tcb): number {
  const offset = tcb.sndUnaOffset - 1;
  return transmit(tcp, tcb, offset, offset, Flag.ack);
}

/** RST of a live connection (Linux tcp_send_active_reset): sequence number in the window, ACK of what was received. */
export function sendActiveReset(tcp: TcpContext, tcb: Tcb): void {
  tcp.count(MibId.TcpOutRsts);
  const offset = tcb.sndNxtOffset;
  transmit(tcp, tcb, offset, offset, Flag.rst | Flag.ack);
}

// ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────

function writeOptions(tcp: TcpContext, tcb: Tcb, view: DataView, optionsAt: number): void {
  let at = optionsAt;
  if (tcb.timestampsOk) at += wire.writeNopNopTimestamps(view, at, tcp.timestamp(tcb.tsOffset), tcb.tsRecent);
  const blocks = sackBlockCount(tcb);
  if (blocks > 0) writeSackOption(tcp, tcb, view, at, blocks);
}

/** Blocks the SACK option will have: what came twice, then what is out of order, as many as fit. */
function sackBlockCount(tcb: Tcb): number {
  if (!tcb.sackOk) return 0;
  const wanted = tcb.reassembly.blockCount + (tcb.dsackSeq === tcb.dsackEnd ? 0 : 1);
  return Math.min(wanted, tcb.timestampsOk ? 3 : 4);
}

/** Bytes of the SACK option with its two NOPs; 0 if nothing is out of order or came twice. */
function sackOptionLen(tcb: Tcb): number {
  const count = sackBlockCount(tcb);
  return count === 0 ? 0 : 4 + 8 * count;
}

function writeSackOption(tcp: TcpContext, tcb: Tcb, view: DataView, at: number, count: number): void {
  wire.writeNop(view, at);
  wire.writeNop(view, at + 1);
  if (tcb.dsackSeq === tcb.dsackEnd) {
    wire.writeSack(view, at + 2, tcb.reassembly.blocks, count);
    return;
  }
  const blocks = tcp.sackBlocks;
  blocks[0] = tcb.dsackSeq;
  blocks[1] = tcb.dsackEnd;
  for (let i = 2; i < 2 * count; i++) blocks[i] = tcb.reassembly.blocks[i - 2];
  wire.writeSack(view, at + 2, blocks, count);
  tcb.dsackSeq = tcb.dsackEnd;
}

/** A SYN's own window is never scaled (RFC 7323 §2.2). */
function synWindow(tcb: Tcb): number {
  tcb.rcvWup = tcb.rcvNxt;
  return Math.min(tcb.rcvWnd, 65535);
}

/** MSS, then the options still wished for (active) or agreed on (simultaneous open). */
function synOptionsLen(tcb: Tcb): number {
  return synOptionsBytes(tcb.timestampsOk, tcb.sackOk, tcb.rcvWindowScale >= 0 && tcb.offersWindowScale);
}

function writeSynOptions(tcp: TcpContext, tcb: Tcb, view: DataView, at: number): void {
  const scale = tcb.offersWindowScale ? tcb.rcvWindowScale : -1;
  const tsVal = tcb.timestampsOk ? tcp.timestamp(tcb.tsOffset) : 0;
  writeHandshakeOptions(view, at, tcb.advMssBytes, tcb.timestampsOk, tsVal, tcb.tsRecent, tcb.sackOk, scale);
}

/** Bytes of a SYN's options, padded to words. */
export function synOptionsBytes(timestamps: boolean, sack: boolean, windowScale: boolean): number {
  return 4 + (timestamps ? 12 : sack ? 4 : 0) + (windowScale ? 4 : 0);
}

/** Linux's order: MSS, SACK-permitted in the place of timestamps' NOPs, timestamps, NOP, window scale (−1 = none). */
export function writeHandshakeOptions(
  view: DataView,
  optionsAt: number,
  mss: number,
  timestamps: boolean,
  tsVal: number,
  tsEcr: number,
  sack: boolean,
  windowScale: number,
): void {
  let at = optionsAt;
  at += wire.writeMss(view, at, mss);
  if (timestamps) {
    if (sack) {
      at += wire.writeSackPermitted(view, at);
    } else {
      at += wire.writeNop(view, at);
      at += wire.writeNop(view, at);
    }
    at += wire.writeTimestamps(view, at, tsVal, tsEcr);
  } else if (sack) {
    at += wire.writeNop(view, at);
    at += wire.writeNop(view, at);
    at += wire.writeSackPermitted(view, at);
  }
  if (windowScale >= 0) {
    at += wire.writeNop(view, at);
    wire.writeWindowScale(view, at, windowScale);
  }
}

// ── segments without a Tcb: SYN-ACKs of request socks, RSTs, TIME_WAIT's ACKs ─────────────────────────────────────

/** A frame with a TCP header of `headerLen` bytes to fill options into; null, counted, when memory is out. */
export function bareSegment(tcp: TcpContext, headerLen: number): SkBuff | null {
  const skb = tcp.env.pool.alloc(headerLen);
  if (skb === null) {
    tcp.env.drops.count(DropReason.noMem);
    return null;
  }
  tcp.env.clock.charge(Cost.txFrame, 1);
  skb.transport = skb.put(headerLen);
  return skb;
}

/** Completes the checksum of a bare segment and sends it. *Takes* the skb. */
export function sendBare(tcp: TcpContext, skb: SkBuff, route: Route, sourceV4: number, destinationV4: number): void {
  wire.fillChecksumV4(skb.bytes, skb.view, skb.transport, skb.len, sourceV4, destinationV4);
  tcp.count(MibId.TcpOutSegs);
  tcp.ip.output(skb, route, IpProtocol.tcp, tcp.outputOptions);
}
