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

export class Exchange {
  readonly parser: RequestParser;
  readonly encoder = new ResponseEncoder();
  readonly seen: ExchangeTrace;

  constructor(limits: RequestLimits, clock: Clock, trace: Tracepoints) {
    this.parser = new RequestParser(limits);
    this.seen = new ExchangeTrace(clock, trace);
  }
}
