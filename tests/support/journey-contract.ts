/**
 * The contract of one journey (contract §1), as a list of what it breaches: every rule that needs nothing but the
 * journeys themselves.
 */
import { STAGES, WAIT_REASONS } from "../../src/base/stages.ts";
import { type Journey, OUTCOMES, type Segment } from "../../src/journey/journey.ts";

const STAGE_OF = new Map<string, (typeof STAGES)[number]>(STAGES.map((stage) => [stage.name, stage]));
/** Reasons that accuse somebody: they must say whom. */
const ACCUSING = new Set(["loop-busy", "pipeline"]);

/** What `journey` breaches; empty if it keeps the contract. `known`: ids of all journeys there are. */
export function breaches(journey: Journey, known: ReadonlySet<number>): string[] {
  const found: string[] = [];
  const must = (holds: boolean, what: string): void => {
    if (!holds) found.push(`journey ${journey.id}: ${what}`);
  };
  const { startNs, totalNs, respondedNs, segments, spans, marks, frames } = journey;
  const endNs = startNs + totalNs;
  must(isTime(startNs) && isTime(totalNs), `start ${startNs} or total ${totalNs} is no whole number of ns`);
  must(respondedNs === null || (isTime(respondedNs) && respondedNs <= totalNs), `responded ${respondedNs}`);
  must(OUTCOMES.includes(journey.outcome), `outcome ${journey.outcome}`);
  must(segments.length > 0, "no segments");
  let atNs = startNs;
  for (const [i, segment] of segments.entries()) {
    must(segment.startNs === atNs, `segment ${i} (${nameOf(segment)}) starts at ${segment.startNs}, not at ${atNs}`);
    must(isTime(segment.endNs) && segment.endNs >= segment.startNs, `segment ${i} ends at ${segment.endNs}`);
    atNs = segment.endNs;
    for (const fault of labelFaults(segment, known)) must(false, `segment ${i} (${nameOf(segment)}): ${fault}`);
    const before = segments[i - 1];
    must(before === undefined || !sameLabel(before, segment), `segments ${i - 1} and ${i} have one label`);
  }
  must(atNs === endNs, `the segments end at ${atNs}, the journey at ${endNs}`);
  for (const span of spans) {
    const isInside = span.startNs >= startNs && span.startNs <= span.endNs && span.endNs <= endNs;
    must(STAGE_OF.has(span.stage), `no stage ${span.stage}`);
    must(isTime(span.startNs) && isTime(span.endNs) && isInside, `span ${span.stage} ${span.startNs}…${span.endNs}`);
  }
  for (const mark of marks) {
    must(isTime(mark.atNs) && mark.atNs >= startNs && mark.atNs <= endNs, `mark ${mark.name} at ${mark.atNs}`);
  }
  for (const [what, n] of Object.entries(frames)) must(isTime(n), `${n} frames ${what}`);
  return found;
}

function labelFaults(segment: Segment, known: ReadonlySet<number>): string[] {
  const stage = STAGE_OF.get(segment.stage);
  const { reason, by } = segment;
  if (stage === undefined) return ["no such stage"];
  const faults: string[] = [];
  if (segment.kind !== stage.kind || segment.group !== stage.group) faults.push(`${segment.group} ${segment.kind}`);
  if (segment.kind === "wait" && (reason === undefined || !(reason in WAIT_REASONS))) faults.push("a wait for nothing");
  if (segment.kind === "work" && reason !== undefined) faults.push(`work with the reason ${reason}`);
  if (reason !== undefined && ACCUSING.has(reason) && by === undefined) faults.push("accuses nobody");
  if (typeof by === "number" && !known.has(by)) faults.push(`accuses ${by}, a journey nobody knows`);
  if (typeof by === "string" && !/^process \d+$/.test(by)) faults.push(`accuses ${by}`);
  return faults;
}

function isTime(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

function sameLabel(a: Segment, b: Segment): boolean {
  return a.stage === b.stage && a.reason === b.reason && a.by === b.by;
}

function nameOf(segment: Segment): string {
  return segment.reason === undefined ? segment.stage : `${segment.stage}/${segment.reason}`;
}
