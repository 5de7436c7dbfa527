/**
 * The receive queue: bytes in order that no read(2) has taken (Linux sk_receive_queue).
 *
 * Law 3: a payload stays in the slot it arrived in only while that is cheap — it fills more than half of the slot and
 * the pool is roomy. Otherwise it is copied to a stream page and its slot goes back. Either way the queue is a list of
 * *runs*, contiguous in memory, each with the stream offset and the times of the frame that brought it.
 */
import { assert } from "../../base/assert.ts";
import type { Ns } from "../../base/time.ts";
import type { Arena } from "../../skb/arena.ts";
import type { SkBuff, SkBuffPool } from "../../skb/skb.ts";
import type { ReceivedRun } from "../port.ts";
import { MAX_IDLE_RECORDS } from "./constants.ts";
import { takePage } from "./pages.ts";

/** Above this many runs, neighbours in one page merge and lose the finer times: bounds the records of tiny segments. */
const MAX_FINE_RUNS = 256;

/** A page or a frame's slot, released with its last run. */
class Slot {
  address = 0;
  size = 0;
  /** Bytes written from the start; a frame's slot is always full. */
  used = 0;
  runs = 0;
  /** Bytes it is charged with against the receive buffer: what it holds if shared, all of it if it is a frame's. */
  chargedBytes = 0;
  next: Slot | null = null;
}

class Run {
  slot: Slot;
  address = 0;
  len = 0;
  offset = 0;
  arrivedNs: Ns = 0;
  queuedNs: Ns = 0;
  next: Run | null = null;
  constructor(slot: Slot) {
    this.slot = slot;
  }
}

/**
 * What all receive queues of a host share: its frames, and what is not in use now of queues and of the records of runs
 * and slots.
 */
export class ReceiveRecords {
  readonly skbs: SkBuffPool;
  readonly arena: Arena;
  /** The queue of every connection that has nothing to read. It stays empty, and knows no offset. */
  readonly empty = new ReceiveQueue(this, -1);
  private readonly queues: ReceiveQueue[] = [];
  private freeRuns: Run | null = null;
  private idleRuns = 0;
  private freeSlots: Slot | null = null;
  private idleSlots = 0;

  constructor(skbs: SkBuffPool) {
    this.skbs = skbs;
    this.arena = skbs.arena;
  }

  takeRun(slot: Slot): Run {
    const run = this.freeRuns ?? new Run(slot);
    if (this.freeRuns !== null) this.idleRuns--;
    this.freeRuns = run.next;
    run.slot = slot;
    run.next = null;
    return run;
  }

  putRun(run: Run): void {
    if (this.idleRuns === MAX_IDLE_RECORDS) return;
    this.idleRuns++;
    run.next = this.freeRuns;
    this.freeRuns = run;
  }

  takeSlot(address: number, size: number): Slot {
    const slot = this.freeSlots ?? new Slot();
    if (this.freeSlots !== null) this.idleSlots--;
    this.freeSlots = slot.next;
    slot.next = null;
    slot.address = address;
    slot.size = size;
    slot.used = 0;
    slot.runs = 0;
    slot.chargedBytes = 0;
    return slot;
  }

  putSlot(slot: Slot): void {
    if (this.idleSlots === MAX_IDLE_RECORDS) return;
    this.idleSlots++;
    slot.next = this.freeSlots;
    this.freeSlots = slot;
  }

  /** An empty queue of one's own, that begins at `offset`. */
  takeQueue(offset: number): ReceiveQueue {
    const queue = this.queues.pop();
    if (queue === undefined) return new ReceiveQueue(this, offset);
    queue.readOffset = queue.endOffset = offset;
    return queue;
  }

  /** *Takes* a queue back that is empty. */
  putQueue(queue: ReceiveQueue): void {
    assert(queue.slots === 0, "receive queue given back that is in use");
    if (this.queues.length < MAX_IDLE_RECORDS) this.queues.push(queue);
  }
}

export class ReceiveQueue {
  /** Stream offset of the next byte a read returns (RFC 9293 has no name; Linux copied_seq). */
  readOffset: number;
  /** Stream offset one past the last byte in order. */
  endOffset: number;
  /** What the queue holds of the receive buffer, in bytes of memory (Linux sk_rmem_alloc). */
  memoryBytes = 0;
  /** Slots owned: stream pages, and frames whose payload stayed in place. */
  slots = 0;
  private readonly records: ReceiveRecords;
  private head: Run | null = null;
  private tail: Run | null = null;
  /** The run the last peek ended in: the next one usually goes on there. */
  private cursor: Run | null = null;
  private runCount = 0;

  constructor(records: ReceiveRecords, offset: number) {
    this.records = records;
    this.readOffset = offset;
    this.endOffset = offset;
  }

