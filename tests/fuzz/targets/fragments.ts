/**
 * Cutting packets and putting them together again: pieces against the packet they came from, reassembly against a model
 * of RFC 791, RFC 5722 and Linux's limits that was written apart from it.
 */
import { DropReason } from "../../../src/base/drop-reasons.ts";
import { Prng } from "../../../src/base/prng.ts";
import { SECOND } from "../../../src/base/time.ts";
import { fragmentPacket } from "../../../src/network/fragment.ts";
import { Reassembly } from "../../../src/network/reassembly.ts";
import type { HostEnv } from "../../../src/skb/host-env.ts";
import type { SkBuff } from "../../../src/skb/skb.ts";
import { TestHost } from "../../../src/transport/tcp/tcp-testing.ts";
import * as ipv4 from "../../../src/wire/ipv4.ts";
import type { FuzzTarget } from "../engine.ts";
import type { Exact } from "../input.ts";
import { fixSum, ipv4Verdict, word } from "./wire-reference.ts";

const ARENA = { smallSlots: 512, frameSlots: 512, pageSlots: 128 };

// ── cutting ───────────────────────────────────────────────────────────────────────────────────────────────────────

const MIN_MTU = 28;
const NO_OPTIONS = new Uint8Array(0);
/** Record route (not copied), a loose source route (copied), a NOP, an end mark. */
const MIXED_OPTIONS = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0x83, 7, 4, 1, 2, 3, 4, 1, 0x94, 4, 0, 0, 0);

/** An input is the MTU in two bytes, and a packet. */
function cutSeed(mtu: number, options: Uint8Array, payloadLen: number, fragmentOffset = 0): Uint8Array {
  const payload = Uint8Array.from({ length: payloadLen }, (_, i) => i * 13 + 1);
  const packet = ipv4.emit({
    src: 0xc0000201,
    dst: 0xc6336401,
    protocol: 17,
    ttl: 64,
    tos: 0,
    id: 99,
    reservedFlag: false,
    dontFragment: false,
    moreFragments: fragmentOffset > 0,
    fragmentOffset,
    options,
    payload,
  });
  return Uint8Array.of(mtu >>> 8, mtu, ...packet);
}

class Cutter {
  readonly env: HostEnv = new TestHost({ arena: ARENA }).env;
  private readonly pieces: Uint8Array[] = [];
  private readonly keep = (piece: SkBuff): number => {
    this.pieces.push(piece.bytes.slice(piece.data, piece.tail));
    this.env.pool.release(piece);
    return 0;
  };

  run({ bytes, at, end }: Exact): number {
    if (end - at < 2 || ipv4Verdict(bytes, at + 2, end) !== DropReason.none) return 0;
    const mtu = MIN_MTU + (word(bytes, at) % 2000);
    const packet = bytes.slice(at + 2, at + 2 + word(bytes, at + 4));
    const { pool } = this.env;
    const skb = pool.alloc(packet.length) as SkBuff;
    skb.net = skb.put(packet.length);
    skb.bytes.set(packet, skb.net);
    this.pieces.length = 0;
    const result = fragmentPacket(this.env, skb, mtu, this.keep);
    if (pool.outstanding !== 0 || pool.arena.outstanding !== 0) throw new Error("an skb was not given back");
    const headerLen = (packet[0] & 15) * 4;
    if (mtu - headerLen < 8) {
      if (result >= 0 || this.pieces.length > 0) throw new Error("cut into pieces of nothing");
      return 1;
    }
    if (result !== 0) throw new Error(`not cut: ${result}`);
    checkPieces(packet, headerLen, mtu, this.pieces);
    return 2 + Math.min(20, this.pieces.length) * 16 + (headerLen >>> 2);
  }
}

function checkPieces(packet: Uint8Array, headerLen: number, mtu: number, pieces: readonly Uint8Array[]): void {
  let offset = (word(packet, 6) & 0x1fff) * 8;
  const more = word(packet, 6) & 0x2000;
  let from = headerLen;
  for (const [index, piece] of pieces.entries()) {
    if (piece.length > mtu) throw new Error(`piece ${index} has ${piece.length} bytes, the MTU is ${mtu}`);
    if (ipv4Verdict(piece, 0, piece.length) !== DropReason.none) throw new Error(`piece ${index} is malformed`);
    if (word(piece, 2) !== piece.length) throw new Error(`piece ${index} lies about its length`);
    const isLast = index === pieces.length - 1;
    const field = ((offset / 8) & 0x1fff) | (isLast ? more : 0x2000);
    // An offset past the field's end is an attack's: what it becomes matters to nobody.
    if (offset < 65536 && (word(piece, 6) & 0x3fff) !== field) throw new Error(`piece ${index} stands elsewhere`);
    const payload = piece.subarray(headerLen);
    if (Buffer.compare(payload, packet.subarray(from, from + payload.length)) !== 0) throw new Error("other bytes");
    const options = index === 0 ? packet.slice(20, headerLen) : blanked(packet.slice(20, headerLen));
    if (Buffer.compare(piece.subarray(20, headerLen), options) !== 0) throw new Error(`options of piece ${index}`);
    from += payload.length;
    offset += payload.length;
  }
  if (from !== packet.length && packet.length > headerLen) throw new Error("bytes are missing at the end");
}

