/**
 * What the network floor offers the transport floor, and what it asks of it (Linux net_protocol, dst_entry).
 * Frozen in docs/adr/0003.
 */
import type { Address } from "../base/address.ts";
import type { SkBuff } from "../skb/skb.ts";

/** IANA protocol numbers. */
export const IpProtocol = { icmp: 1, tcp: 6, udp: 17 } as const;

/** A transport protocol, registered with the IP layer. */
export interface TransportProtocol {
  /**
   * A packet for one of our addresses. *Takes* the skb. `skb.net` is the IP header, `skb.transport` and `skb.data` the
   * transport header, `skb.tail` the end of the IP payload (padding trimmed, fragments reassembled).
   */
  receive(skb: SkBuff): void;
  /**
   * An ICMP error quoted one of our packets. *Borrows* the skb; `innerNet` and `innerTransport` are the addresses of
   * the quoted IP and transport headers (at least 8 bytes of the latter), `info` the next-hop MTU of type 3 code 4.
   */
  icmpError(skb: SkBuff, innerNet: number, innerTransport: number, type: number, code: number, info: number): void;
}

/** Where packets to one destination go: kept by a connection instead of looking up every packet (Linux dst_entry). */
export interface Route {
  readonly destination: Address;
  /** Our address on that path. */
  readonly source: Address;
  readonly ifindex: number;
  /** Largest IP packet on this path in bytes: the device's MTU or what path MTU discovery found. */
  readonly mtu: number;
  /** Largest IP packet that may be handed down as a super-segment (`skb.gsoSize`), in bytes; 0: none. */
  readonly gsoMaxBytes: number;
  /** False after the table changed or the path's MTU shrank: ask `route()` again. */
  readonly valid: boolean;
}

/** How a packet shall be sent. */
export interface OutputOptions {
  /** Don't Fragment; TCP sets it (path MTU discovery). */
  readonly dontFragment: boolean;
  readonly ttl: number;
  readonly tos: number;
}

/** The IP layer as transport protocols see it. */
export interface IpLayer {
  /** Registers the receiver of an IP protocol number. */
  register(protocol: number, handler: TransportProtocol): void;
  /** The path to `destination`, from `source` and out by device `ifindex` where given; or -ENETUNREACH, -EINVAL. */
  route(destination: Address, source: Address | null, ifindex: number): Route | number;
  /**
   * Sends. *Takes* the skb: `skb.data` is the transport header (checksum done or `Summed.partial`), with room in front.
   * Returns 0, or -errno when the packet was dropped at once (reason counted): -EMSGSIZE, -ENOBUFS, -EHOSTUNREACH.
   */
  output(skb: SkBuff, route: Route, protocol: number, options: OutputOptions): number;
  /** Answers a received packet with an ICMP error, rate limited. *Borrows* the skb (`skb.net` set). */
  sendIcmpError(skb: SkBuff, type: number, code: number, info: number): void;
  /** True if `address` is one of this host's (any device, or loopback 127/8). */
  isLocal(address: Address): boolean;
  /** ifindex of the named device, or 0. */
  ifindexOf(name: string): number;
}
