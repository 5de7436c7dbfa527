/**
 * Seeded runs with one injected delay each, and the verdict on the journey of their victim: the test of blame.
 *
 *   seed ─► scenario (injection, size, link, expectation) ─► play on a Bench ─► journeys ─► judge
 *
 * The bench is the whole stack in virtual time: it is built by whoever has all floors (tests, the lab) and offers the
 * few verbs below. A scenario knows nothing of frames or sockets.
 */
import { Prng } from "../base/prng.ts";
import { MILLISECOND, type Ns } from "../base/time.ts";
import { drawInjection, type Expected, expectedOf, INJECTION_KINDS, type Injection, type LossPlace } from "./faults.ts";

/** One client connection, TCP_NODELAY set. */
export interface BenchConnection {
  /** Sends latin-1 text now, as one write. */
  write(text: string): void;
  /** Reads one whole response (head and Content-Length body); the client reads only while this waits. */
  readResponse(): Promise<void>;
  close(): void;
}

/**
 * Client, router and server under virtual time, recording on, with the built-in handlers of `sojourn serve` (`/hello`,
 * `/about`, `/slow?ms=`, `/cpu?ms=`, `/bytes/N`) and `/two-writes`: a response in two writes, both handed to the kernel
 * at once, on a connection without TCP_NODELAY.
 */
export interface Bench {
  connect(options?: { readonly receiveBufferBytes?: number }): Promise<BenchConnection>;
  /** Waits in virtual time. */
  sleep(durationNs: Ns): Promise<void>;
  pauseAccept(paused: boolean): void;
  /**
   * Loses the next frame that goes `to` there, at the given cable. With `payload` the next frame with TCP payload: bare
   * ACKs before it may be lost with it.
   */
  loseNext(to: "server" | "client", place: LossPlace, payload: boolean): void;
  /** Resolves when every response is acknowledged and every journey finished. */
  settle(): Promise<void>;
  /** The finished journeys, unredacted. */
  journeys(): readonly JourneyFacts[];
}

/** The part of a journey that is judged: see the contract, §1. */
export interface JourneyFacts {
  readonly id: number;
  readonly outcome: string;
  readonly request: { readonly target: string } | null;
  readonly startNs: Ns;
  readonly totalNs: Ns;
  readonly segments: readonly SegmentFacts[];
}

export interface SegmentFacts {
  readonly stage: string;
  readonly kind: string;
  readonly startNs: Ns;
  readonly endNs: Ns;
  readonly reason?: string;
  readonly by?: number | string;
}

export interface Scenario {
  readonly seed: number;
  /** From client to server through the router, one way. */
  readonly delayNs: Ns;
  readonly injection: Injection;
  readonly expected: Expected;
  /** Target of the one request that suffers. No other request of the run has it. */
  readonly victim: string;
}

/** The answer of `judge`: `ok`, or what the journey said instead. */
export interface Verdict {
  readonly ok: boolean;
  /** Time of the expected labels in the victim's journey. */
  readonly blamedNs: Ns;
  readonly why: string;
}

/** A blocking request's path: `by` must name its journey. */
const BLOCKER = "/cpu";
/** Exchanges that make the client's TCP interactive, so that it delays its ACKs. */
const WARM_UPS = 4;

/** The scenario of a seed: kinds take turns, everything else is drawn. The same seed is the same scenario for ever. */
export function scenarioOf(seed: number): Scenario {
  const prng = new Prng(seed);
  const kind = INJECTION_KINDS[Math.abs(seed) % INJECTION_KINDS.length];
  const delayNs = (200 + prng.below(1800)) * 1000;
  const injection = drawInjection(kind, prng);
  return { seed, delayNs, injection, expected: expectedOf(injection, delayNs), victim: victimOf(injection) };
}

function victimOf(injection: Injection): string {
  switch (injection.kind) {
    case "zero-window":
      return `/bytes/${injection.bodyBytes}`;
    case "nagle":
      return "/two-writes";
    case "slow-handler":
      return `${injection.how === "burn" ? "/cpu" : "/slow"}?ms=${injection.durationNs / MILLISECOND}`;
    default:
      return "/about";
  }
}

