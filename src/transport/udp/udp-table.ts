/**
 * Who is bound where: the UDP hash table (Linux struct udp_table, udp_lib_get_port, __udp4_lib_lookup).
 *
 * One hash by local port. Sockets that share a port stand in one chain, so a server that connects thousands of sockets
 * on one port pays for each at every datagram, as on Linux before 6.13.
 */
import { assert } from "../../base/assert.ts";
import type { Prng } from "../../base/prng.ts";
import { SipHash } from "../../base/siphash.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import type { UdpSocket } from "./udp-socket.ts";

/** Chains; a power of two. */
const BUCKETS = 1024;
/** What a match is worth (Linux compute_score): a bound address outweighs the rest, since its hash is asked first. */
const SCORE_ADDRESS = 16;
const SCORE_PART = 4;

export class UdpTable {
  private readonly chains = new Array<UdpSocket | null>(BUCKETS).fill(null);
  private readonly bound = new Set<UdpSocket>();
  private readonly prng: Prng;
  private readonly sysctl: Sysctls;
  private readonly hash: SipHash;
  private readonly tuple = new Int32Array(3);

  /** `secret`: 16 bytes, so that a peer cannot choose its SO_REUSEPORT socket. */
  constructor(prng: Prng, sysctl: Sysctls, secret: Uint8Array) {
    this.prng = prng;
    this.sysctl = sysctl;
    this.hash = new SipHash(secret);
  }

  /** Binds `socket`, whose address and options are set; port 0 = an ephemeral one. False: in use, or none is free. */
  claim(socket: UdpSocket, port: number): boolean {
    assert(socket.localPort === 0, "a UDP socket is bound once");
    const chosen = port === 0 ? this.chooseEphemeral(socket) : port;
    if (chosen === 0 || this.isTaken(socket, chosen)) return false;
    socket.localPort = chosen;
    const bucket = chosen & (BUCKETS - 1);
    socket.next = this.chains[bucket];
    this.chains[bucket] = socket;
    this.bound.add(socket);
    return true;
  }

  /** The port of `socket` is free again. */
  release(socket: UdpSocket): void {
    const bucket = socket.localPort & (BUCKETS - 1);
    if (this.chains[bucket] === socket) this.chains[bucket] = socket.next;
    else {
      let before = this.chains[bucket];
      while (before !== null && before.next !== socket) before = before.next;
      assert(before !== null, "a bound UDP socket is in the table");
      before.next = socket.next;
    }
    socket.next = null;
    this.bound.delete(socket);
  }

  /**
   * Who receives a datagram: the connected 4-tuple, else the bound address, else the wildcard; a socket bound to the
   * device goes first among equals, then the youngest. Of a SO_REUSEPORT group the hash of the 4-tuple chooses.
   * Addresses are unsigned numbers.
   */
  lookup(src: number, srcPort: number, dst: number, dstPort: number, ifindex: number): UdpSocket | null {
    let best: UdpSocket | null = null;
    let bestScore = -1;
    for (let s = this.chainOf(dstPort); s !== null; s = s.next) {
      const score = scoreOf(s, src, srcPort, dst, dstPort, ifindex);
      if (score <= bestScore) continue;
      best = s;
      bestScore = score;
    }
    if (best === null || !best.reusePort || best.connected) return best;
    return this.choose(best, src, srcPort, dst, dstPort);
  }

  /** Everybody a broadcast or multicast datagram is for (Linux __udp_is_mcast_sock). */
  listeners(src: number, srcPort: number, dst: number, dstPort: number, ifindex: number): UdpSocket[] {
    const found: UdpSocket[] = [];
    for (let s = this.chainOf(dstPort); s !== null; s = s.next) {
      if (scoreOf(s, src, srcPort, dst, dstPort, ifindex) >= 0) found.push(s);
    }
    return found;
  }

  /** All bound sockets, by port. */
  all(): UdpSocket[] {
    return [...this.bound].sort((a, b) => a.localPort - b.localPort);
  }

  /** Datagrams in the receive queues of all bound sockets. */
  get waitingDatagrams(): number {
    let count = 0;
    for (const socket of this.bound) count += socket.waitingDatagrams;
    return count;
  }

  private chainOf(port: number): UdpSocket | null {
    return this.chains[port & (BUCKETS - 1)];
  }

  /** The member of `like`'s group the 4-tuple hashes to (Linux reuseport_select_sock, reciprocal_scale). */
  private choose(like: UdpSocket, src: number, srcPort: number, dst: number, dstPort: number): UdpSocket {
    let count = 0;
    for (let s = this.chainOf(like.localPort); s !== null; s = s.next) if (isOfGroup(s, like)) count++;
    const { tuple } = this;
    tuple[0] = src;
    tuple[1] = dst;
    tuple[2] = (srcPort << 16) | dstPort;
    let left = Math.floor((this.hash.words(tuple, 3) * count) / 0x100000000);
    for (let s = this.chainOf(like.localPort); s !== null; s = s.next) {
      if (isOfGroup(s, like) && left-- === 0) return s;
    }
    return like;
  }

  /** Linux udp_lib_lport_inuse. */
  private isTaken(socket: UdpSocket, port: number): boolean {
    for (let other = this.chainOf(port); other !== null; other = other.next) {
      if (other.localPort !== port || !overlap(other, socket)) continue;
      if (other.reuseAddress && socket.reuseAddress) continue;
      if (other.reusePort && socket.reusePort) continue;
      return true;
    }
    return false;
  }

  /** A free port of net.ipv4.ip_local_port_range from a random start on (RFC 6056 algorithm 2); 0 if there is none. */
  private chooseEphemeral(socket: UdpSocket): number {
    const { ipLocalPortRangeMin: low, ipLocalPortRangeMax: high } = this.sysctl;
    const count = high - low + 1;
    const start = this.prng.below(count);
    for (let i = 0; i < count; i++) {
      const port = low + ((start + i) % count);
      if (!this.isTaken(socket, port)) return port;
    }
    return 0;
  }
}

/** -1: not for this socket. Larger is closer. */
function scoreOf(s: UdpSocket, src: number, srcPort: number, dst: number, dstPort: number, ifindex: number): number {
  if (s.localPort !== dstPort) return -1;
  let score = 0;
  if (s.localV4 !== 0) {
    if (s.localV4 !== dst) return -1;
    score += SCORE_ADDRESS;
  }
  if (s.connected) {
    if (s.remoteV4 !== src || s.remotePort !== srcPort) return -1;
    score += 2 * SCORE_PART;
  }
  if (s.boundIfindex !== 0) {
    if (s.boundIfindex !== ifindex) return -1;
    score += SCORE_PART;
  }
  return score;
}

function isOfGroup(s: UdpSocket, like: UdpSocket): boolean {
  return (
    s.reusePort &&
    !s.connected &&
    s.localPort === like.localPort &&
    s.localV4 === like.localV4 &&
    s.boundIfindex === like.boundIfindex
  );
}

/** True if the two could receive the same datagram: neither is tied to another device or another address. */
function overlap(a: UdpSocket, b: UdpSocket): boolean {
  if (a.boundIfindex !== 0 && b.boundIfindex !== 0 && a.boundIfindex !== b.boundIfindex) return false;
  return a.localV4 === 0 || b.localV4 === 0 || a.localV4 === b.localV4;
}
