/**
 * What a receive input is: a list of operations. Frames arrive, time passes, the process makes its calls.
 *
 *   op byte, argument byte, and for a frame its length in two bytes and its bytes
 *
 * A frame may ask to be made to fit (`Fit`): right checksums, the host's MAC, and TCP numbers relative to the
 * connection. Then sequence and acknowledgement numbers count bytes of the two streams, and the payload is what stands
 * there.
 */
import type { Prng } from "../../../src/base/prng.ts";
import * as ethernet from "../../../src/wire/ethernet.ts";
import * as icmp from "../../../src/wire/icmp.ts";
import * as ipv4 from "../../../src/wire/ipv4.ts";
import * as tcp from "../../../src/wire/tcp.ts";
import * as udp from "../../../src/wire/udp.ts";
import { Draft } from "../input.ts";
import { type Field, mutate, pick } from "../mutations.ts";
import { HOST, HOST_MAC, HTTP_PORT, PEER, PEER_MAC } from "./receive-world.ts";

/** What an operation is (its byte modulo 4). */
export const Op = { frame: 0, wait: 1, call: 2, superFrame: 3 } as const;
/** Bits of a frame's argument. */
export const Fit = { ipSum: 1, transportSum: 2, relative: 4, macs: 8, behind: 16 } as const;
/** As most frames of a peer are. */
export const FITTING = Fit.ipSum | Fit.transportSum | Fit.relative | Fit.macs;

/** What the process does: the argument's lower half; the upper one says to which of its connections. */
export const Call = {
  accept: 0,
  read: 1,
  readOne: 2,
  write: 3,
  writeMuch: 4,
  shutdown: 5,
  close: 6,
  abort: 7,
  connect: 8,
  noDelay: 9,
  cork: 10,
  datagrams: 11,
  sendDatagram: 12,
  smallBuffer: 13,
  keepAlive: 14,
  lingerZero: 15,
} as const;

export const MAX_FRAME_BYTES = 1600;
export const MAX_SCRIPT_BYTES = 6000;

/** Where the fields of Ethernet, IPv4 without options and TCP, UDP or ICMP stand in a frame. */
const FRAME_FIELDS: readonly Field[] = [
  { at: 12, bytes: 2 },
  { at: 14, bytes: 1 },
  { at: 16, bytes: 2 },
  { at: 20, bytes: 2 },
  { at: 22, bytes: 1 },
  { at: 23, bytes: 1 },
  { at: 26, bytes: 4 },
  { at: 30, bytes: 4 },
  { at: 34, bytes: 2 },
  { at: 36, bytes: 2 },
  { at: 38, bytes: 4 },
  { at: 42, bytes: 4 },
  { at: 46, bytes: 1 },
  { at: 47, bytes: 1 },
  { at: 48, bytes: 2 },
  { at: 52, bytes: 2 },
  { at: 54, bytes: 1 },
  { at: 55, bytes: 1 },
];

/** Where each operation starts, and the end of the last whole one. */
export function opStarts(bytes: Uint8Array, from: number, end: number): number[] {
  const starts: number[] = [];
  let at = from;
  while (at + 2 <= end) {
    const len = opLen(bytes, at, end);
    if (at + len > end) break;
    starts.push(at);
    at += len;
  }
  starts.push(at);
  return starts;
}

function hasFrame(op: number): boolean {
  return op % 4 === Op.frame || op % 4 === Op.superFrame;
}

function opLen(bytes: Uint8Array, at: number, end: number): number {
  if (!hasFrame(bytes[at])) return 2;
  return at + 4 > end ? 4 : 4 + bytes[at + 2] * 256 + bytes[at + 3];
}

const part = new Draft(MAX_FRAME_BYTES);

/** One or two operations are removed, repeated, moved, taken from another script, or changed. */
export function mutateScript(draft: Draft, prng: Prng, other: Uint8Array): boolean {
  const starts = opStarts(draft.bytes, 0, draft.len);
  const ops: Uint8Array[] = [];
  for (let i = 0; i + 1 < starts.length; i++) ops.push(draft.bytes.slice(starts[i], starts[i + 1]));
  if (ops.length === 0) return false;
  const theirs = opStarts(other, 0, other.length);
  for (let times = 1 + pick(prng, 3); times > 0 && ops.length > 0; times--) {
    const at = pick(prng, ops.length);
    const from = pick(prng, Math.max(1, theirs.length - 1));
    const what = pick(prng, 12);
    if (what === 0) ops.splice(at, 1);
    else if (what === 1) ops.splice(pick(prng, ops.length + 1), 0, ops[at]);
    else if (what === 2) ops.push(...ops.splice(at, 1));
    else if (what <= 4 && theirs.length > 1) ops.splice(at, 0, other.slice(theirs[from], theirs[from + 1]));
    else if (what === 5 && theirs.length > 1) ops.splice(at, ops.length, other.slice(theirs[from]));
    else ops[at] = changed(ops[at], prng, other);
  }
  draft.len = 0;
  for (const op of ops) {
    if (draft.len + op.length > draft.maxBytes) break;
    draft.bytes.set(op, draft.len);
    draft.len += op.length;
  }
  return true;
}

