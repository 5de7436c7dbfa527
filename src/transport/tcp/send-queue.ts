/**
 * The send queue: bytes the process wrote and the peer has not acknowledged, in stream pages (law 3).
 *
 * Positions are stream offsets: plain numbers from 0 at the first byte after the SYN, which never wrap. Transmission
 * copies a range out in one pass with its checksum; a retransmission copies again; no frame ever points into a page.
 */
import { assert } from "../../base/assert.ts";
import { fold, sum } from "../../base/checksum.ts";
import type { Arena } from "../../skb/arena.ts";
import { MAX_IDLE_RECORDS } from "./constants.ts";
import { takePage } from "./pages.ts";

/** One page of the queue: `used` bytes from `offset` on, at `address`. */
class SendPage {
  address = 0;
  size = 0;
  used = 0;
  offset = 0;
  next: SendPage | null = null;
}

/** Queues and records of pages not in use now, for all connections of a host: the next one finds a warm record. */
export class SendPagePool {
  readonly arena: Arena;
  /** The queue of every connection that has nothing to send. It stays empty, and knows no offset. */
  readonly empty = new SendQueue(this, -1);
  private readonly queues: SendQueue[] = [];
  private free: SendPage | null = null;
  private idle = 0;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  take(): SendPage {
    const page = this.free ?? new SendPage();
    if (this.free !== null) this.idle--;
    this.free = page.next;
    page.next = null;
    return page;
  }

  put(page: SendPage): void {
    if (this.idle === MAX_IDLE_RECORDS) return;
    this.idle++;
    page.next = this.free;
    this.free = page;
  }

  /** An empty queue of one's own, that begins at `offset`. */
  takeQueue(offset: number): SendQueue {
    const queue = this.queues.pop();
    if (queue === undefined) return new SendQueue(this, offset);
    queue.startOffset = queue.endOffset = offset;
    return queue;
  }

  /** *Takes* a queue back that is empty. */
  putQueue(queue: SendQueue): void {
    assert(queue.pages === 0, "send queue given back that is in use");
    if (this.queues.length < MAX_IDLE_RECORDS) this.queues.push(queue);
  }
}

export class SendQueue {
  /** Stream offset of the first byte kept: everything before it is acknowledged. */
  startOffset: number;
  /** Stream offset one past the last byte written by the process (RFC 9293 has no name; Linux write_seq). */
  endOffset: number;
  /** Pages owned. */
  pages = 0;
  private readonly pool: SendPagePool;
  private head: SendPage | null = null;
  private tail: SendPage | null = null;
  /** Where the last copy ended: the next one usually starts there. */
  private cursor: SendPage | null = null;

  constructor(pool: SendPagePool, offset: number) {
    this.pool = pool;
    this.startOffset = offset;
    this.endOffset = offset;
  }

  /** Bytes written and not acknowledged. */
  get length(): number {
    return this.endOffset - this.startOffset;
  }

  /** Copies in up to `len` bytes (*borrows* `bytes`); returns how many fitted in memory, 0 when the arena is out. */
  append(bytes: Uint8Array, at: number, len: number): number {
    assert(this.startOffset >= 0, "the send queue that all share stays empty");
    const { arena } = this.pool;
    let copied = 0;
    while (copied < len) {
      let page = this.tail;
      if (page === null || page.used === page.size) {
        page = this.addPage(len - copied);
        if (page === null) break;
      }
      const n = Math.min(len - copied, page.size - page.used);
      arena.copy(bytes, at + copied, arena.bytes, page.address + page.used, n);
      page.used += n;
      copied += n;
      this.endOffset += n;
    }
    return copied;
  }

  /**
   * Copies bytes [offset, offset + len) to `dstAt` of the arena; `summing`, in the same pass, returns their partial
   * checksum, else 0. The range must be in the queue.
   */
  copyOut(offset: number, len: number, dstAt: number, summing: boolean): number {
    if (len === 0) return 0;
    const { arena } = this.pool;
    const { bytes } = arena;
    let page = this.pageOf(offset);
    let skip = offset - page.offset;
    let done = 0;
    let total = 0;
    for (;;) {
      const n = Math.min(len - done, page.used - skip);
      arena.copy(bytes, page.address + skip, bytes, dstAt + done, n);
      if (summing) {
        // While the bytes are in the cache: measured faster than any single pass in JavaScript.
        const piece = sum(bytes, dstAt + done, n);
        total += (done & 1) === 0 ? piece : swapHalves(fold(piece));
      }
      done += n;
      if (done === len) break;
      assert(page.next !== null, "send queue: range past the end");
      page = page.next;
      skip = 0;
    }
    this.cursor = page;
    return total;
  }

  /** Releases everything below `offset`. */
  acknowledge(offset: number): void {
    const upTo = Math.min(offset, this.endOffset);
    if (upTo <= this.startOffset) return;
    this.startOffset = upTo;
    while (this.head !== null && this.head.offset + this.head.used <= upTo) this.dropHead();
  }

  /** Gives every page back. */
  clear(): void {
    while (this.head !== null) this.dropHead();
    this.startOffset = this.endOffset;
  }

  private addPage(wanted: number): SendPage | null {
    const { pool } = this;
    const address = takePage(pool.arena, wanted, this.length);
    if (address === 0) return null;
    this.pages++;
    const page = pool.take();
    page.address = address;
    page.size = pool.arena.slotSize(address);
    page.used = 0;
    page.offset = this.endOffset;
    if (this.tail === null) this.head = page;
    else this.tail.next = page;
    this.tail = page;
    return page;
  }

  private dropHead(): void {
    const page = this.head as SendPage;
    this.head = page.next;
    if (this.head === null) this.tail = null;
    if (this.cursor === page) this.cursor = null;
    this.pool.arena.release(page.address);
    this.pages--;
    this.pool.put(page);
  }

  private pageOf(offset: number): SendPage {
    assert(offset >= this.startOffset && offset < this.endOffset, "send queue: offset outside the queue");
    let page = this.cursor !== null && this.cursor.offset <= offset ? this.cursor : this.head;
    while (page !== null && page.offset + page.used <= offset) page = page.next;
    assert(page !== null, "send queue: pages do not cover the offset");
    return page;
  }
}

/** A piece that starts at an odd place of the segment has its bytes in the other halves of the checksum's words. */
function swapHalves(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
