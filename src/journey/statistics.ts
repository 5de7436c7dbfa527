/** Percentiles of the response time and one histogram per stage, in constant memory. */

import { STAGES, type StageName } from "../base/stages.ts";
import type { Ns } from "../base/time.ts";
import type { Journey, Outcome } from "./journey.ts";

/** Upper bounds of the stage histogram's buckets in seconds (Prometheus `le`): 1 µs to 10 s. */
export const BUCKETS_SECONDS: readonly number[] = [
  1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
  2.5, 5, 10,
];

/** A Prometheus histogram. `counts[i]` are values in bucket i alone; the last is +Inf. */
export class Histogram {
  readonly counts = new Float64Array(BUCKETS_SECONDS.length + 1);
  sumSeconds = 0;
  count = 0;

  add(ns: Ns): void {
    const seconds = ns / 1e9;
    let i = 0;
    while (i < BUCKETS_SECONDS.length && seconds > (BUCKETS_SECONDS[i] as number)) i++;
    this.counts[i] = (this.counts[i] as number) + 1;
    this.sumSeconds += seconds;
    this.count++;
  }
}

/** Sub-buckets per power of two: a percentile is at most 1/32 too high. */
const FINE = 32;

/** Log-linear histogram of durations (as HdrHistogram): percentiles within 3 %. */
export class Percentiles {
  private readonly counts = new Float64Array(64 * FINE);
  count = 0;
  maxNs: Ns = 0;
  minNs: Ns = Number.POSITIVE_INFINITY;

  add(ns: Ns): void {
    this.count++;
    this.maxNs = Math.max(this.maxNs, ns);
    this.minNs = Math.min(this.minNs, ns);
    const i = slotOf(ns);
    this.counts[i] = (this.counts[i] as number) + 1;
  }

  /** The smallest slot bound below which `fraction` of the values lie; null without values. */
  at(fraction: number): Ns | null {
    if (this.count === 0) return null;
    let left = Math.max(1, Math.ceil(this.count * fraction));
    for (let i = 0; i < this.counts.length; i++) {
      left -= this.counts[i] as number;
      if (left <= 0) return Math.max(this.minNs, Math.min(slotTop(i), this.maxNs));
    }
    return this.maxNs;
  }
}

/** Values below FINE have a slot each; above, each power of two has FINE slots. */
function slotOf(ns: Ns): number {
  if (ns < FINE) return Math.max(0, Math.floor(ns));
  const power = Math.floor(Math.log2(ns));
  const fine = Math.floor((ns / 2 ** power - 1) * FINE);
  return Math.min(64 * FINE - 1, (power - 4) * FINE + fine);
}

function slotTop(slot: number): Ns {
  if (slot < FINE) return slot;
  const power = Math.floor(slot / FINE) + 4;
  return Math.ceil(2 ** power * (1 + ((slot % FINE) + 1) / FINE)) - 1;
}

/** What `GET /api/info` and the CLI's summary show. Times in ns; null while there is nothing to tell. */
export interface Summary {
  finished: number;
  outcomes: Partial<Record<Outcome, number>>;
  respondedNs: { p50: Ns | null; p90: Ns | null; p99: Ns | null; max: Ns | null };
}

export class Statistics {
  readonly stages = new Map<StageName, Histogram>();
  private readonly responded = new Percentiles();
  private readonly outcomes: Partial<Record<Outcome, number>> = {};
  private finished = 0;
  private readonly perStage = new Float64Array(STAGES.length);
  private readonly touched = new Uint8Array(STAGES.length);

  add(journey: Journey): void {
    const times = journey.count ?? 1;
    this.finished += times;
    this.outcomes[journey.outcome] = (this.outcomes[journey.outcome] ?? 0) + times;
    if (journey.request === null) return;
    if (journey.respondedNs !== null) this.responded.add(journey.respondedNs);
    this.addStages(journey);
  }

  summary(): Summary {
    const { responded } = this;
    return {
      finished: this.finished,
      outcomes: { ...this.outcomes },
      respondedNs: {
        p50: responded.at(0.5),
        p90: responded.at(0.9),
        p99: responded.at(0.99),
        max: responded.count === 0 ? null : responded.maxNs,
      },
    };
  }

  /** One value per journey and stage: all its segments of that stage together. */
  private addStages(journey: Journey): void {
    this.perStage.fill(0);
    this.touched.fill(0);
    for (const segment of journey.segments) {
      const id = STAGE_IDS.get(segment.stage) as number;
      this.perStage[id] = (this.perStage[id] as number) + segment.endNs - segment.startNs;
      this.touched[id] = 1;
    }
    for (const stage of STAGES) {
      if (this.touched[stage.id] !== 1) continue;
      let histogram = this.stages.get(stage.name);
      if (histogram === undefined) {
        histogram = new Histogram();
        this.stages.set(stage.name, histogram);
      }
      histogram.add(this.perStage[stage.id] as number);
    }
  }
}

const STAGE_IDS: ReadonlyMap<StageName, number> = new Map(STAGES.map((s) => [s.name, s.id]));
