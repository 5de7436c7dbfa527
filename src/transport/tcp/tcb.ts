/**
 * The Tcb (transmission control block, RFC 9293 §3.3.1): all state of one TCP endpoint, and the two smaller socks that
 * stand for a connection before (`RequestSock`) and after (`TimeWaitSock`) it needs one.
 *
 *      acknowledged     in flight        may be sent now    must wait for the window
 *   ───────────────┬────────────────┬───────────────────┬───────────────────────────►  send sequence space
 *                sndUna           sndNxt         sndUna + sndWnd
 *
 *      in order         may arrive                     not allowed yet
 *   ───────────────┬─────────────────────────────┬──────────────────────────────────►  receive sequence space
 *                rcvNxt                     rcvWup + rcvWnd
 *
 * Beside each 32-bit sequence number stands its stream offset, a plain number from 0 at the first byte after the SYN
 * that never wraps: offset −1 is the SYN, the FIN takes one offset behind the last byte. Offsets name bytes everywhere
 * inside; sequence numbers exist on the wire, in the tests of RFC 9293, and in the row below.
 *
 * Most numbers lie in rows of typed memory (law 3): `tcb-fields.ts` names them and says where. Sequence numbers are
 * signed words here and everywhere in TCP (base/seq.ts).
 */
import type { Address } from "../../base/address.ts";
import { seqAdd, seqDiff } from "../../base/seq.ts";
import type { Ns } from "../../base/time.ts";
import type { Timer } from "../../base/timers.ts";
import type { OutputOptions, Route } from "../../network/port.ts";
import { NO_UPCALLS, type SocketUpcalls, TcpState } from "../port.ts";
import type { CongestionControl } from "./congestion/congestion-control.ts";
import { INITIAL_CWND_SEGMENTS, MSS_DEFAULT_BYTES } from "./constants.ts";
import type { Listener } from "./listener-queues.ts";
import type { PortOwner } from "./ports.ts";
import { NOTHING_OUT_OF_ORDER, type Reassembly } from "./reassembly.ts";
import type { ReceiveQueue, ReceiveRecords } from "./receive-queue.ts";
import { NOTHING_IN_FLIGHT, type RetransmitQueue } from "./retransmit-queue.ts";
import type { SendPagePool, SendQueue } from "./send-queue.ts";
import { CaState, type RowPlace, RowWord, TcbFields, XmitTimer } from "./tcb-fields.ts";

export { CaState, RowWord, XmitTimer } from "./tcb-fields.ts";

/** Bits of `ackPending` (Linux ICSK_ACK_*). */
export const AckPending = { scheduled: 1, timer: 2, pushed: 4, pushed2: 8, now: 16 } as const;

/** Bits of `shutdown`. */
export const Shutdown = { receive: 1, send: 2, both: 3 } as const;

/** Bits of `nonagle` (Linux TCP_NAGLE_*). */
export const Nagle = { off: 1, cork: 2, push: 4 } as const;

/** What the connection table holds: a full endpoint, a half-open or a TIME_WAIT connection. Told apart by `state`. */
export type Sock = Tcb | RequestSock | TimeWaitSock;

/** A half-open connection in a listener's SYN queue (Linux request_sock): what a SYN must be remembered by, no more. */
export class RequestSock {
  readonly state: TcpState = TcpState.newSynReceived;
  readonly connId: number;
  readonly listener: Tcb;
  readonly localAddress: Address;
  readonly localPort: number;
  readonly remoteAddress: Address;
  readonly remotePort: number;
  readonly ifindex: number;
  /** Arrival of the SYN, in ns. */
  readonly synReceivedNs: Ns;
  route: Route;
  /** The client's and our initial sequence number. */
  rcvIsn = 0;
  sntIsn = 0;
  /** The client's MSS option, after clamping. */
  mssBytes = MSS_DEFAULT_BYTES;
  /** Its window scale, −1 if it offered none; ours. */
  sndWindowScale = -1;
  rcvWindowScale = 0;
  rcvWnd = 0;
  windowClamp = 0;
  timestampsOk = false;
  sackOk = false;
  tsRecent = 0;
  tsOffset = 0;
  /** The client's window in its SYN (never scaled). */
  sndWnd = 0;
  /** SYN-ACK timeouts so far, and SYN-ACKs sent again. */
  timeouts = 0;
  retransmits = 0;
  /** The final ACK came but could not be honoured: accept queue full, or TCP_DEFER_ACCEPT. */
  acked = false;
  /** When the first SYN-ACK left: RTT of the handshake. */
  synAckSentNs: Ns = 0;
  lastOutOfWindowAckNs: Ns = Number.NEGATIVE_INFINITY;
  timer: Timer | null = null;

