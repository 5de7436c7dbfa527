/**
 * What one acknowledgement did: filled by `ack-input.ts` and `sack.ts`, read by `recovery.ts`; one record per host
 * (law 3). Linux keeps the same in the FLAG_* bits of tcp_ack and in tcp_sacktag_state.
 */
import type { Ns } from "../../base/time.ts";

/** What may be sent again after this ACK. */
export const Resend = {
  nothing: 0,
  /** What is marked lost, as far as the window goes. */
  lost: 1,
  /** New data first: F-RTO wants to see whether it is acknowledged. */
  unsent: 2,
} as const;
export type Resend = (typeof Resend)[keyof typeof Resend];

export class AckOutcome {
  /** SND.UNA moved, from `priorUnaOffset`. */
  advanced = false;
  priorUnaOffset = 0;
  /** Highest byte known to have arrived before this ACK (Linux prior_fack). */
  priorHighestOffset = 0;
  /** Segments acknowledged cumulatively; data (not only a SYN) among them. */
  ackedSegments = 0;
  dataAcked = false;
  /** Duplicate acknowledgement in the sense of RFC 5681 §2. */
  duplicate = false;
  /** It carries data, changes the window, or acknowledges something, so it is none (Linux FLAG_NOT_DUP). */
  notDuplicate = false;
  /** New SACK information came. */
  sacked = false;
  /** A DSACK came: so many segments arrived twice; it is about the tail loss probe. */
  dsackSegments = 0;
  dsackOfProbe = false;
  /** A segment that had been sent again is among the acknowledged. */
  retransmittedAcked = false;
  /** A segment never sent again, from before the present trouble, was acknowledged or sacked. */
  originalAcked = false;
  /** Lowest segment that arrived after later ones though it was sent once: reordering. Infinity: none. */
  reorderedOffset = Number.POSITIVE_INFINITY;
  /** The head of the queue was reported by SACK, and yet it is not acknowledged: the peer threw it away. */
  reneged = false;
  /** A retransmission was found lost. */
  retransmissionLost = false;
  /** The retransmission timer is to be set anew. */
  setTimer = false;
  /** When the first and the last of the segments just sacked was sent, −1 = none. */
  firstSackedNs: Ns = -1;
  lastSackedNs: Ns = -1;
  resend: Resend = Resend.nothing;
  /** `deliveredSegments` and `lostTotal` before this ACK. */
  deliveredBefore = 0;
  lostBefore = 0;
  /** Echoed timestamp, 0 = none. */
  tsEcr = 0;

  /** Before an acknowledgement is processed. */
  start(priorUnaOffset: number, priorHighestOffset: number, deliveredSegments: number, lostTotal: number): void {
    this.advanced = false;
    this.priorUnaOffset = priorUnaOffset;
    this.priorHighestOffset = priorHighestOffset;
    this.ackedSegments = 0;
    this.dataAcked = false;
    this.duplicate = false;
    this.notDuplicate = false;
    this.sacked = false;
    this.dsackSegments = 0;
    this.dsackOfProbe = false;
    this.retransmittedAcked = false;
    this.originalAcked = false;
    this.reorderedOffset = Number.POSITIVE_INFINITY;
    this.reneged = false;
    this.retransmissionLost = false;
    this.setTimer = false;
    this.firstSackedNs = -1;
    this.lastSackedNs = -1;
    this.resend = Resend.nothing;
    this.deliveredBefore = deliveredSegments;
    this.lostBefore = lostTotal;
    this.tsEcr = 0;
  }
}
