/**
 * Where packets to one destination go, kept (Linux dst_entry, rtable), and what path MTU discovery learned.
 *
 * A connection keeps its `CachedRoute`; packets without one (echo replies, ICMP errors, UDP) find it by destination.
 * Forwarding asks the table itself, so that a scan through a router makes no objects.
 */
import { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { type Ns, SECOND } from "../base/time.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import type { HostEnv } from "../skb/host-env.ts";
import * as ethernet from "../wire/ethernet.ts";
import { BROADCAST, isMulticastAddress, type LocalAddresses } from "./local-addresses.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Route } from "./port.ts";
import type { RouteTable } from "./route.ts";

/** Linux ip_rt_mtu_expires: how long a learned path MTU is believed. */
export const PMTU_EXPIRES_NS: Ns = 600 * SECOND;
/** Linux ip_rt_min_pmtu: no ICMP message makes us send smaller packets than this. */
export const MIN_PMTU = 552;
/** Destinations remembered at most; all are forgotten when full (they are found again by one look-up each). */
const MAX_CACHED = 4096;
/** Paths with a learned MTU at most; the oldest is forgotten. */
const MAX_EXCEPTIONS = 2048;

export class CachedRoute implements Route {
  readonly destination: Address;
  readonly source: Address;
  readonly dev: NetDevice;
  readonly ifindex: number;
  readonly mtu: number;
  readonly gsoMaxBytes: number;
  /** Whose MAC address the frame gets: the gateway or the destination itself. */
  readonly nextHop: number;
  readonly isLocal: boolean;
  readonly isBroadcast: boolean;
  /** The neighbour entry of `nextHop` once it was found; dead ones are replaced. */
  neighbour: Neighbour | null = null;
  private readonly table: RouteTable;
  private readonly generation: number;
  private readonly expiresNs: Ns;

  /** @internal made by `RouteCache`. */
  constructor(
    table: RouteTable,
    destination: Address,
    source: Address,
    dev: NetDevice,
    nextHop: number,
    kind: "local" | "broadcast" | "unicast",
    mtu: number,
    expiresNs: Ns,
  ) {
    this.table = table;
    this.generation = table.generation;
    this.destination = destination;
    this.source = source;
    this.dev = dev;
    this.ifindex = dev.ifindex;
    this.nextHop = nextHop;
    this.isLocal = kind === "local";
    this.isBroadcast = kind === "broadcast";
    this.mtu = mtu;
    this.gsoMaxBytes = Math.max(0, dev.device.capabilities.gsoMaxBytes - ethernet.HEADER_LEN);
    this.expiresNs = expiresNs;
  }

  get valid(): boolean {
    return this.generation === this.table.generation && this.dev.env.clock.nowNs < this.expiresNs;
  }
}

interface PathMtu {
  readonly mtu: number;
  readonly expiresNs: Ns;
}

export class RouteCache {
  private readonly env: HostEnv;
  private readonly table: RouteTable;
  private readonly addresses: LocalAddresses;
  /** Where packets to ourselves go. */
  private readonly lo: NetDevice;
  private readonly devices: ReadonlyMap<number, NetDevice>;
  private readonly cached = new Map<number, CachedRoute>();
  private readonly exceptions = new Map<number, PathMtu>();

  constructor(
    env: HostEnv,
    table: RouteTable,
    addresses: LocalAddresses,
    lo: NetDevice,
    devices: ReadonlyMap<number, NetDevice>,
  ) {
    this.env = env;
    this.table = table;
    this.addresses = addresses;
    this.lo = lo;
    this.devices = devices;
  }

  /**
   * The path to `destination`, from `source` unless 0, out by `ifindex` unless 0. -ENETUNREACH; -EINVAL if `source` is
   * not ours; -ENODEV.
   */
  find(destination: number, source: number, ifindex: number): CachedRoute | number {
    if (ifindex === 0) {
      const route = this.usual(destination);
      if (typeof route === "number" || source === 0 || route.source.v4 === source) return route;
    }
    if (source !== 0 && !this.addresses.isLocal(source)) return -Errno.EINVAL;
    return this.make(destination, source, ifindex);
  }

  /** The path of a packet that asks for neither source nor device: the one that is kept. */
  private usual(destination: number): CachedRoute | number {
    const hit = this.cached.get(destination);
    if (hit?.valid) return hit;
    const route = this.make(destination, 0, 0);
    if (typeof route === "number") return route;
    if (this.cached.size >= MAX_CACHED) this.cached.clear();
    this.cached.set(destination, route);
    return route;
  }

  /** A router said that only packets of `mtu` bytes pass to `destination` (RFC 1191; Linux __ip_rt_update_pmtu). */
  learnMtu(destination: number, mtu: number): void {
    const route = this.find(destination, 0, 0);
    if (typeof route === "number" || route.isLocal) return;
    const believed = Math.max(mtu, Math.min(MIN_PMTU, route.mtu));
    if (believed >= route.mtu) return;
    this.exceptions.delete(destination);
    if (this.exceptions.size >= MAX_EXCEPTIONS) {
      for (const oldest of this.exceptions.keys()) {
        this.exceptions.delete(oldest);
        break;
      }
    }
    this.exceptions.set(destination, { mtu: believed, expiresNs: this.env.clock.nowNs + PMTU_EXPIRES_NS });
    // Whoever holds a route to there must ask again; that others ask too costs them one look-up.
    this.table.invalidate();
  }

  private make(destination: number, source: number, ifindex: number): CachedRoute | number {
    const { table, addresses, lo } = this;
    const from = (fallback: number) => Address.v4(source !== 0 ? source : fallback);
    const to = Address.v4(destination);
    if (addresses.isLocal(destination)) {
      return new CachedRoute(table, to, from(destination), lo, destination, "local", lo.mtu, Number.POSITIVE_INFINITY);
    }
    const bound = ifindex === 0 ? null : this.devices.get(ifindex);
    if (bound === undefined) return -Errno.ENODEV;
    const entry = table.lookup(destination, ifindex);
    // Bound to a device, everything counts as on its link (Linux ip_route_output_key_hash_rcu).
    const dev = entry?.dev ?? bound ?? this.deviceOf(destination, source);
    if (dev === null) return -Errno.ENETUNREACH;
    const nextHop = entry === null || entry.gateway === 0 ? destination : entry.gateway;
    const local = entry?.source || addresses.sourceFor(dev, nextHop);
    if (addresses.isBroadcast(destination) || isMulticastAddress(destination)) {
      return new CachedRoute(table, to, from(local), dev, destination, "broadcast", dev.mtu, Number.POSITIVE_INFINITY);
    }
    const learned = this.exceptions.get(destination);
    const believed = learned !== undefined && learned.expiresNs > this.env.clock.nowNs;
    const mtu = believed ? Math.min(learned.mtu, dev.mtu) : dev.mtu;
    const expiresNs = believed ? learned.expiresNs : Number.POSITIVE_INFINITY;
    return new CachedRoute(table, to, from(local), dev, nextHop, "unicast", mtu, expiresNs);
  }

  /** 255.255.255.255 and multicast without a route leave by the device that owns the source address. */
  private deviceOf(destination: number, source: number): NetDevice | null {
    if (destination !== BROADCAST && !isMulticastAddress(destination)) return null;
    for (const dev of this.devices.values()) {
      if (!dev.isLoopback && (source === 0 || this.addresses.sourceFor(dev, source) === source)) return dev;
    }
    return null;
  }
}
