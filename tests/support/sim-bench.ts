/**
 * The whole stack under virtual time: client, router and server with the site of `sojourn serve`, a recorder on the
 * server, and the bench on which the scenarios of sim are played.
 */
import { siteMux } from "../../apps/site/main.ts";
import { type Address, parseAddress } from "../../src/base/address.ts";
import { MILLISECOND, NEVER, type Ns, SECOND } from "../../src/base/time.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";
import type { LinkDirection, WireLink } from "../../src/device/wire-link.ts";
import { Collector } from "../../src/journey/collector.ts";
import type { Journey } from "../../src/journey/journey.ts";
import { Recorder } from "../../src/journey/recorder.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import type { Server, ServerOptions } from "../../src/server/index.ts";
import type { ServeConn } from "../../src/server/serve-conn.ts";
import { ConservationChecker, LeakChecker } from "../../src/sim/checkers.ts";
import type { LossPlace } from "../../src/sim/faults.ts";
import { loseNext } from "../../src/sim/link-faults.ts";
import type { Bench, BenchConnection } from "../../src/sim/scenario.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Arena } from "../../src/skb/arena.ts";
import type { Stack } from "../../src/stack.ts";
import { defaultTopology, Topology } from "../../src/topology.ts";
import { cableHolder, processCounters, StackLedger, stackCounters } from "./host-ledger.ts";
import { ResponseReader } from "./response-reader.ts";

export const SERVER_PORT = 3000;
export const SERVER_ADDRESS = parseAddress("198.51.100.10") as Address;

/** Enough for some dozen connections; a run must not touch 96 MB. */
const ARENA_LIMITS = { smallSlots: 4096, frameSlots: 6144, pageSlots: 256 };
/** Numbers of a recorder's ring: drained often, so it may be small. */
const RECORDS = 1 << 15;
/** A story that has not ended after so much virtual time never will. */
const SETTLE_LIMIT_NS: Ns = 300 * SECOND;
/** Each of the two writes of `/two-writes`. */
const HALF = "0123456789".repeat(10);

export interface WorldOptions {
  readonly seed: number;
  /** One way, client to server, both links together. */
  readonly delayNs: Ns;
  /** Both links, besides the delay, from the moment it is open: it opens over good ones. */
  readonly link?: Partial<LinkSettings>;
  /** Neighbours know each other from the start (default), or ask by ARP. */
  readonly arp?: boolean;
  /** Balance the books after every step. */
  readonly conservation?: boolean;
  /** The site's patience and backlog; by default what `sojourn serve` has. */
  readonly site?: Pick<ServerOptions, "timeouts" | "listen">;
  /** Where its packet memory comes from; by default it is its own. */
  readonly shelf?: ArenaShelf;
}

/** Packet memory for one world after another: many runs need not clear many megabytes each. */
export class ArenaShelf {
  private kept: Arena | null = null;

  /** Clean packet memory. */
  take(): Arena {
    const arena = this.kept ?? new Arena(ARENA_LIMITS);
    this.kept = null;
    return arena;
  }

  /** Keeps it for the next world, unless a run that failed has left something in it. */
  giveBack(arena: Arena): void {
    if (arena.outstanding === 0) this.kept = arena;
  }
}

/** Client, router and server, with a site that listens. */
export class World {
  readonly topology: Topology;
  readonly sim: Sim;
  readonly collector: Collector;
  readonly client: Stack;
  readonly server: Stack;
  /** The process of the clients. */
  readonly user: Runtime;
  site!: Server;
  private leaks!: LeakChecker;
  private readonly shelf: ArenaShelf;

