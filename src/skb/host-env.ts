/**
 * What every kernel floor of one host is given at birth (law 1: handed down by constructors, never imported).
 */
import type { Mib } from "../base/mib.ts";
import type { Prng } from "../base/prng.ts";
import type { Sysctls } from "../base/sysctl.ts";
import type { Clock } from "../base/time.ts";
import type { Timers } from "../base/timers.ts";
import type { Tracepoints } from "../base/tracepoints.ts";
import type { DropCounters } from "./drop.ts";
import type { SkBuffPool } from "./skb.ts";

export interface HostEnv {
  /** Host name, for messages. */
  readonly name: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly prng: Prng;
  readonly pool: SkBuffPool;
  readonly trace: Tracepoints;
  /** Linux MIB counters (nstat). */
  readonly mib: Mib;
  readonly sysctl: Sysctls;
  /** The one way to discard an skb: counts the reason, tells the tracepoints, frees. */
  readonly drops: DropCounters;
  /** 16 secret bytes: keys of ISNs, ports and hashes (RFC 6528, RFC 6056). */
  readonly secret: Uint8Array;
  /** Next frame id (> 0). Frames carry one only while recording is on. */
  nextFrameId(): number;
  /** Next connection id (> 0), unique per kernel. */
  nextConnId(): number;
}
