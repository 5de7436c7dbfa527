/**
 * TCP headers and options (RFC 9293 §3.1, §3.2; RFC 7323; RFC 2018).
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |          Source Port          |       Destination Port        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                        Sequence Number                        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                    Acknowledgment Number                      |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Data |       |C|E|U|A|P|R|S|F|                               |
 * | Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
 * |       |       |R|E|G|K|H|T|N|N|                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |           Checksum            |         Urgent Pointer        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                           [Options]                           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
import { finish, pseudoHeaderV4, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";

/** Bytes of a header without options. */
export const HEADER_LEN = 20;
/** Bytes of the longest header (data offset 15). */
export const MAX_HEADER_LEN = 60;
/** IANA protocol number, for the pseudo header. */
const PROTOCOL = 6;
const DST_PORT = 2;
const SEQ = 4;
const ACK = 8;
const DATA_OFFSET = 12;
const FLAGS = 13;
const WINDOW = 14;
/** Offset of the checksum, for devices that complete it. */
export const CHECKSUM = 16;
const URGENT = 18;

/** Bits of the flags byte. */
export const Flag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128 } as const;

/** Option kinds (IANA). */
export const OptionKind = { end: 0, nop: 1, mss: 2, windowScale: 3, sackPermitted: 4, sack: 5, timestamps: 8 } as const;

/** Largest window-scale shift (RFC 7323 §2.3); a larger one counts as this. */
export const MAX_WINDOW_SCALE = 14;
/** Most SACK blocks that fit in 40 bytes of options (three beside timestamps). */
export const MAX_SACK_BLOCKS = 4;
/** First word of the layout NOP NOP timestamps, as `getUint32` reads it: header prediction tests it. */
export const NOP_NOP_TIMESTAMPS = 0x0101080a;

export function srcPort(v: DataView, at: number): number {
  return v.getUint16(at);
}

export function setSrcPort(v: DataView, at: number, value: number): void {
  v.setUint16(at, value);
}

export function dstPort(v: DataView, at: number): number {
  return v.getUint16(at + DST_PORT);
}

export function setDstPort(v: DataView, at: number, value: number): void {
  v.setUint16(at + DST_PORT, value);
}

/** Sequence number, unsigned 32 bit; compare with `base/seq.ts` only. */
export function seq(v: DataView, at: number): number {
  return v.getUint32(at + SEQ);
}

export function setSeq(v: DataView, at: number, value: number): void {
  v.setUint32(at + SEQ, value);
}

/** Acknowledgement number, unsigned 32 bit. */
export function ack(v: DataView, at: number): number {
  return v.getUint32(at + ACK);
}

export function setAck(v: DataView, at: number, value: number): void {
  v.setUint32(at + ACK, value);
}

/** Header length in bytes, options included. */
export function dataOffset(v: DataView, at: number): number {
  return (v.getUint8(at + DATA_OFFSET) >>> 4) << 2;
}

/** Sets the header length in bytes (a multiple of 4) and clears the reserved bits. */
export function setDataOffset(v: DataView, at: number, bytes: number): void {
  v.setUint8(at + DATA_OFFSET, (bytes >>> 2) << 4);
}

/** `Flag` bits. */
export function flags(v: DataView, at: number): number {
  return v.getUint8(at + FLAGS);
}

export function setFlags(v: DataView, at: number, value: number): void {
  v.setUint8(at + FLAGS, value);
}

/** The window field as sent: not yet scaled. */
export function window(v: DataView, at: number): number {
  return v.getUint16(at + WINDOW);
}

export function setWindow(v: DataView, at: number, value: number): void {
  v.setUint16(at + WINDOW, value);
}

export function checksum(v: DataView, at: number): number {
  return v.getUint16(at + CHECKSUM);
}

export function setChecksum(v: DataView, at: number, value: number): void {
  v.setUint16(at + CHECKSUM, value);
}

export function urgent(v: DataView, at: number): number {
  return v.getUint16(at + URGENT);
}

export function setUrgent(v: DataView, at: number, value: number): void {
  v.setUint16(at + URGENT, value);
}

/** Writes the 20 fixed bytes; `headerLen` in bytes with options; checksum and urgent pointer are 0. */
export function writeHeader(
  v: DataView,
  at: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgement: number,
  headerLen: number,
  flagBits: number,
  windowField: number,
): void {
  v.setUint16(at, sourcePort);
  v.setUint16(at + DST_PORT, destinationPort);
  v.setUint32(at + SEQ, sequence);
  v.setUint32(at + ACK, acknowledgement);
  v.setUint16(at + DATA_OFFSET, (headerLen << 10) | flagBits);
  v.setUint16(at + WINDOW, windowField);
  v.setUint32(at + CHECKSUM, 0);
}

