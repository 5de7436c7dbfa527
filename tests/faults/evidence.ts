/**
 * What a failing seed leaves behind: the run is repeated with a capture of every cable and a journey recorder on the
 * server, and both are written into a temporary directory.
 */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Collector } from "../../src/journey/collector.ts";
import { enhancedPacket, interfaceDescription, sectionHeader } from "../../src/journey/exports/pcapng.ts";
import { Recorder } from "../../src/journey/recorder.ts";
import type { Topology } from "../../src/topology.ts";
import { replayCommand } from "../support/seeds.ts";
import { RunMemory, type RunResult, SeededRun } from "./seeded-run.ts";

/** Numbers of the recorder's ring: a whole run, since it is read only at its end. */
const RECORDS = 1 << 20;
const JOURNEYS_MAX = 1000;

/** Repeats the run of `result` and writes `cables.pcapng`, `journeys.ndjson` and `run.json`; what to tell about it. */
export async function explain(result: RunResult, file: string): Promise<string> {
  const { seed } = result.plan;
  const directory = mkdtempSync(join(tmpdir(), `sojourn-seed-${seed}-`));
  const rings: ArrayBufferLike[] = [];
  const run = new SeededRun(seed, new RunMemory(), (host, clock) => {
    if (host !== "server") return undefined;
    const recorder = new Recorder(clock, Recorder.newBuffer(false, RECORDS));
    rings.push(recorder.buffer);
    return recorder;
  });
  const capture = captureOf(run.topology);
  const again = await run.play();
  const collector = new Collector({ graceNs: 0, truth: "simulated", precision: "exact" });
  for (const ring of rings) collector.attach(ring, "server");
  collector.drain(again.virtualNs);
  const journeys = collector.list({ limit: JOURNEYS_MAX, unredacted: true });
  writeFileSync(join(directory, "cables.pcapng"), Buffer.concat(capture));
  writeFileSync(join(directory, "journeys.ndjson"), journeys.map((journey) => `${JSON.stringify(journey)}\n`).join(""));
  writeFileSync(join(directory, "run.json"), JSON.stringify(again, null, 2));
  const twin =
    again.hash === result.hash ? "" : `\n  the repetition went another way: ${again.hash}, not ${result.hash}`;
  const faults = result.faults.map((fault) => `  ${fault}`).join("\n");
  return `seed ${seed}:\n${faults}\n  ${replayCommand(file, seed)}\n  evidence in ${directory}${twin}`;
}

/** Blocks of a capture that grows while the topology runs; lost frames say so. */
function captureOf(topology: Topology): Uint8Array[] {
  const blocks = [sectionHeader(), ...topology.links.map((link) => interfaceDescription(link.name))];
  for (const [i, link] of topology.links.entries()) {
    link.addTap((direction, bytes, at, len, nowNs, lost) => {
      const way = direction === 0 ? ("outbound" as const) : ("inbound" as const);
      const comment = lost ? { comment: "lost on this cable" } : {};
      blocks.push(enhancedPacket(i, nowNs, 0n, bytes, at, len, { direction: way, ...comment }));
    });
  }
  return blocks;
}
