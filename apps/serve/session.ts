/**
 * A session: kernel, server processes, client process, port forward and collector, wired for one of the two kernel
 * modes.
 */

import type { Ns } from "../../src/base/time.ts";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import { KernelHandle } from "../../src/host/kernel-handle.ts";
import type { Kernel } from "../../src/host/kernel-machine.ts";
import { MainProcess } from "../../src/host/main-process.ts";
import { PortForward } from "../../src/host/port-forward.ts";
import { type GoroutineRow, goroutineRows, setAcceptPaused } from "../../src/host/process-control.ts";
import { ProcessHandle } from "../../src/host/process-handle.ts";
import { spin } from "../../src/host/real-clock.ts";
import type { Totals } from "../../src/inspect.ts";
import { Collector } from "../../src/journey/collector.ts";
import { Recorder } from "../../src/journey/recorder.ts";
import type { InlineProcess } from "../../src/runtime/inline-process.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { Server } from "../../src/server/index.ts";
import type { HostName } from "../control/backend.ts";
import { CommandError, ExitCode } from "../control/exit-codes.ts";
import { type SiteOptions, main as site } from "../site/main.ts";
import { moduleUrl } from "./module-url.ts";
import { type Placement, SERVER_HOST } from "./placement.ts";
import {
  createKernelMachine,
  type TopologyKernel,
  type TopologyKernelOptions,
  type TopologyShared,
} from "./topology-kernel.ts";
import type { OpenUplink } from "./uplink.ts";
import type { WarmUpClient } from "./warm-up.ts";

export interface SessionOptions {
  /** `process.hrtime.bigint()` at journey time 0, and the wall clock then. */
  readonly originNs: bigint;
  readonly originUnixNs: bigint;
  readonly seed: number;
  readonly placement: Placement;
  /** The device behind `placement.uplinkNic`, open; *takes* it: closing the session closes it. */
  readonly uplink?: OpenUplink;
  readonly workers: number;
  /** Where the site listens on the server host. */
  readonly sitePort: number;
  readonly site: SiteOptions;
}

/** Totals of a run, without the warm-up. */
export interface Summary {
  readonly requests: number;
  readonly connections: number;
  /** Frames the server host dropped, by Linux drop reason. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface SiteStats {
  readonly connections: number;
  readonly requests: number;
}

/** The process the port forward and our own requests live in. */
const CLIENT_PROCESS = "port-forward";
/** How often the collector looks for new records. */
const DRAIN_INTERVAL_MS = 20;

/** What both modes share. */
export abstract class Session {
  readonly options: SessionOptions;
  readonly kernel: Kernel;
  readonly collector: Collector;
  abstract readonly mode: "thread" | "inline";
  acceptPaused = false;
  private forward: PortForward | null = null;
  private drainTimer: NodeJS.Timeout | null = null;
  private closing: Promise<void> | null = null;

  /** `blindWhileBusy`: nothing is observed while a handler holds the thread. */
  protected constructor(options: SessionOptions, kernel: Kernel, blindWhileBusy: boolean) {
    this.options = options;
    this.kernel = kernel;
    const { blindPathNs } = options.placement;
    const readNs = (): Ns => performance.now() * 1e6;
    this.collector = new Collector({ truth: "user-space", blindWhileBusy, blindPathNs, readNs });
    this.collector.setRecording(false);
    this.collector.attach((kernel.shared as TopologyShared).recorder, "kernel");
  }

  /** The client host's process, in which the port forward and our own requests live; undefined on a real link. */
  protected abstract readonly clientRuntime: Runtime | undefined;
  /** Rejects when the kernel or a server process dies on its own; resolves when they were stopped. */
  abstract readonly ended: Promise<unknown>;
  abstract goroutines(): Promise<readonly GoroutineRow[]>;
  protected abstract siteStats(): Promise<readonly SiteStats[]>;
  protected abstract pauseAccept(paused: boolean): Promise<void>;
  protected abstract stopProcesses(): Promise<void>;

  /** Our own client; undefined where only the outside can be one. */
  get client(): WarmUpClient | undefined {
    const { placement, sitePort } = this.options;
    if (this.clientRuntime === undefined) return undefined;
    return { runtime: this.clientRuntime, siteAddress: placement.serverAddress, sitePort };
  }

