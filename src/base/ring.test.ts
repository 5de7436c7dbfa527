import fc from "fast-check";
import { expect, it } from "vitest";
import { Ring } from "./ring.ts";

it("behaves like an array that refuses to grow past its capacity", () => {
  const step = fc.oneof({ weight: 6, arbitrary: fc.constantFrom("push", "push", "shift") }, fc.constant("clear"));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 80 }), (capacity, steps) => {
      const ring = new Ring<number>(capacity);
      const model: number[] = [];
      for (const [i, what] of steps.entries()) {
        if (what === "push") {
          expect(ring.push(i)).toBe(model.length < capacity);
          if (model.length < capacity) model.push(i);
        } else if (what === "shift") {
          expect(ring.shift()).toBe(model.shift());
        } else {
          ring.clear();
          model.length = 0;
        }
        expect(ring.length).toBe(model.length);
        expect(ring.peek()).toBe(model[0]);
        expect(model.map((_, j) => ring.at(j))).toEqual(model);
        expect([ring.at(-1), ring.at(model.length)]).toEqual([undefined, undefined]);
      }
    }),
  );
});

it("refuses a capacity that is none", () => {
  expect(() => new Ring(0)).toThrow("capacity");
  expect(() => new Ring(1.5)).toThrow("capacity");
});
