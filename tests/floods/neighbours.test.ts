/** Floods that aim at the neighbour table: from the attacker's own network, and through a router. */
import { afterEach, describe, expect, it } from "vitest";
import { parseV4 } from "../../src/base/address.ts";
import { MICROSECOND, type Ns, SECOND } from "../../src/base/time.ts";
import * as arp from "../../src/wire/arp.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { ipFrame, tcpFrame, udpBytes } from "../support/raw-frames.ts";
import { FloodWorld, feltText, figure, PORT, SERVER_BEHIND, spoofed, VICTIM } from "./flood-world.ts";

const GC_THRESH3 = 1024;
const COUNT = 20_000;
const EVERY_NS: Ns = 20 * MICROSECOND;
const NETWORK = parseV4("198.18.0.0");
const INSIDE = parseV4("198.19.0.0");

let world: FloodWorld;
afterEach(() => world.close());

/** Floods while clients ask; the most entries the neighbour table ever had. */
async function flood(frame: (n: number) => Uint8Array, count = COUNT): Promise<number> {
  const quiet = await world.honest(100);
  let most = 0;
  const table = world.target.net.ip;
  world.raw.flood({
    count,
    everyNs: EVERY_NS,
    frame: (n) => {
      if (n % 16 === 0) most = Math.max(most, table.neighbours().length);
      return frame(n);
    },
  });
  const felt = await world.honest(100);
  figure(`${expect.getState().currentTestName}: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}`);
  expect(felt.failed).toBe(0);
  // Two crossings of each host on the way, each behind a poll of 64 frames that cost up to 2.4 µs.
  expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + 4 * 64 * 2.4 * MICROSECOND);
  return most;
}

describe("on the attacker's own network", () => {
  it("SYNs from 20,000 neighbours that never answer ARP: gc_thresh3 entries, clients are served", async () => {
    world = await FloodWorld.open();
    // The attacker claims the addresses but does not defend them.
    world.raw.counts.arpReplies = 0;
    const muted = world.raw as unknown as { answerArp: () => void };
    muted.answerArp = () => {};
    const { slots } = world;
    const most = await flood((n) =>
      tcpFrame(world.raw.ends, {
        ...{ from: NETWORK + 1000 + n, fromPort: 1024, to: VICTIM, toPort: PORT, flags: tcp.Flag.syn, seq: n },
      }),
    );
    expect(most).toBe(GC_THRESH3);
    await world.sim.sleep(70 * SECOND);
    await world.settle();
    expect(world.slots).toBe(slots);
  });

  it("ARP requests from 20,000 addresses: gc_thresh3 entries", async () => {
    world = await FloodWorld.open();
    const most = await flood((n) => arpFrame(arp.Operation.request, NETWORK + 1000 + n, parseV4(VICTIM)));
    expect(most).toBeLessThanOrEqual(GC_THRESH3);
    expect(most).toBeGreaterThan(GC_THRESH3 / 4);
  });

  it("answers nobody asked for make no entry (arp_accept 0)", async () => {
    world = await FloodWorld.open();
    const before = world.target.net.ip.neighbours().length;
    await flood((n) => arpFrame(arp.Operation.reply, NETWORK + 1000 + n, parseV4(VICTIM)), 5000);
    expect(world.target.net.ip.neighbours().length).toBe(before);
  });
});

describe("a router", () => {
  const through = (n: number, fields: { to?: number; ttl?: number } = {}): Uint8Array => {
    const to = fields.to ?? parseV4(SERVER_BEHIND);
    const payload = udpBytes({ from: spoofed(n), fromPort: 9, to, toPort: 9, payload: new Uint8Array(1000) });
    return ipFrame(world.raw.ends, spoofed(n), to, 17, payload, { ttl: fields.ttl ?? 64 });
  };

  it("a scan of 20,000 hosts that are not there: gc_thresh3 questions, a quarter of the frames stays free", async () => {
    world = await FloodWorld.open({ router: true });
    const { slots } = world;
    const before = world.counters();
    const most = await flood((n) => through(n, { to: INSIDE + 1000 + n }));
    expect(most).toBe(GC_THRESH3);
    await world.sim.sleep(10 * SECOND);
    const { IcmpOutDestUnreachs = 0 } = world.gained(before);
    // Host unreachable, 3 s after each question: limited as everything.
    expect(IcmpOutDestUnreachs).toBeLessThanOrEqual(50 + 10 * 1000);
    await world.settle();
    expect(world.slots).toBe(slots);
  });

  it("50 packets each for 400 of them: one waits, the rest as long as memory is not short", async () => {
    world = await FloodWorld.open({ router: true });
    const most = await flood((n) => through(n, { to: INSIDE + 1000 + (n % 400) }));
    expect(most).toBeLessThan(GC_THRESH3);
    const { NEIGH_QUEUEFULL = 0, NEIGH_FAILED = 0 } = world.target.env.drops.rows();
    expect(NEIGH_QUEUEFULL).toBeGreaterThan(10_000);
    expect(NEIGH_QUEUEFULL + NEIGH_FAILED).toBeLessThanOrEqual(COUNT);
    expect(world.raw.counts.sent).toBeGreaterThanOrEqual(COUNT);
  });

  it("20,000 packets with a TTL of 1: dropped, and their senders told at ICMP's rate", async () => {
    world = await FloodWorld.open({ router: true });
    const before = world.counters();
    await flood((n) => through(n, { ttl: 1 }));
    const { IpInHdrErrors, IcmpOutTimeExcds = 0, IcmpOutRateLimitGlobal = 0 } = world.gained(before);
    expect([IpInHdrErrors, IcmpOutTimeExcds + IcmpOutRateLimitGlobal]).toEqual([COUNT, COUNT]);
    // 0.4 s.
    expect(IcmpOutTimeExcds).toBeLessThanOrEqual(50 + 400 + 1);
    expect(IcmpOutTimeExcds).toBeGreaterThan(400);
  });
});

function arpFrame(operation: number, senderIp: number, targetIp: number): Uint8Array {
  const { fromMac, toMac } = world.raw.ends;
  const payload = arp.emit({ operation, senderMac: fromMac, senderIp, targetMac: toMac, targetIp } as arp.Repr);
  return ethernet.emit({ src: fromMac, dst: toMac, etherType: ethernet.EtherType.arp, payload });
}
