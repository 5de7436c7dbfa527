/**
 * Blame: in each seeded run one thing goes wrong, and the journey of its victim must name the stage, the reason and the
 * culprit, for as long as it truly lasted.
 *
 * The truth comes from the frames on the server's cable (`truth.ts`), never from a recorder. A seed is repeated, with
 * its journey and its frames, by `SOJOURN_SEED=42 npx vitest run --project sim tests/sim/blame.test.ts`.
 */
import { expect, it } from "vitest";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { Journey } from "../../src/journey/journey.ts";
import { renderWaterfall } from "../../src/journey/render.ts";
import { judge, play, type Scenario, scenarioOf } from "../../src/sim/scenario.ts";
import { breaches } from "../support/journey-contract.ts";
import { replayCommand, seedCount, seedToReplay } from "../support/seeds.ts";
import { ArenaShelf, SERVER_PORT, SimBench, World } from "../support/sim-bench.ts";
import { knownLostTruth, truthOf } from "../support/truth.ts";
import { describe as describeFrames, WireWitness } from "../support/wire-witness.ts";

const FILE = "tests/sim/blame.test.ts";
/** An error is at most this, or this part of the truth. */
const ERROR_NS: Ns = MILLISECOND;
const ERROR_PART = 0.05;
/** Wrong verdicts in a hundred. */
const WRONG_MAX_PART = 0.01;
const LIMIT_NS: Ns = 1000 * SECOND;

interface Run {
  readonly scenario: Scenario;
  /** "" if the journey was right: what was expected and what it said instead. */
  readonly wrong: string;
  readonly truthNs: Ns;
  readonly blamedNs: Ns;
  /** Breaches of the contract by any journey of the run. */
  readonly breaches: readonly string[];
}

/** Packet memory for all runs, one after the other. */
const shelf = new ArenaShelf();

async function runSeed(seed: number, isShown = false): Promise<Run> {
  const scenario = scenarioOf(seed);
  const world = await World.open({ seed, delayNs: scenario.delayNs, conservation: true, shelf });
  try {
    const witness = new WireWitness(world.link("server-link"), SERVER_PORT);
    const bench = new SimBench(world);
    await world.sim.run(play(scenario, bench), world.sim.nowNs + LIMIT_NS);
    const journeys = bench.journeys();
    const { ok, why, blamedNs } = judge(scenario, journeys);
    const truthNs = truthOf(scenario, witness, bench.log);
    const victim = journeys.find((j) => j.request?.target === scenario.victim);
    const lostNs = knownLostTruth(scenario, witness);
    let wrong = why;
    if (ok) wrong = apart("in all", blamedNs, truthNs);
    if (wrong === "" && lostNs !== null) wrong = apart("retransmission", timeIn(victim, "retransmission"), lostNs);
    if (ok && wrong !== "") wrong = `seed ${seed} (${scenario.injection.kind}): ${wrong}`;
    if (isShown) {
      const text = victim === undefined ? ["no journey of the victim"] : renderWaterfall(victim);
      console.log([JSON.stringify(scenario), ...text, describeFrames(witness.atServer)].join("\n"));
    }
    await world.expectNothingLeft();
    const known = new Set(world.journeys().map((j) => j.id));
    return { scenario, wrong, truthNs, blamedNs, breaches: world.journeys().flatMap((j) => breaches(j, known)) };
  } finally {
    world.close();
  }
}

/** "" if they are close enough. */
function apart(what: string, blamedNs: Ns, truthNs: Ns): string {
  if (Math.abs(blamedNs - truthNs) <= Math.max(ERROR_NS, ERROR_PART * truthNs)) return "";
  return `${what}: the journey says ${blamedNs} ns, the wire saw ${truthNs} ns`;
}

function timeIn(journey: Journey | undefined, stage: string): Ns {
  const segments = journey?.segments.filter((segment) => segment.stage === stage) ?? [];
  return segments.reduce((sum, segment) => sum + segment.endNs - segment.startNs, 0);
}

async function runAll(seeds: readonly number[]): Promise<Run[]> {
  const runs: Run[] = [];
  for (const seed of seeds) {
    try {
      runs.push(await runSeed(seed, seeds.length === 1));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}\n${replayCommand(FILE, seed)}`, { cause: error });
    }
  }
  return runs;
}

/** One line per kind: runs, wrong ones, the largest error. */
function table(runs: readonly Run[]): string {
  const rows = new Map<string, { runs: number; wrong: number; errorNs: Ns }>();
  for (const { scenario, wrong, truthNs, blamedNs } of runs) {
    const row = rows.get(scenario.injection.kind) ?? { runs: 0, wrong: 0, errorNs: 0 };
    row.runs++;
    if (wrong !== "") row.wrong++;
    else row.errorNs = Math.max(row.errorNs, Math.abs(blamedNs - truthNs));
    rows.set(scenario.injection.kind, row);
  }
  return [...rows]
    .map(([kind, r]) => `  ${kind.padEnd(13)} ${r.runs} runs, ${r.wrong} wrong, error ≤ ${r.errorNs / 1000} µs`)
    .join("\n");
}

it("journeys blame what was injected: right stage, reason and culprit", { timeout: 120_000 }, async () => {
  const one = seedToReplay();
  const seeds = one === null ? Array.from({ length: seedCount() }, (_, seed) => seed) : [one];
  const runs = await runAll(seeds);
  const wrong = runs.filter((run) => run.wrong !== "");
  const right = `${runs.length - wrong.length} of ${runs.length} seeds right`;
  const list = wrong.map((run) => `${run.wrong}\n  ${replayCommand(FILE, run.scenario.seed)}`).join("\n");
  console.log(`${right}\n${table(runs)}${list === "" ? "" : `\n${list}`}`);
  expect(runs.flatMap((run) => run.breaches)).toEqual([]);
  expect(wrong.length, `${right}\n${list}`).toBeLessThanOrEqual(runs.length * WRONG_MAX_PART);
});
