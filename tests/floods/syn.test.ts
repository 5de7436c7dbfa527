/** SYN floods, forged cookies, blind resets: what a peer can do without ever completing a handshake. */
import { afterEach, describe, expect, it } from "vitest";
import { MICROSECOND, MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { Tcb } from "../../src/transport/tcp/tcp.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { collectedHeapBytes } from "../support/heap.ts";
import { type Segment, tcpFrame } from "../support/raw-frames.ts";
import { CLIENT, type Felt, FloodWorld, feltText, figure, PORT, SERVER, spoofed, VICTIM } from "./flood-world.ts";

const { syn, ack, rst, psh, fin } = tcp.Flag;
const BACKLOG = 4096;
/** 50,000 per second. */
const SYN_EVERY_NS: Ns = 20 * MICROSECOND;
/**
 * A request crosses the server's softirq twice and may find one NAPI poll (net.core.dev_weight, 64 frames) of attack at
 * work each time: 2 × 64 × (800 + 2 × 400 ns and what is left of the interrupt).
 */
const TWO_POLLS_NS: Ns = 2 * 64 * 1.8 * MICROSECOND;

let world: FloodWorld;
afterEach(() => world.close());

function listener(): Tcb {
  const found = [...world.server.tcp.context.endpoints].find((tcb) => tcb.listener !== null);
  if (!found) throw new Error("nobody listens");
  return found;
}

function segment(n: number, fields: Partial<Segment>): Uint8Array {
  const ports = { fromPort: 1024 + (n % 60_000), toPort: PORT };
  return tcpFrame(world.raw.ends, { from: spoofed(n), to: VICTIM, ...ports, flags: syn, seq: n, ...fields });
}

/** Sends `count` SYNs and asks meanwhile; also the longest the SYN queue ever was. */
async function synFlood(count: number, asks: number): Promise<{ felt: Felt; longest: number }> {
  const queue = listener().listener?.requests as ReadonlySet<unknown>;
  let longest = 0;
  world.raw.flood({
    count,
    everyNs: SYN_EVERY_NS,
    frame: (n) => {
      longest = Math.max(longest, queue.size);
      return segment(n, {});
    },
  });
  const felt = await world.honest(asks);
  return { felt, longest };
}

function expectAsQuiet(felt: Felt, quiet: Felt): void {
  expect(felt.failed).toBe(0);
  expect(felt.connect.p99).toBeLessThan(quiet.connect.p99 + TWO_POLLS_NS);
  expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + TWO_POLLS_NS);
}

describe("50,000 SYNs in a second from 50,000 addresses", () => {
  const COUNT = 50_000;

  it("cookies when the queue is full (the default): clients feel nothing, the queue ends at backlog + 1", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const { slots } = world;
    const before = world.counters();
    const heapBefore = collectedHeapBytes();
    const { felt, longest } = await synFlood(COUNT, 100);
    world.raw.received.length = 0;
    const heapEach = (collectedHeapBytes() - heapBefore) / BACKLOG;
    figure(`SYN flood, tcp_syncookies 1: quiet ${feltText(quiet)}; flood ${feltText(felt)}`);
    figure(`SYN flood: ${heapEach.toFixed(0)} bytes of heap per half-open connection`);
    expectAsQuiet(felt, quiet);
    expect(longest).toBe(BACKLOG + 1);
    expect(heapEach).toBeLessThan(2048);
    const gained = world.gained(before);
    // Each SYN was remembered or answered by a cookie: the first of the flood, and the clients before it was full.
    const cookies = gained.TcpExtSyncookiesSent ?? 0;
    const returned = gained.TcpExtSyncookiesRecv ?? 0;
    expect(cookies).toBe(COUNT + 100 - (BACKLOG + 1) - (100 - returned));
    expect(gained.TcpExtTCPReqQFullDoCookies).toBe(cookies);
    expect(returned).toBeGreaterThan(80);
    expect(gained.TcpPassiveOpens).toBe(100);
    expect(gained).not.toHaveProperty("TcpExtListenDrops");
    expect(gained).not.toHaveProperty("TcpExtSyncookiesFailed");
    // Half-open connections live for 63 s at most: 1, 2, 4, 8, 16 and 32 s.
    await world.sim.sleep(63 * SECOND);
    expect(listener().listener?.requests.size).toBe(0);
    await world.settle();
    expect([world.slots, world.server.tcp.context.connections.size]).toEqual([slots, 0]);
    expect(world.server.env.timers.armedCount()).toBe(0);
  });

  it("cookies always: nothing at all is remembered", async () => {
    world = await FloodWorld.open({ sysctls: { "net.ipv4.tcp_syncookies": "2" } });
    const quiet = await world.honest(100);
    const before = world.counters();
    const { felt, longest } = await synFlood(COUNT, 100);
    figure(`SYN flood, tcp_syncookies 2: ${feltText(felt)}`);
    expectAsQuiet(felt, quiet);
    expect(longest).toBe(0);
    expect(world.gained(before)).toMatchObject({
      TcpExtTCPReqQFullDoCookies: COUNT + 100,
      TcpExtSyncookiesSent: COUNT + 100,
      TcpExtSyncookiesRecv: 100,
    });
  });

  it("no cookies: the queue ends at 3/4 of tcp_max_syn_backlog, clients come in when it has expired", async () => {
    // 128: refused once fewer than 32 places are left, so 97 are remembered.
    const sysctls = { "net.ipv4.tcp_syncookies": "0", "net.ipv4.tcp_max_syn_backlog": "128" };
    world = await FloodWorld.open({ sysctls });
    const before = world.counters();
    const clientBefore = world.client.env.mib.get("TcpExtTCPSynRetrans");
    const { felt, longest } = await synFlood(20_000, 20);
    figure(`SYN flood, tcp_syncookies 0, tcp_max_syn_backlog 128: ${feltText(felt)}`);
    expect([longest, felt.failed]).toEqual([97, 0]);
    // Linux's client sends its SYN again 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s after the first.
    expect(felt.connect.p50).toBeGreaterThan(SECOND);
    expect(felt.connect.p99).toBeLessThan(68 * SECOND);
    // Every SYN of a client that was dropped was sent again.
    const refusedClients = world.client.env.mib.get("TcpExtTCPSynRetrans") - clientBefore;
    const gained = world.gained(before);
    expect(gained.TcpExtListenDrops).toBe(20_000 - 97 + refusedClients);
    expect(world.server.env.drops.rows()).toEqual({ TCP_REQQ_FULL: gained.TcpExtListenDrops });
    expect(gained).not.toHaveProperty("TcpExtSyncookiesSent");
    await world.settle();
    expect(listener().listener?.requests.size).toBe(0);
  });
});

