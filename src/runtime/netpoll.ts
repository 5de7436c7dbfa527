/**
 * The netpoller: between the goroutines of a process and its `SyscallPort`.
 *
 * Every waiting object has a slot; a token carries the slot, what kind of call it stands for, and the slot's
 * generation, so that a completion finds its owner by one array access and a late one finds nobody. Submissions that
 * meet a full ring wait here in order. Everything submitted in one batch costs one doorbell.
 */
import { Address } from "../base/address.ts";
import { Errno, SyscallError } from "../base/errno.ts";
import { type Clock, MICROSECOND, NEVER, type Ns } from "../base/time.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import { EPOLL_CTL_ADD, EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MSG_MORE, SOCK_CLOEXEC } from "../socket/constants.ts";
import { type Completion, type SyscallPort, SysOp } from "../socket/syscall-port.ts";
import { Deadlines } from "./deadlines.ts";
import type { ConnTiming, Endpoint } from "./port.ts";
import type { Scheduler } from "./scheduler.ts";
import { ChunkPool } from "./write-buffer.ts";

/** What a token of one owner stands for (3 bits). */
export const CallKind = { receive: 0, send: 1, close: 2, take: 3, accept: 4, call: 5 } as const;
export type CallKind = (typeof CallKind)[keyof typeof CallKind];

/** Who a completion is for. */
export interface TokenOwner {
  /** *Borrows* the completion. */
  complete(kind: number, completion: Completion): void;
  /** A deadline it set has passed. */
  deadlinePassed?(kind: DeadlineKind): void;
}

/** The deadlines an owner may have. */
export const DeadlineKind = { read: 0, write: 1 } as const;
export type DeadlineKind = (typeof DeadlineKind)[keyof typeof DeadlineKind];

/** Moments an owner keeps (`Netpoll.times`): those of a `ConnTiming`. */
export const TimeKind = {
  syn: 0,
  established: 1,
  accepted: 2,
  arrived: 3,
  queued: 4,
  read: 5,
} as const;
export type TimeKind = (typeof TimeKind)[keyof typeof TimeKind];
const TIME_KINDS = 6;
/** Owners whose moments share an array: a power of two. */
const TIME_BLOCK_BITS = 6;
const TIME_BLOCK = 1 << TIME_BLOCK_BITS;
const NO_TIMES = new Float64Array(TIME_KINDS);

/** A connection with bytes to send. */
export interface Sender {
  /** Sends what it can; false if it must be asked again because the port had no room. */
  sendPending(): boolean;
}

/** Received bytes offered by the kernel; pooled. */
export class Offer {
  address = 0;
  len = 0;
  arrivedNs: Ns = 0;
  queuedNs: Ns = 0;
  next: Offer | null = null;
}

/** What Go registers every socket for (runtime/netpoll_epoll.go), and EPOLL_CLOEXEC. */
const EPOLL_GO = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
const EPOLL_CLOEXEC = SOCK_CLOEXEC;

const KIND_BITS = 3;
const SLOT_BITS = 20;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
const GENERATION_SHIFT = KIND_BITS + SLOT_BITS;
const MAX_SLOTS = 1 << SLOT_BITS;
/** What is tried when staging has no room for all that a connection would send. */
const SMALL_SEND = 4096;
/** While submissions or bytes wait for room, the process looks again after this time at the latest. */
const RING_FULL_RETRY_NS = 100 * MICROSECOND;
/** Free records of offers kept. */
const IDLE_OFFERS = 1024;
/** Addresses kept to be shared; a power of two. */
const ADDRESSES = 256;

interface Submission {
  op: SysOp;
  fd: number;
  token: number;
  gid: number;
  a: number;
  b: number;
  c: number;
  d: number;
  address: Address | null;
  port: number;
}

export class Netpoll {
  readonly port: SyscallPort;
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  readonly trace: Tracepoints;
  readonly pid: number;
  readonly chunks = new ChunkPool();
  /** Foreign (async) code was resumed: the driver must let microtasks run before it moves on. */
  onResume: () => void = () => {};
  private readonly owners: (TokenOwner | null)[] = [null];
  private readonly generations: number[] = [0];
  private readonly freeSlots: number[] = [];
  private readonly deadlines = new Deadlines();
  /** Rows of `TIME_KINDS` by slot: a double of an object would be an object itself. */
  private readonly times: Float64Array[] = [];
  private readonly addresses: (Address | undefined)[] = [];
  private readonly overflow: Submission[] = [];
  private readonly dirty: Sender[] = [];
  /** Free records. */
  private offers: Offer | null = null;
  private idleOffers = 0;
  private flushScheduled = false;
  /** Writes to connections so far. */
  private writes = 0;
  private epollFd = -1;
  private readonly unregistered: number[] = [];
  private epollAsked = false;

