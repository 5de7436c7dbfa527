import { describe, expect, it } from "vitest";
import { type Uplink, uplinkPlacement } from "./placement.ts";

const TAP: Uplink = { device: { kind: "tap", name: "tap0" }, address: "198.18.0.2", prefix: 24, router: false };

describe("a server on a real link", () => {
  it("stands there alone; the outside gets the first free address", () => {
    const { spec, outsideCidr, uplinkNic, clientHost } = uplinkPlacement(TAP, {});
    expect(spec.hosts).toEqual([{ name: "server", nics: [{ name: "tap0", cidr: "198.18.0.2/24" }] }]);
    expect([spec.links, clientHost]).toEqual([[], undefined]);
    expect(outsideCidr).toBe("198.18.0.1/24");
    expect(uplinkNic).toEqual({ host: "server", name: "tap0", mac: new Uint8Array([2, 0, 198, 18, 0, 2]) });
  });

  it("leaves the first address to itself and takes the gateway for the outside", () => {
    expect(uplinkPlacement({ ...TAP, address: "198.18.0.1" }, {}).outsideCidr).toBe("198.18.0.2/24");
    const { outsideCidr, spec } = uplinkPlacement({ ...TAP, gateway: "198.18.0.9" }, {});
    expect([outsideCidr, spec.hosts[0]?.gateway]).toEqual(["198.18.0.9/24", "198.18.0.9"]);
  });

  it("keeps its address behind our router, which takes the last one", () => {
    const { spec, uplinkNic } = uplinkPlacement({ ...TAP, router: true }, { delayNs: 1e6 });
    const [router, server] = spec.hosts;
    expect(router?.nics).toEqual([
      { name: "tap0", cidr: "198.18.0.254/24" },
      { name: "eth1", cidr: "198.18.0.254/32", link: "router-server" },
    ]);
    expect([router?.forward, router?.routes]).toEqual([true, [{ destination: "198.18.0.2/32", dev: "eth1" }]]);
    expect(server?.nics).toEqual([{ name: "eth0", cidr: "198.18.0.2/24", link: "router-server" }]);
    expect(spec.links).toEqual([{ name: "router-server", settings: { delayNs: 1e6 } }]);
    expect(uplinkNic?.host).toBe("router");
  });

  it.each([
    [{ ...TAP, address: "198.18.0.0" }, "is no host address"],
    [{ ...TAP, address: "198.18.0.255" }, "is no host address"],
    [{ ...TAP, prefix: 31 }, "is no host address"],
    [{ ...TAP, prefix: 30, router: true }, "leaves no address for the others"],
    [{ ...TAP, gateway: "198.18.1.1" }, "is not a neighbour of"],
    [{ ...TAP, gateway: "198.18.0.2" }, "is not a neighbour of"],
  ])("refuses %j: %s", (uplink, what) => {
    expect(() => uplinkPlacement(uplink, {})).toThrow(what);
  });
});
