/**
 * A cable between two NICs, in memory: delay, rate, loss, and the other things wires do.
 *
 *   a ── carry() ─► [serialise] ─ delay ± jitter ─► FlightQueue ── timer of b's host ─► b.arrive()
 *
 * Arrival = departure + serialisation + delay, exact to the nanosecond. The frame's slot travels: the sender's skb is
 * freed, the wire owns the slot, the receiver's ring takes it. Every random decision is drawn from the link's own
 * generator in order of departure, so a run repeats.
 *
 * A corrupted frame has one bit flipped beyond the reach of the frame check sequence (a bad buffer in a switch), so
 * that the checksums of IP, TCP, UDP and ICMP have something to catch. ARP has no checksum: there the wire's own check
 * catches it (`linkCorrupt`).
 */
import { assert } from "../base/assert.ts";
import { DropReason } from "../base/drop-reasons.ts";
import type { Prng } from "../base/prng.ts";
import type { Ns } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { type SkBuff, Summed } from "../skb/skb.ts";
import { FlightQueue } from "./flight-queue.ts";
import { ETHER_TYPE_ARP, ETHER_TYPE_OFFSET, ETHERNET_HEADER_BYTES, traceDrop } from "./frame.ts";
import { checkLinkSettings, DEFAULT_LINK_SETTINGS, type LinkSettings, type SettingsError } from "./link-settings.ts";
import type { Nic, Wire } from "./nic.ts";

/** 0: from the first NIC to the second; 1: back. */
export type LinkDirection = 0 | 1;

/**
 * Sees every frame as it departs. *Borrows* the bytes: `len` at `at`. `lost` says it will not arrive.
 */
export type LinkTap = (
  direction: LinkDirection,
  bytes: Uint8Array,
  at: number,
  len: number,
  nowNs: Ns,
  lost: boolean,
) => void;

/** Says true to lose this one frame: a fault that is meant for it. *Borrows* the bytes. */
export type LinkFilter = (direction: LinkDirection, bytes: Uint8Array, at: number, len: number) => boolean;

/** Who looks at the frames of a link. Replaced as a whole, so that a tap may remove itself while it is called. */
interface Onlookers {
  taps: readonly LinkTap[];
  filter: LinkFilter | null;
}

export interface LinkStats {
  /** Frames and bytes that departed. */
  sentFrames: number;
  sentBytes: number;
  /** Frames handed to the receiving NIC (its ring may still have been full). */
  arrivedFrames: number;
  /** Lost by chance, by a link that is down, or by an MTU or in-flight limit. */
  lostFrames: number;
  /** Of these, by the in-flight limit. */
  overLimitFrames: number;
  duplicatedFrames: number;
  corruptedFrames: number;
  reorderedFrames: number;
}

/** Frames that land before the host gets a turn: what one interrupt coalesces. */
const LAND_BUDGET = 32;

export class WireLink {
  readonly name: string;
  readonly ends: readonly [Nic, Nic];
  private readonly directions: readonly [OneWay, OneWay];
  private readonly onlookers: Onlookers = { taps: [], filter: null };

  /** Plugs the cable into both cards. They must share an arena: a frame's slot travels. */
  constructor(name: string, a: Nic, b: Nic, prng: Prng, settings: Partial<LinkSettings> = {}) {
    assert(a.env.pool.arena === b.env.pool.arena, "both ends of a memory link share one arena");
    this.name = name;
    this.ends = [a, b];
    const full = { ...DEFAULT_LINK_SETTINGS, ...settings };
    this.directions = [
      new OneWay(0, a, b, prng.fork(), full, this.onlookers),
      new OneWay(1, b, a, prng.fork(), full, this.onlookers),
    ];
    a.attach(this.directions[0]);
    b.attach(this.directions[1]);
  }

  /** Changes settings at run time, in one direction or both. Frames already in flight are not touched. */
  set(change: Partial<LinkSettings>, direction?: LinkDirection): SettingsError | null {
    const chosen = direction === undefined ? this.directions : [this.directions[direction]];
    for (const way of chosen) {
      const error = checkLinkSettings({ ...way.settings, ...change });
      if (error !== null) return error;
    }
    for (const way of chosen) way.change({ ...way.settings, ...change });
    return null;
  }

