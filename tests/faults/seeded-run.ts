/**
 * The run of one seed: two hosts, bad cables, up to eight connections and some datagrams, in virtual time, and
 * everything that is wrong about it.
 *
 *   seed ─► planOf ─► two or three hosts ─► talks, datagrams, events ─► faults (none, if all is well)
 *
 * The books of every host are balanced after every step. A connection may fail only if the frames say that it had to:
 * then the seed is run again with a log of all segments (a run is a pure function of its seed) and judged by it.
 */
import { type Address, parseAddress } from "../../src/base/address.ts";
import { Prng } from "../../src/base/prng.ts";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import { DEFAULT_LINK_SETTINGS, type LinkSettings } from "../../src/device/link-settings.ts";
import type { WireLink } from "../../src/device/wire-link.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { ConservationChecker, LeakChecker } from "../../src/sim/checkers.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Arena } from "../../src/skb/arena.ts";
import type { Stack } from "../../src/stack.ts";
import { defaultTopology, Topology, type TopologyOptions } from "../../src/topology.ts";
import { cableHolder, StackLedger, stackCounters } from "../support/host-ledger.ts";
import { knowNeighbours } from "../support/sim-bench.ts";
import { addressOf, directTopology } from "../support/two-hosts.ts";
import { type DatagramCounts, playDatagrams } from "./datagrams.ts";
import { type CableEvent, type FaultPlan, planOf } from "./fault-plan.ts";
import { SegmentLog } from "./segment-log.ts";
import { Lore, serveTalks, Talk, type TalkEnd } from "./talk.ts";
import { judgeTimeout } from "./timeout-judge.ts";
import { type SeenEnding, TraceHash } from "./trace-hash.ts";

const PORT = 7000;
const CLOSED_PORT = 9;
const ANY = parseAddress("0.0.0.0") as Address;
const LORE_SEED = 1;
/** A run that has not ended after so much virtual time never will. */
const RUN_LIMIT_NS: Ns = 24 * 3600 * SECOND;
const ARENA_LIMITS = { smallSlots: 8192, frameSlots: 6144, pageSlots: 128 };
/** What processing adds to the time of a retransmission; more on a cable with a rate, where others go first. */
const SLACK_NS: Ns = 2 * MILLISECOND;
const SLOW_SLACK_NS: Ns = 300 * MILLISECOND;

export interface RunResult {
  readonly plan: FaultPlan;
  /** Everything that is wrong; empty if nothing is. */
  readonly faults: readonly string[];
  /** Of every frame that departed, its time and its fate. */
  readonly hash: string;
  readonly frames: number;
  readonly lostFrames: number;
  readonly connections: number;
  /** Connections that ended by ETIMEDOUT, as the frames say they had to. */
  readonly timeouts: number;
  /** Ends that were reset by the bench after their peer had gone without a word that arrived. */
  readonly abandoned: number;
  readonly datagrams: DatagramCounts;
  readonly virtualNs: Ns;
}

/** Packet memory for one run after another. */
export class RunMemory {
  readonly arena = new Arena(ARENA_LIMITS);
  readonly lore = new Lore((bytes) => new Prng(LORE_SEED).fill(bytes));
}

/** Runs a seed and judges it. */
export async function runSeed(seed: number, memory: RunMemory): Promise<RunResult> {
  const result = await new SeededRun(seed, memory).play();
  if (result.timeouts === 0 || result.faults.length > 0) return result;
  return { ...result, faults: await judgeTimeouts(result, memory) };
}

/** The same run again with a log of segments, which says whether the time-outs had to be. */
async function judgeTimeouts(result: RunResult, memory: RunMemory): Promise<string[]> {
  const { plan } = result;
  const again = new SeededRun(plan.seed, memory);
  const log = new SegmentLog(again.topology);
  const { hash } = await again.play();
  if (hash !== result.hash) return [`the repetition went another way: ${hash}, not ${result.hash}`];
  const slackNs = hasRate(plan) ? SLOW_SLACK_NS : SLACK_NS;
  const ports = again.talks.map(({ port }) => port);
  return again.talks.flatMap(({ index, port, dialedNs, ends }) => {
    const failed = ends.filter((end) => end.failure === "ETIMEDOUT");
    return failed.flatMap(({ side, endedNs }) => {
      const segments = log.of(side, port || log.portDialed(ports, dialedNs), dialedNs);
      const why = judgeTimeout(segments, dialedNs, endedNs, slackNs);
      return why === "" ? [] : [`talk ${index}, ${side}: ETIMEDOUT that need not be: ${why}`];
    });
  });
}