/** What Linux's ip_options_fragment leaves: options without the copied flag become NOPs, up to the first bad one. */
function blanked(options: Uint8Array): Uint8Array {
  for (let at = 0; at < options.length; ) {
    const kind = options[at];
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const len = at + 1 < options.length ? options[at + 1] : 0;
    if (len < 2 || at + len > options.length) break;
    if (kind < 128) options.fill(1, at, at + len);
    at += len;
  }
  return options;
}

export function cutTarget(): FuzzTarget {
  let cutter = new Cutter();
  return {
    reset: () => {
      cutter = new Cutter();
    },
    name: "fragment",
    maxBytes: 700,
    fields: [
      { at: 0, bytes: 2 },
      { at: 2, bytes: 1 },
      { at: 4, bytes: 2 },
      { at: 8, bytes: 2 },
      { at: 23, bytes: 1 },
      { at: 30, bytes: 1 },
    ],
    seeds: () => [
      cutSeed(548, NO_OPTIONS, 600),
      cutSeed(40, MIXED_OPTIONS, 80),
      cutSeed(100, MIXED_OPTIONS, 300, 800),
      cutSeed(20, NO_OPTIONS, 60, 65_528),
    ],
    repair(draft, prng) {
      if (draft.len < 22 || prng.u32() < 0x20000000) return;
      const headerEnd = 2 + (draft.bytes[2] & 15) * 4;
      if (prng.u32() < 0x80000000) draft.view.setUint16(4, draft.len - 2);
      if (headerEnd <= draft.len) fixSum(draft.bytes, 2, headerEnd, 12);
    },
    run: (input) => cutter.run(input),
  };
}

// ── reassembly ────────────────────────────────────────────────────────────────────────────────────────────────────

/** An input is a list of these: what, offset in units of 8 bytes, payload bytes, seconds to wait (each big-endian). */
const OP_BYTES = 6;
const MAX_OPS = 64;
/** Bits of the first byte: which packet, more fragments, wait instead; the upper half: words of IP options. */
const KEY_MASK = 3;
const MORE = 4;
const WAIT = 8;
const MAX_PAYLOAD = 16_384;

const HIGH_THRESH_BYTES = 600_000;
const MAX_DIST = 12;
const TIME_S = 30;
const KEYS = [
  { src: 0x0a000001, id: 1 },
  { src: 0x0a000001, id: 2 },
  { src: 0x0a000002, id: 1 },
  { src: 0x0a000003, id: 0 },
] as const;

/** Every byte of every packet has its value by its offset, so that a byte in the wrong place shows. */
const PATTERN = new Uint8Array(65_536 + MAX_PAYLOAD + 4);
new Prng(4).fill(PATTERN);

interface Part {
  readonly start: number;
  readonly end: number;
  readonly headerLen: number;
  readonly slotBytes: number;
}

/** What is known of one packet, in the model. */
class ModelQueue {
  parts: Part[] = [];
  total = -1;
  peerCount = 0;
  deadlineS = 0;

  get heldBytes(): number {
    return this.parts.reduce((sum, part) => sum + part.slotBytes, 0);
  }
}

/** The model: what a fragment does, in words of the specification. */
class Model {
  readonly queues = new Map<number, ModelQueue>();
  private readonly peers = new Map<number, number>();

  get heldBytes(): number {
    return [...this.queues.values()].reduce((sum, queue) => sum + queue.heldBytes, 0);
  }

  /** Fragments older than ipfrag_time are gone. */
  expire(nowS: number): void {
    for (const [key, queue] of this.queues) if (queue.deadlineS <= nowS) this.queues.delete(key);
  }

