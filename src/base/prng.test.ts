import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Prng } from "./prng.ts";

describe("Prng", () => {
  it("is a function of its seed", () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const a = new Prng(seed);
        const b = new Prng(seed);
        for (let i = 0; i < 20; i++) expect(a.u32()).toBe(b.u32());
      }),
    );
    expect(new Prng(1).u32()).not.toBe(new Prng(2).u32());
  });

  it("stays in range", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 0x100000000 }), (seed, n) => {
        const prng = new Prng(seed);
        for (let i = 0; i < 20; i++) {
          const x = prng.below(n);
          expect(Number.isInteger(x) && x >= 0 && x < n).toBe(true);
          const f = prng.float();
          expect(f >= 0 && f < 1).toBe(true);
        }
      }),
    );
    expect(() => new Prng(1).below(0)).toThrow("below");
  });

  it("is uniform over dice and bits (6 standard deviations)", () => {
    const prng = new Prng(20);
    const dice = new Array<number>(6).fill(0);
    const bits = new Array<number>(32).fill(0);
    const rolls = 60000;
    for (let i = 0; i < rolls; i++) {
      dice[prng.below(6)]++;
      const word = prng.u32();
      for (let bit = 0; bit < 32; bit++) bits[bit] += (word >>> bit) & 1;
    }
    for (const n of dice) expect(Math.abs(n - rolls / 6)).toBeLessThan(6 * Math.sqrt((rolls * 5) / 36));
    for (const n of bits) expect(Math.abs(n - rolls / 2)).toBeLessThan(6 * Math.sqrt(rolls / 4));
  });

  it("draws the same number whatever the probability", () => {
    const a = new Prng(3);
    const b = new Prng(3);
    expect(a.chance(0)).toBe(false);
    expect(b.chance(1)).toBe(true);
    expect(a.u32()).toBe(b.u32());
  });

  it("forks independent generators", () => {
    const parent = new Prng(4);
    const child = parent.fork();
    const sibling = parent.fork();
    const firsts = new Set([parent.u32(), child.u32(), sibling.u32()]);
    expect(firsts.size).toBe(3);
  });

  it("fills every byte of odd lengths", () => {
    const prng = new Prng(5);
    const seen = new Uint8Array(7);
    for (let i = 0; i < 50; i++) {
      const bytes = new Uint8Array(7);
      prng.fill(bytes);
      for (let j = 0; j < 7; j++) seen[j] |= bytes[j];
    }
    expect([...seen]).toEqual(new Array(7).fill(255));
  });
});
