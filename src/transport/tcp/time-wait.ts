/**
 * TIME_WAIT (RFC 9293 §3.10.7.4; Linux tcp_minisocks.c): 60 s in a mini-socket, and FIN_WAIT2 of orphans in the same
 * form.
 *
 * All deadlines lie in one sorted list with one timer: nearly every entry waits the same 60 s, so that insertion at the
 * end is the rule.
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { seqAdd, seqGt, seqLt } from "../../base/seq.ts";
import { type Ns, SECOND } from "../../base/time.ts";
import { Timer } from "../../base/timers.ts";
import { Ending } from "../../base/tracepoints.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import { isRateLimited } from "./challenge.ts";
import { PAWS_24_DAYS_NS, TIME_WAIT_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { done } from "./done.ts";
import { sendResetReply } from "./reset.ts";
import { bareSegment, sendBare } from "./segment.ts";
import type { Segment } from "./segment-info.ts";
import { type Tcb, TimeWaitSock } from "./tcb.ts";

const { Flag } = wire;

/** RFC 1122 §4.2.2.13: a reused connection starts above everything the old one sent. */
const ISN_STEP = 65535 + 2;

/** Every TIME_WAIT socket of a host, earliest deadline first. */
export class TimeWaitList {
  count = 0;
  private head: TimeWaitSock | null = null;
  private tail: TimeWaitSock | null = null;
  private readonly timer: Timer;
  private readonly tcp: TcpContext;

  constructor(tcp: TcpContext) {
    this.tcp = tcp;
    this.timer = new Timer((nowNs) => this.expire(nowNs));
  }

  /** Enters a sock that is in the tables already. */
  schedule(tw: TimeWaitSock, delayNs: Ns): void {
    tw.deadlineNs = this.tcp.nowNs + delayNs;
    let before = this.tail;
    while (before !== null && before.deadlineNs > tw.deadlineNs) before = before.prev;
    tw.prev = before;
    tw.next = before === null ? this.head : before.next;
    if (tw.prev === null) this.head = tw;
    else tw.prev.next = tw;
    if (tw.next === null) this.tail = tw;
    else tw.next.prev = tw;
    this.count++;
    if (this.head === tw) this.tcp.env.timers.arm(this.timer, tw.deadlineNs);
  }

  reschedule(tw: TimeWaitSock, delayNs: Ns): void {
    this.unlink(tw);
    this.schedule(tw, delayNs);
  }

  /** Ends one: out of the list and the tables (Linux inet_twsk_kill). */
  kill(tw: TimeWaitSock): void {
    this.unlink(tw);
    this.tcp.connections.remove(tw);
    this.tcp.ports.release(tw);
  }

  private unlink(tw: TimeWaitSock): void {
    if (tw.prev === null) this.head = tw.next;
    else tw.prev.next = tw.next;
    if (tw.next === null) this.tail = tw.prev;
    else tw.next.prev = tw.prev;
    tw.prev = tw.next = null;
    this.count--;
  }

  private expire(nowNs: Ns): void {
    while (this.head !== null && this.head.deadlineNs <= nowNs) this.kill(this.head);
    if (this.head !== null) this.tcp.env.timers.arm(this.timer, this.head.deadlineNs);
  }
}

/** A connection becomes a mini-socket, in `substate` timeWait or finWait2; the Tcb is done (Linux tcp_time_wait). */
export function enterTimeWait(tcp: TcpContext, tcb: Tcb, substate: TcpState, finWaitNs: Ns): void {
  const { sysctl } = tcp.env;
  if (tcp.timeWaits.count >= sysctl.tcpMaxTwBuckets || !tcb.hashed) {
    tcp.count(MibId.TcpExtTCPTimeWaitOverflow);
    done(tcp, tcb);
    return;
  }
  const tw = new TimeWaitSock(tcb, substate);
  tcp.connections.replace(tcb, tw);
  tcb.hashed = false;
  tcp.ports.inherit(tw);
  const delay = substate === TcpState.timeWait ? TIME_WAIT_NS : Math.max(finWaitNs, tcb.rtoNs * 3.5);
  tcp.count(delay <= 4 * SECOND ? MibId.TcpExtTWKilled : MibId.TcpExtTW);
  tcp.timeWaits.schedule(tw, delay);
  tcp.stampClosed(tcb, Ending.fin);
  done(tcp, tcb);
}

/** What the caller must do with a segment for a TIME_WAIT socket. */
export const TimeWaitVerdict = { handled: 0, newConnection: 1 } as const;
export type TimeWaitVerdict = (typeof TimeWaitVerdict)[keyof typeof TimeWaitVerdict];

/**
 * A segment for a TIME_WAIT socket (Linux tcp_timewait_state_process). *Takes* the skb unless it says `newConnection`:
 * then the SYN is acceptable, if there is a listener, with the ISN of `reusedIsn`.
 */