function hasRate(plan: FaultPlan): boolean {
  const isSlow = (s: Partial<LinkSettings>): boolean => (s.rateBitsPerSecond ?? 0) > 0;
  return plan.cables.flat().some(isSlow) || plan.events.some((event) => isSlow(event.change));
}

export class SeededRun {
  readonly plan: FaultPlan;
  readonly topology: Topology;
  readonly talks: readonly Talk[];
  /** Events under way. */
  private readonly present: CableEvent[] = [];
  private readonly sim: Sim;
  private readonly client: Stack;
  private readonly server: Stack;
  private readonly user: Runtime;
  private readonly leaks: LeakChecker;
  private readonly hash = new TraceHash();
  private readonly prng: Prng;
  private readonly lore: Lore;

  /** `traceOf`: who records the hosts; default nobody. */
  constructor(seed: number, memory: RunMemory, traceOf?: TopologyOptions["traceOf"]) {
    const plan = planOf(seed);
    this.plan = plan;
    // Other draws than the plan's.
    this.prng = new Prng(seed).fork();
    const topology = this.build(memory, traceOf);
    this.topology = topology;
    const { hosts, links } = topology;
    for (const index of links.keys()) this.setCables(index);
    if (!plan.asksArp) knowNeighbours(topology);
    this.client = topology.host("client");
    this.server = topology.host("server");
    this.leaks = new LeakChecker(hosts.map(stackCounters));
    const books = new ConservationChecker(
      hosts.map((host) => new StackLedger(host, links)),
      links.map(cableHolder),
    );
    for (const [i, link] of links.entries()) link.addTap(this.hash.tap(i));
    this.sim = new Sim(topology, { seed, afterStep: (nowNs) => books.check(nowNs) });
    this.user = this.client.spawn({ name: "user" }).runtime;
    this.lore = memory.lore;
    this.talks = plan.talks.map((talk, index) => new Talk(talk, index, this.lore, this.user));
  }

  private build(memory: RunMemory, traceOf: TopologyOptions["traceOf"]): Topology {
    const { plan } = this;
    const spec = plan.hasRouter ? defaultTopology() : directTopology();
    const hosts = spec.hosts.map((host) => ({ ...host, sysctls: plan.sysctls }));
    return new Topology(
      { ...spec, hosts },
      {
        seed: plan.seed,
        arena: memory.arena,
        clockOf: () => new VirtualClock(),
        ...(traceOf ? { traceOf } : {}),
      },
    );
  }

  /** To the end, or to the first law that is broken. */
  async play(): Promise<RunResult> {
    const faults: string[] = [];
    let datagrams: DatagramCounts = { sent: 0, received: 0, faults: [] };
    try {
      datagrams = await this.sim.run(this.live(), RUN_LIMIT_NS);
      faults.push(...datagrams.faults, ...this.talks.flatMap((talk) => this.faultsOf(talk)), ...this.resetFaults());
      faults.push(...(await this.rest()));
    } catch (error) {
      faults.push((error as Error).message);
    } finally {
      this.topology.close();
    }
    return this.resultOf(faults, datagrams);
  }

  private resultOf(faults: readonly string[], datagrams: DatagramCounts): RunResult {
    const ends = this.talks.flatMap((talk) => talk.ends);
    const stats = this.topology.links.flatMap((link) => [link.stats(0), link.stats(1)]);
    return {
      plan: this.plan,
      faults,
      hash: this.hash.text,
      frames: stats.reduce((sum, s) => sum + s.sentFrames, 0),
      lostFrames: stats.reduce((sum, s) => sum + s.lostFrames, 0),
      connections: this.talks.length,
      timeouts: ends.filter((end) => end.failure === "ETIMEDOUT").length,
      abandoned: ends.filter((end) => end.isAbandoned).length,
      datagrams,
      virtualNs: this.sim.nowNs,
    };
  }

  private async live(): Promise<DatagramCounts> {
    const { plan, user, talks, client, server } = this;
    const { runtime } = server.spawn({ name: "server" });
    const listener = await runtime.network.listen(ANY, PORT);
    const serving = serveTalks(listener, talks);
    const to = addressOf(server);
    const dialing = talks.map((talk) =>
      talk.runClient(() => user.network.dial(to, talk.plan.kind === "refused" ? CLOSED_PORT : PORT)),
    );
    const events = [...plan.events.map((event) => this.happen(event)), ...plan.mtus.map((mtu) => this.shrink(mtu))];
    const hosts = [client, server].map((host) => [host, addressOf(host)] as const);
    const post = playDatagrams(plan.datagrams, hosts, user, this.lore, this.prng.fork());
    await Promise.all([...dialing, ...events]);
    while (!talks.every((talk) => talk.isOver)) await user.sleep(10 * SECOND);
    listener.close();
    await serving;
    return post;
  }

