import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseV4 } from "../base/address.ts";
import { DropReason } from "../base/drop-reasons.ts";
import * as arp from "./arp.ts";
import * as ethernet from "./ethernet.ts";
import * as icmp from "./icmp.ts";
import * as ipv4 from "./ipv4.ts";
import * as tcp from "./tcp.ts";
import * as udp from "./udp.ts";

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffffffff);
const payload = fc.uint8Array({ maxLength: 100 });
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map((bytes) => ethernet.formatMac(bytes));

/** The bytes of a hex dump. */
function hex(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll(/\s/g, "").match(/../g) ?? [], (h) => Number.parseInt(h, 16));
}

/** `bytes` at address `at` of a larger buffer, with foreign bytes on both sides. */
function placed(bytes: Uint8Array, at: number): { bytes: Uint8Array; view: DataView } {
  const whole = new Uint8Array(at + bytes.length + 9).fill(0xee);
  whole.set(bytes, at);
  return { bytes: whole, view: new DataView(whole.buffer) };
}

interface Format<R> {
  check(v: DataView, at: number, end: number): DropReason;
  parse(bytes: Uint8Array, at?: number, end?: number): R;
  emit(r: R): Uint8Array;
  pretty(r: R): string;
}

/** The laws of every format: what is emitted passes the check and reads back, and is emitted again as it was. */
function laws<R>(name: string, format: Format<R>, repr: fc.Arbitrary<R>): void {
  describe(name, () => {
    it("parses what it emits, at any address", () => {
      fc.assert(
        fc.property(repr, fc.nat(7), (r, at) => {
          const frame = format.emit(r);
          const { bytes, view } = placed(frame, at);
          expect(format.check(view, at, at + frame.length)).toBe(DropReason.none);
          expect(format.parse(bytes, at, at + frame.length)).toEqual(r);
          expect(format.pretty(r)).toMatch(/^[\x20-\x7e]+$/);
        }),
      );
    });

    it("re-emits the bytes it parsed", () => {
      fc.assert(
        fc.property(repr, (r) => {
          const frame = format.emit(r);
          expect(format.emit(format.parse(frame))).toEqual(frame);
        }),
      );
    });

    it("never reads past the end, whatever the bytes", () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
          // The view ends where the packet ends: an access behind it would throw.
          const view = new DataView(bytes.slice().buffer);
          const reason = format.check(view, 0, bytes.length);
          if (reason === DropReason.none) expect(() => format.pretty(format.parse(bytes))).not.toThrow();
        }),
      );
    });

    it("refuses every cut of a header", () => {
      fc.assert(
        fc.property(repr, fc.nat(7), (r, cut) => {
          const frame = format.emit(r);
          const { view } = placed(frame, 0);
          expect(format.check(view, 0, Math.min(cut, frame.length - 1))).not.toBe(DropReason.none);
        }),
      );
    });
  });
}

const tcpOption: fc.Arbitrary<tcp.TcpOption> = fc.oneof(
  fc.constant({ kind: "nop" as const }),
  fc.record({ kind: fc.constant("mss" as const), mss: u16 }),
  fc.record({ kind: fc.constant("windowScale" as const), shift: u8 }),
  fc.constant({ kind: "sackPermitted" as const }),
  fc.record({ kind: fc.constant("timestamps" as const), tsVal: u32, tsEcr: u32 }),
  fc.record({
    kind: fc.constant("sack" as const),
    blocks: fc.array(fc.tuple(u32, u32), { minLength: 1, maxLength: 2 }),
  }),
  fc.record({
    kind: fc.constant("unknown" as const),
    number: fc.integer({ min: 9, max: 255 }),
    data: fc.uint8Array({ maxLength: 6 }),
  }),
);

const OPTION_LEN = { nop: 1, mss: 4, windowScale: 3, sackPermitted: 2, timestamps: 10 } as const;

function optionLen(option: tcp.TcpOption): number {
  if (option.kind === "sack") return 2 + 8 * option.blocks.length;
  if (option.kind === "unknown") return 2 + option.data.length;
  return option.kind === "raw" ? option.data.length : OPTION_LEN[option.kind];
}

