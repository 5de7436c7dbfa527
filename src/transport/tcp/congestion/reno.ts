/**
 * Reno (RFC 5681): slow start, and a segment per round trip after it; half of the window after a loss (Linux
 * tcp_reno_cong_avoid, tcp_reno_ssthresh).
 */
import type { TcpContext } from "../context.ts";
import type { Tcb } from "../tcb.ts";
import type { CongestionControl } from "./congestion-control.ts";
import { additiveIncrease, isCwndLimited, slowStart } from "./cwnd.ts";

export class Reno implements CongestionControl {
  readonly name = "reno";

  onAck(_tcp: TcpContext, tcb: Tcb, deliveredSegments: number): void {
    if (!isCwndLimited(tcb)) return;
    let acked = deliveredSegments;
    if (tcb.cwndSegments < tcb.ssthreshSegments) {
      acked = slowStart(tcb, acked);
      if (acked === 0) return;
    }
    additiveIncrease(tcb, tcb.cwndSegments, acked);
  }

  ssthresh(tcb: Tcb): number {
    return Math.max(tcb.cwndSegments >>> 1, 2);
  }

  start(): void {}

  onRtt(): void {}

  onTimeout(): void {}

  onRestart(): void {}
}
