/**
 * Journeys on a terminal: the colours of `journey/render.ts`, and text from outside made harmless.
 */
import type { Journey } from "../../src/journey/journey.ts";
import type { Paint, Style } from "../../src/journey/render.ts";
import { coloursOf, printable, type Terminal } from "./terminal.ts";

export function journeyPaint(terminal: Terminal): Paint {
  const colours = coloursOf(terminal);
  const byStyle: Readonly<Record<Style, (text: string) => string>> = {
    wait: colours.yellow,
    work: colours.green,
    dim: colours.dim,
    strong: colours.bold,
    good: colours.green,
    bad: colours.red,
  };
  return (style, text) => byStyle[style](text);
}

/** The journey with control characters of its request shown as \xNN: they would drive the terminal. */
export function printableJourney(journey: Journey): Journey {
  if (journey.request === null) return journey;
  const { method, target } = journey.request;
  return { ...journey, request: { ...journey.request, method: printable(method), target: printable(target) } };
}
