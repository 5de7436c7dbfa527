/**
 * One host's sysctls: Linux's names, units, defaults and limits, readable and writable at run time.
 *
 * The floors read plain number fields (`env.sysctl.somaxconn`) at the moment of use, so that a change counts at once;
 * `get`, `set` and `list` are for people and speak the kernel's dotted names. Defaults are those of Linux 6.12 (the
 * reference) or 6.18 where the two differ; values Linux computes from memory at boot are those of a 24 GiB machine with
 * 262,144 connection buckets and HZ = 250, as measured.
 */

/** Which kernel's defaults. */
export type SysctlProfile = "linux-6.12" | "linux-6.18";

const INT_MAX = 0x7fffffff;
/** Linux SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF on 64-bit machines. */
const SOCK_MIN_RCVBUF = 2304;
const SOCK_MIN_SNDBUF = 4608;

/** What net.ipv4.tcp_congestion_control takes, in the order of net.ipv4.tcp_available_congestion_control. */
export const CONGESTION_CONTROLS = ["reno", "cubic"] as const;
export type CongestionControlName = (typeof CONGESTION_CONTROLS)[number];

export class Sysctls {
  // ── sockets and listen(2) ─────────────────────────────────────────────────────────────────────────────────────
  /** Most connections listen(2) may ask to queue. */
  somaxconn = 4096;
  /** Default and largest SO_RCVBUF, bytes. */
  rmemDefault = 212992;
  rmemMax = 212992;
  /** Default and largest SO_SNDBUF, bytes. */
  wmemDefault = 212992;
  wmemMax = 212992;

  // ── device and softirq ────────────────────────────────────────────────────────────────────────────────────────
  /** Frames one softirq may take from all devices. */
  netdevBudget = 300;
  /** Microseconds one softirq may last. */
  netdevBudgetUsecs = 8000;
  /** Frames NAPI takes from the backlog in one go. */
  devWeight = 64;
  /** Frames the per-CPU backlog holds; the check is `length > max`. */
  netdevMaxBacklog = 1000;

  // ── TCP: handshake ────────────────────────────────────────────────────────────────────────────────────────────
  /** Half-open connections remembered without SYN cookies (boot value, from memory). */
  tcpMaxSynBacklog = 2048;
  /** 0 never, 1 when the SYN queue is full, 2 always. */
  tcpSyncookies = 1;
  tcpSynackRetries = 5;
  tcpSynRetries = 6;
  /** SYN retransmissions one second apart before the back-off doubles. */
  tcpSynLinearTimeouts = 4;
  /** 1: a final ACK that meets a full accept queue is answered by RST instead of silence. */
  tcpAbortOnOverflow = 0;

  // ── TCP: retransmission ───────────────────────────────────────────────────────────────────────────────────────
  tcpRetries1 = 3;
  tcpRetries2 = 15;
  /** 0 acts as 8. */
  tcpOrphanRetries = 0;
  /** Smallest RTO, microseconds. */
  tcpRtoMinUs = 200000;
  /** Largest RTO, milliseconds (a sysctl since 6.15, before that this constant). */
  tcpRtoMaxMs = 120000;
  /** Initial and largest reordering degree, segments. */
  tcpReordering = 3;
  tcpMaxReordering = 300;
  /** Loss detection: 1 RACK, 2 its reordering window never grows, 4 three duplicates do not close that window. */
  tcpRecovery = 1;
  /** 3 and 4: a tail loss probe precedes the timeout; less: none. */
  tcpEarlyRetrans = 3;
  /** Not 0: a timeout may turn out spurious by what is acknowledged next (F-RTO). */
  tcpFrto = 2;
  /** Congestion control of connections that ask for none: one of `CONGESTION_CONTROLS`. */
  tcpCongestionControl: CongestionControlName = "cubic";

