/**
 * Socket options: numbers of Linux (asm-generic/socket.h, linux/tcp.h) and what they do (Linux do_tcp_setsockopt,
 * sk_setsockopt). Times are in the units of the call: seconds, except TCP_USER_TIMEOUT in milliseconds.
 */
import { Errno } from "../../base/errno.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { onBytesRead } from "./ack.ts";
import {
  FIN_TIMEOUT_MAX_S,
  MAX_KEEPALIVE_INTERVAL_S,
  MAX_KEEPALIVE_PROBES,
  MAX_KEEPALIVE_TIME_S,
  MAX_SYN_COUNT,
  MSS_MIN_BYTES,
  RTO_INITIAL_NS,
} from "./constants.ts";
import type { TcpContext } from "./context.ts";
import { infoValue } from "./info.ts";
import { secondsToTimeouts, timeoutsToSeconds } from "./listener.ts";
import { pushPending } from "./output.ts";
import { sendAck } from "./segment.ts";
import { AckPending, Nagle, type Tcb } from "./tcb.ts";
import { keepaliveTimeNs, startKeepalive } from "./timers.ts";
import { windowFromSpace } from "./window.ts";

export const SOL_SOCKET = 1;
export const SOL_TCP = 6;

/** Options at level SOL_SOCKET. */
export const SocketOption = {
  reuseAddr: 2,
  type: 3,
  error: 4,
  sndBuf: 7,
  rcvBuf: 8,
  keepAlive: 9,
  linger: 13,
  reusePort: 15,
  rcvLowat: 18,
  bindToDevice: 25,
  acceptConn: 30,
  protocol: 38,
  domain: 39,
  bindToIfindex: 62,
} as const;

/** Options at level SOL_TCP. */
export const TcpOption = {
  noDelay: 1,
  maxSeg: 2,
  cork: 3,
  keepIdle: 4,
  keepIntvl: 5,
  keepCnt: 6,
  synCnt: 7,
  linger2: 8,
  deferAccept: 9,
  windowClamp: 10,
  info: 11,
  quickAck: 12,
  userTimeout: 18,
  notsentLowat: 25,
} as const;

const INT_MAX = 0x7fffffff;
/** Linux SOCK_MIN_RCVBUF and SOCK_MIN_SNDBUF. */
const MIN_RCVBUF_BYTES = 2304;
const MIN_SNDBUF_BYTES = 4608;

/** setsockopt(2); `value2` is the second value of a struct (SO_LINGER seconds). 0, -ENOPROTOOPT, -EINVAL. */
export function setOption(
  tcp: TcpContext,
  tcb: Tcb,
  level: number,
  name: number,
  value: number,
  value2: number,
): number {
  if (level === SOL_SOCKET) return setSocketOption(tcp, tcb, name, value, value2);
  if (level === SOL_TCP) return setTcpOption(tcp, tcb, name, value);
  return -Errno.ENOPROTOOPT;
}

function setSocketOption(tcp: TcpContext, tcb: Tcb, name: number, value: number, value2: number): number {
  const { sysctl } = tcp.env;
  switch (name) {
    case SocketOption.reuseAddr:
      tcb.reuseAddress = value !== 0;
      return 0;
    case SocketOption.reusePort:
      tcb.reusePort = value !== 0;
      return 0;
    case SocketOption.keepAlive:
      tcb.keepalive = value !== 0;
      startKeepalive(tcp, tcb);
      return 0;
    case SocketOption.linger:
      tcb.lingerOn = value !== 0;
      if (tcb.lingerOn) tcb.lingerSeconds = Math.max(0, value2);
      return 0;
    case SocketOption.sndBuf:
      // The value is doubled: the kernel's bookkeeping comes out of it (socket(7)).
      tcb.sndbufBytes = Math.max(2 * Math.min(value, sysctl.wmemMax), MIN_SNDBUF_BYTES);
      tcb.sndbufLocked = true;
      return 0;
    case SocketOption.rcvBuf:
      tcb.rcvbufBytes = Math.max(2 * Math.min(value, sysctl.rmemMax), MIN_RCVBUF_BYTES);
      tcb.rcvbufLocked = true;
      if (tcb.state !== TcpState.close && tcb.state !== TcpState.listen)
        tcb.windowClamp = windowFromSpace(tcb.rcvbufBytes);
      return 0;
    case SocketOption.rcvLowat:
      // No more than half of what the buffer may hold (tcp_set_rcvlowat).
      tcb.rcvLowat = Math.min(
        value < 0 ? INT_MAX : value || 1,
        (tcb.rcvbufLocked ? tcb.rcvbufBytes : sysctl.tcpRmemMax) >>> 1,
      );
      return 0;
    case SocketOption.bindToDevice:
    case SocketOption.bindToIfindex:
      if (value < 0) return -Errno.EINVAL;
      tcb.boundIfindex = value;
      tcb.route = null;
      return 0;
    default:
      return -Errno.ENOPROTOOPT;
  }
}

