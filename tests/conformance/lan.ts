/**
 * A tiny virtual-time harness for tests of the lower floors: hosts with their own clock and timers, driven in order of
 * deadlines. `sim/` does the same with processes and a cost model; these tests must not depend on it.
 */
import { type Address, formatV4, parseAddress } from "../../src/base/address.ts";
import { DROP_REASONS, DropReason } from "../../src/base/drop-reasons.ts";
import { Mib } from "../../src/base/mib.ts";
import { Prng } from "../../src/base/prng.ts";
import { Sysctls } from "../../src/base/sysctl.ts";
import { type Clock, type Cost, ManualClock, NEVER, type Ns } from "../../src/base/time.ts";
import { Timers } from "../../src/base/timers.ts";
import { NO_TRACE, type Tracepoints } from "../../src/base/tracepoints.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";
import { Nic, type NicOptions } from "../../src/device/nic.ts";
import { WireLink } from "../../src/device/wire-link.ts";
import type { NetDevice } from "../../src/netdev/net-device.ts";
import { NetFloor } from "../../src/network/net-floor.ts";
import { IpProtocol, type TransportProtocol } from "../../src/network/port.ts";
import { Arena, type ArenaLimits } from "../../src/skb/arena.ts";
import { DropCounters } from "../../src/skb/drop.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import { type SkBuff, SkBuffPool } from "../../src/skb/skb.ts";
import * as icmp from "../../src/wire/icmp.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";

export const SMALL_ARENA: ArenaLimits = { smallSlots: 1024, frameSlots: 4096, pageSlots: 16 };

/** A clock whose CPU takes `costNs` per unit of work. */
export class BusyClock extends ManualClock {
  private readonly costNs: number;
  constructor(costNs: number) {
    super();
    this.costNs = costNs;
  }
  override charge(_kind: Cost, units: number): void {
    this.nowNs += this.costNs * units;
  }
}

export interface TestEnv extends HostEnv {
  readonly clock: Clock;
  readonly sysctl: Sysctls;
  readonly drops: DropCounters;
  trace: Tracepoints;
}

export function makeEnv(
  name: string,
  arena: Arena,
  seed = 1,
  clock: Clock = new ManualClock(),
  trace = NO_TRACE,
): TestEnv {
  const pool = new SkBuffPool(arena);
  let frames = 0;
  let conns = 0;
  return {
    name,
    clock,
    timers: new Timers(),
    prng: new Prng(seed),
    pool,
    trace,
    mib: new Mib(),
    sysctl: new Sysctls(),
    drops: new DropCounters(pool, trace),
    secret: new Uint8Array(16).fill(7),
    nextFrameId: () => ++frames,
    nextConnId: () => ++conns,
  };
}

/** Fires all timers of all environments up to `untilNs`, in order; the clocks stand at `untilNs` or later after it. */
export function runUntil(envs: readonly HostEnv[], untilNs: Ns, limit = 1_000_000): void {
  for (let i = 0; ; i++) {
    if (i > limit) throw new Error("the timers never come to rest");
    let next: HostEnv | null = null;
    let atNs = NEVER;
    for (const env of envs) {
      const deadlineNs = env.timers.deadline();
      if (deadlineNs < atNs) {
        atNs = deadlineNs;
        next = env;
      }
    }
    if (next === null || atNs > untilNs) break;
    next.clock.nowNs = Math.max(next.clock.nowNs, atNs);
    next.timers.fireOne(atNs);
  }
  for (const env of envs) env.clock.nowNs = Math.max(env.clock.nowNs, untilNs);
}

export function macOf(n: number): Uint8Array {
  return new Uint8Array([2, 0, 0, 0, n >>> 8, n & 255]);
}

export function ip(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  return address;
}

/** One datagram that arrived at a `Probe`. */
export interface Arrived {
  readonly from: string;
  readonly payload: Uint8Array;
  readonly atNs: Ns;
}

/** A transport protocol that keeps what comes. */
export class Probe implements TransportProtocol {
  readonly arrived: Arrived[] = [];
  readonly errors: { type: number; code: number; info: number; peer: string }[] = [];
  private readonly env: HostEnv;

  constructor(env: HostEnv) {
    this.env = env;
  }
  receive(skb: SkBuff): void {
    this.arrived.push({
      from: formatV4(ipv4.src(skb.view, skb.net)),
      payload: skb.bytes.slice(skb.data, skb.tail),
      atNs: this.env.clock.nowNs,
    });
    this.env.drops.consume(skb);
  }
  icmpError(skb: SkBuff, innerNet: number, _innerTransport: number, type: number, code: number, info: number): void {
    this.errors.push({ type, code, info, peer: formatV4(ipv4.dst(skb.view, innerNet)) });
  }
}

/** A protocol number nobody else uses (RFC 3692). */
export const TEST_PROTOCOL = 253;

export class TestHost {
  readonly env: TestEnv;
  readonly net: NetFloor;
  readonly nics: Nic[] = [];
  /** Gets echo replies and errors about echo requests. */
  readonly ping: Probe;
  /** Gets packets of TEST_PROTOCOL. */
  readonly probe: Probe;

