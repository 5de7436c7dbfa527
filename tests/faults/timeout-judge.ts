/**
 * May this connection have timed out, and at this moment? Judged by the segments at the card of the host that gave up,
 * against Linux's timers (RFC 6298 §5; tcp_retransmit_timer, tcp_write_timeout, tcp_probe_timer):
 *
 *   connect   SYNs at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67 s, the end at 131 s, and no answer that arrived whole
 *   data      retransmissions at doubling intervals of 120 s at most; the end when one would be due 924.6 s or more
 *             after the first of them (tcp_retries2 = 15), and no acknowledgement of anything new meanwhile
 *   probes    15 probes into a closed window (tcp_retries2 again) without any answer
 */
import { seqDiff } from "../../src/base/seq.ts";
import { type Ns, SECOND } from "../../src/base/time.ts";
import { Flag } from "../../src/wire/tcp.ts";
import { describeSegment, type SegmentView } from "../support/segment-view.ts";

const SYN_SECONDS = [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67];
const CONNECT_SECONDS = 131;
const RTO_MAX_NS: Ns = 120 * SECOND;
/** tcp_model_timeout(15 retries from 200 ms): (2^10 − 1) × 0.2 s + 6 × 120 s. */
const DATA_TIMEOUT_NS: Ns = 924.6 * SECOND;
const PROBES = 15;
/** A tail-loss probe sends something again before the first retransmission, which alone begins the count. */
const LOSS_PROBES = 1;
/** Doubled intervals that must be seen before the end. */
const DOUBLINGS = 4;

/** A segment at the card: departing, or arriving whole. */
export interface CardSegment extends SegmentView {
  readonly atNs: Ns;
  readonly departs: boolean;
}

/**
 * "" if a time-out at `atNs` is what Linux would do, else why not. `segments`: of one connection at one card in order;
 * `startNs`: when it began to connect; `slackNs`: what processing and a slow cable may add.
 */
export function judgeTimeout(segments: readonly CardSegment[], startNs: Ns, atNs: Ns, slackNs: Ns): string {
  const seen = segments.filter((s) => s.atNs <= atNs);
  const departed = seen.filter((s) => s.departs);
  const verdict = departed.every(isSyn)
    ? judgeConnect(seen, startNs, atNs, slackNs)
    : judgeEstablished(seen, atNs, slackNs);
  return verdict === "" ? "" : `${verdict}\n${tail(seen, atNs)}`;
}

function isSyn(s: SegmentView): boolean {
  return (s.flags & Flag.syn) !== 0;
}

function isNear(aNs: Ns, bNs: Ns, slackNs: Ns): boolean {
  return Math.abs(aNs - bNs) <= slackNs;
}

function judgeConnect(seen: readonly CardSegment[], startNs: Ns, atNs: Ns, slackNs: Ns): string {
  const syns = seen.filter((s) => s.departs);
  if (syns.length !== SYN_SECONDS.length) return `${syns.length} SYNs instead of ${SYN_SECONDS.length}`;
  for (const [i, syn] of syns.entries()) {
    const dueNs = startNs + (SYN_SECONDS[i] as number) * SECOND;
    // The first one may have waited for ARP.
    const isOnTime = i === 0 ? syn.atNs >= dueNs : isNear(syn.atNs, dueNs, slackNs);
    if (!isOnTime) return `SYN ${i} at ${syn.atNs} instead of ${dueNs}`;
  }
  if (seen.some((s) => !s.departs && (s.flags & Flag.ack) !== 0)) return "a SYN was answered";
  const tookNs = atNs - startNs;
  return isNear(tookNs, CONNECT_SECONDS * SECOND, slackNs) ? "" : `connect gave up after ${tookNs} ns`;
}