  /** The host port of the port forward; 0 if there is none. */
  get hostPort(): number {
    return this.forward?.hostPort ?? 0;
  }

  /** The hosts there are, in the order of the path. */
  get hosts(): readonly HostName[] {
    return this.options.placement.spec.hosts.map((host) => host.name as HostName);
  }

  /** Where the site answers. */
  get siteUrl(): string {
    const { placement, sitePort } = this.options;
    const at = this.forward ? `127.0.0.1:${this.hostPort}` : `${placement.serverAddress}:${sitePort}`;
    return new URL(`http://${at}/`).href;
  }

  /** Opens the host port. `exact`: this one or an error; otherwise the next free one. */
  async listen({ runtime, siteAddress, sitePort }: WarmUpClient, port: number, exact: boolean): Promise<void> {
    try {
      this.forward = await PortForward.start({ runtime, address: siteAddress, port: sitePort, hostPort: port, exact });
    } catch (error) {
      throw portError(error, port);
    }
  }

  /** From here on every request is recorded. */
  async startRecording(): Promise<void> {
    this.collector.setRecording(true);
    this.drainTimer = setInterval(() => this.drain(), DRAIN_INTERVAL_MS);
    this.drainTimer.unref();
  }

  /** Takes what the recorders have; called on a timer and before an answer. */
  drain(): void {
    this.kernel.clock.tick();
    this.collector.drain(this.kernel.clock.nowNs);
  }

  async setAccept(paused: boolean): Promise<void> {
    await this.pauseAccept(paused);
    this.acceptPaused = paused;
  }

  /** `warmUps`: our own requests, one connection each, that are nobody's. */
  async summary(warmUps: number): Promise<Summary> {
    const [stats, totals] = await Promise.all([this.siteStats(), this.kernel.control("totals")]);
    const sum = (key: keyof SiteStats) => stats.reduce((total, one) => total + one[key], 0);
    return {
      requests: sum("requests") - warmUps,
      connections: sum("connections") - warmUps,
      drops: (totals as Totals).drops,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.closeAll();
    return this.closing;
  }

  private async closeAll(): Promise<void> {
    if (this.drainTimer) clearInterval(this.drainTimer);
    await this.forward?.close();
    await this.stopProcesses();
    await this.kernel.stop();
    await this.options.uplink?.close();
  }
}

/** Kernel and server processes in threads of their own. */
export class ThreadSession extends Session {
  readonly mode = "thread";
  readonly ended: Promise<unknown>;
  protected readonly clientRuntime: Runtime | undefined;
  private readonly clientProcess: MainProcess | undefined;
  private readonly servers: readonly ProcessHandle[];

  private constructor(
    options: SessionOptions,
    kernel: Kernel,
    client: MainProcess | undefined,
    servers: readonly ProcessHandle[],
  ) {
    super(options, kernel, false);
    this.clientProcess = client;
    this.clientRuntime = client?.runtime;
    this.servers = servers;
    this.ended = Promise.all([kernel.ended, ...servers.map((server) => server.ended)]);
    this.ended.catch(() => {});
  }

  static async open(options: SessionOptions): Promise<ThreadSession> {
    const kernel = await KernelHandle.start({
      factory: moduleUrl("topology-kernel"),
      options: kernelOptions(options),
      originNs: options.originNs,
    });
    try {
      const { clientHost } = options.placement;
      const client =
        clientHost === undefined
          ? undefined
          : await MainProcess.start({ kernel, host: clientHost, name: CLIENT_PROCESS });
      const rings = Array.from({ length: options.workers }, () => Recorder.newBuffer(true));
      const servers = await Promise.all(rings.map((ring) => startSite(kernel, options.site, ring)));
      const session = new ThreadSession(options, kernel, client, servers);
      for (const [i, ring] of rings.entries()) session.collector.attach(ring, `process ${servers[i]?.pid}`);
      return session;
    } catch (error) {
      await kernel.stop();
      throw error;
    }
  }

