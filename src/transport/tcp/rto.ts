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
  const rtoMinNs = tcp.rtoMinNs;
  const sample = Math.max(1, rttNs);
  if (latestNs < tcb.minRttNs) tcb.minRttNs = Math.max(1, latestNs);
  if (tcb.srttNs === 0) {
    tcb.srttNs = sample;
    tcb.mdevNs = sample / 2;
    tcb.rttvarNs = Math.max(tcb.mdevNs * 4, rtoMinNs);
    tcb.mdevMaxNs = tcb.rttvarNs;
    tcb.rttSeqOffset = tcb.sndNxtOffset;
  } else {
    smooth(tcb, sample, rtoMinNs);
  }
  tcb.backoff = 0;
  setRto(tcp, tcb);
}

/** `mdevMaxNs` and `rttvarNs` are four times a deviation, as in Linux, so that RTO = srtt + rttvar. */
function smooth(tcb: Tcb, sample: Ns, rtoMinNs: Ns): void {
  const error = sample - tcb.srttNs;
  tcb.srttNs = Math.max(1, tcb.srttNs + error / 8);
  const growth = Math.abs(error) - tcb.mdevNs;
  tcb.mdevNs += error < 0 && growth > 0 ? growth / 32 : growth / 4;
  const spread = tcb.mdevNs * 4;
  if (spread > tcb.mdevMaxNs) {
    tcb.mdevMaxNs = spread;
    if (tcb.mdevMaxNs > tcb.rttvarNs) tcb.rttvarNs = tcb.mdevMaxNs;
  }
  if (tcb.sndUnaOffset > tcb.rttSeqOffset) {
    if (tcb.mdevMaxNs < tcb.rttvarNs) tcb.rttvarNs -= (tcb.rttvarNs - tcb.mdevMaxNs) / 4;
    tcb.rttSeqOffset = tcb.sndNxtOffset;
    tcb.mdevMaxNs = rtoMinNs;
  }
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
