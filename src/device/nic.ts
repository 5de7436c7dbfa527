/**
 * A network card: an RX and a TX descriptor ring, DMA into the arena, an interrupt with coalescing. @hot
 *
 *   wire ──► arrive() ─ DMA ─► RX ring ─ interrupt (coalesced) ─► NAPI: receive() takes, posts empty slots
 *   wire ◄── pump() ◄── TX ring ◄── transmit() … flush() rings the doorbell
 *
 * It knows frames and slots, nothing of IP. The wire is whatever implements `Wire`: a memory link, or a test.
 *
 * Received frames are DMAed into 2 KB slots that were posted beforehand. On a memory link the frame already lies in an
 * arena slot, which the wire owns; copying it into the posted slot would burn CPU for work that a real card does beside
 * the CPU. So the two slots are *exchanged*: the descriptor takes the frame's slot, the posted one goes back to the
 * arena. What the model keeps: a frame needs a posted descriptor, and posting needs free memory. What it loses: a frame
 * keeps the slot size of its sender (256 B for a bare ACK), so received memory is what was sent, not 2 KB each.
 */
import { assert } from "../base/assert.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { NEVER, type Ns } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { Point } from "../base/tracepoints.ts";
import { FRAME_SLOT } from "../skb/arena.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff, Summed } from "../skb/skb.ts";
import { DEFAULT_RING_SIZE, DescriptorRing } from "./descriptor-ring.ts";
import { ETHERNET_HEADER_BYTES, emptyDeviceStats, traceDrop } from "./frame.ts";
import type { Device, DeviceCapabilities, DeviceStats } from "./port.ts";

/** What a Nic sends into. One direction of a cable. */
export interface Wire {
  /** From when on it can take the next frame; NEVER when nobody knows. */
  readonly freeNs: Ns;
  /** True if it may damage frames: then no checksum may be skipped. */
  readonly damages: boolean;
  /** The frame departs at `departNs` (≥ `freeNs`). *Takes* the skb. */
  carry(skb: SkBuff, departNs: Ns): void;
}

/** Where frames go while no cable is plugged in: nowhere, and the sender is told nothing (Linux: NO-CARRIER). */
class Unplugged implements Wire {
  readonly freeNs = 0;
  readonly damages = false;
  private readonly env: HostEnv;

  constructor(env: HostEnv) {
    this.env = env;
  }

  carry(skb: SkBuff): void {
    this.env.drops.drop(skb, DropReason.devReady);
  }
}

/** Interrupt coalescing, as `ethtool -C` sets it. */
export interface Coalescing {
  /** Longest time in µs between a frame's arrival and the interrupt; 0 = at once. */
  readonly rxUsecs: number;
  /** Interrupt as soon as so many frames wait. */
  readonly rxFrames: number;
}

/** `ethtool -C` default of this card. Drivers differ; small and not adaptive, so that a run is easy to predict. */
export const DEFAULT_COALESCING: Coalescing = { rxUsecs: 3, rxFrames: 32 };

export interface NicOptions {
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Largest IP packet in bytes; default 1500. */
  readonly mtu?: number;
  /** Descriptors, 64 to 8192; default 256 (`ethtool -g`). */
  readonly rxRingSize?: number;
  readonly txRingSize?: number;
  readonly coalescing?: Coalescing;
  /**
   * Frames may leave with an unfinished checksum and arrive as verified: sums are skipped on a wire that cannot damage
   * anything. Off by default: a ring model is a real edge, its frames and captures are complete.
   */
  readonly checksumOffload?: boolean;
}

const DEFAULT_MTU = 1500;

export class Nic implements Device {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly stats: DeviceStats = emptyDeviceStats();
  readonly capabilities: DeviceCapabilities;
  readonly rxRing: DescriptorRing;
  readonly txRing: DescriptorRing;
  onInterrupt: () => void = () => {};
  onTransmitSpace: () => void = () => {};
  coalescing: Coalescing;

  /** The host this card is plugged into. */
  readonly env: HostEnv;
  private wire: Wire;
  private closed = false;
  /** RX descriptors without a posted slot because memory was out; they stand just before `rxRing.head`. */
  private unposted = 0;
  private interruptsOn = true;
  /** Frames that arrived since the last interrupt. */
  private pendingFrames = 0;
  /** The skb behind each TX descriptor, for completion. */
  private readonly txSkbs: (SkBuff | null)[];
  /** Frames at the head of the TX ring whose doorbell was rung. */
  private txRung = 0;
  /** True since the TX ring was full: tell netdev when there is room. */
  private txStopped = false;
  private readonly coalesceTimer = new Timer(() => this.raise());
  private readonly wireTimer = new Timer((nowNs) => this.pump(nowNs, 0));

