/**
 * What a driver turns: the kernel of a whole topology, as a machine that is given the time (law 1).
 *
 * A factory module of the roof builds it; the same machine runs in a worker (`kernel-thread.ts`) or in this thread
 * (`inline-driver.ts`).
 */
import type { Ns } from "../base/time.ts";
import type { RealClock } from "./real-clock.ts";

/** Something outside of this process that brings frames: the file descriptor of a TAP, the rings of a socket pump. */
export interface PollSource {
  /**
   * What to wait on with poll(2). -1: nothing, for now or for good; whoever fills a source without a descriptor rings
   * the kernel's doorbell.
   */
  readonly fd: number;
  /** Raises the device's interrupt if frames wait (and interrupts are on); true if it did. Cheap: once per turn. */
  poll(): boolean;
}

/** Looks at every source of the machine; true if any raised an interrupt. */
export function pollAll({ pollSources }: KernelMachine): boolean {
  let raised = false;
  if (pollSources === undefined) return raised;
  for (let i = 0; i < pollSources.length; i++) raised = pollSources[i].poll() || raised;
  return raised;
}

export interface KernelMachine {
  /** When `advance` is due though nobody rings; NEVER. */
  deadline(): Ns;
  /** Fires what is due and runs softirqs until none is pending. */
  advance(nowNs: Ns): void;
  /** Drains the submission rings of all processes; true if anything was done. */
  consume(): boolean;
  /** Devices the driver looks after; fixed once the machine is built. */
  readonly pollSources?: readonly PollSource[];
  /** Answers the control API. Throws a `ControlFailure` for what the caller did wrong. */
  control(method: string, params: unknown): unknown;
  /** A process of its own thread: `rings` is laid out by `SyscallRings` with its default sizes. */
  attachProcess(host: string, name: string, rings: SharedArrayBuffer): { readonly pid: number };
  /** The process's thread is gone: closes what it left open. */
  detachProcess?(pid: number): void;
  /** What processes and the main thread share with it: the arena, recorder buffers. Structured-cloneable. */
  readonly shared: KernelShared;
  close(): void;
}

export interface KernelShared {
  /** The packet arena: processes copy received bytes out of it. Shared memory if they have threads of their own. */
  readonly arena: ArrayBufferLike;
  readonly [name: string]: unknown;
}

/** The module a kernel thread imports: `export const createKernelMachine: KernelFactory`. */
export type KernelFactory = (options: unknown, context: KernelContext) => KernelMachine;

export interface KernelContext {
  /** Processes live in threads of their own: what they share with the machine must be shared memory. */
  readonly hasThreads: boolean;
  /** The clock all hosts of the machine share; the driver ticks it. */
  readonly clock: RealClock;
  /** Look at `deadline` again: something was armed from outside `advance` and `consume` (inline only). */
  readonly wake: () => void;
}

/** What a control call throws for the caller's mistakes; any object of this shape crosses the threads. */
export interface ControlFailure {
  readonly error: string;
  readonly why: string;
  readonly next: string;
  /** HTTP status that says what kind of mistake it was; default 400. */
  readonly status?: number;
}

/** A control call that failed: `{ error, why, next }` of the control API. */
export class ControlError extends Error implements ControlFailure {
  override readonly name = "ControlError";
  readonly error: string;
  readonly why: string;
  readonly next: string;
  readonly status: number;

  constructor(failure: ControlFailure) {
    super(`${failure.error}: ${failure.why}`);
    this.error = failure.error;
    this.why = failure.why;
    this.next = failure.next;
    this.status = failure.status ?? 400;
  }
}

/** True for anything shaped like a `ControlFailure`. */
export function isControlFailure(value: unknown): value is ControlFailure {
  const v = value as Partial<ControlFailure> | null;
  return typeof v === "object" && v !== null && [v.error, v.why, v.next].every((text) => typeof text === "string");
}

/** A kernel as the roof sees it, whichever thread it is in. */
export interface Kernel {
  readonly mode: "thread" | "inline";
  readonly clock: RealClock;
  readonly shared: KernelShared;
  /** Rejects with `ControlError` for the caller's mistakes. */
  control(method: string, params?: unknown): Promise<unknown>;
  /** Resolves when nothing of it is left. */
  stop(): Promise<void>;
  /** Rejects when the kernel fails on its own; resolves when it was stopped. */
  readonly ended: Promise<void>;
}
