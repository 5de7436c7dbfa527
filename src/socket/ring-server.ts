/**
 * RingServer: the kernel's side of one process's rings. It takes submissions, runs them on the `Process`, and
 * completes.
 *
 * Armed calls and epoll. A socket has one wait queue, and everything that waits for it stands there: epoll items, as
 * the runtime's netpoller registers them (EPOLLET, so that `ss`, the fd table and strace show what Go's does), and the
 * armed calls by which data really flows. An armed call is told by the same wake-up as an epoll item, and instead of
 * reporting "readable" it posts what is readable: one crossing where epoll_wait and read are two. Both may be used on
 * one socket; they only look at its queues, and only a *take* removes anything.
 *
 * Completions of an fd that closes: a call still waiting (connect, awaitWritable, epollWait, recvfrom) completes with
 * -EBADF; armed calls end silently and their offers are withdrawn.
 */
import { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { ArmedAccept } from "./armed-accept.ts";
import { ArmedReceive, ReceiveContext } from "./armed-receive.ts";
import { CompletionQueue } from "./completion-queue.ts";
import * as k from "./constants.ts";
import type { DatagramRun } from "./context.ts";
import { EpollEvents, EpollFile } from "./epoll.ts";
import { type File, SocketName } from "./file.ts";
import { InetDatagram, newDatagramRun } from "./inet-datagram.ts";
import { InetStream } from "./inet-stream.ts";
import { PendingCall } from "./pending-call.ts";
import type { Process } from "./process.ts";
import { Control, SQ_WORDS, Sq, type SyscallRings } from "./rings.ts";
import { Call } from "./strace.ts";
import { CompletionFlag, SysOp } from "./syscall-port.ts";

const WRITE_KEYS = k.EPOLLOUT | k.EPOLLERR | k.EPOLLHUP;
const READ_KEYS = k.EPOLLIN | k.EPOLLERR | k.EPOLLHUP;
/** Events one epollWait reports at most. */
const MAX_EPOLL_EVENTS = 1024;

export interface RingServerOptions {
  /**
   * Completions are there and the process may be asleep: make it run (inline) or ring its doorbell
   * (`rings.ringProcess`, at the end of the kernel's batch). Called once until the process has emptied the ring. It
   * must not run the process before it returns.
   */
  readonly toProcess: () => void;
}

/** What of one fd waits, or is armed, and is no receive: that every connection has. */
class FdWork {
  accept: ArmedAccept | null = null;
  readonly pending: PendingCall[] = [];
  /** recvfrom: bytes of the datagram that is offered, −1 if none is. */
  offeredDatagram = -1;
}

export class RingServer {
  readonly process: Process;
  readonly rings: SyscallRings;
  private readonly completions: CompletionQueue;
  /** By fd. */
  private readonly receives: (ArmedReceive | undefined)[] = [];
  private readonly work: (FdWork | undefined)[] = [];
  private readonly receiving: ReceiveContext;
  private sqHead = 0;
  private running = false;
  private readonly events = new EpollEvents(MAX_EPOLL_EVENTS);
  private readonly name = new SocketName();
  private readonly localName = new SocketName();
  private readonly datagram: DatagramRun = newDatagramRun();

  constructor(rings: SyscallRings, process: Process, options: RingServerOptions) {
    this.rings = rings;
    this.process = process;
    this.completions = new CompletionQueue(rings, process.context.env.clock, options.toProcess);
    this.receiving = new ReceiveContext(process, this.completions);
    process.onClose = (fd) => this.withdraw(fd);
  }

  /**
   * Runs at most `budget` submissions and returns how many; fewer than `budget` means that the ring is empty, or that
   * the process must first reap (its completion ring and as many overflowed completions are full).
   */
  consume(budget = 256): number {
    if (this.running) return 0;
    this.running = true;
    const { rings, process } = this;
    let consumed = 0;
    try {
      this.completions.resume();
      while (consumed < budget && this.completions.overflowCount < rings.sizes.completions) {
        if (rings.load(Control.sqTail) === this.sqHead) break;
        const at = (this.sqHead & (rings.sizes.submissions - 1)) * SQ_WORDS;
        process.gid = rings.sq[at + Sq.gid] as number;
        process.calledNs = rings.sqTimes[(at + Sq.timeNs) >> 1] as number;
        this.execute(at);
        this.sqHead = (this.sqHead + 1) | 0;
        rings.store(Control.sqHead, this.sqHead);
        consumed++;
      }
    } finally {
      this.running = false;
      process.gid = 0;
      process.calledNs = 0;
    }
    return consumed;
  }

  /** Submissions wait. */
  get hasSubmissions(): boolean {
    return this.rings.load(Control.sqTail) !== this.sqHead;
  }

  private execute(at: number): void {
    const { sq } = this.rings;
    const op = sq[at + Sq.op] as SysOp;
    const fd = sq[at + Sq.fd] as number;
    const token = sq[at + Sq.token] as number;
    if (this.process.exited) {
      this.completions.post(token, -Errno.ESRCH, fd);
      if (op === SysOp.send || op === SysOp.sendto) this.releaseStaging(at);
      return;
    }
    switch (op) {
      case SysOp.receiveTake:
        return this.finishTake(token, fd, this.receiveTake(fd, sq[at + Sq.a] as number));
      case SysOp.send:
      case SysOp.sendto:
        return this.send(op, fd, token, at);
      case SysOp.acceptTake:
        return this.finishTake(token, fd, this.acceptTake(fd, sq[at + Sq.a] as number));
      case SysOp.receiveArm:
        return this.armReceive(fd, token);
      case SysOp.acceptArm:
        return this.armAccept(fd, token);
      case SysOp.acceptDisarm:
        return this.completions.post(token, this.disarmAccept(fd), fd);
      case SysOp.connect:
        return this.connect(fd, token, at);
      case SysOp.awaitWritable:
        return this.awaitWritable(fd, token);
      case SysOp.epollWait:
        return this.epollWait(fd, token, sq[at + Sq.a] as number);
      case SysOp.recvfrom:
        return this.recvfrom(fd, token, sq[at + Sq.a] as number);
      case SysOp.getsockname:
      case SysOp.getpeername:
        return this.sendName(op, fd, token);
      default:
        return this.completions.post(token, this.simple(op, fd, at), fd);
    }
  }

  /** Calls that only have a result. */
  private simple(op: SysOp, fd: number, at: number): number {
    const { process } = this;
    const { sq } = this.rings;
    const a = sq[at + Sq.a] as number;
    const b = sq[at + Sq.b] as number;
    const c = sq[at + Sq.c] as number;
    const d = sq[at + Sq.d] as number;
    switch (op) {
      case SysOp.nop:
        return 0;
      case SysOp.socket:
        return process.socket(a, b, c);
      case SysOp.bind:
        return process.bind(fd, this.addressOf(at), sq[at + Sq.port] as number);
      case SysOp.listen:
        return process.listen(fd, a);
      case SysOp.shutdown:
        return process.shutdown(fd, a);
      case SysOp.close:
        return process.close(fd);
      case SysOp.setsockopt:
        return process.setsockopt(fd, a, b, c, d);
      case SysOp.getsockopt:
        return process.getsockopt(fd, a, b);
      case SysOp.epollCreate:
        return process.epollCreate1(a);
      case SysOp.epollCtl:
        return process.epollCtl(fd, a, b, c, d);
      case SysOp.exit:
        process.exit(a);
        return 0;
      default:
        return -Errno.EINVAL;
    }
  }

  // ── accept ────────────────────────────────────────────────────────────────────────────────────────────────────

  private armAccept(fd: number, token: number): void {
    const file = this.process.fileOf(fd);
    let errno = 0;
    if (!file) errno = Errno.EBADF;
    else if (!(file instanceof InetStream)) errno = file.kind === "udp" ? Errno.EOPNOTSUPP : Errno.ENOTSOCK;
    else if (!file.listening) errno = Errno.EINVAL;
    else if (this.work[fd]?.accept) errno = Errno.EALREADY;
    if (errno !== 0 || !(file instanceof InetStream)) {
      const result = this.process.leave(Call.accept4, fd, k.SOCK_NONBLOCK, 0, 0, -errno);
      this.completions.post(token, result, fd);
      return;
    }
    const work = this.workOf(fd);
    const accept = new ArmedAccept(this.process, this.completions, file, fd, token, this.process.gid);
    accept.onFailed = () => {
      work.accept = null;
    };
    work.accept = accept;
    accept.pump();
  }

  private acceptTake(fd: number, offered: number): number {
    const accept = this.work[fd]?.accept;
    return accept ? accept.take(offered, this.process.gid) : -Errno.EAGAIN;
  }

  private disarmAccept(fd: number): number {
    const work = this.work[fd];
    if (!this.process.fileOf(fd)) return -Errno.EBADF;
    work?.accept?.disarm();
    if (work) work.accept = null;
    return 0;
  }

  // ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  private armReceive(fd: number, token: number): void {
    const file = this.process.fileOf(fd);
    if (!(file instanceof InetStream)) {
      const errno = !file ? Errno.EBADF : file.kind === "udp" ? Errno.EOPNOTSUPP : Errno.ENOTSOCK;
      this.completions.post(token, this.process.leave(Call.read, fd, 0, 0, 0, -errno), fd);
      return;
    }
    const { receives } = this;
    while (receives.length < fd) receives.push(undefined);
    receives[fd] ??= new ArmedReceive(this.receiving, file, fd);
    const result = receives[fd].arm(token, this.process.gid);
    if (result !== 0) this.completions.post(token, result, fd);
  }

  private receiveTake(fd: number, bytes: number): number {
    const receive = this.receives[fd];
    if (receive !== undefined) return receive.take(bytes, this.process.gid);
    const work = this.work[fd];
    if (work && work.offeredDatagram >= 0) return this.takeDatagram(work, fd);
    return this.process.fileOf(fd) ? -Errno.EINVAL : -Errno.EBADF;
  }

  private finishTake(token: number, fd: number, result: number): void {
    if (result < 0) this.completions.post(token, result, fd);
  }

  private send(op: SysOp, fd: number, token: number, at: number): void {
    const { sq, staging } = this.rings;
    const start = sq[at + Sq.a] as number;
    const len = sq[at + Sq.b] as number;
    const flags = sq[at + Sq.c] as number;
    const port = sq[at + Sq.port] as number;
    const to = op === SysOp.sendto && port >= 0 ? this.addressOf(at) : null;
    let result = -Errno.EFAULT;
    if (start >= 0 && len >= 0 && start + len <= staging.length) {
      const file = this.process.fileOf(fd);
      if (file && flags === 0 && to === null) result = this.process.write(fd, staging, start, len);
      else result = this.process.sendto(fd, staging, start, len, flags, to, Math.max(port, 0));
    }
    this.releaseStaging(at);
    // Without a token silence means "all of it": a short count is reported.
    if (token === 0 && result === len) return;
    this.completions.begin(token, result, 0, fd);
    this.completions.publish();
  }

  private releaseStaging(at: number): void {
    const { rings } = this;
    rings.store(Control.stagingHead, rings.sq[at + Sq.staged] as number);
  }

  private awaitWritable(fd: number, token: number): void {
    const file = this.process.fileOf(fd);
    if (!file) return this.completions.post(token, -Errno.EBADF, fd);
    if (this.tryWritable(file, fd, token, null)) return;
    const attempt = (call: PendingCall) => this.tryWritable(file, fd, token, call);
    this.wait(SysOp.awaitWritable, file, fd, token, WRITE_KEYS, attempt, false);
  }

  private tryWritable(file: File, fd: number, token: number, waited: PendingCall | null): boolean {
    if ((file.poll() & WRITE_KEYS) === 0) return false;
    this.logReady(waited);
    this.completions.begin(token, file instanceof InetStream ? file.sendSpace() : k.PIPE_BUF, 0, fd);
    this.completions.publish();
    return true;
  }

  // ── connections ───────────────────────────────────────────────────────────────────────────────────────────────

  private connect(fd: number, token: number, at: number): void {
    const { process } = this;
    const address = this.addressOf(at);
    const port = this.rings.sq[at + Sq.port] as number;
    const result = process.connect(fd, address, port);
    const file = process.fileOf(fd);
    if (result !== -Errno.EINPROGRESS || !(file instanceof InetStream)) {
      if (result === 0 && file instanceof InetStream) this.postConnected(file, fd, token);
      else this.completions.post(token, result, fd);
      return;
    }
    this.wait(SysOp.connect, file, fd, token, -1, (call) => this.tryConnected(call, file, address, port), false);
  }

  private tryConnected(call: PendingCall, stream: InetStream, address: Address, port: number): boolean {
    const result = stream.finishConnect();
    if (result === -Errno.EALREADY) return false;
    this.logReady(call);
    this.process.logAs(call.gid, Call.connect, call.fd, 0, 0, 0, result);
    this.process.context.log.addAddress(address, port);
    if (result === 0) this.postConnected(stream, call.fd, call.token);
    else this.completions.post(call.token, result, call.fd);
    return true;
  }

  private postConnected(stream: InetStream, fd: number, token: number): void {
    if (token === 0) return;
    this.completions.begin(token, 0, 0, fd);
    this.completions.setData(stream.tcb.connId);
    this.completions.setBytes(0, stream.sendSpace());
    const hasPeer = stream.peerName(this.name) === 0;
    stream.localName(this.localName);
    this.completions.setNames(hasPeer ? this.name : null, this.localName);
    this.completions.publish();
  }

  private sendName(op: SysOp, fd: number, token: number): void {
    const { process, name, completions } = this;
    const result = op === SysOp.getsockname ? process.getsockname(fd, name) : process.getpeername(fd, name);
    if (result < 0 || token === 0) return completions.post(token, result, fd);
    completions.begin(token, result, 0, fd);
    completions.setNames(name, null);
    completions.publish();
  }

  // ── epoll and datagrams ───────────────────────────────────────────────────────────────────────────────────────

  private epollWait(fd: number, token: number, maxEvents: number): void {
    if (this.reportEvents(fd, token, maxEvents, null)) return;
    const file = this.process.fileOf(fd) as File;
    const attempt = (call: PendingCall) => this.reportEvents(fd, token, maxEvents, call);
    this.wait(SysOp.epollWait, file, fd, token, READ_KEYS, attempt, true);
  }

  /** One completion per ready event, `more` on all but the last; false if none is ready. */
  private reportEvents(fd: number, token: number, maxEvents: number, waited: PendingCall | null): boolean {
    const { process } = this;
    const file = process.fileOf(fd);
    // A wake-up that only put an item on the ready list says nothing yet: ask before the call is logged.
    if (file instanceof EpollFile && maxEvents > 0 && file.poll() === 0) return false;
    this.logReady(waited);
    const { gid } = process;
    if (waited) process.gid = waited.gid;
    const count = process.epollWait(fd, this.events, Math.min(maxEvents, MAX_EPOLL_EVENTS));
    process.gid = gid;
    if (count <= 0) this.completions.post(token, count, fd);
    for (let i = 0; i < count; i++) {
      this.completions.begin(token, this.events.events[i] as number, i < count - 1 ? CompletionFlag.more : 0, fd);
      this.completions.setData(this.events.data[i] as number);
      this.completions.publish();
    }
    return count !== 0;
  }

  private recvfrom(fd: number, token: number, flags: number): void {
    const file = this.process.fileOf(fd);
    if (!(file instanceof InetDatagram)) {
      const errno = !file ? Errno.EBADF : file instanceof InetStream ? Errno.EOPNOTSUPP : Errno.ENOTSOCK;
      this.completions.post(token, this.process.leave(Call.recvfrom, fd, 0, flags, 0, -errno), fd);
      return;
    }
    if (this.offerDatagram(file, fd, token, null)) return;
    this.process.logAs(this.process.gid, Call.recvfrom, fd, 0, flags, 0, -Errno.EAGAIN);
    const attempt = (call: PendingCall) => this.offerDatagram(file, fd, token, call);
    this.wait(SysOp.recvfrom, file, fd, token, READ_KEYS, attempt, true);
  }

  /** Offers the oldest datagram; it stays queued until taken. False if there is none, or one is offered already. */
  private offerDatagram(file: InetDatagram, fd: number, token: number, waited: PendingCall | null): boolean {
    const work = this.workOf(fd);
    const { completions, datagram, name } = this;
    if (work.offeredDatagram >= 0) {
      completions.post(token, -Errno.EALREADY, fd);
      return true;
    }
    const errno = file.takeError();
    if (errno !== 0) {
      this.logReady(waited);
      completions.post(token, -errno, fd);
      return true;
    }
    if (!file.peek(datagram)) return false;
    this.logReady(waited);
    work.offeredDatagram = datagram.len;
    completions.begin(token, datagram.len, 0, fd);
    completions.setBytes(datagram.address, 0);
    completions.setTimes(datagram.arrivedNs, datagram.queuedNs);
    name.set(datagram.from, datagram.port);
    completions.setNames(name, null);
    completions.publish();
    return true;
  }

  /** Takes the offered datagram, whatever part of it was copied. */
  private takeDatagram(work: FdWork, fd: number): number {
    const file = this.process.fileOf(fd) as InetDatagram;
    const { offeredDatagram } = work;
    work.offeredDatagram = -1;
    file.takeOldest();
    this.process.leave(Call.recvfrom, fd, offeredDatagram, 0, 0, offeredDatagram);
    return 0;
  }

  // ── waiting and ending ────────────────────────────────────────────────────────────────────────────────────────

  /** Lets a call wait in `file`'s wait queue until `attempt` completes it. */
  private wait(
    op: SysOp,
    file: File,
    fd: number,
    token: number,
    keys: number,
    attempt: (call: PendingCall) => boolean,
    exclusive: boolean,
  ): void {
    const work = this.workOf(fd);
    const { pending } = work;
    this.process.logAs(this.process.gid, Call.park, fd, 0, 0, 0, 0);
    const again = (call: PendingCall): boolean => {
      if (!attempt(call)) return false;
      call.end();
      pending.splice(pending.indexOf(call), 1);
      if (pending.length === 0 && work.accept === null && work.offeredDatagram < 0) this.work[fd] = undefined;
      return true;
    };
    pending.push(new PendingCall(op, file, fd, token, this.process.gid, keys, again, exclusive));
  }

  /** The line before the result of a call that had to wait. */
  private logReady(waited: PendingCall | null): void {
    if (waited) this.process.logAs(waited.gid, Call.ready, waited.fd, 0, 0, 0, 0);
  }

  /** `fd` is about to close. */
  private withdraw(fd: number): void {
    this.receives[fd]?.disarm();
    this.receives[fd] = undefined;
    const work = this.work[fd];
    if (!work) return;
    this.work[fd] = undefined;
    work.accept?.disarm();
    for (const call of work.pending) {
      call.end();
      this.completions.post(call.token, -Errno.EBADF, fd);
    }
  }

  private workOf(fd: number): FdWork {
    this.work[fd] ??= new FdWork();
    return this.work[fd];
  }

  private addressOf(at: number): Address {
    const { sq } = this.rings;
    const word = (i: number) => sq[at + Sq.address + i] as number;
    return new Address(word(0), word(1), word(2), word(3));
  }
}
