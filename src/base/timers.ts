/**
 * One host's timers: a binary heap with lazy deadlines.
 *
 * Moving a deadline later — what an RTO or a keep-alive does at every ACK — is one store: the heap entry stays where it
 * is and is pushed down when it comes up. Only moving a deadline earlier touches the heap. Ties fire in the order they
 * were armed, so that a run is a pure function of its input (law 9).
 *
 * A heap instead of a timing wheel: deadlines are exact to the nanosecond (virtual time needs that), see docs/adr/0002.
 */
import { NEVER, type Ns } from "./time.ts";

/** A thing that happens at a time. Make it once per connection or device and re-arm it; it costs no allocation then. */
export class Timer {
  /** When it shall fire; NEVER while idle. Set it through `arm` and `cancel` only. */
  deadlineNs: Ns = NEVER;
  /** @internal key under which it stands in the heap; may be earlier than `deadlineNs`. */
  heapNs: Ns = NEVER;
  /** @internal */
  heapIndex = -1;
  /** @internal order of the last arming, breaks ties. */
  order = 0;
  /** @internal the order under which it stands in the heap; differs from `order` after a lazy move. */
  heapOrder = 0;
  readonly fire: (nowNs: Ns) => void;

  constructor(fire: (nowNs: Ns) => void) {
    this.fire = fire;
  }

  get armed(): boolean {
    return this.deadlineNs !== NEVER;
  }
}

export class Timers {
  private readonly heap: Timer[] = [];
  private orders = 0;

  /** Arms (or moves) `timer` to fire at `deadlineNs`, rounded up: time is whole nanoseconds whatever was divided. */
  arm(timer: Timer, deadlineNs: Ns): void {
    const atNs = Math.ceil(deadlineNs);
    timer.deadlineNs = atNs;
    timer.order = ++this.orders;
    if (timer.heapIndex < 0) {
      timer.heapNs = atNs;
      timer.heapOrder = timer.order;
      timer.heapIndex = this.heap.length;
      this.heap.push(timer);
      this.up(timer.heapIndex);
    } else if (atNs < timer.heapNs) {
      timer.heapNs = atNs;
      timer.heapOrder = timer.order;
      this.up(timer.heapIndex);
    }
  }

  /** Disarms `timer`; its heap entry is dropped when it comes up. */
  cancel(timer: Timer): void {
    timer.deadlineNs = NEVER;
  }

  /** The earliest deadline, or NEVER. */
  deadline(): Ns {
    this.settle();
    return this.heap.length === 0 ? NEVER : (this.heap[0] as Timer).deadlineNs;
  }

  /** Fires, in order, at most one timer due at `nowNs`; false if none is due. */
  fireOne(nowNs: Ns): boolean {
    this.settle();
    const timer = this.heap[0];
    if (timer === undefined || timer.deadlineNs > nowNs) return false;
    this.remove(timer);
    timer.deadlineNs = NEVER;
    timer.fire(nowNs);
    return true;
  }

  /** How many timers are armed; linear, for tests and leak checks. */
  armedCount(): number {
    return this.heap.filter((t) => t.armed).length;
  }

  /** Brings the heap's top to its true deadline and order. */
  private settle(): void {
    for (;;) {
      const top = this.heap[0];
      if (top === undefined || (top.deadlineNs === top.heapNs && top.order === top.heapOrder)) return;
      if (top.deadlineNs === NEVER) {
        this.remove(top);
      } else {
        top.heapNs = top.deadlineNs;
        top.heapOrder = top.order;
        this.down(0);
      }
    }
  }

  private remove(timer: Timer): void {
    const at = timer.heapIndex;
    const last = this.heap.pop() as Timer;
    timer.heapIndex = -1;
    if (last === timer) return;
    this.heap[at] = last;
    last.heapIndex = at;
    this.up(at);
    this.down(last.heapIndex);
  }

  private before(a: Timer, b: Timer): boolean {
    return a.heapNs < b.heapNs || (a.heapNs === b.heapNs && a.heapOrder < b.heapOrder);
  }

  private up(from: number): void {
    const heap = this.heap;
    const timer = heap[from] as Timer;
    let at = from;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Timer;
      if (!this.before(timer, parent)) break;
      heap[at] = parent;
      parent.heapIndex = at;
      at = parentAt;
    }
    heap[at] = timer;
    timer.heapIndex = at;
  }

  private down(from: number): void {
    const heap = this.heap;
    const timer = heap[from] as Timer;
    let at = from;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= heap.length) break;
      if (childAt + 1 < heap.length && this.before(heap[childAt + 1] as Timer, heap[childAt] as Timer)) childAt++;
      const child = heap[childAt] as Timer;
      if (!this.before(child, timer)) break;
      heap[at] = child;
      child.heapIndex = at;
      at = childAt;
    }
    heap[at] = timer;
    timer.heapIndex = at;
  }
}
