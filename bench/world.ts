/**
 * The worlds that are measured: hosts in one process, joined by links in memory, processes `inline`. No kernel.
 *
 * `real` turns the stack by the machine's clock, as `serve --kernel inline` does, without the event loop: work is
 * always due, so nothing sleeps. `virtual` jumps from deadline to deadline: links may have delays, and waiting costs
 * nothing. Either way CPU time is what the code of both ends takes.
 */
import { type Address, parseAddress } from "../src/base/address.ts";
import type { Clock, Ns } from "../src/base/time.ts";
import { NO_TRACE, type Tracepoints } from "../src/base/tracepoints.ts";
import { RealClock } from "../src/host/real-clock.ts";
import type { Conn, Runtime } from "../src/runtime/port.ts";
import type { ServerOptions } from "../src/server/index.ts";
import type { CostModel } from "../src/sim/cost-model.ts";
import { Sim } from "../src/sim/sim.ts";
import { VirtualClock } from "../src/sim/virtual-clock.ts";
import { Arena, DEFAULT_ARENA_LIMITS } from "../src/skb/arena.ts";
import { NOFILE_HARD } from "../src/socket/constants.ts";
import { defaultTopology, Topology, type TopologySpec } from "../src/topology.ts";

export type Time = "real" | "virtual";

/** A run that makes no progress for so long is given up. */
const STALL_MS = 20_000;
/** Turns of the machine between two looks at the wall clock. */
const TURNS_PER_LOOK = 4096;
/** Waits no longer than this are skipped: a card's interrupt coalescing. A longer one is somebody's timeout. */
const SKIPPED_NS = 10_000;
/** Microtask turns after asynchronous code was resumed. */
const DRAIN_TURNS = 16;

export interface WorldOptions {
  readonly time: Time;
  readonly topology: TopologySpec;
  /** What work costs in virtual time; the default model if it is not given. */
  readonly costs?: CostModel;
  /** Records the server host (kernel and process). */
  readonly traceOf?: (clock: Clock) => Tracepoints;
  /** Called between turns, about so often as the clock was read: the collector's place. */
  readonly afterTurn?: (nowNs: Ns) => void;
  /** 64 KB pages of the arena; default 896. Many connections with something to send need many. */
  readonly pageSlots?: number;
}

/** Two hosts on one cable without delay, rate or loss. */
export function oneLink(): TopologySpec {
  return {
    hosts: [
      { name: "client", nics: [{ name: "eth0", cidr: "192.0.2.10/24", link: "wire" }] },
      { name: "server", nics: [{ name: "eth0", cidr: "192.0.2.20/24", link: "wire" }] },
    ],
    links: [{ name: "wire" }],
  };
}

/** Client, router and server of `sojourn serve`: 2.5 ms per link and way. */
export { defaultTopology };

/** A clock of the machine that can be stopped while another world is measured. */
class PausableClock extends RealClock {
  private stoppedNs: Ns = 0;
  private stoppedAt: Ns = 0;

  override tick(): void {
    super.tick();
    this.nowNs -= this.stoppedNs;
  }

  /** Makes it `atNs` now: a wait that nothing is done in costs no CPU time in life, so it shall cost none here. */
  skipTo(atNs: Ns): void {
    this.stoppedNs -= atNs - this.nowNs;
    this.nowNs = atNs;
  }

  pause(): void {
    this.tick();
    this.stoppedAt = this.nowNs;
  }

  resume(): void {
    this.tick();
    this.stoppedNs += this.nowNs - this.stoppedAt;
    this.nowNs = this.stoppedAt;
  }
}

export class World {
  readonly topology: Topology;
  readonly server: Runtime;
  readonly client: Runtime;
  readonly serverAddress: Address;
  private readonly options: WorldOptions;
  private readonly sim: Sim | null = null;
  private readonly clock: PausableClock | null = null;

  constructor(options: WorldOptions) {
    this.options = options;
    const { time, topology: spec } = options;
    const real = time === "real" ? new PausableClock() : null;
    const pageSlots = options.pageSlots ?? DEFAULT_ARENA_LIMITS.pageSlots;
    this.topology = new Topology(spec, {
      seed: 1,
      clockOf: () => real ?? new VirtualClock(options.costs),
      traceOf: (host, clock) => (host === "server" ? (options.traceOf?.(clock) ?? NO_TRACE) : NO_TRACE),
      arena: new Arena({ ...DEFAULT_ARENA_LIMITS, pageSlots }),
    });
    if (real === null) this.sim = new Sim(this.topology);
    else real.pause();
    this.clock = real;
    this.server = this.process("server");
    this.client = this.process("client");
    const cidr = spec.hosts.find((host) => host.name === "server")?.nics[0]?.cidr ?? "";
    this.serverAddress = parseAddress(cidr.split("/")[0] ?? "") as Address;
  }

  /** A process on the host of that name, with as many descriptors as it likes (Go raises its soft limit as well). */
  private process(name: string): Runtime {
    const host = this.topology.host(name);
    const { runtime } = host.spawn({ name });
    host.processes.get(runtime.pid)?.fds.setSoftLimit(NOFILE_HARD);
    return runtime;
  }

  /** Turns the world until `promise` settles. */
  async run<T>(promise: Promise<T>): Promise<T> {
    if (this.sim !== null) return this.sim.run(promise);
    const clock = this.clock as PausableClock;
    clock.resume();
    try {
      return await this.spin(clock, promise);
    } finally {
      clock.pause();
    }
  }

  dial(port: number): Promise<Conn> {
    return this.client.network.dial(this.serverAddress, port);
  }

  close(): void {
    this.topology.close();
  }

  private async spin<T>(clock: PausableClock, promise: Promise<T>): Promise<T> {
    const { topology } = this;
    const { afterTurn } = this.options;
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    promise.then(settle, settle);
    let resumptions = -1;
    const giveUpNs = clock.nowNs + STALL_MS * 1e6;
    for (let turn = 1; ; turn++) {
      if (topology.resumptions !== resumptions) {
        resumptions = topology.resumptions;
        for (let i = 0; i < DRAIN_TURNS; i++) await undefined;
        if (settled) return promise;
      }
      clock.tick();
      topology.advance(clock.nowNs);
      const waitNs = topology.deadline() - clock.nowNs;
      if (waitNs > 0 && waitNs <= SKIPPED_NS) clock.skipTo(topology.deadline());
      afterTurn?.(clock.nowNs);
      if (turn % TURNS_PER_LOOK === 0) {
        // A promise may also settle without a resumption that was counted.
        await undefined;
        if (settled) return promise;
        if (clock.nowNs > giveUpNs) throw new Error(`the run is not over after ${STALL_MS / 1e3} s`);
      }
    }
  }
}

/** What every server of a benchmark runs with; the rest are the defaults, `Server-Timing` included. */
export const SERVER_OPTIONS: ServerOptions = { originUnixNs: 0 };
