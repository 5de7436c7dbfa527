/**
 * The header formats of src/wire: `check` against a second reading of the RFC, over memory that ends where the input
 * ends; and what passes must come back from `emit(parse(…))` byte for byte.
 */
import { DropReason } from "../../../src/base/drop-reasons.ts";
import * as arp from "../../../src/wire/arp.ts";
import * as ethernet from "../../../src/wire/ethernet.ts";
import * as icmp from "../../../src/wire/icmp.ts";
import * as ipv4 from "../../../src/wire/ipv4.ts";
import * as tcp from "../../../src/wire/tcp.ts";
import * as udp from "../../../src/wire/udp.ts";
import type { FuzzTarget } from "../engine.ts";
import type { Exact } from "../input.ts";
import {
  arpVerdict,
  fixSum,
  ipv4Verdict,
  optionFacts,
  sumsToZero,
  tcpVerdict,
  udpVerdict,
  word,
} from "./wire-reference.ts";

const SRC = 0xc0000201;
const DST = 0xc6336401;
const PAYLOAD = Uint8Array.from({ length: 24 }, (_, i) => i * 7);

function expectVerdict(got: DropReason, wanted: DropReason): void {
  if (got !== wanted) throw new Error(`check says ${got}, the RFC says ${wanted}`);
}

/** `again` must be the bytes [at, end) of the input, but for a checksum of 0xffff that may come back as 0. */
function expectSame(again: Uint8Array, input: Exact, end: number, checksumAt = -1): void {
  if (again.length !== end - input.at) throw new Error(`emit made ${again.length} bytes of ${end - input.at}`);
  for (let i = 0; i < again.length; i++) {
    if (again[i] === input.bytes[input.at + i]) continue;
    const isNegativeZero =
      checksumAt >= 0 && word(again, checksumAt) === 0 && word(input.bytes, input.at + checksumAt) === 0xffff;
    if (isNegativeZero && (i === checksumAt || i === checksumAt + 1)) continue;
    throw new Error(`emit made another byte ${i}: ${again[i]} of ${input.bytes[input.at + i]}`);
  }
}

/** True for a share of the inputs, by their bytes: the round trip costs more than the check. */
function isSampled(input: Exact, mask: number): boolean {
  return ((input.bytes[input.end - 1] ^ input.len) & mask) === 0;
}

export const ETHERNET: FuzzTarget = {
  name: "ethernet",
  maxBytes: 64,
  fields: [{ at: 12, bytes: 2 }],
  seeds: () => [
    ethernet.emit({ dst: "02:00:00:00:00:01", src: "02:00:00:00:00:02", etherType: 0x0800, payload: PAYLOAD }),
    ethernet.emit({ dst: "ff:ff:ff:ff:ff:ff", src: "02:00:00:00:00:02", etherType: 0x0806, payload: PAYLOAD }),
    ethernet.emit({ dst: "01:00:5e:00:00:01", src: "02:00:00:00:00:02", etherType: 0x86dd, payload: PAYLOAD }),
  ],
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = ethernet.check(view, at, end);
    expectVerdict(verdict, end - at >= 14 ? DropReason.none : DropReason.devHdr);
    if (verdict !== DropReason.none) return verdict * 256 + input.len;
    const isAll = bytes.subarray(at, at + 6).every((byte) => byte === 255);
    if (ethernet.isBroadcast(view, at) !== isAll) throw new Error("isBroadcast is wrong");
    const type = ethernet.etherType(view, at);
    if (isSampled(input, 3)) {
      const repr = ethernet.parse(bytes, at, end);
      if (!ethernet.pretty(repr).includes(`length ${end - at}`)) throw new Error("pretty lies about the length");
      expectSame(ethernet.emit(repr), input, end);
    }
    return 4096 + (type >>> 12) * 4 + (isAll ? 2 : 0) + (ethernet.isMulticast(view, at) ? 1 : 0);
  },
};

export const ARP: FuzzTarget = {
  name: "arp",
  maxBytes: 48,
  fields: [
    { at: 0, bytes: 2 },
    { at: 4, bytes: 1 },
    { at: 5, bytes: 1 },
    { at: 6, bytes: 2 },
  ],
  seeds: () =>
    [arp.Operation.request, arp.Operation.reply].map((operation) =>
      arp.emit({
        operation,
        senderMac: "02:00:00:00:00:02",
        senderIp: SRC,
        targetMac: "00:00:00:00:00:00",
        targetIp: DST,
      }),
    ),
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = arp.check(view, at, end);
    expectVerdict(verdict, arpVerdict(bytes, at, end));
    if (verdict !== DropReason.none) return input.len;
    if (isSampled(input, 3)) {
      const repr = arp.parse(bytes, at);
      arp.pretty(repr);
      expectSame(arp.emit(repr), input, at + arp.LEN);
    }
    return 256 + arp.operation(view, at);
  },
};

