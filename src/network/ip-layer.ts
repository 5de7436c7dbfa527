/**
 * The IP layer of one host: what transports see (`IpLayer`), and what `ip` and `iptables` would administrate.
 */
import { type Address, type Cidr, parseCidr } from "../base/address.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { MibId } from "../base/mib.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import type { FrameReceiver } from "../netdev/receive.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import { EtherType } from "../wire/ethernet.ts";
import * as icmpWire from "../wire/icmp.ts";
import { Arp } from "./arp.ts";
import { Icmp } from "./icmp.ts";
import { Ipv4 } from "./ipv4.ts";
import { LocalAddresses, maskOf } from "./local-addresses.ts";
import { type NeighbourRow, NeighbourTable } from "./neighbour.ts";
import type { IpLayer, OutputOptions, Route, TransportProtocol } from "./port.ts";
import { Reassembly } from "./reassembly.ts";
import { type RejectRow, RejectRules, type RejectWith } from "./reject.ts";
import { type RouteRow, RouteTable } from "./route.ts";
import { CachedRoute, RouteCache } from "./route-cache.ts";

const LOOPBACK = 0x7f000001;

/** A route to add: `ip route add destination [via gateway] [dev …] [src …] [metric …]`. */
export interface RouteSpec {
  /** "10.1.0.0/16", or "default". */
  readonly destination: string;
  /** Next hop; without it the destination is on the link. */
  readonly via?: Address;
  /** ifindex; without it, the device on whose network `via` is. */
  readonly ifindex?: number;
  readonly source?: Address;
  readonly metric?: number;
}

export class Ip implements IpLayer {
  readonly arp: Arp;
  readonly neighbourTable: NeighbourTable;
  readonly routeTable = new RouteTable();
  readonly reassembly: Reassembly;
  private readonly env: HostEnv;
  private readonly devices = new Map<number, NetDevice>();
  private readonly addresses = new LocalAddresses();
  private readonly routeCache: RouteCache;
  private readonly ipv4: Ipv4;
  private readonly icmp: Icmp;
  private readonly rejects: RejectRules;

  /** `lo` carries what the host sends to itself; it gets 127.0.0.1/8. Registers with the receiver. */
  constructor(env: HostEnv, receiver: FrameReceiver, lo: NetDevice) {
    this.env = env;
    const { addresses, routeTable: table } = this;
    this.arp = new Arp(env, addresses);
    this.neighbourTable = new NeighbourTable(env, this.arp);
    this.reassembly = new Reassembly(env);
    this.routeCache = new RouteCache(env, table, addresses, lo, this.devices);
    this.ipv4 = new Ipv4({
      env,
      addresses,
      table,
      routes: this.routeCache,
      neighbours: this.neighbourTable,
      reassembly: this.reassembly,
    });
    this.icmp = new Icmp(env, addresses, this.ipv4);
    this.rejects = new RejectRules(env, {
      sendTo: (skb, source, destination, protocol, ttl, tos) =>
        this.ipv4.sendTo(skb, source, destination, protocol, ttl, tos),
      sendError: (skb, type, code, info) => this.icmp.sendError(skb, type, code, info),
    });
    this.ipv4.icmp = this.icmp;
    this.ipv4.rejects = this.rejects;
    this.arp.table = this.neighbourTable;
    this.arp.deviceTo = (address) => table.lookup(address, 0)?.dev ?? null;
    // Linux ipv4_link_failure; to a sender on this host the message comes by `lo` and ends as EHOSTUNREACH.
    this.arp.unreachable = (skb) => this.icmp.sendError(skb, icmpWire.Type.unreachable, icmpWire.Unreachable.host, 0);
    this.reassembly.timeExceeded = (first) =>
      this.icmp.sendError(first, icmpWire.Type.timeExceeded, icmpWire.TimeExceeded.reassembly, 0);
    receiver.register(EtherType.ipv4, this.ipv4);
    receiver.register(EtherType.arp, this.arp);
    this.addDevice(lo);
    this.addAddress(lo.ifindex, "127.0.0.1/8");
  }

  // ── IpLayer ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Protocol 1 may be registered too: it then gets echo replies, and errors about our ICMP messages (ping). */
  register(protocol: number, handler: TransportProtocol): void {
    this.ipv4.register(protocol, handler);
  }

  route(destination: Address, source: Address | null, ifindex: number): Route | number {
    if (!destination.isV4 && !destination.isWildcard) return -Errno.ENETUNREACH;
    const from = source === null || source.isWildcard ? 0 : source.v4;
    // Connecting to 0.0.0.0 means this host (Linux ip_route_output_key_hash_rcu).
    const to = destination.isWildcard ? from || LOOPBACK : destination.v4;
    const route = this.routeCache.find(to, from, ifindex);
    if (route === -Errno.ENETUNREACH) this.env.mib.values[MibId.IpOutNoRoutes]++;
    return route;
  }

  output(skb: SkBuff, route: Route, protocol: number, options: OutputOptions): number {
    if (!(route instanceof CachedRoute)) {
      this.env.drops.drop(skb, DropReason.ipOutNoRoutes);
      return -Errno.EINVAL;
    }
    return this.ipv4.output(skb, route, protocol, options);
  }

  sendIcmpError(skb: SkBuff, type: number, code: number, info: number): void {
    this.icmp.sendError(skb, type, code, info);
  }

  isLocal(address: Address): boolean {
    return address.isV4 && this.addresses.isLocal(address.v4);
  }

  ifindexOf(name: string): number {
    for (const dev of this.devices.values()) if (dev.name === name) return dev.ifindex;
    return 0;
  }

