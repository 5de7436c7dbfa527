/**
 * The tree `ServeMux` looks requests up in: host, then method, then path segment by segment; at every step the more
 * specific branch first, so the first match is the right one (patterns that would make that untrue conflict).
 */
import { type Pattern, type Segment, unescapeOrKeep } from "./pattern.ts";

/** What matched: the pattern, its value, and the wildcards' texts in the pattern's order (no unnamed rest). */
export interface Match<T> {
  readonly pattern: Pattern;
  readonly value: T;
  readonly wildcards: readonly string[];
}

class PathNode<T> {
  readonly literals = new Map<string, PathNode<T>>();
  wild: PathNode<T> | undefined;
  multi: PathNode<T> | undefined;
  leaf: { readonly pattern: Pattern; readonly value: T } | undefined;
}

type Methods<T> = Map<string, PathNode<T>>;

export class RoutingTree<T> {
  private readonly hosts = new Map<string, Methods<T>>();

  add(pattern: Pattern, value: T): void {
    const methods = entry(this.hosts, pattern.host, () => new Map<string, PathNode<T>>());
    let node = entry(methods, pattern.method, () => new PathNode<T>());
    for (const segment of pattern.segments) node = child(node, segment);
    node.leaf = { pattern, value };
  }

  /** The best match, or undefined. `path` is escaped as it came and starts with "/". */
  match(method: string, host: string, path: string): Match<T> | undefined {
    const segments = pathSegments(path);
    const found = host === "" ? undefined : matchMethods(this.hosts.get(host), method, path, segments);
    return found ?? matchMethods(this.hosts.get(""), method, path, segments);
  }

  /** The methods for which some pattern would match, sorted; HEAD goes with GET. */
  methodsOf(host: string, path: string): string[] {
    const segments = pathSegments(path);
    const allowed = new Set<string>();
    for (const name of host === "" ? [""] : [host, ""]) {
      for (const [method, node] of this.hosts.get(name) ?? []) {
        if (method !== "" && matchPath(node, path, segments, 0, []) !== undefined) allowed.add(method);
      }
    }
    if (allowed.has("GET")) allowed.add("HEAD");
    return [...allowed].sort();
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

function child<T>(node: PathNode<T>, segment: Segment): PathNode<T> {
  if (segment.kind === "literal") return entry(node.literals, segment.text, () => new PathNode<T>());
  if (segment.kind === "wild") {
    node.wild ??= new PathNode<T>();
    return node.wild;
  }
  node.multi ??= new PathNode<T>();
  return node.multi;
}

/** One path segment: its unescaped text ("/" for the end after a slash) and where it begins in the path. */
interface PathSegment {
  readonly text: string;
  readonly at: number;
}

/** Splits an escaped path; exported for the tests. "/a/b/" is a, b and "/". */
export function pathSegments(path: string): PathSegment[] {
  const segments: PathSegment[] = [];
  for (let at = 0; at < path.length; ) {
    if (at === path.length - 1) {
      segments.push({ text: "/", at });
      break;
    }
    const slash = path.indexOf("/", at + 1);
    const end = slash < 0 ? path.length : slash;
    segments.push({ text: unescapeOrKeep(path.slice(at + 1, end)), at });
    at = end;
  }
  return segments;
}

function matchMethods<T>(
  methods: Methods<T> | undefined,
  method: string,
  path: string,
  segments: PathSegment[],
): Match<T> | undefined {
  if (methods === undefined) return undefined;
  const names = method === "HEAD" ? ["HEAD", "GET", ""] : [method, ""];
  for (const name of names) {
    const found = matchPath(methods.get(name), path, segments, 0, []);
    if (found !== undefined) return found;
  }
  return undefined;
}

function matchPath<T>(
  node: PathNode<T> | undefined,
  path: string,
  segments: PathSegment[],
  i: number,
  wildcards: readonly string[],
): Match<T> | undefined {
  if (node === undefined) return undefined;
  const segment = segments[i];
  if (segment === undefined) return node.leaf && { ...node.leaf, wildcards };
  // "/" is how `{$}` and the end after a slash are written; a segment that is an escaped slash is neither.
  const isEnd = segment.at === path.length - 1;
  if (isEnd || segment.text !== "/") {
    const literal = matchPath(node.literals.get(segment.text), path, segments, i + 1, wildcards);
    if (literal !== undefined) return literal;
  }
  if (!isEnd && node.wild !== undefined) {
    const wild = matchPath(node.wild, path, segments, i + 1, [...wildcards, segment.text]);
    if (wild !== undefined) return wild;
  }
  const leaf = node.multi?.leaf;
  if (leaf === undefined) return undefined;
  const isNamed = leaf.pattern.segments.at(-1)?.text !== "";
  return { ...leaf, wildcards: isNamed ? [...wildcards, unescapeOrKeep(path.slice(segment.at + 1))] : wildcards };
}
