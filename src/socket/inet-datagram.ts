/**
 * InetDatagram: a UDP socket as a file (Linux inet_dgram_ops and udp_prot).
 */
import { Address, ANY_V4 } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import type { SocketUpcalls } from "../transport/port.ts";
import * as k from "./constants.ts";
import type { DatagramRun, SocketContext, UdpEndpoint, UdpTransport } from "./context.ts";
import { type FileKind, Socket, SocketName } from "./file.ts";
import { isUsableAddress, SocketOptions } from "./socket-options.ts";

const READABLE = k.EPOLLIN | k.EPOLLRDNORM;
const WRITABLE = k.EPOLLOUT | k.EPOLLWRNORM | k.EPOLLWRBAND;
const BROADCAST = Address.v4(0xffffffff);
/** Largest UDP payload over IPv4. */
const MAX_PAYLOAD_BYTES = 65507;
const NOTHING = new Uint8Array(0);

export class InetDatagram extends Socket implements SocketUpcalls {
  override readonly kind: FileKind = "udp";
  override readonly type = k.SOCK_DGRAM;
  readonly endpoint: UdpEndpoint;
  private readonly udp: UdpTransport;
  private options = SocketOptions.DEFAULTS;
  private bound = false;
  private connected = false;
  /** What shutdown(2) has shut. */
  private receiveShut = false;
  private sendShut = false;
  private readonly scratchName = new SocketName();
  private readonly scratchRun = newDatagramRun();

  constructor(context: SocketContext, udp: UdpTransport, domain: number, flags: number) {
    super(context, domain, flags | k.O_RDWR);
    this.udp = udp;
    this.endpoint = udp.create(this);
  }

  readable(): void {
    this.waiters.wake(READABLE);
  }

  writable(): void {
    this.waiters.wake(WRITABLE);
  }

  stateChanged(): void {
    this.waiters.wake(0, Number.MAX_SAFE_INTEGER);
  }

  /** bind(2): EADDRINUSE, EADDRNOTAVAIL, EINVAL (bound already), EAFNOSUPPORT. */
  override bind(address: Address, port: number): number {
    if (!isUsableAddress(this.domain, address)) return -Errno.EAFNOSUPPORT;
    if (this.bound) return -Errno.EINVAL;
    const asked = address.isWildcard ? ANY_V4 : address;
    const result = this.udp.bind(this.endpoint, asked, port, this.options.bindOptions());
    if (result === 0) this.bound = true;
    return result;
  }

  /** connect(2) sets the peer; may be called again. ENETUNREACH, EACCES (broadcast), EAFNOSUPPORT. */
  override connect(address: Address, port: number): number {
    if (!isUsableAddress(this.domain, address)) return -Errno.EAFNOSUPPORT;
    if (address.equals(BROADCAST) && !this.options.broadcast) return -Errno.EACCES;
    const unbound = this.bindFirst();
    if (unbound !== 0) return unbound;
    const result = this.udp.connect(this.endpoint, address, port);
    if (result === 0) this.connected = true;
    return result;
  }

  /**
   * sendto(2): all bytes or none. EPIPE (shut down), EDESTADDRREQ, EMSGSIZE, EACCES (broadcast), EINVAL (port 0),
   * ENETUNREACH, ECONNREFUSED (once), EAGAIN.
   */
  override send(bytes: Uint8Array, at: number, len: number, flags: number, to: Address | null, port: number): number {
    if ((flags & k.MSG_OOB) !== 0) return -Errno.EOPNOTSUPP;
    // Any send binds, also one that fails.
    const unbound = this.bindFirst();
    if (unbound !== 0) return unbound;
    if (this.sendShut) return -Errno.EPIPE;
    if (len > MAX_PAYLOAD_BYTES) return -Errno.EMSGSIZE;
    if (to === null && !this.connected) return -Errno.EDESTADDRREQ;
    if (to !== null && port === 0) return -Errno.EINVAL;
    if (to !== null && !isUsableAddress(this.domain, to)) return -Errno.EAFNOSUPPORT;
    if (to?.equals(BROADCAST) && !this.options.broadcast) return -Errno.EACCES;
    return this.udp.send(this.endpoint, bytes, at, len, to, port);
  }

