/**
 * The contract's four rules, read literally: the label of a request at one instant, by scanning the plain truth. Slow
 * and
 * simple on purpose; it shares nothing with the sweep it checks.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import type { ConnectionTruth, RandomWorld, RequestTruth } from "./random-world.ts";

const HELD = ["", "cwnd", "rwnd", "nagle", "cork", "pacing", "small-queue"];

export class Oracle {
  private readonly world: RandomWorld;
  private readonly conn: ConnectionTruth;
  private readonly request: RequestTruth;

  constructor(world: RandomWorld, conn: ConnectionTruth, request: RequestTruth) {
    this.world = world;
    this.conn = conn;
    this.request = request;
  }

  startNs(): Ns {
    const { conn, request } = this;
    if (request.h0 === 0) return Math.min(conn.lostSynNs, conn.syn.arrNs);
    return Math.min(...conn.frames.filter((f) => f.lo <= request.h0 && request.h0 < f.hi).map((f) => f.arrNs));
  }

  ackedNs(): Ns {
    return this.conn.acks.find((a) => a.offset >= this.request.p1)?.atNs ?? NEVER;
  }

  endNs(): Ns {
    return Math.min(this.ackedNs(), this.conn.closedNs);
  }

  /** When the byte before `offset` was on the wire. */
  static deviceNs(conn: ConnectionTruth, offset: number): Ns {
    const cut = conn.cuts.find((c) => c.lo < offset && offset <= c.hi);
    return cut === undefined || !cut.txSeen ? NEVER : cut.txNs;
  }

  /** "stage" or "stage(reason)" or "stage(reason by who)". */
  label(t: Ns): string {
    const { request } = this;
    if (t < request.headParsedNs) return this.unparsed(Math.max(request.h0, this.frontier(t)), t, true);
    if (t < request.endNs) return this.handler(t);
    return this.response(t, false);
  }

  private frontier(t: Ns): number {
    return Math.max(0, ...this.conn.frontier.filter((f) => f.atNs <= t).map((f) => f.offset));
  }

  private unparsed(u: number, t: Ns, head: boolean): string {
    const { conn, request } = this;
    const first = head && request.h0 === 0;
    if (first && t < conn.establishedNs) return this.handshake(t);
    const covering = conn.frames.filter((f) => f.lo <= u && u < f.hi);
    const frame = covering[0];
    if (frame === undefined || t < frame.arrNs) {
      const later = conn.frames.some((f) => f.lo > u && f.arrNs <= t);
      return later ? "retransmission(retransmission)" : "client(client)";
    }
    if (t < frame.pollNs) return "rx-ring(irq)";
    if (t < frame.procNs) return "softirq";
    const deliveredNs = conn.deliveries.find((d) => d.offset > u)?.atNs ?? NEVER;
    if (t < deliveredNs) return "reassembly(reassembly)";
    if (first && t < conn.acceptedNs) {
      if (this.world.pauses.some((p) => p.startNs <= t && t < p.endNs)) return "accept-queue(accept-paused)";
      return this.busy(t, conn.establishedNs, "accept-queue") ?? "accept-queue(reader-not-woken)";
    }
    return this.undelivered(u, t, head, deliveredNs);
  }

  private handshake(t: Ns): string {
    const { syn } = this.conn;
    if (t < syn.arrNs) return "retransmission(retransmission)";
    if (t < syn.pollNs) return "rx-ring(irq)";
    return t < syn.procNs ? "softirq" : "syn-queue(handshake)";
  }

  private undelivered(u: number, t: Ns, head: boolean, deliveredNs: Ns): string {
    const { conn, request } = this;
    const read = conn.reads.find((r) => r.lo <= u && u < r.hi);
    const parse = conn.parses.filter((p) => p.lo <= u && u < p.hi).find((p) => p.endNs > t);
    const previous = head ? request.previous : null;
    const unfinished = previous !== null && t < previous.doneNs ? previous : null;
    if (read === undefined || t < read.startNs) {
      if (unfinished !== null) return `receive-queue(pipeline by ${unfinished.id})`;
      const readyNs = previous === null ? deliveredNs : Math.max(deliveredNs, previous.doneNs);
      return this.busy(t, readyNs, "receive-queue") ?? "receive-queue(reader-not-woken)";
    }
    if (t < read.endNs) return "copy";
    if (parse === undefined || t < parse.startNs) {
      if (unfinished !== null) return `receive-queue(pipeline by ${unfinished.id})`;
      const holder = this.holder(t);
      if (holder !== null) return `run-queue(loop-busy by ${holder})`;
    }
    return "parse";
  }

  private handler(t: Ns): string {
    const { request } = this;
    if (t < request.routedNs) return "route";
    if (t < request.beganNs) {
      const holder = this.holder(t);
      return holder === null ? "route" : `run-queue(loop-busy by ${holder})`;
    }
    const state = request.states.filter((s) => s.atNs <= t).at(-1);
    switch (state?.state) {
      case "run":
        return "process";
      case "own":
        return "handler(handler)";
      case "sleep":
        return "handler(sleep)";
      case "body":
        return this.unparsed(this.frontier(t), t, false);
      case "write":
        return this.response(t, true);
      default:
        return this.busy(t, state?.atNs ?? 0, "run-queue") ?? "run-queue(reader-not-woken)";
    }
  }

  private response(t: Ns, inHandler: boolean): string {
    const { conn, request } = this;
    const { previous } = request;
    if (previous !== null && t < Math.min(Oracle.deviceNs(conn, previous.p1), this.previousAckedNs())) {
      return `send-queue(pipeline by ${previous.id})`;
    }
    const v = Math.max(request.p0, ...conn.cuts.filter((c) => c.txNs <= t).map((c) => c.hi));
    if (v >= request.p1) return this.unacknowledged(t);
    const cut = conn.cuts.find((c) => c.lo <= v && v < c.hi && c.cutNs <= t);
    if (cut !== undefined) {
      // the times before a station are told when it is left: a reset may come before
      if (t < cut.enqNs || !cut.leftSeen) return "output";
      if (t < cut.leftNs) return "qdisc(qdisc)";
      return t < cut.postNs && cut.txSeen ? "output" : "tx-ring(tx-ring)";
    }
    const write = conn.writes.find((w) => w.lo <= v && v < w.hi);
    if (write === undefined || t < write.startNs) {
      if (inHandler) return "send-queue(full-queue)";
      const holder = this.holder(t);
      return holder === null ? "encode" : `run-queue(loop-busy by ${holder})`;
    }
    if (t < write.endNs) return "write";
    const hold = conn.holds.find((h) => h.startNs <= t && t < h.endNs);
    return hold === undefined ? "output" : `send-queue(${HELD[hold.code]})`;
  }

  private previousAckedNs(): Ns {
    const p1 = this.request.previous?.p1 ?? NEVER;
    return this.conn.acks.find((a) => a.offset >= p1)?.atNs ?? NEVER;
  }

  private unacknowledged(t: Ns): string {
    const { conn, request } = this;
    const w = Math.max(request.p0, ...conn.acks.filter((a) => a.atNs <= t).map((a) => a.offset));
    const lost = conn.lost.some((l) => l.lo <= w && w < l.hi && l.atNs <= t);
    return lost ? "retransmission(retransmission)" : "ack-wait(ack-wait)";
  }

  /** The other request on the CPU at `t`, or null. */
  private holder(t: Ns): number | null {
    const hold = this.world.holds.find((h) => h.startNs <= t && t < h.endNs && h.requestId !== this.request.id);
    return hold?.requestId ?? null;
  }

  private busy(t: Ns, readyNs: Ns, stage: string): string | null {
    const holder = this.holder(t);
    if (holder !== null) return `${stage}(loop-busy by ${holder})`;
    const run = this.world.runs.find((r) => r.startNs <= t && t < r.endNs);
    if (run === undefined || run.startNs >= readyNs) return null;
    return `${stage}(loop-busy by process ${this.world.script.pid})`;
  }
}
