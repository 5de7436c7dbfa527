/**
 * ICMP errors about our segments (RFC 5927, RFC 1191; Linux tcp_v4_err): believed only if they quote a sequence number
 * in flight. Hard while connecting, soft afterwards; "fragmentation needed" shrinks the MSS and sends again.
 */
import { Errno } from "../../base/errno.ts";
import { MibId } from "../../base/mib.ts";
import { seqGt, seqLt } from "../../base/seq.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as icmp from "../../wire/icmp.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import type { TcpContext } from "./context.ts";
import { failConnect } from "./handshake.ts";
import { forget } from "./listener.ts";
import { retransmit } from "./output.ts";
import { routeOf, syncMss } from "./segment.ts";
import { RequestSock, Tcb } from "./tcb.ts";

/** errno of each code of "destination unreachable" (Linux icmp_err_convert). */
const UNREACHABLE_ERRNO: readonly number[] = [
  Errno.ENETUNREACH,
  Errno.EHOSTUNREACH,
  Errno.ENOPROTOOPT,
  Errno.ECONNREFUSED,
  Errno.EMSGSIZE,
  Errno.EOPNOTSUPP,
  Errno.ENETUNREACH,
  Errno.EHOSTUNREACH,
  Errno.EHOSTUNREACH,
  Errno.ENETUNREACH,
  Errno.EHOSTUNREACH,
  Errno.ENETUNREACH,
  Errno.EHOSTUNREACH,
  Errno.EHOSTUNREACH,
  Errno.EHOSTUNREACH,
  Errno.EHOSTUNREACH,
];

/** What an ICMP error means as errno; 0 = nothing. */
export function icmpErrno(type: number, code: number): number {
  if (type === icmp.Type.unreachable) return UNREACHABLE_ERRNO[code] ?? 0;
  if (type === icmp.Type.timeExceeded) return Errno.EHOSTUNREACH;
  if (type === icmp.Type.parameterProblem) return 71;
  return 0;
}

/** *Borrows* the skb. `info` is the next hop's MTU of "fragmentation needed". */
export function onIcmpError(
  tcp: TcpContext,
  skb: SkBuff,
  innerNet: number,
  innerTransport: number,
  type: number,
  code: number,
  info: number,
): void {
  const view = skb.view;
  const local = ipv4.src(view, innerNet);
  const remote = ipv4.dst(view, innerNet);
  const localPort = wire.srcPort(view, innerTransport);
  const remotePort = wire.dstPort(view, innerTransport);
  const seq = wire.seq(view, innerTransport) | 0;
  const sock = tcp.connections.find(remote | 0, local | 0, remotePort, localPort);
  if (sock === null) {
    tcp.count(MibId.IcmpInErrors);
  } else if (sock instanceof RequestSock) {
    onErrorInSynQueue(tcp, sock, seq, type, code);
  } else if (sock instanceof Tcb) {
    onErrorForTcb(tcp, sock, seq, type, code, info);
  }
}

/** A half-open connection goes only when the error says that the host cannot be reached (Linux tcp_req_err). */
function onErrorInSynQueue(tcp: TcpContext, request: RequestSock, seq: number, type: number, code: number): void {
  if (seq !== request.sntIsn) {
    tcp.count(MibId.TcpExtOutOfWindowIcmps);
    return;
  }
  const isUnreachable =
    type === icmp.Type.unreachable && (code === icmp.Unreachable.net || code === icmp.Unreachable.host);
  if (!isUnreachable && type !== icmp.Type.parameterProblem && type !== icmp.Type.timeExceeded) return;
  const { listener } = request.listener;
  forget(tcp, request);
  tcp.count(MibId.TcpExtListenDrops);
  if (listener !== null) listener.drops++;
}

function onErrorForTcb(tcp: TcpContext, tcb: Tcb, seq: number, type: number, code: number, info: number): void {
  if (tcb.state === TcpState.close) return;
  if (seqLt(seq, tcb.sndUna) || seqGt(seq, tcb.sndNxt)) {
    tcp.count(MibId.TcpExtOutOfWindowIcmps);
    return;
  }
  if (type === icmp.Type.unreachable && code === icmp.Unreachable.fragmentationNeeded) {
    onPacketTooBig(tcp, tcb, info);
    return;
  }
  const errno = icmpErrno(type, code);
  if (errno === 0) return;
  if (tcb.state === TcpState.synSent || tcb.state === TcpState.synReceived) failConnect(tcp, tcb, errno);
  else tcb.softError = errno;
}

/** RFC 1191: the path takes less; what was too big is lost and goes again in smaller pieces (tcp_v4_mtu_reduced). */
function onPacketTooBig(tcp: TcpContext, tcb: Tcb, mtu: number): void {
  if (tcb.state === TcpState.listen || mtu <= 0) return;
  const before = tcb.mssBytes;
  const route = routeOf(tcp, tcb);
  if (route === null) return;
  tcb.mssClampBytes = Math.min(tcb.mssClampBytes, Math.max(mtu - 40, tcp.env.sysctl.tcpMinSndMss));
  syncMss(tcb);
  if (tcb.mssBytes >= before) return;
  // Linux tcp_simple_retransmit: no congestion, so the window stays; only what cannot have passed goes again.
  const queue = tcb.retransmitQueue;
  for (let s = queue.head; s !== null; s = s.next) {
    if (s.hi - s.lo > tcb.mssBytes && !s.sacked) queue.markLost(s);
  }
  for (let s = queue.head; s !== null; s = s.next) {
    if (s.lost && !s.retransmitted && queue.inFlight < tcb.cwndSegments && retransmit(tcp, tcb, s) < 0) return;
  }
}