/** Computes and stores the checksum of the segment of `len` bytes at `at`, for IPv4. */
export function fillChecksumV4(
  bytes: Uint8Array,
  v: DataView,
  at: number,
  len: number,
  src: number,
  dst: number,
): void {
  v.setUint16(at + CHECKSUM, 0);
  v.setUint16(at + CHECKSUM, finish(sum(bytes, at, len, pseudoHeaderV4(src, dst, PROTOCOL, len))));
}

/** True if the checksum of the segment of `len` bytes at `at` is right, for IPv4. */
export function hasGoodChecksumV4(bytes: Uint8Array, at: number, len: number, src: number, dst: number): boolean {
  return finish(sum(bytes, at, len, pseudoHeaderV4(src, dst, PROTOCOL, len))) === 0;
}

/**
 * The trust boundary of sizes (Linux tcp_v4_rcv): `pktTooSmall` if the header is cut off, says it is shorter than 20
 * bytes or longer than the segment that ends at `end`. The checksum needs the addresses and is transport's.
 */
export function check(v: DataView, at: number, end: number): DropReason {
  if (end - at < HEADER_LEN) return DropReason.pktTooSmall;
  const headerLen = dataOffset(v, at);
  return headerLen < HEADER_LEN || headerLen > end - at ? DropReason.pktTooSmall : DropReason.none;
}

// ── Options ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What the options of one segment said: a record the caller owns and reuses. */
export class TcpOptions {
  /** Bytes; 0 = absent. */
  mss = 0;
  /** Shift, 0 to 14; -1 = absent. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  /** Blocks, 0 to 4. */
  sackCount = 0;
  /** Left and right edge of each block in turn. */
  readonly sackBlocks = new Uint32Array(2 * MAX_SACK_BLOCKS);
}

/**
 * Reads the options of the segment whose TCP header starts at `at` and ends at `headerEnd` into `out`, which is reset.
 * As Linux (tcp_parse_options) it ignores unknown kinds and wrong lengths, and stops at the first option that runs over
 * the end. MSS, window scale and SACK-permitted count only in a SYN: the caller knows whether it is one.
 */
export function parseOptions(v: DataView, at: number, headerEnd: number, out: TcpOptions): void {
  out.mss = 0;
  out.windowScale = -1;
  out.sackPermitted = false;
  out.hasTimestamps = false;
  out.tsVal = out.tsEcr = out.sackCount = 0;
  let option = at + HEADER_LEN;
  while (option < headerEnd) {
    const kind = v.getUint8(option);
    if (kind === OptionKind.end) return;
    if (kind === OptionKind.nop) {
      option++;
      continue;
    }
    if (option + 1 >= headerEnd) return;
    const len = v.getUint8(option + 1);
    if (len < 2 || option + len > headerEnd) return;
    readOption(v, option, kind, len, out);
    option += len;
  }
}

function readOption(v: DataView, at: number, kind: number, len: number, out: TcpOptions): void {
  if (kind === OptionKind.timestamps && len === 10) {
    out.hasTimestamps = true;
    out.tsVal = v.getUint32(at + 2);
    out.tsEcr = v.getUint32(at + 6);
  } else if (kind === OptionKind.sack && len >= 10 && (len - 2) % 8 === 0) {
    out.sackCount = (len - 2) >>> 3;
    for (let i = 0; i < 2 * out.sackCount; i++) out.sackBlocks[i] = v.getUint32(at + 2 + 4 * i);
  } else if (kind === OptionKind.mss && len === 4) {
    out.mss = v.getUint16(at + 2);
  } else if (kind === OptionKind.windowScale && len === 3) {
    out.windowScale = Math.min(v.getUint8(at + 2), MAX_WINDOW_SCALE);
  } else if (kind === OptionKind.sackPermitted && len === 2) {
    out.sackPermitted = true;
  }
}

// Each writer writes one option at the address `at` and returns its bytes; the caller pads the header to 4 with NOPs.

export function writeNop(v: DataView, at: number): number {
  v.setUint8(at, OptionKind.nop);
  return 1;
}

export function writeMss(v: DataView, at: number, mss: number): number {
  v.setUint16(at, (OptionKind.mss << 8) | 4);
  v.setUint16(at + 2, mss);
  return 4;
}

