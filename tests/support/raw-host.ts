/**
 * A hostile host without a kernel: it says what it is told, frame by frame, from whatever address, and answers ARP for
 * every address of its network, so that the answers to spoofed frames come back to it.
 *
 * ```ts
 * const raw = RawHost.unplugged(arena, "198.18.0.0/16");
 * const topology = new Topology(spec, { …, arena, openDevice: (env, nic) => raw.plug(env, nic.name) });
 * const sim = new Sim(together(topology, raw));
 * raw.send(tcpFrame(raw.ends, { from: "198.18.7.7", fromPort: 1, to: "198.18.0.1", toPort: 80, flags: tcp.Flag.syn }));
 * raw.flood({ count: 100_000, everyNs: 1000, frame: (n) => … });
 * ```
 * In place of the cable it can sit behind any other device: `new RawHost(env, device, network, peerMac)`.
 */
import { parseCidr } from "../../src/base/address.ts";
import { MICROSECOND, NEVER, type Ns } from "../../src/base/time.ts";
import { Timer } from "../../src/base/timers.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";
import { Nic } from "../../src/device/nic.ts";
import type { Device } from "../../src/device/port.ts";
import { WireLink } from "../../src/device/wire-link.ts";
import type { Machine } from "../../src/sim/sim.ts";
import type { Arena } from "../../src/skb/arena.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import * as arp from "../../src/wire/arp.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import { makeEnv } from "../conformance/lan.ts";
import { type Answer, type Ends, readAnswer } from "./raw-frames.ts";

/** Answers kept for the test to look at; older ones are forgotten, but counted. */
const KEPT_FRAMES = 1000;
/** Posted receive slots are the victim's memory too; what waits to be sent is only what a flood has made. */
const RX_RING_SIZE = 256;
const TX_RING_SIZE = 4096;
/** A card that was full is tried again after so long. */
const RETRY_NS: Ns = 10 * MICROSECOND;
const MAC = new Uint8Array([2, 0xba, 0xd0, 0, 0, 1]);

/** A stream of frames made as they are sent. */
export interface FloodPlan {
  /** Makes frame number `n`, from 0. */
  readonly frame: (n: number) => Uint8Array;
  readonly count: number;
  /** Time between two bursts; default 0: as fast as the card takes them. */
  readonly everyNs?: Ns;
  /** Frames at one moment; default 1. */
  readonly burst?: number;
  /** Virtual time of the first burst; default now. */
  readonly startNs?: Ns;
}

export interface Flood {
  /** Frames handed to the card so far. */
  readonly sent: number;
  readonly isOver: boolean;
  stop(): void;
}

export class RawHost implements Machine {
  readonly env: HostEnv;
  /** What came besides ARP, oldest first, the last 1000. */
  readonly received: Uint8Array[] = [];
  readonly counts = { sent: 0, received: 0, arpReplies: 0 };
  /** Sees each frame that came besides ARP, at its arrival: for answers that must follow at once. */
  onFrame: (frame: Uint8Array) => void = () => {};
  link: WireLink | null = null;
  readonly device: Device;
  private readonly mask: number;
  private readonly network: number;
  private peerMac: Uint8Array;

  /** A host behind `device` (of `env`). Throws RangeError if `network` is none. */
  constructor(env: HostEnv, device: Device, network: string, peerMac: Uint8Array = ethernet.BROADCAST_MAC) {
    const cidr = parseCidr(network);
    if (cidr === undefined) throw new RangeError(`"${network}" is no network, such as 198.18.0.0/16`);
    this.env = env;
    this.device = device;
    this.peerMac = peerMac.slice();
    this.mask = cidr.prefix === 0 ? 0 : -1 << (32 - cidr.prefix);
    this.network = cidr.address.w3 & this.mask;
    device.onInterrupt = () => this.listen();
    device.enableInterrupts();
  }

  /** A host with a card that waits for its cable (`plug`). It shares `arena` with the victim: frames' slots travel. */
  static unplugged(arena: Arena, network: string, seed = 1): RawHost {
    const env = makeEnv("raw", arena, seed);
    const card = new Nic(env, "raw0", { mac: MAC, rxRingSize: RX_RING_SIZE, txRingSize: TX_RING_SIZE });
    return new RawHost(env, card, network);
  }

  /** Makes the victim's card (for `TopologyOptions.openDevice`) and a cable to it. */
  plug(victim: HostEnv, name: string, settings: Partial<LinkSettings> = {}): Nic {
    const nic = new Nic(victim, name, { mac: new Uint8Array([2, 0, 0, 0, 0, 1]) });
    this.link = new WireLink(`raw-${victim.name}`, this.device as Nic, nic, this.env.prng, settings);
    this.peerMac = nic.mac;
    return nic;
  }

