/**
 * `ServeMux`: Go 1.22's request router. The most specific pattern wins; two patterns neither of which is more specific
 * cannot both be registered, and the error names both places. Unclean paths and missing slashes are redirected.
 */
import { cleanPath, conflicts, describeConflict, type Pattern, PatternError, parsePattern } from "./pattern.ts";
import type { Request } from "./request.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { type Match, RoutingTree } from "./routing-tree.ts";

/** What answers a request. A promise is made only if the handler makes one. */
export type Handler = (w: ResponseWriter, r: Request) => void | Promise<void>;

/** Where a request goes. */
export interface Route {
  readonly handler: Handler;
  /** The pattern's text; "" for redirects to a clean path, 404 and 405. */
  readonly pattern: string;
  /** Wildcard values by name. */
  readonly values: ReadonlyMap<string, string>;
  /** The same method and path always give this route: nothing in it comes from the request. */
  readonly isLiteral: boolean;
  /** Set if the route is a redirect (301). */
  readonly redirect?: string;
}

const NO_VALUES: ReadonlyMap<string, string> = new Map();

/** Routes of literal paths remembered by method and path; more are looked up in the tree. */
const REMEMBERED_MAX = 1024;

export class ServeMux {
  private readonly tree = new RoutingTree<Handler>();
  private readonly patterns: Pattern[] = [];
  private hasHosts = false;
  private readonly remembered = new Map<string, Map<string, Route>>();
  private rememberedCount = 0;

  /**
   * Registers a handler. Throws `PatternError` for a bad pattern, or one that conflicts with an earlier one.
   * `place` is where the call stands (file:line); by default it is found out.
   */
  handle(pattern: string, handler: Handler, place: string = callerPlace()): void {
    if (pattern === "") throw new PatternError("http: invalid pattern");
    if (typeof handler !== "function") throw new PatternError("http: nil handler");
    const parsed = parseNamed(pattern, place);
    for (const other of this.patterns) {
      if (!conflicts(parsed, other)) continue;
      throw new PatternError(
        `pattern ${JSON.stringify(pattern)} (registered at ${place}) conflicts with pattern ` +
          `${JSON.stringify(other.text)} (registered at ${other.place}):\n${describeConflict(parsed, other)}`,
      );
    }
    this.patterns.push(parsed);
    this.tree.add(parsed, handler);
    this.hasHosts ||= parsed.host !== "";
    this.remembered.clear();
    this.rememberedCount = 0;
  }

  /** The route of a request. A literal path costs two look-ups, whatever the number of patterns. */
  route(r: Request): Route {
    if (this.hasHosts) return this.find(r.method, r.host, r.escapedPath, r.query);
    const path = r.escapedPath;
    const known = this.remembered.get(r.method)?.get(path);
    if (known !== undefined) return known;
    const route = this.find(r.method, "", path, r.query);
    if (route.isLiteral) this.remember(r.method, path, route);
    return route;
  }

  private remember(method: string, path: string, route: Route): void {
    if (this.rememberedCount === REMEMBERED_MAX) return;
    this.rememberedCount++;
    const paths = this.remembered.get(method);
    if (paths !== undefined) paths.set(path, route);
    else this.remembered.set(method, new Map([[path, route]]));
  }

  /** Finds the handler of a request: `host` may carry a port, `path` is escaped as it came, `query` without "?". */
  find(method: string, host: string, path: string, query = ""): Route {
    const bare = stripPort(host);
    // A CONNECT target is used as it is: a proxy cleans nothing.
    const clean = method === "CONNECT" ? path : cleanPath(path);
    const match = this.tree.match(method, bare, clean);
    if (!isExact(match?.pattern, clean) && !clean.endsWith("/")) {
      const slashed = this.tree.match(method, bare, `${clean}/`);
      if (isExact(slashed?.pattern, `${clean}/`)) return redirectTo(`${clean}/`, query, slashed?.pattern.text);
    }
    if (clean !== path) return redirectTo(clean, query, match?.pattern.text);
    if (match !== undefined) return matchedRoute(match);
    const allowed = this.tree.methodsOf(bare, clean);
    return allowed.length > 0 ? methodNotAllowed(allowed) : NOT_FOUND;
  }

  /** A handler of its own, to be put inside another one. */
  readonly serveHttp: Handler = (w, r) => {
    const route = this.route(r);
    r.matched(route.pattern, route.values);
    return route.handler(w, r);
  };
}

function parseNamed(pattern: string, place: string): Pattern {
  try {
    return parsePattern(pattern, place);
  } catch (error) {
    throw new PatternError(`parsing ${JSON.stringify(pattern)}: ${(error as Error).message}`);
  }
}

/** True if `pattern` matches `path` without a rest taken by `/` or `{x...}`: nothing better could be redirected to. */
export function isExact(pattern: Pattern | undefined, path: string): boolean {
  if (pattern === undefined) return false;
  if (pattern.segments.at(-1)?.kind !== "multi") return true;
  return path.endsWith("/") && path.split("/").length - 1 === pattern.segments.length;
}

function matchedRoute(match: Match<Handler>): Route {
  const isLiteral = match.pattern.segments.every((segment) => segment.kind === "literal");
  return { handler: match.value, pattern: match.pattern.text, values: valuesOf(match), isLiteral };
}

function valuesOf(match: Match<Handler>): ReadonlyMap<string, string> {
  if (match.wildcards.length === 0) return NO_VALUES;
  const values = new Map<string, string>();
  let i = 0;
  for (const segment of match.pattern.segments) {
    if (segment.kind !== "literal" && segment.text !== "") values.set(segment.text, match.wildcards[i++]);
  }
  return values;
}

/** The host without its port; brackets of an IPv6 literal stay. */
export function stripPort(host: string): string {
  const colon = host.lastIndexOf(":");
  return colon < 0 || colon < host.lastIndexOf("]") ? host : host.slice(0, colon);
}

function redirectTo(path: string, query: string, pattern = ""): Route {
  const url = query === "" ? path : `${path}?${query}`;
  const handler: Handler = (w) => {
    w.header().set("Location", url);
    w.error(301, `Moved Permanently: ${url}`);
  };
  return { handler, pattern, values: NO_VALUES, isLiteral: false, redirect: url };
}

/** Answers 404 as Go does. */
export const notFound: Handler = (w) => w.error(404, "404 page not found");

const NOT_FOUND: Route = { handler: notFound, pattern: "", values: NO_VALUES, isLiteral: false };

function methodNotAllowed(allowed: string[]): Route {
  const handler: Handler = (w) => {
    w.header().set("Allow", allowed.join(", "));
    w.error(405, "Method Not Allowed");
  };
  return { handler, pattern: "", values: NO_VALUES, isLiteral: false };
}

/** file:line of the code that called `handle`. */
function callerPlace(): string {
  // Frames: Error, callerPlace, handle, the caller.
  const frame = new Error("where").stack?.split("\n")[3] ?? "";
  return /\(?((?:[^\s()]+):\d+):\d+\)?$/.exec(frame.trim())?.[1] ?? "unknown place";
}
