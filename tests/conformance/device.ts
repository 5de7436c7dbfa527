/**
 * The conformance suite of the Device port: every driver runs it.
 *
 * A driver brings a `DeviceBench`: the device under test, a way to make frames arrive at it, and a way to see what it
 * sent. Devices that cannot be filled, or that keep no frames, say so.
 */
import { afterEach, describe, expect, it } from "vitest";
import { DropReason } from "../../src/base/drop-reasons.ts";
import type { Device } from "../../src/device/port.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";
import type { SkBuff } from "../../src/skb/skb.ts";

export interface DeviceBench {
  readonly env: HostEnv;
  readonly device: Device;
  /** The reason of a frame that found no room on receive; null: what finds no room waits outside (TAP, socket). */
  readonly fullReason: number | null;
  /** True if transmit() can say false (a TX ring that fills). */
  readonly refuses: boolean;
  /** Slows the wire down so that the TX ring fills while no time passes, and lets it go (only where `refuses`). */
  hold(): void;
  unhold(): void;
  /** Makes a frame arrive. *Borrows* the bytes. */
  arrive(frame: Uint8Array): void;
  /** Lets time pass until nothing is on its way. */
  settle(): void;
  /** Frames the device has sent so far, in order. For loopback: frames it received. */
  sent(): Uint8Array[];
  /** Frames and slots that are out, without what the device has posted in its own ring. */
  outstanding(): number;
  /** Everything out, after close(). */
  outstandingAfterClose(): number;
}

const DST = [2, 0, 0, 0, 0, 1];
const SRC = [2, 0, 0, 0, 0, 2];

/** A frame of 60 bytes that carries a number. */
export function numbered(n: number): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set([...DST, ...SRC, 0x88, 0xb5, n >>> 8, n & 255]);
  return frame;
}

export function numberOf(frame: Uint8Array): number {
  return (frame[14] << 8) | frame[15];
}

