/**
 * The loop of the kernel thread: it never returns to an event loop until it is told to stop.
 *
 * Control messages, devices, submissions, time; then a brief spin while there is traffic, then sleep until the next
 * deadline, the next ring of the doorbell or the next frame of a device. Every turn has a piece of each, and each piece
 * a budget (NAPI's, the submission rings'): a flood of frames starves neither processes nor timers nor control.
 */
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import type { KernelDoorbell } from "./doorbell.ts";
import { FdWait } from "./fd-wait.ts";
import { type KernelMachine, pollAll } from "./kernel-machine.ts";
import type { RealClock } from "./real-clock.ts";

/** How long the kernel looks for more work before it sleeps. A wake-up costs tens of µs on both sides. */
export const DEFAULT_KERNEL_SPIN_NS: Ns = 20_000;
/** It wakes at least this often, so that a bug in a doorbell is slow instead of dead. */
const MAX_SLEEP_NS: Ns = SECOND;

export interface KernelLoopOptions {
  readonly machine: KernelMachine;
  readonly clock: RealClock;
  readonly doorbell: KernelDoorbell;
  readonly spinNs: Ns;
  /** Handles the control messages that are there; false to stop. */
  readonly takeControl: () => boolean;
}

export function runKernelLoop(options: KernelLoopOptions): void {
  const sources = options.machine.pollSources ?? [];
  if (!sources.some(({ fd }) => fd >= 0)) {
    turnUntilStopped(options, null);
    return;
  }
  const fdWait = new FdWait(options.doorbell, sources);
  try {
    turnUntilStopped(options, fdWait);
  } finally {
    fdWait.close();
  }
}

/** `fdWait`: how to sleep if devices have file descriptors. */
function turnUntilStopped(options: KernelLoopOptions, fdWait: FdWait | null): void {
  const { machine, clock, doorbell, spinNs, takeControl } = options;
  let controlSeen = 0;
  let lastWorkNs: Ns = 0;
  for (;;) {
    // Read before anything is looked at: what is announced from here on ends the sleep below.
    const seen = doorbell.sequence;
    const announced = doorbell.controlMessages;
    if (announced !== controlSeen) {
      controlSeen = announced;
      if (!takeControl()) return;
    }
    clock.tick();
    pollAll(machine);
    const isDue = machine.deadline() <= clock.nowNs;
    const didWork = machine.consume();
    machine.advance(clock.nowNs);
    if (didWork || isDue) {
      // Frames of the outside are no reason to spin: their descriptor wakes us, and who sends them may need this CPU.
      if (didWork || fdWait === null) lastWorkNs = clock.nowNs;
      continue;
    }
    if (spinForWork(seen, lastWorkNs + spinNs)) continue;
    const sleepNs = Math.min(machine.deadline() - clock.nowNs, MAX_SLEEP_NS);
    if (sleepNs <= 0) continue;
    if (fdWait !== null) fdWait.wait(seen, sleepNs);
    else doorbell.wait(seen, sleepNs / MILLISECOND);
  }

  /** True if somebody rang, a device has frames, or something is due, before `untilNs`. */
  function spinForWork(seen: number, untilNs: Ns): boolean {
    const deadlineNs = machine.deadline();
    while (clock.nowNs < untilNs) {
      if (doorbell.sequence !== seen || pollAll(machine)) return true;
      clock.tick();
      if (deadlineNs <= clock.nowNs) return true;
    }
    return false;
  }
}
