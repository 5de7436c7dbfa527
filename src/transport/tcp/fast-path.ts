/**
 * Header prediction (Van Jacobson 1988; Linux tcp_rcv_established): the two segments a busy connection nearly always
 * gets — the next data in order, or a pure ACK of new data — recognised by one comparison of a header word. @hot
 */
import { MibId } from "../../base/mib.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as wire from "../../wire/tcp.ts";
import { checkAckDue, onDataReceived } from "./ack.ts";
import { checkSendSpace, processAck } from "./ack-input.ts";
import type { TcpContext } from "./context.ts";
import { appendTrimmed, measureRttByTimestamp, stampDelivered, stampSegment } from "./data-input.ts";
import { pushPending } from "./output.ts";
import { hasPage } from "./pages.ts";
import { PREDICTION_MASK } from "./prediction.ts";
import type { Segment } from "./segment-info.ts";
import { RowWord, type Tcb } from "./tcb.ts";

/**
 * Tries the predicted case. True if the segment was taken (*takes* the skb); false if it must go the slow way, nothing
 * changed. `skb.data` is the payload.
 */
export function tryFastPath(tcp: TcpContext, tcb: Tcb, skb: SkBuff, segment: Segment): boolean {
  const row = tcb.words;
  const rowAt = tcb.at;
  const predicted = row[rowAt + RowWord.predFlags];
  if (predicted === 0) return false;
  const view = skb.view;
  const at = skb.transport;
  if ((view.getInt32(at + 12) & PREDICTION_MASK) !== predicted) return false;
  const rcvNxt = row[rowAt + RowWord.rcvNxt];
  if ((segment.seq | 0) !== rcvNxt) return false;
  if (((segment.ack - row[rowAt + RowWord.sndNxt]) | 0) > 0) return false;
  if (tcb.timestampsOk && !readTimestamps(tcb, view, at, segment)) return false;

  const len = segment.payloadLen;
  if (len === 0) {
    // A pure ACK of old data is a duplicate: the slow path counts it.
    if (((segment.ack - row[rowAt + RowWord.sndUna]) | 0) <= 0) return false;
    rememberTimestamp(tcp, tcb, segment);
    processAck(tcp, tcb, segment, false);
    tcp.env.drops.consume(skb);
    pushPending(tcp, tcb);
    checkSendSpace(tcp, tcb);
    return true;
  }
  if (len > tcb.receiveWindow()) return false;
  if (tcb.receiveQueue.memoryBytes + len > tcb.rcvbufBytes) return false;
  if (!hasPage(skb.arena, tcb.receiveQueue.length)) return false;
  rememberTimestamp(tcp, tcb, segment);
  tcp.count(MibId.TcpExtTCPHPHits);
  stampSegment(tcp, tcb, skb, segment);
  measureRttByTimestamp(tcp, tcb, segment);
  onDataReceived(tcp, tcb, skb, segment.headerLen, segment.flags);
  skb.seq = segment.seq;
  skb.seqEnd = segment.end;
  const acksNews = ((segment.ack - row[rowAt + RowWord.sndUna]) | 0) > 0;
  appendTrimmed(tcp, tcb, skb);
  stampDelivered(tcp, tcb);
  if (acksNews) {
    processAck(tcp, tcb, segment, false);
    pushPending(tcp, tcb);
    checkSendSpace(tcp, tcb);
  } else {
    tcb.sndWl1 = segment.seq;
  }
  checkAckDue(tcp, tcb);
  tcb.upcalls.readable();
  return true;
}

/** Reads the timestamps if they stand where they always do and are not old. */
function readTimestamps(tcb: Tcb, view: DataView, at: number, segment: Segment): boolean {
  if (segment.headerLen !== wire.HEADER_LEN + 12) return false;
  if (view.getInt32(at + wire.HEADER_LEN) !== wire.NOP_NOP_TIMESTAMPS) return false;
  const { options } = segment;
  options.hasTimestamps = true;
  options.tsVal = view.getUint32(at + wire.HEADER_LEN + 4);
  options.tsEcr = view.getUint32(at + wire.HEADER_LEN + 8);
  return ((options.tsVal - tcb.words[tcb.at + RowWord.tsRecent]) | 0) >= 0;
}

/** RFC 7323 §4.3: only a segment that covers Last.ACK.sent may set TS.Recent. */
function rememberTimestamp(tcp: TcpContext, tcb: Tcb, segment: Segment): void {
  if (!tcb.timestampsOk || tcb.words[tcb.at + RowWord.rcvWup] !== tcb.words[tcb.at + RowWord.rcvNxt]) return;
  tcb.tsRecent = segment.options.tsVal;
  tcb.tsRecentNs = tcp.env.clock.nowNs;
}
