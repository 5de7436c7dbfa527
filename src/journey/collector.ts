/**
 * The collector: drains the recorder rings of a server (its kernel and each process), merges their records in order of
 * time,
 * feeds the join, keeps the last journeys, and turns sampling down when there are too many records.
 *
 * Merge order: time, then ring in order of `attach` (kernel first), then order within the ring. A record is taken only
 * when no ring can still bring an earlier one: up to the watermark, `nowNs − graceNs`.
 */
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { Join, type JoinCounters, type JoinOptions } from "./join/join.ts";
import { type Journey, redact } from "./journey.ts";
import { addPlaced, type JourneyQuery, JourneyStore, matches } from "./journey-store.ts";
import { KIND_FACTOR, Kind, OP_GAP, RingReader } from "./record-ring.ts";
import { Statistics, type Summary } from "./statistics.ts";
import type { PlacedJourney } from "./stream-place.ts";

export interface CollectorOptions extends JoinOptions {
  /** Journeys kept; default 1,000, at most 10,000 is sensible. */
  journeys?: number;
  /**
   * How far behind the present a record may be stamped, in ns: the longest batch that shares one clock reading. Default
   * 10 ms; 0 in virtual time.
   */
  graceNs?: Ns;
  /**
   * Records per second above which fewer connections are recorded, if (with `readNs`) they cost too much; default
   * 15,000, some 600 requests: at human rates every connection is recorded, however slow or cold the machine is.
   * Infinity: never.
   */
  budgetPerSecond?: number;
  /** Reads the thread's CPU time or, where there is none, a steady clock, ns: so the collector knows what it costs. */
  readNs?: () => Ns;
  /**
   * With it: the share of that time above which fewer connections are recorded; the default, 2 %, leaves more than
   * half of law 6's 5 % to the stamps and to the garbage the journeys become.
   */
  budgetShare?: number;
  /** Records taken by one `drain` at most; default 100,000. */
  drainRecords?: number;
}

/** How well the recording itself went. */
export interface CollectorCounters extends JoinCounters {
  records: number;
  /** 1 = every connection, N = one in N. */
  sampling: number;
  /** Share of the time of `readNs` spent here in the last whole second; 0 without it. */
  share: number;
  /** Time spent here so far, ns; 0 without `readNs`. */
  spentNs: Ns;
  /** How often recording stopped for the rest of a second that had cost too much. */
  pauses: number;
  /** Records taken after a later one had been (stamped further back than `graceNs`). */
  late: number;
  rings: { name: string; lost: number; waiting: number }[];
}

/** Default of `budgetShare`. */
export const DEFAULT_BUDGET_SHARE = 0.02;

/** One second may cost so many budgets before fewer connections are recorded: a person with a script is no load. */
const BURST = 4;

/** A second that stopped at once is taken to have recorded for so long: what it would have cost must be a number. */
const SHORTEST_NS: Ns = MILLISECOND;

/** Sampling goes no further down than one connection in 2^MASK_BITS_MAX. */
const MASK_BITS_MAX = 16;

export class Collector {
  readonly store: JourneyStore;
  readonly statistics = new Statistics();
  private readonly join: Join;
  private readonly rings: RingReader[] = [];
  private readonly graceNs: Ns;
  private readonly budgetPerSecond: number;
  private readonly budgetShare: number;
  private readonly readNs: (() => Ns) | null;
  private readonly drainRecords: number;
  private records = 0;
  private late = 0;
  private lastNs: Ns = 0;
  private maskBits = 0;
  private isRecording = true;
  /** Not recording for the rest of this second: it has cost too much. */
  private isPaused = false;
  private pausedNs: Ns = 0;
  private pauses = 0;
  private spentNs: Ns = 0;
  private share = 0;
  /** The second before was above the budget, too. */
  private wasOver = false;
  private windowNs: Ns = 0;
  private windowRecords = 0;
  private windowSpentNs: Ns = 0;
  private windowReadNs: Ns = 0;
  private nowNs: Ns = 0;

  constructor(options: CollectorOptions = {}) {
    this.graceNs = options.graceNs ?? 10 * MILLISECOND;
    this.budgetPerSecond = options.budgetPerSecond ?? 15_000;
    this.budgetShare = options.budgetShare ?? DEFAULT_BUDGET_SHARE;
    this.readNs = options.readNs ?? null;
    this.drainRecords = options.drainRecords ?? 100_000;
    this.store = new JourneyStore(options.journeys ?? 1000);
    this.join = new Join((journey, place) => {
      this.statistics.add(journey);
      this.store.add(journey, place);
    }, options);
  }

