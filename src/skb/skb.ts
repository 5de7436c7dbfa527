/**
 * SkBuff: our descriptor of one frame in the arena (Linux sk_buff). Pooled; it owns its slot.
 *
 *        slot                                                                slot + size = end
 *          │◄── headroom ──►│◄──────────── data … tail ───────────►│◄─ tailroom ─►│
 *          ▼                ▼                                       ▼             ▼
 *        head             data (moves: push ◄ ► pull)              tail          end
 *                          ▲      ▲         ▲
 *                         mac    net    transport      absolute addresses, set as headers are found
 *
 * Ownership: a function that *takes* an skb frees it or hands it on; one that *borrows* leaves it to the caller.
 * Hand-over words stand on every method that crosses a floor.
 */
import { assert } from "../base/assert.ts";
import type { Arena } from "./arena.ts";

/** Bytes kept free in front of a transmitted payload: Ethernet 14 + IPv6 40 + TCP 60, rounded up. */
export const HEADROOM = 128;

/** What is known about the transport checksum (Linux CHECKSUM_*). */
export const Summed = {
  /** Nothing: verify it, or compute it. */
  none: 0,
  /** Verified by the device, or not needed on this wire. */
  unnecessary: 1,
  /** The field holds the pseudo-header sum; the device (or the edge) completes it. */
  partial: 3,
} as const;
export type Summed = (typeof Summed)[keyof typeof Summed];

/** Where a received frame was addressed to (Linux PACKET_*). */
export const PacketType = { host: 0, broadcast: 1, multicast: 2, otherHost: 3, outgoing: 4 } as const;
export type PacketType = (typeof PacketType)[keyof typeof PacketType];

export class SkBuff {
  readonly arena: Arena;
  /** First address of the slot; 0 when the skb is in the pool. */
  head = 0;
  data = 0;
  tail = 0;
  end = 0;
  /** Start of the Ethernet, network and transport header; 0 while unknown. */
  mac = 0;
  net = 0;
  transport = 0;
  /** Frame id for tracepoints and captures; 0 = not traced. */
  id = 0;
  /** EtherType of the payload. */
  etherType = 0;
  packetType: PacketType = PacketType.host;
  summed: Summed = Summed.none;
  /** Index of the device it came in by or leaves by (Linux ifindex); 0 = none. */
  ifindex = 0;
  /** Flow hash (RSS); 0 = unknown. */
  hash = 0;
  /** qdisc priority, 0–15 (Linux skb->priority & TC_PRIO_MAX). */
  priority = 0;
  /** When the last byte arrived from the wire, when NAPI took it. Receive only. */
  arrivedNs = 0;
  polledNs = 0;
  /** When it entered the qdisc, when it was posted in the TX ring. Transmit only. */
  enqueuedNs = 0;
  postedNs = 0;
  /** Sequence range of a TCP segment held in a queue [seq, seqEnd), raw 32-bit sequence numbers. */
  seq = 0;
  seqEnd = 0;
  /**
   * Payload bytes per segment of a super-segment: one frame that stands for many, cut at the edge (Linux gso_size).
   * 0: an ordinary frame.
   */
  gsoSize = 0;
  /** A scratch number of the floor that owns the skb now (Linux skb->cb). */
  scratch = 0;
  /** Next in the owner's list. */
  next: SkBuff | null = null;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  get view(): DataView {
    return this.arena.view;
  }

  get bytes(): Uint8Array {
    return this.arena.bytes;
  }

  /** Bytes between data and tail. */
  get len(): number {
    return this.tail - this.data;
  }

  /** Appends `n` bytes at the tail; returns their address. */
  put(n: number): number {
    const at = this.tail;
    this.tail += n;
    assert(this.tail <= this.end, "skb_put over the end of its slot");
    return at;
  }

  /** Prepends `n` bytes; returns the new data address. */
  push(n: number): number {
    this.data -= n;
    assert(this.data >= this.head, "skb_push under the head of its slot");
    return this.data;
  }

  /** Drops `n` bytes from the front; returns the new data address. */
  pull(n: number): number {
    this.data += n;
    assert(this.data <= this.tail, "skb_pull past the tail");
    return this.data;
  }

  /** Cuts the frame to `n` bytes (Ethernet padding, for one). */
  trim(n: number): void {
    assert(n <= this.len, "skb_trim to more than there is");
    this.tail = this.data + n;
  }
}

/** The pool of one host, over the arena of its kernel thread. */
export class SkBuffPool {
  readonly arena: Arena;
  private free: SkBuff | null = null;
  /** skbs handed out and not yet freed. */
  outstanding = 0;
  /** skbs ever handed out: frames received and frames built. The books of law 4 start here. */
  handedOut = 0;
  private readonly limit: number;

  /** At most `limit` skbs exist; the arena is usually the tighter bound. */
  constructor(arena: Arena, limit = 1 << 17) {
    this.arena = arena;
    this.limit = limit;
  }

  /** An empty skb with room for `room` bytes behind `headroom`; null if memory is out (drop with reason `noMem`). */
  alloc(room: number, headroom: number = HEADROOM): SkBuff | null {
    if (this.outstanding >= this.limit) return null;
    const slot = this.arena.alloc(headroom + room);
    return slot === 0 ? null : this.wrap(slot, headroom, 0);
  }

  /** An skb around a slot the caller owns (*takes* the slot): `len` bytes of data at `offset`. */
  wrap(slot: number, offset: number, len: number): SkBuff {
    const skb = this.free ?? new SkBuff(this.arena);
    this.free = skb.next;
    this.outstanding++;
    this.handedOut++;
    skb.next = null;
    skb.head = slot;
    skb.data = slot + offset;
    skb.tail = skb.data + len;
    skb.end = slot + this.arena.slotSize(slot);
    return skb;
  }

  /** Frees the skb and its slot. */
  release(skb: SkBuff): void {
    this.arena.release(skb.head);
    this.releaseKeepingSlot(skb);
  }

  /** Frees the skb only; the caller has taken its slot. */
  releaseKeepingSlot(skb: SkBuff): void {
    assert(skb.head !== 0, "skb freed twice");
    this.outstanding--;
    skb.head = skb.data = skb.tail = skb.end = 0;
    skb.mac = skb.net = skb.transport = 0;
    skb.id = skb.etherType = skb.ifindex = skb.hash = skb.priority = skb.scratch = 0;
    skb.packetType = PacketType.host;
    skb.summed = Summed.none;
    skb.arrivedNs = skb.polledNs = skb.enqueuedNs = skb.postedNs = 0;
    skb.seq = skb.seqEnd = 0;
    skb.gsoSize = 0;
    skb.next = this.free;
    this.free = skb;
  }
}
