/**
 * The contract over random traffic: whatever clients and cables do, every journey keeps contract §1, every frame is
 * accounted for after every step, every byte of every answer is what was asked for, and at the end nothing is left.
 *
 * fast-check prints the seed and the path of a failing run; `SOJOURN_FC_SEED=… SOJOURN_FC_PATH=…` repeats it.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { Journey } from "../../src/journey/journey.ts";
import { breaches } from "../support/journey-contract.ts";
import { seedCount } from "../support/seeds.ts";
import { ArenaShelf, SERVER_PORT, World } from "../support/sim-bench.ts";
import {
  type ClientStory,
  type Exchange,
  methodOf,
  runTraffic,
  type TrafficPlan,
  targetOf,
  traffic,
} from "../support/traffic.ts";
import { StreamTimes, WireWitness } from "../support/wire-witness.ts";

/** Runs of random traffic for each run of the blame suite. */
const RUNS_PER_SEED = 0.4;
const LIMIT_NS: Ns = 24 * 3600 * SECOND;
/** The most work the server's CPU has to finish before it sees what its card did. */
const PROCESSING_NS: Ns = MILLISECOND / 2;

/** Nobody is given up because a bad cable makes it slow: every answer must come. */
const PATIENT = { headNs: 3600 * SECOND, bodyNs: 3600 * SECOND, idleNs: 3600 * SECOND };

const LINE = "sojourn: the time a customer spends in a system, waiting and being served.\n";
const shelf = new ArenaShelf();

/** Law of time: every clock and every deadline is whole nanoseconds. */
function clockFaults(world: World): string[] {
  const clocks = world.topology.hosts.map(({ name, env }) => `${name} ${env.clock.nowNs}`);
  return [`sim ${world.sim.nowNs}`, ...clocks]
    .filter((text) => text.includes("."))
    .map((text) => `the time of ${text}`);
}

/** Everything wrong with one run; empty if nothing is. */
async function faultsOf(plan: TrafficPlan): Promise<string[]> {
  const world = await World.open({
    seed: plan.seed,
    delayNs: plan.delayUs * 1000,
    link: plan.link,
    arp: true,
    conservation: true,
    site: { timeouts: PATIENT, ...(plan.backlog === null ? {} : { listen: { backlog: plan.backlog } }) },
    shelf,
  });
  try {
    const witness = new WireWitness(world.link("server-link"), SERVER_PORT);
    const stories = await world.sim.run(runTraffic(world, plan), world.sim.nowNs + LIMIT_NS);
    await world.expectNothingLeft();
    const journeys = world.journeys();
    const known = new Set(journeys.map((j) => j.id));
    const faults = journeys.flatMap((journey) => breaches(journey, known));
    const isDamaged = (plan.link.corrupt ?? 0) > 0;
    const { mib } = world.server.env;
    const forgets = mib.get("TcpExtSyncookiesSent") > 0;
    const refuses = mib.get("TcpExtListenOverflows") + mib.get("TcpExtPAWSEstab") > 0;
    for (const story of stories) {
      const mustFinish = isExpectedToFinish(story, forgets);
      faults.push(...storyFaults(story, mustFinish));
      const own = journeys.filter((j) => j.connection.remote.endsWith(`:${story.port}`));
      const times = new StreamTimes(witness.of(story.port));
      faults.push(...journeyFaults(story, own, mustFinish));
      if (times.isSingle && !isDamaged) faults.push(...boundFaults(own, times, { forgets, refuses }));
    }
    const { incomplete, evicted, lostRecords, late, unsampled } = world.collector.counters();
    if (incomplete + evicted + lostRecords + late + unsampled > 0) {
      faults.push(`the recording suffered: ${JSON.stringify(world.collector.counters())}`);
    }
    faults.push(...clockFaults(world));
    for (const { id } of world.collector.inFlight()) faults.push(`journey ${id} never ended`);
    const refused = stories.filter((s) => s.failure === "ECONNREFUSED").length;
    const told = journeys.filter((j) => j.outcome === "refused").reduce((sum, j) => sum + (j.count ?? 1), 0);
    if (told < refused) faults.push(`${refused} clients were refused, ${told} journeys say so`);
    return faults;
  } finally {
    world.close();
  }
}

/**
 * False for a client that resets its own connection, and for one whose listener remembers nothing: when its first
 * segment meets a full accept queue, a later one is no proof of a cookie and is answered with a reset.
 */
function isExpectedToFinish({ plan, failure }: ClientStory, forgets: boolean): boolean {
  if (plan.kind === "talk") return plan.abortMs === 0 && !(forgets && failure === "ECONNRESET");
  return !forgets || plan.kind === "refused";
}

/** Three ARP requests in a row were lost: what connect(2) says then is the truth. */
const UNREACHABLE = "EHOSTUNREACH";

/** Did the client get what it asked for? */
function storyFaults({ plan, exchanges, failure }: ClientStory, mustFinish: boolean): string[] {
  if (failure === UNREACHABLE) return [];
  if (plan.kind === "refused") return failure === "ECONNREFUSED" ? [] : [`a closed port said "${failure}"`];
  if (plan.kind === "mute") return failure === "" || !mustFinish ? [] : [`a mute client failed: ${failure}`];
  const faults = exchanges.flatMap((exchange) => answerFaults(exchange));
  if (!mustFinish) return faults;
  if (failure !== "") faults.push(`a client failed: ${failure}`);
  const answered = exchanges.filter((exchange) => exchange.response !== null).length;
  if (answered < plan.asks.length) faults.push(`${answered} answers to ${plan.asks.length} requests`);
  return faults;
}

