/**
 * ICMP: answering echo requests, reporting errors, and telling transports about reported ones (RFC 792, RFC 1122
 * §3.2.2; Linux net/ipv4/icmp.c).
 */
import { DropReason } from "../base/drop-reasons.ts";
import { MibId, type MibName } from "../base/mib.ts";
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { PacketType, type SkBuff, Summed } from "../skb/skb.ts";
import * as icmp from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { isLoopbackAddress, isMulticastAddress, type LocalAddresses } from "./local-addresses.ts";
import { IpProtocol, type TransportProtocol } from "./port.ts";

/** What ICMP needs of the IP layer. Declared here, implemented by `Ipv4`. */
export interface IcmpOutput {
  /** Routes and sends. *Takes* the skb (`data` is the ICMP header). `source` 0 = choose. 0 or -errno. */
  sendTo(skb: SkBuff, source: number, destination: number, protocol: number, ttl: number, tos: number): number;
  /** MTU in bytes of the path to `destination`, or -errno. */
  mtuTo(destination: number): number;
  /** A router reported the MTU of the path to `destination`. */
  learnMtu(destination: number, mtu: number): void;
  /** The receiver of a protocol number, or null. */
  protocolOf(protocol: number): TransportProtocol | null;
}

/** Linux: an error quotes as much as fits in 576 bytes, but at least what RFC 792 asks for. */
const ERROR_MAX_BYTES = 576;
/** TOS of errors: internetwork control precedence. */
const ERROR_PRECEDENCE = 0xc0;
const TOS_MASK = 0x1e;
/** Tokens a quiet target saves (Linux XRLIM_BURST_FACTOR). */
const BURST_FACTOR = 6;
/** Room for IP in front of a reply that nearly fills the largest slot; it leaves in fragments, which have their own. */
const TIGHT_HEADROOM = ipv4.HEADER_LEN;
/** Targets with a bucket at most; a forgotten one starts full. */
const MAX_TARGETS = 4096;

/** ICMP type → the MIB counters of messages received and sent. */
const IN_COUNTERS = new Map<number, MibName>([
  [0, "IcmpInEchoReps"],
  [3, "IcmpInDestUnreachs"],
  [4, "IcmpInSrcQuenchs"],
  [5, "IcmpInRedirects"],
  [8, "IcmpInEchos"],
  [11, "IcmpInTimeExcds"],
  [12, "IcmpInParmProbs"],
  [13, "IcmpInTimestamps"],
  [14, "IcmpInTimestampReps"],
  [17, "IcmpInAddrMasks"],
  [18, "IcmpInAddrMaskReps"],
]);
const OUT_COUNTERS = new Map<number, MibName>([
  [0, "IcmpOutEchoReps"],
  [3, "IcmpOutDestUnreachs"],
  [8, "IcmpOutEchos"],
  [11, "IcmpOutTimeExcds"],
  [12, "IcmpOutParmProbs"],
]);

/** What one target still may be sent. */
interface Bucket {
  tokensNs: number;
  lastNs: Ns;
}

export class Icmp {
  private readonly env: HostEnv;
  private readonly addresses: LocalAddresses;
  private readonly output: IcmpOutput;
  private readonly targets = new Map<number, Bucket>();
  /** The whole host's bucket, in messages. */
  private credit = 0;
  private creditNs: Ns = Number.NEGATIVE_INFINITY;

  constructor(env: HostEnv, addresses: LocalAddresses, output: IcmpOutput) {
    this.env = env;
    this.addresses = addresses;
    this.output = output;
  }

  // ── receive ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** An ICMP message for us. *Takes* the skb: `data` is the ICMP header (Linux icmp_rcv). */
  receive(skb: SkBuff): void {
    const { env } = this;
    const { mib } = env;
    mib.values[MibId.IcmpInMsgs]++;
    const at = skb.data;
    if (icmp.check(skb.view, at, skb.tail) !== DropReason.none) {
      this.malformed(skb, DropReason.pktTooSmall);
      return;
    }
    if (skb.summed === Summed.none && !icmp.hasGoodChecksum(skb.bytes, at, skb.len)) {
      mib.values[MibId.IcmpInCsumErrors]++;
      this.malformed(skb, DropReason.icmpCsum);
      return;
    }
    const type = icmp.type(skb.view, at);
    const counter = IN_COUNTERS.get(type);
    if (counter !== undefined) mib.values[MibId[counter]]++;
    if (type === icmp.Type.echoRequest) this.echo(skb);
    else if (type === icmp.Type.echoReply) this.echoReply(skb);
    else if (type === icmp.Type.unreachable || type === icmp.Type.timeExceeded || type === icmp.Type.parameterProblem) {
      this.reported(skb, type);
    } else env.drops.consume(skb);
  }

