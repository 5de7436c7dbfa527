/**
 * ServeMux against the tables of Go's own tests, read at test time from ../shared/conformance beside the repository
 * (they are not ours to copy). One adapter per table; every row counts.
 */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { type Handler, isExact, ServeMux } from "./mux.ts";
import {
  cleanPath,
  commonPath,
  compareMethods,
  comparePaths,
  conflicts,
  describeConflict,
  differencePath,
  parsePattern,
  Relation,
  type Segment,
} from "./pattern.ts";
import { pathSegments, RoutingTree } from "./routing-tree.ts";

const FILE = resolve(import.meta.dirname, "../../../shared/conformance/go-mux.json");

// biome-ignore lint/suspicious/noExplicitAny: rows have the shape their table's adapter expects.
type Row = Record<string, any>;
interface Table {
  in: string;
  line: number;
  patterns?: string[];
  rows: Row[];
}

const tables = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Table[]) : [];
if (tables.length === 0) console.warn(`SKIPPED: Go's ServeMux tables, ${FILE} is not there`);

const nothing: Handler = () => {};

function goSegment(expression: string): Segment {
  const [, kind, text] = /^(lit|wild|multi)\("(.*)"\)$/.exec(expression) as unknown as [string, string, string];
  return { kind: kind === "lit" ? "literal" : (kind as "wild" | "multi"), text };
}

function checkRelation(compare: typeof comparePaths, row: Row): void {
  const opposite: Record<string, string> = { moreGeneral: "moreSpecific", moreSpecific: "moreGeneral" };
  const a = parsePattern(row.p1);
  const b = parsePattern(row.p2);
  expect(compare(a, b)).toBe(Relation[row.want.$go as keyof typeof Relation]);
  expect(compare(b, a)).toBe(Relation[(opposite[row.want.$go] ?? row.want.$go) as keyof typeof Relation]);
}

function treeOf(patterns: string[]): RoutingTree<number> {
  const tree = new RoutingTree<number>();
  for (const [i, text] of patterns.entries()) tree.add(parsePattern(text), i);
  return tree;
}

/** Table name → what a row must show. */
const ADAPTERS: Record<string, (row: Row, table: Table) => void> = {
  TestParsePattern(row) {
    const { method, host, segments } = parsePattern(row.in);
    const want = row.want.segments.map((s: { $go: string }) => goSegment(s.$go));
    expect({ method, host, segments }).toEqual({
      method: row.want.method ?? "",
      host: row.want.host ?? "",
      segments: want,
    });
  },
  TestParsePatternError(row) {
    expect(() => parsePattern(row.in)).toThrow(row.contains);
  },
  TestCompareMethods: (row) => checkRelation(compareMethods, row),
  TestComparePaths: (row) => checkRelation(comparePaths, row),
  TestConflictsWith(row) {
    expect(conflicts(parsePattern(row.p1), parsePattern(row.p2))).toBe(row.want);
    expect(conflicts(parsePattern(row.p2), parsePattern(row.p1))).toBe(row.want);
  },
  TestDescribeConflict(row) {
    expect(describeConflict(parsePattern(row.p1), parsePattern(row.p2))).toContain(row.want);
  },
  TestCommonPath(row) {
    expect(commonPath(parsePattern(row.p1), parsePattern(row.p2))).toBe(row.want);
  },
  TestDifferencePath(row) {
    expect(differencePath(parsePattern(row.p1), parsePattern(row.p2))).toBe(row.want);
  },
  TestRoutingFirstSegment(row) {
    expect(pathSegments(row.in).map((segment) => segment.text)).toEqual(row.want);
  },
  TestRoutingNodeMatch(row, table) {
    const match = treeOf(row.patterns ?? table.patterns).match(row.method, row.host, row.path);
    expect(match?.pattern.text ?? "").toBe(row.wantPattern);
    expect(match?.wildcards ?? []).toEqual(row.wantMatches ?? []);
  },
  TestMatchingMethods(row) {
    expect(treeOf(row.patterns).methodsOf(row.host, row.path).join(",")).toBe(row.want);
  },
  TestFindHandler(row, table) {
    const mux = new ServeMux();
    const handlers = new Map<Handler, number>();
    for (const { pat, h } of (tables.find((t) => t.in === table.in) as Table).rows) {
      const handler: Handler = () => {};
      handlers.set(handler, h[0]);
      mux.handle(pat, handler);
    }
    if (row.wantHandler === undefined) return expect(handlers.size).toBe(5);
    const route = mux.find(row.method, "example.com", row.path);
    const got =
      route.redirect === undefined
        ? `&http.handler{i:${handlers.get(route.handler)}}`
        : `&http.redirectHandler{url:"${route.redirect}", code:301}`;
    expect(got).toBe(row.wantHandler);
  },
  TestRegisterErr(row) {
    const mux = new ServeMux();
    mux.handle("/a", nothing);
    const handler = (row.handler?.$go === "h" ? nothing : null) as Handler;
    const wanted = row.wantRegexp.replace("server_test.go", "go-mux.test.ts");
    expect(() => mux.handle(row.pattern, handler)).toThrow(new RegExp(wanted));
  },
  TestExactMatch(row) {
    const match = row.pattern === "" ? undefined : treeOf([row.pattern]).match("GET", "", row.path);
    expect(isExact(match?.pattern, row.path)).toBe(row.want);
  },
  TestEscapedPathsAndPatterns(row) {
    const mux = new ServeMux();
    mux.handle(row.pattern, nothing);
    for (const path of row.paths) expect(mux.find("GET", "", path).handler, path).toBe(nothing);
  },
  TestCleanPath(row) {
    expect(cleanPath(row.in)).toBe(row.want);
  },
};

describe.skipIf(tables.length === 0)("Go's ServeMux tables", () => {
  it("are all there and each has an adapter", () => {
    expect(tables.length).toBe(22);
    expect(tables.reduce((sum, table) => sum + table.rows.length, 0)).toBe(312);
    expect(tables.filter((table) => ADAPTERS[table.in] === undefined).map((table) => table.in)).toEqual([]);
  });

  for (const table of tables) {
    for (const [i, row] of table.rows.entries()) {
      const what = Object.values(row)
        .filter((value) => typeof value === "string")
        .join("  ");
      it(`${table.in}:${table.line} row ${i}: ${what}`, () => ADAPTERS[table.in]?.(row, table));
    }
  }
});