describe("segments without a connection", () => {
  const COUNT = 20_000;
  const flood = async (fields: (n: number) => Partial<Segment>): Promise<void> => {
    world.raw.flood({ count: COUNT, everyNs: SYN_EVERY_NS, frame: (n) => segment(n, fields(n)) });
    const felt = await world.honest(50);
    expect(felt.failed).toBe(0);
    expect(felt.answer.p99).toBeLessThan(1.03 * MILLISECOND + TWO_POLLS_NS);
  };

  it("forged ACKs get a RST each; only who sent cookies lately looks for one in them", async () => {
    world = await FloodWorld.open();
    const forged = (n: number): Partial<Segment> => ({ flags: ack, ack: Math.imul(n + 1, 0x9e3779b1) >>> 0 });
    let before = world.counters();
    await flood(forged);
    expect(world.gained(before)).toMatchObject({ TcpOutRsts: COUNT, TcpPassiveOpens: 50 });
    expect(world.gained(before)).not.toHaveProperty("TcpExtSyncookiesFailed");

    world.server.env.sysctl.set("net.ipv4.tcp_syncookies", "2");
    await world.honest(1);
    world.server.env.sysctl.set("net.ipv4.tcp_syncookies", "1");
    before = world.counters();
    await flood(forged);
    expect(world.gained(before)).toMatchObject({
      TcpOutRsts: COUNT,
      TcpExtSyncookiesFailed: COUNT,
      TcpPassiveOpens: 50,
    });

    // MAX_SYNCOOKIE_AGE: two minutes.
    await world.sim.sleep(121 * SECOND);
    before = world.counters();
    await flood(forged);
    expect(world.gained(before)).toMatchObject({ TcpOutRsts: COUNT });
    expect(world.gained(before)).not.toHaveProperty("TcpExtSyncookiesFailed");
    await world.settle();
    expect(world.server.tcp.context.connections.size).toBe(0);
  });

  it("a cookie that was answered once opens no second door", async () => {
    world = await FloodWorld.open({ sysctls: { "net.ipv4.tcp_syncookies": "2" } });
    const cookies: number[] = [];
    world.raw.send(segment(1, {}));
    await world.sim.sleep(10 * MILLISECOND);
    for (const { tcp: s } of world.raw.answers()) if (s?.flags === (syn | ack)) cookies.push(s.seq);
    const before = world.counters();
    const other = (n: number): Partial<Segment> => ({
      flags: ack,
      seq: 2,
      ack: ((cookies[0] as number) + 1) >>> 0,
      from: spoofed(n),
    });
    for (let n = 2; n < 100; n++) world.raw.send(segment(1, other(n)));
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.gained(before)).toMatchObject({ TcpExtSyncookiesFailed: 98, TcpOutRsts: 98 });
    expect(world.gained(before)).not.toHaveProperty("TcpPassiveOpens");
  });

  it("RSTs meet silence", async () => {
    world = await FloodWorld.open();
    const before = world.counters();
    await flood((n) => ({ flags: rst, toPort: n % 2 === 0 ? PORT : 81 }));
    const gained = world.gained(before);
    expect(gained).not.toHaveProperty("TcpOutRsts");
    // What left went to the clients: SYN-ACK, ACK and answer with FIN or apart.
    expect(gained.TcpInSegs).toBeGreaterThan(COUNT);
    expect(gained.TcpOutSegs).toBeLessThan(50 * 8);
    expect(world.server.env.drops.rows()).toEqual({ TCP_RESET: COUNT / 2, NO_SOCKET: COUNT / 2 });
  });

  it("data for connections that are not there gets a RST each and leaves nothing", async () => {
    world = await FloodWorld.open();
    const { slots } = world;
    const before = world.counters();
    const payload = new Uint8Array(100);
    await flood((n) => ({ flags: ack | psh, ack: n, payload, toPort: n % 2 === 0 ? PORT : 81 }));
    expect(world.gained(before)).toMatchObject({ TcpOutRsts: COUNT });
    await world.settle();
    expect(world.slots).toBe(slots);
  });
});

