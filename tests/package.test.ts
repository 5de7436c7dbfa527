/** What `npm publish` would send: packed, installed in an empty folder without the network, and serving from there. */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = mkdtempSync(join(tmpdir(), "sojourn-package-"));
const program = join(folder, "node_modules", ".bin", "sojourn");
const env = { PATH: process.env["PATH"], HOME: process.env["HOME"], XDG_RUNTIME_DIR: join(folder, "run") };
let packed: string[];

function npm(cwd: string, ...args: string[]): string {
  return execFileSync("npm", [...args, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd,
    encoding: "utf8",
  });
}

function pack(path: string): { filename: string; files: { path: string }[] } {
  return JSON.parse(npm(ROOT, "pack", path, "--json", "--pack-destination", folder))[0];
}

beforeAll(() => {
  mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 });
  // The two dependencies come from our own node_modules, so that no registry is needed.
  const tarballs = [".", "./node_modules/commander", "./node_modules/picocolors"].map((path) => pack(path));
  packed = tarballs[0]?.files.map((file) => file.path) ?? [];
  writeFileSync(join(folder, "package.json"), '{"private":true}');
  npm(folder, "install", "--offline", ...tarballs.map((tarball) => join(folder, tarball.filename)));
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the package", () => {
  it("holds what runs and nothing else", () => {
    expect(packed).toEqual(
      expect.arrayContaining([
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "package.json",
        "dist/apps/cli/main.js",
      ]),
    );
    expect(packed.filter((path) => /\.test\.|tsbuildinfo|^(src|tests|tools|docs)\/|\.map$/.test(path))).toEqual([]);
    expect(
      readdirSync(join(folder, "node_modules"))
        // koffi, with its binaries, is optional: an install without it is whole.
        .filter((name) => !name.startsWith(".") && name !== "koffi" && name !== "@koromix")
        .sort(),
    ).toEqual(["commander", "picocolors", "sojourn"]);
  });

  it("runs its command", () => {
    expect(execFileSync(program, ["--version"], { encoding: "utf8", env })).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it("serves, and Ctrl-C ends it with nothing left behind", async () => {
    const child = spawn(program, ["serve", "--quiet", "--port", "0", "--control-port", "0"], {
      cwd: folder,
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const line = await new Promise<string>((resolve, reject) => {
        child.stdout.once("data", (chunk) => resolve(String(chunk)));
        child.once("exit", (code) => reject(new Error(`serve ended with ${code}`)));
      });
      const [, site, control] = /^site (\S+) control (\S+)\/#token=/.exec(line) ?? [];
      const answer = await fetch(new URL("/hello", site));
      expect([answer.status, answer.headers.has("server-timing")]).toEqual([200, true]);
      await expect
        .poll(async () => ((await (await fetch(`${control}/api/journeys`)).json()) as unknown[]).length)
        .toBeGreaterThan(0);
      const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
      child.removeAllListeners("exit");
      child.kill("SIGINT");
      expect(await ended).toBe(0);
      expect(readdirSync(join(env.XDG_RUNTIME_DIR, "sojourn"))).toEqual([]);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
