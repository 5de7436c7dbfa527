// tidy-allow dead-file: what tests of servers run on; no server imports it
/**
 * A runtime, a network and connections in memory, for tests of servers: no kernel below, time stands still until the
 * test moves it. Like Go's httptest, it is what our own tests use. Behaves as src/runtime does: `park` only from the
 * running step, a step that returns without parking runs again, wake-ups may come for nothing.
 */
import { Address } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { Errno, SyscallError } from "../base/errno.ts";
import { type Clock, ManualClock, NEVER, type Ns } from "../base/time.ts";
import { NO_TRACE, type Tracepoints } from "../base/tracepoints.ts";
import { latin1, latin1Bytes } from "../proto/http1/text.ts";
import type {
  Conn,
  ConnTiming,
  Endpoint,
  Goroutine,
  GoroutineState,
  Listener,
  Network,
  Runtime,
  Step,
} from "../runtime/port.ts";
import { PARKED } from "../runtime/port.ts";

/** Microtask turns after which promises are taken to have settled. */
const MICROTASK_TURNS = 50;

class FakeGoroutine implements Goroutine {
  state: GoroutineState = "runnable";
  parkedOn = "";
  sinceNs = 0;
  requestId = 0;
  isNotified = false;
  readonly id: number;
  readonly name: string;
  readonly step: Step;

  constructor(id: number, name: string, step: Step) {
    this.id = id;
    this.name = name;
    this.step = step;
  }
}

interface FakeTimer {
  readonly atNs: Ns;
  readonly fire: () => void;
}

/** A process whose time and turns the test decides. */
export class FakeRuntime implements Runtime {
  readonly pid = 7;
  readonly clock: Clock;
  readonly trace: Tracepoints;
  readonly network: FakeNetwork;
  private readonly living = new Set<FakeGoroutine>();
  private readonly queue: FakeGoroutine[] = [];
  private readonly timers = new Set<FakeTimer>();
  private goroutineIds = 0;
  private requestIds = 0;

  constructor(trace: Tracepoints = NO_TRACE, clock: Clock = new ManualClock(1)) {
    this.clock = clock;
    this.trace = trace;
    this.network = new FakeNetwork(this);
  }

  /** Runs goroutines and promises until nothing moves. */
  async settle(): Promise<void> {
    do {
      this.runQueue();
      for (let turn = 0; turn < MICROTASK_TURNS && this.queue.length === 0; turn++) await undefined;
    } while (this.queue.length > 0);
  }

  /** Moves time on, firing timers in order, and settles after each. */
  async advance(durationNs: Ns): Promise<void> {
    const untilNs = this.clock.nowNs + durationNs;
    await this.settle();
    for (let timer = this.nextTimer(untilNs); timer !== undefined; timer = this.nextTimer(untilNs)) {
      this.clock.nowNs = Math.max(this.clock.nowNs, timer.atNs);
      this.timers.delete(timer);
      timer.fire();
      await this.settle();
    }
    this.clock.nowNs = untilNs;
  }

  private nextTimer(untilNs: Ns): FakeTimer | undefined {
    let next: FakeTimer | undefined;
    for (const timer of this.timers) {
      if (timer.atNs <= untilNs && (next === undefined || timer.atNs < next.atNs)) next = timer;
    }
    return next;
  }

  private runQueue(): void {
    for (let g = this.queue.shift(); g !== undefined; g = this.queue.shift()) {
      if (g.state === "dead") continue;
      g.state = "running";
      g.isNotified = false;
      if (typeof g.step === "function") g.step(g);
      else g.step.run(g);
      this.network.flushAll();
      const state = g.state as GoroutineState;
      if (state === "running" || (state === "parked" && g.isNotified)) this.enqueue(g);
    }
  }

  private enqueue(g: FakeGoroutine): void {
    g.state = "runnable";
    g.parkedOn = "";
    this.queue.push(g);
  }

  spawn(name: string, step: Step): Goroutine {
    const g = new FakeGoroutine(++this.goroutineIds, name, step);
    this.living.add(g);
    this.queue.push(g);
    return g;
  }

  exit(g: Goroutine): void {
    g.state = "dead";
    this.living.delete(g as FakeGoroutine);
  }

  ready(g: Goroutine): void {
    if (g.state === "running") (g as FakeGoroutine).isNotified = true;
    if (g.state === "parked") this.enqueue(g as FakeGoroutine);
  }

  park(g: Goroutine, on: string): void {
    assert(g.state === "running", `park of a goroutine that is ${g.state}`);
    g.state = "parked";
    g.parkedOn = on;
  }

  go(name: string, main: () => Promise<void>): void {
    this.spawn(name, (g) => {
      this.park(g, "await");
      void main().finally(() => this.exit(g));
    });
  }

  sleep(durationNs: Ns): Promise<void> {
    return new Promise((resolve) => {
      this.after(this.clock.nowNs + durationNs, resolve);
    });
  }

