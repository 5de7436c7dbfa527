/** Software segmentation: a super-segment that meets a device without it, on its own host or on a router. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip as addressOf, Lan, macOf, routed, type TestEnv } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { emptyDeviceStats } from "../device/frame.ts";
import type { Device } from "../device/port.ts";
import { type SkBuff, Summed } from "../skb/skb.ts";
import { TestHost, TestPeer } from "../transport/tcp/tcp-testing.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";

const PROTOCOL_TCP = 6;
const SRC = addressOf("10.1.0.2").v4;
const DST = addressOf("10.2.0.2").v4;

/** A packet that left, without its Ethernet header; `segment` makes sense unless it is a fragment. */
interface Sent {
  readonly packet: ipv4.Repr;
  readonly segment: tcp.Repr;
  readonly raw: Uint8Array;
  readonly gsoSize: number;
  readonly summed: number;
}

/** A device that takes all and keeps a copy; `deliver` is its receive side. */
class Trap implements Device {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu = 1500;
  readonly stats = emptyDeviceStats();
  readonly rxRing = { used: 0, size: 256 };
  readonly txRing = { used: 0, size: 256 };
  readonly capabilities: Device["capabilities"];
  onInterrupt: () => void = () => {};
  onTransmitSpace: () => void = () => {};
  readonly sent: Sent[] = [];
  private readonly env: TestEnv;
  private readonly arrived: SkBuff[] = [];

  constructor(env: TestEnv, name: string, n: number, gsoMaxBytes: number, checksum: boolean) {
    this.env = env;
    this.name = name;
    this.mac = macOf(n);
    this.capabilities = { checksum, maxFrameBytes: 1514, gsoMaxBytes, arrivalTimes: true };
  }
  deliver(skb: SkBuff): void {
    this.arrived.push(skb);
    this.onInterrupt();
  }
  receive(_budget: number, sink: (skb: SkBuff) => void): number {
    const all = this.arrived.splice(0);
    for (const skb of all) sink(skb);
    return all.length;
  }
  transmit(skb: SkBuff): boolean {
    const raw = skb.bytes.slice(skb.data + 14, skb.tail);
    const packet = ipv4.parse(raw);
    const { gsoSize, summed } = skb;
    this.sent.push({
      packet,
      get segment() {
        return tcp.parse(packet.payload);
      },
      raw,
      gsoSize,
      summed,
    });
    this.env.pool.release(skb);
    return true;
  }
  enableInterrupts(): void {}
  flush(): void {}
  close(): void {}
}

/** A frame with a TCP super-segment from 10.1.0.2 to 10.2.0.2, as a TAP delivers it. */
function superFrame(
  env: TestEnv,
  dstMac: Uint8Array,
  payload: Uint8Array,
  gsoSize: number,
  change: Partial<ipv4.Repr> = {},
) {
  const { ack, psh, fin, cwr } = tcp.Flag;
  const segment = tcp.emit({
    srcPort: 40000,
    dstPort: 80,
    seq: 0xfffff000,
    ack: 77,
    reserved: 0,
    flags: ack | psh | fin | cwr,
    window: 500,
    checksum: 0,
    urgent: 0,
    options: [{ kind: "nop" }, { kind: "nop" }, { kind: "timestamps", tsVal: 1, tsEcr: 2 }],
    payload,
  });
  const packet = ipv4.emit({
    protocol: PROTOCOL_TCP,
    ttl: 64,
    tos: 0,
    id: 0xfffe,
    reservedFlag: false,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    options: new Uint8Array(0),
    src: SRC,
    dst: DST,
    payload: segment,
    ...change,
  });
  const skb = env.pool.alloc(14 + packet.length, 2) as SkBuff;
  const at = skb.put(14 + packet.length);
  skb.bytes.set([...dstMac, ...macOf(9), 0x08, 0x00], at);
  skb.bytes.set(packet, at + 14);
  skb.net = at + 14;
  skb.transport = at + 34;
  skb.summed = gsoSize > 0 ? Summed.partial : Summed.unnecessary;
  skb.gsoSize = gsoSize;
  return skb;
}

