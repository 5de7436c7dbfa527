/**
 * Checkers of a running simulation: nothing vanishes, nothing is left over (law 4).
 *
 * They look from outside and trust no floor: what a host says it holds must be what the pool and the arena say is out.
 */
import { DROP_REASONS, DropReason } from "../base/drop-reasons.ts";
import type { Ns } from "../base/time.ts";
import type { Arena } from "../skb/arena.ts";
import type { HostEnv } from "../skb/host-env.ts";
import type { SkBuffPool } from "../skb/skb.ts";
import { formatTime } from "./sim.ts";

/** What one place of a host owns now: an RX ring, a qdisc, the receive queue of a connection. */
export interface Holding {
  readonly place: string;
  /** skbs with their slots. */
  readonly skbs: number;
  /** Slots without an skb: stream pages, payload that stayed in its frame. */
  readonly slots: number;
}

/** One host as the checkers see it. Every count may be a getter; it is read at each check. */
export interface HostLedger {
  readonly env: HostEnv;
  /** Frames that came to be on this host: received by its devices (also those lost in a full ring) or built by it. */
  readonly framesIn: number;
  /** Frames that left it by a wire. Deliveries and drops are counted by `env.drops`. */
  readonly framesOut: number;
  /** Everything that owns an skb or a slot. */
  holdings(): readonly Holding[];
}

/** What owns slots outside the hosts: a cable with frames in flight. */
export interface Holder {
  readonly name: string;
  readonly pool: SkBuffPool;
  /** What it owns now; a cable owns slots only. */
  holdings(): readonly Holding[];
}

/** A law of the simulation was broken: a bug in sojourn, with the state that shows it. */
export class CheckError extends Error {
  override readonly name = "CheckError";
}

/**
 * At any moment: frames in = delivered + dropped + out + still owned, per host; skbs owned = skbs out, per pool; slots
 * owned = slots out, per arena; no counter goes back.
 */
export class ConservationChecker {
  private readonly ledgers: readonly HostLedger[];
  private readonly holders: readonly Holder[];
  private readonly arenas: readonly Arena[];
  private readonly before: Float64Array[];

  /** `cables` own slots too, but their frames belong to no host. */
  constructor(ledgers: readonly HostLedger[], cables: readonly Holder[] = []) {
    this.ledgers = ledgers;
    this.holders = [...ledgers.map(holderOf), ...cables];
    this.arenas = [...new Set(this.holders.map((holder) => holder.pool.arena))];
    this.before = ledgers.map(() => new Float64Array(DROP_REASONS.length));
  }

  /** Throws `CheckError` with the books if they do not balance. For `SimOptions.afterStep`. */
  check(nowNs: Ns): void {
    const held = this.holders.map((holder) => holder.holdings());
    for (const [i, ledger] of this.ledgers.entries()) {
      checkCounters(ledger, this.before[i], nowNs);
      checkFrames(ledger, sumOf(held[i], "skbs"), nowNs);
    }
    for (const arena of this.arenas) this.checkArena(arena, held, nowNs);
  }

  /** Adds up what the holders of an arena own; looks closer only if the sums differ from what is out. */
  private checkArena(arena: Arena, held: readonly (readonly Holding[])[], nowNs: Ns): void {
    const skbs = new Map<SkBuffPool, number>();
    let slots = 0;
    for (const [i, holder] of this.holders.entries()) {
      if (holder.pool.arena !== arena) continue;
      const holdings = held[i];
      const owned = sumOf(holdings, "skbs");
      skbs.set(holder.pool, (skbs.get(holder.pool) ?? 0) + owned);
      slots += owned + sumOf(holdings, "slots");
    }
    for (const [pool, owned] of skbs) {
      if (owned === pool.outstanding) continue;
      const users = this.holders.filter((holder) => holder.pool === pool);
      throw imbalance(users, `${pool.outstanding} skbs are out, ${owned} are owned`, nowNs);
    }
    if (slots === arena.outstanding) return;
    const users = this.holders.filter((holder) => holder.pool.arena === arena);
    throw imbalance(users, `${arena.outstanding} slots are out, ${slots} are owned`, nowNs);
  }
}

