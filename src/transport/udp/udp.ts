/**
 * UDP (RFC 768, RFC 1122 §4.1; Linux net/ipv4/udp.c).
 *
 *   receive ─► lengths ─► checksum ─► look-up ─► receive queue ─► readable()
 *                                        │ nobody
 *                                        └─► ICMP port unreachable
 *   send ── route, header, copy ─► ip.output (cuts what is larger than the MTU)
 *
 * Received payload stays in its slot until it is read: the queue is bounded in bytes of slots.
 */
import { Address, ANY_V4 } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { fold, pseudoHeaderV4 } from "../../base/checksum.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { Cost } from "../../base/time.ts";
import { type IpLayer, IpProtocol, type Route, type TransportProtocol } from "../../network/port.ts";
import { PAGE_SLOT } from "../../skb/arena.ts";
import type { HostEnv } from "../../skb/host-env.ts";
import { HEADROOM, PacketType, type SkBuff, Summed } from "../../skb/skb.ts";
import * as ethernet from "../../wire/ethernet.ts";
import * as icmp from "../../wire/icmp.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as udp from "../../wire/udp.ts";
import type { BindOptions, SocketRow, SocketUpcalls } from "../port.ts";
import { UdpSocket } from "./udp-socket.ts";
import { UdpTable } from "./udp-table.ts";

/** What IPv4 can carry: 65535 less both headers. */
export const MAX_PAYLOAD_BYTES = 0xffff - ipv4.HEADER_LEN - udp.HEADER_LEN;

const LIMITED_BROADCAST = 0xffffffff;
/** Linux numbers that `Errno` has no name for. */
const ENONET = 64;
const EPROTO = 71;
const EHOSTDOWN = 112;

/**
 * ICMP destination unreachable: errno by code (Linux icmp_err_convert). The codes left out (net and host unreachable,
 * for one) may pass and are not reported.
 */
const UNREACHABLE_ERRNO: Readonly<Record<number, number>> = {
  2: Errno.ENOPROTOOPT,
  3: Errno.ECONNREFUSED,
  4: Errno.EMSGSIZE,
  6: Errno.ENETUNREACH,
  7: EHOSTDOWN,
  8: ENONET,
  9: Errno.ENETUNREACH,
  10: Errno.EHOSTUNREACH,
  13: Errno.EHOSTUNREACH,
  14: Errno.EHOSTUNREACH,
  15: Errno.EHOSTUNREACH,
};

/** One queued datagram; the caller's reused record. */
export interface QueuedDatagram {
  /** Arena address of its first byte. */
  address: number;
  len: number;
  from: Address;
  port: number;
  /** When its frame came off the wire, and when it entered the receive queue. */
  arrivedNs: number;
  queuedNs: number;
}

/** UDP of one host, as sockets use it. */
export class Udp {
  private readonly env: HostEnv;
  private readonly ip: IpLayer;
  private readonly table: UdpTable;
  /** Reused: how the datagram at hand goes out. */
  private readonly output = { dontFragment: false, ttl: 0, tos: 0 };

  /** Registers with the IP layer. */
  constructor(env: HostEnv, ip: IpLayer) {
    this.env = env;
    this.ip = ip;
    this.table = new UdpTable(env.prng.fork(), env.sysctl, env.secret);
    ip.register(IpProtocol.udp, new UdpInput(env, ip, this.table));
  }

  // ── the socket's side ─────────────────────────────────────────────────────────────────────────────────────────

  /** A socket without names. Its `upcalls.stateChanged()` says that an ICMP error is pending. */
  create(upcalls: SocketUpcalls): UdpSocket {
    return new UdpSocket(upcalls, this.env.sysctl.rmemDefault);
  }

