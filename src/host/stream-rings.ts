/**
 * What the kernel's `StreamDevice` and the main thread's `StreamPump` share: two byte rings that carry exactly the
 * framed byte stream of the socket, and a few words about the peer.
 *
 * ```
 *   StreamPump (event loop)                                       StreamDevice (kernel)
 *     socket ──► fromPeer ─────────── u32 length, frame, … ─────────► receive()
 *     socket ◄── toPeer   ◄────────── u32 length, frame, … ◄───────── flush()
 *     session (odd: a peer is there) ───────────────────────────────► followed
 * ```
 * A peer's stream starts and ends at a frame. So the pump plugs a new one in only after the device has *followed* the
 * end of the last one: has taken its whole frames and forgotten half a frame.
 */
import { assert } from "../base/assert.ts";
import { ByteRing } from "./byte-ring.ts";

/** Bytes of the length in front of each frame (QEMU net/net.c net_fill_rstate: u32, big-endian). */
export const LENGTH_BYTES = 4;
/** Shortest frame: an Ethernet header. */
export const MIN_STREAM_FRAME_BYTES = 14;
/** Longest frame a length may announce: an IP packet of 65,536 bytes with its Ethernet header. */
export const MAX_STREAM_FRAME_BYTES = 65_550;
/** Capacity of each ring. It bounds what waits between socket and kernel. */
export const DEFAULT_STREAM_RING_BYTES = 1 << 20;
/** The longest frame fits twice, nearly: a full ring always holds a whole one. */
const MIN_FROM_PEER_BYTES = 1 << 17;

/** Words, each on its own cache line. */
const LINE = 16;
const SESSION = 0 * LINE;
const FOLLOWED = 1 * LINE;
const EXPELLED = 2 * LINE;
const BAD_LENGTH = 3 * LINE;
const PUMP_DOORBELL = 4 * LINE;
const PUMP_WAITS = 5 * LINE;
const DEVICE_WAITS = 6 * LINE;
const CONTROL_BYTES = 7 * LINE * 4;

/** ES2024; every Node we support has it. */
interface WaitAsync {
  waitAsync(words: Int32Array, index: number, value: number): { async: boolean; value: unknown };
}

/** Capacities of the two rings in bytes, powers of two. */
export interface StreamRingSizes {
  readonly fromPeerBytes: number;
  readonly toPeerBytes: number;
}

const DEFAULT_SIZES: StreamRingSizes = {
  fromPeerBytes: DEFAULT_STREAM_RING_BYTES,
  toPeerBytes: DEFAULT_STREAM_RING_BYTES,
};

export class StreamRings {
  /** Goes to the other thread, which builds its own `StreamRings` over it with the same sizes. */
  readonly buffer: SharedArrayBuffer;
  readonly fromPeer: ByteRing;
  readonly toPeer: ByteRing;
  private readonly words: Int32Array;

  constructor(buffer?: SharedArrayBuffer, { fromPeerBytes, toPeerBytes }: StreamRingSizes = DEFAULT_SIZES) {
    assert(fromPeerBytes >= MIN_FROM_PEER_BYTES, `the ring from the peer has at least ${MIN_FROM_PEER_BYTES} bytes`);
    const toPeerAt = CONTROL_BYTES + ByteRing.bytesFor(fromPeerBytes);
    this.buffer = buffer ?? new SharedArrayBuffer(toPeerAt + ByteRing.bytesFor(toPeerBytes));
    this.words = new Int32Array(this.buffer, 0, CONTROL_BYTES / 4);
    this.fromPeer = new ByteRing(this.buffer, CONTROL_BYTES, fromPeerBytes);
    this.toPeer = new ByteRing(this.buffer, toPeerAt, toPeerBytes);
  }

  // ── the peer ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Counts arrivals and departures: odd while a peer is there. */
  get session(): number {
    return Atomics.load(this.words, SESSION);
  }

  /** A peer came or went (pump). Everything it sent is published; what was meant for its predecessor is gone. */
  nextSession(): void {
    Atomics.add(this.words, SESSION, 1);
  }

  /** The device has followed the pump to the present session: a departed peer left nothing behind. */
  get isFollowed(): boolean {
    return Atomics.load(this.words, FOLLOWED) === Atomics.load(this.words, SESSION);
  }

  /** The device has done all there was to do about the sessions up to this one. */
  follow(session: number): void {
    Atomics.store(this.words, FOLLOWED, session);
  }

  /** The device lost the framing: the pump shall close the peer of this session. */
  expel(session: number, badLength: number): void {
    Atomics.store(this.words, BAD_LENGTH, badLength);
    Atomics.store(this.words, EXPELLED, session);
    this.ringPump();
  }

  /** The impossible length for which the peer of the present session shall be closed, or -1. */
  get expelledFor(): number {
    if (Atomics.load(this.words, EXPELLED) !== this.session) return -1;
    return Atomics.load(this.words, BAD_LENGTH) >>> 0;
  }

  // ── doorbells and room ────────────────────────────────────────────────────────────────────────────────────────

  /** Frames, room or news for the pump. */
  ringPump(): void {
    Atomics.add(this.words, PUMP_DOORBELL, 1);
    Atomics.notify(this.words, PUMP_DOORBELL);
  }

  /** How often the pump was rung; a wait for a change of it loses nothing. */
  get pumpRings(): number {
    return Atomics.load(this.words, PUMP_DOORBELL);
  }

  /** Resolves at the next ring of the pump's doorbell after `seen`; null: it has rung already. */
  waitForRing(seen: number): Promise<unknown> | null {
    const wait = (Atomics as unknown as WaitAsync).waitAsync(this.words, PUMP_DOORBELL, seen);
    return wait.async ? (wait.value as Promise<unknown>) : null;
  }

  /** A quarter of `fromPeer` is free: a writer that waited may go on. (Byte by byte it would be woken for nothing.) */
  get hasRoomFromPeer(): boolean {
    return this.fromPeer.free >= this.fromPeer.capacityBytes / 4;
  }

  /** The pump found no room in `fromPeer`: it is rung when there is. It looks once more after this call. */
  pumpWaits(): void {
    Atomics.store(this.words, PUMP_WAITS, 1);
  }

  /** The device has released bytes of `fromPeer`. */
  releasedFromPeer(): void {
    if (Atomics.load(this.words, PUMP_WAITS) === 0 || !this.hasRoomFromPeer) return;
    Atomics.store(this.words, PUMP_WAITS, 0);
    this.ringPump();
  }

  /** The device found no room in `toPeer`: the kernel is rung when there is. It looks once more after this call. */
  deviceWaits(): void {
    Atomics.store(this.words, DEVICE_WAITS, 1);
  }

  /** The pump has released bytes of `toPeer`; true if the device waits for that. */
  releasedToPeer(): boolean {
    return Atomics.exchange(this.words, DEVICE_WAITS, 0) === 1;
  }
}
