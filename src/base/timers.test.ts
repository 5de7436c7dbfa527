import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NEVER } from "./time.ts";
import { Timer, Timers } from "./timers.ts";

/** The specification: a list, searched for the earliest deadline, ties by order of arming. */
class SortedList {
  private readonly armed = new Map<number, { atNs: number; order: number }>();
  private orders = 0;

  arm(id: number, atNs: number): void {
    this.armed.set(id, { atNs, order: ++this.orders });
  }
  cancel(id: number): void {
    this.armed.delete(id);
  }
  first(): number | undefined {
    const ids = [...this.armed.keys()];
    ids.sort((a, b) => this.at(a) - this.at(b) || (this.armed.get(a)?.order ?? 0) - (this.armed.get(b)?.order ?? 0));
    return ids[0];
  }
  at(id: number): number {
    return this.armed.get(id)?.atNs ?? NEVER;
  }
  get size(): number {
    return this.armed.size;
  }
}

const TIMERS = 8;
const id = fc.nat(TIMERS - 1);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("arm" as const), id, at: fc.nat(6) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("cancel" as const), id, at: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("forget" as const), id, at: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("fire" as const), id, at: fc.nat(8) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("look" as const), id, at: fc.constant(0) }) },
);

describe("Timers", () => {
  it("fires like a sorted list: earliest first, ties in order of arming, moved and cancelled ones rightly", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const timers = new Timers();
        const model = new SortedList();
        const fired: number[] = [];
        const all = Array.from({ length: TIMERS }, (_, i) => new Timer(() => fired.push(i)));
        for (const s of steps) {
          if (s.do === "arm") {
            timers.arm(all[s.id], s.at);
            model.arm(s.id, s.at);
          } else if (s.do === "cancel") {
            timers.cancel(all[s.id]);
            model.cancel(s.id);
          } else if (s.do === "forget") {
            timers.forget(all[s.id]);
            expect(all[s.id].heapIndex).toBe(-1);
            model.cancel(s.id);
          } else if (s.do === "fire") {
            const due = model.first();
            const expected = due !== undefined && model.at(due) <= s.at ? due : undefined;
            expect(timers.fireOne(s.at)).toBe(expected !== undefined);
            if (expected !== undefined) {
              model.cancel(expected);
              expect(fired.at(-1)).toBe(expected);
            }
          } else {
            const next = model.first();
            expect(timers.deadline()).toBe(next === undefined ? NEVER : model.at(next));
          }
          expect(timers.armedCount()).toBe(model.size);
          for (const [i, timer] of all.entries()) expect(timer.deadlineNs).toBe(model.at(i));
        }
        // Drain: what is left fires in the model's order.
        for (let next = model.first(); next !== undefined; next = model.first()) {
          expect(timers.fireOne(NEVER - 1)).toBe(true);
          expect(fired.at(-1)).toBe(next);
          model.cancel(next);
        }
        expect(timers.fireOne(Number.MAX_VALUE)).toBe(false);
        expect(timers.deadline()).toBe(NEVER);
      }),
      { numRuns: 500 },
    );
  });

  it("hands a timer's owner to a function that many share", () => {
    const timers = new Timers();
    const fired: unknown[] = [];
    const fire = (_nowNs: number, owner: unknown) => fired.push(owner);
    for (const [at, owner] of ["a", "b", "c"].entries()) timers.arm(new Timer(fire, owner), 10 - at);
    while (timers.fireOne(10));
    expect(fired).toEqual(["c", "b", "a"]);
  });

  it("puts a timer that is armed again for the same time behind the others of that time", () => {
    const timers = new Timers();
    const fired: string[] = [];
    const a = new Timer(() => fired.push("a"));
    const b = new Timer(() => fired.push("b"));
    for (const timer of [a, b, a]) timers.arm(timer, 5);
    while (timers.fireOne(5));
    expect(fired).toEqual(["b", "a"]);
  });

  it("lets a timer re-arm itself and others from its own firing", () => {
    const timers = new Timers();
    const log: string[] = [];
    const other = new Timer((now) => log.push(`other@${now}`));
    const self: Timer = new Timer((now) => {
      log.push(`self@${now}`);
      expect(self.armed).toBe(false);
      if (now < 30) timers.arm(self, now + 10);
      if (now === 10) timers.arm(other, 25);
    });
    timers.arm(self, 10);
    for (let now = timers.deadline(); now !== NEVER; now = timers.deadline()) timers.fireOne(now);
    expect(log).toEqual(["self@10", "self@20", "other@25", "self@30"]);
  });

  it("says when a timer is idle: fired and not armed again, or cancelled and out of the heap", () => {
    const timers = new Timers();
    const idle: unknown[] = [];
    const note = (timer: Timer) => idle.push(timer.owner);
    let again = 1;
    const rearmed: Timer = new Timer(() => again-- > 0 && timers.arm(rearmed, 20), "rearmed", note);
    const cancelled = new Timer(() => {}, "cancelled", note);
    const forgotten = new Timer(() => {}, "forgotten", note);
    for (const [i, timer] of [rearmed, cancelled, forgotten].entries()) timers.arm(timer, 10 + i);
    timers.cancel(cancelled);
    timers.forget(forgotten);
    expect(timers.fireOne(15)).toBe(true);
    expect(idle).toEqual([]);
    expect(timers.deadline()).toBe(20);
    expect(idle).toEqual(["cancelled"]);
    expect(timers.fireOne(20)).toBe(true);
    expect(idle).toEqual(["cancelled", "rearmed"]);
  });

  it("holds one heap entry however often a deadline moves later", () => {
    const timers = new Timers();
    let fired = 0;
    const timer = new Timer(() => fired++);
    for (let i = 0; i < 1000; i++) timers.arm(timer, 100 + i);
    expect(timers.armedCount()).toBe(1);
    expect(timers.deadline()).toBe(1099);
    expect(timers.fireOne(1098)).toBe(false);
    expect(timers.fireOne(1099)).toBe(true);
    expect(timers.fireOne(2000)).toBe(false);
    expect(fired).toBe(1);
  });
});
