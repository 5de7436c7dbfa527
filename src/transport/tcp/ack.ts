/**
 * When to acknowledge (RFC 9293 §3.8.6.3, RFC 1122 §4.2.3.2): delayed, unless there is a reason to hurry.
 *
 * Linux's adaptive delay: `ato` follows the gaps between arriving segments (40–200 ms); a new or restarted peer is in
 * slow start and gets up to 16 quick ACKs; a conversation that answers what it reads ("ping-pong") lets its ACKs ride
 * on data.
 */

import { MibId } from "../../base/mib.ts";
import type { Ns } from "../../base/time.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as wire from "../../wire/tcp.ts";
import {
  ATO_MAX_NS,
  ATO_MIN_NS,
  DELACK_MAX_NS,
  DELACK_MIN_NS,
  MAX_QUICKACKS,
  MSS_DEFAULT_BYTES,
  MSS_MIN_BYTES,
} from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { sendAck } from "./segment.ts";
import { AckPending, Shutdown, type Tcb } from "./tcb.ts";
import { growWindow, measureReceiveRtt, selectWindow } from "./window.ts";

/**
 * The first guess of the peer's segment size: careful, so that early small segments are acknowledged
 * (tcp_initialize_rcv_mss).
 */
export function startReceiveMss(tcb: Tcb): void {
  const hint = Math.min(tcb.advMssBytes, tcb.mssBytes, tcb.rcvWnd >>> 1, MSS_DEFAULT_BYTES);
  tcb.rcvMssBytes = Math.max(hint, MSS_MIN_BYTES);
}

/**
 * Data arrived in order or not: an ACK is due, and the estimates move (Linux tcp_event_data_recv). *Borrows* the skb.
 */
export function onDataReceived(tcp: TcpContext, tcb: Tcb, skb: SkBuff, headerLen: number, flags: number): void {
  const now = tcp.nowNs;
  tcb.ackPending |= AckPending.scheduled;
  const len = skb.len;
  // A super-segment is many of the peer's segments.
  measureReceiveMss(tcb, skb.gsoSize > 0 ? Math.min(skb.gsoSize, len) : len, headerLen, flags);
  if (!tcb.timestampsOk) measureReceiveRtt(tcb, now);
  if (tcb.atoNs === 0) {
    increaseQuickAcks(tcb, MAX_QUICKACKS);
    tcb.atoNs = ATO_MIN_NS;
  } else {
    adaptAto(tcb, now - tcb.lastReceivedNs);
  }
  tcb.lastReceivedNs = now;
  if (len >= 128) growWindow(tcb, len);
}

function adaptAto(tcb: Tcb, gapNs: Ns): void {
  if (gapNs <= ATO_MIN_NS / 2) {
    tcb.atoNs = tcb.atoNs / 2 + ATO_MIN_NS / 2;
  } else if (gapNs < tcb.atoNs) {
    tcb.atoNs = Math.min(tcb.atoNs / 2 + gapNs, tcb.rtoNs);
  } else if (gapNs > tcb.rtoNs) {
    // A gap longer than the RTO: the sender restarted in slow start and needs ACKs.
    increaseQuickAcks(tcb, MAX_QUICKACKS);
  }
}

/** Up to `most` segments are acknowledged at once: as many as open half the window (Linux tcp_incr_quickack). */
export function increaseQuickAcks(tcb: Tcb, most: number): void {
  const quick = Math.floor(tcb.rcvWnd / (2 * tcb.rcvMssBytes)) || 2;
  tcb.quickAcks = Math.max(tcb.quickAcks, Math.min(quick, most));
}

/** Something odd arrived (old data, a hole): be quick for a while (Linux tcp_enter_quickack_mode). */
export function enterQuickAck(tcb: Tcb, most: number): void {
  increaseQuickAcks(tcb, most);
  tcb.pingpong = false;
  tcb.atoNs = ATO_MIN_NS;
}

/** Estimates the peer's segment size, and notes which segments end a write (Linux tcp_measure_rcv_mss). */
function measureReceiveMss(tcb: Tcb, len: number, headerLen: number, flags: number): void {
  const last = tcb.lastSegmentBytes;
  tcb.lastSegmentBytes = 0;
  if (len >= tcb.rcvMssBytes) {
    tcb.rcvMssBytes = Math.min(len, tcb.advMssBytes);
    if ((flags & wire.Flag.psh) !== 0) tcb.ackPending |= AckPending.pushed;
    return;
  }
  const whole = len + headerLen;
  const pushed = (flags & wire.Flag.psh) !== 0;
  if (whole >= MSS_DEFAULT_BYTES + wire.HEADER_LEN || (whole >= MSS_MIN_BYTES + wire.HEADER_LEN && !pushed)) {
    // Two segments of the same smaller size without a push: that is the peer's size.
    tcb.lastSegmentBytes = len;
    if (len === last) {
      tcb.rcvMssBytes = len;
      return;
    }
  }
  if ((tcb.ackPending & AckPending.pushed) !== 0) tcb.ackPending |= AckPending.pushed2;
  tcb.ackPending |= AckPending.pushed;
}

