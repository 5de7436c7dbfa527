/**
 * The fuzz engine: seeds, mutations, novelty, and what is said about a find. A run is a pure function of its seed and
 * the corpus: no clock and no randomness but its own decide what is tried.
 *
 *   corpus + seeds ──► pool ──► pick, mutate, repair ──► run ──┬─ new outcome ──► pool
 *                       ▲                                      └─ throws ──► shrink ──► FuzzFailure
 *                       └──────────────────────────────────────────┘
 *
 * A target's outcome is a number that says what happened (a drop reason, the counters that moved, the states reached):
 * the cheap cousin of branch coverage. An input with an outcome nobody saw before joins the pool.
 */
import { Prng } from "../../src/base/prng.ts";
import { type Corpus, keepInCorpus } from "./corpus.ts";
import { Draft, Exact, toHex } from "./input.ts";
import { type Field, mutate, pick } from "./mutations.ts";
import { Watchdog } from "./watchdog.ts";

/** Something that eats bytes. */
export interface FuzzTarget {
  /** In kebab-case; names the corpus file and the replay. */
  readonly name: string;
  /** Longest input. */
  readonly maxBytes: number;
  /** Valid inputs, made anew at every start. */
  seeds(): readonly Uint8Array[];
  /** Numbers of the format that are worth a lie. */
  readonly fields?: readonly Field[];
  /** Its own mutation, for inputs that are a list of things; false: do a bytewise one. */
  mutate?(draft: Draft, prng: Prng, other: Uint8Array): boolean;
  /** Puts a changed input right again, sometimes: checksums, so that it comes past them. */
  repair?(draft: Draft, prng: Prng): void;
  /** Starts over with a clean world: after a find the present one may be broken. */
  reset?(): void;
  /** Of what its inputs so far were made: frames, fragments. Without it, of themselves. */
  parts?(): number;
  /** Eats one input; throws if an oracle is broken. Returns its outcome. */
  run(input: Exact): number | Promise<number>;
}

/** What a run has done: one row of the table. */
export interface FuzzResult {
  readonly target: string;
  readonly seed: number;
  readonly inputs: number;
  /** Frames, fragments: what the inputs were made of. */
  readonly parts: number;
  /** Of CPU: others may use the machine too. */
  readonly cpuSeconds: number;
  /** Different outcomes. */
  readonly outcomes: number;
  /** Inputs of this run with an outcome that the seeds and the corpus did not have. */
  readonly found: number;
}

export interface FuzzOptions {
  readonly seed: number;
  readonly inputs: number;
  readonly corpus: Corpus;
  /** Writes inputs with new outcomes into the corpus. */
  readonly keep?: boolean;
}

/** A find: which input, why, and how to see it again. */
export class FuzzFailure extends Error {
  override readonly name = "FuzzFailure";
}

/** Inputs with new outcomes kept in memory; the oldest of the found ones gives way. */
const MAX_POOL = 2048;
/** One input in so many is run as it is in the pool. */
const UNCHANGED_EVERY = 64;
/** Runs that shrinking a find may take. */
const MAX_SHRINK_RUNS = 2000;

/** Runs `target` over its corpus, its seeds, and then `inputs` mutations. Throws `FuzzFailure` at the first find. */
export async function fuzz(target: FuzzTarget, options: FuzzOptions): Promise<FuzzResult> {
  const run = new FuzzRun(target, options);
  const before = process.cpuUsage();
  try {
    await run.learn();
    await run.explore();
  } finally {
    await run.stop();
  }
  const { user, system } = process.cpuUsage(before);
  return run.result((user + system) / 1e6);
}

/** Runs one input in a clean world; throws what the target throws. */
export async function replay(target: FuzzTarget, bytes: Uint8Array): Promise<number> {
  const draft = new Draft(target.maxBytes);
  draft.load(bytes);
  const exact = Exact.table(target.maxBytes)[draft.len];
  exact.load(draft);
  target.reset?.();
  return target.run(exact);
}

class FuzzRun {
  private readonly target: FuzzTarget;
  private readonly options: FuzzOptions;
  private readonly draft: Draft;
  private readonly watchdog: Watchdog;
  private readonly exact: readonly Exact[];
  private readonly pool: Uint8Array[] = [];
  private readonly outcomes = new Set<number>();
  /** Pool entries that came with the target: they never give way. */
  private givenInputs = 0;
  private inputs = 0;
  private found = 0;

  constructor(target: FuzzTarget, options: FuzzOptions) {
    this.target = target;
    this.options = options;
    this.draft = new Draft(target.maxBytes);
    this.watchdog = new Watchdog(target.name, this.draft);
    this.exact = Exact.table(target.maxBytes);
  }

