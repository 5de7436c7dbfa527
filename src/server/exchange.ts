/**
 * What a connection needs from the first byte of a request to the end of its answer, and not while it idles: the
 * machines of HTTP and the trace. Pooled, so that an idle connection owns none of it and a busy one finds it warm.
 */
import type { Clock } from "../base/time.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import type { RequestLimits } from "../proto/http1/limits.ts";
import { RequestParser } from "../proto/http1/request-parser.ts";
import { ResponseEncoder } from "../proto/http1/response-encoder.ts";
import { ExchangeTrace } from "./exchange-trace.ts";
import type { RequestError } from "./request.ts";

export class Exchange {
  readonly parser: RequestParser;
  readonly encoder = new ResponseEncoder();
  readonly seen: ExchangeTrace;
  isBodyOver = false;
  /** The client waits for a 100 before it sends the body. */
  mustContinue = false;
  /** Bytes of the body that were read because nobody wanted them. */
  drainedBytes = 0;
  /** A body that broke: what later reads of it are told. */
  bodyError: RequestError | null = null;
  /** The handler has returned, or its promise is settled. */
  isSettled = false;
  /** The handler threw `failure`. */
  hasFailed = false;
  failure: unknown = undefined;

  constructor(limits: RequestLimits, clock: Clock, trace: Tracepoints) {
    this.parser = new RequestParser(limits);
    this.seen = new ExchangeTrace(clock, trace);
  }

  /** The next request of the connection has begun: nothing is known of its body or handler. */
  beginRequest(mustContinue: boolean): void {
    this.isBodyOver = false;
    this.mustContinue = mustContinue;
    this.drainedBytes = 0;
    this.bodyError = null;
    this.isSettled = false;
    this.hasFailed = false;
    this.failure = undefined;
  }
}
