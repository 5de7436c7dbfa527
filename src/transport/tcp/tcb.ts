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
 * The fields header prediction reads are a row of an Int32Array (law 3); the accessors here are the only way to them.
 */
import type { Address } from "../../base/address.ts";
import { seqAdd, seqDiff } from "../../base/seq.ts";
import type { Ns } from "../../base/time.ts";
import type { Timer } from "../../base/timers.ts";
import { Held } from "../../base/tracepoints.ts";
import type { OutputOptions, Route } from "../../network/port.ts";
import { NO_UPCALLS, type SocketUpcalls, TcpState } from "../port.ts";
import type { CongestionControl } from "./congestion/congestion-control.ts";
import { INFINITE_SSTHRESH_SEGMENTS, INITIAL_CWND_SEGMENTS, MSS_DEFAULT_BYTES, RTO_INITIAL_NS } from "./constants.ts";
import type { Listener } from "./listener-queues.ts";
import { NOTHING_OUT_OF_ORDER, type Reassembly } from "./reassembly.ts";
import { ReceiveQueue, type ReceiveRecords } from "./receive-queue.ts";
import { RetransmitQueue } from "./retransmit-queue.ts";
import { type SendPagePool, SendQueue } from "./send-queue.ts";

/** Words of a header-prediction row. */
export const RowWord = {
  /**
   * Third word of the TCP header (offset, flags, window) that the next segment will carry if nothing happens; 0 = off.
   */
  predFlags: 0,
  rcvNxt: 1,
  sndUna: 2,
  sndNxt: 3,
  /** Left edge of the window advertised last (rcv_wup). */
  rcvWup: 4,
  rcvWnd: 5,
  sndWnd: 6,
  /** Timestamp to echo (TS.Recent). */
  tsRecent: 7,
} as const;
export const ROW_WORDS = 8;

/** What of Linux's congestion state machine a connection is in (TCP_CA_*). */
export const CaState = {
  /** Nothing suspicious. */
  open: 0,
  /** Duplicate ACKs came; not enough to call it loss. */
  disorder: 1,
  /** Window being reduced for congestion seen locally or by ECN. */
  cwr: 2,
  /** Fast recovery (RFC 6582). */
  recovery: 3,
  /** The retransmission timer fired. */
  loss: 4,
} as const;
export type CaState = (typeof CaState)[keyof typeof CaState];

/** Bits of `ackPending` (Linux ICSK_ACK_*). */
export const AckPending = { scheduled: 1, timer: 2, pushed: 4, pushed2: 8, now: 16 } as const;

/**
 * What the one timer of the send side stands for now: data in flight (RTO), a closed window, a tail loss probe, the end
 * of RACK's reordering window, or nothing (Linux ICSK_TIME_*).
 */
export const XmitTimer = { none: 0, retransmit: 1, probe: 2, lossProbe: 3, reorder: 4 } as const;
export type XmitTimer = (typeof XmitTimer)[keyof typeof XmitTimer];

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

/** Where a Tcb's header-prediction row lies. */
export interface RowPlace {
  readonly words: Int32Array;
  readonly at: number;
}

/** What the queues of all connections of a host share. */
export interface QueueMemory {
  readonly sendPages: SendPagePool;
  readonly receiveRecords: ReceiveRecords;
}

/** One endpoint: a listener, or one side of a connection. */
export class Tcb {
  readonly connId: number;
  state: TcpState = TcpState.close;
  upcalls: SocketUpcalls = NO_UPCALLS;

  // ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────
  localAddress: Address;
  localPort = 0;
  remoteAddress: Address;
  remotePort = 0;
  /** SO_BINDTODEVICE; 0 = any. */
  boundIfindex = 0;
  reuseAddress = false;
  reusePort = false;
  /** bind() named the address / the port: kept over a failed connect. */
  addressBound = false;
  portBound = false;
  /** In the connection table. */
  hashed = false;
  route: Route | null = null;
  outputOptions: OutputOptions;

  // ── listener (null unless state is listen) ────────────────────────────────────────────────────────────────────
  listener: Listener | null = null;
  /** The listener whose accept queue this connection waits in. */
  acceptedBy: Tcb | null = null;
  /** How many connections its listener had queued before this one. */
  acceptOffset = 0;

  // ── times for the journey ─────────────────────────────────────────────────────────────────────────────────────
  /** Arrival of the first SYN; end of the handshake. In ns, 0 = unknown. */
  synReceivedNs: Ns = 0;
  establishedNs: Ns = 0;

