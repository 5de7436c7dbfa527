/**
 * One host's timers: a heap with lazy deadlines.
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
  /** @internal where it stands in the heap; −1: nowhere. */
  heapIndex = -1;
  /** @internal order of the last arming, breaks ties. */
  order = 0;
  readonly fire: (nowNs: Ns, owner: unknown) => void;
  /** Whose timer it is: so that many can share one `fire`. */
  owner: unknown;
  /** Called when it is neither armed nor in the heap any more, for those who lend timers; not after `forget`. */
  readonly idle: ((timer: Timer) => void) | null;

  constructor(
    fire: (nowNs: Ns, owner: unknown) => void,
    owner?: unknown,
    idle: ((timer: Timer) => void) | null = null,
  ) {
    this.fire = fire;
    this.owner = owner;
    this.idle = idle;
  }

  get armed(): boolean {
    return this.deadlineNs !== NEVER;
  }
}

const INITIAL_ENTRIES = 64;

/**
 * Each entry has four children: half as many levels as with two, and the keys of four stand in one cache line. Keys are
 * in arrays beside the heap: sifting compares neighbours in memory and touches a timer only to tell it its new place.
 * A key may be earlier than its timer's deadline, never later.
 */
export class Timers {
  private readonly heap: Timer[] = [];
  private keysNs = new Float64Array(INITIAL_ENTRIES);
  private keyOrders = new Float64Array(INITIAL_ENTRIES);
  private orders = 0;

  /** Arms (or moves) `timer` to fire at `deadlineNs`, rounded up: time is whole nanoseconds whatever was divided. */
  arm(timer: Timer, deadlineNs: Ns): void {
    const atNs = Math.ceil(deadlineNs);
    timer.deadlineNs = atNs;
    timer.order = ++this.orders;
    const at = timer.heapIndex;
    if (at < 0) this.insert(timer, atNs);
    else if (atNs < this.keysNs[at]) this.up(at, timer, atNs, timer.order);
  }

  /** Disarms `timer`; its heap entry is dropped when it comes up. */
  cancel(timer: Timer): void {
    timer.deadlineNs = NEVER;
  }

  /** Disarms `timer` for good and drops its heap entry at once: its owner is gone and shall be free. */
  forget(timer: Timer): void {
    timer.deadlineNs = NEVER;
    if (timer.heapIndex >= 0) this.remove(timer.heapIndex);
  }

  /** The earliest deadline, or NEVER. */
  deadline(): Ns {
    const top = this.settled();
    return top === undefined ? NEVER : top.deadlineNs;
  }

  /** Fires, in order, at most one timer due at `nowNs`; false if none is due. */
  fireOne(nowNs: Ns): boolean {
    const timer = this.settled();
    if (timer === undefined || timer.deadlineNs > nowNs) return false;
    this.remove(0);
    timer.deadlineNs = NEVER;
    timer.fire(nowNs, timer.owner);
    if (timer.idle !== null && timer.heapIndex < 0) timer.idle(timer);
    return true;
  }

  /** How many timers are armed; linear, for tests and leak checks. */
  armedCount(): number {
    return this.heap.filter((t) => t.armed).length;
  }

  /** The heap's top, brought to its true deadline and order. */
  private settled(): Timer | undefined {
    for (;;) {
      const top = this.heap[0];
      if (top === undefined || (top.deadlineNs === this.keysNs[0] && top.order === this.keyOrders[0])) return top;
      if (top.deadlineNs === NEVER) {
        this.remove(0);
        if (top.idle !== null) top.idle(top);
      } else {
        this.down(0, top, top.deadlineNs, top.order);
      }
    }
  }

  private insert(timer: Timer, keyNs: Ns): void {
    const at = this.heap.length;
    if (at === this.keysNs.length) this.grow();
    this.heap.push(timer);
    this.up(at, timer, keyNs, timer.order);
  }

  private grow(): void {
    const { keysNs, keyOrders } = this;
    this.keysNs = new Float64Array(2 * keysNs.length);
    this.keyOrders = new Float64Array(2 * keysNs.length);
    this.keysNs.set(keysNs);
    this.keyOrders.set(keyOrders);
  }

  private remove(at: number): void {
    const { heap, keysNs, keyOrders } = this;
    (heap[at] as Timer).heapIndex = -1;
    const last = heap.pop() as Timer;
    const from = heap.length;
    if (from === at) return;
    // The last entry fills the gap, and goes up or down from there.
    const keyNs = keysNs[from];
    const order = keyOrders[from];
    if (at > 0 && this.isBefore(keyNs, order, (at - 1) >> 2)) this.up(at, last, keyNs, order);
    else this.down(at, last, keyNs, order);
  }

  private isBefore(keyNs: Ns, order: number, than: number): boolean {
    const otherNs = this.keysNs[than];
    return keyNs < otherNs || (keyNs === otherNs && order < this.keyOrders[than]);
  }

  /** Puts `timer` under a key at `from` or above it. */
  private up(from: number, timer: Timer, keyNs: Ns, order: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 2;
      if (!this.isBefore(keyNs, order, parent)) break;
      this.move(parent, at);
      at = parent;
    }
    this.place(at, timer, keyNs, order);
  }

  /** Puts `timer` under a key at `from` or below it. */
  private down(from: number, timer: Timer, keyNs: Ns, order: number): void {
    let at = from;
    for (let child = this.firstChild(at); child > 0; child = this.firstChild(at)) {
      if (this.isBefore(keyNs, order, child)) break;
      this.move(child, at);
      at = child;
    }
    this.place(at, timer, keyNs, order);
  }

  /** Which of the children of `at` comes first; 0: it has none. */
  private firstChild(at: number): number {
    const from = 4 * at + 1;
    const end = Math.min(from + 4, this.heap.length);
    if (from >= end) return 0;
    let first = from;
    for (let child = from + 1; child < end; child++) {
      if (this.isBefore(this.keysNs[child], this.keyOrders[child], first)) first = child;
    }
    return first;
  }

  private move(from: number, to: number): void {
    this.place(to, this.heap[from] as Timer, this.keysNs[from], this.keyOrders[from]);
  }

  private place(at: number, timer: Timer, keyNs: Ns, order: number): void {
    this.heap[at] = timer;
    this.keysNs[at] = keyNs;
    this.keyOrders[at] = order;
    timer.heapIndex = at;
  }
}