function answerFaults({ ask, body, response }: Exchange): string[] {
  if (response === null) return [];
  const what = `${methodOf(ask)} ${targetOf(ask)}`;
  const status = ask.kind === "missing" ? 404 : 200;
  if (response.status !== status) return [`${what}: status ${response.status}`];
  const same = (want: Uint8Array): string[] =>
    Buffer.compare(want, response.body) === 0 ? [] : [`${what}: ${response.body.length} other bytes than asked for`];
  switch (ask.kind) {
    case "hello":
      return same(Buffer.from("Hello from sojourn\n"));
    case "head":
      return same(new Uint8Array(0));
    case "bytes":
      return same(Buffer.from(patternOf(ask.n)));
    case "echo":
      return same(body);
    default:
      return [];
  }
}

/** The site repeats blocks of 65,536 bytes, each of which begins with the line's first letter. */
function patternOf(n: number): string {
  const block = LINE.repeat(Math.ceil(65_536 / LINE.length)).slice(0, 65_536);
  return block.repeat(Math.ceil(n / 65_536)).slice(0, n);
}

/** Is there a journey for each request, in order, with its sizes? */
function journeyFaults(story: ClientStory, journeys: readonly Journey[], mustFinish: boolean): string[] {
  const { plan, exchanges, port } = story;
  if (plan.kind === "refused" || port === 0) return [];
  const requests = journeys.filter((j) => j.request !== null);
  if (plan.kind === "mute") {
    // A late ACK proves a cookie a second time: then a connection of nobody follows.
    const isTold = journeys.length === 1 || !mustFinish;
    return requests.length === 0 && isTold ? [] : [`port ${port}: ${journeys.length} journeys of a mute`];
  }
  const faults: string[] = [];
  if (mustFinish && requests.length !== exchanges.length) {
    faults.push(`port ${port}: ${requests.length} journeys of ${exchanges.length} requests`);
  }
  for (const [i, journey] of requests.entries()) {
    const exchange = exchanges[i];
    if (exchange === undefined) faults.push(`port ${port}: a journey nobody asked for`);
    else if (mustFinish || exchange.response !== null) {
      faults.push(...sizeFaults(journey, exchange, i, mustFinish));
    }
  }
  return faults;
}

function sizeFaults(journey: Journey, exchange: Exchange, index: number, mustFinish: boolean): string[] {
  const { ask, sentBytes, response } = exchange;
  const want = {
    outcome: mustFinish ? "ok" : journey.outcome,
    reused: index > 0,
    request: { method: methodOf(ask), target: targetOf(ask), bytes: sentBytes },
    response: { status: response?.status, bytes: response?.wireBytes },
  };
  const got = {
    outcome: journey.outcome,
    reused: journey.connection.reused,
    request: journey.request,
    response: journey.response,
  };
  if (JSON.stringify(want) === JSON.stringify(got)) return [];
  return [`journey ${journey.id}: ${JSON.stringify(got)} instead of ${JSON.stringify(want)}`];
}

function isSoon(lateNs: Ns): boolean {
  return lateNs >= 0 && lateNs <= PROCESSING_NS;
}

/**
 * Start, device and end as the wire saw them. The start is exact; the others are stamped by a CPU that may be at work
 * on something else when the card moves a frame. A server that `forgets` has answered SYNs with cookies: such a story
 * begins when the cookie comes back. One that `refuses` has dropped bytes unseen, with a handshake's last ACK that met
 * a full queue or for an old timestamp: they are seen when they come again.
 */
function boundFaults(
  journeys: readonly Journey[],
  times: StreamTimes,
  server: { readonly forgets: boolean; readonly refuses: boolean },
): string[] {
  const faults: string[] = [];
  let h0 = 0;
  let p1 = 0;
  for (const journey of journeys.filter((j) => j.request !== null)) {
    const startNs = h0 === 0 ? times.synNs : times.arrivedNs(h0);
    const isUnseen = server.forgets || (server.refuses && h0 > 0);
    const isAgain = isUnseen && journey.startNs > startNs && times.hasArrival(journey.startNs);
    if (journey.startNs !== startNs && !isAgain) {
      faults.push(`journey ${journey.id} starts at ${journey.startNs}, not ${startNs}`);
    }
    h0 += journey.request?.bytes ?? 0;
    p1 += journey.response?.bytes ?? 0;
    if (journey.outcome !== "ok") continue;
    const sentLateNs = journey.startNs + (journey.respondedNs ?? -1) - times.departedNs(p1 - 1);
    if (!isSoon(sentLateNs)) faults.push(`journey ${journey.id}: last byte ${sentLateNs} ns after it left`);
    const endLateNs = journey.startNs + journey.totalNs - times.ackedNs(p1);
    if (!isSoon(endLateNs)) faults.push(`journey ${journey.id}: ends ${endLateNs} ns after the ACK came`);
  }
  return faults;
}

it("every journey, frame and byte of random traffic keeps the contract", { timeout: 180_000 }, async () => {
  const { SOJOURN_FC_SEED: seed, SOJOURN_FC_PATH: path } = process.env;
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(traffic, async (plan) => {
      runs++;
      expect(await faultsOf(plan)).toEqual([]);
    }),
    {
      numRuns: Math.ceil(seedCount() * RUNS_PER_SEED),
      interruptAfterTimeLimit: 150_000,
      markInterruptAsFailure: true,
      ...(seed === undefined ? {} : { seed: Number(seed) }),
      ...(path === undefined ? {} : { path }),
    },
  );
  console.log(`${runs} runs of random traffic`);
});
