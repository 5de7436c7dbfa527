/**
 * The main side of a process that has a thread of its own.
 */
import { MessageChannel, type Transferable, Worker } from "node:worker_threads";
import { endOf, type KernelHandle, stopWorker } from "./kernel-handle.ts";
import type { AcceptState, GoroutineRow } from "./process-control.ts";
import type { ProcessThreadData, TraceModule } from "./process-thread.ts";
import { RequestPort } from "./request-port.ts";
import { workerEntry } from "./worker-entry.ts";

export interface ProcessHandleOptions {
  readonly kernel: KernelHandle;
  /** The host it runs on, by name. */
  readonly host: string;
  readonly name: string;
  /** Module with `main` (`process-control.ts`). */
  readonly module: string | URL;
  /** For `main`; structured-cloneable. */
  readonly options?: unknown;
  /** Its recorder; default none. */
  readonly trace?: TraceModule;
}

export class ProcessHandle {
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  /** Resolves when it was stopped; rejects with the error (and stack) it died of. */
  readonly ended: Promise<void>;
  private readonly worker: Worker;
  private readonly requests: RequestPort;
  private stopping: Promise<void> | null = null;

  private constructor(
    options: ProcessHandleOptions,
    pid: number,
    worker: Worker,
    requests: RequestPort,
    ended: Promise<void>,
  ) {
    this.name = options.name;
    this.host = options.host;
    this.pid = pid;
    this.worker = worker;
    this.requests = requests;
    this.ended = ended;
  }

  /** Resolves when the program's `main` did (it listens then); rejects with its error. */
  static async start(options: ProcessHandleOptions): Promise<ProcessHandle> {
    const { kernel } = options;
    const { pid, rings } = await kernel.attachProcess(options.host, options.name);
    const { port1, port2 } = new MessageChannel();
    const data: ProcessThreadData = {
      pid,
      rings: rings.buffer as SharedArrayBuffer,
      arena: kernel.shared.arena as SharedArrayBuffer,
      kernelDoorbell: kernel.doorbell.buffer,
      requestIds: kernel.requestIds,
      originNs: kernel.clock.originNs,
      trace: options.trace ?? null,
      module: String(options.module),
      options: options.options,
      control: port2,
    };
    const ready = new Promise<void>((resolve) => {
      port1.once("message", () => resolve());
    });
    const requests = new RequestPort(port1);
    const worker = new Worker(workerEntry("process-thread"), {
      workerData: data,
      transferList: [port2 as Transferable],
      name: `${options.name} (pid ${pid})`,
    });
    const ended = endOf(worker, requests, `process ${options.name}`);
    const over = () => kernel.detachProcess(pid).catch(() => {});
    ended.then(over, over);
    await Promise.race([ready, ended.then(() => Promise.reject(new Error(`process ${options.name} ended`)))]);
    return new ProcessHandle(options, pid, worker, requests, ended);
  }

  async goroutines(): Promise<GoroutineRow[]> {
    return (await this.requests.request("host.goroutines")) as GoroutineRow[];
  }

  /** `sojourn accept pause|resume`. A process in a long handler answers when it is done with it. */
  async setAcceptPaused(paused: boolean): Promise<AcceptState> {
    return (await this.requests.request("host.accept", { paused })) as AcceptState;
  }

  /** Asks the program itself (`ProcessApp.control`). */
  request(method: string, params?: unknown): Promise<unknown> {
    return this.requests.request(method, params);
  }

  /** Resolves when its thread has ended. */
  stop(): Promise<void> {
    this.stopping ??= stopWorker(this.worker, this.requests, this.ended);
    return this.stopping;
  }
}
