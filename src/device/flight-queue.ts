/**
 * Frames on their way along a cable, in order of arrival.
 *
 * A ring of typed-array columns. Frames usually arrive in the order they left, so `insert` looks from the end; with
 * jitter or reordering it shifts the few that are overtaken. The columns grow by doubling up to the link's limit.
 */
import type { Ns } from "../base/time.ts";
import type { Summed } from "../skb/skb.ts";

const FIRST_CAPACITY = 64;

export class FlightQueue {
  length = 0;
  private capacity = FIRST_CAPACITY;
  private head = 0;
  private timeNs = new Float64Array(FIRST_CAPACITY);
  private slots = new Uint32Array(FIRST_CAPACITY);
  private offsets = new Uint32Array(FIRST_CAPACITY);
  private lens = new Uint32Array(FIRST_CAPACITY);
  private sums = new Uint8Array(FIRST_CAPACITY);
  private damages = new Uint8Array(FIRST_CAPACITY);

  /** Adds a frame that arrives at `atNs`, behind those that arrive at the same time or earlier. *Takes* the slot. */
  insert(atNs: Ns, slot: number, offset: number, len: number, summed: Summed, damaged: boolean): void {
    if (this.length === this.capacity) this.grow();
    let to = this.wrap(this.head + this.length);
    for (let i = this.length; i > 0; i--) {
      const before = this.wrap(this.head + i - 1);
      if (this.timeNs[before] <= atNs) break;
      this.move(before, to);
      to = before;
    }
    this.timeNs[to] = atNs;
    this.slots[to] = slot;
    this.offsets[to] = offset;
    this.lens[to] = len;
    this.sums[to] = summed;
    this.damages[to] = damaged ? 1 : 0;
    this.length++;
  }

  /** The fields of the frame that arrives next; meaningless while `length` is 0. */
  get nextNs(): Ns {
    return this.timeNs[this.head];
  }
  get slot(): number {
    return this.slots[this.head];
  }
  get offset(): number {
    return this.offsets[this.head];
  }
  get len(): number {
    return this.lens[this.head];
  }
  get summed(): Summed {
    return this.sums[this.head] as Summed;
  }
  /** The frame check sequence is wrong. */
  get damaged(): boolean {
    return this.damages[this.head] === 1;
  }

  /** Removes the frame that arrives next; the caller has taken its slot. */
  shift(): void {
    this.head = this.wrap(this.head + 1);
    this.length--;
  }

  private wrap(index: number): number {
    return index >= this.capacity ? index - this.capacity : index;
  }

  private move(from: number, to: number): void {
    this.timeNs[to] = this.timeNs[from];
    this.slots[to] = this.slots[from];
    this.offsets[to] = this.offsets[from];
    this.lens[to] = this.lens[from];
    this.sums[to] = this.sums[from];
    this.damages[to] = this.damages[from];
  }

  private grow(): void {
    const { head, capacity } = this;
    const unroll = <T extends Float64Array | Uint32Array | Uint8Array>(from: T, to: T): T => {
      for (let i = 0; i < capacity; i++) to[i] = from[(head + i) % capacity];
      return to;
    };
    const size = capacity * 2;
    this.timeNs = unroll(this.timeNs, new Float64Array(size));
    this.slots = unroll(this.slots, new Uint32Array(size));
    this.offsets = unroll(this.offsets, new Uint32Array(size));
    this.lens = unroll(this.lens, new Uint32Array(size));
    this.sums = unroll(this.sums, new Uint8Array(size));
    this.damages = unroll(this.damages, new Uint8Array(size));
    this.capacity = size;
    this.head = 0;
  }
}
