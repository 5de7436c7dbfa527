/**
 * `sojourn sysctl`: the knobs of a kernel under their Linux names, as sysctl(8) prints and takes them.
 */
import type { Command } from "commander";
import type { SysctlRow } from "../../control/backend.ts";
import { UsageError } from "../../control/exit-codes.ts";
import { getJson, putJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

export function sysctlCommand(terminal: Terminal): Command {
  return readingCommand("sysctl", "kernel parameters: list, read, set (name=value)")
    .argument("[names...]", "net.core.somaxconn, or net.core.somaxconn=4; none = all")
    .option("-a, --all", "all of them")
    .option("-w, --write", "set (name=value does so with or without it)")
    .action(async (words: string[], options: ReadingOptions & { all?: boolean }) => {
      const control = controlOf(options);
      const rows = await getJson<SysctlRow[]>(control, `/api/sysctl?host=${options.host}`);
      const shown: SysctlRow[] = options.all || words.length === 0 ? rows : [];
      for (const word of options.all ? [] : words) {
        const equals = word.indexOf("=");
        const name = (equals < 0 ? word : word.slice(0, equals)).trim().replaceAll("/", ".");
        const row = rows.find((candidate) => candidate.name === name);
        if (!row) throw unknownSysctl(name, rows);
        if (equals < 0) shown.push(row);
        else
          shown.push(
            await putJson<SysctlRow>(control, `/api/sysctl?host=${options.host}`, {
              name,
              value: word.slice(equals + 1).trim(),
            }),
          );
      }
      terminal.out(options.json ? json(shown) : shown.map((row) => `${row.name} = ${row.value}\n`).join(""));
    });
}

/** Names those that share its last word, for a slip of the prefix or of the hand. */
function unknownSysctl(name: string, rows: readonly SysctlRow[]): UsageError {
  const last = name.slice(name.lastIndexOf(".") + 1);
  const near = rows.map((row) => row.name).filter((candidate) => last.length > 2 && candidate.includes(last));
  const next = near.length > 0 ? `did you mean ${near.slice(0, 3).join(", ")}?` : "list them with: sojourn sysctl -a";
  return new UsageError(`unknown sysctl "${name}"`, "this kernel has no parameter of that name", next);
}