  constructor(env: TestEnv) {
    this.env = env;
    this.net = new NetFloor(env);
    this.ping = new Probe(env);
    this.probe = new Probe(env);
    this.net.ip.register(IpProtocol.icmp, this.ping);
    this.net.ip.register(TEST_PROTOCOL, this.probe);
  }

  addNic(n: number, cidr: string, options: Partial<NicOptions> = {}): NetDevice {
    const nic = new Nic(this.env, `eth${this.nics.length}`, { mac: macOf(n), ...options });
    this.nics.push(nic);
    return this.net.addNic(nic, cidr);
  }

  /** Sends `payload` as IP protocol `protocol`. 0 or -errno. */
  send(
    to: string,
    payload: Uint8Array,
    protocol = TEST_PROTOCOL,
    options: { df?: boolean; ttl?: number } = {},
  ): number {
    const route = this.net.ip.route(ip(to), null, 0);
    if (typeof route === "number") return route;
    const skb = this.env.pool.alloc(payload.length);
    if (skb === null) throw new Error("no memory");
    skb.bytes.set(payload, skb.put(payload.length));
    const { df = false, ttl = 64 } = options;
    return this.net.ip.output(skb, route, protocol, { dontFragment: df, ttl, tos: 0 });
  }

  /** ping -c 1. */
  echo(to: string, size = 56, options: { df?: boolean; ttl?: number } = {}): number {
    const payload = Uint8Array.from({ length: size }, (_, i) => i);
    return this.send(to, icmp.emit({ type: 8, code: 0, rest: (1 << 16) | 1, payload }), IpProtocol.icmp, options);
  }

  mib(name: Parameters<Mib["get"]>[0]): number {
    return this.env.mib.get(name);
  }

  /** Drops by name, zeros left out. */
  dropped(): Record<string, number> {
    const entries = DROP_REASONS.filter(({ id }) => id !== DropReason.consumed && this.env.drops.counts[id] > 0);
    return Object.fromEntries(entries.map(({ id, name }) => [name, this.env.drops.counts[id]]));
  }

  /** Neighbour states by address. */
  neighbours(): Record<string, string> {
    return Object.fromEntries(this.net.ip.neighbours().map((row) => [row.address, row.state]));
  }
}

/** Hosts on one arena, and the links between them. */
export class Lan {
  readonly arena: Arena;
  readonly hosts: TestHost[] = [];
  readonly links: WireLink[] = [];
  private readonly seed: number;

  constructor(seed = 1, limits = SMALL_ARENA) {
    this.seed = seed;
    this.arena = new Arena(limits);
  }

  host(name: string, clock: Clock = new ManualClock(), trace: Tracepoints = NO_TRACE): TestHost {
    const host = new TestHost(makeEnv(name, this.arena, this.seed + this.hosts.length, clock, trace));
    this.hosts.push(host);
    return host;
  }

  link(a: Nic, b: Nic, settings: Partial<LinkSettings> = {}): WireLink {
    const link = new WireLink(
      `${a.env.name}-${b.env.name}`,
      a,
      b,
      new Prng(this.seed * 31 + this.links.length),
      settings,
    );
    this.links.push(link);
    return link;
  }

  get nowNs(): Ns {
    return Math.min(...this.hosts.map((h) => h.env.clock.nowNs));
  }

  runFor(ns: Ns): void {
    runUntil(
      this.hosts.map((h) => h.env),
      this.nowNs + ns,
    );
  }

  /** Shuts everything down; afterwards nothing may be outstanding. */
  close(): void {
    for (const link of this.links) link.close();
    for (const host of this.hosts) host.net.close();
  }

  get outstanding(): { skbs: number; slots: number } {
    return {
      skbs: this.hosts.reduce((n, h) => n + h.env.pool.outstanding, 0),
      slots: this.arena.outstanding,
    };
  }
}

/** Two hosts on one link: 10.0.0.1 and 10.0.0.2. */
export function twoHosts(settings: Partial<LinkSettings> = {}, seed = 1, options: Partial<NicOptions> = {}) {
  const lan = new Lan(seed);
  const a = lan.host("a");
  const b = lan.host("b");
  a.addNic(1, "10.0.0.1/24", options);
  b.addNic(2, "10.0.0.2/24", options);
  const link = lan.link(a.nics[0], b.nics[0], settings);
  return { lan, a, b, link };
}

/** Client 10.1.0.2 – router – server 10.2.0.2. */
export function routed(near: Partial<LinkSettings> = {}, far: Partial<LinkSettings> = {}, seed = 1, farMtu = 1500) {
  const lan = new Lan(seed);
  const client = lan.host("client");
  const router = lan.host("router");
  const server = lan.host("server");
  client.addNic(1, "10.1.0.2/24");
  router.addNic(2, "10.1.0.1/24");
  router.addNic(3, "10.2.0.1/24", { mtu: farMtu });
  server.addNic(4, "10.2.0.2/24", { mtu: farMtu });
  router.env.sysctl.ipForward = 1;
  client.net.ip.addRoute({ destination: "default", via: ip("10.1.0.1") });
  server.net.ip.addRoute({ destination: "default", via: ip("10.2.0.1") });
  const nearLink = lan.link(client.nics[0], router.nics[0], near);
  const farLink = lan.link(router.nics[1], server.nics[0], far);
  return { lan, client, router, server, nearLink, farLink };
}
