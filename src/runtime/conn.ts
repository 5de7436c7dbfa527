/**
 * One stream connection over the system-call port: bytes in by armed receive offers, bytes out by one `send` at a time.
 *
 * Reading copies straight out of kernel pages when the goroutine runs, so a busy process leaves its Recv-Q to grow as
 * on Linux. Writing appends to a buffer of pooled chunks that leaves at the end of the goroutine's step.
 */
import { assert } from "../base/assert.ts";
import { Errno, SyscallError } from "../base/errno.ts";
import { NEVER, type Ns } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { Held, Point } from "../base/tracepoints.ts";
import { IPPROTO_TCP, SHUT_WR, SO_LINGER, SOL_SOCKET, TCP_NODELAY } from "../socket/constants.ts";
import { type Completion, CompletionFlag, SysOp } from "../socket/syscall-port.ts";
import { CallKind, type Netpoll, type Offer, type Sender, type TokenOwner } from "./netpoll.ts";
import { type Conn, type ConnTiming, type Endpoint, type Goroutine, PARKED } from "./port.ts";
import { Waiter, WaiterList } from "./scheduler.ts";
import { WriteBuffer } from "./write-buffer.ts";

/** `writeAll` resolves when at most so many bytes are pending. */
export const WRITE_ALL_LOW_WATER = 65536;

interface AsyncRead {
  readonly into: Uint8Array;
  readonly at: number;
  readonly len: number;
  readonly resolve: (n: number) => void;
  readonly reject: (error: unknown) => void;
}

export class StreamConn implements Conn, TokenOwner, Sender {
  readonly timing: ConnTiming = { synNs: 0, establishedNs: 0, acceptedNs: 0, arrivedNs: 0, queuedNs: 0, readNs: 0 };
  readonly connId: number;
  readonly fd: number;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  receivedBytes = 0;
  sentBytes = 0;
  private readonly netpoll: Netpoll;
  private readonly token: number;
  private readonly buffer: WriteBuffer;
  private oldest: Offer | null = null;
  private newest: Offer | null = null;
  private offeredBytes = 0;
  private endOfStream = false;
  private readErrno = 0;
  private writeErrno = 0;
  private readonly reader = new Waiter();
  private readonly drainers = new WaiterList();
  /** The largest low-water mark a drainer waits for. */
  private drainMark = 0;
  /** Bytes of the outstanding `send`, 0 if none; `blocked` while the kernel's send queue is full. */
  private sendingBytes = 0;
  /** Stream offset of the first byte the kernel has not taken. */
  private takenBytes = 0;
  private blocked = false;
  private isDirty = false;
  /** The kernel reported an error: nothing more is sent. */
  private isBroken = false;
  private writerGid = 0;
  private shutWanted = false;
  private shutDone = false;
  /** `close` was called; `isClosed` once the system call is made (or there is no fd to close). */
  private isClosing = false;
  private isClosed = false;
  private noDelay = false;
  private readDeadlineNs: Ns = NEVER;
  private writeDeadlineNs: Ns = NEVER;
  private readTimer: Timer | null = null;
  private writeTimer: Timer | null = null;
  private readonly asyncReads: AsyncRead[] = [];

  /** *Takes* fd, which must be connected (or be an offered fd: then call `takeFrom`). */
  constructor(netpoll: Netpoll, fd: number, connId: number, local: Endpoint, remote: Endpoint) {
    this.netpoll = netpoll;
    this.fd = fd;
    this.connId = connId;
    this.local = local;
    this.remote = remote;
    this.buffer = new WriteBuffer(netpoll.chunks);
    this.token = netpoll.register(this);
  }

  /** Takes the offered connection from its listener (accept4). */
  takeFrom(listenerFd: number): void {
    this.netpoll.submit(SysOp.acceptTake, listenerFd, this.token | CallKind.take, this.fd);
  }

  /** Registers with epoll, turns Nagle off as Go does, and arms receive. */
  start(): void {
    this.netpoll.watch(this.fd);
    this.setNoDelay(true);
    this.netpoll.submit(SysOp.receiveArm, this.fd, this.token | CallKind.receive);
  }