  /**
   * recvfrom(2): bytes of one datagram; what does not fit is lost. EAGAIN, ECONNREFUSED (ICMP, connected socket, once).
   */
  override receive(into: Uint8Array, at: number, len: number, flags: number, from: SocketName | null): number {
    const name = from ?? this.scratchName;
    return this.udp.receive(this.endpoint, into, at, len, name, (flags & k.MSG_PEEK) !== 0);
  }

  /** The oldest datagram, left in the queue. */
  peek(out: DatagramRun): boolean {
    return this.udp.peek(this.endpoint, out);
  }

  /** Discards the oldest datagram (a reader copied it out of the kernel's pages). */
  takeOldest(): void {
    this.udp.receive(this.endpoint, NOTHING, 0, 0, this.scratchName);
  }

  /** SO_ERROR: the pending errno (positive), once; 0 if none. */
  takeError(): number {
    return this.endpoint.takeError?.() ?? 0;
  }

  /** shutdown(2): ENOTCONN, EINVAL. */
  override shutdown(how: number): number {
    if (how !== k.SHUT_RD && how !== k.SHUT_WR && how !== k.SHUT_RDWR) return -Errno.EINVAL;
    if (!this.connected) return -Errno.ENOTCONN;
    if (how !== k.SHUT_WR) this.receiveShut = true;
    if (how !== k.SHUT_RD) this.sendShut = true;
    this.stateChanged();
    return 0;
  }

  /** setsockopt(2): ENOPROTOOPT, EINVAL. Buffer sizes are taken and left to the transport's defaults. */
  override setOption(level: number, name: number, value: number, _value2: number): number {
    const options = this.options.with(level, name, value);
    if (typeof options !== "number") this.options = options;
    const kept = typeof options === "number" ? options : 0;
    // A port that is bound already is shared from now on, too.
    if (kept === 0) this.udp.setReuse?.(this.endpoint, this.options);
    if (kept !== SocketOptions.UNKNOWN) return kept;
    if (level === k.SOL_SOCKET && (name === k.SO_RCVBUF || name === k.SO_SNDBUF)) return 0;
    return -Errno.ENOPROTOOPT;
  }

  /** getsockopt(2): ENOPROTOOPT, EOPNOTSUPP (level). */
  override getOption(level: number, name: number): number {
    if (level === k.SOL_SOCKET) {
      if (name === k.SO_ERROR) return this.takeError();
      if (name === k.SO_TYPE) return k.SOCK_DGRAM;
      if (name === k.SO_DOMAIN) return this.domain;
      if (name === k.SO_PROTOCOL) return k.IPPROTO_UDP;
      if (name === k.SO_ACCEPTCONN || name === k.SO_KEEPALIVE) return 0;
      if (name === k.SO_RCVLOWAT) return 1;
      if (name === k.SO_RCVBUF) return this.endpoint.receiveBufferBytes ?? -Errno.ENOPROTOOPT;
    }
    const kept = this.options.get(level, name);
    if (kept !== SocketOptions.UNKNOWN) return kept;
    return level === k.SOL_SOCKET ? -Errno.ENOPROTOOPT : -Errno.EOPNOTSUPP;
  }

  override localName(out: SocketName): number {
    out.set(this.endpoint.localAddress, this.endpoint.localPort);
    return 0;
  }

  /** getpeername(2): ENOTCONN. */
  override peerName(out: SocketName): number {
    if (!this.connected) return -Errno.ENOTCONN;
    out.set(this.endpoint.remoteAddress, this.endpoint.remotePort);
    return 0;
  }

  /** Linux datagram_poll: always writable here (UDP's send buffer is the device's queue). */
  override poll(): number {
    let events = WRITABLE;
    if (this.receiveShut || this.udp.peek(this.endpoint, this.scratchRun)) events |= READABLE;
    if (this.receiveShut) events |= k.EPOLLRDHUP;
    if (this.receiveShut && this.sendShut) events |= k.EPOLLHUP;
    if ((this.endpoint.error ?? 0) !== 0) events |= k.EPOLLERR;
    return events;
  }

  protected override release(): void {
    super.release();
    this.udp.close(this.endpoint);
  }

  /** An ephemeral port at the first connect or send (Linux inet_autobind). */
  private bindFirst(): number {
    return this.bound ? 0 : this.bind(ANY_V4, 0);
  }
}

export function newDatagramRun(): DatagramRun {
  return { address: 0, len: 0, from: ANY_V4, port: 0, arrivedNs: 0, queuedNs: 0 };
}
