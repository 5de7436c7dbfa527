import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { numbered, numberOf } from "../../tests/conformance/device.ts";
import { macOf, makeEnv, runUntil, SMALL_ARENA } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Prng } from "../base/prng.ts";
import { Arena } from "../skb/arena.ts";
import type { LinkSettings } from "./link-settings.ts";
import { Nic } from "./nic.ts";
import { WireLink } from "./wire-link.ts";

function wire(settings: Partial<LinkSettings>, seed = 1, ring = 512) {
  const arena = new Arena(SMALL_ARENA);
  const a = makeEnv("a", arena);
  const b = makeEnv("b", arena);
  const from = new Nic(a, "eth0", { mac: macOf(1), txRingSize: ring });
  const to = new Nic(b, "eth0", { mac: macOf(2), rxRingSize: ring });
  const link = new WireLink("wire", from, to, new Prng(seed), settings);
  const send = (n: number, size = 60) => {
    const skb = a.pool.alloc(size);
    if (skb === null) throw new Error("no memory");
    skb.put(size);
    skb.bytes.set(numbered(n), skb.data);
    from.transmit(skb);
  };
  const arrivals = () => {
    const list: { n: number; atNs: number; bytes: Uint8Array }[] = [];
    to.receive(100000, (skb) => {
      const bytes = skb.bytes.slice(skb.data, skb.tail);
      list.push({ n: numberOf(bytes), atNs: skb.arrivedNs, bytes });
      b.drops.consume(skb);
    });
    return list;
  };
  return { arena, a, b, from, to, link, send, arrivals, run: (ns: number) => runUntil([a, b], ns) };
}

describe("timing", () => {
  it("arrival = departure + serialisation + delay, to the nanosecond", () => {
    const w = wire({ rateBitsPerSecond: 10e6, delayNs: 2_500_000 });
    for (let n = 0; n < 3; n++) w.send(n, 1250);
    w.from.flush();
    w.run(1e9);
    // 1250 bytes at 10 Mbit/s are 1 ms.
    expect(w.arrivals().map(({ n, atNs }) => [n, atNs])).toEqual([
      [0, 3_500_000],
      [1, 4_500_000],
      [2, 5_500_000],
    ]);
  });

  it("keeps frames in the TX ring until their turn", () => {
    const w = wire({ rateBitsPerSecond: 10e6 });
    for (let n = 0; n < 5; n++) w.send(n, 1250);
    w.from.flush();
    expect(w.from.txRing.used).toBe(4);
    w.run(2_000_000);
    expect(w.from.txRing.used).toBe(2);
    w.run(1e9);
    expect(w.from.txRing.used).toBe(0);
  });

  it("is exact even if the driver comes late", () => {
    const w = wire({ rateBitsPerSecond: 10e6, delayNs: 1000 });
    for (let n = 0; n < 3; n++) w.send(n, 1250);
    w.from.flush();
    // A real-time driver that slept 10 ms fires everything late, with one reading of the clock.
    for (const env of [w.a, w.b]) env.clock.nowNs = 10e6;
    while (w.a.timers.fireOne(10e6) || w.b.timers.fireOne(10e6));
    expect(w.arrivals().map(({ atNs }) => atNs)).toEqual([1_001_000, 2_001_000, 3_001_000]);
  });

  it("a frame flushed while the wire is idle departs then, not when the wire became free", () => {
    const w = wire({ rateBitsPerSecond: 10e6 });
    w.send(0, 1250);
    w.from.flush();
    w.run(50e6);
    w.send(1, 1250);
    w.from.flush();
    w.run(1e9);
    expect(w.arrivals().map(({ atNs }) => atNs)).toEqual([1e6, 51e6]);
  });

  it("a rate raised at run time speeds up the frame on the wire's successors", () => {
    const w = wire({ rateBitsPerSecond: 1000 });
    w.send(0, 1250);
    w.send(1, 1250);
    w.from.flush();
    w.run(1e6);
    w.link.set({ rateBitsPerSecond: 10e6 });
    w.run(60e9);
    const times = w.arrivals();
    // The rest of frame 0 took (10 s − 1 ms) / 10,000; frame 1 follows, and overtakes the slow bits of frame 0.
    expect(times.map(({ n }) => n)).toEqual([1, 0]);
    expect(times[0].atNs).toBe(1e6 + 999_900 + 1e6);
  });

  it("counts serialisation both ways independently", () => {
    const w = wire({});
    w.link.set({ delayNs: 5000 }, 1);
    expect([w.link.settings(0).delayNs, w.link.settings(1).delayNs]).toEqual([0, 5000]);
  });
});

