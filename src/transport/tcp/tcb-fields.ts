/**
 * Where the numbers of a Tcb lie. A server has thousands of connections that wait, and V8 keeps a number of an object
 * in 8 bytes, a time or a fraction in 24; typed memory takes 4 or 8, and what is as it always was takes none.
 *
 * So each number has its place in a table here, which also says what it starts with, and an accessor of the same name:
 * all code reads and writes `tcb.rtoNs` as if it were a field. What nearly every segment needs is a field (`tcb.ts`).
 *
 * | table | one connection | |
 * |---|---|---|
 * | `WORDS`, `DOUBLES` | a row of memory it shares with the connections made around it | what every connection needs |
 * | `FACTS` | a bit of `facts` | yes or no |
 * | `OPTIONS` | a vector shared until it is written | what setsockopt(2) says, inherited from the listener |
 * | `TROUBLE` | a vector shared until it differs | what only loss, a window that limits or a silent peer change |
 */
import { Held } from "../../base/tracepoints.ts";
import { INFINITE_SSTHRESH_SEGMENTS, MSS_DEFAULT_BYTES, RTO_INITIAL_NS } from "./constants.ts";

/** Words of header prediction at the head of a row, for those who read it without an accessor. */
export const RowWord = {
  predFlags: 0,
  rcvNxt: 1,
  sndUna: 2,
  sndNxt: 3,
  rcvWup: 4,
  rcvWnd: 5,
  sndWnd: 6,
  tsRecent: 7,
} as const;

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

/**
 * What the one timer of the send side stands for now: data in flight (RTO), a closed window, a tail loss probe, the end
 * of RACK's reordering window, or nothing (Linux ICSK_TIME_*).
 */
export const XmitTimer = { none: 0, retransmit: 1, probe: 2, lossProbe: 3, reorder: 4 } as const;
export type XmitTimer = (typeof XmitTimer)[keyof typeof XmitTimer];

/** Counts, sizes and sequence numbers: whole numbers of 32 bits, signed. The first eight are `RowWord`'s. */
const WORDS = {
  // ── header prediction (fast-path.ts): `RowWord` names these eight ───────────────────────────────────────────────
  /**
   * Third word of the TCP header (offset, flags, window) that the next segment will carry if nothing happens; 0 = off.
   */
  predFlags: 0,
  /** RCV.NXT: next sequence number expected. Change it through `setRcvNxt`. */
  rcvNxt: 0,
  /** SND.UNA: oldest unacknowledged sequence number. Change it through `setSndUna`. */
  sndUna: 0,
  /** SND.NXT: next sequence number to send. Change it through `setSndNxt`. */
  sndNxt: 0,
  /**
   * Left edge of the window advertised last: everything below it is acknowledged (Linux rcv_wup, RFC 7323
   * Last.ACK.sent).
   */
  rcvWup: 0,
  /** RCV.WND as advertised last, bytes from rcvWup. */
  rcvWnd: 0,
  /** SND.WND: the peer's window in bytes from sndUna, scaled. */
  sndWnd: 0,
  /** TS.Recent (RFC 7323 §4.3), as a signed word: the timestamp to echo. */
  tsRecent: 0,

  // ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────
  localPort: 0,
  remotePort: 0,

  // ── listener (null unless state is listen) ────────────────────────────────────────────────────────────────────
  /** How many connections its listener had queued before this one. */
  acceptOffset: 0,

  // ── send sequence space ───────────────────────────────────────────────────────────────────────────────────────
  /** Initial send sequence number: the SYN's. */
  iss: 0,
  /** Sequence and acknowledgement number of the segment that last updated the window (SND.WL1; Linux keeps no WL2). */
  sndWl1: 0,
  /** The largest window the peer ever offered, in bytes. */
  maxWindow: 0,

  // ── receive sequence space ────────────────────────────────────────────────────────────────────────────────────
  /** Initial receive sequence number: the peer's SYN's. */
  irs: 0,

  // ── windows and buffers ───────────────────────────────────────────────────────────────────────────────────────
  sndWindowScale: 0,
  rcvWindowScale: 0,
  /** SO_RCVBUF, SO_SNDBUF in bytes of memory. */
  rcvbufBytes: 0,
  sndbufBytes: 0,
  /** Upper bound of the window we may offer, and how far receiver slow start lets it grow now. */
  windowClamp: 0,
  rcvSsthresh: 0,

  // ── MSS and options ───────────────────────────────────────────────────────────────────────────────────────────
  /** What we announced, and what the peer announced (or TCP_MAXSEG): the largest payload without options. */
  advMssBytes: MSS_DEFAULT_BYTES,
  mssClampBytes: MSS_DEFAULT_BYTES,

  // ── acknowledging (Linux icsk_ack) ────────────────────────────────────────────────────────────────────────────
  lastSegmentBytes: 0,

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  /** Most segments in flight in the current window of data, which ends at `cwndUsageOffset`. */
  maxInFlight: 0,
  /** Most segments out since the window was last the limit (Linux snd_cwnd_used). */
  cwndUsed: 0,

  // ── socket options ────────────────────────────────────────────────────────────────────────────────────────────
  nonagle: 0,

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────
  shutdown: 0,
  /** Errors for the next call (sk_err), and ones that only explain a later timeout (sk_err_soft). errno > 0. */
  error: 0,
  softError: 0,
};