  private constructor(options: WorldOptions) {
    const { seed } = options;
    this.shelf = options.shelf ?? new ArenaShelf();
    let recorder: Recorder | null = null;
    this.topology = new Topology(defaultTopology({ delayNs: options.delayNs / 2 }), {
      seed,
      arena: this.shelf.take(),
      clockOf: () => new VirtualClock(),
      traceOf: (host, clock) => {
        if (host !== "server") return undefined;
        recorder = new Recorder(clock, Recorder.newBuffer(false, RECORDS));
        return recorder;
      },
    });
    this.collector = new Collector({
      graceNs: 0,
      budgetPerSecond: Number.POSITIVE_INFINITY,
      truth: "simulated",
      precision: "exact",
    });
    this.collector.attach((recorder as unknown as Recorder).buffer, "server");
    const { hosts, links } = this.topology;
    const books = new ConservationChecker(
      hosts.map((host) => new StackLedger(host, links)),
      links.map(cableHolder),
    );
    this.sim = new Sim(this.topology, {
      seed,
      describeWaiters: () => this.describeWaiters(),
      // A macrotask ends only when every microtask has run, however deep a test awaits.
      drainMacrotasks: () => new Promise((resolve) => setImmediate(resolve)),
      afterStep: options.conservation ? (nowNs) => books.check(nowNs) : () => {},
    });
    this.client = this.topology.host("client");
    this.server = this.topology.host("server");
    this.user = this.client.spawn({ name: "user" }).runtime;
    if (!options.arp) knowNeighbours(this.topology);
  }

  /** Builds it and waits until the site listens. */
  static async open(options: WorldOptions): Promise<World> {
    const world = new World(options);
    world.site = await world.sim.run(world.server.listenAndServe(`:${SERVER_PORT}`, benchMux(), options.site));
    // The client process makes its epoll instance with its first connection: what comes after it is a leak.
    await world.sim.run(world.user.network.dial(SERVER_ADDRESS, SERVER_PORT).then((conn) => conn.close()));
    await world.sim.becomeIdle(NEVER);
    for (const link of world.topology.links) link.set(options.link ?? {});
    world.drain();
    world.leaks = new LeakChecker([...hostsOf(world).map(stackCounters), ...processCounters(world.topology)]);
    return world;
  }

  /** Tells the journeys up to now. */
  drain(): void {
    this.collector.drain(this.sim.nowNs);
  }

  /** Finished journeys with their query values, oldest first, without the one of `open`. */
  journeys(): Journey[] {
    this.drain();
    return this.collector
      .list({ limit: 1000, unredacted: true })
      .reverse()
      .filter((journey) => journey.id !== -1);
  }

  dial(port = SERVER_PORT): Promise<Conn> {
    return this.user.network.dial(SERVER_ADDRESS, port);
  }

  pauseAccept(paused: boolean): void {
    for (const process of this.server.inlineProcesses.values()) {
      for (const listener of process.runtime.network.listeners) listener.setPaused(paused);
    }
  }

  /** Runs until nothing is left to do (TIME_WAIT included); throws `CheckError` if anything was not given back. */
  async expectNothingLeft(limitNs: Ns = 24 * 3600 * SECOND): Promise<void> {
    if (!(await this.sim.becomeIdle(this.sim.nowNs + limitNs))) throw new Error(`not idle; ${this.describeWaiters()}`);
    this.drain();
    this.leaks.check(this.sim.nowNs);
  }

  close(): void {
    this.topology.close();
    this.shelf.giveBack(this.topology.arena);
  }

  /** The cable at the server or the one at the client. */
  link(place: LossPlace): WireLink {
    return this.topology.links.find((l) => l.name === LINK_NAMES[place]) as WireLink;
  }

  private describeWaiters(): string {
    const waiters = hostsOf(this).flatMap((host) =>
      [...host.inlineProcesses.values()].flatMap(({ runtime }) =>
        runtime.goroutines().map((g) => `${host.name} ${g.name} ${g.state} ${g.parkedOn}`),
      ),
    );
    return waiters.join(", ");
  }
}

const LINK_NAMES: Readonly<Record<LossPlace, string>> = {
  "client-link": "client-router",
  "server-link": "router-server",
};

