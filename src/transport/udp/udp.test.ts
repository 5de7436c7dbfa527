import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ip as addressOf,
  type Lan,
  macOf,
  makeEnv,
  routed,
  SMALL_ARENA,
  type TestHost,
  twoHosts,
} from "../../../tests/conformance/lan.ts";
import { type Address, ANY_V4 } from "../../base/address.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import type { ManualClock } from "../../base/time.ts";
import {
  type IpLayer,
  IpProtocol,
  type OutputOptions,
  type Route,
  type TransportProtocol,
} from "../../network/port.ts";
import { Arena, FRAME_SLOT, PAGE_SLOT } from "../../skb/arena.ts";
import { PacketType, type SkBuff } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as udpWire from "../../wire/udp.ts";
import type { BindOptions } from "../port.ts";
import { Udp } from "./udp.ts";
import type { UdpSocket } from "./udp-socket.ts";

const PLAIN: BindOptions = { reuseAddress: false, reusePort: false, ifindex: 0 };
const OWN = addressOf("10.0.0.1");
const PEER = addressOf("10.0.0.2");

const bytesOf = (len: number, seed = 0) => Uint8Array.from({ length: len }, (_, i) => (i * 7 + seed) & 255);

/** Counts what a socket is told. */
class Upcalls {
  readables = 0;
  changes = 0;
  readable(): void {
    this.readables++;
  }
  writable(): void {}
  stateChanged(): void {
    this.changes++;
  }
}

/** `recvfrom` as a value: the bytes and the sender, or -errno. */
function receive(udp: Udp, sock: UdpSocket, len = 65536): { from: string; bytes: Uint8Array } | number {
  const into = new Uint8Array(len);
  const from = { address: ANY_V4, port: 0 };
  const n = udp.receive(sock, into, 0, len, from);
  return n < 0 ? n : { from: `${from.address}:${from.port}`, bytes: into.slice(0, n) };
}

// ── one host, a fake IP layer ─────────────────────────────────────────────────────────────────────────────────────

/** 10.0.0.1 and 127/8 are ours, everything else but 203.0.113/24 is one hop away. */
class FakeIp implements IpLayer {
  handler!: TransportProtocol;
  readonly icmp: number[][] = [];
  readonly sent: { bytes: Uint8Array; to: string; options: OutputOptions }[] = [];
  result = 0;
  mtu = 1500;
  private readonly drops: { drop(skb: SkBuff, reason: number): void; consume(skb: SkBuff): void };
  constructor(drops: FakeIp["drops"]) {
    this.drops = drops;
  }
  register(protocol: number, handler: TransportProtocol): void {
    expect(protocol).toBe(IpProtocol.udp);
    this.handler = handler;
  }
  route(destination: Address, source: Address | null, ifindex: number): Route | number {
    if (destination.v4 >>> 8 === 0xcb0071) return -Errno.ENETUNREACH;
    return { destination, source: source ?? OWN, ifindex: ifindex || 2, mtu: this.mtu, gsoMaxBytes: 0, valid: true };
  }
  output(skb: SkBuff, route: Route, _protocol: number, options: OutputOptions): number {
    if (this.result !== 0) {
      this.drops.drop(skb, DropReason.qdiscDrop);
      return this.result;
    }
    this.sent.push({ bytes: skb.bytes.slice(skb.data, skb.tail), to: `${route.destination}`, options: { ...options } });
    this.drops.consume(skb);
    return 0;
  }
  sendIcmpError(_skb: SkBuff, type: number, code: number, info: number): void {
    this.icmp.push([type, code, info]);
  }
  isLocal(address: Address): boolean {
    return address.equals(OWN) || address.v4 >>> 24 === 127;
  }
  ifindexOf(): number {
    return 0;
  }
}

interface Packet {
  readonly src?: Address;
  readonly dst?: Address;
  readonly srcPort?: number;
  readonly dstPort?: number;
  readonly payload?: Uint8Array;
  readonly ifindex?: number;
  readonly packetType?: PacketType;
  /** The length field; default right. */
  readonly length?: number;
  /** Bytes of the datagram that are there; default all. */
  readonly present?: number;
  readonly checksum?: "right" | "wrong" | "none";
}

