/** How many seeded runs a suite makes, and how one is repeated. */

/** What `npm run check` and `npm test` run, and what CI does. */
const DEFAULT_SEEDS = 210;
const CI_SEEDS = 840;

/** Runs of the blame suite: `SOJOURN_SEEDS`, else 840 under CI and 210 elsewhere. */
export function seedCount(): number {
  const asked = Number(process.env["SOJOURN_SEEDS"]);
  if (asked > 0) return Math.ceil(asked);
  return process.env["CI"] ? CI_SEEDS : DEFAULT_SEEDS;
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
