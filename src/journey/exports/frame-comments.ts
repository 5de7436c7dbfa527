/**
 * What a captured frame was to the journeys of its connection: which request, which bytes, at which stage.
 *
 * Whose a byte is follows from the sequence numbers alone (`StreamPlace`), the stage from the journey's own segments:
 * nothing is guessed, and a frame of no journey gets no comment.
 */
import { NEVER, type Ns, SECOND } from "../../base/time.ts";
import { type PacketHead, parsePacket, type Tuple } from "../join/packet-label.ts";
import { type Journey, redactTarget } from "../journey.ts";
import type { PlacedJourney } from "../stream-place.ts";

const ETHERNET_HEADER_BYTES = 14;
const ETHERTYPE_AT = 12;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;

/** How soon after the end of its journey a RST of ours has left. */
const RESET_WITHIN_NS: Ns = SECOND;

/** The journeys of one connection in order, seen from the server: `local` is its address. */
export type JourneysOf = (tuple: Tuple) => readonly PlacedJourney[];

/** A frame to be told about. */
export interface SeenFrame {
  readonly head: PacketHead;
  /** When it passed the place of the capture, ns since the server started. */
  readonly atNs: Ns;
  /** Its bytes had passed there before. */
  readonly again: boolean;
}

/** The TCP head of the Ethernet frame in `bytes[at … at+len)`; null for any other frame. *Borrows* the bytes. */
export function tcpHeadOf(bytes: Uint8Array, at: number, len: number): PacketHead | null {
  if (len <= ETHERNET_HEADER_BYTES) return null;
  const etherType = ((bytes[at + ETHERTYPE_AT] as number) << 8) | (bytes[at + ETHERTYPE_AT + 1] as number);
  if (etherType !== ETHERTYPE_IPV4 && etherType !== ETHERTYPE_IPV6) return null;
  return parsePacket(bytes.subarray(at + ETHERNET_HEADER_BYTES, at + len));
}

/** One comment per journey the frame belongs to, in order of the journeys. */
export function frameComments(frame: SeenFrame, journeysOf: JourneysOf): string[] {
  const { head, atNs } = frame;
  const inbound = journeysOf(head);
  const fromServer = inbound.length === 0;
  const journeys = fromServer ? journeysOf({ local: head.remote, remote: head.local }) : inbound;
  const comments: string[] = [];
  for (const placed of journeys) {
    const parts = fromServer ? sentParts(frame, placed) : receivedParts(frame, placed);
    if (parts.length === 0) continue;
    const again = frame.again ? "retransmitted " : "";
    comments.push(`${nameOf(placed.journey, atNs)}: ${again}${parts.join(" and ")}, ${stageAt(placed.journey, atNs)}`);
  }
  return comments;
}

/** What a frame from the client is to a journey. */
function receivedParts({ head, atNs }: SeenFrame, { journey, place }: PlacedJourney): string[] {
  const { headLo, headHi, bodyHi, responseLo, responseHi, receiveIsn, sendIsn } = place;
  if (receiveIsn < 0) return [];
  const endNs = journey.startNs + journey.totalNs;
  if (head.syn) return head.seq === receiveIsn && !journey.connection.reused ? ["SYN"] : [];
  const parts: string[] = [];
  const lo = offsetOf(head.seq, receiveIsn, headLo);
  const hi = lo + head.dataBytes;
  addBytes(parts, "request head", lo, hi, headLo, headHi, true);
  if (headHi !== NEVER) addBytes(parts, "request body", lo, hi, headHi, bodyHi, false);
  if (atNs > endNs && journey.outcome !== "in-flight") return parts;
  if (head.ack && responseLo !== NEVER) {
    const acked = offsetOf(head.ackSeq, sendIsn, responseLo);
    if (acked >= responseHi) parts.push("last response byte acknowledged: ends the journey");
    else if (acked > responseLo) parts.push(`ACK of response bytes 0–${acked - responseLo - 1}`);
  }
  const isFirstAck = lo === 0 && head.dataBytes === 0 && headLo === 0 && !journey.connection.reused;
  if (isFirstAck && head.ack && offsetOf(head.ackSeq, sendIsn, 0) === 0 && !head.fin && !head.rst) {
    parts.push("ACK of the SYN-ACK");
  }
  if (isOpenAt(journey, atNs)) addEnds(parts, head);
  return parts;
}

