/**
 * `sojourn capture FILE`: every frame on every link as pcapng, for Wireshark. `-` writes to standard output.
 */
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { openStream } from "../control-client.ts";
import { CommandError, ExitCode, UsageError } from "../exit-codes.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";
import { parseDurationNs } from "../values.ts";

interface CaptureOptions extends ReadingOptions {
  readonly for?: number;
}

export function captureCommand(terminal: Terminal): Command {
  return readingCommand("capture", "write every frame to a pcapng file until Ctrl-C")
    .argument("<file>", "where to write (mode 0600), or - for standard output")
    .option("--for <duration>", "stop by itself, e.g. 10s", (text: string) => parseDurationNs("--for", text))
    .action(async (file: string, options: CaptureOptions) => {
      if (file === "-" && options.json)
        throw new UsageError("--json with -", "frames and the report would share standard output", "name a file");
      const stream = await openStream(controlOf(options), "/api/capture");
      const stop = new AbortController();
      const interrupted = () => stop.abort();
      process.once("SIGINT", interrupted);
      process.once("SIGTERM", interrupted);
      const timer = options.for === undefined ? undefined : setTimeout(interrupted, options.for / 1e6);
      let bytes = 0;
      stream.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      if (terminal.isInteractive) terminal.err("capturing; Ctrl-C stops\n");
      stop.signal.addEventListener("abort", () => stream.push(null));
      try {
        await pipeline(stream, file === "-" ? process.stdout : createWriteStream(file, { mode: 0o600 }), {
          end: file !== "-",
        });
      } catch (error) {
        throw captureFailed(file, error as NodeJS.ErrnoException);
      } finally {
        clearTimeout(timer);
        process.removeListener("SIGINT", interrupted);
        process.removeListener("SIGTERM", interrupted);
        stream.destroy();
      }
      if (options.json) terminal.out(json({ file, bytes }));
      else terminal.err(`${bytes} bytes written to ${file}; read them with: tshark -r ${file}\n`);
    });
}

function captureFailed(file: string, error: NodeJS.ErrnoException): CommandError {
  const why = error.code ?? error.message;
  const isOurs = error.syscall === "open" || error.syscall === "write";
  if (isOurs)
    return new CommandError(
      ExitCode.failed,
      `cannot write ${file}`,
      why,
      "name a file in a directory you may write to",
    );
  return new CommandError(
    ExitCode.failed,
    "the capture ended early",
    `${why}: the server went away, or we read too slowly`,
    "start it again",
  );
}
