/**
 * How a run of `sojourn` ends: the exit codes and the one error that carries what a person needs (law 11).
 *
 * Every message has three parts, each one line: what happened, why, and what to do next.
 */

/** The catalogue of exit codes (contract §3). */
export const ExitCode = {
  ok: 0,
  /** The check failed, or the server could not be reached or refused. */
  failed: 1,
  /** The command line is wrong. */
  usage: 2,
  /** The operating system demands a privilege this process lacks. */
  privilege: 3,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** An expected end of a command: printed without a stack trace. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  readonly exitCode: ExitCode;
  readonly why: string;
  readonly next: string;

  constructor(exitCode: ExitCode, what: string, why: string, next: string) {
    super(what);
    this.exitCode = exitCode;
    this.why = why;
    this.next = next;
  }
}

/** The command line is wrong: exit code 2. */
export class UsageError extends CommandError {
  override readonly name = "UsageError";

  constructor(what: string, why: string, next: string) {
    super(ExitCode.usage, what, why, next);
  }
}

/** The three lines a person sees on stderr. */
export function describeError(error: unknown): string {
  if (error instanceof CommandError) return `sojourn: ${error.message}\n  why:  ${error.why}\n  next: ${error.next}\n`;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `sojourn: internal error\n  why:  ${text}\n  next: this is a bug; run with the same arguments and report the lines above\n`;
}

export function exitCodeOf(error: unknown): ExitCode {
  return error instanceof CommandError ? error.exitCode : ExitCode.failed;
}
