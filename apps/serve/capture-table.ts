/**
 * Captures under way: taps on the links of a topology, written as pcapng, fetched in chunks by the control plane.
 */
import { ControlError } from "../../src/host/kernel-machine.ts";
import {
  enhancedPacket,
  interfaceDescription,
  type PacketOptions,
  sectionHeader,
} from "../../src/journey/exports/pcapng.ts";
import type { Topology } from "../../src/topology.ts";

/** Bytes one capture may hold until they are fetched; more frames are left out and counted. */
const CAPTURE_LIMIT_BYTES = 16 * 1024 * 1024;
/** Captures at one time. */
const MAX_CAPTURES = 8;

interface Capture {
  blocks: Uint8Array[];
  bytes: number;
  /** Frames left out since the last one written, because nobody fetched. */
  missed: number;
  readonly untap: (() => void)[];
}

export class CaptureTable {
  private readonly topology: Topology;
  private readonly captures = new Map<number, Capture>();
  private ids = 0;

  constructor(topology: Topology) {
    this.topology = topology;
  }

  /** Answers `captureStart`, `captureTake` and `captureStop`; undefined for other methods. */
  control(method: string, params: Record<string, unknown>): unknown {
    switch (method) {
      case "captureStart":
        return this.start(BigInt(String(params["originUnixNs"] ?? 0)), params["host"] as string | undefined);
      case "captureTake":
        return take(this.captures.get(Number(params["id"])));
      case "captureStop":
        return this.stop(Number(params["id"]));
      default:
        return undefined;
    }
  }

  /** Taps the links of one host, or all of them: then a frame that a router forwards is there twice. */
  private start(originUnixNs: bigint, host: string | undefined): number {
    if (this.captures.size >= MAX_CAPTURES) {
      throw new ControlError({
        error: "too many captures",
        why: `${MAX_CAPTURES} are running`,
        next: "stop one of them",
      });
    }
    const links = this.topology.links.filter(
      (link) => host === undefined || link.ends.some((nic) => nic.env.name === host),
    );
    const capture: Capture = { blocks: [sectionHeader()], bytes: 0, missed: 0, untap: [] };
    for (const [at, link] of links.entries()) {
      const [a, b] = link.ends.map((nic) => nic.env.name);
      capture.blocks.push(interfaceDescription(link.name, `${a} to ${b}`));
      capture.untap.push(
        link.addTap((direction, bytes, from, len, nowNs, lost) => {
          if (capture.bytes > CAPTURE_LIMIT_BYTES) {
            capture.missed++;
            return;
          }
          const way = direction === 0 ? "outbound" : "inbound";
          const notes = [
            ...(lost ? ["lost by the wire"] : []),
            ...(capture.missed > 0 ? [`${capture.missed} frames before this one left out: not fetched in time`] : []),
          ];
          capture.missed = 0;
          const options: PacketOptions =
            notes.length > 0 ? { direction: way, comment: notes.join("; ") } : { direction: way };
          const block = enhancedPacket(at, nowNs, originUnixNs, bytes, from, len, options);
          capture.blocks.push(block);
          capture.bytes += block.length;
        }),
      );
    }
    const id = ++this.ids;
    this.captures.set(id, capture);
    return id;
  }

  private stop(id: number): Uint8Array {
    const capture = this.captures.get(id);
    for (const untap of capture?.untap ?? []) untap();
    this.captures.delete(id);
    return take(capture);
  }
}

/** What was written since the last fetch, as one piece. */
function take(capture: Capture | undefined): Uint8Array {
  if (!capture) return new Uint8Array(0);
  const bytes = new Uint8Array(capture.blocks.reduce((total, block) => total + block.length, 0));
  let at = 0;
  for (const block of capture.blocks) {
    bytes.set(block, at);
    at += block.length;
  }
  capture.blocks = [];
  capture.bytes = 0;
  return bytes;
}
