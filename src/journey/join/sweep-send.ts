/**
 * Rules 3 and 4: the frontier is the lowest response byte not yet on the wire, then the lowest not yet acknowledged.
 * Works frame by frame and can be continued: a handler parked in write is drawn with it too.
 */

import type { StageName, WaitReason } from "../../base/stages.ts";
import { NEVER, type Ns } from "../../base/time.ts";
import { Held } from "../../base/tracepoints.ts";
import type { RequestFacts } from "./facts.ts";
import type { Occupancy } from "./occupancy.ts";
import type { SegmentLine } from "./segment-line.ts";
import type { LostFact, SendFacts, SentFrame, WriteFact } from "./send-facts.ts";

/** The test of output that refused, as a stage and a reason. */
const HELD: Readonly<Record<number, readonly [StageName, WaitReason]>> = {
  [Held.cwnd]: ["send-queue", "cwnd"],
  [Held.rwnd]: ["send-queue", "rwnd"],
  [Held.nagle]: ["send-queue", "nagle"],
  [Held.cork]: ["send-queue", "cork"],
  [Held.pacing]: ["send-queue", "pacing"],
  [Held.smallQueue]: ["send-queue", "small-queue"],
  [Held.retransmit]: ["retransmission", "retransmission"],
};

export class SendSweep {
  private readonly line: SegmentLine;
  private readonly request: RequestFacts;
  private readonly occupancy: Occupancy;
  private readonly send: SendFacts;
  private frameAt = 0;
  private writeAt = 0;
  private heldAt = 0;
  /** The first frame leaves empty segments where it passed in no time. */
  private leading = true;

  constructor(line: SegmentLine, request: RequestFacts, occupancy: Occupancy) {
    this.line = line;
    this.request = request;
    this.occupancy = occupancy;
    this.send = request.connection.send;
    const lo = request.responseLo;
    this.frameAt = this.send.frames.search((f) => f.hi > lo);
    this.writeAt = this.send.writes.search((w) => w.hi > lo);
  }

  /**
   * Draws rule 3 from the line's end to its limit, or until every response byte known is on the wire. `inHandler`: the
   * handler is parked in write, so a byte not written yet waits for room in the send queue.
   */
  draw(inHandler: boolean): void {
    const { line, request, send } = this;
    if (request.responseLo === NEVER) {
      if (inHandler) line.until(line.limitNs, "send-queue", "full-queue");
      else line.until(line.limitNs, "encode");
      return;
    }
    this.drawPipeline();
    while (!line.done) {
      const frame = send.frames.at(this.frameAt);
      if (frame === undefined || frame.lo >= request.responseHi) break;
      const deviceNs = send.frameDeviceNs(frame, Math.min(frame.hi, request.responseHi));
      if (this.leading || deviceNs > line.atNs) this.drawFrame(frame, deviceNs, inHandler);
      if (deviceNs > line.limitNs) return;
      this.frameAt++;
    }
    if (!line.done && this.nextOffset() < request.responseHi) this.drawUncut(this.nextOffset(), NEVER, inHandler);
  }

  /** Rule 4: all bytes were on the wire; until the line's limit (the ACK). */
  drawAckWait(): void {
    const { line, send, request } = this;
    const limitNs = line.limitNs;
    if (line.atNs >= limitNs) {
      line.pass(limitNs, "ack-wait", "ack-wait");
      return;
    }
    let ackAt = send.acks.search((ack) => ack.atNs > line.atNs);
    while (line.atNs < limitNs) {
      const ack = send.acks.at(ackAt++);
      const unacked = Math.max(request.responseLo, send.acks.at(ackAt - 2)?.offset ?? 0);
      const endNs = Math.min(ack?.atNs ?? limitNs, limitNs);
      line.until(Math.min(this.lostNs(unacked), endNs), "ack-wait", "ack-wait");
      line.until(endNs, "retransmission", "retransmission");
    }
  }

  /** When byte `offset` was marked lost for the first time. */
  private lostNs(offset: number): Ns {
    const { lost } = this.send;
    for (let i = 0; i < lost.length; i++) {
      const range = lost.at(i) as LostFact;
      if (range.lo <= offset && offset < range.hi) return range.atNs;
    }
    return NEVER;
  }