  /** Adds a recorder's ring. Attach the server's kernel first: at equal times it goes first. */
  attach(buffer: ArrayBufferLike, name: string): void {
    const ring = new RingReader(buffer, name);
    ring.setMask(this.mask);
    this.rings.push(ring);
  }

  /** Forgets a ring whose writer is gone (after a last `drain`). */
  detach(name: string): void {
    const at = this.rings.findIndex((ring) => ring.name === name);
    if (at >= 0) this.rings.splice(at, 1);
  }

  /**
   * Takes what the rings hold up to `nowNs − graceNs` and tells the stories that ended by then. Call it some ten times
   * a second (in virtual time: when asked). Returns the records taken; as many as `drainRecords` means there may be
   * more.
   */
  drain(nowNs: Ns): number {
    const fromNs = this.readNs?.() ?? 0;
    this.nowNs = Math.max(this.nowNs, nowNs);
    for (const ring of this.rings) ring.refresh();
    const watermarkNs = nowNs - this.graceNs;
    const taken = this.merge(watermarkNs);
    for (const ring of this.rings) ring.release();
    this.join.settle(taken < this.drainRecords ? watermarkNs : Math.min(this.lastNs, watermarkNs));
    const toNs = this.readNs?.() ?? 0;
    this.spentNs += toNs - fromNs;
    this.windowSpentNs += toNs - fromNs;
    this.windowRecords += taken;
    this.govern(nowNs, toNs);
    return taken;
  }

  /** Drains everything, whatever its time: at the end of a run, when no writer is left. */
  flush(): void {
    for (const ring of this.rings) ring.refresh();
    while (this.merge(Number.MAX_VALUE) >= this.drainRecords);
    for (const ring of this.rings) ring.release();
    this.nowNs = Math.max(this.nowNs, this.lastNs);
    this.join.settle(Number.MAX_VALUE);
  }

  /** Finished journeys, newest first; with `outcome: "in-flight"` those not finished. */
  list(query: JourneyQuery = {}): Journey[] {
    if (query.outcome === "in-flight") return this.inFlight(query);
    return this.store.list(query);
  }

  /** A journey by id, finished or in flight. */
  byId(id: number, unredacted = false): Journey | undefined {
    const done = this.store.byId(id, unredacted);
    if (done !== undefined) return done;
    const journey = this.join.inFlight(this.watermarkNs).find((placed) => placed.journey.id === id)?.journey;
    return journey === undefined || unredacted ? journey : redact(journey);
  }

  /** Journeys without an end, as they stand at the watermark. */
  inFlight(query: JourneyQuery = {}): Journey[] {
    const journeys = this.join.inFlight(this.watermarkNs).map((placed) => placed.journey);
    const matching = journeys.filter((j) => matches(j, { ...query, outcome: "in-flight" }));
    const limited = matching.slice(0, query.limit ?? 100);
    return query.unredacted ? limited : limited.map(redact);
  }

  /** All journeys there are, finished or not, by connection (`tupleKey`) and in order: what captures ask. */
  byConnection(): Map<string, PlacedJourney[]> {
    const found = this.store.byConnection();
    for (const placed of this.join.inFlight(this.watermarkNs)) addPlaced(found, placed);
    return found;
  }

  subscribe(listener: (journey: Journey) => void): () => void {
    return this.store.subscribe(listener);
  }

  stats(): Summary {
    return this.statistics.summary();
  }

  counters(): CollectorCounters {
    return {
      ...this.join.counters,
      records: this.records,
      sampling: 2 ** this.maskBits,
      share: this.share,
      spentNs: this.spentNs,
      pauses: this.pauses,
      late: this.late,
      rings: this.rings.map((ring) => ({ name: ring.name, lost: ring.lost, waiting: ring.refresh() })),
    };
  }

  /** Records one connection in 2^bits from now on (0 = all). `drain` adapts it unless the budget is Infinity. */
  setSampling(bits: number): void {
    if (bits === this.maskBits) return;
    this.maskBits = bits;
    for (const ring of this.rings) ring.setMask(this.mask);
    this.join.setSampling(2 ** bits - 1);
  }

  /**
   * Stops recording altogether, or starts it again at the present sampling. Journeys told so far stay; what was open
   * meanwhile was not seen to its end, and is never told.
   */
  setRecording(on: boolean): void {
    if (on === this.isRecording) return;
    this.isRecording = on;
    const readNs = this.readNs?.() ?? 0;
    const way = on ? 1 : -1;
    // The governor's second goes on where it was when recording stopped.
    this.windowNs += way * this.nowNs;
    this.windowReadNs += way * readNs;
    if (on) this.join.interrupt(this.lastNs);
    for (const ring of this.rings) ring.setMask(this.mask);
  }

