/**
 * Every reason to discard a frame (law 4), under the names of Linux `enum skb_drop_reason`.
 *
 * `sojourn` marks the few that Linux folds into NOT_SPECIFIED or counts only in a MIB or device statistic.
 */

function reason(linux: string, doc: string): { readonly linux: string; readonly doc: string } {
  return { linux, doc };
}

/** key → Linux name and meaning. The position is the number. */
const TABLE = {
  none: reason("", "Not dropped."),
  notSpecified: reason("NOT_SPECIFIED", "No better name."),
  noSocket: reason("NO_SOCKET", "No socket is bound to this port (a TCP RST or ICMP port unreachable answers)."),
  pktTooSmall: reason("PKT_TOO_SMALL", "Shorter than its header says or needs."),
  tcpCsum: reason("TCP_CSUM", "TCP checksum is wrong."),
  udpCsum: reason("UDP_CSUM", "UDP checksum is wrong."),
  icmpCsum: reason("ICMP_CSUM", "ICMP checksum is wrong."),
  ipCsum: reason("IP_CSUM", "IPv4 header checksum is wrong."),
  ipInhdr: reason("IP_INHDR", "IPv4 header is malformed."),
  ipNoProto: reason("IP_NOPROTO", "No such IP protocol here."),
  netfilterDrop: reason("NETFILTER_DROP", "A reject or drop rule matched."),
  otherHost: reason("OTHERHOST", "The frame's MAC address is another host's."),
  unhandledProto: reason("UNHANDLED_PROTO", "No protocol for this EtherType."),
  socketRcvbuff: reason("SOCKET_RCVBUFF", "The socket's receive buffer is full."),
  protoMem: reason("PROTO_MEM", "The protocol's memory limit is reached."),
  socketBacklog: reason("SOCKET_BACKLOG", "The socket's backlog is full."),
  tcpFlags: reason("TCP_FLAGS", "Flags make no sense in this state."),
  tcpZeroWindow: reason("TCP_ZEROWINDOW", "Data into a zero window."),
  tcpOldData: reason("TCP_OLD_DATA", "Entirely received before."),
  tcpOverWindow: reason("TCP_OVERWINDOW", "Entirely beyond the receive window."),
  tcpOfoMerge: reason("TCP_OFOMERGE", "Already held in the out-of-order queue."),
  tcpPaws: reason("TCP_RFC7323_PAWS", "Timestamp older than the last one (PAWS)."),
  tcpInvalidSequence: reason("TCP_INVALID_SEQUENCE", "Sequence number outside the window."),
  tcpInvalidAckSequence: reason("TCP_INVALID_ACK_SEQUENCE", "Acknowledgement number is impossible here."),
  tcpReset: reason("TCP_RESET", "A reset: it did its work."),
  tcpInvalidSyn: reason("TCP_INVALID_SYN", "SYN in a synchronised state."),
  tcpClose: reason("TCP_CLOSE", "The socket is closed."),
  tcpOldAck: reason("TCP_OLD_ACK", "Acknowledges only what was acknowledged before."),
  tcpTooOldAck: reason("TCP_TOO_OLD_ACK", "Acknowledgement is older than the largest window."),
  tcpAckUnsentData: reason("TCP_ACK_UNSENT_DATA", "Acknowledges data that was never sent."),
  tcpOfoQueuePrune: reason("TCP_OFO_QUEUE_PRUNE", "Pruned from the out-of-order queue."),
  tcpOfoDrop: reason("TCP_OFO_DROP", "No room in the out-of-order queue."),
  tcpAbortOnData: reason("TCP_ABORT_ON_DATA", "Data for a connection nobody will read any more."),
  tcpListenOverflow: reason("TCP_LISTEN_OVERFLOW", "The accept queue is full."),
  tcpReqQFull: reason("TCP_REQQ_FULL", "The SYN queue is full. Linux counts TCPReqQFullDrop and says NOT_SPECIFIED."),
  tcpDeferAccept: reason(
    "TCP_DEFER_ACCEPT",
    "A bare ACK while the listener waits for data. Linux counts TCPDeferAcceptDrop.",
  ),
  tcpTimeWait: reason("TCP_TIMEWAIT", "A segment for a TIME_WAIT socket; it was answered if it had to be."),
  ipOutNoRoutes: reason("IP_OUTNOROUTES", "No route to the destination."),
  ipInNoRoutes: reason("IP_INNOROUTES", "Not for us, and no route to forward it."),
  ipInAddrErrors: reason("IP_INADDRERRORS", "Not for us, and we do not forward; or an impossible address."),
  ipInvalidSource: reason("IP_INVALID_SOURCE", "Impossible source address."),
  ipTtl: reason("IP_TTL", "TTL ran out here; ICMP time exceeded answers. Linux counts InHdrErrors."),
  pktTooBig: reason("PKT_TOO_BIG", "Larger than the next hop's MTU and must not be fragmented."),
  dupFrag: reason("DUP_FRAG", "Fragment received before."),
  fragReasmTimeout: reason("FRAG_REASM_TIMEOUT", "The other fragments did not come in time."),
  fragTooFar: reason("FRAG_TOO_FAR", "Fragment memory or distance limit reached."),
  fragOverlap: reason("FRAG_OVERLAP", "Overlapping fragments: the whole packet is discarded (Linux ReasmOverlaps)."),
  neighFailed: reason("NEIGH_FAILED", "The next hop did not answer ARP."),
  neighQueueFull: reason("NEIGH_QUEUEFULL", "Too many packets wait for the next hop's MAC address."),
  qdiscDrop: reason("QDISC_DROP", "The queueing discipline is full."),
  cpuBacklog: reason("CPU_BACKLOG", "The CPU's input queue is full."),
  fullRing: reason("FULL_RING", "No free descriptor in the RX ring (rx_missed_errors)."),
  devReady: reason("DEV_READY", "The device is down."),
  devHdr: reason("DEV_HDR", "Malformed link-layer header."),
  noMem: reason("NOMEM", "Out of packet memory."),
  gsoSeg: reason("SKB_GSO_SEG", "A super-segment that is no whole TCP segment and so cannot be cut."),
  linkLoss: reason("LINK_LOSS", "Lost by the simulated wire. Only a simulated link has this reason."),
  linkCorrupt: reason("LINK_CORRUPT", "Damaged by the simulated wire and caught by the frame check sequence."),
  arpInvalid: reason("ARP_INVALID", "Malformed or unusable ARP. Linux frees it without a name."),
  consumed: reason("CONSUMED", "Not a drop: it did its work (a bare ACK, an ICMP message answered)."),
} as const;

export type DropReasonKey = keyof typeof TABLE;

const KEYS = Object.keys(TABLE) as DropReasonKey[];

/** `DropReason.noSocket` is a number; 0 means "not dropped". */
export const DropReason = Object.freeze(Object.fromEntries(KEYS.map((key, i) => [key, i]))) as {
  readonly [K in DropReasonKey]: number;
};
export type DropReason = number;

/** The table by number: `{ id, name (Linux), doc }`. */
export const DROP_REASONS: readonly { readonly id: number; readonly name: string; readonly doc: string }[] = KEYS.map(
  (key, id) => ({
    id,
    name: TABLE[key].linux,
    doc: TABLE[key].doc,
  }),
);

/** Linux name of a reason number. */
export function dropReasonName(id: number): string {
  return DROP_REASONS[id]?.name ?? `REASON_${id}`;
}