/** A router between a device that delivers super-segments and `out`. */
function router(gsoMaxBytes = 0, checksum = false) {
  const lan = new Lan();
  const host = lan.host("router");
  const tap = new Trap(host.env, "tap0", 1, 65550, true);
  const out = new Trap(host.env, "out0", 2, gsoMaxBytes, checksum);
  host.net.addNic(tap, "10.1.0.1/24");
  const dev = host.net.addNic(out, "10.2.0.1/24");
  host.env.sysctl.ipForward = 1;
  host.net.ip.addNeighbour(3, addressOf("10.2.0.2"), macOf(3));
  const pass = (payload: Uint8Array, gsoSize: number, change: Partial<ipv4.Repr> = {}) => {
    tap.deliver(superFrame(host.env, tap.mac, payload, gsoSize, change));
    lan.runFor(1e6);
  };
  return { lan, host, tap, out, dev, pass };
}

const bytes = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * 7) & 255);

describe("a router passes a super-segment on", () => {
  it("to a cable: in segments with the right lengths, ids, sequence numbers, flags and checksums", () => {
    const { host, out, dev, pass } = router();
    pass(bytes(3000), 1400);
    const { ack, psh, fin, cwr } = tcp.Flag;
    expect(out.sent.map(({ packet }) => [packet.id, packet.ttl, packet.dontFragment])).toEqual([
      [0xfffe, 63, true],
      [0xffff, 63, true],
      [0, 63, true],
    ]);
    expect(out.sent.map(({ segment }) => [segment.seq, segment.payload.length, segment.flags])).toEqual([
      [0xfffff000, 1400, ack | cwr],
      [0xfffff578, 1400, ack],
      [0xfffffaf0, 200, ack | psh | fin],
    ]);
    expect(out.sent.map(({ raw }) => raw.length)).toEqual([1452, 1452, 252]);
    for (const { raw, gsoSize, summed } of out.sent) {
      expect(ipv4.check(new DataView(raw.buffer), 0, raw.length)).toBe(DropReason.none);
      expect(tcp.hasGoodChecksumV4(raw, 20, raw.length - 20, SRC, DST)).toBe(true);
      expect([gsoSize, summed]).toEqual([0, Summed.none]);
    }
    expect(Buffer.concat(out.sent.map(({ segment }) => segment.payload))).toEqual(Buffer.from(bytes(3000)));
    expect(dev.superSegmentsCut).toBe(1);
    expect(host.mib("IpForwDatagrams")).toBe(1);
    expect(host.env.pool.outstanding).toBe(0);
  });

  it("to a device that sums: the field holds the pseudo header's sum of the piece", () => {
    const { out, pass } = router(0, true);
    pass(bytes(2000), 1400);
    expect(out.sent.map(({ summed }) => summed)).toEqual([Summed.partial, Summed.partial]);
    // 10.1.0.2, 10.2.0.2, protocol 6, length 32 + payload: 0x0a01 + 0x0002 + 0x0a02 + 0x0002 + 6 + length.
    expect(out.sent.map(({ segment }) => segment.checksum)).toEqual([0x140d + 1432, 0x140d + 632]);
  });

  it("whole to a device that takes it; cut if it takes none so large", () => {
    const whole = router(65550, true);
    whole.pass(bytes(3000), 1400);
    expect(whole.out.sent.map(({ gsoSize, raw }) => [gsoSize, raw.length])).toEqual([[1400, 3052]]);
    const small = router(3000, true);
    small.pass(bytes(3000), 1400);
    expect(small.out.sent).toHaveLength(3);
  });

  it("is too big only if its segments are: fragmentation needed, or fragments", () => {
    const tooBig = router(65550, true);
    tooBig.pass(bytes(3000), 1460);
    // 20 + 32 + 1460 is 1512.
    expect(tooBig.out.sent).toEqual([]);
    expect(tooBig.host.dropped()).toEqual({ PKT_TOO_BIG: 1 });
    expect(tooBig.host.mib("IcmpOutDestUnreachs")).toBe(1);
    const mayFragment = router(0, false);
    mayFragment.pass(bytes(2920), 1460, { dontFragment: false });
    expect(mayFragment.out.sent.map(({ raw, packet }) => [raw.length, packet.moreFragments, packet.id])).toEqual([
      [1500, true, 0xfffe],
      [32, false, 0xfffe],
      [1500, true, 0xffff],
      [32, false, 0xffff],
    ]);
    expect(mayFragment.host.env.pool.outstanding).toBe(0);
  });

  it("drops what says it is one and is none", () => {
    const { host, dev, pass } = router();
    pass(bytes(3000), 1400, { protocol: 17 });
    pass(bytes(3000), 1400, { payload: bytes(19) });
    expect(host.dropped()).toEqual({ SKB_GSO_SEG: 2 });
    expect(dev.txDropped).toBe(2);
    expect(host.env.pool.outstanding).toBe(0);
  });

  it("drops the rest when memory is out, and leaks nothing", () => {
    const { lan, host, out, dev, pass } = router();
    const taken: number[] = [];
    pass(bytes(100), 1400);
    // Between the arrival and the cut: all slots but one of each size that could hold a piece.
    for (let slot = lan.arena.alloc(2048); slot !== 0; slot = lan.arena.alloc(2048)) taken.push(slot);
    lan.arena.release(taken.shift() as number);
    lan.arena.release(taken.pop() as number);
    out.sent.length = 0;
    pass(bytes(30_000), 1400);
    expect(host.dropped()).toEqual({ NOMEM: 1 });
    expect(dev.txDropped).toBe(1);
    expect(host.env.pool.outstanding).toBe(0);
    for (const slot of taken) lan.arena.release(slot);
  });

  it("over a real cable counts wire frames, and nothing leaks", () => {
    const { lan, client, router: host, server, farLink } = routed();
    host.net.ip.addNeighbour(3, addressOf("10.2.0.2"), macOf(4));
    server.net.ip.addNeighbour(2, addressOf("10.2.0.1"), macOf(3));
    const skb = superFrame(client.env, macOf(2), bytes(14_000), 1400);
    client.net.devices[1].transmit(skb);
    lan.runFor(1e9);
    // The client's own card takes none either: both cables carry ten frames.
    expect(farLink.stats(0).sentFrames).toBe(10);
    expect(server.mib("IpInReceives")).toBe(10);
    lan.close();
    expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
  });
});