  constructor(env: HostEnv, name: string, options: NicOptions) {
    assert(options.mac.length === 6, "a MAC address has 6 bytes");
    this.env = env;
    this.name = name;
    this.mac = options.mac.slice();
    this.mtu = options.mtu ?? DEFAULT_MTU;
    this.coalescing = options.coalescing ?? DEFAULT_COALESCING;
    this.rxRing = new DescriptorRing(options.rxRingSize ?? DEFAULT_RING_SIZE);
    this.txRing = new DescriptorRing(options.txRingSize ?? DEFAULT_RING_SIZE);
    this.txSkbs = new Array<SkBuff | null>(this.txRing.size).fill(null);
    this.wire = new Unplugged(env);
    const offload = options.checksumOffload ?? false;
    const wireDamages = () => this.wire.damages;
    this.capabilities = {
      get checksum() {
        return offload && !wireDamages();
      },
      maxFrameBytes: this.mtu + ETHERNET_HEADER_BYTES,
      gsoMaxBytes: 0,
      arrivalTimes: true,
    };
    this.unposted = this.rxRing.size;
    this.post();
  }

  /** Slots in the RX ring: posted empty ones and frames not yet taken. */
  get rxSlots(): number {
    return this.rxRing.size - this.unposted;
  }

  /** Plugs the cable in. */
  attach(wire: Wire): void {
    this.wire = wire;
    this.pump(this.env.clock.nowNs, this.env.clock.nowNs);
  }

  // ── receive ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The last bit of a frame is here: DMA. *Takes* the slot (`len` bytes at `offset`); `summed` is what the wire vouches
   * for. False: no free descriptor, the frame is gone (counted).
   */
  arrive(slot: number, offset: number, len: number, summed: Summed, atNs: Ns): boolean {
    const ring = this.rxRing;
    const { arena } = this.env.pool;
    // Memory was out when the last descriptor was used up: nobody will poll before a frame has come.
    if (ring.used + this.unposted === ring.size) this.post();
    const at = ring.tail;
    if (this.closed || ring.used + this.unposted === ring.size) {
      this.miss(slot + offset, len);
      arena.release(slot);
      return false;
    }
    arena.release(ring.address[at]);
    ring.address[at] = slot;
    ring.offset[at] = offset;
    ring.length[at] = len;
    ring.status[at] = summed;
    ring.timeNs[at] = atNs;
    ring.produce();
    this.stats.rxPackets++;
    this.stats.rxBytes += len;
    this.pendingFrames++;
    this.coalesce(atNs);
    return true;
  }

  receive(budget: number, sink: (skb: SkBuff) => void): number {
    const { rxRing: ring, env } = this;
    if (this.unposted > 0) this.post();
    let taken = 0;
    while (taken < budget && ring.used > 0) {
      const at = ring.head;
      const skb = env.pool.wrap(ring.address[at], ring.offset[at], ring.length[at]);
      skb.summed = ring.status[at] as Summed;
      skb.arrivedNs = ring.timeNs[at];
      skb.polledNs = env.clock.nowNs;
      ring.address[at] = 0;
      ring.consume();
      this.unposted++;
      this.post();
      taken++;
      sink(skb);
    }
    if (taken === budget) this.stats.fullPolls++;
    return taken;
  }

  enableInterrupts(): void {
    this.interruptsOn = true;
    if (this.rxRing.used > 0) this.raise();
    else this.pendingFrames = 0;
  }

  /** Decides whether the frame that came at `atNs` interrupts now or later. */
  private coalesce(atNs: Ns): void {
    if (!this.interruptsOn) return;
    const { rxUsecs, rxFrames } = this.coalescing;
    if (rxUsecs === 0 || this.pendingFrames >= rxFrames) this.raise();
    else if (!this.coalesceTimer.armed) this.env.timers.arm(this.coalesceTimer, atNs + rxUsecs * 1e3);
  }

  private raise(): void {
    this.env.timers.cancel(this.coalesceTimer);
    if (!this.interruptsOn || this.closed) return;
    this.interruptsOn = false;
    this.pendingFrames = 0;
    this.stats.interrupts++;
    this.onInterrupt();
  }

