/**
 * The kernel thread's doorbell: one shared word that every process and the main thread ring, so that the kernel can
 * sleep on all of them at once.
 *
 * A ring is an atomic add; the system call that wakes the sleeper is made only if it sleeps, and by one ringer alone:
 * the one that takes the sleeper's mark away. No ring is lost: the ringer counts, then looks for the mark; the sleeper
 * makes the mark, then looks at the count (`wait`). Whatever the order, one of them sees the other.
 */
import { writeSync } from "node:fs";

const SEQUENCE = 0;
/** Whether and how the kernel sleeps: the mark. */
const SLEEPING = 1;
const CONTROL = 2;
/** The eventfd that wakes a kernel which sleeps in poll(2). */
const EVENT_FD = 3;

const AWAKE = 0;
const IN_ATOMICS_WAIT = 1;
const IN_POLL = 2;

/** What an eventfd takes: a 64-bit count. */
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

export class KernelDoorbell {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(64)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
  }

  /** Somebody submitted something. */
  ring(): void {
    const { words } = this;
    Atomics.add(words, SEQUENCE, 1);
    if (Atomics.load(words, SLEEPING) === AWAKE) return;
    const mark = Atomics.exchange(words, SLEEPING, AWAKE);
    if (mark === IN_ATOMICS_WAIT) Atomics.notify(words, SEQUENCE);
    else if (mark === IN_POLL) writeSync(Atomics.load(words, EVENT_FD), ONE);
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
    Atomics.store(this.words, SLEEPING, IN_ATOMICS_WAIT);
    // A ring between the caller's look and the store above changed the sequence: wait returns at once.
    Atomics.wait(this.words, SEQUENCE, seen, timeoutMs);
    Atomics.store(this.words, SLEEPING, AWAKE);
  }

  /** The kernel is going to sleep in poll(2) on this eventfd; false if somebody rang after `seen`. */
  prepareToPoll(seen: number, eventFd: number): boolean {
    Atomics.store(this.words, EVENT_FD, eventFd);
    Atomics.store(this.words, SLEEPING, IN_POLL);
    return Atomics.load(this.words, SEQUENCE) === seen;
  }

  /** The kernel is awake. True if a ringer took the mark: then it has written to the eventfd, or is about to. */
  endPoll(): boolean {
    return Atomics.exchange(this.words, SLEEPING, AWAKE) === AWAKE;
  }
}