  /** End of what output has cut so far. */
  private nextOffset(): number {
    return Math.max(this.request.responseLo, this.send.frames.at(this.frameAt - 1)?.hi ?? 0);
  }

  private drawPipeline(): void {
    const previous = this.request.previous;
    if (previous === null) return;
    this.line.until(previous.deviceNs, "send-queue", "pipeline", previous.id);
  }

  private drawFrame(frame: SentFrame, deviceNs: Ns, inHandler: boolean): void {
    const line = this.line;
    const first = Math.max(frame.lo, this.request.responseLo);
    this.drawUncut(first, frame.cutNs, inHandler);
    if (frame.droppedNs !== NEVER && frame.transmittedNs === NEVER) {
      this.drawLeaving(frame, frame.droppedNs);
      const again = this.send.replacement(frame);
      line.until(Math.min(again?.cutNs ?? NEVER, deviceNs), "retransmission", "retransmission");
      if (again !== undefined) this.drawLeaving(again, deviceNs);
      else line.until(deviceNs, "retransmission", "retransmission");
    } else {
      this.drawLeaving(frame, deviceNs);
    }
    this.leading = false;
  }

  /** From the cut to the wire (or to where it was dropped). */
  private drawLeaving(frame: SentFrame, endNs: Ns): void {
    const postedNs = Math.min(frame.postedNs, endNs);
    const leftNs = Math.min(frame.leftNs, postedNs);
    const enqueuedNs = Math.min(frame.enqueuedNs, leftNs);
    this.stage(enqueuedNs, "output");
    if (frame.enqueuedNs !== NEVER) this.stage(leftNs, "qdisc", "qdisc");
    if (frame.postedNs !== NEVER) this.line.until(postedNs, "output");
    else if (frame.leftNs === NEVER) this.line.until(endNs, "output");
    if (frame.postedNs !== NEVER || frame.leftNs !== NEVER) this.stage(endNs, "tx-ring", "tx-ring");
  }

  /** Until output cuts byte `offset` at `cutNs`: encoded, written, held. */
  private drawUncut(offset: number, cutNs: Ns, inHandler: boolean): void {
    const line = this.line;
    const write = this.writeOf(offset);
    const startNs = Math.min(write?.startNs ?? NEVER, cutNs);
    if (inHandler) line.until(startNs, "send-queue", "full-queue");
    else this.drawUnwritten(startNs);
    if (write !== undefined) this.stage(Math.min(write.endNs, cutNs), "write");
    const toNs = Math.min(cutNs, line.limitNs);
    while (line.atNs < toNs) {
      const until = Math.min(this.nextHeldNs(), toNs);
      const code = this.heldCode();
      const held = HELD[code];
      if (held === undefined) line.until(until, "output");
      else line.until(until, held[0], held[1]);
    }
  }

  private drawUnwritten(startNs: Ns): void {
    const { line, request } = this;
    const toNs = Math.min(startNs, line.limitNs);
    if (toNs <= line.atNs) {
      if (this.leading) line.pass(line.atNs, "encode");
      return;
    }
    const pid = request.pid || request.connection.pid;
    for (const { endNs, by } of this.occupancy.holders(pid, line.atNs, toNs, toNs, request.id)) {
      if (typeof by === "number") line.until(endNs, "run-queue", "loop-busy", by);
      else line.until(endNs, "encode");
    }
  }

  private stage(endNs: Ns, stage: StageName, reason?: WaitReason): void {
    if (this.leading) this.line.pass(endNs, stage, reason);
    else this.line.until(endNs, stage, reason);
  }

  private writeOf(offset: number): WriteFact | undefined {
    const writes = this.send.writes;
    while (this.writeAt < writes.length && (writes.at(this.writeAt) as WriteFact).hi <= offset) this.writeAt++;
    const write = writes.at(this.writeAt);
    return write !== undefined && write.lo <= offset ? write : undefined;
  }

  /** The refused test in force at the line's end. */
  private heldCode(): number {
    return this.send.held.at(this.heldAt - 1)?.code ?? Held.none;
  }

  /** When the next test was refused or passed after the line's end. */
  private nextHeldNs(): Ns {
    const held = this.send.held;
    while (this.heldAt < held.length && (held.at(this.heldAt)?.atNs as Ns) <= this.line.atNs) this.heldAt++;
    return held.at(this.heldAt)?.atNs ?? NEVER;
  }
}
