/**
 * Hosts, routers and the links between them: one kernel thread's world, turned by one driver.
 *
 *   client 192.0.2.10 ── client-router ── 192.0.2.1 router 198.51.100.1 ── router-server ── 198.51.100.10 server
 *
 * All hosts share one arena (a frame's slot travels from card to card) and have each their own timers. `advance` does
 * what is due in order of time, hosts in their given order at the same instant, so that a run in virtual time is a pure
 * function of its seed (law 9).
 */
import { parseAddress, parseCidr } from "./base/address.ts";
import { assert } from "./base/assert.ts";
import { Prng } from "./base/prng.ts";
import { type Clock, MILLISECOND, NEVER, type Ns } from "./base/time.ts";
import { NO_TRACE, type Tracepoints } from "./base/tracepoints.ts";
import type { LinkSettings } from "./device/link-settings.ts";
import { Nic } from "./device/nic.ts";
import type { Device } from "./device/port.ts";
import { WireLink } from "./device/wire-link.ts";
import { Arena } from "./skb/arena.ts";
import type { HostEnv } from "./skb/host-env.ts";
import { SkBuffPool } from "./skb/skb.ts";
import type { FileSystem } from "./socket/file-system.ts";
import { Stack } from "./stack.ts";

/** Pids are unique in a topology, so that a pid alone says which host: 1…, 1001…, 2001… */
const PIDS_PER_HOST = 1000;

export interface NicSpec {
  readonly name: string;
  /** Address and prefix, e.g. "192.0.2.10/24". */
  readonly cidr: string;
  /** The link it is plugged into; every link has exactly two ends. Without: `TopologyOptions.openDevice` brings it. */
  readonly link?: string;
}

export interface HostSpec {
  readonly name: string;
  readonly nics: readonly NicSpec[];
  /** Default gateway. */
  readonly gateway?: string;
  /** Routes besides those of its addresses: `ip route add DESTINATION dev NIC`. */
  readonly routes?: readonly { readonly destination: string; readonly dev: string }[];
  /** True for a router (net.ipv4.ip_forward). */
  readonly forward?: boolean;
  readonly sysctls?: Readonly<Record<string, string>>;
}

export interface LinkSpec {
  readonly name: string;
  readonly settings?: Partial<LinkSettings>;
}

export interface TopologySpec {
  readonly hosts: readonly HostSpec[];
  readonly links: readonly LinkSpec[];
}

/** One way of each default link: 2 links × 2.5 ms = 5 ms from client to server, so that shapes mean something. */
export const DEFAULT_LINK_DELAY_NS: Ns = 2.5 * MILLISECOND;

/** The three hosts of `sojourn serve`, in documentation addresses (RFC 5737). `settings` apply to both links. */
export function defaultTopology(settings: Partial<LinkSettings> = {}): TopologySpec {
  const wire = { delayNs: DEFAULT_LINK_DELAY_NS, ...settings };
  return {
    hosts: [
      { name: "client", nics: [{ name: "eth0", cidr: "192.0.2.10/24", link: "client-router" }], gateway: "192.0.2.1" },
      {
        name: "router",
        forward: true,
        nics: [
          { name: "eth0", cidr: "192.0.2.1/24", link: "client-router" },
          { name: "eth1", cidr: "198.51.100.1/24", link: "router-server" },
        ],
      },
      {
        name: "server",
        nics: [{ name: "eth0", cidr: "198.51.100.10/24", link: "router-server" }],
        gateway: "198.51.100.1",
      },
    ],
    links: [
      { name: "client-router", settings: wire },
      { name: "router-server", settings: wire },
    ],
  };
}

export interface TopologyOptions {
  /** Seeds everything random: link faults, ISNs, ports, hash keys. */
  readonly seed: number;
  /** Gives each host its clock: one shared real clock, or one virtual clock each. */
  readonly clockOf: (host: string) => Clock;
  /** Gives a host its tracepoints; default none. */
  readonly traceOf?: (host: string, clock: Clock) => Tracepoints | undefined;
  /** What a host's processes can open; default nothing. */
  readonly filesOf?: (host: string) => FileSystem | undefined;
  readonly arena?: Arena;
  /** Brings the device of a NIC that is plugged into no link: a TAP, a stream socket. */
  readonly openDevice?: (env: HostEnv, nic: NicSpec) => Device;
}

export class Topology {
  readonly arena: Arena;
  readonly hosts: readonly Stack[];
  readonly links: readonly WireLink[];
  private connIds = 0;