/** Options that fit, padded by NOPs to whole words as senders do. */
const tcpOptions = fc.array(tcpOption, { maxLength: 5 }).map((options) => {
  const fitting: tcp.TcpOption[] = [];
  let len = 0;
  for (const option of options) {
    if (len + optionLen(option) > 40) continue;
    fitting.push(option);
    len += optionLen(option);
  }
  for (; len % 4 !== 0; len++) fitting.push({ kind: "nop" });
  return fitting;
});

laws("ethernet", ethernet, fc.record<ethernet.Repr>({ dst: mac, src: mac, etherType: u16, payload }));
laws(
  "arp",
  arp,
  fc.record<arp.Repr>({
    operation: fc.constantFrom(1, 2),
    senderMac: mac,
    senderIp: u32,
    targetMac: mac,
    targetIp: u32,
  }),
);
laws(
  "ipv4",
  ipv4,
  fc.record<ipv4.Repr>({
    src: u32,
    dst: u32,
    protocol: u8,
    ttl: u8,
    tos: u8,
    id: u16,
    reservedFlag: fc.boolean(),
    dontFragment: fc.boolean(),
    moreFragments: fc.boolean(),
    fragmentOffset: fc.nat(0x1fff).map((units) => units * 8),
    options: fc.nat(10).chain((words) => fc.uint8Array({ minLength: 4 * words, maxLength: 4 * words })),
    payload,
  }),
);
laws("icmp", icmp, fc.record<icmp.Repr>({ type: u8, code: u8, rest: u32, payload }));
laws("udp", udp, fc.record<udp.Repr>({ srcPort: u16, dstPort: u16, checksum: u16, payload }));
laws(
  "tcp",
  tcp,
  fc.record<tcp.Repr>({
    srcPort: u16,
    dstPort: u16,
    seq: u32,
    ack: u32,
    reserved: fc.nat(15),
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
    options: tcpOptions,
    payload,
  }),
);

describe("ethernet frames", () => {
  it("know broadcast and multicast", () => {
    const view = new DataView(new ArrayBuffer(14));
    const to = (address: string) => {
      const bytes = ethernet.parseMac(address);
      for (let i = 0; i < 6; i++) view.setUint8(i, bytes?.[i] ?? 0);
      return [ethernet.isBroadcast(view, 0), ethernet.isMulticast(view, 0)];
    };
    expect(to("ff:ff:ff:ff:ff:ff")).toEqual([true, true]);
    expect(to("ff:ff:ff:ff:ff:fe")).toEqual([false, true]);
    expect(to("01:00:5e:00:00:01")).toEqual([false, true]);
    expect(to("02:00:00:00:00:01")).toEqual([false, false]);
    expect(ethernet.parseMac("02:00:00:00:00")).toBeUndefined();
    expect(ethernet.parseMac("02:00:00:00:00:0g")).toBeUndefined();
    expect(ethernet.macEquals(view, 0, Uint8Array.of(9, 2, 0, 0, 0, 0, 1), 1)).toBe(true);
    expect(ethernet.macEquals(view, 0, Uint8Array.of(2, 0, 0, 0, 0, 2))).toBe(false);
  });
});

describe("ARP messages", () => {
  it.each([
    ["token ring", 0, 6],
    ["another protocol", 2, 0x86],
    ["another MAC length", 4, 8],
    ["another address length", 5, 16],
    ["an unknown operation", 7, 3],
  ])("are refused for %s", (_why, at, value) => {
    const bytes = arp.emit({
      operation: arp.Operation.request,
      senderMac: "02:00:00:00:00:01",
      senderIp: 1,
      targetMac: "00:00:00:00:00:00",
      targetIp: 2,
    });
    expect(arp.check(new DataView(bytes.buffer), 0, 28)).toBe(DropReason.none);
    bytes[at] = value;
    if (at === 0) bytes[1] = 0;
    expect(arp.check(new DataView(bytes.buffer), 0, 28)).toBe(DropReason.arpInvalid);
  });
});

