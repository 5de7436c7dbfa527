/** @worker The far side of the wake-up measurement: a process that sleeps until its doorbell rings, and rings back. */
import { workerData } from "node:worker_threads";
import { KernelDoorbell } from "../src/host/doorbell.ts";
import { Control, DEFAULT_RING_SIZES, SyscallRings } from "../src/socket/rings.ts";

const data = workerData as { readonly rings: SharedArrayBuffer; readonly doorbell: SharedArrayBuffer };
const { control } = new SyscallRings(DEFAULT_RING_SIZES, data.rings);
const kernel = new KernelDoorbell(data.doorbell);
const SECONDS_MS = 30_000;

for (let seen = 0; ; ) {
  if (Atomics.wait(control, Control.processDoorbell, seen, SECONDS_MS) === "timed-out") break;
  seen = Atomics.load(control, Control.processDoorbell);
  if (seen < 0) break;
  kernel.ring();
}
