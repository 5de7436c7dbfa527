/**
 * IPv4 headers (RFC 791 §3.1).
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |Version|  IHL  |Type of Service|          Total Length         |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Identification        |Flags|      Fragment Offset    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Time to Live |    Protocol   |         Header Checksum       |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                       Source Address                          |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                    Destination Address                        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                    Options                    |    Padding    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { formatV4 } from "../base/address.ts";
import { finish, sum, update16 } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";

/** Bytes of a header without options. */
export const HEADER_LEN = 20;
/** Bytes of the longest header (IHL 15). */
export const MAX_HEADER_LEN = 60;
const TOS = 1;
const TOTAL_LEN = 2;
const ID = 4;
const FRAGMENT = 6;
const TTL = 8;
const PROTOCOL = 9;
const CHECKSUM = 10;
const SRC = 12;
const DST = 16;

const FLAG_RESERVED = 0x8000;
/** Don't Fragment. */
export const FLAG_DF = 0x4000;
/** More Fragments. */
export const FLAG_MF = 0x2000;
/** Fragment offset in units of 8 bytes. */
export const OFFSET_MASK = 0x1fff;

/** IP version: 4, if the bytes are IPv4. */
export function version(v: DataView, at: number): number {
  return v.getUint8(at) >>> 4;
}

/** Header length in bytes. */
export function ihl(v: DataView, at: number): number {
  return (v.getUint8(at) & 15) << 2;
}

/** Type of service: DSCP in the upper six bits, ECN in the lower two. */
export function tos(v: DataView, at: number): number {
  return v.getUint8(at + TOS);
}

export function setTos(v: DataView, at: number, value: number): void {
  v.setUint8(at + TOS, value);
}

/** Length of header and payload in bytes. */
export function totalLen(v: DataView, at: number): number {
  return v.getUint16(at + TOTAL_LEN);
}

export function setTotalLen(v: DataView, at: number, bytes: number): void {
  v.setUint16(at + TOTAL_LEN, bytes);
}

export function id(v: DataView, at: number): number {
  return v.getUint16(at + ID);
}

export function setId(v: DataView, at: number, value: number): void {
  v.setUint16(at + ID, value);
}

/** The raw field: FLAG_DF, FLAG_MF and the offset. */
export function fragment(v: DataView, at: number): number {
  return v.getUint16(at + FRAGMENT);
}

export function setFragment(v: DataView, at: number, value: number): void {
  v.setUint16(at + FRAGMENT, value);
}

/** True for a part of a larger packet: the first, a middle or the last one. */
export function isFragment(v: DataView, at: number): boolean {
  return (v.getUint16(at + FRAGMENT) & (FLAG_MF | OFFSET_MASK)) !== 0;
}

/** Hops the packet may still make. */
export function ttl(v: DataView, at: number): number {
  return v.getUint8(at + TTL);
}

export function setTtl(v: DataView, at: number, value: number): void {
  v.setUint8(at + TTL, value);
}

/** Takes one off the TTL and keeps the checksum right (RFC 1624; Linux ip_decrease_ttl). Returns the new TTL. */
export function decrementTtl(v: DataView, at: number): number {
  const old = v.getUint16(at + TTL);
  const now = old - 0x100;
  v.setUint16(at + TTL, now);
  v.setUint16(at + CHECKSUM, update16(v.getUint16(at + CHECKSUM), old, now & 0xffff));
  return now >>> 8;
}

/** IANA protocol number of the payload. */
export function protocol(v: DataView, at: number): number {
  return v.getUint8(at + PROTOCOL);
}

export function setProtocol(v: DataView, at: number, value: number): void {
  v.setUint8(at + PROTOCOL, value);
}

export function checksum(v: DataView, at: number): number {
  return v.getUint16(at + CHECKSUM);
}

export function setChecksum(v: DataView, at: number, value: number): void {
  v.setUint16(at + CHECKSUM, value);
}

/** Source address, unsigned 32 bit. */
export function src(v: DataView, at: number): number {
  return v.getUint32(at + SRC);
}

export function setSrc(v: DataView, at: number, value: number): void {
  v.setUint32(at + SRC, value);
}

/** Destination address, unsigned 32 bit. */
export function dst(v: DataView, at: number): number {
  return v.getUint32(at + DST);
}

export function setDst(v: DataView, at: number, value: number): void {
  v.setUint32(at + DST, value);
}

/** Recomputes the header checksum after fields were set. */
export function fillChecksum(bytes: Uint8Array, v: DataView, at: number): void {
  v.setUint16(at + CHECKSUM, 0);
  v.setUint16(at + CHECKSUM, finish(sum(bytes, at, ihl(v, at))));
}

/**
 * Writes a 20-byte header with its checksum. `fragmentField` is FLAG_DF, FLAG_MF and the offset; addresses are unsigned
 * 32 bit; `len` is the total length in bytes. `bytes` and `view` are of the same memory.
 */
