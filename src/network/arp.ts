/**
 * ARP: who has this address? (RFC 826, RFC 5227; Linux net/ipv4/arp.c)
 */
import { DropReason } from "../base/drop-reasons.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import type { PacketHandler } from "../netdev/receive.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { PacketType, type SkBuff } from "../skb/skb.ts";
import * as arp from "../wire/arp.ts";
import * as ethernet from "../wire/ethernet.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { isLoopbackAddress, isMulticastAddress, type LocalAddresses } from "./local-addresses.ts";
import { LOCKTIME_NS, type Neighbour, type NeighbourProtocol, type NeighbourTable, NudState } from "./neighbour.ts";

/** TC_PRIO_CONTROL: ARP goes in the first band. */
const CONTROL_PRIORITY = 7;
const NO_MAC = new Uint8Array(6);

export class Arp implements PacketHandler, NeighbourProtocol {
  private readonly env: HostEnv;
  private readonly addresses: LocalAddresses;
  /** Wired by `Ip`: the table, the way to an address, and who tells a sender that a host is unreachable. */
  table!: NeighbourTable;
  deviceTo: (address: number) => NetDevice | null = () => null;
  unreachable: (skb: SkBuff) => void = () => {};

  constructor(env: HostEnv, addresses: LocalAddresses) {
    this.env = env;
    this.addresses = addresses;
  }

  /** Linux arp_process. *Takes* the skb. */
  receive(skb: SkBuff, dev: NetDevice): void {
    const { env, addresses } = this;
    const { view, net } = skb;
    const reason = dev.isLoopback ? DropReason.arpInvalid : arp.check(view, net, skb.tail);
    if (reason !== DropReason.none) {
      env.drops.drop(skb, reason);
      return;
    }
    const sender = arp.senderIp(view, net);
    const target = arp.targetIp(view, net);
    const isRequest = arp.operation(view, net) === arp.Operation.request;
    // A loopback or multicast address is nobody's to resolve; our own address as sender is a conflict or an echo.
    if (isMulticastAddress(target) || isLoopbackAddress(target) || (sender !== 0 && addresses.isLocal(sender))) {
      env.drops.drop(skb, DropReason.arpInvalid);
      return;
    }
    if (isRequest && (addresses.isLocal(target) || this.isProxyFor(sender, target, dev)))
      this.answer(skb, dev, sender, target);
    else this.learn(skb, dev, sender, target, isRequest);
    env.drops.consume(skb);
  }

  solicit(neighbour: Neighbour, unicast: boolean, waiting: SkBuff | null): void {
    const { dev, ip } = neighbour;
    // As Linux's arp_announce 0: the address the waiting packet speaks from, if it is ours.
    const asked = waiting === null ? 0 : ipv4.src(waiting.view, waiting.net);
    const source = asked !== 0 && this.addresses.isLocal(asked) ? asked : this.addresses.sourceFor(dev, ip);
    const dst = unicast ? neighbour.mac : ethernet.BROADCAST_MAC;
    this.send(dev, arp.Operation.request, dst, 0, source, NO_MAC, ip);
  }

  /** Gratuitous ARP: tells the link that `address` is here (after an address moved). */
  announce(dev: NetDevice, address: number): void {
    this.send(dev, arp.Operation.request, ethernet.BROADCAST_MAC, 0, address, NO_MAC, address);
  }

  /** We forward, and the way to `target` leads out by another interface (Linux arp_fwd_proxy; proxy_delay 0). */
  private isProxyFor(sender: number, target: number, dev: NetDevice): boolean {
    const { ipForward, proxyArp } = this.env.sysctl;
    // A probe for duplicates is not for us to answer: we do not own the address.
    if (ipForward === 0 || proxyArp === 0 || sender === 0) return false;
    const out = this.deviceTo(target);
    return out !== null && out !== dev;
  }

  /** Somebody asks for us, or for a host behind us: answer, and remember who asked (0 only probes, RFC 5227). */
  private answer(skb: SkBuff, dev: NetDevice, sender: number, target: number): void {
    const macAt = skb.net + arp.SENDER_MAC;
    if (sender !== 0) {
      const neighbour = this.table.findOrCreate(dev, sender);
      if (neighbour !== null) this.table.update(neighbour, skb.bytes, macAt, NudState.stale, true);
    }
    const mac = skb.bytes.slice(macAt, macAt + ethernet.MAC_LEN);
    this.send(dev, arp.Operation.reply, mac, 0, target, mac, sender);
  }

  /** An answer, or somebody's announcement: updates an entry we have, never makes one (arp_accept 0). */
  private learn(skb: SkBuff, dev: NetDevice, sender: number, target: number, isRequest: boolean): void {
    const neighbour = this.table.find(dev, sender);
    if (neighbour === null) return;
    const gratuitous = sender === target;
    const override = gratuitous || this.env.clock.nowNs > neighbour.updatedNs + LOCKTIME_NS;
    const proves = !isRequest && skb.packetType === PacketType.host;
    const state = proves ? NudState.reachable : NudState.stale;
    this.table.update(neighbour, skb.bytes, skb.net + arp.SENDER_MAC, state, override);
  }

  private send(
    dev: NetDevice,
    operation: number,
    dstMac: Uint8Array,
    dstMacAt: number,
    senderIp: number,
    targetMac: Uint8Array,
    targetIp: number,
  ): void {
    const skb = this.env.pool.alloc(arp.LEN, ethernet.HEADER_LEN);
    if (skb === null) return;
    const { mac } = dev.device;
    skb.net = skb.put(arp.LEN);
    arp.write(skb.bytes, skb.view, skb.net, operation, mac, senderIp, targetMac, targetIp);
    skb.mac = skb.push(ethernet.HEADER_LEN);
    ethernet.writeHeader(skb.bytes, skb.view, skb.mac, dstMac, dstMacAt, mac, 0, ethernet.EtherType.arp);
    skb.etherType = ethernet.EtherType.arp;
    skb.priority = CONTROL_PRIORITY;
    dev.transmit(skb);
  }
}
