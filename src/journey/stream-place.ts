/** Where the bytes of a journey lie in the streams of its connection: how a frame seen outside is known to be its. */
import type { Journey } from "./journey.ts";

/**
 * Stream offsets as in base/tracepoints.ts, NEVER while unknown. Sequence number = initial one + 1 + offset, modulo
 * 2^32; −1: the beginning of the connection was not seen.
 */
export interface StreamPlace {
  readonly receiveIsn: number;
  readonly sendIsn: number;
  /** Head [headLo,headHi) and body [headHi,bodyHi) in the receive stream. */
  readonly headLo: number;
  readonly headHi: number;
  readonly bodyHi: number;
  /** Response [responseLo,responseHi) in the send stream. */
  readonly responseLo: number;
  readonly responseHi: number;
}

export interface PlacedJourney {
  readonly journey: Journey;
  readonly place: StreamPlace;
}
