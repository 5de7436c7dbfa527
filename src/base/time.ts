/**
 * Time, as every floor counts it: integer-valued nanoseconds since the server started.
 *
 * A double holds 2^53 ns = 104 days exactly. Nobody below the roof reads a clock (law 1): the driver that turns the
 * core sets `Clock.nowNs` and the core believes it.
 */

/** Nanoseconds since the server started (or a duration in nanoseconds, where the name says so). */
export type Ns = number;

export const MICROSECOND: Ns = 1e3;
export const MILLISECOND: Ns = 1e6;
export const SECOND: Ns = 1e9;

/** The deadline of something that waits for nothing. */
export const NEVER: Ns = Number.POSITIVE_INFINITY;

/** The kinds of work a host's CPU is charged for in virtual time; see `sim/cost-model.ts` for what each costs. */
export const Cost = {
  /** Taking one interrupt and scheduling NAPI. Unit: interrupts. */
  irq: 0,
  /** Receiving one frame in softirq, from descriptor to socket. Unit: frames. */
  rxFrame: 1,
  /** Building and queueing one frame. Unit: frames. */
  txFrame: 2,
  /** Entering and leaving the kernel. Unit: system calls. */
  syscall: 3,
  /** Copying between a process and the kernel. Unit: bytes. */
  copyByte: 4,
  /** Waking a sleeping process until it runs. Unit: wake-ups. */
  wakeup: 5,
  /** Parsing protocol bytes in a process. Unit: bytes. */
  parseByte: 6,
  /** Routing a request to its handler. Unit: requests. */
  route: 7,
  /** Serialising a response head. Unit: responses. */
  encode: 8,
  /** Switching from one goroutine to another. Unit: switches. */
  goroutineSwitch: 9,
} as const;
export type Cost = (typeof Cost)[keyof typeof Cost];
export const COST_KINDS = 10;

/**
 * One host's clock. The driver owns it; every floor of that host reads `nowNs`.
 *
 * Real drivers set `nowNs` once per batch and re-read the time in `tick()`; virtual drivers ignore `tick()` and move
 * `nowNs` forward in `charge()`, so that a stage in virtual time lasts what its work costs instead of nothing.
 */
export interface Clock {
  /** The present, in ns since the server started. Never goes back. */
  nowNs: Ns;
  /**
   * From when on this host's CPU takes new work. Virtual time: `nowNs`, which runs ahead of the event while the CPU is
   * busy, so that DMA fills rings meanwhile. Real time: 0, because there the lateness of the thread that turns the core
   * is not the host's: an interrupt is served before the next frame lands, however late both come.
   */
  readonly freeNs: Ns;
  /**
   * A context switch worth a fresh reading (poll start, softirq end, process enter and leave, handler start and end).
   */
  tick(): void;
  /** Charge `units` of `kind` to this host's CPU. A no-op in real time, where work takes what it takes. */
  charge(kind: Cost, units: number): void;
}

/** A clock that stands still until somebody sets `nowNs`: for unit tests and as the base of drivers. */
export class ManualClock implements Clock {
  nowNs: Ns;
  constructor(nowNs: Ns = 0) {
    this.nowNs = nowNs;
  }
  get freeNs(): Ns {
    return this.nowNs;
  }

  tick(): void {}
  charge(_kind: Cost, _units: number): void {}
}
