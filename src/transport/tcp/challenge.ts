/**
 * Answers to invalid segments, rate limited (RFC 5961; Linux tcp_send_challenge_ack, tcp_oow_rate_limited).
 */
import { MibId } from "../../base/mib.ts";
import { MILLISECOND, type Ns } from "../../base/time.ts";
import type { TcpContext } from "./context.ts";
import { sendAck } from "./segment.ts";
import type { Tcb } from "./tcb.ts";

/**
 * True if an answer to an invalid segment must wait: less than tcp_invalid_ratelimit (500 ms) since the last. Otherwise
 * notes this one. `skipped` is counted when it is true.
 */
export function isRateLimited(tcp: TcpContext, sock: { lastOutOfWindowAckNs: Ns }, skipped: number): boolean {
  const now = tcp.nowNs;
  if (now - sock.lastOutOfWindowAckNs < tcp.env.sysctl.tcpInvalidRatelimit * MILLISECOND) {
    tcp.count(skipped);
    return true;
  }
  sock.lastOutOfWindowAckNs = now;
  return false;
}

/** A challenge ACK: an honest peer answers it with a segment that proves itself. */
export function sendChallengeAck(tcp: TcpContext, tcb: Tcb): void {
  if (isRateLimited(tcp, tcb, MibId.TcpExtTCPACKSkippedChallenge) || !tcp.takeChallenge()) return;
  tcp.count(MibId.TcpExtTCPChallengeACK);
  sendAck(tcp, tcb);
}
