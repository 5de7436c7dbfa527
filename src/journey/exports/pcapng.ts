/**
 * pcapng writer (draft-ietf-opsawg-pcapng): Ethernet frames with nanosecond times, several interfaces, comments.
 *
 * Each function returns one block; a capture is `sectionHeader`, `interfaceDescription` for each interface (their
 * order is
 * their number), then packets. Little-endian. Opens in Wireshark and tcpdump.
 */
import type { Ns } from "../../base/time.ts";

const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;
const OPTION_END = 0;
const OPTION_COMMENT = 1;
const OPTION_USER_APPLICATION = 4;
const OPTION_IF_NAME = 2;
const OPTION_IF_DESCRIPTION = 3;
const OPTION_IF_TSRESOL = 9;
const OPTION_PACKET_FLAGS = 2;
/** if_tsresol: 10^-9. */
const NANOSECONDS = 9;

export interface PacketOptions {
  /** Shown by Wireshark as the packet's comments: what sojourn knows of the frame (drop reason, journeys). */
  readonly comment?: string | readonly string[];
  /** epb_flags: which way it went. */
  readonly direction?: "inbound" | "outbound";
  /** Length on the wire if only its head was kept. */
  readonly originalLength?: number;
}

/** The first block of a capture. */
export function sectionHeader(application = "sojourn"): Uint8Array {
  const body = new Bytes();
  body.u32(BYTE_ORDER_MAGIC);
  body.u16(1);
  body.u16(0);
  body.u32(0xffffffff); // section length: not given
  body.u32(0xffffffff);
  body.option(OPTION_USER_APPLICATION, utf8(application));
  body.endOptions();
  return block(BLOCK_SECTION, body);
}

/** One Ethernet interface; times of its packets are in nanoseconds. */
export function interfaceDescription(name: string, description = "", snapLength = 0): Uint8Array {
  const body = new Bytes();
  body.u16(LINKTYPE_ETHERNET);
  body.u16(0);
  body.u32(snapLength);
  body.option(OPTION_IF_NAME, utf8(name));
  if (description !== "") body.option(OPTION_IF_DESCRIPTION, utf8(description));
  body.option(OPTION_IF_TSRESOL, Uint8Array.of(NANOSECONDS));
  body.endOptions();
  return block(BLOCK_INTERFACE, body);
}

/**
 * One frame seen on interface number `ifaceIndex` at `atNs` after `originUnixNs` (the server's start in Unix time).
 * *Borrows* `bytes[at … at+len)`.
 */
export function enhancedPacket(
  ifaceIndex: number,
  atNs: Ns,
  originUnixNs: bigint,
  bytes: Uint8Array,
  at: number,
  len: number,
  options: PacketOptions = {},
): Uint8Array {
  const unixNs = originUnixNs + BigInt(Math.round(atNs));
  const body = new Bytes();
  body.u32(ifaceIndex);
  body.u32(Number(unixNs >> 32n));
  body.u32(Number(unixNs & 0xffffffffn));
  body.u32(len);
  body.u32(options.originalLength ?? len);
  body.bytes(bytes, at, len);
  const comments = typeof options.comment === "string" ? [options.comment] : (options.comment ?? []);
  for (const comment of comments) body.option(OPTION_COMMENT, utf8(comment));
  if (options.direction !== undefined)
    body.option(OPTION_PACKET_FLAGS, Uint8Array.of(options.direction === "inbound" ? 1 : 2, 0, 0, 0));
  if (comments.length > 0 || options.direction !== undefined) body.endOptions();
  return block(BLOCK_PACKET, body);
}

function block(type: number, body: Bytes): Uint8Array {
  const length = body.length + 12;
  const out = new Uint8Array(length);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  body.copyTo(out, 8);
  view.setUint32(length - 4, length, true);
  return out;
}

/** A growing little-endian body, padded to 32 bits where the format says so. */
class Bytes {
  length = 0;
  private data = new Uint8Array(256);

  u16(value: number): void {
    this.room(2);
    this.data[this.length++] = value & 255;
    this.data[this.length++] = (value >>> 8) & 255;
  }

  u32(value: number): void {
    this.u16(value & 0xffff);
    this.u16(value >>> 16);
  }

  /** Bytes, padded with zeros to a multiple of four. */
  bytes(bytes: Uint8Array, at: number, len: number): void {
    const padded = (len + 3) & ~3;
    this.room(padded);
    this.data.set(bytes.subarray(at, at + len), this.length);
    this.length += padded;
  }

  option(code: number, value: Uint8Array): void {
    const len = Math.min(value.length, 0xffff);
    this.u16(code);
    this.u16(len);
    this.bytes(value, 0, len);
  }

  endOptions(): void {
    this.u16(OPTION_END);
    this.u16(0);
  }

  copyTo(out: Uint8Array, at: number): void {
    out.set(this.data.subarray(0, this.length), at);
  }

  private room(more: number): void {
    if (this.length + more <= this.data.length) return;
    const data = new Uint8Array(Math.max(this.data.length * 2, this.length + more));
    data.set(this.data);
    this.data = data;
  }
}

/** UTF-8 without TextEncoder (the core has no web types). Lone surrogates become U+FFFD. */
function utf8(text: string): Uint8Array {
  const out: number[] = [];
  for (const character of text) {
    let code = character.codePointAt(0) as number;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) out.push(code);
    else if (code < 0x800) out.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) out.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else out.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
  }
  return Uint8Array.from(out);
}
