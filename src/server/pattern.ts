/**
 * Patterns of `ServeMux`, as Go 1.22 defines them (https://pkg.go.dev/net/http#hdr-Patterns-ServeMux):
 *
 *     [METHOD ][HOST]/[PATH]      /items/{id}   /files/{path...}   /{$}   GET example.com/
 *
 * A path is a list of segments: a literal, `{name}` for exactly one segment, `{name...}` or a trailing slash for the
 * rest, `{$}` for the end after a slash. This file also says how two patterns relate, for precedence and conflicts.
 */
import { SLASH, TOKEN } from "../proto/http1/tables.ts";

export type SegmentKind = "literal" | "wild" | "multi";

export interface Segment {
  readonly kind: SegmentKind;
  /** The literal (unescaped; "/" for `{$}`) or the wildcard's name ("" for a trailing slash). */
  readonly text: string;
}

export interface Pattern {
  /** As it was written. */
  readonly text: string;
  /** "" matches every method. */
  readonly method: string;
  /** "" matches every host. */
  readonly host: string;
  readonly segments: readonly Segment[];
  /** Where it was registered: file:line, or "". */
  readonly place: string;
}

/** A pattern that could not be registered: a programmer's mistake, thrown when routes are set up. */
export class PatternError extends Error {
  override readonly name = "PatternError";
}

/** Parses `text`; throws `PatternError` saying what is wrong and at which offset. */
export function parsePattern(text: string, place = ""): Pattern {
  if (text === "") throw new PatternError("empty pattern");
  const blank = /[ \t]/.exec(text);
  const method = blank ? text.slice(0, blank.index) : "";
  const rest = blank ? text.slice(blank.index).replace(/^[ \t]+/, "") : text;
  const restAt = text.length - rest.length;
  const fail = (at: number, why: string): never => {
    throw new PatternError(`at offset ${at}: ${why}`);
  };
  if (method !== "" && !isToken(method)) fail(0, `invalid method ${JSON.stringify(method)}`);
  const slash = rest.indexOf("/");
  if (slash < 0) fail(restAt, "host/path missing /");
  const host = rest.slice(0, slash);
  const brace = host.indexOf("{");
  if (brace >= 0) fail(restAt + brace, "host contains '{' (missing initial '/'?)");
  const path = rest.slice(slash);
  if (method !== "" && method !== "CONNECT" && path !== cleanPath(path)) {
    fail(restAt + slash, "non-CONNECT pattern with unclean path can never match");
  }
  return { text, method, host, segments: parseSegments(path, restAt + slash, fail), place };
}

function parseSegments(path: string, pathAt: number, fail: (at: number, why: string) => never): Segment[] {
  const segments: Segment[] = [];
  const names = new Set<string>();
  const parts = path.slice(1).split("/");
  // Offsets name the first byte of a segment's slash.
  let at = pathAt;
  for (const [i, part] of parts.entries()) {
    const isLast = i === parts.length - 1;
    const open = part.indexOf("{");
    if (open < 0) {
      segments.push(
        isLast && part === "" ? { kind: "multi", text: "" } : { kind: "literal", text: unescapeOrKeep(part) },
      );
    } else {
      if (open !== 0 || !part.endsWith("}"))
        fail(at + 1, "bad wildcard segment (must start with '{' and end with '}')");
      segments.push(parseWildcard(part.slice(1, -1), isLast, names, at + 1, fail));
    }
    at += part.length + 1;
  }
  return segments;
}

type Fail = (at: number, why: string) => never;

function parseWildcard(inner: string, isLast: boolean, names: Set<string>, at: number, fail: Fail): Segment {
  if (inner === "$") {
    if (!isLast) fail(at, "{$} not at end");
    return { kind: "literal", text: "/" };
  }
  const multi = inner.endsWith("...");
  const name = multi ? inner.slice(0, -3) : inner;
  if (multi && !isLast) fail(at, "{...} wildcard not at end");
  if (name === "") fail(at, "empty wildcard");
  if (!/^[\p{L}_][\p{L}\p{Nd}_]*$/u.test(name)) fail(at, `bad wildcard name ${JSON.stringify(name)}`);
  if (names.has(name)) fail(at, `duplicate wildcard name ${JSON.stringify(name)}`);
  names.add(name);
  return { kind: multi ? "multi" : "wild", text: name };
}

function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127 || !TOKEN[text.charCodeAt(i)]) return false;
  return text.length > 0;
}