  /**
   * bind(2); port 0 = an ephemeral one, at once. 0; -EINVAL (bound already, or no port number), -EADDRNOTAVAIL (not an
   * address of this host, 255.255.255.255 or a multicast group), -EADDRINUSE (also: no ephemeral port is free).
   */
  bind(sock: UdpSocket, address: Address, port: number, options: BindOptions): number {
    if (sock.localPort !== 0 || !isPort(port)) return -Errno.EINVAL;
    const { isWildcard } = address;
    if (!isWildcard && !isGroup(address) && !this.ip.isLocal(address)) return -Errno.EADDRNOTAVAIL;
    sock.localAddress = isWildcard ? ANY_V4 : address;
    sock.localV4 = sock.localAddress.v4;
    sock.reuseAddress = options.reuseAddress;
    sock.reusePort = options.reusePort;
    sock.boundIfindex = options.ifindex;
    if (this.claim(sock, port)) return 0;
    sock.localAddress = ANY_V4;
    sock.localV4 = 0;
    return -Errno.EADDRINUSE;
  }

  /**
   * connect(2) names the peer, and the local address if there is none yet; may be called again (Linux
   * __ip4_datagram_connect). 0; -EINVAL, -ENETUNREACH, -EADDRINUSE (no ephemeral port is free).
   */
  connect(sock: UdpSocket, address: Address, port: number): number {
    if (!isPort(port)) return -Errno.EINVAL;
    const unbound = this.bindIfUnbound(sock);
    if (unbound !== 0) return unbound;
    const route = this.ip.route(address, sourceOf(sock), sock.boundIfindex);
    if (typeof route === "number") return route;
    if (sock.localV4 === 0) {
      sock.localAddress = route.source;
      sock.localV4 = route.source.v4;
    }
    sock.remoteAddress = route.destination;
    sock.remoteV4 = route.destination.v4;
    sock.remotePort = port;
    sock.connected = true;
    sock.route = route;
    return 0;
  }

  /**
   * sendto(2): all bytes or none; *copies* `len` bytes at `at`. `to` null: to the connected peer. An unbound socket
   * gets an ephemeral port. `len`, or:
   * - -EDESTADDRREQ (no `to`, not connected), -EINVAL (port 0), -ENETUNREACH, -EADDRINUSE (no ephemeral port is free);
   * - -EMSGSIZE: more than 65507 bytes; or more than 65494 on a path that would take them in one piece (loopback), as
   *   packet and link header must fit one 64 KB slot — Linux sends these last 13 bytes;
   * - the pending error of a connected socket (-ECONNREFUSED, …), once: then nothing was sent;
   * - -ENOBUFS when packet memory is out. A full qdisc is no error, as on Linux without IP_RECVERR: the datagram is
   *   lost and UdpSndbufErrors counts it. Never -EAGAIN: the send buffer is the device's queue.
   */
  send(sock: UdpSocket, bytes: Uint8Array, at: number, len: number, to: Address | null, port: number): number {
    const { env } = this;
    if (len > MAX_PAYLOAD_BYTES) return -Errno.EMSGSIZE;
    if (to === null && !sock.connected) return -Errno.EDESTADDRREQ;
    const remotePort = to === null ? sock.remotePort : port;
    if (remotePort === 0 || !isPort(remotePort)) return -Errno.EINVAL;
    const unbound = this.bindIfUnbound(sock);
    if (unbound !== 0) return unbound;
    const route = to === null ? this.peerRoute(sock) : this.ip.route(to, sourceOf(sock), sock.boundIfindex);
    if (typeof route === "number") return route;
    const headroom = headroomFor(len, route.mtu);
    if (headroom < 0) return -Errno.EMSGSIZE;
    const error = sock.takeError();
    if (error !== 0) {
      // Linux has no room for a packet while an error is pending, and counts it as IP's discard.
      env.mib.values[MibId.IpOutDiscards]++;
      return -error;
    }
    const skb = env.pool.alloc(udp.HEADER_LEN + len, headroom);
    if (skb === null) {
      env.mib.values[MibId.UdpSndbufErrors]++;
      return -Errno.ENOBUFS;
    }
    env.clock.charge(Cost.txFrame, 1);
    build(skb, sock.localPort, remotePort, route, bytes, at, len);
    return this.sent(this.transmit(skb, route), len);
  }

