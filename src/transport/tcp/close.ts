/**
 * How connections end: close, shutdown, abort, reset received, time-out (Linux __tcp_close, tcp_done, tcp_reset).
 */
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { type Ns, SECOND } from "../../base/time.ts";
import { Ending } from "../../base/tracepoints.ts";
import { NO_UPCALLS, TcpState } from "../port.ts";
import { TIME_WAIT_NS } from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { destroy, done } from "./done.ts";
import { stopListening } from "./listener.ts";
import { pushPending } from "./output.ts";
import { sendActiveReset } from "./segment.ts";
import { Nagle, Shutdown, type Tcb } from "./tcb.ts";
import { enterTimeWait } from "./time-wait.ts";

/** States in which an abort owes the peer a RST (Linux tcp_need_reset). */
function needsReset(state: TcpState): boolean {
  return (
    state === TcpState.established ||
    state === TcpState.closeWait ||
    state === TcpState.finWait1 ||
    state === TcpState.finWait2 ||
    state === TcpState.synReceived
  );
}

/** The state after the process has said all it had to say, and whether a FIN says so (Linux tcp_close_state). */
function startFin(tcp: TcpContext, tcb: Tcb): boolean {
  switch (tcb.state) {
    case TcpState.synReceived:
    case TcpState.established:
      tcp.setState(tcb, TcpState.finWait1);
      return true;
    case TcpState.closeWait:
      tcp.setState(tcb, TcpState.lastAck);
      return true;
    case TcpState.synSent:
    case TcpState.listen:
      tcp.setState(tcb, TcpState.close);
      return false;
    default:
      return false;
  }
}

function sendFin(tcp: TcpContext, tcb: Tcb): void {
  tcb.finQueued = true;
  tcb.pushOffset = tcb.writtenOffset;
  pushPending(tcp, tcb, Nagle.off);
}

/** shutdown(2): 0 receive, 1 send, 2 both. 0, or -ENOTCONN. */
export function shutdown(tcp: TcpContext, tcb: Tcb, how: number): number {
  if (how < 0 || how > 2) return -Errno.EINVAL;
  if (tcb.state === TcpState.close) return -Errno.ENOTCONN;
  if (tcb.state === TcpState.listen) {
    if (how === 1) return 0;
    stopListening(tcp, tcb);
    tcp.setState(tcb, TcpState.close);
    tcb.upcalls.stateChanged();
    return 0;
  }
  if (tcb.state === TcpState.synSent) {
    abort(tcp, tcb, Errno.ECONNRESET);
    return 0;
  }
  tcb.shutdown |= how + 1;
  if ((tcb.shutdown & Shutdown.send) !== 0 && how !== 0) {
    if (startFin(tcp, tcb)) sendFin(tcp, tcb);
  }
  tcb.upcalls.stateChanged();
  return 0;
}

/** close(2): the process is done with it; what must still happen on the wire happens to an orphan. */
export function close(tcp: TcpContext, tcb: Tcb): void {
  const unread = tcb.receiveQueue.length > 0;
  const wasConnecting = tcb.state === TcpState.synSent;
  tcb.shutdown = Shutdown.both;
  tcb.upcalls = NO_UPCALLS;
  if (tcb.state === TcpState.listen) {
    stopListening(tcp, tcb);
    tcp.setState(tcb, TcpState.close);
  } else if (tcb.state !== TcpState.close) {
    tcb.receiveQueue.clear();
    tcp.dropReceiveQueue(tcb);
    if (unread) {
      // RFC 2525 §2.17: bytes the process never read are lost, and the peer must hear of it.
      tcp.count(MibId.TcpExtTCPAbortOnClose);
      sendActiveReset(tcp, tcb);
      tcp.stampClosed(tcb, Ending.resetSent);
      tcp.setState(tcb, TcpState.close);
    } else if (tcb.lingerOn && tcb.lingerSeconds === 0) {
      tcp.count(MibId.TcpExtTCPAbortOnData);
      disconnect(tcp, tcb);
    } else if (startFin(tcp, tcb)) {
      sendFin(tcp, tcb);
    } else if (wasConnecting) {
      tcp.stampClosed(tcb, Ending.aborted);
    }
  }
  becomeOrphan(tcp, tcb);
}

