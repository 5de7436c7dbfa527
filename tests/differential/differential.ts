/**
 * Rows of a differential test: a program, run on the kernel and on our stack, must give the same results and move the same
 * counters. All programs of a file run on the kernel at once, before its tests.
 *
 * What is known to differ is part of the row and asserted on both sides, so that it fails when either side changes; each
 * such difference has its reason in docs/linux-differences.md.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { errnoName } from "../../src/base/errno.ts";
import { MIB_NAMES } from "../../src/base/mib.ts";
import { requires } from "../support/requires.ts";
import { type Result, type Run, runOurs } from "./ours.ts";
import type { Program, Step } from "./program.ts";

/** One documented difference: of a counter, or of the lines that contain a text. */
export interface Difference {
  /** Heading in docs/linux-differences.md. */
  readonly why: string;
  readonly counters?: Readonly<Record<string, readonly [linux: number, ours: number]>>;
  /** Line number (from 1) → results as they are printed. */
  readonly lines?: Readonly<Record<number, readonly [linux: string, ours: string]>>;
}

export interface Row {
  readonly name: string;
  readonly program: Program;
  readonly differs?: readonly Difference[];
  /** Counters that are not compared in this row, each with the reason. */
  readonly ignore?: Readonly<Record<string, string>>;
  /** Expectations about the kernel's own run: they keep a row from comparing nothing with nothing. */
  readonly expects?: Readonly<Record<string, number>>;
}

/** How far the times of an `until` may be apart: a tick of 4 ms (HZ=250), twice, and a busy machine. */
const TOLERANCE_MS = 25;

const NEEDS = ["python3", "ip", "ss", "netns"] as const;
const SCRIPT = join(import.meta.dirname, "kernel.py");

/** A group of rows in one test file. */
export function differential(title: string, rows: readonly Row[]): void {
  describe.skipIf(requires(...NEEDS))(title, () => {
    let kernel: Record<string, Run & { error: string | null }> = {};
    beforeAll(async () => {
      kernel = await runKernel(Object.fromEntries(rows.map((row) => [row.name, row.program.steps])));
    }, 40_000);

    it.each(rows.map((row) => [row.name, row] as const))("%s", (_name, row) => {
      const linux = kernel[row.name];
      if (linux.error !== null) throw new Error(`kernel.py: ${linux.error}`);
      check(row, linux, runOurs(row.program.steps));
    });
  });
}

function check(row: Row, linux: Run, ours: Run): void {
  const { steps } = row.program;
  const differs = row.differs ?? [];
  const linuxLines = linesOf(steps, linux);
  const ourLines = linesOf(steps, ours);
  for (const [number, [theirs, mine]] of differs.flatMap((d) => Object.entries(d.lines ?? {}))) {
    const at = Number(number) - 1;
    expect([linuxLines[at], ourLines[at]]).toEqual([theirs, mine].map((value) => `${start(steps[at], at)} = ${value}`));
    linuxLines[at] = ourLines[at] = "differs as documented";
  }
  const linuxCounters = countersOf(linux, row);
  const ourCounters = countersOf(ours, row);
  for (const [name, both] of differs.flatMap((d) => Object.entries(d.counters ?? {}))) {
    expect([name, linuxCounters[name] ?? 0, ourCounters[name] ?? 0]).toEqual([name, ...both]);
    delete linuxCounters[name];
    delete ourCounters[name];
  }
  expect({ lines: ourLines, counters: ourCounters }).toEqual({ lines: linuxLines, counters: linuxCounters });
  for (const [i, step] of steps.entries()) if (step[0] === "until") checkTime(step, linux.results[i], ours.results[i]);
  for (const [name, value] of Object.entries(row.expects ?? {})) {
    expect([name, linux.counters[name]]).toEqual([name, value]);
  }
}

function checkTime(step: Step, linux: Result, ours: Result): void {
  const [linuxMs, ourMs] = [linux, ours].map((result) => (result as number[])[1]);
  const apart = Math.abs(linuxMs - ourMs);
  expect(apart, `${step.join(" ")}: Linux ${linuxMs.toFixed(1)} ms, ours ${ourMs.toFixed(1)} ms`).toBeLessThan(
    TOLERANCE_MS,
  );
}

/** What happened, one line per call as strace shows it: a difference is easy to see. */
function linesOf(steps: readonly Step[], run: Run): string[] {
  return steps.map((step, i) => `${start(step, i)} = ${format(step[0] === "until" ? readyOf(run, i) : run.results[i])}`);
}

function start([call, ...args]: Step, i: number): string {
  return `${i + 1}: ${call}(${args.join(", ")})`;
}

/** The events of an `until`, without the time. */
function readyOf(run: Run, i: number): Result {
  return (run.results[i] as Result[])[0];
}

function format(result: Result): string {
  if (typeof result === "number") return result < 0 ? errnoName(result) : String(result);
  return typeof result === "string" ? JSON.stringify(result) : `[${result.map(format).join(", ")}]`;
}

/**
 * Counters that moved, without those that cannot be compared: the constants of the host, and what a kernel newer or older
 * than our table has.
 */
function countersOf(run: Run, row: Row): Record<string, number> {
  const compared = MIB_NAMES.filter(({ name }) => !(name in NEVER_COMPARED) && !(name in (row.ignore ?? {})));
  return Object.fromEntries(
    compared.map(({ name }) => [name, run.counters[name] ?? 0] as const).filter(([, value]) => value !== 0),
  );
}

/** Counters no row compares, with the reason. */
const NEVER_COMPARED: Readonly<Record<string, string>> = {};

/** Runs programs on the kernel, each in a namespace of its own. */
function runKernel(programs: Record<string, readonly Step[]>): Promise<Record<string, Run & { error: string | null }>> {
  return new Promise((resolve, reject) => {
    const child = spawn("python3", [SCRIPT], { stdio: ["pipe", "pipe", "inherit"] });
    let out = "";
    child.stdout.on("data", (chunk) => void (out += chunk));
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve(JSON.parse(out) as Record<string, Run & { error: string | null }>);
      else reject(new Error(`kernel.py ended with ${code}`));
    });
    child.stdin.end(JSON.stringify(programs));
  });
}
