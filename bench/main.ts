/**
 * `npm run bench -- [what…] [--json]`: what the stack costs, both ends in one process, no kernel. See
 * docs/performance.md for the method and the results.
 */

import { spawnSync } from "node:child_process";
import { arch, cpus, platform } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { calibrate } from "./calibrate.ts";
import {
  bulk,
  connect,
  type IdleReport,
  idle,
  type Plan,
  type RecordingReport,
  type Report,
  recording,
  roundTrip,
} from "./cases.ts";
import { formatCalibration, formatIdle, formatRecording, formatReport, formatTap } from "./format.ts";
import { simulator } from "./simulator.ts";
import { type TapReport, tap, tapRefusal } from "./tap.ts";

const HELP = `Usage: npm run bench -- [command…] [options]

Measures the stack in memory: both ends in one process, processes inline, no kernel. CPU time of the process,
warm-up, alternating rounds; prints median, best and spread. Without a command: all but tap and calibrate, under a
minute.

Commands:
  bulk         one connection, MB per CPU second
  round-trips  HTTP keep-alive exchanges, and bare echoes, per CPU second at 1, 100 and 1,000 connections
  connect      connect + request + close per CPU second
  idle         bytes per idle connection, HTTP and bare TCP (starts itself again with --expose-gc)
  recording    CPU time with the journey recorder on and off
  simulator    frames per CPU second in virtual time
  tap          wrk over a TAP, kernel thread and inline, beside node:http over veth; needs root, ip, wrk, taskset
  calibrate    what each kind of work costs: the figures of src/sim/cost-model.ts

Options:
  --rounds N   rounds per case (default 9)
  --work X     scales the work of a round (default 1)
  --json       one JSON object
  --help       this text
`;

const COMMANDS = ["bulk", "round-trips", "connect", "idle", "recording", "simulator"] as const;
const EXTRA_COMMANDS = ["tap", "calibrate"] as const;
type Command = (typeof COMMANDS)[number] | (typeof EXTRA_COMMANDS)[number];
type AnyReport = Report | IdleReport | RecordingReport | TapReport | Awaited<ReturnType<typeof calibrate>>;

interface Options {
  readonly commands: readonly Command[];
  readonly plan: Plan;
  readonly json: boolean;
}

const EXIT_USAGE = 2;

async function main(): Promise<number> {
  const options = readOptions();
  if (typeof options === "number") return options;
  const reports: AnyReport[] = [];
  if (!options.json) process.stdout.write(`${setUp()}\n`);
  for (const command of options.commands) {
    const report = await run(command, options.plan);
    reports.push(report);
    if (!options.json) process.stdout.write(`\n${format(report)}\n`);
  }
  if (options.json) process.stdout.write(`${JSON.stringify({ machine: setUp(), reports }, null, 2)}\n`);
  return 0;
}

/** The options, or the exit code when there is nothing to run. */
function readOptions(): Options | number {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse();
  } catch (error) {
    return usage((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = positionals.find((name) => ![...COMMANDS, ...EXTRA_COMMANDS].includes(name as Command));
  if (unknown !== undefined) return usage(`there is no benchmark "${unknown}"`);
  const rounds = Number(values.rounds);
  const work = Number(values.work);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000)
    return usage("--rounds is a whole number from 1 to 1000");
  if (!(work >= 0.01 && work <= 100)) return usage("--work is a number from 0.01 to 100");
  const refusal = positionals.includes("tap") ? tapRefusal() : undefined;
  if (refusal !== undefined) return usage(`"tap" cannot run here: ${refusal}`);
  const commands = positionals.length > 0 ? (positionals as Command[]) : COMMANDS;
  return { commands, plan: { rounds, work }, json: values.json };
}

function parse() {
  return parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "9" },
      work: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
}

function usage(message: string): number {
  process.stderr.write(`${message}\nTry: npm run bench -- --help\n`);
  return EXIT_USAGE;
}

function run(command: Command, plan: Plan): Promise<AnyReport> {
  switch (command) {
    case "bulk":
      return bulk(plan);
    case "round-trips":
      return roundTrip(plan);
    case "connect":
      return connect(plan);
    case "recording":
      return recording(plan);
    case "simulator":
      return simulator(plan);
    case "idle":
      return globalThis.gc === undefined ? Promise.resolve(idleInChild()) : idle();
    case "tap":
      return tap({ rounds: plan.rounds, seconds: Math.max(1, Math.round(2 * plan.work)) });
    case "calibrate":
      return calibrate();
  }
}

/** Memory is measured after a collection, which only a process started with --expose-gc may ask for. */
function idleInChild(): IdleReport {
  const child = spawnSync(process.execPath, ["--expose-gc", fileURLToPath(import.meta.url), "idle", "--json"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (child.status !== 0) throw new Error(`the idle benchmark ended with ${child.status ?? child.signal}`);
  return (JSON.parse(child.stdout) as { reports: IdleReport[] }).reports[0] as IdleReport;
}

function format(report: AnyReport): string {
  switch (report.name) {
    case "idle":
      return formatIdle(report as IdleReport);
    case "recording":
      return formatRecording(report as RecordingReport);
    case "tap":
      return formatTap(report as TapReport);
    case "calibrate":
      return formatCalibration(report as Awaited<ReturnType<typeof calibrate>>);
    default:
      return formatReport(report as Report);
  }
}

/** Machine and versions: stated with every figure. */
function setUp(): string {
  const [cpu] = cpus();
  return `${cpu?.model.trim() ?? "unknown CPU"}, ${cpus().length} cores, ${platform()} ${arch()}, Node ${process.version}`;
}

process.exitCode = await main();