  // ── TCP: close, keep-alive, limits ────────────────────────────────────────────────────────────────────────────
  /** Seconds an orphan stays in FIN_WAIT2. */
  tcpFinTimeout = 60;
  tcpMaxTwBuckets = 131072;
  /** 0 no, 1 yes, 2 loopback only. */
  tcpTwReuse = 2;
  /** 1: a RST does not end TIME_WAIT. */
  tcpRfc1337 = 0;
  tcpMaxOrphans = 131072;
  /** Seconds. */
  tcpKeepaliveTime = 7200;
  /** Seconds. */
  tcpKeepaliveIntvl = 75;
  tcpKeepaliveProbes = 9;

  // ── TCP: options and data ─────────────────────────────────────────────────────────────────────────────────────
  tcpWindowScaling = 1;
  tcpTimestamps = 1;
  tcpSack = 1;
  /** 1: tell the peer of data that came twice (RFC 2883). */
  tcpDsack = 1;
  /** Receive buffer, bytes: least, initial, most that auto-tuning reaches. */
  tcpRmemMin = 4096;
  tcpRmemDefault = 131072;
  tcpRmemMax = 6291456;
  /** Send buffer, bytes. */
  tcpWmemMin = 4096;
  tcpWmemDefault = 16384;
  tcpWmemMax = 4194304;
  tcpModerateRcvbuf = 1;
  tcpSlowStartAfterIdle = 1;
  tcpAutocorking = 1;
  /** Smallest MSS a peer can make us use, bytes. */
  tcpMinSndMss = 48;
  /** Least milliseconds between two answers to invalid segments of one connection. */
  tcpInvalidRatelimit = 500;
  /** Challenge ACKs per second of the whole host. */
  tcpChallengeAckLimit = INT_MAX;
  ipLocalPortRangeMin = 32768;
  ipLocalPortRangeMax = 60999;

  // ── IP ────────────────────────────────────────────────────────────────────────────────────────────────────────
  /** 1: this host is a router. */
  ipForward = 0;
  ipDefaultTtl = 64;
  /** Seconds a fragment waits for the others. */
  ipfragTime = 30;
  /** Bytes of fragments held at most. */
  ipfragHighThresh = 4194304;
  /** Fragments of other packets of one peer that may come between two of one packet. */
  ipfragMaxDist = 64;

  // ── ICMP ──────────────────────────────────────────────────────────────────────────────────────────────────────
  /** Milliseconds per message to one target. */
  icmpRatelimit = 1000;
  /** Bit n set: ICMP type n is limited (3, 4, 11 and 12). */
  icmpRatemask = 0x1818;
  icmpMsgsPerSec = 1000;
  icmpMsgsBurst = 50;
  icmpEchoIgnoreAll = 0;
  icmpEchoIgnoreBroadcasts = 1;

  // ── neighbours (ARP) ──────────────────────────────────────────────────────────────────────────────────────────
  /** 1: a router answers ARP for addresses it reaches by another interface. */
  proxyArp = 0;
  /** Milliseconds an entry stays REACHABLE, times 0.5 to 1.5 at random. */
  baseReachableTimeMs = 30000;
  /** Seconds. */
  delayFirstProbeTime = 5;
  /** Seconds. */
  gcStaletime = 60;
  ucastSolicit = 3;
  mcastSolicit = 3;
  /** Milliseconds between solicitations. */
  retransTimeMs = 1000;
  /** Packets that may wait for one address. */
  unresQlen = 101;

  constructor(profile: SysctlProfile = "linux-6.12") {
    if (profile === "linux-6.18") {
      this.rmemMax = 4194304;
      this.wmemMax = 4194304;
      this.tcpRmemMax = 33554432;
    }
  }

  /** The value as `sysctl -n` prints it (several numbers are separated by a space); undefined for an unknown name. */
  get(name: string): string | undefined {
    if (canonical(name) === CONGESTION_CONTROL) return this.tcpCongestionControl;
    const row = ROWS.get(canonical(name));
    return row === undefined ? undefined : this.text(row);
  }