  // ── send sequence space ───────────────────────────────────────────────────────────────────────────────────────
  /** Initial send sequence number: the SYN's. */
  iss = 0;
  /** Stream offsets of sndUna and sndNxt. Change them through `setSndUna`, `setSndNxt`. */
  sndUnaOffset = -1;
  sndNxtOffset = -1;
  /** Sequence and acknowledgement number of the segment that last updated the window (SND.WL1; Linux keeps no WL2). */
  sndWl1 = 0;
  /** The largest window the peer ever offered, in bytes. */
  maxWindow = 0;
  /** End of the last segment below MSS that was sent: what Minshall's test of Nagle waits for (Linux snd_sml). */
  smallSentOffset = 0;
  /** Offset up to which the process asked for a push: PSH goes on the segment that reaches it. */
  pushOffset = 0;
  readonly sendQueue: SendQueue;
  readonly retransmitQueue = new RetransmitQueue();
  /** FIN requested; it takes the offset `sendQueue.endOffset`. */
  finQueued = false;
  finSent = false;
  /** The reader has met the end of the stream (Linux moves copied_seq past the FIN). */
  finRead = false;

  // ── receive sequence space ────────────────────────────────────────────────────────────────────────────────────
  /** Initial receive sequence number: the peer's SYN's. */
  irs = 0;
  /** Stream offset of rcvNxt. Change it through `setRcvNxt`. */
  rcvNxtOffset = 0;
  readonly receiveQueue: ReceiveQueue;
  /** One's own once something is out of order; until then, what all share that have nothing. */
  reassembly: Reassembly = NOTHING_OUT_OF_ORDER;
  /** The peer's FIN is in order. */
  finReceived = false;

  // ── windows and buffers ───────────────────────────────────────────────────────────────────────────────────────
  sndWindowScale = 0;
  rcvWindowScale = 0;
  /** Our SYN carries (carried) a window scale option. */
  offersWindowScale = false;
  /** SO_RCVBUF, SO_SNDBUF in bytes of memory, and whether the user fixed them (which ends auto-tuning). */
  rcvbufBytes = 0;
  sndbufBytes = 0;
  rcvbufLocked = false;
  sndbufLocked = false;
  /** Upper bound of the window we may offer, and how far receiver slow start lets it grow now. */
  windowClamp = 0;
  rcvSsthresh = 0;
  /** Send refused bytes since the last `writable` upcall (SOCK_NOSPACE). */
  noSpace = false;
  /** Send found no packet memory: not writable before the peer has said something, whatever room the buffer has. */
  starved = false;
  /** Dynamic right-sizing: receive RTT, and what the reader took in the last one (Linux rcvq_space, rcv_rtt_est). */
  rcvRttNs: Ns = 0;
  rcvRttSeqOffset = 0;
  rcvRttStartNs: Ns = 0;
  drsSpaceBytes = 0;
  drsOffset = 0;
  drsStartNs: Ns = 0;

  // ── MSS and options ───────────────────────────────────────────────────────────────────────────────────────────
  /** What we announced, and what the peer announced (or TCP_MAXSEG): the largest payload without options. */
  advMssBytes = MSS_DEFAULT_BYTES;
  mssClampBytes = MSS_DEFAULT_BYTES;
  /** TCP_MAXSEG, 0 = not set. */
  userMssBytes = 0;
  /** The largest payload of one segment now, options counted (Linux mss_cache). */
  mssBytes = MSS_DEFAULT_BYTES;
  timestampsOk = false;
  sackOk = false;
  tsOffset = 0;
  /** Sequence range that came twice, for the next ACK to tell (RFC 2883); empty = none. */
  dsackSeq = 0;
  dsackEnd = 0;
  /** When tsRecent was stored. */
  tsRecentNs: Ns = 0;
  /** rcvNxt at the last ACK sent (Last.ACK.sent) is rcvWup. */

  // ── acknowledging (Linux icsk_ack) ────────────────────────────────────────────────────────────────────────────
  ackPending = 0;
  /** ACKs still to be sent at once. */
  quickAcks = 0;
  /** The application answers what it reads: ACKs ride on its data. */
  pingpong = false;
  atoNs: Ns = 0;
  /** Estimate of the peer's segment size, bytes. */
  rcvMssBytes = 0;
  lastSegmentBytes = 0;
  lastReceivedNs: Ns = 0;
  lastSentNs: Ns = 0;
  /** The delayed ACK's timer found the process mid-read; kept for Linux's name. */
  lastOutOfWindowAckNs: Ns = Number.NEGATIVE_INFINITY;

