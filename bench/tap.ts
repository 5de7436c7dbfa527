/**
 * The stack on a real link beside node:http on the kernel's: wrk in a network namespace, one server at a time, in
 * alternating rounds. What counts is the server's CPU time per request (docs/performance.md).
 *
 *   namespace A: wrk, kernel TCP ── tap0 ── our process (in A)
 *                              └─── veth ── namespace B: node:http
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { quantile } from "./measure.ts";

export interface TapPlan {
  /** Rounds per case; every server runs once in each. */
  readonly rounds: number;
  /** Seconds per server and round. */
  readonly seconds: number;
}

/** One server in one case. */
export interface TapFigure {
  readonly server: string;
  /** CPU µs per request of the server (all threads, kernel work in its name included), median and best. */
  readonly serverMicros: number;
  readonly bestMicros: number;
  /** Of wrk, and of both together. */
  readonly clientMicros: number;
  readonly requestsPerSecond: number;
  /** Against node:http, per round: median and quartiles; above 1: node:http takes more. */
  readonly ratio: number;
  readonly quartiles: readonly [number, number];
}

export interface TapReport {
  readonly name: "tap";
  readonly setUp: string;
  readonly cases: readonly { readonly name: string; readonly figures: readonly TapFigure[] }[];
  /** Rounds in which other processes used 0.15 of a core or more. */
  readonly disturbedRounds: number;
}

interface Case {
  readonly name: string;
  readonly path: string;
  readonly connections: number;
  readonly headers: readonly string[];
  readonly pipeline: number;
}

const CASES: readonly Case[] = [
  { name: "hello, keep-alive, 64 connections", path: "/hello", connections: 64, headers: [], pipeline: 1 },
  { name: "hello, pipelined by 16, 64 connections", path: "/hello", connections: 64, headers: [], pipeline: 16 },
  {
    name: "hello, a connection per request, 64 at once",
    path: "/hello",
    connections: 64,
    headers: ["Connection: close"],
    pipeline: 1,
  },
  { name: "1 MiB, 16 connections", path: "/bytes/1048576", connections: 16, headers: [], pipeline: 1 },
];

const OURS = "198.18.0.2";
const NODE = "198.18.1.2";
const MAIN = fileURLToPath(new URL("../apps/cli/main.js", import.meta.url));
const NODE_HTTP = fileURLToPath(new URL("./node-http.js", import.meta.url));
const START_MS = 15_000;
/** Per server and case, before anything counts: compilers need so long on one core. */
const WARM_UP_SECONDS = 5;
/** More than this share of a core in other hands makes a round a disturbed one. */
const FOREIGN_LOAD = 0.15;
const CLOCK_TICKS = 100;
/**
 * A client that closes first keeps its port for a minute. After 14,000 of them wrk would spend its time in connect(2),
 * which looks through all ports of one parity, and whoever serves it would look slow.
 */
const CLIENT_SYSCTLS = ["net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535"];

/** Why it cannot run here, or undefined. */
export function tapRefusal(): string | undefined {
  if (process.getuid?.() !== 0) return "it needs root: network namespaces and a TAP";
  for (const program of ["ip", "wrk", "taskset"]) {
    if (spawnSync("which", [program]).status !== 0) return `it needs ${program}`;
  }
  return undefined;
}

export async function tap(plan: TapPlan): Promise<TapReport> {
  const bench = await TapBench.open();
  try {
    const cases = [];
    for (const each of CASES) cases.push({ name: each.name, figures: await bench.measure(each, plan) });
    return { name: "tap", setUp: bench.setUp(plan), cases, disturbedRounds: bench.disturbedRounds };
  } finally {
    await bench.close();
  }
}

interface Server {
  readonly name: string;
  readonly address: string;
  readonly process: ChildProcess;
}

interface Sample {
  readonly serverMicros: number;
  readonly clientMicros: number;
  readonly requestsPerSecond: number;
}