  burn(durationNs: Ns): Promise<void> {
    this.clock.nowNs += durationNs;
    return Promise.resolve();
  }

  after(atNs: Ns, fire: () => void): { cancel(): void } {
    const timer = { atNs, fire };
    this.timers.add(timer);
    return { cancel: () => this.timers.delete(timer) };
  }

  nextRequestId(): number {
    return ++this.requestIds;
  }

  goroutines(): readonly Goroutine[] {
    return [...this.living];
  }
}

/** Listeners and connections in memory. */
export class FakeNetwork implements Network {
  private readonly runtime: FakeRuntime;
  private readonly listeners = new Map<number, FakeListener>();
  private readonly conns: FakeConn[] = [];

  constructor(runtime: FakeRuntime) {
    this.runtime = runtime;
  }

  listen(address: Address, port: number): Promise<Listener> {
    if (this.listeners.has(port)) return Promise.reject(new SyscallError(-Errno.EADDRINUSE, "listen"));
    const listener = new FakeListener(this.runtime, { address, port });
    this.listeners.set(port, listener);
    return Promise.resolve(listener);
  }

  dial(): Promise<Conn> {
    return Promise.reject(new SyscallError(-Errno.ECONNREFUSED, "connect"));
  }

  /** A client connects; its end is returned. `connId` 0 (untraced) by default. */
  connect(port: number, connId = 0): FakeConn {
    const listener = this.listeners.get(port);
    assert(listener !== undefined, `nobody listens on ${port}`);
    const conn = new FakeConn(this.runtime, connId, 10 + this.conns.length, listener.local);
    this.conns.push(conn);
    listener.offer(conn);
    return conn;
  }

  flushAll(): void {
    for (const conn of this.conns) conn.flush();
  }
}

class FakeListener implements Listener {
  readonly fd = 3;
  readonly local: Endpoint;
  paused = false;
  private readonly runtime: FakeRuntime;
  private readonly queue: (FakeConn | number)[] = [];
  private waiter: Goroutine | null = null;
  private isClosed = false;

  constructor(runtime: FakeRuntime, local: Endpoint) {
    this.runtime = runtime;
    this.local = local;
  }

  /** A connection, or the -errno of an accept that fails. */
  offer(conn: FakeConn | number): void {
    this.queue.push(conn);
    if (this.waiter !== null) this.runtime.ready(this.waiter);
  }

  tryAccept(g: Goroutine): Conn | null | number {
    if (this.isClosed) return -Errno.EBADF;
    const next = this.queue.shift();
    if (next !== undefined) {
      if (typeof next !== "number") next.timing.acceptedNs = this.runtime.clock.nowNs;
      return next;
    }
    this.waiter = g;
    this.runtime.park(g, "accept");
    return null;
  }

  accept(): Promise<Conn> {
    return Promise.reject(new Error("the fake listener only has tryAccept"));
  }

  setPaused(paused: boolean): void {
    this.paused = paused;
  }

  close(): void {
    this.isClosed = true;
    if (this.waiter !== null) this.runtime.ready(this.waiter);
  }
}

/** Both ends of one connection: the server uses it as a `Conn`, the test sends and looks at what came back. */
export class FakeConn implements Conn {
  readonly timing: ConnTiming = { synNs: 0, establishedNs: 0, acceptedNs: 0, arrivedNs: 0, queuedNs: 0, readNs: 0 };
  readonly connId: number;
  readonly fd: number;
  readonly local: Endpoint;
  readonly remote: Endpoint = { address: Address.v4(0x0a000002), port: 40_000 };
  receivedBytes = 0;
  sentBytes = 0;
  /** What the server did to its end. */
  serverEnd: "open" | "fin" | "closed" | "reset" = "open";
  /** Bytes the "kernel" takes before the test calls `receive`. */
  windowBytes = Number.POSITIVE_INFINITY;
  /** Calls of tryRead that found nothing; for tests of back-pressure. */
  readsParked = 0;
  private readonly runtime: FakeRuntime;
  private inbound: Uint8Array = new Uint8Array(0);
  private isEnded = false;
  private errno = 0;
  private reader: Goroutine | null = null;
  private readonly drainers: Goroutine[] = [];
  private pending: Uint8Array[] = [];
  private delivered: Uint8Array[] = [];
  private deliveredBytes = 0;
  private isShut = false;
  private readDeadlineNs: Ns = NEVER;
  private deadlineTimer: { cancel(): void } | null = null;

  constructor(runtime: FakeRuntime, connId: number, fd: number, local: Endpoint) {
    this.runtime = runtime;
    this.connId = connId;
    this.fd = fd;
    this.local = local;
  }

  // ── the client's side ─────────────────────────────────────────────────────────────────────────────────────────

