import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { redactTarget } from "./journey.ts";
import { formatNs, ROW_HEADING, renderFlow, renderLine, renderRow, renderWaterfall } from "./render.ts";
import { RandomWorld } from "./testing/random-world.ts";
import { RecordScript } from "./testing/record-script.ts";

function sample() {
  const script = new RecordScript();
  script.at(1000).syn(1, 500, 1000).at(21_000).established(1).at(41_000).accepted(1).segment(1, 0, 50, 31_000, 31_000);
  script
    .at(42_000)
    .read(1, 0, 50)
    .at(43_000)
    .readEnd(1, 50)
    .parseBegin(1, 0)
    .at(44_000)
    .request(1, 1, 0, 50, 50)
    .routed(1);
  script
    .begin(1)
    .at(84_000)
    .end(1)
    .responseBegin(1, 0)
    .response(1, 1, 0, 10)
    .at(85_000)
    .write(1, 0, 10)
    .at(87_000)
    .writeEnd(1, 10);
  const frame = script.cut(1, 0, 10);
  return script.at(90_000).transmitted(frame, 87_000).at(100_500).acked(1, 10).journey(1);
}

describe("times for people", () => {
  it.each([
    [0, "0 ns"],
    [999, "999 ns"],
    [1000, "1.00 µs"],
    [1474, "1.47 µs"],
    [12_345, "12.3 µs"],
    [123_456, "123 µs"],
    [999_600, "1.00 ms"],
    [2_100_000_000, "2.10 s"],
    [120_000_000_000, "120 s"],
  ])("%i ns is %s", (ns, text) => {
    expect(formatNs(ns)).toBe(text);
  });
});

describe("the waterfall", () => {
  it("draws waits and works differently, each in its place", () => {
    const lines = renderWaterfall(sample());
    expect(lines[0]).toBe("#1  GET /hello  200  ok");
    expect(lines[2]).toBe("responded in 89.5 µs, 100 µs in all");
    // 22 cells for 100 µs: the SYN queue from 0.1 to 4.5, the handler from 9.6 to 18.4
    expect(lines).toContain("   500 ns syn-queue      ░░░░░                    20.0 µs handshake");
    expect(lines).toContain("  43.5 µs process                 █████████       40.0 µs");
  });

  it("marks with the paint given and nothing else", () => {
    const styles = new Set<string>();
    renderWaterfall(sample(), (style, text) => {
      styles.add(style);
      return text;
    });
    expect([...styles].sort()).toEqual(["dim", "good", "strong", "wait", "work"]);
  });

  it("fits 80 columns whatever the journey", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0x7fffffff }), (seed) => {
        const world = new RandomWorld(seed);
        world.run();
        expect(ROW_HEADING.length).toBeLessThanOrEqual(80);
        for (const journey of world.script.journeys()) {
          for (const line of [...renderWaterfall(journey), renderRow(journey)])
            expect([...line].length).toBeLessThanOrEqual(80);
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe("the flow", () => {
  it("goes in and comes back, with the time at each place", () => {
    const { request, response } = renderFlow(sample());
    expect(request).toBe(
      "Client 10.0 µs→NIC→RAM Buffer 500 ns→Kernel 30.0 µs→Socket 1.00 µs→FD 1.00 µs→Runtime→Goroutine 1.00 µs→Mux" +
        "→Handler 40.0 µs",
    );
    expect(response).toBe("Handler→Goroutine 1.00 µs→FD 2.00 µs→Socket→Kernel→NIC 3.00 µs→Client 10.5 µs");
    expect(renderLine(sample())).toContain("#1 GET /hello ok: Client");
  });
});

describe("query values", () => {
  it.each([
    ["/a", "/a"],
    ["/a?", "/a?"],
    ["/a?x", "/a?…"],
    ["/a?x=1&y=2", "/a?x=…&y=…"],
    ["/a?x=1=2&", "/a?x=…&"],
  ])("%s is shown as %s", (target, shown) => {
    expect(redactTarget(target)).toBe(shown);
  });
});
