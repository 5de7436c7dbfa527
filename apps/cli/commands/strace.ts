/**
 * `sojourn strace`: the system calls of a host's processes, in the look of `strace -f -tt`.
 */
import type { Command } from "commander";
import type { Info, SyscallRow } from "../../control/backend.ts";
import { parseInteger } from "../../control/values.ts";
import { getJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, printable, type Terminal } from "../terminal.ts";

const POLL_MS = 200;
/** How much one poll asks for: more calls than this between two polls leave a gap, which is said. */
const FOLLOW_LIMIT = 5000;

interface StraceOptions extends ReadingOptions {
  readonly follow?: boolean;
  readonly last: number;
}

export function straceCommand(terminal: Terminal): Command {
  return readingCommand("strace", "system calls, as strace(1) -f -tt prints them")
    .option("--last <n>", "how many", (text: string) => parseInteger("--last", text, 1, 10_000), 30)
    .option("-f, --follow", "go on with new calls until Ctrl-C")
    .action(async (options: StraceOptions) => {
      const control = controlOf(options);
      const originNs = BigInt((await getJson<Info>(control, "/api/info")).originUnixNs);
      const ask = (limit: number) =>
        getJson<SyscallRow[]>(control, `/api/syscalls?host=${options.host}&limit=${limit}`);
      const rows = await ask(options.last);
      const print = (row: SyscallRow) => terminal.out(options.json ? json(row) : formatSyscall(row, originNs));
      if (options.json && !options.follow) {
        terminal.out(json(rows));
        return;
      }
      rows.forEach(print);
      if (options.follow) await follow(ask, rows.at(-1)?.seq ?? 0, print, terminal);
    });
}

async function follow(
  ask: (limit: number) => Promise<SyscallRow[]>,
  lastSeen: number,
  print: (row: SyscallRow) => void,
  terminal: Terminal,
): Promise<never> {
  for (let last = lastSeen; ; ) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const fresh = (await ask(FOLLOW_LIMIT)).filter((row) => row.seq > last);
    const missed = fresh.length > 0 ? (fresh[0] as SyscallRow).seq - last - 1 : 0;
    if (missed > 0) terminal.err(`(${missed} calls not shown: they came faster than they were asked for)\n`);
    fresh.forEach(print);
    last = fresh.at(-1)?.seq ?? last;
  }
}

/** `[pid 1000 g5] 12:13:14.000123 accept4(3, …) = 7`, in local time; `g5` is the goroutine. */
function formatSyscall(row: SyscallRow, originNs: bigint): string {
  const unixUs = (originNs + BigInt(Math.round(row.atNs))) / 1000n;
  const time = new Date(Number(unixUs / 1000n)).toTimeString().slice(0, 8);
  const micros = String(unixUs % 1_000_000n).padStart(6, "0");
  const who = `pid ${row.pid}${row.gid > 0 ? ` g${row.gid}` : ""}`;
  return `[${who}] ${time}.${micros} ${printable(row.text)}\n`;
}