describe("impairments", () => {
  it("loses as often as asked, counted at the receiver", () => {
    const w = wire({ loss: 0.1 });
    for (let n = 0; n < 4000; n++) {
      w.send(n);
      w.from.flush();
      w.run(n);
      w.to.receive(10, (skb) => w.b.drops.consume(skb));
    }
    w.run(1e6);
    w.arrivals();
    const lost = w.b.drops.counts[DropReason.linkLoss];
    // Four standard deviations of a binomial(4000, 0.1).
    expect(Math.abs(lost - 400)).toBeLessThan(4 * Math.sqrt(4000 * 0.1 * 0.9));
    expect(w.link.stats(0)).toMatchObject({ sentFrames: 4000, lostFrames: lost, arrivedFrames: 4000 - lost });
    expect(w.a.pool.outstanding + w.b.pool.outstanding).toBe(0);
  });

  it("down loses everything, then nothing", () => {
    const w = wire({ down: true });
    w.send(1);
    w.from.flush();
    w.link.set({ down: false });
    w.send(2);
    w.from.flush();
    w.run(1e6);
    expect(w.arrivals().map(({ n }) => n)).toEqual([2]);
  });

  it("duplicates whole frames", () => {
    const w = wire({ duplicate: 1 });
    w.send(7, 900);
    w.from.flush();
    w.run(1e6);
    const [one, two] = w.arrivals();
    expect(one.bytes).toEqual(two.bytes);
    expect(one.bytes.length).toBe(900);
  });

  it("corrupts exactly one bit, behind the Ethernet header", () => {
    const w = wire({ corrupt: 1 });
    w.send(7);
    w.from.flush();
    w.run(1e6);
    const [{ bytes }] = w.arrivals();
    const flipped = [...numbered(7)].map((byte, i) => byte ^ bytes[i]);
    expect(flipped.slice(0, 14).every((x) => x === 0)).toBe(true);
    const bits = flipped.map((x) => x.toString(2).replaceAll("0", "").length).reduce((x, y) => x + y);
    expect(bits).toBe(1);
  });

  it("jitter reorders and never goes back in time", () => {
    const w = wire({ delayNs: 1e6, jitterNs: 2e6 }, 3);
    for (let n = 0; n < 50; n++) w.send(n);
    w.from.flush();
    w.run(1e9);
    const list = w.arrivals();
    expect(list.map(({ n }) => n)).not.toEqual([...list.keys()]);
    expect(list.map(({ n }) => n).sort((x, y) => x - y)).toEqual([...list.keys()]);
    const times = list.map(({ atNs }) => atNs);
    expect(times).toEqual([...times].sort((x, y) => x - y));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...times)).toBeLessThanOrEqual(3e6);
  });

  it("reorder lets a frame skip the delay; without delay it is refused with a reason", () => {
    const w = wire({ delayNs: 1e6 });
    expect(w.link.set({ reorder: 1 })).toBeNull();
    w.send(1);
    w.from.flush();
    w.run(1e9);
    expect(w.arrivals()[0].atNs).toBe(0);
    expect(w.link.set({ delayNs: 0 })).toMatchObject({ error: "reorder without delay" });
    expect(w.link.settings(0).delayNs).toBe(1e6);
  });

  it("a smaller MTU swallows large frames", () => {
    const w = wire({ mtu: 1000 });
    w.send(1, 1015);
    w.send(2, 1014);
    w.from.flush();
    w.run(1e6);
    expect(w.arrivals().map(({ n }) => n)).toEqual([2]);
    expect(w.b.drops.counts[DropReason.pktTooBig]).toBe(1);
  });

  it("loses what is over the in-flight limit, and says so", () => {
    const w = wire({ delayNs: 1e9, limit: 10 });
    for (let n = 0; n < 15; n++) w.send(n);
    w.from.flush();
    expect(w.link.inFlight(0)).toBe(10);
    expect(w.link.stats(0)).toMatchObject({ lostFrames: 5, overLimitFrames: 5 });
    w.link.close();
    w.from.close();
    w.to.close();
    expect(w.arena.outstanding).toBe(0);
  });
});

describe("taps and repetition", () => {
  it("a tap sees every frame as it departs, also those that are lost", () => {
    const w = wire({ loss: 1, delayNs: 10 });
    const seen: unknown[] = [];
    const remove = w.link.addTap((direction, bytes, at, len, nowNs, lost) =>
      seen.push([direction, numberOf(bytes.slice(at, at + len)), nowNs, lost]),
    );
    w.run(500);
    w.send(3);
    w.from.flush();
    remove();
    w.send(4);
    w.from.flush();
    expect(seen).toEqual([[0, 3, 500, true]]);
  });

  it("a filter loses the frames it is meant for; a tap may remove itself", () => {
    const w = wire({});
    const seen: string[] = [];
    const removeFirst = w.link.addTap(() => {
      seen.push("first");
      removeFirst();
    });
    w.link.addTap((_d, _b, _at, _len, _ns, lost) => seen.push(`second ${lost}`));
    w.link.loseWhen((_direction, bytes, at, len) => numberOf(bytes.slice(at, at + len)) === 2);
    for (const n of [1, 2, 3]) w.send(n);
    w.from.flush();
    w.run(1e6);
    expect(w.arrivals().map(({ n }) => n)).toEqual([1, 3]);
    expect(seen).toEqual(["first", "second false", "second true", "second false"]);
    expect(w.b.drops.counts[DropReason.linkLoss]).toBe(1);
  });

  it("every frame is lost, in flight or arrived — and the same seed does the same", () => {
    const chance = fc.double({ min: 0, max: 0.5, noNaN: true });
    const settings = fc.record({ loss: chance, duplicate: chance, corrupt: chance, jitterNs: fc.nat(5e6) });
    fc.assert(
      fc.property(
        settings,
        fc.nat(1000),
        fc.integer({ min: 1, max: 60 }),
        fc.nat(10e6),
        (change, seed, count, stopNs) => {
          const once = () => {
            const w = wire({ ...change, delayNs: 2e6, rateBitsPerSecond: 1e7 }, seed);
            for (let n = 0; n < count; n++) w.send(n, 60 + n);
            w.from.flush();
            w.run(stopNs);
            const stats = w.link.stats(0);
            expect(stats.sentFrames + w.from.txRing.used).toBe(count);
            expect(stats.arrivedFrames + stats.lostFrames + w.link.inFlight(0)).toBe(
              stats.sentFrames + stats.duplicatedFrames,
            );
            const got = w.arrivals().map(({ n, atNs }) => `${n}@${atNs}`);
            for (const nic of [w.from, w.to]) nic.close();
            w.link.close();
            expect(w.arena.outstanding + w.a.pool.outstanding + w.b.pool.outstanding).toBe(0);
            return got;
          };
          expect(once()).toEqual(once());
        },
      ),
      { numRuns: 60 },
    );
  });
});
