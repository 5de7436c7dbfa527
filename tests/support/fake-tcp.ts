/**
 * A small fake of `Tcp` for tests of this floor: connections are made, fed, finished and reset by the test.
 *
 * It keeps the promises of the brief (offers leave bytes in place, upcalls come after the state changed) and nothing
 * more.
 */
import { Address, ANY_V4 } from "../../src/base/address.ts";
import { Errno } from "../../src/base/errno.ts";
import { ManualClock } from "../../src/base/time.ts";
import { NO_TRACE, type Tracepoints } from "../../src/base/tracepoints.ts";
import type { SocketEnv, TcpConnection, TcpTransport } from "../../src/socket/context.ts";
import { ProcessTable, type ProcessTableOptions } from "../../src/socket/process-table.ts";
import type { BindOptions, ReceivedRun, SocketRow, SocketUpcalls } from "../../src/transport/port.ts";
import { NO_UPCALLS, TcpState } from "../../src/transport/port.ts";

export class FakeTcb implements TcpConnection {
  readonly connId: number;
  state: number = TcpState.close;
  localAddress: Address = ANY_V4;
  localPort = 0;
  remoteAddress: Address = ANY_V4;
  remotePort = 0;
  synReceivedNs = 0;
  establishedNs = 0;
  error = 0;
  upcalls: SocketUpcalls = NO_UPCALLS;
  backlog = 0;
  closed = false;
  readonly acceptQueue: FakeTcb[] = [];
  /** Received and not read: where in the arena, how long, and how much of it was read. */
  readonly received: { address: number; len: number; offset: number }[] = [];
  receivedOffset = 0;
  fin = false;
  sendShut = false;
  /** What was sent, and how much more the send queue takes. */
  readonly sent: number[] = [];
  sendRoom = 65536;
  noSpace = false;

  constructor(connId: number) {
    this.connId = connId;
  }

  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }
}

/** What a fake connect comes to, by port: refused on port 1, no answer elsewhere until the test says so. */
const REFUSED_PORT = 1;

export class FakeTcp implements TcpTransport {
  readonly arena = new Uint8Array(1 << 22);
  readonly tcbs: FakeTcb[] = [];
  private arenaTop = 64;
  private nextConnId = 1;
  private nextPort = 32768;

  create(upcalls: SocketUpcalls): FakeTcb {
    const tcb = new FakeTcb(this.nextConnId++);
    tcb.upcalls = upcalls;
    this.tcbs.push(tcb);
    return tcb;
  }

  setUpcalls(tcb: FakeTcb, upcalls: SocketUpcalls): void {
    tcb.upcalls = upcalls;
  }

  bind(tcb: FakeTcb, address: Address, port: number, options: BindOptions): number {
    if (address.equals(Address.v4(0x09090909))) return -Errno.EADDRNOTAVAIL;
    const inUse = this.tcbs.some(
      (t) => !t.closed && t !== tcb && t.localPort === port && t.acceptQueue !== tcb.acceptQueue,
    );
    if (port !== 0 && inUse && !options.reusePort) return -Errno.EADDRINUSE;
    tcb.localAddress = address;
    tcb.localPort = port === 0 ? this.nextPort++ : port;
    return 0;
  }

  listen(tcb: FakeTcb, backlog: number): number {
    tcb.state = TcpState.listen;
    tcb.backlog = backlog;
    return 0;
  }

  acceptQueueLength(tcb: FakeTcb): number {
    return tcb.acceptQueue.length;
  }

  acceptPeek(tcb: FakeTcb, index: number): FakeTcb | null {
    return tcb.acceptQueue[index] ?? null;
  }

  acceptTake(tcb: FakeTcb, child: FakeTcb): boolean {
    const index = tcb.acceptQueue.indexOf(child);
    if (index < 0) return false;
    tcb.acceptQueue.splice(index, 1);
    return true;
  }

  connect(tcb: FakeTcb, address: Address, port: number): number {
    tcb.state = TcpState.synSent;
    tcb.localAddress = Address.v4(0x0a000001);
    tcb.localPort ||= this.nextPort++;
    tcb.remoteAddress = address;
    tcb.remotePort = port;
    return -Errno.EINPROGRESS;
  }

  send(tcb: FakeTcb, bytes: Uint8Array, at: number, len: number): number {
    if (tcb.sendShut || tcb.error !== 0) return -Errno.EPIPE;
    const taken = Math.min(len, tcb.sendRoom);
    if (taken < len) tcb.noSpace = true;
    if (taken === 0 && len > 0) return -Errno.EAGAIN;
    for (let i = 0; i < taken; i++) tcb.sent.push(bytes[at + i] as number);
    tcb.sendRoom -= taken;
    return taken;
  }

  sendSpace(tcb: FakeTcb): number {
    return tcb.sendRoom;
  }

  readableBytes(tcb: FakeTcb): number {
    return tcb.received.reduce((sum, run) => sum + run.len, 0);
  }

  receivePeek(tcb: FakeTcb, skip: number, out: ReceivedRun): boolean {
    let left = skip;
    for (const run of tcb.received) {
      if (left >= run.len) {
        left -= run.len;
        continue;
      }
      out.address = run.address + left;
      out.len = run.len - left;
      out.offset = run.offset + left;
      out.arrivedNs = out.queuedNs = 0;
      return true;
    }
    return false;
  }

