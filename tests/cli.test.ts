/** The built `sojourn` command as a process: exit codes, streams, colour, closed pipes. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ControlServer, startControlServer } from "../apps/control/control-server.ts";
import { FakeBackend } from "./support/fake-backend.ts";

const MAIN = join(dirname(fileURLToPath(import.meta.url)), "..", "dist", "apps", "cli", "main.js");
const runtime = mkdtempSync(join(tmpdir(), "sojourn-test-"));
let control: ControlServer;

beforeAll(async () => {
  control = await startControlServer({ port: 0, portAsked: true, backend: new FakeBackend() });
});
afterAll(async () => {
  await control.close();
  rmSync(runtime, { recursive: true });
});

function start(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env["PATH"], XDG_RUNTIME_DIR: runtime, TMPDIR: runtime, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function run(args: readonly string[], env: Record<string, string> = {}) {
  const child = start(args, env);
  let out = "";
  let err = "";
  child.stdout?.on("data", (chunk) => void (out += chunk));
  child.stderr?.on("data", (chunk) => void (err += chunk));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, out, err };
}

describe("the sojourn process", () => {
  it("exits 0, 1, 2 and 3 as the contract says, errors on stderr only", async () => {
    expect(await run(["--version"])).toMatchObject({ code: 0, err: "" });
    expect(await run(["ss", "--control", "http://127.0.0.1:1"])).toMatchObject({ code: 1, out: "" });
    expect(await run(["ss", "--frobnicate"])).toMatchObject({ code: 2, out: "" });
    expect(await run(["accept", "pause", "--control", control.url])).toMatchObject({ code: 3, out: "" });
  });

  it("prints no colour off a terminal, nor under NO_COLOR", async () => {
    expect((await run(["doctor"])).out).not.toContain("\u001b[");
    expect((await run(["doctor"], { FORCE_COLOR: "1" })).out).toContain("\u001b[");
    expect((await run(["doctor"], { FORCE_COLOR: "1", NO_COLOR: "1" })).out).not.toContain("\u001b[");
  });

  it("ends quietly when its reader goes away", async () => {
    const child = start(["journeys", "--follow", "--json", "--control", control.url]);
    let err = "";
    child.stderr?.on("data", (chunk) => void (err += chunk));
    child.stdout?.destroy();
    const ended = new Promise((resolve) => child.once("close", resolve));
    setTimeout(() => child.kill("SIGTERM"), 500);
    await ended;
    expect(err).toBe("");
  });
});
