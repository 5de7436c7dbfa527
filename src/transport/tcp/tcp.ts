/**
 * Tcp: what sockets call (Linux struct proto tcp_prot). Every call is synchronous; a failing one returns -errno.
 *
 * The verbs live in their own files: `handshake`, `listener`, `input`, `fast-path`, `output`, `ack`, `recovery`,
 * `close`, `time-wait`, `timers`. This one wires them and checks what a caller may do in which state.
 */
import type { Address } from "../../base/address.ts";
import { Errno } from "../../base/errno.ts";
import { CONGESTION_CONTROLS } from "../../base/sysctl.ts";
import { Held, Point } from "../../base/tracepoints.ts";
import { type IpLayer, IpProtocol } from "../../network/port.ts";
import type { HostEnv } from "../../skb/host-env.ts";
import { type BindOptions, type ReceivedRun, type SocketRow, type SocketUpcalls, TcpState } from "../port.ts";
import { onBytesRead, onDelackTimeout } from "./ack.ts";
import { isWriteable } from "./ack-input.ts";
import { abort, close, shutdown } from "./close.ts";
import { congestionControl } from "./congestion/choice.ts";
import { TcpContext } from "./context.ts";
import { destroy } from "./done.ts";
import { connect } from "./handshake.ts";
import { onIcmpError } from "./icmp-errors.ts";
import { socketRows, type TcpInfo, tcpInfo } from "./info.ts";
import { receive, receiveForTcb } from "./input.ts";
import { onSynAckTimeout } from "./listener.ts";
import { Listener } from "./listener-queues.ts";
import { getOption, setOption } from "./options.ts";
import { pushPending } from "./output.ts";
import { Nagle, Shutdown, type Tcb } from "./tcb.ts";
import { TimeWaitList } from "./time-wait.ts";
import { onKeepaliveTimeout, onXmitTimeout, startKeepalive } from "./timers.ts";
import { adjustReceiveBuffer } from "./window.ts";

export { Tcb } from "./tcb.ts";

/** Flags of `send` and `receive` (Linux MSG_*). */
export const MessageFlag = { peek: 0x02, dontWait: 0x40, waitAll: 0x100, noSignal: 0x4000, more: 0x8000 } as const;

export class Tcp {
  readonly context: TcpContext;
  private readonly run: ReceivedRun = { address: 0, len: 0, offset: 0, arrivedNs: 0, queuedNs: 0 };

