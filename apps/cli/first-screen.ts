/**
 * The first screen of `serve`: at most 24 lines that say what this is, where it answers, and where one request's time
 * went.
 */
import type { Journey } from "../../src/journey/journey.ts";
import { renderFlow, renderWaterfall } from "../../src/journey/render.ts";
import type { ControlServer } from "./control-server.ts";
import { journeyPaint, printableJourney } from "./journey-paint.ts";
import type { RunningServer } from "./serve-session.ts";
import { coloursOf, type Terminal } from "./terminal.ts";
import { VERSION } from "./version.ts";

const MAX_LINES = 24;

export interface FirstScreen {
  readonly running: Pick<RunningServer, "siteUrl" | "truthLabel">;
  readonly control: Pick<ControlServer, "url" | "token">;
  readonly notes: readonly string[];
  /** The first journey; undefined if none came in time. */
  readonly journey: Journey | undefined;
}

export function firstScreen({ running, control, notes, journey }: FirstScreen, terminal: Terminal): string {
  const colours = coloursOf(terminal);
  const head = [
    colours.bold(`sojourn ${VERSION}`) + ": a network server stack in which every request carries its own itinerary",
    `  site     ${colours.cyan(running.siteUrl)}`,
    `  control  ${colours.cyan(`${control.url}/#token=${control.token}`)}`,
    `  try      curl -i ${new URL("/hello", running.siteUrl).href}   then: sojourn journeys`,
    `  truth    ${running.truthLabel}`,
    ...notes.map((note) => `  ${colours.yellow("note")}     ${note}`),
    "",
  ];
  const tail = ["", colours.dim("Ctrl-C stops.")];
  const room = MAX_LINES - head.length - tail.length;
  const body = journey ? journeyLines(journey, room, terminal) : ["(no journey yet: send a request to the site)"];
  return [...head, ...body, ...tail].map((line) => `${line}\n`).join("");
}

/** The waterfall, cut to what fits, and the flow in and out. */
function journeyLines(journey: Journey, room: number, terminal: Terminal): string[] {
  const lines = renderWaterfall(printableJourney(journey), journeyPaint(terminal));
  const { request, response } = renderFlow(journey);
  const flow = ["", request, response];
  const most = room - flow.length;
  if (lines.length <= most) return [...lines, ...flow];
  const hidden = lines.length - most + 1;
  return [...lines.slice(0, most - 1), `  … ${hidden} more lines: sojourn journeys --id ${journey.id}`, ...flow];
}
