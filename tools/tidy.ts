/**
 * Tidy: the house rules that neither the compiler nor dependency-cruiser can see (DESIGN §2).
 *
 * Every finding says file and line, the ban, what to do instead, and why. A line (for hot-path bans also the first line
 * of a function) is excused by a comment on it: `tidy-allow <rule>: <reason>`.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export interface Finding {
  readonly file: string;
  readonly line: number;
  readonly rule: RuleName;
  readonly what: string;
}

/** Rule → what to do instead, and why. */
export const RULES = {
  "ambient-time": [
    "take `Clock.nowNs` and `Prng` from the host's environment",
    "a run is a pure function of seed and code (law 9)",
  ],
  async: [
    "return, and complete later through an upcall or a completion",
    "base to socket is synchronous; the driver turns it (law 1)",
  ],
  bigint: ["use two 32-bit halves, or a double below 2^53", "a BigInt allocates for every frame (law 3)"],
  "file-length": ["split it where it says two things", "at most 800 lines: a file is read in one sitting"],
  "function-length": ["name its parts", "at most 70 lines: a function is read in one look"],
  "line-length": ["break the line", "at most 120 columns: two files stand side by side"],
  hot: [
    "reuse a record, an offset or a loop; mark a cold function on its first line",
    "files headed @hot allocate nothing per packet (law 3)",
  ],
  "hot-list": ["list it (or cool it down) in ARCHITECTURE.md", "at most eight hot files, known by name (law 3)"],
  "file-name": [
    "name the file after the one thing it holds, in kebab-case",
    "drawers collect what has no home (DESIGN §5)",
  ],
  "dead-file": [
    "import it, delete it, or head it @worker if it is started by URL",
    "code nobody calls is not maintained",
  ],
  reason: ["write the reason behind a colon, on the same line", "a suppression without a reason is never taken back"],
  "global-state": ["put it in an object that a constructor hands down", "many stacks live in one realm (law 9)"],
  machine: ["use a relative path or leave it out", "the tree must mean the same on every machine"],
  unfinished: ["finish it, or write an issue", "notes to ourselves are not for readers"],
  "lock-file": [
    "run npm with omit-lockfile-registry-resolved",
    "the lock pins contents by hash, not a place to fetch them from",
  ],
  "skipped-test": [
    "run it, or gate it by `requires(…)` or a reason on the line",
    "a test that silently does not run proves nothing",
  ],
} as const satisfies Record<string, readonly [instead: string, why: string]>;
export type RuleName = keyof typeof RULES;

/** The limits of the size rules. */
const MAX_FILE_LINES = 800;
const MAX_FUNCTION_LINES = 70;
const MAX_COLUMNS = 120;
const MAX_HOT_FILES = 8;

const KERNEL_FLOORS = "base|wire|skb|device|bpf|netdev|network|transport|socket";
const BELOW_RUNTIME = new RegExp(`^src/(${KERNEL_FLOORS})/`);
const BELOW_ROOF = new RegExp(`^src/(${KERNEL_FLOORS}|runtime|proto|server|sim|journey)/|^src/[^/]+\\.ts$`);
const PER_FRAME = /^src\/(wire|skb|device|netdev)\//;
const IGNORED = new Set(["node_modules", "dist", "coverage", ".git"]);
const SOURCE = /\.(ts|mts|js|mjs|cjs)$/;
const TEXT =
  /\.(ts|mts|js|mjs|cjs|json|md|yml|yaml|sh|html|css|txt|pkt)$|^\.ci\/run$|(^|\/)(LICENSE|\.npmrc|\.editorconfig|\.gitignore)$/;
const TEST = /\.test\.ts$|^tests\//;
/** Files that are started rather than imported, and what tests beside the code share. */
const ENTRY =
  /^(tools|bench|examples|tests)\/|\.test\.ts$|\/testing\/|-testing\.ts$|^apps\/[^/]+\/main\.ts$|^src\/(host\/)?index\.ts$|^[^/]+\.config\.ts$|^\.[^/]+$/;

/** One source file, read and parsed once. */
class SourceFile {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  readonly tree: ts.SourceFile | undefined;

