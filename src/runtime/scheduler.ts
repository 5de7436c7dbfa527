/**
 * The scheduler of one process: a run queue of goroutine records, each with a step that runs until it would block.
 *
 * A goroutine costs one pooled record (law 3). `ready` on a running goroutine is remembered, so that a wake-up between
 * the test and the park is never lost; a step must therefore accept being run without cause and look again.
 */
import { assert } from "../base/assert.ts";
import { type Clock, Cost, type Ns } from "../base/time.ts";
import { type Timer, Timers } from "../base/timers.ts";
import type { Goroutine, GoroutineState, Step } from "./port.ts";

/** Dead records kept to be used again. */
const POOL_RECORDS = 1024;
/** Steps of one `runBatch`, after which the kernel and other processes get their turn. */
export const SLICE_STEPS = 1024;

/** A goroutine as the scheduler knows it. */
export class GoroutineRecord implements Goroutine {
  id = 0;
  name = "";
  state: GoroutineState = "dead";
  sinceNs: Ns = 0;
  requestId = 0;
  /** @internal */
  step: Step = NO_STEP;
  /** @internal what it waits for, and of which descriptor if that is ≥ 0. */
  waitsFor = "";
  /** @internal */
  waitFd = -1;
  /** @internal `ready` came while it was running. */
  notified = false;
  /** @internal next in the run queue or in the pool. */
  next: GoroutineRecord | null = null;
  /** @internal place in the table of the living. */
  index = -1;

  get parkedOn(): string {
    return this.waitFd < 0 ? this.waitsFor : `${this.waitsFor} fd ${this.waitFd}`;
  }

  set parkedOn(on: string) {
    this.waitsFor = on;
    this.waitFd = -1;
  }
}

function NO_STEP(): void {}

export class Scheduler {
  readonly timers = new Timers();
  /** Something became ready while no batch was running: the driver must be asked for one. */
  onReadyOutside: () => void = () => {};
  /** Called after every step, while its goroutine is still `current` (the netpoller sends what the step wrote). */
  onStepEnd: () => void = () => {};
  /** The goroutine whose step is running, or null. */
  current: GoroutineRecord | null = null;
  /** True inside a batch. */
  running = false;
  private readonly clock: Clock;
  private readonly living: GoroutineRecord[] = [];
  private head: GoroutineRecord | null = null;
  private tail: GoroutineRecord | null = null;
  private pool: GoroutineRecord | null = null;
  private pooled = 0;
  private ids = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** True if a goroutine waits for the CPU. */
  get hasRunnable(): boolean {
    return this.head !== null;
  }

  /** All living goroutines, in no order. */
  all(): readonly GoroutineRecord[] {
    return this.living;
  }

  /** Starts a goroutine; its step runs in the next batch (or later in this one). */
  spawn(name: string, step: Step): GoroutineRecord {
    const g = this.pool ?? new GoroutineRecord();
    if (this.pool !== null) this.pooled--;
    this.pool = g.next;
    g.id = ++this.ids;
    g.name = name;
    g.step = step;
    g.requestId = 0;
    g.notified = false;
    g.parkedOn = "";
    g.index = this.living.length;
    this.living.push(g);
    this.enqueue(g);
    return g;
  }

  /** Ends a goroutine. Its record is used again: nobody may keep it without its `id`. */
  exit(goroutine: Goroutine): void {
    const g = goroutine as GoroutineRecord;
    if (g.state === "dead") return;
    const wasQueued = g.state === "runnable";
    g.state = "dead";
    g.parkedOn = "";
    g.sinceNs = this.clock.nowNs;
    g.step = NO_STEP;
    const last = this.living.pop() as GoroutineRecord;
    if (last !== g) {
      this.living[g.index] = last;
      last.index = g.index;
    }
    g.index = -1;
    // A queued or running record is recycled when the queue comes to it.
    if (!wasQueued && this.current !== g) this.recycle(g);
  }

  /** Makes a parked goroutine runnable; remembered if it is running, ignored otherwise. */
  ready(goroutine: Goroutine): void {
    const g = goroutine as GoroutineRecord;
    if (g.state === "running") g.notified = true;
    if (g.state !== "parked") return;
    g.parkedOn = "";
    this.enqueue(g);
  }

  /** Parks the running goroutine; with an `fd` ≥ 0 it is what it waits for, e.g. "read fd 5". */
  park(goroutine: Goroutine, on: string, fd = -1): void {
    const g = goroutine as GoroutineRecord;
    if (g.state !== "running") assert(false, `park of a goroutine that is ${g.state}`);
    g.state = "parked";
    g.waitsFor = on;
    g.waitFd = fd;
    g.sinceNs = this.clock.nowNs;
  }

