/** Fragments that overlap, never come, come too late, or add up to more than a packet may be. */
import { afterEach, describe, expect, it } from "vitest";
import { MICROSECOND, MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import { IpProtocol } from "../../src/network/port.ts";
import { FRAME_SLOT } from "../../src/skb/arena.ts";
import { echoFrame, fragmentFrames, inOrder, ipFrame, type Piece, udpBytes } from "../support/raw-frames.ts";
import { FloodWorld, feltText, figure, spoofed, VICTIM } from "./flood-world.ts";

const FROM = "198.18.7.7";
const HIGH_THRESH = 4 * 1024 * 1024;
const TWO_POLLS_NS: Ns = 2 * 64 * 1.8 * MICROSECOND;

let world: FloodWorld;
afterEach(() => world.close());

/** A datagram to a port nobody listens on: if it is put together, it counts as UdpNoPorts. */
function datagram(bytes: number, from: number | string = FROM): Uint8Array {
  const payload = new Uint8Array(bytes - 8).fill(1);
  return udpBytes({ from, fromPort: 9, to: VICTIM, toPort: 9, payload });
}

function pieces(id: number, payload: Uint8Array, cut: readonly Piece[], from: number | string = FROM): Uint8Array[] {
  return fragmentFrames(world.raw.ends, { from, to: VICTIM, protocol: IpProtocol.udp, id }, payload, cut);
}

describe("shapes", () => {
  const play = async (cut: readonly Piece[], bytes = 4000) => {
    world = await FloodWorld.open();
    const before = world.counters();
    world.raw.send(...pieces(1, datagram(bytes), cut));
    await world.sim.sleep(10 * MILLISECOND);
    return { gained: world.gained(before), drops: world.target.env.drops.rows() };
  };
  const held = () => world.target.net.ip.reassembly.heldFragments;

  // Each comes when the hole it pretends to fill is still there.
  const overlaps: Record<string, readonly Piece[]> = {
    "the end of one in the next": [
      { offset: 0, bytes: 1480 },
      { offset: 1472, bytes: 1480 },
    ],
    "the begin of one in the one before": [
      { offset: 1472, bytes: 1480 },
      { offset: 0, bytes: 1480 },
    ],
    "one around another (as nestea)": [
      { offset: 800, bytes: 8 },
      { offset: 0, bytes: 1480 },
    ],
    "over two": [
      { offset: 0, bytes: 800 },
      { offset: 1600, bytes: 800 },
      { offset: 792, bytes: 816 },
    ],
  };
  for (const [name, cut] of Object.entries(overlaps)) {
    it(`${name}: the whole packet goes (RFC 5722)`, async () => {
      const { gained, drops } = await play(cut);
      expect(gained).toMatchObject({ IpExtReasmOverlaps: 1, IpReasmFails: 1, IpReasmReqds: cut.length });
      expect(gained).not.toHaveProperty("IpReasmOKs");
      expect(drops).toEqual({ FRAG_OVERLAP: cut.length });
      expect(held()).toBe(0);
    });
  }

  it("a piece inside of what came is a duplicate: dropped alone (teardrop)", async () => {
    const { gained, drops } = await play([
      { offset: 0, bytes: 1480 },
      { offset: 8, bytes: 16 },
      ...inOrder(4000).slice(1),
    ]);
    expect(gained).toMatchObject({ IpReasmOKs: 1, UdpNoPorts: 1, IpReasmReqds: 4 });
    expect(gained).not.toHaveProperty("IpExtReasmOverlaps");
    expect(drops).toMatchObject({ DUP_FRAG: 1 });
  });

  it("65,535 bytes and no more (ping of death)", async () => {
    world = await FloodWorld.open();
    const before = world.counters();
    const { ends } = world.raw;
    // 65,528 + 1,000 bytes of payload.
    const tail = ipFrame(ends, FROM, VICTIM, IpProtocol.icmp, new Uint8Array(1000), { id: 7, fragmentOffset: 65_528 });
    const head = ipFrame(ends, FROM, VICTIM, IpProtocol.icmp, new Uint8Array(1480), { id: 7, moreFragments: true });
    world.raw.send(head, tail);
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.gained(before)).toMatchObject({ IpReasmReqds: 2, IpReasmFails: 1 });
    expect(held()).toBe(0);
    world.raw.send(echoFrame(ends, FROM, VICTIM, 1));
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.gained(before)).toMatchObject({ IcmpInEchos: 1, IcmpOutEchoReps: 1 });
  });

  it("two ends, or an end before the middle: refused", async () => {
    const { gained } = await play([
      { offset: 2960, bytes: 1040, last: true },
      { offset: 1480, bytes: 800, last: true },
    ]);
    expect(gained).toMatchObject({ IpReasmFails: 1 });
    expect(held()).toBe(0);
  });

  it("pieces of 8 bytes, 250 of them: whole", async () => {
    const cut = Array.from({ length: 250 }, (_, n) => ({ offset: 8 * n, bytes: 8, last: n === 249 }));
    const { gained } = await play(cut, 2000);
    expect(gained).toMatchObject({ IpReasmOKs: 1, UdpNoPorts: 1 });
  });

  it("with more than ipfrag_max_dist others of the sender in between it starts over", async () => {
    world = await FloodWorld.open();
    const before = world.counters();
    const payload = datagram(2960);
    const [first, second] = inOrder(2960) as [Piece, Piece];
    world.raw.send(...pieces(1, payload, [first]));
    for (let id = 2; id < 2 + 65; id++) world.raw.send(...pieces(id, payload, [first]));
    world.raw.send(...pieces(1, payload, [second]));
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.gained(before)).toMatchObject({ IpReasmReqds: 67, IpReasmFails: 1 });
    expect(world.gained(before)).not.toHaveProperty("IpReasmOKs");
    expect(world.target.env.drops.rows()).toEqual({ FRAG_TOO_FAR: 1 });
  });
});

