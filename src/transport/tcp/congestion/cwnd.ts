/**
 * The congestion window's arithmetic that all algorithms share (Linux tcp_cong.c), in segments.
 */
import { CaState, type Tcb } from "../tcb.ts";

/** True if the window was what limited output lately: only then may it grow (Linux tcp_is_cwnd_limited). */
export function isCwndLimited(tcb: Tcb): boolean {
  if (tcb.cwndLimited) return true;
  return tcb.cwndSegments < tcb.ssthreshSegments && tcb.cwndSegments < 2 * tcb.maxInFlight;
}

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

/** The threshold as it should be remembered: three quarters of the window count as proven (tcp_current_ssthresh). */
export function currentSsthresh(tcb: Tcb): number {
  if (tcb.caState === CaState.cwr || tcb.caState === CaState.recovery) return tcb.ssthreshSegments;
  return Math.max(tcb.ssthreshSegments, (tcb.cwndSegments >>> 1) + (tcb.cwndSegments >>> 2));
}
