/** Every limit of the join, with its name (law 10). What happens at each is said beside it. */
export const Limits = {
  /** Connections with facts; above it the oldest without an open request is forgotten (counted `evicted`). */
  connections: 65_536,
  /** Open requests of all connections; above it a new one is not followed (counted `incomplete`). */
  requests: 65_536,
  /** Received frames kept for one connection; above it the oldest two are merged (precision `coarse`). */
  receivedFrames: 16_384,
  /** Reads, deliveries and writes kept for one connection; the oldest are forgotten. */
  intervals: 16_384,
  /** Steps of the receive frontier of one request; above it neighbours are merged (precision `coarse`). */
  steps: 16_384,
  /** Sent frames kept for one connection; above it neighbours are merged (precision `coarse`). */
  sentFrames: 16_384,
  /** Retransmissions, lost ranges, acknowledgements kept for one connection; the oldest are forgotten. */
  retransmissions: 1024,
  lostRanges: 1024,
  acks: 8192,
  heldChanges: 16_384,
  /** Frames between output and wire; the oldest are forgotten. */
  framesInFlight: 65_536,
  /** Handler events of one request; later ones are not followed (precision `coarse`). */
  handlerEvents: 16_384,
  /** Stretches on the CPU remembered for one process; the oldest are forgotten. */
  occupancy: 32_768,
  /** Holders named within one wait; above it the wait has one: who held longest (precision `coarse`). */
  holders: 128,
  /** Segments of one journey; above it the shortest are given to a neighbour (precision `coarse`). */
  segments: 1024,
  /** Spans per queue and journey; the rest become one span with a `count`. */
  spansPerQueue: 16,
  /** Marks of one journey; later ones are not kept. */
  marks: 64,
  /** SYNs and drops remembered for one connection. */
  syns: 16,
  drops: 64,
  /** Tuples whose SYN was dropped before there was a connection. The oldest becomes a journey at once. */
  droppedSyns: 4096,
  /** A dropped SYN without another try for so long is the end of that story (ns). */
  droppedSynNs: 35e9,
} as const;
