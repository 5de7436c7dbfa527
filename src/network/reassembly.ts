/**
 * Putting fragments together again (RFC 791 §3.2, RFC 5722's rule on overlaps; Linux ip_fragment.c).
 *
 * Limits: net.ipv4.ipfrag_time (then ICMP time exceeded, code 1, if the first fragment is here), ipfrag_high_thresh
 * bytes of slots in all, ipfrag_max_dist packets of the same sender in between. A fragment that lies wholly in what was
 * received is a duplicate; one that overlaps otherwise discards the whole packet: only an attack makes it.
 */
import { DropReason } from "../base/drop-reasons.ts";
import { MibId } from "../base/mib.ts";
import { SipHash } from "../base/siphash.ts";
import { SECOND } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import * as ipv4 from "../wire/ipv4.ts";

const MAX_PACKET_BYTES = 65535;
/** Senders whose packets are counted for ipfrag_max_dist. */
const MAX_PEERS = 1024;
/** Room in front of a reassembled packet: an Ethernet header, so that it looks like any other received one. */
const REASSEMBLED_HEADROOM = 14;

/** The fragments of one packet, sorted by offset; `skb.seq` and `seqEnd` are the bytes of the payload they carry. */
class Queue {
  readonly key: number;
  readonly src: number;
  readonly dst: number;
  readonly id: number;
  readonly protocol: number;
  /** The next queue under the same key. */
  nextSame: Queue | null = null;
  first: SkBuff | null = null;
  /** Payload bytes here, and in all once the last fragment came (-1 before). */
  receivedBytes = 0;
  totalBytes = -1;
  /** End of the farthest fragment. */
  endBytes = 0;
  /** Memory held, in bytes of slots. */
  slotBytes = 0;
  /** The sender's packet count when this one last grew. */
  peerCount = 0;
  readonly timer: Timer;

  constructor(key: number, src: number, dst: number, id: number, protocol: number, onTimeout: (queue: Queue) => void) {
    this.key = key;
    this.src = src;
    this.dst = dst;
    this.id = id;
    this.protocol = protocol;
    this.timer = new Timer(() => onTimeout(this));
  }
}

export class Reassembly {
  private readonly env: HostEnv;
  private readonly queues = new Map<number, Queue>();
  /** Keyed: who could make keys collide would make every look-up walk through all it sent (Linux ip4_frags). */
  private readonly hash: SipHash;
  private readonly words = new Int32Array(3);
  private readonly peers = new Map<number, number>();
  private memoryBytes = 0;
  private readonly onTimeout = (queue: Queue): void => this.expire(queue);
  /** Wired by `Ip`: answers the first fragment of a packet that timed out. *Borrows* the skb. */
  timeExceeded: (first: SkBuff) => void = () => {};

  constructor(env: HostEnv) {
    this.env = env;
    this.hash = new SipHash(env.secret);
  }

  /** Bytes of packet memory held by incomplete packets. */
  get heldBytes(): number {
    return this.memoryBytes;
  }

  /** Fragments held. */
  get heldFragments(): number {
    let count = 0;
    for (const first of this.queues.values()) {
      for (let queue: Queue | null = first; queue !== null; queue = queue.nextSame) {
        for (let skb = queue.first; skb !== null; skb = skb.next) count++;
      }
    }
    return count;
  }

  /** Adds a fragment. *Takes* the skb (`net` checked, padding trimmed). The whole packet, if complete, or null. */
  add(skb: SkBuff): SkBuff | null {
    const { env } = this;
    const { view, net } = skb;
    env.mib.values[MibId.IpReasmReqds]++;
    if (this.memoryBytes > env.sysctl.ipfragHighThresh || !skb.arena.isRoomy(skb.end - skb.head)) {
      this.refuse(skb, DropReason.fragTooFar);
      return null;
    }
    const queue = this.find(ipv4.src(view, net), ipv4.dst(view, net), ipv4.id(view, net), ipv4.protocol(view, net));
    if (this.isTooFar(queue)) this.restart(queue);
    const headerLen = ipv4.ihl(view, net);
    const field = ipv4.fragment(view, net);
    const isLast = (field & ipv4.FLAG_MF) === 0;
    const start = (field & ipv4.OFFSET_MASK) * 8;
    let end = start + ipv4.totalLen(view, net) - headerLen;
    // All but the last carry a multiple of 8 bytes; what is over cannot be placed.
    if (!isLast) end &= ~7;
    skb.seq = start;
    skb.seqEnd = end;
    if (end <= start || !fits(queue, end, isLast, headerLen)) {
      this.refuse(skb, DropReason.ipInhdr);
      this.discard(queue, DropReason.ipInhdr);
      return null;
    }
    if (!this.insert(queue, skb)) return null;
    if (isLast) queue.totalBytes = end;
    if (queue.totalBytes !== queue.receivedBytes || queue.first?.seq !== 0) return null;
    return this.assemble(queue);
  }