describe("cut here or by TCP", () => {
  it("the same segments leave (any stream, any MSS)", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 14_600 }),
        fc.integer({ min: 536, max: 1460 }),
        fc.boolean(),
        (len, mss, fin) => {
          const segments = sentBy(0, len, mss, fin);
          const { host, out, pass } = router();
          for (const segment of sentBy(65535, len, mss, fin)) {
            pass(new Uint8Array(0), segment.gsoSize, { payload: segment.bytes });
          }
          const hex = (raw: Uint8Array) => Buffer.from(raw).toString("hex");
          expect(out.sent.map(({ packet }) => hex(packet.payload))).toEqual(segments.map(({ bytes: b }) => hex(b)));
          expect(host.dropped()).toEqual({});
        },
      ),
      { numRuns: 60 },
    );
  });
});

/** What a host sends when its process writes `len` bytes (and closes) on a path with that `gsoMaxBytes`. */
function sentBy(gsoMaxBytes: number, len: number, mss: number, fin: boolean): { bytes: Uint8Array; gsoSize: number }[] {
  const host = new TestHost({ address: "10.1.0.2" });
  host.ip.gsoMaxBytes = gsoMaxBytes;
  const peer = new TestPeer(host, "10.2.0.2");
  const { tcb } = peer.open(host.listen(80), { mss, ts: [1, 0] });
  const sent: { bytes: Uint8Array; gsoSize: number }[] = [];
  host.ip.onSegment = (segment, _destination, gsoSize) => sent.push({ bytes: segment, gsoSize });
  // Corked until all is there: the FIN rides on the last segment, whoever cuts.
  tcb.nonagle = 2;
  host.tcp.send(tcb, bytes(len), 0, len, 0x8000);
  if (fin) host.tcp.shutdown(tcb, 1);
  host.tcp.setOption(tcb, 6, 3, 0);
  return sent;
}

it("a device that is down drops a super-segment whole", () => {
  const { lan, host, dev, tap } = router();
  host.net.ip.setUp(3, false);
  expect(dev.transmit(superFrame(host.env, tap.mac, bytes(3000), 1400))).toBe(-Errno.ENETDOWN);
  expect(host.dropped()).toEqual({ DEV_READY: 1 });
  lan.close();
});