/** Times in ns, stream offsets, and counts that may grow beyond 32 bits. */
const DOUBLES = {
  // ── times for the journey ─────────────────────────────────────────────────────────────────────────────────────
  /** Arrival of the first SYN; end of the handshake. In ns, 0 = unknown. */
  synReceivedNs: 0,
  establishedNs: 0,

  // ── send sequence space ───────────────────────────────────────────────────────────────────────────────────────
  /** End of the last segment below MSS that was sent: what Minshall's test of Nagle waits for (Linux snd_sml). */
  smallSentOffset: 0,
  /** Offset up to which the process asked for a push: PSH goes on the segment that reaches it. */
  pushOffset: 0,
  /** @internal `writtenOffset` while the connection has no send queue of its own. */
  writtenOffsetAtRest: 0,

  // ── windows and buffers ───────────────────────────────────────────────────────────────────────────────────────
  /** Dynamic right-sizing: receive RTT, what the reader took in the last one (Linux rcv_rtt_est, rcvq_space). */
  rcvRttNs: 0,
  drsSpaceBytes: 0,
  drsOffset: 0,
  drsStartNs: 0,

  // ── MSS and options ───────────────────────────────────────────────────────────────────────────────────────────
  tsOffset: 0,
  /** When tsRecent was stored. */
  tsRecentNs: 0,

  // ── acknowledging (Linux icsk_ack) ────────────────────────────────────────────────────────────────────────────
  atoNs: 0,
  lastReceivedNs: 0,
  lastSentNs: 0,

  // ── round-trip time (rto.ts) ──────────────────────────────────────────────────────────────────────────────────
  srttNs: 0,
  mdevNs: 0,
  mdevMaxNs: 0,
  rttvarNs: 0,
  rttSeqOffset: 0,
  rtoNs: RTO_INITIAL_NS,
  minRttNs: Number.POSITIVE_INFINITY,

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  /** First retransmission of the present trouble, 0 = none; while connecting, the first SYN. */
  retransStampNs: 0,
  cwndStampNs: 0,
  cwndUsageOffset: 0,
  /** Segments the peer has received: for `ss -i` and PRR. */
  deliveredSegments: 0,

  // ── loss detection (sack.ts, rack.ts, tail-loss-probe.ts) ────────────────────────────────────────────────────────
  /** The last sent of the segments known to have arrived: when it was sent, its `order`, its RTT (RFC 8985 §5.2). */
  rackSentNs: 0,
  rackOrder: 0,
  rackRttNs: 0,

  // ── timers ────────────────────────────────────────────────────────────────────────────────────────────────────
  /** When the last acceptable ACK came (Linux rcv_tstamp). */
  lastAckNs: 0,

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────
  segmentsIn: 0,
  segmentsOut: 0,

  // ── CUBIC (congestion/cubic.ts) ───────────────────────────────────────────────────────────────────────────────
  /** Least round trip, 0 = none seen. */
  cubicDelayMinNs: 0,
  /** HyStart's present round: its begin, end, last ACK. */
  hystartRoundStartNs: 0,
  hystartRoundEndOffset: -1,
  hystartLastAckNs: 0,
};

