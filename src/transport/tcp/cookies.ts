/**
 * SYN cookies (Bernstein 1996; RFC 4987 §3.6; Linux syncookies.c): the ISN of the SYN-ACK is all the memory there is.
 *
 *   cookie = hash(4-tuple, 0) + client ISN + (minute << 24) + ((hash(4-tuple, minute) + MSS index) mod 2^24)
 *
 * Window scale and SACK survive in the low six bits of the timestamp, if the client echoes timestamps:
 * TS_OPT_WSCALE_MASK, TS_OPT_SACK.
 */
import { Address } from "../../base/address.ts";
import { MibId } from "../../base/mib.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import type { TcpContext } from "./context.ts";
import type { Segment } from "./segment-info.ts";
import { RequestSock, type Tcb } from "./tcb.ts";

/** MSS values a cookie can name, IPv4. */
const MSS_TABLE = [536, 1300, 1440, 1460] as const;
const COOKIE_BITS = 24;
const COOKIE_MASK = 2 ** COOKIE_BITS - 1;
/** A cookie is good for its own and the next period of 60 s. */
const PERIOD_NS = 60 * SECOND;
const MAX_AGE_PERIODS = 2;
/** Low bits of TSval: window scale (15 = none), SACK. */
const TS_BITS = 6;
const TS_MASK = 2 ** TS_BITS - 1;
const TS_WINDOW_SCALE_MASK = 0xf;
const TS_SACK = 0x10;

const PURPOSE_COOKIE = 0x100;

/** The ISN that remembers `request`; also folds its options into `tsOffset`, so that TSval carries them. */
export function cookieIsn(tcp: TcpContext, request: RequestSock, segment: Segment): number {
  let index = MSS_TABLE.length - 1;
  while (index > 0 && request.mssBytes < MSS_TABLE[index]) index--;
  request.mssBytes = MSS_TABLE[index];
  if (request.timestampsOk) {
    const bits =
      (request.sndWindowScale >= 0 ? request.sndWindowScale : TS_WINDOW_SCALE_MASK) | (request.sackOk ? TS_SACK : 0);
    const plain = tcp.timestamp(request.tsOffset);
    let coded = ((plain & ~TS_MASK) | bits) >>> 0;
    if (coded > plain) coded = (coded - TS_MASK - 1) >>> 0;
    request.tsOffset = (request.tsOffset + (coded - plain)) >>> 0;
  }
  const minute = Math.floor(tcp.nowNs / PERIOD_NS);
  return secureCookie(
    tcp,
    request.localAddress,
    request.localPort,
    request.remoteAddress,
    request.remotePort,
    segment.seq,
    minute,
    index,
  );
}

function secureCookie(
  tcp: TcpContext,
  local: Address,
  localPort: number,
  remote: Address,
  remotePort: number,
  clientIsn: number,
  minute: number,
  data: number,
): number {
  const fixed = tcp.tupleHash(local, localPort, remote, remotePort, PURPOSE_COOKIE);
  const timed = tcp.tupleHash(local, localPort, remote, remotePort, PURPOSE_COOKIE + 1 + (minute & 0xffffff));
  return (fixed + clientIsn + (minute << COOKIE_BITS) + ((timed + data) & COOKIE_MASK)) >>> 0;
}

/**
 * Checks the ACK of a cookie. The request it stands for, not in any table; or null, and `SyncookiesFailed` if cookies
 * were sent lately (row 10).
 */
export function checkCookie(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): RequestSock | null {
  const local = Address.v4(ipv4.dst(skb.view, skb.net));
  const remote = Address.v4(ipv4.src(skb.view, skb.net));
  const localPort = wire.dstPort(skb.view, skb.transport);
  const remotePort = wire.srcPort(skb.view, skb.transport);
  // Linux tcp_synq_no_recent_overflow: who sent no cookie lately need not look for one.
  if (tcb.listener === null || tcp.nowNs - tcb.listener.cookieSentNs > MAX_AGE_PERIODS * PERIOD_NS) return null;
  const cookie = (segment.ack - 1) >>> 0;
  const clientIsn = (segment.seq - 1) >>> 0;
  const minute = Math.floor(tcp.nowNs / PERIOD_NS);
  const fixed = tcp.tupleHash(local, localPort, remote, remotePort, PURPOSE_COOKIE);
  const rest = (cookie - fixed - clientIsn) >>> 0;
  const age = (minute - (rest >>> COOKIE_BITS)) & 0xff;
  const made = minute - age;
  const timed = tcp.tupleHash(local, localPort, remote, remotePort, PURPOSE_COOKIE + 1 + (made & 0xffffff));
  const index = (rest - timed) & COOKIE_MASK;
  const route = tcp.ip.route(remote, local, tcb.boundIfindex);
  if (age >= MAX_AGE_PERIODS || index >= MSS_TABLE.length || typeof route === "number") {
    tcp.count(MibId.TcpExtSyncookiesFailed);
    return null;
  }
  tcp.count(MibId.TcpExtSyncookiesRecv);
  const request = new RequestSock(
    tcb,
    tcp.env.nextConnId(),
    local,
    localPort,
    remote,
    remotePort,
    route,
    skb.ifindex,
    skb.arrivedNs,
  );
  request.rcvIsn = clientIsn | 0;
  request.sntIsn = cookie | 0;
  request.mssBytes = MSS_TABLE[index];
  request.sndWnd = segment.window;
  segment.readOptions(skb);
  readTimestamp(tcp, request, segment);
  return request;
}

/** What the echoed timestamp remembers (Linux cookie_timestamp_decode). */
function readTimestamp(tcp: TcpContext, request: RequestSock, segment: Segment): void {
  const { options } = segment;
  request.tsOffset = tcp.isn.timestampOffset(request.localAddress, request.remoteAddress);
  if (!options.hasTimestamps) return;
  request.timestampsOk = true;
  request.tsRecent = options.tsVal;
  const bits = options.tsEcr & TS_MASK;
  const scale = bits & TS_WINDOW_SCALE_MASK;
  request.sackOk = (bits & TS_SACK) !== 0;
  request.sndWindowScale = scale === TS_WINDOW_SCALE_MASK ? -1 : scale;
  // The clock must not seem to go back on this connection.
  const now = tcp.timestamp(request.tsOffset);
  if (((now - options.tsEcr) | 0) < 0) request.tsOffset = (request.tsOffset + (options.tsEcr - now)) >>> 0;
  request.synAckSentNs = Math.max(0, tcp.nowNs - Math.max(0, (now - options.tsEcr) | 0) * MILLISECOND);
}