  constructor(root: string, path: string) {
    this.path = path;
    this.text = readFileSync(join(root, path), "utf8");
    this.lines = this.text.split("\n");
    if (/\.m?ts$/.test(path)) this.tree = ts.createSourceFile(path, this.text, ts.ScriptTarget.ES2023, true);
  }

  get isTest(): boolean {
    return TEST.test(this.path);
  }

  /** True if the first comment carries `@hot` (runs per packet) or `@worker` (started by URL, imported by nothing). */
  has(tag: "@hot" | "@worker"): boolean {
    return /^\/\*\*[^]*?\*\//.exec(this.text)?.[0].includes(tag) ?? false;
  }

  lineOf(node: ts.Node): number {
    const tree = this.tree as ts.SourceFile;
    return tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
  }

  /** True if `line` (from 1) excuses `rule`. */
  allows(line: number, rule: RuleName): boolean {
    return new RegExp(`tidy-allow ${rule}: \\S.{8,}`).test(this.lines[line - 1] ?? "");
  }
}

/** Checks the tree under `root`; findings in order of file and line. */
export function tidy(root: string): Finding[] {
  const findings: Finding[] = [];
  const files = listFiles(root, root)
    .filter((path) => TEXT.test(path))
    .map((path) => new SourceFile(root, path));
  for (const file of files) {
    const report: Report = (rule, line, what) => {
      if (!file.allows(line, rule)) findings.push({ file: file.path, line, rule, what });
    };
    checkText(file, report);
    if (SOURCE.test(file.path)) checkSourceText(file, report);
    if (file.tree) checkTree(file, file.tree, report);
  }
  findings.push(...checkHotList(files), ...checkDeadFiles(files));
  return findings.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line));
}

type Report = (rule: RuleName, line: number, what: string) => void;

function listFiles(root: string, directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => !IGNORED.has(entry.name))
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? listFiles(root, path) : [relative(root, path).replaceAll("\\", "/")];
    })
    .sort();
}

// ── text of every tracked kind ────────────────────────────────────────────────────────────────────────────────────

/** Spelled in pieces, so that this file does not find itself. */
const MACHINE_PATH = new RegExp(`(?<![\\w./-])/(${["work", "farm", "root", "Users"].join("|")})/\\w`);
const REGISTRY_HOST = new RegExp(`registry\\.(npm${"js"}|yarn${"pkg"})\\.|\\bartifactory\\b`);
const UNFINISHED = new RegExp(
  `\\b(TO${"DO"}|FIX${"ME"}|XX${"X"})\\b|\\b(language model|sub-?agents?|coding agents?)\\b`,
);

