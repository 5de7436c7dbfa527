/**
 * `sojourn nstat`: the Linux MIB counters in the shape of nstat(8) -a (absolute values).
 */
import type { Command } from "commander";
import { getJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

interface NstatOptions extends ReadingOptions {
  readonly zeros?: boolean;
}

export function nstatCommand(terminal: Terminal): Command {
  return readingCommand("nstat", "kernel counters, as nstat(8) -a prints them")
    .argument("[pattern...]", "only counters whose name matches, * stands for anything")
    .option("-a, --ignore", "absolute values (always so)")
    .option("-z, --zeros", "also counters that are zero")
    .option("-s, --noupdate", "leave the history file alone (there is none)")
    .action(async (patterns: string[], options: NstatOptions) => {
      const counters = await getJson<Record<string, number>>(controlOf(options), `/api/counters?host=${options.host}`);
      const shown = selectCounters(counters, patterns, options.zeros === true);
      terminal.out(options.json ? json({ kernel: Object.fromEntries(shown) }) : formatCounters(shown));
    });
}

/** The counters whose name matches any of `patterns` (all without patterns), in /proc order. */
function selectCounters(
  counters: Readonly<Record<string, number>>,
  patterns: readonly string[],
  zeros: boolean,
): [string, number][] {
  const tests = patterns.map((pattern) => {
    const source = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
    return new RegExp(`^${source}$`, "i");
  });
  return Object.entries(counters).filter(
    ([name, value]) => (zeros || value !== 0) && (tests.length === 0 || tests.some((test) => test.test(name))),
  );
}

/** nstat.c prints `%-32s%-16llu%6.1f`; the rate needs two samples and is 0.0 here. */
function formatCounters(counters: readonly (readonly [string, number])[]): string {
  const lines = counters.map(([name, value]) => `${name.padEnd(32)}${String(value).padEnd(16)}${"0.0".padStart(6)}\n`);
  return `#kernel\n${lines.join("")}`;
}
