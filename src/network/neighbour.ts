/**
 * Neighbours: the MAC addresses of next hops, with Linux's unreachability detection (net/core/neighbour.c).
 *
 *            use                answer                    reachable time over
 *   NONE ──────────► INCOMPLETE ──────► REACHABLE ─────────────────────────────► STALE ◄─ learned from a request
 *    ▲                │ 3 broadcasts      ▲    ▲ confirmed     used lately │        │ use
 *    │                ▼                   │    └──────────── DELAY ◄───────┴────────┘
 *    └────── use ── FAILED ◄── 3 unicasts ┴── answer ── PROBE ◄─┘ 5 s
 *
 * While INCOMPLETE, packets wait in the entry (net.ipv4.neigh.default.unres_qlen, the oldest is dropped); a failure
 * tells each sender "host unreachable". The protocol's words (ARP) are behind `NeighbourProtocol`.
 */
import { formatV4 } from "../base/address.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import * as ethernet from "../wire/ethernet.ts";

/** Linux NUD_* bits. */
export const NudState = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  permanent: 0x80,
} as const;
export type NudState = (typeof NudState)[keyof typeof NudState];

const CONNECTED = NudState.reachable | NudState.permanent;
/** A MAC address is known. */
const VALID = CONNECTED | NudState.stale | NudState.delay | NudState.probe;
const IN_TIMER = NudState.incomplete | NudState.reachable | NudState.delay | NudState.probe;

/** Linux gc_thresh1, 2, 3: below the first nothing is collected, above the second the idle; the third is the limit. */
export const GC_THRESH1 = 128;
export const GC_THRESH2 = 512;
export const GC_THRESH3 = 1024;
/** gc_interval. */
const GC_INTERVAL_NS: Ns = 30 * SECOND;
/** Above gc_thresh2 it is collected so often, and spares what is younger (Linux neigh_alloc, neigh_forced_gc: 5 s). */
const FORCED_GC_INTERVAL_NS: Ns = 5 * SECOND;
const FORCED_GC_AGE_NS: Ns = 5 * SECOND;
/** A full table is searched no more often: who fills it must not make every packet walk through it. */
const FULL_GC_INTERVAL_NS: Ns = 10 * MILLISECOND;
/** Within so long after a change another answer does not replace the address (locktime). */
export const LOCKTIME_NS: Ns = SECOND;
/** How often the reachable time is drawn anew. */
const RANDOMISE_NS: Ns = 300 * SECOND;
/** A solicitation is repeated no sooner (Linux HZ/100). */
const MIN_RETRANS_NS: Ns = 10 * MILLISECOND;

/** What differs between ARP and its successors. */
export interface NeighbourProtocol {
  /** Asks for the address of `neighbour`: by broadcast, or at its old one. *Borrows* the packet that waits, if any. */
  solicit(neighbour: Neighbour, unicast: boolean, waiting: SkBuff | null): void;
  /** Nobody answered: tell the sender of this packet. *Borrows* the skb. */
  unreachable(skb: SkBuff): void;
}

/** One next hop. */
export class Neighbour {
  readonly dev: NetDevice;
  /** IPv4 address, unsigned. */
  readonly ip: number;
  readonly mac = new Uint8Array(6);
  state: NudState = NudState.none;
  /** When reachability was last proved; when address or state changed; when it was last used. */
  confirmedNs: Ns;
  updatedNs: Ns;
  usedNs: Ns;
  /** Solicitations sent, counted as Linux does: broadcasts start at ucast_solicit. */
  probes = 0;
  /** Removed from the table: look it up again. */
  dead = false;
  /** Packets that wait for the address, oldest first. */
  waitingFirst: SkBuff | null = null;
  waitingLast: SkBuff | null = null;
  waiting = 0;
  readonly timer: Timer;