  get pendingBytes(): number {
    return this.buffer.length;
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

  tryRead(g: Goroutine, into: Uint8Array, at: number, len: number): number {
    const n = this.readNow(into, at, len);
    if (n !== PARKED) return n;
    assert(!this.reader.isOther(g), `two goroutines read fd ${this.fd}`);
    this.reader.set(g);
    this.netpoll.scheduler.park(g, `read fd ${this.fd}`);
    return PARKED;
  }

  read(into: Uint8Array, at = 0, len = into.length - at): Promise<number> {
    if (this.asyncReads.length === 0) {
      const n = this.readNow(into, at, len);
      if (n >= 0) return Promise.resolve(n);
      if (n !== PARKED) return Promise.reject(new SyscallError(n, "read"));
    }
    return new Promise((resolve, reject) => {
      this.asyncReads.push({ into, at, len, resolve, reject });
      if (this.asyncReads.length === 1) this.netpoll.scheduler.spawn("async read", (g) => this.serveAsyncReads(g));
    });
  }

  private serveAsyncReads(g: Goroutine): void {
    for (let r = this.asyncReads[0]; r !== undefined; r = this.asyncReads[0]) {
      const n = this.tryRead(g, r.into, r.at, r.len);
      if (n === PARKED) return;
      this.asyncReads.shift();
      this.netpoll.onResume();
      if (n >= 0) r.resolve(n);
      else r.reject(new SyscallError(n, "read"));
    }
    this.netpoll.scheduler.exit(g);
  }

  private readNow(into: Uint8Array, at: number, len: number): number {
    if (this.isClosing) return -Errno.EBADF;
    if (this.oldest !== null) return this.copyOffers(into, at, Math.min(len, this.offeredBytes));
    if (this.readErrno !== 0) return -this.readErrno;
    if (this.endOfStream || len === 0) return 0;
    return this.netpoll.clock.nowNs >= this.readDeadlineNs ? -Errno.ETIMEDOUT : PARKED;
  }

  private copyOffers(into: Uint8Array, at: number, len: number): number {
    const { netpoll, timing } = this;
    const { clock, trace, port } = netpoll;
    const isTraced = (this.connId & trace.mask) === 0;
    const first = this.oldest as Offer;
    timing.arrivedNs = first.arrivedNs;
    timing.queuedNs = first.queuedNs;
    if (isTraced) {
      clock.tick();
      trace.link(Point.read, netpoll.pid, this.connId, this.receivedBytes, this.receivedBytes + len);
    }
    let done = 0;
    while (done < len) {
      const offer = this.oldest as Offer;
      const n = Math.min(len - done, offer.len);
      port.copyOut(offer.address, n, into, at + done);
      offer.address += n;
      offer.len -= n;
      done += n;
      if (offer.len === 0) this.dropOldestOffer(offer);
    }
    // The pages are the kernel's again from here on: one read(2), however many runs it copied.
    netpoll.submit(SysOp.receiveTake, this.fd, 0, len);
    this.offeredBytes -= len;
    this.receivedBytes += len;
    if (isTraced) {
      clock.tick();
      trace.stamp(Point.readEnd, this.connId, this.receivedBytes, 0);
    }
    timing.readNs = clock.nowNs;
    return len;
  }

  private dropOldestOffer(offer: Offer): void {
    this.oldest = offer.next;
    if (this.oldest === null) this.newest = null;
    this.netpoll.releaseOffer(offer);
  }

  private received(c: Completion): void {
    if (this.isClosing) return;
    if (c.result > 0) {
      const offer = this.netpoll.takeOffer();
      offer.address = c.address;
      offer.len = c.result;
      offer.arrivedNs = c.arrivedNs;
      offer.queuedNs = c.queuedNs;
      if (this.newest === null) this.oldest = offer;
      else this.newest.next = offer;
      this.newest = offer;
      this.offeredBytes += c.result;
      if ((c.flags & CompletionFlag.more) === 0) {
        this.netpoll.submit(SysOp.receiveArm, this.fd, this.token | CallKind.receive);
      }
    } else if (c.result === 0) {
      this.endOfStream = true;
    } else {
      this.fail(-c.result);
    }
    this.reader.wake(this.netpoll.scheduler);
  }

  // ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Uint8Array, at: number, len: number): void {
    this.sentBytes += len;
    if (!this.mayWrite()) return;
    this.buffer.append(bytes, at, len);
    this.wrote();
  }

