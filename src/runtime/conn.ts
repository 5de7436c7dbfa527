/**
 * One stream connection over the system-call port: bytes in by armed receive offers, bytes out by one `send` at a time.
 *
 * Reading copies straight out of kernel pages when the goroutine runs, so a busy process leaves its Recv-Q to grow as
 * on Linux. Writing appends to a buffer of pooled chunks that leaves at the end of the goroutine's step.
 */

import type { Address } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { Errno, SyscallError } from "../base/errno.ts";
import { NEVER, type Ns } from "../base/time.ts";
import { Held, Point } from "../base/tracepoints.ts";
import { IPPROTO_TCP, SHUT_WR, SO_LINGER, SOL_SOCKET, TCP_NODELAY } from "../socket/constants.ts";
import { type Completion, CompletionFlag, SysOp } from "../socket/syscall-port.ts";
import { CallKind, DeadlineKind, type Netpoll, type Offer, type Sender, TimeKind, type TokenOwner } from "./netpoll.ts";
import { type Conn, type ConnTiming, type Endpoint, type Goroutine, PARKED } from "./port.ts";
import { WaiterList } from "./scheduler.ts";
import type { Chunk, WriteBuffer } from "./write-buffer.ts";

/** `writeAll` resolves when at most so many bytes are pending. */
export const WRITE_ALL_LOW_WATER = 65536;

interface AsyncRead {
  readonly into: Uint8Array;
  readonly at: number;
  readonly len: number;
  readonly resolve: (n: number) => void;
  readonly reject: (error: unknown) => void;
}

/** Who waits until at most `markBytes` are pending. */
class Drainers extends WaiterList {
  /** The largest mark somebody waits for. */
  markBytes = 0;
}

/** Facts about a connection, bits of one number: a field each would be a seventh of its size. */
const Is = {
  /** In the netpoller's list of those that have something to send. */
  dirty: 1,
  /** The kernel's send queue is full: `awaitWritable` is under way. */
  blocked: 2,
  endOfStream: 4,
  /** The kernel reported an error: nothing more is sent. */
  broken: 8,
  shutWanted: 16,
  shutDone: 32,
  /** `close` was called. */
  closing: 64,
  /** The system call is made (or there is no fd to close). */
  closed: 128,
  noDelay: 256,
  /** A deadline has passed since it was set. */
  readExpired: 512,
  writeExpired: 1024,
} as const;

export class StreamConn implements Conn, TokenOwner, Sender {
  readonly connId: number;
  readonly fd: number;
  receivedBytes = 0;
  sentBytes = 0;
  private readonly netpoll: Netpoll;
  private readonly token: number;
  private readonly localAddress: Address;
  private readonly localPort: number;
  private readonly remoteAddress: Address;
  private readonly remotePort: number;
  private is = 0;
  /** Bytes the kernel has not taken; null if there are none. */
  private buffer: WriteBuffer | null = null;
  private oldest: Offer | null = null;
  private newest: Offer | null = null;
  private offeredBytes = 0;
  private readErrno = 0;
  private writeErrno = 0;
  /** Who reads, remembered with its id because records are used again. */
  private reader: Goroutine | null = null;
  private readerId = 0;
  private drainers: Drainers | null = null;
  /** Bytes of the outstanding `send`, 0 if none. */
  private sendingBytes = 0;
  /** Stream offset of the first byte the kernel has not taken. */
  private takenBytes = 0;
  private writerGid = 0;
  private asyncReads: AsyncRead[] | null = null;

  /** *Takes* fd, which must be connected (or be an offered fd: then call `takeFrom`). */
  constructor(netpoll: Netpoll, fd: number, connId: number, local: Endpoint, remote: Endpoint) {
    this.netpoll = netpoll;
    this.fd = fd;
    this.connId = connId;
    this.localAddress = local.address;
    this.localPort = local.port;
    this.remoteAddress = remote.address;
    this.remotePort = remote.port;
    this.token = netpoll.register(this);
  }

  get local(): Endpoint {
    return { address: this.localAddress, port: this.localPort };
  }

  get remote(): Endpoint {
    return { address: this.remoteAddress, port: this.remotePort };
  }

  /** When what happened; a record of its own. */
  get timing(): ConnTiming {
    return this.netpoll.timingOf(this.token);
  }

