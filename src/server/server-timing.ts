/**
 * The `Server-Timing` field (W3C Server Timing): the stages known when the head is sent, named as in base/stages.ts,
 * so that a browser's Network panel shows them. Durations in milliseconds with three decimals.
 */
import type { StageName } from "../base/stages.ts";
import type { Ns } from "../base/time.ts";
import { latin1Bytes } from "../proto/http1/text.ts";
import type { TextBuffer } from "../proto/http1/text-buffer.ts";
import type { ConnTiming } from "../runtime/port.ts";

const SEPARATOR = ", ";

/** What stands before a duration, as bytes; the first one goes without its separator. */
const metric = (stage: StageName): Uint8Array => latin1Bytes(`${SEPARATOR}${stage};dur=`);
const Metric = {
  synQueue: metric("syn-queue"),
  acceptQueue: metric("accept-queue"),
  softirq: metric("softirq"),
  receiveQueue: metric("receive-queue"),
  parse: metric("parse"),
  route: metric("route"),
  process: metric("process"),
  client: metric("client"),
  handler: metric("handler"),
} as const;

/** What the server itself saw of one request, in ns; 0 = did not happen. */
export class RequestTiming {
  /** The first read that brought bytes of its head: when they arrived, were in order, and were copied. */
  arrivedNs: Ns = 0;
  queuedNs: Ns = 0;
  readNs: Ns = 0;
  parseNs: Ns = 0;
  routeNs: Ns = 0;
  handlerBeginNs: Ns = 0;
  /** Waits of the handler so far: for body bytes, for room to write, for something of its own. */
  bodyWaitNs: Ns = 0;
  writeWaitNs: Ns = 0;
  ownWaitNs: Ns = 0;
  /** The connection's first request: handshake and accept belong to it. */
  isFirst = false;

  begin(isFirst: boolean): void {
    this.isFirst = isFirst;
    this.arrivedNs = 0;
    this.queuedNs = 0;
    this.readNs = 0;
    this.parseNs = 0;
    this.routeNs = 0;
    this.handlerBeginNs = 0;
    this.bodyWaitNs = 0;
    this.writeWaitNs = 0;
    this.ownWaitNs = 0;
  }

  /** Notes the read that brought the first bytes of the head. */
  noteRead(timing: Readonly<ConnTiming>): void {
    if (this.readNs !== 0) return;
    this.arrivedNs = timing.arrivedNs;
    this.queuedNs = timing.queuedNs;
    this.readNs = timing.readNs;
  }
}

/** Appends the field's value; nothing if nothing is known. */
export function addServerTiming(
  out: TextBuffer,
  own: Readonly<RequestTiming>,
  conn: { readonly timing: Readonly<ConnTiming> },
  nowNs: Ns,
): void {
  const from = out.length;
  // The record is made anew for whoever asks, and only a first request needs it.
  const handshake = own.isFirst ? conn.timing : null;
  if (handshake !== null && handshake.synNs > 0) {
    add(out, from, Metric.synQueue, handshake.establishedNs - handshake.synNs);
    add(out, from, Metric.acceptQueue, handshake.acceptedNs - handshake.establishedNs);
  }
  if (own.readNs > 0 && own.queuedNs > 0) {
    if (own.arrivedNs > 0) add(out, from, Metric.softirq, own.queuedNs - own.arrivedNs);
    // Bytes that came before accept waited there: that time has its name already.
    add(out, from, Metric.receiveQueue, own.readNs - Math.max(own.queuedNs, handshake?.acceptedNs ?? 0));
  }
  add(out, from, Metric.parse, own.parseNs);
  if (own.handlerBeginNs > 0) {
    const waits = own.bodyWaitNs + own.writeWaitNs + own.ownWaitNs;
    add(out, from, Metric.route, own.routeNs);
    add(out, from, Metric.process, nowNs - own.handlerBeginNs - waits);
    if (own.bodyWaitNs > 0) add(out, from, Metric.client, own.bodyWaitNs);
    if (own.ownWaitNs > 0) add(out, from, Metric.handler, own.ownWaitNs);
  }
}

function add(out: TextBuffer, from: number, metric: Uint8Array, durationNs: Ns): void {
  addMilliseconds(out.addBytes(metric, out.length > from ? 0 : SEPARATOR.length), durationNs);
}

/** ns as ms with three decimals; what looks negative (times of two clocks) is 0. */
export function addMilliseconds(out: TextBuffer, durationNs: Ns): void {
  const us = durationNs > 0 ? Math.round(durationNs / 1000) : 0;
  const ms = Math.floor(us / 1000);
  out
    .addNumber(ms)
    .add(".")
    .addNumber(us - ms * 1000, 3);
}
