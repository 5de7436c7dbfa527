/**
 * The journey of one request: the exact JSON shape of contract §1.
 *
 * Times are integer nanoseconds since the server started. `segments` are contiguous and sum to `totalNs`; `spans` are
 * the
 * true residence in each queue and may overlap.
 */

import type { StageGroup, StageKind, StageName, WaitReason } from "../base/stages.ts";
import type { Ns } from "../base/time.ts";

export const OUTCOMES = ["ok", "refused", "reset", "timeout", "dropped", "aborted", "in-flight"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Who the server's word is good for: a model, our own stack with real frames, or a traced kernel. */
export type Truth = "simulated" | "user-space" | "kernel";

/**
 * How fine the times are. `exact`: virtual time. `switch`: the clock was read at each context switch. `batch`: the
 * time of
 * the batch. `coarse`: as `switch`, and runs of facts or segments were merged because a limit was reached.
 */
export type Precision = "exact" | "switch" | "batch" | "coarse";

/** Who held what this request waited for: a request's journey id, or a task such as "process 2". */
export type Blame = number | string;

export interface Segment {
  /** Where the frontier was (a name of base/stages.ts). */
  stage: StageName;
  group: StageGroup;
  kind: StageKind;
  startNs: Ns;
  /** Exclusive; equals `startNs` for a stage passed in no time. */
  endNs: Ns;
  /** Every wait has one. */
  reason?: WaitReason;
  by?: Blame;
}

/** True residence in one queue. `depth` and `limit` are in the queue's own unit (connections, bytes, frames). */
export interface Span {
  stage: StageName;
  startNs: Ns;
  endNs: Ns;
  depth?: number;
  limit?: number;
  /** Stands for this many residences from the first start to the last end (a long body). */
  count?: number;
}

/** Something that happened at a moment. */
export interface Mark {
  name: string;
  atNs: Ns;
  /** Drop reason, reset side, held test … */
  reason?: string;
  value?: number;
}

/** What could not be seen: up to `maxNs` before the start. Outside the total. */
export interface Unobserved {
  maxNs: Ns;
  reason: WaitReason;
  by?: Blame;
}

export interface Journey {
  /** The request's id (> 0); a connection that never became a request has a negative one. */
  id: number;
  outcome: Outcome;
  precision: Precision;
  /** 1 = every connection is recorded, N = one in N. */
  sampling: number;
  truth: Truth;
  connection: { id: number; local: string; remote: string; protocol: string; reused: boolean };
  request: { method: string; target: string; bytes: number } | null;
  response: { status: number; bytes: number } | null;
  startNs: Ns;
  totalNs: Ns;
  /** From the start until the last response byte went to the device; null if that never happened. */
  respondedNs: Ns | null;
  segments: Segment[];
  spans: Span[];
  marks: Mark[];
  frames: { received: number; sent: number; retransmitted: number; dropped: number };
  unobserved?: Unobserved;
  /** This journey stands for so many like it (a SYN flood's victims). */
  count?: number;
}

/** `/search?q=secret&n=3` → `/search?q=…&n=…`: query values are nobody's business unless asked for. */
export function redactTarget(target: string): string {
  const query = target.indexOf("?");
  if (query < 0) return target;
  const hidden = target
    .slice(query + 1)
    .split("&")
    .map(hideValue);
  return `${target.slice(0, query)}?${hidden.join("&")}`;
}

function hideValue(pair: string): string {
  const equals = pair.indexOf("=");
  if (equals < 0) return pair === "" ? "" : "…";
  return `${pair.slice(0, equals)}=…`;
}

/** The journey as outsiders see it: query values hidden. Copies what it changes. */
export function redact(journey: Journey): Journey {
  if (journey.request === null || !journey.request.target.includes("?")) return journey;
  return { ...journey, request: { ...journey.request, target: redactTarget(journey.request.target) } };
}
