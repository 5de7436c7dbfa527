/**
 * The fault bench with the real kernel as one of the hosts, in real time: a stack of ours on one side of the bad cable,
 * on the other a router of ours that passes everything on to the kernel behind a TAP.
 *
 *   Linux 198.18.62.1 ── tap ── 198.18.62.2 router 198.18.63.1 ── wire ── 198.18.63.2 ours
 *
 * All is in this thread but the kernel's sockets, which a Python program in the namespace holds (`LinuxSockets`). The
 * TAP itself never fails: ARP between kernel and router is left alone, and the kernel's super-segments are cut before
 * they come to the wire, so that a fault strikes a frame.
 */
import { type Address, parseAddress } from "../../src/base/address.ts";
import { MILLISECOND, type Ns } from "../../src/base/time.ts";
import { type FrameFd, HostFrameFd } from "../../src/host/frame-fd.ts";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import type { KernelFactory, KernelMachine, PollSource } from "../../src/host/kernel-machine.ts";
import type { TapHandle } from "../../src/host/open-tap.ts";
import { TapDevice } from "../../src/host/tap-device.ts";
import { VIRTIO_NET_HEADER_BYTES } from "../../src/host/virtio-net-header.ts";
import { LeakChecker } from "../../src/sim/checkers.ts";
import { Arena } from "../../src/skb/arena.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import type { Stack } from "../../src/stack.ts";
import { type HostSpec, Topology } from "../../src/topology.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import type { FaultBench, FaultBenchKind, FaultBenchOptions, FaultHost, Impairment, Way } from "./fault-bench.ts";
import { collectedHeapBytes } from "./heap.ts";
import { stackCounters } from "./host-ledger.ts";
import { LinuxSockets } from "./linux-sockets.ts";
import { MemoryWire, PromiseCount, stackHost } from "./memory-fault-bench.ts";
import { Netns } from "./netns.ts";
import { knowNeighbours } from "./sim-bench.ts";

const LINUX = "198.18.62.1";
const ROUTER = "198.18.62.2";
const OURS = "198.18.63.2";
const GATEWAY = "198.18.63.1";
const OUR_NETWORK = "198.18.63.0/24";
/** Ten times the kernel's clock tick there and back, so that its timers are precise in comparison. */
const ONE_WAY_NS: Ns = 22 * MILLISECOND;
/** A clock is read once per turn: a frame may seem to have departed so much before it did. */
const CLOCK_SLACK_NS: Ns = 2 * MILLISECOND;
/** Linux fires timers late by up to an eighth (timer wheel); the rest is for a busy machine. */
const SLACK_NS: Ns = 400 * MILLISECOND;
/** Whoever waits longer for a CPU sends again what was not lost: a tail loss probe comes after two round trips. */
const STILL_NS: Ns = 40 * MILLISECOND;
const HEARTBEAT_MS = 5;
/** FINs that were lost with everything else come again within this. */
const SETTLE_LIMIT_MS = 12_000;
const LOOK_EVERY_MS = 20;
const ARENA_LIMITS = { smallSlots: 16_384, frameSlots: 8192, pageSlots: 512 };
/** What padding must not be taken for. */
const GARBAGE = 0xa5;
const CALM: Impairment = { loss: 0, duplicate: 0, reorder: 0, corrupt: 0, jitterNs: 0 };

/** What tests on this bench need. */
export const TAP_FAULT_NEEDS = ["tap", "netns", "python3"] as const;

export type LinuxRole = "client" | "server";

export interface TapFaultBenchOptions extends FaultBenchOptions {
  /** One way of the wire; default 22 ms. */
  readonly delayNs?: Ns;
  /** Settings of both: those of the namespace, and those of our host. */
  readonly sysctls?: Readonly<Record<string, string>>;
}

/** Its benches can do more than others'. */
export interface TapFaultBenchKind extends Omit<FaultBenchKind, "open"> {
  open(options: TapFaultBenchOptions): Promise<TapFaultBench>;
}

/** The kernel as `role`, our stack as the other. */
export function tapBench(role: LinuxRole): TapFaultBenchKind {
  const isn = "Linux chooses the sequence numbers of the connections it accepts";
  return {
    name: `TAP, Linux as ${role}`,
    cannot: {
      minutes: "it is real time; rows of this suite do the same in seconds",
      bulk: "a row of this suite does it with loss",
      ...(role === "server" ? { "initial-sequence": isn } : {}),
    },
    open: (options) => TapFaultBench.open(role, options),
  };
}

/** Opens a bench for `play`, and closes it, which throws if anything is left over. */
export async function onTapBench<T>(
  role: LinuxRole,
  options: TapFaultBenchOptions,
  play: (bench: TapFaultBench) => Promise<T>,
): Promise<T> {
  const bench = await tapBench(role).open(options);
  let result: T;
  try {
    result = await bench.run(play(bench));
  } catch (error) {
    await bench.close().catch(() => {});
    throw error;
  }
  await bench.close();
  return result;
}

