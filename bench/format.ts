/** Results as text for people. */
import type { Calibration } from "./calibrate.ts";
import type { IdleReport, RecordingReport, Report } from "./cases.ts";
import type { Figure } from "./measure.ts";
import type { TapReport } from "./tap.ts";

export function formatReport(report: Report): string {
  const lines = [`${report.name}: ${report.unit}`, `  ${report.setUp}`, figureHeader()];
  for (const figure of report.figures) lines.push(figureRow(figure));
  for (const note of report.notes) lines.push(`  ${note}`);
  return lines.join("\n");
}

export function formatIdle(report: IdleReport): string {
  const lines = [
    `idle: bytes per idle connection, both ends (${count(report.connections)} connections)`,
    `  ${report.setUp}`,
    `  ${"".padEnd(42)}${["in all", "JS heap", "arrays", "slots"].map(cell).join("")}`,
  ];
  for (const { name, heapBytes, externalBytes, arenaSlots } of report.figures) {
    const bytes = [heapBytes + externalBytes, heapBytes, externalBytes].map((value) => cell(count(value))).join("");
    lines.push(`  ${name.padEnd(42)}${bytes}${cell(arenaSlots.toFixed(3))}`);
  }
  return lines.join("\n");
}

export function formatRecording(report: RecordingReport): string {
  const [low, high] = report.quartiles;
  return [
    `recording: CPU time with the recorder on ÷ off (${report.pairs} pairs)`,
    `  ${report.setUp}`,
    `  median ratio ${report.medianRatio.toFixed(3)} (quartiles ${low.toFixed(3)} to ${high.toFixed(3)}), one connection in ${report.sampling} recorded, ${report.lost} records lost`,
    `  ${count(report.recordsPerSecond)} records/s, ${report.joinMicros.toFixed(2)} µs per record in the join: ${percent(report.share)} of the time (the governor allows ${percent(report.budgetShare)}; it stopped early in ${report.pauses} seconds)`,
    figureHeader(),
    figureRow(report.off),
    figureRow(report.on),
  ].join("\n");
}

export function formatCalibration(report: Calibration): string {
  const lines = [
    "calibrate: ns per unit of each kind of work",
    `  ${"kind".padEnd(16)}${cell("minimum")}${cell("median")}  what was run`,
  ];
  for (const row of report.rows) {
    lines.push(
      `  ${row.kind.padEnd(16)}${cell(row.minimumNs.toFixed(3))}${cell(row.medianNs.toFixed(3))}  ${row.what}`,
    );
  }
  return lines.join("\n");
}

export function formatTap(report: TapReport): string {
  const lines = ["tap: CPU µs per request of the server, beside node:http", `  ${report.setUp}`];
  if (report.disturbedRounds > 0) lines.push(`  ${report.disturbedRounds} rounds disturbed by other processes`);
  for (const { name, figures } of report.cases) {
    const heads = ["median", "best", "wrk", "requests/s", "node:http ÷"].map(cell).join("");
    lines.push(`  ${name.padEnd(42)}${heads}  (quartiles)`);
    for (const one of figures) {
      const micros = [one.serverMicros, one.bestMicros, one.clientMicros]
        .map((value) => cell(value.toFixed(2)))
        .join("");
      const [low, high] = one.quartiles;
      const ratio = `${cell(one.ratio.toFixed(2))}  (${low.toFixed(2)} to ${high.toFixed(2)})`;
      lines.push(`    ${one.server.padEnd(40)}${micros}${cell(count(one.requestsPerSecond))}${ratio}`);
    }
  }
  return lines.join("\n");
}

function figureHeader(): string {
  return `  ${"".padEnd(42)}${cell("median")}${cell("best")}${cell("spread")}${cell("wall")}`;
}

function figureRow(figure: Figure): string {
  const spread = `±${(figure.spreadPercent / 2).toFixed(1)} %`;
  return `  ${figure.name.padEnd(42)}${cell(count(figure.median))}${cell(count(figure.best))}${cell(spread)}${cell(count(figure.perWallSecond))}`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function cell(text: string): string {
  return text.padStart(12);
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