function oneHost() {
  const arena = new Arena(SMALL_ARENA);
  const env = makeEnv("a", arena);
  const ip = new FakeIp(env.drops);
  const udp = new Udp(env, ip);
  const open = (address: Address | null, port: number, options: Partial<BindOptions> = {}) => {
    const upcalls = new Upcalls();
    const sock = udp.create(upcalls);
    const result = address === null ? 0 : udp.bind(sock, address, port, { ...PLAIN, ...options });
    return { sock, upcalls, result };
  };
  const arrive = (p: Packet = {}) => {
    const { src = PEER, dst = OWN, srcPort = 1000, dstPort = 53, payload = bytesOf(10), checksum = "right" } = p;
    const len = udpWire.HEADER_LEN + payload.length;
    const skb = env.pool.alloc(ipv4.HEADER_LEN + len) as SkBuff;
    const net = skb.put(ipv4.HEADER_LEN + len);
    const at = net + ipv4.HEADER_LEN;
    ipv4.writeHeader(skb.bytes, skb.view, net, ipv4.HEADER_LEN + len, 1, 0, 64, IpProtocol.udp, src.v4, dst.v4, 0);
    udpWire.writeHeader(skb.view, at, srcPort, dstPort, p.length ?? len);
    skb.bytes.set(payload, at + udpWire.HEADER_LEN);
    if (checksum !== "none") udpWire.fillChecksumV4(skb.bytes, skb.view, at, len, src.v4, dst.v4);
    if (checksum === "wrong") skb.bytes[at + len - 1] ^= 1;
    skb.net = net;
    skb.transport = skb.data = at;
    skb.tail = at + (p.present ?? len);
    skb.ifindex = p.ifindex ?? 2;
    skb.packetType = p.packetType ?? PacketType.host;
    ip.handler.receive(skb);
  };
  /** Somebody reports an error about a datagram from OWN:`port` to PEER:`peerPort`. */
  const report = (port: number, peerPort: number, type: number, code: number) => {
    const skb = env.pool.alloc(100) as SkBuff;
    const net = skb.put(28);
    ipv4.writeHeader(skb.bytes, skb.view, net, 28, 1, 0, 64, IpProtocol.udp, OWN.v4, PEER.v4, 0);
    udpWire.writeHeader(skb.view, net + 20, port, peerPort, 8);
    skb.ifindex = 2;
    ip.handler.icmpError(skb, net, net + 20, type, code, 0);
    env.pool.release(skb);
  };
  const mib = (name: Parameters<typeof env.mib.get>[0]) => env.mib.get(name);
  return { arena, env, ip, udp, open, arrive, report, mib };
}

describe("bind", () => {
  it("knows which addresses and ports may be had", () => {
    const { udp, open } = oneHost();
    expect(open(OWN, 53).result).toBe(0);
    expect(open(PEER, 54).result).toBe(-Errno.EADDRNOTAVAIL);
    expect(open(addressOf("255.255.255.255"), 68).result).toBe(0);
    expect(open(addressOf("224.0.0.1"), 68).result).toBe(0);
    expect(open(ANY_V4, 65536).result).toBe(-Errno.EINVAL);
    const { sock } = open(ANY_V4, 55);
    expect(udp.bind(sock, ANY_V4, 56, PLAIN)).toBe(-Errno.EINVAL);
    expect(sock.localPort).toBe(55);
  });

  it.each([
    ["the same address", OWN, {}, OWN, {}, -Errno.EADDRINUSE],
    ["the wildcard over an address", OWN, {}, ANY_V4, {}, -Errno.EADDRINUSE],
    ["an address under the wildcard", ANY_V4, {}, OWN, {}, -Errno.EADDRINUSE],
    ["another address", OWN, {}, addressOf("127.0.0.1"), {}, 0],
    ["SO_REUSEADDR on both", OWN, { reuseAddress: true }, OWN, { reuseAddress: true }, 0],
    ["SO_REUSEADDR on one", OWN, { reuseAddress: true }, OWN, {}, -Errno.EADDRINUSE],
    ["SO_REUSEPORT on both", ANY_V4, { reusePort: true }, ANY_V4, { reusePort: true }, 0],
    ["one of each", ANY_V4, { reusePort: true }, ANY_V4, { reuseAddress: true }, -Errno.EADDRINUSE],
    ["another device", ANY_V4, { ifindex: 2 }, ANY_V4, { ifindex: 3 }, 0],
    ["a device and any", ANY_V4, { ifindex: 2 }, ANY_V4, {}, -Errno.EADDRINUSE],
  ])("a port twice: %s", (_, first, firstOptions, second, secondOptions, expected) => {
    const { open } = oneHost();
    expect(open(first, 53, firstOptions).result).toBe(0);
    expect(open(second, 53, secondOptions).result).toBe(expected);
  });

  it("port 0 takes each ephemeral port once, then says EADDRINUSE; a closed one is free again", () => {
    const { env, udp, open } = oneHost();
    env.sysctl.ipLocalPortRangeMin = 40000;
    env.sysctl.ipLocalPortRangeMax = 40009;
    const socks = Array.from({ length: 10 }, () => open(ANY_V4, 0).sock);
    expect(new Set(socks.map((s) => s.localPort))).toEqual(new Set(Array.from({ length: 10 }, (_, i) => 40000 + i)));
    expect(open(ANY_V4, 0).result).toBe(-Errno.EADDRINUSE);
    expect(udp.connect(open(null, 0).sock, PEER, 53)).toBe(-Errno.EADDRINUSE);
    const { localPort } = socks[4];
    udp.close(socks[4]);
    expect(open(ANY_V4, 0).sock.localPort).toBe(localPort);
  });
});