function hostsOf(world: World): readonly Stack[] {
  return world.topology.hosts;
}

/** `ip neigh replace … nud permanent` at both ends of every link. */
export function knowNeighbours(topology: Topology): void {
  for (const { ends } of topology.links) {
    for (const [at, nic] of ends.entries()) {
      const peer = ends[1 - at] as (typeof ends)[number];
      const here = topology.hosts.find((host) => host.env === nic.env) as Stack;
      const there = topology.hosts.find((host) => host.env === peer.env) as Stack;
      const dev = here.net.devices.find((d) => d.device === nic);
      const peerDev = there.net.devices.find((d) => d.device === peer);
      const row = there.net.ip.addressRows().find((r) => r.ifindex === peerDev?.ifindex);
      const address = parseAddress((row?.address ?? "").split("/")[0] as string) as Address;
      here.net.ip.addNeighbour(dev?.ifindex ?? 0, address, peer.mac);
    }
  }
}

/** The site, and a handler that writes twice with Nagle on. */
function benchMux(): ReturnType<typeof siteMux> {
  const mux = siteMux();
  mux.handle("GET /two-writes", (w, r) => {
    (r.connection as unknown as ServeConn).conn.setNoDelay(false);
    w.header().set("Content-Length", 2 * HALF.length);
    w.write(HALF);
    w.flush();
    w.write(HALF);
  });
  return mux;
}

/** What the bench did and when: the part of the truth no frame shows. */
export interface BenchLog {
  /** Server time at which accept was resumed, −1 if it never was. */
  resumedNs: Ns;
}

/** The bench of `src/sim/scenario.ts`. */
export class SimBench implements Bench {
  readonly log: BenchLog = { resumedNs: -1 };
  private readonly world: World;

  constructor(world: World) {
    this.world = world;
  }

  async connect(options: { readonly receiveBufferBytes?: number } = {}): Promise<BenchConnection> {
    const { world } = this;
    const { sysctl } = world.client.env;
    const { tcpRmemDefault, tcpRmemMax } = sysctl;
    if (options.receiveBufferBytes !== undefined) {
      sysctl.tcpRmemDefault = sysctl.tcpRmemMax = options.receiveBufferBytes;
    }
    const conn = await world.dial();
    sysctl.tcpRmemDefault = tcpRmemDefault;
    sysctl.tcpRmemMax = tcpRmemMax;
    return new SimBenchConnection(conn);
  }

  sleep(durationNs: Ns): Promise<void> {
    return this.world.user.sleep(durationNs);
  }

  pauseAccept(paused: boolean): void {
    if (!paused) this.log.resumedNs = this.world.sim.nowNs;
    this.world.pauseAccept(paused);
  }

  loseNext(to: "server" | "client", place: LossPlace, payload: boolean): void {
    const direction: LinkDirection = to === "server" ? 0 : 1;
    loseNext(this.world.link(place), direction, payload);
  }

  async settle(): Promise<void> {
    const { collector, sim } = this.world;
    const limitNs = sim.nowNs + SETTLE_LIMIT_NS;
    do {
      await this.sleep(10 * MILLISECOND);
      this.world.drain();
      if (sim.nowNs > limitNs) throw new Error(`journeys do not end: ${JSON.stringify(collector.inFlight())}`);
    } while (collector.inFlight().length > 0);
  }

  journeys(): readonly Journey[] {
    return this.world.journeys();
  }
}

class SimBenchConnection implements BenchConnection {
  private readonly conn: Conn;
  private readonly reader: ResponseReader;

  constructor(conn: Conn) {
    this.conn = conn;
    this.reader = new ResponseReader(conn);
  }

  write(text: string): void {
    this.conn.writeLatin1(text);
    this.conn.flush();
  }

  async readResponse(): Promise<void> {
    await this.reader.next("GET");
  }

  close(): void {
    this.conn.close();
  }
}
