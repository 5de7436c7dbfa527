/** `/about`: what this is, in a few lines of text. */
import type { Handler } from "../../src/server/index.ts";

const TEXT = `sojourn: a complete network server stack in TypeScript, from the NIC's descriptor ring to this handler
and back, in which every request carries its own itinerary.

Sojourn time is the time a customer spends in a system, waiting and being served.
Your request was a frame in an RX ring, a packet, a segment, bytes in a receive queue,
and then a call of a function that wrote this text. How long each took: sojourn journeys

The other handlers are listed at /.
`;

export const about: Handler = (w) => {
  w.header().set("Content-Type", "text/plain; charset=utf-8");
  w.write(TEXT);
};
