/**
 * The tracepoint port (law 6): how a floor says what it knows, in numbers, without knowing who listens.
 *
 * A floor never hears the word "request". It stamps points; TCP links frames to byte ranges of a stream, HTTP links
 * requests to byte ranges, and `journey/join` intersects them. The recorder takes the time from the clock of the host
 * (or process) it was made for, so a call carries no time unless a point says that `a`/`b` are times.
 *
 * Guard: connection points are emitted only if `(connId & trace.mask) === 0`. `mask` is 0 to record every connection,
 * 2^k − 1 to record one in 2^k, −1 to record none; it may change at any batch. Connection ids start at 1.
 */

/**
 * What can be stamped. Every point names the subject of `id`, then what `a` and `b` mean.
 * Stream offsets count bytes from 0 at the first byte after the SYN, per direction, and never wrap.
 */
export const Point = {
  // ── kernel, per connection (id = connId) ──────────────────────────────────────────────────────────────────────
  /**
   * A SYN was taken in for this connection (also a repeated one). a = arrivedNs, b = polledNs. Label `tuple` follows
   * the first.
   */
  synReceived: 1,
  /** A SYN-ACK left. a = how many before it. */
  synAckSent: 2,
  /**
   * The final ACK of the handshake arrived but the accept queue was full, so it was dropped. a = queue length, b =
   * limit.
   */
  handshakeHeld: 3,
  /** Handshake done, connection put in the accept queue. a = accept-queue length after it, b = limit (backlog + 1). */
  established: 4,
  /**
   * `link(segmentReceived, frameId, connId, lo, hi)`: a frame carried stream bytes [lo,hi). A `frameReceived` precedes
   * it.
   */
  segmentReceived: 5,
  /** id = frameId. a = arrivedNs (end of DMA), b = polledNs (taken out of the RX ring by NAPI). */
  frameReceived: 6,
  /** Bytes up to stream offset a are in order in the receive queue. b = receive-queue length in bytes. */
  delivered: 7,
  /**
   * `link(segmentSent, frameId, connId, lo, hi)`: output cut bytes [lo,hi) of the send stream into a frame (again if
   * below what was sent before).
   */
  segmentSent: 8,
  /** Output has bytes to send but a test refused. a = `Held` code, b = stream offset of the first byte held. */
  held: 9,
  /** id = frameId. The qdisc handed the frame to the driver. a = qdisc length after, b = enqueuedNs. */
  qdiscLeft: 10,
  /**
   * id = frameId. The device has taken the frame out of the TX ring to the wire. a = postedNs (entered the ring), b =
   * TX-ring occupancy.
   */
  transmitted: 11,
  /** Send bytes below offset a are acknowledged. b = cwnd in bytes. */
  acked: 12,
  /** Bytes [a,b) of the send stream were marked lost (RTO or fast retransmit). */
  lost: 13,
  /** The peer's window is closed (a = 1) or open again (a = 0). b = stream offset. */
  zeroWindow: 14,
  /** The connection is over. a = `Ending` code, b = stream offset acknowledged by then. */
  closed: 15,
  /** FIN received in order. a = stream offset. */
  finReceived: 16,
  /** FIN sent. a = stream offset. */
  finSent: 17,
  /** The socket woke its reader: bytes or a connection were offered to a sleeping process. a = pid. */
  readerWoken: 18,
  /** id = frameId of a SYN answered with a cookie: nothing is kept of it. Label `packet` comes before. */
  synCookie: 19,

  // ── process, per connection (id = connId) ─────────────────────────────────────────────────────────────────────
  /** accept4 took the connection. a = pid, b = fd. */
  accepted: 32,
  /** `link(read, pid, connId, lo, hi)`: the copy of stream bytes [lo,hi) to the process begins now. */
  read: 33,
  /** The copy ended. a = hi. */
  readEnd: 34,
  /** The HTTP machine starts on bytes from stream offset a. */
  parseBegin: 35,
  /** The HTTP machine has consumed stream bytes below a. */
  parsed: 36,
  /** `link(write, gid, connId, lo, hi)`: write of send-stream bytes [lo,hi) begins. */
  write: 37,
  /** The write ended (bytes are the kernel's). a = hi. */
  writeEnd: 38,

  // ── process, per request (id = reqId) ─────────────────────────────────────────────────────────────────────────
  /** `link(request, reqId, connId, h0, h1)`: head of the request. Labels `method` and `target` follow. */
  request: 48,
  /** The request's last byte is known. a = b1 (stream offset past the body), b = body bytes after decoding. */
  requestEnd: 49,
  /** The mux found the handler. */
  routed: 50,
  /** The handler started on CPU. a = pid, b = gid. */
  handlerBegin: 51,
  /** The handler left the CPU. a = `Parked` code. */
  handlerPark: 52,
  /** What the handler waited for is there: it is runnable. */
  handlerReady: 53,
  /** The handler runs again. */
  handlerRun: 54,
  /** The handler returned (or its promise settled). */
  handlerEnd: 55,
  /** `link(response, reqId, connId, p0, p1)`: response bytes in the send stream; emitted when p1 is known. */
  response: 56,
  /** a = status code, b = body bytes. */
  status: 57,
  /** The first byte of the response is p0 = a; emitted when the head is serialised. */
  responseBegin: 58,

  // ── process (id = pid) ────────────────────────────────────────────────────────────────────────────────────────
  /** The process got the CPU. a = 0. */
  processEnter: 64,
  /** The process went to sleep. */
  processLeave: 65,
  /** The process will not (a = 1) or will (a = 0) accept: `sojourn accept pause`. */
  acceptPaused: 66,
} as const;
export type Point = (typeof Point)[keyof typeof Point];