describe("look-up", () => {
  it("connected first, then the address, then the wildcard", () => {
    const { udp, open, arrive } = oneHost();
    const reuse = { reuseAddress: true };
    const connected = open(ANY_V4, 53, reuse);
    expect(udp.connect(connected.sock, PEER, 1000)).toBe(0);
    const exact = open(OWN, 53, reuse);
    const any = open(ANY_V4, 53, reuse);
    const onDevice = open(ANY_V4, 53, { ...reuse, ifindex: 3 });
    arrive();
    arrive({ srcPort: 1001 });
    arrive({ dst: addressOf("127.0.0.1"), srcPort: 1001 });
    arrive({ dst: addressOf("127.0.0.1"), srcPort: 1001, ifindex: 3 });
    expect([connected, exact, any, onDevice].map((s) => s.upcalls.readables)).toEqual([1, 1, 1, 1]);
  });

  it("never gives a datagram to a socket connected to somebody else, or bound to another device", () => {
    const { udp, open, arrive, mib, env, ip } = oneHost();
    const { sock } = open(ANY_V4, 53, { ifindex: 3 });
    arrive();
    udp.close(sock);
    const other = open(ANY_V4, 53);
    udp.connect(other.sock, PEER, 9999);
    arrive();
    expect(other.upcalls.readables).toBe(0);
    expect([mib("UdpNoPorts"), mib("UdpInErrors"), env.drops.counts[DropReason.noSocket]]).toEqual([2, 0, 2]);
    expect(ip.icmp).toEqual([
      [3, 3, 0],
      [3, 3, 0],
    ]);
    expect(env.pool.outstanding).toBe(0);
  });

  it("finds sockets again after any order of binds and closes (property)", () => {
    const step = fc.record({ port: fc.constantFrom(53, 53 + 1024, 53 + 2048, 54), close: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const { udp, open, arrive } = oneHost();
        const bound = new Map<number, ReturnType<typeof open>>();
        for (const { port, close } of steps) {
          const old = bound.get(port);
          if (close && old) {
            udp.close(old.sock);
            bound.delete(port);
          } else if (!close) {
            const made = open(ANY_V4, port);
            expect(made.result).toBe(old ? -Errno.EADDRINUSE : 0);
            if (!old) bound.set(port, made);
          }
        }
        expect(udp.rows().map((row) => row.localPort)).toEqual([...bound.keys()].sort((a, b) => a - b));
        for (const [port, { upcalls }] of bound) {
          arrive({ dstPort: port });
          expect(upcalls.readables).toBe(1);
        }
      }),
    );
  });

  it("SO_REUSEPORT spreads peers over the group and keeps each with its socket", () => {
    const { open, arrive } = oneHost();
    const group = Array.from({ length: 4 }, () => open(ANY_V4, 53, { reusePort: true }));
    const counts = () => group.map((s) => s.upcalls.readables);
    for (let i = 0; i < 20; i++) arrive({ srcPort: 7777, payload: bytesOf(0) });
    expect(counts().sort()).toEqual([0, 0, 0, 20]);
    for (let port = 1; port <= 400; port++) arrive({ srcPort: port, payload: bytesOf(0) });
    // 100 each but for chance (binomial, sigma 8.7); 20 more at one of them.
    for (const count of counts()) expect(count).toBeGreaterThan(50);
  });

  it("a broadcast goes to everybody on the port, and is never answered", () => {
    const { udp, open, arrive, ip, mib, env } = oneHost();
    const all = { dst: addressOf("10.0.0.255"), packetType: PacketType.broadcast };
    arrive(all);
    expect([mib("UdpIgnoredMulti"), mib("UdpNoPorts"), ip.icmp.length]).toEqual([1, 0, 0]);
    const reuse = { reuseAddress: true };
    const two = [open(ANY_V4, 53, reuse), open(ANY_V4, 53, reuse)];
    const deaf = open(OWN, 53, reuse);
    arrive({ ...all, payload: bytesOf(33, 3) });
    for (const { sock } of two) expect(receive(udp, sock)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(33, 3) });
    expect(deaf.upcalls.readables).toBe(0);
    expect(env.pool.outstanding).toBe(0);
  });
});

