/**
 * The fault bench in memory and virtual time: two stacks of ours on one cable, or on two with a router between.
 */
import type { Address } from "../../src/base/address.ts";
import { parseAddress } from "../../src/base/address.ts";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { Nic } from "../../src/device/nic.ts";
import type { LinkDirection, WireLink } from "../../src/device/wire-link.ts";
import type { Conn, Listener, Runtime } from "../../src/runtime/port.ts";
import { ConservationChecker, type Holder, LeakChecker } from "../../src/sim/checkers.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Arena } from "../../src/skb/arena.ts";
import { Summed } from "../../src/skb/skb.ts";
import type { Stack } from "../../src/stack.ts";
import { defaultTopology, Topology } from "../../src/topology.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";
import type {
  FaultBench,
  FaultBenchKind,
  FaultBenchOptions,
  FaultConn,
  FaultHost,
  FaultListener,
  FaultWire,
  Impairment,
  SeenSegment,
  SegmentTest,
  Way,
} from "./fault-bench.ts";
import { collectedHeapBytes } from "./heap.ts";
import { cableHolder, StackLedger, stackCounters } from "./host-ledger.ts";
import { viewSegment } from "./segment-view.ts";
import { knowNeighbours } from "./sim-bench.ts";
import { addressOf, directTopology } from "./two-hosts.ts";

const ONE_WAY_NS: Ns = 5 * MILLISECOND;
/** What processing and interrupt coalescing at both hosts may add in virtual time. */
const SLACK_NS: Ns = MILLISECOND;
/** TIME_WAIT and whatever a row left to the kernel end within this. */
const SETTLE_LIMIT_NS: Ns = 3600 * SECOND;
/** A row that has not ended after so much virtual time never will. */
const RUN_LIMIT_NS: Ns = 48 * 3600 * SECOND;
const ARENA_LIMITS = { smallSlots: 16_384, frameSlots: 8192, pageSlots: 512 };
/** Ethernet's shortest frame without its check sequence. */
const PADDED_BYTES = ethernet.MIN_FRAME_LEN;
/** What padding must not be taken for. */
const GARBAGE = 0xa5;

export const MEMORY_BENCH: FaultBenchKind = {
  name: "memory link, virtual time",
  cannot: {},
  open: async (options) => new MemoryFaultBench(options),
};

class MemoryFaultBench implements FaultBench {
  readonly client: FaultHost;
  readonly server: FaultHost;
  readonly wire: MemoryWire;
  readonly rttNs = 2 * ONE_WAY_NS;
  readonly slackNs = SLACK_NS;
  private readonly topology: Topology;
  private readonly sim: Sim;
  private readonly user: Runtime;
  private readonly leaks: LeakChecker;
  private readonly promises = new PromiseCount();

  constructor(options: FaultBenchOptions) {
    const seed = options.seed ?? 1;
    const spec = options.hasRouter
      ? defaultTopology({ delayNs: ONE_WAY_NS / 2 })
      : directTopology({ delayNs: ONE_WAY_NS });
    this.topology = new Topology(spec, { seed, arena: new Arena(ARENA_LIMITS), clockOf: () => new VirtualClock() });
    knowNeighbours(this.topology);
    const { hosts, links } = this.topology;
    this.wire = new MemoryWire(this.topology, options);
    this.leaks = new LeakChecker(hosts.map(stackCounters));
    const books = new ConservationChecker(
      hosts.map((host) => new StackLedger(host, links)),
      [...links.map(cableHolder), this.wire.holder],
    );
    this.sim = new Sim(this.topology, { seed, ...(options.isUnseen ? {} : { afterStep: (at) => books.check(at) }) });
    for (const host of hosts) configure(host, options);
    this.user = this.topology.host("client").spawn({ name: "user" }).runtime;
    this.client = stackHost(this.user, addressOf(this.topology.host("server")), this.promises);
    const { runtime } = this.topology.host("server").spawn({ name: "server" });
    this.server = stackHost(runtime, addressOf(this.topology.host("client")), this.promises);
  }

  get nowNs(): Ns {
    return this.sim.nowNs;
  }

  sleep(durationNs: Ns): Promise<void> {
    return this.user.sleep(durationNs);
  }

  run<T>(main: Promise<T>): Promise<T> {
    return this.sim.run(main, this.sim.nowNs + RUN_LIMIT_NS);
  }

  memory(): { readonly packetBytes: number; readonly heapBytes: number } {
    return { packetBytes: this.topology.arena.outstanding, heapBytes: collectedHeapBytes() };
  }

  async close(): Promise<void> {
    try {
      for (const host of this.topology.hosts) for (const pid of host.inlineProcesses.keys()) host.detachProcess(pid);
      if (!(await this.sim.becomeIdle(this.sim.nowNs + SETTLE_LIMIT_NS))) throw new Error("the hosts never rest");
      this.promises.expectNone();
      this.leaks.check(this.sim.nowNs);
    } finally {
      this.topology.close();
    }
  }
}