function setTcpOption(tcp: TcpContext, tcb: Tcb, name: number, value: number): number {
  switch (name) {
    case TcpOption.noDelay:
      tcb.nonagle = value !== 0 ? tcb.nonagle | Nagle.off : tcb.nonagle & ~Nagle.off;
      if (value !== 0) pushPending(tcp, tcb, tcb.nonagle | ((tcb.nonagle & Nagle.cork) === 0 ? Nagle.push : 0));
      return 0;
    case TcpOption.cork:
      tcb.nonagle = value !== 0 ? tcb.nonagle | Nagle.cork : tcb.nonagle & ~Nagle.cork;
      // Uncorking sends the partial segment whatever Nagle says.
      if (value === 0) pushPending(tcp, tcb, tcb.nonagle | Nagle.push);
      return 0;
    case TcpOption.quickAck:
      setQuickAck(tcp, tcb, value);
      return 0;
    case TcpOption.maxSeg:
      if (value !== 0 && (value < MSS_MIN_BYTES || value > 32767)) return -Errno.EINVAL;
      tcb.userMssBytes = value;
      return 0;
    case TcpOption.deferAccept:
      tcb.deferAcceptTimeouts = secondsToTimeouts(value, RTO_INITIAL_NS, tcp.rtoMaxNs);
      return 0;
    case TcpOption.windowClamp:
      if (value === 0 && tcb.state !== TcpState.close) return -Errno.EINVAL;
      tcb.windowClampUser = value === 0 ? 0 : Math.max(value, MIN_RCVBUF_BYTES / 2);
      if (value > 0 && tcb.windowClamp > 0) tcb.windowClamp = Math.min(tcb.windowClamp, tcb.windowClampUser);
      return 0;
    case TcpOption.notsentLowat:
      tcb.notsentLowat = value <= 0 ? 0xffffffff : value;
      return 0;
    default:
      return setTcpTime(tcp, tcb, name, value);
  }
}

/** The options that are a time or a number of tries. */
function setTcpTime(tcp: TcpContext, tcb: Tcb, name: number, value: number): number {
  const inRange = (most: number) => value >= 1 && value <= most;
  switch (name) {
    case TcpOption.keepIdle:
      if (!inRange(MAX_KEEPALIVE_TIME_S)) return -Errno.EINVAL;
      tcb.keepaliveTimeNs = value * SECOND;
      if (tcb.keepalive) startKeepalive(tcp, tcb);
      return 0;
    case TcpOption.keepIntvl:
      if (!inRange(MAX_KEEPALIVE_INTERVAL_S)) return -Errno.EINVAL;
      tcb.keepaliveIntervalNs = value * SECOND;
      return 0;
    case TcpOption.keepCnt:
      if (!inRange(MAX_KEEPALIVE_PROBES)) return -Errno.EINVAL;
      tcb.keepaliveProbes = value;
      return 0;
    case TcpOption.synCnt:
      if (!inRange(MAX_SYN_COUNT)) return -Errno.EINVAL;
      tcb.synCount = value;
      return 0;
    case TcpOption.linger2:
      if (value < 0) tcb.linger2Ns = -1;
      else if (value > FIN_TIMEOUT_MAX_S) tcb.linger2Ns = FIN_TIMEOUT_MAX_S * SECOND;
      else tcb.linger2Ns = value * SECOND;
      return 0;
    case TcpOption.userTimeout:
      if (value < 0) return -Errno.EINVAL;
      tcb.userTimeoutNs = value * MILLISECOND;
      return 0;
    default:
      return -Errno.ENOPROTOOPT;
  }
}

