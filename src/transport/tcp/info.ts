/**
 * What people see of a connection: TCP_INFO's numbers and the columns of `ss -tio`.
 */
import { Errno } from "../../base/errno.ts";
import { MILLISECOND } from "../../base/time.ts";
import { type SocketRow, TCP_STATE_NAMES, TcpState } from "../port.ts";
import { INFINITE_SSTHRESH_SEGMENTS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { RequestSock, type Tcb, TimeWaitSock } from "./tcb.ts";
import { timerName } from "./timers.ts";

/** The fields of Linux `struct tcp_info` we know, in its units (µs, segments, bytes). */
export interface TcpInfo {
  readonly state: number;
  readonly caState: number;
  readonly retransmits: number;
  readonly backoff: number;
  readonly sndWscale: number;
  readonly rcvWscale: number;
  readonly rtoUs: number;
  readonly atoUs: number;
  readonly sndMss: number;
  readonly rcvMss: number;
  readonly unacked: number;
  readonly sacked: number;
  readonly lost: number;
  readonly retrans: number;
  readonly lastDataSentMs: number;
  readonly lastDataRecvMs: number;
  readonly rttUs: number;
  readonly rttvarUs: number;
  readonly minRttUs: number;
  readonly sndSsthresh: number;
  readonly sndCwnd: number;
  readonly advmss: number;
  readonly rcvRttUs: number;
  readonly rcvSpace: number;
  readonly totalRetrans: number;
  readonly bytesAcked: number;
  readonly bytesReceived: number;
  readonly segsOut: number;
  readonly segsIn: number;
  readonly notsentBytes: number;
  readonly sndWnd: number;
  readonly rcvWnd: number;
  readonly delivered: number;
}

const US = 1000;

/** TCP_INFO now. */
export function tcpInfo(tcp: TcpContext, tcb: Tcb): TcpInfo {
  const queue = tcb.retransmitQueue;
  const now = tcp.nowNs;
  return {
    state: tcb.state,
    caState: tcb.caState,
    retransmits: tcb.timeouts,
    backoff: tcb.backoff,
    sndWscale: tcb.sndWindowScale,
    rcvWscale: tcb.rcvWindowScale,
    rtoUs: Math.round(tcb.rtoNs / US),
    atoUs: Math.round(tcb.atoNs / US),
    sndMss: tcb.mssBytes,
    rcvMss: tcb.rcvMssBytes,
    unacked: queue.packetsOut,
    sacked: queue.sackedOut,
    lost: queue.lostOut,
    retrans: queue.retransOut,
    lastDataSentMs: Math.floor((now - tcb.lastSentNs) / MILLISECOND),
    lastDataRecvMs: Math.floor((now - tcb.lastReceivedNs) / MILLISECOND),
    rttUs: Math.round(tcb.srttNs / US),
    rttvarUs: Math.round(tcb.mdevNs / US),
    minRttUs: Number.isFinite(tcb.minRttNs) ? Math.round(tcb.minRttNs / US) : 0,
    sndSsthresh: tcb.ssthreshSegments,
    sndCwnd: tcb.cwndSegments,
    advmss: tcb.advMssBytes - (tcb.timestampsOk ? 12 : 0),
    rcvRttUs: Math.round(tcb.rcvRttNs / US),
    rcvSpace: tcb.drsSpaceBytes,
    totalRetrans: tcb.retransmitsTotal,
    bytesAcked: tcb.bytesAcked,
    bytesReceived: tcb.bytesReceived,
    segsOut: tcb.segmentsOut,
    segsIn: tcb.segmentsIn,
    notsentBytes: Math.max(0, tcb.writtenOffset - Math.max(0, tcb.sndNxtOffset)),
    sndWnd: tcb.sndWnd,
    rcvWnd: tcb.receiveWindow(),
    delivered: tcb.deliveredSegments,
  };
}

/** A value for getsockopt that is no plain option. */
export function infoValue(_tcb: Tcb, _name: number): number {
  return -Errno.ENOPROTOOPT;
}

/** Rows of `ss -ta`: listeners, connections, half-open and TIME_WAIT; not sockets that are neither, as Linux. */
export function socketRows(tcp: TcpContext): SocketRow[] {
  const rows: SocketRow[] = [];
  for (const tcb of tcp.endpoints) if (tcb.state !== TcpState.close) rows.push(rowOf(tcp, tcb));
  tcp.connections.forEach((sock) => {
    if (sock instanceof RequestSock || sock instanceof TimeWaitSock) rows.push(miniRow(sock));
  });
  return rows;
}

function rowOf(tcp: TcpContext, tcb: Tcb): SocketRow {
  const { listener } = tcb;
  const base = {
    protocol: "tcp" as const,
    state: TCP_STATE_NAMES[tcb.state],
    localAddress: tcb.localAddress.toString(),
    localPort: tcb.localPort,
    remoteAddress: tcb.remoteAddress.toString(),
    remotePort: tcb.remotePort,
  };
  if (listener !== null) {
    return {
      ...base,
      receiveQueue: listener.acceptQueue.length,
      sendQueue: listener.backlog,
      synQueue: listener.requests.size,
    };
  }
  // As Linux counts, in sequence numbers: a SYN or FIN that nobody acknowledged or read is one (tcp_diag_get_info).
  const unread = tcb.receiveQueue.length + (tcb.finReceived && !tcb.finRead ? 1 : 0);
  const unacked = tcb.sendQueue.length + (tcb.sndUnaOffset < 0 ? 1 : 0) + (isFinUnacked(tcb) ? 1 : 0);
  return { ...base, receiveQueue: unread, sendQueue: unacked, info: details(tcp, tcb) };
}

function isFinUnacked(tcb: Tcb): boolean {
  return tcb.finQueued && tcb.sndUnaOffset <= tcb.writtenOffset;
}

function miniRow(sock: RequestSock | TimeWaitSock): SocketRow {
  const state = sock instanceof TimeWaitSock ? sock.substate : sock.state;
  return {
    protocol: "tcp",
    state: TCP_STATE_NAMES[state],
    receiveQueue: 0,
    sendQueue: 0,
    localAddress: sock.localAddress.toString(),
    localPort: sock.localPort,
    remoteAddress: sock.remoteAddress.toString(),
    remotePort: sock.remotePort,
  };
}

/** `ss -i` and `-o`: only what is set. */
function details(tcp: TcpContext, tcb: Tcb): Record<string, string | number> {
  const out: Record<string, string | number> = {
    connId: tcb.connId,
    congestion: tcb.congestion.name,
    rtoMs: tcb.rtoNs / MILLISECOND,
    mss: tcb.mssBytes,
    cwnd: tcb.cwndSegments,
    bytesAcked: tcb.bytesAcked,
    bytesReceived: tcb.bytesReceived,
    segsOut: tcb.segmentsOut,
    segsIn: tcb.segmentsIn,
    rcvSpace: tcb.drsSpaceBytes,
    rcvWnd: tcb.released ? 0 : tcb.receiveWindow(),
  };
  if (tcb.srttNs > 0) out.rttMs = tcb.srttNs / MILLISECOND;
  if (tcb.srttNs > 0) out.rttvarMs = tcb.mdevNs / MILLISECOND;
  if (tcb.ssthreshSegments < INFINITE_SSTHRESH_SEGMENTS) out.ssthresh = tcb.ssthreshSegments;
  if (tcb.retransmitQueue.packetsOut > 0) out.unacked = tcb.retransmitQueue.packetsOut;
  if (tcb.retransmitsTotal > 0) out.retransmits = tcb.retransmitsTotal;
  if (tcb.retransmitQueue.lostOut > 0) out.lost = tcb.retransmitQueue.lostOut;
  if (tcb.retransmitQueue.sackedOut > 0) out.sacked = tcb.retransmitQueue.sackedOut;
  if (tcb.reorderingSegments !== 3) out.reordering = tcb.reorderingSegments;
  if (tcb.sndWindowScale > 0 || tcb.rcvWindowScale > 0) out.wscale = `${tcb.sndWindowScale},${tcb.rcvWindowScale}`;
  const timer = timerName(tcb);
  if (timer !== "off") {
    const at = timer === "keepalive" ? tcb.keepaliveTimer?.deadlineNs : tcb.xmitTimer?.deadlineNs;
    out.timer = timer;
    out.timerMs = Math.round(((at ?? tcp.nowNs) - tcp.nowNs) / MILLISECOND);
  }
  return out;
}
