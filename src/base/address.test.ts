import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Address, formatV4, parseAddress, parseCidr, parseV4 } from "./address.ts";

const groups = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 });
const word = (g: number[], i: number) => (g[i] << 16) | g[i + 1];
const fromGroups = (g: number[]) => new Address(word(g, 0), word(g, 2), word(g, 4), word(g, 6));

describe("addresses", () => {
  it("parse what they print", () => {
    fc.assert(
      fc.property(groups, (g) => {
        const a = fromGroups(g);
        const back = parseAddress(a.toString());
        expect(back?.equals(a)).toBe(true);
      }),
    );
    fc.assert(
      fc.property(fc.nat(0xffffffff), (u32) => {
        expect(parseV4(formatV4(u32))).toBe(u32);
        const a = Address.v4(u32);
        expect(a.isV4).toBe(true);
        expect(a.v4).toBe(u32);
        expect(parseAddress(a.toString())?.equals(a)).toBe(true);
      }),
    );
  });

  it("print as RFC 5952 wants: lower case, no leading zeros, the longest run of zeros short", () => {
    fc.assert(
      fc.property(groups, (g) => {
        fc.pre(!fromGroups(g).isV4);
        const text = fromGroups(g).toString();
        expect(text).toMatch(/^[0-9a-f:]+$/);
        for (const part of text.split(":")) expect(part === "0" || !part.startsWith("0")).toBe(true);
        const halves = text.split("::");
        expect(halves.length).toBeLessThanOrEqual(2);
        const runs =
          g
            .map((x) => (x === 0 ? "0" : "x"))
            .join("")
            .match(/0+/g) ?? [];
        const longest = Math.max(0, ...runs.map((r) => r.length));
        expect(halves.length === 2).toBe(longest >= 2);
        if (halves.length === 2) {
          const shown = halves.flatMap((h) => (h === "" ? [] : h.split(":"))).length;
          expect(8 - shown).toBe(longest);
        }
      }),
    );
  });

  it.each([
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:0db8::0001", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:DB8:0:0:0:0:2:1", "2001:db8::2:1"],
    ["::", "::"],
    ["::1", "::1"],
    ["fe80::", "fe80::"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["192.0.2.1", "192.0.2.1"],
  ])("%s prints as %s", (text, canonical) => {
    expect(parseAddress(text)?.toString()).toBe(canonical);
  });

  it.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.-4",
    " 1.2.3.4",
    "1.2.3.4x",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "g::",
    "1.2.3.4::",
    "::1.2.3",
    ":1:2:3:4:5:6:7",
  ])("refuses %j", (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it("read and write 16 bytes", () => {
    fc.assert(
      fc.property(groups, fc.nat(5), (g, at) => {
        const view = new DataView(new ArrayBuffer(24));
        fromGroups(g).write(view, at);
        expect(g.map((_, i) => view.getUint16(at + 2 * i))).toEqual(g);
        expect(Address.read(view, at).equals(fromGroups(g))).toBe(true);
      }),
    );
  });

  it("know their wildcards", () => {
    expect(parseAddress("::")?.isWildcard).toBe(true);
    expect(parseAddress("0.0.0.0")?.isWildcard).toBe(true);
    expect(parseAddress("::1")?.isWildcard).toBe(false);
    expect(parseAddress("1::ffff:0:0")?.isWildcard).toBe(false);
  });

  it.each([
    ["10.0.0.1/24", "10.0.0.1", 24],
    ["0.0.0.0/0", "0.0.0.0", 0],
    ["10.1.2.3/32", "10.1.2.3", 32],
  ])("%s is a network", (text, address, prefix) => {
    const cidr = parseCidr(text);
    expect(cidr?.address.toString()).toBe(address);
    expect(cidr?.prefix).toBe(prefix);
  });

  it.each(["10.0.0.1", "10.0.0.1/33", "10.0.0.1/", "10.0.0.1/ 8", "10.0.0.1/08", "10.0.0/8", "10.0.0.1/-1"])(
    "%j is not a network",
    (text) => {
      expect(parseCidr(text)).toBeUndefined();
    },
  );
});