/** What a frame from the server is to a journey. */
function sentParts({ head, atNs }: SeenFrame, { journey, place }: PlacedJourney): string[] {
  const { headLo, bodyHi, responseLo, responseHi, receiveIsn, sendIsn } = place;
  if (head.rst) return isResetOf(head, atNs, { journey, place }) ? ["RST"] : [];
  if (sendIsn < 0) return [];
  if (head.syn) return head.seq === sendIsn && !journey.connection.reused ? ["SYN-ACK"] : [];
  const parts: string[] = [];
  if (responseLo !== NEVER) {
    const lo = offsetOf(head.seq, sendIsn, responseLo);
    const hi = lo + head.dataBytes;
    addBytes(parts, "response", lo, hi, responseLo, responseHi, false);
    if (head.fin && hi === responseHi && isOpenAt(journey, atNs)) parts.push("FIN");
  }
  if (head.ack && head.dataBytes === 0 && !head.fin && isOpenAt(journey, atNs)) {
    const acked = offsetOf(head.ackSeq, receiveIsn, headLo);
    if (acked === bodyHi) parts.push("ACK of the request");
    else if (acked > headLo && acked < bodyHi) parts.push(`ACK of request bytes 0–${acked - headLo - 1}`);
  }
  return parts;
}

/** The RST of ours that ended the journey: it leaves a moment after the end, or answers a refused SYN by number. */
function isResetOf(head: PacketHead, atNs: Ns, { journey, place }: PlacedJourney): boolean {
  const { startNs, totalNs, outcome } = journey;
  if (outcome === "refused" && place.sendIsn < 0) return head.ackSeq === (place.receiveIsn + 1) >>> 0;
  return outcome === "reset" && atNs >= startNs && atNs <= startNs + totalNs + RESET_WITHIN_NS;
}

function addEnds(parts: string[], head: PacketHead): void {
  if (head.fin) parts.push("FIN");
  if (head.rst) parts.push("RST");
}

/** The frame's bytes [lo,hi) that lie in [from,to), counted from `from`. `whole`: all of them need no numbers. */
function addBytes(
  parts: string[],
  what: string,
  lo: number,
  hi: number,
  from: number,
  to: number,
  whole: boolean,
): void {
  const first = Math.max(lo, from);
  const end = Math.min(hi, to);
  if (end <= first) return;
  if (whole && first === from && end === to) parts.push(what);
  else parts.push(`${what} bytes ${first - from}–${end - 1 - from}`);
}

/** The stream offset of `seq` that is next to `near` (sequence numbers come round every 4 GiB). */
function offsetOf(seq: number, isn: number, near: number): number {
  return near + ((seq - isn - 1 - near) | 0);
}

function isOpenAt(journey: Journey, atNs: Ns): boolean {
  return atNs >= journey.startNs && (journey.outcome === "in-flight" || atNs <= journey.startNs + journey.totalNs);
}

function nameOf(journey: Journey, atNs: Ns): string {
  const { id, request, outcome } = journey;
  if (request !== null) return `journey ${id} ${request.method} ${redactTarget(request.target)}`;
  const established = journey.marks.some((mark) => mark.name === "established" && mark.atNs <= atNs);
  if (!established) return `journey ${id} (connecting)`;
  return `journey ${id} (${outcome === "in-flight" ? "no request yet" : "no request"})`;
}

/** The label of the frontier at `atNs`; where one ends at this very moment, both. */
export function stageAt(journey: Journey, atNs: Ns): string {
  if (atNs < journey.startNs) return "before its start";
  let ended: string | undefined;
  for (const { stage, startNs, endNs } of journey.segments) {
    if (startNs > atNs) break;
    if (endNs === atNs && startNs < endNs) ended = stage;
    if (endNs <= atNs) continue;
    return ended === undefined || ended === stage ? `stage ${stage}` : `stage ${ended} → ${stage}`;
  }
  return ended === undefined ? "after its end" : `stage ${ended}`;
}