describe("IPv4 packets", () => {
  // The textbook header of RFC 1071 exercises: checksum b861.
  const header = hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");
  const packet = () => {
    const bytes = new Uint8Array(0x73);
    bytes.set(header);
    return bytes;
  };
  const checked = (bytes: Uint8Array, end = bytes.length) => ipv4.check(new DataView(bytes.buffer), 0, end);

  it("have the known checksum", () => {
    expect(checked(packet())).toBe(DropReason.none);
    const bytes = new Uint8Array(20);
    const src = parseV4("192.168.0.1");
    const dst = parseV4("192.168.0.199");
    ipv4.writeHeader(bytes, new DataView(bytes.buffer), 0, 0x73, 0, ipv4.FLAG_DF, 64, 17, src, dst, 0);
    expect(bytes).toEqual(header);
  });

  it("are refused with Linux's reasons", () => {
    expect(checked(packet(), 19)).toBe(DropReason.ipInhdr);
    expect(checked(packet(), 0x72)).toBe(DropReason.pktTooSmall);
    const broken = packet();
    broken[8]--;
    expect(checked(broken)).toBe(DropReason.ipCsum);
    const rewritten = (at: number, value: number, len = 0x73) => {
      const bytes = packet();
      bytes[at] = value;
      const view = new DataView(bytes.buffer);
      if (ipv4.ihl(view, 0) <= len) ipv4.fillChecksum(bytes, view, 0);
      return checked(bytes);
    };
    expect(rewritten(0, 0x65)).toBe(DropReason.ipInhdr);
    expect(rewritten(0, 0x44)).toBe(DropReason.ipInhdr);
    expect(rewritten(3, 19)).toBe(DropReason.ipInhdr);
    expect(rewritten(3, 20)).toBe(DropReason.none);
    expect(rewritten(2, 1)).toBe(DropReason.pktTooSmall);
  });

  it("may be followed by padding", () => {
    const padded = new Uint8Array(0x80);
    padded.set(packet());
    expect(checked(padded)).toBe(DropReason.none);
    expect(ipv4.parse(padded).payload.length).toBe(0x73 - 20);
  });

  it("keep a right checksum while the TTL counts down", () => {
    const bytes = packet();
    const view = new DataView(bytes.buffer);
    for (let left = 63; left >= 0; left--) {
      expect(ipv4.decrementTtl(view, 0)).toBe(left);
      expect(checked(bytes)).toBe(DropReason.none);
    }
    expect(ipv4.protocol(view, 0)).toBe(17);
  });

  it("say what is a fragment", () => {
    const view = new DataView(new ArrayBuffer(20));
    const is = (field: number) => {
      ipv4.setFragment(view, 0, field);
      return ipv4.isFragment(view, 0);
    };
    expect([is(0), is(ipv4.FLAG_DF), is(ipv4.FLAG_MF), is(1), is(0x1fff)]).toEqual([false, false, true, true, true]);
  });
});

