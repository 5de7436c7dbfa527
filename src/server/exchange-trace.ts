/**
 * What a connection says about its requests through the tracepoints of base, and what it measures for `Server-Timing`.
 * All of it is guarded by `isTraced`; a clock is read only there (law 6).
 */
import type { Clock, Ns } from "../base/time.ts";
import { Label, Parked, Point, type Tracepoints } from "../base/tracepoints.ts";
import type { RequestHead } from "../proto/http1/head.ts";
import { latin1Bytes } from "../proto/http1/text.ts";
import { RequestTiming } from "./server-timing.ts";

/** Microtask turns after which a resumed handler that asked for nothing is taken to wait for something of its own. */
const OWN_WAIT_TURNS = 4;

export class ExchangeTrace {
  readonly timing = new RequestTiming();
  /** Taken once per request: the mask may change at any batch. */
  isTraced = false;
  private readonly clock: Clock;
  private readonly trace: Tracepoints;
  private connId = 0;
  private reqId = 0;
  /** What the handler waits for, 0 while it has the CPU. */
  private waiting: Parked | 0 = 0;
  private waitSinceNs: Ns = 0;
  private isReady = false;
  private isBurning = false;
  private isOver = true;
  private parseFromNs: Ns = 0;
  private responseFrom = -1;

  constructor(clock: Clock, trace: Tracepoints) {
    this.clock = clock;
    this.trace = trace;
  }

  /** The connection waits for a head. */
  begin(connId: number, isFirst: boolean): void {
    this.connId = connId;
    this.timing.begin(isFirst);
    this.isOver = true;
    this.waiting = 0;
    this.responseFrom = -1;
    this.reqId = 0;
  }

  parseBegin(offset: number): void {
    this.isTraced = this.connId !== 0 && (this.connId & this.trace.mask) === 0;
    if (this.isTraced) {
      this.clock.tick();
      this.trace.stamp(Point.parseBegin, this.connId, offset, 0);
    }
    this.parseFromNs = this.clock.nowNs;
  }

  parsed(offset: number): void {
    if (this.isTraced) {
      this.clock.tick();
      this.trace.stamp(Point.parsed, this.connId, offset, 0);
    }
    this.timing.parseNs += this.clock.nowNs - this.parseFromNs;
  }

  /** A head, or what there is of one that was refused, is request `reqId`. */
  request(reqId: number, head: RequestHead, end: number): void {
    this.reqId = reqId;
    if (!this.isTraced) return;
    this.trace.link(Point.request, reqId, this.connId, head.offset, Math.max(end, head.offset));
    const { bytes, base } = head;
    if (head.methodEnd > 0) this.trace.label(Label.method, reqId, bytes, base, head.methodEnd);
    if (head.targetEnd > 0)
      this.trace.label(Label.target, reqId, bytes, base + head.targetAt, head.targetEnd - head.targetAt);
  }

  requestEnd(offset: number, bodyBytes: number): void {
    this.stamp(Point.requestEnd, offset, bodyBytes);
  }

  /** Why the request was refused or given up. */
  reason(text: string): void {
    if (!this.isTraced) return;
    const bytes = latin1Bytes(text);
    this.trace.label(Label.reason, this.reqId, bytes, 0, bytes.length);
  }

  routed(fromNs: Ns): void {
    this.tickAndStamp(Point.routed, 0, 0);
    this.timing.routeNs = this.clock.nowNs - fromNs;
  }

  handlerBegin(pid: number, gid: number): void {
    this.isOver = false;
    this.waiting = 0;
    this.isBurning = false;
    this.tickAndStamp(Point.handlerBegin, pid, gid);
    this.timing.handlerBeginNs = this.clock.nowNs;
  }

  handlerEnd(): void {
    this.run();
    this.isOver = true;
    this.tickAndStamp(Point.handlerEnd, 0, 0);
  }

  /** The handler leaves the CPU to wait for `what`. */
  park(what: Parked): void {
    if (this.waiting !== 0 || this.isOver) return;
    this.waiting = what;
    this.isReady = false;
    this.tickAndStamp(Point.handlerPark, what, 0);
    this.waitSinceNs = this.clock.nowNs;
  }

  /** What it waited for is there. */
  ready(): void {
    if (this.waiting === 0 || this.isReady) return;
    this.isReady = true;
    this.tickAndStamp(Point.handlerReady, 0, 0);
  }

  /** It runs again (it has done something, so it must). */
  run(): void {
    if (this.waiting === 0) return;
    this.ready();
    const { timing, waiting } = this;
    this.waiting = 0;
    this.stamp(Point.handlerRun, 0, 0);
    const waitedNs = this.clock.nowNs - this.waitSinceNs;
    if (waiting === Parked.body) timing.bodyWaitNs += waitedNs;
    else if (waiting === Parked.write) timing.writeWaitNs += waitedNs;
    else timing.ownWaitNs += waitedNs;
  }

  /** The handler gave a promise: unless it waits for something of ours, it waits for something of its own. */
  returnedPromise(): void {
    if (!this.isBurning) this.park(Parked.own);
  }

  burning(isBurning: boolean): void {
    this.run();
    this.isBurning = isBurning;
  }

  /** Resumes the handler from a promise of ours; a little later it may wait for something of its own. */
  resumed(): void {
    this.run();
    if (this.isTraced) void this.watchForOwnWait(this.reqId);
  }

  private async watchForOwnWait(reqId: number): Promise<void> {
    for (let turn = 0; turn < OWN_WAIT_TURNS; turn++) await undefined;
    if (this.reqId === reqId && !this.isOver && !this.isBurning) this.park(Parked.own);
  }

  responseBegin(offset: number): void {
    this.responseFrom = offset;
    this.stamp(Point.responseBegin, offset, 0);
  }

  response(end: number, status: number, bodyBytes: number): void {
    if (!this.isTraced || this.responseFrom < 0) return;
    this.clock.tick();
    this.trace.link(Point.response, this.reqId, this.connId, this.responseFrom, end);
    this.trace.stamp(Point.status, this.reqId, status, bodyBytes);
  }

  private stamp(point: Point, a: number, b: number): void {
    if (this.isTraced) this.trace.stamp(point, this.reqId, a, b);
  }

  private tickAndStamp(point: Point, a: number, b: number): void {
    if (!this.isTraced) return;
    this.clock.tick();
    this.trace.stamp(point, this.reqId, a, b);
  }
}
