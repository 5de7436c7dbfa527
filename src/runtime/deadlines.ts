/**
 * Deadlines of many things known by small numbers: a binary heap with lazy deadlines, as base/timers, in typed arrays.
 *
 * Every idle connection of a server waits with a deadline; a row of numbers is a fifth of a timer with its closure.
 * Moving a deadline later is one store. Of several due at the same moment the lowest number comes first.
 */
import { NEVER, type Ns } from "../base/time.ts";

const FIRST_IDS = 64;

export class Deadlines {
  /** By id: when it is due, NEVER if it is not. */
  private dueNs = new Float64Array(FIRST_IDS).fill(NEVER);
  /** By id: its place in the heap + 1, 0 if it has none. */
  private places = new Int32Array(FIRST_IDS);
  /** The heap: ids, and the keys under which they stand there; a key may be earlier than what is due. */
  private ids = new Int32Array(FIRST_IDS);
  private keysNs = new Float64Array(FIRST_IDS);
  private size = 0;

  /** Sets, moves, or with NEVER removes the deadline of `id` ≥ 0. */
  set(id: number, atNs: Ns): void {
    if (id >= this.dueNs.length) this.growIds(id);
    this.dueNs[id] = atNs;
    if (atNs === NEVER) return;
    const place = (this.places[id] as number) - 1;
    if (place < 0) this.push(id, atNs);
    else if (atNs < (this.keysNs[place] as number)) this.up(place, id, atNs);
  }

  /** When `id` is due; NEVER. */
  of(id: number): Ns {
    return id < this.dueNs.length ? (this.dueNs[id] as number) : NEVER;
  }

  /** The earliest deadline, or NEVER. */
  next(): Ns {
    this.settle();
    return this.size === 0 ? NEVER : (this.keysNs[0] as number);
  }

  /** Takes one that is due at `nowNs` out and returns its id; -1 if none is. */
  takeDue(nowNs: Ns): number {
    if (this.next() > nowNs || this.size === 0) return -1;
    const id = this.ids[0] as number;
    this.dueNs[id] = NEVER;
    this.removeTop();
    return id;
  }

  /** How many are set; linear, for leak checks. */
  count(): number {
    let count = 0;
    for (let i = 0; i < this.size; i++) if (this.dueNs[this.ids[i] as number] !== NEVER) count++;
    return count;
  }

  /** Brings the heap's top to its true deadline. */
  private settle(): void {
    while (this.size > 0) {
      const id = this.ids[0] as number;
      const dueNs = this.dueNs[id] as number;
      if (dueNs === this.keysNs[0]) return;
      if (dueNs === NEVER) this.removeTop();
      else this.down(id, dueNs);
    }
  }

  private push(id: number, keyNs: Ns): void {
    if (this.size === this.ids.length) {
      this.ids = grown(this.ids, new Int32Array(2 * this.size));
      this.keysNs = grown(this.keysNs, new Float64Array(2 * this.size));
    }
    this.up(this.size++, id, keyNs);
  }

  private removeTop(): void {
    this.places[this.ids[0] as number] = 0;
    const last = --this.size;
    if (last > 0) this.down(this.ids[last] as number, this.keysNs[last] as number);
  }

  private put(place: number, id: number, keyNs: Ns): void {
    this.ids[place] = id;
    this.keysNs[place] = keyNs;
    this.places[id] = place + 1;
  }

  private isBefore(id: number, keyNs: Ns, place: number): boolean {
    const otherNs = this.keysNs[place] as number;
    return keyNs < otherNs || (keyNs === otherNs && id < (this.ids[place] as number));
  }

  private up(from: number, id: number, keyNs: Ns): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!this.isBefore(id, keyNs, parent)) break;
      this.put(place, this.ids[parent] as number, this.keysNs[parent] as number);
      place = parent;
    }
    this.put(place, id, keyNs);
  }

  /** Lets `id` sink from the top. */
  private down(id: number, keyNs: Ns): void {
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.size) break;
      if (
        child + 1 < this.size &&
        this.isBefore(this.ids[child + 1] as number, this.keysNs[child + 1] as number, child)
      )
        child++;
      if (this.isBefore(id, keyNs, child)) break;
      this.put(place, this.ids[child] as number, this.keysNs[child] as number);
      place = child;
    }
    this.put(place, id, keyNs);
  }

  private growIds(id: number): void {
    const before = this.dueNs.length;
    const length = Math.max(2 * before, id + 1);
    this.dueNs = grown(this.dueNs, new Float64Array(length)).fill(NEVER, before);
    this.places = grown(this.places, new Int32Array(length));
  }
}

function grown<T extends Int32Array | Float64Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
