/**
 * The congestion control algorithms there are, by Linux's names.
 */
import type { CongestionControlName } from "../../../base/sysctl.ts";
import type { CongestionControl } from "./congestion-control.ts";
import { Cubic } from "./cubic.ts";
import { Reno } from "./reno.ts";

const CUBIC = new Cubic();
const RENO = new Reno();

/** The algorithm of that name, the same for all connections. */
export function congestionControl(name: CongestionControlName): CongestionControl {
  return name === "reno" ? RENO : CUBIC;
}