/** TCP_QUICKACK is not sticky: it leaves or enters interactive mode now, and what follows may change that again. */
function setQuickAck(tcp: TcpContext, tcb: Tcb, value: number): void {
  if (value === 0) {
    tcb.pingpong = true;
    return;
  }
  tcb.pingpong = false;
  if (tcb.state !== TcpState.established && tcb.state !== TcpState.closeWait) return;
  if ((tcb.ackPending & AckPending.scheduled) === 0) return;
  tcb.ackPending |= AckPending.pushed;
  onBytesRead(tcp, tcb, 1);
  if ((tcb.ackPending & AckPending.scheduled) !== 0) sendAck(tcp, tcb);
  if ((value & 1) === 0) tcb.pingpong = true;
}

/** getsockopt(2): the value, or -ENOPROTOOPT. */
export function getOption(tcp: TcpContext, tcb: Tcb, level: number, name: number): number {
  if (level === SOL_SOCKET) return getSocketOption(tcb, name);
  if (level !== SOL_TCP) return -Errno.ENOPROTOOPT;
  switch (name) {
    case TcpOption.noDelay:
      return (tcb.nonagle & Nagle.off) !== 0 ? 1 : 0;
    case TcpOption.cork:
      return (tcb.nonagle & Nagle.cork) !== 0 ? 1 : 0;
    case TcpOption.quickAck:
      return tcb.pingpong ? 0 : 1;
    case TcpOption.maxSeg:
      return tcb.userMssBytes > 0 && (tcb.state === TcpState.close || tcb.state === TcpState.listen)
        ? tcb.userMssBytes
        : tcb.mssBytes;
    case TcpOption.keepIdle:
      return Math.round(keepaliveTimeNs(tcp, tcb) / SECOND);
    case TcpOption.keepIntvl:
      return tcb.keepaliveIntervalNs > 0 ? tcb.keepaliveIntervalNs / SECOND : tcp.env.sysctl.tcpKeepaliveIntvl;
    case TcpOption.keepCnt:
      return tcb.keepaliveProbes || tcp.env.sysctl.tcpKeepaliveProbes;
    case TcpOption.synCnt:
      return tcb.synCount || tcp.env.sysctl.tcpSynRetries;
    case TcpOption.linger2:
      return tcb.linger2Ns < 0 ? -1 : tcb.linger2Ns > 0 ? tcb.linger2Ns / SECOND : tcp.env.sysctl.tcpFinTimeout;
    case TcpOption.deferAccept:
      return timeoutsToSeconds(tcb.deferAcceptTimeouts, RTO_INITIAL_NS, tcp.rtoMaxNs);
    case TcpOption.windowClamp:
      return tcb.windowClamp > 0 ? tcb.windowClamp : tcb.windowClampUser;
    case TcpOption.userTimeout:
      return tcb.userTimeoutNs / MILLISECOND;
    case TcpOption.notsentLowat:
      return tcb.notsentLowat === 0xffffffff ? 0 : tcb.notsentLowat;
    default:
      return infoValue(tcb, name);
  }
}

function getSocketOption(tcb: Tcb, name: number): number {
  switch (name) {
    case SocketOption.reuseAddr:
      return tcb.reuseAddress ? 1 : 0;
    case SocketOption.reusePort:
      return tcb.reusePort ? 1 : 0;
    case SocketOption.type:
      return 1;
    case SocketOption.error: {
      const error = tcb.takeError();
      if (error !== 0) return error;
      const soft = tcb.softError;
      tcb.softError = 0;
      return soft;
    }
    case SocketOption.sndBuf:
      return tcb.sndbufBytes;
    case SocketOption.rcvBuf:
      return tcb.rcvbufBytes;
    case SocketOption.keepAlive:
      return tcb.keepalive ? 1 : 0;
    case SocketOption.linger:
      return tcb.lingerOn ? tcb.lingerSeconds : -1;
    case SocketOption.rcvLowat:
      return tcb.rcvLowat;
    case SocketOption.acceptConn:
      return tcb.state === TcpState.listen ? 1 : 0;
    case SocketOption.protocol:
      return SOL_TCP;
    case SocketOption.domain:
      return 2;
    case SocketOption.bindToIfindex:
    case SocketOption.bindToDevice:
      return tcb.boundIfindex;
    default:
      return -Errno.ENOPROTOOPT;
  }
}