function judgeEstablished(seen: readonly CardSegment[], atNs: Ns, slackNs: Ns): string {
  const heard = lastProgress(seen);
  const after = seen.slice(heard.index + 1).filter((s) => s.departs);
  const resends = after.filter((s) => occupies(s) > 0 && seqDiff(s.seq, heard.sent) < 0);
  const probes = after.filter((s) => occupies(s) === 0 && seqDiff(s.seq, heard.una) === -1);
  if (probes.length > resends.length) return judgeProbes(seen, probes, atNs, slackNs);
  const earlier = seen.slice(0, heard.index + 1).filter((s) => s.departs && occupies(s) > 0);
  return judgeData(resends, [...earlier, ...resends.slice(0, 1 + LOSS_PROBES)], atNs, slackNs);
}

/** Sequence numbers a segment takes. */
function occupies(s: SegmentView): number {
  return s.payloadBytes + ((s.flags & (Flag.syn | Flag.fin)) === 0 ? 0 : 1);
}

interface Progress {
  /** Of the last arrival that acknowledged something new; -1 if none did. */
  readonly index: number;
  /** What was acknowledged then, and the end of all that was ever sent. */
  readonly una: number;
  readonly sent: number;
}

function lastProgress(seen: readonly CardSegment[]): Progress {
  let una: number | null = null;
  let sent: number | null = null;
  let index = -1;
  for (const [i, s] of seen.entries()) {
    if (s.departs) {
      const end = (s.seq + occupies(s)) >>> 0;
      una ??= s.seq;
      if (sent === null || seqDiff(end, sent) > 0) sent = end;
    } else if ((s.flags & Flag.ack) !== 0 && una !== null && seqDiff(s.ack, una) > 0) {
      una = s.ack;
      index = i;
    }
  }
  return { index, una: una ?? 0, sent: sent ?? 0 };
}

/**
 * The end is due one interval after the last retransmission. What began the count (Linux retrans_stamp) may lie before
 * the last progress, if that came in the middle of a recovery: any of the earlier sendings in `starts` will do.
 */
function judgeData(resends: readonly CardSegment[], starts: readonly CardSegment[], atNs: Ns, slackNs: Ns): string {
  const times = resends.map((s) => s.atNs);
  const last = times.at(-1);
  if (last === undefined || times.length < DOUBLINGS + 2) return `only ${times.length} retransmissions`;
  const gaps = times.slice(1).map((at, i) => at - (times[i] as Ns));
  const recent = gaps.slice(-DOUBLINGS - 1);
  for (const [i, gap] of recent.slice(1).entries()) {
    const due = Math.min(2 * (recent[i] as Ns), RTO_MAX_NS);
    if (!isNear(gap, due, slackNs)) return `a retransmission after ${gap} ns instead of ${due}`;
  }
  const dueNs = last + Math.min(2 * (recent.at(-1) as Ns), RTO_MAX_NS);
  if (!isNear(atNs, dueNs, slackNs)) return `gave up at ${atNs} instead of ${dueNs}`;
  const fits = starts.some(
    ({ atNs: startNs }) => atNs - startNs >= DATA_TIMEOUT_NS - slackNs && last - startNs < DATA_TIMEOUT_NS + slackNs,
  );
  return fits ? "" : `gave up ${atNs - (times[0] as Ns)} ns after the first retransmission`;
}

function judgeProbes(seen: readonly CardSegment[], probes: readonly CardSegment[], atNs: Ns, slackNs: Ns): string {
  const heardNs = Math.max(...seen.filter((s) => !s.departs).map((s) => s.atNs));
  const unanswered = probes.filter((s) => s.atNs > heardNs).map((s) => s.atNs);
  if (unanswered.length !== PROBES) return `${unanswered.length} probes without an answer instead of ${PROBES}`;
  const [before, last] = unanswered.slice(-2) as [Ns, Ns];
  const dueNs = last + Math.min(2 * (last - before), RTO_MAX_NS);
  return isNear(atNs, dueNs, slackNs) ? "" : `gave up at ${atNs} instead of ${dueNs}`;
}

/** The last segments, for messages. */
function tail(seen: readonly CardSegment[], atNs: Ns): string {
  const lines = seen.slice(-30).map((s) => `${s.atNs} ${s.departs ? "→" : "←"} ${describeSegment(s)}`);
  return [...lines, `${atNs} gave up`].join("\n");
}
