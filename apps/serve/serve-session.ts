/**
 * What `serve` runs: a kernel with its topology, the server's processes, the port forward, and the collector of
 * journeys.
 *
 *   main thread                       kernel thread                     process threads
 *   control API, collector            topology (client, router,         the site, one per worker
 *   client process: port forward ───► server: all floors) ◄────────────► rings and doorbells
 *
 * With `--kernel inline` all of it shares the main thread.
 */
import { randomInt } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { Backend, LinkSettings } from "../control/backend.ts";
import { CommandError, ExitCode } from "../control/exit-codes.ts";
import { InlineSession, type Session, type SessionOptions, type Summary, ThreadSession } from "./session.ts";
import { SessionBackend } from "./session-backend.ts";
import { warmUp } from "./warm-up.ts";

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
  /** `--link`: settings of the wires between client, router and server. */
  readonly link: LinkSettings;
  readonly kernel: "thread" | "inline";
  /** Server processes, each with its own listener (SO_REUSEPORT). */
  readonly workers: number;
  /** listen(2) backlog of each listener. */
  readonly backlog: number;
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
  /** Rejects when the kernel or a server process dies on its own. */
  readonly ended: Promise<unknown>;
  /** Totals for the last line. */
  summary(): Promise<Summary>;
  /** Stops the threads, closes ports and devices. Idempotent. */
  close(): Promise<void>;
}

const TRUTH = "user-space stack: our TCP/IP on simulated links; times are real";
/**
 * Unrecorded requests, ten in a row on so many connections at once: the JIT compiles what the first recorded one runs.
 */
const WARM_UP_PARALLEL = 20;
const WARM_UP_ROUNDS = 10;
const SITE_PORT = 3000;

/**
 * Starts everything below the control server. Rejects with `CommandError`: a busy port asked for, a device that this
 * version cannot open.
 */
export async function startServer(options: ServeOptions): Promise<RunningServer> {
  refuseDevices(options);
  const session = await openSession(options);
  // No more at once than the listener's queues hold: our own requests must not be the first to overflow them.
  const parallel = Math.max(1, Math.min(WARM_UP_PARALLEL, options.backlog));
  const warmUps = parallel * WARM_UP_ROUNDS;
  try {
    await session.listen(options.port, options.portAsked);
    await Promise.race([warmUp(session.client, warmUps, parallel), session.ended]);
    await session.startRecording();
  } catch (error) {
    await session.close();
    throw error;
  }
  const moved = options.port !== 0 && session.hostPort !== options.port;
  return {
    siteUrl: `http://127.0.0.1:${session.hostPort}/`,
    notes: moved ? [`port ${options.port} is taken: the site moved to ${session.hostPort}`] : [],
    backend: new SessionBackend(session),
    truthLabel: TRUTH,
    ended: session.ended,
    firstRequest: () => warmUp(session.client, 1, 1),
    summary: () => session.summary(warmUps),
    close: () => session.close(),
  };
}

function openSession(options: ServeOptions): Promise<Session> {
  // Wall-clock time of journey time 0: taken once, so that Date headers and the API agree.
  const originNs = process.hrtime.bigint();
  const originUnixNs = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
  const sessionOptions: SessionOptions = {
    originNs,
    originUnixNs,
    seed: options.seed ?? randomInt(2 ** 32),
    link: options.link,
    workers: options.workers,
    sitePort: SITE_PORT,
    site: {
      addr: `:${SITE_PORT}`,
      originUnixNs,
      limits: { bodyBytes: options.maxBodyBytes },
      timeouts: { headNs: options.headerTimeoutNs, bodyNs: options.bodyTimeoutNs },
      listen: { backlog: options.backlog, reusePort: options.workers > 1 },
    },
  };
  return options.kernel === "thread" ? ThreadSession.open(sessionOptions) : InlineSession.open(sessionOptions);
}

function refuseDevices(options: ServeOptions): void {
  const flag = options.tap ? "--tap" : options.streamPath === undefined ? undefined : "--stream";
  if (flag === undefined) return;
  throw new CommandError(
    ExitCode.failed,
    `${flag} is not there yet`,
    "this version carries packets only over its own in-memory links",
    "leave the flag out: curl reaches the stack through the port forward",
  );
}
