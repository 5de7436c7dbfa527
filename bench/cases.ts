/** What `npm run bench` measures, each in worlds of its own. */
import type { Clock, Ns } from "../src/base/time.ts";
import { Collector, type CollectorOptions, DEFAULT_BUDGET_SHARE } from "../src/journey/collector.ts";
import { Recorder } from "../src/journey/recorder.ts";
import type { Conn } from "../src/runtime/port.ts";
import {
  connectAndClose,
  connectMany,
  ECHO_PORT,
  echoOf,
  HTTP_PORT,
  type Question,
  roundTrips,
  Stream,
  serveEcho,
  serveHello,
} from "./load.ts";
import { type Case, cpuSeconds, type Figure, measure, quantile } from "./measure.ts";
import { defaultTopology, oneLink, World } from "./world.ts";

const MEGABYTE = 1e6;

export interface Plan {
  /** Rounds per case after the warm-up. */
  readonly rounds: number;
  /** Scales the work of a round; 1 is about half a CPU second. */
  readonly work: number;
}

/** One table of results. */
export interface Report {
  readonly name: string;
  readonly unit: string;
  readonly setUp: string;
  readonly figures: readonly Figure[];
  readonly notes: readonly string[];
}

const WARM_UPS = 2;
/** The size other stacks are measured with. */
const ECHO_BYTES = 64;

/** One connection, client to server, as much as it takes. */
export async function bulk(plan: Plan): Promise<Report> {
  const cases: Case[] = [];
  const notes: string[] = [];
  const worlds = [
    { name: "one link, no delay", world: new World({ time: "real", topology: oneLink() }) },
    {
      name: "default topology (router, 5 ms one way)",
      world: new World({ time: "virtual", topology: defaultTopology() }),
    },
  ];
  for (const { name, world } of worlds) {
    const stream = await Stream.open(world);
    const bytes = Math.round(100 * MEGABYTE * plan.work);
    cases.push({
      name,
      run: async () => {
        await stream.send(bytes);
        return bytes / MEGABYTE;
      },
    });
  }
  const figures = await measure(cases, plan.rounds, WARM_UPS);
  for (const { name, world } of worlds) {
    const frames = world.topology.links.map((link) => link.stats(0).sentFrames + link.stats(1).sentFrames);
    const bytes = world.topology.links[0]?.stats(0).sentBytes ?? 0;
    notes.push(
      `${name}: ${frames.reduce((a, b) => a + b, 0)} frames for ${Math.round(bytes / MEGABYTE)} MB of frames sent`,
    );
    world.close();
  }
  return {
    name: "bulk",
    unit: "MB per CPU second, both ends",
    setUp: "one TCP connection, MTU 1500, every frame checksummed and verified, no segmentation offload, recorder off",
    figures,
    notes,
  };
}

/** HTTP keep-alive exchanges at three numbers of connections, and echoes without HTTP at the same. */
export async function roundTrip(plan: Plan): Promise<Report> {
  const cases: Case[] = [];
  const worlds: World[] = [];
  const add = async (name: string, world: World, connections: number): Promise<void> => {
    worlds.push(world);
    await serveHello(world);
    const conns = await connectMany(world, HTTP_PORT, connections);
    const requests = Math.round(40_000 * plan.work);
    cases.push({
      name,
      run: async () => {
        await roundTrips(world, conns, requests);
        return requests;
      },
    });
  };
  for (const n of [1, 100, 1000]) {
    await add(`${n} connection${n > 1 ? "s" : ""}`, new World({ time: "real", topology: oneLink() }), n);
  }
  await add("100 connections, default topology", new World({ time: "virtual", topology: defaultTopology() }), 100);
  for (const n of [1, 100, 1000]) {
    const world = new World({ time: "real", topology: oneLink() });
    worlds.push(world);
    await serveEcho(world);
    const conns = await connectMany(world, ECHO_PORT, n);
    const echoes = Math.round(60_000 * plan.work);
    cases.push({
      name: `64 bytes echoed, ${n} connection${n > 1 ? "s" : ""}`,
      run: async () => {
        await roundTrips(world, conns, echoes, echoOf(ECHO_BYTES));
        return echoes;
      },
    });
  }
  const figures = await measure(cases, plan.rounds, WARM_UPS);
  for (const world of worlds) world.close();
  return {
    name: "round-trips",
    unit: "exchanges per CPU second, both ends",
    setUp:
      "GET /hello keep-alive, ServeMux, Date and Server-Timing on, or bare echoes; one at a time per connection, MTU 1500, recorder off",
    figures,
    notes: [],
  };
}

