/**
 * The main thread's half of a stream device: the socket on Node's event loop, and the bytes between it and the rings.
 *
 * It listens (or connects) and serves one peer at a time. Who comes while a peer is there waits, as in the backlog of
 * QEMU's listener, and is served when that one has gone. Nothing is dropped here while a peer is there: a full ring
 * pauses the socket, a full socket leaves the ring full.
 *
 * It works with any kernel mode: `ringKernel` is the doorbell of a kernel thread or `wake()` of an inline one.
 */
import type { Server, Socket } from "node:net";
import { dialStream, formatStreamAddress, listenForStream, type StreamAddress } from "./stream-address.ts";
import type { StreamRings } from "./stream-rings.ts";

/** Peers that wait for their turn; more are refused. One: QEMU listens with a backlog of 0, in which one has room. */
const MAX_WAITING_PEERS = 1;
const DEFAULT_RECONNECT_MS = 1000;

export interface StreamPumpOptions {
  readonly rings: StreamRings;
  readonly address: StreamAddress;
  /** Who opens the connection; default "listen" (QEMU's `server=off` is the peer). */
  readonly role?: "listen" | "connect";
  /** There is something for the device: ring the kernel's doorbell, or wake an inline kernel. */
  readonly ringKernel: () => void;
  /** A line for people about what happened to a peer. */
  readonly onNote?: (note: string) => void;
  /** "connect": how long after a connection was lost the next is tried, in ms; default 1000. */
  readonly reconnectMs?: number;
}

export interface StreamPumpStats {
  /** Peers served so far, and of these closed because their framing was lost. */
  peers: number;
  expelled: number;
  /** Peers closed at once because too many waited. */
  refused: number;
  /** Bytes of the socket, lengths included. */
  bytesIn: number;
  bytesOut: number;
  /** Bytes the device had sent to a peer that went before it got them. */
  discardedBytes: number;
}

export class StreamPump {
  readonly stats: StreamPumpStats = { peers: 0, expelled: 0, refused: 0, bytesIn: 0, bytesOut: 0, discardedBytes: 0 };
  private readonly options: StreamPumpOptions;
  private readonly rings: StreamRings;
  private listening: { readonly server: Server; readonly address: StreamAddress } | null = null;
  private peer: Socket | null = null;
  private readonly waiting: Socket[] = [];
  /** Read from the socket and not yet in the ring, which is full. */
  private rest: Uint8Array | null = null;
  /** Bytes of the ring the socket is writing. */
  private writingBytes = 0;
  private reconnect: NodeJS.Timeout | null = null;
  private isClosed = false;

  private constructor(options: StreamPumpOptions) {
    this.options = options;
    this.rings = options.rings;
  }

  /** Resolves when it listens, or has connected. Rejects with `HostDeviceError`. */
  static async start(options: StreamPumpOptions): Promise<StreamPump> {
    const pump = new StreamPump(options);
    if (options.role === "connect") pump.arrive(await dialStream(options.address));
    else pump.listening = await listenForStream(options.address, (socket) => pump.arrive(socket));
    pump.listenForRings();
    return pump;
  }

  /** Where it listens (with the port it got), or connects to. */
  get address(): StreamAddress {
    return this.listening?.address ?? this.options.address;
  }

  get hasPeer(): boolean {
    return this.peer !== null;
  }

  /** Closes the peers and the socket, and removes the socket file. Resolves when nothing is left. */
  async close(): Promise<void> {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.reconnect) clearTimeout(this.reconnect);
    for (const socket of [this.peer, ...this.waiting]) socket?.destroy();
    this.rings.ringPump();
    const server = this.listening?.server;
    if (server) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  private note(text: string): void {
    this.options.onNote?.(`stream ${formatStreamAddress(this.address)}: ${text}`);
  }

  // ── the doorbell ──────────────────────────────────────────────────────────────────────────────────────────────

  /** Turns, and waits for the next ring. Nothing is lost: a ring during the turn ends the wait at once. */
  private listenForRings(): void {
    for (let rung: Promise<unknown> | null = null; rung === null && !this.isClosed; ) {
      const seen = this.rings.pumpRings;
      this.turn();
      rung = this.rings.waitForRing(seen);
      void rung?.then(() => this.listenForRings());
    }
  }

