import { describe, expect, it } from "vitest";
import { ip, Lan, macOf, type TestHost, twoHosts } from "../../tests/conformance/lan.ts";
import { SECOND } from "../base/time.ts";
import type { LinkTap } from "../device/wire-link.ts";
import * as arp from "../wire/arp.ts";
import { EtherType } from "../wire/ethernet.ts";

const payload = new Uint8Array(20);

/** Writes down every ARP message as tcpdump would. */
function arpLog(lines: string[]): LinkTap {
  return (direction, bytes, at, _len, nowNs) => {
    if (((bytes[at + 12] << 8) | bytes[at + 13]) !== EtherType.arp) return;
    const cast = bytes[at] === 0xff ? "broadcast" : "unicast";
    lines.push(`${nowNs / 1e6} ms ${direction} ${cast} ${arp.pretty(arp.parse(bytes, at + 14))}`);
  };
}

describe("resolution", () => {
  it("asks by broadcast, keeps the packet, sends it when the answer comes", () => {
    const { lan, a, b, link } = twoHosts({ delayNs: 1e6 }, 1, { coalescing: { rxUsecs: 0, rxFrames: 1 } });
    const log: string[] = [];
    link.addTap(arpLog(log));
    expect(a.send("10.0.0.2", payload)).toBe(0);
    expect(a.neighbours()).toEqual({ "10.0.0.2": "INCOMPLETE" });
    lan.runFor(10e6);
    expect(log).toEqual([
      "0 ms 0 broadcast ARP who-has 10.0.0.2 tell 10.0.0.1",
      "1 ms 1 unicast ARP 10.0.0.2 is-at 02:00:00:00:00:02",
    ]);
    expect(b.probe.arrived.map(({ atNs }) => atNs)).toEqual([3e6]);
    expect(a.neighbours()).toEqual({ "10.0.0.2": "REACHABLE" });
    // Who was asked learned who asked, but has no proof.
    expect(b.neighbours()).toEqual({ "10.0.0.1": "STALE" });
    expect(a.net.ip.neighbours()[0].text).toBe("10.0.0.2 dev eth0 lladdr 02:00:00:00:00:02 REACHABLE");
  });

  it("gives up after three broadcasts a second apart and tells the sender: host unreachable", () => {
    const { lan, a, link } = twoHosts();
    const log: string[] = [];
    link.addTap(arpLog(log));
    a.send("10.0.0.9", payload);
    a.echo("10.0.0.9");
    lan.runFor(2.999e9);
    expect(log.map((line) => line.split(" ")[0])).toEqual(["0", "1000", "2000"]);
    expect(a.neighbours()).toEqual({ "10.0.0.9": "INCOMPLETE" });
    lan.runFor(0.1e9);
    expect(a.neighbours()).toEqual({ "10.0.0.9": "FAILED" });
    expect(a.dropped()).toEqual({ NEIGH_FAILED: 2 });
    // By way of lo, as on Linux: type 3 code 1.
    const error = { type: 3, code: 1, info: 0, peer: "10.0.0.9" };
    expect(a.probe.errors).toEqual([error]);
    expect(a.ping.errors).toEqual([error]);
    expect(a.net.ip.neighbours()[0].text).toBe("10.0.0.9 dev eth0 FAILED");
    // The next packet asks again at once.
    a.send("10.0.0.9", payload);
    expect(log).toHaveLength(4);
    lan.runFor(10e9);
    expect(lan.hosts[0].env.pool.outstanding).toBe(0);
  });

  it("keeps unres_qlen packets and drops the oldest", () => {
    const { lan, a, b, link } = twoHosts();
    link.set({ down: true });
    for (let i = 0; i < 105; i++) a.send("10.0.0.2", Uint8Array.of(i));
    expect(a.dropped()).toEqual({ NEIGH_QUEUEFULL: 4 });
    link.set({ down: false });
    lan.runFor(1.5e9);
    expect(b.probe.arrived.map(({ payload: [n] }) => n)).toEqual(Array.from({ length: 101 }, (_, i) => i + 4));
  });

  it("sends ARP ahead of data that waits in the qdisc", () => {
    const { lan, a, b, link } = twoHosts({ rateBitsPerSecond: 1e6 });
    a.net.ip.addNeighbour(2, ip("10.0.0.77"), macOf(77));
    const order: number[] = [];
    link.addTap((_d, bytes, at) => order.push((bytes[at + 12] << 8) | bytes[at + 13]));
    for (let i = 0; i < 400; i++) a.send("10.0.0.77", new Uint8Array(50));
    a.send("10.0.0.2", payload);
    lan.runFor(10e9);
    // 1 on the wire and 256 in the ring were there before; 143 in the qdisc were overtaken.
    expect(order.indexOf(EtherType.arp)).toBe(257);
    expect(b.probe.arrived).toHaveLength(1);
  });
});

