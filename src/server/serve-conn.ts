/**
 * One connection of a server: a goroutine in step style that reads a head, runs the handler, writes the answer, and
 * starts again until somebody has enough. No promise unless the handler makes one.
 *
 *      head ──► handler ──► (drain the unread body) ──► head …
 *        │         │                    │
 *        └─ refuse ┴─────► linger ◄─────┘ ──► closed
 *
 * Bytes are read into a buffer all connections share and mostly used up within the step; what is left over when a step
 * ends is kept in the connection's own. So an idle connection owns no buffer, and its parser goes back to the pool.
 */
import { Errno } from "../base/errno.ts";
import { Cost, NEVER, type Ns } from "../base/time.ts";
import { Parked } from "../base/tracepoints.ts";
import { Headers, LocalProtocolError } from "../proto/http1/headers.ts";
import { ParseEvent } from "../proto/http1/request-parser.ts";
import type { ResponseEncoder } from "../proto/http1/response-encoder.ts";
import { statusText } from "../proto/http1/status-text.ts";
import { latin1Bytes } from "../proto/http1/text.ts";
import { TextBuffer } from "../proto/http1/text-buffer.ts";
import { type Conn, type Goroutine, PARKED } from "../runtime/port.ts";
import type { Exchange } from "./exchange.ts";
import type { Handler } from "./mux.ts";
import { type ConnectionInfo, Request, RequestError, type RequestSource } from "./request.ts";
import { HIGH_WATER_BYTES, LOW_WATER_BYTES, type ResponseSink, ResponseWriter } from "./response-writer.ts";
import type { ServerCore } from "./server-core.ts";
import { addServerTiming } from "./server-timing.ts";

/** An unread body up to this size is read to its end so that the connection can be kept (Go: 256 KiB). */
export const DRAIN_MAX_BYTES = 262_144;