function ipv4Seed(options: Uint8Array, more: Partial<ipv4.Repr> = {}): Uint8Array {
  return ipv4.emit({
    src: SRC,
    dst: DST,
    protocol: 6,
    ttl: 64,
    tos: 0,
    id: 7,
    reservedFlag: false,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    options,
    payload: PAYLOAD,
    ...more,
  });
}

export const IPV4: FuzzTarget = {
  name: "ipv4",
  maxBytes: 128,
  fields: [
    { at: 0, bytes: 1 },
    { at: 2, bytes: 2 },
    { at: 6, bytes: 2 },
    { at: 10, bytes: 2 },
  ],
  seeds: () => [
    ipv4Seed(new Uint8Array(0)),
    ipv4Seed(Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0), { protocol: 17 }),
    ipv4Seed(new Uint8Array(40).fill(1), { protocol: 1, moreFragments: true, dontFragment: false }),
    ipv4Seed(new Uint8Array(0), { fragmentOffset: 65528, dontFragment: false, payload: PAYLOAD.subarray(0, 7) }),
  ],
  repair(draft, prng) {
    if (draft.len < 20 || prng.u32() < 0x40000000) return;
    fixSum(draft.bytes, 0, Math.min(draft.len, (draft.bytes[0] & 15) * 4), 10);
  },
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = ipv4.check(view, at, end);
    expectVerdict(verdict, ipv4Verdict(bytes, at, end));
    const shape = verdict * 64 + (input.len > 0 ? bytes[at] & 15 : 0);
    if (verdict !== DropReason.none) return shape;
    const field = word(bytes, at + 6);
    if (ipv4.isFragment(view, at) !== field % 0x4000 > 0) throw new Error("isFragment is wrong");
    if (isSampled(input, 3)) {
      const repr = ipv4.parse(bytes, at);
      ipv4.pretty(repr);
      expectSame(ipv4.emit(repr), input, at + ipv4.totalLen(view, at), 10);
    }
    checkTtl(input);
    return shape + 64 * 64 * (1 + (field >>> 13));
  },
};

/** One hop less must leave the header checksum right (RFC 1624). */
function checkTtl({ view, bytes, at }: Exact): void {
  const before = ipv4.ttl(view, at);
  if (before === 0) return;
  if (ipv4.decrementTtl(view, at) !== before - 1) throw new Error("decrementTtl took more than one");
  if (!sumsToZero(bytes, at, at + ipv4.ihl(view, at))) throw new Error("decrementTtl broke the checksum");
}

export const ICMP: FuzzTarget = {
  name: "icmp",
  maxBytes: 96,
  fields: [
    { at: 0, bytes: 1 },
    { at: 1, bytes: 1 },
    { at: 6, bytes: 2 },
  ],
  seeds: () => [
    icmp.emit({ type: 8, code: 0, rest: 0x00070001, payload: PAYLOAD }),
    icmp.emit({ type: 3, code: 4, rest: 1400, payload: ipv4Seed(new Uint8Array(0)) }),
    icmp.emit({ type: 11, code: 1, rest: 0, payload: ipv4Seed(new Uint8Array(0)) }),
    icmp.emit({ type: 12, code: 0, rest: 0x14000000, payload: new Uint8Array(0) }),
  ],
  repair(draft, prng) {
    if (draft.len >= 8 && prng.u32() < 0x80000000) fixSum(draft.bytes, 0, draft.len, 2);
  },
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = icmp.check(view, at, end);
    expectVerdict(verdict, end - at >= 8 ? DropReason.none : DropReason.pktTooSmall);
    if (verdict !== DropReason.none) return input.len;
    const isGood = icmp.hasGoodChecksum(bytes, at, end - at);
    if (isGood !== sumsToZero(bytes, at, end)) throw new Error("hasGoodChecksum is wrong");
    const type = icmp.type(view, at);
    const isError = type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
    if (icmp.isError(type) !== isError) throw new Error(`isError(${type}) is wrong`);
    if (isGood && isSampled(input, 1)) {
      const repr = icmp.parse(bytes, at, end);
      icmp.pretty(repr);
      expectSame(icmp.emit(repr), input, end, 2);
    }
    return 4096 + type * 64 + Math.min(31, icmp.code(view, at)) * 2 + (isGood ? 1 : 0);
  },
};

export const UDP: FuzzTarget = {
  name: "udp",
  maxBytes: 96,
  fields: [
    { at: 4, bytes: 2 },
    { at: 6, bytes: 2 },
  ],
  seeds: () => [
    udp.emit({ srcPort: 53, dstPort: 40_000, checksum: 0, payload: PAYLOAD }),
    udp.emit({ srcPort: 0, dstPort: 65_535, checksum: 0xffff, payload: new Uint8Array(0) }),
  ],
  repair(draft, prng) {
    if (draft.len < 8 || prng.u32() < 0x80000000) return;
    const len = word(draft.bytes, 4);
    if (len >= 8 && len <= draft.len) fixSum(draft.bytes, 0, len, 6, pseudoOf(17, len));
  },
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = udp.check(view, at, end);
    expectVerdict(verdict, udpVerdict(bytes, at, end));
    if (verdict !== DropReason.none) return input.len;
    const len = udp.length(view, at);
    const isGood = udp.hasGoodChecksumV4(bytes, view, at, len, SRC, DST);
    const isNone = word(bytes, at + 6) === 0;
    if (isGood !== (isNone || sumsToZero(bytes, at, at + len, pseudoOf(17, len)))) throw new Error("checksum is wrong");
    if (isSampled(input, 1)) {
      const repr = udp.parse(bytes, at);
      udp.pretty(repr);
      expectSame(udp.emit(repr), input, at + len);
    }
    return 4096 + len * 4 + (isGood ? 2 : 0) + (isNone ? 1 : 0);
  },
};

