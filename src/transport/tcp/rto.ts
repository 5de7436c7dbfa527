/**
 * Round-trip time and retransmission timeout: RFC 6298 with Linux's variant of the deviation (tcp_rtt_estimator).
 *
 * Where RFC 6298 smooths |srtt − r| both ways with gain 1/4, Linux lets the deviation fall with gain 1/32 when the RTT
 * drops, and takes the largest deviation of each round trip, so that the RTO does not collapse while the RTT shrinks.
 * The deviation is never below tcp_rto_min (200 ms), so RTO ≥ srtt + 200 ms.
 */
import type { Ns } from "../../base/time.ts";
import { RTO_FALLBACK_NS, RTO_INITIAL_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import type { Tcb } from "./tcb.ts";

/**
 * Takes one RTT measurement in and sets the RTO; also ends back-off. `latestNs`: the round trip of the last of the
 * segments that were acknowledged together, which none of them waited for.
 */
export function onRttSample(tcp: TcpContext, tcb: Tcb, rttNs: Ns, latestNs: Ns = rttNs): void {
  if (latestNs < tcb.minRttNs) tcb.minRttNs = Math.max(1, latestNs);
  if (tcb.srttNs === 0) startEstimate(tcp, tcb, rttNs);
  else smooth(tcp, tcb, rttNs);
  tcb.backoff = 0;
  setRto(tcp, tcb);
}

/** The first measurement of a connection: RTO = 3 × RTT, at least the minimum. */
function startEstimate(tcp: TcpContext, tcb: Tcb, rttNs: Ns): void {
  const sample = Math.max(1, rttNs);
  tcb.srttNs = sample;
  tcb.mdevNs = sample / 2;
  tcb.rttvarNs = tcb.mdevMaxNs = Math.max(sample * 2, tcp.rtoMinNs);
  tcb.rttSeqOffset = tcb.sndNxtOffset;
}

/**
 * `mdevMaxNs` and `rttvarNs` are four times a deviation, as in Linux, so that RTO = srtt + rttvar.
 *
 * Runs for every ACK: it takes the sample as it came and touches each number once, since a number that is computed for
 * a call (a setter that is not inlined, too) is an object.
 */
function smooth(tcp: TcpContext, tcb: Tcb, rttNs: Ns): void {
  const { srttNs, rttvarNs } = tcb;
  let { mdevNs, mdevMaxNs } = tcb;
  const error = Math.max(1, rttNs) - srttNs;
  const growth = Math.abs(error) - mdevNs;
  mdevNs += error < 0 && growth > 0 ? growth / 32 : growth / 4;
  tcb.srttNs = Math.max(1, srttNs + error / 8);
  tcb.mdevNs = mdevNs;
  let variationNs = rttvarNs;
  if (mdevNs * 4 > mdevMaxNs) {
    mdevMaxNs = mdevNs * 4;
    variationNs = Math.max(rttvarNs, mdevMaxNs);
  }
  if (tcb.sndUnaOffset > tcb.rttSeqOffset) {
    if (mdevMaxNs < variationNs) variationNs -= (variationNs - mdevMaxNs) / 4;
    mdevMaxNs = tcp.rtoMinNs;
    tcb.rttSeqOffset = tcb.sndNxtOffset;
  }
  if (mdevMaxNs !== tcb.mdevMaxNs) tcb.mdevMaxNs = mdevMaxNs;
  if (variationNs !== rttvarNs) tcb.rttvarNs = variationNs;
}

/** RTO from the present estimate (Linux tcp_set_rto, tcp_bound_rto); whole microseconds. */
export function setRto(tcp: TcpContext, tcb: Tcb): void {
  const rto = Math.ceil((tcb.srttNs + tcb.rttvarNs) / 1000) * 1000;
  tcb.rtoNs = Math.min(rto, tcp.rtoMaxNs);
}

/**
 * The RTT of the handshake, negative if unknown: after a retransmitted SYN or SYN-ACK the first data gets the fallback
 * RTO of 3 s (RFC 6298 §5.7).
 */
export function startRtt(tcp: TcpContext, tcb: Tcb, rttNs: Ns, retransmitted: boolean): void {
  if (rttNs >= 0) onRttSample(tcp, tcb, rttNs);
  else tcb.rtoNs = retransmitted ? RTO_FALLBACK_NS : RTO_INITIAL_NS;
  tcb.backoff = 0;
}

/**
 * When `boundary` retransmissions with exponential back-off from `baseNs` would have timed out (Linux
 * tcp_model_timeout): tcp_retries2 = 15 gives 924.6 s.
 */
export function modelTimeoutNs(boundary: number, baseNs: Ns, maxNs: Ns): Ns {
  const linear = Math.floor(Math.log2(maxNs / baseNs));
  if (boundary <= linear) return (2 ** (boundary + 1) - 1) * baseNs;
  return (2 ** (linear + 1) - 1) * baseNs + (boundary - linear) * maxNs;
}
