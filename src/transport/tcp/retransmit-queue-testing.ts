/**
 * What must hold of a connection's retransmission queue after every segment. Not part of the package.
 */
import { assert } from "../../base/assert.ts";
import { type Tcb, XmitTimer } from "./tcb.ts";
import type { TestHost } from "./tcp-testing.ts";

/** The counts are those of the records, the records are contiguous, and the window is at least one segment. */
export function checkRetransmitQueue(tcb: Tcb): void {
  if (tcb.released) return;
  const queue = tcb.retransmitQueue;
  let packets = 0;
  let lost = 0;
  let resent = 0;
  let sacked = 0;
  let offset = tcb.sndUnaOffset;
  for (let s = queue.head; s !== null; s = s.next) {
    packets++;
    if (s.lost) lost++;
    if (s.retransmitted) resent++;
    if (s.sacked) sacked++;
    assert(!(s.sacked && s.lost), "sacked and lost");
    assert(s === queue.head ? s.lo <= offset && s.hi > offset : s.lo === offset, `a gap before ${s.lo}`);
    assert(s.firstSentNs <= s.sentNs, "sent again before it was sent");
    offset = s.hi;
    if (s.next === null) assert(s === queue.tail, "the tail is not the last");
  }
  const counted = [queue.packetsOut, queue.lostOut, queue.retransOut];
  assert(
    String(counted) === String([packets, lost, resent]),
    `counts ${counted}, records ${packets},${lost},${resent}`,
  );
  if (tcb.sackOk) assert(queue.sackedOut === sacked, `sackedOut ${queue.sackedOut}, records ${sacked}`);
  assert(queue.sackedOut + queue.lostOut <= queue.packetsOut, "more sacked and lost than out");
  assert(packets === 0 || offset === tcb.sndNxtOffset, "the queue does not end at sndNxt");
  assert(tcb.cwndSegments >= 1 && tcb.ssthreshSegments >= 2, `cwnd ${tcb.cwndSegments}`);
  assert(Number.isInteger(tcb.cwndSegments), `cwnd ${tcb.cwndSegments}`);
  const isWaiting = packets > 0 && tcb.xmitTimer?.armed !== true;
  assert(!isWaiting && (packets === 0 || tcb.xmitTimerKind !== XmitTimer.none), "data in flight and no timer runs");
}

/** Checks all connections of `host` after every segment it receives. */
export function checkEveryAck(host: TestHost): void {
  const receive = host.receive.bind(host);
  host.receive = (...args: Parameters<typeof receive>) => {
    receive(...args);
    host.tcp.context.connections.forEach((sock) => {
      if ("retransmitQueue" in sock) checkRetransmitQueue(sock);
    });
  };
}
