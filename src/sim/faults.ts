/**
 * Injected delays: one thing that goes wrong in one run, with what a journey must say about it.
 *
 * Each kind has one cause in the world and one label in `base/stages.ts`. A run with one injection is the test of
 * blame: the journey of the victim must name that label, for about that long (see `scenario.ts`).
 */
import type { Prng } from "../base/prng.ts";
import type { StageName, WaitReason } from "../base/stages.ts";
import { MILLISECOND, type Ns } from "../base/time.ts";

/** Which frame a loss hits: the SYN-ACK, the first segment of a head in two, or the (first) segment of the response. */
export type LossTarget = "syn-ack" | "request" | "response";

/** Seen from the server: its own cable, or the one behind the router, whose losses it can only infer. */
export type LossPlace = "server-link" | "client-link";

export type Injection =
  /** accept() is paused while a client connects and sends. */
  | { readonly kind: "accept-pause"; readonly durationNs: Ns }
  /** Another request computes while the victim's arrives. `fresh`: on a new connection. */
  | { readonly kind: "loop-block"; readonly durationNs: Ns; readonly headStartNs: Ns; readonly fresh: boolean }
  /** One frame is lost once. */
  | { readonly kind: "link-loss"; readonly target: LossTarget; readonly place: LossPlace }
  /** The client does not read a response larger than its receive buffer. */
  | { readonly kind: "zero-window"; readonly durationNs: Ns; readonly bufferBytes: number; readonly bodyBytes: number }
  /** The response goes out in two small writes without TCP_NODELAY, to a client that delays its ACK. */
  | { readonly kind: "nagle" }
  /** The client sends its head in two pieces. `fresh`: on a new connection. */
  | { readonly kind: "slow-client"; readonly durationNs: Ns; readonly fresh: boolean }
  /** The handler waits (`sleep`) or computes (`burn`). */
  | { readonly kind: "slow-handler"; readonly durationNs: Ns; readonly how: "sleep" | "burn" };

export type InjectionKind = Injection["kind"];

export const INJECTION_KINDS: readonly InjectionKind[] = [
  "accept-pause",
  "loop-block",
  "link-loss",
  "zero-window",
  "nagle",
  "slow-client",
  "slow-handler",
];

/** What the victim's journey must show. */
export interface Expected {
  /** The labels that may carry the delay, the proper one first; their durations are added. Work has no reason. */
  readonly labels: readonly { readonly stage: StageName; readonly reason?: WaitReason }[];
  readonly atLeastNs: Ns;
  readonly atMostNs: Ns;
  /** The delay is much longer than everything else: these labels together must be the longest of the journey. */
  readonly dominant: boolean;
  /** The segments must say that the blocking request did it. */
  readonly byBlocker: boolean;
}

/** Delays are drawn between these, evenly on a logarithmic scale: far above any round trip drawn for a run. */
const SHORTEST_DELAY_NS: Ns = 100 * MILLISECOND;
const LONGEST_DELAY_NS: Ns = 3000 * MILLISECOND;

/** What processing may add to or take from a delay beside the round trips that are accounted for. */
const SLACK_NS: Ns = 2 * MILLISECOND;

/** Linux's bounds that decide how long the stack takes to repair what was injected. */
const MIN_DELAYED_ACK_NS: Ns = 40 * MILLISECOND;
const MAX_DELAYED_ACK_NS: Ns = 200 * MILLISECOND;
const SYN_ACK_TIMEOUT_NS: Ns = 1000 * MILLISECOND;
/** The initial RTO (1 s) is the longest first retransmission of data; a tail-loss probe may come earlier. */
const LONGEST_RTO_NS: Ns = 1000 * MILLISECOND;

/** Draws an injection of the given kind. Whole milliseconds, so that a handler's `?ms=` can say them. */
export function drawInjection(kind: InjectionKind, prng: Prng): Injection {
  const durationNs = drawDelayNs(prng);
  switch (kind) {
    case "accept-pause":
      return { kind, durationNs };
    case "loop-block":
      return { kind, durationNs, headStartNs: (5 + prng.below(20)) * MILLISECOND, fresh: prng.chance(0.5) };
    case "link-loss":
      return {
        kind,
        target: pick<LossTarget>(prng, ["syn-ack", "request", "response"]),
        place: pick<LossPlace>(prng, ["server-link", "client-link"]),
      };
    case "zero-window": {
      // The window is half of the buffer: always below the initial congestion window, which would refuse first.
      const bufferBytes = 8192 * (1 + prng.below(3));
      return { kind, durationNs, bufferBytes, bodyBytes: bufferBytes * (8 + prng.below(8)) };
    }
    case "nagle":
      return { kind };
    case "slow-client":
      return { kind, durationNs, fresh: prng.chance(0.5) };
    case "slow-handler":
      return { kind, durationNs, how: pick<"sleep" | "burn">(prng, ["sleep", "burn"]) };
  }
}