/** The operation with another argument or another frame. */
function changed(op: Uint8Array, prng: Prng, other: Uint8Array): Uint8Array {
  if (!hasFrame(op[0]) || op.length < 4 || pick(prng, 8) === 0) return Uint8Array.of(op[0], prng.u32(), ...op.slice(2));
  part.load(op.subarray(4));
  mutate(part, prng, FRAME_FIELDS, other);
  return Uint8Array.of(op[0], op[1], part.len >>> 8, part.len, ...part.toBytes());
}

// ── writing scripts ───────────────────────────────────────────────────────────────────────────────────────────────

export function frameOp(frame: Uint8Array, fit: number = FITTING): number[] {
  return [Op.frame, fit, frame.length >>> 8, frame.length & 255, ...frame];
}

/** `wait(n)`: see `WAITS_NS` of the target. */
export function wait(index: number): number[] {
  return [Op.wait, index];
}

export function call(what: number, connection = 0): number[] {
  return [Op.call, what | (connection << 4)];
}

export function etherFrame(etherType: number, payload: Uint8Array, dst: Uint8Array = HOST_MAC): Uint8Array {
  return ethernet.emit({ dst: ethernet.formatMac(dst), src: ethernet.formatMac(PEER_MAC), etherType, payload });
}

export function ipFrame(protocol: number, payload: Uint8Array, more: Partial<ipv4.Repr> = {}): Uint8Array {
  const packet = ipv4.emit({
    src: PEER.v4,
    dst: HOST.v4,
    protocol,
    ttl: 64,
    tos: 0,
    id: 1,
    reservedFlag: false,
    dontFragment: false,
    moreFragments: false,
    fragmentOffset: 0,
    options: new Uint8Array(0),
    payload,
    ...more,
  });
  return etherFrame(ethernet.EtherType.ipv4, packet);
}

/** A segment of the peer; `seq` and `ack` count bytes of the two streams. */
export interface SegmentPlan {
  readonly flags: number;
  readonly seq?: number;
  readonly ack?: number;
  readonly len?: number;
  readonly window?: number;
  readonly port?: number;
  readonly hostPort?: number;
  readonly options?: readonly tcp.TcpOption[];
}

export function segmentOp(plan: SegmentPlan): number[] {
  const segment = tcp.emit({
    srcPort: plan.port ?? 40_000,
    dstPort: plan.hostPort ?? HTTP_PORT,
    seq: (plan.seq ?? 0) >>> 0,
    ack: (plan.ack ?? 0) >>> 0,
    reserved: 0,
    flags: plan.flags,
    window: plan.window ?? 65_535,
    checksum: 0,
    urgent: 0,
    options: plan.options ?? [],
    payload: new Uint8Array(plan.len ?? 0),
  });
  return frameOp(ipFrame(6, segment));
}

/** The same with `extra` bytes of payload more, cut every `gsoSize` bytes. */
export function superSegmentOp(plan: SegmentPlan, extra: number, gsoSize: number, dst = HOST): number[] {
  const op = segmentOp(plan);
  op[0] = Op.superFrame;
  const frame = 4;
  op[frame + 18] = extra >>> 8;
  op[frame + 19] = extra & 255;
  op[frame + 52] = gsoSize >>> 8;
  op[frame + 53] = gsoSize & 255;
  for (let i = 0; i < 4; i++) op[frame + 30 + i] = (dst.v4 >>> (24 - 8 * i)) & 255;
  return op;
}

export function udpOp(dstPort: number, len: number, more: Partial<ipv4.Repr> = {}, srcPort = 5000): number[] {
  const payload = new Uint8Array(len);
  return frameOp(ipFrame(17, udp.emit({ srcPort, dstPort, checksum: 0, payload }), more));
}

export function icmpOp(message: icmp.Repr, more: Partial<ipv4.Repr> = {}): number[] {
  return frameOp(ipFrame(1, icmp.emit(message), more));
}
