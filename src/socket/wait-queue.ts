/**
 * Wait queues (Linux wait_queue_head): who wants to hear when a file's readiness changes.
 *
 * An entry is a thing that is told, not a thread that sleeps: an epoll item, or a call of a process. Ordinary
 * entries stand at the front and are all told; exclusive ones stand at the back in the order they came and are told
 * until enough of them accepted (the cure for the thundering herd).
 */
import { assert } from "../base/assert.ts";
import type { SocketCounts } from "./counts.ts";

export abstract class WaitEntry {
  /** @internal */
  queue: WaitQueue | null = null;
  /** @internal */
  prev: WaitEntry | null = null;
  /** @internal */
  next: WaitEntry | null = null;
  /** @internal */
  exclusive = false;

  /**
   * Called at each wake-up with the EPOLL* bits that changed, 0 for "anything" (Linux `key`). Returns whether it woke
   * somebody: only then an exclusive entry uses up the wake-up.
   */
  abstract wake(key: number): boolean;

  get queued(): boolean {
    return this.queue !== null;
  }
}

export class WaitQueue {
  private head: WaitEntry | null = null;
  private tail: WaitEntry | null = null;
  /** The entry that is told next while a wake-up is under way. */
  private cursor: WaitEntry | null = null;
  /** Who counts the entries; a file has more to do with it. */
  protected readonly context: { readonly counts: SocketCounts };

  constructor(context: { readonly counts: SocketCounts }) {
    this.context = context;
  }

  /** How many wait; linear, for tests and leak checks. */
  get length(): number {
    let count = 0;
    for (let entry = this.head; entry !== null; entry = entry.next) count++;
    return count;
  }

  /** Somebody waits. */
  get hasWaiters(): boolean {
    return this.head !== null;
  }

  /** Adds `entry` (add_wait_queue, or add_wait_queue_exclusive). It must not be in any queue. */
  add(entry: WaitEntry, exclusive = false): void {
    assert(entry.queue === null, "wait entry is in a queue already");
    entry.queue = this;
    entry.exclusive = exclusive;
    if (exclusive) {
      entry.prev = this.tail;
      entry.next = null;
      if (this.tail) this.tail.next = entry;
      else this.head = entry;
      this.tail = entry;
    } else {
      entry.prev = null;
      entry.next = this.head;
      if (this.head) this.head.prev = entry;
      else this.tail = entry;
      this.head = entry;
    }
    this.context.counts.waitEntries++;
  }

  /** Removes `entry` if it is here. Allowed during a wake-up. */
  remove(entry: WaitEntry): void {
    if (entry.queue !== this) return;
    if (this.cursor === entry) this.cursor = entry.next;
    if (entry.prev) entry.prev.next = entry.next;
    else this.head = entry.next;
    if (entry.next) entry.next.prev = entry.prev;
    else this.tail = entry.prev;
    entry.queue = entry.prev = entry.next = null;
    this.context.counts.waitEntries--;
  }

  /**
   * Tells the entries: all ordinary ones, and exclusive ones until `exclusives` of them accepted (Linux
   * __wake_up_common).
   */
  wake(key: number, exclusives = 1): void {
    const outer = this.cursor;
    let left = exclusives;
    let entry = this.head;
    while (entry !== null) {
      this.cursor = entry.next;
      const exclusive = entry.exclusive;
      if (entry.wake(key) && exclusive && --left === 0) break;
      entry = this.cursor;
    }
    this.cursor = outer !== null && outer.queue === this ? outer : null;
  }
}
