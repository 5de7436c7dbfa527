/**
 * What a congestion control algorithm decides (Linux tcp_congestion_ops): how the window grows on acknowledgements and
 * how far it falls on loss. Everything else — what is lost, when to send — belongs to `recovery.ts` and `output.ts`.
 */
import type { Ns } from "../../../base/time.ts";
import type { Tcb } from "../tcb.ts";

export interface CongestionControl {
  /** Linux name, as `sysctl net.ipv4.tcp_congestion_control` and `ss -i` show it. */
  readonly name: string;
  /** `deliveredSegments` more have reached the peer by this ACK, outside recovery. May raise `cwndSegments`. */
  onAck(tcb: Tcb, deliveredSegments: number, nowNs: Ns): void;
  /** The slow-start threshold after a loss (or ECN) now, in segments, at least 2. */
  ssthresh(tcb: Tcb): number;
}
