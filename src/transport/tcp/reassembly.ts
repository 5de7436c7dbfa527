/**
 * The out-of-order queue: segments behind a hole (Linux tcp_data_queue_ofo), sorted by sequence number, without
 * overlaps.
 *
 * A segment keeps its skb, which is charged with its whole slot against the receive buffer, as Linux charges truesize;
 * a small payload moves to a small slot first. Overlap policy as Linux: what was there first stays, the newcomer is
 * trimmed at its front, and segments it covers entirely are dropped.
 */
import { assert } from "../../base/assert.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { type Mib, MibId } from "../../base/mib.ts";
import { seqDiff, seqGeq, seqGt, seqLeq, seqLt } from "../../base/seq.ts";
import { FRAME_SLOT, PAGE_SLOT, SMALL_SLOT } from "../../skb/arena.ts";
import type { DropCounters } from "../../skb/drop.ts";
import type { SkBuff } from "../../skb/skb.ts";

/** Most blocks a SACK option holds. */
const MAX_BLOCKS = 4;

export class Reassembly {
  /** Memory held, in bytes of slots. */
  memoryBytes = 0;
  /** Sorted, from index `first` on; those before it were taken. */
  private readonly segments: SkBuff[] = [];
  private first = 0;
  /** SACK blocks, left and right edge in turn, that of the newest segment first (RFC 2018 §4). */
  readonly blocks = new Uint32Array(2 * MAX_BLOCKS);
  /** How many there are. */
  blockCount = 0;

  /** Segments held. */
  get length(): number {
    return this.segments.length - this.first;
  }

  /**
   * Takes a segment in. *Takes* the skb, whose `seq`/`seqEnd` are its sequence range and whose data is its payload;
   * `scratch` is not 0 if the range ends with a FIN. Returns true if it (or part of it) was kept.
   */
  insert(skb: SkBuff, drops: DropCounters, mib: Mib): boolean {
    assert(this !== NOTHING_OUT_OF_ORDER, "the queue that all share stays empty");
    const { segments } = this;
    const at = this.placeOf(skb.seq);
    const before = at > this.first ? segments[at - 1] : null;
    if (before !== null && seqLt(skb.seq, before.seqEnd)) {
      if (seqLeq(skb.seqEnd, before.seqEnd)) {
        mib.values[MibId.TcpExtTCPOFOMerge]++;
        this.noteBlock(skb.seq, skb.seqEnd);
        drops.drop(skb, DropReason.tcpOfoMerge);
        return false;
      }
      skb.pull(seqDiff(before.seqEnd, skb.seq));
      skb.seq = before.seqEnd;
    }
    if (at === segments.length) segments.push(skb);
    else segments.splice(at, 0, skb);
    this.absorbFollowers(at, drops, mib);
    this.shrink(skb);
    this.memoryBytes += skb.end - skb.head;
    this.noteBlock(skb.seq, skb.seqEnd);
    return true;
  }

  /** Takes out the first segment if it starts at or before `rcvNxt`; the caller trims it. */
  takeReady(rcvNxt: number): SkBuff | null {
    if (this.length === 0 || seqGt(this.segments[this.first].seq, rcvNxt)) {
      this.forgetBlocksBelow(rcvNxt);
      return null;
    }
    return this.takeFirst();
  }

  /**
   * Drops segments from the far end until at most `limitBytes` are held (Linux tcp_prune_ofo_queue); true if any went.
   */
  prune(limitBytes: number, drops: DropCounters, mib: Mib): boolean {
    if (this.memoryBytes <= limitBytes) return false;
    const { segments } = this;
    while (this.length > 0 && this.memoryBytes > limitBytes) {
      const last = segments.pop() as SkBuff;
      this.memoryBytes -= last.end - last.head;
      drops.drop(last, DropReason.tcpOfoQueuePrune);
    }
    // What was reported may be gone: the peer must not rely on it (RFC 2018 §8).
    this.blockCount = 0;
    mib.values[MibId.TcpExtOfoPruned]++;
    return true;
  }

  /** Drops everything: the connection is over. */
  clear(drops: DropCounters, reason: DropReason): void {
    while (this.length > 0) drops.drop(this.takeFirst(), reason);
    this.blockCount = 0;
  }

