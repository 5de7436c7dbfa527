/**
 * The fault checklist every stack of ours must pass (reference: performance.md §9) on a bench of some kind:
 *
 *   describe("on a memory link", () => playChecklist(MEMORY_BENCH));
 */
import { it } from "vitest";
import type { FaultBenchKind } from "./fault-bench.ts";
import type { FaultRow } from "./fault-play.ts";
import { NUMBERED_ROWS } from "./fault-rows.ts";
import { EXTENSION_ROWS } from "./fault-rows-extended.ts";

/** One test per row, in the present `describe`. Rows the kind cannot play are skipped, each with its reason. */
export function playChecklist(kind: FaultBenchKind): void {
  playRows(kind, [...NUMBERED_ROWS, ...EXTENSION_ROWS]);
}

/** The same for `rows`. */
export function playRows(kind: FaultBenchKind, rows: readonly FaultRow[]): void {
  for (const row of rows) {
    const options = row.timeoutMs === undefined ? {} : { timeout: row.timeoutMs };
    it.skipIf(isBeyond(kind, row))(`${row.number}. ${row.text}`, options, () => playRow(kind, row));
  }
}

/** How often a row is played that fails while the bench has an excuse. */
const ATTEMPTS = 3;

async function playRow(kind: FaultBenchKind, row: FaultRow): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const bench = await kind.open(row.options ?? {});
    try {
      await bench.run(row.play(bench));
    } catch (error) {
      const { excuse } = bench;
      // A row that failed leaves promises behind; its own failure is the one to show.
      await bench.close().catch(() => {});
      if (excuse === undefined || attempt === ATTEMPTS) throw error;
      process.stderr.write(`${kind.name}, row ${row.number} failed, but ${excuse}: it is played again\n`);
      continue;
    }
    return bench.close();
  }
}

function isBeyond(kind: FaultBenchKind, row: FaultRow): boolean {
  const reasons = (row.needs ?? []).flatMap((verb) => (kind.cannot[verb] ? [`${verb}: ${kind.cannot[verb]}`] : []));
  if (reasons.length > 0) process.stderr.write(`SKIPPED: ${kind.name}, row ${row.number}: ${reasons.join("; ")}\n`);
  return reasons.length > 0;
}
