/**
 * A process that lives in the kernel's thread: its runtime runs from a timer of its host.
 *
 * In virtual time this is also the process's CPU: while it burns, and before it has started, it does not run, and its
 * other goroutines wait. In real time it is the `inline` kernel mode, where a handler cannot be preempted.
 */
import { type Clock, NEVER, type Ns } from "../base/time.ts";
import { Timer, type Timers } from "../base/timers.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import type { SyscallPort } from "../socket/syscall-port.ts";
import { GoRuntime } from "./runtime.ts";

/** A port that can tell the kernel whether its process sleeps (`RingPort`): the kernel charges the wake-up then. */
export interface SleepingPort extends SyscallPort {
  /** False: a completion came meanwhile. */
  prepareSleep?(): boolean;
  awake?(): void;
}

export interface InlineProcessOptions {
  readonly port: SleepingPort;
  readonly clock: Clock;
  /** The host's timers. */
  readonly timers: Timers;
  readonly trace: Tracepoints;
  readonly pid: number;
  readonly nextRequestId: () => number;
  /** It does not run before this moment. */
  readonly startNs?: Ns;
  /** Foreign async code was resumed: the driver must let microtasks run before it moves on. */
  readonly onResume?: () => void;
  /** Real time only: spins. Without it a burn occupies the process in virtual time. */
  readonly burn?: (durationNs: Ns) => Promise<void>;
  /** An error came out of a goroutine's step. Without it, it comes out of the timer. */
  readonly onError?: (error: unknown) => void;
  /** It held the CPU from `startNs` to `endNs` (real time: nobody else ran meanwhile). */
  readonly onBusy?: (startNs: Ns, endNs: Ns) => void;
  /** A timer was armed from outside the driver's loop (a promise's continuation): look at the deadline again. */
  readonly wakeDriver?: () => void;
}

export class InlineProcess {
  readonly runtime: GoRuntime;
  /** Its CPU is taken until then. */
  busyUntilNs: Ns;
  private readonly options: InlineProcessOptions;
  private readonly timer: Timer;
  private isRunning = false;
  private isStopped = false;
  /** The burns under way, in order: each resolves when its time is over. */
  private readonly burns: { untilNs: Ns; resolve: () => void }[] = [];

  constructor(options: InlineProcessOptions) {
    this.options = options;
    this.busyUntilNs = options.startNs ?? 0;
    this.timer = new Timer(() => this.run());
    this.runtime = new GoRuntime({
      port: options.port,
      clock: options.clock,
      trace: options.trace,
      pid: options.pid,
      nextRequestId: options.nextRequestId,
      burn: options.burn ?? ((durationNs) => this.occupy(durationNs)),
      wakeMe: () => this.wake(),
      onResume: options.onResume ?? (() => {}),
    });
    this.runtime.heldUntilNs = this.busyUntilNs;
  }

  /** The process's doorbell: completions are there, or a goroutine became runnable. */
  wake(): void {
    if (this.isRunning || this.isStopped) return;
    this.schedule(this.options.clock.nowNs);
  }

  /** It never runs again. Its fds are closed (_exit). */
  stop(): void {
    if (this.isStopped) return;
    this.isStopped = true;
    this.options.timers.cancel(this.timer);
    for (const { resolve } of this.burns.splice(0)) resolve();
    this.runtime.exitProcess();
  }

  private schedule(atNs: Ns): void {
    const dueNs = Math.max(atNs, this.busyUntilNs);
    if (this.timer.deadlineNs <= dueNs) return;
    this.options.timers.arm(this.timer, dueNs);
    this.options.wakeDriver?.();
  }

  private run(): void {
    const { clock, onBusy, onError, port } = this.options;
    if (this.isStopped) return;
    if (this.endBurn()) return;
    port.awake?.();
    const startNs = clock.nowNs;
    let isUnfinished = false;
    this.isRunning = true;
    try {
      isUnfinished = this.runtime.run(clock.nowNs);
    } catch (error) {
      if (!onError) throw error;
      onError(error);
    } finally {
      this.isRunning = false;
    }
    onBusy?.(startNs, clock.nowNs);
    this.busyUntilNs = Math.max(this.busyUntilNs, clock.nowNs);
    const isAwake = isUnfinished || port.prepareSleep?.() === false;
    const nextNs = isAwake ? clock.nowNs : this.runtime.deadline();
    if (nextNs !== NEVER) this.schedule(nextNs);
  }

  /** The CPU is held for so long from now (or from the end of an earlier burn); resolves then. */
  private occupy(durationNs: Ns): Promise<void> {
    const { clock } = this.options;
    if (this.isStopped || durationNs <= 0) return Promise.resolve();
    const untilNs = Math.max(this.busyUntilNs, clock.nowNs) + durationNs;
    this.busyUntilNs = untilNs;
    this.runtime.heldUntilNs = untilNs;
    return new Promise((resolve) => {
      this.burns.push({ untilNs, resolve });
      this.rearmForBurn();
    });
  }

  /** The timer must come at the end of the oldest burn, not at what it was armed for before. */
  private rearmForBurn(): void {
    const burn = this.burns[0];
    if (burn === undefined) return;
    this.options.timers.arm(this.timer, burn.untilNs);
    this.options.wakeDriver?.();
  }

  /** True if a burn was under way: the one that burnt goes on (in a microtask) before anybody else gets the CPU. */
  private endBurn(): boolean {
    const { clock, timers, onResume } = this.options;
    const burn = this.burns[0];
    if (burn === undefined) return false;
    if (burn.untilNs <= clock.nowNs) {
      this.burns.shift();
      onResume?.();
      burn.resolve();
    }
    if (this.burns.length > 0) this.rearmForBurn();
    else timers.arm(this.timer, clock.nowNs);
    return true;
  }
}