describe("TCP segments", () => {
  // A SYN as Linux sends it over Ethernet: MSS, SACK permitted, timestamps, NOP, window scale 7.
  const syn = hex(`
    c350 0bb8 0000 03e8 0000 0000 a002 faf0 0000 0000
    0204 05b4 0402 080a 0000 1234 0000 0000 0103 0307`);

  it("are read field by field", () => {
    const view = new DataView(syn.buffer);
    expect(tcp.check(view, 0, syn.length)).toBe(DropReason.none);
    expect(tcp.srcPort(view, 0)).toBe(50000);
    expect(tcp.dstPort(view, 0)).toBe(3000);
    expect(tcp.seq(view, 0)).toBe(1000);
    expect(tcp.dataOffset(view, 0)).toBe(40);
    expect(tcp.flags(view, 0)).toBe(tcp.Flag.syn);
    expect(tcp.window(view, 0)).toBe(64240);
    const options = new tcp.TcpOptions();
    tcp.parseOptions(view, 0, 40, options);
    expect(options).toMatchObject({
      mss: 1460,
      windowScale: 7,
      sackPermitted: true,
      hasTimestamps: true,
      tsVal: 0x1234,
      tsEcr: 0,
      sackCount: 0,
    });
    expect(tcp.pretty(tcp.parse(syn))).toBe(
      "50000 > 3000 [S] seq 1000 win 64240 [mss 1460,sackOK,TS val 4660 ecr 0,nop,wscale 7] length 0",
    );
  });

  it("are written by the same names", () => {
    const bytes = new Uint8Array(40);
    const v = new DataView(bytes.buffer);
    tcp.writeHeader(v, 0, 50000, 3000, 1000, 0, 40, tcp.Flag.syn, 64240);
    let at = 20;
    at += tcp.writeMss(v, at, 1460);
    at += tcp.writeSackPermitted(v, at);
    at += tcp.writeTimestamps(v, at, 0x1234, 0);
    at += tcp.writeNop(v, at);
    at += tcp.writeWindowScale(v, at, 7);
    expect(at).toBe(40);
    expect(bytes).toEqual(syn);
  });

  it("carry SACK blocks", () => {
    const v = new DataView(new ArrayBuffer(60));
    let at = tcp.HEADER_LEN;
    at += tcp.writeNopNopTimestamps(v, at, 7, 8);
    at += tcp.writeNop(v, at) + tcp.writeNop(v, at + 1);
    at += tcp.writeSack(v, at, Uint32Array.of(0xfffffff0, 16, 100, 200, 300, 400), 3);
    expect(at).toBe(60);
    expect(v.getUint32(20)).toBe(tcp.NOP_NOP_TIMESTAMPS);
    const options = new tcp.TcpOptions();
    tcp.parseOptions(v, 0, at, options);
    expect(options.sackCount).toBe(3);
    expect([...options.sackBlocks.slice(0, 6)]).toEqual([0xfffffff0, 16, 100, 200, 300, 400]);
    expect([options.tsVal, options.tsEcr]).toEqual([7, 8]);
  });

  it.each([
    ["an end mark hides what follows", "00 00 00 00 0204 05b4", { mss: 0 }],
    ["a length of 0", "0200 05b4", { mss: 0 }],
    ["a length of 1", "0201 05b4", { mss: 0 }],
    ["an option over the end", "0101 0208", { mss: 0 }],
    ["a kind without a length", "0101 0102", { mss: 0 }],
    ["a wrong length for its kind", "0203 05 01 0204 05b4", { mss: 1460 }],
    ["an unknown option is skipped", "fe04 abcd 0204 05b4", { mss: 1460 }],
    ["a window scale over 14", "0303 0f01", { windowScale: 14 }],
    ["half a SACK block", "0506 0000 0001 0101", { sackCount: 0 }],
  ])("survive options with %s", (_what, options, expected) => {
    const bytes = Uint8Array.of(...new Uint8Array(20), ...hex(options));
    const out = new tcp.TcpOptions();
    out.mss = 99;
    tcp.parseOptions(new DataView(bytes.buffer), 0, bytes.length, out);
    expect(out).toMatchObject(expected);
  });

  it("survive any options, and never read past the header", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (options) => {
        const bytes = Uint8Array.of(...new Uint8Array(20), ...options);
        const out = new tcp.TcpOptions();
        tcp.parseOptions(new DataView(bytes.buffer), 0, bytes.length, out);
        expect(out.sackCount).toBeLessThanOrEqual(tcp.MAX_SACK_BLOCKS);
        expect(out.windowScale).toBeLessThanOrEqual(tcp.MAX_WINDOW_SCALE);
      }),
    );
  });

  it("are refused when their sizes lie", () => {
    const bytes = new Uint8Array(40);
    const view = new DataView(bytes.buffer);
    const sized = (headerLen: number, end: number) => {
      tcp.setDataOffset(view, 0, headerLen);
      return tcp.check(view, 0, end);
    };
    expect(sized(20, 20)).toBe(DropReason.none);
    expect(sized(20, 19)).toBe(DropReason.pktTooSmall);
    expect(sized(16, 40)).toBe(DropReason.pktTooSmall);
    expect(sized(44, 40)).toBe(DropReason.pktTooSmall);
    expect(sized(40, 40)).toBe(DropReason.none);
  });

  it("fill and verify their checksum over the pseudo header", () => {
    fc.assert(
      fc.property(u32, u32, fc.uint8Array({ maxLength: 99 }), fc.nat(7), u8, (src, dst, data, at, damage) => {
        const { bytes, view } = placed(Uint8Array.of(...syn, ...data), at);
        const len = syn.length + data.length;
        tcp.fillChecksumV4(bytes, view, at, len, src, dst);
        expect(tcp.hasGoodChecksumV4(bytes, at, len, src, dst)).toBe(true);
        bytes[at + 4] ^= (damage | 1) & 0xff;
        expect(tcp.hasGoodChecksumV4(bytes, at, len, src, dst)).toBe(false);
      }),
    );
  });

  it("refuse to be emitted with more options than fit", () => {
    const option = { kind: "timestamps" as const, tsVal: 0, tsEcr: 0 };
    const segment = { ...tcp.parse(syn), options: new Array(5).fill(option) };
    expect(() => tcp.emit(segment)).toThrow("at most 40");
  });

  it("print flags as tcpdump does", () => {
    const { syn: s, ack, fin, psh, rst } = tcp.Flag;
    expect([s, s | ack, ack, psh | ack, fin | ack, rst, 0].map(tcp.flagLetters)).toEqual([
      "S",
      "S.",
      ".",
      "P.",
      "F.",
      "R",
      "none",
    ]);
  });
});

