import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Prng } from "../base/prng.ts";
import { Cost, MICROSECOND, MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { Timer, Timers } from "../base/timers.ts";
import { DEFAULT_COSTS, FREE_COSTS } from "./cost-model.ts";
import { DeadlockError, type Machine, Sim } from "./sim.ts";
import { VirtualClock } from "./virtual-clock.ts";

/** Timers as a machine, with promises that settle at a time: the smallest thing that is worth driving. */
class Alarms implements Machine {
  readonly timers = new Timers();
  resumptions = 0;
  nowNs: Ns = 0;

  deadline(): Ns {
    return this.timers.deadline();
  }

  advance(nowNs: Ns): void {
    this.nowNs = nowNs;
    while (this.timers.fireOne(nowNs));
  }

  after(durationNs: Ns): Promise<void> {
    return new Promise((resolve) => {
      const timer = new Timer(() => {
        this.resumptions++;
        resolve();
      });
      this.timers.arm(timer, this.nowNs + durationNs);
    });
  }
}

/** The same without the count of resumptions. */
function uncounted(alarms: Alarms): Machine {
  return { deadline: () => alarms.deadline(), advance: (nowNs) => alarms.advance(nowNs) };
}

describe("Sim", () => {
  it.each([["counted"], ["uncounted"]])(
    "jumps from deadline to deadline until the promise settles (%s)",
    async (how) => {
      const alarms = new Alarms();
      const sim = new Sim(how === "counted" ? alarms : uncounted(alarms));
      const log: string[] = [];
      const main = async (): Promise<string> => {
        await alarms.after(3 * SECOND);
        log.push(`a ${alarms.nowNs}`);
        await Promise.all([alarms.after(SECOND), alarms.after(2 * SECOND)]);
        log.push(`b ${alarms.nowNs}`);
        return "done";
      };
      expect(await sim.run(main())).toBe("done");
      expect(log).toEqual([`a ${3 * SECOND}`, `b ${5 * SECOND}`]);
      expect(sim.nowNs).toBe(5 * SECOND);
    },
  );

  it("lets resumed code finish before time moves, however it awaits", async () => {
    const alarms = new Alarms();
    const sim = new Sim(alarms);
    const seen: Ns[] = [];
    const deep = async (levels: number): Promise<void> => {
      if (levels > 0) await deep(levels - 1);
    };
    const main = async (): Promise<void> => {
      for (let i = 0; i < 5; i++) {
        await alarms.after(10);
        await deep(10);
        seen.push(alarms.nowNs);
      }
    };
    // A rival alarm every nanosecond would show any step taken too early.
    const rival = new Timer((now) => now < 100 && alarms.timers.arm(rival, now + 1));
    alarms.timers.arm(rival, 1);
    await sim.run(main());
    expect(seen).toEqual([10, 20, 30, 40, 50]);
  });

  it("passes on what the promise rejects with", async () => {
    const alarms = new Alarms();
    const main = async (): Promise<void> => {
      await alarms.after(1);
      throw new TypeError("no");
    };
    await expect(new Sim(alarms).run(main())).rejects.toThrow(new TypeError("no"));
  });

  it("names a deadlock, when, who waits, and the seed", async () => {
    const alarms = new Alarms();
    const sim = new Sim(alarms, { describeWaiters: () => "goroutine 7 on read fd 5", seed: 42 });
    const never = alarms.after(1500 * MILLISECOND).then(() => new Promise(() => {}));
    const error = await sim.run(never).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DeadlockError);
    expect((error as DeadlockError).atNs).toBe(1500 * MILLISECOND);
    expect((error as DeadlockError).message).toBe(
      "deadlock at t=1.500000000s: nothing is left to do and the promise is still pending (seed 42); waiting: goroutine 7 on read fd 5",
    );
  });

  it("stops at a limit while something ticks for ever", async () => {
    const alarms = new Alarms();
    const tick = new Timer((now) => alarms.timers.arm(tick, now + SECOND));
    alarms.timers.arm(tick, 0);
    await expect(new Sim(alarms).run(new Promise(() => {}), 10 * SECOND)).rejects.toThrow(
      "still pending at the limit t=10.000000000s",
    );
  });

  it("calls a machine that stands still a livelock", async () => {
    const stuck: Machine = { deadline: () => 5, advance: () => {}, resumptions: 0 };
    await expect(new Sim(stuck).run(new Promise(() => {}))).rejects.toThrow("livelock at t=0.000000005s");
  });

  it("runs to a time, and to idleness, without promises", () => {
    const alarms = new Alarms();
    const fired: Ns[] = [];
    const arm = (at: Ns): void => alarms.timers.arm(new Timer((now) => fired.push(now)), at);
    for (const at of [30, 10, 20, 50]) arm(at);
    const sim = new Sim(alarms);
    sim.runUntil(20);
    expect([fired, sim.nowNs]).toEqual([[10, 20], 20]);
    sim.runUntil(25);
    expect([alarms.nowNs, sim.nowNs]).toEqual([25, 25]);
    expect(sim.runUntilIdle(40)).toBe(false);
    expect(fired).toEqual([10, 20, 30]);
    expect(sim.runUntilIdle(1000)).toBe(true);
    expect([fired, sim.nowNs]).toEqual([[10, 20, 30, 50], 50]);
  });

  it("sleeps, resuming what comes due", async () => {
    const alarms = new Alarms();
    const sim = new Sim(alarms);
    const log: Ns[] = [];
    void (async () => {
      for (;;) {
        await alarms.after(10);
        log.push(alarms.nowNs);
      }
    })();
    await sim.sleep(35);
    expect([log, sim.nowNs]).toEqual([[10, 20, 30], 35]);
    await sim.sleep(5);
    expect(log).toEqual([10, 20, 30, 40]);
  });

  it("drains the platform's macrotasks only when something was resumed", async () => {
    const alarms = new Alarms();
    let drains = 0;
    const sim = new Sim(alarms, {
      drainMacrotasks: async () => {
        drains++;
      },
    });
    for (let at = 1; at <= 100; at++) alarms.timers.arm(new Timer(() => {}), at);
    await sim.run(alarms.after(50));
    // Once at the start, once after the resumption.
    expect(drains).toBe(2);
  });

  it("calls the checkers after every step", async () => {
    const alarms = new Alarms();
    const times: Ns[] = [];
    const sim = new Sim(alarms, { afterStep: (nowNs) => times.push(nowNs) });
    alarms.timers.arm(new Timer(() => {}), 3);
    await sim.run(alarms.after(7));
    expect(times).toEqual([3, 7]);
  });

  it("is a function of its seed", async () => {
    const story = async (seed: number): Promise<string> => {
      const alarms = new Alarms();
      const sim = new Sim(alarms);
      const prng = new Prng(seed);
      const log: string[] = [];
      const worker = async (id: number): Promise<void> => {
        const own = prng.fork();
        for (let i = 0; i < 20; i++) {
          await alarms.after(own.below(5));
          log.push(`${id}@${alarms.nowNs}`);
        }
      };
      await sim.run(Promise.all([1, 2, 3].map(worker)));
      return log.join(" ");
    };
    expect(await story(1)).toBe(await story(1));
    expect(await story(1)).not.toBe(await story(2));
  });
});

