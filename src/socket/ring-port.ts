/**
 * RingPort: the process's side of the rings.
 *
 * The same class serves a process in the kernel's thread (`onSubmit` runs each submission at once) and one in a thread
 * of its own (`toKernel`, or the doorbell word, wakes the kernel once per flush).
 */
import type { Address } from "../base/address.ts";
import { type CopyBytes, copyBytes } from "../base/copy.ts";
import type { Clock } from "../base/time.ts";
import { Cost } from "../base/time.ts";
import { Control, CQ_WORDS, Cq, SQ_WORDS, Sq, type SyscallRings } from "./rings.ts";
import type { Completion, SyscallPort, SysOp } from "./syscall-port.ts";

export interface RingPortOptions {
  /** Inline mode: runs the kernel's side (`() => server.consume()`) at every submission. */
  readonly onSubmit?: () => void;
  /** Thread mode: rings the kernel's doorbell, which all processes share. */
  readonly toKernel?: () => void;
  /** How bytes are copied to and from the kernel's memory; default the engine's way. */
  readonly copy?: CopyBytes;
}

/** The reused completion record. */
class CompletionRecord implements Completion {
  token = 0;
  result = 0;
  flags = 0;
  fd = 0;
  data = 0;
  address = 0;
  offset = 0;
  arrivedNs = 0;
  queuedNs = 0;
  readonly peerWords = new Int32Array(4);
  peerPort = 0;
  readonly localWords = new Int32Array(4);
  localPort = 0;
}

export class RingPort implements SyscallPort {
  readonly pid: number;
  readonly completion: Completion = new CompletionRecord();
  readonly rings: SyscallRings;
  private readonly arena: Uint8Array;
  private readonly clock: Clock;
  private readonly onSubmit: (() => void) | undefined;
  private readonly toKernel: (() => void) | undefined;
  private readonly copy: CopyBytes;
  private sqTail = 0;
  private cqHead = 0;
  /** Free-running count of staging bytes allocated, skipped ends included. */
  private stagingTail = 0;
  private dirty = false;
  /** The completion record holds names. */
  private hasNames = false;

  /** `arena` is the kernel's packet memory (`Arena.bytes`), `clock` this process's clock. */
  constructor(pid: number, rings: SyscallRings, arena: Uint8Array, clock: Clock, options: RingPortOptions = {}) {
    this.pid = pid;
    this.rings = rings;
    this.arena = arena;
    this.clock = clock;
    this.onSubmit = options.onSubmit;
    this.toKernel = options.toKernel;
    this.copy = options.copy ?? copyBytes;
  }

  submit(op: SysOp, fd: number, token: number, gid: number, a = 0, b = 0, c = 0, d = 0): boolean {
    const at = this.reserve(op, fd, token, gid);
    if (at < 0) return false;
    const sq = this.rings.sq;
    sq[at + Sq.a] = a;
    sq[at + Sq.b] = b;
    sq[at + Sq.c] = c;
    sq[at + Sq.d] = d;
    sq[at + Sq.port] = -1;
    this.publish();
    return true;
  }

  submitWithAddress(
    op: SysOp,
    fd: number,
    token: number,
    gid: number,
    address: Address,
    port: number,
    a = 0,
    b = 0,
    c = 0,
  ): boolean {
    const at = this.reserve(op, fd, token, gid);
    if (at < 0) return false;
    const sq = this.rings.sq;
    sq[at + Sq.a] = a;
    sq[at + Sq.b] = b;
    sq[at + Sq.c] = c;
    sq[at + Sq.d] = 0;
    sq[at + Sq.address] = address.w0;
    sq[at + Sq.address + 1] = address.w1;
    sq[at + Sq.address + 2] = address.w2;
    sq[at + Sq.address + 3] = address.w3;
    sq[at + Sq.port] = port;
    this.publish();
    return true;
  }

  /** At most half the staging area at once (else -1 for ever): so a call that had to skip the end still fits. */
  stage(bytes: Uint8Array, at: number, len: number): number {
    const size = this.rings.sizes.stagingBytes;
    const used = (this.stagingTail - this.rings.load(Control.stagingHead)) >>> 0;
    let start = this.stagingTail & (size - 1);
    // Inline, the kernel has taken everything by now: begin again at the start, whose bytes are in the cache.
    const mayBeginAgain = this.onSubmit !== undefined && used === 0 && len <= start;
    const skip = mayBeginAgain || start + len > size ? size - start : 0;
    if (len > size >> 1 || used + skip + len > size) return -1;
    if (skip > 0) start = 0;
    this.copy(bytes, at, this.rings.staging, start, len);
    this.stagingTail = (this.stagingTail + skip + len) | 0;
    return start;
  }

  copyOut(address: number, len: number, into: Uint8Array, at: number): void {
    this.copy(this.arena, address, into, at, len);
    this.clock.charge(Cost.copyByte, len);
  }