  /**
   * Writes. As in Linux, a name of several numbers takes fewer: the first ones change. Null, or an error text that says
   * what is wrong, why and what to do next; then nothing has changed.
   */
  set(name: string, value: string): string | null {
    if (canonical(name) === CONGESTION_CONTROL) return this.setCongestionControl(value.trim());
    const row = ROWS.get(canonical(name));
    if (row === undefined) return unknown(name);
    const words = value.trim().split(/\s+/);
    const numbers = words.map((word) => (/^-?(0x[0-9a-f]+|[0-9]+)$/i.test(word) ? parseInteger(word) : Number.NaN));
    const bad = words.find((_, i) => Number.isNaN(numbers[i]));
    if (bad !== undefined) {
      return refused(row, value, bad === "" ? "the value is empty" : `"${bad}" is not a whole number`, this.text(row));
    }
    if (numbers.length > row.fields.length) {
      return refused(row, value, `it takes ${count(row.fields.length)}, not ${numbers.length}`, this.text(row));
    }
    const outside = numbers.find((n) => n < row.min || n > row.max);
    if (outside !== undefined) {
      return refused(row, value, `${outside} is outside ${row.min} to ${row.max}`, this.text(row));
    }
    const all = row.fields.map((field, i) => numbers[i] ?? this[field]);
    if (row.ascending && all.some((n, i) => i > 0 && n < all[i - 1])) {
      return refused(row, value, "the first number must not be larger than the second", this.text(row));
    }
    for (const [i, field] of row.fields.entries()) this[field] = all[i];
    return null;
  }

  /** All of them, in the order of the names. */
  list(): { name: string; value: string }[] {
    const rows = [...ROWS.values()].map((row) => ({ name: row.name, value: this.text(row) }));
    const after = rows.findIndex((row) => row.name > CONGESTION_CONTROL);
    return rows.toSpliced(after, 0, { name: CONGESTION_CONTROL, value: this.tcpCongestionControl });
  }

  /** The one that is a word. */
  private setCongestionControl(word: string): string | null {
    const known = CONGESTION_CONTROLS.find((each) => each === word);
    if (known === undefined) {
      const why = `there is ${CONGESTION_CONTROLS.join(" and ")}`;
      return `cannot set ${CONGESTION_CONTROL} to "${word}": ${why}; it is still ${this.tcpCongestionControl}`;
    }
    this.tcpCongestionControl = known;
    return null;
  }

  private text(row: Row): string {
    return row.fields.map((field) => String(this[field])).join(" ");
  }
}

const CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control";

type Field = { [K in keyof Sysctls]: Sysctls[K] extends number ? K : never }[keyof Sysctls];

interface Row {
  readonly name: string;
  readonly fields: readonly Field[];
  /** Limits of every number of the row. */
  readonly min: number;
  readonly max: number;
  readonly ascending: boolean;
}

/** Limits as in Linux's tables: `u8` is proc_dou8vec_minmax without bounds of its own. */
const U8 = [0, 255] as const;
const COUNT = [0, INT_MAX] as const;
const RMEM = [SOCK_MIN_RCVBUF, INT_MAX] as const;
const WMEM = [SOCK_MIN_SNDBUF, INT_MAX] as const;