  constructor(dev: NetDevice, ip: number, nowNs: Ns, onTimer: (neighbour: Neighbour) => void) {
    this.dev = dev;
    this.ip = ip;
    this.confirmedNs = this.updatedNs = this.usedNs = nowNs;
    this.timer = new Timer(() => onTimer(this));
  }

  get isValid(): boolean {
    return (this.state & VALID) !== 0;
  }
}

/** One row of `ip neigh`. */
export interface NeighbourRow {
  readonly address: string;
  readonly dev: string;
  /** null while unknown. */
  readonly mac: string | null;
  readonly state: string;
  /** The line as `ip neigh` prints it. */
  readonly text: string;
}

const STATE_NAMES = new Map<number, string>([
  [NudState.none, "NONE"],
  [NudState.incomplete, "INCOMPLETE"],
  [NudState.reachable, "REACHABLE"],
  [NudState.stale, "STALE"],
  [NudState.delay, "DELAY"],
  [NudState.probe, "PROBE"],
  [NudState.failed, "FAILED"],
  [NudState.permanent, "PERMANENT"],
]);

export class NeighbourTable {
  private readonly env: HostEnv;
  private readonly protocol: NeighbourProtocol;
  /** Per ifindex, by address. */
  private readonly byDevice: Map<number, Neighbour>[] = [];
  private count = 0;
  private lastGcNs: Ns = 0;
  private lastForcedGcNs: Ns = Number.NEGATIVE_INFINITY;
  private reachableNs: Ns = 0;
  private randomisedNs: Ns = Number.NEGATIVE_INFINITY;
  private readonly onTimer = (neighbour: Neighbour): void => this.timeout(neighbour);

  constructor(env: HostEnv, protocol: NeighbourProtocol) {
    this.env = env;
    this.protocol = protocol;
  }

  /** The entry, or null. */
  find(dev: NetDevice, ip: number): Neighbour | null {
    return this.byDevice[dev.ifindex]?.get(ip) ?? null;
  }

  /** The entry, made if need be; null if the table is full of entries in use. */
  findOrCreate(dev: NetDevice, ip: number): Neighbour | null {
    const found = this.find(dev, ip);
    if (found !== null) return found;
    const { nowNs } = this.env.clock;
    if (!this.makeRoom(nowNs)) return null;
    const neighbour = new Neighbour(dev, ip, nowNs, this.onTimer);
    // Confirmed long ago: a fresh entry is not reachable by its birth.
    neighbour.confirmedNs = nowNs - 2 * this.env.sysctl.baseReachableTimeMs * MILLISECOND;
    this.byDevice[dev.ifindex] ??= new Map();
    this.byDevice[dev.ifindex].set(ip, neighbour);
    this.count++;
    return neighbour;
  }

  /**
   * Sends a packet to the neighbour, or keeps it until the address is known. *Takes* the skb: `data` is the network
   * header, with room for Ethernet's in front. 0 (also when it waits) or -errno.
   */
  output(neighbour: Neighbour, skb: SkBuff, etherType: number): number {
    const { env } = this;
    neighbour.usedNs = env.clock.nowNs;
    if ((neighbour.state & CONNECTED) === 0) this.wake(neighbour);
    if ((neighbour.state & VALID) !== 0) return send(neighbour, skb, etherType);
    if (neighbour.state !== NudState.incomplete) {
      env.drops.drop(skb, DropReason.neighFailed);
      return -Errno.EHOSTUNREACH;
    }
    skb.etherType = etherType;
    this.keep(neighbour, skb);
    if (neighbour.probes === env.sysctl.ucastSolicit) this.probe(neighbour);
    return 0;
  }

  /** The path made progress (TCP got a new ACK): the neighbour is reachable, no need to ask (Linux dst_confirm). */
  confirm(neighbour: Neighbour): void {
    neighbour.confirmedNs = this.env.clock.nowNs;
  }

