import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ip, type Lan, twoHosts } from "../../tests/conformance/lan.ts";
import { Errno } from "../base/errno.ts";
import { SECOND } from "../base/time.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import { maskOf } from "./local-addresses.ts";
import { type RouteEntry, RouteTable } from "./route.ts";

const dev = (ifindex: number, isUp = true) => ({ ifindex, isUp, name: `eth${ifindex}` }) as NetDevice;
const entry = (network: number, prefix: number, extra: Partial<RouteEntry> = {}): RouteEntry => ({
  network: (network & maskOf(prefix)) >>> 0,
  prefix,
  gateway: 0,
  dev: dev(2),
  source: 0,
  metric: 0,
  protocol: "static",
  ...extra,
});

describe("longest prefix match", () => {
  it("is what comparing all prefixes finds", () => {
    // Few distinct bits, so that prefixes nest and look-ups hit.
    const address = fc.integer({ min: 0, max: 255 }).map((n) => (((n & 0xf0) << 24) | ((n & 15) << 12)) >>> 0);
    const route = fc.record({ network: address, prefix: fc.integer({ min: 0, max: 32 }), metric: fc.nat(2) });
    fc.assert(
      fc.property(
        fc.array(route, { maxLength: 40 }),
        fc.array(address, { minLength: 1, maxLength: 20 }),
        (list, asked) => {
          const table = new RouteTable();
          const naive: RouteEntry[] = [];
          for (const { network, prefix, metric } of list) {
            const e = entry(network, prefix, { metric });
            const known = naive.some((n) => n.network === e.network && n.prefix === prefix && n.metric === metric);
            expect(table.add(e)).toBe(known ? -Errno.EEXIST : 0);
            if (!known) naive.push(e);
          }
          const gone = naive.splice(0, naive.length >> 2);
          for (const e of gone) expect(table.remove(e.network, e.prefix, (x) => x === e)).toBe(0);
          for (const u32 of asked) {
            const matching = naive.filter((e) => (u32 & maskOf(e.prefix)) >>> 0 === e.network);
            matching.sort((x, y) => y.prefix - x.prefix || x.metric - y.metric);
            expect(table.lookup(u32, 0)).toBe(matching[0] ?? null);
          }
        },
      ),
    );
  });

  it("prefers the lesser metric, passes over devices that are down, and honours a device asked for", () => {
    const table = new RouteTable();
    const slow = entry(0, 0, { metric: 100, dev: dev(3) });
    const fast = entry(0, 0, { metric: 10, dev: dev(2) });
    const broken = entry(0, 0, { metric: 1, dev: dev(4, false) });
    for (const e of [slow, fast, broken]) table.add(e);
    expect(table.lookup(1, 0)).toBe(fast);
    expect(table.lookup(1, 3)).toBe(slow);
    expect(table.lookup(1, 9)).toBeNull();
  });

  it("refuses host bits and unknown routes", () => {
    const table = new RouteTable();
    expect(table.add({ ...entry(0, 8), network: 0x0a000001 })).toBe(-Errno.EINVAL);
    expect(table.remove(0, 0, () => true)).toBe(-Errno.ESRCH);
  });
});

describe("ip route", () => {
  it("prints as ip route does", () => {
    const { a } = twoHosts();
    a.net.ip.addRoute({ destination: "default", via: ip("10.0.0.254"), metric: 100 });
    a.net.ip.addRoute({ destination: "10.5.0.0/16", via: ip("10.0.0.2"), source: ip("10.0.0.1") });
    a.net.ip.addRoute({ destination: "10.6.0.1/32", ifindex: 2 });
    expect(a.net.ip.routes().map(({ text }) => text)).toEqual([
      "default via 10.0.0.254 dev eth0 metric 100",
      "10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1",
      "10.5.0.0/16 via 10.0.0.2 dev eth0 src 10.0.0.1",
      "10.6.0.1 dev eth0 scope link",
    ]);
  });

  it("refuses nonsense with Linux's errno", () => {
    const { ip: layer } = twoHosts().a.net;
    expect(layer.addRoute({ destination: "default", via: ip("192.168.0.1") })).toBe(-Errno.ENETUNREACH);
    expect(layer.addRoute({ destination: "10.0.0.300/8", ifindex: 2 })).toBe(-Errno.EINVAL);
    expect(layer.addRoute({ destination: "10.5.0.0/16", ifindex: 9 })).toBe(-Errno.ENODEV);
    expect(layer.addRoute({ destination: "10.0.0.1/16", ifindex: 2 })).toBe(-Errno.EINVAL);
    expect(layer.deleteRoute("10.77.0.0/16")).toBe(-Errno.ESRCH);
    expect(layer.addAddress(2, "10.0.0.1/24")).toBe(-Errno.EEXIST);
    expect(layer.addAddress(9, "10.0.0.1/24")).toBe(-Errno.ENODEV);
    expect(layer.addAddress(2, "10.0.0.1")).toBe(-Errno.EINVAL);
  });

  it("deleting an address takes its network with it", () => {
    const { a } = twoHosts();
    expect(a.net.ip.isLocal(ip("10.0.0.1"))).toBe(true);
    expect(a.net.ip.deleteAddress(2, ip("10.0.0.1"))).toBe(0);
    expect(a.net.ip.isLocal(ip("10.0.0.1"))).toBe(false);
    expect(a.net.ip.route(ip("10.0.0.2"), null, 0)).toBe(-Errno.ENETUNREACH);
  });
});

