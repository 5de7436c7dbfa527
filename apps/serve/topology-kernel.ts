/**
 * The kernel machine of a topology: what `kernel-thread.ts` and `inline-driver.ts` turn. The factory of `serve` and
 * `run`.
 */
import { assert } from "../../src/base/assert.ts";
import { copyBytes } from "../../src/base/copy.ts";
import type { Ns } from "../../src/base/time.ts";
import type { Device } from "../../src/device/port.ts";
import type { KernelContext, KernelMachine, KernelShared, PollSource } from "../../src/host/kernel-machine.ts";
import { sharedCopy } from "../../src/host/shared-copy.ts";
import { control } from "../../src/inspect.ts";
import { Recorder } from "../../src/journey/recorder.ts";
import { Arena, DEFAULT_ARENA_LIMITS } from "../../src/skb/arena.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import type { RingServer } from "../../src/socket/ring-server.ts";
import { SyscallRings } from "../../src/socket/rings.ts";
import { type NicSpec, Topology, type TopologySpec } from "../../src/topology.ts";
import { CaptureTable } from "./capture-table.ts";
import { type DeviceSpec, openDevice } from "./device-spec.ts";

export interface TopologyKernelOptions {
  readonly spec: TopologySpec;
  readonly seed: number;
  /** The host whose journeys are recorded. */
  readonly recordedHost?: string;
  /** The device of the one NIC that is plugged into no link. */
  readonly device?: DeviceSpec;
}

/** What the machine shares besides the arena. */
export interface TopologyShared extends KernelShared {
  /** The recorder ring of the recorded host's kernel, for `Collector.attach`. */
  readonly recorder: ArrayBufferLike;
}

/** Submissions of one process per turn, so that a busy one cannot starve the others. */
const CONSUME_BUDGET = 256;

export class TopologyKernel implements KernelMachine {
  readonly topology: Topology;
  readonly shared: TopologyShared;
  readonly pollSources: PollSource[] = [];
  private readonly recorder: Recorder;
  private readonly context: KernelContext;
  private readonly captures: CaptureTable;
  /** Processes in threads of their own. */
  private readonly servers: RingServer[] = [];
  /** Those whose doorbell rings at the end of this batch. */
  private readonly toRing: SyscallRings[] = [];

  constructor(options: TopologyKernelOptions, context: KernelContext) {
    const { hasThreads } = context;
    const arena = new Arena(DEFAULT_ARENA_LIMITS, hasThreads, hasThreads ? sharedCopy() : copyBytes);
    const recorder = Recorder.newBuffer(hasThreads);
    this.context = context;
    this.recorder = new Recorder(context.clock, recorder);
    this.shared = { arena: arena.buffer, recorder };
    this.topology = new Topology(options.spec, {
      seed: options.seed,
      arena,
      clockOf: () => context.clock,
      openDevice: (env, nic) => this.open(env, nic, options.device),
      traceOf: (host) => (host === options.recordedHost ? this.recorder : undefined),
    });
    this.captures = new CaptureTable(this.topology);
  }

  /** The one device that is plugged into no link. */
  private open(env: HostEnv, { name }: NicSpec, spec: DeviceSpec | undefined): Device {
    assert(spec !== undefined, `nobody brings the device ${name} of ${env.name}`);
    const device = openDevice(spec, env);
    this.pollSources.push(device);
    return device;
  }

  deadline(): Ns {
    return this.topology.deadline();
  }

  advance(nowNs: Ns): void {
    this.recorder.sync();
    this.topology.advance(nowNs);
    for (const rings of this.toRing) rings.ringProcess();
    this.toRing.length = 0;
  }

  consume(): boolean {
    let didWork = false;
    for (const server of this.servers) {
      if (server.consume(CONSUME_BUDGET) > 0) didWork = true;
    }
    return didWork;
  }

  attachProcess(hostName: string, name: string, buffer: SharedArrayBuffer): { readonly pid: number } {
    const rings = new SyscallRings(undefined, buffer);
    const server = this.topology.host(hostName).attachProcess(name, rings, () => this.toRing.push(rings));
    this.servers.push(server);
    return { pid: server.process.pid };
  }

  detachProcess(pid: number): void {
    const at = this.servers.findIndex((server) => server.process.pid === pid);
    if (at >= 0) this.servers.splice(at, 1);
    for (const host of this.topology.hosts) host.detachProcess(pid);
  }

  control(method: string, params: unknown): unknown {
    try {
      const call = (params ?? {}) as Record<string, unknown>;
      return this.captures.control(method, call) ?? control(this.topology, method, call);
    } finally {
      // A knob may have armed something earlier than what the driver waits for.
      this.context.wake();
    }
  }

  close(): void {
    this.topology.close();
  }
}

/** The factory a kernel thread imports. */
export function createKernelMachine(options: unknown, context: KernelContext): KernelMachine {
  return new TopologyKernel(options as TopologyKernelOptions, context);
}
