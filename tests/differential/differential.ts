/**
 * Rows of a differential test: a program, run on the kernel and on our stack, must give the same results and move the
 * same counters. All programs of a file run on the kernel at once, before its tests.
 *
 * What is known to differ is part of the row and asserted on both sides, so that it fails when either side changes;
 * each such difference has its reason in docs/linux-differences.md.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { errnoName } from "../../src/base/errno.ts";
import { MIB_NAMES } from "../../src/base/mib.ts";
import { requires } from "../support/requires.ts";
import { type Result, type Run, runOurs } from "./ours.ts";
import type { Program, Step } from "./program.ts";

/** One documented difference. */
export interface Difference {
  /** Heading in docs/linux-differences.md. */
  readonly why: string;
  readonly counters?: Readonly<Record<string, readonly [linux: number, ours: number]>>;
  /** Number of the call (from 1) → results as they are printed. */
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

/**
 * How far the times of an `until` may be apart: Linux's timers fire late by up to an eighth of their length above 64
 * ticks (timer wheel), by two ticks of 4 ms (HZ=250) below, and the machine may be busy.
 */
const TOLERANCE_MS = 25;
const TOLERANCE_OF_SECONDS_MS = 150;

/** How often a row is measured again, alone, before it counts as different. */
const SECOND_LOOKS = 2;

const NEEDS = ["python3", "netns"] as const;
const DIFFERENCES = join(import.meta.dirname, "..", "..", "docs", "linux-differences.md");
const SCRIPT = join(import.meta.dirname, "kernel.py");

/** What `kernel.py` says of a program. */
interface KernelRun extends Run {
  readonly sysctls: Readonly<Record<string, string>>;
  readonly error: string | null;
}

/** A group of rows in one test file. */
export function differential(title: string, rows: readonly Row[]): void {
  describe.skipIf(requires(...NEEDS))(title, () => {
    let kernel: Record<string, KernelRun> = {};
    beforeAll(async () => {
      kernel = await runKernel(Object.fromEntries(rows.map((row) => [row.name, row.program.steps])));
    }, 40_000);

    it("documents its differences", () => checkDocumented(rows));

    it.each(rows.map((row) => [row.name, row] as const))("%s", async (name, row) => {
      // The kernel's clock is real: on a busy machine a delayed ACK falls between two calls that were made "at once".
      // What differs for a reason differs again.
      let apart = compare(row, kernel[name]);
      for (let look = 0; look < SECOND_LOOKS && apart.length > 0; look++) {
        apart = compare(row, (await runKernel({ [name]: row.program.steps }))[name]);
      }
      if (apart.length > 0) expect.fail(apart.join("\n"));
    });
  });
}

/** Every documented difference has its heading. */
function checkDocumented(rows: readonly Row[]): void {
  const text = readFileSync(DIFFERENCES, "utf8");
  for (const { why } of rows.flatMap((row) => row.differs ?? [])) expect(text).toContain(`\n## ${why}\n`);
}

/** What is different, in words; nothing if all is as it should be. */
function compare(row: Row, linux: KernelRun): string[] {
  if (linux.error !== null) throw new Error(`kernel.py: ${linux.error}`);
  const ours = runOurs(row.program.steps, linux.sysctls);
  return [
    ...compareLines(row, linux, ours),
    ...compareCounters(row, linux, ours),
    ...row.program.steps.flatMap((step, i) =>
      step[0] === "until" ? compareTimes(start(step, i), linux.results[i], ours.results[i]) : [],
    ),
    ...Object.entries(row.expects ?? {}).flatMap(([name, value]) =>
      linux.counters[name] === value ? [] : [`${name}: Linux ${linux.counters[name]}, expected ${value}`],
    ),
  ];
}

function compareLines(row: Row, linux: Run, ours: Run): string[] {
  const known = Object.assign({}, ...(row.differs ?? []).map((d) => d.lines ?? {})) as NonNullable<Difference["lines"]>;
  return row.program.steps.flatMap((step, i) => {
    const [theirs, mine] = [linux, ours].map((run) => format(step[0] === "until" ? readyOf(run, i) : run.results[i]));
    const [theirsWanted, mineWanted] = known[i + 1] ?? [theirs, theirs];
    if (theirs === theirsWanted && mine === mineWanted) return [];
    const documented = known[i + 1] ? ` (documented: Linux ${theirsWanted}, ours ${mineWanted})` : "";
    return [`${start(step, i)}: Linux ${theirs}, ours ${mine}${documented}`];
  });
}

function compareCounters(row: Row, linux: Run, ours: Run): string[] {
  const known = Object.assign({}, ...(row.differs ?? []).map((d) => d.counters ?? {})) as NonNullable<
    Difference["counters"]
  >;
  return MIB_NAMES.flatMap(({ name }) => {
    if (name in NEVER_COMPARED || name in (row.ignore ?? {})) return [];
    const [theirs, mine] = [linux, ours].map((run) => run.counters[name] ?? 0);
    const [theirsWanted, mineWanted] = known[name] ?? [theirs, theirs];
    if (theirs === theirsWanted && mine === mineWanted) return [];
    const documented = known[name] ? ` (documented: Linux ${theirsWanted}, ours ${mineWanted})` : "";
    return [`${name}: Linux ${theirs}, ours ${mine}${documented}`];
  });
}

function compareTimes(call: string, linux: Result, ours: Result): string[] {
  const [linuxMs, ourMs] = [linux, ours].map((result) => (result as number[])[1]);
  if (Math.abs(linuxMs - ourMs) < (ourMs > 500 ? TOLERANCE_OF_SECONDS_MS : TOLERANCE_MS)) return [];
  return [`${call} took: Linux ${linuxMs.toFixed(1)} ms, ours ${ourMs.toFixed(1)} ms`];
}

function start([call, ...args]: Step, i: number): string {
  const shown = args.map((arg) =>
    String(arg).length > 40 ? `${String(arg).slice(0, 20)}… (${String(arg).length})` : arg,
  );
  return `${i + 1}: ${call}(${shown.join(", ")})`;
}

/** The events of an `until`, without the time. */
function readyOf(run: Run, i: number): Result {
  return (run.results[i] as Result[])[0];
}

function format(result: Result): string {
  if (typeof result === "number") return result < 0 ? errnoName(result) : String(result);
  if (typeof result === "string" && result.length > 200) return `${result.length} characters`;
  return typeof result === "string" ? JSON.stringify(result) : `[${result.map(format).join(", ")}]`;
}

/** Counters no row compares, with the reason. */
const NEVER_COMPARED: Readonly<Record<string, string>> = {
  TcpExtTCPHPHits: "Linux leaves the fast path whenever it must reserve a page (sk_forward_alloc); ours reserves none",
  TcpExtTCPRcvCoalesce: "how Linux stores bytes: an skb merged into the one before it; ours keeps slots and pages",
  TcpExtTcpTimeoutRehash: "Linux chooses another path and device queue after a time-out (sk_txhash); ours has one",
};

/** Runs programs on the kernel, each in a namespace of its own. */
function runKernel(programs: Record<string, readonly Step[]>): Promise<Record<string, KernelRun>> {
  return new Promise((resolve, reject) => {
    const child = spawn("python3", [SCRIPT], { stdio: ["pipe", "pipe", "inherit"] });
    let out = "";
    child.stdout.on("data", (chunk) => void (out += chunk));
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve(JSON.parse(out) as Record<string, KernelRun>);
      else reject(new Error(`kernel.py ended with ${code}`));
    });
    child.stdin.end(JSON.stringify(programs));
  });
}