  constructor(
    listener: Tcb,
    connId: number,
    local: Address,
    localPort: number,
    remote: Address,
    remotePort: number,
    route: Route,
    ifindex: number,
    nowNs: Ns,
  ) {
    this.listener = listener;
    this.connId = connId;
    this.localAddress = local;
    this.localPort = localPort;
    this.remoteAddress = remote;
    this.remotePort = remotePort;
    this.route = route;
    this.ifindex = ifindex;
    this.synReceivedNs = nowNs;
  }
}

/** What TIME_WAIT needs to remember (Linux tcp_timewait_sock). */
export class TimeWaitSock {
  readonly state: TcpState = TcpState.timeWait;
  /** `finWait2` for an orphan that still waits for the peer's FIN, then `timeWait`. */
  substate: TcpState;
  readonly connId: number;
  readonly localAddress: Address;
  readonly localPort: number;
  readonly remoteAddress: Address;
  readonly remotePort: number;
  readonly boundIfindex: number;
  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  rcvNxt: number;
  readonly sndNxt: number;
  readonly rcvWnd: number;
  readonly rcvWindowScale: number;
  readonly timestampsOk: boolean;
  readonly tsOffset: number;
  tsRecent: number;
  tsRecentNs: Ns;
  deadlineNs: Ns = 0;
  lastOutOfWindowAckNs: Ns = Number.NEGATIVE_INFINITY;
  prev: TimeWaitSock | null = null;
  next: TimeWaitSock | null = null;
  /** Neighbours among the owners of its port (ports.ts). */
  prevOwner: PortOwner | null = null;
  nextOwner: PortOwner | null = null;

  constructor(tcb: Tcb, substate: TcpState) {
    this.substate = substate;
    this.connId = tcb.connId;
    this.localAddress = tcb.localAddress;
    this.localPort = tcb.localPort;
    this.remoteAddress = tcb.remoteAddress;
    this.remotePort = tcb.remotePort;
    this.boundIfindex = tcb.boundIfindex;
    this.reuseAddress = tcb.reuseAddress;
    this.reusePort = tcb.reusePort;
    this.rcvNxt = tcb.rcvNxt;
    this.sndNxt = tcb.sndNxt;
    this.rcvWnd = Math.max(0, tcb.receiveWindow());
    this.rcvWindowScale = tcb.rcvWindowScale;
    this.timestampsOk = tcb.timestampsOk;
    this.tsOffset = tcb.tsOffset;
    this.tsRecent = tcb.tsRecent;
    this.tsRecentNs = tcb.tsRecentNs;
  }
}

/** What the queues of all connections of a host share. */
export interface QueueMemory {
  readonly sendPages: SendPagePool;
  readonly receiveRecords: ReceiveRecords;
}

/** One endpoint: a listener, or one side of a connection. */
export class Tcb extends TcbFields {
  readonly connId: number;
  state: TcpState = TcpState.close;
  upcalls: SocketUpcalls = NO_UPCALLS;

  // ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────
  localAddress: Address;
  remoteAddress: Address;
  route: Route | null = null;
  outputOptions: OutputOptions;

  // ── listener (null unless state is listen) ────────────────────────────────────────────────────────────────────
  listener: Listener | null = null;
  /** The listener whose accept queue this connection waits in. */
  acceptedBy: Tcb | null = null;

  // ── what nearly every segment reads or writes: a field is nearer than a row ──────────────────────────────────────
  /** Stream offsets of sndUna and sndNxt. Change them through `setSndUna`, `setSndNxt`. */
  sndUnaOffset = -1;
  sndNxtOffset = -1;
  /** Stream offset of rcvNxt. Change it through `setRcvNxt`. */
  rcvNxtOffset = 0;
  /** The largest payload of one segment now, options counted (Linux mss_cache). */
  mssBytes = MSS_DEFAULT_BYTES;
  /** The congestion window. */
  cwndSegments = INITIAL_CWND_SEGMENTS;
  caState: CaState = CaState.open;
  /** What `xmitTimer` is for. */
  xmitTimerKind: XmitTimer = XmitTimer.none;
  /** Bits of `AckPending`. */
  ackPending = 0;
  /** ACKs still to be sent at once. */
  quickAcks = 0;
  /** Estimate of the peer's segment size, bytes. */
  rcvMssBytes = 0;

  // ── send sequence space ───────────────────────────────────────────────────────────────────────────────────────
  /** One's own while there are bytes that are not acknowledged. */
  sendQueue: SendQueue;
  /** One's own while something is in flight. */
  retransmitQueue: RetransmitQueue = NOTHING_IN_FLIGHT;

  // ── receive sequence space ────────────────────────────────────────────────────────────────────────────────────
  /** One's own while there are bytes to read. */
  receiveQueue: ReceiveQueue;
  /** One's own once something is out of order; until then, what all share that have nothing. */
  reassembly: Reassembly = NOTHING_OUT_OF_ORDER;

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  congestion: CongestionControl;

