/**
 * Real time: nanoseconds since an origin that all threads of a server share.
 */
import type { Clock, Cost, Ns } from "../base/time.ts";

/** A `Clock` over CLOCK_MONOTONIC. `tick` reads it; between ticks everybody sees the same moment. */
export class RealClock implements Clock {
  nowNs: Ns;
  readonly freeNs: Ns = 0;
  /** `process.hrtime.bigint()` at time 0. Pass it to other threads. */
  readonly originNs: bigint;

  constructor(originNs: bigint = process.hrtime.bigint()) {
    this.originNs = originNs;
    this.nowNs = Number(process.hrtime.bigint() - originNs);
  }

  tick(): void {
    this.nowNs = Number(process.hrtime.bigint() - this.originNs);
  }

  /** Work takes what it takes. */
  charge(_kind: Cost, _units: number): void {}
}

/** Holds the CPU of this thread for so long. */
export function spin(durationNs: Ns): void {
  const until = process.hrtime.bigint() + BigInt(Math.round(durationNs));
  while (process.hrtime.bigint() < until) {}
}