describe("reachability", () => {
  it("REACHABLE → STALE when nobody confirms, within 0.5 to 1.5 of base_reachable_time", () => {
    const { lan, a } = twoHosts();
    a.send("10.0.0.2", payload);
    lan.runFor(14.9 * SECOND);
    expect(a.neighbours()).toEqual({ "10.0.0.2": "REACHABLE" });
    lan.runFor(31 * SECOND);
    expect(a.neighbours()).toEqual({ "10.0.0.2": "STALE" });
  });

  it("use of a STALE entry: DELAY 5 s, then one unicast probe proves it again", () => {
    const { lan, a, link } = twoHosts();
    a.send("10.0.0.2", payload);
    lan.runFor(60 * SECOND);
    expect(a.neighbours()["10.0.0.2"]).toBe("STALE");
    const log: string[] = [];
    link.addTap(arpLog(log));
    const startNs = a.env.clock.nowNs;
    a.send("10.0.0.2", payload);
    expect(a.neighbours()["10.0.0.2"]).toBe("DELAY");
    lan.runFor(4.9 * SECOND);
    expect([a.neighbours()["10.0.0.2"], log]).toEqual(["DELAY", []]);
    lan.runFor(0.2 * SECOND);
    expect(a.neighbours()["10.0.0.2"]).toBe("REACHABLE");
    expect(log[0]).toBe(`${(startNs + 5 * SECOND) / 1e6} ms 0 unicast ARP who-has 10.0.0.2 tell 10.0.0.1`);
  });

  it("progress of a connection confirms without a probe", () => {
    const { lan, a, link } = twoHosts();
    a.send("10.0.0.2", payload);
    lan.runFor(60 * SECOND);
    const log: string[] = [];
    link.addTap(arpLog(log));
    a.send("10.0.0.2", payload);
    lan.runFor(2 * SECOND);
    const route = a.net.ip.route(ip("10.0.0.2"), null, 0);
    if (typeof route === "number") throw new Error("no route");
    a.net.ip.confirm(route);
    lan.runFor(4 * SECOND);
    expect(a.neighbours()["10.0.0.2"]).toBe("REACHABLE");
    expect(log).toEqual([]);
  });

  it("PROBE: three unicasts without an answer, then FAILED", () => {
    const { lan, a, link } = twoHosts();
    a.send("10.0.0.2", payload);
    lan.runFor(60 * SECOND);
    const log: string[] = [];
    link.addTap(arpLog(log));
    link.set({ down: true });
    a.send("10.0.0.2", payload);
    lan.runFor(5.5 * SECOND);
    expect(a.neighbours()["10.0.0.2"]).toBe("PROBE");
    lan.runFor(2.6 * SECOND);
    expect(a.neighbours()["10.0.0.2"]).toBe("FAILED");
    expect(log.filter((line) => line.includes("unicast"))).toHaveLength(3);
  });
});

describe("what others say", () => {
  /** Sends an ARP message from b as it stands. */
  function tell(lan: Lan, message: arp.Repr, dst = "ff") {
    const b = lan.hosts[1];
    const skb = b.env.pool.alloc(arp.LEN, 14);
    if (skb === null) throw new Error("no memory");
    skb.bytes.set(arp.emit(message), skb.put(arp.LEN));
    const at = skb.push(14);
    skb.bytes.set(dst === "ff" ? new Uint8Array(6).fill(0xff) : macOf(1), at);
    skb.bytes.set([...macOf(2), 0x08, 0x06], at + 6);
    b.net.devices[1].transmit(skb);
    lan.runFor(1e6);
  }
  const gratuitous = (mac: string, address = "10.0.0.2"): arp.Repr => ({
    operation: 1,
    senderMac: mac,
    senderIp: ip(address).v4,
    targetMac: "00:00:00:00:00:00",
    targetIp: ip(address).v4,
  });

  it("a gratuitous ARP moves an entry at once, and makes none", () => {
    const { lan, a } = twoHosts();
    tell(lan, gratuitous("02:00:00:00:00:55"));
    expect(a.neighbours()).toEqual({});
    a.send("10.0.0.2", payload);
    lan.runFor(1e6);
    tell(lan, gratuitous("02:00:00:00:00:55"));
    expect(a.net.ip.neighbours()[0]).toMatchObject({ mac: "02:00:00:00:00:55", state: "STALE" });
  });

  it("a second answer within locktime does not replace the first", () => {
    const { lan, a } = twoHosts();
    a.send("10.0.0.2", payload);
    lan.runFor(1e6);
    const answer: arp.Repr = {
      operation: 2,
      senderMac: "02:00:00:00:00:66",
      senderIp: ip("10.0.0.2").v4,
      targetMac: "02:00:00:00:00:01",
      targetIp: ip("10.0.0.1").v4,
    };
    tell(lan, answer, "a");
    expect(a.net.ip.neighbours()[0].mac).toBe("02:00:00:00:00:02");
    lan.runFor(2 * SECOND);
    tell(lan, answer, "a");
    expect(a.net.ip.neighbours()[0].mac).toBe("02:00:00:00:00:66");
  });

  it("a permanent entry is not moved", () => {
    const { lan, a } = twoHosts();
    a.net.ip.addNeighbour(2, ip("10.0.0.2"), macOf(2));
    tell(lan, gratuitous("02:00:00:00:00:55"));
    expect(a.net.ip.neighbours()[0].text).toBe("10.0.0.2 dev eth0 lladdr 02:00:00:00:00:02 PERMANENT");
  });

  it("nobody can claim our own address, and a malformed message is dropped", () => {
    const { lan, a } = twoHosts();
    tell(lan, gratuitous("02:00:00:00:00:55", "10.0.0.1"));
    expect(a.neighbours()).toEqual({});
    tell(lan, { ...gratuitous("02:00:00:00:00:55"), operation: 9 });
    expect(a.dropped()).toEqual({ ARP_INVALID: 2 });
  });

  it("answers a duplicate-address probe without learning from it", () => {
    const { lan, a, link } = twoHosts();
    const log: string[] = [];
    link.addTap(arpLog(log));
    tell(lan, { ...gratuitous("02:00:00:00:00:55"), senderIp: 0, targetIp: ip("10.0.0.1").v4 });
    expect(a.neighbours()).toEqual({});
    expect(log[1]).toContain("unicast ARP 10.0.0.1 is-at 02:00:00:00:00:01");
  });
});

