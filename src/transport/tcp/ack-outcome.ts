/**
 * What one acknowledgement did: filled by `ack-input.ts`, read by `recovery.ts`; one record per host (law 3).
 */
export class AckOutcome {
  /** SND.UNA moved; the segment carried data; it changed the window; it acknowledged data or a SYN. */
  advanced = false;
  dataAcked = false;
  /** Duplicate acknowledgement in the sense of RFC 5681 §2. */
  duplicate = false;
  /** New SACK information came. */
  sacked = false;
  ackedSegments = 0;
  /** A segment that had been sent again is among the acknowledged. */
  retransmittedAcked = false;
  /** `deliveredSegments` before this ACK. */
  deliveredBefore = 0;
  lostBefore = 0;
  /** Echoed timestamp, 0 = none. */
  tsEcr = 0;
}
