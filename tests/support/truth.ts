/**
 * How long the injected delay of a scenario truly lasted at the server: from frames on the cable and from what the
 * bench did, not from the settings and not from any recorder.
 */
import type { Ns } from "../../src/base/time.ts";
import type { Scenario } from "../../src/sim/scenario.ts";
import { Flag } from "../../src/wire/tcp.ts";
import type { BenchLog } from "./sim-bench.ts";
import {
  acknowledges,
  establishedNs,
  first,
  responseTo,
  type SeenSegment,
  type WireWitness,
  windowLimitedNs,
} from "./wire-witness.ts";

/** The true length of what the expected labels of `scenario` stand for. */
export function truthOf(scenario: Scenario, witness: WireWitness, log: BenchLog): Ns {
  const { injection, victim } = scenario;
  const port = witness.portOf(victim);
  const segments = witness.of(port);
  const isRequest = isRequestFor(victim);
  switch (injection.kind) {
    case "accept-pause":
      return log.resumedNs - establishedNs(segments);
    case "loop-block": {
      const blocker = first(witness.atServer, (s) => s.inward && s.text.startsWith("GET /cpu?"));
      const readyNs = injection.fresh ? establishedNs(segments) : first(segments, isRequest).atNs;
      return blocker.atNs + injection.durationNs - readyNs;
    }
    case "link-loss":
      return lossTruth(injection.target, segments, isRequest);
    case "zero-window":
      return windowLimitedNs(segments, first(segments, isRequest));
    case "nagle": {
      const [one, two] = responseTo(segments, first(segments, isRequest));
      return (two as SeenSegment).atNs - (one as SeenSegment).atNs;
    }
    case "slow-client": {
      const piece = first(segments, isRequest);
      return first(segments, (s) => s.inward && s.payloadBytes > 0 && s.atNs > piece.atNs).atNs - piece.atNs;
    }
    case "slow-handler":
      return injection.durationNs;
  }
}

function lossTruth(
  target: "syn-ack" | "request" | "response",
  segments: readonly SeenSegment[],
  isRequest: (s: SeenSegment) => boolean,
): Ns {
  if (target === "syn-ack") {
    return establishedNs(segments) - first(segments, (s) => s.inward && (s.flags & Flag.syn) !== 0).atNs;
  }
  if (target === "request") {
    // The second piece shows the hole, the first comes later.
    const late = first(segments, isRequest);
    return late.atNs - first(segments, (s) => s.inward && s.payloadBytes > 0).atNs;
  }
  const { sent, acked } = answerOf(segments, first(segments, isRequest));
  return acked.atNs - (sent[0] as SeenSegment).atNs;
}

/** Every transmission of a response, and the first acknowledgement of all of it. */
function answerOf(segments: readonly SeenSegment[], request: SeenSegment): Answer {
  const sent = responseTo(segments, request);
  const last = sent[sent.length - 1] as SeenSegment;
  return { sent, acked: first(segments, (s) => s.atNs > request.atNs && acknowledges(s, last)) };
}

interface Answer {
  readonly sent: readonly SeenSegment[];
  readonly acked: SeenSegment;
}

/**
 * Of a lost response: how long it was known to be lost. The sender sends it again the moment it marks it lost; contract
 * §1, rule 4, calls what follows `retransmission`, and what came before `ack-wait`. Null for other scenarios.
 */
export function knownLostTruth(scenario: Scenario, witness: WireWitness): Ns | null {
  const { injection, victim } = scenario;
  if (injection.kind !== "link-loss" || injection.target !== "response") return null;
  const segments = witness.of(witness.portOf(victim));
  const { sent, acked } = answerOf(segments, first(segments, isRequestFor(victim)));
  return acked.atNs - (sent[1] as SeenSegment).atNs;
}

function isRequestFor(victim: string): (s: SeenSegment) => boolean {
  return (s) => s.inward && s.text.startsWith(`GET ${victim} `);
}