  /** The client sends bytes, or text one byte per character. */
  send(data: Uint8Array | string): void {
    const bytes = typeof data === "string" ? latin1Bytes(data) : data;
    const joined = new Uint8Array(this.inbound.length + bytes.length);
    joined.set(this.inbound);
    joined.set(bytes, this.inbound.length);
    this.inbound = joined;
    this.timing.arrivedNs = this.runtime.clock.nowNs;
    this.timing.queuedNs = this.runtime.clock.nowNs;
    this.wakeReader();
  }

  /** The client's FIN. */
  end(): void {
    this.isEnded = true;
    this.wakeReader();
  }

  /** The client's RST. */
  reset(): void {
    this.errno = Errno.ECONNRESET;
    this.inbound = new Uint8Array(0);
    this.pending = [];
    this.wakeReader();
    this.wakeDrainers();
  }

  /** Bytes the client has sent and the server has not read. */
  get unreadBytes(): number {
    return this.inbound.length;
  }

  /** Takes what arrived at the client so far, as bytes; opens the window again. */
  receive(): Uint8Array {
    const all = new Uint8Array(this.deliveredBytes);
    let at = 0;
    for (const part of this.delivered) {
      all.set(part, at);
      at += part.length;
    }
    this.delivered = [];
    this.deliveredBytes = 0;
    this.flush();
    return all;
  }

  /** The same as text. */
  receiveText(): string {
    const bytes = this.receive();
    return latin1(bytes, 0, bytes.length);
  }

  // ── the server's side ─────────────────────────────────────────────────────────────────────────────────────────

  get pendingBytes(): number {
    return this.pending.reduce((sum, part) => sum + part.length, 0);
  }

  tryRead(g: Goroutine, into: Uint8Array, at: number, len: number): number {
    if (this.serverEnd === "closed" || this.serverEnd === "reset") return -Errno.EBADF;
    if (this.errno !== 0) return -this.errno;
    if (this.inbound.length > 0) {
      const n = Math.min(len, this.inbound.length);
      into.set(this.inbound.subarray(0, n), at);
      this.inbound = this.inbound.slice(n);
      this.receivedBytes += n;
      this.timing.readNs = this.runtime.clock.nowNs;
      return n;
    }
    if (this.isEnded) return 0;
    if (this.runtime.clock.nowNs >= this.readDeadlineNs) return -Errno.ETIMEDOUT;
    this.reader = g;
    this.readsParked++;
    this.runtime.park(g, `read fd ${this.fd}`);
    return PARKED;
  }

  write(bytes: Uint8Array, at: number, len: number): void {
    this.sentBytes += len;
    if (this.errno !== 0 || this.isShut || this.serverEnd !== "open") return;
    this.pending.push(bytes.slice(at, at + len));
  }

  writeLatin1(text: string): void {
    this.write(latin1Bytes(text), 0, text.length);
  }

  flush(): void {
    while (this.pending.length > 0 && this.deliveredBytes < this.windowBytes) {
      const part = this.pending[0] as Uint8Array;
      const n = Math.min(part.length, this.windowBytes - this.deliveredBytes);
      this.delivered.push(part.slice(0, n));
      this.deliveredBytes += n;
      if (n === part.length) this.pending.shift();
      else this.pending[0] = part.slice(n);
      this.wakeDrainers();
    }
    if (this.pending.length === 0 && this.isShut && this.serverEnd === "open") this.serverEnd = "fin";
  }

  tryDrain(g: Goroutine, lowWaterBytes: number): number {
    if (this.errno !== 0) return -this.errno;
    if (this.serverEnd === "closed" || this.serverEnd === "reset") return -Errno.EBADF;
    if (this.pendingBytes <= lowWaterBytes) return 0;
    this.drainers.push(g);
    this.runtime.park(g, `write fd ${this.fd}`);
    return PARKED;
  }

  closeWrite(): void {
    this.isShut = true;
  }

  close(): void {
    if (this.serverEnd === "reset") return;
    this.flush();
    this.serverEnd = "closed";
    this.setReadDeadline(NEVER);
    this.wakeReader();
  }

  abort(): void {
    this.pending = [];
    this.serverEnd = "reset";
    this.setReadDeadline(NEVER);
    this.wakeReader();
    this.wakeDrainers();
  }

  setReadDeadline(atNs: Ns): void {
    this.readDeadlineNs = atNs;
    this.deadlineTimer?.cancel();
    this.deadlineTimer = atNs === NEVER ? null : this.runtime.after(atNs, () => this.wakeReader());
  }

  setWriteDeadline(): void {}

  setNoDelay(): void {}

  read(): Promise<number> {
    return Promise.reject(new Error("the fake connection only has tryRead"));
  }

  writeAll(bytes: Uint8Array): Promise<void> {
    this.write(bytes, 0, bytes.length);
    return Promise.resolve();
  }

  private wakeReader(): void {
    if (this.reader !== null) this.runtime.ready(this.reader);
    this.reader = null;
  }

  private wakeDrainers(): void {
    for (const g of this.drainers.splice(0)) this.runtime.ready(g);
  }
}