function inQuickAckMode(tcb: Tcb): boolean {
  return tcb.quickAcks > 0 && !tcb.pingpong;
}

/** After a segment was processed: acknowledge now, later, or not at all (Linux tcp_ack_snd_check). */
export function checkAckDue(tcp: TcpContext, tcb: Tcb): void {
  if ((tcb.ackPending & AckPending.scheduled) === 0) return;
  const unacked = tcb.unackedBytes;
  const everySecond =
    unacked > tcb.rcvMssBytes && (tcb.rcvNxtOffset - tcb.readOffset < tcb.rcvLowat || selectWindow(tcb) >= tcb.rcvWnd);
  if (everySecond || inQuickAckMode(tcb) || (tcb.ackPending & AckPending.now) !== 0 || tcb.reassembly.length > 0) {
    sendAck(tcp, tcb);
  } else {
    sendDelayedAck(tcp, tcb);
  }
}

/** Arms the delayed-ACK timer (Linux tcp_send_delayed_ack). */
export function sendDelayedAck(tcp: TcpContext, tcb: Tcb): void {
  const now = tcp.nowNs;
  let delay = tcb.atoNs;
  if (delay > DELACK_MIN_NS) {
    let most = tcb.pingpong || (tcb.ackPending & AckPending.pushed) !== 0 ? DELACK_MAX_NS : ATO_MAX_NS;
    // Never longer than a round trip: a sender with one segment of window would stall.
    if (tcb.srttNs > 0) most = Math.min(most, Math.max(tcb.srttNs, DELACK_MIN_NS));
    delay = Math.min(delay, most);
  }
  delay = Math.min(delay, DELACK_MAX_NS);
  let at = now + delay;
  if ((tcb.ackPending & AckPending.timer) !== 0 && tcb.delackTimer !== null && tcb.delackTimer.armed) {
    const deadline = tcb.delackTimer.deadlineNs;
    if (deadline <= now + delay / 4) {
      sendAck(tcp, tcb);
      return;
    }
    at = Math.min(at, deadline);
  }
  tcb.ackPending |= AckPending.scheduled | AckPending.timer;
  tcp.armDelack(tcb, at);
}

/** The delayed-ACK timer fired (Linux tcp_delack_timer_handler). */
export function onDelackTimeout(tcp: TcpContext, tcb: Tcb): void {
  if ((tcb.ackPending & AckPending.timer) === 0) return;
  tcb.ackPending &= ~AckPending.timer;
  if ((tcb.ackPending & AckPending.scheduled) === 0) return;
  if (tcb.pingpong) {
    // The reply did not come in time: delay less while this lasts.
    tcb.pingpong = false;
    tcb.atoNs = ATO_MIN_NS;
  } else {
    tcb.atoNs = Math.min(tcb.atoNs * 2, tcb.rtoNs);
  }
  sendAck(tcp, tcb);
  tcp.count(MibId.TcpExtDelayedACKs);
}

/** The process took bytes: is it time to tell the peer about the room? (Linux tcp_cleanup_rbuf). */
export function onBytesRead(tcp: TcpContext, tcb: Tcb, copied: number): void {
  let due = false;
  const pending = tcb.ackPending;
  if ((pending & AckPending.scheduled) !== 0) {
    const unacked = tcb.unackedBytes;
    const wasPushed = (pending & AckPending.pushed2) !== 0 || ((pending & AckPending.pushed) !== 0 && !tcb.pingpong);
    due = unacked > tcb.rcvMssBytes || (copied > 0 && wasPushed && tcb.receiveQueue.length === 0);
  }
  if (!due && copied > 0 && (tcb.shutdown & Shutdown.receive) === 0) {
    const window = tcb.receiveWindow();
    if (2 * window <= tcb.windowClamp) {
      const next = selectWindow(tcb);
      due = next > 0 && next >= 2 * window;
    }
  }
  if (due) sendAck(tcp, tcb);
}
