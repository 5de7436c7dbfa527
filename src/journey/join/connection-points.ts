/** What the points and links of a connection (kernel and process side) mean for its facts. */
import { NEVER, type Ns } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import type { ConnectionFacts } from "./facts.ts";
import type { Join } from "./join.ts";
import { Limits } from "./limits.ts";
import { endingName, HELD_NAMES } from "./outcome.ts";

/** A stamp whose id is a connection (or, for three points, a frame). */
export function onConnectionPoint(join: Join, atNs: Ns, point: number, id: number, a: number, b: number): void {
  switch (point) {
    case Point.frameReceived:
      join.frames.received(id, a, b);
      join.polled(Math.round(b > 0 && b <= atNs ? b : atNs));
      return;
    case Point.qdiscLeft:
      onQdiscLeft(join, atNs, id, a, b);
      return;
    case Point.transmitted:
      onTransmitted(join, atNs, id, a, b);
      return;
    case Point.synReceived:
      onSyn(join, join.connections.get(id) ?? join.open(id, false, atNs), atNs, a, b);
      return;
  }
  let connection = join.connections.get(id);
  if (connection === undefined && point === Point.established) connection = join.open(id, false, atNs); // a SYN cookie
  if (connection === undefined) join.counters.orphans++;
  else if (point >= Point.accepted) processPoint(join, connection, atNs, point, a, b);
  else if (point >= Point.closed) endPoint(join, connection, atNs, point, a);
  else kernelPoint(join, connection, atNs, point, a, b);
}

/** A link whose parent is a connection. */
export function onConnectionLink(
  join: Join,
  atNs: Ns,
  point: number,
  child: number,
  id: number,
  lo: number,
  hi: number,
): void {
  if (point === Point.segmentReceived && hi <= lo) return; // a SYN or a bare ACK: no byte of the stream
  let connection = join.connections.get(id);
  if (connection === undefined && point === Point.segmentReceived) connection = join.open(id, true, atNs);
  if (connection === undefined) {
    join.counters.orphans++;
    return;
  }
  switch (point) {
    case Point.segmentReceived:
      join.frames.find(child, atNs);
      connection.receive.segment(lo, hi, join.frames.arrivedNs, join.frames.polledNs, atNs, join.pollBeforeNs);
      return;
    case Point.segmentSent:
      onSent(join, connection, child, lo, hi, atNs);
      return;
    case Point.read:
      if (connection.pid === 0) connection.pid = child;
      connection.receive.read(child, lo, hi, atNs);
      return;
    case Point.write:
      connection.send.write(lo, hi, atNs);
      return;
  }
}

function onSyn(join: Join, connection: ConnectionFacts | undefined, atNs: Ns, arrived: number, polled: number): void {
  if (connection === undefined) return;
  const polledNs = polled > 0 && polled <= atNs ? Math.round(polled) : atNs;
  const arrivedNs = arrived > 0 && arrived <= polledNs ? Math.round(arrived) : polledNs;
  const pollBeforeNs = join.pollBeforeNs;
  if (connection.syns.length < Limits.syns) connection.syns.push({ arrivedNs, polledNs, pollBeforeNs, atNs });
  connection.mark({ name: "syn", atNs: arrivedNs });
}

function onQdiscLeft(join: Join, atNs: Ns, frameId: number, depth: number, enqueuedNs: number): void {
  const frame = join.frames.leaving(frameId);
  if (frame === undefined) return;
  frame.leftNs = atNs;
  frame.enqueuedNs = enqueuedNs > 0 && enqueuedNs <= atNs ? Math.round(enqueuedNs) : atNs;
  frame.qdiscDepth = depth;
}

function onTransmitted(join: Join, atNs: Ns, frameId: number, postedNs: number, occupancy: number): void {
  const frame = join.frames.leaving(frameId);
  if (frame === undefined) return;
  frame.transmittedNs = atNs;
  frame.postedNs = postedNs > 0 && postedNs <= atNs ? Math.round(postedNs) : atNs;
  frame.ringDepth = occupancy;
  join.frames.forget(frameId);
}

function onSent(join: Join, connection: ConnectionFacts, frameId: number, lo: number, hi: number, atNs: Ns): void {
  const again = lo < connection.send.sentHi;
  const frame = connection.send.sent(frameId, lo, hi, atNs);
  if (frameId !== 0) join.frames.follow(frame);
  if (again) connection.mark({ name: "retransmitted", atNs, value: lo });
}

