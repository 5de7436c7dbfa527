import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { formatFinding, RULES, tidy } from "./tidy.ts";

const made: string[] = [];
afterEach(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true });
});

/** Writes the files to a temporary tree and returns `file:line rule` of each finding. */
function findingsIn(files: Record<string, string>, only?: keyof typeof RULES): string[] {
  const root = mkdtempSync(join(tmpdir(), "tidy-"));
  made.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return tidy(root)
    .filter(({ rule }) => only === undefined || rule === only)
    .map(({ file, line, rule }) => `${file}:${line} ${rule}`);
}

describe("tidy", () => {
  it("has nothing to say about this repository", () => {
    const root = join(dirname(fileURLToPath(import.meta.url)), "..");
    expect(tidy(root).map(formatFinding)).toEqual([]);
  });

  it("finds ambient time below the roof, and leaves members, comments and the roof alone", () => {
    const text =
      "export const a = Date.now();\nexport const b = Math.random();\n// Date\nexport const c = { Date: 1 };\nc.Date;\n";
    expect(findingsIn({ "src/proto/x.ts": text, "src/host/x.ts": text, "apps/x.ts": text }, "ambient-time")).toEqual([
      "src/proto/x.ts:1 ambient-time",
      "src/proto/x.ts:2 ambient-time",
    ]);
  });

  it("finds async and promises below runtime only", () => {
    const text = "export async function f() {\n  await g();\n}\nexport const p = Promise.resolve();\n";
    expect(findingsIn({ "src/socket/x.ts": text, "src/runtime/x.ts": text }, "async")).toEqual([
      "src/socket/x.ts:1 async",
      "src/socket/x.ts:2 async",
      "src/socket/x.ts:4 async",
    ]);
  });

  it("finds BigInt on the floors that see every frame", () => {
    const text = "export const a = 1n;\nexport const b = (v: DataView) => v.getBigUint64(0);\n";
    expect(findingsIn({ "src/wire/x.ts": text, "src/transport/x.ts": text }, "bigint")).toEqual([
      "src/wire/x.ts:1 bigint",
      "src/wire/x.ts:2 bigint",
    ]);
  });

  it("counts lines of files and functions; tests may have long functions", () => {
    const lines = (n: number) => "  f();\n".repeat(n);
    const body = (n: number) => `export function f() {\n${lines(n)}}\n`;
    expect(findingsIn({ "tools/a.ts": body(68) })).toEqual([]);
    expect(findingsIn({ "tools/a.ts": body(69) })).toEqual(["tools/a.ts:1 function-length"]);
    expect(findingsIn({ "tools/a.test.ts": body(69) })).toEqual([]);
    expect(findingsIn({ "tools/a.ts": lines(800) })).toEqual([]);
    expect(findingsIn({ "tools/a.ts": lines(801) })).toEqual(["tools/a.ts:1 file-length"]);
  });

  it("finds long lines, but not what cannot be broken", () => {
    const long = "x".repeat(130);
    expect(findingsIn({ "tools/a.ts": `const a = 1 + ${"1 + ".repeat(30)}1;\n` })).toEqual([
      "tools/a.ts:1 line-length",
    ]);
    expect(findingsIn({ "tools/a.ts": `// https://${long}\n  doc: "${long} ${long}",\n` })).toEqual([]);
  });

  it("bans allocation in the functions of hot files, not in constructors, module constants or cold functions", () => {
    const text = `/** Per packet. @hot */
export const table = new Map();
export class Pool {
  private readonly free = [1];
  constructor() { this.free = [...this.free]; }
  take(bytes: Uint8Array, rest: number[]) {
    const a = new Uint8Array(1);
    const b = () => 1;
    const c = bytes.subarray(1);
    const d = bytes.slice(1);
    const e = \`\${a}\`;
    const f = { a };
    return g(...rest, [b, c, d, e, f]);
  }
  rows() { // tidy-allow hot: printed for people
    return [this.free];
  }
}
`;
    const found = [7, 8, 9, 10, 11, 12, 13, 13].map((line) => `src/skb/x.ts:${line} hot`);
    expect(findingsIn({ "src/skb/x.ts": text }, "hot")).toEqual(found);
    expect(findingsIn({ "src/skb/x.ts": text.replace("@hot", "cool") }, "hot")).toEqual([]);
  });

  it("wants every hot file listed, and at most eight", () => {
    const hot = (n: number) =>
      Object.fromEntries(Array.from({ length: n }, (_, i) => [`src/skb/f${i}.ts`, "/** @hot */\n"]));
    const list = (n: number) => ({
      "ARCHITECTURE.md": Object.keys(hot(n))
        .map((path) => `\`${path}\``)
        .join("\n"),
    });
    expect(findingsIn({ ...hot(8), ...list(8) }, "hot-list")).toEqual([]);
    expect(findingsIn({ ...hot(2), ...list(1) }, "hot-list")).toEqual(["src/skb/f1.ts:1 hot-list"]);
    expect(findingsIn({ ...hot(9), ...list(9) }, "hot-list")).toEqual(["ARCHITECTURE.md:1 hot-list"]);
  });

  it("finds drawers and names that are not kebab-case", () => {
    const files = ["utils.ts", "tcp-helpers.ts", "types.ts", "Tcb.ts", "fast-path.ts", "fast-path.test.ts"];
    expect(findingsIn(Object.fromEntries(files.map((name) => [`src/x/${name}`, ""])), "file-name")).toEqual([
      "src/x/Tcb.ts:1 file-name",
      "src/x/tcp-helpers.ts:1 file-name",
      "src/x/types.ts:1 file-name",
      "src/x/utils.ts:1 file-name",
    ]);
  });

  it("finds dead files; only their own test does not keep them alive", () => {
    const files = {
      "src/index.ts": 'export * from "./a/used.ts";\n',
      "src/a/used.ts": 'new Worker(new URL("./worker.js", here));\n',
      "src/a/worker.ts": "",
      "src/a/thread.ts": "/** The kernel's thread. @worker */\n",
      "src/a/dead.ts": "",
      "src/a/dead.test.ts": 'import "./dead.ts";\n',
      "src/a/tested.ts": "",
      "tests/x.test.ts": 'import "../src/a/tested.ts";\n',
    };
    expect(findingsIn(files, "dead-file")).toEqual(["src/a/dead.ts:1 dead-file"]);
  });

  it("wants a reason on every suppression and skip", () => {
    // In pieces, so that tidy does not find its own fixtures.
    const text = [
      ["//", "@ts-expect-error"].join(" "),
      ["//", "@ts-expect-error: the type says never, the driver says 0"].join(" "),
      ["//", "biome-ignore lint/suspicious/noExplicitAny: foreign type"].join(" "),
      ["//", "biome-ignore format:"].join(" "),
      ["it", 'skip("x", () => {});'].join("."),
      ["it", 'skip("x", () => {}); // waits for the router of a later release'].join("."),
      ["it", 'only("x", () => {}); // waits for the router of a later release'].join("."),
    ].join("\n");
    expect(findingsIn({ "tools/a.test.ts": text })).toEqual([
      "tools/a.test.ts:1 reason",
      "tools/a.test.ts:4 reason",
      "tools/a.test.ts:5 skipped-test",
      "tools/a.test.ts:7 skipped-test",
    ]);
  });

  it("finds variables of modules below the roof", () => {
    expect(
      findingsIn({ "src/sim/x.ts": "let a = 1;\nconst b = 2;\nfunction f() { let c = 3; }\n" }, "global-state"),
    ).toEqual(["src/sim/x.ts:1 global-state"]);
  });

  it("finds machine paths, registry hosts, notes and download addresses", () => {
    const machine = ["see /wo", "rk/main/x, not src/wo", "rk/x"].join("");
    const registry = ["https://registry.npm", "js.org/x"].join("");
    const note = ["TO", "DO later"].join("");
    expect(
      findingsIn({
        "README.md": `${machine}\n${registry}\n${note}\n`,
        "package-lock.json": '{\n"resolved": "https://x"\n}',
      }),
    ).toEqual([
      "README.md:1 machine",
      "README.md:2 machine",
      "README.md:3 unfinished",
      "package-lock.json:2 lock-file",
    ]);
  });

  it("says file, line, ban, replacement and reason in one line", () => {
    expect(formatFinding({ file: "src/wire/x.ts", line: 3, rule: "bigint", what: "1n" })).toBe(
      `src/wire/x.ts:3  bigint: 1n → ${RULES.bigint[0]}: ${RULES.bigint[1]}`,
    );
  });
});