describe("blind attacks on somebody else's connection (RFC 5961)", () => {
  const COUNT = 2000;
  /** 2,000 frames in 400 ms: less than tcp_invalid_ratelimit (500 ms). */
  const blind = async (fields: (n: number, victim: Tcb) => Partial<Segment>): Promise<{ alive: boolean }> => {
    world = await FloodWorld.open();
    const conn = await world.sim.run(world.dial());
    await world.sim.sleep(10 * MILLISECOND);
    const { port } = conn.local;
    const victim = [...world.server.tcp.context.endpoints].find((tcb) => tcb.remotePort === port) as Tcb;
    const frame = (n: number) => segment(n, { from: CLIENT, fromPort: port, to: SERVER, ...fields(n, victim) });
    world.raw.flood({ count: COUNT, everyNs: 200 * MICROSECOND, frame });
    await world.sim.sleep(450 * MILLISECOND);
    conn.writeLatin1("GET /hello HTTP/1.1\r\nHost: server\r\n\r\n");
    conn.flush();
    const n = await world.sim.run(conn.read(new Uint8Array(4096)));
    conn.close();
    return { alive: n > 0 };
  };

  it("resets inside the window: one challenge ACK, the rest skipped", async () => {
    const { alive } = await blind((n, victim) => ({ flags: rst, seq: (victim.rcvNxt + 1 + n) >>> 0 }));
    expect(alive).toBe(true);
    const { TcpExtTCPChallengeACK, TcpExtTCPACKSkippedChallenge, TcpEstabResets } = world.counters();
    expect([TcpExtTCPChallengeACK, TcpExtTCPACKSkippedChallenge, TcpEstabResets]).toEqual([1, COUNT - 1, 0]);
  });

  it("resets outside of it: silence", async () => {
    const { alive } = await blind((n, victim) => ({ flags: rst, seq: (victim.rcvNxt + 0x40000000 + n) >>> 0 }));
    expect(alive).toBe(true);
    const { TcpExtTCPChallengeACK, TcpEstabResets } = world.counters();
    expect([TcpExtTCPChallengeACK, TcpEstabResets]).toEqual([0, 0]);
    expect(world.server.env.drops.rows()).toEqual({ TCP_INVALID_SEQUENCE: COUNT });
  });

  it("SYNs: challenged once, never believed", async () => {
    const { alive } = await blind((n, victim) => ({ flags: syn, seq: (victim.rcvNxt + n) >>> 0 }));
    expect(alive).toBe(true);
    const { TcpExtTCPSYNChallenge, TcpExtTCPChallengeACK, TcpEstabResets, TcpInErrs } = world.counters();
    expect([TcpExtTCPSYNChallenge, TcpExtTCPChallengeACK, TcpEstabResets, TcpInErrs]).toEqual([COUNT, 1, 0, COUNT]);
  });

  it("ACKs of what was never sent: challenged once", async () => {
    const { alive } = await blind((n, victim) => ({
      ...{ flags: ack | fin, seq: victim.rcvNxt, ack: (victim.sndUna + 0x20000000 + n) >>> 0 },
    }));
    expect(alive).toBe(true);
    expect(world.counters().TcpEstabResets).toBe(0);
  });
});
