/** A small fake of `Udp` for tests of the socket floor: the test says what arrives and sees what was sent. */
import { type Address, ANY_V4 } from "../../src/base/address.ts";
import { Errno } from "../../src/base/errno.ts";
import type { DatagramRun, UdpEndpoint, UdpTransport } from "../../src/socket/context.ts";
import type { BindOptions, SocketRow, SocketUpcalls } from "../../src/transport/port.ts";

export class FakeUdpSocket implements UdpEndpoint {
  localAddress: Address = ANY_V4;
  localPort = 0;
  remoteAddress: Address = ANY_V4;
  remotePort = 0;
  error = 0;
  closed = false;
  readonly upcalls: SocketUpcalls;
  readonly queue: { address: number; bytes: Uint8Array; from: Address; port: number }[] = [];
  readonly sent: { bytes: number[]; to: string }[] = [];

  constructor(upcalls: SocketUpcalls) {
    this.upcalls = upcalls;
  }

  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }
}

export class FakeUdp implements UdpTransport {
  readonly sockets: FakeUdpSocket[] = [];
  private readonly arena: Uint8Array;
  private arenaTop = 4096;
  private nextPort = 40000;

  constructor(arena: Uint8Array) {
    this.arena = arena;
  }

  create(upcalls: SocketUpcalls): FakeUdpSocket {
    const socket = new FakeUdpSocket(upcalls);
    this.sockets.push(socket);
    return socket;
  }

  bind(socket: FakeUdpSocket, address: Address, port: number, _options: BindOptions): number {
    if (port !== 0 && this.sockets.some((s) => !s.closed && s.localPort === port)) return -Errno.EADDRINUSE;
    socket.localAddress = address;
    socket.localPort = port === 0 ? this.nextPort++ : port;
    return 0;
  }

  connect(socket: FakeUdpSocket, address: Address, port: number): number {
    socket.remoteAddress = address;
    socket.remotePort = port;
    return 0;
  }

  send(socket: FakeUdpSocket, bytes: Uint8Array, at: number, len: number, to: Address | null, port: number): number {
    const errno = socket.takeError();
    if (errno !== 0) return -errno;
    const target = to === null ? `${socket.remoteAddress}:${socket.remotePort}` : `${to}:${port}`;
    socket.sent.push({ bytes: [...bytes.subarray(at, at + len)], to: target });
    return len;
  }

  receive(
    socket: FakeUdpSocket,
    into: Uint8Array,
    at: number,
    len: number,
    from: { address: Address; port: number },
  ): number {
    const errno = socket.takeError();
    if (errno !== 0) return -errno;
    const datagram = socket.queue.shift();
    if (!datagram) return -Errno.EAGAIN;
    const part = datagram.bytes.subarray(0, len);
    into.set(part, at);
    from.address = datagram.from;
    from.port = datagram.port;
    return part.length;
  }

  peek(socket: FakeUdpSocket, out: DatagramRun): boolean {
    const datagram = socket.queue[0];
    if (!datagram) return false;
    out.address = datagram.address;
    out.len = datagram.bytes.length;
    out.from = datagram.from;
    out.port = datagram.port;
    out.arrivedNs = out.queuedNs = 0;
    return true;
  }

  close(socket: FakeUdpSocket): void {
    socket.closed = true;
  }

  rows(): SocketRow[] {
    return [];
  }

  /** A datagram comes in. */
  deliver(socket: FakeUdpSocket, bytes: Uint8Array, from: Address, port: number): void {
    const address = this.arenaTop;
    this.arenaTop += bytes.length;
    this.arena.set(bytes, address);
    socket.queue.push({ address, bytes, from, port });
    socket.upcalls.readable();
  }

  /** An ICMP error comes in for a connected socket. */
  refuse(socket: FakeUdpSocket): void {
    socket.error = Errno.ECONNREFUSED;
    socket.upcalls.stateChanged();
  }
}