  private malformed(skb: SkBuff, reason: number): void {
    this.env.mib.values[MibId.IcmpInErrors]++;
    this.env.drops.drop(skb, reason);
  }

  /** The same packet goes back with the addresses changed over. *Takes* the skb. */
  private echo(skb: SkBuff): void {
    const { env } = this;
    const { sysctl } = env;
    const toAll = skb.packetType !== PacketType.host;
    if (sysctl.icmpEchoIgnoreAll !== 0 || (toAll && sysctl.icmpEchoIgnoreBroadcasts !== 0)) {
      env.drops.consume(skb);
      return;
    }
    const { view, net } = skb;
    const peer = ipv4.src(view, net);
    const source = toAll || !this.addresses.isLocal(ipv4.dst(view, net)) ? 0 : ipv4.dst(view, net);
    const tos = ipv4.tos(view, net) & TOS_MASK;
    const reply = this.copyForReply(skb);
    if (reply === null) return;
    icmp.setType(reply.view, reply.data, icmp.Type.echoReply);
    icmp.fillChecksum(reply.bytes, reply.view, reply.data, reply.len);
    this.count(icmp.Type.echoReply);
    this.output.sendTo(reply, source, peer, IpProtocol.icmp, sysctl.ipDefaultTtl, tos);
  }

  /**
   * A frame of its own for the reply, so that the request counts as delivered and the reply as sent (and a reassembled
   * request has no room for headers in front). *Takes* the skb; null if memory is out (dropped).
   */
  private copyForReply(skb: SkBuff): SkBuff | null {
    const { env } = this;
    const len = skb.len;
    const reply = env.pool.alloc(len) ?? env.pool.alloc(len, TIGHT_HEADROOM);
    if (reply === null) {
      env.drops.drop(skb, DropReason.noMem);
      return null;
    }
    reply.bytes.copyWithin(reply.put(len), skb.data, skb.tail);
    env.drops.consume(skb);
    return reply;
  }

  private echoReply(skb: SkBuff): void {
    const handler = this.output.protocolOf(IpProtocol.icmp);
    if (handler !== null) handler.receive(skb);
    else this.env.drops.consume(skb);
  }

  /** Somebody reports an error about a packet of ours (Linux icmp_unreach). *Takes* the skb. */
  private reported(skb: SkBuff, type: number): void {
    const { env, output } = this;
    const { view } = skb;
    const inner = skb.data + icmp.HEADER_LEN;
    const headerLen = skb.tail - inner >= ipv4.HEADER_LEN ? ipv4.ihl(view, inner) : 0;
    if (headerLen < ipv4.HEADER_LEN || skb.tail - inner < headerLen + 8) {
      this.malformed(skb, DropReason.pktTooSmall);
      return;
    }
    const code = icmp.code(view, skb.data);
    const tooBig = type === icmp.Type.unreachable && code === icmp.Unreachable.fragmentationNeeded;
    const info = tooBig ? icmp.nextHopMtu(view, skb.data) : icmp.rest(view, skb.data) >>> 24;
    // Only what we could have sent counts; the ports and sequence numbers are the transport's to judge.
    if (this.addresses.isLocal(ipv4.src(view, inner))) {
      if (tooBig) output.learnMtu(ipv4.dst(view, inner), info);
      const handler = output.protocolOf(ipv4.protocol(view, inner));
      handler?.icmpError(skb, inner, inner + headerLen, type, code, info);
    }
    env.drops.consume(skb);
  }

