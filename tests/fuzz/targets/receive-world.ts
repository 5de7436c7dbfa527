/**
 * One host between a peer we play and a second link: it listens, connects, answers, and forwards. The wires check every
 * frame that leaves it.
 */
import { Address, parseAddress } from "../../../src/base/address.ts";
import { DROP_REASONS, DropReason } from "../../../src/base/drop-reasons.ts";
import { Mib } from "../../../src/base/mib.ts";
import { Prng } from "../../../src/base/prng.ts";
import { Sysctls } from "../../../src/base/sysctl.ts";
import { ManualClock, NEVER, type Ns, SECOND } from "../../../src/base/time.ts";
import { Timers } from "../../../src/base/timers.ts";
import { NO_TRACE } from "../../../src/base/tracepoints.ts";
import { Nic, type Wire } from "../../../src/device/nic.ts";
import type { NetDevice } from "../../../src/netdev/net-device.ts";
import { NetFloor } from "../../../src/network/net-floor.ts";
import { ConservationChecker } from "../../../src/sim/checkers.ts";
import { Arena } from "../../../src/skb/arena.ts";
import { DropCounters } from "../../../src/skb/drop.ts";
import type { HostEnv } from "../../../src/skb/host-env.ts";
import { type SkBuff, SkBuffPool } from "../../../src/skb/skb.ts";
import type { ProcessTable } from "../../../src/socket/process-table.ts";
import type { Stack } from "../../../src/stack.ts";
import { NO_UPCALLS } from "../../../src/transport/port.ts";
import type { Tcb } from "../../../src/transport/tcp/tcb.ts";
import { Tcp } from "../../../src/transport/tcp/tcp.ts";
import { Udp } from "../../../src/transport/udp/udp.ts";
import type { UdpSocket } from "../../../src/transport/udp/udp-socket.ts";
import { StackLedger, stackCounters } from "../../support/host-ledger.ts";
import { arpVerdict, ipv4Verdict, pseudoSum, sumsToZero, tcpVerdict, udpVerdict, word } from "./wire-reference.ts";

export const HOST = parseAddress("198.18.0.1") as Address;
export const PEER = parseAddress("198.18.0.2") as Address;
export const BEHIND = parseAddress("198.18.1.2") as Address;
const HOST_BEHIND = parseAddress("198.18.1.1") as Address;
export const HOST_MAC = new Uint8Array([0x02, 0, 0, 0, 1, 0]);
export const HOST_MAC_BEHIND = new Uint8Array([0x02, 0, 0, 0, 1, 1]);
export const PEER_MAC = new Uint8Array([0x02, 0, 0, 0, 2, 0]);
/** Small, so that what is forwarded must be cut. */
const MTU_BEHIND = 576;

export const HTTP_PORT = 80;
export const DNS_PORT = 53;
/** The host's end of a connection it opens itself, and the peer's. */
export const OWN_PORT = 7777;
export const PEER_PORT = 9000;
const BACKLOG = 2;

const LIMITS = { smallSlots: 512, frameSlots: 768, pageSlots: 48 };
const RING = 64;
/** After so long nothing may be left: TIME_WAIT, orphans' retransmissions and fragments are over. */
const SETTLE_NS: Ns = 4000 * SECOND;
const MAX_TIMER_STEPS = 20_000;

/** What the stack has said of one connection: the relative numbers of a script become real ones by it. */
export interface Heard {
  /** Its initial sequence number and last timestamp. */
  iss: number;
  tsVal: number;
}

/** Packet memory and the books of one run; `world.close()` gives everything back. */
export class ReceiveWorld {
  readonly stack: Stack;
  readonly clock = new ManualClock(SECOND);
  readonly front: NetDevice;
  readonly behind: NetDevice;
  readonly listener: Tcb;
  readonly udp: UdpSocket[] = [];
  /** By peer port << 16 | host port. */
  readonly heard = new Map<number, Heard>();
  /** Bytes of TCP payload that were passed on. */
  forwardedBytes = 0;
  private readonly arena: Arena;
  private readonly books: ConservationChecker;

