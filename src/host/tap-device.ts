/**
 * A TAP as a Device: each read of its descriptor is a frame from the kernel, each write one to it.
 *
 *   kernel ── queue of the tap ──► poll() reads one ahead ─ interrupt ─► NAPI: receive() reads until nothing is left
 *   kernel ◄── one write each ◄── flush() ◄── TX ring ◄── transmit()
 *
 * The RX ring is the kernel's: what is not read waits there, and the kernel drops what finds it full. Every frame has a
 * virtio header in front, in the headroom of its slot, so that a read or write moves both at once. Frames are read into
 * a 64 KB slot; those that fit a smaller one are copied there (one copy of 1.5 KB instead of 62 KB of idle memory), and
 * super-segments keep the slot (law 3).
 *
 * A read that finds nothing costs as much as a poll(2), so none is made to learn what is known: when `receive` has just
 * emptied the queue, `enableInterrupts` does not look again. Nothing is lost by that: whoever turns the kernel polls
 * once more, or sleeps on the descriptor itself, which stays readable until it is read (level-triggered).
 */
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { Ring } from "../base/ring.ts";
import { MILLISECOND, type Ns } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { Point } from "../base/tracepoints.ts";
import { ETHERNET_HEADER_BYTES, emptyDeviceStats } from "../device/frame.ts";
import type { Device, DeviceCapabilities } from "../device/port.ts";
import { FRAME_SLOT, PAGE_SLOT } from "../skb/arena.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import { type FrameFd, HostFrameFd } from "./frame-fd.ts";
import type { PollSource } from "./kernel-machine.ts";
import { readVirtioHeader, VIRTIO_NET_HEADER_BYTES, writeVirtioHeader } from "./virtio-net-header.ts";

/** Frames the TX ring holds. The kernel takes them at once, so it fills only while the kernel refuses. */
const TX_RING_SIZE = 256;
/** When to look again after the kernel, or the arena, had no memory. */
const RETRY_NS: Ns = MILLISECOND;
/** Most frames `close` takes out of the kernel's queue to drop them by name (a tap's txqueuelen). */
const CLOSE_BUDGET = 1000;

export interface TapDeviceOptions {
  /** A TAP of this process (`openTap`). *Taken*. */
  readonly fd: number;
  readonly name: string;
  /** Our side's address, 6 bytes; not the one of the kernel's interface. */
  readonly mac: Uint8Array;
  /** Largest IP packet in bytes; the interface's. */
  readonly mtu: number;
}

export class TapDevice implements Device, PollSource {
  readonly name: string;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly capabilities: DeviceCapabilities;
  readonly stats = emptyDeviceStats();
  readonly rxRing: { readonly used: number; readonly size: number };
  readonly txRing: { readonly used: number; readonly size: number };
  onInterrupt: () => void = () => {};
  onTransmitSpace: () => void = () => {};

  private readonly env: HostEnv;
  private readonly frames: FrameFd;
  /** Closed by us, or gone: its interface was deleted. */
  private state: "open" | "gone" | "closed" = "open";
  private interruptsOn = true;
  /** The posted 64 KB slot; 0 while memory is out. */
  private slot = 0;
  /** Bytes of the frame in it that was read ahead, header included; 0: none. */
  private aheadBytes = 0;
  /** The last read found nothing, and it was in this turn. */
  private isEmptied = false;
  private readonly sending = new Ring<SkBuff>(TX_RING_SIZE);
  /** Frames at the head of the TX ring whose doorbell was rung. */
  private rung = 0;
  /** True since the TX ring was full. */
  private isStopped = false;
  private readonly retryTimer = new Timer(() => this.retry());

  constructor(env: HostEnv, options: TapDeviceOptions, frames: FrameFd = new HostFrameFd(options.fd, env.pool.arena)) {
    this.env = env;
    this.frames = frames;
    this.name = options.name;
    this.mac = options.mac.slice();
    this.mtu = options.mtu;
    this.capabilities = {
      checksum: true,
      maxFrameBytes: this.mtu + ETHERNET_HEADER_BYTES,
      gsoMaxBytes: PAGE_SLOT - VIRTIO_NET_HEADER_BYTES,
      arrivalTimes: false,
    };
    const ahead = () => (this.aheadBytes > 0 ? 1 : 0);
    const sending = this.sending;
    this.rxRing = {
      get used() {
        return ahead();
      },
      size: 1,
    };
    this.txRing = {
      get used() {
        return sending.length;
      },
      size: TX_RING_SIZE,
    };
  }

