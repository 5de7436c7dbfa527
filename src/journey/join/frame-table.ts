/** Short memory of frames by id: when received ones arrived, where sent ones are, why dropped ones were dropped. */
import type { Ns } from "../../base/time.ts";
import { Limits } from "./limits.ts";
import type { SentFrame } from "./send-facts.ts";

/** Frames taken from the ring and not yet looked at by TCP: a NAPI budget or two, times GRO. */
const RECEIVED = 4096;

export class FrameTable {
  arrivedNs: Ns = 0;
  polledNs: Ns = 0;
  /** When NAPI last took a frame, and when it did before that. */
  lastPollNs: Ns = 0;
  private readonly ids = new Float64Array(RECEIVED);
  private readonly arrived = new Float64Array(RECEIVED);
  private readonly polled = new Float64Array(RECEIVED);
  private readonly sent = new Map<number, SentFrame>();

  received(id: number, arrivedNs: Ns, polledNs: Ns): void {
    const at = id & (RECEIVED - 1);
    this.ids[at] = id;
    this.polled[at] = polledNs;
    this.arrived[at] = arrivedNs;
  }

  /** Finds a received frame's times (into `arrivedNs`, `polledNs`); without a record both are `atNs`. */
  find(id: number, atNs: Ns): void {
    const at = id & (RECEIVED - 1);
    const known = this.ids[at] === id;
    this.polledNs = known ? clamp(this.polled[at] as number, atNs) : atNs;
    this.arrivedNs = known ? clamp(this.arrived[at] as number, this.polledNs) : atNs;
  }

  /** Follows a frame on its way out. */
  follow(frame: SentFrame): void {
    this.sent.set(frame.frameId, frame);
    if (this.sent.size > Limits.framesInFlight) this.sent.delete(this.sent.keys().next().value as number);
  }

  leaving(id: number): SentFrame | undefined {
    return this.sent.get(id);
  }

  /** The frame is on the wire, or dropped. */
  forget(id: number): void {
    this.sent.delete(id);
  }

  get size(): number {
    return this.sent.size;
  }
}

/** `ns` if it is a time at or before `latestNs`, else `latestNs`. */
function clamp(ns: number, latestNs: Ns): Ns {
  return ns > 0 && ns <= latestNs ? Math.round(ns) : latestNs;
}
