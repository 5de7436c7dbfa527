import { test } from "vitest";
import { MILLISECOND } from "../../src/base/time.ts";
import { judge, play, scenarioOf } from "../../src/sim/scenario.ts";
import { SimBench, World } from "../support/sim-bench.ts";
test("try", async () => {
  const t0 = Date.now();
  let ok = 0; let steps = 0; let n = 0;
  const only = process.env["SEED"];
  for (let seed = only ? Number(only) : 0; seed < (only ? Number(only) + 1 : 70); seed++) {
    n++;
    const s = scenarioOf(seed);
    try {
      const world = await World.open({ seed, delayNs: s.delayNs, conservation: true });
      const bench = new SimBench(world);
      await world.sim.run(play(s, bench), 100e9);
      const v = judge(s, bench.journeys());
      if (v.ok) ok++; else console.log(v.why);
      if (only) { for (const j of bench.journeys()) console.log(JSON.stringify(j)); console.log(s, world.collector.counters()); }
      world.expectNothingLeft();
      steps += world.sim.steps;
      world.close();
    } catch (e) { console.log(seed, s.injection.kind, String((e as Error).stack).slice(0, 1500)); }
  }
  console.log("ok", ok, "of", n, "steps", steps, "ms", Date.now() - t0);
}, 100000);