describe("receive", () => {
  it.each([
    ["a header cut off", { present: 7 }],
    ["a length below 8", { length: 7 }],
    ["a length beyond the packet", { length: 19 }],
  ])("refuses %s", (_, packet) => {
    const { open, arrive, mib, env } = oneHost();
    const { upcalls } = open(ANY_V4, 53);
    arrive(packet);
    expect(upcalls.readables).toBe(0);
    expect([mib("UdpInErrors"), env.drops.counts[DropReason.pktTooSmall], env.pool.outstanding]).toEqual([1, 1, 0]);
  });

  it("refuses a wrong checksum, and takes none", () => {
    const { udp, open, arrive, mib, env } = oneHost();
    const { sock } = open(ANY_V4, 53);
    arrive({ checksum: "wrong" });
    expect([mib("UdpInCsumErrors"), mib("UdpInErrors"), env.drops.counts[DropReason.udpCsum]]).toEqual([1, 1, 1]);
    expect(receive(udp, sock)).toBe(-Errno.EAGAIN);
    arrive({ checksum: "none" });
    expect(receive(udp, sock)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(10) });
    expect(mib("UdpInDatagrams")).toBe(1);
  });

  it("cuts to the length of the datagram, and to the reader's buffer", () => {
    const { udp, open, arrive, env } = oneHost();
    const { sock } = open(ANY_V4, 53);
    arrive({ length: 8 + 4, checksum: "none" });
    arrive({ payload: bytesOf(100) });
    arrive({ payload: bytesOf(0) });
    expect(receive(udp, sock)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(4) });
    expect(receive(udp, sock, 5)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(5) });
    expect(receive(udp, sock)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(0) });
    expect(receive(udp, sock)).toBe(-Errno.EAGAIN);
    expect(env.pool.outstanding).toBe(0);
    expect(env.drops.counts[DropReason.consumed]).toBe(3);
  });

  it("peek shows the oldest where it lies; a receive of nothing discards it, before any error", () => {
    const { udp, open, arrive, report, env } = oneHost();
    const { sock } = open(ANY_V4, 53);
    udp.connect(sock, PEER, 1000);
    const out = { address: 0, len: 0, from: ANY_V4, port: 0, arrivedNs: 0, queuedNs: 0 };
    expect(udp.peek(sock, out)).toBe(false);
    (env.clock as ManualClock).nowNs = 77;
    arrive({ payload: bytesOf(9, 1) });
    expect(udp.peek(sock, out)).toBe(true);
    expect(env.pool.arena.bytes.slice(out.address, out.address + out.len)).toEqual(bytesOf(9, 1));
    expect(out).toMatchObject({ len: 9, from: PEER, port: 1000, queuedNs: 77 });
    report(53, 1000, 3, 3);
    expect(udp.receive(sock, new Uint8Array(0), 0, 0, { address: ANY_V4, port: 0 })).toBe(0);
    expect(udp.peek(sock, out)).toBe(false);
    expect(sock.takeError()).toBe(Errno.ECONNREFUSED);
  });

  it("counts what a full queue refuses; an empty one takes a datagram of any size", () => {
    const { udp, open, arrive, mib, env } = oneHost();
    env.sysctl.rmemDefault = 3 * FRAME_SLOT;
    const { sock, upcalls } = open(ANY_V4, 53);
    for (let i = 0; i < 5; i++) arrive({ payload: bytesOf(1000, i) });
    expect([upcalls.readables, sock.memoryBytes, sock.drops]).toEqual([3, 3 * FRAME_SLOT, 2]);
    expect([mib("UdpRcvbufErrors"), mib("UdpInErrors"), env.drops.counts[DropReason.socketRcvbuff]]).toEqual([2, 2, 2]);
    for (let i = 0; i < 3; i++) expect(receive(udp, sock)).toEqual({ from: "10.0.0.2:1000", bytes: bytesOf(1000, i) });
    arrive({ payload: bytesOf(60000) });
    arrive({ payload: bytesOf(1) });
    expect([sock.memoryBytes, sock.drops]).toEqual([PAGE_SLOT, 3]);
    expect(udp.rows()).toEqual([
      {
        protocol: "udp",
        state: "UNCONN",
        receiveQueue: PAGE_SLOT,
        sendQueue: 0,
        localAddress: "0.0.0.0",
        localPort: 53,
        remoteAddress: "0.0.0.0",
        remotePort: 0,
        info: { rcvbuf: 3 * FRAME_SLOT, drops: 3 },
      },
    ]);
    udp.close(sock);
    udp.close(sock);
    expect([env.pool.outstanding, env.pool.arena.outstanding, udp.rows().length]).toEqual([0, 0, 0]);
  });
});

