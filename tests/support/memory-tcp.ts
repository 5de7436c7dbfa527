/**
 * A transport of one host without a network: what one connection sends is in the other's receive queue at once.
 *
 * It lets the socket floor, the runtime and the drivers be tested, and their crossings be measured, without TCP.
 * Upcalls of connects come from `advance`, as from softirq.
 */
import { Address } from "../../src/base/address.ts";
import { Errno } from "../../src/base/errno.ts";
import type { Clock } from "../../src/base/time.ts";
import type { TcpConnection, TcpTransport } from "../../src/socket/context.ts";
import {
  type BindOptions,
  NO_UPCALLS,
  type ReceivedRun,
  type SocketRow,
  type SocketUpcalls,
  TcpState,
} from "../../src/transport/port.ts";

const QUEUE_BYTES = 65536;
const LOOPBACK = Address.v4(0x7f000001);
const NOWHERE = Address.v4(0);

class MemoryConnection implements TcpConnection {
  connId = 0;
  state: number = TcpState.close;
  localAddress = NOWHERE;
  localPort = 0;
  remoteAddress = NOWHERE;
  remotePort = 0;
  synReceivedNs = 0;
  establishedNs = 0;
  error = 0;
  upcalls: SocketUpcalls = NO_UPCALLS;
  peer: MemoryConnection | null = null;
  /** Arena address of its receive ring, 0 if none. */
  ring = 0;
  received = 0;
  taken = 0;
  finReceived = false;
  finSent = false;
  wantsRoom = false;
  lingerZero = false;
  backlog = 0;
  readonly acceptQueue: MemoryConnection[] = [];

  takeError(): number {
    const errno = this.error;
    this.error = 0;
    return errno;
  }
}

export class MemoryTcp implements TcpTransport {
  readonly arena: Uint8Array;
  readonly address: Address;
  private readonly clock: Clock;
  private readonly freeRings: number[] = [];
  private readonly listeners = new Map<number, MemoryConnection>();
  private readonly deferred: (() => void)[] = [];
  private connIds = 0;
  private ports = 40000;

  /** `buffer` holds one ring of 64 KiB per end of a connection. */
  constructor(clock: Clock, buffer: ArrayBufferLike, address: Address = LOOPBACK) {
    this.clock = clock;
    this.address = address;
    this.arena = new Uint8Array(buffer);
    for (let at = buffer.byteLength - QUEUE_BYTES; at > 0; at -= QUEUE_BYTES) this.freeRings.push(at);
  }

  /** Softirq has work. */
  get isPending(): boolean {
    return this.deferred.length > 0;
  }

  advance(): void {
    for (let work = this.deferred.shift(); work; work = this.deferred.shift()) work();
  }

  create(upcalls: SocketUpcalls): MemoryConnection {
    const tcb = new MemoryConnection();
    tcb.upcalls = upcalls;
    return tcb;
  }

  setUpcalls(tcb: TcpConnection, upcalls: SocketUpcalls): void {
    (tcb as MemoryConnection).upcalls = upcalls;
  }

  bind(tcb: TcpConnection, address: Address, port: number, _options: BindOptions): number {
    const c = tcb as MemoryConnection;
    if (port !== 0 && this.listeners.has(port)) return -Errno.EADDRINUSE;
    c.localAddress = address;
    c.localPort = port === 0 ? ++this.ports : port;
    return 0;
  }

  listen(tcb: TcpConnection, backlog: number): number {
    const c = tcb as MemoryConnection;
    const holder = this.listeners.get(c.localPort);
    if (holder && holder !== c) return -Errno.EADDRINUSE;
    c.state = TcpState.listen;
    c.backlog = backlog;
    this.listeners.set(c.localPort, c);
    return 0;
  }

  acceptQueueLength(tcb: TcpConnection): number {
    return (tcb as MemoryConnection).acceptQueue.length;
  }

  acceptPeek(tcb: TcpConnection, index: number): TcpConnection | null {
    return (tcb as MemoryConnection).acceptQueue[index] ?? null;
  }

  acceptTake(tcb: TcpConnection, child: TcpConnection): boolean {
    const queue = (tcb as MemoryConnection).acceptQueue;
    const index = queue.indexOf(child as MemoryConnection);
    if (index < 0) return false;
    queue.splice(index, 1);
    return true;
  }

  connect(tcb: TcpConnection, address: Address, port: number): number {
    const c = tcb as MemoryConnection;
    c.state = TcpState.synSent;
    c.localAddress = this.address;
    if (c.localPort === 0) c.localPort = ++this.ports;
    c.remoteAddress = address;
    c.remotePort = port;
    c.connId = ++this.connIds;
    this.deferred.push(() => this.handshake(c));
    return -Errno.EINPROGRESS;
  }