  /**
   * The neighbour said something (Linux neigh_update). `mac` at `macAt` is *borrowed*. Without `override` a different
   * address is ignored while one is known.
   */
  update(neighbour: Neighbour, mac: Uint8Array, macAt: number, state: NudState, override: boolean): void {
    const { nowNs } = this.env.clock;
    const old = neighbour.state;
    if (old === NudState.permanent && state !== NudState.permanent) return;
    if ((state & CONNECTED) !== 0) neighbour.confirmedNs = nowNs;
    const wasValid = (old & VALID) !== 0;
    const sameMac = wasValid && macEqual(neighbour.mac, mac, macAt);
    let next = state;
    if (wasValid && !sameMac && !override) return;
    if (sameMac && state === NudState.stale) next = old;
    if (next !== old || !sameMac) neighbour.updatedNs = nowNs;
    if (!sameMac) {
      for (let i = 0; i < 6; i++) neighbour.mac[i] = mac[macAt + i];
      if ((next & CONNECTED) === 0) {
        neighbour.confirmedNs = nowNs - 2 * this.env.sysctl.baseReachableTimeMs * MILLISECOND;
      }
    }
    if (next === old) return;
    this.enter(neighbour, next);
    if (next === NudState.reachable) this.env.timers.arm(neighbour.timer, nowNs + this.reachableTimeNs());
    if (!wasValid) this.sendWaiting(neighbour);
  }

  /** `ip neigh replace … lladdr …`: a permanent entry. -ENOBUFS if the table is full. */
  addPermanent(dev: NetDevice, ip: number, mac: Uint8Array): number {
    const neighbour = this.findOrCreate(dev, ip);
    if (neighbour === null) return -Errno.ENOBUFS;
    this.update(neighbour, mac, 0, NudState.permanent, true);
    return 0;
  }

  /** `ip neigh del`. 0 or -ENOENT. */
  remove(dev: NetDevice, ip: number): number {
    const neighbour = this.find(dev, ip);
    if (neighbour === null) return -Errno.ENOENT;
    this.forget(neighbour);
    return 0;
  }

  /** Forgets all of a device, or of all devices; packets that wait are dropped. */
  flush(dev: NetDevice | null): void {
    for (const [ifindex, entries] of this.byDevice.entries()) {
      if (entries === undefined || (dev !== null && dev.ifindex !== ifindex)) continue;
      for (const neighbour of [...entries.values()]) this.forget(neighbour);
    }
  }

  /** Packets that wait for an address. */
  get waitingPackets(): number {
    let sum = 0;
    for (const entries of this.byDevice) {
      if (entries !== undefined) for (const neighbour of entries.values()) sum += neighbour.waiting;
    }
    return sum;
  }

  /** As `ip neigh`. */
  rows(): NeighbourRow[] {
    return this.all()
      .filter((n) => n.state !== NudState.none)
      .map((n) => {
        const state = STATE_NAMES.get(n.state) as string;
        const mac = n.isValid ? ethernet.formatMac(n.mac) : null;
        const address = formatV4(n.ip);
        const lladdr = mac === null ? "" : ` lladdr ${mac}`;
        return { address, dev: n.dev.name, mac, state, text: `${address} dev ${n.dev.name}${lladdr} ${state}` };
      });
  }

  // ── the state machine ─────────────────────────────────────────────────────────────────────────────────────────

  /** A packet wants to go out (Linux __neigh_event_send). */
  private wake(neighbour: Neighbour): void {
    const { clock, sysctl, timers } = this.env;
    if (neighbour.state === NudState.stale) {
      neighbour.updatedNs = clock.nowNs;
      this.enter(neighbour, NudState.delay);
      timers.arm(neighbour.timer, clock.nowNs + sysctl.delayFirstProbeTime * SECOND);
    } else if (neighbour.state === NudState.none || neighbour.state === NudState.failed) {
      if (sysctl.mcastSolicit === 0) {
        this.enter(neighbour, NudState.failed);
        return;
      }
      neighbour.probes = sysctl.ucastSolicit;
      neighbour.updatedNs = clock.nowNs;
      this.enter(neighbour, NudState.incomplete);
      timers.arm(neighbour.timer, clock.nowNs + this.retransNs());
    }
  }