  /**
   * recvfrom(2): the oldest datagram, cut to `len` bytes (what does not fit is lost), copied to `into` at `at`; its
   * sender goes to `from`. The bytes copied, or the pending error (first, as on Linux), or -EAGAIN. With `len` 0 a
   * waiting datagram goes before the error: so a reader discards what it saw by `peek`. `leave` (MSG_PEEK): the
   * datagram stays where it is.
   */
  receive(
    sock: UdpSocket,
    into: Uint8Array,
    at: number,
    len: number,
    from: { address: Address; port: number },
    leave = false,
  ): number {
    const error = len === 0 && sock.oldest !== null ? 0 : sock.takeError();
    if (error !== 0) return -error;
    const skb = leave ? sock.oldest : sock.dequeue();
    if (skb === null) return -Errno.EAGAIN;
    const copied = Math.min(len, skb.len);
    skb.arena.copy(skb.bytes, skb.data, into, at, copied);
    from.address = sock.senderOf(ipv4.src(skb.view, skb.net));
    from.port = udp.srcPort(skb.view, skb.transport);
    if (leave) return copied;
    this.env.mib.values[MibId.UdpInDatagrams]++;
    this.env.drops.consume(skb);
    return copied;
  }

  /** The oldest datagram, left in the queue; false if there is none. Its bytes stay until `receive` or `close`. */
  peek(sock: UdpSocket, out: QueuedDatagram): boolean {
    const skb = sock.oldest;
    if (skb === null) return false;
    out.address = skb.data;
    out.len = skb.len;
    out.from = sock.senderOf(ipv4.src(skb.view, skb.net));
    out.port = udp.srcPort(skb.view, skb.transport);
    out.arrivedNs = skb.arrivedNs;
    out.queuedNs = skb.scratch;
    return true;
  }

  /** SO_REUSEADDR and SO_REUSEPORT, also after bind: whoever binds next asks what is true then. */
  setReuse(sock: UdpSocket, options: BindOptions): void {
    sock.reuseAddress = options.reuseAddress;
    sock.reusePort = options.reusePort;
  }

  /** Gives up the port; datagrams nobody read are dropped (Linux names QUEUE_PURGE, our table does not know it). */
  close(sock: UdpSocket): void {
    if (sock.closed) return;
    sock.closed = true;
    if (sock.localPort !== 0) this.table.release(sock);
    for (let skb = sock.dequeue(); skb !== null; skb = sock.dequeue()) {
      this.env.drops.drop(skb, DropReason.notSpecified);
    }
  }

  /** Datagrams that arrived and nobody has read: each owns its packet. */
  get waitingDatagrams(): number {
    return this.table.waitingDatagrams;
  }

  /** As `ss -uan`; Recv-Q in bytes of packet memory, as there. */
  rows(): SocketRow[] {
    return this.table.all().map((sock) => ({
      protocol: "udp",
      state: sock.connected ? "ESTAB" : "UNCONN",
      receiveQueue: sock.memoryBytes,
      sendQueue: 0,
      localAddress: sock.localAddress.toString(),
      localPort: sock.localPort,
      remoteAddress: sock.remoteAddress.toString(),
      remotePort: sock.remotePort,
      info: { rcvbuf: sock.receiveBufferBytes, drops: sock.drops },
    }));
  }

  private claim(sock: UdpSocket, port: number): boolean {
    assert(!sock.closed, "UDP socket used after close");
    return this.table.claim(sock, port);
  }

  /** Linux inet_autobind. */
  private bindIfUnbound(sock: UdpSocket): number {
    return sock.localPort !== 0 || this.claim(sock, 0) ? 0 : -Errno.EADDRINUSE;
  }

  /** The kept path to the peer, asked again when the table or the path's MTU changed. */
  private peerRoute(sock: UdpSocket): Route | number {
    if (sock.route?.valid) return sock.route;
    const route = this.ip.route(sock.remoteAddress, sourceOf(sock), sock.boundIfindex);
    sock.route = typeof route === "number" ? null : route;
    return route;
  }