  constructor(arena: Arena) {
    this.arena = arena;
    this.stack = makeHost(arena, this.clock);
    const { stack } = this;
    stack.env.sysctl.ipForward = 1;
    this.front = this.plug("eth0", HOST_MAC, `${HOST}/24`, 1500);
    this.behind = this.plug("eth1", HOST_MAC_BEHIND, `${HOST_BEHIND}/24`, MTU_BEHIND);
    stack.net.ip.addNeighbour(this.front.ifindex, PEER, PEER_MAC);
    stack.net.ip.addNeighbour(this.behind.ifindex, BEHIND, PEER_MAC);
    this.listener = stack.tcp.create(NO_UPCALLS);
    const anyAddress = Address.v4(0);
    const reuse = { reuseAddress: true, reusePort: false, ifindex: 0 };
    stack.tcp.bind(this.listener, anyAddress, HTTP_PORT, reuse);
    stack.tcp.listen(this.listener, BACKLOG);
    // Two share a port, for broadcasts; the third hears its peer only.
    for (const port of [DNS_PORT, DNS_PORT, OWN_PORT]) {
      const sock = stack.udp.create(NO_UPCALLS);
      stack.udp.bind(sock, anyAddress, port, reuse);
      this.udp.push(sock);
    }
    stack.udp.connect(this.udp[2], PEER, PEER_PORT);
    this.books = new ConservationChecker([new StackLedger(stack, [])]);
  }

  /** A frame of `len` bytes at `offset` of `slot` has arrived (*takes* the slot). */
  nic(isBehind: boolean): Nic {
    return (isBehind ? this.behind : this.front).device as Nic;
  }

  /** Lets time pass. */
  advance(ns: Ns): void {
    const { clock } = this;
    const { timers } = this.stack.env;
    const untilNs = clock.nowNs + ns;
    let steps = 0;
    for (let due = timers.deadline(); due <= untilNs && due !== NEVER; due = timers.deadline()) {
      if (++steps > MAX_TIMER_STEPS)
        throw new Error(`${MAX_TIMER_STEPS} timers fired in ${ns} ns: does not come to rest`);
      if (due > clock.nowNs) clock.nowNs = due;
      timers.fireOne(clock.nowNs);
    }
    clock.nowNs = untilNs;
  }

  /** Frames in = delivered + dropped + owned; every drop has a reason Linux knows. */
  check(): void {
    this.books.check(this.clock.nowNs);
    const { counts } = this.stack.env.drops;
    if (counts[DropReason.none] > 0) throw new Error("dropped without a reason");
    if (counts[DropReason.notSpecified] > 0) throw new Error("dropped for NOT_SPECIFIED");
    for (let reason = 0; reason < counts.length; reason++) {
      if (DROP_REASONS[reason] === undefined) throw new Error(`no reason ${reason} in the table`);
      if (!(counts[reason] >= 0)) throw new Error(`${counts[reason]} drops for reason ${reason}`);
    }
  }

  /** Closes what the process holds, waits until nobody remembers, and unplugs: everything must come back. */
  close(held: Iterable<Tcb>): void {
    const { stack, arena } = this;
    for (const tcb of held) stack.tcp.close(tcb);
    stack.tcp.close(this.listener);
    for (const sock of this.udp) stack.udp.close(sock);
    this.advance(SETTLE_NS);
    for (const [name, count] of Object.entries(stackCounters(stack).counts())) {
      const mayStay = name === "timers" || name === "slots";
      if (!mayStay && count !== 0) throw new Error(`${count} ${name} are left after everything was closed`);
    }
    stack.net.close();
    if (stack.env.pool.outstanding !== 0) throw new Error(`${stack.env.pool.outstanding} skbs are left`);
    if (arena.outstanding !== 0) throw new Error(`${arena.outstanding} slots are left`);
  }

  private plug(name: string, mac: Uint8Array, cidr: string, mtu: number): NetDevice {
    const { env } = this.stack;
    const nic = new Nic(env, name, {
      mac,
      mtu,
      rxRingSize: RING,
      txRingSize: RING,
      coalescing: { rxUsecs: 0, rxFrames: 1 },
    });
    const dev = this.stack.net.addNic(nic, cidr);
    const wire: Wire = {
      freeNs: 0,
      damages: false,
      carry: (skb) => {
        this.inspect(skb, mac, mtu);
        env.pool.release(skb);
      },
    };
    nic.attach(wire);
    return dev;
  }

