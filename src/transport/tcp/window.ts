/**
 * The receive window: what to offer (Linux __tcp_select_window with silly-window avoidance), the initial window and its
 * scale, receiver slow start and dynamic right-sizing of the buffer.
 *
 * Half of the receive buffer counts as window (scaling_ratio 1/2), the other half pays for slots that are not full.
 */
import { MibId } from "../../base/mib.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import type { Ns } from "../../base/time.ts";
import { INITIAL_CWND_SEGMENTS, MAX_WINDOW_SCALE } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { RowWord, type Tcb } from "./tcb.ts";

/** Linux tcp_win_from_space: the window that `space` bytes of buffer can promise. */
export function windowFromSpace(spaceBytes: number): number {
  return spaceBytes >>> 1;
}

/**
 * The window scale to offer (Linux tcp_select_initial_window): enough for the largest buffer auto-tuning may reach, or
 * for the one the user fixed (SO_RCVBUF, TCP_WINDOW_CLAMP).
 */
export function windowScaleToOffer(sysctl: Sysctls, tcb: Tcb, windowClamp: number): number {
  if (sysctl.tcpWindowScaling === 0) return 0;
  let limit = tcb.windowClampUser > 0 ? tcb.windowClampUser : Number.POSITIVE_INFINITY;
  if (tcb.rcvbufLocked) limit = Math.min(limit, windowFromSpace(tcb.rcvbufBytes));
  const space = Math.min(Math.max(windowClamp, sysctl.tcpRmemMax, sysctl.rmemMax), limit);
  return Math.min(MAX_WINDOW_SCALE, Math.max(0, Math.floor(Math.log2(space)) - 15));
}

/** The first window: the buffer's, in whole segments of `mssBytes`; 65160 or 64240 with default buffers. */
export function initialWindow(rcvbufBytes: number, windowClampUser: number, mssBytes: number): number {
  const full = windowFromSpace(rcvbufBytes);
  const space = windowClampUser > 0 ? Math.min(full, windowClampUser) : full;
  return Math.min(mssBytes > 0 ? space - (space % mssBytes) : space, 65535);
}

/**
 * Starts window, receiver slow start and right-sizing when a connection is established (Linux tcp_init_buffer_space).
 */
export function startReceiveWindow(tcb: Tcb, nowNs: Ns): void {
  const full = windowFromSpace(tcb.rcvbufBytes);
  tcb.windowClamp = tcb.windowClampUser > 0 ? Math.min(full, tcb.windowClampUser) : full;
  tcb.rcvSsthresh = Math.min(tcb.rcvWnd, tcb.windowClamp);
  tcb.drsSpaceBytes = Math.min(tcb.rcvWnd, INITIAL_CWND_SEGMENTS * tcb.advMssBytes);
  tcb.drsOffset = tcb.readOffset;
  tcb.drsStartNs = nowNs;
}

/** Bytes of window the buffer has room for now. Negative when it is overfull. */
export function freeSpace(tcb: Tcb): number {
  const free = tcb.rcvbufBytes - tcb.receiveQueue.memoryBytes - tcb.reassembly.memoryBytes;
  return free > 0 ? windowFromSpace(free) : 0;
}

/** The window to offer if a segment were sent now, in bytes. Pure: `advertise` commits it. */
export function selectWindow(tcb: Tcb): number {
  const allowed = windowFromSpace(tcb.rcvbufBytes);
  const full = Math.min(tcb.windowClamp, allowed);
  const mss = Math.min(tcb.rcvMssBytes, full);
  if (mss <= 0) return 0;
  let free = freeSpace(tcb);
  if (free < full >>> 1) {
    // Less than half is free: offer nothing rather than a sliver (RFC 9293 §3.8.6.2.2).
    tcb.quickAcks = 0;
    free -= free % (1 << tcb.rcvWindowScale);
    if (free < allowed >>> 4 || free < mss) return 0;
  }
  free = Math.min(free, tcb.rcvSsthresh);
  if (tcb.rcvWindowScale > 0) {
    const unit = 1 << tcb.rcvWindowScale;
    return (free + unit - 1) & -unit;
  }
  const window = tcb.rcvWnd;
  if (window <= free - mss || window > free) return free - (free % mss);
  if (mss === full && free > window + (full >>> 1)) return free;
  return window;
}

/**
 * Chooses and commits the window of a segment that is being sent; returns the header field (Linux tcp_select_window).
 */
