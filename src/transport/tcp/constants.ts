/**
 * TCP's constants that are no sysctls (Linux include/net/tcp.h and uapi/linux/tcp.h), in our units.
 */
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { PAGE_SLOT } from "../../skb/arena.ts";
import { HEADROOM } from "../../skb/skb.ts";

/** TCP_TIMEOUT_INIT: the retransmission timeout before any RTT is known (RFC 6298 §2.1). */
export const RTO_INITIAL_NS = 1 * SECOND;
/** TCP_TIMEOUT_FALLBACK: the timeout of data after the SYN or SYN-ACK had to be retransmitted (RFC 6298 §5.7). */
export const RTO_FALLBACK_NS = 3 * SECOND;
/** TCP_TIMEOUT_MIN_US: what a tail loss probe or the reordering timer waits at least beyond what it computed. */
export const TIMEOUT_MIN_NS = 2 * MILLISECOND;
/** TCP_RACK_RECOVERY_THRESH: recoveries without DSACK until the reordering window is small again (RFC 8985 §6.2). */
export const RACK_PERSIST_RECOVERIES = 16;
/** TCP_ATO_MIN, TCP_DELACK_MIN, TCP_DELACK_MAX: bounds of the delayed acknowledgement. */
export const ATO_MIN_NS = 40 * MILLISECOND;
export const DELACK_MIN_NS = 40 * MILLISECOND;
export const DELACK_MAX_NS = 200 * MILLISECOND;
/** HZ / 2: the cap of the delayed-ACK timeout while the connection is not interactive. */
export const ATO_MAX_NS = 500 * MILLISECOND;
/** TCP_MAX_QUICKACKS: segments acknowledged at once at the start of a connection or after an idle time. */
export const MAX_QUICKACKS = 16;
/** TCP_TIMEWAIT_LEN: TIME_WAIT lasts this long, whatever the sysctls say. */
export const TIME_WAIT_NS = 60 * SECOND;
/** TCP_RESOURCE_PROBE_INTERVAL: how soon to try again when memory was out. */
export const RESOURCE_PROBE_NS = 500 * MILLISECOND;
/** TCP_PAWS_MSL, TCP_PAWS_24DAYS: how long a remembered timestamp stays meaningful (RFC 7323 §5.5). */
export const PAWS_24_DAYS_NS = 60 * 60 * 24 * 24 * SECOND;
/** TCP_PAWS_WINDOW: a timestamp may be this much older, in ticks: segments sent together may overtake each other. */
export const PAWS_WINDOW_TICKS = 1;

/** TCP_INIT_CWND (RFC 6928), in segments. */
export const INITIAL_CWND_SEGMENTS = 10;
/** TCP_INFINITE_SSTHRESH. */
export const INFINITE_SSTHRESH_SEGMENTS = 0x7fffffff;

/** A super-segment waits for a larger window only within this time of the last one sent (Linux: a millisecond). */
export const DEFER_NS = 1 * MILLISECOND;
/** tcp_tso_win_divisor: the share of a window that is sent without waiting for more. */
export const DEFER_DIVISOR = 3;

/** TCP_MSS_DEFAULT: the peer's MSS if its SYN names none (RFC 9293 §3.7.1, IPv4). */
export const MSS_DEFAULT_BYTES = 536;
/** TCP_MIN_MSS: no estimate of the peer's segment size goes below it. */
export const MSS_MIN_BYTES = 88;
/** IPv4 and TCP header without options. */
export const HEADERS_LEN_V4 = 40;
/**
 * The largest payload that fits, with all headers, in the arena's largest slot: bounds the MSS on wires with huge MTUs.
 */
export const MAX_PAYLOAD_BYTES = PAGE_SLOT - HEADROOM - 60;
/** TCP_MAX_WSCALE (RFC 7323 §2.3). */
export const MAX_WINDOW_SCALE = 14;
/** TCP_SYNQ_INTERVAL has no meaning since request socks have their own timers; this is the young/old threshold base. */
export const YOUNG_LIMIT_CONNS = 8;
/** TCP_KEEPIDLE and friends: the largest values setsockopt takes. */
export const MAX_KEEPALIVE_TIME_S = 32767;
export const MAX_KEEPALIVE_INTERVAL_S = 32767;
export const MAX_KEEPALIVE_PROBES = 127;
export const MAX_SYN_COUNT = 127;
/** TCP_FIN_TIMEOUT_MAX: the largest TCP_LINGER2. */
export const FIN_TIMEOUT_MAX_S = 120;
/** How many established, half-open and TIME_WAIT entries one host keeps (law 10; Linux is bounded by memory). */
export const MAX_CONNECTIONS = 1 << 18;
/**
 * Records of each kind (segments in flight, pages, runs) a host keeps to use again: as many as the largest window of
 * one connection has segments, so that bulk makes no garbage. More are left to the collector.
 */
export const MAX_IDLE_RECORDS = 4608;
