/**
 * InetStream: a TCP socket as a file (Linux inet_stream_ops and tcp_prot on one struct socket).
 *
 * It adds to `Tcp` what belongs to the socket and not to the connection: the connect protocol (EINPROGRESS, EALREADY,
 * EISCONN, SO_ERROR), which calls a state allows, options that are kept until bind, and epoll's bits.
 */
import { Address, ANY_V4 } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { type BindOptions, NO_UPCALLS, type SocketUpcalls, TcpState } from "../transport/port.ts";
import * as k from "./constants.ts";
import type { SocketContext, TcpConnection } from "./context.ts";
import { type FileKind, Socket, type SocketName } from "./file.ts";
import { isUsableAddress, SocketOptions } from "./socket-options.ts";

const READABLE = k.EPOLLIN | k.EPOLLRDNORM;
const WRITABLE = k.EPOLLOUT | k.EPOLLWRNORM;
/** Connecting to the wildcard means this host (INADDR_LOOPBACK). */
const LOOPBACK = Address.v4(0x7f000001);

/** Facts about a socket, bits of one number. */
const Is = {
  /** Linux SS_CONNECTING and SS_CONNECTED; neither: SS_UNCONNECTED. */
  connecting: 1,
  connected: 2,
  bound: 4,
  /** A reset or a failed connect has shut both directions (sk_shutdown): read gives 0 instead of ENOTCONN. */
  wasConnected: 8,
  /** What shutdown(2) has shut on our side. */
  receiveShut: 16,
  sendShut: 32,
} as const;

export class InetStream extends Socket implements SocketUpcalls {
  tcb: TcpConnection;
  /** Connections of the accept queue that are offered to an armed accept and not yet taken. */
  offered: TcpConnection[] | null = null;
  private options = SocketOptions.DEFAULTS;
  private is = 0;

  /** `child`: the connection accept takes; without one a fresh, unconnected socket. */
  constructor(context: SocketContext, domain: number, flags: number, child: TcpConnection | null) {
    super(context, domain, flags | k.O_RDWR);
    this.tcb = child ?? context.tcp.create(this);
    if (child) this.is = Is.connected | Is.wasConnected;
    if (child) context.tcp.setUpcalls(child, this);
  }

  private has(fact: number): boolean {
    return (this.is & fact) !== 0;
  }

  override get kind(): FileKind {
    return "tcp";
  }

  override get type(): number {
    return k.SOCK_STREAM;
  }

  // ── upcalls from softirq ──────────────────────────────────────────────────────────────────────────────────────

  readable(): void {
    this.waiters.wake(READABLE);
  }

  writable(): void {
    this.waiters.wake(WRITABLE);
  }

  stateChanged(): void {
    this.waiters.wake(0, Number.MAX_SAFE_INTEGER);
  }

  // ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** bind(2): EADDRINUSE, EADDRNOTAVAIL, EINVAL (bound already), EAFNOSUPPORT. */
  override bind(address: Address, port: number): number {
    if (!isUsableAddress(this.domain, address)) return -Errno.EAFNOSUPPORT;
    if (this.has(Is.bound) || this.tcb.state !== TcpState.close) return -Errno.EINVAL;
    const result = this.context.tcp.bind(this.tcb, wildcardV4(address), port, this.bindOptions());
    if (result === 0) this.is |= Is.bound;
    return result;
  }

  /** getsockname(2): 0.0.0.0:0 until bound. */
  override localName(out: SocketName): number {
    out.set(this.tcb.localAddress, this.tcb.localPort);
    return 0;
  }

  /** getpeername(2): ENOTCONN. */
  override peerName(out: SocketName): number {
    const { state, remotePort } = this.tcb;
    if (remotePort === 0 || state === TcpState.close || state === TcpState.synSent) return -Errno.ENOTCONN;
    out.set(this.tcb.remoteAddress, remotePort);
    return 0;
  }

  // ── connections ───────────────────────────────────────────────────────────────────────────────────────────────

  get listening(): boolean {
    return this.tcb.state === TcpState.listen;
  }

  /** listen(2): EINVAL (connected), EADDRINUSE. A second call changes the backlog. */
  override listen(backlog: number): number {
    const { state } = this.tcb;
    if (this.has(Is.connecting | Is.connected) || (state !== TcpState.close && state !== TcpState.listen))
      return -Errno.EINVAL;
    if (!this.has(Is.bound)) {
      const result = this.context.tcp.bind(this.tcb, ANY_V4, 0, this.bindOptions());
      if (result !== 0) return result;
      this.is |= Is.bound;
    }
    return this.context.tcp.listen(this.tcb, backlog);
  }

  /** The oldest connection of the accept queue that is not offered to anybody; null if there is none. */
  firstUnoffered(): TcpConnection | null {
    for (let index = 0; ; index++) {
      const child = this.context.tcp.acceptPeek(this.tcb, index);
      if (child === null || !this.offered?.includes(child)) return child;
    }
  }

