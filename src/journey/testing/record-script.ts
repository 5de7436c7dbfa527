/**
 * Writes records as a server would, by hand: each method is one moment at one floor. For tests of the join, and for
 * made-up journeys in documentation. Kernel and process have a recorder each, as in a real server.
 */
import { Address } from "../../base/address.ts";
import { ManualClock, type Ns } from "../../base/time.ts";
import { Ending, type Held, Label, type Parked, Point } from "../../base/tracepoints.ts";
import { Collector, type CollectorOptions } from "../collector.ts";
import type { Journey, Segment } from "../journey.ts";
import { Recorder } from "../recorder.ts";

const LOCAL = Address.v4(0x0a000001);
const REMOTE = Address.v4(0x0a000002);
/** Initial sequence numbers of every connection; the server's stream wraps at 2^32 after 15 bytes. */
export const CLIENT_ISN = 1000;
export const SERVER_ISN = 0xffff_fff0;

export class RecordScript {
  readonly clock = new ManualClock();
  readonly kernel = new Recorder(this.clock);
  readonly process = new Recorder(this.clock);
  readonly collector: Collector;
  readonly pid: number;
  private frames = 0;

  constructor(options: CollectorOptions = {}, pid = 2) {
    this.pid = pid;
    this.collector = new Collector({
      graceNs: 0,
      precision: "exact",
      truth: "simulated",
      budgetPerSecond: Number.POSITIVE_INFINITY,
      ...options,
    });
    this.collector.attach(this.kernel.buffer, "kernel");
    this.collector.attach(this.process.buffer, `process ${pid}`);
  }

  /** The following happens at `ns`. Never goes back. */
  at(ns: Ns): this {
    this.clock.nowNs = ns;
    return this;
  }

  /** Drains everything and gives the journeys, oldest first. */
  journeys(): Journey[] {
    this.collector.flush();
    return this.collector.list({ limit: 1000, unredacted: true }).reverse();
  }

  /** The journey with this id; throws if there is none. */
  journey(id: number): Journey {
    const journey = this.journeys().find((j) => j.id === id);
    if (journey === undefined) throw new Error(`no journey ${id}`);
    return journey;
  }

  // ── kernel ────────────────────────────────────────────────────────────────────────────────────────────────────

  syn(conn: number, arrivedNs: Ns, polledNs: Ns): this {
    this.kernel.stamp(Point.synReceived, conn, arrivedNs, polledNs);
    const bytes = new Uint8Array(44);
    const view = new DataView(bytes.buffer);
    view.setUint32(36, CLIENT_ISN);
    view.setUint32(40, SERVER_ISN);
    LOCAL.write(view, 0);
    REMOTE.write(view, 16);
    view.setUint16(32, 3000);
    view.setUint16(34, 40000 + conn);
    this.kernel.label(Label.tuple, conn, bytes, 0, 44);
    return this;
  }

  /** A SYN of the tuple that `syn(conn)` will have, dropped before there was a connection. */
  droppedSyn(conn: number, reason: number): this {
    const frame = ++this.frames;
    const bytes = new Uint8Array(40);
    const view = new DataView(bytes.buffer);
    view.setUint8(0, 0x45);
    view.setUint16(2, 40);
    view.setUint8(9, 6);
    view.setUint32(12, REMOTE.v4);
    view.setUint32(16, LOCAL.v4);
    view.setUint16(20, 40000 + conn);
    view.setUint16(22, 3000);
    view.setUint8(32, 0x50);
    view.setUint8(33, 2);
    this.kernel.label(Label.packet, frame, bytes, 0, 40);
    this.kernel.drop(reason, frame);
    return this;
  }

  synAck(conn: number): this {
    this.kernel.stamp(Point.synAckSent, conn, 0, 0);
    return this;
  }

  established(conn: number, depth = 1, limit = 129): this {
    this.kernel.stamp(Point.established, conn, depth, limit);
    return this;
  }

  /**
   * A frame with stream bytes [lo,hi) is processed now; `deliveredTo`: bytes in order afterwards (default hi; −1:
   * none new).
   */
  segment(conn: number, lo: number, hi: number, arrivedNs: Ns, polledNs: Ns, deliveredTo = hi): this {
    const frame = ++this.frames;
    this.kernel.stamp(Point.frameReceived, frame, arrivedNs, polledNs);
    this.kernel.link(Point.segmentReceived, frame, conn, lo, hi);
    if (deliveredTo >= 0) this.kernel.stamp(Point.delivered, conn, deliveredTo, deliveredTo - lo);
    return this;
  }

  /** Output cuts [lo,hi) now. Returns the frame id. */
  cut(conn: number, lo: number, hi: number): number {
    const frame = ++this.frames;
    this.kernel.link(Point.segmentSent, frame, conn, lo, hi);
    return frame;
  }

