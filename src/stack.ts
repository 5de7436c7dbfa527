/**
 * One host: the kernel floors composed, and the processes that run on them.
 *
 * Everything a floor needs is handed down here (law 1: no floor imports its clock, its entropy or its recorder). A
 * driver turns it: `step(atNs)` does one thing that is due, `deadline()` says when the next one is.
 */
import type { Address } from "./base/address.ts";
import { assert } from "./base/assert.ts";
import { Mib } from "./base/mib.ts";
import type { Prng } from "./base/prng.ts";
import { Sysctls } from "./base/sysctl.ts";
import type { Clock, Ns } from "./base/time.ts";
import { Timers } from "./base/timers.ts";
import type { Tracepoints } from "./base/tracepoints.ts";
import type { Device } from "./device/port.ts";
import type { NetDevice } from "./netdev/net-device.ts";
import { NetFloor } from "./network/net-floor.ts";
import { InlineProcess, type InlineProcessOptions } from "./runtime/inline-process.ts";
import type { Handler, ServeMux } from "./server/mux.ts";
import { listenAndServe, type Server, type ServerOptions } from "./server/server.ts";
import { DropCounters } from "./skb/drop.ts";
import type { HostEnv } from "./skb/host-env.ts";
import type { SkBuffPool } from "./skb/skb.ts";
import { NOFILE_HARD } from "./socket/constants.ts";
import type { FileSystem } from "./socket/file-system.ts";
import { ProcessTable } from "./socket/process-table.ts";
import { RingPort } from "./socket/ring-port.ts";
import { RingServer } from "./socket/ring-server.ts";
import { DEFAULT_RING_SIZES, type RingSizes, SyscallRings } from "./socket/rings.ts";
import { Tcp } from "./transport/tcp/tcp.ts";
import { Udp } from "./transport/udp/udp.ts";

export interface StackOptions {
  readonly name: string;
  readonly clock: Clock;
  /** Seeds ISNs, ports, hash keys and timers' jitter. */
  readonly prng: Prng;
  readonly pool: SkBuffPool;
  readonly trace: Tracepoints;
  /** Next connection id, unique in the kernel. */
  readonly nextConnId: () => number;
  /** What open(2) finds; without it nothing (ENOENT). */
  readonly files?: FileSystem;
  /** Its processes count up from here; default 1. */
  readonly firstPid?: number;
}

/**
 * Rings of a process in the kernel's own thread: calls run as they are made and what comes meanwhile is one softirq's
 * work, so few records are in use. A ring is walked from end to end, and a small one stays in the cache.
 */
const INLINE_RING_SIZES: RingSizes = { ...DEFAULT_RING_SIZES, submissions: 64, completions: 512 };

/** How a process in the kernel's own thread differs from the default. */
export interface ProcessOptions extends Partial<Omit<InlineProcessOptions, "port" | "timers" | "pid">> {
  readonly name: string;
}

export class Stack {
  readonly name: string;
  readonly env: HostEnv;
  readonly net: NetFloor;
  readonly tcp: Tcp;
  readonly udp: Udp;
  readonly processes: ProcessTable;
  /** The kernel's side of every process's rings, by pid. */
  readonly ringServers = new Map<number, RingServer>();
  /** Processes in the kernel's own thread, by pid. */
  readonly inlineProcesses = new Map<number, InlineProcess>();
  /** How often asynchronous code of its inline processes was resumed: virtual time stands still until it has run. */
  resumptions = 0;
  private requestIds = 0;

  constructor(options: StackOptions) {
    const { name, clock, prng, pool, trace } = options;
    const secret = new Uint8Array(16);
    prng.fill(secret);
    let frameIds = 0;
    this.name = name;
    this.env = {
      name,
      clock,
      timers: new Timers(),
      prng,
      pool,
      trace,
      mib: new Mib(),
      sysctl: new Sysctls(),
      drops: new DropCounters(pool, trace),
      secret,
      nextFrameId: () => ++frameIds,
      nextConnId: options.nextConnId,
    };
    this.net = new NetFloor(this.env);
    this.tcp = new Tcp(this.env, this.net.ip);
    this.udp = new Udp(this.env, this.net.ip);
    const { env, tcp, udp } = this;
    const files = options.files ? { files: options.files } : {};
    this.processes = new ProcessTable(
      { env, tcp, udp, ip: this.net.ip, ...files },
      { firstPid: options.firstPid ?? 1 },
    );
  }

  /** Plugs a card into this host, up, with an address such as "192.0.2.10/24". */
  addNic(device: Device, cidr: string): NetDevice {
    return this.net.addNic(device, cidr);
  }

  addDefaultRoute(gateway: Address): void {
    const error = this.net.ip.addRoute({ destination: "default", via: gateway });
    assert(error === 0, `no interface of ${this.name} reaches the gateway ${gateway}`);
  }

  // ── the driver's side ─────────────────────────────────────────────────────────────────────────────────────────

  /** When something is due next; NEVER if nothing is. */
  deadline(): Ns {
    return this.env.timers.deadline();
  }

  /** Does one thing that is due at `atNs`. The clock moves there unless this host is already past it. */
  step(atNs: Ns): void {
    const { clock, timers } = this.env;
    if (clock.nowNs < atNs) clock.nowNs = atNs;
    timers.fireOne(atNs);
  }

  /** Unplugs: what the host owns is dropped with a reason. */
  close(): void {
    for (const process of this.inlineProcesses.values()) process.stop();
    this.net.close();
  }

  // ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** The kernel's side of a process that runs in a thread of its own; `toProcess` rings that thread's doorbell. */
  attachProcess(name: string, rings: SyscallRings, toProcess: () => void): RingServer {
    const process = this.processes.create(name);
    // As Go's runtime does at start: a server needs a descriptor per connection.
    process.fds.setSoftLimit(NOFILE_HARD);
    const server = new RingServer(rings, process, { toProcess });
    this.ringServers.set(process.pid, server);
    return server;
  }

  /** A process in this thread: its system calls run as they are made. */
  spawn(options: ProcessOptions): InlineProcess {
    const { clock, timers, trace, pool } = this.env;
    const rings = new SyscallRings(INLINE_RING_SIZES);
    let inline: InlineProcess | null = null;
    const server = this.attachProcess(options.name, rings, () => inline?.wake());
    const { pid } = server.process;
    const port = new RingPort(pid, rings, pool.arena.bytes, options.clock ?? clock, {
      onSubmit: () => {
        // Made outside of the driver's turn: time has moved on, and what the calls arm must be looked at.
        options.wakeDriver?.();
        server.consume();
      },
    });
    inline = new InlineProcess({
      clock,
      trace,
      nextRequestId: () => ++this.requestIds,
      ...options,
      onResume: () => {
        this.resumptions++;
        options.onResume?.();
      },
      port,
      timers,
      pid,
    });
    this.inlineProcesses.set(pid, inline);
    return inline;
  }

  /** The process is gone: closes what it left open. */
  detachProcess(pid: number): void {
    this.processes.get(pid)?.exit();
    this.ringServers.delete(pid);
    this.inlineProcesses.get(pid)?.stop();
    this.inlineProcesses.delete(pid);
  }

  /** Go's http.ListenAndServe in a new process of this host: `host.listenAndServe(":3000", handler)`. */
  listenAndServe(addr: string, handler: Handler | ServeMux, options: ServerOptions = {}): Promise<Server> {
    const process = this.spawn({ name: "server" });
    return listenAndServe(process.runtime, addr, handler, options);
  }
}