  private turn(): void {
    if (this.peer === null) this.plugIn();
    const { peer, rings } = this;
    // A peer that was closed is there until its socket says so.
    if (peer === null || peer.destroyed) return;
    const badLength = rings.expelledFor;
    if (badLength >= 0) {
      this.expel(peer, badLength);
      return;
    }
    if (this.rest !== null) this.pour(peer, this.rest);
    this.drain(peer);
  }

  // ── the peer ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** A connection: it is served, or waits for its turn. */
  private arrive(socket: Socket): void {
    socket.setNoDelay(true);
    socket.on("error", () => {}); // "close" follows, and says enough.
    if (this.isClosed) {
      socket.destroy();
      return;
    }
    if (this.waiting.length >= MAX_WAITING_PEERS + (this.peer ? 0 : 1)) {
      this.stats.refused++;
      this.note(`one more peer was refused: ${this.waiting.length} wait already`);
      socket.destroy();
      return;
    }
    this.waiting.push(socket);
    socket.once("close", () => this.leave(socket));
    if (this.peer) this.note("another peer waits until this one has gone");
    else this.plugIn();
  }

  /** The next peer is plugged in once the device has taken all its predecessor sent. */
  private plugIn(): void {
    const { rings } = this;
    if (!rings.isFollowed || this.waiting.length === 0) return;
    const peer = this.waiting.shift() as Socket;
    // What the predecessor did not get begins in the middle of a frame, or is old.
    this.stats.discardedBytes += rings.toPeer.used;
    rings.toPeer.release(rings.toPeer.used);
    this.peer = peer;
    this.stats.peers++;
    rings.nextSession();
    this.note("a peer is there: carrier up");
    peer.on("data", (bytes: Uint8Array) => {
      this.stats.bytesIn += bytes.length;
      this.pour(peer, bytes);
    });
    peer.resume();
    this.options.ringKernel();
  }

  /** A connection is over. */
  private leave(socket: Socket): void {
    const at = this.waiting.indexOf(socket);
    if (at >= 0) this.waiting.splice(at, 1);
    if (socket !== this.peer) return;
    this.peer = null;
    this.rest = null;
    this.writingBytes = 0;
    this.rings.nextSession();
    this.options.ringKernel();
    this.note("the peer has gone: carrier down");
    if (this.options.role === "connect") this.connectLater();
  }

  private expel(peer: Socket, badLength: number): void {
    this.stats.expelled++;
    this.note(
      `the peer is closed: it announced a frame of ${badLength} bytes, so the framing is lost and cannot be found ` +
        "again (does it speak u32 length + Ethernet frame?)",
    );
    peer.removeAllListeners("data");
    this.rest = null;
    peer.destroy();
  }

  private connectLater(): void {
    if (this.isClosed) return;
    const { address, reconnectMs = DEFAULT_RECONNECT_MS } = this.options;
    this.reconnect = setTimeout(() => {
      dialStream(address).then(
        (socket) => this.arrive(socket),
        () => this.connectLater(),
      );
    }, reconnectMs);
  }

  // ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Socket to ring. What finds no room waits in `rest`, and the socket with it. */
  private pour(peer: Socket, bytes: Uint8Array): void {
    const { fromPeer } = this.rings;
    let at = 0;
    for (;;) {
      const len = Math.min(bytes.length - at, fromPeer.free);
      fromPeer.copyIn(0, bytes, at, len);
      fromPeer.publish(len);
      at += len;
      if (at === bytes.length) break;
      this.rings.pumpWaits();
      // The device may have made room before it could see that we wait.
      if (!this.rings.hasRoomFromPeer) break;
    }
    if (at > 0) this.options.ringKernel();
    if (at < bytes.length) {
      this.rest = bytes.subarray(at);
      peer.pause();
    } else if (this.rest !== null) {
      this.rest = null;
      peer.resume();
    }
  }

  /** Ring to socket, straight from the ring's memory: its bytes are released when the socket has taken them. */
  private drain(peer: Socket): void {
    const { toPeer } = this.rings;
    if (this.writingBytes > 0 || toPeer.used === 0 || peer.destroyed) return;
    const at = toPeer.readPlace(0);
    const len = Math.min(toPeer.used, toPeer.capacityBytes - at);
    this.writingBytes = len;
    peer.write(toPeer.bytes.subarray(at, at + len), (error) => {
      if (error || peer !== this.peer) return;
      this.writingBytes = 0;
      this.stats.bytesOut += len;
      toPeer.release(len);
      if (this.rings.releasedToPeer()) this.options.ringKernel();
      this.drain(peer);
    });
  }
}
