/**
 * All network devices of one host, `lo` first, with the softirq and the receiver they share.
 */
import { Loopback } from "../device/loopback.ts";
import type { Device } from "../device/port.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { type LinkRow, LOOPBACK_IFINDEX, NetDevice } from "./net-device.ts";
import { NoQueue } from "./noqueue.ts";
import { DEFAULT_TX_QUEUE_LEN, PfifoFast } from "./pfifo-fast.ts";
import type { Qdisc, QdiscRow } from "./qdisc.ts";
import { FrameReceiver } from "./receive.ts";
import { Softirq } from "./softirq.ts";

export type { Device };

export interface NicOptions {
  /** Default: pfifo_fast of `txQueueLen`. */
  readonly qdisc?: Qdisc;
  /** Frames per band; default 1000. */
  readonly txQueueLen?: number;
}

/** As a line of /proc/net/softnet_stat, in numbers. */
export interface SoftnetRow {
  readonly cpu: number;
  readonly processed: number;
  /** Frames the backlog refused (net.core.netdev_max_backlog). */
  readonly dropped: number;
  readonly timeSqueeze: number;
}

export class DeviceTable {
  readonly softirq: Softirq;
  readonly receiver: FrameReceiver;
  readonly lo: NetDevice;
  /** By ifindex − 1. */
  readonly devices: NetDevice[] = [];
  private readonly env: HostEnv;

  constructor(env: HostEnv) {
    this.env = env;
    this.softirq = new Softirq(env);
    this.receiver = new FrameReceiver(env);
    this.lo = new NetDevice(env, new Loopback(env), this.softirq, this.receiver, {
      ifindex: LOOPBACK_IFINDEX,
      qdisc: new NoQueue(),
      isLoopback: true,
    });
    this.devices.push(this.lo);
  }

  /** Registers a device, up, under the next free ifindex. */
  add(device: Device, options: NicOptions = {}): NetDevice {
    const txQueueLen = options.txQueueLen ?? DEFAULT_TX_QUEUE_LEN;
    const dev = new NetDevice(this.env, device, this.softirq, this.receiver, {
      ifindex: this.devices.length + 1,
      qdisc: options.qdisc ?? new PfifoFast(txQueueLen),
      txQueueLen,
    });
    this.devices.push(dev);
    return dev;
  }

  /** The device of that name. */
  find(name: string): NetDevice | undefined {
    return this.devices.find((dev) => dev.name === name);
  }

  /** As `ip -s link`. */
  links(): LinkRow[] {
    return this.devices.map((dev) => dev.stats());
  }

  /** As `tc -s qdisc`. */
  qdiscs(): QdiscRow[] {
    return this.devices.map((dev) => dev.qdiscRow());
  }

  /** As /proc/net/softnet_stat. */
  softnet(): SoftnetRow {
    const { processed, timeSqueeze } = this.softirq.stat;
    return { cpu: 0, processed, dropped: this.lo.device.stats.rxDropped, timeSqueeze };
  }

  /** Every frame devices and qdiscs own is dropped, every slot given back. */
  close(): void {
    for (const dev of this.devices) dev.close();
    this.softirq.close();
  }
}
