import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, macOf, routed, TEST_PROTOCOL, type TestHost, twoHosts } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { SECOND } from "../base/time.ts";
import type { WireLink } from "../device/wire-link.ts";
import type { SkBuff } from "../skb/skb.ts";
import * as icmp from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";
import * as udp from "../wire/udp.ts";
import { IpProtocol } from "./port.ts";

const bytes = (size: number, from = 0) => Uint8Array.from({ length: size }, (_, i) => (i * 7 + from) & 255);

/** IP packets that departed on a link, in both directions. */
function watch(link: WireLink): { direction: number; packet: ipv4.Repr; raw: Uint8Array }[] {
  const seen: { direction: number; packet: ipv4.Repr; raw: Uint8Array }[] = [];
  link.addTap((direction, all, at, len) => {
    const raw = all.slice(at + 14, at + len);
    if (all[at + 12] === 8 && all[at + 13] === 0) seen.push({ direction, packet: ipv4.parse(raw), raw });
  });
  return seen;
}

/** Sends a hand-made IP packet from `host` to the MAC `to`. */
function sendRaw(host: TestHost, to: number, packet: Partial<ipv4.Repr> & { src: number; dst: number }): void {
  const full = {
    protocol: TEST_PROTOCOL,
    ttl: 64,
    tos: 0,
    id: 1,
    reservedFlag: false,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    options: new Uint8Array(0),
    payload: new Uint8Array(0),
    ...packet,
  };
  sendBytes(host, to, ipv4.emit(full));
}

function sendBytes(host: TestHost, to: number, packet: Uint8Array): void {
  const skb = host.env.pool.alloc(packet.length) as SkBuff;
  skb.bytes.set(packet, skb.put(packet.length));
  const at = skb.push(14);
  skb.bytes.set([...macOf(to), ...host.nics[0].mac, 0x08, 0x00], at);
  host.net.devices[1].transmit(skb);
}

const A = ip("10.0.0.1").v4;
const B = ip("10.0.0.2").v4;

describe("ping", () => {
  it("goes through a router and comes back with the TTL one less each way", () => {
    const { lan, client, server, nearLink, farLink } = routed({ delayNs: 1e6 }, { delayNs: 2e6 });
    const near = watch(nearLink);
    const far = watch(farLink);
    expect(client.echo("10.2.0.2")).toBe(0);
    lan.runFor(1e9);
    expect(client.ping.arrived).toHaveLength(1);
    expect(client.ping.arrived[0].from).toBe("10.2.0.2");
    expect(icmp.parse(client.ping.arrived[0].payload).payload).toEqual(Uint8Array.from({ length: 56 }, (_, i) => i));
    expect(near.map(({ packet }) => packet.ttl)).toEqual([64, 63]);
    expect(far.map(({ packet }) => packet.ttl)).toEqual([63, 64]);
    expect(server.mib("IcmpInEchos")).toBe(1);
    expect(server.mib("IcmpOutEchoReps")).toBe(1);
    expect(client.mib("IcmpInEchoReps")).toBe(1);
    expect(lan.hosts[1].mib("IpForwDatagrams")).toBe(2);
    lan.close();
    expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
  });

  it("a TTL that runs out is reported by the router", () => {
    const { lan, client, router } = routed();
    client.echo("10.2.0.2", 56, { ttl: 1 });
    lan.runFor(1e9);
    expect(client.ping.errors).toEqual([{ type: 11, code: 0, info: 0, peer: "10.2.0.2" }]);
    expect(router.dropped()).toEqual({ IP_TTL: 1 });
    expect(router.mib("IpInHdrErrors")).toBe(1);
    expect(router.mib("IcmpOutTimeExcds")).toBe(1);
    expect(client.mib("IcmpInTimeExcds")).toBe(1);
  });

  it("no route is reported by the router, a missing host after ARP gave up", () => {
    const { lan, client, router } = routed();
    client.echo("192.168.0.1");
    lan.runFor(1e9);
    expect(client.ping.errors).toEqual([{ type: 3, code: 0, info: 0, peer: "192.168.0.1" }]);
    expect(router.mib("IpExtInNoRoutes")).toBe(1);
    client.echo("10.2.0.77");
    lan.runFor(5 * SECOND);
    expect(client.ping.errors[1]).toEqual({ type: 3, code: 1, info: 0, peer: "10.2.0.77" });
    expect(router.dropped()).toEqual({ IP_INNOROUTES: 1, NEIGH_FAILED: 1 });
  });

  it("a host that does not forward drops silently", () => {
    const { lan, client, router } = routed();
    router.env.sysctl.ipForward = 0;
    client.echo("10.2.0.2");
    lan.runFor(1e9);
    expect(router.dropped()).toEqual({ IP_INADDRERRORS: 1 });
    expect(router.mib("IpInAddrErrors")).toBe(1);
    expect(client.ping.errors).toEqual([]);
  });

  it("to ourselves goes by lo; icmp_echo_ignore_all is silent", () => {
    const { lan, a, link } = twoHosts();
    const seen = watch(link);
    for (const to of ["127.0.0.1", "10.0.0.1", "127.9.9.9"]) a.echo(to, 1000);
    lan.runFor(1e6);
    expect(a.ping.arrived.map(({ from }) => from)).toEqual(["127.0.0.1", "10.0.0.1", "127.9.9.9"]);
    expect(seen).toEqual([]);
    a.env.sysctl.icmpEchoIgnoreAll = 1;
    a.echo("127.0.0.1");
    lan.runFor(1e6);
    expect(a.ping.arrived).toHaveLength(3);
  });

  it("a broadcast ping is not answered", () => {
    const { lan, a, b } = twoHosts();
    a.echo("10.0.0.255");
    a.echo("255.255.255.255");
    lan.runFor(1e9);
    expect(b.mib("IcmpInEchos")).toBe(2);
    expect(b.mib("IpExtInBcastPkts")).toBe(2);
    expect(a.ping.arrived).toEqual([]);
    expect(b.env.pool.outstanding).toBe(0);
  });
});

