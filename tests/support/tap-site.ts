/**
 * A running `sojourn serve --tap` with the Linux kernel as its neighbour: both in a network namespace of their own, so
 * that nothing leaves it. `stop` is a Ctrl-C and takes the namespace away.
 *
 *   namespace:  kernel 198.18.0.1 ── tap0 ── our stack 198.18.0.2:80        (with --router: our router in between)
 */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Journey } from "../../src/journey/journey.ts";
import { type Finished, run, sleep } from "./serve.ts";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const MAIN = join(ROOT, "dist", "apps", "cli", "main.js");
const START_MS = 20_000;
const STOP_MS = 10_000;

/** The kernel's side, and ours. */
export const KERNEL_ADDRESS = "198.18.0.1";
export const SERVER_ADDRESS = "198.18.0.2";
export const SITE = `http://${SERVER_ADDRESS}`;

let namespaces = 0;

/** What tests of real links need: a reason is printed for what is missing. */
export const TAP_NEEDS = ["root", "tap", "netns"] as const;

export class TapSite {
  /** Name of the network namespace. */
  readonly namespace: string;
  private readonly child: ChildProcess;
  private readonly directory: string;
  private readonly output = { out: "", err: "" };
  private control = "";
  private token = "";

  private constructor(namespace: string, directory: string, args: readonly string[]) {
    this.namespace = namespace;
    this.directory = directory;
    const serve = [MAIN, "serve", "--tap", "tap0", "--address", `${SERVER_ADDRESS}/24`, "--port", "80"];
    this.child = spawn("ip", ["netns", "exec", namespace, process.execPath, ...serve, "--control-port", "0", ...args], {
      env: this.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk) => void (this.output.out += chunk));
    this.child.stderr?.on("data", (chunk) => void (this.output.err += chunk));
  }

  /** Makes the namespace, starts the server in it, and sets up the kernel's side as the first screen says. */
  static async start(...args: string[]): Promise<TapSite> {
    const namespace = `sojourn-${process.pid}-${++namespaces}`;
    const directory = mkdtempSync(join(tmpdir(), "sojourn-tap-"));
    // Whoever the server becomes must be able to make its run directory here.
    chmodSync(directory, 0o1777);
    await ip("netns", "add", namespace);
    await ip("-n", namespace, "link", "set", "lo", "up");
    const site = new TapSite(namespace, directory, args);
    try {
      await site.readRecord();
      await ip("-n", namespace, "addr", "add", `${KERNEL_ADDRESS}/24`, "dev", "tap0");
      await ip("-n", namespace, "link", "set", "tap0", "up");
      return site;
    } catch (error) {
      site.child.kill("SIGKILL");
      await site.clean();
      throw error;
    }
  }

  /** Environment of the server, and of whoever looks for it. */
  get env(): NodeJS.ProcessEnv {
    return { PATH: process.env["PATH"], TMPDIR: this.directory };
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get out(): string {
    return this.output.out;
  }

  get err(): string {
    return this.output.err;
  }

  /** Runs a program in the namespace. */
  exec(program: string, args: readonly string[], options: Parameters<typeof run>[2] = {}): ReturnType<typeof run> {
    return run("ip", ["netns", "exec", this.namespace, program, ...args], options);
  }

  /** Starts one that goes on while the test does. */
  spawn(program: string, args: readonly string[]): ChildProcess {
    return spawn("ip", ["netns", "exec", this.namespace, program, ...args], { stdio: ["pipe", "pipe", "pipe"] });
  }

  curl(...args: string[]): ReturnType<typeof run> {
    return this.exec("curl", ["-sS", "--max-time", "45", ...args]);
  }

  /** Another `sojourn` command, run by root in the namespace. */
  sojourn(...args: string[]): ReturnType<typeof run> {
    return this.exec(process.execPath, [MAIN, ...args, "--control", this.control], { env: this.env });
  }

  /** The answer of a GET of the control API. */
  async get<T>(path: string): Promise<T> {
    const { out } = await this.curl("--fail-with-body", this.control + path);
    return JSON.parse(out) as T;
  }

  async put<T>(path: string, body: unknown): Promise<T> {
    const headers = ["-H", `Authorization: Bearer ${this.token}`, "-H", "Content-Type: application/json"];
    const { out } = await this.curl("-X", "PUT", ...headers, "-d", JSON.stringify(body), this.control + path);
    return JSON.parse(out) as T;
  }

  journeys(query = "limit=100"): Promise<Journey[]> {
    return this.get(`/api/journeys?${query}`);
  }

  counters(host = "server"): Promise<Record<string, number>> {
    return this.get(`/api/counters?host=${host}`);
  }

  /** CPU time the server has used so far, all threads, in µs. */
  cpuMicros(): number {
    const tasks = `/proc/${this.pid}/task`;
    const ns = readdirSync(tasks).map((id) => Number(readFileSync(join(tasks, id, "schedstat"), "utf8").split(" ")[0]));
    return ns.reduce((sum, one) => sum + one, 0) / 1000;
  }

  /** Resident memory in bytes. */
  residentBytes(): number {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
    return Number(kilobytes) * 1024;
  }

  /** Ctrl-C; resolves with how it ended. The device must be gone then, and the namespace is taken away. */
  async stop(): Promise<Finished> {
    try {
      const end = new Promise<number | null>((resolve) => this.child.once("close", resolve));
      if (this.child.exitCode !== null) throw new Error(`serve had ended with ${this.child.exitCode}: ${this.err}`);
      this.child.kill("SIGINT");
      const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
      const code = await end;
      clearTimeout(timer);
      const { out } = await run("ip", ["-n", this.namespace, "link"]);
      if (out.includes("tap0")) throw new Error("the TAP device was left behind");
      return { code, out: this.out, err: this.err };
    } finally {
      await this.clean();
    }
  }

  private async clean(): Promise<void> {
    await run("ip", ["netns", "del", this.namespace]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** The file by which the CLI finds the server, in the directory of whoever the server has become. */
  private async readRecord(): Promise<void> {
    for (const untilMs = performance.now() + START_MS; ; await sleep(10)) {
      const [directory] = readdirSync(this.directory).filter((name) => name.startsWith("sojourn-"));
      const path = directory && join(this.directory, directory);
      const [name] = path !== undefined && existsSync(path) ? readdirSync(path) : [];
      const text = path && name ? readFileSync(join(path, name), "utf8") : "";
      if (text.endsWith("\n")) {
        const { url, token } = JSON.parse(text) as { url: string; token: string };
        this.control = url;
        this.token = token;
        return;
      }
      if (this.child.exitCode !== null) throw new Error(`serve ended with ${this.child.exitCode}: ${this.err}`);
      if (performance.now() > untilMs) throw new Error(`serve did not start within ${START_MS} ms: ${this.err}`);
    }
  }
}

async function ip(...args: string[]): Promise<void> {
  const { code, err } = await run("ip", args);
  if (code !== 0) throw new Error(`ip ${args.join(" ")}: ${err}`);
}
