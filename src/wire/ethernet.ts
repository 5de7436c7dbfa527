/**
 * Ethernet II frames (RFC 894). The frame check sequence is the device's and never in memory.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                        Destination MAC                        |
 * +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                               |                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
 * |                          Source MAC                           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |           EtherType           |  payload, at least 46 bytes …
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *
 * In every function of `wire`, `at` is the address of this format's first byte.
 */
import { DropReason } from "../base/drop-reasons.ts";

/** Bytes of the header. */
export const HEADER_LEN = 14;
/** Bytes of a MAC address. */
export const MAC_LEN = 6;
/** Smallest frame in bytes without its check sequence: shorter ones are padded on a real wire (IEEE 802.3). */
export const MIN_FRAME_LEN = 60;
/** Offset of the destination MAC. */
export const DST_MAC = 0;
/** Offset of the source MAC. */
export const SRC_MAC = 6;
const ETHER_TYPE = 12;

/** What the payload is. */
export const EtherType = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;

/** ff:ff:ff:ff:ff:ff. Do not write to it. */
export const BROADCAST_MAC: Uint8Array = new Uint8Array(6).fill(0xff);

/** EtherType in host order. */
export function etherType(v: DataView, at: number): number {
  return v.getUint16(at + ETHER_TYPE);
}

export function setEtherType(v: DataView, at: number, value: number): void {
  v.setUint16(at + ETHER_TYPE, value);
}

/** True if the destination is ff:ff:ff:ff:ff:ff. */
export function isBroadcast(v: DataView, at: number): boolean {
  return v.getInt32(at) === -1 && v.getUint16(at + 4) === 0xffff;
}

/** True if the destination's group bit is set; broadcast is multicast too. */
export function isMulticast(v: DataView, at: number): boolean {
  return (v.getUint8(at) & 1) !== 0;
}

/** True if the 6 bytes at `at` equal those of `mac` from `macAt`. */
export function macEquals(v: DataView, at: number, mac: Uint8Array, macAt = 0): boolean {
  for (let i = 0; i < MAC_LEN; i++) if (v.getUint8(at + i) !== mac[macAt + i]) return false;
  return true;
}

/** Writes the 14 bytes. `bytes` and `view` are of the same memory; the MACs are *borrowed*. */
export function writeHeader(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  dstMac: Uint8Array,
  dstMacAt: number,
  srcMac: Uint8Array,
  srcMacAt: number,
  type: number,
): void {
  for (let i = 0; i < MAC_LEN; i++) {
    bytes[at + i] = dstMac[dstMacAt + i];
    bytes[at + SRC_MAC + i] = srcMac[srcMacAt + i];
  }
  view.setUint16(at + ETHER_TYPE, type);
}

/** `devHdr` if the frame that ends at `end` is shorter than its header. */
export function check(_v: DataView, at: number, end: number): DropReason {
  return end - at < HEADER_LEN ? DropReason.devHdr : DropReason.none;
}

/** "02:00:00:00:00:01" of the 6 bytes at `at`. */
export function formatMac(bytes: Uint8Array, at = 0): string {
  return Array.from({ length: MAC_LEN }, (_, i) => bytes[at + i].toString(16).padStart(2, "0")).join(":");
}

/** The 6 bytes of "02:00:00:00:00:01"; undefined if malformed. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(":"), (octet) => Number.parseInt(octet, 16));
}

/** A frame as a value: for tests, the lab and captures, never on the packet path. */
export interface Repr {
  /** As `formatMac` prints them. */
  readonly dst: string;
  readonly src: string;
  readonly etherType: number;
  readonly payload: Uint8Array;
}

/** Reads the frame in [at, end). `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0, end = bytes.length): Repr {
  const view = viewOf(bytes);
  return {
    dst: formatMac(bytes, at + DST_MAC),
    src: formatMac(bytes, at + SRC_MAC),
    etherType: etherType(view, at),
    payload: bytes.slice(at + HEADER_LEN, end),
  };
}

/** The frame's bytes. */
export function emit(r: Repr): Uint8Array {
  const bytes = new Uint8Array(HEADER_LEN + r.payload.length);
  writeHeader(bytes, viewOf(bytes), 0, macOf(r.dst), 0, macOf(r.src), 0, r.etherType);
  bytes.set(r.payload, HEADER_LEN);
  return bytes;
}

/** One line for people. */
export function pretty(r: Repr): string {
  const name = Object.entries(EtherType).find(([, value]) => value === r.etherType)?.[0];
  const type = name ?? `0x${r.etherType.toString(16).padStart(4, "0")}`;
  return `${r.src} > ${r.dst}, ethertype ${type}, length ${HEADER_LEN + r.payload.length}`;
}

function macOf(text: string): Uint8Array {
  const mac = parseMac(text);
  if (mac === undefined) throw new RangeError(`not a MAC address: "${text}"`);
  return mac;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
