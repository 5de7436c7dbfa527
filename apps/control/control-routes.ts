/**
 * The control API (contract §2): one table from method and path to the backend. Answers are JSON unless a route
 * streams.
 */
import { STAGES, type StageName } from "../../src/base/stages.ts";
import { OUTCOMES } from "../../src/journey/journey.ts";
import {
  type Backend,
  type CaptureOf,
  HOSTS,
  type HostName,
  type JourneyQuery,
  REJECT_MODES,
  Refusal,
} from "./backend.ts";
import { UsageError } from "./exit-codes.ts";
import { parseDurationNs, parseLinkSettings } from "./values.ts";

/** A request as a route sees it. */
export interface Call {
  readonly backend: Backend;
  readonly query: URLSearchParams;
  /** What the `*` of the path stood for. */
  readonly rest: string;
  /** The parsed body of a PUT; {} otherwise. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** One call of the API. `parameters` are the query keys it knows; others are refused. */
export interface Route {
  readonly method: "GET" | "PUT";
  /** A trailing `*` matches one path segment. */
  readonly path: string;
  readonly parameters: readonly string[];
  readonly doc: string;
  /** JSON routes; streams are in `control-server.ts` and have none. */
  readonly answer?: (call: Call) => unknown;
}

export const MAX_JOURNEYS = 1000;
const MAX_SYSCALLS = 10_000;
const STAGE_NAMES: readonly StageName[] = STAGES.map((stage) => stage.name);

const get = (path: string, parameters: readonly string[], doc: string, answer?: (call: Call) => unknown): Route => ({
  method: "GET",
  path,
  parameters,
  doc,
  ...(answer ? { answer } : {}),
});
const put = (path: string, parameters: readonly string[], doc: string, answer: (call: Call) => unknown): Route => ({
  method: "PUT",
  path,
  parameters,
  doc,
  answer,
});

export const ROUTES: readonly Route[] = [
  get("/", [], "this page"),
  get("/api/info", [], "version, origin of time, mode", (call) => call.backend.info()),
  get("/api/stages", [], "every stage a request can be in", (call) => call.backend.stages()),
  get("/api/drop-reasons", [], "every reason to drop a frame", (call) => call.backend.dropReasons()),
  get("/api/journeys", ["limit", "outcome", "slower", "stage"], "finished journeys, newest first", (call) =>
    call.backend.journeys(journeyQuery(call.query)),
  ),
  get("/api/journeys/stream", [], "server-sent events, one per finished journey"),
  get("/api/journeys/*", [], "one journey", oneJourney),
  get("/api/sockets", ["host"], "ss -a", (call) => call.backend.sockets(host(call))),
  get("/api/counters", ["host"], "nstat -az", (call) => call.backend.counters(host(call))),
  get("/api/links", ["host"], "ip -s link", (call) => call.backend.links(host(call))),
  get("/api/processes", ["host"], "ps", (call) => call.backend.processes(host(call))),
  get("/api/neighbours", ["host"], "ip neigh", (call) => call.backend.neighbours(host(call))),
  get("/api/routes", ["host"], "ip route", (call) => call.backend.routes(host(call))),
  get("/api/syscalls", ["host", "limit"], "strace -f", (call) =>
    call.backend.syscalls(host(call), integer(call.query, "limit", 100, MAX_SYSCALLS)),
  ),
  get("/api/goroutines", [], "goroutines of the server process", (call) => call.backend.goroutines()),
  get("/api/sysctl", ["host"], "sysctl -a", (call) => call.backend.sysctlList(host(call))),
  get("/api/capture", ["host", "dev"], "pcapng of the host's devices, or of one, until you hang up"),
  get("/metrics", [], "Prometheus text"),
  put("/api/sysctl", ["host"], "{name, value}: sysctl -w", setSysctl),
  put("/api/links/*", [], "{delay, rate, loss, …}: tc qdisc … netem", setLink),
  put("/api/accept", [], "{paused}: stop or resume accept()", (call) =>
    call.backend.setAccept(boolean(call.body, "paused")),
  ),
  put("/api/reject", [], "{port, with}: refuse connections to a port", setReject),
];

/** The routes whose path matches, whatever their method, exact paths before patterns. */
export function routesAt(path: string): { readonly route: Route; readonly rest: string }[] {
  const exact = ROUTES.filter((route) => route.path === path).map((route) => ({ route, rest: "" }));
  if (exact.length > 0) return exact;
  return ROUTES.flatMap((route) => {
    const prefix = route.path.slice(0, -1);
    const rest = path.slice(prefix.length);
    const matches = route.path.endsWith("*") && path.startsWith(prefix) && rest !== "" && !rest.includes("/");
    return matches ? [{ route, rest: decode(rest) }] : [];
  });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Refusal(400, "malformed path", "a % must be followed by two hex digits", "mend the address");
  }
}

/** Throws `Refusal` for a query key the route does not know. */
export function assertKnownParameters(route: Route, query: URLSearchParams): void {
  for (const key of query.keys()) {
    if (route.parameters.includes(key)) continue;
    const known = route.parameters.length > 0 ? route.parameters.join(", ") : "no parameters";
    throw new Refusal(400, `unknown parameter "${key}"`, `${route.path} takes ${known}`, "remove it or mend its name");
  }
}