/** Connect, one request, close. */
export async function connect(plan: Plan): Promise<Report> {
  const world = new World({ time: "real", topology: oneLink() });
  await serveHello(world);
  const count = Math.round(2000 * plan.work);
  const cases: Case[] = [1, 64].map((clients) => ({
    name: `${clients} at once`,
    run: async () => {
      await connectAndClose(world, clients, count);
      return count;
    },
  }));
  const figures = await measure(cases, plan.rounds, WARM_UPS);
  const waiting = world.topology
    .host("server")
    .tcp.rows()
    .filter((row) => row.state === "TIME-WAIT").length;
  world.close();
  return {
    name: "connect",
    unit: "connections per CPU second, both ends",
    setUp: "dial, GET /hello with Connection: close, read to the end, close; the server closes first",
    figures,
    notes: [`${waiting} connections stand in TIME-WAIT at the server when the run ends`],
  };
}

/** Bytes of memory per connection, both ends. */
export interface IdleFigure {
  readonly name: string;
  readonly heapBytes: number;
  /** Typed arrays. */
  readonly externalBytes: number;
  readonly arenaSlots: number;
}

export interface IdleReport {
  readonly name: "idle";
  readonly connections: number;
  readonly figures: readonly IdleFigure[];
  readonly setUp: string;
}

/** Connections that ask at the same time: 10,000 at once would find the server busy and send their requests again. */
const IDLE_GROUP = 250;

/** Memory per connection that has been used once and waits: kernels and processes of both ends. */
export async function idle(connections = 10_000): Promise<IdleReport> {
  if (globalThis.gc === undefined) throw new Error("idle needs --expose-gc: node --expose-gc dist/bench/main.js idle");
  const http = await idleOf("HTTP: server, bare client", connections, HTTP_PORT, serveHello);
  const tcp = await idleOf("bare TCP: an echo server, its client", connections, ECHO_PORT, serveEcho, echoOf(1));
  return {
    name: "idle",
    connections,
    figures: [http, tcp],
    setUp: "after one exchange each, garbage collected; both ends: TCP, sockets, descriptors, runtime",
  };
}

async function idleOf(
  name: string,
  connections: number,
  port: number,
  serveIn: (world: World) => Promise<void>,
  question?: Question,
): Promise<IdleFigure> {
  const world = new World({ time: "real", topology: oneLink() });
  await serveIn(world);
  await roundTrips(world, await connectMany(world, port, 100), 1000, question);
  const { arena } = world.topology;
  const before = settledMemory();
  const slots = arena.outstanding;
  const conns = await connectMany(world, port, connections);
  for (let at = 0; at < connections; at += IDLE_GROUP) {
    const group = conns.slice(at, at + IDLE_GROUP);
    await roundTrips(world, group, group.length, question);
  }
  const after = settledMemory();
  const figure: IdleFigure = {
    name,
    heapBytes: (after.heapUsed - before.heapUsed) / connections,
    externalBytes: (after.arrayBuffers - before.arrayBuffers) / connections,
    arenaSlots: (arena.outstanding - slots) / connections,
  };
  world.close();
  return figure;
}

function settledMemory(): NodeJS.MemoryUsage {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  return process.memoryUsage();
}

