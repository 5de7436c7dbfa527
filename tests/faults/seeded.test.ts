/**
 * Faults by seed: each seed draws cables, faults, connections and datagrams, and nothing may go wrong but what the
 * frames say had to. See `seeded-run.ts` for what is checked.
 *
 * 150 seeds here, 1,000 under CI, 10,000 with SOJOURN_NIGHTLY=1; SOJOURN_SEED=42 repeats one. A seed that fails leaves
 * a capture and its journeys in a temporary directory, which the message names.
 */
import { expect, it } from "vitest";
import { SECOND } from "../../src/base/time.ts";
import { restingHeapBytes } from "../support/heap.ts";
import { seedToReplay } from "../support/seeds.ts";
import { explain } from "./evidence.ts";
import { RunMemory, type RunResult, runSeed } from "./seeded-run.ts";

const FILE = "tests/faults/seeded.test.ts";
const NIGHTLY_SEEDS = 10_000;
const CI_SEEDS = 1000;
const DEFAULT_SEEDS = 150;
/** Failing seeds that are explained before the suite stops. */
const EXPLAINED_MAX = 5;
/** Every so many seeds are run twice. */
const TWICE_EVERY = 50;
/** What the heap may grow by from the first part of the runs to the end: compiled code, no run's remains. */
const HEAP_GROWTH_BYTES = 8 << 20;

function seedCount(): number {
  const { SOJOURN_NIGHTLY, CI } = process.env;
  return SOJOURN_NIGHTLY ? NIGHTLY_SEEDS : CI ? CI_SEEDS : DEFAULT_SEEDS;
}

function seedsToRun(): readonly number[] {
  const one = seedToReplay();
  return one === null ? Array.from({ length: seedCount() }, (_, seed) => seed) : [one];
}

/** Sums over runs, for the summary. */
class Totals {
  runs = 0;
  connections = 0;
  frames = 0;
  lostFrames = 0;
  datagrams = 0;
  timeouts = 0;
  timeoutRuns = 0;
  abandoned = 0;
  virtualNs = 0;

  add(result: RunResult): void {
    this.runs++;
    this.connections += result.connections;
    this.frames += result.frames;
    this.lostFrames += result.lostFrames;
    this.datagrams += result.datagrams.received;
    this.timeouts += result.timeouts;
    if (result.timeouts > 0) this.timeoutRuns++;
    this.abandoned += result.abandoned;
    this.virtualNs += result.virtualNs;
  }

  /** `cpuSeconds` of this process. */
  report(cpuSeconds: number): string {
    const rate = (n: number): string => Math.round(n / cpuSeconds).toLocaleString("en");
    return [
      `${this.runs} seeds, ${this.connections} connections, ${this.datagrams} datagrams,`,
      `${this.frames} frames of which ${this.lostFrames} were lost, ${Math.round(this.virtualNs / SECOND)} s of virtual time`,
      `${this.timeouts} connection ends in ${this.timeoutRuns} runs timed out, each when the frames say it had to;`,
      `${this.abandoned} ends were reset after a peer that nobody could hear any more`,
      `[figure] ${rate(this.runs)} runs/s, ${rate(this.frames)} simulated frames/s of CPU time`,
    ].join("\n");
  }
}

it("no seed finds a fault", { timeout: 3_600_000 }, async () => {
  let memory = new RunMemory();
  const totals = new Totals();
  const explained: string[] = [];
  const seeds = seedsToRun();
  const startCpu = process.cpuUsage();
  let heapBytes = 0;
  for (const seed of seeds) {
    const result = await runSeed(seed, memory);
    totals.add(result);
    if (result.faults.length > 0) {
      // A run that broke off may have left something behind.
      memory = new RunMemory();
      explained.push(await explain(result, FILE));
    }
    if (explained.length === EXPLAINED_MAX) break;
    if (totals.runs === Math.ceil(seeds.length / 4)) heapBytes = await restingHeapBytes();
  }
  const grownBytes = (await restingHeapBytes()) - heapBytes;
  const { user, system } = process.cpuUsage(startCpu);
  console.log(totals.report((user + system) / 1e6));
  expect(explained.join("\n"), explained.join("\n")).toBe("");
  expect(memory.arena.outstanding).toBe(0);
  expect(grownBytes).toBeLessThan(HEAP_GROWTH_BYTES);
});

it("the same seed twice gives the same frames at the same nanoseconds", { timeout: 600_000 }, async () => {
  const memory = new RunMemory();
  const hashes = new Set<string>();
  const count = Math.ceil(seedCount() / TWICE_EVERY);
  for (let i = 0; i < count; i++) {
    const seed = i * TWICE_EVERY + 7;
    const { hash } = await runSeed(seed, memory);
    const again = await runSeed(seed, new RunMemory());
    expect(again.hash, `seed ${seed}`).toBe(hash);
    hashes.add(hash);
  }
  expect(hashes.size).toBe(count);
});
