/**
 * Colours of a journey on a terminal: one per stage group, dim for waits. Colour repeats what the text already says.
 */
import type { StageGroup, StageKind } from "../../src/base/stages.ts";
import { coloursOf, type Terminal } from "./terminal.ts";

/** Paints `text`, a part of a journey's picture; returns it unchanged where there is no colour. */
export type Paint = (text: string, group: StageGroup, kind: StageKind) => string;

export function journeyPaint(terminal: Terminal): Paint {
  const colours = coloursOf(terminal);
  const byGroup: Readonly<Record<StageGroup, (text: string) => string>> = {
    network: colours.gray,
    accept: colours.yellow,
    read: colours.cyan,
    decrypt: colours.magenta,
    parse: colours.green,
    decode: colours.green,
    process: colours.red,
    respond: colours.blue,
  };
  return (text, group, kind) => (kind === "wait" ? colours.dim(byGroup[group](text)) : byGroup[group](text));
}