  /** No free descriptor: the frame is lost and only counters know. */
  private miss(frameAt: number, len: number): void {
    const { env } = this;
    const reason = this.closed ? DropReason.devReady : DropReason.fullRing;
    if (this.closed) this.stats.rxDropped++;
    else this.stats.rxMissed++;
    env.drops.count(reason);
    if (env.trace.mask !== -1) {
      traceDrop(env.trace, env.nextFrameId(), reason, env.pool.arena.bytes, frameAt, len);
    }
  }

  /** Posts empty 2 KB slots in the descriptors that have none, oldest first; stops when memory is out. */
  private post(): void {
    const ring = this.rxRing;
    while (this.unposted > 0 && !this.closed) {
      const slot = this.env.pool.arena.alloc(FRAME_SLOT);
      if (slot === 0) return;
      let at = ring.head - this.unposted;
      if (at < 0) at += ring.size;
      ring.address[at] = slot;
      this.unposted--;
    }
  }

  // ── transmit ──────────────────────────────────────────────────────────────────────────────────────────────────

  transmit(skb: SkBuff): boolean {
    const { txRing: ring, env } = this;
    if (this.closed) {
      this.stats.txDropped++;
      env.drops.drop(skb, DropReason.devReady);
      return true;
    }
    if (skb.len > this.capabilities.maxFrameBytes) {
      this.stats.txErrors++;
      env.drops.drop(skb, DropReason.pktTooBig);
      return true;
    }
    if (ring.used === ring.size) {
      this.txStopped = true;
      return false;
    }
    const at = ring.tail;
    ring.address[at] = skb.head;
    ring.offset[at] = skb.data - skb.head;
    ring.length[at] = skb.len;
    ring.status[at] = skb.summed;
    this.txSkbs[at] = skb;
    skb.postedNs = env.clock.nowNs;
    ring.produce();
    if (ring.used === ring.size) this.txStopped = true;
    return true;
  }

  flush(): void {
    const { nowNs } = this.env.clock;
    // Frames whose doorbell rang earlier wait for the wire: they leave when it is free, the new ones not before now.
    this.pump(nowNs, 0);
    this.txRung = this.txRing.used;
    this.pump(nowNs, nowNs);
  }

  /** The wire's rate changed: look again when it is free. */
  wireChanged(nowNs: Ns): void {
    this.env.timers.cancel(this.wireTimer);
    this.pump(nowNs, 0);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    const { env } = this;
    env.timers.cancel(this.wireTimer);
    env.timers.cancel(this.coalesceTimer);
    for (const ring = this.txRing; ring.used > 0; ring.consume()) {
      const skb = this.txSkbs[ring.head] as SkBuff;
      this.txSkbs[ring.head] = null;
      this.stats.txDropped++;
      env.drops.drop(skb, DropReason.devReady);
    }
    this.txRung = 0;
    for (const ring = this.rxRing; ring.used > 0; ring.consume()) {
      const skb = env.pool.wrap(ring.address[ring.head], ring.offset[ring.head], ring.length[ring.head]);
      ring.address[ring.head] = 0;
      this.stats.rxDropped++;
      env.drops.drop(skb, DropReason.devReady);
    }
    for (let i = 0; i < this.rxRing.size; i++) {
      if (this.rxRing.address[i] !== 0) env.pool.arena.release(this.rxRing.address[i]);
      this.rxRing.address[i] = 0;
    }
    this.unposted = this.rxRing.size;
  }

  /**
   * Moves frames from the TX ring to the wire while it is free: the card's own work, no CPU of the host. `floorNs` is
   * the earliest departure. A frame leaves at the exact time the wire is free, however late this is called.
   */
  private pump(nowNs: Ns, floorNs: Ns): void {
    const { txRing: ring, wire, env } = this;
    while (this.txRung > 0) {
      const { freeNs } = wire;
      if (freeNs > nowNs) {
        if (freeNs !== NEVER) env.timers.arm(this.wireTimer, freeNs);
        break;
      }
      const at = ring.head;
      const skb = this.txSkbs[at] as SkBuff;
      if (skb.id !== 0) env.trace.stamp(Point.transmitted, skb.id, skb.postedNs, ring.used);
      this.txSkbs[at] = null;
      ring.consume();
      this.txRung--;
      this.stats.txPackets++;
      this.stats.txBytes += skb.len;
      wire.carry(skb, freeNs > floorNs ? freeNs : floorNs);
    }
    if (this.txStopped && ring.used < ring.size) {
      this.txStopped = false;
      this.onTransmitSpace();
    }
  }
}
