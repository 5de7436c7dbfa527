/**
 * What the control server asks of a running system. The session behind `serve` implements it over the kernel thread;
 * tests implement it with a table of constants.
 *
 * Rows carry the numbers under the names Linux tools print, so that the CLI only aligns columns. Every method may
 * answer at once or with a promise. To refuse, throw `Refusal`.
 */
import type { StageName } from "../../src/base/stages.ts";
import type { LinkSettings as WireSettings } from "../../src/device/link-settings.ts";
import type { GoroutineRow } from "../../src/host/process-control.ts";
import type {
  LinkRow,
  NeighbourRow,
  ProcessRow,
  RejectMode,
  RouteRow,
  SyscallRow,
  SysctlRow,
} from "../../src/inspect.ts";
import type { Journey, Outcome } from "../../src/journey/journey.ts";
import type { SocketRow } from "../../src/transport/port.ts";

export { REJECT_MODES } from "../../src/inspect.ts";
export type { GoroutineRow, LinkRow, NeighbourRow, ProcessRow, RejectMode, RouteRow, SyscallRow, SysctlRow };

/** What can be changed about a wire; absent = as it is. */
export type LinkSettings = Partial<WireSettings>;

export type Awaitable<T> = T | Promise<T>;

/** The hosts of the topology; `--host` names one. */
export const HOSTS = ["client", "router", "server"] as const;
export type HostName = (typeof HOSTS)[number];

export interface Info {
  readonly version: string;
  /** Unix time of journey time 0, in nanoseconds, decimal. */
  readonly originUnixNs: string;
  readonly node: string;
  /** How the kernel runs. */
  readonly mode: "thread" | "inline";
  /** What the numbers are (contract §1 `truth`). */
  readonly truth: "simulated" | "user-space" | "kernel";
  /** Where the site answers, e.g. http://127.0.0.1:3000/. */
  readonly site: string;
  readonly hosts: readonly string[];
  readonly acceptPaused: boolean;
}

/** A filter of finished journeys (contract §2). */
export interface JourneyQuery {
  /** 1 to 1000, newest first. */
  readonly limit: number;
  readonly outcome?: Outcome;
  /** Only journeys whose `respondedNs` is at least this. */
  readonly slowerNs?: number;
  /** Only journeys that spent time in this stage. */
  readonly stage?: StageName;
}

/** Stops a capture or a subscription. Idempotent. */
export type Stop = () => void;

/** What is captured: one device of a host, or all of them but `lo`. Both exist. */
export interface CaptureOf {
  readonly host: HostName;
  readonly dev?: string;
}

export interface Backend {
  info(): Awaitable<Info>;
  journeys(query: JourneyQuery): Awaitable<readonly Journey[]>;
  journey(id: number): Awaitable<Journey | null>;
  /** Calls back for each finished journey. The callback returns at once and never throws. */
  subscribe(listener: (journey: Journey) => void): Stop;
  sockets(host: HostName): Awaitable<readonly SocketRow[]>;
  /** nstat name → value. */
  counters(host: HostName): Awaitable<Readonly<Record<string, number>>>;
  links(host: HostName): Awaitable<readonly LinkRow[]>;
  processes(host: HostName): Awaitable<readonly ProcessRow[]>;
  neighbours(host: HostName): Awaitable<readonly NeighbourRow[]>;
  routes(host: HostName): Awaitable<readonly RouteRow[]>;
  /** The newest `limit` calls, oldest first. */
  syscalls(host: HostName, limit: number): Awaitable<readonly SyscallRow[]>;
  goroutines(): Awaitable<readonly GoroutineRow[]>;
  sysctlList(host: HostName): Awaitable<readonly SysctlRow[]>;
  /** Error text (as sysctl(8) would say it), or null when set. */
  sysctlSet(host: HostName, name: string, value: string): Awaitable<string | null>;
  /** Returns the new state of every interface on that wire; throws `Refusal` for an unknown name. */
  setLink(name: string, settings: LinkSettings): Awaitable<readonly LinkRow[]>;
  setAccept(paused: boolean): Awaitable<{ readonly paused: boolean }>;
  /** Refuse connections to a port: with a reset, silently, or by ICMP; "none" takes the rule away. */
  setReject(port: number, mode: RejectMode): Awaitable<{ readonly port: number; readonly with: RejectMode }>;
  /** Calls back with pcapng bytes, the section header first, until stopped. */
  capture(what: CaptureOf, onChunk: (chunk: Uint8Array) => void): Stop;
  /** Prometheus text exposition. */
  metrics(): Awaitable<string>;
  stages(): readonly unknown[];
  dropReasons(): readonly unknown[];
}

/** A request the backend or the control server refuses: becomes `{ error, why, next }` with `status`. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  readonly why: string;
  readonly next: string;

  constructor(status: number, error: string, why: string, next: string) {
    super(error);
    this.status = status;
    this.why = why;
    this.next = next;
  }
}