describe("VirtualClock", () => {
  it("stays whole and loses nothing, however work is cut into charges", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(3000), { maxLength: 50 }), (pieces) => {
        const clock = new VirtualClock();
        for (const bytes of pieces) {
          const before = clock.nowNs;
          clock.charge(Cost.copyByte, bytes);
          expect(Number.isInteger(clock.nowNs) && clock.nowNs >= before).toBe(true);
        }
        const bytes = pieces.reduce((a, b) => a + b, 0);
        expect(clock.nowNs).toBe(Math.floor((bytes * DEFAULT_COSTS[Cost.copyByte]) / 1000));
        expect(clock.busyNs).toBe(clock.nowNs);
      }),
    );
  });

  it("never goes back: a busy CPU is ahead of the simulation", () => {
    const clock = new VirtualClock();
    clock.spend(50 * MICROSECOND);
    clock.advanceTo(20 * MICROSECOND);
    expect(clock.nowNs).toBe(50 * MICROSECOND);
    clock.advanceTo(70 * MICROSECOND);
    expect(clock.nowNs).toBe(70 * MICROSECOND);
    clock.tick();
    expect(clock.nowNs).toBe(70 * MICROSECOND);
    expect(clock.busyNs).toBe(50 * MICROSECOND);
    expect(() => clock.spend(-1)).toThrow("negative");
  });

  it("has a price for every kind of work, and a model where all is free", () => {
    for (const kind of Object.values(Cost)) expect(DEFAULT_COSTS[kind]).toBeGreaterThan(0);
    const clock = new VirtualClock(FREE_COSTS, 9);
    for (const kind of Object.values(Cost)) clock.charge(kind, 1000);
    expect(clock.nowNs).toBe(9);
  });
});
