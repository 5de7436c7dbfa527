/**
 * A plain host TCP port bridged to a process of the client host: each host connection opens one inside the topology.
 *
 * Bytes, half-close, reset and back-pressure pass both ways. What is refused, reset or timed out inside resets the
 * connection outside. The outside leg is the host kernel's loopback and is not part of any journey.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { Address } from "../base/address.ts";
import { type Conn, type Goroutine, PARKED, type Runtime } from "../runtime/port.ts";

/** How journeys name the leg between the host's client and the forward. */
export const OUTSIDE_LEG = "host loopback: not measured";

/** Bytes waiting for the inside above which the outside is not read. */
const HIGH_WATER_BYTES = 256 * 1024;
const LOW_WATER_BYTES = 64 * 1024;
const READ_BYTES = 64 * 1024;
const DEFAULT_MAX_CONNECTIONS = 1024;
/** Ports tried after the one asked for. */
const PORT_TRIES = 100;

export interface PortForwardOptions {
  /** The client process: where dials come from. */
  readonly runtime: Runtime;
  /** Where each connection goes inside. */
  readonly address: Address;
  readonly port: number;
  /** Host address to listen on; default 127.0.0.1. */
  readonly hostAddress?: string;
  /** Host port; 0 = any. */
  readonly hostPort: number;
  /** True: this port or EADDRINUSE. False: the next free one. */
  readonly exact?: boolean;
  /** Connections at one time; more are closed at once. Default 1024. */
  readonly maxConnections?: number;
}

export interface PortForwardStats {
  /** Connections open now, and ever. */
  open: number;
  total: number;
  /** Closed at once: too many at one time. */
  rejected: number;
  /** Dials that failed inside, by errno name. */
  readonly dialFailures: Record<string, number>;
  /** Resets passed from the inside out and from the outside in. */
  resetsOut: number;
  resetsIn: number;
  bytesIn: number;
  bytesOut: number;
}

export class PortForward {
  /** The host port it got. */
  readonly hostPort: number;
  readonly stats: PortForwardStats;
  private readonly server: Server;
  private readonly bridges: Set<Bridge>;

  private constructor(server: Server, hostPort: number, stats: PortForwardStats, bridges: Set<Bridge>) {
    this.server = server;
    this.hostPort = hostPort;
    this.stats = stats;
    this.bridges = bridges;
  }

  /** Listens. Rejects with Node's error (EADDRINUSE, EACCES) if the port cannot be had. */
  static async start(options: PortForwardOptions): Promise<PortForward> {
    const stats: PortForwardStats = {
      open: 0,
      total: 0,
      rejected: 0,
      dialFailures: {},
      resetsOut: 0,
      resetsIn: 0,
      bytesIn: 0,
      bytesOut: 0,
    };
    const bridges = new Set<Bridge>();
    const scratch = new Uint8Array(READ_BYTES);
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (socket) => {
      const bridge = new Bridge(options, socket, stats, scratch, () => bridges.delete(bridge));
      bridges.add(bridge);
      void bridge.dial();
    });
    server.maxConnections = options.maxConnections ?? DEFAULT_MAX_CONNECTIONS;
    server.on("drop", () => stats.rejected++);
    const hostPort = await listenFrom(server, options);
    return new PortForward(server, hostPort, stats, bridges);
  }

  /** Closes the port and resets what is open; resolves when nothing is left. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.server.close(() => resolve());
    });
    for (const bridge of [...this.bridges]) bridge.abort();
    await closed;
  }
}

/** One pair of connections. */
class Bridge {
  private readonly runtime: Runtime;
  private readonly options: PortForwardOptions;
  private readonly outside: Socket;
  private readonly stats: PortForwardStats;
  private readonly onEnd: () => void;
  private inside: Conn | null = null;
  private reader: Goroutine | null = null;
  /** Read into and copied from at once: one for all bridges. */
  private readonly scratch: Uint8Array;
  /** The outside does not take more now. */
  private isOutsideFull = false;
  /** The inside does not take more now: a goroutine waits for it. */
  private isInsideFull = false;
  private isInsideDone = false;
  private isOutsideDone = false;
  private isOver = false;

  constructor(
    options: PortForwardOptions,
    outside: Socket,
    stats: PortForwardStats,
    scratch: Uint8Array,
    onEnd: () => void,
  ) {
    this.options = options;
    this.scratch = scratch;
    this.runtime = options.runtime;
    this.outside = outside;
    this.stats = stats;
    this.onEnd = onEnd;
    stats.open++;
    stats.total++;
    outside.on("error", () => this.outsideFailed());
    outside.on("close", () => this.over());
  }

