/**
 * `sojourn journeys`: the itineraries of requests: a table of the latest, one as a waterfall, or all that come.
 */
import type { Command } from "commander";
import type { Journey } from "../../../src/journey/journey.ts";
import { ROW_HEADING, renderLine, renderRow, renderWaterfall } from "../../../src/journey/render.ts";
import { UsageError } from "../../control/exit-codes.ts";
import { parseInteger } from "../../control/values.ts";
import { getJson, openStream, serverSentEvents } from "../control-client.ts";
import { journeyPaint, printableJourney } from "../journey-paint.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

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
  else terminal.out(formatTable(journeys, terminal));
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
  const lines = renderWaterfall(printableJourney(journey), journeyPaint(terminal));
  return `${lines.join("\n")}\n\n`;
}

function oneLine(journey: Journey): string {
  return `${renderLine(printableJourney(journey))}\n`;
}

/** The latest first, each with the wait that took longest. */
function formatTable(journeys: readonly Journey[], terminal: Terminal): string {
  const paint = journeyPaint(terminal);
  const rows = journeys.map((journey) => renderRow(printableJourney(journey), paint));
  return [ROW_HEADING, ...rows].map((row) => `${row.trimEnd()}\n`).join("");
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