export function writeHeader(
  _bytes: Uint8Array,
  view: DataView,
  at: number,
  len: number,
  identification: number,
  fragmentField: number,
  timeToLive: number,
  protocolNumber: number,
  srcU32: number,
  dstU32: number,
  typeOfService: number,
): void {
  const first = 0x4500 | typeOfService;
  const hop = (timeToLive << 8) | protocolNumber;
  view.setUint16(at, first);
  view.setUint16(at + TOTAL_LEN, len);
  view.setUint16(at + ID, identification);
  view.setUint16(at + FRAGMENT, fragmentField);
  view.setUint16(at + TTL, hop);
  view.setUint32(at + SRC, srcU32);
  view.setUint32(at + DST, dstU32);
  // Summed from the values at hand instead of reading back what was just written.
  const addresses = (srcU32 >>> 16) + (srcU32 & 0xffff) + (dstU32 >>> 16) + (dstU32 & 0xffff);
  view.setUint16(at + CHECKSUM, finish(first + len + (identification & 0xffff) + fragmentField + hop + addresses));
}

/**
 * The trust boundary of received packets, in Linux's order (ip_rcv_core): `ipInhdr` for a header that is cut off or
 * impossible, `ipCsum` for a wrong header checksum, `pktTooSmall` if the packet claims more bytes than arrived.
 * Reads the checksum over `v`'s memory; padding behind the total length is the caller's to trim.
 */
export function check(v: DataView, at: number, end: number): DropReason {
  const have = end - at;
  if (have < HEADER_LEN) return DropReason.ipInhdr;
  const headerLen = ihl(v, at);
  if (version(v, at) !== 4 || headerLen < HEADER_LEN || have < headerLen) return DropReason.ipInhdr;
  if (finish(headerSum(v, at, headerLen)) !== 0) return DropReason.ipCsum;
  const len = totalLen(v, at);
  if (len > have) return DropReason.pktTooSmall;
  return len < headerLen ? DropReason.ipInhdr : DropReason.none;
}

/** Partial sum of the header; a header is short, so the view's own reads are the fastest. */
function headerSum(v: DataView, at: number, headerLen: number): number {
  let total = 0;
  for (let i = 0; i < headerLen; i += 2) total += v.getUint16(at + i);
  return total;
}

/** A packet as a value: for tests, the lab and captures, never on the packet path. */
export interface Repr {
  /** Unsigned 32 bit; `formatV4` prints it. */
  readonly src: number;
  readonly dst: number;
  readonly protocol: number;
  readonly ttl: number;
  readonly tos: number;
  readonly id: number;
  /** The reserved bit, which must be zero (RFC 791). */
  readonly reservedFlag: boolean;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** Bytes; a multiple of 8. */
  readonly fragmentOffset: number;
  /** Raw options, a multiple of 4 bytes, at most 40. */
  readonly options: Uint8Array;
  readonly payload: Uint8Array;
}

/** Reads the packet at `at`; bytes past its total length are not part of it. `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0): Repr {
  const v = viewOf(bytes);
  const field = fragment(v, at);
  return {
    src: src(v, at),
    dst: dst(v, at),
    protocol: protocol(v, at),
    ttl: ttl(v, at),
    tos: tos(v, at),
    id: id(v, at),
    reservedFlag: (field & FLAG_RESERVED) !== 0,
    dontFragment: (field & FLAG_DF) !== 0,
    moreFragments: (field & FLAG_MF) !== 0,
    fragmentOffset: (field & OFFSET_MASK) * 8,
    options: bytes.slice(at + HEADER_LEN, at + ihl(v, at)),
    payload: bytes.slice(at + ihl(v, at), at + totalLen(v, at)),
  };
}

/** The packet's bytes, with the header checksum. */
export function emit(r: Repr): Uint8Array {
  const headerLen = HEADER_LEN + r.options.length;
  const bytes = new Uint8Array(headerLen + r.payload.length);
  const v = viewOf(bytes);
  const flags = (r.reservedFlag ? FLAG_RESERVED : 0) | (r.dontFragment ? FLAG_DF : 0) | (r.moreFragments ? FLAG_MF : 0);
  const field = flags | (r.fragmentOffset >>> 3);
  writeHeader(bytes, v, 0, bytes.length, r.id, field, r.ttl, r.protocol, r.src, r.dst, r.tos);
  v.setUint8(0, 0x40 | (headerLen >>> 2));
  bytes.set(r.options, HEADER_LEN);
  bytes.set(r.payload, headerLen);
  fillChecksum(bytes, v, 0);
  return bytes;
}

/** One line for people. */
export function pretty(r: Repr): string {
  const flags = `${r.dontFragment ? " DF" : ""}${r.moreFragments ? " MF" : ""}`;
  const offset = r.fragmentOffset > 0 ? ` offset ${r.fragmentOffset}` : "";
  const len = HEADER_LEN + r.options.length + r.payload.length;
  const path = `${formatV4(r.src)} > ${formatV4(r.dst)}`;
  return `${path} proto ${r.protocol} ttl ${r.ttl} id ${r.id}${flags}${offset} length ${len}`;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
