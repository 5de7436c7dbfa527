import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NEVER } from "../base/time.ts";
import { Deadlines } from "./deadlines.ts";

const command = fc.oneof(
  fc.record({ id: fc.nat(200), atNs: fc.oneof({ weight: 5, arbitrary: fc.nat(1000) }, fc.constant(NEVER)) }),
  fc.record({ nowNs: fc.nat(1000) }),
);

describe("deadlines", () => {
  it("are what a map of them would be: earliest first, then the lowest number", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 300 }), (commands) => {
        const deadlines = new Deadlines();
        const model = new Map<number, number>();
        const first = () => [...model].sort(([a, x], [b, y]) => x - y || a - b)[0] ?? [-1, NEVER];
        for (const c of commands) {
          if ("nowNs" in c) {
            for (;;) {
              const [id, atNs] = first();
              const due = atNs <= c.nowNs;
              expect(deadlines.takeDue(c.nowNs)).toBe(due ? id : -1);
              if (!due) break;
              model.delete(id);
            }
          } else {
            deadlines.set(c.id, c.atNs);
            if (c.atNs === NEVER) model.delete(c.id);
            else model.set(c.id, c.atNs);
          }
          expect(deadlines.next()).toBe(first()[1]);
          expect(deadlines.count()).toBe(model.size);
        }
        for (let id = 0; id <= 250; id++) expect(deadlines.of(id)).toBe(model.get(id) ?? NEVER);
      }),
    );
  });

  it("never comes up when nothing is set", () => {
    const deadlines = new Deadlines();
    expect(deadlines.takeDue(NEVER)).toBe(-1);
    deadlines.set(3, 5);
    deadlines.set(3, NEVER);
    expect([deadlines.next(), deadlines.takeDue(10)]).toEqual([NEVER, -1]);
  });
});