/** Percent-decoding as UTF-8; text that is not well-formed stays as it is. */
export function unescapeOrKeep(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The canonical path: one slash at a time, "." and ".." resolved, a trailing slash kept. */
export function cleanPath(path: string): string {
  if (path.charCodeAt(0) === SLASH && !path.includes("//") && !path.includes("/.")) return path;
  const parts: string[] = [];
  const all = path.split("/");
  for (const part of all) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  const last = all.at(-1);
  const isDirectory = last === "";
  return `/${parts.join("/")}${isDirectory && parts.length > 0 ? "/" : ""}`;
}

/**
 * How two patterns relate, as bits: what the first matches beyond the second, and the second beyond the first.
 * Relations of parts combine by OR; `disjoint` swallows the rest.
 */
export const Relation = { equivalent: 0, moreGeneral: 1, moreSpecific: 2, overlaps: 3, disjoint: 4 } as const;
export type Relation = (typeof Relation)[keyof typeof Relation];

function combine(a: Relation, b: Relation): Relation {
  const both = a | b;
  return both >= Relation.disjoint ? Relation.disjoint : (both as Relation);
}

/** "" is more general than any method, GET than HEAD (a GET handler answers HEAD). */
export function compareMethods(a: Pattern, b: Pattern): Relation {
  if (a.method === b.method) return Relation.equivalent;
  if (a.method === "" || (a.method === "GET" && b.method === "HEAD")) return Relation.moreGeneral;
  if (b.method === "" || (b.method === "GET" && a.method === "HEAD")) return Relation.moreSpecific;
  return Relation.disjoint;
}

function compareSegments(a: Segment, b: Segment): Relation {
  if (a.kind === b.kind) return a.kind !== "literal" || a.text === b.text ? Relation.equivalent : Relation.disjoint;
  if (a.kind === "multi") return Relation.moreGeneral;
  if (b.kind === "multi") return Relation.moreSpecific;
  // One is `{x}`, the other a literal: `{$}` is the end of the path, which `{x}` never matches.
  if (a.kind === "wild") return b.text === "/" ? Relation.disjoint : Relation.moreGeneral;
  return a.text === "/" ? Relation.disjoint : Relation.moreSpecific;
}

function endsInMulti(pattern: Pattern): boolean {
  return pattern.segments.at(-1)?.kind === "multi";
}

/** How the sets of paths relate. */
export function comparePaths(a: Pattern, b: Pattern): Relation {
  const common = Math.min(a.segments.length, b.segments.length);
  let relation: Relation = Relation.equivalent;
  for (let i = 0; i < common; i++) relation = combine(relation, compareSegments(a.segments[i], b.segments[i]));
  if (a.segments.length === b.segments.length) return relation;
  // The longer one can only meet the shorter one in the shorter's last, rest-taking segment.
  if (a.segments.length < b.segments.length)
    return combine(relation, endsInMulti(a) ? Relation.moreGeneral : Relation.disjoint);
  return combine(relation, endsInMulti(b) ? Relation.moreSpecific : Relation.disjoint);
}

/** True if some request matches both and neither pattern is the more specific one. */
export function conflicts(a: Pattern, b: Pattern): boolean {
  if (a.host !== b.host) return false;
  const relation = combine(compareMethods(a, b), comparePaths(a, b));
  return relation === Relation.equivalent || relation === Relation.overlaps;
}

/** Why two conflicting patterns conflict, with example paths. */
export function describeConflict(a: Pattern, b: Pattern): string {
  const methods = compareMethods(a, b);
  const paths = comparePaths(a, b);
  if (methods === Relation.equivalent && paths === Relation.equivalent)
    return `${a.text} matches the same requests as ${b.text}`;
  if (paths === Relation.overlaps) {
    return (
      `${a.text} and ${b.text} both match some paths, like ${JSON.stringify(commonPath(a, b))}.\n` +
      `But neither is more specific than the other.\n` +
      `${a.text} matches ${JSON.stringify(differencePath(a, b))}, but ${b.text} doesn't.\n` +
      `${b.text} matches ${JSON.stringify(differencePath(b, a))}, but ${a.text} doesn't.`
    );
  }
  const more = methods === Relation.moreGeneral ? "more" : "fewer";
  const specific = paths === Relation.moreGeneral ? "general" : "specific";
  return `${a.text} matches ${more} methods than ${b.text}, but has a more ${specific} path pattern`;
}

/** A path both patterns match; they must not be disjoint. */
export function commonPath(a: Pattern, b: Pattern): string {
  let path = "";
  const length = Math.max(a.segments.length, b.segments.length);
  for (let i = 0; i < length; i++) {
    const one = a.segments[i] ?? b.segments[i];
    const other = b.segments[i] ?? a.segments[i];
    path += segmentText(one.kind === "literal" ? one : other.kind === "multi" ? one : other);
  }
  return path;
}

/** A path that `a` matches and `b` does not; they must overlap, or `a` be the more general one. */
export function differencePath(a: Pattern, b: Pattern): string {
  let path = "";
  for (let i = 0; i < a.segments.length; i++) {
    const one = a.segments[i];
    const other = b.segments[i];
    if (one.kind === "multi") {
      // Against {$} the rest must not be empty; against anything longer, empty will do.
      if (other?.kind === "literal" && other.text === "/") return `${path}/${one.text || "x"}`;
      return `${path}/`;
    }
    if (one.kind === "wild" && other?.kind === "literal")
      path += `/${one.text === other.text ? `${one.text}x` : one.text}`;
    else path += segmentText(one);
  }
  return path;
}

function segmentText(segment: Segment): string {
  return segment.kind === "multi" || segment.text === "/" ? "/" : `/${segment.text}`;
}
