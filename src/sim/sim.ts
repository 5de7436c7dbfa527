/**
 * The driver of virtual time: always the next deadline, never a wait (laws 1 and 9).
 *
 * Time stands still while code runs, and jumps when nothing is left to do now. Between two jumps the microtasks that
 * were resumed are drained, so that an `async` handler has done all it can before time moves: a run is a pure function
 * of (seed, code).
 */
import { NEVER, type Ns, SECOND } from "../base/time.ts";

/** What is driven: a topology, or one host in a test. */
export interface Machine {
  /** When it next wants `advance`; NEVER if only outside input can make it act. */
  deadline(): Ns;
  /** Does everything due at `nowNs` and leaves its outputs behind. */
  advance(nowNs: Ns): void;
  /**
   * How often it has resumed asynchronous code (settled a promise, called back) so far. A machine that counts spares
   * the driver the drain after steps that resumed nothing; without the count every step is drained.
   */
  readonly resumptions?: number;
}

export interface SimOptions {
  /** Who waits for what, for the message of a deadlock. */
  readonly describeWaiters?: () => string;
  /**
   * Runs the host platform's macrotasks until none is due: installed by `node`, where handlers use foreign timers and
   * streams. Pure code drains microtasks only.
   */
  readonly drainMacrotasks?: () => Promise<void>;
  /** Called after every step, with the time of the step: conservation checks. */
  readonly afterStep?: (nowNs: Ns) => void;
  /** Added to the messages of failures, so that a run can be repeated. */
  readonly seed?: number;
}

/** The promise is pending and nothing will ever happen again. */
export class DeadlockError extends Error {
  override readonly name = "DeadlockError";
  readonly atNs: Ns;
  constructor(message: string, atNs: Ns) {
    super(message);
    this.atNs = atNs;
  }
}

/** Microtask turns in one drain. A deeper chain of awaits goes on at the next step: late, but the same every time. */
const DRAIN_TURNS = 64;
/** Drains before a run is called a deadlock. */
const LAST_DRAINS = 16;
/** Steps in a row that may fail to move time before the run is called a livelock. */
const STUCK_STEPS = 100_000;
/** How much virtual time one `run` may take unless told otherwise. */
const DEFAULT_LIMIT_NS: Ns = 24 * 3600 * SECOND;

export class Sim {
  /** Virtual now, in ns since the start of the simulation. */
  nowNs: Ns = 0;
  /** Steps taken so far. */
  steps = 0;
  private readonly machine: Machine;
  private readonly options: SimOptions;
  private stuckSteps = 0;
  private drainedResumptions = -1;

  constructor(machine: Machine, options: SimOptions = {}) {
    this.machine = machine;
    this.options = options;
  }

  /** Runs everything due up to and including `atNs`, and stops there. Asynchronous code is not resumed meanwhile. */
  runUntil(atNs: Ns): void {
    while (this.machine.deadline() <= atNs) this.step();
    if (atNs > this.nowNs) {
      this.nowNs = atNs;
      this.machine.advance(atNs);
    }
  }

  /**
   * Runs until nothing is left to do, at most to `limitNs`. True if it became idle; false if the limit came first.
   * Asynchronous code is not resumed meanwhile: see `becomeIdle`.
   */
  runUntilIdle(limitNs: Ns): boolean {
    for (let next = this.machine.deadline(); next !== NEVER; next = this.machine.deadline()) {
      if (next > limitNs) return false;
      this.step();
    }
    return true;
  }

  /** As `runUntilIdle`, resuming asynchronous code. */
  async becomeIdle(limitNs: Ns): Promise<boolean> {
    this.drainedResumptions = -1;
    for (;;) {
      await this.drain();
      if (this.machine.deadline() === NEVER) await this.drainToTheEnd();
      const next = this.machine.deadline();
      if (next === NEVER) return true;
      if (next > limitNs) return false;
      this.step();
    }
  }

  /**
   * Runs until `promise` settles, and resolves or rejects as it did. Throws `DeadlockError` when it is pending with
   * nothing left to do, and Error when virtual time passes `limitNs` (default 24 h from now).
   */
  async run<T>(promise: PromiseLike<T>, limitNs: Ns = this.nowNs + DEFAULT_LIMIT_NS): Promise<T> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    this.drainedResumptions = -1;
    for (;;) {
      await this.drain();
      if (settled) return promise;
      const next = this.machine.deadline();
      if (next === NEVER) {
        await this.drainToTheEnd();
        if (settled) return promise;
        if (this.machine.deadline() !== NEVER) continue;
        throw this.deadlock();
      }
      if (next > limitNs) throw new Error(this.explain(`still pending at the limit t=${formatTime(limitNs)}`));
      this.step();
    }
  }

  /** Lets time pass for `durationNs`, resuming asynchronous code: `await sim.sleep(SECOND)` in a test. */
  async sleep(durationNs: Ns): Promise<void> {
    const untilNs = this.nowNs + durationNs;
    this.drainedResumptions = -1;
    await this.drain();
    while (this.machine.deadline() <= untilNs) {
      this.step();
      await this.drain();
    }
    this.runUntil(untilNs);
    await this.drain();
  }

  /** One jump to the next deadline. */
  private step(): void {
    const next = this.machine.deadline();
    if (next > this.nowNs) {
      this.nowNs = next;
      this.stuckSteps = 0;
    } else if (++this.stuckSteps > STUCK_STEPS) {
      const where = `livelock at t=${formatTime(this.nowNs)}`;
      throw new Error(this.explain(`${where}: ${STUCK_STEPS} steps and time stands still`));
    }
    this.steps++;
    this.machine.advance(this.nowNs);
    this.options.afterStep?.(this.nowNs);
  }

  /** Lets resumed asynchronous code run until it waits again. */
  private async drain(): Promise<void> {
    const { drainMacrotasks } = this.options;
    for (;;) {
      const resumptions = this.machine.resumptions;
      if (resumptions !== undefined && resumptions === this.drainedResumptions) return;
      for (let turn = 0; turn < DRAIN_TURNS; turn++) await undefined;
      if (drainMacrotasks !== undefined) await drainMacrotasks();
      this.drainedResumptions = resumptions ?? -1;
      // Code that ran may have resumed other code at once; without a count one drain has to do.
      if (resumptions === undefined) return;
    }
  }

  /** The last word before a deadlock is called: deep chains of awaits, and promises the machine does not count. */
  private async drainToTheEnd(): Promise<void> {
    for (let i = 0; i < LAST_DRAINS; i++) {
      this.drainedResumptions = -1;
      await this.drain();
    }
  }

  private deadlock(): DeadlockError {
    const what = `deadlock at t=${formatTime(this.nowNs)}: nothing is left to do and the promise is still pending`;
    return new DeadlockError(this.explain(what), this.nowNs);
  }

  private explain(what: string): string {
    const waiters = this.options.describeWaiters?.() ?? "";
    const seed = this.options.seed === undefined ? "" : ` (seed ${this.options.seed})`;
    return `${what}${seed}${waiters === "" ? "" : `; waiting: ${waiters}`}`;
  }
}

/** "1.500000000s": seconds with every nanosecond. */
export function formatTime(ns: Ns): string {
  return `${(ns / SECOND).toFixed(9)}s`;
}