  /** Takes `child` out of the accept queue and makes it a socket; null if it is gone. */
  accept(child: TcpConnection, flags: number): InetStream | null {
    if (!this.context.tcp.acceptTake(this.tcb, child)) return null;
    const accepted = new InetStream(this.context, this.domain, flags, child);
    // An accepted connection has its listener's options.
    accepted.options = this.options;
    return accepted;
  }

  /**
   * connect(2), non-blocking (Linux __inet_stream_connect): EINPROGRESS; EALREADY while it lasts; 0 at the first call
   * after it succeeded, EISCONN later; the reason it failed, after which the socket may connect again. ECONNABORTED if
   * SO_ERROR took the reason.
   */
  override connect(address: Address, port: number): number {
    if (!isUsableAddress(this.domain, address)) return -Errno.EAFNOSUPPORT;
    if (this.has(Is.connected)) return -Errno.EISCONN;
    if (this.has(Is.connecting)) return this.finishConnect();
    if (this.tcb.state !== TcpState.close) return -Errno.EISCONN;
    if (!this.has(Is.bound) && this.options.ifindex !== 0) {
      const result = this.context.tcp.bind(this.tcb, ANY_V4, 0, this.bindOptions());
      if (result !== 0) return result;
    }
    const result = this.context.tcp.connect(this.tcb, address.isWildcard ? LOOPBACK : address, port);
    if (result === -Errno.EINPROGRESS || result === 0) {
      this.is |= Is.connecting | Is.wasConnected;
    }
    return result;
  }

  /** What a connect that was in progress has come to: 0, -EALREADY while it still is, or the reason it failed. */
  finishConnect(): number {
    const { state } = this.tcb;
    if (state === TcpState.synSent || state === TcpState.synReceived) return -Errno.EALREADY;
    if (state !== TcpState.close) {
      this.is = (this.is & ~Is.connecting) | Is.connected;
      return 0;
    }
    const errno = this.tcb.takeError() || Errno.ECONNABORTED;
    this.disconnect();
    return -errno;
  }

  /** shutdown(2): ENOTCONN, EINVAL. On a listener SHUT_RD stops listening. */
  override shutdown(how: number): number {
    if (how !== k.SHUT_RD && how !== k.SHUT_WR && how !== k.SHUT_RDWR) return -Errno.EINVAL;
    const { state } = this.tcb;
    if (state === TcpState.close) return -Errno.ENOTCONN;
    if (state === TcpState.listen || state === TcpState.synSent) {
      if (state === TcpState.listen && how === k.SHUT_WR) return 0;
      this.disconnect();
      this.stateChanged();
      return 0;
    }
    const result = this.context.tcp.shutdown(this.tcb, how);
    if (how !== k.SHUT_WR) this.is |= Is.receiveShut;
    if (how !== k.SHUT_RD) this.is |= Is.sendShut;
    this.stateChanged();
    return result;
  }

  // ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * send(2): bytes taken (may be fewer). EAGAIN (no room, or still connecting), EPIPE (never connected, shut down, or
   * after the error was told), ECONNRESET and other reasons the connection ended, once.
   */
  override send(bytes: Uint8Array, at: number, len: number, flags: number, _to: Address | null, _port: number): number {
    if ((flags & k.MSG_OOB) !== 0) return -Errno.EOPNOTSUPP;
    const result = this.sendBytes(bytes, at, len, flags);
    if (result !== -Errno.EPIPE) return result;
    const errno = this.tcb.takeError();
    return errno === 0 ? -Errno.EPIPE : -errno;
  }

  /**
   * recv(2): bytes, 0 at the end of the stream. EAGAIN, ENOTCONN (never connected), ECONNRESET and other reasons the
   * connection ended, once and after the bytes that came before it.
   */
  override receive(into: Uint8Array, at: number, len: number, flags: number, _from: SocketName | null): number {
    const { tcb } = this;
    const { tcp } = this.context;
    if ((flags & k.MSG_OOB) !== 0) return -Errno.EINVAL;
    switch (tcb.state) {
      case TcpState.listen:
        return -Errno.ENOTCONN;
      case TcpState.synSent:
      case TcpState.synReceived:
        return -Errno.EAGAIN;
      case TcpState.close:
        return tcp.readableBytes(tcb) > 0 ? tcp.receive(tcb, into, at, len, flags) : this.endOfClosed();
      default: {
        const result = tcp.receive(tcb, into, at, len, flags);
        return result === -Errno.EAGAIN && this.has(Is.receiveShut) ? 0 : result;
      }
    }
  }

  /**
   * What a reader meets behind `offeredBytes`: 0 = end of stream, -errno, or -EAGAIN if more may come. Takes no error
   * while bytes are offered.
   */
  endBehind(offeredBytes: number): number {
    const { tcp } = this.context;
    if (tcp.readableBytes(this.tcb) > offeredBytes) return -Errno.EAGAIN;
    switch (this.tcb.state) {
      case TcpState.listen:
        return -Errno.ENOTCONN;
      case TcpState.close:
        return offeredBytes > 0 ? -Errno.EAGAIN : this.endOfClosed();
      default:
        return tcp.receivedFin(this.tcb) || this.has(Is.receiveShut) ? 0 : -Errno.EAGAIN;
    }
  }

  /** Bytes the send queue can take at once. */
  sendSpace(): number {
    return this.tcb.state === TcpState.listen ? 0 : this.context.tcp.sendSpace(this.tcb);
  }

  /** Linux tcp_poll. */
  override poll(): number {
    const { tcp } = this.context;
    const { tcb } = this;
    const { state } = tcb;
    if (state === TcpState.listen) return tcp.acceptQueueLength(tcb) > 0 ? READABLE : 0;
    let events = 0;
    if (state === TcpState.close) events |= k.EPOLLHUP;
    if (state === TcpState.close && this.has(Is.wasConnected)) events |= READABLE | k.EPOLLRDHUP;
    const finished = this.has(Is.receiveShut) || tcp.receivedFin(tcb);
    if (tcp.hasHangup(tcb) || (finished && this.has(Is.sendShut))) events |= k.EPOLLHUP;
    if (finished) events |= READABLE | k.EPOLLRDHUP;
    if (state !== TcpState.synSent && state !== TcpState.synReceived) {
      if (tcp.isReadable(tcb) && (state !== TcpState.close || tcp.readableBytes(tcb) > 0)) events |= READABLE;
      if (state === TcpState.close || this.has(Is.sendShut) || tcp.isWritable(tcb)) events |= WRITABLE;
    }
    if (tcb.error !== 0) events |= k.EPOLLERR;
    return events;
  }

  // ── options ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** setsockopt(2): ENOPROTOOPT, EINVAL. */
  override setOption(level: number, name: number, value: number, value2: number): number {
    const options = this.options.with(level, name, value);
    if (typeof options !== "number") this.options = options;
    const kept = typeof options === "number" ? options : 0;
    const forTransport = name === k.SO_REUSEADDR || name === k.SO_REUSEPORT;
    if (kept !== SocketOptions.UNKNOWN && !(kept === 0 && level === k.SOL_SOCKET && forTransport)) return kept;
    // A port that is bound already is shared from now on, too.
    return this.context.tcp.setOption(this.tcb, level, name, value, value2);
  }

  /** getsockopt(2): ENOPROTOOPT, EOPNOTSUPP (level). SO_ERROR takes the pending error. */
  override getOption(level: number, name: number): number {
    if (level === k.SOL_SOCKET) {
      if (name === k.SO_ERROR) return this.tcb.takeError();
      if (name === k.SO_TYPE) return k.SOCK_STREAM;
      if (name === k.SO_DOMAIN) return this.domain;
      if (name === k.SO_PROTOCOL) return k.IPPROTO_TCP;
      if (name === k.SO_ACCEPTCONN) return this.listening ? 1 : 0;
    }
    const kept = this.options.get(level, name);
    if (kept !== SocketOptions.UNKNOWN) return kept;
    if (level !== k.SOL_SOCKET && level !== k.IPPROTO_TCP && level !== k.IPPROTO_IP) return -Errno.EOPNOTSUPP;
    return this.context.tcp.getOption(this.tcb, level, name);
  }

  protected override release(): void {
    super.release();
    this.context.tcp.setUpcalls(this.tcb, NO_UPCALLS);
    this.context.tcp.close(this.tcb);
  }

  private sendBytes(bytes: Uint8Array, at: number, len: number, flags: number): number {
    if (this.has(Is.sendShut)) return -Errno.EPIPE;
    switch (this.tcb.state) {
      case TcpState.close:
      case TcpState.listen:
        return -Errno.EPIPE;
      case TcpState.synSent:
      case TcpState.synReceived:
        return -Errno.EAGAIN;
      default:
        return this.context.tcp.send(this.tcb, bytes, at, len, flags);
    }
  }

  private endOfClosed(): number {
    if (this.tcb.finReceived === true) return 0;
    const errno = this.tcb.takeError();
    if (errno !== 0) return -errno;
    return this.has(Is.wasConnected) ? 0 : -Errno.ENOTCONN;
  }

  /** Back to an unconnected socket (Linux tcp_disconnect): the old connection is given up, a bound address is kept. */
  private disconnect(): void {
    const { tcp } = this.context;
    const { localAddress, localPort } = this.tcb;
    tcp.setUpcalls(this.tcb, NO_UPCALLS);
    tcp.close(this.tcb);
    this.tcb = tcp.create(this);
    this.is &= Is.bound;
    this.offered = null;
    if (this.has(Is.bound) && tcp.bind(this.tcb, localAddress, localPort, this.bindOptions()) !== 0)
      this.is &= ~Is.bound;
  }

  private bindOptions(): BindOptions {
    return this.options.bindOptions();
  }
}

/** `::` binds what 0.0.0.0 binds: sockets of AF_INET6 are dual-stack here. */
function wildcardV4(address: Address): Address {
  return address.isWildcard ? ANY_V4 : address;
}