  constructor(port: SyscallPort, scheduler: Scheduler, clock: Clock, trace: Tracepoints) {
    this.port = port;
    this.scheduler = scheduler;
    this.clock = clock;
    this.trace = trace;
    this.pid = port.pid;
  }

  /** Takes a slot for `owner`; returns its base token: add a `CallKind`. */
  register(owner: TokenOwner): number {
    let slot = this.freeSlots.pop();
    if (slot === undefined) {
      slot = this.owners.length;
      if (slot >= MAX_SLOTS) throw new SyscallError(Errno.ENFILE, "netpoll");
      this.owners.push(null);
      this.generations.push(0);
    }
    this.owners[slot] = owner;
    this.times[slot >>> TIME_BLOCK_BITS]?.fill(0, timeAt(slot, 0), timeAt(slot, TIME_KINDS));
    return ((this.generations[slot] as number) << GENERATION_SHIFT) | (slot << KIND_BITS);
  }

  /** Gives the slot back; later completions of its tokens are ignored. */
  release(baseToken: number): void {
    const slot = (baseToken >>> KIND_BITS) & SLOT_MASK;
    this.owners[slot] = null;
    this.setDeadline(baseToken, DeadlineKind.read, NEVER);
    this.setDeadline(baseToken, DeadlineKind.write, NEVER);
    this.generations[slot] = ((this.generations[slot] as number) + 1) & 0xff;
    this.freeSlots.push(slot);
  }

  /** Slots in use: connections, listeners, calls without an answer. */
  get registered(): number {
    return this.owners.length - 1 - this.freeSlots.length;
  }

  // ── moments ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Keeps a moment of the owner of `token`. */
  setTime(token: number, kind: TimeKind, atNs: Ns): void {
    const slot = (token >>> KIND_BITS) & SLOT_MASK;
    const block = slot >>> TIME_BLOCK_BITS;
    while (this.times.length <= block) this.times.push(new Float64Array(TIME_BLOCK * TIME_KINDS));
    (this.times[block] as Float64Array)[timeAt(slot, kind)] = atNs;
  }

  /** A record of the moments kept; 0 for what was not, and for all if the slot is another's by now. */
  timingOf(token: number): ConnTiming {
    const slot = (token >>> KIND_BITS) & SLOT_MASK;
    const isOurs = this.generations[slot] === token >>> GENERATION_SHIFT;
    const times = (isOurs ? this.times[slot >>> TIME_BLOCK_BITS] : undefined) ?? NO_TIMES;
    const at = times === NO_TIMES ? 0 : timeAt(slot, 0);
    return {
      synNs: times[at + TimeKind.syn] as Ns,
      establishedNs: times[at + TimeKind.established] as Ns,
      acceptedNs: times[at + TimeKind.accepted] as Ns,
      arrivedNs: times[at + TimeKind.arrived] as Ns,
      queuedNs: times[at + TimeKind.queued] as Ns,
      readNs: times[at + TimeKind.read] as Ns,
    };
  }

  /** Calls the owner of `token` back at `atNs`; NEVER takes that back. */
  setDeadline(token: number, kind: DeadlineKind, atNs: Ns): void {
    this.deadlines.set(deadlineOf(token, kind), atNs);
    // Outside a batch the driver sleeps until the deadline it knew.
    if (atNs !== NEVER && !this.scheduler.running) this.scheduler.onReadyOutside();
  }

  deadlineOf(token: number, kind: DeadlineKind): Ns {
    return this.deadlines.of(deadlineOf(token, kind));
  }

  /** Tells the owners whose deadline has passed. */
  fireDeadlines(nowNs: Ns): void {
    for (let id = this.deadlines.takeDue(nowNs); id >= 0; id = this.deadlines.takeDue(nowNs)) {
      this.owners[id >> 1]?.deadlinePassed?.((id & 1) as DeadlineKind);
    }
  }

  /** Deadlines set, for leak checks. */
  get deadlineCount(): number {
    return this.deadlines.count();
  }

  /** The address of these words; connections share those they have in common. */
  addressOf(w: Int32Array): Address {
    const [w0, w1, w2, w3] = w as unknown as [number, number, number, number];
    const at = (w0 ^ w1 ^ w2 ^ w3) & (ADDRESSES - 1);
    const known = this.addresses[at];
    if (known?.w3 === w3 && known.w2 === w2 && known.w1 === w1 && known.w0 === w0) return known;
    const address = new Address(w0, w1, w2, w3);
    this.addresses[at] = address;
    return address;
  }

