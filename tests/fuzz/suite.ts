/**
 * Runs fuzz targets as tests: how many inputs, which seed, and the table at the end.
 */
import { afterAll, describe, expect, it } from "vitest";
import { replayCommand, seedToReplay } from "../support/seeds.ts";
import { inputsFor } from "./budgets.ts";
import { readCorpus } from "./corpus.ts";
import { type FuzzResult, type FuzzTarget, fuzz } from "./engine.ts";

const DEFAULT_SEED = 1;
/** Far off: a machine that is shared is slow. What never ends is the watchdog's. */
const LIMIT_MS = 900_000;

/** A test per target; `SOJOURN_FUZZ_KEEP=1` writes new outcomes into the corpus. */
export function fuzzSuite(title: string, targets: readonly FuzzTarget[]): void {
  const results: FuzzResult[] = [];
  describe(title, () => {
    for (const target of targets) {
      it(target.name, { timeout: LIMIT_MS }, async () => {
        const result = await fuzz(target, {
          seed: seedToReplay() ?? DEFAULT_SEED,
          inputs: inputsFor(target.name),
          corpus: readCorpus(target.name),
          keep: process.env["SOJOURN_FUZZ_KEEP"] === "1",
        });
        results.push(result);
        // A target that can tell nothing apart is not connected to what it tests.
        expect(result.outcomes).toBeGreaterThan(1);
      });
    }
    afterAll(() => console.log(table(title, results)));
  });
}

function table(title: string, results: readonly FuzzResult[]): string {
  const rows = results.map((r) => [
    r.target,
    r.inputs.toLocaleString("en-US"),
    r.parts.toLocaleString("en-US"),
    Math.round(r.inputs / r.cpuSeconds).toLocaleString("en-US"),
    r.outcomes.toLocaleString("en-US"),
    r.found.toLocaleString("en-US"),
  ]);
  const heads = ["target", "inputs", "parts", "inputs/CPU s", "outcomes", "new"];
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i].length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  const seed = results[0]?.seed ?? DEFAULT_SEED;
  return [`fuzz: ${title} (${replayCommand("tests/fuzz", seed)})`, line(heads), ...rows.map(line)].join("\n");
}
