import { describe, expect, it } from "vitest";
import { ip as addressOf, BusyClock, Lan, macOf, makeEnv, SMALL_ARENA, twoHosts } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { ManualClock } from "../base/time.ts";
import { Timer } from "../base/timers.ts";
import { NO_TRACE, Point } from "../base/tracepoints.ts";
import { Arena } from "../skb/arena.ts";
import type { SkBuff } from "../skb/skb.ts";
import { DEFAULT_TX_QUEUE_LEN, PfifoFast, PRIOMAP } from "./pfifo-fast.ts";

const data = (size: number) => new Uint8Array(size);

/** Resolves addresses and waits until both sides are at rest. */
function warm(settings = {}, options = {}) {
  const net = twoHosts(settings, 1, options);
  net.a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
  net.b.net.ip.addNeighbour(2, addressOf("10.0.0.1"), macOf(1));
  return net;
}

describe("pfifo_fast", () => {
  const make = () => {
    const env = makeEnv("a", new Arena(SMALL_ARENA));
    const skb = (priority: number, n = 0): SkBuff => {
      const frame = env.pool.alloc(10) as SkBuff;
      frame.put(10);
      frame.priority = priority;
      frame.scratch = n;
      return frame;
    };
    return { env, skb };
  };

  it("sends lower bands first, each in order of arrival", () => {
    const { skb } = make();
    const qdisc = new PfifoFast();
    // Priority 7 (control) is band 0, 0 (best effort) band 1, 2 (bulk) band 2.
    [2, 0, 7, 2, 0, 7].forEach((priority, n) => expect(qdisc.enqueue(skb(priority, n))).toBe(true));
    const order: number[] = [];
    for (let frame = qdisc.dequeue(); frame !== null; frame = qdisc.dequeue()) order.push(frame.scratch);
    expect(order).toEqual([2, 5, 1, 4, 0, 3]);
    expect(PRIOMAP).toHaveLength(16);
  });

  it("each band holds txqueuelen frames; then the newest is refused", () => {
    const { skb } = make();
    const qdisc = new PfifoFast(3);
    expect([1, 2, 3, 4].map(() => qdisc.enqueue(skb(0)))).toEqual([true, true, true, false]);
    expect(qdisc.enqueue(skb(7))).toBe(true);
    expect([qdisc.length, qdisc.backlogBytes, qdisc.stats.dropped]).toEqual([4, 40, 1]);
  });

  it("a frame given back goes first", () => {
    const { skb } = make();
    const qdisc = new PfifoFast();
    qdisc.enqueue(skb(0, 1));
    qdisc.enqueue(skb(7, 2));
    const frame = qdisc.dequeue() as SkBuff;
    qdisc.requeue(frame);
    expect(qdisc.peek()).toBe(frame);
    expect(qdisc.length).toBe(2);
    expect(qdisc.dequeue()).toBe(frame);
    expect(qdisc.stats).toMatchObject({ requeues: 1, sentPackets: 1 });
  });
});

describe("transmit path", () => {
  it("fills the TX ring, then the qdisc, then drops with -ENOBUFS", () => {
    const { lan, a, b } = warm({ rateBitsPerSecond: 1e6 });
    const results = new Map<number, number>();
    const count = 256 + DEFAULT_TX_QUEUE_LEN + 50;
    for (let i = 0; i < count; i++) {
      const result = a.send("10.0.0.2", data(100));
      results.set(result, (results.get(result) ?? 0) + 1);
    }
    // One frame is on the wire, 256 in the ring, 1000 in band 1.
    expect([...results]).toEqual([
      [0, 1257],
      [-Errno.ENOBUFS, 49],
    ]);
    expect(a.dropped()).toEqual({ QDISC_DROP: 49 });
    expect(a.net.links()[1]).toMatchObject({ name: "eth0", qdisc: "pfifo_fast", tx: { dropped: 49 } });
    expect(a.net.qdiscs()[1]).toMatchObject({ dev: "eth0", length: 1000, dropped: 49 });
    lan.runFor(10e9);
    expect(b.probe.arrived).toHaveLength(1257);
    expect(a.net.qdiscs()[1].length).toBe(0);
    // 134 bytes of frame at 1 Mbit/s are 1.072 ms; then coalescing, 3 µs.
    expect(b.probe.arrived[0].atNs).toBe(1_075_000);
    lan.close();
    expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
  });

  it("stamps qdiscLeft with the queue left behind and the time it was enqueued", () => {
    const stamps: number[][] = [];
    const lan = new Lan();
    const a = lan.host("a", new ManualClock(), {
      ...NO_TRACE,
      mask: 0,
      stamp: (...args) => {
        if (args[0] === Point.qdiscLeft) stamps.push(args);
      },
    });
    a.addNic(1, "10.0.0.1/24");
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    const skb = a.env.pool.alloc(20) as SkBuff;
    skb.put(20);
    skb.id = 77;
    const route = a.net.ip.route(addressOf("10.0.0.2"), null, 0);
    if (typeof route === "number") throw new Error("no route");
    a.env.clock.nowNs = 1234;
    a.net.ip.output(skb, route, 253, { dontFragment: true, ttl: 64, tos: 0 });
    expect(stamps).toEqual([[Point.qdiscLeft, 77, 0, 1234]]);
  });

  it("reads the clock at a doorbell only for a frame that is traced, even while others are recorded", () => {
    let ticks = 0;
    class CountingClock extends ManualClock {
      override tick(): void {
        ticks++;
      }
    }
    const a = new Lan().host("a", new CountingClock(), { ...NO_TRACE, mask: 0 });
    a.addNic(1, "10.0.0.1/24");
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    const route = a.net.ip.route(addressOf("10.0.0.2"), null, 0);
    if (typeof route === "number") throw new Error("no route");
    const ticksOf = (id: number): number => {
      const skb = a.env.pool.alloc(20) as SkBuff;
      skb.put(20);
      skb.id = id;
      ticks = 0;
      a.net.ip.output(skb, route, 253, { dontFragment: true, ttl: 64, tos: 0 });
      return ticks;
    };
    expect([ticksOf(0), ticksOf(77), ticksOf(0)]).toEqual([0, 1, 0]);
  });

  it("a device that is down drops with DEV_READY and -ENETDOWN", () => {
    const { a } = warm();
    const route = a.net.ip.route(addressOf("10.0.0.2"), null, 0);
    if (typeof route === "number") throw new Error("no route");
    a.net.ip.setUp(2, false);
    const skb = a.env.pool.alloc(20) as SkBuff;
    skb.put(20);
    // The connection still holds its route; new ones find none.
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    expect(a.net.ip.output(skb, route, 253, { dontFragment: true, ttl: 64, tos: 0 })).toBe(-Errno.ENETDOWN);
    expect(a.dropped()).toEqual({ DEV_READY: 1 });
    expect(a.net.ip.route(addressOf("10.0.0.2"), null, 0)).toBe(-Errno.ENETUNREACH);
  });
});

