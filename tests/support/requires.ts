/**
 * What a test needs beyond Node: `it.skipIf(requires("curl", "root"))`. A skip is loud: the reason is printed once per
 * need. `.ci/run` reads these calls and installs the programs they name.
 */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export type Need = "linux" | "root" | "tap" | "netns" | "shared" | "chromium" | (string & {});

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Conformance data that lives beside the repository; `SOJOURN_SHARED` names another place. */
export const SHARED = process.env["SOJOURN_SHARED"] ?? join(ROOT, "..", "shared");

const CHROMIUM_NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Full path of a program on PATH, or undefined. */
export function programPath(name: string): string | undefined {
  for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory: look on.
    }
  }
  return undefined;
}

/** Full path of a Chromium, or undefined. */
export function chromiumPath(): string | undefined {
  return CHROMIUM_NAMES.map(programPath).find((path) => path !== undefined);
}

const isRoot = process.getuid?.() === 0;

/** Special needs: undefined if met, else the reason. Every other need is a program on PATH. */
const CHECKS: Readonly<Record<string, () => string | undefined>> = {
  linux: () => (process.platform === "linux" ? undefined : "not Linux"),
  root: () => (isRoot ? undefined : "not root"),
  tap: () => (isRoot && existsSync("/dev/net/tun") ? undefined : "no /dev/net/tun, or not root"),
  netns: () => (isRoot && programPath("ip") ? undefined : "not root, or no ip(8)"),
  shared: () =>
    existsSync(join(SHARED, "conformance"))
      ? undefined
      : "no conformance data beside the repository (set SOJOURN_SHARED)",
  chromium: () => (chromiumPath() ? undefined : `none of ${CHROMIUM_NAMES.join(", ")} on PATH`),
};

const told = new Set<string>();

/** True (skip) unless every need is met; prints each unmet need once. */
export function requires(...needs: readonly Need[]): boolean {
  const unmet = needs.flatMap((need) => {
    const check = CHECKS[need];
    const reason = check ? check() : programPath(need) ? undefined : "not on PATH";
    return reason === undefined ? [] : [{ need, reason }];
  });
  for (const { need, reason } of unmet) {
    if (!told.has(need)) process.stderr.write(`SKIPPED: tests that need ${need}: ${reason}\n`);
    told.add(need);
  }
  return unmet.length > 0;
}
