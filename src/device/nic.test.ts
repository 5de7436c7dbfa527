import { describe, expect, it } from "vitest";
import { numbered } from "../../tests/conformance/device.ts";
import { macOf, makeEnv, runUntil, SMALL_ARENA } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Prng } from "../base/prng.ts";
import { NO_TRACE, Point } from "../base/tracepoints.ts";
import { Arena } from "../skb/arena.ts";
import { Summed } from "../skb/skb.ts";
import { DescriptorRing } from "./descriptor-ring.ts";
import { Nic, type NicOptions } from "./nic.ts";
import { WireLink } from "./wire-link.ts";

function pair(options: Partial<NicOptions> = {}, limits = SMALL_ARENA) {
  const arena = new Arena(limits);
  const a = makeEnv("a", arena);
  const b = makeEnv("b", arena);
  const from = new Nic(a, "eth0", { mac: macOf(1) });
  const to = new Nic(b, "eth0", { mac: macOf(2), ...options });
  const link = new WireLink("wire", from, to, new Prng(1));
  const send = (count: number, size = 60) => {
    for (let i = 0; i < count; i++) {
      const skb = a.pool.alloc(size);
      if (skb === null) throw new Error("no memory");
      skb.put(size);
      skb.bytes.set(numbered(i), skb.data);
      from.transmit(skb);
      from.flush();
    }
  };
  return { arena, a, b, from, to, link, send };
}

describe("DescriptorRing", () => {
  it("takes 64 to 8192 descriptors", () => {
    for (const size of [63, 8193, 100.5]) expect(() => new DescriptorRing(size)).toThrow("64 to 8192");
    expect(new DescriptorRing(100).size).toBe(100);
  });
});

describe("interrupt coalescing", () => {
  it("interrupts rx-usecs after the first frame", () => {
    const { a, b, to, send } = pair({ coalescing: { rxUsecs: 3, rxFrames: 32 } });
    const times: number[] = [];
    to.onInterrupt = () => times.push(b.clock.nowNs);
    runUntil([a, b], 1000);
    send(2);
    runUntil([a, b], 1e6);
    expect(times).toEqual([4000]);
  });

  it("interrupts at once when rx-frames wait", () => {
    const { a, b, to, send } = pair({ coalescing: { rxUsecs: 1000, rxFrames: 4 } });
    const times: number[] = [];
    to.onInterrupt = () => times.push(b.clock.nowNs);
    send(4);
    runUntil([a, b], 500);
    expect(times).toEqual([0]);
  });

  it("rx-usecs 0 does not wait", () => {
    const { a, b, to, send } = pair({ coalescing: { rxUsecs: 0, rxFrames: 32 } });
    let interrupts = 0;
    to.onInterrupt = () => interrupts++;
    send(1);
    runUntil([a, b], 0);
    expect(interrupts).toBe(1);
  });
});

describe("memory of the RX ring", () => {
  it("misses frames when no slot could be posted, and recovers", () => {
    const { arena, a, b, to, send } = pair({ rxRingSize: 64 }, { smallSlots: 8, frameSlots: 70 + 256, pageSlots: 0 });
    const hoard: number[] = [];
    const hoardAll = () => {
      for (let slot = arena.alloc(2048); slot !== 0; slot = arena.alloc(2048)) hoard.push(slot);
    };
    const receive = () => to.receive(64, (skb) => b.drops.consume(skb));
    let received = 0;
    // Every arrival gives a posted slot back to the arena, and somebody else takes it before the driver posts anew.
    for (let i = 0; i < 100; i++) {
      send(1);
      runUntil([a, b], (i + 1) * 1e3);
      hoardAll();
      received += receive();
    }
    expect(received).toBe(64);
    expect(to.stats.rxMissed).toBe(36);
    expect(b.drops.counts[DropReason.fullRing]).toBe(36);
    for (const slot of hoard) arena.release(slot);
    // Nobody polls a card that had no interrupt.
    send(1);
    runUntil([a, b], 1e6);
    expect(receive()).toBe(1);
  });
});

describe("checksum offload", () => {
  it("is off unless asked for, and never on a wire that damages", () => {
    expect(pair().to.capabilities.checksum).toBe(false);
    const { to, link } = pair({ checksumOffload: true });
    expect(to.capabilities.checksum).toBe(true);
    link.set({ corrupt: 0.01 });
    expect(to.capabilities.checksum).toBe(false);
  });

  it("a partial sum that left before the wire began to damage is dropped, not passed as good", () => {
    const { a, b, from, to, link } = pair();
    link.set({ corrupt: 1 });
    const skb = a.pool.alloc(60);
    if (skb === null) throw new Error("no memory");
    skb.put(60);
    skb.bytes.set(numbered(1), skb.data);
    skb.summed = Summed.partial;
    from.transmit(skb);
    from.flush();
    runUntil([a, b], 1e6);
    expect(to.receive(64, (s) => b.drops.consume(s))).toBe(0);
    expect(b.drops.counts[DropReason.linkCorrupt]).toBe(1);
  });
});

describe("tracepoints", () => {
  it("stamps a traced frame when the wire takes it, with the time it was posted", () => {
    const { a, b, from, link } = pair();
    const stamps: number[][] = [];
    a.trace = { ...NO_TRACE, mask: 0, stamp: (point, id, x, y) => stamps.push([a.clock.nowNs, point, id, x, y]) };
    link.set({ rateBitsPerSecond: 8e6 });
    for (const id of [5, 6]) {
      const skb = a.pool.alloc(1000);
      if (skb === null) throw new Error("no memory");
      skb.put(1000);
      skb.id = id;
      from.transmit(skb);
    }
    from.flush();
    runUntil([a, b], 1e7);
    expect(stamps).toEqual([
      [0, Point.transmitted, 5, 0, 2],
      [1e6, Point.transmitted, 6, 0, 1],
    ]);
  });

  it("labels and drops a frame that finds the ring full", () => {
    const { a, b, send } = pair({ rxRingSize: 64 });
    const calls: unknown[][] = [];
    b.trace = {
      mask: 0,
      stamp: () => {},
      link: () => {},
      drop: (...args) => calls.push(["drop", ...args]),
      label: (kind, id, bytes, at, len) => calls.push(["label", kind, id, bytes[at + 1], len]),
    };
    send(65);
    runUntil([a, b], 1e6);
    expect(calls).toEqual([
      ["label", 4, 1, 64, 46],
      ["drop", DropReason.fullRing, 1],
    ]);
  });
});
