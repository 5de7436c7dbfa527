/** Peers that complete the handshake and then have no manners: silent, slow to speak, slow to read. */
import { afterEach, describe, expect, it } from "vitest";
import { MICROSECOND, MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import { FRAME_SLOT } from "../../src/skb/arena.ts";
import { restingHeapBytes } from "../support/heap.ts";
import { type Felt, FloodWorld, feltText, figure } from "./flood-world.ts";
import { type Peer, Peers } from "./hostile-peers.ts";

/** As in syn.test.ts: two NAPI polls of 64 attacking frames, some of which wake the process (a microsecond more). */
const TWO_POLLS_NS: Ns = 2 * 64 * 3 * MICROSECOND;
const HEAD = "GET /hello HTTP/1.1\r\nHost: server\r\nX-Slow: ";

let world: FloodWorld;
afterEach(() => world.close());

function expectAsQuiet(felt: Felt, quiet: Felt): void {
  expect(felt.failed).toBe(0);
  expect(felt.connect.p99).toBeLessThan(quiet.connect.p99 + TWO_POLLS_NS);
  expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + TWO_POLLS_NS);
}

/** JavaScript memory gained since `before`, per connection; what the test itself remembers is part of it. */
async function heapEach(before: number, peers: number): Promise<number> {
  world.raw.received.length = 0;
  return Math.round(((await restingHeapBytes()) - before) / peers);
}

describe("a connection flood", () => {
  it("3,000 peers that say nothing: no packet memory, some kilobytes each, closed after 10 s", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const { slots } = world;
    const heap = await restingHeapBytes();
    const before = world.counters();
    const peers = new Peers(world.raw);
    peers.connect(3000, 200 * MICROSECOND);
    const felt = await world.honest(100);
    const each = await heapEach(heap, 3000);
    figure(`3,000 silent connections: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}; ${each} bytes each`);
    expectAsQuiet(felt, quiet);
    expect(each).toBeLessThan(8192);
    expect(world.slots).toBe(slots);
    expect([peers.counts.established, world.site.connections]).toEqual([3000, 3000]);
    expect(world.gained(before)).toMatchObject({ TcpPassiveOpens: 3100, TcpCurrEstab: 3000 });
    // They never began a request: nothing to answer, the connection is closed.
    await world.sim.sleep(9 * SECOND);
    expect(peers.counts.closed).toBe(0);
    await world.sim.sleep(SECOND);
    expect([peers.counts, world.site.connections]).toEqual([
      { established: 3000, closed: 3000, reset: 0, probes: 0 },
      0,
    ]);
    expect(peers.all.every((peer) => peer.receivedBytes === 0)).toBe(true);
    await world.settle();
    expect([world.slots, world.server.tcp.context.endpoints.size]).toEqual([slots, 1]);
  });

  it("nobody accepts: backlog + 1 connections wait, the others are not let in (and not refused)", async () => {
    world = await FloodWorld.open({ site: { listen: { backlog: 64 } } });
    for (const process of world.server.inlineProcesses.values()) {
      for (const listener of process.runtime.network.listeners) listener.setPaused(true);
    }
    const before = world.counters();
    const peers = new Peers(world.raw);
    peers.connect(1000, 100 * MICROSECOND);
    const asked = world.startHonest(10);
    await world.sim.sleep(SECOND);
    const gained = world.gained(before);
    expect(gained.TcpPassiveOpens).toBe(65);
    // A SYN or a last ACK that finds the queue full: one of each counter.
    expect(gained.TcpExtListenOverflows).toBe(gained.TcpExtListenDrops);
    expect(gained.TcpExtListenOverflows).toBeGreaterThanOrEqual(1000 - 65);
    expect(gained).not.toHaveProperty("TcpOutRsts");
    for (const process of world.server.inlineProcesses.values()) {
      for (const listener of process.runtime.network.listeners) listener.setPaused(false);
    }
    const felt = await world.sim.run(asked);
    figure(`accept queue of 64 full for a second: ${feltText(felt)}`);
    // Clients whose SYN was dropped come in with the next, a second later.
    expect(felt.failed).toBe(0);
    expect(felt.connect.p99).toBeLessThan(2.1 * SECOND);
  });

  it("no descriptors left: accept waits, others are served as soon as one is free", async () => {
    world = await FloodWorld.open({ descriptors: 100 });
    const peers = new Peers(world.raw);
    peers.connect(200, 100 * MICROSECOND);
    await world.sim.sleep(100 * MILLISECOND);
    const served = world.site.connections;
    // 0 to 2 and the listener are descriptors, too; the runtime may have one or two of its own.
    expect(served).toBeGreaterThan(92);
    expect(served).toBeLessThanOrEqual(96);
    const felt = await world.honest(20);
    figure(`100 descriptors, 200 silent connections: ${feltText(felt)}`);
    // The silent are closed after 10 s; their places go to the 100 that queued before, then to the clients.
    expect(felt.failed).toBe(0);
    expect(felt.answer.p50).toBeGreaterThan(9 * SECOND);
    expect(felt.answer.p99).toBeLessThan(32 * SECOND);
    const after = await world.honest(20);
    expect([after.failed, after.answer.p99 < 2 * MILLISECOND]).toEqual([0, true]);
  });
});