  /** *Takes* the skb. 0 or -errno. */
  private transmit(skb: SkBuff, route: Route): number {
    const { output } = this;
    // IP_PMTUDISC_WANT, Linux's default: DF on what fits the path; what does not is cut here, not by a router.
    output.dontFragment = skb.len + ipv4.HEADER_LEN <= route.mtu;
    // A multicast datagram stays on its link (IP_MULTICAST_TTL).
    output.ttl = isMulticast(route.destination.v4) ? 1 : this.env.sysctl.ipDefaultTtl;
    return this.ip.output(skb, route, IpProtocol.udp, output);
  }

  /** Counts what became of a datagram (Linux udp_send_skb); what the caller is told. */
  private sent(result: number, len: number): number {
    const { values } = this.env.mib;
    if (result === 0) values[MibId.UdpOutDatagrams]++;
    else if (result === -Errno.ENOBUFS) values[MibId.UdpSndbufErrors]++;
    else return result;
    return len;
  }
}

/** What IP hands up: apart from `Udp`, whose `receive` is the reader's. */
class UdpInput implements TransportProtocol {
  private readonly env: HostEnv;
  private readonly ip: IpLayer;
  private readonly table: UdpTable;

  constructor(env: HostEnv, ip: IpLayer, table: UdpTable) {
    this.env = env;
    this.ip = ip;
    this.table = table;
  }

  /** Linux __udp4_lib_rcv. *Takes* the skb. */
  receive(skb: SkBuff): void {
    const { view, net, transport } = skb;
    if (udp.check(view, transport, skb.tail) !== DropReason.none) {
      this.refuse(skb, DropReason.pktTooSmall);
      return;
    }
    // The IP payload may be longer than the datagram; what is over belongs to nobody.
    const len = udp.length(view, transport);
    skb.trim(len);
    const src = ipv4.src(view, net);
    const dst = ipv4.dst(view, net);
    if (skb.summed === Summed.none && !udp.hasGoodChecksumV4(skb.bytes, view, transport, len, src, dst)) {
      this.env.mib.values[MibId.UdpInCsumErrors]++;
      this.refuse(skb, DropReason.udpCsum);
      return;
    }
    // A frame sent to everybody may still carry a packet for us alone.
    if (skb.packetType !== PacketType.host && !this.ip.isLocal(Address.v4(dst))) {
      this.deliverToAll(skb, src, dst);
      return;
    }
    const sock = this.table.lookup(src, udp.srcPort(view, transport), dst, udp.dstPort(view, transport), skb.ifindex);
    if (sock === null) {
      this.env.mib.values[MibId.UdpNoPorts]++;
      this.ip.sendIcmpError(skb, icmp.Type.unreachable, icmp.Unreachable.port, 0);
      this.env.drops.drop(skb, DropReason.noSocket);
    } else this.queue(sock, skb);
  }

  /**
   * Linux __udp4_lib_err without IP_RECVERR: only a connected socket hears of it, since an unconnected one could not
   * know which datagram is meant, and only of what will not pass. *Borrows* the skb.
   */
  icmpError(skb: SkBuff, innerNet: number, innerTransport: number, type: number, code: number, _info: number): void {
    const { view } = skb;
    const peer = ipv4.dst(view, innerNet);
    const peerPort = udp.dstPort(view, innerTransport);
    const own = ipv4.src(view, innerNet);
    const sock = this.table.lookup(peer, peerPort, own, udp.srcPort(view, innerTransport), skb.ifindex);
    if (sock === null) {
      this.env.mib.values[MibId.IcmpInErrors]++;
      return;
    }
    const errno = errnoOf(type, code);
    if (errno === 0 || !sock.connected) return;
    sock.error = errno;
    sock.upcalls.stateChanged();
  }

  /** A broadcast or multicast: a copy for everybody (Linux __udp4_lib_mcast_deliver). *Takes* the skb. */
  private deliverToAll(skb: SkBuff, src: number, dst: number): void {
    const { env } = this;
    const { view, transport } = skb;
    const { table } = this;
    const socks = table.listeners(src, udp.srcPort(view, transport), dst, udp.dstPort(view, transport), skb.ifindex);
    if (socks.length === 0) {
      env.mib.values[MibId.UdpIgnoredMulti]++;
      env.drops.consume(skb);
      return;
    }
    for (const sock of socks.slice(1)) {
      const copy = this.copyOf(skb);
      if (copy !== null) this.queue(sock, copy);
      else this.countFull(sock);
    }
    this.queue(socks[0], skb);
  }

