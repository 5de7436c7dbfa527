/**
 * The run's token on disk: how the CLI of the same user finds a running server and may change its state (law 13).
 *
 * One file per control port, mode 0600, in a directory of mode 0700 that belongs to the user; a directory that is not
 * as private as that is refused, because another user could have made it first.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { CommandError, ExitCode } from "./exit-codes.ts";

export interface RunRecord {
  /** Origin of the control API. */
  readonly url: string;
  readonly token: string;
  readonly pid: number;
}

/** `$XDG_RUNTIME_DIR/sojourn`, else `<tmp>/sojourn-<uid>`. */
export function runDirectory(): string {
  const runtime = process.env["XDG_RUNTIME_DIR"];
  if (runtime) return join(runtime, "sojourn");
  return join(tmpdir(), `sojourn-${process.getuid?.() ?? userInfo().username}`);
}

function assertPrivate(directory: string, owner: number | undefined = process.getuid?.()): void {
  const stat = lstatSync(directory);
  const isOurs = owner === undefined || (stat.uid === owner && (stat.mode & 0o077) === 0);
  if (stat.isDirectory() && isOurs) return;
  throw new CommandError(
    ExitCode.failed,
    `${directory} is not private`,
    "it must be a directory of yours with mode 0700: the run's token would be readable by others",
    `remove it, or set XDG_RUNTIME_DIR to a directory of your own`,
  );
}

/** Writes the record of a run; returns the path. */
export function writeRunRecord(port: number, record: RunRecord): string {
  const directory = runDirectory();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  assertPrivate(directory);
  const path = join(directory, `${port}.json`);
  rmSync(path, { force: true });
  writeFileSync(path, `${JSON.stringify(record)}\n`, { mode: 0o600, flag: "wx" });
  chmodSync(path, 0o600);
  return path;
}

/** Leaves nothing behind. */
export function removeRunRecord(path: string): void {
  rmSync(path, { force: true });
}

/**
 * The records of runs whose process lives, by port. Root without one of its own sees those of other users: `serve
 * --tap` starts as root and goes on as somebody else.
 */
export function readRunRecords(): RunRecord[] {
  const own = recordsIn(runDirectory());
  return own.length > 0 || process.getuid?.() !== 0 ? own : otherDirectories().flatMap(recordsIn);
}

function otherDirectories(): string[] {
  const names = readdirSync(tmpdir()).filter((name) => /^sojourn-[0-9]+$/.test(name));
  return names.map((name) => join(tmpdir(), name));
}

function recordsIn(directory: string): RunRecord[] {
  let names: string[];
  try {
    assertPrivate(directory, ownerOf(directory));
    names = readdirSync(directory).filter((name) => /^[0-9]+\.json$/.test(name));
  } catch {
    return [];
  }
  names.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  return names.map((name) => readRecord(join(directory, name))).filter((record) => record !== undefined);
}

/** The uid a directory's name stands for: `sojourn-1000` belongs to 1000 and to nobody else. */
function ownerOf(directory: string): number | undefined {
  const uid = /sojourn-([0-9]+)$/.exec(directory)?.[1];
  return uid === undefined ? process.getuid?.() : Number(uid);
}

/** A record of another user says only where on this machine a server answers. */
function readRecord(path: string): RunRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(path, "utf8")) as RunRecord;
    process.kill(record.pid, 0);
    return new URL(record.url).hostname === "127.0.0.1" ? record : undefined;
  } catch {
    return undefined;
  }
}
