import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBackend, sampleJourney } from "../../tests/support/fake-backend.ts";
import { CommandError, ExitCode } from "../control/exit-codes.ts";
import type { RunningServer, ServeOptions } from "../serve/serve-session.ts";
import { firstScreen } from "./first-screen.ts";
import { runCommandLine } from "./program.ts";
import type { Terminal } from "./terminal.ts";

const session = vi.hoisted(() => ({
  start: (_options: unknown): Promise<unknown> => Promise.reject(new Error("not set")),
}));
vi.mock("../serve/serve-session.ts", () => ({ startServer: (options: unknown) => session.start(options) }));

let directory: string;
let backend: FakeBackend;
let closed: number;
let asked: ServeOptions | undefined;

function fakeServer(change: Partial<RunningServer> = {}): RunningServer {
  return {
    siteUrl: "http://127.0.0.1:3000/",
    notes: [],
    backend,
    truthLabel: "user-space stack, simulated wire",
    async firstRequest() {
      for (const listener of backend.listeners) listener(sampleJourney(1));
    },
    ended: new Promise(() => {}),
    summary: async () => ({ requests: 3, connections: 2, drops: { NO_SOCKET: 1 } }),
    close: async () => void closed++,
    ...change,
  };
}

function collector(): Terminal & { text: { out: string; err: string } } {
  const text = { out: "", err: "" };
  return {
    text,
    out: (more) => void (text.out += more),
    err: (more) => void (text.err += more),
    width: 100,
    isInteractive: false,
    hasColour: false,
  };
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sojourn-test-"));
  vi.stubEnv("XDG_RUNTIME_DIR", directory);
  backend = new FakeBackend();
  closed = 0;
  asked = undefined;
  session.start = async (options) => {
    asked = options as ServeOptions;
    return fakeServer();
  };
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

describe("serve", () => {
  it("shows the first screen, answers the control API, and Ctrl-C leaves nothing behind", async () => {
    const terminal = collector();
    const before = process.listenerCount("SIGINT");
    const served = runCommandLine(["serve", "--control-port", "0"], terminal);
    await expect.poll(() => terminal.text.out).toContain("Ctrl-C stops.");
    const address = /control {2}(http:\/\/127\.0\.0\.1:\d+)\/#token=([\w-]{32})$/m.exec(terminal.text.out);
    const answer = await fetch(`${address?.[1]}/api/accept`, {
      method: "PUT",
      headers: { Authorization: `Bearer ${address?.[2]}` },
      body: '{"paused":true}',
    });
    expect([answer.status, backend.paused]).toEqual([200, true]);
    expect(readdirSync(join(directory, "sojourn"))).toHaveLength(1);
    process.emit("SIGINT");
    expect(await served).toBe(0);
    expect(terminal.text.out).toContain("stopped: 3 requests on 2 connections, frames dropped: NO_SOCKET 1");
    expect([closed, backend.listeners.size, readdirSync(join(directory, "sojourn"))]).toEqual([1, 0, []]);
    await expect(fetch(`${address?.[1]}/api/info`)).rejects.toThrow();
    expect(process.listenerCount("SIGINT")).toBe(before);
  });

  it("hands the parsed options down", async () => {
    const terminal = collector();
    const args =
      "serve --quiet --control-port 0 --port 8080 --tap tap0 --address 10.9.0.2/24 --gateway 10.9.0.1 --router --link delay=10ms --kernel inline --workers 4 --backlog 7 --seed 7 --max-body 1MiB --header-timeout 1s --body-timeout 500ms";
    const served = runCommandLine(args.split(" "), terminal);
    await expect
      .poll(() => terminal.text.out)
      .toMatch(/^site http:\/\/127\.0\.0\.1:3000\/ control http:\/\/127\.0\.0\.1:\d+\/#token=[\w-]+\n$/);
    process.emit("SIGTERM");
    expect(await served).toBe(0);
    expect(asked).toEqual({
      port: 8080,
      portAsked: true,
      uplink: {
        device: { kind: "tap", name: "tap0" },
        address: "10.9.0.2",
        prefix: 24,
        gateway: "10.9.0.1",
        router: true,
      },
      link: { delayNs: 1e7 },
      kernel: "inline",
      workers: 4,
      backlog: 7,
      seed: 7,
      maxBodyBytes: 2 ** 20,
      headerTimeoutNs: 1e9,
      bodyTimeoutNs: 5e8,
    });
  });

  it("has the contract's defaults", async () => {
    const served = runCommandLine(["serve", "--quiet", "--control-port", "0"], collector());
    await expect.poll(() => asked).toBeDefined();
    process.emit("SIGINT");
    await served;
    expect(asked).toEqual({
      port: 3000,
      portAsked: false,
      link: {},
      kernel: "thread",
      workers: 1,
      backlog: 4096,
      maxBodyBytes: 2 ** 30,
      headerTimeoutNs: 1e10,
      bodyTimeoutNs: 3e10,
    });
  });

  it("stops what it started when the control port is taken: exit 1", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    const terminal = collector();
    expect(await runCommandLine(["serve", "--control-port", String(port)], terminal)).toBe(1);
    expect(terminal.text.err).toContain(`--control-port: port ${port} is taken`);
    expect(closed).toBe(1);
    other.close();
  });

  it("passes on what the session refuses, with its exit code", async () => {
    session.start = () =>
      Promise.reject(
        new CommandError(ExitCode.privilege, "may not open /dev/net/tun", "it needs CAP_NET_ADMIN", "run as root"),
      );
    const terminal = collector();
    expect(await runCommandLine(["serve"], terminal)).toBe(3);
    expect(terminal.text.err).toBe(
      "sojourn: may not open /dev/net/tun\n  why:  it needs CAP_NET_ADMIN\n  next: run as root\n",
    );
  });
});

describe("the first screen", () => {
  const control = { url: "http://127.0.0.1:4000", token: "T".repeat(32) };

  it("has at most 24 lines, whatever the journey and the notes", () => {
    const long = sampleJourney(1);
    const segments = Array.from({ length: 60 }, (_, i) => ({
      ...long.segments[0],
      stage: "accept-queue" as const,
      group: "accept" as const,
      kind: "wait" as const,
      startNs: long.startNs + i * 1000,
      endNs: long.startNs + (i + 1) * 1000,
    }));
    const text = firstScreen(
      { running: fakeServer(), control, notes: ["one", "two"], journey: { ...long, totalNs: 60_000, segments } },
      collector(),
    );
    expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(24);
    for (const part of [
      "http://127.0.0.1:3000/",
      `${control.url}/#token=`,
      "curl -i http://127.0.0.1:3000/hello",
      "user-space stack",
      "note     two",
    ])
      expect(text).toContain(part);
  });

  it("has no control sequence without colour, and says so when no journey came", () => {
    const text = firstScreen({ running: fakeServer(), control, notes: [], journey: undefined }, collector());
    expect(text).toContain("no journey yet");
    expect(text).not.toContain("\u001b[");
    expect(
      firstScreen(
        { running: fakeServer(), control, notes: [], journey: undefined },
        { ...collector(), hasColour: true },
      ),
    ).toContain("\u001b[");
  });
});
