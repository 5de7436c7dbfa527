/**
 * A handful of firewall rules for local input: what `iptables -A INPUT -p tcp --dport N -j REJECT|DROP` does.
 */
import { finish, pseudoHeaderV4, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import * as icmp from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";
import { IpProtocol } from "./port.ts";

/** How a port refuses: an ICMP error, a TCP reset (TCP only; UDP is dropped), or silence. */
export const REJECT_WITH = ["icmp-port-unreachable", "tcp-reset", "drop"] as const;
export type RejectWith = (typeof REJECT_WITH)[number];

export interface RejectRow {
  readonly port: number;
  readonly with: RejectWith;
  /** Packets it matched. */
  readonly packets: number;
}

interface Rule {
  readonly with: RejectWith;
  packets: number;
}

/** What the rules need of IP. */
export interface RejectOutput {
  sendTo(skb: SkBuff, source: number, destination: number, protocol: number, ttl: number, tos: number): number;
  sendError(skb: SkBuff, type: number, code: number, info: number): void;
}

export class RejectRules {
  private readonly env: HostEnv;
  private readonly output: RejectOutput;
  private readonly rules = new Map<number, Rule>();

  constructor(env: HostEnv, output: RejectOutput) {
    this.env = env;
    this.output = output;
  }

  /** Refuses TCP and UDP to a local port; replaces the port's rule. 0 or -EINVAL (no such port). */
  set(port: number, how: RejectWith): number {
    if (!Number.isInteger(port) || port < 1 || port > 65535) return -Errno.EINVAL;
    this.rules.set(port, { with: how, packets: 0 });
    return 0;
  }

  /** 0 or -ENOENT. */
  remove(port: number): number {
    return this.rules.delete(port) ? 0 : -Errno.ENOENT;
  }

  list(): RejectRow[] {
    return [...this.rules].map(([port, rule]) => ({ port, with: rule.with, packets: rule.packets }));
  }

  get isEmpty(): boolean {
    return this.rules.size === 0;
  }

  /** True if a rule refused the packet: then it *took* the skb (`data` is the transport header). */
  refuses(skb: SkBuff, protocol: number): boolean {
    if (protocol !== IpProtocol.tcp && protocol !== IpProtocol.udp) return false;
    // Both protocols have the destination port at the same place; the port fields must be there.
    if (skb.len < 4) return false;
    const rule = this.rules.get(tcp.dstPort(skb.view, skb.data));
    if (rule === undefined) return false;
    rule.packets++;
    if (rule.with === "icmp-port-unreachable") {
      this.output.sendError(skb, icmp.Type.unreachable, icmp.Unreachable.port, 0);
    } else if (rule.with === "tcp-reset" && protocol === IpProtocol.tcp) {
      this.reset(skb);
    }
    this.env.drops.drop(skb, DropReason.netfilterDrop);
    return true;
  }

  /**
   * RFC 9293 §3.10.7.1: the reset a closed port would send; never for a reset. As Linux's nf_send_reset it counts in no
   * TCP counter: TCP has not seen the packet. *Borrows* the skb.
   */
  private reset(skb: SkBuff): void {
    const { view } = skb;
    const at = skb.data;
    if (tcp.check(view, at, skb.tail) !== DropReason.none) return;
    const flags = tcp.flags(view, at);
    if ((flags & tcp.Flag.rst) !== 0) return;
    const reply = this.env.pool.alloc(tcp.HEADER_LEN);
    if (reply === null) return;
    const to = reply.put(tcp.HEADER_LEN);
    const hasAck = (flags & tcp.Flag.ack) !== 0;
    const control = ((flags & tcp.Flag.syn) !== 0 ? 1 : 0) + ((flags & tcp.Flag.fin) !== 0 ? 1 : 0);
    const covered = (tcp.seq(view, at) + skb.len - tcp.dataOffset(view, at) + control) >>> 0;
    const seq = hasAck ? tcp.ack(view, at) : 0;
    const ack = hasAck ? 0 : covered;
    const answer = hasAck ? tcp.Flag.rst : tcp.Flag.rst | tcp.Flag.ack;
    tcp.writeHeader(view, to, tcp.dstPort(view, at), tcp.srcPort(view, at), seq, ack, tcp.HEADER_LEN, answer, 0);
    const src = ipv4.dst(view, skb.net);
    const dst = ipv4.src(view, skb.net);
    const pseudo = pseudoHeaderV4(src, dst, IpProtocol.tcp, tcp.HEADER_LEN);
    tcp.setChecksum(view, to, 0);
    tcp.setChecksum(view, to, finish(sum(reply.bytes, to, tcp.HEADER_LEN, pseudo)));
    this.output.sendTo(reply, src, dst, IpProtocol.tcp, this.env.sysctl.ipDefaultTtl, 0);
  }
}
