/**
 * `--kernel inline` in real time: the kernel and its processes share this thread and its event loop.
 *
 * Nothing can preempt a handler here. What the loop could not observe is reported by `onBusy`, so that a journey can
 * say `unobserved {reason: "loop-busy"}` instead of showing a lie.
 */
import { MILLISECOND, NEVER, type Ns } from "../base/time.ts";
import { FdReadiness } from "./fd-readiness.ts";
import {
  ControlError,
  isControlFailure,
  type Kernel,
  type KernelFactory,
  type KernelMachine,
  type KernelShared,
  pollAll,
} from "./kernel-machine.ts";
import { RealClock } from "./real-clock.ts";

/** Stretches shorter than this are the timer's own lateness, not somebody's doing. */
const DEFAULT_BUSY_NS: Ns = 2 * MILLISECOND;
/** Nearer deadlines than this are waited for by turning the loop: setTimeout is no better than a millisecond. */
const NEAR_NS: Ns = MILLISECOND;
const MAX_TIMEOUT_MS = 0x7fffffff;

export interface InlineKernelOptions {
  readonly factory: KernelFactory;
  readonly options?: unknown;
  readonly originNs?: bigint;
  /** From `startNs` to `endNs` the kernel did not run although it should have, or one turn of it took so long. */
  readonly onBusy?: (startNs: Ns, endNs: Ns) => void;
  /** Shortest stretch reported; default 2 ms. */
  readonly busyNs?: Ns;
}

export class InlineKernel implements Kernel {
  readonly mode = "inline";
  readonly clock: RealClock;
  readonly machine: KernelMachine;
  readonly shared: KernelShared;
  readonly ended: Promise<void>;
  private readonly options: InlineKernelOptions;
  /** Turns the kernel when a device's descriptor is readable; null without such devices. */
  private readonly readiness: FdReadiness | null;
  private immediate: NodeJS.Immediate | null = null;
  private timer: NodeJS.Timeout | null = null;
  /** When the scheduled turn should come. */
  private dueNs: Ns = NEVER;
  private isTurning = false;
  private isStopped = false;
  private readonly keepAlive = setInterval(() => {}, MAX_TIMEOUT_MS);
  private resolveEnded: () => void = () => {};
  private rejectEnded: (error: unknown) => void = () => {};

  constructor(options: InlineKernelOptions) {
    this.options = options;
    this.clock = new RealClock(options.originNs);
    this.ended = new Promise((resolve, reject) => {
      this.resolveEnded = resolve;
      this.rejectEnded = reject;
    });
    this.ended.catch(() => {});
    const context = { hasThreads: false, clock: this.clock, wake: () => this.wake() };
    this.machine = options.factory(options.options, context);
    this.shared = this.machine.shared;
    const sources = this.machine.pollSources ?? [];
    this.readiness = sources.some(({ fd }) => fd >= 0) ? new FdReadiness(sources, () => this.turn()) : null;
    this.wake();
  }

  /** Asks for a turn: something is submitted or armed from outside of one. The clock moves to the present. */
  wake(): void {
    if (this.isTurning || this.isStopped) return;
    this.clock.tick();
    if (this.immediate) this.dueNs = Math.min(this.dueNs, this.clock.nowNs);
    else this.scheduleAt(this.clock.nowNs);
  }

  async control(method: string, params?: unknown): Promise<unknown> {
    this.clock.tick();
    try {
      return this.machine.control(method, params);
    } catch (thrown) {
      throw isControlFailure(thrown) ? new ControlError(thrown) : thrown;
    } finally {
      this.wake();
    }
  }

  async stop(): Promise<void> {
    if (this.isStopped) return;
    this.isStopped = true;
    this.unschedule();
    clearInterval(this.keepAlive);
    this.readiness?.close();
    this.machine.close();
    this.resolveEnded();
  }

  private turn(): void {
    if (this.isStopped) return;
    const { clock, machine } = this;
    const dueNs = this.dueNs;
    this.unschedule();
    clock.tick();
    const startNs = clock.nowNs;
    this.reportBusy(dueNs, startNs);
    this.isTurning = true;
    try {
      pollAll(machine);
      machine.consume();
      machine.advance(clock.nowNs);
      this.readiness?.refresh();
    } catch (error) {
      this.isStopped = true;
      clearInterval(this.keepAlive);
      this.readiness?.close();
      this.rejectEnded(error);
      return;
    } finally {
      this.isTurning = false;
    }
    clock.tick();
    this.reportBusy(startNs, clock.nowNs);
    this.scheduleAt(machine.deadline());
  }

  private reportBusy(fromNs: Ns, toNs: Ns): void {
    if (toNs - fromNs >= (this.options.busyNs ?? DEFAULT_BUSY_NS)) this.options.onBusy?.(fromNs, toNs);
  }

  private scheduleAt(dueNs: Ns): void {
    this.unschedule();
    this.dueNs = dueNs;
    if (dueNs === NEVER) return;
    const aheadNs = dueNs - this.clock.nowNs;
    if (aheadNs < NEAR_NS) {
      this.immediate = setImmediate(() => this.near());
    } else {
      this.timer = setTimeout(() => this.near(), Math.min(Math.floor(aheadNs / MILLISECOND), MAX_TIMEOUT_MS));
    }
  }

  /** A timer came early or an immediate was used to wait: a turn if it is due, else once round the loop. */
  private near(): void {
    this.immediate = null;
    this.timer = null;
    this.clock.tick();
    if (this.clock.nowNs >= this.dueNs) this.turn();
    else this.scheduleAt(this.dueNs);
  }

  private unschedule(): void {
    if (this.immediate) clearImmediate(this.immediate);
    if (this.timer) clearTimeout(this.timer);
    this.immediate = null;
    this.timer = null;
    this.dueNs = NEVER;
  }
}