  /** Arms a timer of this process; outside a batch the driver is told, for it sleeps until the deadline it knew. */
  arm(timer: Timer, atNs: Ns): void {
    this.timers.arm(timer, atNs);
    if (!this.running) this.onReadyOutside();
  }

  /** Runs at most `budget` steps; returns how many it ran. Stops early when `mustStop` says that the CPU is taken. */
  runBatch(budget: number, mustStop: () => boolean): number {
    let steps = 0;
    while (steps < budget && this.head !== null && !mustStop()) {
      steps++;
      this.runNext(this.head);
    }
    return steps;
  }

  private runNext(g: GoroutineRecord): void {
    this.head = g.next;
    if (this.head === null) this.tail = null;
    g.next = null;
    if (g.state === "dead") {
      this.recycle(g);
      return;
    }
    g.state = "running";
    g.sinceNs = this.clock.nowNs;
    g.notified = false;
    this.current = g;
    this.clock.charge(Cost.goroutineSwitch, 1);
    try {
      if (typeof g.step === "function") g.step(g);
      else g.step.run(g);
    } catch (error) {
      this.exit(g);
      throw error;
    } finally {
      this.onStepEnd();
      this.current = null;
      this.afterStep(g);
    }
  }

  private afterStep(g: GoroutineRecord): void {
    // The step may have changed the state: read it afresh.
    const state = g.state as GoroutineState;
    if (state === "dead") this.recycle(g);
    else if (state === "running") this.enqueue(g);
    else if (state === "parked" && g.notified) {
      g.parkedOn = "";
      this.enqueue(g);
    }
  }

  private enqueue(g: GoroutineRecord): void {
    g.state = "runnable";
    g.sinceNs = this.clock.nowNs;
    g.next = null;
    if (this.tail === null) this.head = g;
    else this.tail.next = g;
    this.tail = g;
    if (!this.running) this.onReadyOutside();
  }

  private recycle(g: GoroutineRecord): void {
    if (this.pooled === POOL_RECORDS) return;
    this.pooled++;
    g.next = this.pool;
    this.pool = g;
  }
}

/** Who waits for something, remembered by id because records are used again. */
export class Waiter {
  private g: Goroutine | null = null;
  private id = 0;

  get waiting(): boolean {
    return this.g !== null && this.g.id === this.id && this.g.state !== "dead";
  }

  /** True if it is `g` (this life of it) that waits here. */
  is(g: Goroutine): boolean {
    return this.g === g && this.id === g.id;
  }

  /** True if somebody other than `g` waits here. */
  isOther(g: Goroutine): boolean {
    return this.waiting && this.g !== g && (this.g as Goroutine).state === "parked";
  }

  set(g: Goroutine): void {
    this.g = g;
    this.id = g.id;
  }

  clear(): void {
    this.g = null;
  }

  /** Makes the waiting goroutine runnable and forgets it. */
  wake(scheduler: Scheduler): void {
    if (this.waiting) scheduler.ready(this.g as Goroutine);
    this.g = null;
  }
}

/** Several who wait for the same thing, first come first served. */
export class WaiterList {
  private waiters: Waiter[] = [];

  get length(): number {
    return this.waiters.length;
  }

  /** Adds `g` unless it is here already. */
  add(g: Goroutine): void {
    for (const w of this.waiters) if (w.is(g)) return;
    const waiter = new Waiter();
    waiter.set(g);
    this.waiters.push(waiter);
  }

  /** Makes the first one runnable that still lives. */
  wakeOne(scheduler: Scheduler): void {
    for (let w = this.waiters.shift(); w !== undefined; w = this.waiters.shift()) {
      if (!w.waiting) continue;
      w.wake(scheduler);
      return;
    }
  }

  wakeAll(scheduler: Scheduler): void {
    if (this.waiters.length === 0) return;
    const waiters = this.waiters;
    this.waiters = [];
    for (const w of waiters) w.wake(scheduler);
  }
}

/** A handle of `Runtime.after`. */
export class TimerHandle {
  private readonly timers: Timers;
  private readonly timer: Timer;

  constructor(timers: Timers, timer: Timer) {
    this.timers = timers;
    this.timer = timer;
  }

  cancel(): void {
    this.timers.cancel(this.timer);
  }
}