function integer(query: URLSearchParams, key: string, fallback: number, max: number): number {
  const text = query.get(key);
  if (text === null) return fallback;
  const value = /^[0-9]+$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= max) return value;
  throw new Refusal(
    400,
    `${key}=${text} is not accepted`,
    `${key} must be a whole number from 1 to ${max}`,
    `ask with ${key}=${Math.min(100, max)}`,
  );
}

function oneOf<T extends string>(what: string, text: string, known: readonly T[], status = 400): T {
  if ((known as readonly string[]).includes(text)) return text as T;
  throw new Refusal(
    status,
    `unknown ${what} "${text}"`,
    `${what} is one of ${known.join(", ")}`,
    `ask with ${what}=${known[0]}`,
  );
}

function host(call: Call): HostName {
  return hostOf(call.query);
}

/** What a capture's query names. Throws `Refusal` (404) for a host or a device that is not there. */
export async function captureOf(backend: Backend, query: URLSearchParams): Promise<CaptureOf> {
  const host = hostOf(query);
  const dev = query.get("dev");
  const names = (await backend.links(host)).map((link) => link.name);
  if (dev === null) return { host };
  if (names.includes(dev)) return { host, dev };
  throw new Refusal(404, `no device "${dev}" on ${host}`, `it has ${names.join(", ")}`, "name one of them");
}

/** The host a query names; the server by default. Throws `Refusal` for one that is not there. */
export function hostOf(query: URLSearchParams): HostName {
  return oneOf("host", query.get("host") ?? "server", HOSTS);
}

function journeyQuery(query: URLSearchParams): JourneyQuery {
  const outcome = query.get("outcome") || undefined;
  const stage = query.get("stage") || undefined;
  const slower = query.get("slower") || undefined;
  return {
    limit: integer(query, "limit", 100, MAX_JOURNEYS),
    ...(outcome === undefined ? {} : { outcome: oneOf("outcome", outcome, OUTCOMES) }),
    ...(stage === undefined ? {} : { stage: oneOf("stage", stage, STAGE_NAMES) }),
    ...(slower === undefined
      ? {}
      : { slowerNs: /^[0-9]+$/.test(slower) ? Number(slower) : parseDurationNs("slower", slower) }),
  };
}

async function oneJourney(call: Call): Promise<unknown> {
  const id = /^-?[0-9]{1,15}$/.test(call.rest) ? Number(call.rest) : 0;
  const journey = id !== 0 ? await call.backend.journey(id) : null;
  if (journey) return journey;
  throw new Refusal(
    404,
    `no journey ${call.rest}`,
    "no journey has this id, or it has left the recorder's memory",
    "GET /api/journeys lists those that are kept",
  );
}

async function setSysctl(call: Call): Promise<unknown> {
  const name = text(call.body, "name");
  const value = String(scalar(call.body, "value"));
  const rows = await call.backend.sysctlList(host(call));
  if (!rows.some((row) => row.name === name)) {
    throw new Refusal(
      404,
      `unknown sysctl "${name}"`,
      "this host has no sysctl of that name",
      "GET /api/sysctl lists them all",
    );
  }
  const problem = await call.backend.sysctlSet(host(call), name, value);
  if (problem !== null)
    throw new Refusal(400, `sysctl ${name} = ${value} was refused`, problem, `GET /api/sysctl shows its present value`);
  const after = await call.backend.sysctlList(host(call));
  return after.find((row) => row.name === name);
}

function setLink(call: Call): unknown {
  const pairs = Object.keys(call.body).map((key): [string, string] => [key, String(scalar(call.body, key))]);
  if (pairs.length === 0)
    throw new Refusal(400, "nothing to set", "the body names no setting", 'send {"delay":"10ms"}');
  return call.backend.setLink(call.rest, parseLinkSettings("link", pairs));
}

function setReject(call: Call): unknown {
  const port = call.body["port"];
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Refusal(
      400,
      "port is not accepted",
      "port must be a whole number from 1 to 65535",
      'send {"port":80,"with":"tcp-reset"}',
    );
  }
  return call.backend.setReject(port, oneOf("with", text(call.body, "with"), REJECT_MODES));
}

function scalar(body: Call["body"], key: string): string | number {
  const value = body[key];
  if (typeof value === "string" || (typeof value === "number" && Number.isFinite(value))) return value;
  throw new Refusal(
    400,
    `"${key}" is missing or not a string or number`,
    "the body must carry it",
    `send {"${key}": …}`,
  );
}

function text(body: Call["body"], key: string): string {
  const value = body[key];
  if (typeof value === "string" && value !== "") return value;
  throw new Refusal(400, `"${key}" is missing or not a string`, "the body must carry it", `send {"${key}": "…"}`);
}

function boolean(body: Call["body"], key: string): boolean {
  const value = body[key];
  if (typeof value === "boolean") return value;
  throw new Refusal(400, `"${key}" is missing or not true or false`, "the body must carry it", `send {"${key}": true}`);
}

/** What to answer for something thrown: `Refusal` and `UsageError` are the caller's, all else is ours. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof UsageError) return new Refusal(400, error.message, error.why, error.next);
  const why = error instanceof Error ? error.message : String(error);
  return new Refusal(500, "internal error", why, "this is a bug; the server goes on");
}