/** What a journey must show for `injection` when a frame takes `delayNs` from client to server. */
export function expectedOf(injection: Injection, delayNs: Ns): Expected {
  const rttNs = 2 * delayNs;
  switch (injection.kind) {
    case "accept-pause":
      // From the handshake's last ACK at the server, half a round trip after the client knows, to the resumption.
      return expect([{ stage: "accept-queue", reason: "accept-paused" }], injection.durationNs - delayNs, SLACK_NS);
    case "loop-block": {
      const stage = injection.fresh ? "accept-queue" : "receive-queue";
      const leftNs = injection.durationNs - injection.headStartNs - (injection.fresh ? rttNs : 0);
      return { ...expect([{ stage, reason: "loop-busy" }], leftNs, SLACK_NS), byBlocker: true };
    }
    case "link-loss":
      return expectedOfLoss(injection.target, injection.place, rttNs);
    case "zero-window": {
      // Filling the buffer takes slow start's round trips; afterwards the small window costs one per bufferful.
      const atMostNs = injection.durationNs + (3 + (2 * injection.bodyBytes) / injection.bufferBytes) * rttNs;
      return {
        ...expect([{ stage: "send-queue", reason: "rwnd" }], injection.durationNs, SLACK_NS),
        atLeastNs: injection.durationNs - 8 * rttNs - SLACK_NS,
        atMostNs: atMostNs + SLACK_NS,
      };
    }
    case "nagle":
      return {
        ...expect([{ stage: "send-queue", reason: "nagle" }], MIN_DELAYED_ACK_NS, SLACK_NS),
        atMostNs: MAX_DELAYED_ACK_NS + rttNs + SLACK_NS,
      };
    case "slow-client":
      return expect([{ stage: "client", reason: "client" }], injection.durationNs, rttNs + SLACK_NS);
    case "slow-handler":
      return expect(
        injection.how === "burn" ? [{ stage: "process" }] : [{ stage: "handler", reason: "sleep" }],
        injection.durationNs,
        SLACK_NS,
      );
  }
}

function expectedOfLoss(target: LossTarget, place: LossPlace, rttNs: Ns): Expected {
  const retransmission = { stage: "retransmission", reason: "retransmission" } as const;
  if (target === "syn-ack") {
    return expect([{ stage: "syn-queue", reason: "handshake" }], SYN_ACK_TIMEOUT_NS + rttNs, rttNs + 50 * MILLISECOND);
  }
  // The second segment's arrival shows the hole; the sender repairs it a round trip later, or by its timer.
  const repaired = { byBlocker: false, atMostNs: LONGEST_RTO_NS + 2 * rttNs + SLACK_NS };
  if (target === "request") return { ...repaired, labels: [retransmission], atLeastNs: rttNs / 2, dominant: false };
  // A loss on its own cable is known to the server's recorder at once; one further away only when TCP marks it lost.
  const ackWait = { stage: "ack-wait", reason: "ack-wait" } as const;
  const labels = place === "server-link" ? [retransmission, ackWait] : [ackWait, retransmission];
  // A tail-loss probe goes out after two round trips at the earliest (RFC 8985 §7.2).
  return { ...repaired, labels, atLeastNs: 2 * rttNs, dominant: true };
}

function expect(labels: Expected["labels"], durationNs: Ns, toleranceNs: Ns): Expected {
  const atLeastNs = Math.max(0, durationNs - toleranceNs);
  return { labels, atLeastNs, atMostNs: durationNs + toleranceNs, dominant: true, byBlocker: false };
}

function drawDelayNs(prng: Prng): Ns {
  const ratio = LONGEST_DELAY_NS / SHORTEST_DELAY_NS;
  return Math.round((SHORTEST_DELAY_NS * ratio ** prng.float()) / MILLISECOND) * MILLISECOND;
}

function pick<T>(prng: Prng, choices: readonly T[]): T {
  return choices[prng.below(choices.length)];
}
