/**
 * What every reading command shares: `--json`, `--host`, `--control`, and the way to the server.
 */
import { Command } from "commander";
import { HOSTS, type HostName } from "../control/backend.ts";
import { UsageError } from "../control/exit-codes.ts";
import { parseControlUrl } from "../control/values.ts";
import { type Control, findControl } from "./control-client.ts";

export interface ReadingOptions {
  readonly json?: boolean;
  readonly host: HostName;
  readonly control?: string;
}

/** A command with the shared options. */
export function readingCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option("--json", "print JSON: one array or object, or one object per line with --follow")
    .option("--host <name>", `whose: ${HOSTS.join(", ")}`, parseHost, "server")
    .option("--control <url>", "control address of the server (default: the one that runs)", parseControlUrl);
}

function parseHost(text: string): HostName {
  if ((HOSTS as readonly string[]).includes(text)) return text as HostName;
  throw new UsageError(
    `--host: unknown host "${text}"`,
    `a topology has ${HOSTS.join(", ")}`,
    "write it like --host server",
  );
}

export function controlOf(options: ReadingOptions): Control {
  return findControl(options.control);
}