export function writeWindowScale(v: DataView, at: number, shift: number): number {
  v.setUint16(at, (OptionKind.windowScale << 8) | 3);
  v.setUint8(at + 2, shift);
  return 3;
}

export function writeSackPermitted(v: DataView, at: number): number {
  v.setUint16(at, (OptionKind.sackPermitted << 8) | 2);
  return 2;
}

/** The bare option, 10 bytes. */
export function writeTimestamps(v: DataView, at: number, tsVal: number, tsEcr: number): number {
  v.setUint16(at, (OptionKind.timestamps << 8) | 10);
  v.setUint32(at + 2, tsVal);
  v.setUint32(at + 6, tsEcr);
  return 10;
}

/** NOP NOP timestamps, 12 bytes: the layout of every segment after the SYN (RFC 7323 appendix A). */
export function writeNopNopTimestamps(v: DataView, at: number, tsVal: number, tsEcr: number): number {
  v.setUint32(at, NOP_NOP_TIMESTAMPS);
  v.setUint32(at + 4, tsVal);
  v.setUint32(at + 8, tsEcr);
  return 12;
}

/** The bare option with `count` blocks (left, right, left, right …), 2 + 8 · count bytes. */
export function writeSack(v: DataView, at: number, blocks: Uint32Array, count: number): number {
  const len = 2 + 8 * count;
  v.setUint16(at, (OptionKind.sack << 8) | len);
  for (let i = 0; i < 2 * count; i++) v.setUint32(at + 2 + 4 * i, blocks[i]);
  return len;
}

// ── Repr ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One option as a value. `raw` is what cannot be read as an option: an end mark with what follows, or a broken one. */
export type TcpOption =
  | { readonly kind: "nop" }
  | { readonly kind: "mss"; readonly mss: number }
  | { readonly kind: "windowScale"; readonly shift: number }
  | { readonly kind: "sackPermitted" }
  | { readonly kind: "timestamps"; readonly tsVal: number; readonly tsEcr: number }
  | { readonly kind: "sack"; readonly blocks: readonly (readonly [left: number, right: number])[] }
  | { readonly kind: "unknown"; readonly number: number; readonly data: Uint8Array }
  | { readonly kind: "raw"; readonly data: Uint8Array };

/** A segment as a value: for tests, the lab and captures, never on the packet path. */
export interface Repr {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  /** The four reserved bits. */
  readonly reserved: number;
  readonly flags: number;
  readonly window: number;
  /** As on the wire; `fillChecksumV4` computes it. */
  readonly checksum: number;
  readonly urgent: number;
  /** In wire order. `emit` pads with end marks to a multiple of 4 bytes. */
  readonly options: readonly TcpOption[];
  readonly payload: Uint8Array;
}

/** Reads the segment in [at, end). `check` must have said `none`. */
export function parse(bytes: Uint8Array, at = 0, end = bytes.length): Repr {
  const v = viewOf(bytes);
  const headerEnd = at + dataOffset(v, at);
  return {
    srcPort: srcPort(v, at),
    dstPort: dstPort(v, at),
    seq: seq(v, at),
    ack: ack(v, at),
    reserved: v.getUint8(at + DATA_OFFSET) & 15,
    flags: flags(v, at),
    window: window(v, at),
    checksum: checksum(v, at),
    urgent: urgent(v, at),
    options: optionValues(bytes, at + HEADER_LEN, headerEnd),
    payload: bytes.slice(headerEnd, end),
  };
}

function optionValues(bytes: Uint8Array, from: number, end: number): TcpOption[] {
  const options: TcpOption[] = [];
  let at = from;
  while (at < end) {
    if (bytes[at] === OptionKind.nop) {
      options.push({ kind: "nop" });
      at++;
      continue;
    }
    const len = at + 1 < end ? bytes[at + 1] : 0;
    if (bytes[at] === OptionKind.end || len < 2 || at + len > end) {
      options.push({ kind: "raw", data: bytes.slice(at, end) });
      break;
    }
    options.push(optionValue(bytes[at], bytes.slice(at + 2, at + len)));
    at += len;
  }
  return options;
}

