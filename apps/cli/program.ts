/**
 * The command line as a whole: the commands, and how commander's complaints become ours.
 */
import { Command, CommanderError } from "commander";
import { describeError, ExitCode, exitCodeOf, UsageError } from "../control/exit-codes.ts";
import { VERSION } from "../control/version.ts";
import { acceptCommand } from "./commands/accept.ts";
import { captureCommand } from "./commands/capture.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { goroutinesCommand } from "./commands/goroutines.ts";
import { journeysCommand } from "./commands/journeys.ts";
import { linkCommand } from "./commands/link.ts";
import { nstatCommand } from "./commands/nstat.ts";
import { serveCommand } from "./commands/serve.ts";
import { ssCommand } from "./commands/ss.ts";
import { straceCommand } from "./commands/strace.ts";
import { sysctlCommand } from "./commands/sysctl.ts";
import type { Terminal } from "./terminal.ts";

/** Runs one command line (without node and script); resolves to the exit code. */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const program = createProgram(terminal);
  try {
    await program.parseAsync(args, { from: "user" });
    return ExitCode.ok;
  } catch (thrown) {
    const error = thrown instanceof CommanderError ? fromCommander(thrown, args, program) : thrown;
    if (error === undefined) return ExitCode.ok;
    terminal.err(describeError(error));
    return exitCodeOf(error);
  }
}

function createProgram(terminal: Terminal): Command {
  const program = new Command("sojourn")
    .description("A network server stack in which every request carries its own itinerary.")
    .version(VERSION, "-V, --version")
    .enablePositionalOptions()
    .addCommand(serveCommand(terminal))
    .addCommand(journeysCommand(terminal))
    .addCommand(ssCommand(terminal))
    .addCommand(nstatCommand(terminal))
    .addCommand(linkCommand(terminal))
    .addCommand(sysctlCommand(terminal))
    .addCommand(acceptCommand(terminal))
    .addCommand(straceCommand(terminal))
    .addCommand(goroutinesCommand(terminal))
    .addCommand(captureCommand(terminal))
    .addCommand(doctorCommand(terminal))
    .addHelpText("after", "\nExit codes: 0 ok, 1 failed, 2 usage, 3 privilege missing. NO_COLOR turns colour off.");
  for (const command of everyCommand(program)) {
    command
      .exitOverride()
      .allowExcessArguments(false)
      .configureOutput({ writeOut: terminal.out, writeErr: () => {}, getOutHasColors: () => terminal.hasColour });
  }
  return program;
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

const WHY: Readonly<Record<string, string>> = {
  "commander.unknownOption": "this command has no such option",
  "commander.unknownCommand": "there is no such command",
  "commander.missingArgument": "the command needs it",
  "commander.missingMandatoryOptionValue": "the command needs it",
  "commander.optionMissingArgument": "the option needs a value",
  "commander.excessArguments": "the command takes fewer",
  "commander.invalidArgument": "the value is not one of those accepted",
};

/** Help and version were asked for and are printed: no error. No command at all: the help, and a usage error. */
function fromCommander(error: CommanderError, args: readonly string[], program: Command): UsageError | undefined {
  if (error.code === "commander.help" && args.length === 0) {
    return new UsageError(
      "no command",
      `one of: ${program.commands.map((command) => command.name()).join(" ")}`,
      "start with: sojourn serve",
    );
  }
  if (error.code.startsWith("commander.help") || error.code === "commander.version") return undefined;
  const [what = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const named = program.commands.find((command) => command.name() === args[0]);
  const help = `sojourn ${named ? `${named.name()} ` : ""}--help`;
  return new UsageError(
    what,
    WHY[error.code] ?? error.code,
    suggestion ? `${suggestion.replace(/^\(|\)$/g, "")} — or see: ${help}` : `see: ${help}`,
  );
}