  // ── round-trip time (rto.ts) ──────────────────────────────────────────────────────────────────────────────────
  srttNs: Ns = 0;
  mdevNs: Ns = 0;
  mdevMaxNs: Ns = 0;
  rttvarNs: Ns = 0;
  rttSeqOffset = 0;
  rtoNs: Ns = RTO_INITIAL_NS;
  minRttNs: Ns = Number.POSITIVE_INFINITY;
  backoff = 0;

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  congestion: CongestionControl;
  /** The socket has chosen it (TCP_CONGESTION): accepted connections inherit it. */
  congestionChosen = false;
  caState: CaState = CaState.open;
  cwndSegments = INITIAL_CWND_SEGMENTS;
  ssthreshSegments = INFINITE_SSTHRESH_SEGMENTS;
  /** Segments acknowledged towards the next increase of cwnd in congestion avoidance. */
  cwndCount = 0;
  cwndClamp = 0x7fffffff;
  cwndStampNs: Ns = 0;
  /** cwnd was the limit in the last round: only then may it grow (RFC 7661's idea, Linux is_cwnd_limited). */
  cwndLimited = false;
  /** Most segments in flight in the current window of data, and where that window ends. */
  maxInFlight = 0;
  cwndUsageOffset = 0;
  /** Most segments out since the window was last the limit (Linux snd_cwnd_used). */
  cwndUsed = 0;
  /** How far segments may overtake each other before it is called loss, in segments; whether the path was seen to. */
  reorderingSegments = 3;
  reorderingSeen = false;
  /** sndNxt when recovery began: it ends when this is acknowledged (RFC 6582 recover). */
  highOffset = 0;
  /** PRR (RFC 6937): cwnd and counts since recovery began. */
  priorCwndSegments = 0;
  prrDelivered = 0;
  prrOut = 0;
  /** For undoing a reduction that was not needed: sndUna when it began (−1: nothing to undo), the threshold before. */
  undoOffset = -1;
  undoSsthreshSegments = 0;
  /** Retransmissions since then that no DSACK has called needless; −1: none was sent yet (Linux undo_retrans). */
  undoRetransmits = -1;
  /** F-RTO is finding out whether the last timeout was spurious (RFC 5682). */
  frto = false;
  /** First retransmission of the current trouble, 0 = none. */
  retransStampNs: Ns = 0;
  /** Timeouts in a row (icsk_retransmits), and in all for the SYN schedule (total_rto). */
  timeouts = 0;
  timeoutsTotal = 0;
  retransmitsTotal = 0;
  lostTotal = 0;
  /** Segments the peer has received: for `ss -i` and PRR. */
  deliveredSegments = 0;

  // ── loss detection (sack.ts, rack.ts, tail-loss-probe.ts) ────────────────────────────────────────────────────────
  /** One past the highest byte reported by SACK; meaningless while nothing is sacked (Linux highest_sack). */
  highestSackedOffset = 0;
  /** Segments the peer said came twice; more than were ever sent again cannot be true (Linux dsack_dups). */
  dsackSegments = 0;
  /** The last sent of the segments known to have arrived: when it was sent, its `order`, its RTT (RFC 8985 §5.2). */
  rackSentNs: Ns = 0;
  rackOrder = 0;
  rackRttNs: Ns = 0;
  /** It has changed since losses were last looked for. */
  rackAdvanced = false;
  /** The reordering window: quarters of the least RTT, recoveries until it falls back to one, the round it grew in. */
  reorderingWindowSteps = 1;
  reorderingWindowPersist = 0;
  dsackRoundOffset = -1;
  /** A tail loss probe is out: sndNxt when it left, −1 = none; it was old data (RFC 8985 §7.2). */
  probeHighOffset = -1;
  probeRetransmitted = false;

  // ── timers ────────────────────────────────────────────────────────────────────────────────────────────────────
  /** What it is for, `xmitTimerKind` says. */
  xmitTimer: Timer | null = null;
  xmitTimerKind: XmitTimer = XmitTimer.none;
  delackTimer: Timer | null = null;
  /** Keep-alive, and FIN_WAIT2 of a closed socket (Linux sk_timer). */
  keepaliveTimer: Timer | null = null;
  probesOut = 0;
  /** When the last acceptable ACK came (Linux rcv_tstamp). */
  lastAckNs: Ns = 0;
  /** When probing began, for TCP_USER_TIMEOUT. */
  probesStartNs: Ns = 0;

