/**
 * Frames made by hand: what no honest kernel would send. Values in, bytes out; every checksum is right unless the
 * caller damages it.
 */
import { parseV4 } from "../../src/base/address.ts";
import { IpProtocol } from "../../src/network/port.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as icmp from "../../src/wire/icmp.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";
import * as udp from "../../src/wire/udp.ts";

/** An IPv4 address as an unsigned number, or in dots. */
export type Ip = number | string;

const NOTHING = new Uint8Array(0);
const MAX_FRAGMENT_BYTES = 1480;

/** Who talks to whom: the MAC addresses of a cable's two ends. */
export interface Ends {
  /** As `formatMac` prints it. */
  readonly fromMac: string;
  readonly toMac: string;
}

export interface Segment {
  /** The source is whatever the sender says: an address of its network gets the answers. */
  readonly from: Ip;
  readonly fromPort: number;
  readonly to: Ip;
  readonly toPort: number;
  /** `tcp.Flag` bits. */
  readonly flags: number;
  readonly seq?: number;
  readonly ack?: number;
  /** Unscaled; default 65535. */
  readonly window?: number;
  readonly options?: readonly tcp.TcpOption[];
  readonly payload?: Uint8Array;
}

export interface Datagram {
  readonly from: Ip;
  readonly fromPort: number;
  readonly to: Ip;
  readonly toPort: number;
  readonly payload?: Uint8Array;
}

/** One piece of a packet: `offset` (a multiple of 8) and `bytes` of its payload; `last`: no more fragments follow. */
export interface Piece {
  readonly offset: number;
  readonly bytes: number;
  readonly last?: boolean;
}

/** An address as an unsigned 32-bit number. Throws RangeError if it is none. */
export function ipNumber(ip: Ip): number {
  if (typeof ip === "number") return ip >>> 0;
  const number = parseV4(ip);
  if (number < 0) throw new RangeError(`no IPv4 address: "${ip}"`);
  return number;
}

/** An Ethernet frame around an IPv4 packet; `fields` are what its header shall say besides the usual. */
export function ipFrame(
  ends: Ends,
  from: Ip,
  to: Ip,
  protocol: number,
  payload: Uint8Array,
  fields: Partial<ipv4.Repr> = {},
): Uint8Array {
  const packet = ipv4.emit({
    ...{ src: ipNumber(from), dst: ipNumber(to), protocol, payload, ttl: 64, tos: 0, id: 0, options: NOTHING },
    ...{ reservedFlag: false, dontFragment: false, moreFragments: false, fragmentOffset: 0 },
    ...fields,
  });
  return ethernet.emit({
    src: ends.fromMac,
    dst: ends.toMac,
    etherType: ethernet.EtherType.ipv4,
    payload: packet,
  });
}

/** A TCP segment in its frame: a SYN, a bare ACK, data of any size that fits the cable. */
export function tcpFrame(ends: Ends, segment: Segment): Uint8Array {
  return ipFrame(ends, segment.from, segment.to, IpProtocol.tcp, tcpBytes(segment));
}

/** The segment's bytes, with its checksum, for frames that are put together otherwise (fragments). */
export function tcpBytes(s: Segment): Uint8Array {
  const bytes = tcp.emit({
    ...{ srcPort: s.fromPort, dstPort: s.toPort, seq: s.seq ?? 0, ack: s.ack ?? 0, flags: s.flags },
    ...{ window: s.window ?? 65535, options: s.options ?? [], payload: s.payload ?? NOTHING },
    ...{ reserved: 0, checksum: 0, urgent: 0 },
  });
  tcp.fillChecksumV4(bytes, viewOf(bytes), 0, bytes.length, ipNumber(s.from), ipNumber(s.to));
  return bytes;
}

/** A UDP datagram in its frame. */
export function udpFrame(ends: Ends, datagram: Datagram): Uint8Array {
  return ipFrame(ends, datagram.from, datagram.to, IpProtocol.udp, udpBytes(datagram));
}

/** The datagram's bytes, with its checksum. */
export function udpBytes(d: Datagram): Uint8Array {
  const bytes = udp.emit({ srcPort: d.fromPort, dstPort: d.toPort, checksum: 0, payload: d.payload ?? NOTHING });
  udp.fillChecksumV4(bytes, viewOf(bytes), 0, bytes.length, ipNumber(d.from), ipNumber(d.to));
  return bytes;
}

/** An ICMP echo request in its frame. */
export function echoFrame(ends: Ends, from: Ip, to: Ip, seq: number, payload: Uint8Array = NOTHING): Uint8Array {
  const message = icmp.emit({ type: icmp.Type.echoRequest, code: 0, rest: seq & 0xffff, payload });
  return ipFrame(ends, from, to, IpProtocol.icmp, message);
}

/** The fragments of one packet, cut as asked: pieces may overlap, miss, repeat and come in any order. */
export function fragmentFrames(
  ends: Ends,
  packet: { readonly from: Ip; readonly to: Ip; readonly protocol: number; readonly id: number },
  payload: Uint8Array,
  pieces: readonly Piece[] = inOrder(payload.length),
): Uint8Array[] {
  return pieces.map(({ offset, bytes, last = false }) =>
    ipFrame(ends, packet.from, packet.to, packet.protocol, payload.slice(offset, offset + bytes), {
      id: packet.id,
      fragmentOffset: offset,
      moreFragments: !last,
    }),
  );
}

/** How an honest router cuts `length` bytes for an MTU of 1500. */
export function inOrder(length: number): Piece[] {
  const pieces: Piece[] = [];
  for (let offset = 0; offset < length; offset += MAX_FRAGMENT_BYTES) {
    const bytes = Math.min(MAX_FRAGMENT_BYTES, length - offset);
    pieces.push({ offset, bytes, last: offset + bytes === length });
  }
  return pieces;
}

/** A frame that came back, read: its packet, and the segment, datagram or message in it if it is a whole one. */
export interface Answer {
  readonly ip: ipv4.Repr;
  readonly tcp?: tcp.Repr;
  readonly udp?: udp.Repr;
  readonly icmp?: icmp.Repr;
}

/** Reads an answer; null if the frame holds no IPv4 packet. Damaged packets are not read. */
export function readAnswer(frame: Uint8Array): Answer | null {
  const view = viewOf(frame);
  const at = ethernet.HEADER_LEN;
  if (frame.length < at || ethernet.etherType(view, 0) !== ethernet.EtherType.ipv4) return null;
  if (ipv4.check(view, at, frame.length) !== 0) return null;
  const ip = ipv4.parse(frame, at);
  const { payload, protocol } = ip;
  const inner = viewOf(payload);
  if (ip.moreFragments || ip.fragmentOffset > 0) return { ip };
  if (protocol === IpProtocol.tcp && tcp.check(inner, 0, payload.length) === 0) return { ip, tcp: tcp.parse(payload) };
  if (protocol === IpProtocol.udp && udp.check(inner, 0, payload.length) === 0) return { ip, udp: udp.parse(payload) };
  if (protocol === IpProtocol.icmp && icmp.check(inner, 0, payload.length) === 0)
    return { ip, icmp: icmp.parse(payload) };
  return { ip };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
