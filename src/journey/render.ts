/**
 * Journeys as text of at most 80 columns: a waterfall, the one-line flow, a table row. Pure; colour comes from outside.
 * Waiting (`░`) and working (`█`) are drawn differently; a stage passed in no time is a `·`.
 */

import type { StageName } from "../base/stages.ts";
import type { Ns } from "../base/time.ts";
import type { Journey, Segment } from "./journey.ts";

export type Style = "wait" | "work" | "dim" | "strong" | "good" | "bad";
/** Wraps text in a colour; must not change what is visible. */
export type Paint = (style: Style, text: string) => string;
const PLAIN: Paint = (_style, text) => text;

/** Rows a waterfall has at most; above it the shortest segments are summed up. */
const ROWS_MAX = 60;
const STAGE_COLUMNS = 14;
const BAR_COLUMNS = 22;
const WHY_COLUMNS = 22;

/** "20 ns", "1.47 µs", "12.3 ms", "2.10 s": three digits, the unit people read. */
export function formatNs(ns: Ns): string {
  if (ns < 1000) return `${Math.round(ns)} ns`;
  const units = ["µs", "ms", "s"];
  let value = ns / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < 2) {
    value /= 1000;
    unit++;
  }
  return `${value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)} ${units[unit]}`;
}

/** The waterfall of one journey, one line per segment. */
export function renderWaterfall(journey: Journey, paint: Paint = PLAIN): string[] {
  const segments = renderSegments(journey, ROWS_MAX, paint);
  return [...renderHeading(journey, paint), "", ...segments, "", ...renderFootnotes(journey, paint)];
}

/** One line per segment, at most `rowsMax` and one for the rest: the longest are shown, in their order. */
export function renderSegments(journey: Journey, rowsMax: number, paint: Paint = PLAIN): string[] {
  const lines: string[] = [];
  const shown = pickRows(journey.segments, rowsMax);
  let hiddenNs = 0;
  let hidden = 0;
  for (const segment of journey.segments) {
    if (shown.has(segment)) lines.push(renderSegment(journey, segment, paint));
    else {
      hidden++;
      hiddenNs += segment.endNs - segment.startNs;
    }
  }
  if (hidden > 0)
    lines.push(paint("dim", `${" ".repeat(10)}… and ${hidden} shorter segments, ${formatNs(hiddenNs)} together`));
  return lines;
}

/** What the whole was: three lines. */
export function renderHeading(journey: Journey, paint: Paint = PLAIN): string[] {
  const { connection, request, response } = journey;
  const status = response === null || response.status === 0 ? "no response" : String(response.status);
  const what = request === null ? "no request" : `${request.method} ${request.target}`;
  const style: Style = journey.outcome === "ok" ? "good" : journey.outcome === "in-flight" ? "strong" : "bad";
  const fixed = `#${journey.id}  `.length + status.length + journey.outcome.length + 4;
  const count = journey.count === undefined ? "" : `  × ${journey.count}`;
  const title = paint("strong", `#${journey.id}  ${clip(what, 80 - fixed - count.length)}`);
  return [
    `${title}  ${status}  ${paint(style, journey.outcome)}${count}`,
    paint(
      "dim",
      clip(
        `${connection.remote} → ${connection.local}  connection ${connection.id}${connection.reused ? ", reused" : ""}`,
        80,
      ),
    ),
    journey.respondedNs === null
      ? `never responded, ${formatNs(journey.totalNs)} in all`
      : `responded in ${formatNs(journey.respondedNs)}, ${formatNs(journey.totalNs)} in all`,
  ];
}

function renderSegment(journey: Journey, segment: Segment, paint: Paint): string {
  const lengthNs = segment.endNs - segment.startNs;
  const start = formatNs(segment.startNs - journey.startNs).padStart(9);
  const bar = paint(segment.kind, renderBar(journey, segment));
  const by = segment.by === undefined ? "" : ` by ${segment.by}`;
  const why = segment.reason === undefined ? "" : `${segment.reason}${by}`;
  const text = `${start} ${segment.stage.padEnd(STAGE_COLUMNS)} ${bar} ${formatNs(lengthNs).padStart(9)}`;
  return why === "" ? text : `${text} ${paint("dim", clip(why, WHY_COLUMNS))}`;
}

/** The segment's place in the whole; at least one cell wide, or a dot if it took no time. */
function renderBar(journey: Journey, segment: Segment): string {
  const scale = journey.totalNs === 0 ? 0 : BAR_COLUMNS / journey.totalNs;
  const from = Math.min(BAR_COLUMNS - 1, Math.floor((segment.startNs - journey.startNs) * scale));
  const to = Math.max(from + 1, Math.round((segment.endNs - journey.startNs) * scale));
  const cell = segment.endNs === segment.startNs ? "·" : segment.kind === "wait" ? "░" : "█";
  const cells = cell === "·" ? 1 : Math.min(to, BAR_COLUMNS) - from;
  return (" ".repeat(from) + cell.repeat(cells)).padEnd(BAR_COLUMNS);
}

function renderFootnotes(journey: Journey, paint: Paint): string[] {
  const { frames, unobserved } = journey;
  const sampling = journey.sampling === 1 ? "every connection" : `1 in ${journey.sampling} connections`;
  const { received, sent, retransmitted, dropped } = frames;
  const lines = [`frames  ${received} received, ${sent} sent, ${retransmitted} retransmitted, ${dropped} dropped`];
  if (unobserved !== undefined) {
    const by = unobserved.by === undefined ? "" : ` by ${unobserved.by}`;
    lines.push(`not seen  up to ${formatNs(unobserved.maxNs)} before the start (${unobserved.reason}${by})`);
  }
  lines.push(
    paint("dim", `░ waiting  █ working   times: ${journey.precision}, ${sampling} recorded, ${journey.truth}`),
  );
  return lines;
}

