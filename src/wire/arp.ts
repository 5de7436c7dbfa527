/**
 * ARP for IPv4 over Ethernet (RFC 826).
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |      Hardware type = 1        |    Protocol type = 0x0800     |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * | HW length = 6 | Pr length = 4 |           Operation           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                          Sender MAC                           |
 * +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                               |       Sender IP (upper)       |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |       Sender IP (lower)       |                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
 * |                          Target MAC                           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                           Target IP                           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { formatV4 } from "../base/address.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { EtherType, formatMac, parseMac } from "./ethernet.ts";

/** Bytes of a message. */
export const LEN = 28;
const OPERATION = 6;
/** Offset of the sender's MAC. */
export const SENDER_MAC = 8;
const SENDER_IP = 14;
/** Offset of the target's MAC. */
export const TARGET_MAC = 18;
const TARGET_IP = 24;

/** The first six bytes of every message we understand. */
const HARDWARE_ETHERNET = 1;
const LENGTHS_6_4 = 0x0604;

export const Operation = { request: 1, reply: 2 } as const;

export function operation(v: DataView, at: number): number {
  return v.getUint16(at + OPERATION);
}

/** Unsigned 32 bit. */
export function senderIp(v: DataView, at: number): number {
  return v.getUint32(at + SENDER_IP);
}

/** Unsigned 32 bit. */
export function targetIp(v: DataView, at: number): number {
  return v.getUint32(at + TARGET_IP);
}

/** Writes the 28 bytes. The MACs (6 bytes from index 0) are *borrowed*; a request's target MAC is all zeros. */
export function write(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  op: number,
  senderMac: Uint8Array,
  senderU32: number,
  targetMac: Uint8Array,
  targetU32: number,
): void {
  view.setUint16(at, HARDWARE_ETHERNET);
  view.setUint16(at + 2, EtherType.ipv4);
  view.setUint16(at + 4, LENGTHS_6_4);
  view.setUint16(at + OPERATION, op);
  for (let i = 0; i < 6; i++) {
    bytes[at + SENDER_MAC + i] = senderMac[i];
    bytes[at + TARGET_MAC + i] = targetMac[i];
  }
  view.setUint32(at + SENDER_IP, senderU32);
  view.setUint32(at + TARGET_IP, targetU32);
}

/** `arpInvalid` unless [at, end) holds a request or reply for IPv4 over Ethernet (Linux arp_rcv, arp_process). */
export function check(v: DataView, at: number, end: number): DropReason {
  if (end - at < LEN) return DropReason.arpInvalid;
  const known =
    v.getUint16(at) === HARDWARE_ETHERNET &&
    v.getUint16(at + 2) === EtherType.ipv4 &&
    v.getUint16(at + 4) === LENGTHS_6_4 &&
    (operation(v, at) === Operation.request || operation(v, at) === Operation.reply);
  return known ? DropReason.none : DropReason.arpInvalid;
}

/** A message as a value: for tests, the lab and captures. */
export interface Repr {
  readonly operation: number;
  /** As `formatMac` prints them; IPs unsigned 32 bit. */
  readonly senderMac: string;
  readonly senderIp: number;
  readonly targetMac: string;
  readonly targetIp: number;
}

/** Reads the message at `at`. `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0): Repr {
  const v = viewOf(bytes);
  return {
    operation: operation(v, at),
    senderMac: formatMac(bytes, at + SENDER_MAC),
    senderIp: senderIp(v, at),
    targetMac: formatMac(bytes, at + TARGET_MAC),
    targetIp: targetIp(v, at),
  };
}

/** The message's bytes. */
export function emit(r: Repr): Uint8Array {
  const bytes = new Uint8Array(LEN);
  write(bytes, viewOf(bytes), 0, r.operation, macOf(r.senderMac), r.senderIp, macOf(r.targetMac), r.targetIp);
  return bytes;
}

/** One line for people, after tcpdump. */
export function pretty(r: Repr): string {
  return r.operation === Operation.request
    ? `ARP who-has ${formatV4(r.targetIp)} tell ${formatV4(r.senderIp)}`
    : `ARP ${formatV4(r.senderIp)} is-at ${r.senderMac}`;
}

function macOf(text: string): Uint8Array {
  const mac = parseMac(text);
  if (mac === undefined) throw new RangeError(`not a MAC address: "${text}"`);
  return mac;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