const Phase = { head: 0, handler: 1, drain: 2, linger: 3, closed: 4 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

/** Which read deadline is set. */
const Deadline = { none: 0, idle: 1, head: 2, body: 3 } as const;
type Deadline = (typeof Deadline)[keyof typeof Deadline];

/** A larger buffer of its own is given up when it is empty. */
const KEPT_IDLE_BYTES = 4096;

const NO_BYTES = new Uint8Array(0);
const CLIENT_GONE = 499;

const SERVER_TIMING = latin1Bytes("Server-Timing: ");
const CRLF = latin1Bytes("\r\n");

interface BodyWaiter {
  readonly into: Uint8Array;
  readonly resolve: (n: number) => void;
  readonly reject: (error: unknown) => void;
}

export class ServeConn implements RequestSource, ResponseSink, ConnectionInfo {
  readonly conn: Conn;
  requests = 0;
  private readonly core: ServerCore;
  /** Null while nothing of a request is here. */
  private exchange: Exchange | null = null;
  /** While there is no exchange: stream offset of the next byte. */
  private offset = 0;
  private g: Goroutine | null = null;
  private phase: Phase = Phase.head;
  private deadline: Deadline = Deadline.none;
  /** Bytes read and not yet parsed: [at,end) of `input`, which is the shared scratch or `kept`. */
  private input = NO_BYTES;
  private at = 0;
  private end = 0;
  private kept = NO_BYTES;

  private request: Request | null = null;
  private response: ResponseWriter | null = null;
  private isInputOver = false;
  private bodyWaiter: BodyWaiter | null = null;

  constructor(core: ServerCore, conn: Conn) {
    this.core = core;
    this.conn = conn;
  }

  // ── ConnectionInfo ────────────────────────────────────────────────────────────────────────────────────────────

  get id(): number {
    return this.conn.connId;
  }

  get local() {
    return this.conn.local;
  }

  get remote() {
    return this.conn.remote;
  }

  get timing() {
    return this.conn.timing;
  }

  get connection(): ConnectionInfo {
    return this;
  }

  /** Between two requests: nobody loses anything if it is closed. */
  get isIdle(): boolean {
    return this.phase === Phase.head && this.awaitsHead && this.at === this.end;
  }

  /** No byte of a next request was parsed. */
  private get awaitsHead(): boolean {
    return this.exchange === null || this.exchange.parser.idle;
  }

  /** The present exchange; the first byte of a request begins it. */
  private get now(): Exchange {
    this.exchange ??= this.core.takeExchange(this.conn.connId, this.offset, this.requests === 0);
    return this.exchange;
  }

  private get parser() {
    return this.now.parser;
  }

  private get seen() {
    return this.now.seen;
  }

  get encoder(): ResponseEncoder {
    return this.now.encoder;
  }

  /** Wakes the goroutine so that it sees what changed. */
  wake(): void {
    if (this.g !== null) this.core.runtime.ready(this.g);
  }

  /** Gives the connection up at once (server close). */
  kill(): void {
    if (this.phase === Phase.closed) return;
    this.clientGone();
    this.conn.abort();
    this.phase = Phase.closed;
    this.wake();
  }

  // ── the goroutine ─────────────────────────────────────────────────────────────────────────────────────────────

  /** A step: goes on until it would block. */
  run(g: Goroutine): void {
    this.g = g;
    let mayGoOn = true;
    while (mayGoOn) {
      switch (this.phase) {
        case Phase.head:
          mayGoOn = this.headStep(g);
          break;
        case Phase.handler:
          mayGoOn = this.handlerStep(g);
          break;
        case Phase.drain:
          mayGoOn = this.drainStep(g);
          break;
        case Phase.linger:
          mayGoOn = this.lingerStep(g);
          break;
        case Phase.closed:
          this.leave(g);
          return;
      }
    }
    this.keepInput();
    if (this.request === null && this.at === this.end && this.exchange?.parser.isFresh === true) this.giveExchange();
  }

  private giveExchange(): void {
    if (this.exchange === null) return;
    this.offset = this.exchange.parser.offset;
    this.core.giveExchange(this.exchange);
    this.exchange = null;
  }

  private leave(g: Goroutine): void {
    this.conn.close();
    this.endRequest();
    this.giveExchange();
    this.g = null;
    this.core.ended(this);
    this.core.runtime.exit(g);
  }

  private close(): true {
    this.conn.close();
    this.phase = Phase.closed;
    return true;
  }

  /** Others use the scratch buffer next: keeps what was not parsed, and the head a handler still reads. */
  private keepInput(): void {
    if (this.input !== this.core.scratch) return;
    if (this.request !== null) this.parser.head.detach();
    const left = this.end - this.at;
    if (left > this.kept.length || (left === 0 && this.kept.length > KEPT_IDLE_BYTES)) this.kept = new Uint8Array(left);
    if (left > 0) this.kept.set(this.input.subarray(this.at, this.end));
    this.input = left > 0 ? this.kept : NO_BYTES;
    this.at = 0;
    this.end = left;
  }

  /** Reads into the shared buffer; the window must be used up. As `Conn.tryRead`. */
  private fill(g: Goroutine, maxBytes: number): number {
    const { scratch } = this.core;
    if (this.request !== null) this.parser.head.detach();
    const n = this.conn.tryRead(g, scratch, 0, Math.min(maxBytes, scratch.length));
    if (n > 0) {
      this.input = scratch;
      this.at = 0;
      this.end = n;
    }
    return n;
  }

  /** Starts a wait of `afterNs` at most unless one of this kind has begun: a spurious wake-up does not prolong it. */
  private setDeadline(kind: Deadline, afterNs: Ns): void {
    if (this.deadline === kind && kind !== Deadline.none) return;
    this.deadline = kind;
    this.conn.setReadDeadline(afterNs === NEVER ? NEVER : this.core.runtime.clock.nowNs + afterNs);
  }

  // ── head ──────────────────────────────────────────────────────────────────────────────────────────────────────

  private headStep(g: Goroutine): boolean {
    for (;;) {
      if (this.conn.pendingBytes > HIGH_WATER_BYTES) {
        // The client does not take its answers: it gets no further ones before it does.
        const drained = this.conn.tryDrain(g, LOW_WATER_BYTES);
        if (drained === PARKED) return false;
        if (drained < 0) return this.close();
      }
      if (this.at < this.end) {
        const event = this.parseHead();
        if (event === ParseEvent.head) return this.beginRequest(g);
        if (event === ParseEvent.error) return this.refuse(this.parser.refusal.status, this.parser.refusal.reason);
      }
      if (this.core.isClosing && this.awaitsHead) return this.close();
      this.setHeadDeadline();
      const n = this.fill(g, this.core.scratch.length);
      if (n === PARKED) return false;
      if (n > 0) this.seen.timing.noteRead(this.conn.timing);
      else if (n === -Errno.ETIMEDOUT && !this.awaitsHead)
        return this.refuse(408, "the request head did not arrive in time");
      else return this.close();
    }
  }

  private setHeadDeadline(): void {
    const { timeouts } = this.core;
    if (!this.awaitsHead) this.setDeadline(Deadline.head, timeouts.headNs);
    else this.setDeadline(Deadline.idle, this.requests === 0 ? timeouts.headNs : timeouts.idleNs);
  }

  private parseHead(): ParseEvent {
    const { parser, seen } = this;
    const from = parser.offset;
    seen.parseBegin(from);
    const event = parser.next(this.input, this.at, this.end);
    this.at = parser.at;
    this.core.runtime.clock.charge(Cost.parseByte, parser.offset - from);
    seen.parsed(parser.offset);
    return event;
  }

  /** A request nobody will handle: answers `status` and closes. */
  private refuse(status: number, reason: string): true {
    const { core, parser, conn, encoder, seen } = this;
    const id = core.runtime.nextRequestId();
    this.requests++;
    core.stats.refused++;
    seen.request(id, parser.head, parser.offset);
    seen.reason(reason);
    const body = `${status} ${statusText(status)}: ${reason}\n`;
    const headers = new Headers();
    headers.set("Content-Type", "text/plain; charset=utf-8");
    encoder.begin(false, 1, false);
    const { headText } = core;
    encoder.beginHead(headText, status);
    headText.addBytes(core.dateLine());
    encoder.endHead(headText, status, headers, body.length);
    encoder.take(body.length);
    seen.responseBegin(conn.sentBytes);
    headText.add(body);
    conn.write(headText.bytes, 0, headText.length);
    seen.response(conn.sentBytes, status, body.length);
    return this.linger();
  }

  // ── request and handler ───────────────────────────────────────────────────────────────────────────────────────

  private beginRequest(g: Goroutine): boolean {
    const { core, parser, seen } = this;
    const { runtime } = core;
    const { head } = parser;
    const id = runtime.nextRequestId();
    g.requestId = id;
    this.requests++;
    core.stats.requests++;
    seen.request(id, head, parser.offset);
    this.now.beginRequest(head.expectContinue);
    if (!head.hasBody) this.nextBodyEvent(this.at);
    this.encoder.begin(head.isMethod("HEAD"), head.minorVersion, head.keepAlive && !core.isClosing);
    this.request = new Request(id, head, this);
    this.response = new ResponseWriter(this);
    this.phase = Phase.handler;
    this.callHandler(g, this.response, this.request);
    return true;
  }

  private callHandler(g: Goroutine, w: ResponseWriter, r: Request): void {
    const { runtime } = this.core;
    const handler = this.findHandler(r);
    this.seen.handlerBegin(runtime.pid, g.id);
    let result: void | Promise<void> = undefined;
    try {
      result = handler(w, r);
    } catch (error) {
      this.fail(error);
    }
    if (typeof result?.then !== "function") {
      this.seen.handlerEnd();
      this.now.isSettled = true;
      return;
    }
    result.then(
      () => this.settled(r),
      (error: unknown) => {
        if (this.request === r) this.fail(error);
        this.settled(r);
      },
    );
    this.seen.returnedPromise();
    runtime.resumed?.();
  }

  private findHandler(r: Request): Handler {
    const { core } = this;
    const { head } = this.parser;
    if (head.isMethod("TRACE") || head.isMethod("CONNECT")) return methodRefused;
    if (core.mux === null) return core.handler;
    const fromNs = core.runtime.clock.nowNs;
    const route = core.mux.route(r);
    core.runtime.clock.charge(Cost.route, 1);
    this.seen.routed(fromNs);
    r.matched(route.pattern, route.values);
    return route.handler;
  }

  private fail(error: unknown): void {
    this.now.hasFailed = true;
    this.now.failure = error;
  }

  private settled(r: Request): void {
    if (this.request !== r) return;
    this.seen.handlerEnd();
    this.now.isSettled = true;
    this.wake();
  }

  private handlerStep(g: Goroutine): boolean {
    if (this.bodyWaiter !== null && !this.now.isSettled && !this.serveBodyWaiter(g, this.bodyWaiter)) return false;
    if (this.now.isSettled) return this.endExchange(g);
    // Nothing to read for the handler: watch whether the client is still there, without reading ahead more than once.
    if (this.now.isBodyOver && !this.isInputOver && this.at === this.end && !this.aborted) {
      this.setDeadline(Deadline.none, NEVER);
      const n = this.fill(g, this.core.scratch.length);
      if (n === PARKED) {
        // It only watches; what it waits for is its handler.
        g.parkedOn = "handler";
        return false;
      }
      if (n === 0) this.isInputOver = true;
      if (n < 0) this.clientGone();
    }
    this.core.runtime.park(g, "handler");
    return false;
  }

  private endExchange(g: Goroutine): boolean {
    const { core, conn, encoder, seen } = this;
    const w = this.response as ResponseWriter;
    let isWhole = true;
    if (this.now.hasFailed) isWhole = this.answerFailure(w);
    if (isWhole && !this.aborted) isWhole = this.finishResponse(w);
    seen.response(conn.sentBytes, w.status, encoder.bodyBytes);
    const isGone = this.aborted;
    this.endRequest();
    g.requestId = 0;
    if (!isWhole || isGone) {
      // A body cut short must not look complete.
      conn.abort();
      return this.close();
    }
    if (!encoder.keepAlive) return this.now.isBodyOver && this.at === this.end ? this.close() : this.linger();
    if (this.now.bodyError !== null || (this.now.mustContinue && !this.now.isBodyOver)) return this.linger();
    if (!this.now.isBodyOver) this.phase = Phase.drain;
    else this.nextRequest();
    return core.mayGoOn();
  }

  /** Answers what the handler threw, if that is still possible. */
  private answerFailure(w: ResponseWriter): boolean {
    const error = this.now.failure;
    const isPeers = error instanceof RequestError;
    if (!isPeers || error.status !== CLIENT_GONE) this.core.handlerFailed(error, this.request as Request, isPeers);
    if (isPeers) this.seen.reason(error.message);
    if (w.headSent) return false;
    const status = isPeers ? error.status : 500;
    if (isPeers) this.encoder.keepAlive = false;
    for (const [name] of [...w.header()]) w.header().delete(name);
    w.error(status, isPeers ? `${status} ${statusText(status)}: ${error.message}` : "500 Internal Server Error");
    return true;
  }

  private finishResponse(w: ResponseWriter): boolean {
    try {
      return w.finish();
    } catch (error) {
      if (!(error instanceof LocalProtocolError)) throw error;
      this.fail(error);
      if (!this.answerFailure(w)) return false;
      return w.finish();
    }
  }

  private endRequest(): void {
    this.request?.release();
    this.response?.release();
    this.request = null;
    this.response = null;
    this.bodyWaiter?.reject(new RequestError(CLIENT_GONE, "the request is over"));
    this.bodyWaiter = null;
  }

  private nextRequest(): void {
    this.seen.begin(this.conn.connId, false);
    this.deadline = Deadline.none;
    this.phase = Phase.head;
  }

  // ── the body ──────────────────────────────────────────────────────────────────────────────────────────────────

  readBody(into: Uint8Array): number | Promise<number> {
    this.seen.run();
    if (this.now.bodyError !== null) return Promise.reject(this.now.bodyError);
    if (this.bodyWaiter !== null) return Promise.reject(new Error("the body is being read already"));
    const { isTraced } = this.seen;
    const n = this.takeBody(into);
    if (n > 0 || this.now.isBodyOver) {
      if (!isTraced) return n;
      this.seen.park(Parked.body);
      this.seen.ready();
      const r = this.request;
      return Promise.resolve(n).then((m) => {
        if (this.request === r) this.seen.resumed();
        return m;
      });
    }
    if (this.now.bodyError !== null) return Promise.reject(this.now.bodyError);
    this.sendContinue();
    this.seen.park(Parked.body);
    const waited = new Promise<number>((resolve, reject) => {
      this.bodyWaiter = { into, resolve, reject };
    });
    this.wake();
    if (!isTraced) return waited;
    const r = this.request;
    return waited.finally(() => {
      if (this.request === r) this.seen.resumed();
    });
  }

  /** RFC 9110 §10.1.1: the client waits for this before it sends the body. */
  private sendContinue(): void {
    if (!this.now.mustContinue) return;
    this.now.mustContinue = false;
    if (this.encoder.started) return;
    this.conn.writeLatin1(this.encoder.interim(100));
    this.conn.flush();
  }

  /** Copies body bytes that are here already. 0 also when the body is over or broke. */
  private takeBody(into: Uint8Array): number {
    let length = 0;
    // Decoding never makes more of it, so what is fed always fits.
    while (!this.now.isBodyOver && this.now.bodyError === null && length < into.length) {
      const event = this.nextBodyEvent(Math.min(this.end, this.at + into.length - length));
      if (event === ParseEvent.body) {
        const { parser } = this;
        this.now.mustContinue = false;
        into.set(this.input.subarray(parser.bodyAt, parser.bodyEnd), length);
        length += parser.bodyEnd - parser.bodyAt;
      } else if (event === ParseEvent.needData && this.at === this.end) break;
    }
    return length;
  }

  /** One event of the body from [at, end) of the window. */
  private nextBodyEvent(end: number): ParseEvent {
    const { parser, seen } = this;
    const from = parser.offset;
    const isWorth = end > this.at;
    if (isWorth) seen.parseBegin(from);
    const event = parser.next(this.input, this.at, end);
    this.at = parser.at;
    if (isWorth) {
      this.core.runtime.clock.charge(Cost.parseByte, parser.offset - from);
      seen.parsed(parser.offset);
    }
    if (event === ParseEvent.end) {
      this.now.isBodyOver = true;
      seen.requestEnd(parser.offset, parser.bodyBytes);
    } else if (event === ParseEvent.error) {
      this.breakBody(new RequestError(parser.refusal.status, parser.refusal.reason));
    }
    return event;
  }

  private breakBody(error: RequestError): void {
    this.now.bodyError = error;
    this.encoder.keepAlive = false;
  }

  /** False when parked. */
  private serveBodyWaiter(g: Goroutine, waiter: BodyWaiter): boolean {
    for (;;) {
      const n = this.takeBody(waiter.into);
      if (n > 0 || this.now.isBodyOver || this.now.bodyError !== null) {
        this.bodyWaiter = null;
        this.seen.ready();
        if (n > 0 || this.now.bodyError === null) waiter.resolve(n);
        else waiter.reject(this.now.bodyError);
        this.core.runtime.resumed?.();
        return true;
      }
      this.setDeadline(Deadline.body, this.core.timeouts.bodyNs);
      const got = this.fill(g, waiter.into.length);
      if (got === PARKED) return false;
      this.deadline = Deadline.none;
      if (got <= 0) this.bodyStopped(got);
    }
  }

  private bodyStopped(result: number): void {
    if (result === -Errno.ETIMEDOUT) this.breakBody(new RequestError(408, "the request body did not arrive in time"));
    else {
      this.breakBody(new RequestError(CLIENT_GONE, "the client went away before the end of the body"));
      this.clientGone();
    }
  }

  private clientGone(): void {
    if (this.request !== null) this.request.aborted = true;
  }

  private drainStep(g: Goroutine): boolean {
    for (;;) {
      const event = this.nextBodyEvent(this.end);
      if (event === ParseEvent.end) {
        this.nextRequest();
        return true;
      }
      if (event === ParseEvent.body) {
        this.now.drainedBytes += this.parser.bodyEnd - this.parser.bodyAt;
        if (this.now.drainedBytes > DRAIN_MAX_BYTES) return this.linger();
        continue;
      }
      if (event === ParseEvent.error) return this.linger();
      this.setDeadline(Deadline.body, this.core.timeouts.bodyNs);
      const n = this.fill(g, this.core.scratch.length);
      if (n === PARKED) return false;
      this.deadline = Deadline.none;
      if (n <= 0) return this.close();
    }
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * The answer is written but the client may still be sending. Closing now would reset the connection and could destroy
   * the answer on its way (RFC 9112 §9.6): sends FIN and reads on for a while.
   */
  private linger(): true {
    this.conn.closeWrite();
    this.at = this.end;
    this.setDeadline(Deadline.none, this.core.timeouts.lingerNs);
    this.phase = Phase.linger;
    return true;
  }

  private lingerStep(g: Goroutine): boolean {
    for (;;) {
      this.at = this.end;
      const n = this.fill(g, this.core.scratch.length);
      if (n === PARKED) return false;
      if (n <= 0) return this.close();
    }
  }

  // ── ResponseSink ──────────────────────────────────────────────────────────────────────────────────────────────

  get aborted(): boolean {
    return this.request === null || this.request.aborted;
  }

  touch(): void {
    this.seen.run();
  }

  get headText(): TextBuffer {
    return this.core.headText;
  }

  beforeHead(): void {
    const { core, parser, encoder } = this;
    if (this.now.isSettled && !this.now.isBodyOver && (this.now.mustContinue || parser.bodyRemaining > DRAIN_MAX_BYTES))
      encoder.keepAlive = false;
    if (core.isClosing) encoder.keepAlive = false;
    core.runtime.clock.charge(Cost.encode, 1);
  }

  addOwnFields(out: TextBuffer): void {
    const { core } = this;
    out.addBytes(core.dateLine());
    if (!core.hasServerTiming) return;
    out.addBytes(SERVER_TIMING);
    this.addServerTiming(out);
    out.addBytes(CRLF);
  }

  headMade(p0: number): void {
    this.seen.responseBegin(p0);
  }

  /** A goroutine of its own waits for room, for this one may be reading the body at the same time. */
  drained(): Promise<void> {
    const { runtime } = this.core;
    const { conn, seen } = this;
    const r = this.request;
    conn.flush();
    seen.park(Parked.write);
    const { isTraced } = seen;
    const waited = new Promise<void>((resolve) => {
      const writer = runtime.spawn("serveConn write", (g) => {
        const n = conn.tryDrain(g, LOW_WATER_BYTES);
        if (n === PARKED) return;
        runtime.exit(g);
        if (n < 0 && r !== null) r.aborted = true;
        if (this.request === r) seen.ready();
        resolve();
        runtime.resumed?.();
      });
      writer.requestId = r?.id ?? 0;
    });
    if (!isTraced) return waited;
    return waited.then(() => {
      if (this.request === r) seen.resumed();
    });
  }

  takeBuffer(): Uint8Array {
    return this.core.takeBuffer();
  }

  giveBuffer(buffer: Uint8Array): void {
    this.core.giveBuffer(buffer);
  }

  // ── waits of the handler ──────────────────────────────────────────────────────────────────────────────────────

  async sleep(durationNs: Ns): Promise<void> {
    const r = this.request;
    // A handler that goes on after its end has no exchange any more.
    this.exchange?.seen.run();
    this.exchange?.seen.park(Parked.sleep);
    await this.core.runtime.sleep(durationNs);
    if (r !== null && this.request === r) this.seen.resumed();
  }

  serverTiming(): string {
    const out = new TextBuffer();
    this.addServerTiming(out);
    return out.toString();
  }

  private addServerTiming(out: TextBuffer): void {
    addServerTiming(out, this.seen.timing, this.conn, this.core.runtime.clock.nowNs);
  }

  async burn(durationNs: Ns): Promise<void> {
    const r = this.request;
    this.exchange?.seen.burning(true);
    await this.core.runtime.burn(durationNs);
    if (r !== null && this.request === r) this.seen.burning(false);
  }
}

/** RFC 9110 §9.3.6, §9.3.8: nobody here tunnels or echoes heads back. */
const methodRefused: Handler = (w) => {
  w.header().set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  w.error(405, "405 Method Not Allowed");
};
