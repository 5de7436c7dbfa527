/**
 * A running `sojourn serve` for tests with real clients: the built program as a process of its own, on free ports, with
 * a run directory of its own. `stop` is a Ctrl-C, and fails if anything is left behind.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Journey } from "../../src/journey/journey.ts";
import type { SocketRow } from "../../src/transport/port.ts";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const MAIN = join(ROOT, "dist", "apps", "cli", "main.js");
const START_MS = 20_000;
const STOP_MS = 10_000;

export interface Finished {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end. Bytes of stdout are text unless read from `outBytes`. */
export async function run(
  program: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; timeoutMs?: number; input?: Uint8Array } = {},
): Promise<Finished & { readonly outBytes: Buffer; readonly ms: number }> {
  const startMs = performance.now();
  const child = spawn(program, args, {
    env: options.env ?? process.env,
    stdio: [options.input ? "pipe" : "ignore", "pipe", "pipe"],
  });
  if (options.input) child.stdin?.end(options.input);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => void out.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => void err.push(chunk));
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 50_000);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  clearTimeout(timer);
  const outBytes = Buffer.concat(out);
  return {
    code,
    out: outBytes.toString("utf8"),
    err: Buffer.concat(err).toString("utf8"),
    outBytes,
    ms: performance.now() - startMs,
  };
}

/** `curl` with its progress meter off. */
export function curl(...args: string[]): ReturnType<typeof run> {
  return run("curl", ["-sS", "--max-time", "45", ...args]);
}

export class Served {
  /** Origin of the site, without a final slash. */
  readonly site: string;
  /** Origin of the control API. */
  readonly control: string;
  readonly token: string;
  readonly port: number;
  readonly controlPort: number;
  private readonly child: ChildProcess;
  private readonly env: NodeJS.ProcessEnv;
  private readonly directory: string;
  private readonly output: { out: string; err: string };

  constructor(
    child: ChildProcess,
    env: NodeJS.ProcessEnv,
    directory: string,
    output: { out: string; err: string },
    record: { url: string; token: string },
    site: string,
  ) {
    this.child = child;
    this.env = env;
    this.directory = directory;
    this.output = output;
    this.control = record.url;
    this.token = record.token;
    this.site = site.replace(/\/$/, "");
    this.port = Number(new URL(site).port);
    this.controlPort = Number(new URL(record.url).port);
  }

  /** What it has printed so far. */
  get out(): string {
    return this.output.out;
  }

  get err(): string {
    return this.output.err;
  }