  // ── socket options ────────────────────────────────────────────────────────────────────────────────────────────
  nonagle = 0;
  keepalive = false;
  keepaliveTimeNs: Ns = 0;
  keepaliveIntervalNs: Ns = 0;
  keepaliveProbes = 0;
  /** SO_LINGER on, and its seconds. */
  lingerOn = false;
  lingerSeconds = 0;
  /** TCP_LINGER2 in ns; 0 = tcp_fin_timeout, negative = none. */
  linger2Ns: Ns = 0;
  userTimeoutNs: Ns = 0;
  /** TCP_SYNCNT; 0 = sysctl. */
  synCount = 0;
  /** TCP_DEFER_ACCEPT in SYN-ACK timeouts, 0 = off. */
  deferAcceptTimeouts = 0;
  notsentLowat = 0xffffffff;
  rcvLowat = 1;
  windowClampUser = 0;

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────
  shutdown = 0;
  /** The process has closed it (SOCK_DEAD). */
  orphan = false;
  /** Neighbours in `TcpContext.endpoints`. */
  prevEndpoint: Tcb | null = null;
  nextEndpoint: Tcb | null = null;
  /** The row and everything else is given back; nobody may touch it again. */
  released = false;
  /** Errors for the next call (sk_err), and ones that only explain a later timeout (sk_err_soft). errno > 0. */
  error = 0;
  softError = 0;
  /** `Point.closed` was stamped. */
  closedStamped = false;
  /** What last held output back, and from which offset: `Point.held` is stamped when it changes. */
  held: Held = Held.none;
  heldOffset = -1;
  bytesAcked = 0;
  bytesReceived = 0;
  segmentsIn = 0;
  segmentsOut = 0;
  /** The row of header prediction; see `RowWord`. */
  readonly words: Int32Array;
  readonly at: number;

  constructor(
    connId: number,
    memory: QueueMemory,
    row: RowPlace,
    any: Address,
    congestion: CongestionControl,
    options: OutputOptions,
  ) {
    this.connId = connId;
    this.localAddress = any;
    this.remoteAddress = any;
    this.sendQueue = new SendQueue(memory.sendPages);
    this.receiveQueue = new ReceiveQueue(memory.receiveRecords);
    this.words = row.words;
    this.at = row.at;
    this.congestion = congestion;
    this.outputOptions = options;
    this.words.fill(0, row.at, row.at + ROW_WORDS);
  }

  // Sequence numbers are signed words here and everywhere in TCP (base/seq.ts).

  /** RCV.NXT: next sequence number expected. */
  get rcvNxt(): number {
    return this.words[this.at + RowWord.rcvNxt];
  }

  /** SND.UNA: oldest unacknowledged sequence number. */
  get sndUna(): number {
    return this.words[this.at + RowWord.sndUna];
  }

  /** SND.NXT: next sequence number to send. */
  get sndNxt(): number {
    return this.words[this.at + RowWord.sndNxt];
  }

  /**
   * Left edge of the window advertised last: everything below it is acknowledged (Linux rcv_wup, RFC 7323
   * Last.ACK.sent).
   */
  get rcvWup(): number {
    return this.words[this.at + RowWord.rcvWup];
  }
  set rcvWup(seq: number) {
    this.words[this.at + RowWord.rcvWup] = seq;
  }

  /** RCV.WND as advertised last, bytes from rcvWup. */
  get rcvWnd(): number {
    return this.words[this.at + RowWord.rcvWnd];
  }
  set rcvWnd(bytes: number) {
    this.words[this.at + RowWord.rcvWnd] = bytes;
  }

  /** SND.WND: the peer's window in bytes from sndUna, scaled. */
  get sndWnd(): number {
    return this.words[this.at + RowWord.sndWnd];
  }
  set sndWnd(bytes: number) {
    this.words[this.at + RowWord.sndWnd] = bytes;
  }

  /** TS.Recent (RFC 7323 §4.3). */
  get tsRecent(): number {
    return this.words[this.at + RowWord.tsRecent] >>> 0;
  }
  set tsRecent(value: number) {
    this.words[this.at + RowWord.tsRecent] = value;
  }

  get predFlags(): number {
    return this.words[this.at + RowWord.predFlags];
  }
  set predFlags(word: number) {
    this.words[this.at + RowWord.predFlags] = word;
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
    return this.sndNxtOffset < this.sendQueue.endOffset || (this.finQueued && !this.finSent);
  }

  /** SO_ERROR: the pending error, once; errno > 0 or 0. */
  takeError(): number {
    const error = this.error;
    this.error = 0;
    return error;
  }
}
