import { it } from "vitest";
import { MILLISECOND, SECOND } from "../../src/base/time.ts";
import { collectedHeapBytes } from "../support/heap.ts";
import { FloodWorld, feltText, figure } from "./flood-world.ts";
import { Peers } from "./hostile-peers.ts";

const diff = (world: FloodWorld, before: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(world.snapshot())
      .filter(([k, v]) => v !== before[k])
      .map(([k, v]) => [k, v - before[k]!]),
  );

it.skip("idle", async () => {
  const world = await FloodWorld.open();
  const before = world.snapshot();
  const heap = collectedHeapBytes();
  const peers = new Peers(world.raw);
  peers.connect(3000, 100_000);
  const felt = await world.honest(50);
  world.raw.received.length = 0;
  figure(`idle ${feltText(felt)} ${(collectedHeapBytes() - heap) / 3000} B each, slots ${world.slots}`);
  console.log(peers.counts, diff(world, before), world.drops());
  await world.sim.sleep(15 * SECOND);
  console.log(peers.counts, diff(world, before), world.drops(), world.slots, world.server.tcp.context.connections.size);
  world.close();
});
it("slow read", async () => {
  const T0 = performance.now();
  const world = await FloodWorld.open();
  const before = world.snapshot();
  const heap = collectedHeapBytes();
  const peers = new Peers(world.raw, {
    window: 0,
    onEstablished: (p) => p.say("GET /bytes/100000000 HTTP/1.1\r\nHost: s\r\n\r\n"),
    onData: (p) => p.acknowledge(0),
  });
  const N = Number(process.env["N"]);
  peers.connect(N, 100_000);
  await world.sim.sleep(100 * MILLISECOND);
  console.log(world.slots, diff(world, before), performance.now() - T0);
  const felt = await world.honest(50);
  world.raw.received.length = 0;
  figure(`slow read ${feltText(felt)} ${(collectedHeapBytes() - heap) / 1500} B each, slots ${world.slots}`);
  console.log(peers.counts, diff(world, before), world.drops());
  await world.sim.sleep(15 * SECOND);
  figure(
    `slow read later ${feltText(await world.honest(50))} ${(collectedHeapBytes() - heap) / 1500} B each, slots ${world.slots}`,
  );
  console.log(peers.counts, diff(world, before), world.drops(), world.slots, world.server.tcp.context.connections.size);
  world.close();
});
it("ofo", async () => {
  const world = await FloodWorld.open();
  const before = world.snapshot();
  const heap = collectedHeapBytes();
  const peers = new Peers(world.raw, {
    onEstablished: (p) => {
      p.say("POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: 100000\r\n\r\n");
      for (let i = 0; i < 40; i++) p.sayAhead(1 + i * 1401, new Uint8Array(1400));
    },
  });
  peers.connect(400, 1_000_000);
  const felt = await world.honest(100);
  world.raw.received.length = 0;
  figure(`ofo ${feltText(felt)} ${(collectedHeapBytes() - heap) / 400} B each, slots ${world.slots}`);
  console.log(peers.counts, diff(world, before), world.drops());
  await world.sim.sleep(35 * SECOND);
  console.log(peers.counts, diff(world, before), world.drops(), world.slots, world.server.tcp.context.connections.size);
  world.close();
  void MILLISECOND;
});