export class TapFaultBench implements FaultBench {
  readonly client: FaultHost;
  readonly server: FaultHost;
  readonly wire: TapWire;
  readonly rttNs: Ns;
  readonly slackNs = SLACK_NS;
  readonly netns: Netns;
  /** The kernel's sockets and counters. */
  readonly linux: LinuxSockets;
  /** The kernel's interface. */
  readonly tapName: string;
  readonly ours: Stack;
  private readonly topology: Topology;
  private readonly kernel: InlineKernel;
  private readonly leaks: LeakChecker;
  private readonly promises = new PromiseCount();
  private readonly heartbeat = new Heartbeat();

  private constructor(netns: Netns, role: LinuxRole, options: TapFaultBenchOptions) {
    this.netns = netns;
    const delayNs = options.delayNs ?? ONE_WAY_NS;
    this.rttNs = 2 * Math.max(0, delayNs - CLOCK_SLACK_NS);
    const tap = this.netns.tap(`${LINUX}/24`);
    this.tapName = tap.name;
    this.netns.ip("route", "add", OUR_NETWORK, "via", ROUTER);
    const padding = { isOn: false };
    const settings = { seed: options.seed ?? 1, delayNs, padding };
    this.kernel = new InlineKernel({ factory: createMachine(hostsOf(role, tap.name), tap, settings) });
    this.topology = (this.kernel.machine as TapMachine).topology;
    this.ours = this.topology.host("ours");
    knowNeighbours(this.topology);
    this.wire = new TapWire(this.topology, options, padding, () => this.kernel.wake());
    const { initialSequence } = options;
    if (initialSequence !== undefined) this.ours.tcp.context.isn.isn = () => initialSequence;
    this.setSysctls({ ...bufferSysctls(options), ...options.sysctls });
    this.leaks = new LeakChecker(this.topology.hosts.map(stackCounters));
    this.linux = new LinuxSockets(this.netns);
    const process = this.ours.spawn({ name: "process", wakeDriver: () => this.kernel.wake() });
    const oursAsHost = stackHost(process.runtime, parseAddress(LINUX) as Address, this.promises);
    const linuxAsHost = this.linux.host(OURS, initialSequence ?? null);
    [this.client, this.server] = role === "client" ? [linuxAsHost, oursAsHost] : [oursAsHost, linuxAsHost];
  }

  static async open(role: LinuxRole, options: TapFaultBenchOptions): Promise<TapFaultBench> {
    const netns = new Netns();
    try {
      const bench = new TapFaultBench(netns, role, options);
      // Python takes its time to start.
      await bench.linux.counters();
      bench.heartbeat.start();
      return bench;
    } catch (error) {
      netns.close();
      throw error;
    }
  }

  get excuse(): string | undefined {
    const { stillMs } = this.heartbeat;
    return stillMs * MILLISECOND < STILL_NS ? undefined : `this process stood still for ${stillMs.toFixed(0)} ms`;
  }

  get nowNs(): Ns {
    this.kernel.clock.tick();
    return this.kernel.clock.nowNs;
  }

  async sleep(durationNs: Ns): Promise<void> {
    const untilNs = this.nowNs + durationNs;
    while (this.nowNs < untilNs) await pause(Math.ceil((untilNs - this.nowNs) / MILLISECOND));
  }

  run<T>(main: Promise<T>): Promise<T> {
    const failed = this.kernel.ended.then((): never => {
      throw new Error("the kernel of our side was stopped");
    });
    return Promise.race([main, failed]);
  }

  memory(): { readonly packetBytes: number; readonly heapBytes: number } {
    return { packetBytes: this.topology.arena.outstanding, heapBytes: collectedHeapBytes() };
  }

  async close(): Promise<void> {
    try {
      this.wire.impair(CALM);
      await this.settle();
      this.promises.expectNone();
    } finally {
      this.heartbeat.stop();
      await this.linux.close();
      await this.kernel.stop();
      this.netns.close();
    }
    const { outstanding } = this.topology.arena;
    if (outstanding > 0) throw new Error(`${outstanding} slots are left over`);
  }

  /** Our process ends; within a while nothing but TIME_WAIT may be left, on both sides. */
  private async settle(): Promise<void> {
    for (const pid of this.ours.inlineProcesses.keys()) this.ours.detachProcess(pid);
    this.kernel.wake();
    const untilMs = performance.now() + SETTLE_LIMIT_MS;
    for (let left = this.leftOver(); left !== ""; left = this.leftOver()) {
      if (performance.now() > untilMs) throw new Error(left);
      await pause(LOOK_EVERY_MS);
    }
  }

  private leftOver(): string {
    const many = Number.POSITIVE_INFINITY;
    const waits = { "ours.timeWaits": many, "ours.connections": this.ours.tcp.context.timeWaits.count };
    try {
      this.leaks.check(this.nowNs, { ...waits, "ours.timers": many, "router.timers": many });
    } catch (error) {
      return (error as Error).message;
    }
    if (this.linux.unanswered.length > 0) return `Linux has not answered: ${this.linux.unanswered.join(", ")}`;
    const rows = this.netns.execSync("ss", "-Htan", "exclude", "time-wait").trim();
    return rows === "" ? "" : `Linux still has ${rows}`;
  }