describe("Route objects", () => {
  const route = (host: ReturnType<Lan["host"]>, to: string, source: string | null = null, ifindex = 0) => {
    const r = host.net.ip.route(ip(to), source === null ? null : ip(source), ifindex);
    if (typeof r === "number") throw new Error(`errno ${r}`);
    return r;
  };

  it("the same destination is the same object until the table changes", () => {
    const { a } = twoHosts();
    const first = route(a, "10.0.0.2");
    expect(route(a, "10.0.0.2")).toBe(first);
    expect(first).toMatchObject({ ifindex: 2, mtu: 1500, valid: true });
    expect(String(first.source)).toBe("10.0.0.1");
    a.net.ip.addRoute({ destination: "default", via: ip("10.0.0.2") });
    expect(first.valid).toBe(false);
    expect(route(a, "10.0.0.2")).not.toBe(first);
  });

  it("honours source and device; refuses a source that is not ours", () => {
    const { a } = twoHosts();
    a.net.ip.addAddress(2, "10.0.0.7/24");
    expect(String(route(a, "10.0.0.2", "10.0.0.7").source)).toBe("10.0.0.7");
    expect(String(route(a, "10.0.0.2").source)).toBe("10.0.0.1");
    expect(route(a, "172.16.0.1", null, 2).ifindex).toBe(2);
    expect(a.net.ip.route(ip("10.0.0.2"), ip("10.0.0.2"), 0)).toBe(-Errno.EINVAL);
    expect(a.net.ip.route(ip("10.0.0.2"), null, 9)).toBe(-Errno.ENODEV);
    expect(a.net.ip.route(ip("2001:db8::1"), null, 0)).toBe(-Errno.ENETUNREACH);
    expect(a.net.ip.route(ip("8.8.8.8"), null, 0)).toBe(-Errno.ENETUNREACH);
    expect(a.mib("IpOutNoRoutes")).toBe(1);
  });

  it("our own addresses and 0.0.0.0 go by lo", () => {
    const { a } = twoHosts();
    expect(route(a, "10.0.0.1")).toMatchObject({ ifindex: 1, mtu: 65536 });
    expect(String(route(a, "10.0.0.1").source)).toBe("10.0.0.1");
    expect(String(route(a, "0.0.0.0").destination)).toBe("127.0.0.1");
    expect(a.net.ip.isLocal(ip("127.3.2.1"))).toBe(true);
  });

  it("a learned path MTU holds for ten minutes", () => {
    const { lan, a } = twoHosts();
    const before = route(a, "10.0.0.2");
    const cache = (a.net.ip as unknown as { routeCache: { learnMtu(d: number, mtu: number): void } }).routeCache;
    cache.learnMtu(ip("10.0.0.2").v4, 1400);
    expect(before.valid).toBe(false);
    const after = route(a, "10.0.0.2");
    expect(after.mtu).toBe(1400);
    // A larger value is no news, and nobody makes us send tiny packets.
    cache.learnMtu(ip("10.0.0.2").v4, 1450);
    expect(after.valid).toBe(true);
    cache.learnMtu(ip("10.0.0.2").v4, 68);
    expect(route(a, "10.0.0.2").mtu).toBe(552);
    lan.runFor(599 * SECOND);
    expect(route(a, "10.0.0.2").mtu).toBe(552);
    lan.runFor(2 * SECOND);
    expect(after.valid).toBe(false);
    expect(route(a, "10.0.0.2").mtu).toBe(1500);
  });
});
