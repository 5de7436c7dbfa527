/**
 * NAPI: the first frame interrupts, the rest is polled (Linux napi_struct).
 *
 * Interrupts are off from the first one until a poll finds less than its weight; so load turns interrupts into polling.
 */
import { Cost } from "../base/time.ts";
import type { Device } from "../device/port.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuff } from "../skb/skb.ts";
import type { Softirq } from "./softirq.ts";

/** Frames per poll (Linux NAPI_POLL_WEIGHT). */
export const NAPI_WEIGHT = 64;

export class Napi {
  private readonly env: HostEnv;
  private readonly device: Device;
  private readonly softirq: Softirq;
  private readonly sink: (skb: SkBuff) => void;
  /** The per-CPU backlog (`lo`) has its own weight, net.core.dev_weight. */
  private readonly isBacklog: boolean;
  private scheduled = false;

  /** `sink` *takes* each frame. Installs itself as the device's interrupt handler. */
  constructor(env: HostEnv, device: Device, softirq: Softirq, isBacklog: boolean, sink: (skb: SkBuff) => void) {
    this.env = env;
    this.device = device;
    this.softirq = softirq;
    this.isBacklog = isBacklog;
    this.sink = sink;
    device.onInterrupt = () => this.interrupt();
  }

  get weight(): number {
    return this.isBacklog ? this.env.sysctl.devWeight : NAPI_WEIGHT;
  }

  /** Takes up to `budget` frames; returns how many. */
  poll(budget: number): number {
    return this.device.receive(budget, this.sink);
  }

  /** The ring is empty: back to interrupts. They may come at once. */
  complete(): void {
    this.scheduled = false;
    this.device.enableInterrupts();
  }

  private interrupt(): void {
    this.env.clock.charge(Cost.irq, 1);
    if (this.scheduled) return;
    this.scheduled = true;
    this.softirq.schedule(this);
  }
}
