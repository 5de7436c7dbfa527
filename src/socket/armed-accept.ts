/**
 * An accept that is armed once and offers every queued connection.
 *
 * It stands in the listener's wait queue as an exclusive entry, as a thread blocked in accept(2) would. An offered
 * connection stays in the accept queue — its descriptor is reserved — until the process takes it.
 */
import { Errno } from "../base/errno.ts";
import { Point } from "../base/tracepoints.ts";
import type { CompletionQueue, Stallable } from "./completion-queue.ts";
import { EPOLLIN, SOCK_NONBLOCK } from "./constants.ts";
import type { TcpConnection } from "./context.ts";
import { SocketName } from "./file.ts";
import type { InetStream } from "./inet-stream.ts";
import type { Process } from "./process.ts";
import { Call } from "./strace.ts";
import { CompletionFlag } from "./syscall-port.ts";
import { WaitEntry } from "./wait-queue.ts";

/** Connections offered and not yet taken, at most. */
export const MAX_ACCEPT_OFFERS = 16;

interface AcceptOffer {
  readonly fd: number;
  readonly child: TcpConnection;
}

export class ArmedAccept extends WaitEntry implements Stallable {
  readonly stream: InetStream;
  private readonly process: Process;
  private readonly completions: CompletionQueue;
  private readonly fd: number;
  private readonly token: number;
  private gid: number;
  private offers: AcceptOffer[] = [];
  private readonly peer = new SocketName();
  private readonly local = new SocketName();
  private parked = false;
  private disarmed = false;

  constructor(
    process: Process,
    completions: CompletionQueue,
    stream: InetStream,
    fd: number,
    token: number,
    gid: number,
  ) {
    super();
    this.process = process;
    this.completions = completions;
    this.stream = stream;
    this.fd = fd;
    this.token = token;
    this.gid = gid;
    stream.waiters.add(this, true);
  }

  override wake(key: number): boolean {
    return (key === 0 || (key & EPOLLIN) !== 0) && this.pump();
  }

  /** Offers what can be offered; true if anything was posted. */
  pump(): boolean {
    let posted = false;
    while (!this.disarmed && this.offers.length < MAX_ACCEPT_OFFERS) {
      if (!this.stream.listening) return this.fail(Errno.EINVAL);
      const child = this.stream.firstUnoffered();
      if (child === null) break;
      if (!this.completions.hasRoom && this.completions.stall(this)) break;
      const fd = this.process.fds.reserve();
      if (fd < 0) return this.offers.length === 0 ? this.fail(-fd) : posted;
      this.offer(fd, child);
      posted = true;
    }
    if (!this.disarmed && this.offers.length === 0 && !this.parked) this.park();
    return posted;
  }

  /** accept4: the process takes the connection offered as `fd`. 0, -EAGAIN (withdrawn), -ECONNABORTED (gone). */
  take(fd: number, gid: number): number {
    const index = this.offers.findIndex((offer) => offer.fd === fd);
    if (index < 0) return -Errno.EAGAIN;
    const [{ child }] = this.offers.splice(index, 1) as [AcceptOffer];
    this.unmark(child);
    this.gid = gid;
    const accepted = this.stream.accept(child, SOCK_NONBLOCK);
    if (accepted === null) this.process.fds.unreserve(fd);
    else this.process.fds.install(fd, accepted);
    const result = accepted === null ? -Errno.ECONNABORTED : fd;
    this.process.leave(Call.accept4, this.fd, SOCK_NONBLOCK, 0, 0, result);
    this.process.context.log.addAddress(child.remoteAddress, child.remotePort);
    this.pump();
    return Math.min(result, 0);
  }

  /** Withdraws all offers and leaves the wait queue. */
  disarm(): void {
    this.disarmed = true;
    this.stream.waiters.remove(this);
    this.completions.unstall(this);
    for (const { fd, child } of this.offers) {
      this.process.fds.unreserve(fd);
      this.unmark(child);
    }
    const hadOffers = this.offers.length > 0;
    this.offers = [];
    // Another process that waits on the same listener may have what was withdrawn.
    if (hadOffers) this.stream.waiters.wake(EPOLLIN);
  }

  /** The last completion of an armed accept: it is not armed any more. */
  onFailed: () => void = () => {};

  private offer(fd: number, child: TcpConnection): void {
    const { completions, process, peer, local } = this;
    const { trace } = process.context.env;
    this.offers.push({ fd, child });
    this.stream.offered ??= [];
    this.stream.offered.push(child);
    if (this.parked) {
      this.parked = false;
      this.log(Call.ready, 0);
    }
    if ((child.connId & trace.mask) === 0 && completions.isProcessAsleep) {
      trace.stamp(Point.readerWoken, child.connId, process.pid, 0);
    }
    completions.begin(this.token, fd, CompletionFlag.more, this.fd);
    completions.setData(child.connId);
    completions.setBytes(0, process.context.tcp.sendSpace(child));
    completions.setTimes(child.synReceivedNs, child.establishedNs);
    peer.set(child.remoteAddress, child.remotePort);
    local.set(child.localAddress, child.localPort);
    completions.setNames(peer, local);
    completions.publish();
  }

  private park(): void {
    this.parked = true;
    this.log(Call.accept4, -Errno.EAGAIN);
    this.log(Call.park, 0);
  }

  private fail(errno: number): boolean {
    this.log(Call.accept4, -errno);
    this.disarm();
    this.onFailed();
    this.completions.post(this.token, -errno, this.fd);
    return true;
  }

  private log(call: number, result: number): void {
    this.process.logAs(this.gid, call, this.fd, SOCK_NONBLOCK, 0, 0, result);
  }

  private unmark(child: TcpConnection): void {
    const { offered } = this.stream;
    const index = offered?.indexOf(child) ?? -1;
    if (index >= 0) offered?.splice(index, 1);
  }
}