  writeLatin1(text: string): void {
    this.sentBytes += text.length;
    if (!this.mayWrite()) return;
    this.buffer.appendLatin1(text);
    this.wrote();
  }

  flush(): void {
    this.sendPending();
  }

  tryDrain(g: Goroutine, lowWaterBytes: number): number {
    if (this.writeErrno !== 0) return -this.writeErrno;
    if (this.buffer.length <= lowWaterBytes) return 0;
    if (this.netpoll.clock.nowNs >= this.writeDeadlineNs) return -Errno.ETIMEDOUT;
    this.drainMark = Math.max(this.drainMark, lowWaterBytes);
    this.drainers.add(g);
    this.netpoll.scheduler.park(g, `write fd ${this.fd}`);
    return PARKED;
  }

  writeAll(bytes: Uint8Array): Promise<void> {
    this.write(bytes, 0, bytes.length);
    if (this.writeErrno !== 0) return Promise.reject(new SyscallError(this.writeErrno, "write"));
    if (this.buffer.length <= WRITE_ALL_LOW_WATER) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const { scheduler, onResume } = this.netpoll;
      scheduler.spawn("async write", (g) => {
        const n = this.tryDrain(g, WRITE_ALL_LOW_WATER);
        if (n === PARKED) return;
        scheduler.exit(g);
        onResume();
        if (n === 0) resolve();
        else reject(new SyscallError(n, "write"));
      });
    });
  }

  private mayWrite(): boolean {
    if (!this.isBroken && !this.shutWanted && !this.isClosing) return true;
    if (this.writeErrno === 0) this.writeErrno = this.isClosing ? Errno.EBADF : Errno.EPIPE;
    return false;
  }

  private wrote(): void {
    this.writerGid = this.netpoll.scheduler.current?.id ?? 0;
    this.becomeDirty();
  }

  private becomeDirty(): void {
    if (this.isDirty) return;
    this.isDirty = true;
    this.netpoll.markDirty(this);
  }

  /** Sends the oldest chunk unless a send is outstanding; false if the port had no room (it stays dirty). */
  sendPending(): boolean {
    const chunk = this.buffer.head;
    if (chunk !== null && chunk.end > chunk.start && this.sendingBytes === 0 && !this.blocked) {
      const len = chunk.end - chunk.start;
      const { netpoll } = this;
      const { clock, trace } = netpoll;
      const isTraced = (this.connId & trace.mask) === 0;
      const lo = this.takenBytes;
      if (isTraced) {
        clock.tick();
        trace.link(Point.write, this.writerGid, this.connId, lo, lo + len);
      }
      const sent = netpoll.send(this.fd, this.token | CallKind.send, chunk.bytes, chunk.start, len);
      if (sent === 0) {
        // Asked again with the next batch, when the kernel has made room.
        this.becomeDirty();
        return false;
      }
      this.sendingBytes = sent;
      if (isTraced) {
        clock.tick();
        trace.stamp(Point.writeEnd, this.connId, lo + sent, 0);
      }
    }
    this.isDirty = false;
    this.finishWriting();
    return true;
  }

  private sent(result: number): void {
    const wanted = this.sendingBytes;
    const wasBlocked = this.blocked;
    this.sendingBytes = 0;
    this.blocked = false;
    if (result < 0 && result !== -Errno.EAGAIN) {
      this.fail(-result);
      return;
    }
    if (this.isBroken || this.isClosed) return;
    if (!wasBlocked) {
      const taken = Math.max(0, result);
      this.buffer.consume(taken);
      this.takenBytes += taken;
      if (taken < wanted) {
        this.waitForRoom();
        return;
      }
    }
    if (this.buffer.length > 0) this.sendPending();
    else this.finishWriting();
    if (this.buffer.length <= this.drainMark) this.wakeDrainers();
  }

  private waitForRoom(): void {
    const { netpoll } = this;
    this.blocked = true;
    if ((this.connId & netpoll.trace.mask) === 0) {
      netpoll.trace.stamp(Point.held, this.connId, Held.fullQueue, this.takenBytes);
    }
    netpoll.submit(SysOp.awaitWritable, this.fd, this.token | CallKind.send);
    if (this.buffer.length <= this.drainMark) this.wakeDrainers();
  }

  private wakeDrainers(): void {
    this.drainMark = 0;
    this.drainers.wakeAll(this.netpoll.scheduler);
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  closeWrite(): void {
    if (this.shutWanted || this.isClosing) return;
    this.shutWanted = true;
    this.sendPending();
  }

  close(): void {
    if (this.isClosing) return;
    this.isClosing = true;
    this.dropOffers();
    this.reader.wake(this.netpoll.scheduler);
    this.sendPending();
  }

  abort(): void {
    if (this.isClosed) return;
    this.isClosing = true;
    this.buffer.clear();
    this.netpoll.submit(SysOp.setsockopt, this.fd, 0, SOL_SOCKET, SO_LINGER, 1, 0);
    this.dropOffers();
    this.submitClose();
  }

  /** What waits for the write buffer to be empty: FIN, close. */
  private finishWriting(): void {
    if (this.buffer.length > 0 || this.sendingBytes > 0) return;
    if (this.shutWanted && !this.shutDone && !this.isClosing) {
      this.shutDone = true;
      this.netpoll.submit(SysOp.shutdown, this.fd, 0, SHUT_WR);
    }
    if (this.isClosing && !this.isClosed) this.submitClose();
  }

  /** close(2); the slot goes back with its completion, the last one of this fd. */
  private submitClose(): void {
    this.netpoll.submit(SysOp.close, this.fd, this.token | CallKind.close);
    this.gone(Errno.EBADF);
  }

  private gone(errno: number): void {
    this.isClosing = true;
    this.isClosed = true;
    if (this.writeErrno === 0) this.writeErrno = errno;
    this.setReadDeadline(NEVER);
    this.setWriteDeadline(NEVER);
    this.reader.wake(this.netpoll.scheduler);
    this.wakeDrainers();
  }

  /** The connection broke: what was offered can still be read, what was to be written is lost. */
  private fail(errno: number): void {
    if (this.readErrno === 0) this.readErrno = errno;
    if (this.writeErrno === 0) this.writeErrno = errno;
    this.isBroken = true;
    this.sendingBytes = 0;
    this.blocked = false;
    this.buffer.clear();
    this.reader.wake(this.netpoll.scheduler);
    this.wakeDrainers();
    if (this.isClosing && !this.isClosed) this.submitClose();
  }

  private dropOffers(): void {
    for (let offer = this.oldest; offer !== null; offer = this.oldest) this.dropOldestOffer(offer);
    this.offeredBytes = 0;
  }

  complete(kind: number, c: Completion): void {
    if (kind === CallKind.receive) this.received(c);
    else if (kind === CallKind.send) this.sent(c.result);
    else if (kind === CallKind.close) this.netpoll.release(this.token);
    else if (kind === CallKind.take && c.result < 0) this.notTaken(-c.result);
  }

  /** accept4 failed after all: there is no fd to close. */
  private notTaken(errno: number): void {
    this.isClosed = true;
    this.fail(errno);
    this.gone(errno);
    this.netpoll.release(this.token);
  }

  // ── options ───────────────────────────────────────────────────────────────────────────────────────────────────

  setReadDeadline(atNs: Ns): void {
    this.readDeadlineNs = atNs;
    const { scheduler } = this.netpoll;
    if (atNs !== NEVER) {
      this.readTimer ??= new Timer(() => this.reader.wake(scheduler));
      scheduler.arm(this.readTimer, atNs);
    } else if (this.readTimer !== null) scheduler.timers.cancel(this.readTimer);
  }

  setWriteDeadline(atNs: Ns): void {
    this.writeDeadlineNs = atNs;
    const { scheduler } = this.netpoll;
    if (atNs !== NEVER) {
      this.writeTimer ??= new Timer(() => this.writeTimedOut());
      scheduler.arm(this.writeTimer, atNs);
    } else if (this.writeTimer !== null) scheduler.timers.cancel(this.writeTimer);
  }

  private writeTimedOut(): void {
    // Nobody waits for a connection that is closing: give it up.
    if (this.isClosing) this.abort();
    else this.wakeDrainers();
  }

  setNoDelay(on: boolean): void {
    if (on === this.noDelay || this.isClosed) return;
    this.noDelay = on;
    this.netpoll.submit(SysOp.setsockopt, this.fd, 0, IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0);
  }
}