describe("proxy ARP", () => {
  /** One network on both sides of a router: 10.0.0.1 – router 10.0.0.254 – 10.0.0.2. */
  function split(proxyArp: number) {
    const lan = new Lan();
    const [left, router, right] = ["left", "router", "right"].map((name) => lan.host(name)) as [
      TestHost,
      TestHost,
      TestHost,
    ];
    left.addNic(1, "10.0.0.1/24");
    router.addNic(2, "10.0.0.254/24");
    router.addNic(3, "10.0.0.254/32");
    right.addNic(4, "10.0.0.2/24");
    router.env.sysctl.ipForward = 1;
    router.env.sysctl.proxyArp = proxyArp;
    router.net.ip.addRoute({ destination: "10.0.0.2/32", ifindex: 3 });
    const link = lan.link(left.nics[0], router.nics[0]);
    lan.link(router.nics[1], right.nics[0]);
    return { lan, left, right, link };
  }

  it("answers for a host behind the router, both ways, with the router's own MAC addresses", () => {
    const { lan, left, right } = split(1);
    left.echo("10.0.0.2");
    lan.runFor(SECOND);
    expect(left.ping.arrived.map(({ from }) => from)).toEqual(["10.0.0.2"]);
    const lladdr = (host: TestHost, address: string) =>
      host.net.ip
        .neighbours()
        .find((row) => row.address === address)
        ?.text.split(" ")[4];
    expect(lladdr(left, "10.0.0.2")).toBe("02:00:00:00:00:02");
    expect(lladdr(right, "10.0.0.1")).toBe("02:00:00:00:00:03");
  });

  it("says nothing without net.ipv4.conf.all.proxy_arp, nor for an address on the asker's own side", () => {
    const { lan, left } = split(0);
    left.echo("10.0.0.2");
    lan.runFor(4 * SECOND);
    expect(left.neighbours()).toEqual({ "10.0.0.2": "FAILED" });
    const on = split(1);
    on.left.echo("10.0.0.7");
    on.lan.runFor(4 * SECOND);
    expect(on.left.neighbours()).toEqual({ "10.0.0.7": "FAILED" });
  });
});

describe("bounds", () => {
  it("never holds more than gc_thresh3 entries, and collects idle ones", () => {
    const lan = new Lan();
    const a = lan.host("a");
    a.addNic(1, "10.0.0.1/16");
    for (let i = 0; i < 1100; i++) {
      a.send(`10.0.${1 + (i >> 8)}.${i & 255}`, payload);
    }
    // All are INCOMPLETE and in use: the table is full.
    expect(a.net.ip.neighbours()).toHaveLength(1024);
    // No cable is plugged in: the 1024 questions went nowhere.
    expect(a.dropped()).toEqual({ NEIGH_FAILED: 76, DEV_READY: 1024 });
    lan.runFor(100 * SECOND);
    expect(a.send("10.0.200.1", payload)).toBe(0);
    expect(a.net.ip.neighbours()).toHaveLength(1);
    lan.close();
    expect(lan.outstanding).toEqual({ skbs: 0, slots: 0 });
  });
});
