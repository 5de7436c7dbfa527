/** What a process thread imports to record: a recorder over shared memory the main side made. @worker */
import type { Tracepoints } from "../../src/base/tracepoints.ts";
import type { RealClock } from "../../src/host/real-clock.ts";
import { Recorder } from "../../src/journey/recorder.ts";

/** `data` is the ring's SharedArrayBuffer. */
export function openTracepoints(data: unknown, clock: RealClock): Tracepoints {
  return new Recorder(clock, data as SharedArrayBuffer);
}