  /** The path of `route` made progress: no need to ask whether its next hop is alive (Linux dst_confirm). */
  confirm(route: Route): void {
    if (route instanceof CachedRoute && route.neighbour !== null && !route.neighbour.dead) {
      this.neighbourTable.confirm(route.neighbour);
    }
  }

  // ── ip link, ip addr ──────────────────────────────────────────────────────────────────────────────────────────

  addDevice(dev: NetDevice): void {
    this.devices.set(dev.ifindex, dev);
    this.routeTable.invalidate();
  }

  /** `ip link set dev … up|down`: going down forgets the neighbours; routes stay and are passed over. */
  setUp(ifindex: number, up: boolean): number {
    const dev = this.devices.get(ifindex);
    if (dev === undefined) return -Errno.ENODEV;
    dev.setUp(up);
    if (!up) this.neighbourTable.flush(dev);
    this.routeTable.invalidate();
    return 0;
  }

  /** `ip addr add 10.0.0.1/24 dev …`, with its connected route. 0, -EINVAL, -ENODEV, -EEXIST. */
  addAddress(ifindex: number, cidr: string | Cidr): number {
    const dev = this.devices.get(ifindex);
    const parsed = typeof cidr === "string" ? parseCidr(cidr) : cidr;
    if (dev === undefined) return -Errno.ENODEV;
    if (parsed === undefined || parsed.address.v4 === 0) return -Errno.EINVAL;
    if (!this.addresses.add(dev, parsed)) return -Errno.EEXIST;
    const { prefix } = parsed;
    if (!dev.isLoopback && prefix < 32) {
      const network = (parsed.address.v4 & maskOf(prefix)) >>> 0;
      const source = parsed.address.v4;
      this.routeTable.add({ network, prefix, gateway: 0, dev, source, metric: 0, protocol: "kernel" });
    }
    this.routeTable.invalidate();
    return 0;
  }

  /** `ip addr del`. 0, -ENODEV, -EADDRNOTAVAIL. */
  deleteAddress(ifindex: number, address: Address): number {
    const dev = this.devices.get(ifindex);
    if (dev === undefined) return -Errno.ENODEV;
    const row = this.addresses.remove(dev, address);
    if (row === null) return -Errno.EADDRNOTAVAIL;
    const network = (row.address & row.mask) >>> 0;
    this.routeTable.remove(network, row.prefix, (e) => e.dev === dev && e.source === row.address);
    this.routeTable.invalidate();
    return 0;
  }

  /** As `ip addr`. */
  addressRows(): ReturnType<LocalAddresses["rows"]> {
    return this.addresses.rows();
  }

  // ── ip route ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** `ip route add`. 0, -EINVAL, -ENODEV, -ENETUNREACH (the gateway is on no link of ours), -EEXIST. */
  addRoute(spec: RouteSpec): number {
    const target = spec.destination === "default" ? parseCidr("0.0.0.0/0") : parseCidr(spec.destination);
    if (target === undefined) return -Errno.EINVAL;
    const gateway = spec.via?.v4 ?? 0;
    const onLink = gateway === 0 ? null : this.routeTable.lookup(gateway, spec.ifindex ?? 0);
    if (gateway !== 0 && (onLink === null || onLink.gateway !== 0)) return -Errno.ENETUNREACH;
    const dev = spec.ifindex === undefined ? onLink?.dev : this.devices.get(spec.ifindex);
    if (dev === undefined) return -Errno.ENODEV;
    return this.routeTable.add({
      network: target.address.v4,
      prefix: target.prefix,
      gateway,
      dev,
      source: spec.source?.v4 ?? 0,
      metric: spec.metric ?? 0,
      protocol: "static",
    });
  }

  /** `ip route del`. 0, -EINVAL, -ESRCH. */
  deleteRoute(destination: string, via?: Address): number {
    const target = destination === "default" ? parseCidr("0.0.0.0/0") : parseCidr(destination);
    if (target === undefined) return -Errno.EINVAL;
    return this.routeTable.remove(
      target.address.v4,
      target.prefix,
      (entry) => via === undefined || entry.gateway === via.v4,
    );
  }

  /** As `ip route`. */
  routes(): RouteRow[] {
    return this.routeTable.rows();
  }

  // ── ip neigh ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** As `ip neigh`. */
  neighbours(): NeighbourRow[] {
    return this.neighbourTable.rows();
  }

  /** `ip neigh replace … lladdr … nud permanent`. 0, -ENODEV, -EINVAL, -ENOBUFS. */
  addNeighbour(ifindex: number, address: Address, mac: Uint8Array): number {
    const dev = this.devices.get(ifindex);
    if (dev === undefined) return -Errno.ENODEV;
    if (mac.length !== 6 || !address.isV4) return -Errno.EINVAL;
    return this.neighbourTable.addPermanent(dev, address.v4, mac);
  }

  /** `ip neigh del`. 0, -ENODEV, -ENOENT. */
  deleteNeighbour(ifindex: number, address: Address): number {
    const dev = this.devices.get(ifindex);
    return dev === undefined ? -Errno.ENODEV : this.neighbourTable.remove(dev, address.v4);
  }

  // ── iptables -A INPUT … -j REJECT ─────────────────────────────────────────────────────────────────────────────

  /** Refuses TCP and UDP to a local port. 0 or -EINVAL. */
  reject(port: number, how: RejectWith): number {
    return this.rejects.set(port, how);
  }

  /** 0 or -ENOENT. */
  unreject(port: number): number {
    return this.rejects.remove(port);
  }

  rejectRows(): RejectRow[] {
    return this.rejects.list();
  }

  /** Drops everything that waits here: fragments, and packets for unknown neighbours. */
  close(): void {
    this.reassembly.close();
    this.neighbourTable.flush(null);
  }
}
