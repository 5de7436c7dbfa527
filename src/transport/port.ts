/**
 * What the transport floor offers sockets, and what it calls back (Linux struct proto, sk_data_ready and friends).
 * All calls are synchronous; a failing call returns -errno. Frozen in docs/adr/0003.
 */

/** Upcalls from softirq or a timer into the socket that owns a connection. They must not free the connection. */
export interface SocketUpcalls {
  /** Bytes, a FIN, an error, or (listener) a connection in the accept queue can be taken (sk_data_ready). */
  readable(): void;
  /** The send queue has room again after `send` refused bytes (sk_write_space). */
  writable(): void;
  /** Connected, reset or closed (sk_state_change). */
  stateChanged(): void;
}

/** For endpoints nobody listens to (orphans, connections in the accept queue). */
export const NO_UPCALLS: SocketUpcalls = { readable() {}, writable() {}, stateChanged() {} };

export interface BindOptions {
  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  /** SO_BINDTODEVICE; 0 = any. */
  readonly ifindex: number;
}

/** A run of received bytes in the arena; the caller's reused record. */
export interface ReceivedRun {
  /** Arena address of the first byte. */
  address: number;
  len: number;
  /** Stream offset of the first byte. */
  offset: number;
  /**
   * When the frame that brought the first byte arrived from the wire, and when that byte was in order in the receive
   * queue.
   */
  arrivedNs: number;
  queuedNs: number;
}

/** The TCP states under Linux's numbers (include/net/tcp_states.h). */
export const TcpState = {
  established: 1,
  synSent: 2,
  synReceived: 3,
  finWait1: 4,
  finWait2: 5,
  timeWait: 6,
  close: 7,
  closeWait: 8,
  lastAck: 9,
  listen: 10,
  closing: 11,
  newSynReceived: 12,
} as const;
export type TcpState = (typeof TcpState)[keyof typeof TcpState];

/** `ss` state column. */
export const TCP_STATE_NAMES: readonly string[] = [
  "UNCONN",
  "ESTAB",
  "SYN-SENT",
  "SYN-RECV",
  "FIN-WAIT-1",
  "FIN-WAIT-2",
  "TIME-WAIT",
  "UNCONN",
  "CLOSE-WAIT",
  "LAST-ACK",
  "LISTEN",
  "CLOSING",
  "SYN-RECV",
];

/** One row of `ss -a`. Queues in bytes, or connections for a listener (Recv-Q = accept queue, Send-Q = backlog). */
export interface SocketRow {
  readonly protocol: "tcp" | "udp";
  readonly state: string;
  readonly receiveQueue: number;
  readonly sendQueue: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Listener: half-open connections in its SYN queue. */
  readonly synQueue?: number;
  /** `ss -i` and `-o` details: rtt, rto, cwnd, retransmits, timer … */
  readonly info?: Readonly<Record<string, string | number>>;
}
