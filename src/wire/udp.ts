/**
 * UDP headers (RFC 768).
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |          Source Port          |       Destination Port        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |            Length             |           Checksum            |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { finish, pseudoHeaderV4, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";

/** Bytes of the header. */
export const HEADER_LEN = 8;
/** IANA protocol number, for the pseudo header. */
const PROTOCOL = 17;
const DST_PORT = 2;
const LENGTH = 4;
const CHECKSUM = 6;

export function srcPort(v: DataView, at: number): number {
  return v.getUint16(at);
}

export function setSrcPort(v: DataView, at: number, value: number): void {
  v.setUint16(at, value);
}

export function dstPort(v: DataView, at: number): number {
  return v.getUint16(at + DST_PORT);
}

export function setDstPort(v: DataView, at: number, value: number): void {
  v.setUint16(at + DST_PORT, value);
}

/** Bytes of header and payload. */
export function length(v: DataView, at: number): number {
  return v.getUint16(at + LENGTH);
}

export function setLength(v: DataView, at: number, bytes: number): void {
  v.setUint16(at + LENGTH, bytes);
}

/** 0 = the sender computed none. */
export function checksum(v: DataView, at: number): number {
  return v.getUint16(at + CHECKSUM);
}

export function setChecksum(v: DataView, at: number, value: number): void {
  v.setUint16(at + CHECKSUM, value);
}

/** Writes the 8 bytes with checksum 0; `len` in bytes with the payload. */
export function writeHeader(v: DataView, at: number, sourcePort: number, destinationPort: number, len: number): void {
  v.setUint16(at, sourcePort);
  v.setUint16(at + DST_PORT, destinationPort);
  v.setUint16(at + LENGTH, len);
  v.setUint16(at + CHECKSUM, 0);
}

/** Computes and stores the checksum of the datagram of `len` bytes at `at`, for IPv4; 0 is sent as 0xffff (RFC 768). */
export function fillChecksumV4(
  bytes: Uint8Array,
  v: DataView,
  at: number,
  len: number,
  src: number,
  dst: number,
): void {
  v.setUint16(at + CHECKSUM, 0);
  const check16 = finish(sum(bytes, at, len, pseudoHeaderV4(src, dst, PROTOCOL, len)));
  v.setUint16(at + CHECKSUM, check16 === 0 ? 0xffff : check16);
}

/** True if the datagram of `len` bytes at `at` carries no checksum or a right one, for IPv4. */
export function hasGoodChecksumV4(
  bytes: Uint8Array,
  v: DataView,
  at: number,
  len: number,
  src: number,
  dst: number,
): boolean {
  return checksum(v, at) === 0 || finish(sum(bytes, at, len, pseudoHeaderV4(src, dst, PROTOCOL, len))) === 0;
}

/** `pktTooSmall` if the header is cut off, or its length is below 8 or runs past `end` (Linux __udp4_lib_rcv). */
export function check(v: DataView, at: number, end: number): DropReason {
  if (end - at < HEADER_LEN) return DropReason.pktTooSmall;
  const len = length(v, at);
  return len < HEADER_LEN || len > end - at ? DropReason.pktTooSmall : DropReason.none;
}

/** A datagram as a value: for tests, the lab and captures. */
export interface Repr {
  readonly srcPort: number;
  readonly dstPort: number;
  /** As on the wire; `fillChecksumV4` computes it. */
  readonly checksum: number;
  readonly payload: Uint8Array;
}

/** Reads the datagram at `at`; bytes past its length are not part of it. `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0): Repr {
  const v = viewOf(bytes);
  return {
    srcPort: srcPort(v, at),
    dstPort: dstPort(v, at),
    checksum: checksum(v, at),
    payload: bytes.slice(at + HEADER_LEN, at + length(v, at)),
  };
}

/** The datagram's bytes, with the checksum field as given. */
export function emit(r: Repr): Uint8Array {
  const bytes = new Uint8Array(HEADER_LEN + r.payload.length);
  const v = viewOf(bytes);
  writeHeader(v, 0, r.srcPort, r.dstPort, bytes.length);
  setChecksum(v, 0, r.checksum);
  bytes.set(r.payload, HEADER_LEN);
  return bytes;
}

/** One line for people, after tcpdump. */
export function pretty(r: Repr): string {
  return `${r.srcPort} > ${r.dstPort} UDP, length ${r.payload.length}`;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