  /** Linux neigh_timer_handler. */
  private timeout(neighbour: Neighbour): void {
    const { clock, sysctl, timers } = this.env;
    const { nowNs } = clock;
    const delayNs = sysctl.delayFirstProbeTime * SECOND;
    if (neighbour.state === NudState.reachable) {
      const untilNs = neighbour.confirmedNs + this.reachableTimeNs();
      if (nowNs < untilNs) {
        timers.arm(neighbour.timer, untilNs);
        return;
      }
      neighbour.updatedNs = nowNs;
      if (nowNs > neighbour.usedNs + delayNs) {
        this.enter(neighbour, NudState.stale);
        return;
      }
      this.enter(neighbour, NudState.delay);
      timers.arm(neighbour.timer, nowNs + delayNs);
      return;
    }
    if (neighbour.state === NudState.delay) {
      neighbour.updatedNs = nowNs;
      if (nowNs <= neighbour.confirmedNs + delayNs) {
        this.enter(neighbour, NudState.reachable);
        timers.arm(neighbour.timer, neighbour.confirmedNs + this.reachableTimeNs());
        return;
      }
      neighbour.probes = 0;
      this.enter(neighbour, NudState.probe);
    }
    if ((neighbour.state & (NudState.probe | NudState.incomplete)) === 0) return;
    if (neighbour.probes >= this.maxProbes(neighbour)) {
      this.fail(neighbour);
      return;
    }
    timers.arm(neighbour.timer, nowNs + this.retransNs());
    this.probe(neighbour);
  }

  private maxProbes(neighbour: Neighbour): number {
    const { ucastSolicit, mcastSolicit } = this.env.sysctl;
    return neighbour.state === NudState.probe ? ucastSolicit : ucastSolicit + mcastSolicit;
  }

  private probe(neighbour: Neighbour): void {
    const unicast = neighbour.probes < this.env.sysctl.ucastSolicit && neighbour.isValid;
    neighbour.probes++;
    this.protocol.solicit(neighbour, unicast, neighbour.waitingLast);
  }

  /** Nobody is there: every waiting packet's sender is told (Linux neigh_invalidate). */
  private fail(neighbour: Neighbour): void {
    neighbour.updatedNs = this.env.clock.nowNs;
    this.enter(neighbour, NudState.failed);
    for (let skb = takeWaiting(neighbour); skb !== null; skb = takeWaiting(neighbour)) {
      this.protocol.unreachable(skb);
      this.env.drops.drop(skb, DropReason.neighFailed);
    }
  }

  private enter(neighbour: Neighbour, state: NudState): void {
    if ((state & IN_TIMER) === 0) this.env.timers.cancel(neighbour.timer);
    neighbour.state = state;
  }

  private retransNs(): Ns {
    return Math.max(this.env.sysctl.retransTimeMs * MILLISECOND, MIN_RETRANS_NS);
  }

  /** base_reachable_time × 0.5 … 1.5, drawn anew every five minutes (Linux neigh_rand_reach_time). */
  private reachableTimeNs(): Ns {
    const { clock, prng, sysctl } = this.env;
    if (clock.nowNs - this.randomisedNs >= RANDOMISE_NS) {
      this.randomisedNs = clock.nowNs;
      this.reachableNs = Math.round(sysctl.baseReachableTimeMs * MILLISECOND * (0.5 + prng.float()));
    }
    return this.reachableNs;
  }

  // ── waiting packets, and room in the table ────────────────────────────────────────────────────────────────────

