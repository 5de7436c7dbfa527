import { describe, expect, it } from "vitest";
import { DropReason } from "../base/drop-reasons.ts";
import { Mib } from "../base/mib.ts";
import { Prng } from "../base/prng.ts";
import { Sysctls } from "../base/sysctl.ts";
import { ManualClock } from "../base/time.ts";
import { Timer, Timers } from "../base/timers.ts";
import { NO_TRACE } from "../base/tracepoints.ts";
import { Arena } from "../skb/arena.ts";
import { DropCounters } from "../skb/drop.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { type SkBuff, SkBuffPool } from "../skb/skb.ts";
import { CheckError, ConservationChecker, type HostLedger, hostCounters, LeakChecker } from "./checkers.ts";

function envOf(name: string, pool: SkBuffPool): HostEnv {
  return {
    name,
    clock: new ManualClock(),
    timers: new Timers(),
    prng: new Prng(1),
    pool,
    trace: NO_TRACE,
    mib: new Mib(),
    sysctl: new Sysctls(),
    drops: new DropCounters(pool, NO_TRACE),
    secret: new Uint8Array(16),
    nextFrameId: () => 1,
    nextConnId: () => 1,
  };
}

/** A host with one queue and one stream page. */
class Host implements HostLedger {
  readonly env: HostEnv;
  framesIn = 0;
  framesOut = 0;
  readonly queue: SkBuff[] = [];
  readonly pages: number[] = [];

  constructor(name: string, pool: SkBuffPool) {
    this.env = envOf(name, pool);
  }
  holdings() {
    return [
      { place: "queue", skbs: this.queue.length, slots: 0 },
      { place: "pages", skbs: 0, slots: this.pages.length },
    ];
  }
  receive(): void {
    const skb = this.env.pool.alloc(100);
    if (skb === null) throw new Error("no skb");
    this.framesIn++;
    this.queue.push(skb);
  }
  take(): SkBuff {
    const skb = this.queue.shift();
    if (skb === undefined) throw new Error("empty");
    return skb;
  }
}

const LIMITS = { smallSlots: 16, frameSlots: 16, pageSlots: 2 };

function twoHosts() {
  const pool = new SkBuffPool(new Arena(LIMITS));
  const a = new Host("a", pool);
  const b = new Host("b", pool);
  return { a, b, checker: new ConservationChecker([a, b]) };
}

describe("ConservationChecker", () => {
  it("is content while every frame is delivered, dropped, gone or owned", () => {
    const { a, b, checker } = twoHosts();
    for (let i = 0; i < 4; i++) a.receive();
    b.receive();
    checker.check(0);
    a.env.drops.consume(a.take());
    a.env.drops.drop(a.take(), DropReason.noSocket);
    a.env.pool.release(a.take());
    a.framesOut++;
    a.framesIn++;
    a.env.drops.count(DropReason.fullRing);
    a.pages.push(a.env.pool.arena.alloc(60000));
    checker.check(1);
  });

  it("finds a frame that was freed without a reason", () => {
    const { a, checker } = twoHosts();
    a.receive();
    a.env.pool.release(a.take());
    expect(() => checker.check(5)).toThrow(
      new CheckError("t=0.000000005s a: 1 frames in, but 0 delivered + 0 dropped + 0 out + 0 owned = 0\n"),
    );
  });

  it("finds an skb that nobody owns", () => {
    const { a, b, checker } = twoHosts();
    b.receive();
    a.env.pool.alloc(10);
    expect(() => checker.check(5)).toThrow(
      new CheckError("t=0.000000005s a, b: 2 skbs are out, 1 are owned\n  b queue: 1 skbs, 0 slots"),
    );
  });

  it("finds a slot that nobody owns, and accepts one on a cable", () => {
    const { a, b, checker } = twoHosts();
    const { pool } = a.env;
    pool.arena.alloc(10);
    expect(() => checker.check(0)).toThrow("1 slots are out, 0 are owned");
    const cable = { name: "a-b", pool, holdings: () => [{ place: "in flight", skbs: 0, slots: 1 }] };
    new ConservationChecker([a, b], [cable]).check(0);
  });

  it("finds a frame that is owned twice", () => {
    const { a, b, checker } = twoHosts();
    a.receive();
    b.queue.push(a.queue[0]);
    b.framesIn++;
    expect(() => checker.check(0)).toThrow("1 skbs are out, 2 are owned");
  });

  it("finds a counter that goes back", () => {
    const { a, checker } = twoHosts();
    a.receive();
    a.env.drops.drop(a.take(), DropReason.noSocket);
    checker.check(0);
    a.env.drops.counts[DropReason.noSocket] = 0;
    a.env.drops.counts[DropReason.tcpCsum] = 1;
    expect(() => checker.check(1)).toThrow("counter NO_SOCKET fell from 1 to 0");
  });
});

describe("LeakChecker", () => {
  it("compares with what was in use at the start", () => {
    const { a } = twoHosts();
    const sockets = { name: "a", counts: () => ({ sockets: open }) };
    let open = 1;
    const housekeeping = new Timer(() => {});
    a.env.timers.arm(housekeeping, 10);
    const checker = new LeakChecker([hostCounters(a.env), sockets]);
    checker.check(0);
    a.receive();
    a.env.timers.arm(new Timer(() => {}), 20);
    open = 3;
    expect(() => checker.check(1)).toThrow(
      new CheckError("left over at t=0.000000001s: a.skbs 0 → 1, a.slots 0 → 1, a.timers 1 → 2, a.sockets 1 → 3"),
    );
    expect(() => checker.check(1, { "a.skbs": 1, "a.slots": 1, "a.timers": 1, "a.sockets": 1 })).toThrow(
      new CheckError("left over at t=0.000000001s: a.sockets 1 → 3"),
    );
    a.env.pool.release(a.take());
    a.env.timers.cancel(housekeeping);
    open = 1;
    checker.check(2);
  });
});
