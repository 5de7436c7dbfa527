/** Every target by its name, for the replay of a find. */
import type { FuzzTarget } from "./engine.ts";
import { cutTarget, reassemblyTarget } from "./targets/fragments.ts";
import { HTTP_HEADERS, HTTP_LIMITS, HTTP_REQUEST } from "./targets/http.ts";
import { llhttpTarget } from "./targets/llhttp.ts";
import { receiveTarget } from "./targets/receive.ts";
import { SERVE_CONN } from "./targets/serve-conn.ts";
import { VALUES } from "./targets/values.ts";
import { ARP, ETHERNET, ICMP, IPV4, TCP, TCP_OPTIONS, UDP } from "./targets/wire.ts";

export function allTargets(): readonly FuzzTarget[] {
  return [
    ETHERNET,
    ARP,
    IPV4,
    ICMP,
    UDP,
    TCP,
    TCP_OPTIONS,
    cutTarget(),
    reassemblyTarget(),
    receiveTarget(),
    HTTP_REQUEST,
    HTTP_LIMITS,
    HTTP_HEADERS,
    llhttpTarget(),
    SERVE_CONN,
    VALUES,
  ];
}
