/**
 * Captures under way: taps on the links of a topology, written as pcapng, fetched in chunks by the control plane.
 */
import { PcapngWriter } from "../journey/exports/pcapng.ts";
import type { Topology } from "../topology.ts";

/** Bytes one capture may hold until they are fetched; more frames are left out and counted. */
const CAPTURE_LIMIT_BYTES = 16 * 1024 * 1024;
/** Captures at one time. */
const MAX_CAPTURES = 8;

interface Capture {
  readonly writer: PcapngWriter;
  readonly untap: readonly (() => void)[];
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
        return this.start(BigInt(String(params["originUnixNs"] ?? 0)));
      case "captureTake":
        return this.captures.get(Number(params["id"]))?.writer.take() ?? new Uint8Array(0);
      case "captureStop":
        return this.stop(Number(params["id"]));
      default:
        return undefined;
    }
  }

  private start(originUnixNs: bigint): number {
    if (this.captures.size >= MAX_CAPTURES) {
      throw { error: "too many captures", why: `${MAX_CAPTURES} are running`, next: "stop one of them" };
    }
    const { links } = this.topology;
    const writer = new PcapngWriter({ originUnixNs, interfaces: links.map((link) => link.name), limitBytes: CAPTURE_LIMIT_BYTES });
    const untap = links.map((link, at) =>
      link.addTap((_direction, bytes, from, len, nowNs) => writer.frame(at, bytes, from, len, nowNs)),
    );
    const id = ++this.ids;
    this.captures.set(id, { writer, untap });
    return id;
  }

  private stop(id: number): Uint8Array {
    const capture = this.captures.get(id);
    if (!capture) return new Uint8Array(0);
    for (const untap of capture.untap) untap();
    this.captures.delete(id);
    return capture.writer.take();
  }
}