/** Why output held bytes back. */
export const Held = {
  none: 0,
  cwnd: 1,
  rwnd: 2,
  nagle: 3,
  cork: 4,
  pacing: 5,
  smallQueue: 6,
  retransmit: 7,
  fullQueue: 8,
} as const;
export type Held = (typeof Held)[keyof typeof Held];

/** How a connection ended. */
export const Ending = {
  fin: 1,
  resetReceived: 2,
  resetSent: 3,
  timeout: 4,
  refused: 5,
  handshakeExpired: 6,
  aborted: 7,
} as const;
export type Ending = (typeof Ending)[keyof typeof Ending];

/** What a parked handler waits for. */
export const Parked = { body: 1, write: 2, own: 3, sleep: 4 } as const;
export type Parked = (typeof Parked)[keyof typeof Parked];

/** What the borrowed bytes of a label are. */
export const Label = {
  /**
   * id = connId. 44 bytes in network order: local address (16), remote address (16), local port, remote port, initial
   * sequence number received, and sent: so that a frame seen outside is known by its bytes.
   */
  tuple: 1,
  /** id = reqId. Request method. */
  method: 2,
  /** id = reqId. Request target as received. */
  target: 3,
  /** id = frameId of a dropped frame. Its first bytes from the network header on (at most 64). */
  packet: 4,
  /** id = reqId. Why a request was refused or its connection given up (ASCII). */
  reason: 5,
} as const;
export type Label = (typeof Label)[keyof typeof Label];

/** The port itself. Implemented by `journey/recorder.ts`; every method is synchronous and allocates nothing. */
export interface Tracepoints {
  /** See the guard above. */
  mask: number;
  /** Once per batch, by whoever turns this kernel or process: takes over a mask that was changed from outside. */
  sync?(): void;
  /** Record that `point` happened to `id`, now. */
  stamp(point: Point, id: number, a: number, b: number): void;
  /** Record that `child` covers [lo,hi) of `parent`'s stream, now. */
  link(point: Point, child: number, parent: number, lo: number, hi: number): void;
  /** Record that frame or connection `id` was discarded for `reason` (`DropReason`), now. */
  drop(reason: number, id: number): void;
  /** Record `len` bytes at `at` as a label of `id`. *Borrows* the bytes: they are copied before the call returns. */
  label(kind: Label, id: number, bytes: Uint8Array, at: number, len: number): void;
}

/**
 * Recording off: no method is ever reached because the mask refuses every id; the methods are there for callers without
 * a guard.
 */
export const NO_TRACE: Tracepoints = {
  mask: -1,
  stamp() {},
  link() {},
  drop() {},
  label() {},
};