  receiveTake(tcb: FakeTcb, n: number): void {
    let left = n;
    while (left > 0) {
      const run = tcb.received[0];
      if (!run) throw new Error("more taken than received");
      const part = Math.min(left, run.len);
      run.address += part;
      run.len -= part;
      run.offset += part;
      left -= part;
      if (run.len === 0) tcb.received.shift();
    }
  }

  receive(tcb: FakeTcb, into: Uint8Array, at: number, len: number): number {
    const run: ReceivedRun = { address: 0, len: 0, offset: 0, arrivedNs: 0, queuedNs: 0 };
    let copied = 0;
    while (copied < len && this.receivePeek(tcb, 0, run)) {
      const part = Math.min(len - copied, run.len);
      into.set(this.arena.subarray(run.address, run.address + part), at + copied);
      this.receiveTake(tcb, part);
      copied += part;
    }
    if (copied > 0) return copied;
    return tcb.fin ? 0 : -Errno.EAGAIN;
  }

  isReadable(tcb: FakeTcb): boolean {
    return this.readableBytes(tcb) > 0 || tcb.fin;
  }

  isWritable(tcb: FakeTcb): boolean {
    return tcb.sendRoom > 0;
  }

  hasHangup(tcb: FakeTcb): boolean {
    return tcb.fin && tcb.sendShut;
  }

  receivedFin(tcb: FakeTcb): boolean {
    return tcb.fin;
  }

  shutdown(tcb: FakeTcb, how: number): number {
    if (how !== 0) tcb.sendShut = true;
    return 0;
  }

  close(tcb: FakeTcb): void {
    tcb.closed = true;
    tcb.state = TcpState.close;
  }

  setOption(_tcb: FakeTcb, level: number, name: number, value: number): number {
    if (name > 100) return -Errno.ENOPROTOOPT;
    return level === 6 && name === 1 && value >= 0 ? 0 : level === 1 ? 0 : -Errno.ENOPROTOOPT;
  }

  getOption(_tcb: FakeTcb, level: number, name: number): number {
    if (level !== 1 && level !== 6) return -Errno.EOPNOTSUPP;
    return name > 100 ? -Errno.ENOPROTOOPT : 0;
  }

  rows(): SocketRow[] {
    return [];
  }

  // ── what the peer does ────────────────────────────────────────────────────────────────────────────────────────

  /** A client's handshake with `listener` is done. */
  arrive(listener: FakeTcb, port: number): FakeTcb {
    const child = this.create(NO_UPCALLS);
    child.state = TcpState.established;
    child.localAddress = Address.v4(0x0a000002);
    child.localPort = listener.localPort;
    child.remoteAddress = Address.v4(0x0a000009);
    child.remotePort = port;
    listener.acceptQueue.push(child);
    listener.upcalls.readable();
    return child;
  }

  /** Bytes arrive in order; `glued` continues the last run. */
  deliver(tcb: FakeTcb, bytes: ArrayLike<number>): void {
    this.arena.set(bytes, this.arenaTop);
    tcb.received.push({ address: this.arenaTop, len: bytes.length, offset: tcb.receivedOffset });
    tcb.receivedOffset += bytes.length;
    this.arenaTop += bytes.length + 8;
    if (this.arenaTop > this.arena.length - 65536) this.arenaTop = 64;
    tcb.upcalls.readable();
  }

  finish(tcb: FakeTcb): void {
    tcb.fin = true;
    tcb.state = TcpState.closeWait;
    tcb.upcalls.readable();
    tcb.upcalls.stateChanged();
  }

  reset(tcb: FakeTcb, errno: number = Errno.ECONNRESET): void {
    tcb.error = errno;
    tcb.state = TcpState.close;
    tcb.upcalls.stateChanged();
  }

  /** The answer to a SYN in flight: established, or refused on REFUSED_PORT. */
  answer(tcb: FakeTcb): void {
    if (tcb.remotePort === REFUSED_PORT) return this.reset(tcb, Errno.ECONNREFUSED);
    tcb.state = TcpState.established;
    tcb.upcalls.stateChanged();
  }

  /** `n` bytes of the send queue are acknowledged. */
  acknowledge(tcb: FakeTcb, n: number): void {
    tcb.sendRoom += n;
    if (!tcb.noSpace) return;
    tcb.noSpace = false;
    tcb.upcalls.writable();
  }
}

export interface FakeHost {
  readonly tcp: FakeTcp;
  readonly clock: ManualClock;
  readonly table: ProcessTable;
}

/** A host whose processes stand on the fake. */
export function fakeHost(options: ProcessTableOptions = {}, trace: Tracepoints = NO_TRACE): FakeHost {
  const tcp = new FakeTcp();
  const clock = new ManualClock(1);
  const env: SocketEnv = { name: "fake", clock, trace };
  const ip = { ifindexOf: (name: string) => (name === "eth0" ? 2 : 0) };
  return { tcp, clock, table: new ProcessTable({ env, tcp, ip }, options) };
}