const TABLE: readonly (readonly [string, readonly Field[], readonly [number, number]])[] = [
  ["net.core.dev_weight", ["devWeight"], [1, INT_MAX]],
  ["net.core.netdev_budget", ["netdevBudget"], [1, INT_MAX]],
  ["net.core.netdev_budget_usecs", ["netdevBudgetUsecs"], COUNT],
  ["net.core.netdev_max_backlog", ["netdevMaxBacklog"], COUNT],
  ["net.core.rmem_default", ["rmemDefault"], RMEM],
  ["net.core.rmem_max", ["rmemMax"], RMEM],
  ["net.core.somaxconn", ["somaxconn"], COUNT],
  ["net.core.wmem_default", ["wmemDefault"], WMEM],
  ["net.core.wmem_max", ["wmemMax"], WMEM],
  ["net.ipv4.conf.all.proxy_arp", ["proxyArp"], [0, 1]],
  ["net.ipv4.icmp_echo_ignore_all", ["icmpEchoIgnoreAll"], [0, 1]],
  ["net.ipv4.icmp_echo_ignore_broadcasts", ["icmpEchoIgnoreBroadcasts"], [0, 1]],
  ["net.ipv4.icmp_msgs_burst", ["icmpMsgsBurst"], COUNT],
  ["net.ipv4.icmp_msgs_per_sec", ["icmpMsgsPerSec"], COUNT],
  ["net.ipv4.icmp_ratelimit", ["icmpRatelimit"], COUNT],
  ["net.ipv4.icmp_ratemask", ["icmpRatemask"], COUNT],
  ["net.ipv4.ip_default_ttl", ["ipDefaultTtl"], [1, 255]],
  ["net.ipv4.ip_forward", ["ipForward"], [0, 1]],
  ["net.ipv4.ip_local_port_range", ["ipLocalPortRangeMin", "ipLocalPortRangeMax"], [1, 65535]],
  ["net.ipv4.ipfrag_high_thresh", ["ipfragHighThresh"], COUNT],
  ["net.ipv4.ipfrag_max_dist", ["ipfragMaxDist"], COUNT],
  ["net.ipv4.ipfrag_time", ["ipfragTime"], COUNT],
  ["net.ipv4.neigh.default.base_reachable_time_ms", ["baseReachableTimeMs"], COUNT],
  ["net.ipv4.neigh.default.delay_first_probe_time", ["delayFirstProbeTime"], COUNT],
  ["net.ipv4.neigh.default.gc_stale_time", ["gcStaletime"], COUNT],
  ["net.ipv4.neigh.default.mcast_solicit", ["mcastSolicit"], COUNT],
  ["net.ipv4.neigh.default.retrans_time_ms", ["retransTimeMs"], COUNT],
  ["net.ipv4.neigh.default.ucast_solicit", ["ucastSolicit"], COUNT],
  ["net.ipv4.neigh.default.unres_qlen", ["unresQlen"], COUNT],
  ["net.ipv4.tcp_abort_on_overflow", ["tcpAbortOnOverflow"], U8],
  ["net.ipv4.tcp_autocorking", ["tcpAutocorking"], [0, 1]],
  ["net.ipv4.tcp_challenge_ack_limit", ["tcpChallengeAckLimit"], COUNT],
  ["net.ipv4.tcp_dsack", ["tcpDsack"], U8],
  ["net.ipv4.tcp_early_retrans", ["tcpEarlyRetrans"], [0, 4]],
  ["net.ipv4.tcp_fin_timeout", ["tcpFinTimeout"], COUNT],
  ["net.ipv4.tcp_frto", ["tcpFrto"], U8],
  ["net.ipv4.tcp_invalid_ratelimit", ["tcpInvalidRatelimit"], COUNT],
  ["net.ipv4.tcp_keepalive_intvl", ["tcpKeepaliveIntvl"], COUNT],
  ["net.ipv4.tcp_keepalive_probes", ["tcpKeepaliveProbes"], U8],
  ["net.ipv4.tcp_keepalive_time", ["tcpKeepaliveTime"], COUNT],
  ["net.ipv4.tcp_max_orphans", ["tcpMaxOrphans"], COUNT],
  ["net.ipv4.tcp_max_reordering", ["tcpMaxReordering"], COUNT],
  ["net.ipv4.tcp_max_syn_backlog", ["tcpMaxSynBacklog"], COUNT],
  ["net.ipv4.tcp_max_tw_buckets", ["tcpMaxTwBuckets"], COUNT],
  ["net.ipv4.tcp_min_snd_mss", ["tcpMinSndMss"], [48, 65535]],
  ["net.ipv4.tcp_moderate_rcvbuf", ["tcpModerateRcvbuf"], U8],
  ["net.ipv4.tcp_orphan_retries", ["tcpOrphanRetries"], U8],
  ["net.ipv4.tcp_recovery", ["tcpRecovery"], U8],
  ["net.ipv4.tcp_reordering", ["tcpReordering"], [1, INT_MAX]],
  ["net.ipv4.tcp_retries1", ["tcpRetries1"], U8],
  ["net.ipv4.tcp_retries2", ["tcpRetries2"], U8],
  ["net.ipv4.tcp_rfc1337", ["tcpRfc1337"], U8],
  ["net.ipv4.tcp_rmem", ["tcpRmemMin", "tcpRmemDefault", "tcpRmemMax"], [1, INT_MAX]],
  ["net.ipv4.tcp_rto_max_ms", ["tcpRtoMaxMs"], [1000, 120000]],
  ["net.ipv4.tcp_rto_min_us", ["tcpRtoMinUs"], [1, INT_MAX]],
  ["net.ipv4.tcp_sack", ["tcpSack"], U8],
  ["net.ipv4.tcp_slow_start_after_idle", ["tcpSlowStartAfterIdle"], U8],
  ["net.ipv4.tcp_syn_linear_timeouts", ["tcpSynLinearTimeouts"], [0, 127]],
  ["net.ipv4.tcp_syn_retries", ["tcpSynRetries"], [1, 127]],
  ["net.ipv4.tcp_synack_retries", ["tcpSynackRetries"], U8],
  ["net.ipv4.tcp_syncookies", ["tcpSyncookies"], [0, 2]],
  ["net.ipv4.tcp_timestamps", ["tcpTimestamps"], U8],
  ["net.ipv4.tcp_tw_reuse", ["tcpTwReuse"], [0, 2]],
  ["net.ipv4.tcp_window_scaling", ["tcpWindowScaling"], U8],
  ["net.ipv4.tcp_wmem", ["tcpWmemMin", "tcpWmemDefault", "tcpWmemMax"], [1, INT_MAX]],
];

