/**
 * The kernel thread's doorbell: one shared word that every process and the main thread ring, so that the kernel can
 * sleep on all of them at once.
 *
 * A ring is an atomic add; the system call that wakes the sleeper is made only if it sleeps.
 */

const SEQUENCE = 0;
const SLEEPING = 1;
const CONTROL = 2;

export class KernelDoorbell {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(64)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
  }

  /** Somebody submitted something. */
  ring(): void {
    Atomics.add(this.words, SEQUENCE, 1);
    if (Atomics.load(this.words, SLEEPING) !== 0) Atomics.notify(this.words, SEQUENCE);
  }

  /** A control message was posted. */
  ringForControl(): void {
    Atomics.add(this.words, CONTROL, 1);
    this.ring();
  }

  /** Rings so far; a wait for a change of it loses nothing. */
  get sequence(): number {
    return Atomics.load(this.words, SEQUENCE);
  }

  /** Control messages announced so far. */
  get controlMessages(): number {
    return Atomics.load(this.words, CONTROL);
  }

  /** Blocks this thread until a ring after `seen`, at most `timeoutMs`. */
  wait(seen: number, timeoutMs: number): void {
    Atomics.store(this.words, SLEEPING, 1);
    // A ring between the caller's look and the store above changed the sequence: wait returns at once.
    Atomics.wait(this.words, SEQUENCE, seen, timeoutMs);
    Atomics.store(this.words, SLEEPING, 0);
  }
}