  /** Registers itself with `ip` as the receiver of protocol 6. */
  constructor(env: HostEnv, ip: IpLayer) {
    const tcp: TcpContext = new TcpContext(env, ip, {
      xmitTimeout: (tcb) => onXmitTimeout(tcp, tcb),
      delackTimeout: (tcb) => onDelackTimeout(tcp, tcb),
      keepaliveTimeout: (tcb) => onKeepaliveTimeout(tcp, tcb),
      synAckTimeout: (request) => onSynAckTimeout(tcp, request),
      childSegment: (child, skb, segment) => receiveForTcb(tcp, child, skb, segment),
      startKeepalive: (tcb) => startKeepalive(tcp, tcb),
    });
    tcp.timeWaits = new TimeWaitList(tcp);
    this.context = tcp;
    ip.register(IpProtocol.tcp, {
      receive: (skb) => receive(tcp, skb),
      icmpError: (skb, innerNet, innerTransport, type, code, info) =>
        onIcmpError(tcp, skb, innerNet, innerTransport, type, code, info),
    });
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** socket(2): an endpoint in CLOSE. */
  create(upcalls: SocketUpcalls): Tcb {
    const tcb = this.context.createTcb(this.context.env.nextConnId());
    tcb.upcalls = upcalls;
    return tcb;
  }

  /** Who is called when something happens to `tcb`; an accepted connection gets its socket here. */
  setUpcalls(tcb: Tcb, upcalls: SocketUpcalls): void {
    tcb.upcalls = upcalls;
  }

  /**
   * bind(2): 0, -EINVAL (bound already, or not in CLOSE), -EADDRINUSE, -EADDRNOTAVAIL. Port 0: chosen at connect or
   * listen.
   */
  bind(tcb: Tcb, address: Address, port: number, options: BindOptions): number {
    const tcp = this.context;
    if (tcb.state !== TcpState.close || tcb.portBound || tcb.addressBound) return -Errno.EINVAL;
    if (port < 0 || port > 65535) return -Errno.EINVAL;
    if (!address.isWildcard && !tcp.ip.isLocal(address)) return -Errno.EADDRNOTAVAIL;
    tcb.reuseAddress = options.reuseAddress;
    tcb.reusePort = options.reusePort;
    tcb.boundIfindex = options.ifindex;
    const before = tcb.localAddress;
    tcb.localAddress = address;
    const claimed = port === 0 ? tcp.ports.chooseForBind(tcb) : tcp.ports.claim(tcb, port);
    if (claimed < 0 || (port === 0 && claimed === 0)) {
      tcb.localAddress = before;
      return -Errno.EADDRINUSE;
    }
    tcb.localPort = port || claimed;
    tcb.portBound = true;
    tcb.addressBound = !address.isWildcard;
    return 0;
  }

  /** listen(2): 0, -EINVAL, -EADDRINUSE. A second call changes the backlog, which is clamped to somaxconn. */
  listen(tcb: Tcb, backlog: number): number {
    const tcp = this.context;
    const limit = Math.min(backlog >>> 0, tcp.env.sysctl.somaxconn);
    if (tcb.state === TcpState.listen && tcb.listener !== null) {
      tcb.listener.backlog = limit;
      return 0;
    }
    if (tcb.state !== TcpState.close || tcb.hashed) return -Errno.EINVAL;
    if (tcb.localPort === 0) {
      const port = tcp.ports.chooseForBind(tcb);
      if (port === 0) return -Errno.EADDRINUSE;
      tcb.localPort = port;
      tcb.portBound = true;
    }
    if (!tcp.ports.mayListen(tcb)) return -Errno.EADDRINUSE;
    tcb.listener = new Listener(limit);
    tcb.shutdown = 0;
    tcp.setState(tcb, TcpState.listen);
    tcp.listeners.add(tcb);
    return 0;
  }

  /**
   * connect(2): -EINPROGRESS, or why not. `stateChanged()` follows when it succeeded or failed; `takeError()` says
   * which.
   */
  connect(tcb: Tcb, address: Address, port: number): number {
    return connect(this.context, tcb, address, port);
  }

  /** shutdown(2) with `how` 0 read, 1 write, 2 both: 0, -ENOTCONN, -EINVAL. */
  shutdown(tcb: Tcb, how: number): number {
    return shutdown(this.context, tcb, how);
  }

  /** close(2): never fails; what is left to do happens without the process. `tcb` must not be used afterwards. */
  close(tcb: Tcb): void {
    if (!tcb.released) close(this.context, tcb);
  }

  /** Ends it at once: RST, `ECONNABORTED` for whoever still holds it. The Tcb stays until `close`. */
  abort(tcb: Tcb): void {
    abort(this.context, tcb, Errno.ECONNABORTED);
  }

  // ── accept ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Connections that wait for accept(2). */
  acceptQueueLength(tcb: Tcb): number {
    return tcb.listener === null ? 0 : tcb.listener.acceptQueue.length;
  }

  /** The connection `index` places behind the head of the accept queue, left there; null past the end. */
  acceptPeek(tcb: Tcb, index: number): Tcb | null {
    return tcb.listener?.acceptQueue[index] ?? null;
  }

  /** accept(2): takes `child` out of the queue; false if it is not there any more. */
  acceptTake(tcb: Tcb, child: Tcb): boolean {
    const queue = tcb.listener?.acceptQueue;
    if (queue === undefined) return false;
    const at = queue[0] === child ? 0 : queue.indexOf(child);
    if (at < 0) return false;
    if (at === 0) queue.shift();
    else queue.splice(at, 1);
    child.acceptedBy = null;
    return true;
  }

  // ── bytes out ─────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * send(2): copies up to `len` bytes into the send queue (*borrows* `bytes`) and sends what may leave. The number
   * copied; -EAGAIN when there is no room, -EPIPE after a FIN, -ENOTCONN, the pending error, -ENOBUFS when memory is
   * out.
   */
  send(tcb: Tcb, bytes: Uint8Array, at: number, len: number, flags: number): number {
    const tcp = this.context;
    if (tcb.error !== 0) return -tcb.takeError();
    if ((tcb.shutdown & Shutdown.send) !== 0) return -Errno.EPIPE;
    const { state } = tcb;
    if (state === TcpState.close || state === TcpState.listen) return -Errno.EPIPE;
    if (len === 0) return 0;
    const room = state === TcpState.established || state === TcpState.closeWait ? this.sendSpace(tcb) : 0;
    const taken = room > 0 ? tcp.ownSendQueue(tcb).append(bytes, at, Math.min(len, room)) : 0;
    if (taken < len) this.refuse(tcb);
    // Packet memory is short, not the send buffer: nothing to wait for but the peer's next segment.
    tcb.starved = taken < Math.min(len, room) && tcb.sendQueue.length > 0;
    if (taken === 0) {
      tcp.dropSendQueue(tcb);
      return room > 0 && tcb.sendQueue.length === 0 ? -Errno.ENOBUFS : -Errno.EAGAIN;
    }
    const more = (flags & MessageFlag.more) !== 0;
    if (!more) tcb.pushOffset = tcb.writtenOffset;
    pushPending(tcp, tcb, more ? tcb.nonagle | Nagle.cork : tcb.nonagle);
    return taken;
  }

  /** Bytes the send queue can take now. */
  sendSpace(tcb: Tcb): number {
    return Math.max(0, tcb.sndbufBytes - tcb.sendQueue.length);
  }

  /** A writer was refused: it will be called when there is room, and the journey knows what it waits for. */
  private refuse(tcb: Tcb): void {
    const tcp = this.context;
    if (tcb.noSpace) return;
    tcb.noSpace = true;
    if (tcp.traced(tcb.connId)) tcp.env.trace.stamp(Point.held, tcb.connId, Held.fullQueue, tcb.writtenOffset);
  }

  // ── bytes in ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Bytes in order that nobody has taken. */
  readableBytes(tcb: Tcb): number {
    return tcb.receiveQueue.length;
  }

  /** Fills `out` with the run of bytes `skip` past the read position, left in the queue; false if there is none. */
  receivePeek(tcb: Tcb, skip: number, out: ReceivedRun): boolean {
    return tcb.receiveQueue.peek(skip, out);
  }

  /** Takes `n` bytes that were peeked: frees their memory and opens the window. */
  receiveTake(tcb: Tcb, n: number): void {
    const tcp = this.context;
    tcb.receiveQueue.take(n);
    tcp.dropReceiveQueue(tcb);
    if (tcb.state === TcpState.close) return;
    adjustReceiveBuffer(tcp, tcb);
    onBytesRead(tcp, tcb, n);
  }

  /** recv(2): > 0 bytes copied, 0 at end of stream, -EAGAIN when empty, -ENOTCONN, or the pending error. */
  receive(tcb: Tcb, into: Uint8Array, at: number, len: number, flags: number): number {
    if (tcb.state === TcpState.listen) return -Errno.ENOTCONN;
    const { run } = this;
    const { arena } = this.context.env.pool;
    let copied = 0;
    while (copied < len && tcb.receiveQueue.peek(copied, run)) {
      const n = Math.min(run.len, len - copied);
      arena.copy(arena.bytes, run.address, into, at + copied, n);
      copied += n;
    }
    if (copied > 0) {
      if ((flags & MessageFlag.peek) === 0) this.receiveTake(tcb, copied);
      return copied;
    }
    if (len === 0) return 0;
    if (tcb.finReceived) {
      if ((flags & MessageFlag.peek) === 0) tcb.finRead = true;
      return 0;
    }
    if (tcb.error !== 0) return -tcb.takeError();
    if ((tcb.shutdown & Shutdown.receive) !== 0) return 0;
    return tcb.state === TcpState.close ? -Errno.ENOTCONN : -Errno.EAGAIN;
  }

  // ── readiness ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** EPOLLIN: bytes, end of stream, an error, or a connection to accept. */
  isReadable(tcb: Tcb): boolean {
    if (tcb.listener !== null) return tcb.listener.acceptQueue.length > 0;
    return tcb.receiveQueue.length > 0 || (tcb.shutdown & Shutdown.receive) !== 0 || tcb.error !== 0;
  }

  /** EPOLLOUT; a false answer asks for the `writable` upcall. */
  isWritable(tcb: Tcb): boolean {
    if (tcb.listener !== null || tcb.state === TcpState.synSent || tcb.state === TcpState.synReceived) return false;
    if (isWriteable(tcb)) return true;
    tcb.noSpace = true;
    return false;
  }

  /** EPOLLHUP: both directions are over. */
  hasHangup(tcb: Tcb): boolean {
    return tcb.state === TcpState.close || tcb.shutdown === Shutdown.both;
  }

  /** EPOLLRDHUP: the peer will send no more. */
  receivedFin(tcb: Tcb): boolean {
    return tcb.finReceived || (tcb.shutdown & Shutdown.receive) !== 0;
  }

  // ── options and views ─────────────────────────────────────────────────────────────────────────────────────────

  /** setsockopt(2); `value2` is the second value of SO_LINGER. 0, -EINVAL, -ENOPROTOOPT. */
  setOption(tcb: Tcb, level: number, name: number, value: number, value2 = 0): number {
    return setOption(this.context, tcb, level, name, value, value2);
  }

  /** getsockopt(2): the value, or -ENOPROTOOPT. SO_ERROR clears the error it returns. */
  getOption(tcb: Tcb, level: number, name: number): number {
    return getOption(this.context, tcb, level, name);
  }

  /** TCP_CONGESTION by Linux's name ("cubic", "reno"), inherited by accepted connections: 0, or -ENOENT. */
  setCongestionControl(tcb: Tcb, name: string): number {
    const known = CONGESTION_CONTROLS.find((each) => each === name);
    if (known === undefined) return -Errno.ENOENT;
    if (tcb.congestion.name !== known) {
      tcb.congestion = congestionControl(known);
      tcb.congestion.start(tcb);
    }
    tcb.congestionChosen = true;
    return 0;
  }

  info(tcb: Tcb): TcpInfo {
    return tcpInfo(this.context, tcb);
  }

  /** `ss -tai`. */
  rows(): SocketRow[] {
    return socketRows(this.context);
  }

  /** Frees an endpoint that was created and never used. */
  discard(tcb: Tcb): void {
    tcb.orphan = true;
    this.context.orphanCount++;
    destroy(this.context, tcb);
  }
}
