/**
 * A run is a pure function of seed and code (law 9): the same seed twice gives the same journeys, byte for byte, the
 * same frames on the wire and the same number of steps. And virtual time ends what it must end.
 */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MILLISECOND, SECOND } from "../../src/base/time.ts";
import { play, scenarioOf } from "../../src/sim/scenario.ts";
import { DeadlockError } from "../../src/sim/sim.ts";
import { ResponseReader } from "../support/response-reader.ts";
import { ArenaShelf, SERVER_PORT, SimBench, World } from "../support/sim-bench.ts";
import { runTraffic, type TrafficPlan, traffic } from "../support/traffic.ts";
import { describe as describeFrames, WireWitness } from "../support/wire-witness.ts";

const LIMIT_NS = 24 * 3600 * SECOND;

interface Print {
  readonly journeys: string;
  readonly frames: string;
  readonly steps: number;
  readonly endNs: number;
  readonly count: number;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function printOf(world: World, run: () => Promise<unknown>): Promise<Print> {
  const witness = new WireWitness(world.link("server-link"), SERVER_PORT);
  await world.sim.run(run(), world.sim.nowNs + LIMIT_NS);
  await world.expectNothingLeft();
  const journeys = world.journeys();
  world.close();
  return {
    journeys: hashOf(JSON.stringify(journeys)),
    frames: hashOf(describeFrames(witness.atServer)),
    steps: world.sim.steps,
    endNs: world.sim.nowNs,
    count: journeys.length,
  };
}

async function scenarioPrint(seed: number, shelf: ArenaShelf): Promise<Print> {
  const scenario = scenarioOf(seed);
  const world = await World.open({ seed, delayNs: scenario.delayNs, shelf });
  return printOf(world, () => play(scenario, new SimBench(world)));
}

async function trafficPrint(plan: TrafficPlan, shelf: ArenaShelf): Promise<Print> {
  const { seed, link } = plan;
  const site = plan.backlog === null ? {} : { listen: { backlog: plan.backlog } };
  const world = await World.open({ seed, delayNs: plan.delayUs * 1000, link, arp: true, site, shelf });
  return printOf(world, () => runTraffic(world, plan));
}

describe("determinism", () => {
  it("the same seed gives the same journeys, whoever used the memory before", async () => {
    const seeds = Array.from({ length: 14 }, (_, seed) => seed);
    const upward = new ArenaShelf();
    const downward = new ArenaShelf();
    const first: Print[] = [];
    for (const seed of seeds) first.push(await scenarioPrint(seed, upward));
    for (const seed of seeds.toReversed()) {
      expect(await scenarioPrint(seed, downward), `seed ${seed}`).toEqual(first[seed]);
    }
    expect(new Set(first.map((print) => print.journeys)).size).toBe(14);
    for (const print of first) expect(print.count).toBeGreaterThan(0);
  });

  it("random traffic over bad cables too", async () => {
    const shelf = new ArenaShelf();
    await fc.assert(
      fc.asyncProperty(traffic, async (plan) => {
        expect(await trafficPrint(plan, shelf)).toEqual(await trafficPrint(plan, shelf));
      }),
      { numRuns: 10 },
    );
  });

  it("another seed gives another run of the same plan", async () => {
    const shelf = new ArenaShelf();
    const [plan] = fc.sample(traffic, { numRuns: 1, seed: 3 }) as [TrafficPlan];
    const one = await trafficPrint({ ...plan, seed: 1 }, shelf);
    const two = await trafficPrint({ ...plan, seed: 2 }, shelf);
    expect(one.journeys).not.toBe(two.journeys);
  });
});

describe("what virtual time ends", () => {
  const open = () => World.open({ seed: 5, delayNs: 2 * MILLISECOND });

  it("a silent client after ten seconds, an idle one after five, half a head with 408 after ten", async () => {
    const world = await open();
    const waited = async (text: string): Promise<{ seconds: number; status: number | null }> => {
      const conn = await world.dial();
      const fromNs = world.sim.nowNs;
      const reader = new ResponseReader(conn);
      conn.writeLatin1(text);
      conn.flush();
      const response = await reader.next("GET");
      if (response?.status === 200) await reader.next("GET");
      const seconds = Math.round((world.sim.nowNs - fromNs) / SECOND);
      conn.close();
      return { seconds, status: response?.status ?? null };
    };
    expect(await world.sim.run(waited(""))).toEqual({ seconds: 10, status: null });
    expect(await world.sim.run(waited("GET /hello HTTP/1.1\r\nHost: s\r\n\r\n"))).toEqual({ seconds: 5, status: 200 });
    expect(await world.sim.run(waited("GET /hello HTTP/1.1\r\nHo"))).toEqual({ seconds: 10, status: 408 });
    await world.expectNothingLeft();
    const journeys = world.journeys().sort((a, b) => a.startNs - b.startNs);
    const outcomes = journeys.map((j) => `${j.request?.target ?? "-"} ${j.response?.status ?? "-"} ${j.outcome}`);
    expect(outcomes).toEqual(["- - aborted", "/hello 200 ok", "/hello 408 ok"]);
    world.close();
  });

  it("a connection to nobody: SYNs at 1, 3, 7 … s, ETIMEDOUT after tcp_syn_retries", async () => {
    const world = await open();
    world.link("client-link").set({ down: true }, 0);
    const fromNs = world.sim.nowNs;
    const failure = await world.sim.run(world.dial().then(String, (error: { code: string }) => error.code));
    expect(failure).toBe("ETIMEDOUT");
    // tcp_syn_linear_timeouts 4 (Linux 6.5): 1 s five times, then 2, 4, 8, 16, 32 s and the last wait of 64 s.
    expect(Math.round((world.sim.nowNs - fromNs) / SECOND)).toBe(131);
    await world.expectNothingLeft();
    world.close();
  });

  it("a promise nobody will settle is a deadlock with its waiters, not a hang", async () => {
    const world = await open();
    world.pauseAccept(true);
    const conn = await world.sim.run(world.dial());
    const reading = world.sim.run(conn.read(new Uint8Array(1)));
    await expect(reading).rejects.toThrow(DeadlockError);
    await expect(reading).rejects.toThrow(/deadlock at t=.* \(seed 5\); waiting: .*client async read parked read fd/);
    world.close();
  });

  it("a run past its limit says so", async () => {
    const world = await open();
    await expect(world.sim.run(world.user.sleep(10 * SECOND), world.sim.nowNs + SECOND)).rejects.toThrow(
      /at the limit/,
    );
    world.close();
  });
});
