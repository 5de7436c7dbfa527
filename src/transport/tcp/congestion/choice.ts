/**
 * The congestion control algorithms there are, by Linux's names.
 */
import type { CongestionControlName } from "../../../base/sysctl.ts";
import type { CongestionControl } from "./congestion-control.ts";
import { Cubic } from "./cubic.ts";
import { Reno } from "./reno.ts";

/** A fresh instance, for one connection. */
export function newCongestionControl(name: CongestionControlName): CongestionControl {
  return name === "reno" ? new Reno() : new Cubic();
}
