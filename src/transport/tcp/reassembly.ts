/**
 * The out-of-order queue: segments behind a hole (Linux tcp_data_queue_ofo), sorted by sequence number, without overlaps.
 *
 * A segment keeps its skb, which is charged with its whole slot against the receive buffer, as Linux charges truesize;
 * a small payload moves to a small slot first. Overlap policy as Linux: what was there first stays, the newcomer is
 * trimmed at its front, and segments it covers entirely are dropped.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId, type Mib } from "../../base/mib.ts";
import { seqGeq, seqGt, seqLeq, seqLt, seqDiff } from "../../base/seq.ts";
import type { DropCounters } from "../../skb/drop.ts";
import { SMALL_SLOT } from "../../skb/arena.ts";
import type { SkBuff } from "../../skb/skb.ts";
import { copyBytes } from "./pages.ts";

export class Reassembly {
  head: SkBuff | null = null;
  private tail: SkBuff | null = null;
  /** Memory held, in bytes of slots. */
  memoryBytes = 0;
  /** Segments held. */
  length = 0;
  /** Sequence range of the segment taken in last: the first block of a SACK option (RFC 2018 §4). */
  recentSeq = 0;
  recentSeqEnd = 0;

  /** SACK blocks, left and right edge in turn, newest first (RFC 2018 §4); `blockCount()` fills them. */
  readonly blocks = new Uint32Array(8);

  /** Merges neighbours to at most four blocks, that of the newest segment first; returns how many there are. */
  blockCount(): number {
    let count = 0;
    for (let skb = this.head; skb !== null; ) {
      const left = skb.seq;
      let right = skb.seqEnd;
      let next = skb.next;
      while (next !== null && next.seq === right) {
        right = next.seqEnd;
        next = next.next;
      }
      const newest = seqLeq(left, this.recentSeq) && seqLt(this.recentSeq, right);
      if (newest) {
        this.blocks.copyWithin(2, 0, 6);
        this.setBlock(0, left, right);
        count = Math.min(count + 1, 4);
      } else if (count < 4) {
        this.setBlock(count++, left, right);
      }
      skb = next;
    }
    return count;
  }

  /**
   * Takes a segment in. *Takes* the skb, whose `seq`/`seqEnd` are its sequence range and whose data is its payload;
   * `scratch` is not 0 if the range ends with a FIN. Returns true if it (or part of it) was kept.
   */
  insert(skb: SkBuff, drops: DropCounters, mib: Mib): boolean {
    let before: SkBuff | null = null;
    const tail = this.tail;
    if (tail !== null && seqGeq(skb.seq, tail.seq)) before = tail;
    else for (let s = this.head; s !== null && seqLeq(s.seq, skb.seq); s = s.next) before = s;

    if (before !== null && seqLt(skb.seq, before.seqEnd)) {
      if (seqLeq(skb.seqEnd, before.seqEnd)) {
        mib.values[MibId.TcpExtTCPOFOMerge]++;
        this.note(before);
        drops.drop(skb, DropReason.tcpOfoMerge);
        return false;
      }
      skb.pull(seqDiff(before.seqEnd, skb.seq));
      skb.seq = before.seqEnd;
    }
    this.link(skb, before);
    this.absorbFollowers(skb, drops, mib);
    this.shrink(skb);
    this.memoryBytes += skb.end - skb.head;
    this.length++;
    this.note(skb);
    return true;
  }

  /** Takes out the first segment if it starts at or before `rcvNxt`; the caller trims it. */
  takeReady(rcvNxt: number): SkBuff | null {
    const skb = this.head;
    if (skb === null || seqGt(skb.seq, rcvNxt)) return null;
    this.unlinkHead();
    return skb;
  }

  /** Drops segments from the far end until at most `limitBytes` are held (Linux tcp_prune_ofo_queue); true if any went. */
  prune(limitBytes: number, drops: DropCounters, mib: Mib): boolean {
    let pruned = false;
    while (this.tail !== null && this.memoryBytes > limitBytes) {
      const last = this.tail;
      let before: SkBuff | null = null;
      for (let s = this.head as SkBuff; s !== last; s = s.next as SkBuff) before = s;
      if (before === null) this.head = null;
      else before.next = null;
      this.tail = before;
      this.forget(last);
      drops.drop(last, DropReason.tcpOfoQueuePrune);
      pruned = true;
    }
    if (pruned) mib.values[MibId.TcpExtOfoPruned]++;
    return pruned;
  }

  /** Drops everything: the connection is over. */
  clear(drops: DropCounters, reason: DropReason): void {
    while (this.head !== null) {
      const skb = this.head;
      this.unlinkHead();
      drops.drop(skb, reason);
    }
  }

  private link(skb: SkBuff, before: SkBuff | null): void {
    skb.next = before === null ? this.head : before.next;
    if (before === null) this.head = skb;
    else before.next = skb;
    if (skb.next === null) this.tail = skb;
  }

  /** Drops followers that `skb` covers, and cuts its end where the next one begins. */
  private absorbFollowers(skb: SkBuff, drops: DropCounters, mib: Mib): void {
    for (let next = skb.next; next !== null && seqLt(next.seq, skb.seqEnd); next = skb.next) {
      if (seqGt(next.seqEnd, skb.seqEnd)) {
        skb.trim(Math.min(skb.len, seqDiff(next.seq, skb.seq)));
        skb.seqEnd = next.seq;
        skb.scratch = 0;
        return;
      }
      skb.next = next.next;
      if (skb.next === null) this.tail = skb;
      this.forget(next);
      mib.values[MibId.TcpExtTCPOFOMerge]++;
      drops.drop(next, DropReason.tcpOfoMerge);
    }
  }

  private setBlock(index: number, left: number, right: number): void {
    this.blocks[2 * index] = left;
    this.blocks[2 * index + 1] = right;
  }

  private unlinkHead(): void {
    const skb = this.head as SkBuff;
    this.head = skb.next;
    if (this.head === null) this.tail = null;
    this.forget(skb);
  }

  private forget(skb: SkBuff): void {
    skb.next = null;
    this.memoryBytes -= skb.end - skb.head;
    this.length--;
  }

  private note(skb: SkBuff): void {
    this.recentSeq = skb.seq;
    this.recentSeqEnd = skb.seqEnd;
  }

  /** A payload of a few bytes must not hold a 2 KB slot while it waits. */
  private shrink(skb: SkBuff): void {
    const len = skb.len;
    if (len > SMALL_SLOT || skb.end - skb.head === SMALL_SLOT) return;
    const slot = skb.arena.alloc(SMALL_SLOT);
    if (slot === 0) return;
    copyBytes(skb.bytes, skb.data, skb.bytes, slot, len);
    skb.arena.release(skb.head);
    skb.head = slot;
    skb.data = slot;
    skb.tail = slot + len;
    skb.end = slot + skb.arena.slotSize(slot);
  }
}