  /** Throws `RangeError` for a spec that makes no sense (what, and where). */
  constructor(spec: TopologySpec, options: TopologyOptions) {
    const prng = new Prng(options.seed);
    this.arena = options.arena ?? new Arena();
    const plugs = new Map<string, Nic[]>();
    this.hosts = spec.hosts.map((host, index) => {
      const clock = options.clockOf(host.name);
      const files = options.filesOf?.(host.name);
      const stack = new Stack({
        ...(files ? { files } : {}),
        name: host.name,
        clock,
        prng: prng.fork(),
        pool: new SkBuffPool(this.arena),
        trace: options.traceOf?.(host.name, clock) ?? NO_TRACE,
        nextConnId: () => ++this.connIds,
        firstPid: index * PIDS_PER_HOST + 1,
      });
      for (const [at, nic] of host.nics.entries()) {
        if (!parseCidr(nic.cidr))
          throw new RangeError(`"${nic.cidr}" is no address with prefix, such as 192.0.2.10/24`);
        if (nic.link === undefined) {
          assert(options.openDevice !== undefined, `nobody brings the device "${nic.name}" of ${host.name}`);
          stack.addNic(options.openDevice(stack.env, nic), nic.cidr);
          continue;
        }
        const card = new Nic(stack.env, nic.name, { mac: macOf(index, at) });
        stack.addNic(card, nic.cidr);
        plugs.set(nic.link, [...(plugs.get(nic.link) ?? []), card]);
      }
      configure(stack, host);
      return stack;
    });
    this.links = spec.links.map(({ name, settings }) => {
      const [a, b, extra] = plugs.get(name) ?? [];
      if (!a || !b || extra) throw new RangeError(`link "${name}" must have exactly two ends`);
      return new WireLink(name, a, b, prng.fork(), settings);
    });
  }

  /** The host of that name. */
  host(name: string): Stack {
    const stack = this.hosts.find((h) => h.name === name);
    assert(stack !== undefined, `no host "${name}" in this topology`);
    return stack;
  }

  /** When something is due next; NEVER if nothing is. */
  deadline(): Ns {
    let due = NEVER;
    for (const host of this.hosts) due = Math.min(due, host.deadline());
    return due;
  }

  /** How often asynchronous code of inline processes was resumed so far (`Machine.resumptions` of sim). */
  get resumptions(): number {
    let sum = 0;
    for (const host of this.hosts) sum += host.resumptions;
    return sum;
  }

  /** Does, in order of time, everything that is due at `nowNs`; no host is behind that moment afterwards. */
  advance(nowNs: Ns): void {
    this.fireDue(nowNs);
    // Who calls into an idle host next (a test, a promise's continuation) must not act in its past.
    for (const { env } of this.hosts) if (env.clock.nowNs < nowNs) env.clock.nowNs = nowNs;
  }

  private fireDue(nowNs: Ns): void {
    for (;;) {
      let next: Stack | null = null;
      let due = NEVER;
      for (const host of this.hosts) {
        const at = host.deadline();
        if (at < due) {
          due = at;
          next = host;
        }
      }
      if (next === null || due > nowNs) return;
      next.step(due);
    }
  }

  /** Unplugs everything; what was on the way is dropped with a reason. */
  close(): void {
    for (const link of this.links) link.close();
    for (const host of this.hosts) host.close();
  }
}

function configure(stack: Stack, host: HostSpec): void {
  if (host.forward) stack.env.sysctl.set("net.ipv4.ip_forward", "1");
  if (host.gateway !== undefined) {
    const gateway = parseAddress(host.gateway);
    if (!gateway) throw new RangeError(`gateway "${host.gateway}" of host "${host.name}" is no address`);
    stack.addDefaultRoute(gateway);
  }
  for (const { destination, dev } of host.routes ?? []) {
    const error = stack.net.ip.addRoute({ destination, ifindex: stack.net.ip.ifindexOf(dev) });
    if (error !== 0) throw new RangeError(`host "${host.name}" cannot have the route "${destination}" dev ${dev}`);
  }
  for (const [name, value] of Object.entries(host.sysctls ?? {})) {
    const error = stack.env.sysctl.set(name, value);
    if (error !== null) throw new RangeError(error);
  }
}

/** Locally administered, one per host and card: 02:00:00:00:HH:NN. */
function macOf(host: number, nic: number): Uint8Array {
  return new Uint8Array([0x02, 0, 0, 0, host + 1, nic]);
}
