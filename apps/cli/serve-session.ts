/**
 * What `serve` needs of a running system, and where it is started.
 */
import type { Backend, LinkSettings } from "./backend.ts";

/** The arguments of `serve`, parsed and checked. */
export interface ServeOptions {
  /** The site's host port. With `portAsked` a busy port is an error; otherwise the next free one is taken. */
  readonly port: number;
  readonly portAsked: boolean;
  /** `--tap`: the server host's own link is this TAP device; no topology, no port forward. */
  readonly tap?: {
    readonly name: string;
    readonly address: string;
    readonly prefix: number;
    readonly gateway?: string;
    readonly router: boolean;
  };
  /** `--stream`: a framed stream socket at this path instead of a TAP. */
  readonly streamPath?: string;
  /** `--link`: settings of the wire between client and server. */
  readonly link: LinkSettings;
  readonly kernel: "thread" | "inline";
  /** Seed of the stack's random numbers; undefined = from the operating system. */
  readonly seed?: number;
  readonly maxBodyBytes: number;
  readonly headerTimeoutNs: number;
  readonly bodyTimeoutNs: number;
}

/** A running system: the site answers, the backend answers. */
export interface RunningServer {
  /** Where the site answers, e.g. `http://127.0.0.1:3000/`. */
  readonly siteUrl: string;
  /** Lines for the first screen: port moved, the command that configures the kernel's side of a TAP. */
  readonly notes: readonly string[];
  readonly backend: Backend;
  /** What the numbers are, in one line for people. */
  readonly truthLabel: string;
  /** Sends one request through the stack, so that the first screen has a journey to show. */
  firstRequest(): Promise<void>;
  /** Totals for the last line. */
  summary(): Promise<{ readonly requests: number; readonly connections: number; readonly dropped: number }>;
  /** Stops the threads, closes ports and devices. Idempotent. */
  close(): Promise<void>;
}

/**
 * Starts everything below the control server. Rejects with `CommandError`: a busy port asked for, or a privilege that
 * is missing.
 */
export async function startServer(_options: ServeOptions): Promise<RunningServer> {
  throw new Error("not wired yet");
}
