/**
 * What really happened, as the server's cable saw it: the witness against which journeys are judged.
 *
 * It knows frames, nothing of recorders and journeys: every TCP segment with the time at which its last bit reached the
 * server's card, or at which it left it.
 */

import { seqDiff } from "../../src/base/seq.ts";
import { type Ns, SECOND } from "../../src/base/time.ts";
import type { WireLink } from "../../src/device/wire-link.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { latin1 } from "./response-reader.ts";

const IP_PROTOCOL_TCP = 6;
const ACK_OR_RESET = tcp.Flag.ack | tcp.Flag.rst;
/** A short piece of a payload is kept, to find requests by. */
const TEXT_BYTES = 80;

export interface SeenSegment {
  /** To the server, or from it. */
  readonly inward: boolean;
  /** The client's port: the connection. */
  readonly port: number;
  /** At the server: arrival of inward segments, departure of the others. */
  readonly atNs: Ns;
  /** Outward: lost on this cable. */
  readonly lost: boolean;
  readonly flags: number;
  readonly seq: number;
  readonly ack: number;
  readonly payloadBytes: number;
  /** In bytes, scaled. */
  readonly windowBytes: number;
  /** First bytes of the payload. */
  readonly text: string;
}

export class WireWitness {
  /** In order of being seen: inward ones as they arrive, outward ones as they depart. */
  readonly atServer: SeenSegment[] = [];
  private readonly serverPort: number;
  /** Window scale of each client port. */
  private readonly scales = new Map<number, number>();

  /** Stands at the server's card, the second end of `cable`. */
  constructor(cable: WireLink, serverPort: number) {
    this.serverPort = serverPort;
    const card = cable.ends[1];
    const { bytes } = card.env.pool.arena;
    const arrive = card.arrive.bind(card);
    card.arrive = (slot, offset, len, summed, atNs) => {
      this.note(true, bytes, slot + offset, slot + offset + len, atNs, false);
      return arrive(slot, offset, len, summed, atNs);
    };
    cable.addTap((direction, frame, at, len, nowNs, lost) => {
      if (direction === 1) this.note(false, frame, at, at + len, nowNs, lost);
    });
  }

  /** The segments of one connection, in order of time. */
  of(port: number): SeenSegment[] {
    return this.atServer.filter((s) => s.port === port);
  }

  /** The port of the connection that asked for `target`. */
  portOf(target: string): number {
    return first(this.atServer, (s) => s.inward && s.text.startsWith(`GET ${target} `)).port;
  }

  private note(inward: boolean, bytes: Uint8Array, at: number, end: number, atNs: Ns, lost: boolean): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const ip = at + ethernet.HEADER_LEN;
    if (ethernet.etherType(view, at) !== ethernet.EtherType.ipv4 || ipv4.check(view, ip, end) !== 0) return;
    const segment = ip + ipv4.ihl(view, ip);
    const len = ipv4.totalLen(view, ip) - ipv4.ihl(view, ip);
    if (ipv4.protocol(view, ip) !== IP_PROTOCOL_TCP) return;
    // What the wire has damaged says nothing.
    if (!tcp.hasGoodChecksumV4(bytes, segment, len, ipv4.src(view, ip), ipv4.dst(view, ip))) return;
    const [clientPort, serverPort] = [tcp.srcPort(view, segment), tcp.dstPort(view, segment)];
    const port = inward ? clientPort : serverPort;
    if ((inward ? serverPort : clientPort) !== this.serverPort) return;
    const payloadAt = segment + tcp.dataOffset(view, segment);
    const flags = tcp.flags(view, segment);
    const isSyn = (flags & tcp.Flag.syn) !== 0;
    if (inward && isSyn) this.scales.set(port, windowScale(view, segment, payloadAt));
    const scale = inward && !isSyn ? (this.scales.get(port) ?? 0) : 0;
    this.atServer.push({
      inward,
      port,
      atNs,
      lost,
      flags,
      seq: tcp.seq(view, segment),
      ack: tcp.ack(view, segment),
      payloadBytes: segment + len - payloadAt,
      windowBytes: tcp.window(view, segment) * 2 ** scale,
      text: latin1(bytes.subarray(payloadAt, Math.min(segment + len, payloadAt + TEXT_BYTES))),
    });
  }
}

function windowScale(view: DataView, segment: number, end: number): number {
  const options = new tcp.TcpOptions();
  tcp.parseOptions(view, segment, end, options);
  return Math.max(0, options.windowScale);
}

/** When the handshake of a connection was complete at the server: its first segment that is no SYN. */
export function establishedNs(segments: readonly SeenSegment[]): Ns {
  return first(segments, (s) => s.inward && (s.flags & tcp.Flag.syn) === 0).atNs;
}

/** The segments of the response to the request in `request`, first transmissions and repetitions. */
export function responseTo(segments: readonly SeenSegment[], request: SeenSegment): SeenSegment[] {
  return segments.filter((s) => !s.inward && s.payloadBytes > 0 && s.atNs > request.atNs);
}