function pickRows(segments: readonly Segment[], rowsMax: number): Set<Segment> {
  if (segments.length <= rowsMax) return new Set(segments);
  const longest = [...segments].sort((a, b) => b.endNs - b.startNs - (a.endNs - a.startNs));
  return new Set(longest.slice(0, rowsMax));
}

/** Where on the flow a stage belongs. */
const INWARD = [
  "Client",
  "NIC",
  "RAM Buffer",
  "Kernel",
  "Socket",
  "FD",
  "Runtime",
  "Goroutine",
  "Mux",
  "Handler",
] as const;
const OUTWARD = ["Handler", "Goroutine", "FD", "Socket", "Kernel", "NIC", "Client"] as const;
const PLACE: Readonly<Record<StageName, (typeof INWARD)[number]>> = {
  client: "Client",
  retransmission: "Client",
  "rx-ring": "RAM Buffer",
  softirq: "Kernel",
  "syn-queue": "Kernel",
  "accept-queue": "Socket",
  accept: "FD",
  reassembly: "Kernel",
  "receive-queue": "Socket",
  copy: "FD",
  decrypt: "Goroutine",
  parse: "Goroutine",
  decode: "Goroutine",
  route: "Mux",
  process: "Handler",
  handler: "Handler",
  "run-queue": "Runtime",
  encode: "Goroutine",
  encrypt: "Goroutine",
  write: "FD",
  "send-queue": "Socket",
  output: "Kernel",
  qdisc: "Kernel",
  "tx-ring": "NIC",
  "ack-wait": "Client",
};
const OUTWARD_STAGES: ReadonlySet<StageName> = new Set([
  "encode",
  "encrypt",
  "write",
  "send-queue",
  "output",
  "qdisc",
  "tx-ring",
  "ack-wait",
]);

/**
 * The flow with the time spent at each place, in and back out: `Client 500 ns→NIC→RAM Buffer 40 ns→…→Handler 270 ns`
 * and
 * `Handler→Goroutine 20 ns→FD 10 ns→…→Client 430 ns`. A place without a time was passed in none.
 */
export function renderFlow(journey: Journey): { request: string; response: string } {
  const inward = new Map<string, Ns>();
  const outward = new Map<string, Ns>();
  let responding = false;
  for (const segment of journey.segments) {
    if (OUTWARD_STAGES.has(segment.stage)) responding = true;
    const out = OUTWARD_STAGES.has(segment.stage) || (responding && segment.stage === "retransmission");
    const flow = out ? outward : inward;
    const place = PLACE[segment.stage];
    flow.set(place, (flow.get(place) ?? 0) + segment.endNs - segment.startNs);
  }
  return { request: flowText(INWARD, inward), response: flowText(OUTWARD, outward) };
}

function flowText(places: readonly string[], times: ReadonlyMap<string, Ns>): string {
  return places.map((place) => (times.get(place) ? `${place} ${formatNs(times.get(place) as Ns)}` : place)).join("→");
}

/** One line for `journeys --line`: id, request, flow in, flow out. */
export function renderLine(journey: Journey): string {
  const { request, response } = renderFlow(journey);
  const what = journey.request === null ? "no request" : `${journey.request.method} ${journey.request.target}`;
  return `#${journey.id} ${what} ${journey.outcome}: ${request} | ${response}`;
}

/** The head of the table of `renderRow`. */
export const ROW_HEADING = [
  "ID".padStart(8),
  ` ${"REQUEST".padEnd(26)}`,
  "STATUS".padEnd(9),
  "RESPONDED".padStart(9),
  " LONGEST WAIT",
].join(" ");

/** One line per journey: id, request, status or outcome, time to respond, its longest wait. */
export function renderRow(journey: Journey, paint: Paint = PLAIN): string {
  const what = journey.request === null ? "—" : `${journey.request.method} ${journey.request.target}`;
  const ok = journey.outcome === "ok";
  const status = ok ? String(journey.response?.status ?? "") : journey.outcome;
  const longest = longestWait(journey);
  const wait =
    longest === null
      ? ""
      : clip(`${formatNs(longest.endNs - longest.startNs)} ${longest.stage}${whyText(longest)}`, 21);
  return [
    String(journey.id).padStart(8),
    ` ${clip(what, 26).padEnd(26)}`,
    paint(ok ? "good" : "bad", status.padEnd(9)),
    formatNs(journey.respondedNs ?? journey.totalNs).padStart(9),
    ` ${paint("wait", wait)}`,
  ].join(" ");
}

function longestWait(journey: Journey): Segment | null {
  let longest: Segment | null = null;
  for (const segment of journey.segments) {
    if (segment.kind !== "wait" || segment.stage === "ack-wait" || segment.endNs === segment.startNs) continue;
    if (longest === null || segment.endNs - segment.startNs > longest.endNs - longest.startNs) longest = segment;
  }
  return longest;
}

function whyText(segment: Segment): string {
  if (segment.by !== undefined) return ` by ${segment.by}`;
  return segment.reason === undefined || segment.reason === segment.stage ? "" : ` (${segment.reason})`;
}

function clip(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;
}
