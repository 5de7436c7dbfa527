/**
 * The whole receive path: a script of frames, waits and system calls against one host. What must hold, whatever comes:
 * nothing throws, the books balance, every drop has a reason, bytes arrive as they were sent, what leaves is
 * well-formed, time comes to rest, and in the end everything is given back.
 */
import { Address } from "../../../src/base/address.ts";
import { MibId } from "../../../src/base/mib.ts";
import { MICROSECOND, MILLISECOND, SECOND } from "../../../src/base/time.ts";
import type { Arena } from "../../../src/skb/arena.ts";
import { PAGE_SLOT } from "../../../src/skb/arena.ts";
import { Summed } from "../../../src/skb/skb.ts";
import { NO_UPCALLS } from "../../../src/transport/port.ts";
import { SOL_SOCKET, SOL_TCP, SocketOption, TcpOption } from "../../../src/transport/tcp/options.ts";
import type { Tcb } from "../../../src/transport/tcp/tcb.ts";
import type { FuzzTarget } from "../engine.ts";
import type { Exact } from "../input.ts";
import { Call, Fit, MAX_FRAME_BYTES, MAX_SCRIPT_BYTES, mutateScript, Op, opStarts } from "./receive-script.ts";
import { receiveSeeds } from "./receive-seeds.ts";
import {
  BEHIND,
  HOST_MAC,
  HOST_MAC_BEHIND,
  newWorldArena,
  OWN_PORT,
  PEER,
  PEER_MAC,
  PEER_PORT,
  ReceiveWorld,
} from "./receive-world.ts";
import { fixSum, pseudoSum, word } from "./wire-reference.ts";

const MAX_OPS = 40;
const MAX_GSO_SIZE = 3000;
const MAX_CONNECTIONS = 8;
const WAITS_NS = [
  MICROSECOND,
  MILLISECOND,
  10 * MILLISECOND,
  40 * MILLISECOND,
  200 * MILLISECOND,
  SECOND,
  3 * SECOND,
  31 * SECOND,
  61 * SECOND,
  130 * SECOND,
  1000 * SECOND,
  7300 * SECOND,
] as const;

/** The peer's initial sequence number: odd ports cross the end of the number space after 16 bytes. */
function isnOf(port: number): number {
  return (port & 1) === 0 ? 0x5a5a1234 : 0xfffffff0;
}

/** The byte at `offset` of every stream a peer sends; the period is prime, so that every likely shift shows. */
function streamByte(offset: number): number {
  return ((offset % 251) + 251) % 251;
}

const WRITTEN = new Uint8Array(20_000).fill(0x77);
const READ = new Uint8Array(100_000);

/** One input being run. */
class ReceiveRun {
  readonly world: ReceiveWorld;
  private readonly held: Tcb[] = [];
  /** How many bytes of its stream the process has read, by connection. */
  private readonly readBytes = new Map<Tcb, number>();
  /** A segment with absolute numbers was let in: its bytes may be any. */
  private isTainted = false;
  /** Frames that arrived. */
  frames = 0;
  private states = 0;

  /** What stands behind a frame in its slot: its predecessor, as in real life, or nothing but ones. */
  private readonly isClean: boolean;
  private lastFrame = new Uint8Array(0);

  constructor(arena: Arena, isClean: boolean) {
    this.world = new ReceiveWorld(arena);
    this.isClean = isClean;
  }

  run(input: Exact): number {
    const { world } = this;
    const starts = opStarts(input.bytes, input.at, input.end);
    const ops = Math.min(MAX_OPS, starts.length - 1);
    for (let i = 0; i < ops; i++) {
      const at = starts[i];
      const arg = input.bytes[at + 1];
      const what = input.bytes[at] % 4;
      if (what === Op.wait) world.advance(WAITS_NS[arg % WAITS_NS.length]);
      else if (what === Op.call) this.call(arg);
      else {
        const bytes = input.bytes.subarray(at + 4, Math.min(starts[i + 1], at + 4 + MAX_FRAME_BYTES));
        if (what === Op.frame) this.frame(bytes, arg);
        else this.superFrame(bytes, arg);
      }
    }
    world.check();
    for (const tcb of this.held) this.states |= 1 << tcb.state;
    const outcome = this.outcome();
    world.close(this.held);
    return outcome;
  }

