/**
 * One host: the kernel floors composed, and the processes that run on them.
 *
 * Everything a floor needs is handed down here (law 1: no floor imports its clock, its entropy or its recorder), and the
 * calls that climb — interrupt to NAPI, IP to transport, transport to socket — are wired here through ports declared
 * below. A `Stack` is turned by a driver: `step(atNs)` does what is due, `deadline()` says when it wants to be turned.
 */
import { Mib } from "./base/mib.ts";
import type { Prng } from "./base/prng.ts";
import { Sysctls } from "./base/sysctl.ts";
import type { Clock, Ns } from "./base/time.ts";
import { Timers } from "./base/timers.ts";
import type { Tracepoints } from "./base/tracepoints.ts";
import { NetFloor } from "./netdev-floor.ts";
import { DropCounters } from "./skb/drop.ts";
import type { HostEnv } from "./skb/host-env.ts";
import type { SkBuffPool } from "./skb/skb.ts";
import { ProcessTable } from "./socket/process-table.ts";
import { Tcp } from "./transport/tcp/tcp.ts";
import { Udp } from "./transport/udp/udp.ts";

export interface StackOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly prng: Prng;
  readonly pool: SkBuffPool;
  readonly trace: Tracepoints;
}