  /** The length of the whole packet with its header, if this fragment completed one; else 0. */
  add(key: number, part: Part, isLast: boolean, nowS: number): number {
    if (this.heldBytes > HIGH_THRESH_BYTES) return 0;
    const queue = this.queues.get(key) ?? new ModelQueue();
    if (!this.queues.has(key)) {
      this.queues.set(key, queue);
      queue.deadlineS = nowS + TIME_S;
    }
    const { src } = KEYS[key];
    const count = (this.peers.get(src) ?? 0) + 1;
    this.peers.set(src, count);
    if (queue.parts.length > 0 && count - queue.peerCount > MAX_DIST) {
      queue.parts = [];
      queue.total = -1;
      queue.deadlineS = nowS + TIME_S;
    }
    queue.peerCount = count;
    if (part.end <= part.start || !isPlausible(queue, part, isLast)) return this.forget(key);
    const touching = queue.parts.filter((other) => other.start < part.end && part.start < other.end);
    if (touching.length > 0) return isDuplicate(queue, part) ? 0 : this.forget(key);
    queue.parts.push(part);
    queue.parts.sort((a, b) => a.start - b.start);
    if (isLast) queue.total = part.end;
    const received = queue.parts.reduce((sum, { start, end }) => sum + end - start, 0);
    if (received !== queue.total) return 0;
    this.forget(key);
    const len = queue.parts[0].headerLen + queue.total;
    // RFC 791: no packet is longer. The first fragment's header may be longer than the last one's.
    return len > 65_535 ? 0 : len;
  }

  private forget(key: number): 0 {
    this.queues.delete(key);
    return 0;
  }
}

function isPlausible(queue: ModelQueue, part: Part, isLast: boolean): boolean {
  if (part.end + part.headerLen > 65_535) return false;
  const farthest = Math.max(0, ...queue.parts.map((other) => other.end));
  if (!isLast) return queue.total < 0 || part.end <= queue.total;
  return part.end >= farthest && (queue.total < 0 || queue.total === part.end);
}

/** True if every byte is here already. */
function isDuplicate(queue: ModelQueue, part: Part): boolean {
  let at = part.start;
  for (const other of queue.parts) if (other.start <= at && at < other.end) at = other.end;
  return at >= part.end;
}

class Reassembler {
  private readonly counts = new Map<DropReason, number>();
  /** Fragments added so far. */
  fragments = 0;
  private readonly host = new TestHost({
    arena: ARENA,
    sysctl: { ipfragHighThresh: HIGH_THRESH_BYTES, ipfragMaxDist: MAX_DIST, ipfragTime: TIME_S },
  });

  run({ bytes, at, end }: Exact): number {
    const { env } = this.host;
    const { pool, drops } = env;
    const reassembly = new Reassembly(env);
    const model = new Model();
    const before = pool.handedOut - drops.total - drops.counts[DropReason.consumed];
    let outcome = 0;
    let wholes = 0;
    const ops = Math.min(MAX_OPS, Math.floor((end - at) / OP_BYTES));
    for (let i = 0; i < ops; i++) {
      const op = at + i * OP_BYTES;
      if ((bytes[op] & WAIT) !== 0) {
        this.host.advance((bytes[op + 5] % 64) * SECOND);
        model.expire(env.clock.nowNs / SECOND);
        continue;
      }
      this.fragments++;
      const got = this.add(reassembly, model, bytes, op);
      if (got > 0) wholes++;
      outcome |= got > 0 ? 1 : 2;
      if (reassembly.heldBytes !== model.heldBytes) {
        throw new Error(`${reassembly.heldBytes} bytes are held, the model says ${model.heldBytes}`);
      }
    }
    for (const reason of REASONS)
      outcome = outcome * 2 + (drops.counts[reason] > (this.counts.get(reason) ?? 0) ? 1 : 0);
    for (const reason of REASONS) this.counts.set(reason, drops.counts[reason]);
    this.host.advance(2 * TIME_S * SECOND);
    if (pool.outstanding !== 0 || pool.arena.outstanding !== 0) throw new Error("fragments outlive ipfrag_time");
    if (reassembly.heldBytes !== 0 || reassembly.heldFragments !== 0) throw new Error("holds what it dropped");
    const after = pool.handedOut - drops.total - drops.counts[DropReason.consumed];
    // A whole packet is handed out, and released here; its first fragment is released for it.
    if (after - before !== 2 * wholes) throw new Error(`${after - before - 2 * wholes} fragments vanished`);
    return outcome * 16 + Math.min(15, wholes);
  }

