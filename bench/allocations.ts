/**
 * Bytes of JavaScript heap allocated per frame while one connection moves bulk data: law 3, counted.
 *
 * A young generation larger than what is allocated meanwhile is never collected, so growth of the heap is allocation:
 * `node --expose-gc --min-semi-space-size=128 --max-semi-space-size=128 dist/bench/allocations.js`. Prints JSON.
 */
import { Stream } from "./load.ts";
import { defaultTopology, World } from "./world.ts";

const BYTES = 20e6;
const WARM_UPS = 4;

if (globalThis.gc === undefined) throw new Error("start it with --expose-gc");
const world = new World({ time: "virtual", topology: defaultTopology() });
const stream = await Stream.open(world);
for (let i = 0; i < WARM_UPS; i++) await stream.send(BYTES);
globalThis.gc();
const before = { heap: process.memoryUsage().heapUsed, frames: frames() };
await stream.send(BYTES);
const allocated = process.memoryUsage().heapUsed - before.heap;
const count = frames() - before.frames;
process.stdout.write(`${JSON.stringify({ frames: count, bytesPerFrame: allocated / count })}\n`);
world.close();

/** Frames that any card has sent so far: client, router and server. */
function frames(): number {
  return world.topology.links.reduce((sum, link) => sum + link.stats(0).sentFrames + link.stats(1).sentFrames, 0);
}