  /** Bytes a read can take. */
  get length(): number {
    return this.endOffset - this.readOffset;
  }

  /**
   * Appends `skb.data … skb.tail`, the next bytes in order, and frees the skb (*takes*). Never fails: when there is no
   * page to copy to, the payload stays in its slot.
   */
  append(skb: SkBuff, nowNs: Ns): void {
    assert(this.readOffset >= 0, "the receive queue that all share stays empty");
    const len = skb.len;
    const size = skb.end - skb.head;
    const { arena, skbs } = this.records;
    if ((len * 2 > size && arena.isRoomy(size)) || !this.copyIn(skb, len, nowNs)) this.keep(skb, len, size, nowNs);
    else skbs.release(skb);
  }

  /** Fills `out` with the run `skip` bytes past the read position; false if there is none. */
  peek(skip: number, out: ReceivedRun): boolean {
    const offset = this.readOffset + skip;
    if (offset >= this.endOffset) return false;
    let run = this.cursor !== null && this.cursor.offset <= offset ? this.cursor : this.head;
    while (run !== null && run.offset + run.len <= offset) run = run.next;
    assert(run !== null, "receive queue: runs do not cover the offset");
    this.cursor = run;
    const within = offset - run.offset;
    out.address = run.address + within;
    out.len = run.len - within;
    out.offset = offset;
    out.arrivedNs = run.arrivedNs;
    out.queuedNs = run.queuedNs;
    return true;
  }

  /** Advances the read position by `n` bytes and frees what lies behind it. */
  take(n: number): void {
    assert(n <= this.length, "receive queue: more taken than there is");
    this.readOffset += n;
    for (let run = this.head; run !== null && run.offset + run.len <= this.readOffset; run = this.head)
      this.dropHead(run);
  }

  /** Gives everything back. The offsets stay. */
  clear(): void {
    while (this.head !== null) this.dropHead(this.head);
    this.readOffset = this.endOffset;
  }

  /** Law 3's other half: copies to pages. False, and nothing taken, when the arena has no page left. */
  private copyIn(skb: SkBuff, len: number, nowNs: Ns): boolean {
    const { arena } = this.records;
    let copied = 0;
    let slot = this.tail !== null && this.tail.slot.used < this.tail.slot.size ? this.tail.slot : null;
    if (len === 0) return true;
    while (copied < len) {
      if (slot === null) {
        const address = takePage(arena, len - copied, this.length);
        if (address === 0) break;
        slot = this.newSlot(address, arena.slotSize(address));
      }
      const n = Math.min(len - copied, slot.size - slot.used);
      arena.copy(arena.bytes, skb.data + copied, arena.bytes, slot.address + slot.used, n);
      this.addRun(slot, slot.address + slot.used, n, skb.arrivedNs, nowNs);
      slot.used += n;
      slot.chargedBytes += n;
      this.memoryBytes += n;
      copied += n;
      slot = null;
    }
    skb.pull(copied);
    return copied === len;
  }

  private keep(skb: SkBuff, len: number, size: number, nowNs: Ns): void {
    const rest = skb.len;
    assert(rest <= len, "receive queue: skb grew");
    const slot = this.newSlot(skb.head, size);
    slot.used = size;
    slot.chargedBytes = size;
    this.memoryBytes += size;
    this.addRun(slot, skb.data, rest, skb.arrivedNs, nowNs);
    this.records.skbs.releaseKeepingSlot(skb);
  }

  private addRun(slot: Slot, address: number, len: number, arrivedNs: Ns, queuedNs: Ns): void {
    const tail = this.tail;
    this.endOffset += len;
    if (tail !== null && tail.slot === slot && tail.address + tail.len === address) {
      const sameTimes = tail.arrivedNs === arrivedNs && tail.queuedNs === queuedNs;
      if (sameTimes || this.runCount >= MAX_FINE_RUNS) {
        tail.len += len;
        return;
      }
    }
    const run = this.records.takeRun(slot);
    run.address = address;
    run.len = len;
    run.offset = this.endOffset - len;
    run.arrivedNs = arrivedNs;
    run.queuedNs = queuedNs;
    slot.runs++;
    this.runCount++;
    if (tail === null) this.head = run;
    else tail.next = run;
    this.tail = run;
  }

  private dropHead(run: Run): void {
    this.head = run.next;
    if (this.head === null) this.tail = null;
    if (this.cursor === run) this.cursor = null;
    this.runCount--;
    const slot = run.slot;
    if (--slot.runs === 0) {
      this.memoryBytes -= slot.chargedBytes;
      this.records.arena.release(slot.address);
      this.slots--;
      this.records.putSlot(slot);
    }
    this.records.putRun(run);
  }

  private newSlot(address: number, size: number): Slot {
    this.slots++;
    return this.records.takeSlot(address, size);
  }
}
