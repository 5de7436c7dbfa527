/** The hostile host itself: what it sends arrives, what is answered comes back, whoever it claimed to be. */
import { afterEach, describe, expect, it } from "vitest";
import { ANY_V4, formatV4 } from "../../src/base/address.ts";
import { MICROSECOND, MILLISECOND, SECOND } from "../../src/base/time.ts";
import { IpProtocol } from "../../src/network/port.ts";
import type { Listener } from "../../src/runtime/port.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Arena } from "../../src/skb/arena.ts";
import type { Stack } from "../../src/stack.ts";
import { Topology } from "../../src/topology.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { SMALL_ARENA } from "../conformance/lan.ts";
import {
  echoFrame,
  fragmentFrames,
  inOrder,
  type Piece,
  type Segment,
  tcpFrame,
  udpBytes,
  udpFrame,
} from "../support/raw-frames.ts";
import { RawHost, together } from "../support/raw-host.ts";

const VICTIM = "198.18.0.1";
const PORT = 80;
const { syn, ack, rst, psh } = tcp.Flag;

let raw: RawHost;
let victim: Stack;
let sim: Sim;
let topology: Topology;
let arena: Arena;

function start(): void {
  arena = new Arena(SMALL_ARENA);
  raw = RawHost.unplugged(arena, "198.18.0.0/16");
  topology = new Topology(
    {
      hosts: [{ name: "victim", nics: [{ name: "eth0", cidr: `${VICTIM}/16` }], gateway: "198.18.255.254" }],
      links: [],
    },
    {
      seed: 1,
      arena,
      clockOf: () => new VirtualClock(),
      openDevice: (env, nic) => raw.plug(env, nic.name, { delayNs: 100 * MICROSECOND }),
    },
  );
  victim = topology.host("victim");
  sim = new Sim(together(topology, raw));
}

async function listen(): Promise<Listener> {
  const { runtime } = victim.spawn({ name: "server" });
  return sim.run(runtime.network.listen(ANY_V4, PORT));
}

function segment(fields: Partial<Segment>): Uint8Array {
  return tcpFrame(raw.ends, { from: "198.18.7.7", fromPort: 1234, to: VICTIM, toPort: PORT, flags: syn, ...fields });
}

function tcpAnswers(): { to: string; flags: number; seq: number; ack: number; port: number }[] {
  return raw.answers().flatMap(({ ip, tcp: s }) => {
    return s ? [{ to: formatV4(ip.dst), flags: s.flags, seq: s.seq, ack: s.ack, port: s.srcPort }] : [];
  });
}

afterEach(() => {
  raw.close();
  topology.close();
  expect([arena.outstanding, raw.env.pool.outstanding, victim.env.pool.outstanding]).toEqual([0, 0, 0]);
});

