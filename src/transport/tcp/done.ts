/**
 * The end of a Tcb: out of the tables, timers off, memory back (Linux tcp_done, inet_csk_destroy_sock).
 */
import { DropReason } from "../../base/drop-reasons.ts";
import { MibId } from "../../base/mib.ts";
import { Ending } from "../../base/tracepoints.ts";
import { TcpState } from "../port.ts";
import type { TcpContext } from "./context.ts";
import { Shutdown, type Tcb, XmitTimer } from "./tcb.ts";

/**
 * The connection is over: state CLOSE. What was received stays readable. An orphan is destroyed; a socket that somebody
 * holds hears of it.
 */
export function done(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.released) return;
  if (tcb.state === TcpState.synSent || tcb.state === TcpState.synReceived) tcp.count(MibId.TcpAttemptFails);
  tcp.stampClosed(tcb, Ending.fin);
  if (tcb.state !== TcpState.close) tcp.setState(tcb, TcpState.close);
  tcb.shutdown = Shutdown.both;
  unhash(tcp, tcb);
  dropSendSide(tcp, tcb);
  if (tcb.orphan) {
    destroy(tcp, tcb);
    return;
  }
  tcb.upcalls.stateChanged();
  tcb.upcalls.readable();
}

/** Takes it out of the connection table; a port that bind() did not name is given back. */
export function unhash(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.hashed) {
    tcb.hashed = false;
    tcp.connections.remove(tcb);
  }
  if (tcb.localPort !== 0 && !tcb.portBound) tcp.ports.release(tcb);
}

/** Timers off; everything queued for sending or out of order is dropped. */
export function dropSendSide(tcp: TcpContext, tcb: Tcb): void {
  tcb.xmitTimerKind = XmitTimer.none;
  tcp.cancel(tcb.xmitTimer);
  tcp.cancel(tcb.delackTimer);
  tcp.cancel(tcb.keepaliveTimer);
  tcb.ackPending = 0;
  tcb.predFlags = 0;
  tcb.retransmitQueue.clear(tcp.sentSegments);
  tcp.dropRetransmitQueue(tcb);
  tcb.sendQueue.clear();
  tcp.dropSendQueue(tcb);
  tcb.reassembly.clear(tcp.env.drops, DropReason.tcpClose);
}

/** Nobody holds it any more: everything goes back. */
export function destroy(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.released) return;
  tcp.stampClosed(tcb, Ending.fin);
  unhash(tcp, tcb);
  if (tcb.localPort !== 0) tcp.ports.release(tcb);
  dropSendSide(tcp, tcb);
  tcb.receiveQueue.clear();
  tcp.dropReceiveQueue(tcb);
  if (tcb.orphan) tcp.orphanCount--;
  tcp.releaseTcb(tcb);
}
