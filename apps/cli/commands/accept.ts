/**
 * `sojourn accept pause|resume`: the server process stops taking connections, so that its accept queue fills.
 */
import { Argument, type Command } from "commander";
import { putJson } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

export function acceptCommand(terminal: Terminal): Command {
  return readingCommand("accept", "pause or resume accept() of the server")
    .addArgument(new Argument("<what>", "what to do").choices(["pause", "resume"]))
    .action(async (what: "pause" | "resume", options: ReadingOptions) => {
      const state = await putJson<{ paused: boolean }>(controlOf(options), "/api/accept", { paused: what === "pause" });
      const hint = state.paused
        ? "accept() is paused: watch Recv-Q grow with `sojourn ss -ltn`, then `sojourn accept resume`"
        : "accept() runs";
      terminal.out(options.json ? json(state) : `${hint}\n`);
    });
}