  /** One fragment: to the model and to the machine. The length of a whole packet, or 0. */
  private add(reassembly: Reassembly, model: Model, bytes: Uint8Array, op: number): number {
    const { env } = this.host;
    const key = bytes[op] & KEY_MASK;
    const isLast = (bytes[op] & MORE) === 0;
    const headerLen = 20 + Math.min(10, bytes[op] >>> 4) * 4;
    const start = (word(bytes, op + 1) & 0x1fff) * 8;
    const len = word(bytes, op + 3) % MAX_PAYLOAD;
    const skb = env.pool.alloc(headerLen + len, 0) as SkBuff;
    const net = skb.put(headerLen + len);
    skb.net = net;
    skb.bytes.fill(1, net, net + headerLen);
    const field = (isLast ? 0 : ipv4.FLAG_MF) | (start / 8);
    const { src, id } = KEYS[key];
    ipv4.writeHeader(skb.bytes, skb.view, net, headerLen + len, id, field, 64, 17, src, 0x0a0000ff, 0);
    skb.view.setUint8(net, 0x40 | (headerLen / 4));
    skb.bytes.set(PATTERN.subarray(start + key, start + key + len), net + headerLen);
    // What is not a multiple of 8 cannot be placed, unless it is the end.
    const end = start + (isLast ? len : Math.floor(len / 8) * 8);
    const part = { start, end, headerLen, slotBytes: skb.end - skb.head };
    const wanted = model.add(key, part, isLast, env.clock.nowNs / SECOND);
    const whole = reassembly.add(skb);
    if ((whole === null ? 0 : whole.len) !== wanted)
      throw new Error(`whole of ${whole?.len}, the model says ${wanted}`);
    if (whole === null) return 0;
    checkWhole(whole, key);
    env.pool.release(whole);
    return wanted;
  }
}

const REASONS = [
  DropReason.dupFrag,
  DropReason.fragOverlap,
  DropReason.fragTooFar,
  DropReason.fragReasmTimeout,
  DropReason.ipInhdr,
  DropReason.noMem,
] as const;

function checkWhole(whole: SkBuff, key: number): void {
  const { bytes, data, tail } = whole;
  if (ipv4Verdict(bytes, data, tail) !== DropReason.none) throw new Error("the whole packet is malformed");
  if (word(bytes, data + 2) !== whole.len) throw new Error("the whole packet lies about its length");
  if ((word(bytes, data + 6) & 0x3fff) !== 0) throw new Error("the whole packet is still a fragment");
  const from = data + (bytes[data] & 15) * 4;
  const payload = bytes.subarray(from, tail);
  if (Buffer.compare(payload, PATTERN.subarray(key, key + payload.length)) !== 0) throw new Error("bytes out of place");
}

function op(what: number, start: number, len: number, waitS = 0): number[] {
  const units = start >>> 3;
  return [what, units >>> 8, units, len >>> 8, len, waitS];
}

/** A packet of `total` payload bytes in fragments of `step`; the first with `options` words more of header. */
function inPieces(key: number, total: number, step: number, options = 0): number[][] {
  const ops: number[][] = [];
  for (let start = 0; start < total; start += step) {
    const isLast = start + step >= total;
    const what = key | (isLast ? 0 : MORE) | (start === 0 ? options << 4 : 0);
    ops.push(op(what, start, Math.min(step, total - start)));
  }
  return ops;
}

export function reassemblyTarget(): FuzzTarget {
  let reassembler = new Reassembler();
  const list = (ops: readonly number[][]) => Uint8Array.from(ops.flat());
  return {
    reset: () => {
      reassembler = new Reassembler();
    },
    name: "reassembly",
    maxBytes: OP_BYTES * MAX_OPS,
    fields: Array.from({ length: 8 }, (_, i) => [
      { at: i * OP_BYTES + 1, bytes: 2 as const },
      { at: i * OP_BYTES + 3, bytes: 2 as const },
    ]).flat(),
    seeds: () => [
      list(inPieces(0, 3000, 1480)),
      list(inPieces(1, 4440, 1480).reverse()),
      list(inPieces(2, 65_515, 9_000)),
      // The longest there are, with headers of different lengths.
      list(inPieces(3, 65_512, 16_376, 1).reverse()),
      list(inPieces(0, 65_475, 16_376, 10)),
      // Tiny, doubled, overlapping; two packets at once; one that never ends.
      list([...inPieces(0, 64, 8), ...inPieces(0, 64, 16)]),
      list([op(MORE, 0, 16), op(MORE, 0, 16), op(MORE, 8, 16), op(0, 16, 3)]),
      list(inPieces(0, 160, 16).flatMap((piece, i) => [piece, inPieces(1, 160, 16)[i]])),
      list([op(MORE, 0, 1480), op(WAIT, 0, 0, 31), op(0, 1480, 20)]),
      list([...inPieces(0, 100_000, 1480).slice(0, 40), op(WAIT, 0, 0, 5)]),
    ],
    parts: () => reassembler.fragments,
    run: (input) => reassembler.run(input),
  };
}