class TapBench {
  disturbedRounds = 0;
  private readonly servers: Server[] = [];
  private readonly namespaces: string[] = [];
  private readonly directory = mkdtempSync(join(tmpdir(), "sojourn-bench-"));

  /** Three servers, started and warm: ours with a kernel thread, ours inline, node:http. */
  static async open(): Promise<TapBench> {
    const bench = new TapBench();
    try {
      await bench.startOurs("thread");
      await bench.startOurs("inline");
      await bench.startNode();
      for (const each of bench.servers) for (const one of CASES) bench.wrk(each, one, WARM_UP_SECONDS);
      return bench;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  async measure(one: Case, plan: TapPlan): Promise<TapFigure[]> {
    const samples = this.servers.map((): Sample[] => []);
    for (let round = 0; round < plan.rounds; round++) {
      const order = this.servers.map((_, i) => (round % 2 === 0 ? i : this.servers.length - 1 - i));
      const before = foreignLoad(this.servers);
      for (const i of order) samples[i]?.push(this.wrk(this.servers[i] as Server, one, plan.seconds));
      if (foreignLoad(this.servers) - before > FOREIGN_LOAD * plan.seconds * order.length) this.disturbedRounds++;
    }
    const reference = samples.at(-1) as Sample[];
    return this.servers.map((server, i) => figure(server.name, samples[i] as Sample[], reference));
  }

  setUp({ rounds, seconds }: TapPlan): string {
    const kernel = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
    const congestion = readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim();
    return `${rounds} alternating rounds of ${seconds} s; server on core 0, wrk (one thread) on core 1; Linux ${kernel}, ${congestion}; TAP with virtio-net header, node:http over veth with TSO; recording on`;
  }

  async close(): Promise<void> {
    for (const { process: child } of this.servers) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGINT");
      await ended;
    }
    for (const namespace of this.namespaces) spawnSync("ip", ["netns", "del", namespace]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A namespace of its own for each, so that all have the same addresses and none sees another's frames. */
  private async startOurs(kernel: "thread" | "inline"): Promise<void> {
    const namespace = this.addNamespace(kernel);
    const args = ["serve", "--tap", "tap0", "--address", `${OURS}/24`, "--port", "80", "--control-port", "0"];
    const child = this.spawn(namespace, MAIN, [...args, "--quiet", "--kernel", kernel]);
    await this.said(child, /^site /);
    ip("-n", namespace, "addr", "add", "198.18.0.1/24", "dev", "tap0");
    ip("-n", namespace, "link", "set", "tap0", "up");
    this.servers.push({ name: `sojourn, ${kernel}`, address: OURS, process: child });
    this.clientNamespace.set(child, namespace);
  }

  private async startNode(): Promise<void> {
    const client = this.addNamespace("client");
    const server = this.addNamespace("server");
    ip("link", "add", "veth0", "netns", client, "type", "veth", "peer", "name", "veth1", "netns", server);
    ip("-n", client, "addr", "add", "198.18.1.1/24", "dev", "veth0");
    ip("-n", client, "link", "set", "veth0", "up");
    ip("-n", server, "addr", "add", `${NODE}/24`, "dev", "veth1");
    ip("-n", server, "link", "set", "veth1", "up");
    const child = this.spawn(server, NODE_HTTP, [NODE, "80"]);
    await this.said(child, /^listening/);
    this.servers.push({ name: "node:http", address: NODE, process: child });
    this.clientNamespace.set(child, client);
  }

  /** Where the client of a server lives. */
  private readonly clientNamespace = new Map<ChildProcess, string>();

  private addNamespace(suffix: string): string {
    const namespace = `sojourn-bench-${process.pid}-${suffix}`;
    ip("netns", "add", namespace);
    this.namespaces.push(namespace);
    ip("-n", namespace, "link", "set", "lo", "up");
    ip("netns", "exec", namespace, "sysctl", "-qw", ...CLIENT_SYSCTLS);
    return namespace;
  }

  private spawn(namespace: string, script: string, args: readonly string[]): ChildProcess {
    const command = ["netns", "exec", namespace, "taskset", "-c", "0", process.execPath, script, ...args];
    return spawn("ip", command, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, TMPDIR: "/tmp" } });
  }

  private said(child: ChildProcess, what: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      let out = "";
      const timer = setTimeout(() => reject(new Error(`a server said only: ${out}`)), START_MS);
      child.stdout?.on("data", (chunk) => {
        out += chunk;
        if (!what.test(out)) return;
        clearTimeout(timer);
        resolve();
      });
      child.once("exit", (code) => reject(new Error(`a server ended with ${code}`)));
    });
  }

  private wrk({ address, process: child }: Server, one: Case, seconds: number): Sample {
    const namespace = this.clientNamespace.get(child) as string;
    const args = ["-t", "1", "-c", String(one.connections), "-d", `${seconds}s`];
    for (const header of one.headers) args.push("-H", header);
    if (one.pipeline > 1) args.push("-s", this.pipelineScript(one));
    const cpu = cpuMicros(child.pid as number);
    const command = ["netns", "exec", namespace, "taskset", "-c", "1", "wrk", ...args, `http://${address}${one.path}`];
    const timed = ["-c", `TIMEFORMAT='cpu %U %S'; time ip "$@"`, "wrk", ...command];
    const client = spawnSync("bash", timed, { encoding: "utf8" });
    const used = cpuMicros(child.pid as number) - cpu;
    const requests = Number(/(\d+) requests in/.exec(client.stdout)?.[1]);
    const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(client.stderr) ?? [];
    if (!(requests > 0) || /Socket errors|Non-2xx/.test(client.stdout)) {
      throw new Error(`wrk, ${one.name}: ${client.stdout}${client.stderr}`);
    }
    return {
      serverMicros: used / requests,
      clientMicros: ((Number(user) + Number(system)) * 1e6) / requests,
      requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(client.stdout)?.[1]),
    };
  }

  /** wrk's own language: so many requests in one write. */
  private pipelineScript(one: Case): string {
    const path = join(this.directory, "pipeline.lua");
    const body = `for i = 1, ${one.pipeline} do r[i] = wrk.format("GET", "${one.path}") end; all = table.concat(r)`;
    writeFileSync(path, `init = function(args) local r = {}; ${body} end\nrequest = function() return all end\n`);
    return path;
  }
}

