/**
 * One server between a hostile host and an honest client, under virtual time with the cost model:
 *
 *   raw 198.18.0.0/16 (and, by its gateway, the rest of the world) ── eth0 server eth1 ── client 192.0.2.10
 *
 * Each has a cable of its own: what the honest client feels is the server, not a queue on a shared wire. With `router`
 * both stand before a router of ours, with the server alone behind it in 198.19.0.0/16:
 *
 *   raw ── eth0 router eth1 ── client
 *               eth2 ── 198.19.0.10 server
 */
import { siteMux } from "../../apps/site/main.ts";
import { type Address, parseAddress } from "../../src/base/address.ts";
import type { MibName } from "../../src/base/mib.ts";
import { MICROSECOND, MILLISECOND, NEVER, type Ns, SECOND } from "../../src/base/time.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import type { Server, ServerOptions } from "../../src/server/index.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Arena, type ArenaLimits } from "../../src/skb/arena.ts";
import type { Stack } from "../../src/stack.ts";
import { type HostSpec, Topology } from "../../src/topology.ts";
import { RawHost, together } from "../support/raw-host.ts";
import { ResponseReader } from "../support/response-reader.ts";

/** The server as the hostile host sees it, and as the client does. */
export const VICTIM = "198.18.0.1";
export const SERVER = "192.0.2.1";
export const SERVER_BEHIND = "198.19.0.10";
export const CLIENT = "192.0.2.10";
export const PORT = 80;

/** A third of what `sojourn serve` has, so that a run need not clear 96 MB. */
const ARENA: ArenaLimits = { smallSlots: 16384, frameSlots: 6144, pageSlots: 320 };
/** One way, on both cables. */
export const DELAY_NS: Ns = 500 * MICROSECOND;
/** Asking that often, an honest client notices every hiccup. */
const ASK_EVERY_NS: Ns = 10 * MILLISECOND;

export interface FloodOptions {
  /** Of the server. */
  readonly sysctls?: Readonly<Record<string, string>>;
  readonly site?: Pick<ServerOptions, "timeouts" | "listen">;
  readonly arena?: ArenaLimits;
  readonly router?: boolean;
  /** The server's limit of descriptors, once it listens. */
  readonly descriptors?: number;
}

/** What an honest client felt, in virtual time. */
export interface Felt {
  readonly requests: number;
  readonly failed: number;
  /** From connect() to its end, and from there to the last byte of the answer; ns. */
  readonly connect: Quantiles;
  readonly answer: Quantiles;
}

export interface Quantiles {
  readonly p50: Ns;
  readonly p99: Ns;
}

export class FloodWorld {
  readonly raw: RawHost;
  readonly arena: Arena;
  readonly topology: Topology;
  readonly sim: Sim;
  readonly server: Stack;
  /** Who stands next to the hostile host: the server or the router. */
  readonly target: Stack;
  readonly client: Stack;
  readonly user: Runtime;
  site!: Server;
  private readonly address: Address;

  private constructor(options: FloodOptions) {
    this.arena = new Arena(options.arena ?? ARENA);
    this.raw = RawHost.unplugged(this.arena, "198.18.0.0/16");
    const { sysctls = {}, router = false } = options;
    this.topology = new Topology(
      {
        hosts: [
          ...(router ? [{ ...ROUTER, sysctls }, HOST_BEHIND] : [{ ...HOST_IN_FRONT, sysctls }]),
          { name: "client", nics: [{ name: "eth0", cidr: `${CLIENT}/24`, link: "lan" }], gateway: SERVER },
        ],
        links: [
          { name: "lan", settings: { delayNs: DELAY_NS } },
          ...(router ? [{ name: "inside", settings: { delayNs: DELAY_NS } }] : []),
        ],
      },
      {
        seed: 1,
        arena: this.arena,
        clockOf: () => new VirtualClock(),
        openDevice: (env, nic) => this.raw.plug(env, nic.name, { delayNs: DELAY_NS }),
      },
    );
    this.server = this.topology.host("server");
    this.target = this.topology.host(router ? "router" : "server");
    this.address = parseAddress(router ? SERVER_BEHIND : SERVER) ?? raise();
    this.client = this.topology.host("client");
    this.user = this.client.spawn({ name: "user" }).runtime;
    this.sim = new Sim(together(this.topology, this.raw), { seed: 1 });
  }