/** The first segment for which `test` holds. */
export function first(segments: readonly SeenSegment[], test: (segment: SeenSegment) => boolean): SeenSegment {
  const found = segments.find(test);
  if (found === undefined) throw new Error("the witness saw no such segment");
  return found;
}

/** True if the segment acknowledges everything up to the end of `sent`. */
export function acknowledges(segment: SeenSegment, sent: SeenSegment): boolean {
  return segment.inward && seqDiff(segment.ack, sent.seq + sent.payloadBytes) >= 0;
}

/**
 * How long the server had bytes of a response to send and the window the client offered had no room for the next
 * segment. Replays both directions at the server in order of time.
 */
export function windowLimitedNs(segments: readonly SeenSegment[], request: SeenSegment): Ns {
  const response = responseTo(segments, request);
  const lo = (response[0] as SeenSegment).seq;
  const end = Math.max(...response.map((s) => seqDiff(s.seq, lo) + s.payloadBytes));
  const mss = Math.max(...response.map((s) => s.payloadBytes));
  let right = 0;
  let next = 0;
  let sinceNs: Ns = -1;
  let limitedNs: Ns = 0;
  for (const event of segments) {
    if (event.inward) right = seqDiff(event.ack, lo) + event.windowBytes;
    else if (event.payloadBytes > 0 && event.atNs > request.atNs) {
      next = Math.max(next, seqDiff(event.seq, lo) + event.payloadBytes);
    }
    if (event.atNs <= request.atNs) continue;
    const refused = next > 0 && next < end && next + Math.min(mss, end - next) > right;
    // A probe or a sliver is sent at last although the window refuses: what it carries left then.
    if (sinceNs >= 0 && (!refused || !event.inward)) {
      limitedNs += event.atNs - sinceNs;
      sinceNs = -1;
    }
    if (refused && sinceNs < 0) sinceNs = event.atNs;
  }
  return limitedNs;
}

/** For messages. */
export function describe(segments: readonly SeenSegment[], originNs: Ns = 0): string {
  const names = Object.entries(tcp.Flag);
  return segments
    .map((s) => {
      const flags = names.filter(([, bit]) => (s.flags & bit) !== 0).map(([name]) => name);
      const at = ((s.atNs - originNs) / SECOND).toFixed(9);
      const arrow = s.inward ? "→" : "←";
      return `${at} ${s.port} ${arrow} ${flags.join(",")} ${s.payloadBytes} bytes, window ${s.windowBytes}${s.lost ? ", lost" : ""}`;
    })
    .join("\n");
}

/** The two streams of one connection by offset, 0 at the first byte after the SYN. */
export class StreamTimes {
  /** Arrival of the first SYN; −1 if none was seen. */
  readonly synNs: Ns;
  /** False if either side began more than once (a port used again, a cookie made anew): then nothing can be said. */
  readonly isSingle: boolean;
  private readonly segments: readonly SeenSegment[];
  private readonly clientIsn: number;
  private readonly serverIsn: number;

  constructor(segments: readonly SeenSegment[]) {
    this.segments = segments;
    const syns = segments.filter((s) => s.inward && (s.flags & tcp.Flag.syn) !== 0);
    const synAcks = segments.filter((s) => !s.inward && (s.flags & tcp.Flag.syn) !== 0);
    this.synNs = syns[0]?.atNs ?? -1;
    this.isSingle = [syns, synAcks].every((side) => new Set(side.map((s) => s.seq)).size === 1);
    this.clientIsn = syns[0]?.seq ?? 0;
    this.serverIsn = synAcks[0]?.seq ?? 0;
  }

  /** Did a segment of the client arrive at that very moment? */
  hasArrival(atNs: Ns): boolean {
    return this.segments.some((s) => s.inward && s.atNs === atNs);
  }

  /** First arrival of byte `offset` from the client; −1 if it never came. */
  arrivedNs(offset: number): Ns {
    return this.firstWith(true, this.clientIsn, offset);
  }

  /** First departure of byte `offset` from the server, even if that frame was lost. */
  departedNs(offset: number): Ns {
    return this.firstWith(false, this.serverIsn, offset);
  }

  /**
   * First arrival of an acknowledgement of everything below `offset` that counts: no reset, and not on a segment that
   * lies before what the server has acknowledged itself (RFC 9293 §3.10.7.4 first: it is unacceptable as a whole).
   */
  ackedNs(offset: number): Ns {
    let acknowledged = this.clientIsn;
    for (const s of this.segments) {
      if (!s.inward) {
        if (seqDiff(s.ack, acknowledged) > 0) acknowledged = s.ack;
      } else if (
        (s.flags & ACK_OR_RESET) === tcp.Flag.ack &&
        seqDiff(s.seq + s.payloadBytes, acknowledged) >= 0 &&
        seqDiff(s.ack, this.serverIsn + 1) >= offset
      ) {
        return s.atNs;
      }
    }
    return -1;
  }

  private firstWith(inward: boolean, isn: number, offset: number): Ns {
    for (const s of this.segments) {
      if (s.inward !== inward || s.payloadBytes === 0) continue;
      const lo = seqDiff(s.seq, isn + 1);
      if (lo <= offset && offset < lo + s.payloadBytes) return s.atNs;
    }
    return -1;
  }
}
