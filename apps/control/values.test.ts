import { describe, expect, it } from "vitest";
import { UsageError } from "../control/exit-codes.ts";
import * as values from "./values.ts";

describe("values", () => {
  it("reads durations", () => {
    const texts = { "10ms": 1e7, "1.5s": 1.5e9, "200us": 2e5, "200µs": 2e5, "3ns": 3, "2m": 12e10, "0s": 0 };
    for (const [text, ns] of Object.entries(texts)) expect(values.parseDurationNs("--x", text)).toBe(ns);
    for (const text of ["10", "ms", "-1ms", "1h", "1 ms", "1e3ms", "", "9999999999999999s"])
      expect(() => values.parseDurationNs("--x", text)).toThrow(UsageError);
  });

  it("reads sizes", () => {
    expect([
      values.parseBytes("--x", "64MiB"),
      values.parseBytes("--x", "1024"),
      values.parseBytes("--x", "1GiB"),
    ]).toEqual([67108864, 1024, 2 ** 30]);
  });

  it("lets the control address be loopback only, since the token goes there", () => {
    expect(values.parseControlUrl("http://127.0.0.1:4000/x")).toBe("http://127.0.0.1:4000");
    for (const text of [
      "http://10.0.0.1:4000",
      "https://127.0.0.1:4000",
      "127.0.0.1:4000",
      "http://127.0.0.1.evil.example",
      "file:///x",
    ]) {
      expect(() => values.parseControlUrl(text)).toThrow(UsageError);
    }
  });

  it("reads link settings and refuses inherited names", () => {
    const pairs = values.splitPairs("--link", "delay=10ms,rate=10mbit,loss=1%,mtu=1400");
    expect(values.parseLinkSettings("--link", pairs)).toEqual({
      delayNs: 1e7,
      rateBitsPerSecond: 1e7,
      loss: 0.01,
      mtu: 1400,
    });
    for (const key of ["constructor", "toString", "__proto__"])
      expect(() => values.parseLinkSettings("--link", [[key, "1"]])).toThrow(UsageError);
  });
});