  /** Where a segment that begins at `seq` belongs. By halves: how many there are to look through the peer chooses. */
  private placeOf(seq: number): number {
    const { segments } = this;
    let low = this.first;
    let high = segments.length;
    if (high > low && seqGeq(seq, segments[high - 1].seq)) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seqLeq(segments[middle].seq, seq)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Drops followers that the segment at `at` covers, and cuts its end where the next one begins. */
  private absorbFollowers(at: number, drops: DropCounters, mib: Mib): void {
    const { segments } = this;
    const skb = segments[at];
    let end = at + 1;
    for (; end < segments.length && seqLt(segments[end].seq, skb.seqEnd); end++) {
      const next = segments[end];
      if (seqGt(next.seqEnd, skb.seqEnd)) {
        skb.trim(Math.min(skb.len, seqDiff(next.seq, skb.seq)));
        skb.seqEnd = next.seq;
        skb.scratch = 0;
        break;
      }
      this.memoryBytes -= next.end - next.head;
      mib.values[MibId.TcpExtTCPOFOMerge]++;
      drops.drop(next, DropReason.tcpOfoMerge);
    }
    if (end > at + 1) segments.splice(at + 1, end - at - 1);
  }

  private takeFirst(): SkBuff {
    const { segments } = this;
    const skb = segments[this.first++];
    this.memoryBytes -= skb.end - skb.head;
    // Closes the gap when it is as long as what is left: a constant share for each one taken.
    if (this.first * 2 >= segments.length) {
      segments.splice(0, this.first);
      this.first = 0;
    }
    return skb;
  }

  /** Puts the block of the newest segment first, grown by what touches it; the oldest goes when there are too many. */
  private noteBlock(seq: number, end: number): void {
    const blocks = this.blocks;
    let left = seq;
    let right = end;
    let kept = 0;
    for (let i = 0; i < this.blockCount; i++) {
      const l = blocks[2 * i];
      const r = blocks[2 * i + 1];
      if (seqLeq(left, r) && seqLeq(l, right)) {
        if (seqLt(l, left)) left = l;
        if (seqGt(r, right)) right = r;
      } else {
        blocks[2 * kept] = l;
        blocks[2 * kept + 1] = r;
        kept++;
      }
    }
    kept = Math.min(kept, MAX_BLOCKS - 1);
    blocks.copyWithin(2, 0, 2 * kept);
    blocks[0] = left;
    blocks[1] = right;
    this.blockCount = kept + 1;
  }

  /** The left edge has moved past these: they are acknowledged. */
  private forgetBlocksBelow(rcvNxt: number): void {
    let kept = 0;
    for (let i = 0; i < this.blockCount; i++) {
      if (seqLeq(this.blocks[2 * i], rcvNxt)) continue;
      this.blocks[2 * kept] = this.blocks[2 * i];
      this.blocks[2 * kept + 1] = this.blocks[2 * i + 1];
      kept++;
    }
    this.blockCount = kept;
  }

  /** A payload of a few bytes must not hold a 2 KB slot while it waits, nor a short super-segment one of 64 KB. */
  private shrink(skb: SkBuff): void {
    const len = skb.len;
    const size = len <= SMALL_SLOT ? SMALL_SLOT : len <= FRAME_SLOT ? FRAME_SLOT : PAGE_SLOT;
    if (size >= skb.end - skb.head) return;
    const { arena } = skb;
    const slot = arena.alloc(size);
    if (slot === 0) return;
    if (arena.slotSize(slot) > size) {
      // That class is used up: a slot of the next larger one gains nothing.
      arena.release(slot);
      return;
    }
    arena.copy(skb.bytes, skb.data, skb.bytes, slot, len);
    arena.release(skb.head);
    skb.head = slot;
    skb.data = slot;
    skb.tail = slot + len;
    skb.end = slot + size;
    // The headers stayed behind in a slot that is somebody else's now.
    skb.mac = skb.net = skb.transport = 0;
  }
}

/** The queue of every connection that has nothing out of order, which is nearly all of them: empty for ever. */
export const NOTHING_OUT_OF_ORDER = new Reassembly();
