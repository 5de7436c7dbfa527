/**
 * The runtime of one process, in Go's shape: goroutines over a netpoller over the system-call port.
 *
 * A driver owns it: it sets the clock, calls `run` when the process's doorbell rang or `deadline` has passed, and gives
 * `run` again at once when it answers true. Everything a batch submits costs one doorbell.
 */
import { type Clock, NEVER, type Ns } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { Point, type Tracepoints } from "../base/tracepoints.ts";
import { type SyscallPort, SysOp } from "../socket/syscall-port.ts";
import { Netpoll } from "./netpoll.ts";
import type { Goroutine, Runtime, Step } from "./port.ts";
import { type GoroutineRecord, Scheduler, SLICE_STEPS, TimerHandle } from "./scheduler.ts";
import { StackNetwork } from "./stack-network.ts";

/** Completions taken before goroutines run. */
const REAP_BUDGET = 1024;

export interface RuntimeOptions {
  readonly port: SyscallPort;
  readonly clock: Clock;
  readonly trace: Tracepoints;
  readonly pid: number;
  /** Next request id (> 0), unique in the whole server. */
  readonly nextRequestId: () => number;
  /** Holds the CPU for so long: spins in real time; in virtual time `inline-process.ts` occupies the process. */
  readonly burn: (durationNs: Ns) => Promise<void>;
  /** Asks the driver for a `run`: something became ready outside of one (a promise's continuation). */
  readonly wakeMe?: () => void;
  /** Foreign async code was resumed: microtasks must run before virtual time moves on. */
  readonly onResume?: () => void;
  /**
   * The driver runs again, after the microtasks, whenever a batch resumed async code (real time): the process has the
   * CPU until then, and `processLeave` waits for it.
   */
  readonly runsAfterResume?: boolean;
}

export class GoRuntime implements Runtime {
  readonly pid: number;
  readonly clock: Clock;
  readonly trace: Tracepoints;
  readonly network: StackNetwork;
  readonly nextRequestId: () => number;
  /** The CPU is taken until then (virtual time): no goroutine runs. */
  heldUntilNs: Ns = 0;
  private readonly scheduler: Scheduler;
  private readonly netpoll: Netpoll;
  private readonly options: RuntimeOptions;
  private hasAsked = false;
  private hasResumed = false;
  /** `processEnter` was stamped and `processLeave` was not. */
  private isInside = false;
  private readonly isHeld = (): boolean => this.heldUntilNs > this.clock.nowNs;

  constructor(options: RuntimeOptions) {
    this.options = options;
    this.pid = options.pid;
    this.clock = options.clock;
    this.trace = options.trace;
    this.nextRequestId = options.nextRequestId;
    this.scheduler = new Scheduler(options.clock);
    this.netpoll = new Netpoll(options.port, this.scheduler, options.clock, options.trace);
    this.netpoll.onResume = () => {
      this.hasResumed = true;
      options.onResume?.();
    };
    this.scheduler.onStepEnd = () => this.netpoll.sendDirty();
    this.scheduler.onReadyOutside = () => this.askForRun();
    this.network = new StackNetwork(this.netpoll);
  }

  // ── the driver's side ─────────────────────────────────────────────────────────────────────────────────────────

  /** When `run` is due though no doorbell rings: now while goroutines are runnable, else the next timer; NEVER. */
  deadline(): Ns {
    const due = this.scheduler.hasRunnable
      ? this.clock.nowNs
      : Math.min(this.scheduler.timers.deadline(), this.netpoll.deadline());
    return due === NEVER ? NEVER : Math.max(due, this.heldUntilNs);
  }

