import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DropReason } from "../base/drop-reasons.ts";
import { NO_TRACE, type Tracepoints } from "../base/tracepoints.ts";
import { Arena, FRAME_SLOT, PAGE_SLOT, SMALL_SLOT } from "./arena.ts";
import { DropCounters } from "./drop.ts";
import { HEADROOM, type SkBuff, SkBuffPool } from "./skb.ts";

const LIMITS = { smallSlots: 4, frameSlots: 4, pageSlots: 2 };

describe("Arena", () => {
  it("hands out slots that do not overlap, never address 0, until it is empty", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: PAGE_SLOT + 10 }), { maxLength: 20 }), (sizes) => {
        const arena = new Arena(LIMITS);
        const held: { at: number; size: number }[] = [];
        for (const bytes of sizes) {
          const at = arena.alloc(bytes);
          if (at === 0) continue;
          const size = arena.slotSize(at);
          expect(size).toBeGreaterThanOrEqual(bytes);
          expect(at + size).toBeLessThanOrEqual(arena.bytes.length);
          for (const other of held) expect(at + size <= other.at || other.at + other.size <= at).toBe(true);
          held.push({ at, size });
        }
        expect(arena.outstanding).toBe(held.length);
        for (const { at } of held) arena.release(at);
        expect(arena.outstanding).toBe(0);
      }),
    );
  });

  it("falls back to a larger slot, then says 0", () => {
    const arena = new Arena(LIMITS);
    const got = Array.from({ length: 11 }, () => arena.alloc(100));
    expect(got.slice(0, 10).map((at) => arena.slotSize(at))).toEqual([
      ...new Array(4).fill(SMALL_SLOT),
      ...new Array(4).fill(FRAME_SLOT),
      ...new Array(2).fill(PAGE_SLOT),
    ]);
    expect(got[10]).toBe(0);
  });

  it("refuses more than a page without losing a slot", () => {
    const arena = new Arena(LIMITS);
    expect(arena.alloc(PAGE_SLOT + 1)).toBe(0);
    expect(arena.outstanding).toBe(0);
  });

  it("catches a double release and an address that is no slot's start", () => {
    const arena = new Arena(LIMITS);
    const at = arena.alloc(10);
    arena.alloc(10);
    arena.release(at);
    expect(() => arena.release(at)).toThrow("released twice");
    expect(() => arena.release(at + 1)).toThrow("released twice, or never taken");
  });

  it("says when it is no longer roomy", () => {
    const arena = new Arena(LIMITS);
    expect(arena.isRoomy(FRAME_SLOT)).toBe(true);
    for (let i = 0; i < 3; i++) arena.alloc(FRAME_SLOT);
    expect(arena.isRoomy(FRAME_SLOT)).toBe(false);
    expect(arena.isRoomy(SMALL_SLOT)).toBe(true);
  });

  it("lives in shared memory if asked", () => {
    expect(new Arena(LIMITS, true).buffer).toBeInstanceOf(SharedArrayBuffer);
  });
});

describe("SkBuffPool", () => {
  it("conserves: outstanding skbs and slots equal what is held, through any history", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("alloc" as const), n: fc.nat(3000) }),
      fc.record({ do: fc.constantFrom("release" as const, "keep-slot" as const), n: fc.nat(9) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pool = new SkBuffPool(new Arena(LIMITS), 6);
        const held: SkBuff[] = [];
        const slots: number[] = [];
        for (const s of steps) {
          if (s.do === "alloc") {
            const skb = pool.alloc(s.n);
            if (skb !== null) {
              expect(held).not.toContain(skb);
              held.push(skb);
            }
          } else if (held.length > 0) {
            const [skb] = held.splice(s.n % held.length, 1);
            if (s.do === "release") pool.release(skb);
            else {
              slots.push(skb.head);
              pool.releaseKeepingSlot(skb);
            }
          }
          expect(pool.outstanding).toBe(held.length);
          expect(pool.outstanding).toBeLessThanOrEqual(6);
          expect(pool.arena.outstanding).toBe(held.length + slots.length);
        }
      }),
    );
  });

  it("gives clean skbs again", () => {
    const pool = new SkBuffPool(new Arena(LIMITS));
    const used = pool.alloc(100);
    const fresh = { ...new SkBuffPool(new Arena(LIMITS)).alloc(100), arena: null };
    if (used === null) throw new Error("no skb");
    Object.assign(used, {
      mac: 9,
      net: 9,
      transport: 9,
      id: 9,
      etherType: 9,
      packetType: 3,
      summed: 3,
      ifindex: 9,
      hash: 9,
    });
    Object.assign(used, {
      priority: 9,
      arrivedNs: 9,
      polledNs: 9,
      enqueuedNs: 9,
      postedNs: 9,
      seq: 9,
      seqEnd: 9,
      scratch: 9,
    });
    pool.release(used);
    expect({ ...pool.alloc(100), arena: null }).toEqual(fresh);
  });

  it("catches a double free", () => {
    const pool = new SkBuffPool(new Arena(LIMITS));
    const skb = pool.alloc(100);
    if (skb === null) throw new Error("no skb");
    pool.releaseKeepingSlot(skb);
    expect(() => pool.releaseKeepingSlot(skb)).toThrow("freed twice");
  });

  it("keeps headers and payload inside the slot", () => {
    const pool = new SkBuffPool(new Arena(LIMITS));
    const skb = pool.alloc(100);
    if (skb === null) throw new Error("no skb");
    const at = skb.put(100);
    expect(at).toBe(skb.data);
    expect(skb.len).toBe(100);
    skb.push(HEADROOM);
    expect(skb.data).toBe(skb.head);
    expect(() => skb.push(1)).toThrow("under the head");
    skb.data = skb.head + HEADROOM;
    skb.pull(40);
    skb.trim(10);
    expect(skb.len).toBe(10);
    expect(() => skb.trim(11)).toThrow("more than there is");
    expect(() => skb.pull(11)).toThrow("past the tail");
    expect(() => skb.put(PAGE_SLOT)).toThrow("over the end");
  });
});

describe("DropCounters", () => {
  it("counts, tells the trace, frees", () => {
    const told: number[][] = [];
    const trace: Tracepoints = { ...NO_TRACE, drop: (reason, id) => told.push([reason, id]) };
    const pool = new SkBuffPool(new Arena(LIMITS));
    const drops = new DropCounters(pool, trace);
    const take = (id: number) => {
      const skb = pool.alloc(10);
      if (skb === null) throw new Error("no skb");
      skb.id = id;
      return skb;
    };
    drops.drop(take(7), DropReason.noSocket);
    drops.drop(take(0), DropReason.noSocket);
    drops.consume(take(8));
    drops.count(DropReason.fullRing);
    expect(told).toEqual([[DropReason.noSocket, 7]]);
    expect(drops.counts[DropReason.noSocket]).toBe(2);
    expect(drops.counts[DropReason.consumed]).toBe(1);
    expect(drops.total).toBe(3);
    expect(pool.outstanding).toBe(0);
    expect(pool.arena.outstanding).toBe(0);
  });
});
