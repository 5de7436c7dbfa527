/** How many seeded runs a suite makes, and how one is repeated. */

/** What `npm run check` runs, which must be quick; what everything else does; and what CI does. */
const CHECK_SEEDS = 70;
const DEFAULT_SEEDS = 210;
const CI_SEEDS = 840;

/** Runs of the blame suite: `SOJOURN_SEEDS`, else 840 under CI, 70 under `npm run check` and 210 elsewhere. */
export function seedCount(): number {
  const { SOJOURN_SEEDS, CI, npm_lifecycle_event: script } = process.env;
  const asked = Number(SOJOURN_SEEDS);
  if (asked > 0) return Math.ceil(asked);
  if (CI) return CI_SEEDS;
  return script === "check" ? CHECK_SEEDS : DEFAULT_SEEDS;
}

/** The one seed to repeat (`SOJOURN_SEED=42`), or null. */
export function seedToReplay(): number | null {
  const text = process.env["SOJOURN_SEED"];
  return text === undefined || text === "" ? null : Number(text);
}

/** The command that repeats `seed` and shows all there is to see. */
export function replayCommand(file: string, seed: number): string {
  return `SOJOURN_SEED=${seed} npx vitest run --project sim ${file}`;
}