function kernelPoint(join: Join, connection: ConnectionFacts, atNs: Ns, point: number, a: number, b: number): void {
  switch (point) {
    case Point.synAckSent:
      connection.synAcks++;
      if (connection.synAckNs === NEVER) connection.synAckNs = atNs;
      connection.mark({ name: "syn-ack", atNs });
      return;
    case Point.handshakeHeld:
      if (connection.handshakeHeldNs === NEVER) connection.handshakeHeldNs = atNs;
      connection.acceptLimit = b;
      connection.mark({ name: "accept-queue-full", atNs, value: a });
      return;
    case Point.established:
      connection.establishedNs = atNs;
      connection.acceptDepth = a;
      connection.acceptLimit = b;
      connection.mark({ name: "established", atNs });
      return;
    case Point.delivered:
      connection.receive.delivered(a, b, atNs);
      return;
    case Point.held:
      if (connection.send.holds(a, atNs))
        connection.mark({ name: "held", atNs, reason: HELD_NAMES[a] ?? `held ${a}`, value: b });
      return;
    case Point.acked:
      onAcked(join, connection, a, atNs);
      return;
    case Point.lost:
      connection.send.markLost(a, b, atNs);
      connection.mark({ name: "lost", atNs, value: a });
      return;
    case Point.zeroWindow:
      connection.mark({ name: a !== 0 ? "zero-window" : "window-open", atNs });
      return;
  }
}

function endPoint(join: Join, connection: ConnectionFacts, atNs: Ns, point: number, a: number): void {
  switch (point) {
    case Point.closed:
      if (connection.closedNs !== NEVER) return;
      connection.ending = a;
      connection.closedNs = atNs;
      connection.mark({ name: "closed", atNs, reason: endingName(a) });
      join.close(connection);
      return;
    case Point.finReceived:
      connection.mark({ name: "fin-received", atNs });
      return;
    case Point.finSent:
      connection.mark({ name: "fin-sent", atNs });
      return;
    case Point.readerWoken:
      connection.mark({ name: "reader-woken", atNs });
      return;
  }
}

function onAcked(join: Join, connection: ConnectionFacts, offset: number, atNs: Ns): void {
  connection.send.acked(offset, atNs);
  let open = false;
  for (const request of connection.requests) {
    if (request.responseHi > offset) {
      open = true;
      break;
    }
    if (request.ackedNs !== NEVER) continue;
    request.ackedNs = atNs;
    join.end(request, atNs);
  }
  if (!open && connection.requests.length === 0) connection.send.prune(offset);
}

function processPoint(join: Join, connection: ConnectionFacts, atNs: Ns, point: number, a: number, b: number): void {
  switch (point) {
    case Point.accepted:
      connection.acceptedNs = atNs;
      connection.pid = a;
      if (connection.establishedNs > atNs) connection.establishedNs = atNs;
      connection.mark({ name: "accepted", atNs, value: b });
      return;
    case Point.readEnd:
      connection.receive.readEnd(a, atNs);
      return;
    case Point.parseBegin:
      connection.receive.parseBegin(atNs);
      connection.parsedRequest = false;
      return;
    case Point.parsed:
      onParsed(join, connection, a, atNs);
      return;
    case Point.writeEnd:
      connection.send.writeEnd(a, atNs);
      for (const request of connection.requests) request.noteDone(connection.send.writtenHi, atNs);
      return;
  }
}

/**
 * The parser has consumed bytes below `offset`. A parser that stops without a whole request and without one in progress
 * wants more: it has looked at all that was read, so the frontier is the end of that.
 */
function onParsed(_join: Join, connection: ConnectionFacts, offset: number, atNs: Ns): void {
  const { latest, receive } = connection;
  const active = latest !== null && (latest.self.doneNs === NEVER || latest.bodyHi > offset) && !latest.finished;
  // Past the frontier it has a whole head, whose request is named next.
  const hungry = !active && !connection.parsedRequest && offset <= receive.frontier;
  const step = receive.advance(hungry ? Math.max(offset, receive.readHi) : offset, atNs);
  receive.parseEnd();
  if (step === null) return;
  if (latest === null || step.offset >= latest.bodyHi) connection.headSteps.push(step);
  else if (!latest.finished) latest.addStep(step);
  if (connection.headSteps.length > Limits.steps) connection.headSteps.splice(1, 1);
}