function checkText(file: SourceFile, report: Report): void {
  if (/(^|\/)(package-lock|npm-shrinkwrap)\.json$/.test(file.path)) {
    eachLine(file, /"resolved": *"https?:/, (line) => report("lock-file", line, "download address"));
    return;
  }
  eachLine(file, MACHINE_PATH, (line, found) => report("machine", line, `absolute machine path ${found}…`));
  eachLine(file, REGISTRY_HOST, (line, found) => report("machine", line, `registry host ${found}`));
  if (file.path !== "tools/tidy.ts")
    eachLine(file, UNFINISHED, (line, found) => report("unfinished", line, `"${found}"`));
}

function eachLine(file: SourceFile, pattern: RegExp, found: (line: number, text: string) => void): void {
  file.lines.forEach((text, i) => {
    const match = pattern.exec(text);
    if (match) found(i + 1, match[0]);
  });
}

// ── lines of source files ─────────────────────────────────────────────────────────────────────────────────────────

const SUPPRESSION =
  /(?:\/\/|\/\*|<!--)\s*(@ts-expect-error|@ts-ignore|@ts-nocheck|biome-ignore\S*(?: [\w/]+)?|v8 ignore \w+|tidy-allow(?: [\w-]+)?)(.*)/;
const SKIPPED = /\b(?:it|test|describe|suite)\.(skip|only|todo|fails)\(/;
/** A lone word, string or regular expression, perhaps with a short name before it: the formatter cannot break it. */
function isUnbreakable(text: string): boolean {
  const isWord = !/\s/.test(text.replace(/^\s*(\/\/|\*)?\s*/, ""));
  return isWord || text.replace(/(["'`]).*\1/, "").trim().length <= 24 || /^\s*\/[^/*].*\/[a-z]*[;,]?$/.test(text);
}

const DRAWER = /(^|[-.])(utils?|helpers?|managers?|types|misc|common)\.ts$/;

function checkSourceText(file: SourceFile, report: Report): void {
  if (file.lines.length - 1 > MAX_FILE_LINES) report("file-length", 1, `${file.lines.length - 1} lines`);
  file.lines.forEach((text, i) => {
    const line = i + 1;
    if (text.length > MAX_COLUMNS && !isUnbreakable(text)) report("line-length", line, `${text.length} columns`);
    const suppression = SUPPRESSION.exec(text);
    if (suppression && !/^:? *\S.{8,}/.test((suppression[2] as string).replace(/\*\/\s*$/, ""))) {
      report("reason", line, `${suppression[1]} without a reason`);
    }
    const skipped = SKIPPED.exec(text);
    const hasReason = /\/\/.{10,}/.test(text) && skipped?.[1] !== "only";
    if (file.isTest && skipped && !hasReason) report("skipped-test", line, `.${skipped[1]}(`);
  });
  const name = file.path.slice(file.path.lastIndexOf("/") + 1);
  if (DRAWER.test(name)) report("file-name", 1, `"${name}" is a drawer`);
  else if (/^(src|apps|tools|tests|bench)\//.test(file.path) && !/^[a-z0-9]+([-.][a-z0-9]+)*$/.test(name))
    report("file-name", 1, `"${name}" is not kebab-case`);
}

// ── syntax ────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkTree(file: SourceFile, tree: ts.SourceFile, report: Report): void {
  const isBelowRoof = BELOW_ROOF.test(file.path) && !file.isTest;
  const isKernel = BELOW_RUNTIME.test(file.path) && !file.isTest;
  const isPerFrame = PER_FRAME.test(file.path) && !file.isTest;
  if (isBelowRoof) for (const statement of tree.statements) checkGlobal(file, statement, report);
  const visit = (node: ts.Node): void => {
    const line = () => file.lineOf(node);
    if (isFunction(node) && !file.isTest) checkFunctionLength(file, node, report);
    if (isBelowRoof && isAmbient(node)) report("ambient-time", line(), node.getText(tree));
    if (isKernel && isAsync(node))
      report("async", line(), node.kind === ts.SyntaxKind.Identifier ? "Promise" : "async or await");
    if (isPerFrame && isBigInt(node)) report("bigint", line(), node.getText(tree));
    ts.forEachChild(node, visit);
  };
  visit(tree);
  if (file.has("@hot") && !file.isTest) checkHot(file, tree, report);
}

type FunctionNode = ts.FunctionLikeDeclaration & { body: ts.Node };

function isFunction(node: ts.Node): node is FunctionNode {
  return ts.isFunctionLike(node) && "body" in node && node.body !== undefined;
}

function checkFunctionLength(file: SourceFile, node: FunctionNode, report: Report): void {
  const tree = file.tree as ts.SourceFile;
  const last = tree.getLineAndCharacterOfPosition(node.getEnd()).line + 1;
  const lines = last - file.lineOf(node) + 1;
  if (lines > MAX_FUNCTION_LINES)
    report("function-length", file.lineOf(node), `${node.name?.getText(tree) ?? "function"} has ${lines} lines`);
}

/** `let` and `var` at the top of a module. */
function checkGlobal(file: SourceFile, statement: ts.Statement, report: Report): void {
  if (!ts.isVariableStatement(statement) || (statement.declarationList.flags & ts.NodeFlags.Const) !== 0) return;
  report("global-state", file.lineOf(statement), "variable of the module");
}

function isAmbient(node: ts.Node): boolean {
  if (ts.isPropertyAccessExpression(node)) return node.expression.getText() === "Math" && node.name.text === "random";
  return ts.isIdentifier(node) && node.text === "Date" && !isMemberName(node);
}

function isAsync(node: ts.Node): boolean {
  if (node.kind === ts.SyntaxKind.AsyncKeyword || ts.isAwaitExpression(node)) return true;
  return ts.isIdentifier(node) && node.text === "Promise" && !isMemberName(node);
}

function isBigInt(node: ts.Node): boolean {
  return (
    ts.isBigIntLiteral(node) ||
    (ts.isIdentifier(node) && /^(BigInt|Big(Int|Uint)64Array|[gs]etBig(Int|Uint)64)$/.test(node.text))
  );
}

/** `x.Date`, `{ Date: … }`: a name of ours, not the global. */
function isMemberName(node: ts.Identifier): boolean {
  const parent = node.parent;
  return (ts.isPropertyAccessExpression(parent) || ts.isPropertyAssignment(parent)) && parent.name === node;
}

// ── the hot path ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Bodies of functions and methods; constructors, module constants and field initialisers run once and may allocate. */
function checkHot(file: SourceFile, tree: ts.SourceFile, report: Report): void {
  const inside = (node: ts.Node): void => {
    const ban = hotBan(node);
    if (ban) report("hot", file.lineOf(node), ban);
    ts.forEachChild(node, inside);
  };
  const outside = (node: ts.Node): void => {
    if (ts.isConstructorDeclaration(node) || ts.isTypeNode(node)) return;
    if (isFunction(node)) {
      if (!file.allows(file.lineOf(node), "hot")) ts.forEachChild(node.body, inside);
    } else ts.forEachChild(node, outside);
  };
  outside(tree);
}

function hotBan(node: ts.Node): string | undefined {
  if (ts.isNewExpression(node)) return `new ${node.expression.getText()}`;
  if (isFunction(node)) return "closure";
  if (ts.isTemplateExpression(node)) return "template string";
  if (ts.isSpreadElement(node) || ts.isSpreadAssignment(node)) return "spread";
  if (ts.isObjectLiteralExpression(node)) return "object literal";
  if (ts.isArrayLiteralExpression(node)) return "array literal";
  if (!ts.isPropertyAccessExpression(node) || !ts.isCallExpression(node.parent)) return undefined;
  return /^(subarray|slice)$/.test(node.name.text) ? `.${node.name.text}(` : undefined;
}

function checkHotList(files: readonly SourceFile[]): Finding[] {
  const hot = files
    .filter((file) => file.has("@hot") && /^src\//.test(file.path) && !file.isTest)
    .map((file) => file.path);
  const architecture = files.find((file) => file.path === "ARCHITECTURE.md");
  const findings: Finding[] = hot
    .filter((path) => !architecture?.text.includes(`\`${path}\``))
    .map((file) => ({ file, line: 1, rule: "hot-list", what: "@hot but not in ARCHITECTURE.md" }));
  if (hot.length > MAX_HOT_FILES)
    findings.push({ file: "ARCHITECTURE.md", line: 1, rule: "hot-list", what: `${hot.length} hot files` });
  return findings;
}

// ── dead files ────────────────────────────────────────────────────────────────────────────────────────────────────

/** Files of src and apps that nothing but their own test names. Paths in strings count: workers are started by URL. */
function checkDeadFiles(files: readonly SourceFile[]): Finding[] {
  const named = new Set<string>();
  for (const file of files) {
    if (!file.tree || /^(src|apps)\/.*\.test\.ts$/.test(file.path)) continue;
    for (const match of file.text.matchAll(/["'](\.{1,2}\/[^"'\n]+\.(?:ts|js))["']/g)) {
      named.add(
        join(dirname(file.path), match[1] as string)
          .replaceAll("\\", "/")
          .replace(/\.js$/, ".ts"),
      );
    }
  }
  return files
    .filter((file) => file.tree && /^(src|apps)\//.test(file.path) && !ENTRY.test(file.path) && !named.has(file.path))
    .filter((file) => !file.has("@worker"))
    .map((file) => ({ file: file.path, line: 1, rule: "dead-file", what: "imported by nothing" }));
}

// ── printing ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** `src/x.ts:12  async  await → return, and … (why)`. */
export function formatFinding({ file, line, rule, what }: Finding): string {
  const [instead, why] = RULES[rule];
  return `${file}:${line}  ${rule}: ${what} → ${instead}: ${why}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const findings = tidy(process.argv[2] ?? ".");
  for (const finding of findings) console.log(formatFinding(finding));
  console.log(findings.length === 0 ? "tidy: nothing to say" : `tidy: ${findings.length} findings`);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