export interface RecordingReport {
  readonly name: "recording";
  readonly pairs: number;
  /** CPU time per request with recording on ÷ off. */
  readonly medianRatio: number;
  readonly quartiles: readonly [number, number];
  readonly off: Figure;
  readonly on: Figure;
  /** One connection in so many is recorded: what the governor came to in the end. */
  readonly sampling: number;
  /** Records per CPU second of the rounds with recording on. */
  readonly recordsPerSecond: number;
  /** What the collector takes for one, µs. */
  readonly joinMicros: number;
  /** The collector's share of the CPU time of those rounds, and what the governor allows. */
  readonly share: number;
  readonly budgetShare: number;
  /** How often it stopped recording for the rest of a second. */
  readonly pauses: number;
  readonly lost: number;
  readonly setUp: string;
}

const DRAIN_EVERY_NS = 100e6;
const RECORDING_CONNECTIONS = 100;
/** CPU seconds until sampling has found its level. */
const SETTLE_SECONDS = 8;
const readNs = (): Ns => cpuSeconds() * 1e9;

/** A server that is recorded, its collector in the same thread. */
class RecordedWorld {
  readonly collector: Collector;
  private readonly world: World;
  private conns: readonly Conn[] = [];
  private readonly recorders: Recorder[] = [];
  private drainedNs = 0;

  constructor(options: CollectorOptions) {
    this.collector = new Collector(options);
    this.world = new World({
      time: "real",
      topology: oneLink(),
      traceOf: (clock) => this.record(clock),
      afterTurn: (nowNs) => this.drain(nowNs),
    });
  }

  async open(): Promise<this> {
    await serveHello(this.world);
    this.conns = await connectMany(this.world, HTTP_PORT, RECORDING_CONNECTIONS);
    return this;
  }

  ask(requests: number): Promise<void> {
    return roundTrips(this.world, this.conns, requests);
  }

  setRecording(on: boolean): void {
    this.collector.setRecording(on);
    for (const recorder of this.recorders) recorder.sync();
  }

  close(): void {
    this.world.close();
  }

  private record(clock: Clock): Recorder {
    const recorder = new Recorder(clock);
    this.collector.attach(recorder.buffer, "server");
    this.recorders.push(recorder);
    return recorder;
  }

  private drain(nowNs: Ns): void {
    if (nowNs - this.drainedNs < DRAIN_EVERY_NS) return;
    this.drainedNs = nowNs;
    this.collector.drain(nowNs);
    for (const recorder of this.recorders) recorder.sync();
  }
}

/**
 * What the journey recorder and its collector cost: the same world with recording on and off, in turn, under the
 * governor as users have it (its second stands still while recording is off).
 */
export async function recording(plan: Plan): Promise<RecordingReport> {
  const requests = Math.round(60_000 * plan.work);
  const world = await new RecordedWorld({ readNs }).open();
  const from = cpuSeconds();
  while (cpuSeconds() - from < SETTLE_SECONDS) await world.ask(requests);
  const round = (on: boolean): Case => ({
    name: on ? "recording on" : "recording off",
    run: async () => {
      world.setRecording(on);
      await world.ask(requests);
      return requests;
    },
  });
  const rounds = [round(false), round(true)];
  await measure(rounds, 1, WARM_UPS);
  const before = world.collector.counters();
  const [off, on] = await measure(rounds, plan.rounds, 0);
  if (off === undefined || on === undefined) throw new Error("unreachable");
  const ratios = on.cpuSeconds.map((seconds, i) => seconds / (off.cpuSeconds[i] as number));
  const { rings, records, spentNs, sampling, pauses } = world.collector.counters();
  world.close();
  const seconds = on.cpuSeconds.reduce((total, one) => total + one, 0);
  const joinNs = spentNs - before.spentNs;
  return {
    name: "recording",
    pairs: ratios.length,
    medianRatio: quantile(ratios, 0.5),
    quartiles: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    off,
    on,
    sampling,
    recordsPerSecond: (records - before.records) / seconds,
    joinMicros: joinNs / (records - before.records) / 1e3,
    share: joinNs / 1e9 / seconds,
    budgetShare: DEFAULT_BUDGET_SHARE,
    pauses: pauses - before.pauses,
    lost: rings.reduce((sum, ring) => sum + ring.lost, 0),
    setUp: `GET /hello keep-alive, ${RECORDING_CONNECTIONS} connections, one link; server recorded, collector in the same thread`,
  };
}
