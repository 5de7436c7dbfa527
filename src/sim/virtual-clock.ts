/**
 * The clock of one host (or one of its CPUs) in virtual time: work moves it forward, the simulation sets it.
 */
import { assert } from "../base/assert.ts";
import type { Clock, Cost, Ns } from "../base/time.ts";
import { type CostModel, DEFAULT_COSTS } from "./cost-model.ts";

const NANOSECOND_PS = 1000;

export class VirtualClock implements Clock {
  nowNs: Ns;
  /** Nanoseconds of work charged so far: this CPU's busy time. */
  busyNs: Ns = 0;
  private readonly costs: CostModel;
  /** Charged and not yet a whole nanosecond. */
  private remainderPs = 0;

  constructor(costs: CostModel = DEFAULT_COSTS, nowNs: Ns = 0) {
    this.costs = costs;
    this.nowNs = nowNs;
  }

  /** The CPU is busy up to `nowNs`. */
  get freeNs(): Ns {
    return this.nowNs;
  }

  /** Nothing: virtual time does not pass by being looked at. */
  tick(): void {}

  /** Moves `nowNs` forward by what the work costs. `nowNs` stays whole: fractions go to the next charge. */
  charge(kind: Cost, units: number): void {
    const ps = this.remainderPs + this.costs[kind] * units;
    const ns = Math.floor(ps / NANOSECOND_PS);
    this.remainderPs = ps - ns * NANOSECOND_PS;
    this.spend(ns);
  }

  /** Holds this CPU for `durationNs`: what a handler that computes does (`burn`). */
  spend(durationNs: Ns): void {
    assert(durationNs >= 0, "work cannot take negative time");
    this.nowNs += durationNs;
    this.busyNs += durationNs;
  }

  /**
   * The simulation reached `atNs`. A CPU that is still busy with charged work is ahead of the simulation and stays
   * where it is: time never goes back, and what comes next starts when the CPU is free.
   */
  advanceTo(atNs: Ns): void {
    if (atNs > this.nowNs) this.nowNs = atNs;
  }
}
