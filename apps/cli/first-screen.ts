/**
 * The first screen of `serve`: at most 24 lines that say what this is, where it answers, and where one request's time
 * went.
 */
import type { Journey } from "../../src/journey/journey.ts";
import { renderFlow, renderHeading, renderSegments } from "../../src/journey/render.ts";
import type { ControlServer } from "../control/control-server.ts";
import { VERSION } from "../control/version.ts";
import type { RunningServer } from "../serve/serve-session.ts";
import { journeyPaint, printableJourney } from "./journey-paint.ts";
import { coloursOf, type Terminal } from "./terminal.ts";

const MAX_LINES = 24;
const MAX_COLUMNS = 80;
const NO_JOURNEY = ["(no journey yet: send a request to the site)"];

export interface FirstScreen {
  readonly running: Pick<RunningServer, "siteUrl" | "truthLabel" | "outside">;
  readonly control: Pick<ControlServer, "url" | "token">;
  readonly notes: readonly string[];
  /** The first journey; undefined if none came in time. */
  readonly journey: Journey | undefined;
}

export function firstScreen({ running, control, notes, journey }: FirstScreen, terminal: Terminal): string {
  const colours = coloursOf(terminal);
  const head = [
    colours.bold(`sojourn ${VERSION}`) + ": a server stack in which every request carries its own itinerary",
    `  site     ${colours.cyan(running.siteUrl)}`,
    `  control  ${colours.cyan(`${control.url}/#token=${control.token}`)}`,
    `  try      curl -i ${new URL("/hello", running.siteUrl).href}   then: sojourn journeys`,
    `  truth    ${running.truthLabel}`,
    ...notes.map((note) => `  ${colours.yellow("note")}     ${note}`),
    "",
  ];
  const legend = journey ? `░ waiting  █ working   all of it: sojourn journeys --id ${journey.id}   ` : "";
  const tail = ["", colours.dim(`${legend}Ctrl-C stops.`)];
  const room = MAX_LINES - head.length - tail.length;
  const body = journey ? journeyLines(journey, room, terminal) : (running.outside ?? NO_JOURNEY);
  return [...head, ...body, ...tail].map((line) => `${line}\n`).join("");
}

/** The longest segments, as many as fit, and the flow in and out. */
function journeyLines(journey: Journey, room: number, terminal: Terminal): string[] {
  const shown = printableJourney(journey);
  const paint = journeyPaint(terminal);
  const heading = renderHeading(shown, paint);
  const { request, response } = renderFlow(shown);
  const flow = ["", ...wrapFlow(request), ...wrapFlow(response)];
  const rows = room - heading.length - flow.length;
  const fits = shown.segments.length <= rows;
  return [...heading, ...renderSegments(shown, fits ? rows : Math.max(1, rows - 1), paint), ...flow];
}

/** Breaks a flow after an arrow where the line would pass the last column. */
function wrapFlow(flow: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const step of flow.split(/(?<=→)/)) {
    if (line.length + step.length > MAX_COLUMNS) {
      lines.push(line);
      line = "  ";
    }
    line += step;
  }
  return [...lines, line];
}