describe("a raw host", () => {
  it("gets the SYN-ACKs of every address it claims to be, on the network and beyond", async () => {
    start();
    await listen();
    const sources = ["198.18.7.7", "198.18.9.9", "203.0.113.5"];
    raw.send(...sources.map((from, i) => segment({ from, seq: 1000 * i })));
    await sim.sleep(10 * MILLISECOND);
    expect(tcpAnswers().map((a) => [a.to, a.flags, a.ack])).toEqual([
      ["198.18.7.7", syn | ack, 1],
      ["198.18.9.9", syn | ack, 1001],
      ["203.0.113.5", syn | ack, 2001],
    ]);
    // Two neighbours and the gateway.
    expect(raw.counts.arpReplies).toBe(3);
  });

  it("does not answer ARP for addresses of other networks, nor for the one that asks", () => {
    start();
    const isAsked = (ip: string) => {
      const before = raw.counts.arpReplies;
      raw.send(echoFrame(raw.ends, ip, VICTIM, 1));
      sim.runUntil(sim.nowNs + 10 * MILLISECOND);
      return raw.counts.arpReplies > before;
    };
    expect([isAsked("198.18.3.4"), isAsked(VICTIM)]).toEqual([true, false]);
    expect(raw.answers().map(({ icmp }) => icmp?.type)).toEqual([0]);
  });

  it("can speak TCP by hand: handshake, data of any size, and a reset for a port nobody listens on", async () => {
    start();
    const listener = await listen();
    raw.onFrame = (frame) => {
      const answer = raw.answers().at(-1)?.tcp;
      if (answer?.flags === (syn | ack)) {
        raw.send(segment({ flags: ack, seq: 1, ack: answer.seq + 1 }));
        raw.send(segment({ flags: ack | psh, seq: 1, ack: answer.seq + 1, payload: new Uint8Array(1000).fill(7) }));
      }
      expect(frame.length).toBeGreaterThanOrEqual(54);
    };
    raw.send(segment({ seq: 0 }), segment({ toPort: 81, seq: 5 }));
    const conn = await sim.run(listener.accept());
    const bytes = new Uint8Array(2000);
    expect(await sim.run(conn.read(bytes))).toBe(1000);
    expect([bytes[0], bytes[999], bytes[1000]]).toEqual([7, 7, 0]);
    expect(conn.remote.address.toString()).toBe("198.18.7.7");
    await sim.sleep(SECOND);
    expect(tcpAnswers().find(({ port }) => port === 81)).toMatchObject({ flags: rst | ack, seq: 0, ack: 6 });
    expect(tcpAnswers().some((a) => a.flags === ack && a.ack === 1001)).toBe(true);
    conn.abort();
    await sim.sleep(SECOND);
  });

  it("scans: closed UDP ports are answered by ICMP port unreachable, at Linux's rate", async () => {
    start();
    const ends = raw.ends;
    raw.send(echoFrame(ends, "198.18.7.7", VICTIM, 1));
    for (let port = 1; port <= 100; port++) {
      raw.send(udpFrame(ends, { from: "198.18.7.7", fromPort: 999, to: VICTIM, toPort: port }));
    }
    await sim.sleep(100 * MILLISECOND);
    const errors = raw.answers().filter(({ icmp }) => icmp?.type === 3 && icmp.code === 3);
    // A destination may be told six at once, then one per second (XRLIM_BURST_FACTOR, icmp_ratelimit).
    expect(errors.length).toBe(6);
    expect(victim.env.mib.snapshot()).toMatchObject({ UdpNoPorts: 100 });
  });

  it("sends fragments whole, in any order, and overlapping", async () => {
    start();
    const ends = raw.ends;
    const payload = udpBytes({
      ...{ from: "198.18.7.7", fromPort: 999, to: VICTIM, toPort: 9 },
      payload: new Uint8Array(4000).fill(1),
    });
    const send = async (id: number, pieces: readonly Piece[]) => {
      raw.send(
        ...fragmentFrames(ends, { from: "198.18.7.7", to: VICTIM, protocol: IpProtocol.udp, id }, payload, pieces),
      );
      await sim.sleep(10 * MILLISECOND);
      const { IpReasmOKs, UdpNoPorts } = victim.env.mib.snapshot() as Record<string, number>;
      return [IpReasmOKs, UdpNoPorts, victim.env.drops.rows()["FRAG_OVERLAP"] ?? 0];
    };
    // 8 + 4000 bytes: 1480, 1480 and the last 1048.
    expect(inOrder(payload.length).map(({ offset, bytes, last }) => [offset, bytes, last])).toEqual([
      [0, 1480, false],
      [1480, 1480, false],
      [2960, 1048, true],
    ]);
    expect(await send(1, inOrder(payload.length))).toEqual([1, 1, 0]);
    expect(await send(2, inOrder(payload.length).reverse())).toEqual([2, 2, 0]);
    const overlapping = [
      { offset: 0, bytes: 1480 },
      { offset: 1472, bytes: 1480 },
    ];
    const [whole, datagrams, overlaps] = await send(3, overlapping);
    expect([whole, datagrams]).toEqual([2, 2]);
    expect(overlaps).toBeGreaterThan(0);
    await sim.sleep(60 * SECOND);
  });

  it("floods at the asked rate, and no faster than its card", async () => {
    start();
    const times: number[] = [];
    raw.link?.addTap((direction, _bytes, _at, _len, nowNs) => {
      if (direction === 0) times.push(nowNs);
    });
    const frame = (n: number) => segment({ fromPort: 1024 + n, toPort: 81 });
    const slow = raw.flood({ count: 50, everyNs: 20 * MICROSECOND, burst: 5, startNs: MILLISECOND, frame });
    await sim.sleep(2 * MILLISECOND);
    expect([slow.sent, slow.isOver]).toEqual([50, true]);
    expect(times.slice(0, 50)).toEqual(Array.from({ length: 50 }, (_, n) => MILLISECOND + Math.floor(n / 5) * 20_000));
    // 54 bytes take 432 µs at 1 Mbit/s: the ring of 4096 fills, and nothing is lost.
    raw.link?.set({ rateBitsPerSecond: 1e6 });
    const fast = raw.flood({ count: 5000, burst: 5000, frame });
    await sim.sleep(100 * MILLISECOND);
    expect([fast.isOver, fast.sent]).toEqual([false, expect.closeTo(4096 + 100_000 / 432, -1)]);
    await sim.sleep(3 * SECOND);
    expect([fast.sent, fast.isOver, times.length]).toEqual([5000, true, raw.counts.sent + raw.counts.arpReplies - 1]);
    expect(raw.counts.received).toBe(5050);
    expect(raw.received.length).toBe(1000);
  });

  it("stops a flood when told", async () => {
    start();
    const flood = raw.flood({ count: 1e9, everyNs: MICROSECOND, frame: (n) => segment({ seq: n, toPort: 81 }) });
    await sim.sleep(MILLISECOND);
    flood.stop();
    const { sent } = flood;
    expect(sent).toBeGreaterThan(990);
    await sim.sleep(MILLISECOND);
    expect(flood.sent).toBe(sent);
  });
});