/** What is so or not so. */
const FACTS = {
  // ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────
  reuseAddress: false,
  reusePort: false,
  /** bind() named the address / the port: kept over a failed connect. */
  addressBound: false,
  portBound: false,
  /** In the connection table. */
  hashed: false,

  // ── send sequence space ───────────────────────────────────────────────────────────────────────────────────────
  /** FIN requested; it takes the offset `writtenOffset`. */
  finQueued: false,
  finSent: false,
  /** The reader has met the end of the stream (Linux moves copied_seq past the FIN). */
  finRead: false,

  // ── receive sequence space ────────────────────────────────────────────────────────────────────────────────────
  /** The peer's FIN is in order. */
  finReceived: false,

  // ── windows and buffers ───────────────────────────────────────────────────────────────────────────────────────
  /** Our SYN carries (carried) a window scale option. */
  offersWindowScale: false,
  /** The user fixed SO_RCVBUF, SO_SNDBUF: no auto-tuning. */
  rcvbufLocked: false,
  sndbufLocked: false,
  /** Send refused bytes since the last `writable` upcall (SOCK_NOSPACE). */
  noSpace: false,
  /** Send found no packet memory: not writable before the peer has said something, whatever room the buffer has. */
  starved: false,

  // ── MSS and options ───────────────────────────────────────────────────────────────────────────────────────────
  timestampsOk: false,
  sackOk: false,

  // ── acknowledging (Linux icsk_ack) ────────────────────────────────────────────────────────────────────────────
  /** The application answers what it reads: ACKs ride on its data. */
  pingpong: false,

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  /** The socket has chosen it (TCP_CONGESTION): accepted connections inherit it. */
  congestionChosen: false,
  /** cwnd was the limit in the last round: only then may it grow (RFC 7661's idea, Linux is_cwnd_limited). */
  cwndLimited: false,
  /** The path was seen to reorder. */
  reorderingSeen: false,
  /** F-RTO is finding out whether the last timeout was spurious (RFC 5682). */
  frto: false,

  // ── loss detection (sack.ts, rack.ts, tail-loss-probe.ts) ────────────────────────────────────────────────────────
  /** `rackOrder` has changed since losses were last looked for. */
  rackAdvanced: false,
  /** The tail loss probe that is out was old data. */
  probeRetransmitted: false,

  // ── socket options ────────────────────────────────────────────────────────────────────────────────────────────
  keepalive: false,
  /** SO_LINGER is on. */
  lingerOn: false,

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────
  /** The process has closed it (SOCK_DEAD). */
  orphan: false,
  /** The row and everything else is given back; nobody may touch it again. */
  released: false,
  /** `Point.closed` was stamped. */
  closedStamped: false,
};

/** What setsockopt(2) set; an accepted connection shares its listener's. */
const OPTIONS = {
  keepaliveTimeNs: 0,
  keepaliveIntervalNs: 0,
  /** TCP_LINGER2 in ns; 0 = tcp_fin_timeout, negative = none. */
  linger2Ns: 0,
  userTimeoutNs: 0,
  notsentLowat: 0xffffffff,
  /** SO_BINDTODEVICE; 0 = any. */
  boundIfindex: 0,
  /** TCP_MAXSEG, 0 = not set. */
  userMssBytes: 0,
  keepaliveProbes: 0,
  lingerSeconds: 0,
  /** TCP_SYNCNT; 0 = sysctl. */
  synCount: 0,
  rcvLowat: 1,
  windowClampUser: 0,
};