  flush(): void {
    if (!this.dirty) return;
    this.dirty = false;
    if (this.onSubmit) this.onSubmit();
    else this.toKernel?.();
  }

  reap(): boolean {
    const { rings } = this;
    if (rings.load(Control.cqTail) === this.cqHead && this.isDrained()) return false;
    this.load(((this.cqHead & (this.rings.sizes.completions - 1)) * CQ_WORDS) | 0);
    this.cqHead = (this.cqHead + 1) | 0;
    rings.store(Control.cqHead, this.cqHead);
    return true;
  }

  reapNewest(token: number): boolean {
    const { rings } = this;
    if (this.onSubmit === undefined) return false;
    const newest = (rings.load(Control.cqTail) - 1) | 0;
    if (((newest - this.cqHead) | 0) < 0) return false;
    const at = ((newest & (rings.sizes.completions - 1)) * CQ_WORDS) | 0;
    if (rings.cq[at + Cq.token] !== token || rings.cq[at + Cq.flags] !== 0) return false;
    this.load(at);
    if (newest === this.cqHead) {
      this.cqHead = (newest + 1) | 0;
      rings.store(Control.cqHead, this.cqHead);
    } else {
      // Older ones wait before it: this one is for nobody any more when its turn comes.
      rings.cq[at + Cq.token] = 0;
    }
    return true;
  }

  /**
   * Says that the process is going to sleep. False: something came meanwhile, reap first. After true the next
   * completion counts as a wake-up; the driver waits on `processDoorbell` (or for `toProcess`) and then calls `awake`.
   */
  prepareSleep(): boolean {
    const { rings } = this;
    this.flush();
    rings.store(Control.processSleeping, 1);
    if (rings.load(Control.cqTail) === this.cqHead && this.isDrained()) return true;
    rings.store(Control.processSleeping, 0);
    return false;
  }

  /** The process runs again. */
  awake(): void {
    this.rings.store(Control.processSleeping, 0);
  }

  /** True if there is a completion to reap. */
  get hasCompletions(): boolean {
    return this.rings.load(Control.cqTail) !== this.cqHead;
  }

  /** The ring looked empty: lets the kernel notify again, fetches what overflowed, looks once more (as NAPI does). */
  private isDrained(): boolean {
    const { rings } = this;
    rings.store(Control.notified, 0);
    if (rings.load(Control.overflow) !== 0) {
      if (this.onSubmit) this.onSubmit();
      else this.toKernel?.();
    }
    return rings.load(Control.cqTail) === this.cqHead;
  }

  /** Word index of the next free submission record with its head filled in, or -1. */
  private reserve(op: SysOp, fd: number, token: number, gid: number): number {
    const rings = this.rings;
    const used = (this.sqTail - rings.load(Control.sqHead)) >>> 0;
    if (used >= rings.sizes.submissions) return -1;
    const at = (this.sqTail & (rings.sizes.submissions - 1)) * SQ_WORDS;
    const sq = rings.sq;
    sq[at + Sq.op] = op;
    sq[at + Sq.fd] = fd;
    sq[at + Sq.token] = token;
    sq[at + Sq.gid] = gid;
    sq[at + Sq.staged] = this.stagingTail;
    rings.sqTimes[(at + Sq.timeNs) >> 1] = this.clock.nowNs;
    return at;
  }

  private publish(): void {
    this.sqTail = (this.sqTail + 1) | 0;
    this.dirty = true;
    this.rings.store(Control.sqTail, this.sqTail);
    if (this.onSubmit) this.onSubmit();
  }

  private load(at: number): void {
    const cq = this.rings.cq;
    const doubles = this.rings.cqDoubles;
    const out = this.completion;
    out.token = cq[at + Cq.token] as number;
    out.result = cq[at + Cq.result] as number;
    out.flags = cq[at + Cq.flags] as number;
    out.fd = cq[at + Cq.fd] as number;
    out.data = cq[at + Cq.data] as number;
    out.address = cq[at + Cq.address] as number;
    out.offset = doubles[(at + Cq.offset) >> 1] as number;
    out.arrivedNs = doubles[(at + Cq.arrivedNs) >> 1] as number;
    out.queuedNs = doubles[(at + Cq.queuedNs) >> 1] as number;
    const hasNames = cq[at + Cq.hasNames] === 1;
    if (hasNames || this.hasNames) this.loadNames(at, hasNames);
  }

  private loadNames(at: number, hasNames: boolean): void {
    const cq = this.rings.cq;
    const out = this.completion;
    this.hasNames = hasNames;
    out.peerPort = hasNames ? (cq[at + Cq.peerPort] as number) : 0;
    out.localPort = hasNames ? (cq[at + Cq.localPort] as number) : 0;
    for (let i = 0; i < 4; i++) {
      out.peerWords[i] = hasNames ? (cq[at + Cq.peerWords + i] as number) : 0;
      out.localWords[i] = hasNames ? (cq[at + Cq.localWords + i] as number) : 0;
    }
  }
}
