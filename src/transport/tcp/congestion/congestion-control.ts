/**
 * What a congestion control algorithm decides (Linux tcp_congestion_ops): how the window grows on acknowledgements and
 * how far it falls on loss. Everything else — what is lost, when to send — belongs to `recovery.ts` and `output.ts`.
 * An algorithm is one for all; what it knows of a connection it keeps in the Tcb (Linux icsk_ca_priv).
 */
import type { CongestionControlName } from "../../../base/sysctl.ts";
import type { Ns } from "../../../base/time.ts";
import type { TcpContext } from "../context.ts";
import type { Tcb } from "../tcb.ts";

export interface CongestionControl {
  /** Linux name, as `sysctl net.ipv4.tcp_congestion_control` and `ss -i` show it. */
  readonly name: CongestionControlName;
  /** It takes a connection over that had another one (init). */
  start(tcb: Tcb): void;
  /**
   * `deliveredSegments` more have reached the peer by this ACK, outside recovery. May raise `cwndSegments`
   * (cong_avoid).
   */
  onAck(tcp: TcpContext, tcb: Tcb, deliveredSegments: number): void;
  /** An ACK came for a segment sent `rttNs` ago (pkts_acked). */
  onRtt(tcp: TcpContext, tcb: Tcb, rttNs: Ns): void;
  /** The slow-start threshold after a loss (or ECN) now, in segments, at least 2. */
  ssthresh(tcb: Tcb): number;
  /** The retransmission timer fired: what was learnt of the path is void (set_state TCP_CA_Loss). */
  onTimeout(tcp: TcpContext, tcb: Tcb): void;
  /** Data goes out while nothing is in flight; the last was sent `idleNs` ago (CA_EVENT_TX_START). */
  onRestart(tcp: TcpContext, tcb: Tcb, idleNs: Ns): void;
}
