/**
 * Dropped frames and whom they belonged to.
 *
 * A SYN can be dropped before there is a connection (SYN queue full, accept queue full), or answered with a cookie so
 * that nothing is kept: its tuple is remembered, so that the journey of the client that gets in later starts at its
 * first try, and one that never gets in has a journey too.
 */
import { DropReason, dropReasonName } from "../../base/drop-reasons.ts";
import { NEVER, type Ns } from "../../base/time.ts";
import type { Journey, Outcome } from "../journey.ts";
import type { StreamPlace } from "../stream-place.ts";
import type { ConnectionFacts } from "./facts.ts";
import type { Join } from "./join.ts";
import { Limits } from "./limits.ts";
import { isDamage, isDuplicate, isRefusal } from "./outcome.ts";
import { type PacketHead, parsePacket, tupleKey } from "./packet-label.ts";
import { SegmentLine } from "./segment-line.ts";

/** Drops and labels of the same frame come one after the other; how many may be between. */
const PAIRING = 64;

/** Of a SYN that never became a connection: no stream began. */
const NOWHERE: StreamPlace = {
  receiveIsn: -1,
  sendIsn: -1,
  headLo: 0,
  headHi: NEVER,
  bodyHi: NEVER,
  responseLo: NEVER,
  responseHi: NEVER,
};

interface Drop {
  atNs: Ns;
  reason: number;
  /** When the frame had come, and when NAPI took it; `atNs` if nobody said. */
  arrivedNs: Ns;
  polledNs: Ns;
}

interface DroppedSyn {
  /** Its sequence number: the client's initial one. */
  seq: number;
  local: string;
  remote: string;
  /** The first one; and when the last one was dropped. */
  first: Drop;
  lastNs: Ns;
  /** The first was answered with a cookie: nothing is kept, but the client goes on with its handshake. */
  cookie: boolean;
  /** With it: when the last ACK of the handshake first met a full accept queue; NEVER if it did not. */
  heldNs: Ns;
  /** How many frames of it were dropped, and why the last one. */
  count: number;
  reason: number;
}

export class DropWatch {
  /** Dropped frames by reason name that belonged to no connection known. */
  readonly unowned = new Map<string, number>();
  private readonly join: Join;
  private readonly syns = new Map<string, DroppedSyn>();
  private readonly owners = new Map<string, ConnectionFacts>();
  private readonly drops = new Map<number, Drop>();
  private readonly heads = new Map<number, PacketHead>();

  constructor(join: Join) {
    this.join = join;
  }

  /** Frame `id` was discarded. */
  dropped(atNs: Ns, reason: number, id: number): void {
    const leaving = this.join.frames.leaving(id);
    if (leaving !== undefined) {
      leaving.droppedNs = atNs;
      this.join.frames.forget(id);
      return;
    }
    const { frames } = this.join;
    frames.find(id, atNs);
    const drop: Drop = { atNs, reason, arrivedNs: frames.arrivedNs, polledNs: frames.polledNs };
    const head = this.heads.get(id);
    if (head === undefined) {
      remember(this.drops, id, drop);
      return;
    }
    this.heads.delete(id);
    this.pair(drop, head);
  }

  /** SYN `id` was answered with a cookie; its packet label came just before. */
  answered(atNs: Ns, id: number): void {
    const head = this.heads.get(id);
    if (head === undefined) return;
    this.heads.delete(id);
    const { frames } = this.join;
    frames.find(id, atNs);
    this.droppedSyn({ atNs, reason: DropReason.none, arrivedNs: frames.arrivedNs, polledNs: frames.polledNs }, head);
  }

  /** The first bytes of dropped frame `id` (the label may come before or after the drop). */
  packet(_atNs: Ns, id: number, bytes: Uint8Array): void {
    const head = parsePacket(bytes);
    if (head === null) return;
    const drop = this.drops.get(id);
    if (drop === undefined) {
      remember(this.heads, id, head);
      return;
    }
    this.drops.delete(id);
    this.pair(drop, head);
  }

  /** `connection` now has its tuple: earlier dropped SYNs of that tuple were tries of its client. */
  claim(connection: ConnectionFacts): void {
    const key = tupleKey(connection);
    this.owners.set(key, connection);
    const syn = this.syns.get(key);
    if (syn === undefined) return;
    this.syns.delete(key);
    const { arrivedNs, polledNs, atNs } = syn.first;
    if (syn.cookie) {
      connection.syns.unshift({ arrivedNs, polledNs, pollBeforeNs: arrivedNs, atNs });
      connection.handshakeHeldNs = Math.min(connection.handshakeHeldNs, syn.heldNs);
      connection.mark({ name: "syn-cookie", atNs });
    } else connection.lostSynNs = arrivedNs;
    if (syn.count === 0) return;
    connection.lostSyns = syn.count;
    connection.drops += syn.count;
    connection.mark({ name: "dropped", atNs, reason: dropReasonName(syn.reason), value: syn.count });
  }