  private get mask(): number {
    return this.isRecording && !this.isPaused ? 2 ** this.maskBits - 1 : -1;
  }

  private setPaused(paused: boolean): void {
    if (paused === this.isPaused) return;
    this.isPaused = paused;
    if (paused) this.pauses++;
    this.join.interrupt(this.lastNs);
    for (const ring of this.rings) ring.setMask(this.mask);
  }

  private get watermarkNs(): Ns {
    return Math.max(this.lastNs, this.nowNs - this.graceNs);
  }

  /** Takes records up to `watermarkNs` in merge order, at most `drainRecords`. */
  private merge(watermarkNs: Ns): number {
    const waiting = this.rings.filter((ring) => ring.load());
    let taken = 0;
    while (waiting.length > 0 && taken < this.drainRecords) {
      let best = 0;
      let otherNs = Number.POSITIVE_INFINITY;
      for (let i = 1; i < waiting.length; i++) {
        const ring = waiting[i] as RingReader;
        if (ring.timeNs < (waiting[best] as RingReader).timeNs) best = i;
      }
      for (let i = 0; i < waiting.length; i++) {
        if (i !== best) otherNs = Math.min(otherNs, (waiting[i] as RingReader).timeNs);
      }
      const ring = waiting[best] as RingReader;
      if (ring.timeNs > watermarkNs) break;
      do {
        this.take(ring);
        taken++;
        if (!ring.load()) {
          waiting.splice(best, 1);
          break;
        }
      } while (ring.timeNs <= watermarkNs && ring.timeNs < otherNs && taken < this.drainRecords);
    }
    return taken;
  }

  private take(ring: RingReader): void {
    const { timeNs, op, id } = ring;
    if (timeNs < this.lastNs) this.late++;
    else this.lastNs = timeNs;
    this.records++;
    if (op >= Kind.label * KIND_FACTOR && op < OP_GAP) {
      this.join.label(timeNs, op - Kind.label * KIND_FACTOR, id, ring.labelBytes());
    } else this.join.record(timeNs, op, id, ring.a, ring.b, ring.c);
    ring.take();
  }

  /**
   * The governor. Once a second: fewer connections above the budget, unless it is one second's burst; more again well
   * below it, all at once when it is quiet. Within a second: nothing more once it has cost a burst, or, after a second
   * that was above the budget, the budget: one busy connection may be too much, and is recorded for part of the time.
   */
  private govern(nowNs: Ns, readNs: Ns): void {
    if (!this.isRecording || this.budgetPerSecond === Number.POSITIVE_INFINITY) return;
    const elapsedNs = nowNs - this.windowNs;
    if (elapsedNs < SECOND) {
      const limit = this.wasOver ? 1 : BURST;
      if (!this.isPaused && this.budgetsSpent(SECOND, SECOND) >= limit) {
        this.pausedNs = nowNs;
        this.setPaused(true);
      }
      return;
    }
    const usedNs = readNs - this.windowReadNs;
    // What the whole second would have cost, had it not stopped.
    const recordedNs = this.isPaused ? Math.max(this.pausedNs - this.windowNs, SHORTEST_NS) : elapsedNs;
    const budgets = this.budgetsSpent(elapsedNs, usedNs) * (elapsedNs / recordedNs);
    this.share = usedNs > 0 ? this.windowSpentNs / usedNs : 0;
    this.windowReadNs = readNs;
    this.windowNs = nowNs;
    this.windowRecords = 0;
    this.windowSpentNs = 0;
    this.adapt(budgets);
    this.setPaused(false);
  }

  /** What the present window has cost, as a multiple of what `elapsedNs` (by `readNs`: `usedNs`) may cost. */
  private budgetsSpent(elapsedNs: Ns, usedNs: Ns): number {
    const byRecords = ((this.windowRecords / elapsedNs) * SECOND) / this.budgetPerSecond;
    if (this.readNs === null || usedNs <= 0) return byRecords;
    return Math.min(byRecords, this.windowSpentNs / usedNs / this.budgetShare);
  }

  private adapt(budgets: number): void {
    const isOver = budgets > 1 || this.isPaused;
    const isBurst = isOver && !this.wasOver && budgets < BURST;
    this.wasOver = isOver;
    if (isBurst) return;
    if (isOver) {
      const halvings = Math.max(1, Math.ceil(Math.log2(budgets)));
      this.setSampling(Math.min(MASK_BITS_MAX, this.maskBits + halvings));
    } else if (budgets < 1 / 4 && this.maskBits > 0) {
      const doublings = Math.floor(-Math.log2(Math.max(2 * budgets, 2 ** -MASK_BITS_MAX)));
      this.setSampling(Math.max(0, this.maskBits - doublings));
    }
  }
}
