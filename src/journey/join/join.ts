/**
 * The join: records in, journeys out. It intersects what TCP said about byte ranges of streams with what HTTP said
 * about byte ranges of requests, so that neither had to know of the other (law 6).
 *
 * Records must come in order of time (the collector merges the rings). A story is told when every record up to its end
 * has been seen: `settle(watermark)`. Work per record is constant on average; per journey, linear in its facts.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import { Label, Point } from "../../base/tracepoints.ts";
import type { Journey, Precision, Truth } from "../journey.ts";
import { KIND_FACTOR, Kind } from "../record-ring.ts";
import type { PlacedJourney, StreamPlace } from "../stream-place.ts";
import { buildConnection, buildRequest, connectionPlace, requestPlace, type Seen, unobservedBefore } from "./build.ts";
import { onConnectionLink, onConnectionPoint } from "./connection-points.ts";
import { DropWatch } from "./drop-watch.ts";
import { ConnectionFacts, type RequestFacts } from "./facts.ts";
import { FrameTable } from "./frame-table.ts";
import { Limits } from "./limits.ts";
import { Occupancy } from "./occupancy.ts";
import { labelText, parseTuple } from "./packet-label.ts";
import { onRequestLink, onRequestPoint } from "./request-points.ts";

export interface JoinOptions {
  /** What the journeys state about the server. Default: user-space, precision `switch`. */
  truth?: Truth;
  precision?: Precision;
  /** True for a real-time `inline` kernel: a busy handler hides the wire, and journeys say so (`unobserved`). */
  blindWhileBusy?: boolean;
  /** With it: the time from a client on the same thread to the device, where frames carry arrival times; default 0. */
  blindPathNs?: Ns;
}

/** What was seen but could not become a journey. Never guessed, always counted. */
export interface JoinCounters {
  /** Requests whose arrival or other facts were not recorded. */
  incomplete: number;
  /** Connections forgotten because sampling left them out. */
  unsampled: number;
  /** Connections forgotten at `Limits.connections`. */
  evicted: number;
  /** Records about connections or requests unknown (sampled out, or ended). */
  orphans: number;
  /** Records lost by full rings. */
  lostRecords: number;
}

/** Takes a journey that has ended, and where its bytes were. */
export type Finished = (journey: Journey, place: StreamPlace) => void;

export class Join {
  readonly counters: JoinCounters = { incomplete: 0, unsampled: 0, evicted: 0, orphans: 0, lostRecords: 0 };
  readonly connections = new Map<number, ConnectionFacts>();
  readonly requests = new Map<number, RequestFacts>();
  readonly frames = new FrameTable();
  readonly occupancy = new Occupancy();
  readonly drops: DropWatch;
  /** Connections with (id & mask) ≠ 0 are not recorded. */
  mask = 0;
  private readonly seen: Seen;
  private readonly blindWhileBusy: boolean;
  private readonly blindPathNs: Ns;
  private readonly finished: Finished;
  /** Stories with an end that `settle` has not reached. */
  private readonly ending = new Set<RequestFacts>();
  private readonly closing = new Set<ConnectionFacts>();
  private lastConnectionJourney = 0;
  private pollNs: Ns = 0;
  /** When NAPI took frames before the newest poll. */
  pollBeforeNs: Ns = 0;

  /** `finished` gets every journey that has ended, in order of its end. */
  constructor(finished: Finished, options: JoinOptions = {}) {
    this.finished = finished;
    this.seen = { truth: options.truth ?? "user-space", precision: options.precision ?? "switch", sampling: 1 };
    this.blindWhileBusy = options.blindWhileBusy ?? false;
    this.blindPathNs = options.blindPathNs ?? 0;
    this.drops = new DropWatch(this);
  }

  /** One record: `op` as in record-ring.ts. Labels go to `label`. */
  record(timeNs: Ns, op: number, id: number, a: number, b: number, c: number): void {
    const atNs = Math.round(timeNs);
    const point = op % KIND_FACTOR;
    switch ((op - point) / KIND_FACTOR) {
      case Kind.stamp:
        this.stamp(atNs, point, id, a, b);
        return;
      case Kind.link:
        if (point === Point.request || point === Point.response) onRequestLink(this, atNs, point, id, a, b, c);
        else onConnectionLink(this, atNs, point, id, a, b, c);
        return;
      case Kind.drop:
        this.drops.dropped(atNs, point, id);
        return;
      case Kind.gap:
        this.gap(atNs, id);
        return;
    }
  }

