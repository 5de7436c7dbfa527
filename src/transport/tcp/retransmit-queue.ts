/**
 * The retransmission queue: one record per segment in flight (Linux tcp_rtx_queue), without the bytes — those stay in
 * the send queue. Records come from a pool of the whole host, so that a segment costs no allocation.
 *
 * Counts are in segments, as Linux counts its congestion window: packetsOut = in the queue; of those lostOut are
 * believed lost, retransOut were sent again and not yet acknowledged, and sackedOut have reached the peer (duplicate
 * ACKs, or SACK).
 */
import { assert } from "../../base/assert.ts";
import type { Ns } from "../../base/time.ts";
import { MAX_IDLE_RECORDS } from "./constants.ts";

export class SentSegment {
  /** Stream offsets [lo, hi): sequence space, so a SYN has lo = −1 and a FIN adds one to hi. */
  lo = 0;
  hi = 0;
  /** TCP flags it carried: SYN, FIN, PSH. */
  flags = 0;
  /** When it was last sent; when it was first sent. */
  sentNs: Ns = 0;
  firstSentNs: Ns = 0;
  /** The how-manieth transmission of the host the last one was: many share one reading of the clock. */
  order = 0;
  /** How often it was sent again. */
  retransmits = 0;
  /** Believed lost, and not yet sent again since. */
  lost = false;
  /** Sent again since it was last marked lost. */
  retransmitted = false;
  /** The peer reported it by SACK. */
  sacked = false;
  next: SentSegment | null = null;
}

/** Pool of the `SentSegment`s of one host, and of the queues they stand in: only who waits for an ACK has one. */
export class SentSegmentPool {
  private free: SentSegment | null = null;
  private idle = 0;
  private readonly queues: RetransmitQueue[] = [];
  /** Transmissions so far. */
  private sends = 0;

  take(lo: number, hi: number, flags: number, nowNs: Ns): SentSegment {
    const segment = this.free ?? new SentSegment();
    if (this.free !== null) this.idle--;
    this.free = segment.next;
    segment.lo = lo;
    segment.hi = hi;
    segment.flags = flags;
    segment.sentNs = nowNs;
    segment.firstSentNs = nowNs;
    segment.order = ++this.sends;
    segment.retransmits = 0;
    segment.lost = false;
    segment.retransmitted = false;
    segment.sacked = false;
    segment.next = null;
    return segment;
  }

  put(segment: SentSegment): void {
    if (this.idle === MAX_IDLE_RECORDS) return;
    this.idle++;
    segment.next = this.free;
    this.free = segment;
  }

  /** An empty queue of one's own. */
  takeQueue(): RetransmitQueue {
    return this.queues.pop() ?? new RetransmitQueue();
  }

  /** *Takes* a queue back that is empty. */
  putQueue(queue: RetransmitQueue): void {
    assert(queue.isEmpty && queue !== NOTHING_IN_FLIGHT, "retransmit queue given back that is in use");
    if (this.queues.length < MAX_IDLE_RECORDS) this.queues.push(queue);
  }

  /** The order of a transmission that happens now. */
  nextOrder(): number {
    return ++this.sends;
  }
}

export class RetransmitQueue {
  head: SentSegment | null = null;
  tail: SentSegment | null = null;
  packetsOut = 0;
  lostOut = 0;
  retransOut = 0;
  /** Segments that reached the peer out of order: by SACK, or as many as there were duplicate ACKs (NewReno). */
  sackedOut = 0;

  /** Linux tcp_packets_in_flight: segments believed to be in the network. */
  get inFlight(): number {
    return this.packetsOut - this.sackedOut - this.lostOut + this.retransOut;
  }

  /** It says nothing: the connection can do without it. */
  get isEmpty(): boolean {
    return this.packetsOut === 0 && this.sackedOut === 0;
  }