  settings(direction: LinkDirection): LinkSettings {
    return this.directions[direction].settings;
  }

  stats(direction: LinkDirection): Readonly<LinkStats> {
    return this.directions[direction].stats;
  }

  /** Frames on the way. */
  inFlight(direction: LinkDirection): number {
    return this.directions[direction].inFlight;
  }

  /** Installs a tap; the returned function removes it (a tap may do that itself). */
  addTap(tap: LinkTap): () => void {
    this.onlookers.taps = [...this.onlookers.taps, tap];
    return () => {
      this.onlookers.taps = this.onlookers.taps.filter((other) => other !== tap);
    };
  }

  /** Loses every frame `filter` says true to; null loses none. */
  loseWhen(filter: LinkFilter | null): void {
    this.onlookers.filter = filter;
  }

  /** Unplugs: frames in flight are lost. */
  close(): void {
    for (const way of this.directions) way.close();
  }
}

/** One direction. */
class OneWay implements Wire {
  freeNs: Ns = 0;
  damages: boolean;
  settings: LinkSettings;
  readonly stats: LinkStats = {
    sentFrames: 0,
    sentBytes: 0,
    arrivedFrames: 0,
    lostFrames: 0,
    overLimitFrames: 0,
    duplicatedFrames: 0,
    corruptedFrames: 0,
    reorderedFrames: 0,
  };
  private readonly direction: LinkDirection;
  private readonly from: Nic;
  private readonly to: Nic;
  private readonly prng: Prng;
  private readonly onlookers: Onlookers;
  private readonly flight = new FlightQueue();
  private readonly timer = new Timer((nowNs) => this.land(nowNs));

  constructor(direction: LinkDirection, from: Nic, to: Nic, prng: Prng, settings: LinkSettings, onlookers: Onlookers) {
    this.direction = direction;
    this.from = from;
    this.to = to;
    this.prng = prng;
    this.settings = settings;
    this.damages = settings.corrupt > 0;
    this.onlookers = onlookers;
  }

  get inFlight(): number {
    return this.flight.length;
  }

  change(settings: LinkSettings): void {
    const { nowNs } = this.from.env.clock;
    const oldRate = this.settings.rateBitsPerSecond;
    const newRate = settings.rateBitsPerSecond;
    this.settings = settings;
    this.damages = settings.corrupt > 0;
    if (oldRate === newRate) return;
    if (this.freeNs > nowNs && oldRate > 0) {
      // The rest of the frame on the wire goes at the new rate; its own arrival was settled when it departed.
      this.freeNs = newRate === 0 ? nowNs : nowNs + Math.round(((this.freeNs - nowNs) * oldRate) / newRate);
    }
    this.from.wireChanged(nowNs);
  }

  carry(skb: SkBuff, departNs: Ns): void {
    const { settings, stats, from, prng } = this;
    const len = skb.len;
    const rate = settings.rateBitsPerSecond;
    const serialisedNs = rate === 0 ? departNs : departNs + Math.round((len * 8e9) / rate);
    this.freeNs = serialisedNs;
    stats.sentFrames++;
    stats.sentBytes += len;
    const lost = this.loses(skb, len);
    for (const tap of this.onlookers.taps) tap(this.direction, skb.bytes, skb.data, len, departNs, lost);
    if (lost) {
      this.lose(skb, settings.mtu > 0 && len > settings.mtu + ETHERNET_HEADER_BYTES);
      return;
    }
    if (settings.duplicate > 0 && prng.chance(settings.duplicate)) this.duplicate(skb, serialisedNs);
    const damaged = settings.corrupt > 0 && prng.chance(settings.corrupt) && this.corrupt(skb);
    const { head, data, summed } = skb;
    from.env.pool.releaseKeepingSlot(skb);
    this.send(this.arrivalNs(serialisedNs), head, data - head, len, summed, damaged);
  }

  /** Decides, in a fixed order of draws, whether the frame arrives at all. */
  private loses(skb: SkBuff, len: number): boolean {
    const { settings, prng } = this;
    const unlucky = settings.loss > 0 && prng.chance(settings.loss);
    if (unlucky || settings.down) return true;
    if (this.onlookers.filter?.(this.direction, skb.bytes, skb.data, len)) return true;
    if (settings.mtu > 0 && len > settings.mtu + ETHERNET_HEADER_BYTES) return true;
    if (this.flight.length < settings.limit) return false;
    this.stats.overLimitFrames++;
    return true;
  }

