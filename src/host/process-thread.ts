/**
 * Worker entry of a process: rings, runtime, and the program's `main`.
 */
import { type MessagePort, workerData } from "node:worker_threads";
import { NO_TRACE, type Tracepoints } from "../base/tracepoints.ts";
import { SyscallRings } from "../socket/rings.ts";
import { KernelDoorbell } from "./doorbell.ts";
import { goroutineRows, type ProcessApp, type ProcessMain, setAcceptPaused } from "./process-control.ts";
import { ProcessDriver } from "./process-driver.ts";
import { RealClock } from "./real-clock.ts";
import { failureReply, type Reply, type Request } from "./request-port.ts";

/** A module that opens a recorder's shared buffers: `export const openTracepoints: OpenTracepoints`. */
export interface TraceModule {
  readonly module: string;
  readonly data: unknown;
}
export type OpenTracepoints = (data: unknown, clock: RealClock) => Tracepoints;

/** What the main side hands over (`process-handle.ts`). */
export interface ProcessThreadData {
  readonly pid: number;
  readonly rings: SharedArrayBuffer;
  readonly arena: SharedArrayBuffer;
  readonly kernelDoorbell: SharedArrayBuffer;
  readonly requestIds: SharedArrayBuffer;
  readonly originNs: bigint;
  readonly trace: TraceModule | null;
  readonly module: string;
  readonly options: unknown;
  readonly control: MessagePort;
}

const data = workerData as ProcessThreadData;
const clock = new RealClock(data.originNs);
const driver = new ProcessDriver({
  pid: data.pid,
  rings: new SyscallRings(undefined, data.rings),
  arena: data.arena,
  clock,
  trace: await openTrace(data.trace),
  kernelDoorbell: new KernelDoorbell(data.kernelDoorbell),
  requestIds: data.requestIds,
});
const { main } = (await import(data.module)) as { main: ProcessMain };
const app: ProcessApp = (await main(driver.runtime, data.options)) ?? {};
data.control.on("message", (request: Request) => void answer(request));
data.control.postMessage({ id: 0 } satisfies Reply);

async function openTrace(trace: TraceModule | null): Promise<Tracepoints> {
  if (!trace) return NO_TRACE;
  const { openTracepoints } = (await import(trace.module)) as { openTracepoints: OpenTracepoints };
  return openTracepoints(trace.data, clock);
}

async function answer({ id, method, params }: Request): Promise<void> {
  try {
    const result = await handle(method, params);
    data.control.postMessage({ id, result } satisfies Reply);
  } catch (thrown) {
    data.control.postMessage(failureReply(id, thrown));
  }
  if (method === "host.stop") data.control.close();
}

async function handle(method: string, params: unknown): Promise<unknown> {
  clock.tick();
  switch (method) {
    case "host.goroutines":
      return goroutineRows(driver.runtime, clock.nowNs);
    case "host.accept":
      return setAcceptPaused(driver.runtime, (params as { paused: boolean }).paused);
    case "host.stop":
      await app.stop?.();
      driver.stop();
      return undefined;
    default:
      if (app.control) return await app.control(method, params);
      throw new Error(`this process answers no "${method}"`);
  }
}
