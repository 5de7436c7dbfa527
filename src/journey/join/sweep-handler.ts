/**
 * Rule 2: the handler is unfinished. On the CPU it works; parked it waits for its body (rule 1), its response (rule 3)
 * or
 * something of its own; runnable it waits for whoever has the process.
 */
import { NEVER, type Ns } from "../../base/time.ts";
import { Parked } from "../../base/tracepoints.ts";
import type { HandlerEvent, RequestFacts } from "./facts.ts";
import type { Occupancy } from "./occupancy.ts";
import type { Step } from "./receive-facts.ts";
import type { SegmentLine } from "./segment-line.ts";
import { type ReceiveContext, sweepBody } from "./sweep-receive.ts";
import type { SendSweep } from "./sweep-send.ts";

/** From the end of the head until the handler has returned, or the line's limit. */
export function sweepHandler(line: SegmentLine, request: RequestFacts, occupancy: Occupancy, send: SendSweep): void {
  if (request.routedNs !== NEVER) line.pass(request.routedNs, "route");
  if (request.beganNs === NEVER) return;
  sweepRunnable(line, request, occupancy, line.atNs, request.beganNs, true);
  const sweep = new HandlerSweep(line, request, occupancy, send);
  sweep.run();
}

class HandlerSweep {
  private readonly line: SegmentLine;
  private readonly request: RequestFacts;
  private readonly occupancy: Occupancy;
  private readonly send: SendSweep;
  private readonly context: ReceiveContext;
  private nextStep = 0;
  private openStep: Step | null = null;
  /** While parked: since when, for what, and since when it is runnable. */
  private parked = 0;
  private ready = false;
  private sinceNs: Ns;

  constructor(line: SegmentLine, request: RequestFacts, occupancy: Occupancy, send: SendSweep) {
    this.line = line;
    this.request = request;
    this.occupancy = occupancy;
    this.send = send;
    this.sinceNs = request.beganNs;
    this.context = { connection: request.connection, occupancy, selfId: request.id, previous: null };
    const body = request.steps.findIndex((s) => s.offset >= request.headHi);
    this.nextStep = body < 0 ? request.steps.length : body;
  }

  run(): void {
    for (const event of this.request.events) {
      this.drawUntil(event.atNs);
      if (this.line.done) return;
      this.enter(event);
    }
    if (this.request.handlerEndNs === NEVER) this.drawUntil(NEVER);
    else this.drawUntil(this.request.handlerEndNs);
  }

  private enter(event: HandlerEvent): void {
    this.sinceNs = event.atNs;
    this.ready = event.kind === "ready";
    if (event.kind === "park") this.parked = event.code;
    else if (event.kind === "run" || event.kind === "end") this.parked = 0;
  }

  private drawUntil(endNs: Ns): void {
    const line = this.line;
    if (this.parked === 0) line.pass(endNs, "process");
    else if (this.ready) sweepRunnable(line, this.request, this.occupancy, this.sinceNs, endNs, false);
    else if (this.parked === Parked.body) this.drawBody(endNs);
    else if (this.parked === Parked.write) this.drawWrite(endNs);
    else line.until(endNs, "handler", this.parked === Parked.sleep ? "sleep" : "handler");
  }

  /** Parked on its body: rule 1 for the body's bytes, then (all parsed, not yet told) runnable. */
  private drawBody(endNs: Ns): void {
    const line = this.line;
    const request = this.request;
    const limitNs = line.limitNs;
    line.limitNs = Math.min(endNs, limitNs);
    this.nextStep = sweepBody(line, request.steps, this.nextStep, this.context);
    if (!line.done && this.nextStep >= request.steps.length && this.bodyOpen()) {
      this.openStep ??= request.connection.receive.openStep();
      sweepBody(line, [this.openStep], 0, this.context);
    }
    line.limitNs = limitNs;
    sweepRunnable(line, request, this.occupancy, line.atNs, endNs, false);
  }

  private bodyOpen(): boolean {
    return (
      this.request.connection.receive.frontier < this.request.bodyHi && this.request.connection.latest === this.request
    );
  }

  /** Parked in write: rule 3; where the response has no byte left to wait for, the writer is runnable. */
  private drawWrite(endNs: Ns): void {
    const limitNs = this.line.limitNs;
    this.line.limitNs = Math.min(endNs, limitNs);
    this.send.draw(true);
    this.line.limitNs = limitNs;
    sweepRunnable(this.line, this.request, this.occupancy, this.line.atNs, endNs, false);
  }
}

/** Runnable since `readyNs`, on the CPU at `endNs`. `starting`: nobody in the way means the server is at work on it. */
function sweepRunnable(
  line: SegmentLine,
  request: RequestFacts,
  occupancy: Occupancy,
  readyNs: Ns,
  endNs: Ns,
  starting: boolean,
): void {
  const toNs = Math.min(endNs, line.limitNs);
  if (toNs <= line.atNs) return;
  const pid = request.pid || request.connection.pid;
  for (const holder of occupancy.holders(pid, line.atNs, toNs, readyNs, request.id)) {
    if (starting && typeof holder.by !== "number") line.until(holder.endNs, "route");
    else if (holder.by === null) line.until(holder.endNs, "run-queue", "reader-not-woken");
    else line.until(holder.endNs, "run-queue", "loop-busy", holder.by);
  }
}
