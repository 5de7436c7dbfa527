/**
 * IPv4: in, through, and out (RFC 791, RFC 1122, RFC 1812; Linux ip_input.c, ip_forward.c, ip_output.c). @hot
 *
 *   receive ─► check ─► ours? ──► reassemble ─► reject rules ─► transport or ICMP
 *                         │ no
 *                         └─► forward: route, TTL, MTU ──┐
 *   output, sendTo ── header ────────────────────────────┴─► fragment? ─► neighbour ─► device
 */
import { finish, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { MibId } from "../base/mib.ts";
import { cutSuperSegment, wirePacketBytes } from "../netdev/gso.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import type { PacketHandler } from "../netdev/receive.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { PacketType, type SkBuff, Summed } from "../skb/skb.ts";
import * as ethernet from "../wire/ethernet.ts";
import * as icmpWire from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { fragmentPacket } from "./fragment.ts";
import type { Icmp, IcmpOutput } from "./icmp.ts";
import { isLoopbackAddress, isMulticastAddress, type LocalAddresses } from "./local-addresses.ts";
import type { Neighbour, NeighbourTable } from "./neighbour.ts";
import { IpProtocol, type OutputOptions, type TransportProtocol } from "./port.ts";
import type { Reassembly } from "./reassembly.ts";
import type { RejectRules } from "./reject.ts";
import type { RouteTable } from "./route.ts";
import type { CachedRoute, RouteCache } from "./route-cache.ts";

/** Linux ip_tos2prio: TOS bits 1–4 → priority (best effort, bulk, interactive, interactive bulk). */
const TOS_TO_PRIORITY = [0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4] as const;
/** Linux ip_idents: counters of IP ids, picked by a hash of addresses and protocol. */
const ID_COUNTERS = 2048;
/** Offset of the checksum in a TCP and a UDP header. */
const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
/** ECN bits of the TOS → counter. */
const ECN_COUNTERS = [
  MibId.IpExtInNoECTPkts,
  MibId.IpExtInECT1Pkts,
  MibId.IpExtInECT0Pkts,
  MibId.IpExtInCEPkts,
] as const;
const ALL_HOSTS = 0xe0000001;
const NO_MAC = new Uint8Array(6);

/** What `Ipv4` is built on; `Ip` wires it. */
export interface Ipv4Parts {
  readonly env: HostEnv;
  readonly addresses: LocalAddresses;
  readonly table: RouteTable;
  readonly routes: RouteCache;
  readonly neighbours: NeighbourTable;
  readonly reassembly: Reassembly;
}

export class Ipv4 implements PacketHandler, IcmpOutput {
  /** Wired by `Ip` after birth, since they send through this. */
  icmp!: Icmp;
  rejects!: RejectRules;

  private readonly env: HostEnv;
  private readonly addresses: LocalAddresses;
  private readonly table: RouteTable;
  private readonly routes: RouteCache;
  private readonly neighbours: NeighbourTable;
  private readonly reassembly: Reassembly;
  private readonly protocols = new Array<TransportProtocol | null>(256).fill(null);
  private readonly ids = new Uint16Array(ID_COUNTERS);
  private readonly idKey: number;
  private readonly multicastMac = new Uint8Array([0x01, 0x00, 0x5e, 0, 0, 0]);
  /** Where the pieces of the packet being cut go: set before each cut. */
  private pieceDev: NetDevice | null = null;
  private pieceHop = 0;
  private pieceMtu = 0;
  private readonly sendPiece = (piece: SkBuff): number =>
    this.toLink(piece, this.pieceDev as NetDevice, this.pieceHop, null);
  private readonly sendSegment = (dev: NetDevice, segment: SkBuff): number =>
    this.finish(segment, dev, this.pieceHop, null, this.pieceMtu);

  constructor(parts: Ipv4Parts) {
    this.env = parts.env;
    this.addresses = parts.addresses;
    this.table = parts.table;
    this.routes = parts.routes;
    this.neighbours = parts.neighbours;
    this.reassembly = parts.reassembly;
    const prng = parts.env.prng.fork();
    for (let i = 0; i < ID_COUNTERS; i++) this.ids[i] = prng.below(0x10000);
    this.idKey = prng.u32();
  }

  register(protocol: number, handler: TransportProtocol): void {
    this.protocols[protocol] = handler;
  }

  protocolOf(protocol: number): TransportProtocol | null {
    return this.protocols[protocol] ?? null;
  }

  // ── receive ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Linux ip_rcv. *Takes* the skb: `data` and `net` are the IP header. */
  receive(skb: SkBuff, dev: NetDevice): void {
    const { env } = this;
    const { values } = env.mib;
    const { view, net } = skb;
    values[MibId.IpInReceives]++;
    values[MibId.IpExtInOctets] += skb.len;
    const reason = ipv4.check(view, net, skb.tail);
    if (reason !== DropReason.none) {
      this.malformed(skb, reason);
      return;
    }
    values[ECN_COUNTERS[ipv4.tos(view, net) & 3]]++;
    // Ethernet pads short frames; the packet says how long it is.
    skb.trim(ipv4.totalLen(view, net));
    skb.transport = net + ipv4.ihl(view, net);
    // Signed words: small integers, where unsigned ones would be new objects.
    const dst = ipv4.dst(view, net) | 0;
    const { addresses } = this;
    if (!this.isPlausible(ipv4.src(view, net) | 0, dst, dev)) {
      env.drops.drop(skb, DropReason.ipInvalidSource);
    } else if (addresses.isLocal(dst)) {
      this.deliver(skb);
    } else if (isMulticastAddress(dst)) {
      values[MibId.IpExtInMcastPkts]++;
      values[MibId.IpExtInMcastOctets] += skb.len;
      skb.packetType = PacketType.multicast;
      // The only group every host is a member of (RFC 1112).
      if (dst === ALL_HOSTS) this.deliver(skb);
      else env.drops.drop(skb, DropReason.ipInAddrErrors);
    } else if (addresses.isBroadcast(dst)) {
      values[MibId.IpExtInBcastPkts]++;
      values[MibId.IpExtInBcastOctets] += skb.len;
      skb.packetType = PacketType.broadcast;
      this.deliver(skb);
    } else {
      this.forward(skb);
    }
  }

  private malformed(skb: SkBuff, reason: number): void {
    const { values } = this.env.mib;
    if (reason === DropReason.ipCsum) values[MibId.IpExtInCsumErrors]++;
    if (reason === DropReason.pktTooSmall) values[MibId.IpExtInTruncatedPkts]++;
    else values[MibId.IpInHdrErrors]++;
    this.env.drops.drop(skb, reason);
  }

  /**
   * No martians (Linux ip_route_input_slow, fib_validate_source): impossible sources, loopback addresses off `lo`.
   * Addresses are signed words.
   */
  private isPlausible(src: number, dst: number, dev: NetDevice): boolean {
    if (isMulticastAddress(src) || this.addresses.isBroadcast(src)) return false;
    if (src >>> 24 === 0) return src === 0 && dst === -1;
    if (dst >>> 24 === 0) return false;
    if (dev.isLoopback) return true;
    // Our own address from outside: a loop, or a lie.
    return !isLoopbackAddress(dst) && !this.addresses.isLocal(src);
  }

  /** For us (Linux ip_local_deliver). *Takes* the skb. */
  private deliver(fragmentOrPacket: SkBuff): void {
    let skb = fragmentOrPacket;
    if (ipv4.isFragment(skb.view, skb.net)) {
      const whole = this.reassembly.add(skb);
      if (whole === null) return;
      skb = whole;
      skb.data = skb.net;
      skb.transport = skb.net + ipv4.ihl(skb.view, skb.net);
    }
    const { env } = this;
    const { values } = env.mib;
    const protocol = ipv4.protocol(skb.view, skb.net);
    skb.pull(skb.transport - skb.net);
    // A partial sum never left this host or an undamaged wire: nothing to verify.
    if (skb.summed === Summed.partial) skb.summed = Summed.unnecessary;
    if (!this.rejects.isEmpty && this.rejects.refuses(skb, protocol)) return;
    if (protocol === IpProtocol.icmp) {
      values[MibId.IpInDelivers]++;
      this.icmp.receive(skb);
      return;
    }
    const handler = this.protocols[protocol];
    if (handler === null) {
      values[MibId.IpInUnknownProtos]++;
      this.icmp.sendError(skb, icmpWire.Type.unreachable, icmpWire.Unreachable.protocol, 0);
      env.drops.drop(skb, DropReason.ipNoProto);
      return;
    }
    values[MibId.IpInDelivers]++;
    handler.receive(skb);
  }

  // ── forward ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** For somebody else (Linux ip_forward). *Takes* the skb. */
  private forward(skb: SkBuff): void {
    const { env } = this;
    const { values } = env.mib;
    const { view, net } = skb;
    if (env.sysctl.ipForward === 0 || skb.packetType !== PacketType.host) {
      values[MibId.IpInAddrErrors]++;
      env.drops.drop(skb, DropReason.ipInAddrErrors);
      return;
    }
    const dst = ipv4.dst(view, net);
    const entry = this.table.lookup(dst, 0);
    if (entry === null) {
      values[MibId.IpExtInNoRoutes]++;
      this.icmp.sendError(skb, icmpWire.Type.unreachable, icmpWire.Unreachable.net, 0);
      env.drops.drop(skb, DropReason.ipInNoRoutes);
      return;
    }
    if (ipv4.ttl(view, net) <= 1) {
      values[MibId.IpInHdrErrors]++;
      this.icmp.sendError(skb, icmpWire.Type.timeExceeded, icmpWire.TimeExceeded.ttl, 0);
      env.drops.drop(skb, DropReason.ipTtl);
      return;
    }
    const { dev } = entry;
    if (wirePacketBytes(skb) > dev.mtu && (ipv4.fragment(view, net) & ipv4.FLAG_DF) !== 0) {
      values[MibId.IpFragFails]++;
      this.icmp.sendError(skb, icmpWire.Type.unreachable, icmpWire.Unreachable.fragmentationNeeded, dev.mtu);
      env.drops.drop(skb, DropReason.pktTooBig);
      return;
    }
    ipv4.decrementTtl(view, net);
    values[MibId.IpForwDatagrams]++;
    skb.priority = TOS_TO_PRIORITY[(ipv4.tos(view, net) & 0x1e) >>> 1];
    this.finish(skb, dev, entry.gateway === 0 ? dst : entry.gateway, null, dev.mtu);
  }

  // ── send ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends along a kept route (Linux __ip_queue_xmit). *Takes* the skb: `data` is the transport header. */
  output(skb: SkBuff, route: CachedRoute, protocol: number, options: OutputOptions): number {
    const { ttl, tos, dontFragment } = options;
    return this.build(skb, route, route.source.w3, protocol, ttl, tos, dontFragment);
  }

  sendTo(skb: SkBuff, source: number, destination: number, protocol: number, ttl: number, tos: number): number {
    const route = this.routes.find(destination, 0, 0);
    if (typeof route === "number") {
      this.env.mib.values[MibId.IpOutNoRoutes]++;
      this.env.drops.drop(skb, DropReason.ipOutNoRoutes);
      return route;
    }
    return this.build(skb, route, source === 0 ? route.source.w3 : source, protocol, ttl, tos, false);
  }

  mtuTo(destination: number): number {
    const route = this.routes.find(destination, 0, 0);
    return typeof route === "number" ? route : route.mtu;
  }

  learnMtu(destination: number, mtu: number): void {
    this.routes.learnMtu(destination, mtu);
  }

  /** Writes the IP header and sends. *Takes* the skb; `source` is a 32-bit word, signed or not. */
  private build(
    skb: SkBuff,
    route: CachedRoute,
    source: number,
    protocol: number,
    ttl: number,
    tos: number,
    dontFragment: boolean,
  ): number {
    const { env } = this;
    const destination = route.destination.w3;
    env.mib.values[MibId.IpOutRequests]++;
    skb.transport = skb.data;
    const len = skb.len + ipv4.HEADER_LEN;
    const at = skb.push(ipv4.HEADER_LEN);
    skb.net = at;
    skb.ifindex = route.ifindex;
    skb.priority = TOS_TO_PRIORITY[(tos & 0x1e) >>> 1];
    if (len > 0xffff) {
      env.drops.drop(skb, DropReason.pktTooBig);
      return -Errno.EMSGSIZE;
    }
    // An atomic datagram needs no id (RFC 6864 §4.1); Linux's SYN-ACKs and resets have 0 as well.
    const id = dontFragment ? 0 : this.nextId(source, destination, protocol);
    const field = dontFragment ? ipv4.FLAG_DF : 0;
    ipv4.writeHeader(skb.bytes, skb.view, at, len, id, field, ttl, protocol, source, destination, tos);
    if (route.neighbour?.dead) route.neighbour = null;
    return this.finish(skb, route.dev, route.nextHop, route, route.mtu);
  }

  /** Linux __ip_select_ident: a counter per hash of the pair of hosts. */
  private nextId(source: number, destination: number, protocol: number): number {
    const mixed = Math.imul(source ^ this.idKey, 0x9e3779b1) ^ Math.imul(destination + protocol, 0x85ebca6b);
    return this.ids[(mixed ^ (mixed >>> 15)) & (ID_COUNTERS - 1)]++;
  }

  /** Cuts if it must, then to the link. *Takes* the skb. 0 or -errno. */
  private finish(skb: SkBuff, dev: NetDevice, nextHop: number, route: CachedRoute | null, mtu: number): number {
    const { env } = this;
    const tooBig = wirePacketBytes(skb) > mtu;
    // Who cuts a super-segment makes the checksums of its pieces.
    if (skb.summed === Summed.partial && skb.gsoSize === 0 && (tooBig || !dev.device.capabilities.checksum)) {
      completeChecksum(skb);
    }
    if (!tooBig) return this.toLink(skb, dev, nextHop, route);
    if ((ipv4.fragment(skb.view, skb.net) & ipv4.FLAG_DF) !== 0) {
      env.mib.values[MibId.IpFragFails]++;
      env.drops.drop(skb, DropReason.pktTooBig);
      return -Errno.EMSGSIZE;
    }
    this.pieceDev = dev;
    this.pieceHop = nextHop;
    this.pieceMtu = mtu;
    // A fragment of a super-segment would be a fragment of nothing: first segments, then fragments of each.
    if (skb.gsoSize > 0) return cutSuperSegment(dev, skb, this.sendSegment);
    return fragmentPacket(env, skb, mtu, this.sendPiece);
  }

  /** Puts the Ethernet header in front and sends (Linux ip_finish_output2). *Takes* the skb. */
  private toLink(skb: SkBuff, dev: NetDevice, nextHop: number, route: CachedRoute | null): number {
    const { values } = this.env.mib;
    // As large as IP allows, a packet fills its slot: it leaves in fragments or not at all.
    if (skb.data - skb.head < ethernet.HEADER_LEN) {
      this.env.drops.drop(skb, DropReason.pktTooBig);
      return -Errno.EMSGSIZE;
    }
    values[MibId.IpOutTransmits]++;
    values[MibId.IpExtOutOctets] += skb.len;
    // Only the neighbour of a unicast route is ever kept.
    if (route !== null && route.neighbour !== null) {
      return this.neighbours.output(route.neighbour, skb, ethernet.EtherType.ipv4);
    }
    if (dev.isLoopback) return this.frame(skb, dev, NO_MAC);
    if (isMulticastAddress(nextHop)) {
      values[MibId.IpExtOutMcastPkts]++;
      values[MibId.IpExtOutMcastOctets] += skb.len;
      return this.frame(skb, dev, this.macOfGroup(nextHop));
    }
    if (this.addresses.isBroadcast(nextHop)) {
      values[MibId.IpExtOutBcastPkts]++;
      values[MibId.IpExtOutBcastOctets] += skb.len;
      return this.frame(skb, dev, ethernet.BROADCAST_MAC);
    }
    const neighbour = this.neighbourOf(dev, nextHop, route);
    if (neighbour === null) {
      this.env.drops.drop(skb, DropReason.neighFailed);
      return -Errno.ENOBUFS;
    }
    return this.neighbours.output(neighbour, skb, ethernet.EtherType.ipv4);
  }

  private neighbourOf(dev: NetDevice, nextHop: number, route: CachedRoute | null): Neighbour | null {
    if (route === null) return this.neighbours.findOrCreate(dev, nextHop);
    route.neighbour ??= this.neighbours.findOrCreate(dev, nextHop);
    return route.neighbour;
  }

  private frame(skb: SkBuff, dev: NetDevice, dstMac: Uint8Array): number {
    const at = skb.push(ethernet.HEADER_LEN);
    skb.mac = at;
    skb.etherType = ethernet.EtherType.ipv4;
    ethernet.writeHeader(skb.bytes, skb.view, at, dstMac, 0, dev.device.mac, 0, ethernet.EtherType.ipv4);
    return dev.transmit(skb);
  }

  /** RFC 1112 §6.4: 01:00:5e and the low 23 bits of the group. */
  private macOfGroup(group: number): Uint8Array {
    const mac = this.multicastMac;
    mac[3] = (group >>> 16) & 0x7f;
    mac[4] = group >>> 8;
    mac[5] = group;
    return mac;
  }
}

/** Linux skb_checksum_help: the field holds the folded pseudo-header sum; sum the rest over it. */
function completeChecksum(skb: SkBuff): void {
  const { view, net } = skb;
  const at = net + ipv4.ihl(view, net);
  const protocol = ipv4.protocol(view, net);
  const offset = protocol === IpProtocol.tcp ? TCP_CHECKSUM : protocol === IpProtocol.udp ? UDP_CHECKSUM : -1;
  skb.summed = Summed.none;
  if (offset < 0) return;
  const check = finish(sum(skb.bytes, at, net + ipv4.totalLen(view, net) - at));
  view.setUint16(at + offset, check === 0 && protocol === IpProtocol.udp ? 0xffff : check);
}
