/**
 * `sojourn goroutines`: what every goroutine of the server waits for, and since when.
 */
import type { Command } from "commander";
import type { GoroutineRow, Info } from "../backend.ts";
import { getJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { columns, json, printable, type Terminal } from "../terminal.ts";

export function goroutinesCommand(terminal: Terminal): Command {
  return readingCommand("goroutines", "goroutines of the server: state, what each waits for, its request").action(
    async (options: ReadingOptions) => {
      const control = controlOf(options);
      const rows = await getJson<GoroutineRow[]>(control, "/api/goroutines");
      const { originUnixNs } = await getJson<Info>(control, "/api/info");
      const nowNs = Date.now() * 1e6 - Number(originUnixNs);
      terminal.out(options.json ? json(rows) : formatGoroutines(rows, nowNs));
    },
  );
}

/** `nowNs` on the server's clock tells for how long. */
export function formatGoroutines(rows: readonly GoroutineRow[], nowNs: number): string {
  const cells = rows.map((row) => {
    const seconds = Math.max(0, (nowNs - row.sinceNs) / 1e9);
    const request = row.requestId === 0 ? "-" : `#${row.requestId}`;
    return [
      String(row.id),
      row.state,
      `${seconds.toFixed(3)} s`,
      request,
      printable(row.parkedOn || "-"),
      printable(row.name),
    ];
  });
  const titles = ["GID", "STATE", "FOR", "REQUEST", "WAITS FOR", "NAME"];
  return columns([titles, ...cells], ["right", "left", "right", "left", "left", "left"]);
}
