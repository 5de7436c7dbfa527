import fc from "fast-check";
import { expect, it } from "vitest";
import { seqAdd, seqDiff, seqGeq, seqGt, seqLeq, seqLt } from "./seq.ts";

const seq = fc.nat(0xffffffff);
const step = fc.integer({ min: 1, max: 0x7fffffff });

it("orders numbers less than half the circle apart, also across the wrap", () => {
  fc.assert(
    fc.property(seq, step, (a, n) => {
      const b = seqAdd(a, n);
      expect([seqLt(a, b), seqLeq(a, b), seqGt(a, b), seqGeq(a, b)]).toEqual([true, true, false, false]);
      expect([seqLt(b, a), seqLeq(b, a), seqGt(b, a), seqGeq(b, a)]).toEqual([false, false, true, true]);
      expect(seqDiff(b, a)).toBe(n);
      expect(seqDiff(a, b)).toBe(-n);
    }),
  );
});

it("takes signed and unsigned numbers for the same", () => {
  fc.assert(
    fc.property(seq, seq, (a, b) => {
      expect(seqLt(a | 0, b)).toBe(seqLt(a, b | 0));
      expect(seqLeq(a, a | 0)).toBe(true);
      expect(seqGt(a, a | 0)).toBe(false);
    }),
  );
});

it("wraps", () => {
  expect(seqAdd(0xffffffff, 1)).toBe(0);
  expect(seqAdd(0, -1)).toBe(-1);
  expect(seqAdd(0x7fffffff, 1)).toBe(-0x80000000);
  expect(seqLt(0xfffffff0, 0x10)).toBe(true);
});
