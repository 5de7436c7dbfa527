/**
 * The floors from device to network of one host, put together: what a composition calls once per host.
 *
 *   const net = new NetFloor(env);
 *   net.addNic(new Nic(env, "eth0", { mac }), "10.0.0.2/24");
 *   net.ip.addRoute({ destination: "default", via });
 */
import { assert } from "../base/assert.ts";
import { type Device, DeviceTable, type NicOptions, type SoftnetRow } from "../netdev/device-table.ts";
import type { LinkRow, NetDevice } from "../netdev/net-device.ts";
import type { QdiscRow } from "../netdev/qdisc.ts";
import type { FrameReceiver } from "../netdev/receive.ts";
import type { Softirq } from "../netdev/softirq.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { Ip } from "./ip-layer.ts";

export class NetFloor {
  readonly ip: Ip;
  private readonly table: DeviceTable;

  constructor(env: HostEnv) {
    this.table = new DeviceTable(env);
    this.ip = new Ip(env, this.table.receiver, this.table.lo);
  }

  get softirq(): Softirq {
    return this.table.softirq;
  }

  get receiver(): FrameReceiver {
    return this.table.receiver;
  }

  get lo(): NetDevice {
    return this.table.lo;
  }

  /** `lo` first, then in the order they were added. */
  get devices(): readonly NetDevice[] {
    return this.table.devices;
  }

  /** Registers a device, up, with an address ("10.0.0.2/24") if given. */
  addNic(device: Device, cidr?: string, options: NicOptions = {}): NetDevice {
    const dev = this.table.add(device, options);
    this.ip.addDevice(dev);
    if (cidr !== undefined) {
      const error = this.ip.addAddress(dev.ifindex, cidr);
      assert(error === 0, `"${cidr}" is not an address and prefix such as 10.0.0.2/24`);
    }
    return dev;
  }

  /** The device of that name. */
  device(name: string): NetDevice | undefined {
    return this.table.find(name);
  }

  /** As `ip -s link`. */
  links(): LinkRow[] {
    return this.table.links();
  }

  /** As `tc -s qdisc`. */
  qdiscs(): QdiscRow[] {
    return this.table.qdiscs();
  }

  /** As /proc/net/softnet_stat. */
  softnet(): SoftnetRow {
    return this.table.softnet();
  }

  /** Shuts down: every frame these floors own is dropped, every slot given back. */
  close(): void {
    this.ip.close();
    this.table.close();
  }
}
