/**
 * A process of a kernel thread that lives on Node's main thread: the port forward is one.
 */
import { NO_TRACE, type Tracepoints } from "../base/tracepoints.ts";
import type { GoRuntime } from "../runtime/runtime.ts";
import type { KernelHandle } from "./kernel-handle.ts";
import { type GoroutineRow, goroutineRows } from "./process-control.ts";
import { ProcessDriver } from "./process-driver.ts";
import { RealClock } from "./real-clock.ts";

export interface MainProcessOptions {
  readonly kernel: KernelHandle;
  readonly host: string;
  readonly name: string;
  readonly trace?: (clock: RealClock) => Tracepoints;
}

export class MainProcess {
  readonly pid: number;
  readonly runtime: GoRuntime;
  private readonly driver: ProcessDriver;
  private readonly kernel: KernelHandle;
  private readonly clock: RealClock;

  private constructor(kernel: KernelHandle, driver: ProcessDriver, clock: RealClock) {
    this.kernel = kernel;
    this.driver = driver;
    this.clock = clock;
    this.runtime = driver.runtime;
    this.pid = driver.runtime.pid;
  }

  static async start({ kernel, host, name, trace }: MainProcessOptions): Promise<MainProcess> {
    const { pid, rings } = await kernel.attachProcess(host, name);
    const clock = new RealClock(kernel.clock.originNs);
    const driver = new ProcessDriver({
      pid,
      rings,
      arena: kernel.shared.arena,
      clock,
      trace: trace?.(clock) ?? NO_TRACE,
      kernelDoorbell: kernel.doorbell,
      requestIds: kernel.requestIds,
      // The main thread serves the control API and host sockets too.
      spinNs: 0,
    });
    return new MainProcess(kernel, driver, clock);
  }

  goroutines(): GoroutineRow[] {
    this.clock.tick();
    return goroutineRows(this.runtime, this.clock.nowNs);
  }

  /** The process exits; resolves when the kernel knows. */
  async stop(): Promise<void> {
    this.driver.stop();
    await this.kernel.detachProcess(this.pid).catch(() => {});
  }
}