describe("a flood of first fragments", () => {
  const COUNT = 20_000;

  it.each([
    ["from as many senders", (n: number) => spoofed(n)],
    ["from one sender", () => FROM],
  ])("%s: 4 MiB wait, 30 s, the others are dropped", { timeout: 60_000 }, async (_, from) => {
    world = await FloodWorld.open();
    const quiet = await world.honest(100);
    const { slots } = world;
    const before = world.counters();
    const [first] = inOrder(2960) as [Piece, Piece];
    let most = 0;
    const frame = (n: number): Uint8Array => {
      most = Math.max(most, world.target.net.ip.reassembly.heldBytes);
      return pieces(n & 0xffff, datagram(2960, from(n)), [first], from(n))[0] as Uint8Array;
    };
    world.raw.flood({ count: COUNT, everyNs: 20 * MICROSECOND, frame });
    const felt = await world.honest(100);
    figure(`20,000 first fragments: quiet ${feltText(quiet)}; meanwhile ${feltText(felt)}`);
    expect(felt.failed).toBe(0);
    expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + TWO_POLLS_NS);
    // ipfrag_high_thresh, and the one that reached it: 2,049 slots of 2 KB.
    const held = HIGH_THRESH / FRAME_SLOT + 1;
    expect(most).toBe(held * FRAME_SLOT);
    expect(world.slots).toBe(slots + held);
    expect(world.gained(before)).toMatchObject({ IpReasmReqds: COUNT, IpReasmFails: COUNT - held });
    await world.sim.sleep(31 * SECOND);
    expect(world.gained(before)).toMatchObject({ IpReasmTimeout: held, IpReasmFails: COUNT });
    // Who sent a first fragment may be told (ICMP 11/1): 50 at once, 1,000 per second; six at once to one of them.
    const { IcmpOutTimeExcds = 0, IcmpOutRateLimitGlobal = 0, IcmpOutRateLimitHost = 0 } = world.gained(before);
    expect(IcmpOutTimeExcds).toBeLessThanOrEqual(50 + 1000);
    expect(IcmpOutTimeExcds + IcmpOutRateLimitGlobal + IcmpOutRateLimitHost).toBe(held);
    expect([world.slots, world.target.net.ip.reassembly.heldBytes]).toEqual([slots, 0]);
  });

  it("whole packets in fragments leave no timers behind", async () => {
    world = await FloodWorld.open();
    const payload = datagram(2960);
    const timers = (world.target.env.timers as unknown as { heap: unknown[] }).heap;
    const before = timers.length;
    for (let id = 0; id < 5000; id++) {
      world.raw.send(...pieces(id, payload, inOrder(2960)));
      if (id % 64 === 63) await world.sim.sleep(MILLISECOND);
    }
    await world.sim.sleep(10 * MILLISECOND);
    expect(world.counters().IpReasmOKs).toBe(5000);
    expect(timers.length - before).toBeLessThan(100);
  });
});
