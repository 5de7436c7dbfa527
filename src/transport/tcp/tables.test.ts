/** The tables and queues below the verbs, against plain models. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Address } from "../../base/address.ts";
import { finish, sum } from "../../base/checksum.ts";
import { Prng } from "../../base/prng.ts";
import { Sysctls } from "../../base/sysctl.ts";
import { SECOND } from "../../base/time.ts";
import { Arena } from "../../skb/arena.ts";
import { TcpState } from "../port.ts";
import { Reno } from "./congestion/reno.ts";
import { ConnectionTable, type Entry, ListenerTable } from "./lookup.ts";
import { type PortOwner, PortTable } from "./ports.ts";
import { modelTimeoutNs } from "./rto.ts";
import { SendPagePool, SendQueue } from "./send-queue.ts";
import { CountedUpcalls, TestHost } from "./tcp-testing.ts";

function entry(remote: number, remotePort: number, localPort: number): Entry {
  return { remoteAddress: Address.v4(remote), localAddress: Address.v4(0x0a000001), remotePort, localPort };
}

describe("connection table", () => {
  test("finds exactly what was added and not removed (property, with collisions)", () => {
    const op = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40 }));
    fc.assert(
      fc.property(fc.array(op, { maxLength: 400 }), fc.integer(), (ops, key) => {
        const table = new ConnectionTable<Entry>(key, 100_000);
        const model = new Map<string, Entry>();
        for (const [add, a, b] of ops) {
          const id = `${a}/${b}`;
          const old = model.get(id);
          if (add && old === undefined) {
            const e = entry(0xc0000200 + a, 1000 + b, 80);
            expect(table.add(e)).toBe(true);
            model.set(id, e);
          } else if (!add && old !== undefined) {
            table.remove(old);
            model.delete(id);
          }
        }
        expect(table.size).toBe(model.size);
        for (let a = 0; a <= 40; a++) {
          for (let b = 0; b <= 40; b++) {
            const found = table.find((0xc0000200 + a) | 0, 0x0a000001, 1000 + b, 80);
            expect(found).toBe(model.get(`${a}/${b}`) ?? null);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  test("grows, and stops at its limit", () => {
    const table = new ConnectionTable<Entry>(1, 5000);
    for (let i = 0; i < 5000; i++) expect(table.add(entry(i, i, 80))).toBe(true);
    expect(table.add(entry(9999, 1, 80))).toBe(false);
    expect(table.find(4321, 0x0a000001, 4321, 80)).not.toBeNull();
  });
});

describe("listener table", () => {
  test("a bound address beats the wildcard, a bound device beats both", () => {
    const make = (name: string, address: number, ifindex: number) => ({
      name,
      localAddress: Address.v4(address),
      localPort: 80,
      boundIfindex: ifindex,
      reusePort: false,
    });
    const any = make("any", 0, 0);
    const bound = make("bound", 0x0a000001, 0);
    const device = make("device", 0, 3);
    const table = new ListenerTable<typeof any>();
    for (const l of [any, bound, device]) table.add(l);
    expect(table.find(0x0a000001, 80, 2, 0)?.name).toBe("bound");
    expect(table.find(0x0a000002, 80, 2, 0)?.name).toBe("any");
    expect(table.find(0x0a000001, 80, 3, 0)?.name).toBe("device");
    expect(table.find(0x0a000001, 81, 2, 0)).toBeNull();
    table.remove(bound);
    expect(table.find(0x0a000001, 80, 2, 0)?.name).toBe("any");
  });
});

describe("ports", () => {
  const owner = (more: Partial<PortOwner> & { localPort?: number } = {}): PortOwner & { localPort: number } => ({
    state: TcpState.close,
    localAddress: Address.v4(0),
    localPort: 0,
    boundIfindex: 0,
    reuseAddress: false,
    reusePort: false,
    prevOwner: null,
    nextOwner: null,
    ...more,
  });
  const table = () => new PortTable(new Prng(1), new Sysctls());

  test("bind conflicts as Linux's inet_csk_bind_conflict", () => {
    const cases: [Partial<PortOwner>, Partial<PortOwner>, boolean][] = [
      [{}, {}, true],
      [{ localAddress: Address.v4(1) }, { localAddress: Address.v4(2) }, false],
      [{ localAddress: Address.v4(1) }, {}, true],
      [{ reuseAddress: true }, { reuseAddress: true }, false],
      [{ reuseAddress: true, state: TcpState.listen }, { reuseAddress: true }, true],
      [{ reuseAddress: true }, {}, true],
      [{ reusePort: true }, { reusePort: true }, false],
      [{ reusePort: true }, {}, true],
      [{ boundIfindex: 1 }, { boundIfindex: 2 }, false],
      [{ boundIfindex: 1 }, {}, true],
    ];
    for (const [first, second, conflicts] of cases) {
      const ports = table();
      expect(ports.claim(owner(first), 80)).toBe(0);
      expect(ports.claim(owner(second), 80)).toBe(conflicts ? -98 : 0);
    }
  });

  test("ephemeral ports stay in the range, differ by destination, and run out", () => {
    const sysctl = new Sysctls();
    sysctl.ipLocalPortRangeMin = 40000;
    sysctl.ipLocalPortRangeMax = 40009;
    const ports = new PortTable(new Prng(7), sysctl);
    const taken = new Set<number>();
    for (let i = 0; i < 10; i++) {
      const o = owner();
      o.localPort = ports.chooseForConnect(o, 12345, (port) => taken.has(port));
      expect(o.localPort).toBeGreaterThanOrEqual(40000);
      expect(o.localPort).toBeLessThanOrEqual(40009);
      taken.add(o.localPort);
    }
    expect(taken.size).toBe(10);
    expect(ports.chooseForConnect(owner(), 12345, (port) => taken.has(port))).toBe(0);
    // Another destination may use the same local ports.
    expect(ports.chooseForConnect(owner(), 777, () => false)).toBeGreaterThan(0);
  });

  test("a port named by bind() is not given to connect()", () => {
    const sysctl = new Sysctls();
    sysctl.ipLocalPortRangeMin = 40000;
    sysctl.ipLocalPortRangeMax = 40001;
    const ports = new PortTable(new Prng(7), sysctl);
    ports.claim(owner(), 40000);
    expect(ports.chooseForConnect(owner(), 5, () => false)).toBe(40001);
  });
});

describe("send queue", () => {
  test("copies any range out with its checksum, however it was written (property)", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 1 << 20 }), (writes, seed) => {
        const prng = new Prng(seed);
        const arena = new Arena({ smallSlots: 64, frameSlots: 64, pageSlots: 16 });
        const queue = new SendQueue(new SendPagePool(arena), 0);
        const all = new Uint8Array(writes.reduce((a, b) => a + b));
        prng.fill(all);
        let at = 0;
        for (const len of writes) at += queue.append(all, at, len);
        expect(at).toBe(all.length);
        const out = arena.alloc(65536);
        for (let i = 0; i < 20; i++) {
          const from = prng.below(all.length);
          const len = 1 + prng.below(Math.min(1460, all.length - from));
          const check = finish(queue.copyOut(from, len, out, true));
          expect(Buffer.compare(arena.bytes.subarray(out, out + len), all.subarray(from, from + len))).toBe(0);
          expect(check).toBe(finish(sum(all, from, len)));
        }
        arena.release(out);
        const half = all.length >> 1;
        queue.acknowledge(half);
        expect(queue.length).toBe(all.length - half);
        queue.clear();
        expect(arena.outstanding).toBe(0);
      }),
      { numRuns: 100 },
    );
  });

  test("leaves a quarter of the slots to frames in motion, and the small ones to short queues", () => {
    const arena = new Arena({ smallSlots: 8, frameSlots: 8, pageSlots: 0 });
    const pool = new SendPagePool(arena);
    const long = new SendQueue(pool, 0);
    expect(long.append(new Uint8Array(100_000), 0, 100_000)).toBe(6 * 2048);
    expect(long.append(new Uint8Array(1), 0, 1)).toBe(0);
    const short = new SendQueue(pool, 0);
    expect(short.append(new Uint8Array(10_000), 0, 10_000)).toBe(6 * 256);
    expect(arena.outstanding).toBe(12);
    long.clear();
    short.clear();
    expect(arena.outstanding).toBe(0);
  });
});

describe("numbers of Linux", () => {
  test("tcp_model_timeout: retries2 = 15 from 200 ms is 924.6 s, retries1 = 3 is 3 s", () => {
    expect(modelTimeoutNs(15, 0.2 * SECOND, 120 * SECOND) / SECOND).toBeCloseTo(924.6, 6);
    expect(modelTimeoutNs(3, 0.2 * SECOND, 120 * SECOND) / SECOND).toBeCloseTo(3, 6);
  });

  test("Reno's ssthresh is half, at least 2", () => {
    const host = new TestHost();
    const tcb = host.tcp.create(new CountedUpcalls());
    const reno = new Reno();
    for (const [cwnd, half] of [
      [10, 5],
      [7, 3],
      [3, 2],
      [1, 2],
    ]) {
      tcb.cwndSegments = cwnd;
      expect(reno.ssthresh(tcb)).toBe(half);
    }
  });
});