describe("slow senders", () => {
  it("300 heads at a byte per second: 408 ten seconds after the first byte", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const { slots } = world;
    const heap = await restingHeapBytes();
    const dribble = (peer: Peer): void => {
      let said = 0;
      void (async () => {
        while (peer.state === "established" && said < 60) {
          peer.say(HEAD[said++] ?? "x");
          await world.user.sleep(SECOND);
        }
      })();
    };
    const peers = new Peers(world.raw, { onEstablished: dribble });
    peers.connect(300, 100 * MICROSECOND);
    const felt = await world.honest(300);
    const each = await heapEach(heap, 300);
    figure(`300 slow heads: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}; ${each} bytes each`);
    expectAsQuiet(felt, quiet);
    expect([world.slots, world.site.connections]).toEqual([slots, 300]);
    expect(each).toBeLessThan(16_384);
    await world.sim.sleep(8 * SECOND);
    expect(peers.all.filter((peer) => peer.text.startsWith("HTTP/1.1 408 Request Timeout\r\n"))).toHaveLength(300);
    await world.sim.sleep(3 * SECOND);
    expect(world.site.connections).toBe(0);
    expect(world.site.stats.refused).toBe(300);
  });

  it("300 bodies that stop half-way: 408 after 30 s of silence; until then a byte now and then is enough", async () => {
    world = await FloodWorld.open();
    const head = "POST /echo HTTP/1.1\r\nHost: server\r\nContent-Length: 1000\r\n\r\n";
    const peers = new Peers(world.raw, { onEstablished: (peer) => peer.say(`${head}${"x".repeat(500)}`) });
    peers.connect(300, 100 * MICROSECOND);
    await world.sim.sleep(29 * SECOND);
    const [patient] = peers.all as [Peer];
    patient.say("y");
    const felt = await world.honest(50);
    expect(felt.failed).toBe(0);
    await world.sim.sleep(2 * SECOND);
    const timedOut = peers.all.filter((peer) => peer.text.startsWith("HTTP/1.1 408"));
    expect([timedOut.length, timedOut.includes(patient)]).toEqual([299, false]);
    await world.sim.sleep(30 * SECOND);
    expect(patient.text).toMatch(/^HTTP\/1\.1 408/);
    expect(world.site.connections).toBe(0);
  });
});

describe("slow readers", () => {
  const ASK = "GET /bytes/100000000 HTTP/1.1\r\nHost: server\r\n\r\n";

  it("600 that open no window: three quarters of packet memory at most, and everybody else is served", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const heap = await restingHeapBytes();
    const before = world.counters();
    const peers = new Peers(world.raw, {
      window: 0,
      onEstablished: (peer) => peer.say(ASK),
    });
    peers.connect(600, MILLISECOND);
    const felt = await world.honest(100);
    const each = await heapEach(heap, 600);
    figure(
      `600 readers with a closed window: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}; ${each} bytes each`,
    );
    expectAsQuiet(felt, quiet);
    expect(peers.counts).toMatchObject({ established: 600, closed: 0, reset: 0 });
    // The process keeps 256 KiB for a handler that does not wait, and the 64 KiB it was writing (HIGH_WATER_BYTES).
    expect(each).toBeLessThan(400 * 1024);
    expect([world.arena.isRoomy(FRAME_SLOT), world.slots < 0.75 * (16_384 + 6144 + 320) + 64]).toEqual([false, true]);
    // Probed at 200 ms doubling to 120 s, for as long as they answer: nothing else ends such a connection.
    await world.sim.sleep(3600 * SECOND);
    expect(world.site.connections).toBe(600);
    expect(peers.counts.probes).toBe(world.gained(before).TcpExtTCPWinProbe);
    // 205 s of doubling make ten, then one every 120 s.
    expect(Math.abs(peers.counts.probes / 600 - 10 - (3600 - 205) / 120)).toBeLessThan(2);
    expectAsQuiet(await world.honest(50), quiet);
    // Once they are silent, tcp_retries2 gives them up: after 15 probes 120 s apart.
    peers.isAnswering = false;
    await world.sim.sleep(14 * 120 * SECOND);
    expect(world.site.connections).toBe(600);
    await world.sim.sleep(3 * 120 * SECOND);
    expect([world.site.connections, world.gained(before).TcpExtTCPAbortOnTimeout]).toEqual([0, 600]);
    await world.settle();
    expect(world.arena.isRoomy(FRAME_SLOT)).toBe(true);
  });

  it("100 that take a byte at a time hold their send buffer and no more", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const peers = new Peers(world.raw, {
      window: 1,
      onEstablished: (peer) => peer.say(ASK),
      onData: (peer, { seq, payload }) => {
        if (seq === peer.rcvNxt) peer.rcvNxt = (seq + payload.length) >>> 0;
        peer.acknowledge();
      },
    });
    peers.connect(100, MILLISECOND);
    const felt = await world.honest(100);
    figure(`100 readers of one byte at a time: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}`);
    expect(felt.failed).toBe(0);
    let held = 0;
    for (const tcb of world.server.tcp.context.endpoints) {
      expect(tcb.sendQueue.length).toBeLessThanOrEqual(tcb.sndbufBytes);
      held += tcb.sendQueue.length;
    }
    expect(held / 100).toBeLessThan(128 * 1024);
    for (const peer of peers.all) peer.reset();
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.site.connections).toBe(0);
  });
});