describe("ICMP messages", () => {
  it("have the known checksum of an echo request", () => {
    // type 8, id 1, seq 1, "abcd": the sum of 0x0800 0x0001 0x0001 0x6162 0x6364 is 0xccc8, inverted 0x3337.
    const bytes = icmp.emit({ type: 8, code: 0, rest: 0x00010001, payload: hex("61626364") });
    expect(icmp.checksum(new DataView(bytes.buffer), 0)).toBe(0x3337);
    expect(icmp.hasGoodChecksum(bytes, 0, bytes.length)).toBe(true);
    bytes[9] ^= 1;
    expect(icmp.hasGoodChecksum(bytes, 0, bytes.length)).toBe(false);
  });

  it("say which types are errors and the next-hop MTU", () => {
    expect([0, 3, 4, 5, 8, 11, 12, 13, 35, 43].filter(icmp.isError)).toEqual([3, 4, 5, 11, 12]);
    const bytes = icmp.emit({ type: 3, code: 4, rest: 1400, payload: new Uint8Array(28) });
    expect(icmp.nextHopMtu(new DataView(bytes.buffer), 0)).toBe(1400);
    expect(icmp.pretty(icmp.parse(bytes))).toBe("ICMP unreachable fragmentationNeeded (mtu 1400), length 36");
  });
});

describe("UDP datagrams", () => {
  it("send a computed 0 as 0xffff and accept none", () => {
    // Ports and length chosen so that the sum with an all-zero pseudo header (protocol 17, length 8) is 0xffff.
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    udp.writeHeader(view, 0, 0xffff - 17 - 8 - 8, 0, 8);
    expect(udp.hasGoodChecksumV4(bytes, view, 0, 8, 0, 0)).toBe(true);
    udp.fillChecksumV4(bytes, view, 0, 8, 0, 0);
    expect(udp.checksum(view, 0)).toBe(0xffff);
    expect(udp.hasGoodChecksumV4(bytes, view, 0, 8, 0, 0)).toBe(true);
    udp.setChecksum(view, 0, 0x1234);
    expect(udp.hasGoodChecksumV4(bytes, view, 0, 8, 0, 0)).toBe(false);
  });

  it("are refused when their length lies", () => {
    const view = new DataView(new ArrayBuffer(20));
    const sized = (len: number, end: number) => {
      udp.setLength(view, 0, len);
      return udp.check(view, 0, end);
    };
    expect([sized(8, 8), sized(8, 20), sized(20, 20)]).toEqual([0, 0, 0]);
    expect([sized(7, 20), sized(21, 20), sized(8, 7)]).toEqual(new Array(3).fill(DropReason.pktTooSmall));
  });
});
