/** How long a sleeping process takes to run after its doorbell rang: two threads over the rings of a process. */
import { Worker } from "node:worker_threads";
import { KernelDoorbell } from "../src/host/doorbell.ts";
import { Control, SyscallRings } from "../src/socket/rings.ts";
import { quantile } from "./measure.ts";

const TRIPS = 300;
/** So long nothing happens before each ring: both sides sleep by then. */
const PAUSE_NS = 200_000n;

/** Half a round trip, both sides asleep before it: the median of 300 trips, in `rounds` rounds. */
export function wakeupTimes(rounds: number): number[] {
  const rings = SyscallRings.shared();
  const doorbell = new KernelDoorbell();
  const worker = new Worker(new URL("./doorbell-echo.js", import.meta.url), {
    workerData: { rings: rings.buffer, doorbell: doorbell.buffer },
  });
  const samples = Array.from({ length: rounds + 1 }, () =>
    quantile(
      Array.from({ length: TRIPS }, () => trip(rings, doorbell)),
      0.5,
    ),
  );
  Atomics.store(rings.control, Control.processDoorbell, -1);
  Atomics.notify(rings.control, Control.processDoorbell);
  worker.unref();
  return samples.slice(1);
}

function trip(rings: SyscallRings, doorbell: KernelDoorbell): number {
  const seen = doorbell.sequence;
  const pause = process.hrtime.bigint() + PAUSE_NS;
  while (process.hrtime.bigint() < pause);
  const from = process.hrtime.bigint();
  rings.ringProcess();
  doorbell.wait(seen, 5000);
  if (doorbell.sequence === seen) throw new Error("nobody answers");
  return Number(process.hrtime.bigint() - from) / 2;
}