export function advertise(tcp: TcpContext, tcb: Tcb): number {
  const oldWindow = tcb.rcvWnd;
  const current = tcb.receiveWindow();
  let window = selectWindow(tcb);
  if (window < current) {
    // Never take back what was promised (RFC 9293 §3.8.6).
    if (window === 0) tcp.count(MibId.TcpExtTCPWantZeroWindowAdv);
    const unit = 1 << tcb.rcvWindowScale;
    window = (current + unit - 1) & -unit;
  }
  window = Math.min(window, 0xffff << tcb.rcvWindowScale);
  const row = tcb.words;
  row[tcb.at + RowWord.rcvWnd] = window;
  row[tcb.at + RowWord.rcvWup] = row[tcb.at + RowWord.rcvNxt];
  const field = window >>> tcb.rcvWindowScale;
  if (field === 0) {
    tcb.predFlags = 0;
    if (oldWindow !== 0) tcp.count(MibId.TcpExtTCPToZeroWindowAdv);
  } else if (oldWindow === 0) {
    tcp.count(MibId.TcpExtTCPFromZeroWindowAdv);
  }
  return field;
}

/**
 * Receiver slow start: `len` bytes of data may open the window further, by two segments or twice of what came (Linux
 * tcp_grow_window).
 */
export function growWindow(tcb: Tcb, len: number): void {
  const room = Math.min(tcb.windowClamp, freeSpace(tcb)) - tcb.rcvSsthresh;
  if (room <= 0) return;
  tcb.rcvSsthresh += Math.min(room, 2 * Math.max(tcb.advMssBytes, len));
  tcb.quickAcks |= 1;
}

/** The receive RTT by timestamps: data that answers a timestamp of ours came one RTT later. Smallest wins, slowly. */
export function onReceiveRtt(tcb: Tcb, rttNs: Ns): void {
  const sample = Math.max(rttNs, 1e6);
  tcb.rcvRttNs = tcb.rcvRttNs === 0 || sample < tcb.rcvRttNs ? sample : tcb.rcvRttNs + (sample - tcb.rcvRttNs) / 8;
}

/** The receive RTT without timestamps: a full window cannot arrive faster than one RTT (Linux tcp_rcv_rtt_measure). */
export function measureReceiveRtt(tcb: Tcb, nowNs: Ns): void {
  if (tcb.rcvRttStartNs === 0) {
    tcb.rcvRttStartNs = nowNs;
    tcb.rcvRttSeqOffset = tcb.rcvNxtOffset + tcb.rcvWnd;
    return;
  }
  if (tcb.rcvNxtOffset < tcb.rcvRttSeqOffset) return;
  onReceiveRtt(tcb, nowNs - tcb.rcvRttStartNs);
  tcb.rcvRttSeqOffset = tcb.rcvNxtOffset + tcb.rcvWnd;
  tcb.rcvRttStartNs = nowNs;
}

/**
 * Dynamic right-sizing, once per receive RTT: a reader that took more than before gets a buffer for twice that, up to
 * tcp_rmem[2] (Linux tcp_rcv_space_adjust). Not for buffers the user fixed.
 */
export function adjustReceiveBuffer(tcp: TcpContext, tcb: Tcb): void {
  const now = tcp.nowNs;
  if (tcb.rcvRttNs === 0 || now - tcb.drsStartNs < tcb.rcvRttNs) return;
  const readOffset = tcb.readOffset;
  const copied = readOffset - tcb.drsOffset;
  if (copied > tcb.drsSpaceBytes) {
    const { sysctl } = tcp.env;
    if (sysctl.tcpModerateRcvbuf !== 0 && !tcb.rcvbufLocked) {
      let window = copied * 2 + 16 * tcb.advMssBytes;
      window += 2 * Math.floor((window * (copied - tcb.drsSpaceBytes)) / Math.max(1, tcb.drsSpaceBytes));
      const buffer = Math.min(window * 2, sysctl.tcpRmemMax);
      if (buffer > tcb.rcvbufBytes) {
        tcb.rcvbufBytes = buffer;
        tcb.windowClamp = windowFromSpace(buffer);
        if (tcb.windowClampUser > 0) tcb.windowClamp = Math.min(tcb.windowClamp, tcb.windowClampUser);
      }
    }
    tcb.drsSpaceBytes = copied;
  }
  tcb.drsOffset = readOffset;
  tcb.drsStartNs = now;
}