export function deviceConformance(name: string, factory: () => DeviceBench): void {
  describe(`${name} is a Device`, () => {
    let bench: DeviceBench | null = null;
    afterEach(() => {
      bench = null;
    });
    const make = (): DeviceBench => {
      bench = factory();
      return bench;
    };
    const take = (b: DeviceBench, budget: number): number[] => {
      const numbers: number[] = [];
      b.device.receive(budget, (skb) => {
        numbers.push(numberOf(skb.bytes.slice(skb.data, skb.tail)));
        b.env.drops.consume(skb);
      });
      return numbers;
    };
    const frame = (b: DeviceBench, n: number): SkBuff => {
      const bytes = numbered(n);
      const skb = b.env.pool.alloc(bytes.length) as SkBuff;
      skb.bytes.set(bytes, skb.put(bytes.length));
      return skb;
    };
    const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

    it("hands frames over in the order they arrived", () => {
      const b = make();
      for (const n of range(0, 20)) b.arrive(numbered(n));
      b.settle();
      expect(take(b, 64)).toEqual(range(0, 20));
    });

    it("respects the budget and keeps the rest", () => {
      const b = make();
      for (const n of range(0, 10)) b.arrive(numbered(n));
      b.settle();
      expect(take(b, 3)).toEqual([0, 1, 2]);
      expect(take(b, 0)).toEqual([]);
      expect(take(b, 64)).toEqual(range(3, 10));
      expect(take(b, 64)).toEqual([]);
    });

    it("tells when a frame arrived and when it was polled", () => {
      const b = make();
      b.arrive(numbered(1));
      b.settle();
      b.env.clock.nowNs += 500;
      const times: number[] = [];
      b.device.receive(1, (skb) => {
        times.push(skb.arrivedNs, skb.polledNs);
        b.env.drops.consume(skb);
      });
      expect(times[1]).toBe(b.env.clock.nowNs);
      if (b.device.capabilities.arrivalTimes) expect(times[0]).toBeLessThanOrEqual(times[1] - 500);
    });

    it("drops what finds its ring full, with a reason, and keeps the oldest", (context) => {
      const b = make();
      if (b.fullReason === null) return context.skip("this device's frames wait outside");
      const { size } = b.device.rxRing;
      for (const n of range(0, size + 5)) b.arrive(numbered(n));
      b.settle();
      expect(b.device.rxRing.used).toBe(size);
      expect(b.env.drops.counts[b.fullReason]).toBe(5);
      expect(b.device.stats.rxMissed + b.device.stats.rxDropped).toBe(5);
      expect(take(b, size + 5)).toEqual(range(0, size));
      b.arrive(numbered(7));
      b.settle();
      expect(take(b, 64)).toEqual([7]);
    });

    it("leaves outside what it has no room for, and loses none of it", (context) => {
      const b = make();
      if (b.fullReason !== null) return context.skip("this device has a ring that overflows");
      const count = b.device.rxRing.size + 5;
      for (const n of range(0, count)) b.arrive(numbered(n));
      b.settle();
      const taken: number[] = [];
      for (let turn = 0; turn < 20 && taken.length < count; turn++) {
        taken.push(...take(b, 64));
        b.settle();
      }
      expect(taken).toEqual(range(0, count));
      expect(b.device.stats.rxMissed + b.device.stats.rxDropped).toBe(0);
    });

    it("interrupts once, and again only after interrupts were enabled", () => {
      const b = make();
      let interrupts = 0;
      b.device.onInterrupt = () => interrupts++;
      b.arrive(numbered(0));
      b.arrive(numbered(1));
      b.settle();
      expect(interrupts).toBe(1);
      b.arrive(numbered(2));
      b.settle();
      expect(interrupts).toBe(1);
      take(b, 64);
      b.device.enableInterrupts();
      b.settle();
      expect(interrupts).toBe(1);
      b.arrive(numbered(3));
      b.settle();
      expect(interrupts).toBe(2);
    });

    it("interrupts at once if frames arrived while interrupts were off", () => {
      const b = make();
      let interrupts = 0;
      b.device.onInterrupt = () => interrupts++;
      b.arrive(numbered(0));
      b.settle();
      take(b, 64);
      b.arrive(numbered(1));
      b.settle();
      expect(interrupts).toBe(1);
      b.device.enableInterrupts();
      expect(interrupts).toBe(2);
      expect(take(b, 64)).toEqual([1]);
    });

    it("sends nothing before the doorbell, then everything in order", () => {
      const b = make();
      for (const n of range(0, 10)) expect(b.device.transmit(frame(b, n))).toBe(true);
      b.settle();
      expect(b.sent()).toEqual([]);
      b.device.flush();
      b.settle();
      expect(b.sent().map(numberOf)).toEqual(range(0, 10));
      expect(b.sent()[3]).toEqual(numbered(3));
    });

    it("refuses when its TX ring is full, and tells when there is room", (context) => {
      const b = make();
      if (!b.refuses) context.skip("this device never refuses");
      let space = 0;
      b.device.onTransmitSpace = () => space++;
      b.hold();
      const { size } = b.device.txRing;
      // The wire may have taken a frame or two before it stopped.
      let next = 0;
      for (; b.device.txRing.used < size && next < 2 * size; next++) {
        expect(b.device.transmit(frame(b, next))).toBe(true);
        b.device.flush();
      }
      const extra = frame(b, next);
      expect(b.device.txRing.used).toBe(size);
      expect(b.device.transmit(extra)).toBe(false);
      expect(space).toBe(0);
      b.unhold();
      b.settle();
      expect(space).toBeGreaterThan(0);
      expect(b.device.transmit(extra)).toBe(true);
      b.device.flush();
      b.settle();
      expect(b.sent().map(numberOf)).toEqual(range(0, next + 1));
    });

    it("counts", () => {
      const b = make();
      for (const n of range(0, 4)) b.arrive(numbered(n));
      b.settle();
      take(b, 64);
      const { stats } = b.device;
      expect([stats.rxPackets, stats.rxBytes]).toEqual([4, 240]);
      const before = stats.txPackets;
      b.device.transmit(frame(b, 1));
      b.device.flush();
      b.settle();
      expect(stats.txPackets - before).toBe(1);
    });

    it("owns nothing in the end", () => {
      const b = make();
      for (const n of range(0, 30)) b.arrive(numbered(n));
      for (const n of range(0, 30)) b.device.transmit(frame(b, n));
      b.device.flush();
      b.settle();
      take(b, 1000);
      expect(b.outstanding()).toBe(0);
    });

    it("close() drops what it holds, with reason DEV_READY, and takes nothing any more", () => {
      const b = make();
      for (const n of range(0, 5)) b.arrive(numbered(n));
      b.settle();
      for (const n of range(0, 3)) b.device.transmit(frame(b, n));
      b.device.close();
      expect(b.env.drops.counts[DropReason.devReady]).toBe(8);
      expect(b.device.transmit(frame(b, 9))).toBe(true);
      expect(b.env.drops.counts[DropReason.devReady]).toBe(9);
      expect(take(b, 64)).toEqual([]);
      expect(b.outstandingAfterClose()).toBe(0);
    });
  });
}