  /** One label, its bytes copied out of the ring. */
  label(timeNs: Ns, kind: number, id: number, bytes: Uint8Array): void {
    if (kind === Label.packet) {
      this.drops.packet(Math.round(timeNs), id, bytes);
      return;
    }
    if (kind === Label.tuple) {
      const tuple = parseTuple(bytes);
      const connection = this.connections.get(id);
      if (tuple === null || connection === undefined) return;
      connection.local = tuple.local;
      connection.remote = tuple.remote;
      connection.receiveIsn = tuple.receiveIsn;
      connection.sendIsn = tuple.sendIsn;
      this.drops.claim(connection);
      return;
    }
    const request = this.requests.get(id);
    if (request === undefined) return;
    if (kind === Label.method) request.method = labelText(bytes);
    else if (kind === Label.target) request.target = labelText(bytes);
    else if (kind === Label.reason) request.reason = labelText(bytes);
  }

  /** Every record up to `watermarkNs` has been given: tells the stories that ended by then. */
  settle(watermarkNs: Ns): void {
    const ended = [...this.ending].filter((r) => r.endNs < watermarkNs).sort((x, y) => x.endNs - y.endNs);
    for (const request of ended) this.finishRequest(request);
    for (const connection of this.closing) {
      if (connection.closedNs >= watermarkNs) continue;
      this.closing.delete(connection);
      this.finishConnection(connection);
    }
    this.drops.expire(watermarkNs);
  }

  /** Journeys not ended yet, as they stand at `nowNs`: requests first, then connections waiting to become one. */
  inFlight(nowNs: Ns, limit = 1000): PlacedJourney[] {
    const journeys: PlacedJourney[] = [];
    for (const request of this.requests.values()) {
      if (journeys.length >= limit) return journeys;
      if (request.finished || request.endNs <= nowNs) continue;
      const journey = buildRequest(request, nowNs, this.occupancy, this.seen);
      if (journey !== null) journeys.push({ journey, place: requestPlace(request) });
    }
    for (const connection of this.connections.values()) {
      if (journeys.length >= limit) return journeys;
      if (!waitsForRequest(connection)) continue;
      const journey = buildConnection(connection, -connection.id, nowNs, this.occupancy, this.seen);
      if (journey !== null) journeys.push({ journey, place: connectionPlace(connection) });
    }
    return journeys;
  }

  /** The collector changed the mask: connections left out are forgotten, since only part of them would be seen. */
  setSampling(mask: number): void {
    this.mask = mask;
    this.seen.sampling = mask + 1;
    for (const connection of [...this.connections.values()]) {
      if ((connection.id & mask) === 0) continue;
      this.forget(connection);
      this.counters.unsampled++;
    }
  }

  // ── used by the points ────────────────────────────────────────────────────────────────────────────────────────

  /** A connection seen for the first time; `partial` if not from its first SYN. */
  open(id: number, partial: boolean, atNs: Ns): ConnectionFacts | undefined {
    if ((id & this.mask) !== 0) return undefined;
    if (this.connections.size >= Limits.connections) this.evict();
    const connection = new ConnectionFacts(id, partial, atNs);
    this.connections.set(id, connection);
    return connection;
  }

  /** The end of `request` is known (or is known to be earlier than thought). */
  end(request: RequestFacts, atNs: Ns): void {
    request.endNs = Math.min(request.endNs, atNs);
    this.ending.add(request);
  }

  /** The connection is over: so are its requests. */
  close(connection: ConnectionFacts): void {
    for (const request of connection.requests) this.end(request, connection.closedNs);
    this.closing.add(connection);
  }

  /** NAPI took frames at `polledNs`. */
  polled(polledNs: Ns): void {
    if (polledNs <= this.pollNs) return;
    this.pollBeforeNs = this.pollNs;
    this.pollNs = polledNs;
  }