  /** Which counters moved, why frames were dropped, and the states that were reached. */
  private outcome(): number {
    const { env } = this.world.stack;
    let hash = this.states;
    const mix = (values: Float64Array) => {
      for (let i = 0; i < values.length; i++)
        if (values[i] > 0) hash = Math.imul(hash ^ i, 0x01000193) + (values[i] > 3 ? 7 : 1);
    };
    mix(env.mib.values);
    mix(env.drops.counts);
    return hash | 0;
  }

  // ── frames ────────────────────────────────────────────────────────────────────────────────────────────────────

  private frame(bytes: Uint8Array, fit: number): void {
    const { world } = this;
    this.frames++;
    const isBehind = (fit & Fit.behind) !== 0;
    const { pool } = world.stack.env;
    const slot = pool.arena.alloc(MAX_FRAME_BYTES);
    if (slot === 0) return;
    pool.arena.bytes.fill(0xff, slot, slot + MAX_FRAME_BYTES);
    if (!this.isClean) pool.arena.bytes.set(this.lastFrame, slot);
    pool.arena.bytes.set(bytes, slot);
    this.makeFit(pool.arena.bytes, pool.arena.view, slot, slot + bytes.length, fit);
    this.lastFrame = pool.arena.bytes.slice(slot, slot + bytes.length);
    world.nic(isBehind).arrive(slot, 0, bytes.length, Summed.none, world.clock.nowNs);
    world.advance(0);
  }

  /**
   * A super-segment from a device that has them (a TAP): the frame's IP id says how many bytes of payload more it has,
   * its urgent pointer how many go into one segment. As virtio hands them over: the checksum is a partial one.
   */
  private superFrame(bytes: Uint8Array, fit: number): void {
    if (bytes.length < 54) return;
    const { world } = this;
    this.frames++;
    const { env, net } = world.stack;
    const skb = env.pool.alloc(PAGE_SLOT, 0);
    if (skb === null) return;
    const extra = Math.min(word(bytes, 18), 0xffff + 14 - bytes.length);
    const at = skb.put(bytes.length + extra);
    skb.bytes.set(bytes, at);
    skb.bytes.fill(0, at + bytes.length, skb.tail);
    skb.view.setUint16(at + 16, skb.len - 14);
    skb.gsoSize = word(bytes, 52) % MAX_GSO_SIZE;
    if (skb.gsoSize > 0) skb.summed = Summed.partial;
    this.makeFit(skb.bytes, skb.view, at, skb.tail, fit | Fit.ipSum | Fit.transportSum);
    const { drops, mib } = env;
    const ip = at + 14;
    const payloadLen =
      skb.tail - ip - (skb.bytes[ip] & 15) * 4 - (skb.bytes[ip + (skb.bytes[ip] & 15) * 4 + 12] >>> 4) * 4;
    const isCut = skb.gsoSize > 0 && skb.view.getUint32(ip + 16) === BEHIND.v4;
    const before = { bytes: world.forwardedBytes, drops: drops.total, forwarded: mib.values[MibId.IpForwDatagrams] };
    net.receiver.receive(skb, (fit & Fit.behind) !== 0 ? world.behind : world.front);
    world.advance(0);
    const isForwarded = mib.values[MibId.IpForwDatagrams] > before.forwarded && drops.total === before.drops;
    const passed = world.forwardedBytes - before.bytes;
    if (isCut && isForwarded && passed !== payloadLen) throw new Error(`${passed} bytes went on of ${payloadLen}`);
  }

