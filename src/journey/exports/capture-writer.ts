/**
 * A capture in which each frame says which journey it belongs to. Frames wait a little, so that most of their journeys
 * have ended when they are written; the others are told as they stand. Pure: frames and the time come in, blocks of
 * pcapng go out.
 */
import { MILLISECOND, NEVER, type Ns } from "../../base/time.ts";
import { type PacketHead, tupleKey } from "../join/packet-label.ts";
import type { PlacedJourney } from "../stream-place.ts";
import { completeChecksum } from "./frame-checksum.ts";
import { frameComments, tcpHeadOf } from "./frame-comments.ts";
import { enhancedPacket, interfaceDescription, sectionHeader } from "./pcapng.ts";

/** One frame as whoever captures hands it over. */
export interface CapturedFrame {
  /** Number that `addInterface` gave. */
  readonly iface: number;
  /** When it passed, ns since the server started. */
  readonly atNs: Ns;
  /** epb_flags; left out where there is no inside and outside. */
  readonly direction?: "inbound" | "outbound";
  /** `bytes[at … at+len)` is the frame from its Ethernet header on. *Borrowed*: `push` copies it. */
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly len: number;
  /** The checksum field holds the pseudo-header sum only (`Summed.partial`). */
  readonly partial: boolean;
  /** What whoever captures knows of it: the first comment. */
  readonly note?: string;
}

export interface CaptureOptions {
  /** Unix time of the server's start, ns. */
  readonly originUnixNs: bigint;
  /** All journeys by connection (`tupleKey`): `Collector.byConnection`. Asked once per `flush` with frames. */
  readonly journeys: () => ReadonlyMap<string, readonly PlacedJourney[]>;
  /** How long a frame waits for its journey to end; default 100 ms. */
  readonly holdNs?: Ns;
  /** Limit `heldBytes`: frames above it are left out, and the next one says how many. Default 16 MiB. */
  readonly heldBytes?: number;
}

interface HeldFrame {
  readonly frame: CapturedFrame;
  readonly head: PacketHead | null;
  readonly again: boolean;
  /** Frames before this one that were left out. */
  readonly missed: number;
}

/** Limit `streams`: directions of connections whose highest byte is remembered; the oldest are forgotten. */
const STREAMS = 4096;
const NO_JOURNEYS: readonly PlacedJourney[] = [];

export class CaptureWriter {
  private readonly originUnixNs: bigint;
  private readonly journeys: () => ReadonlyMap<string, readonly PlacedJourney[]>;
  private readonly holdNs: Ns;
  private readonly heldBytes: number;
  private readonly heads: Uint8Array[] = [sectionHeader()];
  private held: HeldFrame[] = [];
  private bytes = 0;
  private missed = 0;
  private interfaces = 0;
  /** End of what was seen of each stream at each interface, as a sequence number. */
  private readonly streams = new Map<string, number>();

  constructor(options: CaptureOptions) {
    this.originUnixNs = options.originUnixNs;
    this.journeys = options.journeys;
    this.holdNs = options.holdNs ?? 100 * MILLISECOND;
    this.heldBytes = options.heldBytes ?? 16 * 1024 * 1024;
  }

  /** Declares a place where frames are seen. Returns its number. */
  addInterface(name: string, description = ""): number {
    this.heads.push(interfaceDescription(name, description));
    return this.interfaces++;
  }

  /** Takes a frame (copies it). False if it is left out because too many wait. */
  push(frame: CapturedFrame): boolean {
    if (this.bytes + frame.len > this.heldBytes) {
      this.missed++;
      return false;
    }
    const bytes = frame.bytes.slice(frame.at, frame.at + frame.len);
    if (frame.partial) completeChecksum(bytes, 0, bytes.length);
    const head = tcpHeadOf(bytes, 0, bytes.length);
    const again = head !== null && this.isAgain(frame.iface, head);
    this.held.push({ frame: { ...frame, bytes, at: 0 }, head, again, missed: this.missed });
    this.missed = 0;
    this.bytes += bytes.length;
    return true;
  }

  /** The blocks of the frames that have waited long enough by `nowNs`; empty if there is nothing to write. */
  flush(nowNs: Ns): Uint8Array {
    const untilNs = nowNs - this.holdNs;
    const kept = this.held.findIndex(({ frame }) => frame.atNs > untilNs);
    const due = kept < 0 ? this.held : this.held.slice(0, kept);
    this.held = kept < 0 ? [] : this.held.slice(kept);
    const blocks = this.heads.splice(0);
    const journeys = due.length > 0 ? this.journeys() : new Map<string, readonly PlacedJourney[]>();
    for (const held of due) {
      this.bytes -= held.frame.len;
      blocks.push(this.block(held, journeys));
    }
    return concatenate(blocks);
  }

  /** The rest: the capture is over. */
  finish(): Uint8Array {
    return this.flush(NEVER);
  }

  private block({ frame, head, again, missed }: HeldFrame, journeys: ReadonlyMap<string, readonly PlacedJourney[]>) {
    const comment: string[] = [];
    if (frame.note !== undefined) comment.push(frame.note);
    if (missed > 0) comment.push(`${missed} frames before this one left out: not fetched in time`);
    if (head !== null) {
      const seen = { head, atNs: frame.atNs, again };
      comment.push(...frameComments(seen, (tuple) => journeys.get(tupleKey(tuple)) ?? NO_JOURNEYS));
    }
    const { iface, atNs, bytes, len, direction } = frame;
    const options = direction === undefined ? { comment } : { comment, direction };
    return enhancedPacket(iface, atNs, this.originUnixNs, bytes, 0, len, options);
  }

  /** True if every byte (or the SYN) of this frame has passed this interface before. */
  private isAgain(iface: number, head: PacketHead): boolean {
    const length = head.dataBytes + (head.syn ? 1 : 0) + (head.fin ? 1 : 0);
    if (length === 0) return false;
    const key = `${iface} ${tupleKey(head)}`;
    const known = this.streams.get(key);
    const endSeq = (head.seq + length) | 0;
    const isNews = known === undefined || ((endSeq - known) | 0) > 0;
    if (!isNews && !(head.syn && endSeq !== known)) return true;
    this.streams.delete(key);
    this.streams.set(key, endSeq);
    if (this.streams.size > STREAMS) this.streams.delete(this.streams.keys().next().value as string);
    return false;
  }
}

function concatenate(blocks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(blocks.reduce((total, block) => total + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    out.set(block, at);
    at += block.length;
  }
  return out;
}
