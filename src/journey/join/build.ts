/** Makes a `Journey` of the facts of one request, or of a connection that never became one. */
import { MILLISECOND, NEVER, type Ns } from "../../base/time.ts";
import type { Journey, Mark, Outcome, Precision, Truth, Unobserved } from "../journey.ts";
import type { StreamPlace } from "../stream-place.ts";
import type { ConnectionFacts, RequestFacts } from "./facts.ts";
import { Limits } from "./limits.ts";
import type { Occupancy } from "./occupancy.ts";
import { connectionOutcome, endingName, requestOutcome } from "./outcome.ts";
import type { Step } from "./receive-facts.ts";
import { SegmentLine } from "./segment-line.ts";
import type { SentFrame } from "./send-facts.ts";
import { connectionSpans, requestSpans } from "./spans.ts";
import { sweepHandler } from "./sweep-handler.ts";
import { hasHandshake, sweepHandshake, sweepHead } from "./sweep-receive.ts";
import { SendSweep } from "./sweep-send.ts";

/** What every journey of a server states about how it was seen. */
export interface Seen {
  precision: Precision;
  sampling: number;
  truth: Truth;
}

/** When the story of `request` starts; NEVER if its arrival was not seen. */
export function requestStartNs(request: RequestFacts): Ns {
  const arrivedNs = request.steps[0]?.arrivedNs ?? NEVER;
  if (!request.first) return arrivedNs;
  if (!hasHandshake(request)) return NEVER;
  const { connection } = request;
  return connection.syns.length > 0 ? connection.firstSynNs : Math.min(connection.establishedNs, arrivedNs);
}

/** The journey of a request up to `untilNs` (its end, or now while it is in flight). Null if its start was not seen. */
export function buildRequest(request: RequestFacts, untilNs: Ns, occupancy: Occupancy, seen: Seen): Journey | null {
  const { connection } = request;
  const startNs = requestStartNs(request);
  if (startNs === NEVER || request.steps[0]?.arrivedNs === NEVER) return null;
  const endNs = Math.max(startNs, Math.min(request.endNs, untilNs));
  const send = connection.send;
  // an acknowledged byte was on the wire, whatever its device says
  if (request.responseHi !== NEVER)
    request.self.deviceNs = Math.min(send.deviceNs(request.responseHi), request.ackedNs);
  const line = new SegmentLine(startNs, endNs);
  sweepRequest(line, request, occupancy);
  const segments = line.finish();
  const deviceNs = request.self.deviceNs;
  const outcome: Outcome = request.endNs === NEVER ? "in-flight" : requestOutcome(request);
  const coarse = line.coarse || request.coarse || send.coarse || connection.receive.coarse;
  const bodyHi = request.bodyHi === NEVER ? Math.max(request.headHi, connection.receive.frontier) : request.bodyHi;
  const steps = withOpenStep(request.steps, connection, request.endNs === NEVER && connection.latest === request);
  const journey: Journey = {
    id: request.id,
    outcome,
    precision: coarse ? "coarse" : seen.precision,
    sampling: seen.sampling,
    truth: seen.truth,
    connection: connectionOf(connection, !request.first),
    request: { method: request.method, target: request.target, bytes: bodyHi - request.headLo },
    response: responseOf(request),
    startNs,
    totalNs: endNs - startNs,
    respondedNs: deviceNs <= endNs ? deviceNs - startNs : null,
    segments,
    spans: requestSpans(request, steps, startNs, endNs),
    marks: requestMarks(request, startNs, endNs),
    frames: framesOf(request),
  };
  return journey;
}

/** Where the bytes of a request and its response lie. */
export function requestPlace(request: RequestFacts): StreamPlace {
  const { headLo, headHi, bodyHi, responseLo, responseHi } = request;
  const { receiveIsn, sendIsn } = request.connection;
  return { receiveIsn, sendIsn, headLo, headHi, bodyHi, responseLo, responseHi };
}

