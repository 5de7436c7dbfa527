/** What the points and links of a request mean for its facts. */
import { NEVER, type Ns } from "../../base/time.ts";
import { Point } from "../../base/tracepoints.ts";
import { type ConnectionFacts, RequestFacts } from "./facts.ts";
import type { Join } from "./join.ts";
import { Limits } from "./limits.ts";

/** `request` and `response` links: byte ranges of the connection's streams. */
export function onRequestLink(
  join: Join,
  atNs: Ns,
  point: number,
  requestId: number,
  connId: number,
  lo: number,
  hi: number,
): void {
  const connection = join.connections.get(connId);
  if (connection === undefined) {
    join.counters.orphans++;
    return;
  }
  if (point === Point.request) onHead(join, connection, requestId, lo, hi, atNs);
  else onResponse(join, join.requests.get(requestId), lo, hi, atNs);
}

function onHead(join: Join, connection: ConnectionFacts, requestId: number, lo: number, hi: number, atNs: Ns): void {
  const { receive } = connection;
  connection.parsedRequest = true;
  connection.everRequested = true;
  if (join.requests.size >= Limits.requests || join.requests.has(requestId)) {
    join.counters.incomplete++;
    receive.advance(hi, atNs);
    return;
  }
  if (receive.frontier < 0) receive.frontier = lo;
  const step = receive.advance(hi, atNs);
  if (step !== null) connection.headSteps.push(step);
  const request = new RequestFacts(requestId, connection, lo, hi, atNs, connection.headSteps);
  connection.headSteps = [];
  connection.latest = request;
  connection.requests.push(request);
  join.requests.set(requestId, request);
  if (connection.closedNs !== NEVER) join.end(request, connection.closedNs); // the process read on after a reset
}

function onResponse(join: Join, request: RequestFacts | undefined, lo: number, hi: number, atNs: Ns): void {
  if (request === undefined) {
    join.counters.orphans++;
    return;
  }
  const { send } = request.connection;
  request.responseLo = lo;
  request.responseHi = hi;
  request.noteDone(send.writtenHi, atNs);
  if (request.ackedNs !== NEVER || send.ackedHi < hi) return;
  // the whole response was acknowledged before its end was known (a chunked response's last write)
  request.ackedNs = Math.max(send.ackedNs(hi), request.headParsedNs);
  join.end(request, request.ackedNs);
}

/** A stamp whose id is a request. */
export function onRequestPoint(join: Join, atNs: Ns, point: number, id: number, a: number, b: number): void {
  const request = join.requests.get(id);
  occupy(join, request, atNs, point, id, a);
  if (request === undefined) {
    join.counters.orphans++;
    return;
  }
  switch (point) {
    case Point.requestEnd:
      onRequestEnd(request, a, atNs);
      return;
    case Point.routed:
      request.routedNs = atNs;
      return;
    case Point.handlerBegin:
      request.beganNs = atNs;
      request.pid = a;
      request.gid = b;
      return;
    case Point.handlerPark:
      request.addEvent("park", a, atNs);
      return;
    case Point.handlerReady:
      request.addEvent("ready", 0, atNs);
      return;
    case Point.handlerRun:
      request.addEvent("run", 0, atNs);
      return;
    case Point.handlerEnd:
      request.handlerEndNs = atNs;
      request.noteDone(request.connection.send.writtenHi, atNs);
      return;
    case Point.status:
      request.status = a;
      return;
    case Point.responseBegin:
      request.responseLo = a;
      request.responseBeginNs = atNs;
      return;
  }
}

/** Who has the CPU. Also of requests that have ended: a handler may go on after its response was acknowledged. */
function occupy(join: Join, request: RequestFacts | undefined, atNs: Ns, point: number, id: number, a: number): void {
  const { occupancy } = join;
  if (point === Point.handlerBegin) occupancy.hold(a, id, atNs);
  else if (point === Point.handlerRun) {
    const pid = request?.pid ?? occupancy.pidOf(id);
    if (pid !== 0) occupancy.hold(pid, id, atNs);
  } else if (point === Point.handlerPark || point === Point.handlerEnd) occupancy.release(id, atNs);
}

function onRequestEnd(request: RequestFacts, bodyHi: number, atNs: Ns): void {
  request.bodyHi = bodyHi;
  const { receive } = request.connection;
  request.connection.parsedRequest = true;
  const step = receive.advance(bodyHi, atNs);
  if (step !== null) request.addStep(step);
  receive.countForNext();
}
