/**
 * What the outside may ask of a running process, the same for a process thread and one on the main thread.
 */
import type { Ns } from "../base/time.ts";
import type { GoRuntime } from "../runtime/runtime.ts";

/** One row of `sojourn goroutines`. */
export interface GoroutineRow {
  readonly id: number;
  readonly name: string;
  readonly state: string;
  /** What it waits for; "" unless parked. */
  readonly parkedOn: string;
  /** How long it has been in this state. */
  readonly forNs: Ns;
  /** The request it works for, or 0. */
  readonly requestId: number;
}

/** What `accept pause` answers. */
export interface AcceptState {
  readonly paused: boolean;
  /** Endpoints of the listeners it applies to. */
  readonly listeners: readonly string[];
}

/** All living goroutines by id, at `nowNs`. */
export function goroutineRows(runtime: GoRuntime, nowNs: Ns): GoroutineRow[] {
  return runtime
    .goroutines()
    .map((g) => ({
      id: g.id,
      name: g.name,
      state: g.state,
      parkedOn: g.parkedOn,
      forNs: nowNs - g.sinceNs,
      requestId: g.requestId,
    }))
    .sort((a, b) => a.id - b.id);
}

/** Pauses or resumes every listener of the process. */
export function setAcceptPaused(runtime: GoRuntime, paused: boolean): AcceptState {
  const listeners = [...runtime.network.listeners];
  for (const listener of listeners) listener.setPaused(paused);
  return { paused, listeners: listeners.map(({ local }) => `${local.address}:${local.port}`) };
}

/** The module a process runs: `export const main: ProcessMain`. */
export type ProcessMain = (
  runtime: GoRuntime,
  options: unknown,
) => ProcessApp | undefined | Promise<ProcessApp | undefined>;

/** What a process's `main` may give back once it is up. */
export interface ProcessApp {
  /** Requests of the main thread other than those every process answers. */
  control?(method: string, params: unknown): unknown;
  /** Told before the process exits. */
  stop?(): void | Promise<void>;
}
