/** How many frames the simulator moves per CPU second: client, router and server in virtual time. */
import type { Plan, Report } from "./cases.ts";
import { connectMany, HTTP_PORT, roundTrips, Stream, serveHello } from "./load.ts";
import { type Case, measure } from "./measure.ts";
import { defaultTopology, World } from "./world.ts";

const WARM_UPS = 2;
const LOSSY = { loss: 0.01, reorder: 0.01, jitterNs: 100_000, limit: 10_000 };

/** Frames of both links, both ways: what crossed a wire. */
function framesOf(world: World): number {
  const counts = world.topology.links.flatMap((link) => [link.stats(0), link.stats(1)]);
  return counts.reduce((sum, { sentFrames }) => sum + sentFrames, 0);
}

/** A case whose unit is a frame on a wire. */
function frames(name: string, world: World, work: () => Promise<void>): Case {
  return {
    name,
    run: async () => {
      const before = framesOf(world);
      await work();
      return framesOf(world) - before;
    },
  };
}

export async function simulator(plan: Plan): Promise<Report> {
  const worlds = [defaultTopology(), defaultTopology(), defaultTopology(LOSSY)].map(
    (topology) => new World({ time: "virtual", topology }),
  );
  const [bulk, http, lossy] = worlds as [World, World, World];
  const stream = await Stream.open(bulk);
  const lossyStream = await Stream.open(lossy);
  await serveHello(http);
  const conns = await connectMany(http, HTTP_PORT, 100);
  const bytes = Math.round(50e6 * plan.work);
  const figures = await measure(
    [
      frames("bulk, one connection", bulk, () => stream.send(bytes)),
      frames("HTTP, 100 connections", http, () => roundTrips(http, conns, Math.round(20_000 * plan.work))),
      frames("bulk at 1 % loss and reordering", lossy, () => lossyStream.send(bytes / 10)),
    ],
    plan.rounds,
    WARM_UPS,
  );
  for (const world of worlds) world.close();
  return {
    name: "simulator",
    unit: "frames on a wire per CPU second, three hosts and two links",
    setUp: "virtual time with the cost model, client – router – server, 2.5 ms per link and way, recorder off",
    figures,
    notes: [],
  };
}