describe("NAPI and softirq", () => {
  it("polls a burst with one interrupt, 64 frames at a time", () => {
    const { lan, a, b } = warm({ delayNs: 1e6 });
    for (let i = 0; i < 200; i++) a.send("10.0.0.2", data(20));
    // b's CPU is busy while the burst lands.
    b.env.clock.nowNs = 2e6;
    lan.runFor(10e6);
    expect(b.probe.arrived).toHaveLength(200);
    const [row] = [b.net.links()[1]];
    // The 32nd frame of the burst interrupts (rx-frames); everything else is polled.
    expect(row.interrupts).toBe(1);
    expect(row.fullPolls).toBe(3);
    expect(b.net.softnet()).toEqual({ cpu: 0, processed: 200, dropped: 0, timeSqueeze: 0 });
  });

  /** Lets `count` frames into the ring of b while its softirq cannot run. */
  function burst(count: number, prepare: (b: ReturnType<typeof warm>["b"], c: ReturnType<typeof warm>["b"]) => void) {
    const lan = new Lan();
    const [a, b, c] = [lan.host("a"), lan.host("b"), lan.host("c")];
    a.addNic(1, "10.0.0.1/24");
    c.addNic(3, "10.9.0.1/24");
    b.addNic(2, "10.0.0.2/24", { rxRingSize: 1024 });
    b.addNic(4, "10.9.0.2/24", { rxRingSize: 1024 });
    lan.link(a.nics[0], b.nics[0], { delayNs: 1e6 });
    lan.link(c.nics[0], b.nics[1], { delayNs: 1e6 });
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    c.net.ip.addNeighbour(2, addressOf("10.9.0.2"), macOf(4));
    prepare(b, c);
    for (let i = 0; i < count; i++) {
      a.send("10.0.0.2", data(20));
      c.send("10.9.0.2", data(20));
    }
    b.env.clock.nowNs = 2e6;
    lan.runFor(1e9);
    expect(b.probe.arrived).toHaveLength(2 * count);
    return b;
  }

  it("stops when netdev_budget is spent, counts a squeeze, and goes on", () => {
    const b = burst(200, (host) => {
      host.env.sysctl.netdevBudget = 100;
    });
    // 2 × 64 frames per run spend a budget of 100: 128, 256, 384, and the last 16 find it unspent.
    expect(b.net.softnet()).toMatchObject({ processed: 400, timeSqueeze: 3 });
    expect(b.net.softirq.stat.runs).toBe(4);
  });

  it("other work of the host gets a turn between two runs", () => {
    const order: string[] = [];
    burst(200, (host) => {
      host.env.sysctl.netdevBudget = 64;
      const other = new Timer(() => order.push(`other work after ${host.probe.arrived.length}`));
      const receive = host.probe.receive.bind(host.probe);
      host.probe.receive = (skb) => {
        receive(skb);
        if (host.probe.arrived.length === 1) host.env.timers.arm(other, host.env.clock.nowNs);
      };
    });
    expect(order).toEqual(["other work after 64"]);
  });

  it("stops when netdev_budget_usecs are over", () => {
    const lan = new Lan();
    // Every unit of work costs 10 µs of CPU, so a poll of 64 frames takes 640 µs.
    const a = lan.host("a");
    const b = lan.host("b", new BusyClock(10_000));
    a.addNic(1, "10.0.0.1/24");
    b.addNic(2, "10.0.0.2/24", { rxRingSize: 1024 });
    lan.link(a.nics[0], b.nics[0]);
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    b.env.sysctl.netdevBudget = 10000;
    b.env.sysctl.netdevBudgetUsecs = 600;
    for (let i = 0; i < 256; i++) a.send("10.0.0.2", data(20));
    lan.runFor(1e9);
    expect(b.probe.arrived).toHaveLength(256);
    expect(b.net.softnet().timeSqueeze).toBe(4);
  });

  it("a busy CPU delays the softirq while DMA goes on and fills the ring", () => {
    const lan = new Lan();
    const a = lan.host("a");
    const b = lan.host("b", new BusyClock(0));
    a.addNic(1, "10.0.0.1/24");
    b.addNic(2, "10.0.0.2/24", { rxRingSize: 64 });
    lan.link(a.nics[0], b.nics[0]);
    a.net.ip.addNeighbour(2, addressOf("10.0.0.2"), macOf(2));
    // A process of b runs until 5 ms.
    b.env.clock.nowNs = 5e6;
    for (let i = 0; i < 100; i++) {
      a.env.clock.nowNs = i * 1000;
      a.send("10.0.0.2", data(20));
    }
    lan.runFor(20e6);
    expect(b.probe.arrived).toHaveLength(64);
    expect(b.probe.arrived.every(({ atNs }) => atNs === 5e6)).toBe(true);
    expect(b.dropped()).toEqual({ FULL_RING: 36 });
    expect(b.net.links()[1].rx).toMatchObject({ packets: 64, missed: 36 });
  });

  it("the backlog of lo holds netdev_max_backlog + 1", () => {
    const lan = new Lan();
    const a = lan.host("a");
    a.env.sysctl.netdevMaxBacklog = 10;
    for (let i = 0; i < 15; i++) a.send("127.0.0.1", data(20));
    lan.runFor(1e6);
    expect(a.probe.arrived).toHaveLength(11);
    expect(a.dropped()).toEqual({ CPU_BACKLOG: 4 });
    expect(a.net.softnet().dropped).toBe(4);
  });

  it("rings one doorbell per poll for the answers of a batch", () => {
    const { lan, a, b } = warm({ delayNs: 1e6 });
    const nic = b.nics[0];
    const flush = nic.flush.bind(nic);
    let doorbells = 0;
    nic.flush = () => {
      doorbells++;
      flush();
    };
    for (let i = 0; i < 30; i++) a.echo("10.0.0.2");
    lan.runFor(10e6);
    expect(a.ping.arrived).toHaveLength(30);
    expect(doorbells).toBe(1);
  });
});

