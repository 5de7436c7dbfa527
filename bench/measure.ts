/**
 * How things are measured here (docs/performance.md): CPU time of the process, warm-up, alternating rounds, and the
 * median, the best and the spread of the rounds. Never the mean, never one run.
 */

/** One thing to measure: `run` does some work once and says how much it was. */
export interface Case {
  readonly name: string;
  /** Does one round; returns units of work done. */
  run(): Promise<number>;
}

export interface Figure {
  readonly name: string;
  readonly rounds: number;
  /** Units per CPU second. */
  readonly median: number;
  readonly best: number;
  /** Distance of the quartiles, in percent of the median. */
  readonly spreadPercent: number;
  /** Units per second of wall time, median. */
  readonly perWallSecond: number;
  /** Share of garbage collection cannot be told apart: it is in the CPU time. */
  readonly cpuSeconds: readonly number[];
}

/** CPU seconds of all threads of this process, user and system. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Every case `warmUps` times, then `rounds` times in turn: A B C, C B A, A B C … */
export async function measure(cases: readonly Case[], rounds: number, warmUps: number): Promise<Figure[]> {
  const samples = cases.map((): Sample[] => []);
  for (let i = 0; i < warmUps; i++) for (const each of cases) await each.run();
  for (let round = 0; round < rounds; round++) {
    const order = cases.map((_, i) => (round % 2 === 0 ? i : cases.length - 1 - i));
    for (const i of order) (samples[i] as Sample[]).push(await sample(cases[i] as Case));
  }
  return cases.map((each, i) => figure(each.name, samples[i] as Sample[]));
}

interface Sample {
  readonly perCpuSecond: number;
  readonly perWallSecond: number;
  readonly cpuSeconds: number;
}

async function sample(each: Case): Promise<Sample> {
  const wall = process.hrtime.bigint();
  const cpu = cpuSeconds();
  const units = await each.run();
  const seconds = cpuSeconds() - cpu;
  const wallSeconds = Number(process.hrtime.bigint() - wall) / 1e9;
  return { perCpuSecond: units / seconds, perWallSecond: units / wallSeconds, cpuSeconds: seconds };
}

function figure(name: string, samples: readonly Sample[]): Figure {
  const rates = samples.map((s) => s.perCpuSecond);
  const median = quantile(rates, 0.5);
  return {
    name,
    rounds: samples.length,
    median,
    best: Math.max(...rates),
    spreadPercent: ((quantile(rates, 0.75) - quantile(rates, 0.25)) / median) * 100,
    perWallSecond: quantile(
      samples.map((s) => s.perWallSecond),
      0.5,
    ),
    cpuSeconds: samples.map((s) => s.cpuSeconds),
  };
}

/** Linear interpolation between the two nearest values. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = sorted[Math.floor(at)] as number;
  const above = sorted[Math.ceil(at)] as number;
  return below + (above - below) * (at - Math.floor(at));
}