  // ── submissions ───────────────────────────────────────────────────────────────────────────────────────────────

  /** Queues one submission. Never fails: what meets a full ring follows later, in order. */
  submit(op: SysOp, fd: number, token: number, a = 0, b = 0, c = 0, d = 0): void {
    const gid = this.gid;
    if (this.overflow.length > 0 || !this.port.submit(op, fd, token, gid, a, b, c, d)) {
      this.overflow.push({ op, fd, token, gid, a, b, c, d, address: null, port: 0 });
    }
    if (!this.scheduler.running) this.flushSoon();
  }

  /** The same with an address. */
  submitWithAddress(op: SysOp, fd: number, token: number, address: Address, port: number): void {
    const gid = this.gid;
    if (this.overflow.length > 0 || !this.port.submitWithAddress(op, fd, token, gid, address, port)) {
      this.overflow.push({ op, fd, token, gid, a: 0, b: 0, c: 0, d: 0, address, port });
    }
    if (!this.scheduler.running) this.flushSoon();
  }

  /**
   * Stages and submits one `send` of at most `len` bytes; returns how many, 0 when there is no room now. `hasMore`:
   * more follows, so that the kernel need not send a small rest alone (MSG_MORE).
   */
  send(fd: number, token: number, bytes: Uint8Array, at: number, len: number, hasMore: boolean): number {
    if (this.overflow.length > 0) return 0;
    let n = len;
    let staged = this.port.stage(bytes, at, n);
    if (staged < 0 && len > SMALL_SEND) {
      n = SMALL_SEND;
      staged = this.port.stage(bytes, at, n);
    }
    if (staged < 0) return 0;
    // A send that meets a full ring stays the next submission: the overflow keeps the order, nobody stages meanwhile.
    this.submit(SysOp.send, fd, token, staged, n, hasMore || n < len ? MSG_MORE : 0);
    return n;
  }

  /**
   * True if the kernel has answered the submission `token` already, as it does in its own thread: the answer is in
   * `port.completion` and will not come again.
   */
  isAnswered(token: number): boolean {
    return this.overflow.length === 0 && this.port.reapNewest?.(token) === true;
  }