  /** What to sleep on; -1 while that would be no sleep: it is gone, or there is no memory to read into. */
  get fd(): number {
    const canRead = this.slot !== 0 || !this.retryTimer.armed;
    return this.state === "open" && canRead ? this.frames.fd : -1;
  }

  /** True once the interface was deleted under us: it will never carry a frame again. */
  get isGone(): boolean {
    return this.state === "gone";
  }

  // ── receive ───────────────────────────────────────────────────────────────────────────────────────────────────

  poll(): boolean {
    this.isEmptied = false;
    if (!this.interruptsOn || !this.readAhead()) return false;
    this.raise();
    return true;
  }

  receive(budget: number, sink: (skb: SkBuff) => void): number {
    let work = 0;
    while (work < budget && this.readAhead()) {
      work++;
      const skb = this.take();
      if (skb !== null) sink(skb);
    }
    if (work === budget) this.stats.fullPolls++;
    return work;
  }

  enableInterrupts(): void {
    this.interruptsOn = true;
    if (this.aheadBytes > 0 || (!this.isEmptied && this.readAhead())) this.raise();
  }

  private raise(): void {
    this.interruptsOn = false;
    this.stats.interrupts++;
    this.onInterrupt();
  }

  /** True if a frame lies in the posted slot: from before, or read now. */
  private readAhead(): boolean {
    if (this.aheadBytes > 0) return true;
    if (this.state !== "open") return false;
    if (this.slot === 0) this.slot = this.env.pool.arena.alloc(PAGE_SLOT);
    if (this.slot === 0) {
      this.retryLater();
      return false;
    }
    const result = this.frames.read(this.slot, PAGE_SLOT);
    if (result > 0) {
      this.aheadBytes = result;
      return true;
    }
    this.isEmptied = true;
    if (result === 0 || isFatal(-result)) this.lose();
    else if (result !== -Errno.EAGAIN && result !== -Errno.EINTR) this.stats.rxErrors++;
    return false;
  }

  /** The frame read ahead, as an skb; null if it was dropped. */
  private take(): SkBuff | null {
    const { env, stats } = this;
    const { arena } = env.pool;
    const bytes = this.aheadBytes;
    let { slot } = this;
    this.aheadBytes = 0;
    if (bytes < VIRTIO_NET_HEADER_BYTES || bytes > PAGE_SLOT) {
      stats.rxErrors++;
      env.drops.count(DropReason.devHdr);
      return null;
    }
    stats.rxPackets++;
    stats.rxBytes += bytes - VIRTIO_NET_HEADER_BYTES;
    if (bytes <= FRAME_SLOT) {
      slot = arena.alloc(bytes);
      if (slot === 0) {
        stats.rxDropped++;
        env.drops.count(DropReason.noMem);
        return null;
      }
      arena.bytes.copyWithin(slot, this.slot, this.slot + bytes);
    } else {
      this.slot = 0;
    }
    const skb = env.pool.wrap(slot, VIRTIO_NET_HEADER_BYTES, bytes - VIRTIO_NET_HEADER_BYTES);
    skb.arrivedNs = skb.polledNs = env.clock.nowNs;
    if (readVirtioHeader(skb)) return skb;
    stats.rxErrors++;
    env.drops.drop(skb, DropReason.devHdr);
    return null;
  }

  // ── transmit ──────────────────────────────────────────────────────────────────────────────────────────────────