describe("ICMP errors", () => {
  it.each([
    ["port unreachable", 3, 3, Errno.ECONNREFUSED],
    ["protocol unreachable", 3, 2, Errno.ENOPROTOOPT],
    ["fragmentation needed", 3, 4, Errno.EMSGSIZE],
    ["administratively prohibited", 3, 13, Errno.EHOSTUNREACH],
    ["net unreachable, which may pass", 3, 0, 0],
    ["host unreachable, which may pass", 3, 1, 0],
    ["time exceeded, which may pass", 11, 0, 0],
  ])("%s", (_, type, code, errno) => {
    const { udp, open, report } = oneHost();
    const { sock, upcalls } = open(ANY_V4, 2000);
    udp.connect(sock, PEER, 53);
    report(2000, 53, type, code);
    expect([sock.error, upcalls.changes]).toEqual([errno, errno === 0 ? 0 : 1]);
  });

  it("the next receive or send reports it once, and sends nothing", () => {
    const { udp, open, report, ip } = oneHost();
    const { sock } = open(ANY_V4, 2000);
    udp.connect(sock, PEER, 53);
    report(2000, 53, 3, 3);
    expect(receive(udp, sock)).toBe(-Errno.ECONNREFUSED);
    expect(receive(udp, sock)).toBe(-Errno.EAGAIN);
    report(2000, 53, 3, 3);
    expect(udp.send(sock, bytesOf(3), 0, 3, null, 0)).toBe(-Errno.ECONNREFUSED);
    expect(ip.sent).toHaveLength(0);
    expect(udp.send(sock, bytesOf(3), 0, 3, null, 0)).toBe(3);
  });

  it("an unconnected socket hears nothing; an error about nobody is counted", () => {
    const { open, report, mib } = oneHost();
    const { sock, upcalls } = open(ANY_V4, 2000);
    report(2000, 53, 3, 3);
    expect([sock.error, upcalls.changes, mib("IcmpInErrors")]).toEqual([0, 0, 0]);
    report(2001, 53, 3, 3);
    expect(mib("IcmpInErrors")).toBe(1);
  });
});