/** Runs the scenario to its end, journeys included. Await it under `Sim.run`. */
export async function play(scenario: Scenario, bench: Bench): Promise<void> {
  const { injection, victim, delayNs } = scenario;
  switch (injection.kind) {
    case "accept-pause":
      await playAcceptPause(bench, victim, injection.durationNs);
      break;
    case "loop-block":
      await playLoopBlock(bench, victim, injection);
      break;
    case "link-loss":
      await playLoss(bench, victim, injection, delayNs);
      break;
    case "zero-window": {
      const connection = await bench.connect({ receiveBufferBytes: injection.bufferBytes });
      connection.write(get(victim));
      await bench.sleep(injection.durationNs);
      await connection.readResponse();
      connection.close();
      break;
    }
    case "nagle":
      await exchange(await warmConnection(bench), victim);
      break;
    case "slow-client":
      await playSlowClient(bench, victim, injection.durationNs, injection.fresh);
      break;
    case "slow-handler":
      await exchange(await bench.connect(), victim);
      break;
  }
  await bench.settle();
}

async function playAcceptPause(bench: Bench, victim: string, durationNs: Ns): Promise<void> {
  bench.pauseAccept(true);
  const connection = await bench.connect();
  connection.write(get(victim));
  await bench.sleep(durationNs);
  bench.pauseAccept(false);
  await connection.readResponse();
  connection.close();
}

async function playLoopBlock(
  bench: Bench,
  victim: string,
  injection: Extract<Injection, { kind: "loop-block" }>,
): Promise<void> {
  const blocker = await warmConnection(bench);
  const waiting = injection.fresh ? null : await warmConnection(bench);
  blocker.write(get(`${BLOCKER}?ms=${injection.durationNs / MILLISECOND}`));
  await bench.sleep(injection.headStartNs);
  await exchange(waiting ?? (await bench.connect()), victim);
  await blocker.readResponse();
  blocker.close();
}

async function playLoss(
  bench: Bench,
  victim: string,
  injection: Extract<Injection, { kind: "link-loss" }>,
  delayNs: Ns,
): Promise<void> {
  if (injection.target === "syn-ack") {
    bench.loseNext("client", injection.place, false);
    await exchange(await bench.connect(), victim);
    return;
  }
  const connection = await bench.connect();
  // Let the handshake's last ACK reach the server: only the segment that is meant shall be lost.
  await bench.sleep(2 * delayNs);
  if (injection.target === "response") {
    bench.loseNext("client", injection.place, true);
    await exchange(connection, victim);
    return;
  }
  bench.loseNext("server", injection.place, true);
  const [first, second] = inTwo(get(victim));
  connection.write(first);
  connection.write(second);
  await connection.readResponse();
  connection.close();
}

async function playSlowClient(bench: Bench, victim: string, durationNs: Ns, fresh: boolean): Promise<void> {
  const connection = fresh ? await bench.connect() : await warmConnection(bench);
  const [first, second] = inTwo(get(victim));
  connection.write(first);
  await bench.sleep(durationNs);
  connection.write(second);
  await connection.readResponse();
  connection.close();
}

/** A connection that has exchanged a few requests: accepted, its RTT known, its client interactive. */
async function warmConnection(bench: Bench): Promise<BenchConnection> {
  const connection = await bench.connect();
  for (let i = 0; i < WARM_UPS; i++) {
    connection.write(get("/hello"));
    await connection.readResponse();
  }
  return connection;
}

async function exchange(connection: BenchConnection, target: string): Promise<void> {
  connection.write(get(target));
  await connection.readResponse();
  connection.close();
}

function get(target: string): string {
  return `GET ${target} HTTP/1.1\r\nHost: server\r\n\r\n`;
}

/** Cut inside the head: neither piece is a request. */
function inTwo(request: string): [string, string] {
  const at = request.indexOf("Host") + 2;
  return [request.slice(0, at), request.slice(at)];
}