  /** Keeps a moment for `timing`. */
  note(kind: TimeKind, atNs: Ns): void {
    this.netpoll.setTime(this.token, kind, atNs);
  }

  private has(fact: number): boolean {
    return (this.is & fact) !== 0;
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
    return this.buffer === null ? 0 : this.buffer.length;
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

  tryRead(g: Goroutine, into: Uint8Array, at: number, len: number): number {
    const n = this.readNow(into, at, len);
    if (n !== PARKED) return n;
    if (this.isReadByOther(g)) assert(false, `two goroutines read fd ${this.fd}`);
    this.reader = g;
    this.readerId = g.id;
    this.netpoll.scheduler.park(g, "read", this.fd);
    return PARKED;
  }

  private isReadByOther(g: Goroutine): boolean {
    const { reader } = this;
    return reader !== null && reader !== g && reader.id === this.readerId && reader.state === "parked";
  }

  private wakeReader(): void {
    const { reader } = this;
    if (reader === null) return;
    this.reader = null;
    if (reader.id === this.readerId) this.netpoll.scheduler.ready(reader);
  }

  read(into: Uint8Array, at = 0, len = into.length - at): Promise<number> {
    this.asyncReads ??= [];
    const reads = this.asyncReads;
    if (reads.length === 0) {
      const n = this.readNow(into, at, len);
      if (n >= 0) return Promise.resolve(n);
      if (n !== PARKED) return Promise.reject(new SyscallError(n, "read"));
    }
    return new Promise((resolve, reject) => {
      reads.push({ into, at, len, resolve, reject });
      if (reads.length === 1) this.netpoll.scheduler.spawn("async read", (g) => this.serveAsyncReads(g, reads));
    });
  }

  private serveAsyncReads(g: Goroutine, reads: AsyncRead[]): void {
    for (let r = reads[0]; r !== undefined; r = reads[0]) {
      const n = this.tryRead(g, r.into, r.at, r.len);
      if (n === PARKED) return;
      reads.shift();
      this.netpoll.onResume();
      if (n >= 0) r.resolve(n);
      else r.reject(new SyscallError(n, "read"));
    }
    this.netpoll.scheduler.exit(g);
  }

  private readNow(into: Uint8Array, at: number, len: number): number {
    if (this.has(Is.closing)) return -Errno.EBADF;
    if (this.oldest !== null) return this.copyOffers(into, at, Math.min(len, this.offeredBytes));
    if (this.readErrno !== 0) return -this.readErrno;
    if (this.has(Is.endOfStream) || len === 0) return 0;
    return this.hasPassed(DeadlineKind.read, Is.readExpired) ? -Errno.ETIMEDOUT : PARKED;
  }

  private hasPassed(kind: DeadlineKind, expired: number): boolean {
    return this.has(expired) || this.netpoll.clock.nowNs >= this.netpoll.deadlineOf(this.token, kind);
  }

  private copyOffers(into: Uint8Array, at: number, len: number): number {
    const { netpoll } = this;
    const { clock, trace, port } = netpoll;
    const isTraced = (this.connId & trace.mask) === 0;
    const first = this.oldest as Offer;
    this.note(TimeKind.arrived, first.arrivedNs);
    this.note(TimeKind.queued, first.queuedNs);
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
    this.note(TimeKind.read, clock.nowNs);
    return len;
  }

  private dropOldestOffer(offer: Offer): void {
    this.oldest = offer.next;
    if (this.oldest === null) this.newest = null;
    this.netpoll.releaseOffer(offer);
  }

  private received(c: Completion): void {
    if (this.has(Is.closing)) return;
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
      this.is |= Is.endOfStream;
    } else {
      this.fail(-c.result);
    }
    this.wakeReader();
  }

  // ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Uint8Array, at: number, len: number): void {
    this.sentBytes += len;
    if (!this.mayWrite()) return;
    if (len === 0) return;
    this.writable().append(bytes, at, len);
    this.wrote();
  }

  writeLatin1(text: string): void {
    this.sentBytes += text.length;
    if (!this.mayWrite()) return;
    if (text.length === 0) return;
    this.writable().appendLatin1(text);
    this.wrote();
  }

  flush(): void {
    this.sendPending();
  }

  tryDrain(g: Goroutine, lowWaterBytes: number): number {
    if (this.writeErrno !== 0) return -this.writeErrno;
    if (this.pendingBytes <= lowWaterBytes) return 0;
    if (this.hasPassed(DeadlineKind.write, Is.writeExpired)) return -Errno.ETIMEDOUT;
    this.drainers ??= new Drainers();
    this.drainers.markBytes = Math.max(this.drainers.markBytes, lowWaterBytes);
    this.drainers.add(g);
    this.netpoll.scheduler.park(g, "write", this.fd);
    return PARKED;
  }

  writeAll(bytes: Uint8Array): Promise<void> {
    this.write(bytes, 0, bytes.length);
    if (this.writeErrno !== 0) return Promise.reject(new SyscallError(this.writeErrno, "write"));
    if (this.pendingBytes <= WRITE_ALL_LOW_WATER) return Promise.resolve();
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
    if (!this.has(Is.broken | Is.shutWanted | Is.closing)) return true;
    if (this.writeErrno === 0) this.writeErrno = this.has(Is.closing) ? Errno.EBADF : Errno.EPIPE;
    return false;
  }

  private writable(): WriteBuffer {
    this.buffer ??= this.netpoll.chunks.takeBuffer();
    return this.buffer;
  }

  /** What was not taken is given up. */
  private dropBuffer(): void {
    if (this.buffer === null) return;
    this.buffer.clear();
    this.netpoll.chunks.giveBuffer(this.buffer);
    this.buffer = null;
  }

  private wrote(): void {
    this.netpoll.noteWrite();
    this.writerGid = this.netpoll.scheduler.current?.id ?? 0;
    this.becomeDirty();
  }

  private becomeDirty(): void {
    if (this.has(Is.dirty)) return;
    this.is |= Is.dirty;
    this.netpoll.markDirty(this);
  }

  /** Sends what it can, one chunk at a time; false if the port had no room (it stays dirty). */
  sendPending(): boolean {
    while (this.buffer !== null && this.sendingBytes === 0 && !this.has(Is.blocked)) {
      if (!this.sendChunk(this.buffer)) {
        // Asked again with the next batch, when the kernel has made room.
        this.becomeDirty();
        return false;
      }
      const { netpoll } = this;
      if (!netpoll.isAnswered(this.token | CallKind.send)) break;
      if (!this.answered(netpoll.port.completion.result)) return true;
    }
    this.is &= ~Is.dirty;
    this.finishWriting();
    return true;
  }

  /** Submits the oldest chunk; false if there was no room. */
  private sendChunk(buffer: WriteBuffer): boolean {
    const { netpoll } = this;
    const { clock, trace } = netpoll;
    const chunk = buffer.head as Chunk;
    const len = chunk.end - chunk.start;
    const isTraced = (this.connId & trace.mask) === 0;
    const lo = this.takenBytes;
    if (isTraced) {
      clock.tick();
      trace.link(Point.write, this.writerGid, this.connId, lo, lo + len);
    }
    const hasMore = buffer.length > len;
    this.sendingBytes = netpoll.send(this.fd, this.token | CallKind.send, chunk.bytes, chunk.start, len, hasMore);
    if (this.sendingBytes === 0) return false;
    if (isTraced) {
      clock.tick();
      trace.stamp(Point.writeEnd, this.connId, lo + this.sendingBytes, 0);
    }
    return true;
  }

  /** The kernel's answer came later: goes on. */
  private sent(result: number): void {
    if (this.answered(result)) this.sendPending();
  }

  /** What `send` (or `awaitWritable`) came back with; false if nothing more can be sent. */
  private answered(result: number): boolean {
    const wanted = this.sendingBytes;
    const wasBlocked = this.has(Is.blocked);
    this.sendingBytes = 0;
    this.is &= ~Is.blocked;
    if (result < 0 && result !== -Errno.EAGAIN) {
      this.is &= ~Is.dirty;
      this.fail(-result, result === -Errno.EPIPE);
      return false;
    }
    if (this.has(Is.broken | Is.closed)) return false;
    if (wasBlocked || this.buffer === null) return true;
    const taken = Math.max(0, result);
    this.buffer.consume(taken);
    this.takenBytes += taken;
    if (this.buffer.length === 0) this.dropBuffer();
    if (taken < wanted) this.waitForRoom();
    if (this.drainers !== null && this.pendingBytes <= this.drainers.markBytes) this.wakeDrainers();
    return true;
  }

  private waitForRoom(): void {
    const { netpoll } = this;
    this.is |= Is.blocked;
    if ((this.connId & netpoll.trace.mask) === 0) {
      netpoll.trace.stamp(Point.held, this.connId, Held.fullQueue, this.takenBytes);
    }
    netpoll.submit(SysOp.awaitWritable, this.fd, this.token | CallKind.send);
  }

  private wakeDrainers(): void {
    const { drainers } = this;
    this.drainers = null;
    drainers?.wakeAll(this.netpoll.scheduler);
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  closeWrite(): void {
    if (this.has(Is.shutWanted | Is.closing)) return;
    this.is |= Is.shutWanted;
    this.sendPending();
  }

  close(): void {
    if (this.has(Is.closing)) return;
    this.is |= Is.closing;
    this.dropOffers();
    this.wakeReader();
    this.sendPending();
  }

  abort(): void {
    if (this.has(Is.closed)) return;
    this.is |= Is.closing;
    this.dropBuffer();
    this.netpoll.submit(SysOp.setsockopt, this.fd, 0, SOL_SOCKET, SO_LINGER, 1, 0);
    this.dropOffers();
    this.submitClose();
  }

  /** What waits for the write buffer to be empty: FIN, close. */
  private finishWriting(): void {
    if (this.buffer !== null || this.sendingBytes > 0) return;
    if (this.has(Is.shutWanted) && !this.has(Is.shutDone | Is.closing)) {
      this.is |= Is.shutDone;
      this.netpoll.submit(SysOp.shutdown, this.fd, 0, SHUT_WR);
    }
    if (this.has(Is.closing) && !this.has(Is.closed)) this.submitClose();
  }

  /** close(2); the slot goes back with its completion, the last one of this fd. */
  private submitClose(): void {
    this.netpoll.submit(SysOp.close, this.fd, this.token | CallKind.close);
    this.gone(Errno.EBADF);
  }

  private gone(errno: number): void {
    this.is |= Is.closing | Is.closed;
    if (this.writeErrno === 0) this.writeErrno = errno;
    this.netpoll.setDeadline(this.token, DeadlineKind.read, NEVER);
    this.netpoll.setDeadline(this.token, DeadlineKind.write, NEVER);
    this.wakeReader();
    this.wakeDrainers();
  }

  /**
   * The connection broke: what was offered can still be read, what was to be written is lost. EPIPE is the writer's
   * alone: the reason has been told to the reader, whose completion is still on its way.
   */
  private fail(errno: number, isWriters = false): void {
    if (this.readErrno === 0 && !isWriters) this.readErrno = errno;
    if (this.writeErrno === 0) this.writeErrno = errno;
    this.is = (this.is | Is.broken) & ~Is.blocked;
    this.sendingBytes = 0;
    this.dropBuffer();
    this.wakeReader();
    this.wakeDrainers();
    if (this.has(Is.closing) && !this.has(Is.closed)) this.submitClose();
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
    this.is |= Is.closed;
    this.fail(errno);
    this.gone(errno);
    this.netpoll.release(this.token);
  }

  // ── options ───────────────────────────────────────────────────────────────────────────────────────────────────

  setReadDeadline(atNs: Ns): void {
    // Closed, its slot may be another's.
    if (this.has(Is.closed)) return;
    this.is &= ~Is.readExpired;
    this.netpoll.setDeadline(this.token, DeadlineKind.read, atNs);
  }

  setWriteDeadline(atNs: Ns): void {
    if (this.has(Is.closed)) return;
    this.is &= ~Is.writeExpired;
    this.netpoll.setDeadline(this.token, DeadlineKind.write, atNs);
  }

  deadlinePassed(kind: DeadlineKind): void {
    this.is |= kind === DeadlineKind.read ? Is.readExpired : Is.writeExpired;
    if (kind === DeadlineKind.read) this.wakeReader();
    // Nobody waits for a connection that is closing: give it up.
    else if (this.has(Is.closing)) this.abort();
    else this.wakeDrainers();
  }

  setNoDelay(on: boolean): void {
    if (on === this.has(Is.noDelay) || this.has(Is.closed)) return;
    this.is ^= Is.noDelay;
    this.netpoll.submit(SysOp.setsockopt, this.fd, 0, IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0);
  }
}
