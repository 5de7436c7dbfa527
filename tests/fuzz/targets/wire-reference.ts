/** What the RFCs say of the header formats, written a second time and differently: what `check` is compared with. */
import { DropReason } from "../../../src/base/drop-reasons.ts";

/** A one's-complement sum over [at, end), big-endian words, is right if it is a multiple of 2^16 − 1 (RFC 1071). */
export function sumsToZero(bytes: Uint8Array, at: number, end: number, initial = 0): boolean {
  let total = initial;
  for (let i = at; i < end; i++) total += (i - at) % 2 === 0 ? bytes[i] * 256 : bytes[i];
  return total > 0 && total % 0xffff === 0;
}

/** Stores the checksum that makes [at, end) right, at `field`. */
export function fixSum(bytes: Uint8Array, at: number, end: number, field: number, initial = 0): void {
  bytes[field] = bytes[field + 1] = 0;
  let total = initial;
  for (let i = at; i < end; i++) total += (i - at) % 2 === 0 ? bytes[i] * 256 : bytes[i];
  const check = 0xffff - (total % 0xffff);
  bytes[field] = check >>> 8;
  bytes[field + 1] = check;
}

export function word(bytes: Uint8Array, at: number): number {
  return bytes[at] * 256 + bytes[at + 1];
}

/** The pseudo header of RFC 9293 §3.1 as a sum; `ip` is where the IPv4 header stands. */
export function pseudoSum(bytes: Uint8Array, ip: number, protocol: number, len: number): number {
  return word(bytes, ip + 12) + word(bytes, ip + 14) + word(bytes, ip + 16) + word(bytes, ip + 18) + protocol + len;
}

/** RFC 791 §3.1, in the order of Linux's ip_rcv_core. */
export function ipv4Verdict(bytes: Uint8Array, at: number, end: number): DropReason {
  const have = end - at;
  const first = have > 0 ? bytes[at] : 0;
  const headerLen = (first % 16) * 4;
  if (have < 20 || first < 0x45 || first > 0x4f || headerLen > have) return DropReason.ipInhdr;
  if (!sumsToZero(bytes, at, at + headerLen)) return DropReason.ipCsum;
  const total = word(bytes, at + 2);
  if (total > have) return DropReason.pktTooSmall;
  return total >= headerLen ? DropReason.none : DropReason.ipInhdr;
}

/** RFC 826 for IPv4 over Ethernet. */
export function arpVerdict(bytes: Uint8Array, at: number, end: number): DropReason {
  const start = [0, 1, 8, 0, 6, 4, 0];
  const good = end - at >= 28 && start.every((byte, i) => bytes[at + i] === byte);
  return good && (bytes[at + 7] === 1 || bytes[at + 7] === 2) ? DropReason.none : DropReason.arpInvalid;
}

/** RFC 768. */
export function udpVerdict(bytes: Uint8Array, at: number, end: number): DropReason {
  if (end - at < 8) return DropReason.pktTooSmall;
  const len = word(bytes, at + 4);
  return len >= 8 && at + len <= end ? DropReason.none : DropReason.pktTooSmall;
}

/** RFC 9293 §3.1. */
export function tcpVerdict(bytes: Uint8Array, at: number, end: number): DropReason {
  if (end - at < 20) return DropReason.pktTooSmall;
  const words = Math.floor(bytes[at + 12] / 16);
  return words >= 5 && at + words * 4 <= end ? DropReason.none : DropReason.pktTooSmall;
}

/** What the options [at, end) of a segment say (RFC 9293 §3.2, RFC 7323, RFC 2018; Linux tcp_parse_options). */
export interface OptionFacts {
  mss: number;
  windowScale: number;
  sackPermitted: boolean;
  timestamps: readonly [tsVal: number, tsEcr: number] | null;
  sack: readonly number[];
  /** A bit per known option of right length, one for wrong lengths, one for unknown kinds. */
  layout: number;
}

function layoutBit(kind: number, len: number): number {
  const known = ["1/1", "2/4", "3/3", "4/2", "5/10", "5/18", "5/26", "5/34", "8/10"].indexOf(`${kind}/${len}`);
  return known >= 0 ? known : kind <= 5 || kind === 8 ? 9 : 10;
}

export function optionFacts(bytes: Uint8Array, at: number, end: number): OptionFacts {
  const facts: OptionFacts = {
    mss: 0,
    windowScale: -1,
    sackPermitted: false,
    timestamps: null,
    sack: [],
    layout: 0,
  };
  const u32 = (i: number) => word(bytes, i) * 65536 + word(bytes, i + 2);
  for (let i = at; i < end; ) {
    const kind = bytes[i];
    if (kind === 0) break;
    const len = kind === 1 ? 1 : i + 1 < end ? bytes[i + 1] : 0;
    if (kind !== 1 && len < 2) break;
    if (len > end - i) break;
    const name = `${kind}/${len}`;
    facts.layout |= 1 << layoutBit(kind, len);
    if (name === "2/4") facts.mss = word(bytes, i + 2);
    if (name === "3/3") facts.windowScale = bytes[i + 2] > 14 ? 14 : bytes[i + 2];
    if (name === "4/2") facts.sackPermitted = true;
    if (name === "8/10") facts.timestamps = [u32(i + 2), u32(i + 6)];
    if (kind === 5 && (len === 10 || len === 18 || len === 26 || len === 34)) {
      facts.sack = Array.from({ length: (len - 2) / 4 }, (_, n) => u32(i + 2 + 4 * n));
    }
    i += len;
  }
  return facts;
}
