/**
 * From half-open to open: the Tcb of a passive connection (Linux tcp_v4_syn_recv_sock, tcp_create_openreq_child), and
 * what both sides do on entering ESTABLISHED.
 */
import { MibId } from "../../base/mib.ts";
import { TcpState } from "../port.ts";
import { startReceiveMss } from "./ack.ts";
import { expandSendBuffer } from "./ack-input.ts";
import { advertisedMss } from "./advertised-mss.ts";
import type { TcpContext } from "./context.ts";
import { setPredictionFlags } from "./prediction.ts";
import { startRtt } from "./rto.ts";
import { syncMss } from "./segment.ts";
import type { RequestSock, Tcb } from "./tcb.ts";
import { startReceiveWindow } from "./window.ts";

/** Makes the Tcb of a request whose final ACK came, in ESTABLISHED; null when the connection table is full. */
export function openChild(tcp: TcpContext, request: RequestSock, isHashed: boolean): Tcb | null {
  const parent = request.listener;
  const tcb = tcp.createTcb(request.connId);
  inheritOptions(tcb, parent);
  tcb.localAddress = request.localAddress;
  tcb.localPort = request.localPort;
  tcb.remoteAddress = request.remoteAddress;
  tcb.remotePort = request.remotePort;
  tcb.route = request.route;
  tcb.acceptedBy = parent;
  if (isHashed) {
    tcp.connections.replace(request, tcb);
  } else if (!tcp.connections.add(tcb)) {
    tcp.releaseTcb(tcb);
    return null;
  }
  tcb.hashed = true;
  tcp.ports.inherit(tcb);

  tcb.startSend(request.sntIsn);
  tcb.startReceive(request.rcvIsn);
  tcb.setSndNxt(0);
  tcb.setSndUna(0);
  tcb.timestampsOk = request.timestampsOk;
  tcb.tsOffset = request.tsOffset;
  tcb.sackOk = request.sackOk;
  tcb.sndWindowScale = Math.max(0, request.sndWindowScale);
  tcb.rcvWindowScale = request.rcvWindowScale;
  tcb.sndWl1 = request.rcvIsn;
  tcb.sndWnd = request.sndWnd;
  tcb.maxWindow = request.sndWnd;
  tcb.rcvWnd = request.rcvWnd;
  tcb.advMssBytes = advertisedMss(parent, request.route);
  tcb.mssClampBytes = request.mssBytes;
  if (tcb.timestampsOk) {
    tcb.tsRecent = request.tsRecent;
    tcb.tsRecentNs = tcp.nowNs;
  }
  tcb.synReceivedNs = request.synReceivedNs;
  tcb.state = TcpState.synReceived;
  tcp.count(MibId.TcpPassiveOpens);
  const rtt = request.retransmits === 0 && request.synAckSentNs > 0 ? tcp.nowNs - request.synAckSentNs : -1;
  becomeEstablished(tcp, tcb, rtt, request.retransmits > 0);
  return tcb;
}

/** What both sides do when the handshake is done: estimates, buffers, windows (Linux tcp_init_transfer). */
export function becomeEstablished(tcp: TcpContext, tcb: Tcb, rttNs: number, retransmitted: boolean): void {
  tcp.setState(tcb, TcpState.established);
  tcb.establishedNs = tcp.nowNs;
  syncMss(tcb);
  startRtt(tcp, tcb, rttNs, retransmitted);
  // RFC 6298 §5.7 and RFC 5681 §3.1: a lost SYN says the path is loaded; start with one segment.
  if (retransmitted && tcb.retransmitsTotal > 1) tcb.cwndSegments = 1;
  startReceiveWindow(tcb, tcp.nowNs);
  startReceiveMss(tcb);
  expandSendBuffer(tcp, tcb);
  tcb.cwndStampNs = tcp.nowNs;
  tcb.lastAckNs = tcp.nowNs;
  tcb.lastReceivedNs = tcp.nowNs;
  tcb.retransStampNs = 0;
  tcb.timeouts = 0;
  tcb.predFlags = 0;
  setPredictionFlags(tcb);
  if (tcb.keepalive) tcp.hooks.startKeepalive(tcb);
}

/** Options an accepted connection takes over from its listener. */
function inheritOptions(tcb: Tcb, parent: Tcb): void {
  tcb.inherit(parent);
  tcb.rcvbufBytes = parent.rcvbufBytes;
  tcb.sndbufBytes = parent.sndbufBytes;
  tcb.nonagle = parent.nonagle;
  if (parent.congestionChosen) {
    tcb.congestion = parent.congestion;
    tcb.congestionChosen = true;
  }
  tcb.outputOptions = parent.outputOptions;
}