  /** Drops everything held: the host is shut down. */
  close(): void {
    for (const first of [...this.queues.values()]) {
      for (let queue: Queue | null = first; queue !== null; queue = queue.nextSame) {
        this.release(queue, DropReason.devReady);
      }
    }
    this.queues.clear();
  }

  // ── queues ────────────────────────────────────────────────────────────────────────────────────────────────────

  private find(src: number, dst: number, id: number, protocol: number): Queue {
    const { words } = this;
    words[0] = src;
    words[1] = dst;
    words[2] = (protocol << 16) | id;
    const key = this.hash.words(words, words.length);
    const head = this.queues.get(key) ?? null;
    for (let queue = head; queue !== null; queue = queue.nextSame) {
      if (queue.src === src && queue.dst === dst && queue.id === id && queue.protocol === protocol) return queue;
    }
    const queue = new Queue(key, src, dst, id, protocol, this.onTimeout);
    queue.nextSame = head;
    this.queues.set(key, queue);
    const { clock, sysctl, timers } = this.env;
    timers.arm(queue.timer, clock.nowNs + sysctl.ipfragTime * SECOND);
    return queue;
  }

  private unlink(queue: Queue): void {
    this.env.timers.forget(queue.timer);
    const head = this.queues.get(queue.key) ?? null;
    if (head === queue) {
      if (queue.nextSame === null) this.queues.delete(queue.key);
      else this.queues.set(queue.key, queue.nextSame);
      return;
    }
    for (let before = head; before !== null; before = before.nextSame) {
      if (before.nextSame === queue) before.nextSame = queue.nextSame;
    }
  }

  /** Linux ip_frag_too_far: so many of the sender's fragments came since that the id may have been used again. */
  private isTooFar(queue: Queue): boolean {
    const max = this.env.sysctl.ipfragMaxDist;
    if (max === 0) return false;
    if (this.peers.size >= MAX_PEERS && !this.peers.has(queue.src)) this.peers.clear();
    const before = queue.peerCount;
    const now = (this.peers.get(queue.src) ?? 0) + 1;
    this.peers.set(queue.src, now);
    queue.peerCount = now;
    return queue.first !== null && now - before > max;
  }

  /** Forgets what came and starts over with the fragment at hand (Linux ip_frag_reinit). */
  private restart(queue: Queue): void {
    this.env.mib.values[MibId.IpReasmFails]++;
    this.release(queue, DropReason.fragTooFar);
    const { clock, sysctl, timers } = this.env;
    timers.arm(queue.timer, clock.nowNs + sysctl.ipfragTime * SECOND);
  }

  /** Places the fragment in order. False: it was a duplicate or overlapped, and is gone. */
  private insert(queue: Queue, skb: SkBuff): boolean {
    let before: SkBuff | null = null;
    let runStart = 0;
    let after = queue.first;
    for (; after !== null && after.seq <= skb.seq; after = after.next) {
      if (before === null || before.seqEnd !== after.seq) runStart = after.seq;
      before = after;
    }
    let runEnd = before?.seqEnd ?? 0;
    for (let skbInRun = after; skbInRun !== null && skbInRun.seq === runEnd; skbInRun = skbInRun.next) {
      runEnd = skbInRun.seqEnd;
    }
    if (before !== null && runStart <= skb.seq && skb.seqEnd <= runEnd) {
      this.env.drops.drop(skb, DropReason.dupFrag);
      return false;
    }
    if ((before !== null && before.seqEnd > skb.seq) || (after !== null && after.seq < skb.seqEnd)) {
      this.env.mib.values[MibId.IpExtReasmOverlaps]++;
      this.refuse(skb, DropReason.fragOverlap);
      this.discard(queue, DropReason.fragOverlap);
      return false;
    }
    skb.next = after;
    if (before === null) queue.first = skb;
    else before.next = skb;
    const slotBytes = skb.end - skb.head;
    queue.slotBytes += slotBytes;
    this.memoryBytes += slotBytes;
    queue.receivedBytes += skb.seqEnd - skb.seq;
    queue.endBytes = Math.max(queue.endBytes, skb.seqEnd);
    return true;
  }

  // ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** One packet out of all: the header of the first fragment, then the payloads (Linux ip_frag_reasm). */
  private assemble(queue: Queue): SkBuff | null {
    const { env } = this;
    const first = queue.first as SkBuff;
    const { view } = first;
    const headerLen = ipv4.ihl(view, first.net);
    const len = headerLen + queue.totalBytes;
    if (len > MAX_PACKET_BYTES) {
      // Each fragment fitted with its own header, but the first one's is longer.
      env.mib.values[MibId.IpReasmFails]++;
      this.discard(queue, DropReason.pktTooBig);
      return null;
    }
    const whole = env.pool.alloc(len, REASSEMBLED_HEADROOM) ?? env.pool.alloc(len, 0);
    if (whole === null) {
      env.mib.values[MibId.IpReasmFails]++;
      this.discard(queue, DropReason.noMem);
      return null;
    }
    const to = whole.put(len);
    whole.bytes.copyWithin(to, first.net, first.net + headerLen);
    for (let skb: SkBuff | null = first; skb !== null; skb = skb.next) {
      const from = skb.net + ipv4.ihl(view, skb.net);
      whole.bytes.copyWithin(to + headerLen + skb.seq, from, from + skb.seqEnd - skb.seq);
    }
    ipv4.setTotalLen(view, to, len);
    ipv4.setFragment(view, to, ipv4.fragment(view, to) & ipv4.FLAG_DF);
    ipv4.fillChecksum(whole.bytes, view, to);
    whole.net = to;
    whole.id = first.id;
    whole.packetType = first.packetType;
    whole.ifindex = first.ifindex;
    whole.etherType = first.etherType;
    whole.arrivedNs = first.arrivedNs;
    whole.polledNs = first.polledNs;
    env.mib.values[MibId.IpReasmOKs]++;
    this.unlink(queue);
    this.takeAll(queue, (skb) => {
      // Conservation: the whole packet goes on in the place of the first fragment; the others have done their work.
      if (skb === first) env.pool.release(skb);
      else env.drops.consume(skb);
    });
    return whole;
  }

  private expire(queue: Queue): void {
    const { env } = this;
    env.mib.values[MibId.IpReasmFails]++;
    env.mib.values[MibId.IpReasmTimeout]++;
    const { first } = queue;
    if (first !== null && first.seq === 0) this.timeExceeded(first);
    this.discard(queue, DropReason.fragReasmTimeout);
  }

  private refuse(skb: SkBuff, reason: number): void {
    this.env.mib.values[MibId.IpReasmFails]++;
    this.env.drops.drop(skb, reason);
  }

  /** Gives the packet up; the failure is counted by the caller. */
  private discard(queue: Queue, reason: number): void {
    this.unlink(queue);
    this.release(queue, reason);
  }

  /** Drops the fragments and forgets what is known. */
  private release(queue: Queue, reason: number): void {
    this.env.timers.cancel(queue.timer);
    this.takeAll(queue, (skb) => this.env.drops.drop(skb, reason));
  }

  private takeAll(queue: Queue, each: (skb: SkBuff) => void): void {
    this.memoryBytes -= queue.slotBytes;
    queue.slotBytes = queue.receivedBytes = queue.endBytes = 0;
    queue.totalBytes = -1;
    for (let skb = queue.first; skb !== null; skb = queue.first) {
      queue.first = skb.next;
      skb.next = null;
      each(skb);
    }
  }
}

/** False if the fragment contradicts what is known of the packet's length, or makes it longer than IP allows. */
function fits(queue: Queue, end: number, isLast: boolean, headerLen: number): boolean {
  if (end + headerLen > MAX_PACKET_BYTES) return false;
  if (isLast) return end >= queue.endBytes && (queue.totalBytes < 0 || queue.totalBytes === end);
  return queue.totalBytes < 0 || end <= queue.totalBytes;
}