  // ── send ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Reports an error about a packet (Linux __icmp_send). *Borrows* the skb (`net` set). Silent where RFC 1122 §3.2.2
   * forbids an answer or a rate limit says so. `info`: next-hop MTU of type 3 code 4, byte offset of type 12.
   */
  sendError(skb: SkBuff, type: number, code: number, info: number): void {
    const { view, net } = skb;
    if (!this.mayAnswer(skb)) return;
    const peer = ipv4.src(view, net);
    if (!this.isWithinRate(peer, type, code)) return;
    const mtu = this.output.mtuTo(peer);
    if (mtu < 0) return;
    const room = Math.min(mtu, ERROR_MAX_BYTES) - ipv4.HEADER_LEN - icmp.HEADER_LEN;
    const quoted = Math.min(ipv4.totalLen(view, net), skb.tail - net, room);
    const message = this.env.pool.alloc(icmp.HEADER_LEN + quoted);
    if (message === null) return;
    const at = message.put(icmp.HEADER_LEN + quoted);
    const rest = type === icmp.Type.parameterProblem ? (info << 24) >>> 0 : info;
    icmp.writeHeader(view, at, type, code, rest);
    message.bytes.copyWithin(at + icmp.HEADER_LEN, net, net + quoted);
    icmp.fillChecksum(message.bytes, view, at, message.len);
    const dst = ipv4.dst(view, net);
    const source = this.addresses.isLocal(dst) ? dst : 0;
    const tos = (ipv4.tos(view, net) & TOS_MASK) | ERROR_PRECEDENCE;
    this.count(type);
    this.output.sendTo(message, source, peer, IpProtocol.icmp, this.env.sysctl.ipDefaultTtl, tos);
  }

  /** RFC 1122 §3.2.2: never about an ICMP error, a broadcast or multicast, a later fragment, or to a group. */
  private mayAnswer(skb: SkBuff): boolean {
    const { addresses } = this;
    const { view, net } = skb;
    if (skb.packetType !== PacketType.host) return false;
    const src = ipv4.src(view, net);
    const dst = ipv4.dst(view, net);
    if (src === 0 || isMulticastAddress(src) || addresses.isBroadcast(src)) return false;
    if (isMulticastAddress(dst) || addresses.isBroadcast(dst)) return false;
    if ((ipv4.fragment(view, net) & ipv4.OFFSET_MASK) !== 0) return false;
    if (ipv4.protocol(view, net) !== IpProtocol.icmp) return true;
    const at = net + ipv4.ihl(view, net);
    return at < skb.tail && !icmp.isError(icmp.type(view, at));
  }

  /** The host's limit, then the target's; loopback and path-MTU messages are exempt (Linux icmpv4_xrlim_allow). */
  private isWithinRate(peer: number, type: number, code: number): boolean {
    const { mib, sysctl } = this.env;
    if (type === icmp.Type.unreachable && code === icmp.Unreachable.fragmentationNeeded) return true;
    if (((sysctl.icmpRatemask >>> type) & 1) === 0) return true;
    if (this.addresses.isLocal(peer) || isLoopbackAddress(peer)) return true;
    if (!this.hasCredit()) {
      mib.values[MibId.IcmpOutRateLimitGlobal]++;
      return false;
    }
    if (!this.targetAllows(peer)) {
      mib.values[MibId.IcmpOutRateLimitHost]++;
      return false;
    }
    this.credit--;
    return true;
  }

  /** icmp_msgs_per_sec and icmp_msgs_burst. */
  private hasCredit(): boolean {
    const { clock, sysctl } = this.env;
    const elapsed = Math.min(clock.nowNs - this.creditNs, SECOND);
    this.creditNs = clock.nowNs;
    this.credit = Math.min(this.credit + (elapsed / SECOND) * sysctl.icmpMsgsPerSec, sysctl.icmpMsgsBurst);
    return this.credit >= 1;
  }

  /** One message per icmp_ratelimit, with a burst for who was quiet (Linux inet_peer_xrlim_allow). */
  private targetAllows(peer: number): boolean {
    const { clock, sysctl } = this.env;
    const periodNs = sysctl.icmpRatelimit * MILLISECOND;
    if (periodNs === 0) return true;
    let bucket = this.targets.get(peer);
    if (bucket === undefined) {
      if (this.targets.size >= MAX_TARGETS) this.targets.clear();
      bucket = { tokensNs: BURST_FACTOR * periodNs, lastNs: clock.nowNs };
      this.targets.set(peer, bucket);
    }
    bucket.tokensNs = Math.min(bucket.tokensNs + clock.nowNs - bucket.lastNs, BURST_FACTOR * periodNs);
    bucket.lastNs = clock.nowNs;
    if (bucket.tokensNs < periodNs) return false;
    bucket.tokensNs -= periodNs;
    return true;
  }

  private count(type: number): void {
    const { mib } = this.env;
    mib.values[MibId.IcmpOutMsgs]++;
    const counter = OUT_COUNTERS.get(type);
    if (counter !== undefined) mib.values[MibId[counter]]++;
  }
}
