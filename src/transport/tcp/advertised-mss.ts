/**
 * The MSS we announce.
 */
import type { Route } from "../../network/port.ts";
import { HEADERS_LEN_V4, MAX_PAYLOAD_BYTES } from "./constants.ts";
import type { Tcb } from "./tcb.ts";

/** What the path's MTU leaves for payload, or TCP_MAXSEG if that is less (RFC 9293 §3.7.1). */
export function advertisedMss(tcb: Tcb, route: Route): number {
  const mss = Math.min(route.mtu - HEADERS_LEN_V4, MAX_PAYLOAD_BYTES);
  return tcb.userMssBytes > 0 ? Math.min(mss, tcb.userMssBytes) : mss;
}