function pseudoOf(protocol: number, len: number): number {
  return (SRC >>> 16) + (SRC & 0xffff) + (DST >>> 16) + (DST & 0xffff) + protocol + len;
}

function tcpSeed(flags: number, options: readonly tcp.TcpOption[], payload: Uint8Array): Uint8Array {
  return tcp.emit({
    srcPort: 40_000,
    dstPort: 80,
    seq: 0xfffffff0,
    ack: 17,
    reserved: 0,
    flags,
    window: 65_535,
    checksum: 0,
    urgent: 0,
    options,
    payload,
  });
}

/** The option layouts of real segments: a SYN, a SYN-ACK, data, and SACK beside timestamps. */
const LAYOUTS: readonly (readonly tcp.TcpOption[])[] = [
  [],
  [
    { kind: "mss", mss: 1460 },
    { kind: "sackPermitted" },
    { kind: "timestamps", tsVal: 1, tsEcr: 0 },
    { kind: "nop" },
    { kind: "windowScale", shift: 7 },
  ],
  [{ kind: "nop" }, { kind: "nop" }, { kind: "timestamps", tsVal: 0x80000000, tsEcr: 0xffffffff }],
  [
    { kind: "nop" },
    { kind: "nop" },
    {
      kind: "sack",
      blocks: [
        [1, 2],
        [3, 4],
        [0xfffffff0, 16],
        [7, 6],
      ],
    },
  ],
  [
    { kind: "unknown", number: 253, data: PAYLOAD },
    { kind: "windowScale", shift: 255 },
  ],
];

export const TCP: FuzzTarget = {
  name: "tcp",
  maxBytes: 96,
  fields: [
    { at: 12, bytes: 1 },
    { at: 13, bytes: 1 },
    { at: 20, bytes: 1 },
    { at: 21, bytes: 1 },
  ],
  seeds: () => LAYOUTS.map((options, i) => tcpSeed([2, 18, 24, 16, 17][i], options, PAYLOAD.subarray(0, i * 4))),
  repair(draft, prng) {
    if (draft.len >= 20 && prng.u32() < 0x80000000) fixSum(draft.bytes, 0, draft.len, 16, pseudoOf(6, draft.len));
  },
  run(input) {
    const { view, bytes, at, end } = input;
    const verdict = tcp.check(view, at, end);
    expectVerdict(verdict, tcpVerdict(bytes, at, end));
    if (verdict !== DropReason.none) return input.len;
    const isGood = tcp.hasGoodChecksumV4(bytes, at, end - at, SRC, DST);
    if (isGood !== sumsToZero(bytes, at, end, pseudoOf(6, end - at))) throw new Error("checksum is wrong");
    if (isSampled(input, 3)) {
      const repr = tcp.parse(bytes, at, end);
      tcp.pretty(repr);
      expectSame(tcp.emit(repr), input, end);
    }
    return 4096 + tcp.dataOffset(view, at) * 512 + tcp.flags(view, at) * 2 + (isGood ? 1 : 0);
  },
};

const OPTIONS = new tcp.TcpOptions();

export const TCP_OPTIONS: FuzzTarget = {
  name: "tcp-options",
  maxBytes: 40,
  fields: [1, 3, 5, 11, 13].map((at) => ({ at, bytes: 1 as const })),
  seeds: () => LAYOUTS.map((options) => tcpSeed(16, options, new Uint8Array(0)).slice(20)),
  run(input) {
    const { view, bytes, at, end } = input;
    tcp.parseOptions(view, at - tcp.HEADER_LEN, end, OPTIONS);
    const wanted = optionFacts(bytes, at, end);
    const stamps = wanted.timestamps;
    const same =
      OPTIONS.mss === wanted.mss &&
      OPTIONS.windowScale === wanted.windowScale &&
      OPTIONS.sackPermitted === wanted.sackPermitted &&
      OPTIONS.hasTimestamps === (stamps !== null) &&
      OPTIONS.tsVal === (stamps?.[0] ?? 0) &&
      OPTIONS.tsEcr === (stamps?.[1] ?? 0) &&
      OPTIONS.sackCount * 2 === wanted.sack.length &&
      wanted.sack.every((edge, i) => OPTIONS.sackBlocks[i] === edge);
    if (!same) throw new Error(`parseOptions read ${JSON.stringify(OPTIONS)}, the RFCs say ${JSON.stringify(wanted)}`);
    return wanted.layout;
  },
};
