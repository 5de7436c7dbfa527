/**
 * Worker threads load JavaScript: `npm run build` makes it of the sources, and this of a test's own modules.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** True if the sources have been built; says so, once, if not. */
export function isBuilt(): boolean {
  const built = existsSync(join(ROOT, "dist/src/host/kernel-handle.js"));
  if (!built) process.stderr.write("SKIPPED: tests of threads need the built package: npm run build\n");
  return built;
}

/** URL of a built source file, given its path in the repository without extension. */
export function builtSource(path: string): URL {
  return new URL(`../../dist/${path}.js`, import.meta.url);
}

/** Compiles a module of `tests/` (not what it imports from there) beside the built sources; returns its URL. */
export function buildFixture(path: string): URL {
  const { outputText } = ts.transpileModule(readFileSync(join(ROOT, path), "utf8"), {
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
    },
  });
  const out = join(ROOT, "dist", path.replace(/\.ts$/, ".js"));
  mkdirSync(dirname(out), { recursive: true });
  // Two test files may build the same fixture at the same time.
  if (!existsSync(out) || readFileSync(out, "utf8") !== outputText) writeFileSync(out, outputText);
  return new URL(`file://${out}`);
}
