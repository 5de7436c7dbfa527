/**
 * What really happened, as the cables saw it: the witness against which journeys are judged.
 *
 * It knows frames and the delays of the cables, nothing of recorders and journeys: every TCP segment with the times at
 * which it left and reached the server, exact to the nanosecond as long as the cables have no rate and no jitter.
 */
import { SECOND, type Ns } from "../../src/base/time.ts";
import { seqDiff } from "../../src/base/seq.ts";
import type { LinkDirection, WireLink } from "../../src/device/wire-link.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { latin1 } from "./response-reader.ts";

const IP_PROTOCOL_TCP = 6;
/** A short piece of a payload is kept, to find requests by. */
const TEXT_BYTES = 80;

export interface SeenSegment {
  /** To the server, or from it. */
  readonly inward: boolean;
  /** The client's port: the connection. */
  readonly port: number;
  /** At the server: arrival of inward segments, departure of the others. */
  readonly atNs: Ns;
  /** Lost on the cable where it was seen. */
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
  /** At the server's cable, in order of departure. */
  readonly atServer: SeenSegment[] = [];
  private readonly serverPort: number;
  /** Window scale of each client port. */
  private readonly scales = new Map<number, number>();

  /** Looks at `cable`, whose second end is the server. */
  constructor(cable: WireLink, serverPort: number) {
    this.serverPort = serverPort;
    cable.addTap((direction, bytes, at, len, nowNs, lost) => {
      const seen = this.read(cable, direction, bytes, at, at + len, nowNs, lost);
      if (seen !== null) this.atServer.push(seen);
    });
  }

  /** The segments of one connection that reached the server (or left it, lost or not). */
  of(port: number): SeenSegment[] {
    return this.atServer.filter((s) => s.port === port && !(s.inward && s.lost));
  }

  /** The port of the connection that asked for `target`, even if that segment was lost. */
  portOf(target: string): number {
    const found = this.atServer.find((s) => s.inward && s.text.startsWith(`GET ${target} `));
    if (found === undefined) throw new Error(`nobody asked for ${target}`);
    return found.port;
  }

  private read(
    cable: WireLink,
    direction: LinkDirection,
    bytes: Uint8Array,
    at: number,
    end: number,
    departNs: Ns,
    lost: boolean,
  ): SeenSegment | null {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (ethernet.etherType(view, at) !== ethernet.EtherType.ipv4) return null;
    const ip = at + ethernet.HEADER_LEN;
    if (ipv4.protocol(view, ip) !== IP_PROTOCOL_TCP) return null;
    const segment = ip + ipv4.ihl(view, ip);
    const inward = direction === 0;
    const port = inward ? tcp.srcPort(view, segment) : tcp.dstPort(view, segment);
    if ((inward ? tcp.dstPort(view, segment) : tcp.srcPort(view, segment)) !== this.serverPort) return null;
    const payloadAt = segment + tcp.dataOffset(view, segment);
    const payloadEnd = Math.min(end, ip + ipv4.totalLen(view, ip));
    const flags = tcp.flags(view, segment);
    if (inward && (flags & tcp.Flag.syn) !== 0) this.scales.set(port, windowScale(view, segment, payloadAt));
    const scale = (flags & tcp.Flag.syn) !== 0 ? 0 : (this.scales.get(port) ?? 0);
    return {
      inward,
      port,
      atNs: inward ? departNs + cable.settings(direction).delayNs : departNs,
      lost,
      flags,
      seq: tcp.seq(view, segment),
      ack: tcp.ack(view, segment),
      payloadBytes: payloadEnd - payloadAt,
      windowBytes: tcp.window(view, segment) * 2 ** (inward ? scale : 0),
      text: latin1(bytes.subarray(payloadAt, Math.min(payloadEnd, payloadAt + TEXT_BYTES))),
    };
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
  const events = [...segments].sort((a, b) => a.atNs - b.atNs);
  let right = 0;
  let next = 0;
  let sinceNs: Ns = -1;
  let limitedNs: Ns = 0;
  for (const event of events) {
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
