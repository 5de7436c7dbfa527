/**
 * What work costs in virtual time, so that a stage lasts what its work takes instead of nothing.
 *
 * Figures are picoseconds per unit of `Cost`, so that a byte can cost a fraction of a nanosecond. They are floors
 * measured for JavaScript on one ~2.6 GHz core; `bench/` calibrates them. They scale stages, they decide no behaviour:
 * nothing may depend on a figure being exactly this.
 */
import { COST_KINDS, Cost } from "../base/time.ts";

/** Picoseconds per unit, indexed by `Cost`. */
export type CostModel = readonly number[];

const NANOSECOND_PS = 1000;

/** The default: one Linux-like machine. Each row names the measurement it was taken from. */
export const DEFAULT_COSTS: CostModel = table({
  /** One event-loop turn per batch of frames (setImmediate turn, 1,125 ns). */
  [Cost.irq]: 1125 * NANOSECOND_PS,
  /** Half of receiving and sending back a 64-byte frame through TAP (1.7 µs for both). */
  [Cost.rxFrame]: 850 * NANOSECOND_PS,
  /** The other half. */
  [Cost.txFrame]: 850 * NANOSECOND_PS,
  /** The cheapest real system call from JavaScript (getppid through a foreign-function call, 220 ns). */
  [Cost.syscall]: 220 * NANOSECOND_PS,
  /** Copying 1,500 bytes that are in the cache takes 32 ns. */
  [Cost.copyByte]: 21,
  /** From the wake-up to running: the lower end of the 10–20 µs that a sleeping reader needs. */
  [Cost.wakeup]: 10_000 * NANOSECOND_PS,
  /** A byte loop takes 90 ns for 64 bytes. */
  [Cost.parseByte]: 1400,
  /** One look-up by string (282 ns at 512 entries). */
  [Cost.route]: 282 * NANOSECOND_PS,
  /** Building a response from strings instead of sending a prebuilt one (231 − 138 ns). */
  [Cost.encode]: 93 * NANOSECOND_PS,
  /** One microtask (138 ns). */
  [Cost.goroutineSwitch]: 138 * NANOSECOND_PS,
});

/** Work takes no time: for tests that want round numbers from links and timers alone. */
export const FREE_COSTS: CostModel = new Array<number>(COST_KINDS).fill(0);

function table(rows: Readonly<Record<Cost, number>>): CostModel {
  return Array.from({ length: COST_KINDS }, (_, kind) => rows[kind as Cost]);
}