describe("what IPv4 refuses", () => {
  const cases: [string, Partial<ipv4.Repr> & { src: number; dst: number }, string][] = [
    ["a multicast source", { src: ip("224.0.0.5").v4, dst: B }, "IP_INVALID_SOURCE"],
    ["a broadcast source", { src: 0xffffffff, dst: B }, "IP_INVALID_SOURCE"],
    ["a source of 0.0.0.0", { src: 0, dst: B }, "IP_INVALID_SOURCE"],
    ["our own address as source", { src: B, dst: B }, "IP_INVALID_SOURCE"],
    ["127/8 from a wire", { src: ip("127.0.0.1").v4, dst: B }, "IP_INVALID_SOURCE"],
    ["127/8 to us from a wire", { src: A, dst: ip("127.0.0.1").v4 }, "IP_INVALID_SOURCE"],
    ["a group we are not in", { src: A, dst: ip("224.0.0.9").v4 }, "IP_INADDRERRORS"],
    ["an unknown protocol", { src: A, dst: B, protocol: 200 }, "IP_NOPROTO"],
  ];
  it.each(cases)("%s", (_name, packet, reason) => {
    const { lan, a, b } = twoHosts();
    sendRaw(a, 2, packet);
    lan.runFor(1e9);
    expect(b.dropped()).toEqual({ [reason]: 1 });
    expect(b.env.pool.outstanding).toBe(0);
  });

  it("an unknown protocol is reported with ICMP protocol unreachable", () => {
    const { lan, a, link } = twoHosts();
    const seen = watch(link);
    sendRaw(a, 2, { src: A, dst: B, protocol: 200, payload: bytes(16) });
    lan.runFor(1e9);
    expect(icmp.parse(seen[1].packet.payload)).toMatchObject({ type: 3, code: 2 });
  });

  it("damaged headers, counted as Linux counts them", () => {
    const { lan, a, b } = twoHosts();
    const good = ipv4.emit({
      ...{ src: A, dst: B, protocol: TEST_PROTOCOL, ttl: 9, tos: 0, id: 0, reservedFlag: false, dontFragment: true },
      ...{ moreFragments: false, fragmentOffset: 0, options: new Uint8Array(0), payload: bytes(30) },
    });
    const broken = good.slice();
    broken[8] ^= 1;
    sendBytes(a, 2, broken);
    const wrongVersion = good.slice();
    wrongVersion[0] = 0x65;
    sendBytes(a, 2, wrongVersion);
    sendBytes(a, 2, good.slice(0, 40));
    sendBytes(a, 2, good.slice(0, 10));
    sendBytes(a, 2, good);
    lan.runFor(1e9);
    expect(b.dropped()).toEqual({ IP_CSUM: 1, IP_INHDR: 2, PKT_TOO_SMALL: 1 });
    expect(b.mib("IpExtInCsumErrors")).toBe(1);
    expect(b.mib("IpExtInTruncatedPkts")).toBe(1);
    expect(b.mib("IpInHdrErrors")).toBe(3);
    expect([b.mib("IpInReceives"), b.mib("IpInDelivers")]).toEqual([5, 1]);
  });

  it("Ethernet padding is cut off", () => {
    const { lan, a, b } = twoHosts();
    const packet = ipv4.emit({
      ...{ src: A, dst: B, protocol: TEST_PROTOCOL, ttl: 9, tos: 1, id: 0, reservedFlag: false, dontFragment: true },
      ...{ moreFragments: false, fragmentOffset: 0, options: new Uint8Array(0), payload: bytes(3) },
    });
    sendBytes(a, 2, Uint8Array.from([...packet, ...new Uint8Array(23).fill(0xee)]));
    lan.runFor(1e9);
    expect(b.probe.arrived.map(({ payload }) => payload)).toEqual([bytes(3)]);
    expect(b.mib("IpExtInECT1Pkts")).toBe(1);
    expect(b.mib("IpExtInOctets")).toBe(46);
  });

  it("no packet whatever makes it throw or leak", () => {
    const { lan, a, b } = twoHosts();
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 100 }), fc.boolean(), (noise, plausible) => {
        const packet = noise.slice();
        if (plausible && packet.length >= 20) {
          // Past the header's own checks, to reach what is behind them.
          packet[0] = 0x45;
          new DataView(packet.buffer).setUint16(2, packet.length);
          new DataView(packet.buffer).setUint32(16, B);
          packet[9] = [1, 6, 17, 253][packet[9] & 3];
          ipv4.fillChecksum(packet, new DataView(packet.buffer), 0);
        }
        sendBytes(a, 2, packet);
        lan.runFor(1e6);
        const held = b.net.ip.reassembly.heldFragments;
        expect(b.env.pool.outstanding).toBe(held);
      }),
      { numRuns: 300 },
    );
    lan.runFor(60 * SECOND);
    lan.close();
    expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
  });
});