const ANY = parseAddress("0.0.0.0") as Address;

/** One of our stacks as a host of a bench: `runtime` is that of a process on it. */
export function stackHost({ network }: Runtime, peer: Address, promises: PromiseCount): FaultHost {
  return {
    listen: (port) =>
      promises.count(network.listen(ANY, port).then((listener) => new MemoryListener(listener, promises))),
    dial: (port) => promises.count(network.dial(peer, port).then((conn) => new MemoryConn(conn, promises))),
  };
}

function configure(host: Stack, options: FaultBenchOptions): void {
  const { initialSequence, receiveBufferBytes } = options;
  if (initialSequence !== undefined) host.tcp.context.isn.isn = () => initialSequence;
  if (receiveBufferBytes !== undefined) {
    host.env.sysctl.tcpRmemDefault = receiveBufferBytes;
    host.env.sysctl.tcpRmemMax = receiveBufferBytes;
  }
}

/** Counts promises that were handed out and have not settled. */
export class PromiseCount {
  private readonly pending = new Map<number, string>();
  private last = 0;

  count<T>(promise: Promise<T>, what = "call"): Promise<T> {
    const key = ++this.last;
    this.pending.set(key, what);
    const settle = (): void => {
      this.pending.delete(key);
    };
    promise.then(settle, settle);
    return promise;
  }

  expectNone(): void {
    if (this.pending.size > 0) throw new Error(`never settled: ${[...this.pending.values()].join(", ")}`);
  }
}

class MemoryListener implements FaultListener {
  private readonly listener: Listener;
  private readonly promises: PromiseCount;

  constructor(listener: Listener, promises: PromiseCount) {
    this.listener = listener;
    this.promises = promises;
  }

  accept(): Promise<FaultConn> {
    const accepted = this.listener.accept().then((conn) => new MemoryConn(conn, this.promises));
    return this.promises.count(accepted, "accept");
  }

  close(): void {
    this.listener.close();
  }
}

class MemoryConn implements FaultConn {
  private scratch = new Uint8Array(0);
  private readonly conn: Conn;
  private readonly promises: PromiseCount;

  constructor(conn: Conn, promises: PromiseCount) {
    this.conn = conn;
    this.promises = promises;
  }

  read(maxBytes: number): Promise<Uint8Array> {
    if (this.scratch.length < maxBytes) this.scratch = new Uint8Array(maxBytes);
    return this.promises.count(
      this.conn.read(this.scratch, 0, maxBytes).then((n) => this.scratch.subarray(0, n)),
      "read",
    );
  }

  write(bytes: Uint8Array): Promise<void> {
    const written = this.conn.writeAll(bytes);
    this.conn.flush();
    return this.promises.count(written, "write");
  }

  end(): void {
    this.conn.closeWrite();
  }

  close(): void {
    this.conn.close();
  }

  abort(): void {
    this.conn.abort();
  }
}

/** A frame that was kept back at its arrival. */
interface HeldFrame {
  readonly slot: number;
  readonly offset: number;
  readonly len: number;
  readonly summed: Summed;
}

interface LossOrder {
  readonly way: Way;
  readonly test: SegmentTest;
  left: number;
}

/** The cable at the client, and what stands in front of both hosts' cards. */
export class MemoryWire implements FaultWire {
  readonly seen: SeenSegment[] = [];
  readonly holder: Holder;
  private readonly topology: Topology;
  /** The cable at the client. */
  readonly link: WireLink;
  private readonly doors: Readonly<Record<Way, Door>>;
  private readonly losses: LossOrder[] = [];

  constructor(topology: Topology, options: FaultBenchOptions) {
    this.topology = topology;
    this.link = topology.links[0] as WireLink;
    const last = topology.links[topology.links.length - 1] as WireLink;
    this.doors = { "to-server": new Door(last.ends[1]), "to-client": new Door(this.link.ends[0]) };
    if (!options.isUnseen) this.link.addTap((...args) => this.note(...args));
    this.link.loseWhen((direction, bytes, at, len) => this.mustLose(wayOf(direction), viewSegment(bytes, at, len)));
    const held = () => this.doors["to-server"].heldFrames + this.doors["to-client"].heldFrames;
    const { pool } = this.link.ends[0].env;
    this.holder = { name: "doors", pool, holdings: () => [{ place: "held", skbs: 0, slots: held() }] };
  }

  lose(way: Way, test: SegmentTest, count = 1): void {
    this.losses.push({ way, test, left: count });
  }

  swap(way: Way, test: SegmentTest): void {
    this.doors[way].swapWhen = test;
  }