describe("receive", () => {
  const raw = (dst: number[], etherType: number, size = 60) => {
    const frame = new Uint8Array(size);
    frame.set([...dst, ...macOf(1), etherType >>> 8, etherType & 255]);
    return frame;
  };
  const inject = (frame: Uint8Array) => {
    const { lan, a, b } = warm();
    const skb = a.env.pool.alloc(frame.length) as SkBuff;
    skb.bytes.set(frame, skb.put(frame.length));
    a.net.devices[1].transmit(skb);
    lan.runFor(1e6);
    return b;
  };

  it("drops frames for another host", () => {
    expect(inject(raw([2, 0, 0, 0, 9, 9], 0x0800)).dropped()).toEqual({ OTHERHOST: 1 });
  });

  it("drops EtherTypes nobody registered", () => {
    const b = inject(raw([...macOf(2)], 0x86dd));
    expect(b.dropped()).toEqual({ UNHANDLED_PROTO: 1 });
    expect(b.net.links()[1].rx.dropped).toBe(1);
  });

  it("drops frames shorter than their header", () => {
    expect(inject(raw([...macOf(2)], 0x0800, 60).slice(0, 13)).dropped()).toEqual({ DEV_HDR: 1 });
  });

  it("gives frames an id only while somebody records", () => {
    const { lan, a, b } = warm();
    const ids: number[] = [];
    b.net.receiver.register(0x9999, {
      receive(skb) {
        ids.push(skb.id);
        b.env.drops.consume(skb);
      },
    });
    for (const mask of [-1, 0, 255]) {
      b.env.trace = { ...NO_TRACE, mask };
      const skb = a.env.pool.alloc(60) as SkBuff;
      skb.bytes.set(raw([...macOf(2)], 0x9999), skb.put(60));
      a.net.devices[1].transmit(skb);
      lan.runFor(1e6);
    }
    expect(ids).toEqual([0, 1, 2]);
    expect(b.env.drops.counts[DropReason.consumed]).toBe(3);
  });
});
