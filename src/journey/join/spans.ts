/** Spans: true residence in each queue, whatever the frontier was doing (law 7). */

import type { StageName } from "../../base/stages.ts";
import { NEVER, type Ns } from "../../base/time.ts";
import type { Span } from "../journey.ts";
import type { ConnectionFacts, RequestFacts } from "./facts.ts";
import { Limits } from "./limits.ts";
import type { Step } from "./receive-facts.ts";
import type { SentFrame } from "./send-facts.ts";

/** Collects spans clipped to the journey; per queue at most `Limits.spansPerQueue`, the rest in one with a count. */
class SpanList {
  readonly spans: Span[] = [];
  private readonly startNs: Ns;
  private readonly endNs: Ns;
  /** A list, for queues are few. */
  private readonly perQueue: { readonly stage: StageName; count: number; last: Span }[] = [];

  constructor(startNs: Ns, endNs: Ns) {
    this.startNs = startNs;
    this.endNs = endNs;
  }

  add(stage: StageName, fromNs: Ns, toNs: Ns, depth?: number, limit?: number): void {
    if (fromNs >= this.endNs || toNs < this.startNs || fromNs === NEVER) return;
    const span: Span = { stage, startNs: Math.max(fromNs, this.startNs), endNs: Math.min(toNs, this.endNs) };
    if (span.endNs < span.startNs) return;
    if (depth !== undefined) span.depth = depth;
    if (limit !== undefined) span.limit = limit;
    const queue = this.perQueue.find((each) => each.stage === stage);
    if (queue === undefined) this.perQueue.push({ stage, count: 1, last: span });
    else if (queue.count >= Limits.spansPerQueue) {
      queue.last.endNs = Math.max(queue.last.endNs, span.endNs);
      queue.last.startNs = Math.min(queue.last.startNs, span.startNs);
      queue.last.count = (queue.last.count ?? 1) + 1;
      return;
    } else {
      queue.count++;
      queue.last = span;
    }
    this.spans.push(span);
  }

  sorted(): Span[] {
    return this.spans.sort((a, b) => a.startNs - b.startNs || a.endNs - b.endNs);
  }
}

/** Spans of a request in [startNs,endNs). */
export function requestSpans(request: RequestFacts, steps: readonly Step[], startNs: Ns, endNs: Ns): Span[] {
  const list = new SpanList(startNs, endNs);
  if (request.first) handshakeSpans(list, request.connection);
  for (const step of steps) stepSpans(list, step);
  sendSpans(list, request, endNs);
  return list.sorted();
}

/** Spans of a connection that never became a request. */
export function connectionSpans(connection: ConnectionFacts, steps: readonly Step[], startNs: Ns, endNs: Ns): Span[] {
  const list = new SpanList(startNs, endNs);
  handshakeSpans(list, connection);
  for (const step of steps) stepSpans(list, step);
  return list.sorted();
}

function handshakeSpans(list: SpanList, connection: ConnectionFacts): void {
  for (const syn of connection.syns) list.add("rx-ring", syn.arrivedNs, syn.polledNs);
  const first = connection.syns[0];
  if (first !== undefined) list.add("syn-queue", first.atNs, Math.min(connection.establishedNs, connection.closedNs));
  const toNs = Math.min(connection.acceptedNs, connection.closedNs);
  list.add("accept-queue", connection.establishedNs, toNs, connection.acceptDepth, connection.acceptLimit);
}

function stepSpans(list: SpanList, step: Step): void {
  for (const frame of step.frames) {
    list.add("rx-ring", frame.arrivedNs, frame.polledNs);
    if (!frame.inOrder) list.add("reassembly", frame.processedNs, frame.filledNs);
  }
  list.add("receive-queue", step.deliveredNs, step.readNs, step.depthBytes);
}

function sendSpans(list: SpanList, request: RequestFacts, endNs: Ns): void {
  const { send } = request.connection;
  const { responseLo, responseHi } = request;
  if (responseLo === NEVER) return;
  let writeAt = send.writes.search((w) => w.hi > responseLo);
  for (let i = send.frames.search((f) => f.hi > responseLo); i < send.frames.length; i++) {
    const frame = send.frames.at(i) as SentFrame;
    if (frame.lo >= responseHi) break;
    const byte = Math.max(frame.lo, responseLo);
    while ((send.writes.at(writeAt)?.hi ?? NEVER) <= byte) writeAt++;
    list.add("send-queue", Math.min(send.writes.at(writeAt)?.startNs ?? NEVER, frame.cutNs), frame.cutNs);
    frameSpans(list, frame);
  }
  for (let i = 0; i < send.retransmissions.length; i++) {
    const again = send.retransmissions.at(i) as SentFrame;
    if (again.lo < responseHi && again.hi > responseLo) frameSpans(list, again);
  }
  const deviceNs = request.responseHi === NEVER ? NEVER : request.self.deviceNs;
  list.add("ack-wait", deviceNs, Math.min(request.ackedNs, endNs));
}

function frameSpans(list: SpanList, frame: SentFrame): void {
  list.add("qdisc", frame.enqueuedNs, Math.min(frame.leftNs, frame.droppedNs), frame.qdiscDepth);
  list.add("tx-ring", frame.postedNs, Math.min(frame.transmittedNs, frame.droppedNs), frame.ringDepth);
}
