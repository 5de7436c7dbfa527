/**
 * One input again: `SOJOURN_FUZZ=<target>:<hex> npx vitest run --project sim tests/fuzz/replay.test.ts`.
 * Without it: every target takes its corpus, and the budgets add up to what CI promises.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CI_INPUTS } from "./budgets.ts";
import { readCorpus } from "./corpus.ts";
import { replay } from "./engine.ts";
import { fromHex } from "./input.ts";
import { allTargets } from "./targets.ts";

const asked = process.env["SOJOURN_FUZZ"] ?? "";
const [askedName, askedHex = ""] = asked.split(":");

describe("replay", () => {
  for (const target of allTargets()) {
    if (asked !== "" && target.name !== askedName) continue;
    const inputs = asked !== "" ? [{ bytes: fromHex(askedHex), why: "asked for" }] : readCorpus(target.name).entries;
    it(`${target.name}: ${inputs.length} inputs`, async () => {
      for (const { bytes } of inputs) expect(typeof (await replay(target, bytes))).toBe("number");
    });
  }

  it("knows the target that was asked for", () => {
    expect(["", ...allTargets().map((target) => target.name)]).toContain(askedName);
  });

  it("runs ten million inputs under CI, each target some", () => {
    const inputs = allTargets().map((target) => CI_INPUTS[target.name] ?? 0);
    expect(Math.min(...inputs)).toBeGreaterThan(0);
    expect(inputs.reduce((sum, n) => sum + n, 0)).toBeGreaterThanOrEqual(10_000_000);
  });

  it("every corpus file belongs to a target", () => {
    const names = new Set(allTargets().map((target) => `${target.name}.txt`));
    expect(readdirSync(join(import.meta.dirname, "corpus")).filter((file) => !names.has(file))).toEqual([]);
  });
});