function figure(server: string, samples: readonly Sample[], reference: readonly Sample[]): TapFigure {
  const micros = samples.map((sample) => sample.serverMicros);
  const ratios = micros.map((own, i) => (reference[i] as Sample).serverMicros / own);
  const median = (values: readonly number[]) => quantile(values, 0.5);
  return {
    server,
    serverMicros: median(micros),
    bestMicros: Math.min(...micros),
    clientMicros: median(samples.map((sample) => sample.clientMicros)),
    requestsPerSecond: median(samples.map((sample) => sample.requestsPerSecond)),
    ratio: median(ratios),
    quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
  };
}

/** CPU time of all threads of a process so far, in µs. */
function cpuMicros(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const spent = readdirSync(tasks).map((id) => Number(readFileSync(`${tasks}/${id}/schedstat`, "utf8").split(" ")[0]));
  return spent.reduce((sum, one) => sum + one, 0) / 1000;
}

/** CPU seconds the machine has spent on others than these servers, wrk and this process. */
function foreignLoad(servers: readonly Server[]): number {
  const [, user = 0, nice = 0, system = 0] = (/^cpu\s.*/.exec(readFileSync("/proc/stat", "utf8"))?.[0] ?? "")
    .split(/\s+/)
    .map(Number);
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  const children = childTicks() / CLOCK_TICKS;
  const ours = servers.reduce((sum, { process: child }) => sum + cpuMicros(child.pid as number), 0);
  return (user + nice + system) / CLOCK_TICKS - (ours + userCPUTime + systemCPUTime) / 1e6 - children;
}

/** Ticks of children that have ended: wrk. */
function childTicks(): number {
  const fields = readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[13]) + Number(fields[14]);
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
}