  append(segment: SentSegment): void {
    if (this.tail === null) this.head = segment;
    else this.tail.next = segment;
    this.tail = segment;
    this.packetsOut++;
  }

  /** Takes the head, acknowledged, out of the counts. The caller puts the record back into the pool. */
  removeHead(): SentSegment {
    const segment = this.head as SentSegment;
    this.head = segment.next;
    if (this.head === null) this.tail = null;
    segment.next = null;
    this.packetsOut--;
    if (segment.sacked) this.sackedOut--;
    if (segment.lost) this.lostOut--;
    if (segment.retransmitted) this.retransOut--;
    return segment;
  }

  /** Marks one segment lost (Linux tcp_mark_skb_lost): a retransmission of it that is under way counts as lost too. */
  markLost(segment: SentSegment): void {
    this.forgetRetransmission(segment);
    if (!segment.lost) {
      segment.lost = true;
      this.lostOut++;
    }
  }

  /**
   * The peer holds this segment (RFC 2018 §5), so it is not lost; nor is its retransmission under way, unless it was
   * sent when the segment was not called lost.
   */
  markSacked(segment: SentSegment): void {
    segment.sacked = true;
    this.sackedOut++;
    if (!segment.lost) return;
    segment.lost = false;
    this.lostOut--;
    this.forgetRetransmission(segment);
  }

  /** The peer has thrown away what it reported (reneging, RFC 2018 §8): nothing counts as sacked. */
  forgetSacks(): void {
    for (let s = this.head; s !== null; s = s.next) s.sacked = false;
    this.sackedOut = 0;
  }

  /** Nothing counts as lost: the timeout or recovery that said so was spurious. */
  forgetLosses(): void {
    for (let s = this.head; s !== null; s = s.next) s.lost = false;
    this.lostOut = 0;
  }

  /** The segment's retransmission, if there is one, is not under way any more. */
  forgetRetransmission(segment: SentSegment): void {
    if (!segment.retransmitted) return;
    segment.retransmitted = false;
    this.retransOut--;
  }

  /** Was anything that is unacknowledged sent again? Of the past only the head can tell (tcp_any_retrans_done). */
  get hasRetransmitted(): boolean {
    return this.retransOut > 0 || (this.head !== null && this.head.retransmits > 0);
  }

  /** A segment was sent again. */
  markResent(segment: SentSegment, nowNs: Ns, order: number): void {
    segment.sentNs = nowNs;
    segment.order = order;
    segment.retransmits++;
  }

  /** A copy of a segment believed lost is under way. */
  markRetransmitted(segment: SentSegment): void {
    if (segment.retransmitted) return;
    segment.retransmitted = true;
    this.retransOut++;
  }

  /** Cuts `segment` at `offset` so that its first part fits a smaller MSS. Both keep its marks. */
  split(segment: SentSegment, offset: number, pool: SentSegmentPool, finFlag: number): void {
    const rest = pool.take(offset, segment.hi, segment.flags, segment.sentNs);
    rest.firstSentNs = segment.firstSentNs;
    rest.order = segment.order;
    rest.retransmits = segment.retransmits;
    rest.lost = segment.lost;
    rest.retransmitted = segment.retransmitted;
    rest.sacked = segment.sacked;
    segment.hi = offset;
    segment.flags &= ~finFlag;
    rest.next = segment.next;
    segment.next = rest;
    if (this.tail === segment) this.tail = rest;
    this.packetsOut++;
    if (rest.lost) this.lostOut++;
    if (rest.retransmitted) this.retransOut++;
    if (rest.sacked) this.sackedOut++;
  }

  /** Forgets everything; the records go back to the pool. */
  clear(pool: SentSegmentPool): void {
    while (this.head !== null) pool.put(this.removeHead());
    this.sackedOut = 0;
  }
}

/** What all connections share that have nothing in flight. It stays empty: `bookNew` takes another to append to. */
export const NOTHING_IN_FLIGHT = new RetransmitQueue();