  /** What leaves must be well-formed, fit, and carry right checksums. */
  private inspect(skb: SkBuff, mac: Uint8Array, mtu: number): void {
    const { bytes, data, tail } = skb;
    if (tail - data > mtu + 14) throw new Error(`sent a frame of ${tail - data} bytes, the MTU is ${mtu}`);
    for (let i = 0; i < 6; i++) if (bytes[data + 6 + i] !== mac[i]) throw new Error("sent from a foreign MAC");
    const type = word(bytes, data + 12);
    const at = data + 14;
    if (type === 0x0806) {
      if (arpVerdict(bytes, at, tail) !== DropReason.none) throw new Error("sent malformed ARP");
      return;
    }
    if (type !== 0x0800) throw new Error(`sent EtherType ${type.toString(16)}`);
    const verdict = ipv4Verdict(bytes, at, tail);
    if (verdict !== DropReason.none) throw new Error(`sent malformed IP: ${DROP_REASONS[verdict].name}`);
    const end = at + word(bytes, at + 2);
    if (end !== tail) throw new Error("sent bytes behind the packet");
    if (bytes[at + 8] === 0) throw new Error("sent with TTL 0");
    const source = skb.view.getUint32(at + 12);
    const isOurs = source === HOST.v4 || source === HOST_BEHIND.v4;
    if (isOurs && (word(bytes, at + 6) & 0x3fff) === 0) this.inspectOwn(skb, at, end);
    if (!isOurs && bytes[at + 9] === 6) {
      const transport = at + (bytes[at] & 15) * 4;
      const isFirst = (word(bytes, at + 6) & 0x1fff) === 0;
      this.forwardedBytes += end - transport - (isFirst ? (bytes[transport + 12] >>> 4) * 4 : 0);
    }
  }

  /** A whole packet the host has made itself. */
  private inspectOwn(skb: SkBuff, at: number, end: number): void {
    const { bytes, view } = skb;
    const transport = at + (bytes[at] & 15) * 4;
    const protocol = bytes[at + 9];
    const pseudo = pseudoSum(bytes, at, protocol, end - transport);
    if (protocol === 1) {
      if (!sumsToZero(bytes, transport, end)) throw new Error("sent ICMP with a bad checksum");
    } else if (protocol === 17) {
      if (udpVerdict(bytes, transport, end) !== DropReason.none) throw new Error("sent malformed UDP");
      if (!sumsToZero(bytes, transport, end, pseudo)) throw new Error("sent UDP with a bad checksum");
    } else if (protocol === 6) {
      if (tcpVerdict(bytes, transport, end) !== DropReason.none) throw new Error("sent malformed TCP");
      if (!sumsToZero(bytes, transport, end, pseudo)) throw new Error("sent TCP with a bad checksum");
      this.hear(view, transport);
    }
  }

  private hear(view: DataView, at: number): void {
    const key = (view.getUint16(at + 2) << 16) | view.getUint16(at);
    let heard = this.heard.get(key);
    if (heard === undefined) {
      heard = { iss: 0, tsVal: 0 };
      this.heard.set(key, heard);
    }
    if ((view.getUint8(at + 13) & 2) !== 0) heard.iss = view.getUint32(at + 4);
    const optionsEnd = at + (view.getUint8(at + 12) >>> 4) * 4;
    for (let i = at + 20; i + 10 <= optionsEnd; i += view.getUint8(i) === 1 ? 1 : Math.max(2, view.getUint8(i + 1))) {
      if (view.getUint8(i) === 8) heard.tsVal = view.getUint32(i + 2);
    }
  }
}

/** The floors of a `Stack` without processes: making their table costs more than a whole script. */
type Host = Pick<Stack, "name" | "env" | "net" | "tcp" | "udp" | "processes">;

function makeHost(arena: Arena, clock: ManualClock): Stack {
  const pool = new SkBuffPool(arena);
  let conns = 0;
  const env: HostEnv = {
    name: "host",
    clock,
    timers: new Timers(),
    prng: new Prng(1),
    pool,
    trace: NO_TRACE,
    mib: new Mib(),
    sysctl: new Sysctls(),
    drops: new DropCounters(pool, NO_TRACE),
    secret: new Uint8Array(16).fill(7),
    nextFrameId: () => 1,
    nextConnId: () => ++conns,
  };
  const net = new NetFloor(env);
  const processes = { counts: {} } as ProcessTable;
  const host: Host = { name: "host", env, net, tcp: new Tcp(env, net.ip), udp: new Udp(env, net.ip), processes };
  return host as Stack;
}

/** Memory for one world after another. */
export function newWorldArena(): Arena {
  return new Arena(LIMITS);
}
