/**
 * Tail loss probe (RFC 8985 §7; Linux tcp_send_loss_probe): when a flight's last segments are lost, nothing comes back
 * that would say so. Two round trips after the last send one more segment goes, new or the last one again; what it
 * brings back tells RACK of the loss, long before the timeout would.
 */
import { MibId } from "../../base/mib.ts";
import type { AckOutcome } from "./ack-outcome.ts";
import type { TcpContext } from "./context.ts";
import { stampLost } from "./mark-lost.ts";
import { rearmRto, resend, sendBeyondWindow } from "./output.ts";
import { endReduction, keepOpen, startReduction } from "./recovery.ts";
import { CaState, type Tcb, XmitTimer } from "./tcb.ts";

/** The probe's timer fired: one probe per episode, then the retransmission timer takes over. */
export function sendLossProbe(tcp: TcpContext, tcb: Tcb): void {
  if (tcb.probeHighOffset < 0 && probe(tcp, tcb)) {
    tcb.probeHighOffset = tcb.sndNxtOffset;
    tcp.count(MibId.TcpExtTCPLossProbes);
    tcb.xmitTimerKind = XmitTimer.none;
  }
  rearmRto(tcp, tcb);
}

/** New data whatever the congestion window says, or the last segment once more; false if neither could leave. */
function probe(tcp: TcpContext, tcb: Tcb): boolean {
  tcb.probeRetransmitted = false;
  if (tcb.hasUnsent && sendBeyondWindow(tcp, tcb)) return true;
  const last = tcb.retransmitQueue.tail;
  if (last === null || resend(tcp, tcb, last) < 0) return false;
  tcb.probeRetransmitted = true;
  // It is not marked lost, but it is sent again because it may be.
  stampLost(tcp, tcb, last);
  return true;
}

/**
 * An ACK while a probe is out (RFC 8985 §7.4.2; Linux tcp_process_tlp_ack): the probe may have repaired a loss, which
 * must not go unpunished; or both copies have arrived.
 */
export function onAckOfProbe(tcp: TcpContext, tcb: Tcb, ack: AckOutcome): void {
  if (tcb.sndUnaOffset < tcb.probeHighOffset) return;
  if (!tcb.probeRetransmitted || ack.dsackOfProbe) {
    tcb.probeHighOffset = -1;
  } else if (tcb.sndUnaOffset > tcb.probeHighOffset) {
    startReduction(tcb);
    tcb.caState = CaState.cwr;
    endReduction(tcp, tcb);
    keepOpen(tcb);
    tcp.count(MibId.TcpExtTCPLossProbeRecovery);
  } else if (!ack.advanced && !ack.notDuplicate && !ack.sacked) {
    tcb.probeHighOffset = -1;
  }
}