/** Where the bytes of a connection's open story lie: the head that never was whole, and nothing sent. */
export function connectionPlace(connection: ConnectionFacts): StreamPlace {
  const { receiveIsn, sendIsn, headSteps, receive } = connection;
  const headLo = headSteps[0]?.offset ?? Math.max(0, receive.frontier);
  return { receiveIsn, sendIsn, headLo, headHi: NEVER, bodyHi: NEVER, responseLo: NEVER, responseHi: NEVER };
}

function sweepRequest(line: SegmentLine, request: RequestFacts, occupancy: Occupancy): void {
  const { connection, previous } = request;
  const head = request.steps.filter((s) => s.offset < request.headHi);
  const context = { connection, occupancy, selfId: request.id, previous };
  const limitNs = line.limitNs;
  line.limitNs = Math.min(request.headParsedNs, limitNs);
  sweepHead(line, head, context, hasHandshake(request));
  line.until(line.limitNs, "parse");
  line.limitNs = limitNs;
  const send = new SendSweep(line, request, occupancy);
  sweepHandler(line, request, occupancy, send);
  if (request.beganNs !== NEVER && request.handlerEndNs === NEVER) return;
  send.draw(false);
  if (request.responseHi !== NEVER && request.self.deviceNs <= line.atNs) send.drawAckWait();
}

function withOpenStep(steps: readonly Step[], connection: ConnectionFacts, open: boolean): readonly Step[] {
  return open && connection.receive.hasUnparsed ? [...steps, connection.receive.openStep()] : steps;
}

function connectionOf(connection: ConnectionFacts, reused: boolean): Journey["connection"] {
  return { id: connection.id, local: connection.local, remote: connection.remote, protocol: "tcp", reused };
}

function responseOf(request: RequestFacts): Journey["response"] {
  if (request.responseLo === NEVER) return null;
  const hi =
    request.responseHi === NEVER ? Math.max(request.connection.send.writtenHi, request.responseLo) : request.responseHi;
  return { status: request.status, bytes: hi - request.responseLo };
}

function framesOf(request: RequestFacts): Journey["frames"] {
  const { connection } = request;
  const { frames: sent, retransmissions } = connection.send;
  const frames = { received: 0, sent: 0, retransmitted: 0, dropped: connection.drops - connection.dropsTold };
  for (const step of request.steps) frames.received += step.frameCount;
  for (let i = 0; i < sent.length; i++) {
    const frame = sent.at(i) as SentFrame;
    if (isInResponse(frame, request)) frames.sent += frame.count;
  }
  for (let i = 0; i < retransmissions.length; i++) {
    if (isInResponse(retransmissions.at(i) as SentFrame, request)) frames.retransmitted++;
  }
  frames.sent += frames.retransmitted;
  if (request.first) {
    frames.received += connection.syns.length;
    frames.sent += connection.synAcks;
  }
  return frames;
}

function isInResponse(frame: SentFrame, request: RequestFacts): boolean {
  return frame.lo < request.responseHi && frame.hi > request.responseLo;
}

function requestMarks(request: RequestFacts, startNs: Ns, endNs: Ns): Mark[] {
  const { connection } = request;
  const marks: Mark[] = connection.marks
    .filter((m) => m.atNs >= startNs && m.atNs <= endNs)
    .slice(0, Limits.marks - 16);
  const add = (name: string, atNs: Ns, value?: number) => {
    if (atNs === NEVER || atNs < startNs || atNs > endNs) return;
    marks.push(value === undefined ? { name, atNs } : { name, atNs, value });
  };
  add("head-parsed", request.headParsedNs);
  add("routed", request.routedNs);
  add("handler-start", request.beganNs);
  add("handler-end", request.handlerEndNs);
  add("response-begin", request.responseBeginNs);
  if (request.responseLo !== NEVER) add("first-byte", connection.send.deviceNs(request.responseLo + 1));
  add("last-byte", request.self.deviceNs);
  add("acked", request.ackedNs);
  if (request.reason !== "") marks.push({ name: "given-up", atNs: endNs, reason: request.reason });
  return marks.sort((a, b) => a.atNs - b.atNs);
}

