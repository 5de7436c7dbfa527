/**
 * The books of one host of a topology for the checkers of sim: what came to be on it, what left it, what it owns.
 *
 * It counts from the outside, by what the floors show to anybody: rings, queues, counters.
 */
import { MibId } from "../../src/base/mib.ts";
import { Nic } from "../../src/device/nic.ts";
import type { LinkDirection, WireLink } from "../../src/device/wire-link.ts";
import { type Holder, type Holding, type HostLedger, hostCounters, type LeakCounters } from "../../src/sim/checkers.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import type { Stack } from "../../src/stack.ts";
import type { Topology } from "../../src/topology.ts";
import type { Tcb } from "../../src/transport/tcp/tcp.ts";

/** One direction of a cable, as seen from the host it leads to. */
interface Inward {
  readonly link: WireLink;
  readonly direction: LinkDirection;
}

/** A host's books. Not for runs that run out of packet memory: an skb that could not be made never came to be. */
export class StackLedger implements HostLedger {
  readonly env: HostEnv;
  private readonly stack: Stack;
  private readonly nics: readonly Nic[];
  private readonly inward: readonly Inward[];

  constructor(stack: Stack, links: readonly WireLink[]) {
    this.stack = stack;
    this.env = stack.env;
    this.nics = stack.net.devices.map((dev) => dev.device).filter((device) => device instanceof Nic);
    this.inward = links.flatMap((link) =>
      link.ends.flatMap((end, at) => (end.env === stack.env ? [{ link, direction: at === 0 ? 1 : 0 } as const] : [])),
    );
  }

  /** Built or received as skbs, one for one; and what was counted here although it never became one. */
  get framesIn(): number {
    const { values } = this.env.mib;
    // A whole packet takes the place of its first fragment; fragments or segments take the place of what was cut.
    let sum = this.env.pool.handedOut - values[MibId.IpReasmOKs] - values[MibId.IpFragOKs];
    for (const dev of this.stack.net.devices) sum -= dev.superSegmentsCut;
    for (const { link, direction } of this.inward) sum += link.stats(direction).lostFrames;
    for (const { stats } of this.nics) sum += stats.rxMissed + stats.rxErrors;
    return sum;
  }

  get framesOut(): number {
    let sum = 0;
    for (const { stats } of this.nics) sum += stats.txPackets;
    return sum;
  }

  holdings(): readonly Holding[] {
    const { net, tcp, udp } = this.stack;
    const holdings: Holding[] = [];
    const add = (place: string, skbs: number, slots: number): void => {
      if (skbs !== 0 || slots !== 0) holdings.push({ place, skbs, slots });
    };
    for (const nic of this.nics) {
      add(`RX ring of ${nic.name}`, 0, nic.rxSlots);
      add(`TX ring of ${nic.name}`, nic.txRing.used, 0);
    }
    add("lo", net.lo.device.rxRing.used, 0);
    for (const dev of net.devices) add(`qdisc of ${dev.name}`, dev.qdisc.length, 0);
    add("neighbours", net.ip.neighbourTable.waitingPackets, 0);
    add("fragments", net.ip.reassembly.heldFragments, 0);
    add("UDP receive queues", udp.waitingDatagrams, 0);
    for (const tcb of tcp.context.endpoints) addTcb(tcb, add);
    return holdings;
  }
}

function addTcb(tcb: Tcb, add: (place: string, skbs: number, slots: number) => void): void {
  add(`connection ${tcb.connId}, out of order`, tcb.reassembly.length, 0);
  add(`connection ${tcb.connId}, queues`, 0, tcb.receiveQueue.slots + tcb.sendQueue.pages);
}

/** Frames on a cable: slots of nobody's skb. */
export function cableHolder(link: WireLink): Holder {
  return {
    name: link.name,
    pool: link.ends[0].env.pool,
    holdings: () => [{ place: "in flight", skbs: 0, slots: link.inFlight(0) + link.inFlight(1) }],
  };
}

/** What must all be given back on a host when its connections are over and TIME_WAIT has run out. */
export function stackCounters(stack: Stack): LeakCounters {
  const env = hostCounters(stack.env);
  return {
    name: stack.name,
    counts: () => ({
      ...env.counts(),
      ...stack.processes.counts,
      endpoints: stack.tcp.context.endpoints.size,
      connections: stack.tcp.context.connections.size,
      timeWaits: stack.tcp.context.timeWaits.count,
      orphans: stack.tcp.context.orphanCount,
    }),
  };
}

/** Goroutines, timers and tokens of every process that runs in the kernel's thread. */
export function processCounters(topology: Topology): LeakCounters[] {
  return topology.hosts.flatMap((host) =>
    [...host.inlineProcesses].map(([pid, process]) => ({
      name: `${host.name}/${pid}`,
      counts: () => process.runtime.counts(),
    })),
  );
}
