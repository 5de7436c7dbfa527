/**
 * A registered network interface (Linux net_device): a device under an index and a name, with its qdisc and NAPI.
 *
 * Addresses are not known here; they live in `network`.
 */
import { DropReason } from "../base/drop-reasons.ts";
import type { Device } from "../device/port.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import { devQueueXmit } from "./dev-queue-xmit.ts";
import { Napi } from "./napi.ts";
import { DEFAULT_TX_QUEUE_LEN } from "./pfifo-fast.ts";
import type { Qdisc, QdiscRow } from "./qdisc.ts";
import type { FrameReceiver } from "./receive.ts";
import type { Softirq } from "./softirq.ts";

/** ifindex of `lo` on every host. */
export const LOOPBACK_IFINDEX = 1;

/** One interface as `ip -s link` shows it. */
export interface LinkRow {
  readonly ifindex: number;
  readonly name: string;
  readonly state: "UP" | "DOWN";
  readonly mac: string;
  readonly mtu: number;
  readonly qdisc: string;
  readonly txQueueLen: number;
  readonly rx: {
    readonly bytes: number;
    readonly packets: number;
    readonly errors: number;
    readonly dropped: number;
    readonly missed: number;
  };
  readonly tx: {
    readonly bytes: number;
    readonly packets: number;
    readonly errors: number;
    readonly dropped: number;
  };
  /** `ethtool -S` and `-g`: interrupts, polls that used their budget, descriptors in use and in all. */
  readonly interrupts: number;
  readonly fullPolls: number;
  readonly rxRing: { readonly used: number; readonly size: number };
  readonly txRing: { readonly used: number; readonly size: number };
}

/**
 * Sees every frame that passes a device, before anything is checked (Linux packet_type of ETH_P_ALL: what tcpdump
 * opens). *Borrows* the skb: `data` is the Ethernet header.
 */
export type FrameTap = (outgoing: boolean, skb: SkBuff) => void;

export interface NetDeviceOptions {
  readonly ifindex: number;
  readonly qdisc: Qdisc;
  readonly txQueueLen?: number;
  /** No link-layer addresses: `lo`. */
  readonly isLoopback?: boolean;
}

export class NetDevice {
  readonly env: HostEnv;
  readonly ifindex: number;
  readonly name: string;
  readonly device: Device;
  readonly softirq: Softirq;
  readonly isLoopback: boolean;
  readonly txQueueLen: number;
  /** Largest IP packet in bytes. */
  readonly mtu: number;
  qdisc: Qdisc;
  isUp = true;
  /** Frames netdev itself dropped, in addition to the device's own counts. */
  rxDropped = 0;
  txDropped = 0;
  /** Super-segments cut because the device takes none (or none so large). */
  superSegmentsCut = 0;
  /** @internal marks of the softirq's lists. */
  transmitScheduled = false;
  flushPending = false;
  /** @internal a frame with an id went to the device since the last doorbell. */
  hasTracedFrame = false;
  /** Replaced as a whole, so that a tap may remove itself while it is called. */
  private taps: readonly FrameTap[] = [];
  private readonly napi: Napi;

  /** Registers with the softirq and the receiver, and turns the device's interrupts on. */
  constructor(env: HostEnv, device: Device, softirq: Softirq, receiver: FrameReceiver, options: NetDeviceOptions) {
    this.env = env;
    this.ifindex = options.ifindex;
    this.name = device.name;
    this.device = device;
    this.softirq = softirq;
    this.isLoopback = options.isLoopback ?? false;
    this.txQueueLen = options.txQueueLen ?? DEFAULT_TX_QUEUE_LEN;
    this.mtu = device.mtu;
    this.qdisc = options.qdisc;
    this.napi = new Napi(env, device, softirq, this.isLoopback, (skb) => receiver.receive(skb, this));
    device.onTransmitSpace = () => softirq.scheduleTransmit(this);
    this.napi.complete();
  }

  /** Sends a complete frame. *Takes* the skb; 0 or -errno. */
  transmit(skb: SkBuff): number {
    return devQueueXmit(this, skb);
  }

  /** Installs a tap; the returned function removes it. */
  addTap(tap: FrameTap): () => void {
    this.taps = [...this.taps, tap];
    return () => {
      this.taps = this.taps.filter((other) => other !== tap);
    };
  }

  /** Shows a frame to the taps. *Borrows* the skb. */
  show(outgoing: boolean, skb: SkBuff): void {
    for (let i = 0; i < this.taps.length; i++) this.taps[i](outgoing, skb);
  }

  /** Rings the doorbell: at once, or at the end of the poll if a softirq runs (one doorbell per batch). */
  flush(): void {
    if (this.softirq.running) this.softirq.deferFlush(this);
    else this.ringDoorbell();
  }

  /** Rings the doorbell now. */
  ringDoorbell(): void {
    // A doorbell is a context switch worth a fresh reading, but only for a frame whose way is recorded (law 6).
    if (this.hasTracedFrame) {
      this.hasTracedFrame = false;
      this.env.clock.tick();
    }
    this.device.flush();
  }

  /** `ip link set … up|down`. Going down empties the qdisc. */
  setUp(up: boolean): void {
    this.isUp = up;
    if (up) return;
    for (let skb = this.qdisc.dequeue(); skb !== null; skb = this.qdisc.dequeue()) {
      this.txDropped++;
      this.env.drops.drop(skb, DropReason.devReady);
    }
  }

  /** Down for good: the qdisc and the device drop what they hold. */
  close(): void {
    this.setUp(false);
    this.device.close();
  }

  /** The row of `ip -s link`. */
  stats(): LinkRow {
    const { device, qdisc } = this;
    const { stats, rxRing, txRing } = device;
    return {
      ifindex: this.ifindex,
      name: this.name,
      state: this.isUp ? "UP" : "DOWN",
      mac: Array.from(device.mac, (octet) => octet.toString(16).padStart(2, "0")).join(":"),
      mtu: this.mtu,
      qdisc: qdisc.kind,
      txQueueLen: this.txQueueLen,
      rx: {
        bytes: stats.rxBytes,
        packets: stats.rxPackets,
        errors: stats.rxErrors,
        dropped: stats.rxDropped + this.rxDropped,
        missed: stats.rxMissed,
      },
      tx: {
        bytes: stats.txBytes,
        packets: stats.txPackets,
        errors: stats.txErrors,
        dropped: stats.txDropped + this.txDropped,
      },
      interrupts: stats.interrupts,
      fullPolls: stats.fullPolls,
      rxRing: { used: rxRing.used, size: rxRing.size },
      txRing: { used: txRing.used, size: txRing.size },
    };
  }

  /** The row of `tc -s qdisc`. */
  qdiscRow(): QdiscRow {
    const { qdisc } = this;
    return { ...qdisc.stats, kind: qdisc.kind, dev: this.name, length: qdisc.length, backlogBytes: qdisc.backlogBytes };
  }
}