/** The journey of a connection that never became a request (or whose last head was never whole), up to `untilNs`. */
export function buildConnection(
  connection: ConnectionFacts,
  id: number,
  untilNs: Ns,
  occupancy: Occupancy,
  seen: Seen,
): Journey | null {
  const fresh = !connection.everRequested && !connection.partial;
  const steps = [...connection.headSteps, connection.receive.openStep()];
  const startNs = fresh && connection.syns.length > 0 ? connection.firstSynNs : (steps[0] as Step).arrivedNs;
  if (startNs === NEVER) return null;
  const endNs = Math.max(startNs, Math.min(connection.closedNs, untilNs));
  const line = new SegmentLine(startNs, endNs);
  const context = { connection, occupancy, selfId: 0, previous: connection.latest?.self ?? null };
  if (fresh && connection.establishedNs === NEVER) sweepHandshake(line, connection);
  else sweepHead(line, steps, context, fresh && connection.syns.length > 0);
  line.until(endNs, "parse");
  const received = steps.reduce((sum, s) => sum + s.frameCount, 0);
  const marks = connection.marks.filter((m) => m.atNs >= startNs && m.atNs <= endNs).slice(0, Limits.marks);
  if (connection.closedNs <= endNs) marks.push({ name: "closed", atNs: endNs, reason: endingName(connection.ending) });
  return {
    id,
    outcome: connectionOutcome(connection),
    precision: line.coarse ? "coarse" : seen.precision,
    sampling: seen.sampling,
    truth: seen.truth,
    connection: connectionOf(connection, !fresh),
    request: null,
    response: null,
    startNs,
    totalNs: endNs - startNs,
    respondedNs: null,
    segments: line.finish(),
    spans: connectionSpans(connection, steps, startNs, endNs),
    marks,
    frames: {
      received: received + (fresh ? connection.syns.length : 0),
      sent: fresh ? connection.synAcks : 0,
      retransmitted: 0,
      dropped: connection.drops - connection.dropsTold,
    },
  };
}

/** A handler that held the thread for less hides nothing worth a word. */
const BLIND_MIN_NS = MILLISECOND;
/**
 * How soon after such a stretch its thread must have sent the first frame for the stretch to have held it back: a few
 * turns.
 */
const BLIND_SOON_NS = 10 * MILLISECOND;

/**
 * A story that begins when a busy process first lets the kernel run (law 2, a real-time `inline` kernel): its first
 * frame may have come long before. Where the device reports no arrival times, it may have been there since the poll
 * before; where it does (a simulated link, `pathNs` long), the client's side of the link was held by the same thread.
 */
export function unobservedBefore(request: RequestFacts, occupancy: Occupancy, pathNs: Ns): Unobserved | undefined {
  const frame = request.first ? request.connection.syns[0] : request.steps[0];
  if (frame === undefined) return undefined;
  const reportsArrival = frame.arrivedNs < frame.polledNs;
  const sentNs = reportsArrival ? frame.arrivedNs - pathNs : frame.arrivedNs;
  const sinceNs = reportsArrival ? sentNs - BLIND_SOON_NS : frame.pollBeforeNs;
  const stretch = occupancy.lastBefore(sentNs);
  if (stretch === undefined || stretch.requestId === request.id || stretch.endNs < sinceNs) return undefined;
  if (reportsArrival && stretch.endNs - stretch.startNs < BLIND_MIN_NS) return undefined;
  const maxNs = sentNs - (reportsArrival ? stretch.startNs : Math.max(stretch.startNs, frame.pollBeforeNs));
  return maxNs > 0 ? { maxNs, reason: "loop-busy", by: stretch.requestId } : undefined;
}