describe("headers we write", () => {
  it("DF: id 0, checksum right; without DF ids differ", () => {
    const { lan, a, link } = twoHosts();
    const seen = watch(link);
    a.send("10.0.0.2", bytes(10), TEST_PROTOCOL, { df: true, ttl: 33 });
    a.send("10.0.0.2", bytes(10));
    a.send("10.0.0.2", bytes(10));
    lan.runFor(1e9);
    expect(seen[0].packet).toMatchObject({ id: 0, dontFragment: true, ttl: 33, src: A, dst: B });
    expect(seen[2].packet.id).toBe((seen[1].packet.id + 1) & 0xffff);
    for (const { raw } of seen) expect(ipv4.check(new DataView(raw.buffer), 0, raw.length)).toBe(0);
    expect([a.mib("IpOutRequests"), a.mib("IpOutTransmits")]).toEqual([3, 3]);
    expect(a.mib("IpExtOutOctets")).toBe(90);
  });

  it("forwarding keeps the checksum right for any header", () => {
    const { lan, client, farLink } = routed();
    const far = watch(farLink);
    client.echo("10.2.0.2");
    lan.runFor(1e9);
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 255 }),
        fc.nat(0xffff),
        fc.nat(255),
        fc.uint8Array({ minLength: 0, maxLength: 40 }),
        (ttl, id, tos, payload) => {
          far.length = 0;
          sendRaw(client, 2, { src: ip("10.1.0.2").v4, dst: ip("10.2.0.2").v4, ttl, id, tos, payload });
          lan.runFor(1e6);
          const [{ packet, raw }] = far;
          expect(packet).toMatchObject({ ttl: ttl - 1, id, tos });
          expect(ipv4.check(new DataView(raw.buffer), 0, raw.length)).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("fragments", () => {
  it("a large datagram is cut and put together again", () => {
    const { lan, a, b, link } = twoHosts();
    const seen = watch(link);
    const payload = bytes(4000);
    expect(a.send("10.0.0.2", payload)).toBe(0);
    lan.runFor(1e9);
    expect(b.probe.arrived.map((x) => x.payload)).toEqual([payload]);
    expect(seen.map(({ packet }) => [packet.fragmentOffset, packet.payload.length, packet.moreFragments])).toEqual([
      [0, 1480, true],
      [1480, 1480, true],
      [2960, 1040, false],
    ]);
    expect([a.mib("IpFragOKs"), a.mib("IpFragCreates"), a.mib("IpOutTransmits")]).toEqual([1, 3, 3]);
    expect([b.mib("IpReasmReqds"), b.mib("IpReasmOKs"), b.mib("IpInDelivers")]).toEqual([3, 1, 1]);
    expect(b.net.ip.reassembly.heldBytes).toBe(0);
    expect(lan.hosts[0].env.pool.outstanding + b.env.pool.outstanding).toBe(0);
  });

  it("works for every size, in any order, with duplicates", () => {
    const { lan, a, b } = twoHosts();
    a.net.ip.addNeighbour(2, ip("10.0.0.2"), macOf(2));
    let id = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 9, max: 9000 }),
        fc.integer({ min: 1, max: 180 }),
        fc.infiniteStream(fc.nat(1e6)),
        (size, units, order) => {
          id = (id + 1) & 0xffff;
          const payload = bytes(size, id);
          const step = Math.max(units, Math.ceil(size / 8 / 60)) * 8;
          const pieces: Partial<ipv4.Repr>[] = [];
          for (let at = 0; at < size; at += step) {
            const moreFragments = at + step < size;
            pieces.push({ id, fragmentOffset: at, moreFragments, payload: payload.slice(at, at + step) });
          }
          const keyed = [...pieces, pieces[0]].map((piece) => ({ piece, key: order.next().value as number }));
          keyed.sort((x, y) => x.key - y.key);
          b.probe.arrived.length = 0;
          for (const { piece } of keyed) sendRaw(a, 2, { src: A, dst: B, ...piece });
          lan.runFor(1e6);
          // A duplicate after the end starts a packet of its own, which times out later.
          expect(b.probe.arrived.map((x) => x.payload)).toContainEqual(payload);
          expect(b.probe.arrived).toHaveLength(pieces.length === 1 ? 2 : 1);
          lan.runFor(31 * SECOND);
          expect(b.net.ip.reassembly.heldBytes).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  const piece = (fragmentOffset: number, size: number, moreFragments: boolean, id = 5) => ({
    ...{ src: A, dst: B, id, fragmentOffset, moreFragments },
    payload: bytes(size, fragmentOffset),
  });

  it("an overlap discards the whole packet", () => {
    const { lan, a, b } = twoHosts();
    sendRaw(a, 2, piece(0, 16, true));
    sendRaw(a, 2, piece(8, 16, false));
    lan.runFor(1e6);
    expect(b.dropped()).toEqual({ FRAG_OVERLAP: 2 });
    expect([b.mib("IpExtReasmOverlaps"), b.mib("IpReasmFails")]).toEqual([1, 1]);
    // What comes after starts anew.
    sendRaw(a, 2, piece(0, 16, true));
    sendRaw(a, 2, piece(16, 5, false));
    lan.runFor(1e6);
    expect(b.probe.arrived).toHaveLength(1);
  });

  it("a duplicate is dropped alone", () => {
    const { lan, a, b } = twoHosts();
    sendRaw(a, 2, piece(0, 16, true));
    sendRaw(a, 2, piece(16, 16, true));
    sendRaw(a, 2, piece(8, 16, true));
    lan.runFor(1e6);
    expect(b.dropped()).toEqual({ DUP_FRAG: 1 });
    sendRaw(a, 2, piece(32, 3, false));
    lan.runFor(1e6);
    expect(b.probe.arrived).toHaveLength(1);
  });

  it.each([
    ["two ends", [piece(8, 8, false), piece(16, 8, false)]],
    ["data behind the end", [piece(8, 8, false), piece(16, 8, true)]],
    ["an end before data", [piece(16, 8, true), piece(8, 8, false)]],
    ["more than 65535 bytes", [piece(65528, 20, false)]],
    ["nothing", [piece(8, 0, true)]],
  ])("contradictions discard: %s", (_name, pieces) => {
    const { lan, a, b } = twoHosts();
    for (const p of pieces) sendRaw(a, 2, p);
    lan.runFor(1e6);
    expect(b.dropped()).toEqual({ IP_INHDR: pieces.length });
    expect(b.mib("IpReasmFails")).toBe(1);
    expect(b.net.ip.reassembly.heldBytes).toBe(0);
  });

  it("after ipfrag_time: time exceeded, if the first fragment came", () => {
    const { lan, a, b } = twoHosts();
    sendRaw(a, 2, piece(0, 16, true, 1));
    sendRaw(a, 2, piece(16, 16, true, 2));
    lan.runFor(29.9 * SECOND);
    expect(b.net.ip.reassembly.heldFragments).toBe(2);
    lan.runFor(0.2 * SECOND);
    expect(b.dropped()).toEqual({ FRAG_REASM_TIMEOUT: 2 });
    expect([b.mib("IpReasmTimeout"), b.mib("IpReasmFails"), b.mib("IcmpOutTimeExcds")]).toEqual([2, 2, 1]);
    expect(a.probe.errors).toEqual([{ type: 11, code: 1, info: 0, peer: "10.0.0.2" }]);
  });

  it("memory is bounded by ipfrag_high_thresh", () => {
    const { lan, a, b } = twoHosts();
    b.env.sysctl.ipfragHighThresh = 10 * 256;
    for (let id = 0; id < 30; id++) sendRaw(a, 2, piece(0, 16, true, id));
    lan.runFor(1e6);
    expect(b.net.ip.reassembly.heldFragments).toBe(11);
    expect(b.dropped()).toEqual({ FRAG_TOO_FAR: 19 });
  });

  it("a fragment too far from its like starts the packet anew", () => {
    const { lan, a, b } = twoHosts();
    sendRaw(a, 2, piece(0, 16, true, 1));
    for (let id = 100; id < 165; id++) sendRaw(a, 2, piece(0, 16, true, id));
    sendRaw(a, 2, piece(16, 8, false, 1));
    lan.runFor(1e6);
    expect(b.probe.arrived).toEqual([]);
    expect(b.dropped()).toEqual({ FRAG_TOO_FAR: 1 });
  });

  it("a router cuts what the next link cannot take, options and all", () => {
    const { lan, client, server, farLink } = routed({}, {}, 1, 600);
    const far = watch(farLink);
    const payload = bytes(1400);
    client.send("10.2.0.2", payload);
    lan.runFor(1e9);
    expect(server.probe.arrived.map((x) => x.payload)).toEqual([payload]);
    expect(far.every(({ raw }) => raw.length <= 600)).toBe(true);
    far.length = 0;
    // Option 7 (record route) stays in the first fragment, option 0x94 (router alert) is copied.
    const options = Uint8Array.of(7, 3, 4, 0x94, 4, 0, 0, 0);
    const packet = { src: ip("10.1.0.2").v4, dst: ip("10.2.0.2").v4, options, payload: bytes(700) };
    sendRaw(client, 2, packet);
    lan.runFor(1e9);
    expect(far.map(({ packet: p }) => [...p.options])).toEqual([
      [7, 3, 4, 0x94, 4, 0, 0, 0],
      [1, 1, 1, 0x94, 4, 0, 0, 0],
    ]);
    expect(server.probe.arrived[1].payload).toEqual(bytes(700));
  });
});

describe("path MTU discovery", () => {
  it("a router refuses DF with the MTU; the next packet knows it", () => {
    const { lan, client, router } = routed({}, {}, 1, 1280);
    const before = client.net.ip.route(ip("10.2.0.2"), null, 0);
    client.send("10.2.0.2", bytes(1400), TEST_PROTOCOL, { df: true });
    lan.runFor(1e9);
    expect(router.dropped()).toEqual({ PKT_TOO_BIG: 1 });
    expect(router.mib("IpFragFails")).toBe(1);
    expect(client.probe.errors).toEqual([{ type: 3, code: 4, info: 1280, peer: "10.2.0.2" }]);
    const after = client.net.ip.route(ip("10.2.0.2"), null, 0);
    if (typeof before === "number" || typeof after === "number") throw new Error("no route");
    expect([before.valid, after.mtu, after.valid]).toEqual([false, 1280, true]);
    expect(client.send("10.2.0.2", bytes(1400), TEST_PROTOCOL, { df: true })).toBe(-Errno.EMSGSIZE);
    expect(client.dropped()).toEqual({ PKT_TOO_BIG: 1 });
    expect(client.send("10.2.0.2", bytes(1260), TEST_PROTOCOL, { df: true })).toBe(0);
    lan.runFor(1e9);
    expect(lan.hosts[2].probe.arrived).toHaveLength(1);
  });

  it("a local packet with DF larger than the MTU: -EMSGSIZE at once", () => {
    const { a } = twoHosts();
    expect(a.send("10.0.0.2", bytes(1481), TEST_PROTOCOL, { df: true })).toBe(-Errno.EMSGSIZE);
    expect(a.mib("IpFragFails")).toBe(1);
  });

  it("an error about a packet that is not ours teaches nothing", () => {
    const { lan, a, b } = twoHosts();
    const foreign = ipv4.emit({
      ...{
        src: ip("10.0.0.99").v4,
        dst: B,
        protocol: 6,
        ttl: 9,
        tos: 0,
        id: 0,
        reservedFlag: false,
        dontFragment: true,
      },
      ...{ moreFragments: false, fragmentOffset: 0, options: new Uint8Array(0), payload: bytes(8) },
    });
    const message = icmp.emit({ type: 3, code: 4, rest: 576, payload: foreign });
    sendRaw(b, 1, { src: B, dst: A, protocol: 1, payload: message });
    lan.runFor(1e6);
    expect(a.net.ip.route(ip("10.0.0.2"), null, 0)).toMatchObject({ mtu: 1500 });
    expect(a.mib("IcmpInDestUnreachs")).toBe(1);
  });
});

describe("ICMP rules", () => {
  const unknown = (payload = bytes(16)) => ({ src: A, dst: B, protocol: 200, payload });

  it("never about an ICMP error, a later fragment, a broadcast", () => {
    const { lan, a, b, link } = twoHosts();
    const seen = watch(link);
    const report = (packet: Parameters<typeof sendRaw>[2]) => sendRaw(a, 2, packet);
    b.net.ip.addRoute({ destination: "10.50.0.0/16", ifindex: 2 });
    b.env.sysctl.ipForward = 1;
    const error = icmp.emit({ type: 3, code: 1, rest: 0, payload: ipv4.emit({ ...seenStub, src: B, dst: A }) });
    // All of these would be answered by "time exceeded" if they were ordinary.
    report({ src: A, dst: ip("10.50.0.1").v4, ttl: 1, protocol: 1, payload: error });
    report({ src: A, dst: ip("10.50.0.1").v4, ttl: 1, fragmentOffset: 8, payload: bytes(8) });
    report({ src: A, dst: ip("10.0.0.255").v4, protocol: 200 });
    lan.runFor(1e9);
    expect(seen.filter(({ direction }) => direction === 1)).toEqual([]);
    report({ src: A, dst: ip("10.50.0.1").v4, ttl: 1, payload: bytes(8) });
    lan.runFor(1e9);
    expect(seen.filter(({ direction }) => direction === 1)).toHaveLength(1);
  });
  const seenStub: ipv4.Repr = {
    ...{ src: 0, dst: 0, protocol: 17, ttl: 9, tos: 0, id: 0, reservedFlag: false, dontFragment: true },
    ...{ moreFragments: false, fragmentOffset: 0, options: new Uint8Array(0), payload: bytes(8) },
  };

  it("quotes the header and as much as fits in 576 bytes", () => {
    const { lan, a, link } = twoHosts();
    const seen = watch(link);
    sendRaw(a, 2, unknown(bytes(1000)));
    lan.runFor(1e9);
    const [sent, answer] = seen;
    expect(answer.raw.length).toBe(576);
    expect(icmp.parse(answer.packet.payload).payload).toEqual(sent.raw.slice(0, 548));
    expect(answer.packet).toMatchObject({ src: B, dst: A, tos: 0xc0 });
  });

  it("one target gets a burst of 6, then one per second", () => {
    const { lan, a, b } = twoHosts();
    for (let i = 0; i < 20; i++) sendRaw(a, 2, unknown());
    lan.runFor(1e6);
    expect(b.mib("IcmpOutDestUnreachs")).toBe(6);
    expect(b.mib("IcmpOutRateLimitHost")).toBe(14);
    for (let i = 0; i < 5; i++) {
      lan.runFor(1 * SECOND);
      sendRaw(a, 2, unknown());
      sendRaw(a, 2, unknown());
    }
    lan.runFor(1e6);
    expect(b.mib("IcmpOutDestUnreachs")).toBe(11);
  });

  it("the whole host sends icmp_msgs_burst at most at once", () => {
    const { lan, a, b } = twoHosts();
    // Every packet has another source, so no single target is over its limit.
    b.net.ip.addRoute({ destination: "10.60.0.0/16", via: ip("10.0.0.1") });
    for (let i = 0; i < 80; i++) sendRaw(a, 2, { ...unknown(), src: ip(`10.60.0.${i}`).v4 });
    lan.runFor(1e4);
    expect(b.mib("IcmpOutDestUnreachs")).toBe(50);
    expect(b.mib("IcmpOutRateLimitGlobal")).toBe(30);
  });

  it("echo replies are not limited; loopback is exempt", () => {
    const { lan, a } = twoHosts();
    for (let i = 0; i < 100; i++) a.echo("10.0.0.2");
    for (let i = 0; i < 30; i++) a.send("127.0.0.1", bytes(8), 200);
    lan.runFor(1e9);
    expect(a.ping.arrived).toHaveLength(100);
    expect(a.mib("IcmpOutDestUnreachs")).toBe(30);
  });

  it("a wrong checksum is counted and dropped", () => {
    const { lan, a, b } = twoHosts();
    const message = icmp.emit({ type: 8, code: 0, rest: 1, payload: bytes(8) });
    message[9] ^= 4;
    sendRaw(a, 2, { src: A, dst: B, protocol: 1, payload: message });
    lan.runFor(1e6);
    expect(b.dropped()).toEqual({ ICMP_CSUM: 1 });
    expect([b.mib("IcmpInMsgs"), b.mib("IcmpInErrors"), b.mib("IcmpInCsumErrors")]).toEqual([1, 1, 1]);
  });
});

describe("reject rules", () => {
  const syn = (flags: number = tcp.Flag.syn, ack = 0) => {
    const segment = new Uint8Array(20);
    const v = new DataView(segment.buffer);
    tcp.writeHeader(v, 0, 40000, 80, 1000, ack, 20, flags, 65535);
    tcp.fillChecksumV4(segment, v, 0, 20, A, B);
    return segment;
  };
  const ask = (
    how: "icmp-port-unreachable" | "tcp-reset" | "drop",
    payload = syn(),
    protocol: number = IpProtocol.tcp,
  ) => {
    const { lan, a, b, link } = twoHosts();
    expect(b.net.ip.reject(80, how)).toBe(0);
    const seen = watch(link);
    sendRaw(a, 2, { src: A, dst: B, protocol, payload });
    lan.runFor(1e9);
    expect(b.dropped()).toEqual({ NETFILTER_DROP: 1 });
    expect(b.net.ip.rejectRows()).toEqual([{ port: 80, with: how, packets: 1 }]);
    return seen.filter(({ direction }) => direction === 1).map(({ packet }) => packet);
  };

  it("icmp-port-unreachable", () => {
    const [answer] = ask("icmp-port-unreachable");
    expect(icmp.parse(answer.payload)).toMatchObject({ type: 3, code: 3 });
  });

  it("tcp-reset answers a SYN with RST+ACK, an ACK with RST at its number, a RST not at all", () => {
    const [answer] = ask("tcp-reset");
    const v = new DataView(answer.payload.buffer, answer.payload.byteOffset);
    expect(tcp.flags(v, 0)).toBe(tcp.Flag.rst | tcp.Flag.ack);
    expect([tcp.srcPort(v, 0), tcp.dstPort(v, 0), tcp.seq(v, 0), tcp.ack(v, 0)]).toEqual([80, 40000, 0, 1001]);
    expect(tcp.hasGoodChecksumV4(answer.payload, 0, 20, B, A)).toBe(true);
    const [toAck] = ask("tcp-reset", syn(tcp.Flag.ack, 777));
    const w = new DataView(toAck.payload.buffer, toAck.payload.byteOffset);
    expect([tcp.flags(w, 0), tcp.seq(w, 0)]).toEqual([tcp.Flag.rst, 777]);
    expect(ask("tcp-reset", syn(tcp.Flag.rst))).toEqual([]);
  });

  it("drop is silent, and UDP is refused as well", () => {
    expect(ask("drop")).toEqual([]);
    const datagram = new Uint8Array(12);
    udp.writeHeader(new DataView(datagram.buffer), 0, 5000, 80, 12);
    expect(ask("icmp-port-unreachable", datagram, IpProtocol.udp)).toHaveLength(1);
  });

  it("a removed rule refuses no more", () => {
    const { ip: layer } = twoHosts().b.net;
    expect(layer.reject(0, "drop")).toBe(-Errno.EINVAL);
    layer.reject(80, "drop");
    expect(layer.unreject(80)).toBe(0);
    expect(layer.unreject(80)).toBe(-Errno.ENOENT);
    expect(layer.rejectRows()).toEqual([]);
  });
});

describe("conservation", () => {
  /** Frames a host received: all it took in, each one once. */
  const accounted = (host: TestHost) => {
    const { counts } = host.env.drops;
    return counts.reduce((sum, n) => sum + n, 0);
  };

  it("frames in = delivered + dropped + still owned, under loss, duplicates and corruption", () => {
    const chance = fc.integer({ min: 0, max: 30 }).map((n) => n / 100);
    const settings = fc.record({ loss: chance, duplicate: chance, corrupt: chance, jitterNs: fc.nat(3e6) });
    fc.assert(
      fc.property(
        settings,
        settings,
        fc.nat(1e6),
        fc.array(fc.nat(3000), { maxLength: 40 }),
        fc.nat(40e6),
        (n, f, seed, sizes, stopNs) => {
          const { lan, client, router, server } = routed(
            { ...n, delayNs: 1e6, rateBitsPerSecond: 1e7 },
            { ...f, delayNs: 2e6 },
            seed,
          );
          for (const size of sizes) {
            if (size % 2 === 0) client.echo("10.2.0.2", size);
            else client.send("10.2.0.2", bytes(size));
          }
          const check = () => {
            // The wire hands every frame to a card or loses it …
            for (const link of lan.links) {
              for (const d of [0, 1] as const) {
                const s = link.stats(d);
                expect(s.arrivedFrames + s.lostFrames + link.inFlight(d)).toBe(s.sentFrames + s.duplicatedFrames);
              }
            }
            // … and every slot has exactly one owner: a ring, a queue, or the wire.
            const posted = lan.hosts.reduce(
              (sum, h) => sum + h.nics.reduce((x, nic) => x + nic.rxRing.size - nic.rxRing.used, 0),
              0,
            );
            const inRings = lan.hosts.reduce((sum, h) => sum + h.nics.reduce((x, nic) => x + nic.rxRing.used, 0), 0);
            const flying = lan.links.reduce((sum, l) => sum + l.inFlight(0) + l.inFlight(1), 0);
            const skbs = lan.hosts.reduce((sum, h) => sum + h.env.pool.outstanding, 0);
            expect(lan.arena.outstanding).toBe(posted + inRings + flying + skbs);
          };
          lan.runFor(stopNs);
          check();
          lan.runFor(60 * SECOND);
          check();
          for (const host of [client, router, server]) expect(host.env.pool.outstanding).toBe(0);
          // At rest nothing is owned. The endpoints account for every frame their card took or missed; a packet put
          // together from fragments stands for its first one, and what waited in vain for ARP was never received.
          const cards = (host: TestHost) =>
            host.nics.reduce((sum, { stats }) => sum + stats.rxPackets + stats.rxMissed + stats.rxErrors, 0);
          const lo = (host: TestHost) => host.net.lo.device.stats.rxPackets;
          const lost = (host: TestHost) => host.env.drops.counts[DropReason.linkLoss];
          const ownDrops = (host: TestHost) =>
            host.env.drops.counts[DropReason.neighFailed] + host.env.drops.counts[DropReason.neighQueueFull];
          expect(accounted(server) - lost(server) - ownDrops(server)).toBe(cards(server) + lo(server));
          expect(accounted(client) - lost(client) - ownDrops(client)).toBe(cards(client) + lo(client));
          // The router also passes packets on: those are neither delivered nor dropped there.
          const passed = router.mib("IpForwDatagrams");
          expect(accounted(router) - lost(router) - ownDrops(router)).toBe(cards(router) + lo(router) - passed);
          // And whatever arrived is what was sent. With corruption it may not be: two flipped bits in two fragments can
          // cancel each other in a sum of 16 bits.
          const sent = sizes.filter((size) => size % 2 === 1).map((size) => bytes(size).join());
          for (const { payload } of server.probe.arrived) {
            if (n.corrupt === 0 && f.corrupt === 0) expect(sent).toContain(payload.join());
          }
          for (const { payload } of n.corrupt === 0 && f.corrupt === 0 ? client.ping.arrived : []) {
            const echoed = icmp.parse(payload).payload;
            expect([...echoed]).toEqual(Array.from({ length: echoed.length }, (_, i) => i & 255));
          }
          lan.close();
          expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
        },
      ),
      { numRuns: 60 },
    );
  });
});