function optionValue(kind: number, data: Uint8Array): TcpOption {
  const v = viewOf(data);
  if (kind === OptionKind.mss && data.length === 2) return { kind: "mss", mss: v.getUint16(0) };
  if (kind === OptionKind.windowScale && data.length === 1) return { kind: "windowScale", shift: data[0] };
  if (kind === OptionKind.sackPermitted && data.length === 0) return { kind: "sackPermitted" };
  if (kind === OptionKind.timestamps && data.length === 8) {
    return { kind: "timestamps", tsVal: v.getUint32(0), tsEcr: v.getUint32(4) };
  }
  if (kind === OptionKind.sack && data.length >= 8 && data.length % 8 === 0) {
    const block = (_: unknown, i: number) => [v.getUint32(8 * i), v.getUint32(8 * i + 4)] as const;
    return { kind: "sack", blocks: Array.from({ length: data.length / 8 }, block) };
  }
  return { kind: "unknown", number: kind, data };
}

/** Bytes of one option. */
function optionBytes(option: TcpOption): Uint8Array {
  const bytes = new Uint8Array(MAX_HEADER_LEN);
  const v = viewOf(bytes);
  switch (option.kind) {
    case "nop":
      return bytes.subarray(0, writeNop(v, 0));
    case "mss":
      return bytes.subarray(0, writeMss(v, 0, option.mss));
    case "windowScale":
      return bytes.subarray(0, writeWindowScale(v, 0, option.shift));
    case "sackPermitted":
      return bytes.subarray(0, writeSackPermitted(v, 0));
    case "timestamps":
      return bytes.subarray(0, writeTimestamps(v, 0, option.tsVal, option.tsEcr));
    case "sack":
      return bytes.subarray(0, writeSack(v, 0, Uint32Array.from(option.blocks.flat()), option.blocks.length));
    case "unknown":
      return Uint8Array.of(option.number, option.data.length + 2, ...option.data);
    case "raw":
      return option.data;
  }
}

/** The segment's bytes, with the checksum field as given. Throws RangeError if the options need more than 40 bytes. */
export function emit(r: Repr): Uint8Array {
  const options = r.options.map(optionBytes);
  const optionsLen = options.reduce((total, o) => total + o.length, 0);
  const headerLen = HEADER_LEN + ((optionsLen + 3) & ~3);
  if (headerLen > MAX_HEADER_LEN) throw new RangeError(`TCP options of ${optionsLen} bytes: at most 40 fit`);
  const bytes = new Uint8Array(headerLen + r.payload.length);
  const v = viewOf(bytes);
  writeHeader(v, 0, r.srcPort, r.dstPort, r.seq, r.ack, headerLen, r.flags, r.window);
  v.setUint8(DATA_OFFSET, v.getUint8(DATA_OFFSET) | r.reserved);
  setChecksum(v, 0, r.checksum);
  setUrgent(v, 0, r.urgent);
  let at = HEADER_LEN;
  for (const option of options) {
    bytes.set(option, at);
    at += option.length;
  }
  bytes.set(r.payload, headerLen);
  return bytes;
}

/** One line for people, after tcpdump. */
export function pretty(r: Repr): string {
  const options = r.options.length > 0 ? ` [${r.options.map(prettyOption).join(",")}]` : "";
  const span = r.payload.length > 0 ? `${r.seq}:${(r.seq + r.payload.length) >>> 0}` : `${r.seq}`;
  const acked = (r.flags & Flag.ack) !== 0 ? ` ack ${r.ack}` : "";
  const head = `${r.srcPort} > ${r.dstPort} [${flagLetters(r.flags)}] seq ${span}${acked} win ${r.window}`;
  return `${head}${options} length ${r.payload.length}`;
}

/** tcpdump's letters: "S.", "P.", "." for a bare ACK, "none". */
export function flagLetters(bits: number): string {
  const letters: readonly (readonly [number, string])[] = [
    [Flag.fin, "F"],
    [Flag.syn, "S"],
    [Flag.rst, "R"],
    [Flag.psh, "P"],
    [Flag.ack, "."],
    [Flag.urg, "U"],
    [Flag.ece, "E"],
    [Flag.cwr, "W"],
  ];
  const set = letters.filter(([bit]) => (bits & bit) !== 0).map(([, letter]) => letter);
  return set.length > 0 ? set.join("") : "none";
}

function prettyOption(option: TcpOption): string {
  switch (option.kind) {
    case "mss":
      return `mss ${option.mss}`;
    case "windowScale":
      return `wscale ${option.shift}`;
    case "sackPermitted":
      return "sackOK";
    case "timestamps":
      return `TS val ${option.tsVal} ecr ${option.tsEcr}`;
    case "sack":
      return `sack ${option.blocks.map(([left, right]) => `{${left}:${right}}`).join("")}`;
    case "unknown":
      return `unknown-${option.number}`;
    case "raw":
      return option.data[0] === OptionKind.end ? "eol" : "malformed";
    default:
      return option.kind;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