  private setSysctls(sysctls: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(sysctls)) {
      const path = `/proc/sys/${name.replaceAll(".", "/")}`;
      this.netns.execSync("sh", "-c", `[ ! -e ${path} ] || echo "${value}" > ${path}`);
      const error = this.ours.env.sysctl.set(name, value);
      if (error !== null) throw new Error(error);
    }
  }
}

/** Notices when this process does not get a CPU, or keeps it for too long. */
class Heartbeat {
  /** The longest it stood still. */
  stillMs = 0;
  private lastMs = 0;
  private timer: NodeJS.Timeout | undefined;

  start(): void {
    this.lastMs = performance.now();
    this.timer = setInterval(() => this.beat(), HEARTBEAT_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private beat(): void {
    const nowMs = performance.now();
    this.stillMs = Math.max(this.stillMs, nowMs - this.lastMs - HEARTBEAT_MS);
    this.lastMs = nowMs;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function bufferSysctls({ receiveBufferBytes: bytes }: FaultBenchOptions): Record<string, string> {
  return bytes === undefined ? {} : { "net.ipv4.tcp_rmem": `4096 ${bytes} ${bytes}` };
}

interface TapMachine extends KernelMachine {
  readonly topology: Topology;
}

interface Padding {
  isOn: boolean;
}

/** Our side: the host, the wire, the router and its TAP. */
function createMachine(hosts: readonly HostSpec[], tap: TapHandle, settings: MachineSettings): KernelFactory {
  const { seed, delayNs, padding } = settings;
  return (_, { clock }): TapMachine => {
    const arena = new Arena(ARENA_LIMITS, true);
    const pollSources: PollSource[] = [];
    const openDevice = (env: HostEnv): TapDevice => {
      const options = { ...tap, mac: new Uint8Array([2, 0, 0, 0, 62, 2]) };
      const device = new TapDevice(env, options, new PaddingFd(tap.fd, arena, padding));
      pollSources.push(device);
      return device;
    };
    const links = [{ name: "wire", settings: { delayNs } }];
    const topology = new Topology({ hosts, links }, { seed, arena, clockOf: () => clock, openDevice });
    return {
      topology,
      pollSources,
      shared: { arena: arena.buffer as SharedArrayBuffer },
      deadline: () => topology.deadline(),
      advance: (nowNs) => topology.advance(nowNs),
      consume: () => false,
      control: () => null,
      attachProcess: () => {
        throw new Error("the processes of this machine are inline");
      },
      close: () => topology.close(),
    };
  };
}

interface MachineSettings {
  readonly seed: number;
  readonly delayNs: Ns;
  readonly padding: Padding;
}

/** The client's side of the wire first. */
function hostsOf(role: LinuxRole, tapName: string): HostSpec[] {
  const router: HostSpec = {
    name: "router",
    forward: true,
    nics: [
      { name: tapName, cidr: `${ROUTER}/24` },
      { name: "eth1", cidr: `${GATEWAY}/24`, link: "wire" },
    ],
  };
  const nics = [{ name: "eth0", cidr: `${OURS}/24`, link: "wire" }];
  const ours: HostSpec = { name: "ours", nics, gateway: GATEWAY };
  return role === "client" ? [router, ours] : [ours, router];
}

/** The TAP's descriptor, which pads what is shorter than Ethernet's shortest frame when it is told to. */
class PaddingFd implements FrameFd {
  private readonly frames: FrameFd;
  private readonly arena: Arena;
  private readonly padding: Padding;

  constructor(fd: number, arena: Arena, padding: Padding) {
    this.frames = new HostFrameFd(fd, arena);
    this.arena = arena;
    this.padding = padding;
  }

  get fd(): number {
    return this.frames.fd;
  }

  read(at: number, len: number): number {
    return this.frames.read(at, len);
  }

  /** Frames lie in slots of 256 bytes or more, near their beginning: there is room behind the short ones. */
  write(at: number, len: number): number {
    const padded = VIRTIO_NET_HEADER_BYTES + ethernet.MIN_FRAME_LEN;
    if (!this.padding.isOn || len >= padded) return this.frames.write(at, len);
    this.arena.bytes.fill(GARBAGE, at + len, at + padded);
    return this.frames.write(at, padded);
  }

  close(): void {
    this.frames.close();
  }
}

/** The wire of the memory bench; what is done to it from outside of a turn wakes our kernel. */
export class TapWire extends MemoryWire {
  private readonly padding: Padding;
  private readonly wake: () => void;

  constructor(topology: Topology, options: FaultBenchOptions, padding: Padding, wake: () => void) {
    super(topology, options);
    this.padding = padding;
    this.wake = wake;
  }

  /** The router takes padding off what it forwards: towards the kernel it is put on again. */
  override pad(): void {
    super.pad();
    this.padding.isOn = true;
  }

  override inject(way: Way, change: Parameters<MemoryWire["inject"]>[1]): void {
    this.wake();
    super.inject(way, change);
    this.wake();
  }
}
