/**
 * The loop of the kernel thread: it never returns to an event loop until it is told to stop.
 *
 * Control messages, submissions, time; then a brief spin while there is traffic, then sleep until the next deadline or
 * the next ring of the doorbell.
 */
import { MILLISECOND, NEVER, type Ns } from "../base/time.ts";
import type { KernelDoorbell } from "./doorbell.ts";
import type { KernelMachine } from "./kernel-machine.ts";
import type { RealClock } from "./real-clock.ts";

/** How long the kernel looks for more work before it sleeps. A wake-up costs tens of µs on both sides. */
export const DEFAULT_KERNEL_SPIN_NS: Ns = 20_000;
/** It wakes at least this often, so that a bug in a doorbell is slow instead of dead. */
const MAX_SLEEP_MS = 1000;

export interface KernelLoopOptions {
  readonly machine: KernelMachine;
  readonly clock: RealClock;
  readonly doorbell: KernelDoorbell;
  readonly spinNs: Ns;
  /** Handles the control messages that are there; false to stop. */
  readonly takeControl: () => boolean;
}

export function runKernelLoop({ machine, clock, doorbell, spinNs, takeControl }: KernelLoopOptions): void {
  let controlSeen = 0;
  let lastWorkNs: Ns = 0;
  for (;;) {
    const seen = doorbell.sequence;
    const announced = doorbell.controlMessages;
    if (announced !== controlSeen) {
      controlSeen = announced;
      if (!takeControl()) return;
    }
    clock.tick();
    const isDue = machine.deadline() <= clock.nowNs;
    const didWork = machine.consume();
    machine.advance(clock.nowNs);
    if (didWork || isDue) {
      lastWorkNs = clock.nowNs;
      continue;
    }
    if (spinForWork(seen, lastWorkNs + spinNs)) continue;
    const deadlineNs = machine.deadline();
    const sleepMs =
      deadlineNs === NEVER ? MAX_SLEEP_MS : Math.min((deadlineNs - clock.nowNs) / MILLISECOND, MAX_SLEEP_MS);
    if (sleepMs > 0) doorbell.wait(seen, sleepMs);
  }

  /** True if somebody rang, or something is due, before `untilNs`. */
  function spinForWork(seen: number, untilNs: Ns): boolean {
    const deadlineNs = machine.deadline();
    while (clock.nowNs < untilNs) {
      if (doorbell.sequence !== seen) return true;
      clock.tick();
      if (deadlineNs <= clock.nowNs) return true;
    }
    return false;
  }
}