describe("send", () => {
  it("says what is wrong with the call", () => {
    const { udp, open, env } = oneHost();
    const { sock } = open(null, 0);
    const send = (len: number, to: Address | null, port: number) =>
      udp.send(sock, new Uint8Array(len), 0, len, to, port);
    expect(send(1, null, 0)).toBe(-Errno.EDESTADDRREQ);
    expect(send(1, PEER, 0)).toBe(-Errno.EINVAL);
    expect(send(65508, PEER, 53)).toBe(-Errno.EMSGSIZE);
    expect(send(1, addressOf("203.0.113.1"), 53)).toBe(-Errno.ENETUNREACH);
    expect(udp.connect(sock, addressOf("203.0.113.1"), 53)).toBe(-Errno.ENETUNREACH);
    expect(sock.connected).toBe(false);
    expect([env.pool.outstanding, env.mib.get("UdpOutDatagrams")]).toEqual([0, 0]);
  });

  it("binds what is unbound, and says Don't Fragment of what fits the path only", () => {
    const { udp, open, ip, env } = oneHost();
    const { sock } = open(null, 0);
    const buffer = bytesOf(2000);
    expect(udp.send(sock, buffer, 5, 1472, PEER, 53)).toBe(1472);
    expect(udp.send(sock, buffer, 5, 1473, PEER, 53)).toBe(1473);
    expect(udp.send(sock, buffer, 0, 0, addressOf("224.0.0.1"), 53)).toBe(0);
    expect(sock.localPort).toBeGreaterThanOrEqual(env.sysctl.ipLocalPortRangeMin);
    expect(ip.sent.map(({ to, options }) => [to, options.dontFragment, options.ttl])).toEqual([
      ["10.0.0.2", true, 64],
      ["10.0.0.2", false, 64],
      ["224.0.0.1", true, 1],
    ]);
    const first = udpWire.parse(ip.sent[0].bytes);
    expect(first).toMatchObject({ srcPort: sock.localPort, dstPort: 53, payload: buffer.slice(5, 5 + 1472) });
    expect(env.mib.get("UdpOutDatagrams")).toBe(3);
  });

  it("a full qdisc loses the datagram silently, packet memory that is out does not", () => {
    const { udp, open, ip, env, mib } = oneHost();
    const { sock } = open(OWN, 53);
    ip.result = -Errno.ENOBUFS;
    expect(udp.send(sock, bytesOf(3), 0, 3, PEER, 53)).toBe(3);
    ip.result = -Errno.EHOSTUNREACH;
    expect(udp.send(sock, bytesOf(3), 0, 3, PEER, 53)).toBe(-Errno.EHOSTUNREACH);
    ip.result = 0;
    const held: SkBuff[] = [];
    for (let skb = env.pool.alloc(60000); skb !== null; skb = env.pool.alloc(60000)) held.push(skb);
    expect(udp.send(sock, bytesOf(5000), 0, 5000, PEER, 53)).toBe(-Errno.ENOBUFS);
    expect([mib("UdpSndbufErrors"), mib("UdpOutDatagrams")]).toEqual([2, 0]);
    for (const skb of held) env.pool.release(skb);
    expect(env.pool.outstanding).toBe(0);
  });
});

// ── two hosts, the real floors below ──────────────────────────────────────────────────────────────────────────────

interface Node extends TestHost {
  udp: Udp;
}

function nodes<T extends { lan: Lan }>(net: T): T {
  for (const host of net.lan.hosts) (host as Node).udp = new Udp(host.env, host.net.ip);
  return net;
}

function openOn(host: TestHost, port = 0, address = ANY_V4) {
  const { udp } = host as Node;
  const upcalls = new Upcalls();
  const sock = udp.create(upcalls);
  expect(udp.bind(sock, address, port, PLAIN)).toBe(0);
  return {
    sock,
    upcalls,
    connect: (to: string, toPort: number) => udp.connect(sock, addressOf(to), toPort),
    send: (bytes: Uint8Array, to?: string, toPort = 0) =>
      udp.send(sock, bytes, 0, bytes.length, to === undefined ? null : addressOf(to), toPort),
    receive: (len?: number) => receive(udp, sock, len),
    close: () => udp.close(sock),
  };
}

function expectAtRest(lan: Lan): void {
  lan.close();
  expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
}

