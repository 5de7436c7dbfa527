/**
 * ICMP for IPv4 (RFC 792; next-hop MTU by RFC 1191 §4).
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |     Type      |     Code      |          Checksum             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  echo: identifier             |  echo: sequence number        |
 * |  unreachable code 4: unused   |  next-hop MTU                 |
 * |  parameter problem: pointer, then unused                      |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  echo: data.  Errors: the packet's IP header and first bytes  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { finish, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";

/** Bytes before the echo data or the quoted packet. */
export const HEADER_LEN = 8;
const CODE = 1;
const CHECKSUM = 2;
const REST = 4;
const LOWER_HALF = 6;

export const Type = { echoReply: 0, unreachable: 3, echoRequest: 8, timeExceeded: 11, parameterProblem: 12 } as const;

/** Bit n set: type n reports an error (unreachable, source quench, redirect, time exceeded, parameter problem). */
const ERROR_TYPES = (1 << 3) | (1 << 4) | (1 << 5) | (1 << 11) | (1 << 12);

/** Codes of `Type.unreachable`. */
export const Unreachable = {
  net: 0,
  host: 1,
  protocol: 2,
  port: 3,
  fragmentationNeeded: 4,
  adminProhibited: 13,
} as const;

/** Codes of `Type.timeExceeded`. */
export const TimeExceeded = { ttl: 0, reassembly: 1 } as const;

export function type(v: DataView, at: number): number {
  return v.getUint8(at);
}

export function setType(v: DataView, at: number, value: number): void {
  v.setUint8(at, value);
}

export function code(v: DataView, at: number): number {
  return v.getUint8(at + CODE);
}

export function setCode(v: DataView, at: number, value: number): void {
  v.setUint8(at + CODE, value);
}

export function checksum(v: DataView, at: number): number {
  return v.getUint16(at + CHECKSUM);
}

export function setChecksum(v: DataView, at: number, value: number): void {
  v.setUint16(at + CHECKSUM, value);
}

/** The four bytes after the checksum, unsigned. */
export function rest(v: DataView, at: number): number {
  return v.getUint32(at + REST);
}

export function setRest(v: DataView, at: number, value: number): void {
  v.setUint32(at + REST, value);
}

/** Echo: identifier. */
export function echoId(v: DataView, at: number): number {
  return v.getUint16(at + REST);
}

/** Echo: sequence number. */
export function echoSeq(v: DataView, at: number): number {
  return v.getUint16(at + LOWER_HALF);
}

/** Fragmentation needed: next-hop MTU in bytes; 0 from a router that predates RFC 1191. */
export function nextHopMtu(v: DataView, at: number): number {
  return v.getUint16(at + LOWER_HALF);
}

/** True for the types that report an error and are never answered by another (RFC 1122 §3.2.2). */
export function isError(typeNumber: number): boolean {
  return ((ERROR_TYPES >>> typeNumber) & 1) !== 0 && typeNumber < 32;
}

/** Writes the 8 bytes with checksum 0; `fillChecksum` once the rest of the message stands. */
export function writeHeader(v: DataView, at: number, typeNumber: number, codeNumber: number, restU32: number): void {
  v.setUint32(at, (typeNumber << 24) | (codeNumber << 16));
  v.setUint32(at + REST, restU32);
}

/** Computes and stores the checksum of the message of `len` bytes at `at`. */
export function fillChecksum(bytes: Uint8Array, v: DataView, at: number, len: number): void {
  v.setUint16(at + CHECKSUM, 0);
  v.setUint16(at + CHECKSUM, finish(sum(bytes, at, len)));
}

/** True if the checksum of the message of `len` bytes at `at` is right. */
export function hasGoodChecksum(bytes: Uint8Array, at: number, len: number): boolean {
  return finish(sum(bytes, at, len)) === 0;
}

/** `pktTooSmall` if the header is cut off. The checksum (`hasGoodChecksum`, `icmpCsum`) reads the whole message. */
export function check(_v: DataView, at: number, end: number): DropReason {
  return end - at < HEADER_LEN ? DropReason.pktTooSmall : DropReason.none;
}

/** A message as a value: for tests, the lab and captures. */
export interface Repr {
  readonly type: number;
  readonly code: number;
  /** The four bytes after the checksum. */
  readonly rest: number;
  readonly payload: Uint8Array;
}

/** Reads the message in [at, end). `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0, end = bytes.length): Repr {
  const v = viewOf(bytes);
  return { type: type(v, at), code: code(v, at), rest: rest(v, at), payload: bytes.slice(at + HEADER_LEN, end) };
}

/** The message's bytes, with its checksum. */
export function emit(r: Repr): Uint8Array {
  const bytes = new Uint8Array(HEADER_LEN + r.payload.length);
  const v = viewOf(bytes);
  writeHeader(v, 0, r.type, r.code, r.rest);
  bytes.set(r.payload, HEADER_LEN);
  fillChecksum(bytes, v, 0, bytes.length);
  return bytes;
}

/** One line for people, after tcpdump. */
export function pretty(r: Repr): string {
  const length = `length ${HEADER_LEN + r.payload.length}`;
  if (r.type === Type.echoRequest || r.type === Type.echoReply) {
    const name = r.type === Type.echoRequest ? "echo request" : "echo reply";
    return `ICMP ${name}, id ${r.rest >>> 16}, seq ${r.rest & 0xffff}, ${length}`;
  }
  if (r.type === Type.unreachable) {
    const what = Object.entries(Unreachable).find(([, value]) => value === r.code)?.[0] ?? `code ${r.code}`;
    const mtu = r.code === Unreachable.fragmentationNeeded ? ` (mtu ${r.rest & 0xffff})` : "";
    return `ICMP unreachable ${what}${mtu}, ${length}`;
  }
  const name = Object.entries(Type).find(([, value]) => value === r.type)?.[0] ?? `type ${r.type}`;
  return `ICMP ${name} code ${r.code}, ${length}`;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