  /** For as long as an event lasts, its settings are those of the cable; the newest of several counts. */
  private async happen(event: CableEvent): Promise<void> {
    await this.user.sleep(event.atMs * MILLISECOND);
    this.present.push(event);
    this.setCables(event.link);
    await this.user.sleep(event.lastsMs * MILLISECOND);
    this.present.splice(this.present.indexOf(event), 1);
    this.setCables(event.link);
  }

  private setCables(index: number): void {
    const link = this.topology.links[index] as WireLink;
    for (const direction of [0, 1] as const) {
      const events = this.present.filter((e) => e.link === index && (e.direction ?? direction) === direction);
      const changes = events.map((event) => event.change);
      const settings = Object.assign({ ...DEFAULT_LINK_SETTINGS }, this.plan.cables[index]?.[direction], ...changes);
      const error = link.set(settings, direction);
      if (error !== null) throw new Error(`${link.name}: ${error.why}`);
    }
  }

  /** `ip link set dev … mtu` on the router. */
  private async shrink(mtu: { readonly atMs: number; readonly bytes: number }): Promise<void> {
    await this.user.sleep(mtu.atMs * MILLISECOND);
    for (const dev of this.topology.host("router").net.devices) Object.assign(dev, { mtu: mtu.bytes });
  }

  /** Nothing is left to do, nothing is kept. */
  private async rest(): Promise<string[]> {
    for (const host of this.topology.hosts) for (const pid of host.inlineProcesses.keys()) host.detachProcess(pid);
    if (!(await this.sim.becomeIdle(this.sim.nowNs + RUN_LIMIT_NS))) return ["the hosts never rest"];
    this.leaks.check(this.sim.nowNs);
    return [];
  }

  private faultsOf(talk: Talk): string[] {
    const { plan, index, client, server } = talk;
    const name = `talk ${index} (${plan.kind})`;
    if (plan.kind === "refused") {
      return this.isExcused(client, server, "ECONNREFUSED") ? [] : [`${name}: a closed port said "${client.failure}"`];
    }
    return talk.ends.flatMap((end) => {
      const other = end === client ? server : client;
      const faults: string[] = [];
      if (end.wrongAt >= 0) faults.push(`${name}, ${end.side}: other bytes than were sent from ${end.wrongAt} on`);
      if (end.gotBytes > end.expected.length) faults.push(`${name}, ${end.side}: ${end.gotBytes} bytes, too many`);
      if (end.failure === "" && end.conn !== null && !end.isWell) {
        faults.push(`${name}, ${end.side}: the end after ${end.gotBytes} of ${end.expected.length} bytes`);
      }
      if (end.failure !== "" && !this.isExcused(end, other, "")) {
        faults.push(`${name}, ${end.side}: ${end.failure} after ${end.gotBytes} of ${end.expected.length} bytes`);
      }
      return faults;
    });
  }

  /** May `end` have failed? Time-outs are judged by the frames, later. */
  private isExcused(end: TalkEnd, other: TalkEnd, wanted: string): boolean {
    const { plan } = this;
    if (end.isAbandoned) return plan.isHopeless && end.failure === "EBADF";
    switch (end.failure) {
      case wanted:
      case "ETIMEDOUT":
        return true;
      case "EHOSTUNREACH":
        // Three ARP requests or their answers in a row were lost; without ARP nobody can say so.
        return plan.asksArp;
      case "ECONNRESET":
      case "EPIPE":
        return plan.isHopeless && (other.failure !== "" || other.endedNs <= end.endedNs);
      default:
        return false;
    }
  }

  /**
   * A reset before both ends have sent their FIN is nobody's right. Afterwards one of them may have forgotten the
   * connection already, and whatever comes late is answered by a reset.
   */
  private resetFaults(): string[] {
    const { endings } = this.hash;
    return this.talks.flatMap(({ port, dialedNs, index, ends }) => {
      // An earlier talk may have had the same port.
      const isOwn = (s: SeenEnding): boolean => s.atNs >= dialedNs && (s.srcPort === port || s.dstPort === port);
      const own = port === 0 ? [] : endings.filter(isOwn);
      const reset = own.find(({ isReset }) => isReset);
      if (reset === undefined) return [];
      const isExcused = ends.some((end) => end.isAbandoned || (end.failure !== "" && end.endedNs <= reset.atNs));
      if (isExcused) return [];
      const fins = own.filter(({ isReset, atNs }) => !isReset && atNs <= reset.atNs);
      const sides = new Set(fins.map(({ srcPort }) => srcPort)).size;
      return sides === 2 ? [] : [`talk ${index}: a reset at ${reset.atNs} while an end still talks`];
    });
  }
}