  /** Next id for a journey without a request. */
  nextConnectionJourney(): number {
    return --this.lastConnectionJourney;
  }

  /** Tells a story made elsewhere (a SYN that never became a connection). */
  tell(journey: Journey, place: StreamPlace): void {
    this.finished(journey, place);
  }

  /** What journeys state now. */
  get statement(): Seen {
    return this.seen;
  }

  // ── private ───────────────────────────────────────────────────────────────────────────────────────────────────

  private stamp(atNs: Ns, point: number, id: number, a: number, b: number): void {
    if (point >= Point.processEnter) this.processPoint(atNs, point, id, a);
    else if (point >= Point.request) onRequestPoint(this, atNs, point, id, a, b);
    else if (point === Point.synCookie) this.drops.answered(atNs, id);
    else onConnectionPoint(this, atNs, point, id, a, b);
  }

  private processPoint(atNs: Ns, point: number, pid: number, a: number): void {
    if (point === Point.processEnter) this.occupancy.enter(pid, atNs);
    else if (point === Point.processLeave) this.occupancy.leave(pid, atNs);
    else if (point === Point.acceptPaused) this.occupancy.pause(pid, a !== 0, atNs);
  }

  private finishRequest(request: RequestFacts): void {
    this.ending.delete(request);
    this.requests.delete(request.id);
    request.finished = true;
    const { connection } = request;
    const journey = buildRequest(request, request.endNs, this.occupancy, this.seen);
    if (journey === null) this.counters.incomplete++;
    else {
      if (this.blindWhileBusy) {
        const unobserved = unobservedBefore(request, this.occupancy, this.blindPathNs);
        if (unobserved !== undefined) journey.unobserved = unobserved;
      }
      this.finished(journey, requestPlace(request));
    }
    connection.dropsTold = connection.drops;
    const at = connection.requests.indexOf(request);
    if (at >= 0) connection.requests.splice(at, 1);
    if (request.responseHi !== NEVER) connection.send.prune(request.responseHi);
    // Frames are processed in the order they came: what begins later does not begin before this request did.
    const isAtRest = connection.requests.length === 0 && !connection.receive.hasUnparsed;
    if (isAtRest && journey !== null) connection.forgetMarks(journey.startNs);
  }

  private finishConnection(connection: ConnectionFacts): void {
    for (const request of [...connection.requests]) this.finishRequest(request);
    if (waitsForRequest(connection)) {
      const journey = buildConnection(
        connection,
        this.nextConnectionJourney(),
        connection.closedNs,
        this.occupancy,
        this.seen,
      );
      if (journey !== null) this.finished(journey, connectionPlace(connection));
    }
    this.connections.delete(connection.id);
    this.drops.release(connection);
  }

  private gap(atNs: Ns, lost: number): void {
    this.counters.lostRecords += lost;
    this.interrupt(atNs);
  }

  /** Records are missing: what is open cannot be told to its end; it starts again as if seen from now on. */
  interrupt(atNs: Ns): void {
    for (const connection of [...this.connections.values()]) this.forget(connection);
    this.occupancy.forgetHolders(atNs);
  }

  private forget(connection: ConnectionFacts): void {
    for (const request of connection.requests) {
      this.requests.delete(request.id);
      this.ending.delete(request);
      this.counters.incomplete++;
    }
    this.closing.delete(connection);
    this.connections.delete(connection.id);
    this.drops.release(connection);
  }

  private evict(): void {
    let oldest: ConnectionFacts | undefined;
    for (const connection of this.connections.values()) {
      oldest ??= connection;
      if (connection.requests.length > 0 || connection.closedNs !== NEVER) continue;
      oldest = connection;
      break;
    }
    if (oldest === undefined) return;
    this.forget(oldest);
    this.counters.evicted++;
  }
}

/** True for a connection whose present story has no request: a handshake, a silent client, half a head. */
function waitsForRequest(connection: ConnectionFacts): boolean {
  if (connection.requests.length > 0) return false;
  if (!connection.everRequested && !connection.partial) return true;
  const latest = connection.latest;
  if (latest !== null && latest.bodyHi === NEVER) return false;
  return connection.headSteps.length > 0 || connection.receive.hasUnparsed;
}