/** What a connection never changes that is never short of anything: nothing lost, no window that limits it. */
const TROUBLE = {
  // ── acknowledging (Linux icsk_ack) ────────────────────────────────────────────────────────────────────────────
  /** When the last ACK of a segment outside the window was sent: they are rate-limited. */
  lastOutOfWindowAckNs: Number.NEGATIVE_INFINITY,

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  /** sndNxt when recovery began: it ends when this is acknowledged (RFC 6582 recover). */
  highOffset: 0,
  /** For undoing a reduction that was not needed: sndUna when it began, −1 = nothing to undo. */
  undoOffset: -1,
  retransmitsTotal: 0,
  lostTotal: 0,

  // ── loss detection (sack.ts, rack.ts, tail-loss-probe.ts) ────────────────────────────────────────────────────────
  /** One past the highest byte reported by SACK; meaningless while nothing is sacked (Linux highest_sack). */
  highestSackedOffset: 0,
  /** Segments the peer said came twice; more than were ever sent again cannot be true (Linux dsack_dups). */
  dsackSegments: 0,
  /** sndNxt when the reordering window grew last: the end of that round, −1 = it is over. */
  dsackRoundOffset: -1,
  /** A tail loss probe is out: sndNxt when it left, −1 = none (RFC 8985 §7.2). */
  probeHighOffset: -1,

  // ── timers ────────────────────────────────────────────────────────────────────────────────────────────────────
  probesOut: 0,
  /** When probing began, for TCP_USER_TIMEOUT. */
  probesStartNs: 0,

  // ── MSS and options ───────────────────────────────────────────────────────────────────────────────────────────
  /** Sequence range that came twice, for the next ACK to tell (RFC 2883); empty = none. */
  dsackSeq: 0,
  dsackEnd: 0,

  // ── congestion and loss (recovery.ts) ─────────────────────────────────────────────────────────────────────────
  /** PRR (RFC 6937): cwnd and counts since recovery began. */
  priorCwndSegments: 0,
  prrDelivered: 0,
  prrOut: 0,
  /** ssthresh before the reduction. */
  undoSsthreshSegments: 0,
  /** Retransmissions since then that no DSACK has called needless; −1: none was sent yet (Linux undo_retrans). */
  undoRetransmits: -1,
  /** Timeouts in a row (icsk_retransmits), and in all for the SYN schedule (total_rto). */
  timeouts: 0,
  timeoutsTotal: 0,
  backoff: 0,
  /** How far segments may overtake each other before it is called loss, in segments. */
  reorderingSegments: 3,
  ssthreshSegments: INFINITE_SSTHRESH_SEGMENTS,
  /** Segments acknowledged towards the next increase of cwnd in congestion avoidance. */
  cwndCount: 0,
  cwndClamp: 0x7fffffff,

  // ── loss detection (sack.ts, rack.ts, tail-loss-probe.ts) ────────────────────────────────────────────────────────
  /** The reordering window: quarters of the least RTT, recoveries until it falls back to one. */
  reorderingWindowSteps: 1,
  reorderingWindowPersist: 0,

  // ── CUBIC (congestion/cubic.ts) ───────────────────────────────────────────────────────────────────────────────
  /** Acknowledged segments per segment of growth, now. */
  cubicAcksPerSegment: 0,
  /** Window before the last loss; a flow that gives way remembers less (fast convergence). 0: no loss yet. */
  cubicLastMaxSegments: 0,
  /** Where the curve is flat, and how long after its beginning. */
  cubicOriginSegments: 0,
  cubicKSeconds: 0,
  /** When the curve began, −1 = it begins at the next ACK. */
  cubicEpochStartNs: -1,
  cubicLastUpdateNs: 0,
  cubicLastCwndSegments: 0,
  /** The window Reno would have, and the ACKs towards its next segment (RFC 9438 §4.3). */
  cubicRenoSegments: 0,
  cubicRenoAcks: 0,
  /** HyStart has found the end of slow start (1); of the present round its least RTT, and how many were looked at. */
  hystartFound: 0,
  hystartRoundRttNs: Number.POSITIVE_INFINITY,
  hystartSamples: 0,

  // ── what waits ────────────────────────────────────────────────────────────────────────────────────────────────
  /** What last held output back, and from which offset: `Point.held` is stamped when it changes. */
  held: Held.none as Held,
  heldOffset: -1,
  /** The receive RTT without timestamps: what has come when it is over, and its beginning. */
  rcvRttSeqOffset: 0,
  rcvRttStartNs: 0,
  /** TCP_DEFER_ACCEPT in SYN-ACK timeouts, 0 = off. Not inherited. */
  deferAcceptTimeouts: 0,
};

/** Facts an accepted connection takes over from its listener beside `OPTIONS`. */
const INHERITED_FACTS = ["keepalive", "lingerOn", "rcvbufLocked", "sndbufLocked", "reuseAddress", "reusePort"] as const;

/** Words of a row; even, because the doubles follow. */
const ROW_WORDS = (Object.keys(WORDS).length + 1) & ~1;
const ROW_DOUBLES = Object.keys(DOUBLES).length;
/** What the index of a row's first double is above half the index of its first word. */
const DOUBLES_AT = ROW_WORDS / 2;
/** Words from one row to the next. */
const ROW_STRIDE = ROW_WORDS + 2 * ROW_DOUBLES;
const ROWS_PER_CHUNK = 64;