/** Whether the victim's journey blames what was injected, for as long as it lasted. */
export function judge(scenario: Scenario, journeys: readonly JourneyFacts[]): Verdict {
  const victims = journeys.filter((j) => j.request?.target === scenario.victim);
  const victim = victims[0];
  if (victims.length !== 1) return refuse(scenario, 0, `${victims.length} journeys of the victim instead of one`);
  const torn = contiguity(victim);
  if (torn !== "") return refuse(scenario, 0, torn);
  const { expected } = scenario;
  const blamed = victim.segments.filter((segment) => isExpected(segment, expected));
  const blamedNs = total(blamed);
  const range = `${milliseconds(expected.atLeastNs)} to ${milliseconds(expected.atMostNs)}`;
  if (blamedNs < expected.atLeastNs || blamedNs > expected.atMostNs) {
    return refuse(scenario, blamedNs, `${milliseconds(blamedNs)} instead of ${range}; ${summary(victim)}`);
  }
  const rest = longestOther(victim, expected);
  if (expected.dominant && rest.ns >= blamedNs) {
    return refuse(scenario, blamedNs, `${rest.label} took longer; ${summary(victim)}`);
  }
  if (expected.byBlocker) {
    const blocker = journeys.find((j) => j.request?.target.startsWith(BLOCKER));
    const wrong = blamed.find((segment) => segment.endNs > segment.startNs && segment.by !== blocker?.id);
    if (wrong !== undefined) return refuse(scenario, blamedNs, `by ${wrong.by ?? "nobody"} instead of ${blocker?.id}`);
  }
  return { ok: true, blamedNs, why: "" };
}

function refuse(scenario: Scenario, blamedNs: Ns, what: string): Verdict {
  const labels = scenario.expected.labels.map(labelOf).join(" + ");
  return { ok: false, blamedNs, why: `seed ${scenario.seed} (${scenario.injection.kind}): ${labels}: ${what}` };
}

/** "" if the segments follow each other and sum to the total (law 7). */
function contiguity(journey: JourneyFacts): string {
  let atNs = journey.startNs;
  for (const segment of journey.segments) {
    if (segment.startNs !== atNs) return `segment ${segment.stage} does not start where the last one ended`;
    if (segment.endNs < atNs) return `segment ${segment.stage} ends before it starts`;
    atNs = segment.endNs;
  }
  return atNs === journey.startNs + journey.totalNs ? "" : "the segments do not sum to the total";
}

function isExpected(segment: SegmentFacts, expected: Expected): boolean {
  return expected.labels.some((label) => label.stage === segment.stage && label.reason === segment.reason);
}

function total(segments: readonly SegmentFacts[]): Ns {
  return segments.reduce((sum, segment) => sum + segment.endNs - segment.startNs, 0);
}

function labelOf(segment: { readonly stage: string; readonly reason?: string }): string {
  return segment.reason === undefined ? segment.stage : `${segment.stage}/${segment.reason}`;
}

/** Time per label, longest first. */
function byLabel(segments: readonly SegmentFacts[]): { label: string; ns: Ns }[] {
  const labels = new Map<string, Ns>();
  for (const segment of segments) {
    const label = labelOf(segment);
    labels.set(label, (labels.get(label) ?? 0) + segment.endNs - segment.startNs);
  }
  return [...labels].map(([label, ns]) => ({ label, ns })).sort((a, b) => b.ns - a.ns);
}

function longestOther(journey: JourneyFacts, expected: Expected): { label: string; ns: Ns } {
  return byLabel(journey.segments.filter((s) => !isExpected(s, expected)))[0] ?? { label: "nothing", ns: 0 };
}

function summary(journey: JourneyFacts): string {
  const parts = byLabel(journey.segments).filter((part) => part.ns > 0);
  const text = parts.map((part) => `${part.label} ${milliseconds(part.ns)}`).join(", ");
  return `the journey took ${milliseconds(journey.totalNs)}: ${text}`;
}

function milliseconds(ns: Ns): string {
  return `${(ns / MILLISECOND).toFixed(3)}ms`;
}