export function receiveInTimeWait(tcp: TcpContext, tw: TimeWaitSock, skb: SkBuff, segment: Segment): TimeWaitVerdict {
  segment.readOptions(skb);
  const paws = isOldTimestamp(tcp, tw, segment);
  if (tw.substate === TcpState.finWait2) {
    receiveInFinWait2(tcp, tw, skb, segment, paws);
    return TimeWaitVerdict.handled;
  }
  const { seq, end } = segment;
  if (!paws && seq === tw.rcvNxt && (seq === end || segment.has(Flag.rst))) {
    if (segment.has(Flag.rst) && tcp.env.sysctl.tcpRfc1337 === 0) {
      tcp.timeWaits.kill(tw);
    } else {
      tcp.timeWaits.reschedule(tw, TIME_WAIT_NS);
      rememberTimestamp(tcp, tw, segment);
    }
    tcp.env.drops.consume(skb);
    return TimeWaitVerdict.handled;
  }
  const newerTimestamp = segment.options.hasTimestamps && ((tw.tsRecent - segment.options.tsVal) | 0) < 0;
  const isNew = seqGt(seq, tw.rcvNxt) || (newerTimestamp && tw.timestampsOk);
  if ((segment.flags & (Flag.syn | Flag.rst | Flag.ack)) === Flag.syn && !paws && isNew)
    return TimeWaitVerdict.newConnection;
  if (paws) tcp.count(MibId.TcpExtPAWSEstab);
  if (!segment.has(Flag.rst)) {
    if (paws || segment.has(Flag.ack)) tcp.timeWaits.reschedule(tw, TIME_WAIT_NS);
    acknowledge(tcp, tw, skb, segment, MibId.TcpExtTCPACKSkippedTimeWait);
  }
  tcp.env.drops.drop(skb, DropReason.tcpTimeWait);
  return TimeWaitVerdict.handled;
}

/** The ISN of a connection that takes a TIME_WAIT's 4-tuple over. */
export function reusedIsn(tw: TimeWaitSock): number {
  return (tw.sndNxt + ISN_STEP) >>> 0 || 1;
}

function receiveInFinWait2(tcp: TcpContext, tw: TimeWaitSock, skb: SkBuff, segment: Segment, paws: boolean): void {
  const { seq, end } = segment;
  const reason = DropReason.tcpTimeWait;
  if (paws || !isInWindow(seq, end, tw.rcvNxt, tw.rcvNxt + tw.rcvWnd)) {
    if (!segment.has(Flag.rst)) acknowledge(tcp, tw, skb, segment, MibId.TcpExtTCPACKSkippedFinWait2);
  } else if (segment.has(Flag.rst)) {
    tcp.timeWaits.kill(tw);
  } else if (segment.has(Flag.syn) && !seqLt(seq, tw.rcvNxt)) {
    resetAndKill(tcp, tw, skb, segment);
  } else if (!segment.has(Flag.ack) || !seqGt(end, tw.rcvNxt) || seq === end) {
    // A duplicate of something old, or a bare ACK.
  } else if (!segment.has(Flag.fin) || end !== seqAdd(tw.rcvNxt, 1)) {
    // New data after close: nobody will ever read it (row 24).
    resetAndKill(tcp, tw, skb, segment);
  } else {
    tw.substate = TcpState.timeWait;
    tw.rcvNxt = end;
    rememberTimestamp(tcp, tw, segment);
    tcp.timeWaits.reschedule(tw, TIME_WAIT_NS);
    sendTimeWaitAck(tcp, tw);
    tcp.env.drops.consume(skb);
    return;
  }
  tcp.env.drops.drop(skb, reason);
}

function resetAndKill(tcp: TcpContext, tw: TimeWaitSock, skb: SkBuff, segment: Segment): void {
  sendResetReply(tcp, skb, segment);
  tcp.timeWaits.kill(tw);
}

function isOldTimestamp(tcp: TcpContext, tw: TimeWaitSock, segment: Segment): boolean {
  if (!tw.timestampsOk || !segment.options.hasTimestamps || segment.has(Flag.rst)) return false;
  if (tcp.nowNs - tw.tsRecentNs >= PAWS_24_DAYS_NS) return false;
  return ((segment.options.tsVal - tw.tsRecent) | 0) < 0;
}

function rememberTimestamp(tcp: TcpContext, tw: TimeWaitSock, segment: Segment): void {
  if (!segment.options.hasTimestamps) return;
  tw.tsRecent = segment.options.tsVal;
  tw.tsRecentNs = tcp.nowNs;
}

/** RFC 9293's acceptance test as request socks and TIME_WAIT use it (Linux tcp_in_window). */
export function isInWindow(seq: number, end: number, windowStart: number, windowEnd: number): boolean {
  if (seq === windowStart) return true;
  if (seqGt(end, windowStart) && seqLt(seq, windowEnd)) return true;
  return seq === (windowEnd | 0) && seq === end;
}

function acknowledge(tcp: TcpContext, tw: TimeWaitSock, _skb: SkBuff, segment: Segment, skipped: number): void {
  const isPureData = segment.payloadLen > 0 && !segment.has(Flag.syn);
  if (!isPureData && isRateLimited(tcp, tw, skipped)) return;
  sendTimeWaitAck(tcp, tw);
}

function sendTimeWaitAck(tcp: TcpContext, tw: TimeWaitSock): void {
  const route = tcp.ip.route(tw.remoteAddress, tw.localAddress, tw.boundIfindex);
  if (typeof route === "number") return;
  const headerLen = wire.HEADER_LEN + (tw.timestampsOk ? 12 : 0);
  const skb = bareSegment(tcp, headerLen);
  if (skb === null) return;
  const window = Math.min(0xffff, tw.rcvWnd >>> tw.rcvWindowScale);
  wire.writeHeader(
    skb.view,
    skb.transport,
    tw.localPort,
    tw.remotePort,
    tw.sndNxt,
    tw.rcvNxt,
    headerLen,
    Flag.ack,
    window,
  );
  if (tw.timestampsOk) {
    wire.writeNopNopTimestamps(skb.view, skb.transport + wire.HEADER_LEN, tcp.timestamp(tw.tsOffset), tw.tsRecent);
  }
  sendBare(tcp, skb, route, tw.localAddress.v4, tw.remoteAddress.v4);
}