  qdiscLeft(frame: number, enqueuedNs: Ns, depth = 0): this {
    this.kernel.stamp(Point.qdiscLeft, frame, depth, enqueuedNs);
    return this;
  }

  transmitted(frame: number, postedNs: Ns, occupancy = 1): this {
    this.kernel.stamp(Point.transmitted, frame, postedNs, occupancy);
    return this;
  }

  held(conn: number, code: Held, offset: number): this {
    this.kernel.stamp(Point.held, conn, code, offset);
    return this;
  }

  acked(conn: number, offset: number): this {
    this.kernel.stamp(Point.acked, conn, offset, 14480);
    return this;
  }

  lost(conn: number, lo: number, hi: number): this {
    this.kernel.stamp(Point.lost, conn, lo, hi);
    return this;
  }

  closed(conn: number, ending: Ending = Ending.fin): this {
    this.kernel.stamp(Point.closed, conn, ending, 0);
    return this;
  }

  // ── process ───────────────────────────────────────────────────────────────────────────────────────────────────

  enter(): this {
    this.process.stamp(Point.processEnter, this.pid, 0, 0);
    return this;
  }

  leave(): this {
    this.process.stamp(Point.processLeave, this.pid, 0, 0);
    return this;
  }

  pauseAccept(paused: boolean): this {
    this.process.stamp(Point.acceptPaused, this.pid, paused ? 1 : 0, 0);
    return this;
  }

  accepted(conn: number): this {
    this.process.stamp(Point.accepted, conn, this.pid, 5);
    return this;
  }

  read(conn: number, lo: number, hi: number): this {
    this.process.link(Point.read, this.pid, conn, lo, hi);
    return this;
  }

  readEnd(conn: number, hi: number): this {
    this.process.stamp(Point.readEnd, conn, hi, 0);
    return this;
  }

  parseBegin(conn: number, offset: number): this {
    this.process.stamp(Point.parseBegin, conn, offset, 0);
    return this;
  }

  parsed(conn: number, offset: number): this {
    this.process.stamp(Point.parsed, conn, offset, 0);
    return this;
  }

  /** The head [lo,hi) is whole; `bodyHi` given: and so is the request. */
  request(conn: number, req: number, lo: number, hi: number, bodyHi = -1, target = "/hello"): this {
    this.process.link(Point.request, req, conn, lo, hi);
    this.text(Label.method, req, "GET");
    this.text(Label.target, req, target);
    if (bodyHi >= 0) this.requestEnd(req, bodyHi);
    return this;
  }

  requestEnd(req: number, bodyHi: number): this {
    this.process.stamp(Point.requestEnd, req, bodyHi, 0);
    return this;
  }

  routed(req: number): this {
    this.process.stamp(Point.routed, req, 0, 0);
    return this;
  }

  begin(req: number): this {
    this.process.stamp(Point.handlerBegin, req, this.pid, 100 + req);
    return this;
  }

  park(req: number, code: Parked): this {
    this.process.stamp(Point.handlerPark, req, code, 0);
    return this;
  }

  ready(req: number): this {
    this.process.stamp(Point.handlerReady, req, 0, 0);
    return this;
  }

  run(req: number): this {
    this.process.stamp(Point.handlerRun, req, 0, 0);
    return this;
  }

  end(req: number): this {
    this.process.stamp(Point.handlerEnd, req, 0, 0);
    return this;
  }

  responseBegin(req: number, lo: number, status = 200): this {
    this.process.stamp(Point.status, req, status, 0);
    this.process.stamp(Point.responseBegin, req, lo, 0);
    return this;
  }

  response(conn: number, req: number, lo: number, hi: number): this {
    this.process.link(Point.response, req, conn, lo, hi);
    return this;
  }

  write(conn: number, lo: number, hi: number, gid = 1): this {
    this.process.link(Point.write, gid, conn, lo, hi);
    return this;
  }

  writeEnd(conn: number, hi: number): this {
    this.process.stamp(Point.writeEnd, conn, hi, 0);
    return this;
  }

  private text(kind: Label, id: number, text: string): void {
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    this.process.label(kind, id, bytes, 0, bytes.length);
  }
}

/** Segments as short text for comparison: "10 accept-queue(loop-busy by 7)". Work stages have no reason. */
export function brief(segments: readonly Segment[]): string[] {
  return segments.map((s) => {
    const by = s.by === undefined ? "" : ` by ${s.by}`;
    const reason = s.reason === undefined ? "" : `(${s.reason}${by})`;
    return `${s.endNs - s.startNs} ${s.stage}${reason}`;
  });
}