  private makeFit(bytes: Uint8Array, view: DataView, at: number, end: number, fit: number): void {
    if (end - at < 34) return;
    if ((fit & Fit.macs) !== 0 && (bytes[at] & 1) === 0) {
      bytes.set((fit & Fit.behind) !== 0 ? HOST_MAC_BEHIND : HOST_MAC, at);
      bytes.set(PEER_MAC, at + 6);
    }
    const ip = at + 14;
    const headerLen = (bytes[ip] & 15) * 4;
    const transport = ip + headerLen;
    const packetEnd = Math.min(end, ip + word(bytes, ip + 2));
    if (word(bytes, at + 12) !== 0x0800 || headerLen < 20 || transport > packetEnd) return;
    const protocol = bytes[ip + 9];
    const isFragment = (word(bytes, ip + 6) & 0x3fff) !== 0;
    if (protocol === 6 && packetEnd - transport >= 20 && !isFragment) {
      if ((fit & Fit.relative) !== 0) this.makeRelative(bytes, view, transport, packetEnd);
      else this.isTainted = true;
    } else if (protocol === 6) this.isTainted = true;
    if (protocol === 1 && (fit & Fit.relative) !== 0 && !isFragment)
      this.makeQuoteRelative(view, transport + 8, packetEnd);
    if ((fit & Fit.transportSum) !== 0 && !isFragment) fixTransport(bytes, ip, transport, packetEnd);
    if ((fit & Fit.ipSum) !== 0) fixSum(bytes, ip, transport, ip + 10);
  }

  /** Offsets in the two streams become sequence numbers, and the payload what belongs there. */
  private makeRelative(bytes: Uint8Array, view: DataView, at: number, end: number): void {
    const port = view.getUint16(at);
    const heard = this.world.heard.get((port << 16) | view.getUint16(at + 2));
    const iss = heard?.iss ?? 0;
    const offset = view.getUint32(at + 4) | 0;
    const isSyn = (bytes[at + 13] & 2) !== 0;
    view.setUint32(at + 4, isnOf(port) + offset + (isSyn ? 0 : 1));
    view.setUint32(at + 8, iss + 1 + view.getUint32(at + 8));
    const optionsEnd = Math.min(end, at + (bytes[at + 12] >>> 4) * 4);
    for (let i = at + 20; i + 1 < optionsEnd; i += bytes[i] === 1 ? 1 : Math.max(2, bytes[i + 1])) {
      if (bytes[i] === 8 && i + 10 <= optionsEnd) view.setUint32(i + 6, (heard?.tsVal ?? 0) + view.getUint32(i + 6));
      if (bytes[i] !== 5) continue;
      const edgesEnd = Math.min(optionsEnd, i + bytes[i + 1]);
      for (let edge = i + 2; edge + 4 <= edgesEnd; edge += 4) view.setUint32(edge, iss + 1 + view.getUint32(edge));
    }
    for (let i = Math.max(optionsEnd, at + 20); i < end; i++) bytes[i] = streamByte(offset + i - optionsEnd);
  }

  /** The packet an ICMP error quotes at `ip`: its sequence number counts bytes of the host's stream. */
  private makeQuoteRelative(view: DataView, ip: number, end: number): void {
    if (end - ip < 28 || view.getUint8(ip + 9) !== 6) return;
    const at = ip + (view.getUint8(ip) & 15) * 4;
    const heard = at + 8 <= end ? this.world.heard.get((view.getUint16(at + 2) << 16) | view.getUint16(at)) : undefined;
    if (heard !== undefined) view.setUint32(at + 4, heard.iss + 1 + view.getUint32(at + 4));
  }

  // ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

  private call(arg: number): void {
    const { stack } = this.world;
    const what = arg & 15;
    if (what === Call.accept) this.accept();
    else if (what === Call.connect) this.connect();
    else if (what === Call.datagrams) this.readDatagrams();
    else if (what === Call.sendDatagram) stack.udp.send(this.world.udp[(arg >>> 4) % 3], WRITTEN, 0, 700, PEER, 7);
    else if (this.held.length > 0) this.callOn(this.held[(arg >>> 4) % this.held.length], what);
    this.world.advance(0);
  }