  async goroutines(): Promise<readonly GoroutineRow[]> {
    return (await Promise.all(this.servers.map((server) => server.goroutines()))).flat();
  }

  protected siteStats(): Promise<readonly SiteStats[]> {
    return Promise.all(this.servers.map(async (server) => (await server.request("stats")) as SiteStats));
  }

  protected async pauseAccept(paused: boolean): Promise<void> {
    await Promise.all(this.servers.map((server) => server.setAcceptPaused(paused)));
  }

  protected async stopProcesses(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()));
    await this.clientProcess?.stop();
  }
}

/** Everything on the main thread. */
export class InlineSession extends Session {
  readonly mode = "inline";
  readonly ended: Promise<unknown>;
  protected readonly clientRuntime: Runtime | undefined;
  private readonly processes: readonly InlineProcess[];
  private readonly sites: readonly Server[];

  private constructor(
    options: SessionOptions,
    kernel: InlineKernel,
    client: InlineProcess | undefined,
    processes: InlineProcess[],
    sites: Server[],
  ) {
    super(options, kernel, true);
    this.clientRuntime = client?.runtime;
    this.ended = kernel.ended;
    this.processes = processes;
    this.sites = sites;
  }

  static async open(options: SessionOptions): Promise<InlineSession> {
    const kernel = new InlineKernel({
      factory: createKernelMachine,
      options: kernelOptions(options),
      originNs: options.originNs,
    });
    const { topology } = kernel.machine as TopologyKernel;
    const spawn = (host: string, name: string) =>
      topology.host(host).spawn({ name, burn: burnReal(kernel), wakeDriver: () => kernel.wake() });
    try {
      const { clientHost } = options.placement;
      const client = clientHost === undefined ? undefined : spawn(clientHost, CLIENT_PROCESS);
      const processes = Array.from({ length: options.workers }, () => spawn(SERVER_HOST, "site"));
      const sites = await Promise.all(processes.map((process) => site(process.runtime, options.site)));
      return new InlineSession(options, kernel, client, processes, sites);
    } catch (error) {
      await kernel.stop();
      throw error;
    }
  }

  async goroutines(): Promise<readonly GoroutineRow[]> {
    const { clock } = this.kernel;
    clock.tick();
    return this.processes.flatMap((process) => goroutineRows(process.runtime, clock.nowNs));
  }

  protected async siteStats(): Promise<readonly SiteStats[]> {
    return this.sites.map((server) => server.stats);
  }

  protected async pauseAccept(paused: boolean): Promise<void> {
    for (const process of this.processes) setAcceptPaused(process.runtime, paused);
  }

  protected async stopProcesses(): Promise<void> {
    for (const server of this.sites) server.close();
    for (const process of this.processes) process.stop();
  }
}

function kernelOptions({ placement, seed, uplink }: SessionOptions): TopologyKernelOptions {
  const device = uplink === undefined ? {} : { device: uplink.device };
  return { spec: placement.spec, seed, recordedHost: SERVER_HOST, ...device };
}

function startSite(kernel: KernelHandle, options: SiteOptions, ring: ArrayBufferLike): Promise<ProcessHandle> {
  const trace = { module: String(moduleUrl("open-recorder")), data: ring };
  return ProcessHandle.start({
    kernel,
    host: SERVER_HOST,
    name: "site",
    module: moduleUrl("site-process"),
    options,
    trace,
  });
}

/** In real time, inline, a burn holds the one thread there is. */
function burnReal(kernel: Kernel): (durationNs: number) => Promise<void> {
  return (durationNs) => {
    spin(durationNs);
    kernel.clock.tick();
    return Promise.resolve();
  };
}

/** Node's listen errors, as what, why, next. */
function portError(error: unknown, port: number): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "EADDRINUSE") {
    return new CommandError(
      ExitCode.failed,
      `port ${port} is taken`,
      "another program listens on it",
      "choose another with --port, or leave --port out",
    );
  }
  if (code === "EACCES") {
    return new CommandError(
      ExitCode.privilege,
      `port ${port} may not be opened`,
      "ports below 1024 need CAP_NET_BIND_SERVICE",
      "choose a port from 1024 up",
    );
  }
  return error;
}