const ROWS: ReadonlyMap<string, Row> = new Map(
  TABLE.map(([name, fields, [min, max]]) => [
    name,
    { name, fields, min, max, ascending: name === "net.ipv4.ip_local_port_range" },
  ]),
);

/** sysctl(8) also takes slashes: net/core/somaxconn. */
function canonical(name: string): string {
  return name.trim().replaceAll("/", ".");
}

function parseInteger(word: string): number {
  return word.startsWith("-") ? -Number(word.slice(1)) : Number(word);
}

function count(n: number): string {
  return n === 1 ? "one number" : `${n} numbers`;
}

function refused(row: Row, value: string, why: string, current: string): string {
  return `cannot set ${row.name} to "${value}": ${why}; it is still ${current}`;
}

function unknown(name: string): string {
  const near = nearest(canonical(name));
  const hint = near === undefined ? "" : `did you mean ${near}? `;
  return `unknown sysctl "${name}": ${hint}${hint ? "R" : "r"}un \`sojourn sysctl\` for the list`;
}

/** The known name with the fewest edits, if few enough to be a slip; a bare last component counts as that name. */
function nearest(name: string): string | undefined {
  let best: string | undefined;
  let bestEdits = Math.max(2, Math.floor(name.length / 5)) + 1;
  for (const known of [...ROWS.keys(), CONGESTION_CONTROL]) {
    const last = known.slice(known.lastIndexOf(".") + 1);
    const edits = Math.min(editDistance(name, known), editDistance(name, last));
    if (edits < bestEdits) {
      best = known;
      bestEdits = edits;
    }
  }
  return best;
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
