/**
 * From the driver to the protocols: Ethernet header, packet type, hand-over by EtherType (Linux eth_type_trans,
 * __netif_receive_skb_core).
 */
import { DropReason } from "../base/drop-reasons.ts";
import { Cost } from "../base/time.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { PacketType, type SkBuff } from "../skb/skb.ts";
import * as ethernet from "../wire/ethernet.ts";
import type { NetDevice } from "./net-device.ts";

/** A protocol above Ethernet (Linux packet_type). */
export interface PacketHandler {
  /** *Takes* the skb: `data` and `net` are the first byte behind the Ethernet header. */
  receive(skb: SkBuff, dev: NetDevice): void;
}

export class FrameReceiver {
  private readonly env: HostEnv;
  private readonly types: number[] = [];
  private readonly handlers: PacketHandler[] = [];

  constructor(env: HostEnv) {
    this.env = env;
  }

  /** Registers the handler of an EtherType (Linux dev_add_pack). */
  register(etherType: number, handler: PacketHandler): void {
    this.types.push(etherType);
    this.handlers.push(handler);
  }

  /** A frame from `dev`'s driver, in softirq. *Takes* the skb: `data` is the Ethernet header. */
  receive(skb: SkBuff, dev: NetDevice): void {
    const { env } = this;
    env.clock.charge(Cost.rxFrame, 1);
    if (env.trace.mask !== -1) skb.id = env.nextFrameId();
    skb.ifindex = dev.ifindex;
    dev.show(false, skb);
    const { view } = skb;
    const at = skb.data;
    const reason = dev.isUp ? ethernet.check(view, at, skb.tail) : DropReason.devReady;
    if (reason !== DropReason.none) {
      this.drop(skb, dev, reason);
      return;
    }
    skb.mac = at;
    skb.packetType = typeOf(view, at, dev);
    const etherType = ethernet.etherType(view, at);
    skb.etherType = etherType;
    skb.net = skb.pull(ethernet.HEADER_LEN);
    if (skb.packetType === PacketType.otherHost) {
      env.drops.drop(skb, DropReason.otherHost);
      return;
    }
    for (let i = 0; i < this.types.length; i++) {
      if (this.types[i] === etherType) {
        this.handlers[i].receive(skb, dev);
        return;
      }
    }
    this.drop(skb, dev, DropReason.unhandledProto);
  }

  private drop(skb: SkBuff, dev: NetDevice, reason: number): void {
    dev.rxDropped++;
    this.env.drops.drop(skb, reason);
  }
}

/** To us, to everybody, to a group, or to another host (the switch flooded it, or the sender's ARP entry is old). */
function typeOf(view: DataView, at: number, dev: NetDevice): PacketType {
  if (dev.isLoopback) return PacketType.host;
  if (ethernet.isMulticast(view, at)) {
    return ethernet.isBroadcast(view, at) ? PacketType.broadcast : PacketType.multicast;
  }
  return ethernet.macEquals(view, at, dev.device.mac) ? PacketType.host : PacketType.otherHost;
}
