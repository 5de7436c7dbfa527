/**
 * Rule 1: the frontier is the lowest unparsed byte. Draws one step of it: from where the line is until the parser has
 * moved on (or the line's limit).
 */
import { NEVER, type Ns } from "../../base/time.ts";
import type { ConnectionFacts, Predecessor, RequestFacts, SynFact } from "./facts.ts";
import type { Occupancy } from "./occupancy.ts";
import type { Step } from "./receive-facts.ts";
import type { SegmentLine } from "./segment-line.ts";

/** What the receive sweep needs to know beside the step. */
export interface ReceiveContext {
  connection: ConnectionFacts;
  occupancy: Occupancy;
  /** The request, or 0: never blamed for its own wait. */
  selfId: number;
  previous: Predecessor | null;
}

/** From the first SYN seen until the handshake is done (first request of a connection only). */
export function sweepHandshake(line: SegmentLine, connection: ConnectionFacts): void {
  const syn = connection.syns[0] as SynFact;
  if (connection.lostSynNs < syn.arrivedNs) line.until(syn.arrivedNs, "retransmission", "retransmission");
  line.pass(syn.polledNs, "rx-ring", "irq");
  line.pass(syn.atNs, "softirq");
  line.pass(Math.min(connection.handshakeHeldNs, connection.establishedNs), "syn-queue", "handshake");
  if (connection.handshakeHeldNs < connection.establishedNs) {
    line.until(connection.establishedNs, "syn-queue", "accept-queue-full");
  }
}

/** All steps of a head; `first` if the handshake and accept belong to it. */
export function sweepHead(line: SegmentLine, steps: readonly Step[], context: ReceiveContext, first: boolean): void {
  if (first && context.connection.syns.length > 0) sweepHandshake(line, context.connection);
  const limitNs = line.limitNs;
  let leading = true;
  for (const step of steps) {
    if (line.atNs >= limitNs) return;
    line.limitNs = Math.min(step.parsedNs, limitNs);
    sweepStep(line, step, context, leading, first && leading);
    line.limitNs = limitNs;
    leading = false;
  }
}

/** The steps of a body, between the line's end and its limit. Returns the index of the first step not finished. */
export function sweepBody(line: SegmentLine, steps: readonly Step[], from: number, context: ReceiveContext): number {
  const limitNs = line.limitNs;
  let i = from;
  for (; i < steps.length && line.atNs < limitNs; i++) {
    const step = steps[i] as Step;
    if (step.parsedNs <= line.atNs) continue;
    line.limitNs = Math.min(step.parsedNs, limitNs);
    sweepStep(line, step, context, false, false);
    line.limitNs = limitNs;
    if (step.parsedNs > limitNs) return i;
  }
  return i;
}

/** `leading`: stages passed in no time leave empty segments. `first`: accept comes before the read. */
function sweepStep(line: SegmentLine, step: Step, context: ReceiveContext, leading: boolean, first: boolean): void {
  line.until(Math.min(step.missedNs, step.arrivedNs), "client", "client");
  line.until(step.arrivedNs, "retransmission", "retransmission");
  if (step.arrivedNs > line.limitNs) return;
  if (leading) {
    line.pass(step.polledNs, "rx-ring", "irq");
    line.pass(step.inOrder ? step.deliveredNs : step.processedNs, "softirq");
  } else {
    line.until(step.polledNs, "rx-ring", "irq");
    line.until(step.inOrder ? step.deliveredNs : step.processedNs, "softirq");
  }
  line.until(step.deliveredNs, "reassembly", "reassembly");
  if (step.deliveredNs > line.limitNs) return;
  if (first) sweepAccept(line, step, context);
  sweepUnread(line, step, context, leading);
  if (leading) line.pass(step.readEndNs, "copy");
  else line.until(step.readEndNs, "copy");
  sweepUnparsed(line, step, context);
  if (leading) line.pass(step.parsedNs, "parse");
  else line.until(step.parsedNs, "parse");
}

function sweepAccept(line: SegmentLine, step: Step, context: ReceiveContext): void {
  const { connection, occupancy } = context;
  line.until(connection.establishedNs, "syn-queue", "handshake");
  const pid = connection.pid || occupancy.onlyPid();
  const toNs = Math.min(connection.acceptedNs, step.readNs, line.limitNs);
  if (toNs <= line.atNs) line.pass(line.atNs, "accept-queue", "reader-not-woken");
  for (const part of occupancy.pausedParts(pid, line.atNs, toNs)) {
    if (part.endNs <= line.atNs) continue;
    if (part.paused) {
      line.until(part.endNs, "accept-queue", "accept-paused");
      continue;
    }
    const holders = occupancy.holders(pid, line.atNs, part.endNs, connection.establishedNs, context.selfId);
    line.holders(holders, "accept-queue", (endNs) => line.until(endNs, "accept-queue", "reader-not-woken"));
  }
  if (connection.acceptedNs <= line.limitNs) line.pass(line.atNs, "accept");
}

function sweepUnread(line: SegmentLine, step: Step, context: ReceiveContext, leading: boolean): void {
  const { connection, occupancy, previous } = context;
  const toNs = Math.min(step.readNs, line.limitNs);
  if (toNs <= line.atNs) {
    if (leading && step.readNs <= line.limitNs) line.pass(line.atNs, "receive-queue", "reader-not-woken");
    return;
  }
  sweepPipeline(line, previous, toNs);
  if (toNs <= line.atNs) return;
  const readyNs = Math.max(step.deliveredNs, doneNs(previous, line.atNs));
  const holders = occupancy.holders(step.pid || connection.pid, line.atNs, toNs, readyNs, context.selfId);
  line.holders(holders, "receive-queue", (endNs) => line.until(endNs, "receive-queue", "reader-not-woken"));
}

/** Copied, but the HTTP machine has not started on it: an earlier request is in the way, or somebody has the CPU. */
function sweepUnparsed(line: SegmentLine, step: Step, context: ReceiveContext): void {
  const toNs = Math.min(step.parseNs, line.limitNs);
  if (toNs <= line.atNs) return;
  sweepPipeline(line, context.previous, toNs);
  if (toNs <= line.atNs) return;
  const pid = step.pid || context.connection.pid;
  const holders = context.occupancy.holders(pid, line.atNs, toNs, toNs, context.selfId);
  for (const { endNs, by } of holders) {
    if (typeof by === "number") line.until(endNs, "run-queue", "loop-busy", by);
    else line.until(endNs, "parse");
  }
}

function sweepPipeline(line: SegmentLine, previous: Predecessor | null, toNs: Ns): void {
  if (previous !== null) line.until(Math.min(previous.doneNs, toNs), "receive-queue", "pipeline", previous.id);
}

function doneNs(previous: Predecessor | null, atNs: Ns): Ns {
  return previous === null || previous.doneNs > atNs ? 0 : previous.doneNs;
}

/** True if `request` starts with a handshake that was seen (of a SYN cookie only its end is). */
export function hasHandshake(request: RequestFacts): boolean {
  return request.first && (request.connection.syns.length > 0 || request.connection.establishedNs !== NEVER);
}