  /** The connection is gone. */
  release(connection: ConnectionFacts): void {
    const key = tupleKey(connection);
    if (this.owners.get(key) === connection) this.owners.delete(key);
  }

  /** Tells the stories of SYNs whose clients have given up. */
  expire(nowNs: Ns): void {
    for (const [key, syn] of this.syns) {
      if (syn.lastNs + Limits.droppedSynNs > nowNs) continue;
      this.syns.delete(key);
      this.tell(syn, outcomeOf(syn));
    }
  }

  private pair(drop: Drop, head: PacketHead): void {
    const { atNs, reason } = drop;
    const owner = this.owners.get(tupleKey(head));
    if (owner !== undefined) {
      owner.drops++;
      owner.mark({ name: "dropped", atNs, reason: dropReasonName(reason) });
      if (head.dataBytes > 0 && !isDuplicate(reason)) owner.receive.droppedNs = Math.min(owner.receive.droppedNs, atNs);
      return;
    }
    const known = this.syns.get(tupleKey(head));
    if (head.syn && !head.ack && !isDamage(reason)) this.droppedSyn(drop, head);
    else if (known !== undefined) count(known, drop);
    else {
      const name = dropReasonName(reason);
      this.unowned.set(name, (this.unowned.get(name) ?? 0) + 1);
    }
  }

  private droppedSyn(drop: Drop, head: PacketHead): void {
    const key = tupleKey(head);
    const known = this.syns.get(key);
    const { atNs, reason } = drop;
    if (isRefusal(reason)) {
      this.syns.delete(key);
      const { local, remote, seq } = head;
      const tries = (known?.count ?? 0) + 1;
      const first = known?.first ?? drop;
      const times = { first, lastNs: atNs, heldNs: NEVER };
      this.tell({ local, remote, seq, ...times, cookie: false, count: tries, reason }, "refused");
    } else if (known !== undefined) {
      count(known, drop);
    } else {
      if (this.syns.size >= Limits.droppedSyns) this.tellOldest();
      const cookie = reason === DropReason.none;
      const { local, remote, seq } = head;
      const times = { first: drop, lastNs: atNs, heldNs: NEVER };
      this.syns.set(key, { local, remote, seq, ...times, cookie, count: cookie ? 0 : 1, reason });
    }
  }

  private tellOldest(): void {
    for (const [key, syn] of this.syns) {
      this.syns.delete(key);
      this.tell(syn, outcomeOf(syn));
      return;
    }
  }

  /** From the first dropped SYN to the last: nothing more is known. */
  private tell(syn: DroppedSyn, outcome: Outcome): void {
    const { first, lastNs, count } = syn;
    const startNs = first.arrivedNs;
    const line = new SegmentLine(startNs, lastNs);
    line.until(first.polledNs, "rx-ring", "irq");
    line.pass(first.atNs, "softirq");
    line.until(lastNs, "retransmission", "retransmission");
    const reason = dropReasonName(syn.reason);
    const journey: Journey = {
      id: this.join.nextConnectionJourney(),
      outcome,
      ...this.join.statement,
      connection: { id: 0, local: syn.local, remote: syn.remote, protocol: "tcp", reused: false },
      request: null,
      response: null,
      startNs,
      totalNs: lastNs - startNs,
      respondedNs: null,
      segments: line.finish(),
      spans: [],
      marks: [{ name: "dropped", atNs: lastNs, reason, value: count }],
      frames: { received: count, sent: 0, retransmitted: 0, dropped: count },
    };
    this.join.tell(journey, { ...NOWHERE, receiveIsn: syn.seq });
  }
}

function count(syn: DroppedSyn, { atNs, reason }: Drop): void {
  syn.lastNs = atNs;
  if (reason === DropReason.tcpListenOverflow) syn.heldNs = Math.min(syn.heldNs, atNs);
  if (reason === DropReason.none) return;
  syn.count++;
  syn.reason = reason;
}

/** A cookie that never came back, or a client whose tries were all dropped. */
function outcomeOf(syn: DroppedSyn): Outcome {
  return syn.cookie && syn.count === 0 ? "timeout" : "dropped";
}

/** Puts into a map that forgets its oldest entries. */
function remember<T>(map: Map<number, T>, id: number, value: T): void {
  map.set(id, value);
  if (map.size > PAIRING) map.delete(map.keys().next().value as number);
}