describe.each([
  ["sums made and checked", false],
  ["sums left to the device", true],
])("over a wire, %s", (_, checksumOffload) => {
  const wire = (settings = {}) => nodes(twoHosts(settings, 1, { checksumOffload }));

  it("an echo goes there and back", () => {
    const { lan, a, b } = wire({ delayNs: 1e6 });
    const client = openOn(a);
    const server = openOn(b, 7);
    expect(client.connect("10.0.0.2", 7)).toBe(0);
    expect(client.send(bytesOf(100))).toBe(100);
    lan.runFor(1e9);
    expect(server.receive()).toEqual({ from: `10.0.0.1:${client.sock.localPort}`, bytes: bytesOf(100) });
    expect(server.send(bytesOf(50, 9), "10.0.0.1", client.sock.localPort)).toBe(50);
    lan.runFor(1e9);
    expect(client.receive()).toEqual({ from: "10.0.0.2:7", bytes: bytesOf(50, 9) });
    expect([a.mib("UdpOutDatagrams"), b.mib("UdpInDatagrams"), b.mib("UdpInErrors")]).toEqual([1, 1, 0]);
    expectAtRest(lan);
  });

  it("8 KB cross an MTU of 1500 in six fragments", () => {
    const { lan, a, b } = wire();
    const client = openOn(a);
    const server = openOn(b, 7);
    // Not the first packet: the fragments of one datagram are more than the three that may wait for ARP.
    client.send(bytesOf(1), "10.0.0.2", 7);
    lan.runFor(1e9);
    server.receive();
    expect(client.send(bytesOf(8192), "10.0.0.2", 7)).toBe(8192);
    lan.runFor(1e9);
    expect(server.receive()).toEqual({ from: `10.0.0.1:${client.sock.localPort}`, bytes: bytesOf(8192) });
    // 8200 bytes in steps of 1480.
    expect([a.mib("IpFragCreates"), b.mib("IpReasmReqds"), b.mib("IpReasmOKs")]).toEqual([6, 6, 1]);
    expectAtRest(lan);
  });
});