function imbalance(users: readonly Holder[], what: string, nowNs: Ns): CheckError {
  const names = users.map((holder) => holder.name).join(", ");
  const state = users.map(heldBy).filter((text) => text !== "");
  return new CheckError([`t=${formatTime(nowNs)} ${names}: ${what}`, ...state].join("\n"));
}

function holderOf(ledger: HostLedger): Holder {
  return { name: ledger.env.name, pool: ledger.env.pool, holdings: () => ledger.holdings() };
}

function checkCounters(ledger: HostLedger, before: Float64Array, nowNs: Ns): void {
  const { counts } = ledger.env.drops;
  for (let reason = 0; reason < counts.length; reason++) {
    if (counts[reason] >= before[reason]) continue;
    const change = `counter ${DROP_REASONS[reason].name} fell from ${before[reason]} to ${counts[reason]}`;
    throw new CheckError(`t=${formatTime(nowNs)} ${ledger.env.name}: ${change}`);
  }
  before.set(counts);
}

/** `owned`: skbs the host holds. */
function checkFrames(ledger: HostLedger, owned: number, nowNs: Ns): void {
  const { drops, name } = ledger.env;
  const delivered = drops.counts[DropReason.consumed];
  const accounted = delivered + drops.total + ledger.framesOut + owned;
  if (ledger.framesIn === accounted) return;
  const ended = `${delivered} delivered + ${drops.total} dropped + ${ledger.framesOut} out`;
  const sum = `${ended} + ${owned} owned = ${accounted}`;
  const dropped = DROP_REASONS.filter((r) => drops.counts[r.id] > 0).map((r) => `  ${r.name}: ${drops.counts[r.id]}`);
  const head = `t=${formatTime(nowNs)} ${name}: ${ledger.framesIn} frames in, but ${sum}`;
  throw new CheckError([head, heldBy(holderOf(ledger)), ...dropped].join("\n"));
}

function sumOf(holdings: readonly Holding[], what: "skbs" | "slots"): number {
  return holdings.reduce((total, holding) => total + holding[what], 0);
}

/** What a holder says it has, one line per place that has anything. */
function heldBy(holder: Holder): string {
  const held = holder.holdings().filter((h) => h.skbs !== 0 || h.slots !== 0);
  return held.map((h) => `  ${holder.name} ${h.place}: ${h.skbs} skbs, ${h.slots} slots`).join("\n");
}

/** Something that must be empty at the end: name → how many are left. Sockets, goroutines, connections, timers … */
export interface LeakCounters {
  /** Host or process, for the message. */
  readonly name: string;
  counts(): Readonly<Record<string, number>>;
}

/** The counters every host has: skbs and slots of its pool, armed timers. */
export function hostCounters(env: HostEnv): LeakCounters {
  return {
    name: env.name,
    counts: () => ({
      skbs: env.pool.outstanding,
      slots: env.pool.arena.outstanding,
      timers: env.timers.armedCount(),
    }),
  };
}

/**
 * Remembers how much was in use when it was made (listeners, a housekeeping timer) and throws at `check` if more is in
 * use then.
 */
export class LeakChecker {
  private readonly sources: readonly LeakCounters[];
  private readonly baseline: readonly Readonly<Record<string, number>>[];

  constructor(sources: readonly LeakCounters[]) {
    this.sources = sources;
    this.baseline = sources.map((source) => source.counts());
  }

  /** Throws `CheckError` that lists every leak; `tolerated["host.counter"]` more than at the start are allowed. */
  check(nowNs: Ns, tolerated: Readonly<Record<string, number>> = {}): void {
    const leaks: string[] = [];
    for (const [i, source] of this.sources.entries()) {
      for (const [counter, now] of Object.entries(source.counts())) {
        const before = this.baseline[i][counter] ?? 0;
        const extra = now - before - (tolerated[`${source.name}.${counter}`] ?? 0);
        if (extra > 0) leaks.push(`${source.name}.${counter} ${before} → ${now}`);
      }
    }
    if (leaks.length > 0) throw new CheckError(`left over at t=${formatTime(nowNs)}: ${leaks.join(", ")}`);
  }
}
