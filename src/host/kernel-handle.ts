/**
 * The main side of a kernel thread: starts it, asks it, attaches processes to it, stops it.
 */
import { availableParallelism } from "node:os";
import { MessageChannel, type Transferable, Worker } from "node:worker_threads";
import type { Ns } from "../base/time.ts";
import { SyscallRings } from "../socket/rings.ts";
import { KernelDoorbell } from "./doorbell.ts";
import { DEFAULT_KERNEL_SPIN_NS } from "./kernel-loop.ts";
import type { Kernel, KernelShared } from "./kernel-machine.ts";
import type { KernelThreadData } from "./kernel-thread.ts";
import { RealClock } from "./real-clock.ts";
import { RequestPort } from "./request-port.ts";
import { workerEntry } from "./worker-entry.ts";

/** How long a worker may take to end when asked, before it is ended. */
const STOP_GRACE_MS = 2000;

export interface KernelHandleOptions {
  /** Module with `createKernelMachine` (`kernel-machine.ts`). */
  readonly factory: string | URL;
  /** For the factory; structured-cloneable. */
  readonly options?: unknown;
  /** Time 0; default now. */
  readonly originNs?: bigint;
  /** How long the kernel spins for more work before it sleeps; default 20 µs, 0 on one CPU. */
  readonly spinNs?: Ns;
}

/** What a process needs to be one of this kernel's. */
export interface AttachedProcess {
  readonly pid: number;
  readonly rings: SyscallRings;
}

export class KernelHandle implements Kernel {
  readonly mode = "thread";
  readonly clock: RealClock;
  readonly doorbell: KernelDoorbell;
  readonly shared: KernelShared;
  readonly ended: Promise<void>;
  /** One counter of request ids for all processes. */
  readonly requestIds: SharedArrayBuffer;
  private readonly worker: Worker;
  private readonly requests: RequestPort;
  private stopping: Promise<void> | null = null;

  private constructor(started: Started, shared: KernelShared) {
    this.clock = started.clock;
    this.doorbell = started.doorbell;
    this.worker = started.worker;
    this.requests = started.requests;
    this.ended = started.ended;
    this.shared = shared;
    this.requestIds = new SharedArrayBuffer(4);
  }

  /** Resolves when the machine is built; rejects with its error if it cannot be. */
  static async start(options: KernelHandleOptions): Promise<KernelHandle> {
    const started = startWorker(options);
    const shared = await Promise.race([
      started.ready,
      started.ended.then(() => Promise.reject(new Error("the kernel thread ended"))),
    ]);
    return new KernelHandle(started, shared as KernelShared);
  }

  control(method: string, params?: unknown): Promise<unknown> {
    return this.requests.request(method, params);
  }

  /** Makes rings for a new process of `host` and tells the kernel. */
  async attachProcess(host: string, name: string): Promise<AttachedProcess> {
    const rings = SyscallRings.shared();
    const { pid } = (await this.requests.request("host.attach", { host, name, rings: rings.buffer })) as {
      pid: number;
    };
    return { pid, rings };
  }

  /** The process is gone; the kernel closes what it left open. */
  async detachProcess(pid: number): Promise<void> {
    await this.requests.request("host.detach", { pid });
  }

  stop(): Promise<void> {
    this.stopping ??= stopWorker(this.worker, this.requests, this.ended);
    return this.stopping;
  }
}

interface Started {
  readonly worker: Worker;
  readonly clock: RealClock;
  readonly doorbell: KernelDoorbell;
  readonly requests: RequestPort;
  readonly ready: Promise<unknown>;
  readonly ended: Promise<void>;
}

function startWorker(options: KernelHandleOptions): Started {
  const clock = new RealClock(options.originNs);
  const doorbell = new KernelDoorbell();
  const { port1, port2 } = new MessageChannel();
  const data: KernelThreadData = {
    factory: String(options.factory),
    options: options.options,
    originNs: clock.originNs,
    doorbell: doorbell.buffer,
    spinNs: options.spinNs ?? (availableParallelism() > 1 ? DEFAULT_KERNEL_SPIN_NS : 0),
    control: port2,
  };
  const ready = new Promise<unknown>((resolve) => {
    port1.once("message", (reply: { result: unknown }) => resolve(reply.result));
  });
  const requests = new RequestPort(port1, () => doorbell.ringForControl());
  const worker = new Worker(workerEntry("kernel-thread"), {
    workerData: data,
    transferList: [port2 as Transferable],
    name: "kernel",
  });
  return { worker, clock, doorbell, requests, ready, ended: endOf(worker, requests, "the kernel thread") };
}

/** Resolves when a worker ended as asked; rejects with the error (and stack) it died of. */
export function endOf(worker: Worker, requests: RequestPort, who: string): Promise<void> {
  const ended = new Promise<void>((resolve, reject) => {
    worker.once("error", (error) => {
      requests.end(error);
      reject(error);
    });
    worker.once("exit", (code) => {
      requests.end(new Error(`${who} has ended`));
      if (code === 0) resolve();
      else reject(new Error(`${who} ended with code ${code}`));
    });
  });
  // Whoever does not look at `ended` learns of it from the next request.
  ended.catch(() => {});
  return ended;
}

/** Asks a worker to stop, waits for its end, ends it after a while. Never rejects: its error is in `ended`. */
export async function stopWorker(worker: Worker, requests: RequestPort, ended: Promise<void>): Promise<void> {
  const timer = setTimeout(() => void worker.terminate(), STOP_GRACE_MS);
  await requests.request("host.stop").catch(() => {});
  await ended.catch(() => {});
  clearTimeout(timer);
}
