/**
 * A listener's two queues: the SYN queue, counted only (its request socks live in the connection table), and the accept
 * queue. Each is *full* when its length exceeds the backlog, so each holds backlog + 1 (Linux sk_acceptq_is_full,
 * inet_csk_reqsk_queue_is_full).
 */
import type { Ns } from "../../base/time.ts";
import type { RequestSock, Tcb } from "./tcb.ts";

export class Listener {
  /** listen(2)'s argument after clamping to somaxconn (sk_max_ack_backlog). */
  backlog: number;
  /** Half-open connections, and those of them whose SYN-ACK has not timed out yet. */
  readonly requests = new Set<RequestSock>();
  youngConns = 0;
  /** Connections that wait for accept(2), oldest first. */
  readonly acceptQueue: Tcb[] = [];
  /** Connections queued since listen(2). */
  queuedTotal = 0;
  /** Segments dropped here (Linux sk_drops, `ss -m` d). */
  drops = 0;
  /** When the last SYN cookie left (Linux tcp_synq_overflow). */
  cookieSentNs: Ns = Number.NEGATIVE_INFINITY;

  constructor(backlog: number) {
    this.backlog = backlog;
  }

  get acceptQueueFull(): boolean {
    return this.acceptQueue.length > this.backlog;
  }

  get synQueueFull(): boolean {
    return this.requests.size > this.backlog;
  }
}
