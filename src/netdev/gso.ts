/**
 * Super-segments on their way out (Linux skb_gso_segment, tcp_gso_segment): one frame that stands for many TCP segments
 * is cut, as late as possible, into the frames TCP would have sent one by one.
 *
 *   headers │ payload, n × gsoSize and a rest        ──►   headers │ gsoSize     headers │ gsoSize   …   headers │ rest
 *
 * A device that takes super-segments gets them whole. All others get pieces; so does a super-segment that is larger
 * than the device takes, as when a router passes it on from a TAP to a cable. Cutting happens before the qdisc (Linux:
 * behind it), so that a queue counts and drops what will be on the wire.
 */
import { fold, pseudoHeaderV4 } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { HEADROOM, type SkBuff, Summed } from "../skb/skb.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";
import type { NetDevice } from "./net-device.ts";

const PROTOCOL_TCP = 6;

/** True if this frame must be cut before `dev` can take it. */
export function mustCut(dev: NetDevice, skb: SkBuff): boolean {
  return skb.gsoSize > 0 && skb.len > dev.device.capabilities.gsoMaxBytes;
}

/**
 * Bytes of the largest IP packet that this one, `skb.data` being its IP header, will be on the wire (Linux
 * skb_gso_network_seglen): what is compared with an MTU.
 */
export function wirePacketBytes(skb: SkBuff): number {
  if (skb.gsoSize === 0) return skb.len;
  return Math.min(skb.len, skb.transport - skb.net + tcp.dataOffset(skb.view, skb.transport) + skb.gsoSize);
}

/**
 * Cuts a super-segment and hands each piece to `send`, which *takes* it and returns 0 or -errno. `skb.data` is where
 * the headers begin, Ethernet or IP; pieces begin there too. *Takes* the skb. 0 if any piece went; else the last
 * error, -ENOBUFS when memory was out, -EINVAL if it is no TCP segment (reason `gsoSeg`).
 */
export function cutSuperSegment(dev: NetDevice, skb: SkBuff, send: (dev: NetDevice, piece: SkBuff) => number): number {
  const { env } = dev;
  if (!isTcpPacket(skb)) {
    dev.txDropped++;
    env.drops.drop(skb, DropReason.gsoSeg);
    return -Errno.EINVAL;
  }
  const { gsoSize } = skb;
  const headersLen = skb.transport + tcp.dataOffset(skb.view, skb.transport) - skb.data;
  const payloadLen = skb.len - headersLen;
  let isSent = false;
  let result = 0;
  for (let at = 0, index = 0; at < payloadLen || index === 0; at += gsoSize, index++) {
    const len = Math.min(gsoSize, payloadLen - at);
    const piece = env.pool.alloc(headersLen + len, HEADROOM);
    if (piece === null) {
      dev.txDropped++;
      env.drops.drop(skb, DropReason.noMem);
      return isSent ? 0 : -Errno.ENOBUFS;
    }
    copyPiece(skb, piece, headersLen, at, len);
    writeHeaders(skb, piece, index, at, at + len === payloadLen);
    fillChecksum(piece, dev.device.capabilities.checksum);
    result = send(dev, piece);
    isSent ||= result === 0;
  }
  dev.superSegmentsCut++;
  // The pieces carry on for it.
  env.pool.release(skb);
  return isSent ? 0 : result;
}

/** A device may have been lied to: nothing but a whole IPv4 packet with a whole TCP header can be cut. */
function isTcpPacket(skb: SkBuff): boolean {
  const { view, net, transport } = skb;
  if (net === 0 || transport === 0 || ipv4.protocol(view, net) !== PROTOCOL_TCP) return false;
  return !ipv4.isFragment(view, net) && tcp.check(view, transport, skb.tail) === DropReason.none;
}

function copyPiece(skb: SkBuff, piece: SkBuff, headersLen: number, at: number, len: number): void {
  const from = skb.data;
  const to = piece.put(headersLen + len);
  piece.bytes.copyWithin(to, from, from + headersLen);
  piece.bytes.copyWithin(to + headersLen, from + headersLen + at, from + headersLen + at + len);
  const shift = to - from;
  piece.mac = skb.mac >= from ? skb.mac + shift : 0;
  piece.net = skb.net + shift;
  piece.transport = skb.transport + shift;
  piece.etherType = skb.etherType;
  piece.packetType = skb.packetType;
  piece.ifindex = skb.ifindex;
  piece.hash = skb.hash;
  piece.priority = skb.priority;
  piece.arrivedNs = skb.arrivedNs;
  piece.polledNs = skb.polledNs;
}

/** What differs from piece to piece: length, IP id, sequence number; CWR is the first's, PSH and FIN are the last's. */
function writeHeaders(skb: SkBuff, piece: SkBuff, index: number, offset: number, isLast: boolean): void {
  const { view, net, transport } = piece;
  ipv4.setTotalLen(view, net, piece.tail - net);
  ipv4.setId(view, net, (ipv4.id(view, net) + index) & 0xffff);
  ipv4.fillChecksum(piece.bytes, view, net);
  tcp.setSeq(view, transport, (tcp.seq(view, transport) + offset) >>> 0);
  let flags = tcp.flags(view, transport);
  if (index > 0) flags &= ~tcp.Flag.cwr;
  if (!isLast) flags &= ~(tcp.Flag.psh | tcp.Flag.fin);
  tcp.setFlags(view, transport, flags);
  // A recorder follows the frame to its end: when the last piece has left, all of it has.
  if (isLast) piece.id = skb.id;
}

/** The pseudo-header's sum for a device that completes it, or the whole. */
function fillChecksum(piece: SkBuff, offload: boolean): void {
  const { view, net, transport } = piece;
  const src = ipv4.src(view, net);
  const dst = ipv4.dst(view, net);
  const len = piece.tail - transport;
  if (offload) {
    tcp.setChecksum(view, transport, fold(pseudoHeaderV4(src, dst, PROTOCOL_TCP, len)));
    piece.summed = Summed.partial;
  } else {
    tcp.fillChecksumV4(piece.bytes, view, transport, len, src, dst);
  }
}
