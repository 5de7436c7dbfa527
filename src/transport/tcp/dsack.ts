/**
 * Telling the peer that bytes came twice (RFC 2883; Linux tcp_dsack_set): the next ACK names them in its first SACK
 * block.
 */
import { MibId } from "../../base/mib.ts";
import { seqLt } from "../../base/seq.ts";
import type { TcpContext } from "./context.ts";
import type { Tcb } from "./tcb.ts";

/** Sequence numbers [seq, end) were here before: below RCV.NXT, or in the out-of-order queue. */
export function noteDuplicate(tcp: TcpContext, tcb: Tcb, seq: number, end: number): void {
  if (!tcb.sackOk || tcp.env.sysctl.tcpDsack === 0) return;
  tcp.count(seqLt(seq, tcb.rcvNxt) ? MibId.TcpExtTCPDSACKOldSent : MibId.TcpExtTCPDSACKOfoSent);
  tcb.dsackSeq = seq;
  tcb.dsackEnd = end;
}