  /**
   * Takes completions, fires timers, runs goroutines until none is runnable or a slice is spent, sends what they wrote,
   * rings the kernel once. `nowNs` is the present as the driver knows it. True: the slice was spent, run again soon.
   * An error thrown by a step comes out here.
   */
  run(nowNs: Ns): boolean {
    const { clock, scheduler, netpoll } = this;
    this.hasAsked = false;
    if (nowNs > clock.nowNs) clock.nowNs = nowNs;
    if (this.isHeld()) return false;
    this.enter();
    scheduler.running = true;
    let budget = SLICE_STEPS;
    try {
      for (;;) {
        const reaped = netpoll.reap(REAP_BUDGET);
        this.fireTimers();
        const steps = scheduler.runBatch(budget, this.isHeld);
        netpoll.sendDirty();
        budget -= steps;
        if (budget <= 0 || this.isHeld()) break;
        if (reaped === 0 && steps === 0) break;
      }
    } finally {
      netpoll.flush();
      scheduler.running = false;
      this.leave();
    }
    return budget <= 0;
  }

  private enter(): void {
    this.hasResumed = false;
    this.clock.tick();
    if (this.isInside || this.trace.mask === -1) return;
    this.isInside = true;
    this.trace.stamp(Point.processEnter, this.pid, 0, 0);
  }

  private leave(): void {
    this.clock.tick();
    if (!this.isInside || (this.hasResumed && this.options.runsAfterResume)) return;
    this.isInside = false;
    this.trace.stamp(Point.processLeave, this.pid, 0, 0);
  }

  /** _exit(2): every fd of the process is closed by the kernel. */
  exitProcess(): void {
    this.netpoll.submit(SysOp.exit, -1, 0);
    this.netpoll.flush();
  }

  private fireTimers(): void {
    const { timers } = this.scheduler;
    while (timers.fireOne(this.clock.nowNs)) {}
    this.netpoll.fireDeadlines(this.clock.nowNs);
  }

  private askForRun(): void {
    if (this.hasAsked) return;
    this.hasAsked = true;
    this.options.wakeMe?.();
  }

  // ── the program's side ────────────────────────────────────────────────────────────────────────────────────────

  spawn(name: string, step: Step): Goroutine {
    return this.scheduler.spawn(name, step);
  }

  exit(g: Goroutine): void {
    this.scheduler.exit(g);
  }

  ready(g: Goroutine): void {
    this.scheduler.ready(g);
  }

  park(g: Goroutine, on: string): void {
    this.scheduler.park(g, on);
  }

  go(name: string, main: () => Promise<void>): void {
    const { scheduler } = this;
    let isStarted = false;
    scheduler.spawn(name, (g) => {
      const id = g.id;
      if (!isStarted) {
        isStarted = true;
        this.netpoll.onResume();
        // A rejection stays unhandled on purpose: as a panic, it ends the process with its stack.
        void main().finally(() => {
          if (g.id === id) scheduler.exit(g);
        });
      }
      if (g.state === "running") scheduler.park(g, "await");
    });
  }

  sleep(durationNs: Ns): Promise<void> {
    // A continuation may have run for long since the last batch.
    if (!this.scheduler.running) this.clock.tick();
    return new Promise((resolve) => {
      this.after(this.clock.nowNs + durationNs, () => {
        this.netpoll.onResume();
        resolve();
      });
    });
  }

  burn(durationNs: Ns): Promise<void> {
    return this.options.burn(durationNs);
  }

  after(atNs: Ns, fire: () => void): { cancel(): void } {
    const timer = new Timer(fire);
    this.scheduler.arm(timer, atNs);
    return new TimerHandle(this.scheduler.timers, timer);
  }

  resumed(): void {
    this.netpoll.onResume();
  }

  goroutines(): readonly GoroutineRecord[] {
    return this.scheduler.all();
  }

  /** What is in use, for leak checks: all of it is given back when what the program opened is closed. */
  counts(): Readonly<Record<string, number>> {
    return {
      goroutines: this.scheduler.all().length,
      runtimeTimers: this.scheduler.timers.armedCount() + this.netpoll.deadlineCount,
      tokens: this.netpoll.registered,
    };
  }
}
