/** How a story ended (contract §1: `outcome`). */

import { DropReason } from "../../base/drop-reasons.ts";
import { NEVER } from "../../base/time.ts";
import { Ending, Held } from "../../base/tracepoints.ts";
import type { Outcome } from "../journey.ts";
import type { ConnectionFacts, RequestFacts } from "./facts.ts";

/** `ok` once every response byte was acknowledged before the connection ended. */
export function requestOutcome(request: RequestFacts): Outcome {
  if (request.ackedNs !== NEVER && request.ackedNs <= request.connection.closedNs) return "ok";
  if (request.endNs === NEVER) return "in-flight";
  return endingOutcome(request.connection.ending, true);
}

/** Of a connection that never became a request. */
export function connectionOutcome(connection: ConnectionFacts): Outcome {
  if (connection.closedNs === NEVER) return "in-flight";
  return endingOutcome(connection.ending, connection.establishedNs !== NEVER);
}

function endingOutcome(ending: number, established: boolean): Outcome {
  switch (ending) {
    case Ending.resetReceived:
      return "reset";
    case Ending.resetSent:
      return established ? "reset" : "refused";
    case Ending.refused:
      return "refused";
    case Ending.timeout:
    case Ending.handshakeExpired:
      return "timeout";
    default:
      return "aborted"; // closed in order, but before the story was told to its end
  }
}

/** A SYN dropped for one of these was answered with a reset: the client knows at once. */
export function isRefusal(reason: number): boolean {
  return reason === DropReason.noSocket || reason === DropReason.netfilterDrop;
}

/** A data frame dropped for one of these was a copy of what is here already: nothing is missing. */
export function isDuplicate(reason: number): boolean {
  return reason === DropReason.tcpOldData || reason === DropReason.tcpOfoMerge || reason === DropReason.consumed;
}

/** A frame dropped for one of these may say anything, also whose it was. */
export function isDamage(reason: number): boolean {
  return reason === DropReason.tcpCsum || reason === DropReason.ipCsum || reason === DropReason.linkCorrupt;
}

/** For marks: the ending's name. */
export function endingName(ending: number): string {
  return Object.entries(Ending).find(([, value]) => value === ending)?.[0] ?? `ending ${ending}`;
}

/** For marks: `Held` codes by number. */
export const HELD_NAMES: Readonly<Record<number, string>> = {
  [Held.none]: "nothing",
  [Held.cwnd]: "cwnd",
  [Held.rwnd]: "rwnd",
  [Held.nagle]: "nagle",
  [Held.cork]: "cork",
  [Held.pacing]: "pacing",
  [Held.smallQueue]: "small-queue",
  [Held.retransmit]: "retransmission",
  [Held.fullQueue]: "full-queue",
};
