/** What all connections of one server share. */
import type { Ns } from "../base/time.ts";
import type { RequestLimits } from "../proto/http1/limits.ts";
import { TextBuffer } from "../proto/http1/text-buffer.ts";
import type { Runtime } from "../runtime/port.ts";
import { Exchange } from "./exchange.ts";
import type { DateLine } from "./http-date.ts";
import { type Handler, ServeMux } from "./mux.ts";
import type { Request } from "./request.ts";
import { COLLECT_BYTES } from "./response-writer.ts";
import type { ServeConn } from "./serve-conn.ts";

/** How long a client may take (contract §4). */
export interface Timeouts {
  /** From the first byte of a head to its last: over → 408. From accept to the first byte: over → closed in silence. */
  readonly headNs: Ns;
  /** Between two pieces of a body. Over → 408. */
  readonly bodyNs: Ns;
  /** Between two requests. Over → closed. */
  readonly idleNs: Ns;
  /** For an unfinished sender after an answer that closes the connection. */
  readonly lingerNs: Ns;
}

/** Counts since the start. */
export interface ServerStats {
  connections: number;
  requests: number;
  /** Requests answered 4xx or 5xx before any handler. */
  refused: number;
  /** Handlers that threw, the peer's faults not counted. */
  handlerErrors: number;
}

/** Bytes one read takes at most. */
const SCRATCH_BYTES = 65_536;
/** Free collect buffers kept, and free exchanges (some 2 kB each): what async handlers need at once. */
const BUFFERS_MAX = 256;
const EXCHANGES_MAX = 1024;
/** Requests served before the process's other goroutines get a turn, however many are pipelined. */
const REQUESTS_PER_TURN = 64;
const NO_LINE = new Uint8Array(0);

export class ServerCore {
  readonly runtime: Runtime;
  readonly limits: RequestLimits;
  readonly timeouts: Timeouts;
  readonly hasServerTiming: boolean;
  readonly handler: Handler;
  readonly mux: ServeMux | null;
  readonly scratch = new Uint8Array(SCRATCH_BYTES);
  /** Where heads are put together. */
  readonly headText = new TextBuffer();
  readonly stats: ServerStats = { connections: 0, requests: 0, refused: 0, handlerErrors: 0 };
  readonly living = new Set<ServeConn>();
  /** No request after the present ones. */
  isClosing = false;
  onEmpty: () => void = () => {};
  /** Requests left in this turn. */
  private yieldAfter = REQUESTS_PER_TURN;
  private readonly date: DateLine | null;
  private readonly onError: (error: unknown, request: Request) => void;
  private readonly buffers: Uint8Array[] = [];
  private readonly exchanges: Exchange[] = [];

  constructor(
    runtime: Runtime,
    handler: Handler | ServeMux,
    limits: RequestLimits,
    timeouts: Timeouts,
    hasServerTiming: boolean,
    date: DateLine | null,
    onError: (error: unknown, request: Request) => void,
  ) {
    this.runtime = runtime;
    this.limits = limits;
    this.timeouts = timeouts;
    this.hasServerTiming = hasServerTiming;
    this.mux = handler instanceof ServeMux ? handler : null;
    this.handler = handler instanceof ServeMux ? handler.serveHttp : handler;
    this.date = date;
    this.onError = onError;
  }

  /** The Date field's line; empty if nobody said what time it is (RFC 9110 §6.6.1: then there must be none). */
  dateLine(): Uint8Array {
    return this.date === null ? NO_LINE : this.date.at(this.runtime.clock.nowNs);
  }

  /** Counts a request; false when other goroutines should have a turn first. */
  mayGoOn(): boolean {
    if (--this.yieldAfter > 0) return true;
    this.yieldAfter = REQUESTS_PER_TURN;
    return false;
  }

  handlerFailed(error: unknown, request: Request, isPeers: boolean): void {
    if (isPeers) return;
    this.stats.handlerErrors++;
    this.onError(error, request);
  }

  ended(conn: ServeConn): void {
    this.living.delete(conn);
    if (this.living.size === 0) this.onEmpty();
  }

  /** An exchange whose parser begins at stream offset `offset` of connection `connId`. */
  takeExchange(connId: number, offset: number, isFirst: boolean): Exchange {
    const { runtime } = this;
    const exchange = this.exchanges.pop() ?? new Exchange(this.limits, runtime.clock, runtime.trace);
    exchange.parser.reset(offset);
    exchange.seen.begin(connId, isFirst);
    return exchange;
  }

  giveExchange(exchange: Exchange): void {
    if (this.exchanges.length < EXCHANGES_MAX) this.exchanges.push(exchange);
  }

  takeBuffer(): Uint8Array {
    return this.buffers.pop() ?? new Uint8Array(COLLECT_BYTES);
  }

  giveBuffer(buffer: Uint8Array): void {
    if (this.buffers.length < BUFFERS_MAX) this.buffers.push(buffer);
  }
}
