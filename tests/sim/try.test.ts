import { test } from "vitest";
import { judge, play, scenarioOf } from "../../src/sim/scenario.ts";
import { SimBench, World, SERVER_PORT } from "../support/sim-bench.ts";
import { WireWitness, describe } from "../support/wire-witness.ts";
import { truthOf } from "../support/truth.ts";
test("try", async () => {
  const t0 = Date.now();
  let ok = 0; let steps = 0; let n = 0;
  const only = process.env["SEED"];
  const worst = new Map<string, [number, number]>();
  for (let seed = only ? Number(only) : 0; seed < (only ? Number(only) + 1 : Number(process.env["N"] ?? 70)); seed++) {
    n++;
    const s = scenarioOf(seed);
    try {
      const world = await World.open({ seed, delayNs: s.delayNs, conservation: true });
      const witness = new WireWitness(world.link("server-link"), SERVER_PORT);
      const bench = new SimBench(world);
      await world.sim.run(play(s, bench), 100e9);
      const v = judge(s, bench.journeys());
      if (v.ok) ok++; else console.log(v.why);
      if (only) { for (const j of bench.journeys()) console.log(JSON.stringify(j)); console.log(s, world.collector.counters()); console.log(describe(witness.of(witness.portOf(s.victim)))); }
      const truth = truthOf(s, witness, bench.log);
      const err = Math.abs(v.blamedNs - truth);
      const key = s.injection.kind + ("target" in s.injection ? s.injection.target + s.injection.place : "");
      const w = worst.get(key) ?? [0, 0]; w[0] = Math.max(w[0], err / 1e6); w[1] = Math.max(w[1], err / truth); worst.set(key, w);
      if (err > Math.max(1e6, truth * 0.05)) console.log("seed", seed, s.injection, "truth", truth, "blamed", v.blamedNs);
      world.expectNothingLeft();
      steps += world.sim.steps;
      world.close();
    } catch (e) { console.log(seed, s.injection.kind, String((e as Error).stack).slice(0, 1500)); }
  }
  console.log("ok", ok, "of", n, "steps", steps, "ms", Date.now() - t0, worst);
}, 100000);