/** Where a row lies: its words from `at` on, its doubles behind them in the same memory. */
export interface RowPlace {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  /** Index of the first word. */
  readonly at: number;
}

/** The rows of all connections of a host. */
export class TcbRows {
  private readonly free: RowPlace[] = [];

  /** A row that nobody has; what is in it is its last owner's. */
  take(): RowPlace {
    if (this.free.length === 0) this.addChunk();
    return this.free.pop() as RowPlace;
  }

  /** *Takes* a row back. */
  give(place: RowPlace): void {
    this.free.push(place);
  }

  private addChunk(): void {
    const memory = new ArrayBuffer(ROWS_PER_CHUNK * ROW_STRIDE * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(memory);
    const doubles = new Float64Array(memory);
    for (let i = ROWS_PER_CHUNK - 1; i >= 0; i--) this.free.push({ words, doubles, at: i * ROW_STRIDE });
  }
}

/** A row in which everything is as at the beginning. */
const FRESH = freshRow();
const DEFAULT_OPTIONS = Float64Array.from(Object.values(OPTIONS));
const NO_TROUBLE = Float64Array.from(Object.values(TROUBLE));

function freshRow(): Int32Array {
  const words = new Int32Array(ROW_STRIDE);
  words.set(Object.values(WORDS));
  new Float64Array(words.buffer).set(Object.values(DOUBLES), DOUBLES_AT);
  return words;
}

/** The memory behind the accessors. */
class RowOwner {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly at: number;
  /** @internal bits of `FACTS` */
  facts = 0;
  /** @internal */
  options = DEFAULT_OPTIONS;
  /** @internal */
  trouble = NO_TROUBLE;

  /** *Takes* the row. */
  constructor({ words, doubles, at }: RowPlace) {
    this.words = words;
    this.doubles = doubles;
    this.at = at;
    words.set(FRESH, at);
  }

  /** Takes over what an accepted connection has from its listener. */
  inherit(listener: RowOwner): void {
    this.options = listener.options;
    this.facts |= listener.facts & INHERITED_BITS;
  }
}

const INHERITED_BITS = INHERITED_FACTS.reduce((bits, name) => bits | (1 << Object.keys(FACTS).indexOf(name)), 0);

function define(name: string, get: (this: RowOwner) => unknown, set: (this: RowOwner, value: never) => void): void {
  Object.defineProperty(RowOwner.prototype, name, { get, set });
}

// What an accessor closes over is `const`: V8 then takes it for a constant, and the access costs what a field's does.
for (const [index, name] of Object.keys(WORDS).entries()) {
  define(
    name,
    function () {
      return this.words[this.at + index];
    },
    function (value: number) {
      this.words[this.at + index] = value;
    },
  );
}
for (const [i, name] of Object.keys(DOUBLES).entries()) {
  const index = DOUBLES_AT + i;
  define(
    name,
    function () {
      return this.doubles[(this.at >> 1) + index];
    },
    function (value: number) {
      this.doubles[(this.at >> 1) + index] = value;
    },
  );
}
for (const [i, name] of Object.keys(FACTS).entries()) {
  const bit = 1 << i;
  define(
    name,
    function () {
      return (this.facts & bit) !== 0;
    },
    function (value: boolean) {
      this.facts = value ? this.facts | bit : this.facts & ~bit;
    },
  );
}
for (const [index, name] of Object.keys(OPTIONS).entries()) {
  define(
    name,
    function () {
      return this.options[index];
    },
    function (value: number) {
      // Others may share them.
      if (this.options[index] !== value) this.options = this.options.with(index, value);
    },
  );
}
for (const [index, name] of Object.keys(TROUBLE).entries()) {
  define(
    name,
    function () {
      return this.trouble[index];
    },
    function (value: number) {
      if (this.trouble[index] === value) return;
      if (this.trouble === NO_TROUBLE) this.trouble = NO_TROUBLE.slice();
      this.trouble[index] = value;
    },
  );
}

type Numbers<T> = { -readonly [K in keyof T]: T[K] };
type Fields = Numbers<typeof WORDS> &
  Numbers<typeof DOUBLES> &
  Numbers<typeof FACTS> &
  Numbers<typeof OPTIONS> &
  Numbers<typeof TROUBLE>;

/** What `Tcb` extends: every name of the tables as a property. */
export const TcbFields = RowOwner as unknown as new (place: RowPlace) => RowOwner & Fields;
