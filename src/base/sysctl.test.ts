import { describe, expect, it } from "vitest";
import { Sysctls } from "./sysctl.ts";

describe("Sysctls", () => {
  it("has the defaults of Linux 6.12", () => {
    const s = new Sysctls();
    // Measured on a kernel, see the reference table: name → `sysctl -n`.
    const linux = {
      "net.core.somaxconn": "4096",
      "net.ipv4.tcp_max_syn_backlog": "2048",
      "net.ipv4.tcp_syncookies": "1",
      "net.ipv4.tcp_synack_retries": "5",
      "net.ipv4.tcp_syn_retries": "6",
      "net.ipv4.tcp_rmem": "4096 131072 6291456",
      "net.ipv4.tcp_wmem": "4096 16384 4194304",
      "net.ipv4.ip_local_port_range": "32768 60999",
      "net.ipv4.icmp_ratemask": "6168",
      "net.ipv4.neigh.default.unres_qlen": "101",
      "net.core.netdev_budget": "300",
    };
    for (const [name, value] of Object.entries(linux)) expect([name, s.get(name)]).toEqual([name, value]);
  });

  it("knows where Linux 6.18 differs", () => {
    const s = new Sysctls("linux-6.18");
    expect(s.get("net.ipv4.tcp_rmem")).toBe("4096 131072 33554432");
    expect(s.rmemMax).toBe(4194304);
    expect(s.wmemMax).toBe(4194304);
  });

  it("lists every field under exactly one name", () => {
    const s = new Sysctls();
    const names = s.list().map((row) => row.name);
    expect(names).toEqual([...names].sort());
    const values = s.list().flatMap((row) => row.value.split(" "));
    expect(values.length).toBe(Object.values(s).length);
    // Each field is reachable: setting every name to other values changes every field.
    const before = { ...s };
    for (const { name, value } of s.list()) {
      if (value === "cubic") {
        expect(s.set(name, "reno")).toBeNull();
        continue;
      }
      const other = value
        .split(" ")
        .map((n) => (s.set(name, `${Number(n) - 1}`) === null ? Number(n) - 1 : Number(n) + 1));
      expect(s.set(name, other.join(" "))).toBeNull();
    }
    for (const [field, value] of Object.entries(s))
      expect([field, value]).not.toEqual([field, before[field as keyof typeof before]]);
  });

  it("accepts its own defaults", () => {
    for (const profile of ["linux-6.12", "linux-6.18"] as const) {
      const s = new Sysctls(profile);
      for (const { name, value } of s.list()) expect(s.set(name, value)).toBeNull();
      expect(s).toEqual(new Sysctls(profile));
    }
  });

  it("writes, and fewer numbers change the first ones as in Linux", () => {
    const s = new Sysctls();
    expect(s.set("net.core.somaxconn", " 128\n")).toBeNull();
    expect(s.somaxconn).toBe(128);
    expect(s.set("net/ipv4/tcp_rmem", "8192\t65536")).toBeNull();
    expect(s.get("net.ipv4.tcp_rmem")).toBe("8192 65536 6291456");
    expect(s.set("net.ipv4.icmp_ratemask", "0x1819")).toBeNull();
    expect(s.icmpRatemask).toBe(0x1819);
    expect(s.set("net.ipv4.tcp_congestion_control", "reno")).toBeNull();
    expect(s.get("net.ipv4.tcp_congestion_control")).toBe("reno");
  });

  it.each([
    ["net.foo", "1", 'unknown sysctl "net.foo": run `sojourn sysctl` for the list'],
    [
      "net.core.somaxcon",
      "1",
      'unknown sysctl "net.core.somaxcon": did you mean net.core.somaxconn? Run `sojourn sysctl` for the list',
    ],
    [
      "somaxconn",
      "1",
      'unknown sysctl "somaxconn": did you mean net.core.somaxconn? Run `sojourn sysctl` for the list',
    ],
    [
      "net.core.somaxconn",
      "lots",
      'cannot set net.core.somaxconn to "lots": "lots" is not a whole number; it is still 4096',
    ],
    ["net.core.somaxconn", "", 'cannot set net.core.somaxconn to "": the value is empty; it is still 4096'],
    [
      "net.core.somaxconn",
      "1.5",
      'cannot set net.core.somaxconn to "1.5": "1.5" is not a whole number; it is still 4096',
    ],
    [
      "net.core.somaxconn",
      "-1",
      'cannot set net.core.somaxconn to "-1": -1 is outside 0 to 2147483647; it is still 4096',
    ],
    [
      "net.core.somaxconn",
      "1 2",
      'cannot set net.core.somaxconn to "1 2": it takes one number, not 2; it is still 4096',
    ],
    [
      "net.ipv4.tcp_syn_retries",
      "0",
      'cannot set net.ipv4.tcp_syn_retries to "0": 0 is outside 1 to 127; it is still 6',
    ],
    [
      "net.ipv4.tcp_congestion_control",
      "vegas",
      'cannot set net.ipv4.tcp_congestion_control to "vegas": there is reno and cubic; it is still cubic',
    ],
    [
      "net.ipv4.ip_local_port_range",
      "5000 4000",
      'cannot set net.ipv4.ip_local_port_range to "5000 4000": the first number must not be larger than the second; it is still 32768 60999',
    ],
  ])("refuses %s = %j", (name, value, message) => {
    const s = new Sysctls();
    expect(s.set(name, value)).toBe(message);
    expect(s).toEqual(new Sysctls());
  });

  it("answers undefined for an unknown name", () => {
    expect(new Sysctls().get("net.foo")).toBeUndefined();
    expect(new Sysctls().get("constructor")).toBeUndefined();
  });
});