  /** Makes one call and waits for its completion. Set-up paths only: it costs a promise. */
  call(name: string, op: SysOp, fd: number, a = 0, b = 0, c = 0, d = 0): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      const pending = new PendingCall(this, name, resolve, reject);
      this.submit(op, fd, pending.token, a, b, c, d);
    });
  }

  /** The same with an address; errors name it. */
  callWithAddress(name: string, op: SysOp, fd: number, address: Address, port: number): Promise<CallResult> {
    return new Promise((resolve, reject) => {
      const pending = new PendingCall(this, name, resolve, reject, formatEndpoint(address, port));
      this.submitWithAddress(op, fd, pending.token, address, port);
    });
  }

  /** Registers a socket with the process's epoll instance as Go does; the instance is made at the first call. */
  watch(fd: number): void {
    if (this.epollFd >= 0) {
      this.submit(SysOp.epollCtl, this.epollFd, 0, EPOLL_CTL_ADD, fd, EPOLL_GO, fd);
      return;
    }
    this.unregistered.push(fd);
    if (this.epollAsked) return;
    this.epollAsked = true;
    this.call("epoll_create1", SysOp.epollCreate, -1, EPOLL_CLOEXEC).then(
      ({ result }) => {
        this.epollFd = result;
        for (const waiting of this.unregistered.splice(0)) this.watch(waiting);
      },
      // Without an epoll instance (fd table full) data still flows: offers need none.
      () => {
        this.epollAsked = false;
      },
    );
  }

  /** Hands at most `budget` completions to their owners; returns how many. */
  reap(budget: number): number {
    const port = this.port;
    const completion = port.completion;
    let n = 0;
    while (n < budget && port.reap()) {
      n++;
      const token = completion.token;
      const slot = (token >>> KIND_BITS) & SLOT_MASK;
      const owner = this.owners[slot];
      if (owner && this.generations[slot] === token >>> GENERATION_SHIFT) {
        owner.complete(token & ((1 << KIND_BITS) - 1), completion);
      }
    }
    return n;
  }

  /** `sender` has bytes to send: at the end of this step, or in a microtask when no batch is running. */
  markDirty(sender: Sender): void {
    this.dirty.push(sender);
    if (!this.scheduler.running) this.flushSoon();
  }

  /** A connection was written to. */
  noteWrite(): void {
    this.writes++;
  }

  /** Lets dirty connections send, oldest first, until the port has no room: the rest keep their turn. */
  sendDirty(): void {
    const dirty = this.dirty;
    // Asked after every step: mostly there is nothing, and emptying an array is a call into the engine.
    if (dirty.length === 0) return;
    let done = 0;
    while (done < dirty.length && (dirty[done] as Sender).sendPending()) done++;
    if (done === dirty.length) dirty.length = 0;
    else if (done > 0) dirty.splice(0, done);
  }

  /** Everything out: overflow, dirty connections, one doorbell. */
  flush(): void {
    this.drainOverflow();
    this.sendDirty();
    this.port.flush();
  }

  /** When to run again although nothing happened: at the next deadline, soon while the boundary is full. */
  deadline(): Ns {
    const isFull = this.overflow.length > 0 || this.dirty.length > 0;
    return Math.min(this.deadlines.next(), isFull ? this.clock.nowNs + RING_FULL_RETRY_NS : NEVER);
  }

  takeOffer(): Offer {
    const offer = this.offers ?? new Offer();
    if (this.offers !== null) this.idleOffers--;
    this.offers = offer.next;
    offer.next = null;
    return offer;
  }

  releaseOffer(offer: Offer): void {
    if (this.idleOffers === IDLE_OFFERS) return;
    this.idleOffers++;
    offer.next = this.offers;
    this.offers = offer;
  }

  private get gid(): number {
    return this.scheduler.current?.id ?? 0;
  }

  private drainOverflow(): void {
    const { overflow, port } = this;
    let done = 0;
    for (const s of overflow) {
      const taken =
        s.address === null
          ? port.submit(s.op, s.fd, s.token, s.gid, s.a, s.b, s.c, s.d)
          : port.submitWithAddress(s.op, s.fd, s.token, s.gid, s.address, s.port, s.a, s.b, s.c);
      if (!taken) break;
      done++;
    }
    if (done > 0) overflow.splice(0, done);
  }

  /**
   * One flush for all that continuations of promises do before it: they run outside any batch. It steps back, a
   * microtask at a time, until none has written since: so what a handler writes piece by piece leaves together.
   */
  private flushSoon(writesSeen = -1): void {
    if (this.flushScheduled) return;
    this.flushScheduled = true;
    void Promise.resolve().then(() => {
      this.flushScheduled = false;
      if (this.scheduler.running) return;
      if (writesSeen === this.writes) this.flush();
      else this.flushSoon(this.writes);
    });
  }
}

/** What a call came back with. */
export interface CallResult {
  readonly result: number;
  /** Accept and connect: the connection id. */
  readonly data: number;
  /** The asked (or peer's) name, and for connect the local one; port 0 if the call gives none. */
  readonly peer: Endpoint;
  readonly local: Endpoint;
}

class PendingCall implements TokenOwner {
  readonly token: number;
  private readonly base: number;
  private readonly netpoll: Netpoll;
  private readonly name: string;
  private readonly resolve: (value: CallResult) => void;
  private readonly reject: (error: unknown) => void;
  private readonly detail: string;

  constructor(
    netpoll: Netpoll,
    name: string,
    resolve: (v: CallResult) => void,
    reject: (e: unknown) => void,
    detail = "",
  ) {
    this.netpoll = netpoll;
    this.name = name;
    this.resolve = resolve;
    this.reject = reject;
    this.detail = detail;
    this.base = netpoll.register(this);
    this.token = this.base | CallKind.call;
  }

  complete(_kind: number, c: Completion): void {
    this.netpoll.release(this.base);
    this.netpoll.onResume();
    if (c.result < 0) {
      this.reject(new SyscallError(c.result, this.name, this.detail));
      return;
    }
    const { netpoll } = this;
    const peer = { address: netpoll.addressOf(c.peerWords), port: c.peerPort };
    const local = { address: netpoll.addressOf(c.localWords), port: c.localPort };
    this.resolve({ result: c.result, data: c.data, peer, local });
  }
}

function timeAt(slot: number, kind: number): number {
  return (slot & (TIME_BLOCK - 1)) * TIME_KINDS + kind;
}

/** The number under which a deadline is kept. */
function deadlineOf(token: number, kind: DeadlineKind): number {
  return (((token >>> KIND_BITS) & SLOT_MASK) << 1) | kind;
}

/** "10.0.0.1:80", "[::1]:80". */
export function formatEndpoint(address: Address, port: number): string {
  return address.isV4 ? `${address}:${port}` : `[${address}]:${port}`;
}
