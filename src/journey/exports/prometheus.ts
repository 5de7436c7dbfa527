/**
 * Prometheus text format 0.0.4: stage histograms of the journeys, and Linux counters under the names node_exporter
 * gives
 * them (`node_netstat_TcpExt_ListenOverflows`), so that existing dashboards work.
 */
import { MIB_NAMES } from "../../base/mib.ts";
import { STAGES } from "../../base/stages.ts";
import type { CollectorCounters } from "../collector.ts";
import { BUCKETS_SECONDS, type Histogram, type Statistics } from "../statistics.ts";

/** What goes on the page; parts that are not there are left out. */
export interface PrometheusSource {
  readonly statistics?: Statistics;
  readonly counters?: CollectorCounters;
  /** The server host's `Mib.values`. */
  readonly mib?: ArrayLike<number>;
}

/** The whole `/metrics` page. Content-Type: `text/plain; version=0.0.4; charset=utf-8`. */
export function prometheusText(source: PrometheusSource): string {
  const lines: string[] = [];
  if (source.statistics !== undefined) stageLines(source.statistics, lines);
  if (source.counters !== undefined) recordingLines(source.counters, lines);
  if (source.mib !== undefined) mibLines(source.mib, lines);
  return `${lines.join("\n")}\n`;
}

function stageLines(statistics: Statistics, lines: string[]): void {
  const name = "sojourn_stage_duration_seconds";
  lines.push(`# HELP ${name} Time a request spent in a stage, per request that met it.`, `# TYPE ${name} histogram`);
  for (const stage of STAGES) {
    const histogram = statistics.stages.get(stage.name);
    if (histogram !== undefined)
      histogramLines(name, `stage="${stage.name}",group="${stage.group}",kind="${stage.kind}"`, histogram, lines);
  }
  const summary = statistics.summary();
  lines.push("# HELP sojourn_journeys_total Journeys that ended, by outcome.", "# TYPE sojourn_journeys_total counter");
  for (const [outcome, count] of Object.entries(summary.outcomes))
    lines.push(`sojourn_journeys_total{outcome="${outcome}"} ${count}`);
}

function histogramLines(name: string, labels: string, histogram: Histogram, lines: string[]): void {
  let below = 0;
  BUCKETS_SECONDS.forEach((bound, i) => {
    below += histogram.counts[i] as number;
    lines.push(`${name}_bucket{${labels},le="${bound}"} ${below}`);
  });
  lines.push(`${name}_bucket{${labels},le="+Inf"} ${histogram.count}`);
  lines.push(`${name}_sum{${labels}} ${histogram.sumSeconds}`, `${name}_count{${labels}} ${histogram.count}`);
}

function recordingLines(counters: CollectorCounters, lines: string[]): void {
  const counter = (name: string, help: string, value: number) =>
    lines.push(`# HELP sojourn_${name} ${help}`, `# TYPE sojourn_${name} counter`, `sojourn_${name} ${value}`);
  counter("records_total", "Trace records taken from the recorders.", counters.records);
  counter("records_lost_total", "Trace records lost because a ring was full.", counters.lostRecords);
  counter("journeys_incomplete_total", "Requests whose facts were not all recorded.", counters.incomplete);
  lines.push("# HELP sojourn_sampling One connection in so many is recorded.", "# TYPE sojourn_sampling gauge");
  lines.push(`sojourn_sampling ${counters.sampling}`);
}

function mibLines(values: ArrayLike<number>, lines: string[]): void {
  MIB_NAMES.forEach(({ group, counter }, i) => {
    const name = `node_netstat_${group}_${counter}`;
    lines.push(`# HELP ${name} Statistic ${group}${counter}.`, `# TYPE ${name} untyped`, `${name} ${values[i] ?? 0}`);
  });
}