  // ── timers ────────────────────────────────────────────────────────────────────────────────────────────────────
  xmitTimer: Timer | null = null;
  delackTimer: Timer | null = null;
  /** Keep-alive, and FIN_WAIT2 of a closed socket (Linux sk_timer). */
  keepaliveTimer: Timer | null = null;

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────
  /** Neighbours among the owners of its port (ports.ts). */
  prevOwner: PortOwner | null = null;
  nextOwner: PortOwner | null = null;
  /** Neighbours in `TcpContext.endpoints`. */
  prevEndpoint: Tcb | null = null;
  nextEndpoint: Tcb | null = null;

  constructor(
    connId: number,
    memory: QueueMemory,
    row: RowPlace,
    any: Address,
    congestion: CongestionControl,
    options: OutputOptions,
  ) {
    super(row);
    this.connId = connId;
    this.localAddress = any;
    this.remoteAddress = any;
    this.sendQueue = memory.sendPages.empty;
    this.receiveQueue = memory.receiveRecords.empty;
    this.congestion = congestion;
    this.outputOptions = options;
  }

  /** Stream offset one past the last byte written by the process (RFC 9293 has no name; Linux write_seq). */
  get writtenOffset(): number {
    const { endOffset } = this.sendQueue;
    return endOffset < 0 ? this.writtenOffsetAtRest : endOffset;
  }

  /** Stream offset of the next byte a read returns (RFC 9293 has no name; Linux copied_seq). */
  get readOffset(): number {
    const { readOffset } = this.receiveQueue;
    return readOffset < 0 ? this.bytesReceived : readOffset;
  }

  /** Bytes that came in order. */
  get bytesReceived(): number {
    return this.finReceived ? this.rcvNxtOffset - 1 : this.rcvNxtOffset;
  }

  /** Bytes the peer has acknowledged; that of our FIN counts one. */
  get bytesAcked(): number {
    return Math.max(0, this.sndUnaOffset);
  }

  /** Starts the send sequence space: offset −1, the SYN, is the next to send. */
  startSend(iss: number): void {
    this.iss = iss | 0;
    this.setSndUna(-1);
    this.setSndNxt(-1);
  }

  /** Starts the receive sequence space: the peer's SYN had `irs`. */
  startReceive(irs: number): void {
    this.irs = irs | 0;
    this.setRcvNxt(0);
    this.rcvWup = this.rcvNxt;
  }

  /** Sets SND.UNA by stream offset. */
  setSndUna(offset: number): void {
    this.sndUnaOffset = offset;
    this.words[this.at + RowWord.sndUna] = this.seqOfSent(offset);
  }

  /** Sets SND.NXT by stream offset. */
  setSndNxt(offset: number): void {
    this.sndNxtOffset = offset;
    this.words[this.at + RowWord.sndNxt] = this.seqOfSent(offset);
  }

  /** Sets RCV.NXT by stream offset. */
  setRcvNxt(offset: number): void {
    this.rcvNxtOffset = offset;
    this.words[this.at + RowWord.rcvNxt] = seqAdd(this.irs, 1 + offset);
  }

  /** Sequence number of a send-stream offset. Exact: offsets stay below 2^53. */
  seqOfSent(offset: number): number {
    return seqAdd(this.iss, 1 + offset);
  }

  /** Stream offset of an acknowledgement number near SND.UNA. */
  sentOffset(seq: number): number {
    return this.sndUnaOffset + seqDiff(seq, this.words[this.at + RowWord.sndUna]);
  }

  /** Stream offset of a received sequence number near RCV.NXT. */
  receivedOffset(seq: number): number {
    return this.rcvNxtOffset + seqDiff(seq, this.words[this.at + RowWord.rcvNxt]);
  }

  /** One past the last byte the peer's window lets us send, as an offset. */
  get sndWindowEnd(): number {
    return this.sndUnaOffset + this.sndWnd;
  }

  /** Bytes received in order that no ACK has told the peer of. */
  get unackedBytes(): number {
    const { words, at } = this;
    return seqDiff(words[at + RowWord.rcvNxt], words[at + RowWord.rcvWup]);
  }

  /** Bytes the peer may still send (Linux tcp_receive_window): never negative. */
  receiveWindow(): number {
    return Math.max(0, this.words[this.at + RowWord.rcvWnd] - this.unackedBytes);
  }

  /** Bytes (and FIN) not yet sent for the first time. */
  get hasUnsent(): boolean {
    return this.sndNxtOffset < this.writtenOffset || (this.finQueued && !this.finSent);
  }

  /** SO_ERROR: the pending error, once; errno > 0 or 0. */
  takeError(): number {
    const error = this.error;
    this.error = 0;
    return error;
  }
}
