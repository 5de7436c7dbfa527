/**
 * `sojourn goroutines`: what every goroutine of the server waits for, and since when.
 */
import type { Command } from "commander";
import { formatNs } from "../../../src/journey/render.ts";
import type { GoroutineRow } from "../../control/backend.ts";
import { getJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { columns, json, printable, type Terminal } from "../terminal.ts";

export function goroutinesCommand(terminal: Terminal): Command {
  return readingCommand("goroutines", "goroutines of the server: state, what each waits for, its request").action(
    async (options: ReadingOptions) => {
      const rows = await getJson<GoroutineRow[]>(controlOf(options), "/api/goroutines");
      terminal.out(options.json ? json(rows) : formatGoroutines(rows));
    },
  );
}

function formatGoroutines(rows: readonly GoroutineRow[]): string {
  const cells = rows.map((row) => {
    const request = row.requestId === 0 ? "-" : `#${row.requestId}`;
    return [
      String(row.id),
      row.state,
      formatNs(row.forNs),
      request,
      printable(row.parkedOn || "-"),
      printable(row.name),
    ];
  });
  const titles = ["GID", "STATE", "FOR", "REQUEST", "WAITS FOR", "NAME"];
  return columns([titles, ...cells], ["right", "left", "right", "left", "left", "left"]);
}
