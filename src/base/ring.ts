/**
 * A bounded first-in-first-out queue (law 10): full means full, the caller decides what to drop.
 */
import { assert } from "./assert.ts";

export class Ring<T> {
  readonly capacity: number;
  private readonly items: (T | undefined)[];
  private head = 0;
  private count = 0;

  /** Holds at most `capacity` items (≥ 1). */
  constructor(capacity: number) {
    assert(Number.isInteger(capacity) && capacity >= 1, "Ring needs a capacity of at least 1");
    this.capacity = capacity;
    this.items = [];
  }

  /** How many items wait. */
  get length(): number {
    return this.count;
  }

  /** Appends; false, and nothing changed, if the ring is full. */
  push(item: T): boolean {
    if (this.count === this.capacity) return false;
    // The array grows to `capacity` by use, so that a large limit costs nothing while the queue stays short.
    this.items[this.wrap(this.head + this.count)] = item;
    this.count++;
    return true;
  }

  /** Takes the oldest item; undefined if there is none. */
  shift(): T | undefined {
    if (this.count === 0) return undefined;
    const item = this.items[this.head];
    this.items[this.head] = undefined;
    this.head = this.wrap(this.head + 1);
    this.count--;
    // An empty ring starts over, so that a short queue keeps to the few slots that are warm.
    if (this.count === 0) this.head = 0;
    return item;
  }

  /** The oldest item, left in its place; undefined if there is none. */
  peek(): T | undefined {
    return this.at(0);
  }

  /** The item `index` places behind the oldest; undefined past the end. */
  at(index: number): T | undefined {
    return index >= 0 && index < this.count ? this.items[this.wrap(this.head + index)] : undefined;
  }

  /** Forgets all items. Owners free them first. */
  clear(): void {
    this.items.length = 0;
    this.head = 0;
    this.count = 0;
  }

  private wrap(index: number): number {
    return index >= this.capacity ? index - this.capacity : index;
  }
}