  transmit(skb: SkBuff): boolean {
    const { env, stats } = this;
    if (this.state !== "open") {
      stats.txDropped++;
      env.drops.drop(skb, DropReason.devReady);
      return true;
    }
    const { maxFrameBytes, gsoMaxBytes } = this.capabilities;
    if (skb.len > (skb.gsoSize > 0 ? gsoMaxBytes : maxFrameBytes) || !makeHeadroom(skb)) {
      stats.txErrors++;
      env.drops.drop(skb, DropReason.pktTooBig);
      return true;
    }
    if (!this.sending.push(skb)) {
      this.isStopped = true;
      return false;
    }
    writeVirtioHeader(skb);
    skb.postedNs = env.clock.nowNs;
    if (this.sending.length === TX_RING_SIZE) this.isStopped = true;
    return true;
  }

  flush(): void {
    this.rung = this.sending.length;
    this.send();
  }

  /** Hands rung frames to the kernel until there are none or it has no room. */
  private send(): void {
    const { sending } = this;
    while (this.rung > 0) {
      const skb = sending.peek() as SkBuff;
      const at = skb.data - VIRTIO_NET_HEADER_BYTES;
      const result = this.frames.write(at, skb.tail - at);
      if (result === -Errno.EAGAIN || result === -Errno.ENOBUFS) {
        this.retryLater();
        break;
      }
      sending.shift();
      this.rung--;
      this.sent(skb, result);
    }
    if (this.isStopped && sending.length < TX_RING_SIZE) {
      this.isStopped = false;
      this.onTransmitSpace();
    }
  }

  /** *Takes* an skb the kernel has taken, or refused for good: EIO says that its interface is down. */
  private sent(skb: SkBuff, result: number): void {
    const { env, stats } = this;
    if (result >= 0) {
      if (skb.id !== 0) env.trace.stamp(Point.transmitted, skb.id, skb.postedNs, this.sending.length + 1);
      stats.txPackets++;
      stats.txBytes += skb.len;
      env.pool.release(skb);
      return;
    }
    if (isFatal(-result)) this.lose();
    if (this.isGone || result === -Errno.EIO) {
      stats.txDropped++;
      env.drops.drop(skb, DropReason.devReady);
    } else {
      stats.txErrors++;
      env.drops.drop(skb, DropReason.notSpecified);
    }
  }

  // ── trouble and end ───────────────────────────────────────────────────────────────────────────────────────────

  private retryLater(): void {
    const { timers, clock } = this.env;
    if (!this.retryTimer.armed) timers.arm(this.retryTimer, clock.nowNs + RETRY_NS);
  }

  private retry(): void {
    this.send();
    this.poll();
  }

  /** The interface was deleted. */
  private lose(): void {
    this.state = "gone";
    this.dropPosted();
  }

  close(): void {
    if (this.state === "closed") return;
    // What the kernel has queued for us would vanish with the descriptor: drop it by name.
    for (let left = CLOSE_BUDGET; left > 0 && this.readAhead(); left--) {
      this.aheadBytes = 0;
      this.stats.rxDropped++;
      this.env.drops.count(DropReason.devReady);
    }
    this.state = "closed";
    this.dropPosted();
    if (this.slot !== 0) this.env.pool.arena.release(this.slot);
    this.slot = 0;
    this.frames.close();
  }

  private dropPosted(): void {
    this.env.timers.cancel(this.retryTimer);
    this.rung = 0;
    for (let skb = this.sending.shift(); skb !== undefined; skb = this.sending.shift()) {
      this.stats.txDropped++;
      this.env.drops.drop(skb, DropReason.devReady);
    }
  }
}

/** What a descriptor answers whose interface is no more. */
function isFatal(errno: number): boolean {
  return errno === Errno.EBADFD || errno === Errno.EBADF || errno === Errno.ENODEV;
}

/** Room for the virtio header in front (Linux skb_cow_head). A frame that came in by another device may have none. */
function makeHeadroom(skb: SkBuff): boolean {
  const missing = skb.head + VIRTIO_NET_HEADER_BYTES - skb.data;
  if (missing <= 0) return true;
  if (skb.end - skb.tail < missing) return false;
  skb.bytes.copyWithin(skb.data + missing, skb.data, skb.tail);
  skb.data += missing;
  skb.tail += missing;
  skb.mac += missing;
  skb.net += missing;
  skb.transport += missing;
  return true;
}