  private keep(neighbour: Neighbour, skb: SkBuff): void {
    const limit = Math.max(1, this.env.sysctl.unresQlen);
    while (neighbour.waiting >= limit) {
      this.env.drops.drop(takeWaiting(neighbour) as SkBuff, DropReason.neighQueueFull);
    }
    // When memory is short one has to do: so many neighbours with so many packets each would hold all there is.
    if (neighbour.waiting > 0 && !skb.arena.isRoomy(skb.end - skb.head)) {
      this.env.drops.drop(skb, DropReason.neighQueueFull);
      return;
    }
    skb.next = null;
    if (neighbour.waitingLast === null) neighbour.waitingFirst = skb;
    else neighbour.waitingLast.next = skb;
    neighbour.waitingLast = skb;
    neighbour.waiting++;
  }

  private sendWaiting(neighbour: Neighbour): void {
    for (let skb = takeWaiting(neighbour); skb !== null; skb = takeWaiting(neighbour)) {
      send(neighbour, skb, skb.etherType);
    }
  }

  private all(): Neighbour[] {
    return this.byDevice.filter((entries) => entries !== undefined).flatMap((entries) => [...entries.values()]);
  }

  /** Collects garbage as needed; false if the table is full (Linux neigh_alloc, neigh_periodic_work). */
  private makeRoom(nowNs: Ns): boolean {
    if (this.count < GC_THRESH1) return true;
    if (nowNs - this.lastGcNs >= GC_INTERVAL_NS) {
      this.lastGcNs = nowNs;
      this.collect(nowNs - this.env.sysctl.gcStaletime * SECOND, this.count);
    }
    if (this.count < GC_THRESH2) return true;
    const pauseNs = this.count < GC_THRESH3 ? FORCED_GC_INTERVAL_NS : FULL_GC_INTERVAL_NS;
    if (nowNs - this.lastForcedGcNs >= pauseNs) {
      this.lastForcedGcNs = nowNs;
      this.collect(nowNs - FORCED_GC_AGE_NS, this.count - GC_THRESH2 + 1);
    }
    return this.count < GC_THRESH3;
  }

  /**
   * Forgets up to `most` entries, oldest first, that failed or have gone stale and were not used since `sinceNs`. Those
   * that are known to be there stay, however many come that are not.
   */
  private collect(sinceNs: Ns, most: number): void {
    let left = most;
    for (const neighbour of this.all()) {
      const { state } = neighbour;
      const isOld = state === NudState.stale && Math.max(neighbour.usedNs, neighbour.updatedNs) <= sinceNs;
      if (!isOld && state !== NudState.failed && state !== NudState.none) continue;
      if (neighbour.waiting > 0) continue;
      this.forget(neighbour);
      if (--left === 0) return;
    }
  }

  private forget(neighbour: Neighbour): void {
    this.byDevice[neighbour.dev.ifindex].delete(neighbour.ip);
    this.count--;
    neighbour.dead = true;
    this.env.timers.forget(neighbour.timer);
    neighbour.state = NudState.failed;
    for (let skb = takeWaiting(neighbour); skb !== null; skb = takeWaiting(neighbour)) {
      this.env.drops.drop(skb, DropReason.neighFailed);
    }
  }
}

function takeWaiting(neighbour: Neighbour): SkBuff | null {
  const skb = neighbour.waitingFirst;
  if (skb === null) return null;
  neighbour.waitingFirst = skb.next;
  if (skb.next === null) neighbour.waitingLast = null;
  skb.next = null;
  neighbour.waiting--;
  return skb;
}

function send(neighbour: Neighbour, skb: SkBuff, etherType: number): number {
  const { dev } = neighbour;
  const at = skb.push(ethernet.HEADER_LEN);
  skb.mac = at;
  ethernet.writeHeader(skb.bytes, skb.view, at, neighbour.mac, 0, dev.device.mac, 0, etherType);
  return dev.transmit(skb);
}

function macEqual(a: Uint8Array, b: Uint8Array, at: number): boolean {
  for (let i = 0; i < 6; i++) if (a[i] !== b[at + i]) return false;
  return true;
}
