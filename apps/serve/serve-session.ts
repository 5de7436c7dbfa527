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
import { simulatedPlacement, type Uplink, uplinkPlacement } from "./placement.ts";
import { dropPrivileges } from "./privileges.ts";
import { InlineSession, type Session, type SessionOptions, type Summary, ThreadSession } from "./session.ts";
import { SessionBackend } from "./session-backend.ts";
import { openUplink } from "./uplink.ts";
import { type WarmUpClient, warmUp } from "./warm-up.ts";

/** The arguments of `serve`, parsed and checked. */
export interface ServeOptions {
  /** The site's host port. With `portAsked` a busy port is an error; otherwise the next free one is taken. */
  readonly port: number;
  readonly portAsked: boolean;
  /** `--tap`, `--stream`: the server stands on this real link; no simulated client, no port forward. */
  readonly uplink?: Uplink;
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
  /** Lines for the first screen: port moved, root dropped. */
  readonly notes: readonly string[];
  /** On a real link: what to type so that the outside reaches the server; commands start in the first column. */
  readonly outside?: readonly string[];
  readonly backend: Backend;
  /** What the numbers are, in one line for people. */
  readonly truthLabel: string;
  /** Sends one request through the stack, so that the first screen has a journey to show; absent on a real link. */
  readonly firstRequest?: () => Promise<void>;
  /** Rejects when the kernel or a server process dies on its own. */
  readonly ended: Promise<unknown>;
  /** Totals for the last line. */
  summary(): Promise<Summary>;
  /** Stops the threads, closes ports and devices. Idempotent. */
  close(): Promise<void>;
}

const TRUTH_SIMULATED = "user-space stack: our TCP/IP on simulated links; times are real";
const TRUTH_REAL = "user-space stack: our TCP/IP on a real link; times are real";
/**
 * Unrecorded requests, ten in a row on so many connections at once: the JIT compiles what the first recorded one runs.
 */
const WARM_UP_PARALLEL = 20;
const WARM_UP_ROUNDS = 10;
/** Where the site listens in the simulated topology; a host port leads there. */
const SITE_PORT = 3000;

/**
 * Starts everything below the control server. Rejects with `CommandError`: a busy port asked for, a device that cannot
 * be opened, a privilege that is missing. `onNote`: a line for people about what happens later (a peer of a stream
 * socket came too many, or spoke nonsense).
 */
export function startServer(options: ServeOptions, onNote: (note: string) => void): Promise<RunningServer> {
  return options.uplink === undefined ? startSimulated(options) : startOnUplink(options, options.uplink, onNote);
}

async function startSimulated(options: ServeOptions): Promise<RunningServer> {
  const session = await openSession(options, { placement: simulatedPlacement(options.link), sitePort: SITE_PORT });
  // No more at once than the listener's queues hold: our own requests must not be the first to overflow them.
  const parallel = Math.max(1, Math.min(WARM_UP_PARALLEL, options.backlog));
  const warmUps = parallel * WARM_UP_ROUNDS;
  const client = session.client as WarmUpClient;
  try {
    await session.listen(client, options.port, options.portAsked);
    await Promise.race([warmUp(client, warmUps, parallel), session.ended]);
    await session.startRecording();
  } catch (error) {
    await session.close();
    throw error;
  }
  const moved = options.port !== 0 && session.hostPort !== options.port;
  return {
    ...running(session, warmUps),
    notes: moved ? [`port ${options.port} is taken: the site moved to ${session.hostPort}`] : [],
    truthLabel: TRUTH_SIMULATED,
    firstRequest: () => warmUp(client, 1, 1),
  };
}

/** On a real link only the outside sends requests, so nothing is warmed up: its counters are the outside's. */
async function startOnUplink(
  options: ServeOptions,
  asked: Uplink,
  onNote: (note: string) => void,
): Promise<RunningServer> {
  const placement = uplinkPlacement(asked, options.link);
  const uplink = await openUplink(asked, placement, onNote);
  const session = await openSession(options, { placement, uplink, sitePort: options.port || SITE_PORT }).catch(
    async (error) => {
      await uplink.close();
      throw error;
    },
  );
  try {
    uplink.attach(session.kernel);
    // Every thread has loaded its code and the device is open: nothing needs root from here on.
    const identity = uplink.usedRoot ? dropPrivileges() : undefined;
    await session.startRecording();
    const dropped = identity && `root was dropped: this process is now ${identity.name} (uid ${identity.uid})`;
    return {
      ...running(session, 0),
      notes: dropped === undefined ? [] : [dropped],
      outside: uplink.guide(identity?.bySudo === false),
      truthLabel: TRUTH_REAL,
    };
  } catch (error) {
    await session.close();
    throw error;
  }
}

function running(
  session: Session,
  warmUps: number,
): Pick<RunningServer, "siteUrl" | "backend" | "ended" | "summary" | "close"> {
  return {
    siteUrl: session.siteUrl,
    backend: new SessionBackend(session),
    ended: session.ended,
    summary: () => session.summary(warmUps),
    close: () => session.close(),
  };
}

function openSession(
  options: ServeOptions,
  where: Pick<SessionOptions, "placement" | "uplink" | "sitePort">,
): Promise<Session> {
  // Wall-clock time of journey time 0: taken once, so that Date headers and the API agree.
  const originNs = process.hrtime.bigint();
  const originUnixNs = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
  const sessionOptions: SessionOptions = {
    originNs,
    originUnixNs,
    seed: options.seed ?? randomInt(2 ** 32),
    workers: options.workers,
    ...where,
    site: {
      addr: `:${where.sitePort}`,
      originUnixNs,
      limits: { bodyBytes: options.maxBodyBytes },
      timeouts: { headNs: options.headerTimeoutNs, bodyNs: options.bodyTimeoutNs },
      listen: { backlog: options.backlog, reusePort: options.workers > 1 },
    },
  };
  return options.kernel === "thread" ? ThreadSession.open(sessionOptions) : InlineSession.open(sessionOptions);
}
