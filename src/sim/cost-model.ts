/**
 * What work costs in virtual time, so that a stage lasts what its work takes instead of nothing.
 *
 * Figures are picoseconds per unit of `Cost`, so that a byte can cost a fraction of a nanosecond. They were calibrated
 * once and written down: `npm run bench -- calibrate` on 2026-11-20, AMD EPYC (family 26, 2.6 GHz, 2 virtual cores),
 * Node v20.20.2; the smallest of several runs, rounded. docs/cost-model.md says what each row means, how it was
 * measured and what the model leaves out. They scale stages, they decide no behaviour: nothing may depend on a figure
 * being exactly this.
 */
import { COST_KINDS, Cost } from "../base/time.ts";

/** Picoseconds per unit, indexed by `Cost`. */
export type CostModel = readonly number[];

const NANOSECOND_PS = 1000;

/** The default: our own code on one core. */
export const DEFAULT_COSTS: CostModel = table({
  /** The card raises it, NAPI is scheduled, the softirq is entered and left. */
  [Cost.irq]: 100 * NANOSECOND_PS,
  /** A segment of 36 bytes from the descriptor to the receive queue. */
  [Cost.rxFrame]: 800 * NANOSECOND_PS,
  /** Half of sending one: the transport charges it for building, netdev for queueing and posting. */
  [Cost.txFrame]: 400 * NANOSECOND_PS,
  /** A call through the rings without work of its own (getsockopt). */
  [Cost.syscall]: 250 * NANOSECOND_PS,
  /** Copying 1,460 bytes that are in the cache, per byte. */
  [Cost.copyByte]: 60,
  /** From the doorbell to the first instruction of the process: two threads, the process asleep. */
  [Cost.wakeup]: 5000 * NANOSECOND_PS,
  /** A browser's request through the HTTP/1.1 parser, per byte. */
  [Cost.parseByte]: 3800,
  /** Method and path to a handler. */
  [Cost.route]: 90 * NANOSECOND_PS,
  /** A head with five fields, into the write buffer. */
  [Cost.encode]: 900 * NANOSECOND_PS,
  /** One step of a goroutine. */
  [Cost.goroutineSwitch]: 15 * NANOSECOND_PS,
});

/** Work takes no time: for tests that want round numbers from links and timers alone. */
export const FREE_COSTS: CostModel = new Array<number>(COST_KINDS).fill(0);

function table(rows: Readonly<Record<Cost, number>>): CostModel {
  return Array.from({ length: COST_KINDS }, (_, kind) => rows[kind as Cost]);
}
