/**
 * Reno (RFC 5681): slow start and congestion avoidance, in segments (Linux tcp_reno_cong_avoid).
 */
import type { Ns } from "../../../base/time.ts";
import type { Tcb } from "../tcb.ts";
import type { CongestionControl } from "./congestion-control.ts";

/** Slow start: one segment per segment acknowledged up to ssthresh; returns the acknowledged segments left over. */
export function slowStart(tcb: Tcb, ackedSegments: number): number {
  const cwnd = Math.min(tcb.cwndSegments + ackedSegments, tcb.ssthreshSegments);
  const left = ackedSegments - (cwnd - tcb.cwndSegments);
  tcb.cwndSegments = Math.min(cwnd, tcb.cwndClamp);
  return left;
}

/** Congestion avoidance: one segment per `window` segments acknowledged (Linux tcp_cong_avoid_ai). */
export function additiveIncrease(tcb: Tcb, window: number, ackedSegments: number): void {
  if (tcb.cwndCount >= window) {
    tcb.cwndCount = 0;
    tcb.cwndSegments++;
  }
  tcb.cwndCount += ackedSegments;
  if (tcb.cwndCount >= window) {
    const steps = Math.floor(tcb.cwndCount / window);
    tcb.cwndCount -= steps * window;
    tcb.cwndSegments += steps;
  }
  tcb.cwndSegments = Math.min(tcb.cwndSegments, tcb.cwndClamp);
}

export class Reno implements CongestionControl {
  readonly name = "reno";

  onAck(tcb: Tcb, deliveredSegments: number, _nowNs: Ns): void {
    if (!tcb.cwndLimited) return;
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
}
