/**
 * `sojourn journeys`: the itineraries of requests: a table of the latest, one as a waterfall, or all that come.
 */
import type { Command } from "commander";
import type { Journey } from "../../../src/journey/journey.ts";
import { flowLine, waterfall } from "../../../src/journey/render.ts";
import { getJson, openStream, serverSentEvents } from "../control-client.ts";
import { UsageError } from "../exit-codes.ts";
import { journeyPaint } from "../journey-paint.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { columns, formatNs, json, printable, type Terminal } from "../terminal.ts";
import { parseInteger } from "../values.ts";

const MAX_JOURNEYS = 1000;

interface JourneysOptions extends ReadingOptions {
  readonly last: number;
  readonly id?: number;
  readonly follow?: boolean;
  readonly line?: boolean;
  readonly outcome?: string;
  readonly slower?: string;
  readonly stage?: string;
}

export function journeysCommand(terminal: Terminal): Command {
  return readingCommand("journeys", "itineraries of requests: where each one was, and what it waited for")
    .option("--last <n>", "how many of the latest", (text: string) => parseInteger("--last", text, 1, MAX_JOURNEYS), 10)
    .option("--id <n>", "one journey as a waterfall", (text: string) => parseJourneyId(text))
    .option("--follow", "each journey as it finishes, until Ctrl-C")
    .option("--line", "each journey as one line")
    .option("--outcome <name>", "only ok, refused, reset, timeout, dropped, aborted or in-flight")
    .option("--slower <duration>", "only those whose response took at least this, e.g. 10ms")
    .option("--stage <name>", "only those that spent time in this stage, e.g. accept-queue")
    .action(async (options: JourneysOptions) => {
      if (options.follow) await follow(options, terminal);
      else if (options.id !== undefined) await showOne(options.id, options, terminal);
      else await showLast(options, terminal);
    });
}

async function showOne(id: number, options: JourneysOptions, terminal: Terminal): Promise<void> {
  const journey = await getJson<Journey>(controlOf(options), `/api/journeys/${id}`);
  terminal.out(options.json ? json(journey) : formatOne(journey, options, terminal));
}

async function showLast(options: JourneysOptions, terminal: Terminal): Promise<void> {
  const query = new URLSearchParams({ limit: String(options.last) });
  for (const key of ["outcome", "slower", "stage"] as const) {
    const value = options[key];
    if (value !== undefined) query.set(key, value);
  }
  const journeys = await getJson<Journey[]>(controlOf(options), `/api/journeys?${query}`);
  if (options.json) terminal.out(json(journeys));
  else if (options.line) for (const journey of [...journeys].reverse()) terminal.out(oneLine(journey));
  else terminal.out(formatTable(journeys));
  if (journeys.length === 0 && terminal.isInteractive) terminal.err("(no journey yet: send a request to the site)\n");
}

async function follow(options: JourneysOptions, terminal: Terminal): Promise<void> {
  const stream = await openStream(controlOf(options), "/api/journeys/stream");
  for await (const data of serverSentEvents(stream, "journey")) {
    const journey = JSON.parse(data) as Journey;
    terminal.out(options.json ? json(journey) : formatOne(journey, options, terminal));
  }
}

function formatOne(journey: Journey, options: JourneysOptions, terminal: Terminal): string {
  if (options.line) return oneLine(journey);
  return `${waterfall(journey, { width: Math.min(terminal.width, 120), paint: journeyPaint(terminal) }).trimEnd()}\n\n`;
}

function oneLine(journey: Journey): string {
  return `${flowLine(journey).trimEnd()}\n`;
}

/** The latest first, each with the stage that took longest. */
export function formatTable(journeys: readonly Journey[]): string {
  const rows = journeys.map((journey) => {
    const longest = longestStage(journey);
    const what = journey.request
      ? `${journey.request.method} ${journey.request.target}`
      : `(no request from ${journey.connection.remote})`;
    const status = journey.response ? String(journey.response.status) : "-";
    return [
      String(journey.id),
      journey.outcome,
      status,
      journey.respondedNs === null ? "-" : formatNs(journey.respondedNs),
      formatNs(journey.totalNs),
      longest,
      printable(what),
    ];
  });
  const titles = ["ID", "OUTCOME", "STATUS", "RESPONDED", "TOTAL", "LONGEST", "REQUEST"];
  return columns([titles, ...rows], ["right", "left", "right", "right", "right", "left", "left"]);
}

/** Ids of requests are positive, those of connections that never became one negative. */
function parseJourneyId(text: string): number {
  if (/^-?[1-9][0-9]{0,14}$/.test(text)) return Number(text);
  throw new UsageError(
    `--id: "${text}" is not a journey id`,
    "an id is a whole number",
    "list them with: sojourn journeys",
  );
}

function longestStage(journey: Journey): string {
  const longest = journey.segments.reduce<Journey["segments"][number] | undefined>((best, segment) => {
    return best === undefined || segment.endNs - segment.startNs > best.endNs - best.startNs ? segment : best;
  }, undefined);
  return longest ? `${longest.stage} ${formatNs(longest.endNs - longest.startNs)}` : "-";
}
