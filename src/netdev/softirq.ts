/**
 * The softirq of one CPU: NET_TX and NET_RX (Linux kernel/softirq.c, net_rx_action).
 *
 *   interrupt ─► schedule(napi) ─► pending ─► run(): poll 64 frames, next device, … until idle, budget or time is spent
 *
 * It runs as a timer of the host, armed for when the host's CPU is free (`Clock.freeNs`). In virtual time that CPU may
 * be busy past the event that raised the interrupt: then the softirq waits while DMA goes on. When the budget is spent
 * with work left, it is armed again behind everything else that is due (what ksoftirqd is for): other work gets a turn.
 */
import { assert } from "../base/assert.ts";
import { Ring } from "../base/ring.ts";
import { Timer } from "../base/timers.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { runQdisc } from "./dev-queue-xmit.ts";
import type { Napi } from "./napi.ts";
import type { NetDevice } from "./net-device.ts";

/** As /proc/net/softnet_stat; `dropped` there is the backlog's and counted by `lo`. */
export interface SoftnetStat {
  /** Frames taken out of device rings. */
  processed: number;
  /** Runs that ended with work left because netdev_budget or netdev_budget_usecs was spent. */
  timeSqueeze: number;
  /** Runs of the softirq. */
  runs: number;
}

/** Most devices of one host. */
const MAX_DEVICES = 1024;

export class Softirq {
  readonly stat: SoftnetStat = { processed: 0, timeSqueeze: 0, runs: 0 };
  /** True while the softirq is on the CPU. */
  running = false;

  private readonly env: HostEnv;
  private readonly pollList = new Ring<Napi>(MAX_DEVICES);
  private readonly transmitList = new Ring<NetDevice>(MAX_DEVICES);
  private readonly flushList = new Ring<NetDevice>(MAX_DEVICES);
  private readonly timer = new Timer(() => this.run());

  constructor(env: HostEnv) {
    this.env = env;
  }

  /** Puts a device's NAPI on the poll list (NET_RX). It must not be there already. */
  schedule(napi: Napi): void {
    assert(this.pollList.push(napi), "more devices than a host can have");
    this.raise();
  }

  /** A device has room to send again: run its qdisc (NET_TX). */
  scheduleTransmit(dev: NetDevice): void {
    if (dev.transmitScheduled) return;
    dev.transmitScheduled = true;
    assert(this.transmitList.push(dev), "more devices than a host can have");
    this.raise();
  }

  /** Frames were posted during this softirq: ring the device's doorbell once, at the end of the poll. */
  deferFlush(dev: NetDevice): void {
    if (dev.flushPending) return;
    dev.flushPending = true;
    assert(this.flushList.push(dev), "more devices than a host can have");
  }

  /** Nothing is scheduled and nothing runs. */
  get isIdle(): boolean {
    return !this.running && !this.timer.armed;
  }

  /** Forgets what is scheduled: the host is shut down. */
  close(): void {
    this.env.timers.cancel(this.timer);
    this.pollList.clear();
    this.transmitList.clear();
  }

  private raise(): void {
    if (!this.running && !this.timer.armed) this.env.timers.arm(this.timer, this.env.clock.freeNs);
  }

  private run(): void {
    const { clock } = this.env;
    clock.tick();
    this.running = true;
    this.stat.runs++;
    this.transmitAction();
    this.receiveAction();
    this.flush();
    this.running = false;
    clock.tick();
    // ksoftirqd: behind everything else that is due now.
    if (this.pollList.length > 0 || this.transmitList.length > 0) this.env.timers.arm(this.timer, clock.nowNs);
  }

  /** Linux net_tx_action: each scheduled device once. */
  private transmitAction(): void {
    for (let left = this.transmitList.length; left > 0; left--) {
      const dev = this.transmitList.shift() as NetDevice;
      dev.transmitScheduled = false;
      runQdisc(dev);
    }
  }

  /**
   * Linux net_rx_action. A device that used its whole weight goes to the end of the list. (Linux leaves after one round
   * and __do_softirq restarts it; here the rounds are one run under one budget.)
   */
  private receiveAction(): void {
    const { clock, sysctl } = this.env;
    const untilNs = clock.nowNs + sysctl.netdevBudgetUsecs * 1e3;
    let budget = sysctl.netdevBudget;
    for (let napi = this.pollList.shift(); napi !== undefined; napi = this.pollList.shift()) {
      const { weight } = napi;
      const work = napi.poll(weight);
      this.stat.processed += work;
      budget -= work;
      this.flush();
      if (work >= weight) this.pollList.push(napi);
      else napi.complete();
      // For the next device; the first has the reading of the softirq's start.
      if (this.pollList.length > 0) clock.tick();
      if (this.pollList.length > 0 && (budget <= 0 || clock.nowNs >= untilNs)) {
        this.stat.timeSqueeze++;
        return;
      }
    }
  }

  private flush(): void {
    for (let dev = this.flushList.shift(); dev !== undefined; dev = this.flushList.shift()) {
      dev.flushPending = false;
      dev.ringDoorbell();
    }
  }
}