  /** MAC addresses for the makers of frames: from here to the victim. */
  get ends(): Ends {
    return { fromMac: ethernet.formatMac(this.device.mac), toMac: ethernet.formatMac(this.peerMac) };
  }

  /** Sends frames at once; returns how many the card took (its ring holds 4096). */
  send(...frames: readonly Uint8Array[]): number {
    let taken = 0;
    while (taken < frames.length && this.post(frames[taken] as Uint8Array)) taken++;
    this.device.flush();
    return taken;
  }

  /** Sends many frames over virtual time. A card that is full slows the flood down and loses none of it. */
  flood({ frame, count, everyNs = 0, burst = 1, startNs = this.env.clock.nowNs }: FloodPlan): Flood {
    const { env } = this;
    const state = { sent: 0, isOver: count === 0, stop: () => end() };
    const timer = new Timer((nowNs) => {
      const until = Math.min(state.sent + burst, count);
      while (state.sent < until && this.post(frame(state.sent))) state.sent++;
      this.device.flush();
      if (state.sent === count) end();
      else env.timers.arm(timer, nowNs + Math.max(everyNs, state.sent < until ? RETRY_NS : 1));
    });
    const end = (): void => {
      state.isOver = true;
      env.timers.cancel(timer);
    };
    if (count > 0) env.timers.arm(timer, startNs);
    return state;
  }

  /** The answers kept, read, oldest first. */
  answers(): Answer[] {
    return this.received.map(readAnswer).filter((answer) => answer !== null);
  }

  deadline(): Ns {
    return this.env.timers.deadline();
  }

  advance(nowNs: Ns): void {
    const { clock, timers } = this.env;
    for (let due = timers.deadline(); due !== NEVER && due <= nowNs; due = timers.deadline()) {
      clock.nowNs = Math.max(clock.nowNs, due);
      timers.fireOne(due);
    }
    clock.nowNs = Math.max(clock.nowNs, nowNs);
  }

  close(): void {
    this.link?.close();
    this.device.close();
  }

  /** The card's interrupt: all that came is heard, at once. */
  private listen(): void {
    this.device.receive(Number.POSITIVE_INFINITY, (skb) => {
      const frame = skb.bytes.slice(skb.data, skb.tail);
      this.env.drops.consume(skb);
      this.hear(frame);
    });
    this.device.flush();
    this.device.enableInterrupts();
  }

  private post(frame: Uint8Array): boolean {
    const { pool } = this.env;
    const skb = pool.alloc(frame.length);
    if (skb === null) return false;
    skb.bytes.set(frame, skb.put(frame.length));
    if (!this.device.transmit(skb)) {
      pool.release(skb);
      return false;
    }
    this.counts.sent++;
    return true;
  }

  private hear(frame: Uint8Array): void {
    const view = new DataView(frame.buffer);
    const at = ethernet.HEADER_LEN;
    if (frame.length >= at && ethernet.etherType(view, 0) === ethernet.EtherType.arp) {
      if (arp.check(view, at, frame.length) === 0) this.answerArp(arp.parse(frame, at));
      return;
    }
    this.counts.received++;
    this.received.push(frame);
    if (this.received.length > KEPT_FRAMES) this.received.shift();
    this.onFrame(frame);
  }

  /** Every address of the network is here, except the one that asks. */
  private answerArp({ operation, senderMac, senderIp, targetIp }: arp.Repr): void {
    const isOurs = (targetIp & this.mask) === this.network && targetIp !== senderIp;
    if (operation !== arp.Operation.request || !isOurs) return;
    const { fromMac } = this.ends;
    const reply = { operation: arp.Operation.reply, senderMac: fromMac, senderIp: targetIp };
    const payload = arp.emit({ ...reply, targetMac: senderMac, targetIp: senderIp });
    const frame = ethernet.emit({ src: fromMac, dst: senderMac, etherType: ethernet.EtherType.arp, payload });
    if (this.post(frame)) this.counts.arpReplies++;
  }
}

/** Several machines under one virtual time (`new Sim(together(topology, raw))`). */
export function together(...machines: readonly Machine[]): Machine {
  return {
    deadline: () => Math.min(...machines.map((machine) => machine.deadline())),
    advance(nowNs) {
      for (const machine of machines) machine.advance(nowNs);
    },
    get resumptions() {
      return machines.reduce((sum, { resumptions = 0 }) => sum + resumptions, 0);
    },
  };
}