  /** The answer of a GET of the control API. */
  async get<T>(path: string): Promise<T> {
    const answer = await fetch(this.control + path);
    if (!answer.ok) throw new Error(`GET ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  async put<T>(path: string, body: unknown): Promise<T> {
    const answer = await fetch(this.control + path, {
      method: "PUT",
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`PUT ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  /** Finished journeys, newest first. */
  journeys(query = "limit=100"): Promise<Journey[]> {
    return this.get(`/api/journeys?${query}`);
  }

  /** The newest finished journey that `matches`; waits for it. */
  async journey(matches: (journey: Journey) => boolean, waitMs = 5000): Promise<Journey> {
    const untilMs = performance.now() + waitMs;
    for (;;) {
      const journeys = await this.journeys("limit=1000");
      const found = journeys.find(matches);
      if (found) return found;
      if (performance.now() > untilMs) {
        const seen = journeys.slice(0, 8).map((j) => `#${j.id} ${j.request?.target} ${j.outcome}`);
        throw new Error(`no such journey within ${waitMs} ms; newest of ${journeys.length}: ${seen.join(", ")}`);
      }
      await sleep(20);
    }
  }

  /** The listener of the site. */
  async listener(): Promise<SocketRow> {
    const rows = await this.get<SocketRow[]>("/api/sockets");
    const row = rows.find((one) => one.state === "LISTEN");
    if (!row) throw new Error("no listening socket");
    return row;
  }

  counters(host = "server"): Promise<Record<string, number>> {
    return this.get(`/api/counters?host=${host}`);
  }

  /** Runs another `sojourn` command against this server. */
  sojourn(...args: string[]): ReturnType<typeof run> {
    return run(process.execPath, [MAIN, ...args, "--control", this.control], { env: this.env });
  }

  /** Sends the signal, waits for the end, and checks that nothing is left. */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<Finished> {
    try {
      const code = await ended(this.child, signal);
      const left = existsSync(join(this.directory, "sojourn")) ? readdirSync(join(this.directory, "sojourn")) : [];
      if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
      for (const port of [this.port, this.controlPort]) {
        if (await isOpen(port)) throw new Error(`port ${port} is still open`);
      }
      return { code, out: this.out, err: this.err };
    } finally {
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}

/** Starts `sojourn serve` on free ports with `args`, without a first screen; resolves once the control API answers. */
export function serve(...args: string[]): Promise<Served> {
  return serveAloud("--quiet", ...args);
}

/** The same with the first screen, and the request it shows. */
export async function serveAloud(...args: string[]): Promise<Served> {
  const directory = mkdtempSync(join(tmpdir(), "sojourn-serve-"));
  const env: NodeJS.ProcessEnv = {
    PATH: process.env["PATH"],
    HOME: process.env["HOME"],
    XDG_RUNTIME_DIR: directory,
    TMPDIR: directory,
  };
  const child = spawn(process.execPath, [MAIN, "serve", "--port", "0", "--control-port", "0", ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { out: "", err: "" };
  child.stdout.on("data", (chunk) => void (output.out += chunk));
  child.stderr.on("data", (chunk) => void (output.err += chunk));
  try {
    const record = await readRecord(child, join(directory, "sojourn"), output);
    const info = (await (await fetch(`${record.url}/api/info`)).json()) as { site: string };
    return new Served(child, env, directory, output, record, info.site);
  } catch (error) {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Runs `sojourn` with arguments that make it end by itself, without a server. */
export async function sojourn(...args: string[]): Promise<Finished & { readonly ms: number }> {
  const directory = mkdtempSync(join(tmpdir(), "sojourn-run-"));
  try {
    const env = { PATH: process.env["PATH"], XDG_RUNTIME_DIR: directory, TMPDIR: directory };
    return await run(process.execPath, [MAIN, ...args], { env, timeoutMs: 20_000 });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The file by which the CLI of the same user finds the server: address and token. */
async function readRecord(
  child: ChildProcess,
  directory: string,
  output: { out: string; err: string },
): Promise<{ url: string; token: string }> {
  const untilMs = performance.now() + START_MS;
  for (;;) {
    const [name] = existsSync(directory) ? readdirSync(directory) : [];
    if (name !== undefined) {
      const text = readFileSync(join(directory, name), "utf8");
      if (text.endsWith("\n")) return JSON.parse(text) as { url: string; token: string };
    }
    if (child.exitCode !== null) throw new Error(`serve ended with ${child.exitCode}: ${output.err}`);
    if (performance.now() > untilMs) throw new Error(`serve did not start within ${START_MS} ms: ${output.err}`);
    await sleep(10);
  }
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) {
    throw new Error(`serve had already ended: ${child.exitCode ?? child.signalCode}`);
  }
  const end = new Promise<number | null>((resolve) => child.once("close", resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
  const code = await end;
  clearTimeout(timer);
  return code;
}

/** True if something accepts connections on a port of this machine. */
export function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Sends bytes on a connection of its own and gives back all that comes until the other side ends (or `waitMs`). */
export function exchange(port: number, bytes: string | Uint8Array, waitMs = 8000): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    const finish = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(Buffer.concat(chunks).toString("latin1"));
    };
    const timer = setTimeout(finish, waitMs);
    socket.on("data", (chunk) => void chunks.push(chunk));
    socket.once("end", finish);
    socket.once("error", finish);
    socket.write(bytes);
  });
}
