/** @worker The far side of the wake-up measurement: a process that sleeps until its doorbell rings, and rings back. */
import { workerData } from "node:worker_threads";
import { Control, DEFAULT_RING_SIZES, SyscallRings } from "../src/socket/rings.ts";

const rings = new SyscallRings(DEFAULT_RING_SIZES, workerData as SharedArrayBuffer);
const { control } = rings;
const SECONDS_MS = 30_000;

for (let seen = 0; ; ) {
  if (Atomics.wait(control, Control.processDoorbell, seen, SECONDS_MS) === "timed-out") break;
  seen = Atomics.load(control, Control.processDoorbell);
  if (seen < 0) break;
  rings.ringKernel();
}