  stop(): Promise<void> {
    return this.watchdog.stop();
  }

  /** Corpus and seeds: every one must pass. */
  async learn(): Promise<void> {
    const { target, options } = this;
    for (const bytes of [...options.corpus.entries.map((entry) => entry.bytes), ...target.seeds()]) {
      this.draft.load(bytes);
      this.outcomes.add(await this.runDraft());
      this.pool.push(this.draft.toBytes());
    }
    this.givenInputs = this.pool.length;
  }

  async explore(): Promise<void> {
    const { target, options, draft, pool, outcomes } = this;
    const prng = new Prng(options.seed);
    const fields = target.fields ?? [];
    while (this.inputs < options.inputs) {
      draft.load(pool[pick(prng, pool.length)]);
      if (pick(prng, UNCHANGED_EVERY) !== 0) {
        const other = pool[pick(prng, pool.length)];
        if (!target.mutate?.(draft, prng, other)) mutate(draft, prng, fields, other);
        target.repair?.(draft, prng);
      }
      const ran = this.runDraft();
      const outcome = typeof ran === "number" ? ran : await ran;
      if (outcomes.has(outcome)) continue;
      outcomes.add(outcome);
      this.remember();
    }
  }

  result(cpuSeconds: number): FuzzResult {
    const { target, options, inputs, outcomes, found } = this;
    const parts = target.parts?.() ?? inputs;
    return { target: target.name, seed: options.seed, inputs, parts, cpuSeconds, outcomes: outcomes.size, found };
  }

  private remember(): void {
    const { pool, target, options } = this;
    this.found++;
    const bytes = this.draft.toBytes();
    if (options.keep) keepInCorpus(target.name, bytes, "a new outcome");
    if (pool.length < MAX_POOL) pool.push(bytes);
    else pool[this.givenInputs + (this.found % (MAX_POOL - this.givenInputs))] = bytes;
  }

  /** Synchronous targets stay synchronous: a promise per input would cost more than most inputs. */
  private runDraft(): number | Promise<number> {
    this.inputs++;
    this.watchdog.next(this.draft.len);
    const exact = this.exact[this.draft.len];
    exact.load(this.draft);
    try {
      const outcome = this.target.run(exact);
      return typeof outcome === "number" ? outcome : outcome.catch((error) => this.fail(error));
    } catch (error) {
      if (error instanceof FuzzFailure) throw error;
      return this.fail(error);
    }
  }

  private async fail(error: unknown): Promise<never> {
    const bytes = this.draft.toBytes();
    const small = await this.shrink(bytes, kindOf(error));
    const hex = toHex(small ?? bytes);
    const { target, options, inputs } = this;
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new FuzzFailure(
      [
        `${target.name}: input ${inputs} of seed ${options.seed} breaks an oracle`,
        small === null ? "it passes on its own: repeat the run with its seed" : `shrunk from ${bytes.length} bytes`,
        `input: ${hex}`,
        `replay: SOJOURN_FUZZ=${target.name}:${hex} npx vitest run --project sim tests/fuzz/replay.test.ts`,
        `repeat: SOJOURN_SEED=${options.seed} SOJOURN_FUZZ_INPUTS=${inputs} npx vitest run --project sim tests/fuzz`,
        stack,
      ].join("\n"),
    );
  }

  /** The smallest input found that fails in the same way; null if the input does not fail on its own. */
  private async shrink(bytes: Uint8Array, kind: string): Promise<Uint8Array | null> {
    let runs = 0;
    const fails = async (candidate: Uint8Array): Promise<boolean> => {
      runs++;
      try {
        this.draft.load(candidate);
        this.watchdog.next(candidate.length);
        await replay(this.target, candidate);
        return false;
      } catch (error) {
        return kindOf(error) === kind;
      }
    };
    if (!(await fails(bytes))) return null;
    let small = bytes;
    for (let chunk = small.length >>> 1; chunk > 0; chunk >>>= 1) {
      for (let at = 0; at + chunk <= small.length && runs < MAX_SHRINK_RUNS; ) {
        const shorter = new Uint8Array(small.length - chunk);
        shorter.set(small.subarray(0, at));
        shorter.set(small.subarray(at + chunk), at);
        if (await fails(shorter)) small = shorter;
        else at += chunk;
      }
    }
    return small;
  }
}

/** What two failures have in common if they are the same bug: the message without its numbers. */
function kindOf(error: unknown): string {
  return error instanceof Error
    ? `${error.name} ${error.message.split("\n")[0].replaceAll(/\d+/g, "#")}`
    : String(error);
}