  async dial(): Promise<void> {
    try {
      const conn = await this.runtime.network.dial(this.options.address, this.options.port);
      if (this.isOver) {
        conn.abort();
        return;
      }
      this.inside = conn;
    } catch (error) {
      const code = (error as { code?: string }).code ?? "unknown";
      this.stats.dialFailures[code] = (this.stats.dialFailures[code] ?? 0) + 1;
      this.resetOutside();
      return;
    }
    this.outside.on("data", (bytes) => this.fromOutside(bytes));
    this.outside.on("end", () => this.outsideEnded());
    this.outside.on("drain", () => this.outsideDrained());
    this.reader = this.runtime.spawn("port forward", (g) => this.fromInside(g));
    this.outside.resume();
  }

  /** Ends both sides at once. */
  abort(): void {
    this.inside?.abort();
    this.outside.resetAndDestroy();
    this.over();
  }

  // ── outside → inside ──────────────────────────────────────────────────────────────────────────────────────────

  private fromOutside(bytes: Uint8Array): void {
    const conn = this.inside as Conn;
    this.stats.bytesIn += bytes.length;
    conn.write(bytes, 0, bytes.length);
    if (conn.pendingBytes <= HIGH_WATER_BYTES || this.isInsideFull) return;
    this.isInsideFull = true;
    this.outside.pause();
    this.runtime.spawn("port forward drain", (g) => {
      const n = conn.tryDrain(g, LOW_WATER_BYTES);
      if (n === PARKED) return;
      this.isInsideFull = false;
      this.runtime.exit(g);
      // An error shows to the reader of the inside.
      if (n === 0) this.outside.resume();
    });
  }

  private outsideEnded(): void {
    this.isOutsideDone = true;
    this.inside?.closeWrite();
    this.finish();
  }

  private outsideFailed(): void {
    if (this.isOver) return;
    this.stats.resetsIn++;
    this.inside?.abort();
    this.over();
  }

  // ── inside → outside ──────────────────────────────────────────────────────────────────────────────────────────

  private fromInside(g: Goroutine): void {
    const conn = this.inside as Conn;
    for (;;) {
      if (this.isOver) return this.runtime.exit(g);
      if (this.isOutsideFull) return this.runtime.park(g, "host socket full");
      const n = conn.tryRead(g, this.scratch, 0, this.scratch.length);
      if (n === PARKED) return;
      if (n <= 0) {
        this.reader = null;
        this.runtime.exit(g);
        if (n === 0) this.insideEnded();
        else this.insideFailed();
        return;
      }
      this.stats.bytesOut += n;
      // Node keeps the buffer until it is written: a copy of its own.
      this.isOutsideFull = !this.outside.write(Buffer.from(this.scratch.subarray(0, n)));
    }
  }

  private outsideDrained(): void {
    this.isOutsideFull = false;
    if (this.reader) this.runtime.ready(this.reader);
  }

  private insideEnded(): void {
    this.isInsideDone = true;
    this.outside.end();
    this.finish();
  }

  private insideFailed(): void {
    if (this.isOver) return;
    this.resetOutside();
    this.inside?.close();
  }

  private resetOutside(): void {
    this.stats.resetsOut++;
    this.outside.resetAndDestroy();
    this.over();
  }

  // ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Both directions have ended in order: the outside socket closes by itself. */
  private finish(): void {
    if (this.isInsideDone && this.isOutsideDone) this.inside?.close();
  }

  private over(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.stats.open--;
    // Closed outside before both directions had ended: the inside hears of it as a reset.
    if (!(this.isInsideDone && this.isOutsideDone)) this.inside?.abort();
    if (this.reader) this.runtime.ready(this.reader);
    this.onEnd();
  }
}

async function listenFrom(
  server: Server,
  { hostAddress = "127.0.0.1", hostPort, exact = false }: PortForwardOptions,
): Promise<number> {
  const last = exact || hostPort === 0 ? hostPort : Math.min(hostPort + PORT_TRIES, 65535);
  for (let port = hostPort; ; port++) {
    try {
      return await listenOn(server, hostAddress, port);
    } catch (error) {
      if ((error as { code?: string }).code !== "EADDRINUSE" || port >= last) throw error;
    }
  }
}

function listenOn(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(error);
    server.once("error", failed);
    server.listen({ host, port }, () => {
      server.off("error", failed);
      resolve((server.address() as { port: number }).port);
    });
  });
}