  duplicate(way: Way, test: SegmentTest): void {
    this.doors[way].doubleWhen = test;
  }

  pad(): void {
    for (const door of Object.values(this.doors)) door.pads = true;
  }

  inject(way: Way, change: { readonly seq: number; readonly flags: number; readonly payload: Uint8Array }): void {
    this.doors[way].inject(change);
  }

  impair(impairment: Impairment): void {
    const error = this.link.set(impairment);
    if (error !== null) throw new Error(error.why);
  }

  setPathMtu(bytes: number, tells: boolean): void {
    const router = this.topology.host("router");
    // `ip link set dev eth1 mtu …` on the router; a black hole is a cable that cannot.
    if (tells) for (const dev of router.net.devices) Object.assign(dev, { mtu: bytes });
    else (this.topology.links.at(-1) as WireLink).set({ mtu: bytes });
  }

  private note(direction: LinkDirection, bytes: Uint8Array, at: number, len: number, atNs: Ns, lost: boolean): void {
    const segment = viewSegment(bytes, at, len);
    if (segment !== null) this.seen.push({ ...segment, atNs, way: wayOf(direction), lost });
  }

  private mustLose(way: Way, segment: ReturnType<typeof viewSegment>): boolean {
    if (segment === null) return false;
    const order = this.losses.find((loss) => loss.left > 0 && loss.way === way && loss.test(segment));
    if (order === undefined) return false;
    order.left--;
    return true;
  }
}

function wayOf(direction: LinkDirection): Way {
  return direction === 0 ? "to-server" : "to-client";
}

/** Stands in front of a card and does to arriving frames what no cable of `device` does on purpose. */
class Door {
  pads = false;
  swapWhen: SegmentTest | null = null;
  doubleWhen: SegmentTest | null = null;
  private held: HeldFrame | null = null;
  private newest: Uint8Array | null = null;
  private readonly nic: Nic;
  private readonly deliver: Nic["arrive"];

  constructor(nic: Nic) {
    this.nic = nic;
    this.deliver = nic.arrive.bind(nic);
    nic.arrive = (slot, offset, len, summed, atNs) => this.arrive(slot, offset, len, summed, atNs);
  }

  get heldFrames(): number {
    return this.held === null ? 0 : 1;
  }

  /** *Takes* the slot, as `Nic.arrive` does. */
  private arrive(slot: number, offset: number, len: number, summed: Summed, atNs: Ns): boolean {
    const { arena } = this.nic.env.pool;
    const segment = viewSegment(arena.bytes, slot + offset, len);
    if (segment !== null) {
      this.newest = arena.bytes.slice(slot + offset, slot + offset + len);
      if (this.swapWhen?.(segment)) {
        this.swapWhen = null;
        this.held = { slot, offset, len, summed };
        return true;
      }
      if (this.doubleWhen?.(segment)) {
        this.doubleWhen = null;
        this.insert(this.newest, atNs);
      }
    }
    const isTaken = this.deliver(slot, offset, this.padded(slot, offset, len), summed, atNs);
    const { held } = this;
    if (held !== null) {
      this.held = null;
      this.deliver(held.slot, held.offset, held.len, held.summed, atNs);
    }
    return isTaken;
  }

  inject(change: { readonly seq: number; readonly flags: number; readonly payload: Uint8Array }): void {
    if (this.newest === null) throw new Error("no segment to make another one after");
    const frame = ethernet.parse(this.newest);
    const packet = ipv4.parse(frame.payload);
    const { srcPort, dstPort, ack, window } = tcp.parse(packet.payload);
    const head = { srcPort, dstPort, ack, window, reserved: 0, checksum: 0, urgent: 0, options: [] };
    const segment = tcp.emit({ ...head, ...change });
    const view = new DataView(segment.buffer);
    tcp.fillChecksumV4(segment, view, 0, segment.length, packet.src, packet.dst);
    const bytes = ethernet.emit({ ...frame, payload: ipv4.emit({ ...packet, payload: segment }) });
    this.insert(bytes, this.nic.env.clock.nowNs);
  }

  /** A frame out of nowhere. */
  private insert(bytes: Uint8Array, atNs: Ns): void {
    const { arena } = this.nic.env.pool;
    const slot = arena.alloc(Math.max(bytes.length, PADDED_BYTES));
    if (slot === 0) throw new Error("packet memory is out");
    arena.bytes.set(bytes, slot);
    this.deliver(slot, 0, this.padded(slot, 0, bytes.length), Summed.none, atNs);
  }

  private padded(slot: number, offset: number, len: number): number {
    if (!this.pads || len >= PADDED_BYTES) return len;
    this.nic.env.pool.arena.bytes.fill(GARBAGE, slot + offset + len, slot + offset + PADDED_BYTES);
    return PADDED_BYTES;
  }
}