describe("two hosts", () => {
  it("nobody there: ECONNREFUSED at the connected sender", () => {
    const { lan, a, b } = nodes(twoHosts());
    const client = openOn(a);
    client.connect("10.0.0.2", 9);
    expect(client.send(bytesOf(10))).toBe(10);
    lan.runFor(1e9);
    expect(client.upcalls.changes).toBe(1);
    expect(client.receive()).toBe(-Errno.ECONNREFUSED);
    expect(client.receive()).toBe(-Errno.EAGAIN);
    expect([b.mib("UdpNoPorts"), b.mib("IcmpOutDestUnreachs"), b.dropped()]).toEqual([1, 1, { NO_SOCKET: 1 }]);
    expectAtRest(lan);
  });

  it("a broadcast to a closed port is not answered", () => {
    const { lan, a, b } = nodes(twoHosts());
    expect(openOn(a).send(bytesOf(10), "10.0.0.255", 9)).toBe(10);
    lan.runFor(1e9);
    expect([b.mib("UdpIgnoredMulti"), b.mib("IcmpOutMsgs")]).toEqual([1, 0]);
    expectAtRest(lan);
  });

  it("a router's smaller MTU: EMSGSIZE once, then datagrams are cut at the sender", () => {
    const { lan, client, server } = nodes(routed({}, {}, 1, 1000));
    const from = openOn(client);
    const to = openOn(server, 7);
    from.connect("10.2.0.2", 7);
    expect(from.send(bytesOf(1400))).toBe(1400);
    lan.runFor(1e9);
    expect(from.send(bytesOf(1400))).toBe(-Errno.EMSGSIZE);
    expect(from.send(bytesOf(1400))).toBe(1400);
    lan.runFor(1e9);
    expect(to.receive()).toEqual({ from: `10.1.0.2:${from.sock.localPort}`, bytes: bytesOf(1400) });
    expect(to.receive()).toBe(-Errno.EAGAIN);
    expect(client.mib("IpFragCreates")).toBe(2);
    expectAtRest(lan);
  });

  it("the largest datagrams: 65507 bytes by wire, 65494 by loopback", () => {
    const { lan, a, b } = nodes(twoHosts());
    a.net.ip.addNeighbour(2, PEER, macOf(2));
    const client = openOn(a);
    const server = openOn(b, 7);
    const local = openOn(a, 7);
    expect(client.send(bytesOf(65507), "10.0.0.2", 7)).toBe(65507);
    lan.runFor(1e9);
    expect(server.receive()).toEqual({ from: `10.0.0.1:${client.sock.localPort}`, bytes: bytesOf(65507) });
    expect(client.send(bytesOf(65495), "127.0.0.1", 7)).toBe(-Errno.EMSGSIZE);
    expect(client.send(bytesOf(65494), "127.0.0.1", 7)).toBe(65494);
    lan.runFor(1e9);
    expect(local.receive()).toEqual({ from: `127.0.0.1:${client.sock.localPort}`, bytes: bytesOf(65494) });
    expectAtRest(lan);
  });

  it("a slow reader: what overflows is counted, nothing else is lost", () => {
    const { lan, a, b } = nodes(twoHosts());
    a.net.ip.addNeighbour(2, PEER, macOf(2));
    b.env.sysctl.rmemDefault = 10 * FRAME_SLOT;
    const client = openOn(a);
    const server = openOn(b, 7);
    for (let i = 0; i < 25; i++) client.send(bytesOf(1000, i), "10.0.0.2", 7);
    lan.runFor(1e9);
    const got: unknown[] = [];
    for (let one = server.receive(); typeof one !== "number"; one = server.receive()) got.push(one.bytes);
    expect(got).toEqual(Array.from({ length: 10 }, (_, i) => bytesOf(1000, i)));
    expect([b.mib("UdpInDatagrams"), b.mib("UdpRcvbufErrors"), b.mib("UdpInErrors")]).toEqual([10, 15, 15]);
    expect(b.dropped()).toEqual({ SOCKET_RCVBUFF: 15 });
    expectAtRest(lan);
  });

  it("what arrives is what was sent; what does not is counted somewhere (property)", () => {
    const anySize = fc.oneof(fc.nat(2000), fc.nat(65507), fc.constantFrom(0, 1472, 1473, 65507));
    const faults = fc.record({
      loss: fc.constantFrom(0, 0.05),
      corrupt: fc.constantFrom(0, 0.05),
      duplicate: fc.constantFrom(0, 0.05),
    });
    fc.assert(
      fc.property(fc.array(anySize, { maxLength: 8 }), faults, fc.nat(1000), (sizes, settings, seed) => {
        const { lan, a, b, link } = nodes(twoHosts(settings, seed));
        a.net.ip.addNeighbour(2, PEER, macOf(2));
        const client = openOn(a);
        const server = openOn(b, 7);
        const sent = new Set<string>();
        const got = new Map<string, number>();
        for (const [i, size] of sizes.entries()) {
          // Two flipped bits in the fragments of one datagram may cancel out in the sum; one never does.
          const len = settings.corrupt > 0 ? Math.min(size, 1472) : size;
          expect(client.send(bytesOf(len, i), "10.0.0.2", 7)).toBe(len);
          sent.add(bytesOf(len, i).join());
          lan.runFor(1e9);
          for (let one = server.receive(); typeof one !== "number"; one = server.receive()) {
            const text = one.bytes.join();
            expect(sent).toContain(text);
            got.set(text, (got.get(text) ?? 0) + 1);
          }
        }
        const { lostFrames, corruptedFrames, duplicatedFrames } = link.stats(0);
        const arrived = [...got.values()].reduce((n, times) => n + times, 0);
        expect(b.mib("UdpInDatagrams")).toBe(arrived);
        if (lostFrames + corruptedFrames + duplicatedFrames === 0) expect(arrived).toBe(sizes.length);
        // A lost or damaged frame costs one datagram at most, a repeated one adds one at most.
        expect(arrived).toBeGreaterThanOrEqual(sizes.length - lostFrames - corruptedFrames);
        expect(arrived).toBeLessThanOrEqual(sizes.length + duplicatedFrames);
        client.close();
        server.close();
        expectAtRest(lan);
      }),
      { numRuns: 40 },
    );
  });
});
