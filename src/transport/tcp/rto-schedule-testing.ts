/**
 * When a sender that hears nothing sends again, and when it gives up: the exact times of `timers.ts` and `listener.ts`,
 * as pure functions for tests that must predict them. Not part of the package.
 */
import type { Ns } from "../../base/time.ts";
import { modelTimeoutNs } from "./rto.ts";

/** Times since the first transmission, in ns. */
export interface Schedule {
  readonly resentNs: readonly Ns[];
  readonly giveUpNs: Ns;
}

export interface DataSchedule {
  /** RTO when the first copy was sent. */
  readonly rtoNs: Ns;
  /** tcp_retries2; 8 for an orphan unless tcp_orphan_retries says otherwise. */
  readonly retries: number;
  /** tcp_rto_min_us, tcp_rto_max_ms. */
  readonly rtoMinNs: Ns;
  readonly rtoMaxNs: Ns;
  /** TCP_USER_TIMEOUT, 0 = none. */
  readonly userTimeoutNs?: Ns;
  /** When a tail loss probe went out that nobody answered either; the timeout starts anew then. */
  readonly probeNs?: Ns;
}

/**
 * Data of an established connection (RFC 6298 §5): doubled timeouts until, at one of them, as much time has passed
 * since the first retransmission as `retries` of them take from `rtoMinNs` on (Linux retransmits_timed_out).
 */
export function dataSchedule(options: DataSchedule): Schedule {
  const { retries, rtoMinNs, rtoMaxNs, userTimeoutNs = 0, probeNs = 0 } = options;
  const limitNs = userTimeoutNs > 0 ? userTimeoutNs : modelTimeoutNs(retries, rtoMinNs, rtoMaxNs);
  const firstNs = probeNs + options.rtoNs;
  const resentNs: Ns[] = [];
  let rtoNs = options.rtoNs;
  let atNs = firstNs;
  do {
    resentNs.push(atNs);
    rtoNs = Math.min(rtoNs * 2, rtoMaxNs);
    atNs += userTimeoutNs > 0 ? Math.max(1, Math.min(rtoNs, userTimeoutNs - (atNs - firstNs))) : rtoNs;
  } while (atNs - firstNs < limitNs);
  return { resentNs: probeNs > 0 ? [probeNs, ...resentNs] : resentNs, giveUpNs: atNs };
}

/**
 * A SYN or SYN-ACK: `retries` copies, the first `linear` of them `rtoNs` apart, then at doubled intervals. A SYN has
 * tcp_syn_retries (3 or more: the time of fewer is over before) + tcp_syn_linear_timeouts copies,
 * tcp_syn_linear_timeouts of them linear; a SYN-ACK tcp_synack_retries, none linear.
 */
export function handshakeSchedule(rtoNs: Ns, retries: number, linear: number, rtoMaxNs: Ns): Schedule {
  const resentNs: Ns[] = [];
  let waitNs = rtoNs;
  let atNs = rtoNs;
  while (resentNs.length < retries) {
    resentNs.push(atNs);
    if (resentNs.length > linear) waitNs = Math.min(waitNs * 2, rtoMaxNs);
    atNs += waitNs;
  }
  return { resentNs, giveUpNs: atNs };
}
