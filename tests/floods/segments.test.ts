/** Tiny segments and holes: memory is charged for what it is, and work per segment does not grow with their number. */
import { afterEach, describe, expect, it } from "vitest";
import { ANY_V4 } from "../../src/base/address.ts";
import { MICROSECOND, MILLISECOND, SECOND } from "../../src/base/time.ts";
import { SMALL_SLOT } from "../../src/skb/arena.ts";
import type { Tcb } from "../../src/transport/tcp/tcp.ts";
import { FloodWorld, feltText, figure } from "./flood-world.ts";
import { type Peer, Peers } from "./hostile-peers.ts";

const DEAF_PORT = 81;
const ONE = new Uint8Array([120]);

let world: FloodWorld;
afterEach(() => world.close());

/** A peer connected to a process that accepts and never reads; and the server's end of it. */
async function deafPeer(sysctls: Record<string, string> = {}): Promise<{ peer: Peer; tcb: Tcb }> {
  world = await FloodWorld.open({ sysctls });
  const { runtime } = world.server.spawn({ name: "deaf" });
  const listener = await world.sim.run(runtime.network.listen(ANY_V4, DEAF_PORT));
  const peers = new Peers(world.raw, { port: DEAF_PORT });
  peers.connect(1, MICROSECOND);
  await world.sim.run(listener.accept());
  const tcb = [...world.server.tcp.context.endpoints].find(
    ({ localPort, remotePort }) => localPort === DEAF_PORT && remotePort !== 0,
  ) as Tcb;
  return { peer: peers.all[0] as Peer, tcb };
}

/** Sends them, 64 to an interrupt, and lets them be received. */
async function send(count: number, each: (n: number) => void): Promise<void> {
  for (let n = 0; n < count; n++) {
    each(n);
    if (n % 64 === 63) await world.sim.sleep(MILLISECOND);
  }
  await world.sim.sleep(10 * MILLISECOND);
}

describe("one byte per segment", () => {
  it("a body of 64 KB comes back whole", async () => {
    world = await FloodWorld.open();
    const peers = new Peers(world.raw, {
      onEstablished: (peer) => peer.say("POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 65536\r\n\r\n"),
    });
    peers.connect(1, MICROSECOND);
    const asked = world.startHonest(100);
    await world.sim.sleep(10 * MILLISECOND);
    const [peer] = peers.all as [Peer];
    await send(65_536, () => peer.say(ONE));
    const felt = await world.sim.run(asked);
    figure(`64 KB in segments of one byte: ${feltText(felt)}`);
    expect(felt.failed).toBe(0);
    expect(peer.text).toMatch(/^HTTP\/1\.1 200 OK/);
    expect(peer.receivedBytes).toBeGreaterThan(65_536);
    peer.reset();
  });

  it("unread, 60,000 of them fill pages, not slots of 2 KB each", async () => {
    const { peer, tcb } = await deafPeer();
    const { slots } = world;
    await send(60_000, () => peer.say(ONE));
    const { receiveQueue } = tcb;
    expect(receiveQueue.length).toBe(60_000);
    // Charged with what it holds; 256 B, 2 KB pages up to 16 KB, then 64 KB pages.
    expect(receiveQueue.memoryBytes).toBe(60_000);
    expect([receiveQueue.slots < 24, world.slots - slots < 24]).toEqual([true, true]);
    peer.reset();
  });
});

describe("one byte in two", () => {
  it("waits in small slots, charged with all of them, and the receive buffer is the limit", async () => {
    const { peer, tcb } = await deafPeer();
    const { slots } = world;
    await send(5000, (n) => peer.sayAhead(1 + 2 * n, ONE));
    // tcp_rmem[1] is 131,072: 513 slots of 256 bytes are the first to exceed it.
    const { reassembly, rcvbufBytes } = tcb;
    expect(rcvbufBytes).toBe(131_072);
    expect(reassembly.memoryBytes).toBeLessThanOrEqual(rcvbufBytes + SMALL_SLOT);
    expect(reassembly.length).toBe(reassembly.memoryBytes / SMALL_SLOT);
    expect(world.slots - slots).toBe(reassembly.length);
    const { TcpExtPruneCalled, TcpExtOfoPruned, TcpExtTCPOFOQueue } = world.counters();
    expect([TcpExtPruneCalled > 0, TcpExtOfoPruned > 0, TcpExtTCPOFOQueue]).toEqual([true, true, 5000]);
    peer.reset();
    await world.settle();
    expect(world.slots).toBe(slots);
  });

  it("costs the same per segment whatever their number and order", async () => {
    // As large as tuning ever makes it, so that all of them are kept.
    const { peer, tcb } = await deafPeer({ "net.ipv4.tcp_rmem": "4096 6291456 6291456" });
    const shuffled = (n: number, of: number) => (n * 7919) % of;
    const cpuOf = async (count: number, order: (n: number) => number): Promise<number> => {
      const startMicros = process.cpuUsage().user;
      await send(count, (n) => peer.sayAhead(1 + 2 * order(n), ONE));
      const micros = process.cpuUsage().user - startMicros;
      expect(tcb.reassembly.length).toBe(count);
      tcb.reassembly.clear(world.server.env.drops, 0 as never);
      return micros / count;
    };
    const few: number[] = [];
    const many: number[] = [];
    for (let round = 0; round < 3; round++) {
      few.push(await cpuOf(3000, (n) => shuffled(n, 3000)));
      many.push(await cpuOf(12_000, (n) => shuffled(n, 12_000)));
    }
    const [a, b] = [Math.min(...few), Math.min(...many)];
    figure(`holes in random order: ${a.toFixed(1)} µs per segment of 3,000, ${b.toFixed(1)} µs of 12,000`);
    expect(b / a).toBeLessThan(2);
  });
});

describe("holes on many connections", () => {
  it("400 peers with 40 segments behind a hole: a quarter of the frames stays free, others are served", async () => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const { slots } = world;
    const before = world.counters();
    const payload = new Uint8Array(1400);
    const peers = new Peers(world.raw, {
      onEstablished: (peer) => {
        peer.say("POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 100000\r\n\r\n");
        for (let i = 0; i < 40; i++) peer.sayAhead(1 + i * 1401, payload);
      },
    });
    peers.connect(400, MILLISECOND);
    const felt = await world.honest(100);
    figure(`400 peers with holes: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}`);
    expect(felt.failed).toBe(0);
    // 41 frames at once cost 40 × 0.8 µs and their ACKs.
    expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + 100 * MICROSECOND);
    const { TcpExtTCPOFOQueue = 0, TcpExtTCPOFODrop = 0 } = world.gained(before);
    expect(TcpExtTCPOFOQueue + TcpExtTCPOFODrop).toBe(400 * 40);
    // 6,144 frame slots, of which 4,608 may wait; the rings' 1,024 are among these.
    expect(TcpExtTCPOFOQueue).toBeLessThanOrEqual(4608 - slots + 1);
    expect(TcpExtTCPOFOQueue).toBeGreaterThan(3000);
    // The bodies never go on: 408 after 30 s, and all is given back.
    await world.sim.sleep(35 * SECOND);
    expect([world.slots, world.site.connections]).toEqual([slots, 0]);
  });
});