  /** The packet once more, from its IP header on; null if memory is out. *Borrows* the skb. */
  private copyOf(skb: SkBuff): SkBuff | null {
    const len = skb.tail - skb.net;
    const copy = this.env.pool.alloc(len, 0);
    if (copy === null) return null;
    const at = copy.put(len);
    copy.bytes.copyWithin(at, skb.net, skb.tail);
    copy.net = at;
    copy.transport = at + skb.transport - skb.net;
    copy.data = copy.transport;
    copy.packetType = skb.packetType;
    copy.summed = Summed.unnecessary;
    copy.ifindex = skb.ifindex;
    copy.arrivedNs = skb.arrivedNs;
    copy.polledNs = skb.polledNs;
    return copy;
  }

  /** Linux udp_queue_rcv_skb. *Takes* the skb: `data` is the UDP header. */
  private queue(sock: UdpSocket, skb: SkBuff): void {
    const { env } = this;
    skb.pull(udp.HEADER_LEN);
    skb.scratch = env.clock.nowNs;
    if (sock.enqueue(skb)) {
      sock.upcalls.readable();
      return;
    }
    this.countFull(sock);
    env.drops.drop(skb, DropReason.socketRcvbuff);
  }

  private countFull(sock: UdpSocket): void {
    const { values } = this.env.mib;
    sock.drops++;
    values[MibId.UdpRcvbufErrors]++;
    values[MibId.UdpInErrors]++;
  }

  private refuse(skb: SkBuff, reason: number): void {
    this.env.mib.values[MibId.UdpInErrors]++;
    this.env.drops.drop(skb, reason);
  }
}

function errnoOf(type: number, code: number): number {
  if (type === icmp.Type.unreachable) return UNREACHABLE_ERRNO[code] ?? 0;
  return type === icmp.Type.parameterProblem ? EPROTO : 0;
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 0xffff;
}

function isMulticast(u32: number): boolean {
  return u32 >>> 28 === 14;
}

/** An address many hosts have: one may bind to it, but not send from it. */
function isGroup(address: Address): boolean {
  return address.isV4 && (address.v4 === LIMITED_BROADCAST || isMulticast(address.v4));
}

/** The address the socket insists on sending from. */
function sourceOf(sock: UdpSocket): Address | null {
  return sock.localV4 === 0 || isGroup(sock.localAddress) ? null : sock.localAddress;
}

/**
 * Room for headers in front of a datagram of `len` payload bytes, or -1 if no slot holds both. A packet that will be
 * cut needs no link header of its own: its pieces get them.
 */
function headroomFor(len: number, mtu: number): number {
  const left = PAGE_SLOT - udp.HEADER_LEN - len;
  const isCut = ipv4.HEADER_LEN + udp.HEADER_LEN + len > mtu;
  const needed = isCut ? ipv4.HEADER_LEN : ipv4.HEADER_LEN + ethernet.HEADER_LEN;
  return left < needed ? -1 : Math.min(left, HEADROOM);
}

/** Puts header and payload into the empty `skb`; the device, or IP, completes the checksum. */
function build(
  skb: SkBuff,
  localPort: number,
  remotePort: number,
  route: Route,
  bytes: Uint8Array,
  from: number,
  len: number,
): void {
  const datagramLen = udp.HEADER_LEN + len;
  const at = skb.put(datagramLen);
  udp.writeHeader(skb.view, at, localPort, remotePort, datagramLen);
  const pseudo = pseudoHeaderV4(route.source.v4, route.destination.v4, IpProtocol.udp, datagramLen);
  udp.setChecksum(skb.view, at, fold(pseudo));
  skb.summed = Summed.partial;
  skb.arena.copy(bytes, from, skb.bytes, at + udp.HEADER_LEN, len);
}
