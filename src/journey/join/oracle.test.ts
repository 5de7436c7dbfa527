import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NEVER } from "../../base/time.ts";
import type { Journey } from "../journey.ts";
import { Oracle } from "../testing/oracle.ts";
import { RandomWorld } from "../testing/random-world.ts";

function text(segment: Journey["segments"][number]): string {
  const by = segment.by === undefined ? "" : ` by ${segment.by}`;
  return segment.reason === undefined ? segment.stage : `${segment.stage}(${segment.reason}${by})`;
}

/** The laws that hold for every journey whatever happened. */
function checkLaws(journey: Journey, ids: ReadonlySet<number>): void {
  const endNs = journey.startNs + journey.totalNs;
  let at = journey.startNs;
  for (const segment of journey.segments) {
    expect(segment.startNs).toBe(at);
    expect(Number.isInteger(segment.endNs)).toBe(true);
    expect(segment.endNs).toBeGreaterThanOrEqual(segment.startNs);
    at = segment.endNs;
    expect(segment.reason !== undefined, `${text(segment)}: waits and only waits have reasons`).toBe(
      segment.kind === "wait",
    );
    if (segment.reason === "loop-busy" || segment.reason === "pipeline") expect(segment.by).toBeDefined();
    if (typeof segment.by === "number") expect(ids.has(segment.by)).toBe(true);
    expect(segment.by === undefined || segment.by !== journey.id).toBe(true);
  }
  expect(at).toBe(endNs);
  for (const span of journey.spans) {
    expect(span.startNs).toBeGreaterThanOrEqual(journey.startNs);
    expect(span.endNs).toBeLessThanOrEqual(endNs);
    expect(span.endNs).toBeGreaterThanOrEqual(span.startNs);
  }
  for (const mark of journey.marks) expect(mark.atNs >= journey.startNs && mark.atNs <= endNs).toBe(true);
}

/** The journey of each request against the oracle at every instant between two segment borders and events. */
function checkAgainstOracle(world: RandomWorld, journeys: readonly Journey[]): number {
  let compared = 0;
  for (const conn of world.connections) {
    for (const request of conn.requests) {
      const oracle = new Oracle(world, conn, request);
      const journey = journeys.find((j) => j.id === request.id);
      const told = request.headParsedNs !== NEVER && oracle.endNs() !== NEVER;
      expect(journey !== undefined, `request ${request.id} is told`).toBe(told);
      if (journey === undefined) continue;
      expect(journey.startNs, "start").toBe(oracle.startNs());
      expect(journey.startNs + journey.totalNs, "end").toBe(oracle.endNs());
      expect(journey.outcome).toBe(oracle.ackedNs() <= conn.closedNs && oracle.ackedNs() !== NEVER ? "ok" : "reset");
      for (const segment of journey.segments) {
        for (let t = segment.startNs + 1; t < segment.endNs; t += 2) {
          if (oracle.label(t) !== text(segment)) {
            expect(`request ${request.id} at ${t}: ${text(segment)}`).toBe(
              `request ${request.id} at ${t}: ${oracle.label(t)}`,
            );
          }
          compared++;
        }
      }
    }
  }
  return compared;
}

describe("every instant has the label the contract's four rules give it", () => {
  it("in random worlds of connections, requests, losses, pauses and resets", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0x7fffffff }), (seed) => {
        const world = new RandomWorld(seed);
        world.run();
        const journeys = world.script.journeys();
        const ids = new Set(world.connections.flatMap((c) => c.requests.map((r) => r.id)));
        for (const journey of journeys) checkLaws(journey, ids);
        checkAgainstOracle(world, journeys);
        const counters = world.script.collector.counters();
        expect(counters).toMatchObject({ lostRecords: 0, incomplete: 0, late: 0 });
      }),
      { numRuns: 150 },
    );
  });

  it("and the worlds are not empty", () => {
    let instants = 0;
    const stages = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const world = new RandomWorld(seed);
      world.run();
      const journeys = world.script.journeys();
      instants += checkAgainstOracle(world, journeys);
      for (const journey of journeys)
        for (const segment of journey.segments) stages.add(text(segment).replace(/ by .*\)/, ")"));
    }
    expect(instants).toBeGreaterThan(10_000);
    for (const label of [
      "accept-queue(accept-paused)",
      "accept-queue(loop-busy)",
      "receive-queue(pipeline)",
      "receive-queue(loop-busy)",
      "reassembly(reassembly)",
      "retransmission(retransmission)",
      "run-queue(loop-busy)",
      "handler(sleep)",
      "send-queue(cwnd)",
      "send-queue(pipeline)",
      "syn-queue(handshake)",
      "client(client)",
      "qdisc(qdisc)",
      "tx-ring(tx-ring)",
      "ack-wait(ack-wait)",
    ]) {
      expect([...stages]).toContain(label);
    }
  });
});
