/**
 * Worker entry of the kernel thread: builds the machine, says that it is ready, and turns it until told to stop.
 */
import { type MessagePort, receiveMessageOnPort, workerData } from "node:worker_threads";
import type { Ns } from "../base/time.ts";
import { KernelDoorbell } from "./doorbell.ts";
import { runKernelLoop } from "./kernel-loop.ts";
import type { KernelFactory, KernelMachine } from "./kernel-machine.ts";
import { RealClock } from "./real-clock.ts";
import { failureReply, type Reply, type Request } from "./request-port.ts";

/** What the main side hands over (`kernel-handle.ts`). */
export interface KernelThreadData {
  readonly factory: string;
  readonly options: unknown;
  readonly originNs: bigint;
  readonly doorbell: SharedArrayBuffer;
  readonly spinNs: Ns;
  readonly control: MessagePort;
}

const data = workerData as KernelThreadData;
const clock = new RealClock(data.originNs);
const { createKernelMachine } = (await import(data.factory)) as { createKernelMachine: KernelFactory };
const machine: KernelMachine = createKernelMachine(data.options, { hasThreads: true, clock, wake: () => {} });
data.control.postMessage({ id: 0, result: machine.shared } satisfies Reply);
try {
  runKernelLoop({ machine, clock, doorbell: new KernelDoorbell(data.doorbell), spinNs: data.spinNs, takeControl });
} finally {
  data.control.close();
}

function takeControl(): boolean {
  for (let received = receiveMessageOnPort(data.control); received; received = receiveMessageOnPort(data.control)) {
    const request = received.message as Request;
    if (request.method === "host.stop") {
      machine.close();
      data.control.postMessage({ id: request.id } satisfies Reply);
      return false;
    }
    data.control.postMessage(answer(request));
  }
  return true;
}

function answer({ id, method, params }: Request): Reply {
  try {
    if (method === "host.attach") {
      const { host, name, rings } = params as { host: string; name: string; rings: SharedArrayBuffer };
      return { id, result: machine.attachProcess(host, name, rings) };
    }
    if (method === "host.detach") {
      machine.detachProcess?.((params as { pid: number }).pid);
      return { id };
    }
    clock.tick();
    return { id, result: machine.control(method, params) };
  } catch (thrown) {
    return failureReply(id, thrown);
  }
}