  /** *Takes* the skb. Counted where it is missing, at the receiver; told to the sender, who knows its id. */
  private lose(skb: SkBuff, tooBig: boolean): void {
    const { env } = this.from;
    const reason = tooBig ? DropReason.pktTooBig : DropReason.linkLoss;
    this.stats.lostFrames++;
    this.to.env.drops.count(reason);
    if (skb.id !== 0) traceDrop(env.trace, skb.id, reason, skb.bytes, skb.data, skb.len);
    env.pool.release(skb);
  }

  private arrivalNs(serialisedNs: Ns): Ns {
    const { delayNs, jitterNs, reorder } = this.settings;
    if (reorder > 0 && this.prng.chance(reorder)) {
      this.stats.reorderedFrames++;
      return serialisedNs;
    }
    if (jitterNs === 0) return serialisedNs + delayNs;
    const wander = this.prng.below(2 * jitterNs + 1) - jitterNs;
    return serialisedNs + Math.max(0, delayNs + wander);
  }

  private duplicate(skb: SkBuff, serialisedNs: Ns): void {
    const { arena } = skb;
    const size = arena.slotSize(skb.head);
    const copy = arena.alloc(size);
    if (copy === 0) return;
    const offset = skb.data - skb.head;
    // The slot may be of a larger class if its own was empty; the frame fits either way.
    arena.bytes.copyWithin(copy + offset, skb.data, skb.tail);
    this.stats.duplicatedFrames++;
    this.send(this.arrivalNs(serialisedNs), copy, offset, skb.len, skb.summed, false);
  }

  /** Flips a bit behind the Ethernet header. True if the frame check sequence will catch it. */
  private corrupt(skb: SkBuff): boolean {
    this.stats.corruptedFrames++;
    const payload = skb.len - ETHERNET_HEADER_BYTES;
    if (payload <= 0) return true;
    const at = skb.data + ETHERNET_HEADER_BYTES + this.prng.below(payload);
    const bit = 1 << this.prng.below(8);
    // What no checksum protects must not slip through: ARP, and frames that left before the wire began to damage.
    if (skb.summed !== Summed.none || skb.view.getUint16(skb.data + ETHER_TYPE_OFFSET) === ETHER_TYPE_ARP) return true;
    skb.bytes[at] ^= bit;
    return false;
  }

  private send(atNs: Ns, slot: number, offset: number, len: number, summed: Summed, damaged: boolean): void {
    const { flight } = this;
    flight.insert(atNs, slot, offset, len, summed, damaged);
    if (flight.nextNs !== this.timer.deadlineNs) this.to.env.timers.arm(this.timer, flight.nextNs);
  }

  /**
   * Hands over frames whose time has come, each with its exact time of arrival. A burst lands in portions, so that the
   * interrupt of one is served before the next: frames of an infinitely fast wire land at one instant.
   */
  private land(nowNs: Ns): void {
    const { flight, to, stats } = this;
    for (let budget = LAND_BUDGET; budget > 0 && flight.length > 0 && flight.nextNs <= nowNs; budget--) {
      const atNs = flight.nextNs;
      const { slot, offset, len, summed, damaged } = flight;
      flight.shift();
      stats.arrivedFrames++;
      if (damaged) this.dropDamaged(slot, offset, len);
      else to.arrive(slot, offset, len, summed, atNs);
    }
    if (flight.length > 0) to.env.timers.arm(this.timer, flight.nextNs);
  }

  private dropDamaged(slot: number, offset: number, len: number): void {
    const { env, stats } = this.to;
    stats.rxErrors++;
    env.drops.count(DropReason.linkCorrupt);
    const { arena } = env.pool;
    if (env.trace.mask !== -1) {
      traceDrop(env.trace, env.nextFrameId(), DropReason.linkCorrupt, arena.bytes, slot + offset, len);
    }
    arena.release(slot);
  }

  close(): void {
    const { flight, to } = this;
    to.env.timers.cancel(this.timer);
    for (; flight.length > 0; flight.shift()) {
      this.stats.lostFrames++;
      to.env.drops.count(DropReason.linkLoss);
      to.env.pool.arena.release(flight.slot);
    }
  }
}
