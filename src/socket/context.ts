/**
 * What the socket floor of one host stands on: what it was given at birth and the transport below it.
 *
 * `Tcp` and `Udp` of the transport floor fit these interfaces; they are named here so that a test can put a small fake
 * below a process, and so that sockets know no more of a connection than they use.
 */
import type { Address } from "../base/address.ts";
import type { Clock } from "../base/time.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import type { BindOptions, ReceivedRun, SocketRow, SocketUpcalls } from "../transport/port.ts";
import type { SocketCounts } from "./counts.ts";
import type { FileSystem } from "./file-system.ts";
import type { SyscallLog } from "./strace.ts";

/** The part of `HostEnv` sockets use. */
export interface SocketEnv {
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Tracepoints;
}

/** The view a socket has of a TCP connection or listener (Tcb). */
export interface TcpConnection {
  readonly connId: number;
  /** `TcpState`. */
  readonly state: number;
  readonly localAddress: Address;
  readonly localPort: number;
  readonly remoteAddress: Address;
  readonly remotePort: number;
  /** Arrival of the first SYN; entry into the accept queue. In ns, 0 = unknown. */
  readonly synReceivedNs: number;
  readonly establishedNs: number;
  /** The pending errno (positive; sk_err), 0 if none. */
  readonly error: number;
  /** The peer's FIN came: the stream has an end, which readers meet before any error (SOCK_DONE). */
  readonly finReceived?: boolean;
  /** SO_ERROR: the same, once. */
  takeError(): number;
}

/** `Tcp` as sockets use it; see `transport/tcp/tcp.ts` for what each call does. */
export interface TcpTransport {
  create(upcalls: SocketUpcalls): TcpConnection;
  setUpcalls(tcb: TcpConnection, upcalls: SocketUpcalls): void;
  bind(tcb: TcpConnection, address: Address, port: number, options: BindOptions): number;
  listen(tcb: TcpConnection, backlog: number): number;
  acceptQueueLength(tcb: TcpConnection): number;
  acceptPeek(tcb: TcpConnection, index: number): TcpConnection | null;
  acceptTake(tcb: TcpConnection, child: TcpConnection): boolean;
  connect(tcb: TcpConnection, address: Address, port: number): number;
  send(tcb: TcpConnection, bytes: Uint8Array, at: number, len: number, flags: number): number;
  sendSpace(tcb: TcpConnection): number;
  readableBytes(tcb: TcpConnection): number;
  receivePeek(tcb: TcpConnection, skip: number, out: ReceivedRun): boolean;
  receiveTake(tcb: TcpConnection, n: number): void;
  receive(tcb: TcpConnection, into: Uint8Array, at: number, len: number, flags: number): number;
  isReadable(tcb: TcpConnection): boolean;
  isWritable(tcb: TcpConnection): boolean;
  hasHangup(tcb: TcpConnection): boolean;
  receivedFin(tcb: TcpConnection): boolean;
  shutdown(tcb: TcpConnection, how: number): number;
  close(tcb: TcpConnection): void;
  setOption(tcb: TcpConnection, level: number, name: number, value: number, value2: number): number;
  getOption(tcb: TcpConnection, level: number, name: number): number;
  rows(): SocketRow[];
}

/** What `ProcessTable` is made with. `HostEnv`, `Tcp`, `Udp` and the IP layer fit. */
export interface SocketParts {
  readonly env: SocketEnv;
  readonly tcp: TcpTransport;
  /** Without one, SOCK_DGRAM is EPROTONOSUPPORT. */
  readonly udp?: UdpTransport;
  readonly ip: { ifindexOf(name: string): number };
  readonly files?: FileSystem;
}

/** The parts and what all processes of the host share. */
export interface SocketContext extends SocketParts {
  readonly counts: SocketCounts;
  readonly log: SyscallLog;
  nextInode(): number;
}

/** A UDP socket, opaque to the socket floor but for its names. */
export interface UdpEndpoint {
  readonly localAddress: Address;
  readonly localPort: number;
  readonly remoteAddress: Address;
  readonly remotePort: number;
  /** The pending errno (positive; sk_err), 0 if none. */
  readonly error?: number;
  /** SO_RCVBUF. */
  readonly receiveBufferBytes?: number;
  /** SO_ERROR: the same, once. */
  takeError?(): number;
}

/** One queued datagram; the caller's reused record. */
export interface DatagramRun {
  /** Arena address of its first byte. */
  address: number;
  len: number;
  from: Address;
  port: number;
  arrivedNs: number;
  queuedNs: number;
}

/** `Udp` as sockets use it. */
export interface UdpTransport {
  create(upcalls: SocketUpcalls): UdpEndpoint;
  bind(socket: UdpEndpoint, address: Address, port: number, options: BindOptions): number;
  connect(socket: UdpEndpoint, address: Address, port: number): number;
  send(socket: UdpEndpoint, bytes: Uint8Array, at: number, len: number, to: Address | null, port: number): number;
  receive(
    socket: UdpEndpoint,
    into: Uint8Array,
    at: number,
    len: number,
    from: { address: Address; port: number },
    leave?: boolean,
  ): number;
  /** SO_REUSEADDR and SO_REUSEPORT of a socket that may be bound. */
  setReuse?(socket: UdpEndpoint, options: BindOptions): void;
  /** The oldest datagram, left in the queue; false if there is none. */
  peek(socket: UdpEndpoint, out: DatagramRun): boolean;
  close(socket: UdpEndpoint): void;
  rows(): SocketRow[];
}
