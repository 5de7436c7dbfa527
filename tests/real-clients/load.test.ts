/** Load generators against every way to run `serve`: nothing fails, nothing stays behind. */
import { describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { curl, run, serve } from "../support/serve.ts";

const MODES = [
  { mode: "thread", args: [] },
  { mode: "inline", args: ["--kernel", "inline"] },
  { mode: "two workers", args: ["--workers", "2"] },
];

describe.skipIf(requires("ab", "curl")).each(MODES)("ab, $mode", ({ mode, args }) => {
  it.each([
    ["a connection each", []],
    ["kept alive", ["-k"]],
  ])("finishes 1000 requests of 20 clients (%s) without a failure", async (name, options) => {
    const server = await serve(...args);
    try {
      const ab = await run("ab", ["-q", ...options, "-n", "1000", "-c", "20", `${server.site}/hello`]);
      expect(ab.code).toBe(0);
      expect(ab.out).toMatch(/^Complete requests: +1000$/m);
      expect(ab.out).toMatch(/^Failed requests: +0$/m);
      expect(ab.out).not.toContain("Non-2xx");
      const perSecond = /^Requests per second: +([\d.]+)/m.exec(ab.out)?.[1];
      process.stderr.write(`[figure] ab -n 1000 -c 20, ${name}, ${mode}: ${perSecond} requests/s\n`);
      expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
    } finally {
      const { code, err } = await server.stop();
      expect([code, err]).toEqual([0, ""]);
    }
  });
});

describe.skipIf(requires("wrk", "curl")).each(MODES)("wrk, $mode", ({ mode, args }) => {
  it("runs 64 connections for two seconds without an error, and the server is itself again afterwards", async () => {
    const server = await serve(...args);
    try {
      const wrk = await run("wrk", ["-c", "64", "-t", "1", "-d", "2s", `${server.site}/hello`]);
      expect(wrk.code).toBe(0);
      expect(wrk.out).not.toMatch(/Socket errors|Non-2xx/);
      const requests = Number(/(\d+) requests in/.exec(wrk.out)?.[1]);
      expect(requests).toBeGreaterThan(100);
      process.stderr.write(`[figure] wrk -c64, ${mode}: ${Math.round(requests / 2)} requests/s\n`);
      expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
      const open = async () =>
        (await server.get<{ state: string }[]>("/api/sockets")).filter(
          ({ state }) => !/^LISTEN|^TIME-WAIT/.test(state),
        );
      await expect.poll(open, { timeout: 10_000 }).toEqual([]);
      const counters = await server.counters();
      expect([counters["TcpInErrs"], counters["TcpExtListenDrops"]]).toEqual([0, 0]);
      // Whatever was sampled adds up, also under load.
      const journeys = await server.journeys("limit=1000");
      expect(journeys.length).toBeGreaterThan(10);
      for (const journey of journeys) {
        const sum = journey.segments.reduce((total, { startNs, endNs }) => total + endNs - startNs, 0);
        expect(sum).toBe(journey.totalNs);
      }
    } finally {
      expect((await server.stop()).code).toBe(0);
    }
  });
});
