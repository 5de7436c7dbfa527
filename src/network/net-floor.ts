/**
 * The floors from device to network of one host, put together: what a composition calls once per host.
 *
 *   const net = new NetFloor(env);
 *   net.addNic(new Nic(env, "eth0", { mac }), "10.0.0.2/24");
 *   net.ip.addRoute({ destination: "default", via });
 */
import { assert } from "../base/assert.ts";
import { Loopback } from "../device/loopback.ts";
import type { Device } from "../device/port.ts";
import { type LinkRow, LOOPBACK_IFINDEX, NetDevice } from "../netdev/net-device.ts";
import { NoQueue } from "../netdev/noqueue.ts";
import { DEFAULT_TX_QUEUE_LEN, PfifoFast } from "../netdev/pfifo-fast.ts";
import type { Qdisc, QdiscRow } from "../netdev/qdisc.ts";
import { FrameReceiver } from "../netdev/receive.ts";
import { Softirq } from "../netdev/softirq.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { Ip } from "./ip-layer.ts";

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

export class NetFloor {
  readonly softirq: Softirq;
  readonly receiver: FrameReceiver;
  readonly lo: NetDevice;
  readonly ip: Ip;
  readonly devices: NetDevice[] = [];
  private readonly env: HostEnv;
  private readonly loopback: Loopback;

  constructor(env: HostEnv) {
    this.env = env;
    this.softirq = new Softirq(env);
    this.receiver = new FrameReceiver(env);
    this.loopback = new Loopback(env);
    this.lo = new NetDevice(env, this.loopback, this.softirq, this.receiver, {
      ifindex: LOOPBACK_IFINDEX,
      qdisc: new NoQueue(),
      isLoopback: true,
    });
    this.devices.push(this.lo);
    this.ip = new Ip(env, this.receiver, this.lo);
  }

  /** Registers a device, up, with an address ("10.0.0.2/24") if given. The next free ifindex is its own. */
  addNic(device: Device, cidr?: string, options: NicOptions = {}): NetDevice {
    const txQueueLen = options.txQueueLen ?? DEFAULT_TX_QUEUE_LEN;
    const dev = new NetDevice(this.env, device, this.softirq, this.receiver, {
      ifindex: this.devices.length + 1,
      qdisc: options.qdisc ?? new PfifoFast(txQueueLen),
      txQueueLen,
    });
    this.devices.push(dev);
    this.ip.addDevice(dev);
    if (cidr !== undefined) {
      const error = this.ip.addAddress(dev.ifindex, cidr);
      assert(error === 0, `"${cidr}" is not an address and prefix such as 10.0.0.2/24`);
    }
    return dev;
  }

  /** The device of that name. */
  device(name: string): NetDevice | undefined {
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
    return { cpu: 0, processed, dropped: this.loopback.stats.rxDropped, timeSqueeze };
  }

  /** Shuts down: every frame these floors own is dropped, every slot given back. */
  close(): void {
    this.ip.close();
    for (const dev of this.devices) dev.close();
    this.softirq.close();
  }
}