  private handshake(c: MemoryConnection): void {
    if (c.state !== TcpState.synSent) return;
    const listener = this.listeners.get(c.remotePort);
    if (!listener || this.freeRings.length < 2 || listener.acceptQueue.length > listener.backlog) {
      c.error = Errno.ECONNREFUSED;
      c.state = TcpState.close;
      c.upcalls.stateChanged();
      return;
    }
    const child = new MemoryConnection();
    child.connId = ++this.connIds;
    child.localAddress = c.remoteAddress;
    child.localPort = c.remotePort;
    child.remoteAddress = c.localAddress;
    child.remotePort = c.localPort;
    child.synReceivedNs = child.establishedNs = this.clock.nowNs;
    for (const end of [c, child]) {
      end.state = TcpState.established;
      end.ring = this.freeRings.pop() as number;
    }
    c.peer = child;
    child.peer = c;
    listener.acceptQueue.push(child);
    c.upcalls.stateChanged();
    listener.upcalls.readable();
  }

  send(tcb: TcpConnection, bytes: Uint8Array, at: number, len: number, _flags: number): number {
    const c = tcb as MemoryConnection;
    const { peer } = c;
    if (!peer || peer.ring === 0) return this.reset(c, Errno.EPIPE);
    const n = Math.min(len, QUEUE_BYTES - (peer.received - peer.taken));
    if (n < len) c.wantsRoom = true;
    if (n === 0) return -Errno.EAGAIN;
    const from = peer.received % QUEUE_BYTES;
    const first = Math.min(n, QUEUE_BYTES - from);
    this.arena.set(bytes.subarray(at, at + first), peer.ring + from);
    this.arena.set(bytes.subarray(at + first, at + n), peer.ring);
    peer.received += n;
    peer.upcalls.readable();
    return n;
  }

  sendSpace(tcb: TcpConnection): number {
    const { peer } = tcb as MemoryConnection;
    return peer ? QUEUE_BYTES - (peer.received - peer.taken) : QUEUE_BYTES;
  }

  readableBytes(tcb: TcpConnection): number {
    const c = tcb as MemoryConnection;
    return c.received - c.taken;
  }

  receivePeek(tcb: TcpConnection, skip: number, out: ReceivedRun): boolean {
    const c = tcb as MemoryConnection;
    const offset = c.taken + skip;
    if (offset >= c.received) return false;
    const at = offset % QUEUE_BYTES;
    out.address = c.ring + at;
    out.len = Math.min(c.received - offset, QUEUE_BYTES - at);
    out.offset = offset;
    out.arrivedNs = out.queuedNs = this.clock.nowNs;
    return true;
  }

  receiveTake(tcb: TcpConnection, n: number): void {
    const c = tcb as MemoryConnection;
    c.taken += n;
    const { peer } = c;
    if (peer?.wantsRoom && this.sendSpace(peer) >= QUEUE_BYTES / 3) {
      peer.wantsRoom = false;
      peer.upcalls.writable();
    }
  }

  receive(): number {
    return -Errno.EOPNOTSUPP;
  }

  isReadable(tcb: TcpConnection): boolean {
    const c = tcb as MemoryConnection;
    return c.received > c.taken || c.finReceived || c.acceptQueue.length > 0;
  }

  isWritable(tcb: TcpConnection): boolean {
    return this.sendSpace(tcb) >= QUEUE_BYTES / 3;
  }

  hasHangup(tcb: TcpConnection): boolean {
    const c = tcb as MemoryConnection;
    return c.finReceived && c.finSent;
  }

  receivedFin(tcb: TcpConnection): boolean {
    return (tcb as MemoryConnection).finReceived;
  }

  shutdown(tcb: TcpConnection, how: number): number {
    if (how !== 0) this.sendFin(tcb as MemoryConnection);
    return 0;
  }

  close(tcb: TcpConnection): void {
    const c = tcb as MemoryConnection;
    const { peer } = c;
    if (c.state === TcpState.listen) {
      this.listeners.delete(c.localPort);
      for (const child of c.acceptQueue.splice(0)) this.close(child);
    }
    if (peer && (c.lingerZero || c.received > c.taken)) this.reset(peer, Errno.ECONNRESET);
    else this.sendFin(c);
    c.state = TcpState.close;
    if (c.ring !== 0) this.freeRings.push(c.ring);
    c.ring = 0;
    c.peer = null;
    if (peer?.peer === c) peer.peer = null;
  }

  private sendFin(c: MemoryConnection): void {
    if (c.finSent || !c.peer) return;
    c.finSent = true;
    c.peer.finReceived = true;
    c.peer.upcalls.readable();
  }

  private reset(c: MemoryConnection, errno: number): number {
    if (c.state !== TcpState.close) {
      c.error = errno;
      c.state = TcpState.close;
      c.upcalls.stateChanged();
    }
    return -Errno.EPIPE;
  }

  setOption(tcb: TcpConnection, _level: number, name: number, value: number, value2: number): number {
    if (name === 13) (tcb as MemoryConnection).lingerZero = value === 1 && value2 === 0;
    return 0;
  }

  getOption(): number {
    return 0;
  }

  rows(): SocketRow[] {
    return [];
  }
}
