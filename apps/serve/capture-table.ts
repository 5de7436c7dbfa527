/**
 * Captures under way, where the kernel runs: taps on the wires and devices of a host. Frames wait in a batch until the
 * control plane fetches them.
 *
 * A NIC on a simulated wire is tapped at the wire, where frames have their exact times of departure and where they get
 * lost; any other device (a TAP, a stream socket, `lo`) at the device, as tcpdump does.
 */
import type { WireLink } from "../../src/device/wire-link.ts";
import { ControlError } from "../../src/host/kernel-machine.ts";
import type { NetDevice } from "../../src/netdev/net-device.ts";
import { Summed } from "../../src/skb/skb.ts";
import type { Topology } from "../../src/topology.ts";
import { FrameBatch, FrameFlag } from "./frame-batch.ts";

/** Bytes one capture may hold until they are fetched; more frames are left out and counted. */
const CAPTURE_LIMIT_BYTES = 16 * 1024 * 1024;
/** Captures at one time. */
const MAX_CAPTURES = 8;

interface Capture {
  readonly batch: FrameBatch;
  readonly untap: (() => void)[];
}

/** What a capture has begun with: interfaces in the order of their numbers. */
export interface CaptureStarted {
  readonly id: number;
  readonly interfaces: readonly { readonly name: string; readonly description: string }[];
}

export class CaptureTable {
  private readonly topology: Topology;
  private readonly captures = new Map<number, Capture>();
  private ids = 0;

  constructor(topology: Topology) {
    this.topology = topology;
  }

  /** Answers `captureStart`, `captureTake` and `captureStop`; undefined for other methods. */
  control(method: string, params: Record<string, unknown>): unknown {
    switch (method) {
      case "captureStart":
        return this.start(String(params["host"]), params["dev"] as string | undefined);
      case "captureTake":
        return this.captures.get(Number(params["id"]))?.batch.take() ?? new Uint8Array(0);
      case "captureStop":
        return this.stop(Number(params["id"]));
      default:
        return undefined;
    }
  }

  /** Taps the device of that name, or every device of the host but `lo`. */
  private start(hostName: string, dev: string | undefined): CaptureStarted {
    if (this.captures.size >= MAX_CAPTURES) {
      throw new ControlError({
        error: "too many captures",
        why: `${MAX_CAPTURES} are running`,
        next: "stop one of them",
      });
    }
    const host = this.topology.host(hostName);
    const devices = host.net.devices.filter((each) => (dev === undefined ? !each.isLoopback : each.name === dev));
    const capture: Capture = { batch: new FrameBatch(CAPTURE_LIMIT_BYTES), untap: [] };
    const interfaces = devices.map((device, iface) => {
      const link = this.topology.links.find((each) => each.ends.some((nic) => nic === device.device));
      capture.untap.push(link ? tapLink(capture.batch, iface, link, device) : tapDevice(capture.batch, iface, device));
      const description = link ? `${hostName} on ${link.name}` : `${hostName}, at the device`;
      return { name: link?.name ?? device.name, description };
    });
    const id = ++this.ids;
    this.captures.set(id, capture);
    return { id, interfaces };
  }

  private stop(id: number): Uint8Array {
    const capture = this.captures.get(id);
    for (const untap of capture?.untap ?? []) untap();
    this.captures.delete(id);
    return capture?.batch.take() ?? new Uint8Array(0);
  }
}

function tapLink(batch: FrameBatch, iface: number, link: WireLink, { device }: NetDevice): () => void {
  return link.addTap((direction, bytes, at, len, nowNs, lost) => {
    const outbound = link.ends[direction] === device ? FrameFlag.outbound : 0;
    batch.add(iface, outbound | (lost ? FrameFlag.lost : 0), nowNs, bytes, at, len);
  });
}

function tapDevice(batch: FrameBatch, iface: number, dev: NetDevice): () => void {
  return dev.addTap((outgoing, skb) => {
    const partial = skb.summed === Summed.partial ? FrameFlag.partial : 0;
    const outbound = outgoing ? FrameFlag.outbound : 0;
    const atNs = outgoing ? dev.env.clock.nowNs : skb.arrivedNs;
    batch.add(iface, outbound | partial, atNs, skb.bytes, skb.data, skb.len);
  });
}
