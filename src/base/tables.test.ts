/** The tables of law 8 are well formed: what others index by number, name or position. */
import { describe, expect, it } from "vitest";
import { DROP_REASONS, DropReason, dropReasonName } from "./drop-reasons.ts";
import { Errno, errnoMessage, errnoName, SyscallError } from "./errno.ts";
import { MIB_NAMES, Mib, MibId } from "./mib.ts";
import { STAGES, WAIT_REASONS } from "./stages.ts";
import { COST_KINDS, Cost } from "./time.ts";
import { Ending, Held, Label, Parked, Point } from "./tracepoints.ts";

describe("drop reasons", () => {
  it("are numbered by position, with unique Linux names and a documentation each", () => {
    expect(DropReason.none).toBe(0);
    expect(DROP_REASONS.map((r) => r.id)).toEqual(DROP_REASONS.map((_, i) => i));
    expect(Object.values(DropReason)).toEqual(DROP_REASONS.map((r) => r.id));
    const names = DROP_REASONS.slice(1).map((r) => r.name);
    expect(new Set(names).size).toBe(names.length);
    for (const row of DROP_REASONS.slice(1)) {
      expect(row.name).toMatch(/^[A-Z][A-Z0-9_]+$/);
      expect(row.doc).toMatch(/\.$/);
    }
    expect(dropReasonName(DropReason.noSocket)).toBe("NO_SOCKET");
    expect(dropReasonName(9999)).toBe("REASON_9999");
  });
});

describe("stages", () => {
  it("have their position as id, unique names and a group", () => {
    expect(STAGES.map((s) => s.id)).toEqual(STAGES.map((_, i) => i));
    expect(new Set(STAGES.map((s) => s.name)).size).toBe(STAGES.length);
    for (const s of STAGES) {
      expect(s.name).toMatch(/^[a-z-]+$/);
      expect(s.doc).toMatch(/\.$/);
    }
  });

  it("cover the six words and respond, in the order a request meets them", () => {
    const groups = new Set(STAGES.map((s) => s.group));
    for (const group of ["accept", "read", "decrypt", "parse", "decode", "process", "respond"]) {
      expect(groups).toContain(group);
    }
    const first = (group: string) => STAGES.findIndex((s) => s.group === group);
    expect(first("decrypt")).toBeLessThan(first("parse"));
    expect(first("parse")).toBeLessThan(first("decode"));
    expect(first("decode")).toBeLessThan(first("process"));
    expect(first("process")).toBeLessThan(first("respond"));
  });

  it("explain every reason to wait", () => {
    for (const doc of Object.values(WAIT_REASONS)) expect(doc.length).toBeGreaterThan(10);
  });
});

describe("numbers", () => {
  it("are unique within each table", () => {
    for (const table of [Point, Held, Ending, Parked, Label, Cost, Errno]) {
      const values = Object.values(table);
      expect(new Set(values).size).toBe(values.length);
    }
    expect(Object.values(Cost)).toEqual(Array.from({ length: COST_KINDS }, (_, i) => i));
  });

  it("of errno are Linux's", () => {
    expect([
      Errno.EAGAIN,
      Errno.EPIPE,
      Errno.EADDRINUSE,
      Errno.ECONNRESET,
      Errno.ECONNREFUSED,
      Errno.ETIMEDOUT,
    ]).toEqual([11, 32, 98, 104, 111, 110]);
    expect(errnoName(-104)).toBe("ECONNRESET");
    expect(errnoMessage(98)).toBe("Address already in use");
    const error = new SyscallError(98, "bind", "0.0.0.0:80");
    expect(error).toMatchObject({ code: "EADDRINUSE", errno: -98, syscall: "bind" });
    expect(error.message).toBe("bind EADDRINUSE: Address already in use 0.0.0.0:80");
  });
});

describe("MIB", () => {
  it("has as many counters per group as Linux 6.18", () => {
    const count = (group: string) => MIB_NAMES.filter((row) => row.group === group).length;
    const sizes = Object.fromEntries(MIB_NAMES.map(({ group }) => [group, count(group)]));
    expect(sizes).toEqual({ Ip: 20, Icmp: 29, Tcp: 15, Udp: 9, TcpExt: 135, IpExt: 18 });
  });

  it("counts by number and shows by name", () => {
    const mib = new Mib();
    mib.values[MibId.TcpExtListenOverflows]++;
    expect(mib.get("TcpExtListenOverflows")).toBe(1);
    expect(mib.snapshot().TcpExtListenOverflows).toBe(1);
    expect(mib.snapshot().TcpRtoMin).toBe(200);
    expect(new Set(MIB_NAMES.map((row) => row.name)).size).toBe(MIB_NAMES.length);
  });
});
