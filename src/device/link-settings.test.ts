import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_LINK_SETTINGS, formatLinkSettings, parseLinkSettings } from "./link-settings.ts";

function ok(text: string) {
  const parsed = parseLinkSettings(text);
  if ("error" in parsed) throw new Error(JSON.stringify(parsed));
  return parsed.settings;
}

describe("parseLinkSettings", () => {
  it("reads tc's words and units", () => {
    expect(ok("delay=2.5ms,rate=10mbit,loss=1%")).toEqual({ delayNs: 2_500_000, rateBitsPerSecond: 1e7, loss: 0.01 });
    expect(ok("delay=20, jitter=100us ,reorder=0.5,duplicate=.25,corrupt=0.1%")).toEqual({
      delayNs: 20e6,
      jitterNs: 100e3,
      reorder: 0.5,
      duplicate: 0.25,
      corrupt: 0.001,
    });
    expect(ok("rate=1kbps,mtu=1400,limit=5,down=on")).toEqual({
      rateBitsPerSecond: 8000,
      mtu: 1400,
      limit: 5,
      down: true,
    });
    expect(ok("")).toEqual({});
  });

  it.each([
    ["speed=3", '"speed" is not a link setting'],
    ["__proto__=1", '"__proto__" is not a link setting'],
    ["delay", "delay has no value"],
    ["delay=fast", '"fast" is not a time'],
    ["delay=-1ms", "is not a time"],
    ["delay=2h", "is not a time"],
    ["delay=99999s", "more than an hour"],
    ["rate=10mb", "is not a rate"],
    ["loss=5", "write 5%"],
    ["loss=101%", "more than 1"],
    ["mtu=20", "not between 68 and 65535"],
    ["limit=0", "not a number of frames"],
    ["down=maybe", "neither on nor off"],
  ])("says what is wrong with %s", (text, why) => {
    const parsed = parseLinkSettings(text);
    if (!("error" in parsed)) throw new Error("accepted");
    expect(parsed.error).toBe(`bad link setting "${text}"`);
    expect(parsed.why).toContain(why);
    expect(parsed.next).toContain("delay=2.5ms");
  });

  it("never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void parseLinkSettings(text)));
  });

  it("reads back what is formatted", () => {
    const chance = fc.nat(1000).map((n) => n / 1000);
    const settings = fc.record({
      delayNs: fc.nat(1e9),
      jitterNs: fc.nat(1e6),
      rateBitsPerSecond: fc.nat(1e9),
      loss: chance,
      duplicate: chance,
      corrupt: chance,
      reorder: chance,
      mtu: fc.constantFrom(0, 68, 1500),
      down: fc.boolean(),
      limit: fc.integer({ min: 1, max: 65536 }),
    });
    fc.assert(
      fc.property(settings, (s) => {
        const back = { ...DEFAULT_LINK_SETTINGS, ...ok(formatLinkSettings(s)) };
        for (const [key, value] of Object.entries(s)) {
          expect(back[key as keyof typeof back], key).toBeTypeOf(typeof value);
          if (typeof value === "number") expect(back[key as keyof typeof back]).toBeCloseTo(value, 6);
          else expect(back[key as keyof typeof back]).toBe(value);
        }
      }),
    );
  });
});