/** What close leaves behind: nothing, a FIN_WAIT2 mini-socket, or an orphan that finishes on its own. */
function becomeOrphan(tcp: TcpContext, tcb: Tcb): void {
  if (!tcb.orphan) {
    tcb.orphan = true;
    tcp.orphanCount++;
  }
  if (tcb.state === TcpState.finWait2) {
    orphanInFinWait2(tcp, tcb);
    return;
  }
  if (tcb.state !== TcpState.close && tcp.orphanCount > tcp.env.sysctl.tcpMaxOrphans) {
    tcp.count(MibId.TcpExtTCPAbortOnMemory);
    sendActiveReset(tcp, tcb);
    tcp.stampClosed(tcb, Ending.resetSent);
    tcp.setState(tcb, TcpState.close);
  }
  if (tcb.state === TcpState.close) destroy(tcp, tcb);
}

/** An orphan in FIN_WAIT2 waits tcp_fin_timeout, as a mini-socket for the last 60 s of it (row 24). */
export function orphanInFinWait2(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.linger2Ns < 0) {
    tcp.count(MibId.TcpExtTCPAbortOnLinger);
    sendActiveReset(tcp, tcb);
    tcp.stampClosed(tcb, Ending.resetSent);
    done(tcp, tcb);
    return;
  }
  const wait = finTimeoutNs(tcp, tcb);
  if (wait > TIME_WAIT_NS) tcp.armKeepalive(tcb, tcp.nowNs + wait - TIME_WAIT_NS);
  else enterTimeWait(tcp, tcb, TcpState.finWait2, wait);
}

/** How long FIN_WAIT2 may last: TCP_LINGER2 or tcp_fin_timeout, and 3.5 RTO at least (Linux tcp_fin_time). */
export function finTimeoutNs(tcp: TcpContext, tcb: Tcb): Ns {
  const wanted = tcb.linger2Ns > 0 ? tcb.linger2Ns : tcp.env.sysctl.tcpFinTimeout * SECOND;
  return Math.max(wanted, tcb.rtoNs * 3.5);
}

/** Aborts: RST if the peer would wait otherwise. The socket stays, in CLOSE, with `error` to report (0 = none). */
export function abort(tcp: TcpContext, tcb: Tcb, error: number): void {
  if (tcb.state === TcpState.close) return;
  if (tcb.state === TcpState.listen) {
    stopListening(tcp, tcb);
    tcp.setState(tcb, TcpState.close);
    return;
  }
  const { state } = tcb;
  disconnect(tcp, tcb);
  tcb.error = error;
  if (state === TcpState.synSent || state === TcpState.synReceived) tcp.count(MibId.TcpAttemptFails);
  done(tcp, tcb);
}

/** Linux tcp_disconnect as far as the wire is concerned. */
function disconnect(tcp: TcpContext, tcb: Tcb): void {
  const unsentAtEnd = tcb.hasUnsent && (tcb.state === TcpState.closing || tcb.state === TcpState.lastAck);
  if (needsReset(tcb.state) || unsentAtEnd) {
    sendActiveReset(tcp, tcb);
    tcp.stampClosed(tcb, Ending.resetSent);
  } else {
    tcp.stampClosed(tcb, Ending.aborted);
  }
  tcp.setState(tcb, TcpState.close);
}

/** A valid RST came (Linux tcp_reset). */
export function onReset(tcp: TcpContext, tcb: Tcb): void {
  let ending: Ending = Ending.resetReceived;
  switch (tcb.state) {
    case TcpState.synSent:
      tcb.error = Errno.ECONNREFUSED;
      ending = Ending.refused;
      break;
    case TcpState.closeWait:
      tcb.error = Errno.EPIPE;
      break;
    case TcpState.close:
      return;
    default:
      tcb.error = Errno.ECONNRESET;
  }
  tcp.stampClosed(tcb, ending);
  done(tcp, tcb);
}

/** Retries are used up (Linux tcp_write_err): the soft error explains, else it timed out. */
export function onGiveUp(tcp: TcpContext, tcb: Tcb): void {
  tcb.error = tcb.softError !== 0 ? tcb.softError : Errno.ETIMEDOUT;
  tcp.count(MibId.TcpExtTCPAbortOnTimeout);
  tcp.stampClosed(tcb, Ending.timeout);
  done(tcp, tcb);
}
