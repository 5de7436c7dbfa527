/**
 * A listening socket: accept is armed once, and every queued connection is offered; it is taken when a goroutine runs
 * that wants it. A process that is busy, or paused, leaves its accept queue to grow as on Linux.
 */
import { Errno, SyscallError } from "../base/errno.ts";
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { Point } from "../base/tracepoints.ts";
import { type Completion, CompletionFlag, SysOp } from "../socket/syscall-port.ts";
import { StreamConn } from "./conn.ts";
import { CallKind, type Netpoll, TimeKind, type TokenOwner } from "./netpoll.ts";
import type { Conn, Endpoint, Goroutine, Listener } from "./port.ts";
import { WaiterList } from "./scheduler.ts";

/** After an accept that failed for want of descriptors or memory: 5 ms, doubling to 1 s (Go net/http Server.Serve). */
const BACK_OFF_MIN_NS = 5 * MILLISECOND;
const BACK_OFF_MAX_NS = SECOND;

/** A queued connection the kernel offered. */
interface AcceptOffer {
  readonly fd: number;
  readonly connId: number;
  readonly synNs: Ns;
  readonly establishedNs: Ns;
  readonly local: Endpoint;
  readonly remote: Endpoint;
}

export class StreamListener implements Listener, TokenOwner {
  readonly fd: number;
  readonly local: Endpoint;
  private readonly netpoll: Netpoll;
  private token: number;
  /** @internal its network keeps a list. */
  onClose: () => void = () => {};
  private isArmed = false;
  private isPaused = false;
  private isClosed = false;
  private errno = 0;
  private backOffNs: Ns = 0;
  private readonly backOffTimer: Timer;
  private offers: AcceptOffer[] = [];
  private readonly waiters = new WaiterList();

  /** *Takes* fd, which must be listening. */
  constructor(netpoll: Netpoll, fd: number, local: Endpoint) {
    this.netpoll = netpoll;
    this.fd = fd;
    this.local = local;
    this.token = netpoll.register(this);
    this.backOffTimer = new Timer(() => this.arm());
  }

  get paused(): boolean {
    return this.isPaused;
  }

  tryAccept(g: Goroutine): Conn | null | number {
    if (this.isClosed) return -Errno.EBADF;
    const offer = this.isPaused ? undefined : this.offers.shift();
    if (offer !== undefined) return this.take(offer);
    if (this.errno !== 0) return -this.errno;
    if (!this.isArmed && !this.isPaused && !this.backOffTimer.armed) this.arm();
    this.waiters.add(g);
    if (this.isPaused) this.netpoll.scheduler.park(g, `accept fd ${this.fd} (paused)`);
    else this.netpoll.scheduler.park(g, "accept", this.fd);
    return null;
  }

  accept(): Promise<Conn> {
    const { scheduler, onResume } = this.netpoll;
    return new Promise((resolve, reject) => {
      scheduler.spawn("async accept", (g) => {
        const conn = this.tryAccept(g);
        if (conn === null) return;
        scheduler.exit(g);
        onResume();
        if (typeof conn === "number") reject(new SyscallError(conn, "accept"));
        else resolve(conn);
      });
    });
  }

  setPaused(paused: boolean): void {
    if (paused === this.isPaused || this.isClosed) return;
    this.isPaused = paused;
    const { netpoll } = this;
    if (netpoll.trace.mask !== -1) netpoll.trace.stamp(Point.acceptPaused, netpoll.pid, paused ? 1 : 0, this.fd);
    if (paused) {
      this.disarm();
    } else {
      // They look again, and the first arms.
      this.waiters.wakeAll(netpoll.scheduler);
    }
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.onClose();
    this.offers = [];
    this.netpoll.scheduler.timers.cancel(this.backOffTimer);
    this.netpoll.submit(SysOp.close, this.fd, this.token | CallKind.close);
    this.waiters.wakeAll(this.netpoll.scheduler);
  }

  complete(kind: number, c: Completion): void {
    if (kind === CallKind.close) this.netpoll.release(this.token);
    else if (kind === CallKind.accept && !this.isClosed) this.offered(c);
  }

  private offered(c: Completion): void {
    if ((c.flags & CompletionFlag.more) === 0) this.isArmed = false;
    if (c.result < 0) {
      this.failed(-c.result);
      return;
    }
    this.backOffNs = 0;
    this.offers.push({
      fd: c.result,
      connId: c.data,
      synNs: c.arrivedNs,
      establishedNs: c.queuedNs,
      local: this.localEndpoint(c),
      remote: { address: this.netpoll.addressOf(c.peerWords), port: c.peerPort },
    });
    if (!this.isArmed) this.arm();
    this.waiters.wakeOne(this.netpoll.scheduler);
  }

  private failed(errno: number): void {
    const isShortage =
      errno === Errno.EMFILE || errno === Errno.ENFILE || errno === Errno.ENOBUFS || errno === Errno.ENOMEM;
    if (isShortage) {
      this.disarm();
      this.backOffNs = this.backOffNs === 0 ? BACK_OFF_MIN_NS : Math.min(this.backOffNs * 2, BACK_OFF_MAX_NS);
      this.netpoll.scheduler.arm(this.backOffTimer, this.netpoll.clock.nowNs + this.backOffNs);
    } else if (errno === Errno.ECONNABORTED || errno === Errno.EAGAIN || errno === Errno.EINTR) {
      if (!this.isArmed) this.arm();
    } else {
      this.errno = errno;
      this.waiters.wakeAll(this.netpoll.scheduler);
    }
  }

  private take(offer: AcceptOffer): StreamConn {
    const { netpoll } = this;
    const { clock, trace } = netpoll;
    const conn = new StreamConn(netpoll, offer.fd, offer.connId, offer.local, offer.remote);
    const isTraced = (offer.connId & trace.mask) === 0;
    if (isTraced) clock.tick();
    conn.takeFrom(this.fd);
    conn.start();
    conn.note(TimeKind.syn, offer.synNs);
    conn.note(TimeKind.established, offer.establishedNs);
    conn.note(TimeKind.accepted, clock.nowNs);
    if (isTraced) trace.stamp(Point.accepted, offer.connId, netpoll.pid, offer.fd);
    if (this.offers.length > 0) this.waiters.wakeOne(netpoll.scheduler);
    return conn;
  }

  private arm(): void {
    if (this.isArmed || this.isClosed || this.isPaused) return;
    this.isArmed = true;
    this.netpoll.submit(SysOp.acceptArm, this.fd, this.token | CallKind.accept);
  }

  /** Withdraws all offers. A new token makes those still under way unknown. */
  private disarm(): void {
    this.offers = [];
    this.netpoll.scheduler.timers.cancel(this.backOffTimer);
    if (!this.isArmed) return;
    this.isArmed = false;
    this.netpoll.submit(SysOp.acceptDisarm, this.fd, 0);
    const old = this.token;
    this.token = this.netpoll.register(this);
    this.netpoll.release(old);
  }

  /** The listener's own endpoint unless it is bound to the wildcard. */
  private localEndpoint(c: Completion): Endpoint {
    if (!this.local.address.isWildcard) return this.local;
    return { address: this.netpoll.addressOf(c.localWords), port: c.localPort };
  }
}
