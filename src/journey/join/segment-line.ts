/**
 * Builds the segments of one journey: a line from start to end that is only ever extended at its end, so that it is
 * contiguous and sums exactly by construction.
 */

import { STAGES, type StageGroup, type StageKind, type StageName, type WaitReason } from "../../base/stages.ts";
import type { Ns } from "../../base/time.ts";
import type { Blame, Segment } from "../journey.ts";
import { Limits } from "./limits.ts";
import type { Holder } from "./occupancy.ts";

const KIND_OF = new Map<string, { group: StageGroup; kind: StageKind }>(STAGES.map((s) => [s.name, s]));

export class SegmentLine {
  /** Where the line ends now. */
  atNs: Ns;
  /** Nothing is drawn beyond. */
  limitNs: Ns;
  /** Segments were merged because there were too many. */
  coarse = false;
  private readonly segments: Segment[] = [];
  /** Stages that need no empty segment: they took time somewhere, or have one. A list, for they are few. */
  private readonly shown: StageName[] = [];

  constructor(startNs: Ns, limitNs: Ns) {
    this.atNs = startNs;
    this.limitNs = limitNs;
  }

  get done(): boolean {
    return this.atNs >= this.limitNs;
  }

  /** The frontier is in `stage` until `endNs`; no segment if that is in the past. */
  until(endNs: Ns, stage: StageName, reason?: WaitReason, by?: Blame): void {
    if (endNs > this.atNs) this.pass(endNs, stage, reason, by);
  }

  /** The same, but a stage that took no time (or was over before) leaves an empty segment. */
  pass(endNs: Ns, stage: StageName, reason?: WaitReason, by?: Blame): void {
    const startNs = this.atNs;
    if (startNs >= this.limitNs && endNs > this.limitNs) return; // never got here
    const toNs = Math.max(startNs, Math.min(endNs, this.limitNs));
    const { group, kind } = KIND_OF.get(stage) as { group: StageGroup; kind: StageKind };
    const last = this.segments[this.segments.length - 1];
    if (last !== undefined && last.stage === stage && last.reason === reason && last.by === by) {
      last.endNs = toNs;
    } else {
      const segment: Segment = { stage, group, kind, startNs, endNs: toNs };
      if (reason !== undefined) segment.reason = reason;
      if (by !== undefined) segment.by = by;
      this.segments.push(segment);
    }
    if (toNs > startNs && !this.shown.includes(stage)) this.shown.push(stage);
    this.atNs = toNs;
  }

  /** A wait cut by who held the process: `busy` where somebody did, `idle` where nobody did. */
  holders(holders: readonly Holder[], stage: StageName, idle: (endNs: Ns) => void): void {
    for (const { endNs, by } of holders) {
      if (by === null) idle(endNs);
      else this.until(endNs, stage, "loop-busy", by);
    }
  }

  /** The finished segments: stages passed in no time once, labels in maximal runs, at most `Limits.segments`. */
  finish(): Segment[] {
    const kept: Segment[] = [];
    for (const segment of this.segments) {
      if (segment.endNs === segment.startNs) {
        if (this.shown.includes(segment.stage)) continue;
        this.shown.push(segment.stage);
      }
      const last = kept[kept.length - 1];
      if (last !== undefined && sameLabel(last, segment)) last.endNs = segment.endNs;
      else kept.push(segment);
    }
    return kept.length <= Limits.segments ? kept : this.mergeShortest(kept);
  }

  /** Gives the shortest segments to the neighbour before them until the limit holds; the sum stays exact. */
  private mergeShortest(segments: Segment[]): Segment[] {
    this.coarse = true;
    const lengths = segments.map((s) => s.endNs - s.startNs).sort((a, b) => b - a);
    const border = lengths[Limits.segments >> 1] as number;
    const kept: Segment[] = [];
    for (const segment of segments) {
      const last = kept[kept.length - 1];
      if (last !== undefined && (sameLabel(last, segment) || segment.endNs - segment.startNs <= border)) {
        last.endNs = segment.endNs;
      } else kept.push(segment);
    }
    return kept;
  }
}

function sameLabel(a: Segment, b: Segment): boolean {
  return a.stage === b.stage && a.reason === b.reason && a.by === b.by;
}