  private callOn(tcb: Tcb, what: number): void {
    const { tcp } = this.world.stack;
    if (what === Call.read) this.read(tcb, READ.length);
    else if (what === Call.readOne) this.read(tcb, 1);
    else if (what === Call.write) tcp.send(tcb, WRITTEN, 0, 100, 0);
    else if (what === Call.writeMuch) tcp.send(tcb, WRITTEN, 0, WRITTEN.length, 0);
    else if (what === Call.shutdown) tcp.shutdown(tcb, 1);
    else if (what === Call.abort) tcp.abort(tcb);
    else if (what === Call.close) {
      this.held.splice(this.held.indexOf(tcb), 1);
      this.states |= 1 << tcb.state;
      tcp.close(tcb);
    } else if (what === Call.noDelay) tcp.setOption(tcb, SOL_TCP, TcpOption.noDelay, 1);
    else if (what === Call.cork)
      tcp.setOption(tcb, SOL_TCP, TcpOption.cork, tcp.getOption(tcb, SOL_TCP, TcpOption.cork) ^ 1);
    else if (what === Call.smallBuffer) tcp.setOption(tcb, SOL_SOCKET, SocketOption.rcvBuf, 1);
    else if (what === Call.keepAlive) {
      tcp.setOption(tcb, SOL_TCP, TcpOption.keepIdle, 5);
      tcp.setOption(tcb, SOL_SOCKET, SocketOption.keepAlive, 1);
    } else if (what === Call.lingerZero) tcp.setOption(tcb, SOL_SOCKET, SocketOption.linger, 1, 0);
  }

  private accept(): void {
    const { world, held } = this;
    const { tcp } = world.stack;
    const child = tcp.acceptPeek(world.listener, 0);
    if (child === null || held.length >= MAX_CONNECTIONS || !tcp.acceptTake(world.listener, child)) return;
    tcp.setUpcalls(child, NO_UPCALLS);
    held.push(child);
  }

  private connect(): void {
    const { held } = this;
    const { tcp } = this.world.stack;
    if (held.length >= MAX_CONNECTIONS) return;
    const tcb = tcp.create(NO_UPCALLS);
    held.push(tcb);
    const options = { reuseAddress: true, reusePort: false, ifindex: 0 };
    if (tcp.bind(tcb, ANY_ADDRESS, OWN_PORT, options) === 0) tcp.connect(tcb, PEER, PEER_PORT);
  }

  /** What comes out must be what stands at that place of the peer's stream. */
  private read(tcb: Tcb, most: number): void {
    const { tcp } = this.world.stack;
    const n = tcp.receive(tcb, READ, 0, most, 0);
    if (n <= 0) return;
    const from = this.readBytes.get(tcb) ?? 0;
    this.readBytes.set(tcb, from + n);
    if (this.isTainted) return;
    // A SYN may have been sent at another offset than 0: the stream starts there.
    const start = ((tcb.irs - isnOf(tcb.remotePort)) | 0) + from;
    for (let i = 0; i < n; i++) {
      if (READ[i] === streamByte(start + i)) continue;
      throw new Error(`read ${READ[i]} at offset ${from + i} of the stream, sent was ${streamByte(start + i)}`);
    }
  }

  private readDatagrams(): void {
    const { stack, udp } = this.world;
    const from = { address: PEER, port: 0 };
    for (const sock of udp) stack.udp.receive(sock, READ, 0, READ.length, from);
  }
}

const ANY_ADDRESS = Address.v4(0);

function fixTransport(bytes: Uint8Array, ip: number, at: number, end: number): void {
  const protocol = bytes[ip + 9];
  if (protocol === 1 && end - at >= 8) fixSum(bytes, at, end, at + 2);
  if (protocol === 6 && end - at >= 20) fixSum(bytes, at, end, at + 16, pseudoSum(bytes, ip, 6, end - at));
  if (protocol !== 17 || end - at < 8) return;
  const len = word(bytes, at + 4);
  if (len >= 8 && at + len <= end) fixSum(bytes, at, at + len, at + 6, pseudoSum(bytes, ip, 17, len));
}

export function receiveTarget(): FuzzTarget {
  let arena = newWorldArena();
  let frames = 0;
  return {
    name: "receive",
    maxBytes: MAX_SCRIPT_BYTES,
    seeds: receiveSeeds,
    mutate: mutateScript,
    reset: () => {
      arena = newWorldArena();
    },
    parts: () => frames,
    run(input) {
      const run = new ReceiveRun(arena, false);
      const outcome = run.run(input);
      frames += run.frames;
      // What stands behind a frame must change nothing; looked at for a share of the inputs, as it costs a second run.
      if ((input.len & 3) === 2 && new ReceiveRun(arena, true).run(input) !== outcome) {
        throw new Error("bytes behind a frame were read: they change the outcome");
      }
      return outcome;
    },
  };
}
