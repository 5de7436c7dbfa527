/**
 * Turns the runtime of a process on a Node event loop: a worker's, or the main thread's.
 *
 * It runs when the process's doorbell rings (Atomics.waitAsync), when the runtime's deadline passes, and when a
 * promise's continuation made something runnable; under load it spins briefly before it sleeps.
 */
import { availableParallelism } from "node:os";
import { MILLISECOND, NEVER, type Ns } from "../base/time.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import { GoRuntime } from "../runtime/runtime.ts";
import { RingPort } from "../socket/ring-port.ts";
import { Control, type SyscallRings } from "../socket/rings.ts";
import type { KernelDoorbell } from "./doorbell.ts";
import { type RealClock, spin } from "./real-clock.ts";
import { sharedCopy } from "./shared-copy.ts";

/** How long a process looks for more completions before it sleeps. */
const DEFAULT_SPIN_NS: Ns = 20_000;
/** After so long without a turn of the event loop, timers and messages get theirs. */
const LOOP_TURN_NS: Ns = MILLISECOND;
/** setTimeout's largest delay. */
const MAX_TIMEOUT_MS = 0x7fffffff;

/** ES2024; every Node we support has it. */
interface WaitAsync {
  waitAsync(words: Int32Array, index: number, value: number): { async: boolean; value: unknown };
}

export interface ProcessDriverOptions {
  readonly pid: number;
  readonly rings: SyscallRings;
  readonly arena: ArrayBufferLike;
  readonly clock: RealClock;
  readonly trace: Tracepoints;
  readonly kernelDoorbell: KernelDoorbell;
  /** One word shared by all processes (`KernelHandle.requestIds`). */
  readonly requestIds: SharedArrayBuffer;
  /** 0 on the main thread, which has other things to do. */
  readonly spinNs?: Ns;
  /** An error came out of a goroutine's step; without it, it is thrown on the event loop. */
  readonly onError?: (error: unknown) => void;
}

export class ProcessDriver {
  readonly runtime: GoRuntime;
  private readonly options: ProcessDriverOptions;
  private readonly port: RingPort;
  private readonly spinNs: Ns;
  private isStopped = false;
  private isScheduled = false;
  private isWaiting = false;
  private hasResumed = false;
  private timer: NodeJS.Timeout | null = null;
  private timerNs: Ns = NEVER;
  /** Neither waitAsync nor an unref'd timer keeps an event loop alive; a process is alive until it is stopped. */
  private readonly keepAlive = setInterval(() => {}, MAX_TIMEOUT_MS);

  constructor(options: ProcessDriverOptions) {
    this.options = options;
    const { pid, rings, arena, clock, kernelDoorbell } = options;
    this.spinNs = options.spinNs ?? (availableParallelism() > 1 ? DEFAULT_SPIN_NS : 0);
    const requestIds = new Int32Array(options.requestIds);
    this.port = new RingPort(pid, rings, new Uint8Array(arena), clock, {
      toKernel: () => kernelDoorbell.ring(),
      copy: sharedCopy(),
    });
    this.runtime = new GoRuntime({
      port: this.port,
      clock,
      trace: options.trace,
      pid,
      nextRequestId: () => Atomics.add(requestIds, 0, 1) + 1,
      burn: (durationNs) => {
        spin(durationNs);
        clock.tick();
        return Promise.resolve();
      },
      wakeMe: () => this.schedule(),
      runsAfterResume: true,
      onResume: () => {
        this.hasResumed = true;
      },
    });
    this.schedule();
  }

  /** The process exits: the kernel closes its fds, and nothing of it stays on this event loop. */
  stop(): void {
    if (this.isStopped) return;
    this.isStopped = true;
    this.runtime.exitProcess();
    if (this.timer) clearTimeout(this.timer);
    clearInterval(this.keepAlive);
  }

  private schedule(): void {
    if (this.isScheduled || this.isStopped) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.isScheduled = false;
      this.turn();
    });
  }

  private turn(): void {
    if (this.isStopped) return;
    const { clock, onError } = this.options;
    this.port.awake();
    clock.tick();
    const startNs = clock.nowNs;
    try {
      do {
        const hadCompletions = this.port.hasCompletions;
        this.hasResumed = false;
        const isUnfinished = this.runtime.run(clock.nowNs);
        // Continuations of promises run as microtasks, after this function.
        if (isUnfinished || this.hasResumed || clock.nowNs - startNs > LOOP_TURN_NS) {
          this.schedule();
          return;
        }
        if (!hadCompletions) break;
      } while (this.spinForCompletions());
    } catch (error) {
      this.schedule();
      if (!onError) throw error;
      onError(error);
      return;
    }
    this.sleep();
  }

  private spinForCompletions(): boolean {
    const { clock } = this.options;
    const untilNs = Math.min(clock.nowNs + this.spinNs, this.runtime.deadline());
    while (clock.nowNs < untilNs) {
      if (this.port.hasCompletions) return true;
      clock.tick();
    }
    return this.port.hasCompletions;
  }

  private sleep(): void {
    const { control } = this.options.rings;
    const seen = Atomics.load(control, Control.processDoorbell);
    if (!this.port.prepareSleep()) {
      this.schedule();
      return;
    }
    this.armTimer(this.runtime.deadline());
    if (this.isWaiting) return;
    const wait = (Atomics as unknown as WaitAsync).waitAsync(control, Control.processDoorbell, seen);
    if (!wait.async) {
      this.schedule();
      return;
    }
    this.isWaiting = true;
    void (wait.value as Promise<unknown>).then(() => {
      this.isWaiting = false;
      if (!this.isScheduled) this.turn();
    });
  }

  private armTimer(deadlineNs: Ns): void {
    // Deadlines move later at every request: a timer that comes too early costs less than one set anew each time.
    if (this.timer && this.timerNs <= deadlineNs) return;
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.timerNs = deadlineNs;
    if (deadlineNs === NEVER) return;
    const delayMs = Math.ceil((deadlineNs - this.options.clock.nowNs) / MILLISECOND);
    if (delayMs <= 0) {
      this.schedule();
      return;
    }
    this.timer = setTimeout(
      () => {
        this.timer = null;
        if (!this.isScheduled) this.turn();
      },
      Math.min(delayMs, MAX_TIMEOUT_MS),
    );
  }
}