  static async open(options: FloodOptions = {}): Promise<FloodWorld> {
    const world = new FloodWorld(options);
    world.site = await world.sim.run(world.server.listenAndServe(`:${PORT}`, siteMux(), options.site));
    const [process] = world.server.processes.list();
    if (options.descriptors !== undefined) process?.fds.setSoftLimit(options.descriptors);
    await world.honest(3);
    return world;
  }

  close(): void {
    this.raw.close();
    this.topology.close();
  }

  /** Slots that are out when nothing happens: the rings'. */
  get slots(): number {
    return this.arena.outstanding;
  }

  dial(): Promise<Conn> {
    return this.user.network.dial(this.address, PORT);
  }

  /** Asks for `/hello` so many times, each on a connection of its own, one every 10 ms. */
  honest(times: number): Promise<Felt> {
    return this.sim.run(askOften(this, times));
  }

  /** Starts to ask and lets the caller drive time; the answer comes when all is asked. */
  startHonest(times: number): Promise<Felt> {
    return askOften(this, times);
  }

  /** The target's counters now. */
  counters(): Counters {
    return { ...(this.target.env.mib.snapshot() as Counters) };
  }

  /** What they gained since `before`, those that did. */
  gained(before: Counters): Partial<Counters> {
    const now = this.counters();
    const names = (Object.keys(now) as MibName[]).filter((name) => now[name] !== before[name]);
    return Object.fromEntries(names.map((name) => [name, now[name] - before[name]]));
  }

  /** Runs until nothing is left to do. */
  async settle(limitNs: Ns = 3600 * SECOND): Promise<void> {
    if (!(await this.sim.becomeIdle(this.sim.nowNs + limitNs))) throw new Error("not idle");
  }
}

export type Counters = Readonly<Record<MibName, number>>;

async function askOften(world: FloodWorld, times: number): Promise<Felt> {
  const connects: Ns[] = [];
  const answers: Ns[] = [];
  let failed = 0;
  const one = async (): Promise<void> => {
    const startNs = world.sim.nowNs;
    try {
      const conn = await world.dial();
      const connectedNs = world.sim.nowNs;
      conn.writeLatin1("GET /hello HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");
      conn.flush();
      const response = await new ResponseReader(conn).next("GET");
      conn.close();
      if (response?.status !== 200) throw new Error(`status ${response?.status}`);
      connects.push(connectedNs - startNs);
      answers.push(world.sim.nowNs - connectedNs);
    } catch {
      failed++;
    }
  };
  const all: Promise<void>[] = [];
  for (let i = 0; i < times; i++) {
    all.push(one());
    await world.user.sleep(ASK_EVERY_NS);
  }
  await Promise.all(all);
  return { requests: times, failed, connect: quantiles(connects), answer: quantiles(answers) };
}

function quantiles(samples: Ns[]): Quantiles {
  samples.sort((a, b) => a - b);
  const at = (share: number): Ns => samples[Math.min(samples.length - 1, Math.floor(samples.length * share))] ?? NEVER;
  return { p50: at(0.5), p99: at(0.99) };
}

/** One line of what was measured, for people. */
export function figure(text: string): void {
  process.stderr.write(`[figure] ${text}\n`);
}

/** "connect 1.01/1.02 ms, answer 1.03/1.10 ms" (p50/p99). */
export function feltText({ connect, answer, failed }: Felt): string {
  const pair = ({ p50, p99 }: Quantiles) => `${ms(p50)}/${ms(p99)} ms`;
  return `connect ${pair(connect)}, answer ${pair(answer)} (p50/p99)${failed > 0 ? `, ${failed} failed` : ""}`;
}

export function ms(ns: Ns): string {
  return (ns / MILLISECOND).toFixed(3);
}

/** Address number `n` of the world beyond the hostile host's network: 100.64.0.0/10 and on. */
export function spoofed(n: number): number {
  return (0x64400000 + n) >>> 0;
}

const HOST_IN_FRONT: HostSpec = {
  name: "server",
  nics: [
    { name: "eth0", cidr: `${VICTIM}/16` },
    { name: "eth1", cidr: `${SERVER}/24`, link: "lan" },
  ],
  gateway: "198.18.255.254",
};

const HOST_BEHIND: HostSpec = {
  name: "server",
  nics: [{ name: "eth0", cidr: `${SERVER_BEHIND}/16`, link: "inside" }],
  gateway: "198.19.0.1",
};

const ROUTER: HostSpec = {
  ...HOST_IN_FRONT,
  name: "router",
  forward: true,
  nics: [...HOST_IN_FRONT.nics, { name: "eth2", cidr: "198.19.0.1/16", link: "inside" }],
};

function raise(): never {
  throw new RangeError("no address");
}
