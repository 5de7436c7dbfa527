/**
 * CompletionQueue: the kernel's end of the completion ring.
 *
 * When the ring is full, completions of calls wait in a list here (io_uring's CQ overflow) and armed calls stop
 * offering; the `overflow` word tells the process to ring once it has made room. Order is kept: nothing overtakes the
 * list.
 */

import type { Clock } from "../base/time.ts";
import { Cost } from "../base/time.ts";
import { SocketName } from "./file.ts";
import { Control, CQ_WORDS, Cq, type SyscallRings } from "./rings.ts";

/** An armed call that found the ring full; asked again when there is room. */
export interface Stallable {
  pump(): boolean;
}

/** A completion that found the ring full. */
class Overflowed {
  readonly words = new Int32Array(CQ_WORDS);
  readonly doubles = new Float64Array(this.words.buffer);
}

const NO_NAME = new SocketName();

export class CompletionQueue {
  private readonly rings: SyscallRings;
  private readonly clock: Clock;
  private readonly toProcess: () => void;
  private readonly overflowed: Overflowed[] = [];
  private readonly stalled = new Set<Stallable>();
  private tail = 0;
  /** The record being filled, in the ring or in the overflow list. */
  private words: Int32Array;
  private doubles: Float64Array;
  private at = 0;
  private pending: Overflowed | null = null;

  constructor(rings: SyscallRings, clock: Clock, toProcess: () => void) {
    this.rings = rings;
    this.clock = clock;
    this.toProcess = toProcess;
    this.words = rings.cq;
    this.doubles = rings.cqDoubles;
  }

  /** Completions that wait for room. */
  get overflowCount(): number {
    return this.overflowed.length;
  }

  /** An armed call may offer now. */
  get hasRoom(): boolean {
    return this.overflowed.length === 0 && this.space() > 0;
  }

  /** The process sleeps: what is posted now wakes it. */
  get isProcessAsleep(): boolean {
    return this.rings.load(Control.processSleeping) === 1;
  }

  /** Starts a completion. Fill it with the setters, then `publish`. */
  begin(token: number, result: number, flags: number, fd: number): void {
    if (this.overflowed.length > 0 || this.space() === 0) {
      this.pending = new Overflowed();
      this.words = this.pending.words;
      this.doubles = this.pending.doubles;
      this.at = 0;
    } else {
      this.pending = null;
      this.words = this.rings.cq;
      this.doubles = this.rings.cqDoubles;
      this.at = (this.tail & (this.rings.sizes.completions - 1)) * CQ_WORDS;
    }
    const { words, doubles, at } = this;
    words[at + Cq.token] = token;
    words[at + Cq.result] = result;
    words[at + Cq.flags] = flags;
    words[at + Cq.fd] = fd;
    words[at + Cq.data] = 0;
    words[at + Cq.address] = 0;
    doubles[(at + Cq.offset) >> 1] = 0;
    doubles[(at + Cq.arrivedNs) >> 1] = 0;
    doubles[(at + Cq.queuedNs) >> 1] = 0;
    words[at + Cq.hasNames] = 0;
  }

  setData(data: number): void {
    this.words[this.at + Cq.data] = data;
  }

  /** Offered bytes, or what the send queue can take. */
  setBytes(address: number, offset: number): void {
    this.words[this.at + Cq.address] = address;
    this.doubles[(this.at + Cq.offset) >> 1] = offset;
  }

  setTimes(arrivedNs: number, queuedNs: number): void {
    this.doubles[(this.at + Cq.arrivedNs) >> 1] = arrivedNs;
    this.doubles[(this.at + Cq.queuedNs) >> 1] = queuedNs;
  }

  /** The peer's name (or the one asked for) and our own, as far as there is one. */
  setNames(peer: SocketName | null, local: SocketName | null): void {
    const { words, at } = this;
    words[at + Cq.hasNames] = 1;
    this.setName(Cq.peerWords, Cq.peerPort, peer ?? NO_NAME);
    this.setName(Cq.localWords, Cq.localPort, local ?? NO_NAME);
  }

  /** Hands the completion begun last to the process. */
  publish(): void {
    if (this.pending === null) {
      this.tail = (this.tail + 1) | 0;
      this.rings.store(Control.cqTail, this.tail);
      this.notify();
      return;
    }
    this.overflowed.push(this.pending);
    this.pending = null;
    this.rings.store(Control.overflow, 1);
    // The process may have made room before it could see the word: look again.
    if (this.space() > 0) this.drain();
  }

  /** A completion without further fields. Success under token 0 is not reported. */
  post(token: number, result: number, fd: number): void {
    if (token === 0 && result >= 0) return;
    this.begin(token, result, 0, fd);
    this.publish();
  }

  /** Remembers an armed call that met a full ring. False if there is room after all: go on. */
  stall(call: Stallable): boolean {
    this.stalled.add(call);
    this.rings.store(Control.overflow, 1);
    if (!this.hasRoom) return true;
    this.stalled.delete(call);
    if (this.stalled.size === 0) this.rings.store(Control.overflow, 0);
    return false;
  }

  /** An armed call is gone. */
  unstall(call: Stallable): void {
    this.stalled.delete(call);
  }

  /** Moves what waits into the ring and lets stalled calls go on, as far as there is room. */
  resume(): void {
    if (this.overflowed.length === 0 && this.stalled.size === 0) return;
    this.drain();
    for (const call of [...this.stalled]) {
      if (!this.hasRoom) return;
      this.stalled.delete(call);
      call.pump();
    }
    if (this.overflowed.length === 0 && this.stalled.size === 0) {
      this.rings.store(Control.overflow, 0);
    }
  }

  private drain(): void {
    const { cq } = this.rings;
    let moved = 0;
    while (moved < this.overflowed.length && this.space() > 0) {
      const at = (this.tail & (this.rings.sizes.completions - 1)) * CQ_WORDS;
      cq.set((this.overflowed[moved++] as Overflowed).words, at);
      this.tail = (this.tail + 1) | 0;
      this.rings.store(Control.cqTail, this.tail);
    }
    if (moved === 0) return;
    this.overflowed.splice(0, moved);
    this.notify();
  }

  private space(): number {
    const used = (this.tail - this.rings.load(Control.cqHead)) >>> 0;
    return this.rings.sizes.completions - used;
  }

  /** One `toProcess` from the first completion until the process has seen the ring empty. */
  private notify(): void {
    const { rings } = this;
    if (rings.exchange(Control.notified, 1) === 1) return;
    if (rings.load(Control.processSleeping) === 1) this.clock.charge(Cost.wakeup, 1);
    this.toProcess();
  }

  private setName(wordsAt: number, portAt: number, name: SocketName): void {
    const { words, at } = this;
    const { address } = name;
    words[at + wordsAt] = address.w0;
    words[at + wordsAt + 1] = address.w1;
    words[at + wordsAt + 2] = address.w2;
    words[at + wordsAt + 3] = address.w3;
    words[at + portAt] = name.port;
  }
}
