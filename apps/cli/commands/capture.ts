/**
 * `sojourn capture FILE`: every frame on a host's devices as pcapng, for Wireshark, with comments that name the request
 * and its stage. `-` writes to standard output.
 */
import { createWriteStream } from "node:fs";
import { Transform, type TransformCallback } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { CommandError, ExitCode, UsageError } from "../../control/exit-codes.ts";
import { parseDurationNs } from "../../control/values.ts";
import { openStream } from "../control-client.ts";
import { controlOf, type ReadingOptions, readingCommand } from "../reading-command.ts";
import { json, type Terminal } from "../terminal.ts";

/** The server hands frames on ten times a second. */
const LAST_FRAMES_MS = 250;

interface CaptureOptions extends ReadingOptions {
  readonly for?: number;
  readonly dev?: string;
}

export function captureCommand(terminal: Terminal): Command {
  return readingCommand("capture", "write every frame on the host's devices to a pcapng file until Ctrl-C")
    .argument("<file>", "where to write (mode 0600), or - for standard output")
    .option("--dev <name>", "only this device, e.g. eth0, tap0 or lo (default: all but lo)")
    .option("--for <duration>", "stop by itself, e.g. 10s", (text: string) => parseDurationNs("--for", text))
    .action(async (file: string, options: CaptureOptions) => {
      if (file === "-" && options.json)
        throw new UsageError("--json with -", "frames and the report would share standard output", "name a file");
      const stream = await openStream(controlOf(options), capturePath(options));
      const stop = new AbortController();
      // What crossed the wire before the signal is still on its way to us.
      const interrupted = () => void setTimeout(() => stop.abort(), LAST_FRAMES_MS);
      process.once("SIGINT", interrupted);
      process.once("SIGTERM", interrupted);
      const timer = options.for === undefined ? undefined : setTimeout(interrupted, options.for / 1e6);
      const blocks = new WholeBlocks();
      if (terminal.isInteractive) terminal.err("capturing; Ctrl-C stops\n");
      stop.signal.addEventListener("abort", () => stream.push(null));
      try {
        await pipeline(stream, blocks, file === "-" ? process.stdout : createWriteStream(file, { mode: 0o600 }), {
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
      if (options.json) terminal.out(json({ file, bytes: blocks.bytes }));
      else terminal.err(`${blocks.bytes} bytes written to ${file}; read them with: tshark -r ${file}\n`);
    });
}

function capturePath({ host, dev }: CaptureOptions): string {
  return `/api/capture?${new URLSearchParams({ host, ...(dev === undefined ? {} : { dev }) })}`;
}

/** Passes whole pcapng blocks only, so that a file that ends anywhere can be read to its end. */
class WholeBlocks extends Transform {
  /** Bytes passed on. */
  bytes = 0;
  private pending: Buffer = Buffer.alloc(0);

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const all = this.pending.length === 0 ? chunk : Buffer.concat([this.pending, chunk]);
    let end = 0;
    // A block begins with its type and its whole length (little-endian: so we write it).
    while (all.length - end >= 8) {
      const next = end + all.readUInt32LE(end + 4);
      if (next <= end || next > all.length) break;
      end = next;
    }
    this.pending = all.subarray(end);
    this.bytes += end;
    if (end > 0) this.push(all.subarray(0, end));
    done();
  }
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
