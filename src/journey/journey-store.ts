/** The last journeys, newest first, and those who listen to new ones. */

import type { StageName } from "../base/stages.ts";
import { type Ns, SECOND } from "../base/time.ts";
import { tupleKey } from "./join/packet-label.ts";
import { type Journey, type Outcome, redact } from "./journey.ts";
import type { PlacedJourney, StreamPlace } from "./stream-place.ts";

/** Limit of one answer (contract §2). */
export const LIST_MAX = 1000;

/**
 * Journeys of connections without a request told one by one, per second, outcome and listener; the rest as one
 * with a `count`.
 */
export const SAME_PER_SECOND = 10;

export interface JourneyQuery {
  /** Default 100, at most 1,000. */
  limit?: number;
  outcome?: Outcome;
  /** Only journeys that took at least so long (`respondedNs`, or `totalNs` if never responded). */
  slowerNs?: Ns;
  /** Only journeys that spent time in this stage; with `slowerNs`, at least that long in it. */
  stage?: StageName;
  /** Show query values (default: they are `…`). */
  unredacted?: boolean;
}

export class JourneyStore {
  private readonly journeys: (Journey | undefined)[];
  /** Of the journey at the same index. */
  private readonly places: (StreamPlace | null)[];
  private readonly byIds = new Map<number, Journey>();
  private written = 0;
  private readonly listeners = new Set<(journey: Journey) => void>();
  private readonly alike = new Map<string, { startNs: Ns; count: number; last: Journey }>();

  /** Keeps the last `capacity` journeys. */
  constructor(capacity = 1000) {
    this.journeys = new Array<Journey | undefined>(capacity);
    this.places = new Array<StreamPlace | null>(capacity).fill(null);
  }

  get size(): number {
    return this.byIds.size;
  }

  /** Takes a finished journey; many alike without a request become one. False if it was counted into an earlier one. */
  add(journey: Journey, place: StreamPlace | null = null): boolean {
    if (journey.request === null && this.merge(journey)) return false;
    const at = this.written++ % this.journeys.length;
    const old = this.journeys[at];
    if (old !== undefined) this.byIds.delete(old.id);
    this.journeys[at] = journey;
    this.places[at] = place;
    this.byIds.set(journey.id, journey);
    for (const listener of this.listeners) listener(redact(journey));
    return true;
  }

  byId(id: number, unredacted = false): Journey | undefined {
    const journey = this.byIds.get(id);
    return journey === undefined || unredacted ? journey : redact(journey);
  }

  /** Finished journeys, newest first. */
  list(query: JourneyQuery = {}): Journey[] {
    const limit = Math.max(0, Math.min(query.limit ?? 100, LIST_MAX));
    const found: Journey[] = [];
    const oldest = Math.max(0, this.written - this.journeys.length);
    for (let i = this.written - 1; i >= oldest && found.length < limit; i--) {
      const journey = this.journeys[i % this.journeys.length];
      if (journey !== undefined && matches(journey, query)) found.push(query.unredacted ? journey : redact(journey));
    }
    return found;
  }

  /**
   * The journeys kept, oldest first, by connection (`tupleKey`): all those that have a place in its streams. Made when
   * it is asked for, so that recording pays nothing for it; as bounded as the store.
   */
  byConnection(): Map<string, PlacedJourney[]> {
    const found = new Map<string, PlacedJourney[]>();
    for (let i = Math.max(0, this.written - this.journeys.length); i < this.written; i++) {
      const journey = this.journeys[i % this.journeys.length];
      const place = this.places[i % this.journeys.length] ?? null;
      if (journey !== undefined && place !== null) addPlaced(found, { journey, place });
    }
    return found;
  }

  /** Calls back with each journey as it ends (query values hidden). Returns how to stop. */
  subscribe(listener: (journey: Journey) => void): () => void {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /** More than `SAME_PER_SECOND` of one kind within a second: the last one told stands for the rest. */
  private merge(journey: Journey): boolean {
    const endNs = journey.startNs + journey.totalNs;
    const key = `${journey.outcome} ${journey.connection.local}`;
    const group = this.alike.get(key);
    if (group === undefined || endNs - group.startNs >= SECOND) {
      if (this.alike.size >= LIST_MAX) this.alike.clear();
      this.alike.set(key, { startNs: endNs, count: 1, last: journey });
      return false;
    }
    group.count++;
    if (group.count <= SAME_PER_SECOND) {
      group.last = journey;
      return false;
    }
    group.last.count = (group.last.count ?? 1) + 1;
    return true;
  }
}

/** Adds a journey to those of its connection. */
export function addPlaced(map: Map<string, PlacedJourney[]>, placed: PlacedJourney): void {
  const key = tupleKey(placed.journey.connection);
  const known = map.get(key);
  if (known === undefined) map.set(key, [placed]);
  else known.push(placed);
}

/** Does a journey answer the query? Also used for journeys in flight. */
export function matches(journey: Journey, query: JourneyQuery): boolean {
  if (query.outcome !== undefined && journey.outcome !== query.outcome) return false;
  const { stage, slowerNs } = query;
  if (stage === undefined) return slowerNs === undefined || (journey.respondedNs ?? journey.totalNs) >= slowerNs;
  const inStage = journey.segments.filter((s) => s.stage === stage);
  const ns = inStage.reduce((sum, s) => sum + s.endNs - s.startNs, 0);
  return slowerNs === undefined ? inStage.length > 0 : ns >= slowerNs;
}
