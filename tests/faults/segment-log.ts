/**
 * Every TCP segment at the cards of the two end hosts of a run: as it departed, or as it arrived whole.
 */
import type { Ns } from "../../src/base/time.ts";
import type { Topology } from "../../src/topology.ts";
import { viewSegment } from "../support/segment-view.ts";
import type { CardSegment } from "./timeout-judge.ts";

type Side = "client" | "server";

export class SegmentLog {
  private readonly segments: Readonly<Record<Side, CardSegment[]>> = { client: [], server: [] };

  constructor(topology: Topology) {
    for (const side of ["client", "server"] as const) this.watch(topology, side);
  }

  /** Of the connection that began at `fromNs` with this port at the client, in order of time. */
  of(side: Side, clientPort: number, fromNs: Ns): CardSegment[] {
    return this.segments[side].filter((s) => s.atNs >= fromNs && portOf(side, s) === clientPort);
  }

  /** The client's port that is none of `known` and whose first segment left closest to `atNs`: of a failed dial. */
  portDialed(known: readonly number[], atNs: Ns): number {
    const first = new Map<number, Ns>();
    for (const s of this.segments.client) {
      if (s.departs && !known.includes(s.srcPort) && !first.has(s.srcPort)) first.set(s.srcPort, s.atNs);
    }
    const byDistance = [...first].sort((a, b) => Math.abs(a[1] - atNs) - Math.abs(b[1] - atNs));
    return byDistance[0]?.[0] ?? 0;
  }

  private watch(topology: Topology, side: Side): void {
    const { env } = topology.host(side);
    const log = this.segments[side];
    for (const link of topology.links) {
      for (const [at, card] of link.ends.entries()) {
        if (card.env !== env) continue;
        link.addTap((direction, bytes, start, len, atNs) => {
          const segment = direction === at ? viewSegment(bytes, start, len) : null;
          if (segment !== null) log.push({ ...segment, atNs, departs: true });
        });
        const arrive = card.arrive.bind(card);
        const { bytes } = env.pool.arena;
        card.arrive = (slot, offset, len, summed, atNs) => {
          const segment = viewSegment(bytes, slot + offset, len);
          if (segment !== null) log.push({ ...segment, atNs, departs: false });
          return arrive(slot, offset, len, summed, atNs);
        };
      }
    }
  }
}

function portOf(side: Side, s: CardSegment): number {
  return (side === "client") === s.departs ? s.srcPort : s.dstPort;
}
