/**
 * `lo`: what is transmitted is received (Linux drivers/net/loopback.c).
 *
 * Its queue is the CPU's input backlog of Linux (`netif_rx`, `enqueue_to_backlog`): a frame is refused when the queue
 * holds *more* than net.core.netdev_max_backlog, so one more than the limit fits. An skb passes through as it is; only
 * what the sending half knew of it is forgotten. It never leaves the host: checksums are neither made nor checked.
 */
import { DropReason } from "../base/drop-reasons.ts";
import { Point } from "../base/tracepoints.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { PacketType, type SkBuff } from "../skb/skb.ts";
import { ETHERNET_HEADER_BYTES, emptyDeviceStats } from "./frame.ts";
import type { Device, DeviceCapabilities } from "./port.ts";

/** MTU of `lo` in bytes. */
export const LOOPBACK_MTU = 65536;

export class Loopback implements Device {
  readonly name = "lo";
  readonly mac = new Uint8Array(6);
  readonly mtu = LOOPBACK_MTU;
  readonly capabilities: DeviceCapabilities = {
    checksum: true,
    maxFrameBytes: LOOPBACK_MTU + ETHERNET_HEADER_BYTES,
    gsoMaxBytes: 0,
    arrivalTimes: true,
  };
  readonly stats = emptyDeviceStats();
  /** The backlog; its size is the limit of the moment. */
  readonly rxRing: { readonly used: number; readonly size: number };
  /** Nothing waits to be sent. */
  readonly txRing = { used: 0, size: 1 } as const;
  onInterrupt: () => void = () => {};
  onTransmitSpace: () => void = () => {};

  private readonly env: HostEnv;
  private first: SkBuff | null = null;
  private last: SkBuff | null = null;
  private queued = 0;
  /** How many of them the doorbell has announced. */
  private announced = 0;
  private interruptsOn = true;
  private closed = false;

  constructor(env: HostEnv) {
    this.env = env;
    const used = () => this.queued;
    this.rxRing = {
      get used() {
        return used();
      },
      get size() {
        return env.sysctl.netdevMaxBacklog + 1;
      },
    };
  }

  /** Always takes: a full backlog drops the frame, as `netif_rx` does. */
  transmit(skb: SkBuff): boolean {
    const { env, stats } = this;
    if (this.closed || this.queued > env.sysctl.netdevMaxBacklog) {
      stats.rxDropped++;
      env.drops.drop(skb, this.closed ? DropReason.devReady : DropReason.cpuBacklog);
      return true;
    }
    stats.txPackets++;
    stats.txBytes += skb.len;
    if (skb.id !== 0) env.trace.stamp(Point.transmitted, skb.id, env.clock.nowNs, this.queued);
    forgetSender(skb);
    skb.arrivedNs = env.clock.nowNs;
    if (this.last === null) this.first = skb;
    else this.last.next = skb;
    this.last = skb;
    this.queued++;
    return true;
  }

  flush(): void {
    this.announced = this.queued;
    this.interrupt();
  }

  receive(budget: number, sink: (skb: SkBuff) => void): number {
    let taken = 0;
    while (taken < budget && this.announced > 0) {
      const skb = this.first as SkBuff;
      this.first = skb.next;
      if (this.first === null) this.last = null;
      skb.next = null;
      this.queued--;
      this.announced--;
      skb.polledNs = this.env.clock.nowNs;
      this.stats.rxPackets++;
      this.stats.rxBytes += skb.len;
      taken++;
      sink(skb);
    }
    if (taken === budget) this.stats.fullPolls++;
    return taken;
  }

  enableInterrupts(): void {
    this.interruptsOn = true;
    this.interrupt();
  }

  close(): void {
    this.closed = true;
    this.announced = 0;
    while (this.first !== null) {
      const skb: SkBuff = this.first;
      this.first = skb.next;
      skb.next = null;
      this.queued--;
      this.stats.rxDropped++;
      this.env.drops.drop(skb, DropReason.devReady);
    }
    this.last = null;
  }

  private interrupt(): void {
    if (!this.interruptsOn || this.announced === 0 || this.closed) return;
    this.interruptsOn = false;
    this.stats.interrupts++;
    this.onInterrupt();
  }
}

/** The skb starts a new life as a received frame. Its checksum mark stays: a partial sum never left the host. */
function forgetSender(skb: SkBuff): void {
  skb.mac = skb.net = skb.transport = 0;
  skb.id = 0;
  skb.packetType = PacketType.host;
  skb.hash = skb.priority = skb.scratch = 0;
  skb.enqueuedNs = skb.postedNs = 0;
  skb.seq = skb.seqEnd = 0;
}
