/**
 * What the fields of a head mean for the message: its length, whether the connection stays, whom it is for.
 * The strict reading of RFC 9112 §6 and §3.2: whatever two parsers could read in two ways is refused.
 */
import type { RequestHead } from "./head.ts";
import type { RequestLimits } from "./limits.ts";
import { ASTERISK, AT, COMMA, HOST, HTAB, QUESTION, SLASH, SP, TOKEN, ZERO } from "./tables.ts";
import { equalsIgnoreCase } from "./text.ts";

/** The fields the machine itself reads. */
export const Known = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  expect: 5,
  upgrade: 6,
} as const;
export type Known = (typeof Known)[keyof typeof Known];

const BY_LENGTH: readonly (readonly [name: string, known: Known] | undefined)[] = (() => {
  const table: (readonly [string, Known] | undefined)[] = new Array(18).fill(undefined);
  for (const [name, known] of [
    ["host", Known.host],
    ["content-length", Known.contentLength],
    ["transfer-encoding", Known.transferEncoding],
    ["connection", Known.connection],
    ["expect", Known.expect],
    ["upgrade", Known.upgrade],
  ] as const) {
    table[name.length] = [name, known];
  }
  return table;
})();

/** Lengths above 2^64 − 1 are refused where they are seen; lengths above the limit when the head is complete. */
const LENGTH_MAX = 2 ** 64;

/** The refusal of a message, filled by `Framing`. */
export class Refusal {
  /** 0 while nothing is wrong. */
  status = 0;
  reason = "";
  /** Where, as an offset from the head's base. */
  at = 0;

  set(status: number, reason: string, at: number): false {
    this.status = status;
    this.reason = reason;
    this.at = at;
    return false;
  }
}

/** Reads the framing fields of one head after another into the head record. */
export class Framing {
  private readonly head: RequestHead;
  private readonly refusal: Refusal;
  private transferEncoding = false;
  /** The codings named so far end in chunked. */
  private endsChunked = false;
  private unknownCoding = false;
  private close = false;
  private keepAlive = false;
  private upgradeToken = false;
  private upgradeField = false;
  private expectContinue = false;
  private expectOther = false;

  constructor(head: RequestHead, refusal: Refusal) {
    this.head = head;
    this.refusal = refusal;
  }

  begin(): void {
    this.transferEncoding = false;
    this.endsChunked = false;
    this.unknownCoding = false;
    this.close = false;
    this.keepAlive = false;
    this.upgradeToken = false;
    this.upgradeField = false;
    this.expectContinue = false;
    this.expectOther = false;
  }

  /** A field name is complete; `after` is the offset past its colon. */
  name(bytes: Uint8Array, base: number, nameAt: number, nameEnd: number, after: number): Known | -1 {
    const entry = BY_LENGTH[nameEnd - nameAt];
    if (entry === undefined || !equalsIgnoreCase(bytes, base + nameAt, base + nameEnd, entry[0])) return Known.other;
    const known = entry[1];
    if (known === Known.transferEncoding) {
      if (this.head.contentLength >= 0) {
        this.refusal.set(400, "Transfer-Encoding with Content-Length", after);
        return -1;
      }
      this.transferEncoding = true;
    } else if (known === Known.contentLength && this.transferEncoding) {
      this.refusal.set(400, "Content-Length with Transfer-Encoding", after);
      return -1;
    }
    return known;
  }

  /** A known field is complete; offsets from `base`. False when it makes the message invalid. */
  value(known: Known, bytes: Uint8Array, base: number, at: number, end: number, index: number): boolean {
    switch (known) {
      case Known.host:
        return this.host(bytes, base, at, end, index);
      case Known.contentLength:
        return this.contentLength(bytes, base, at, end);
      case Known.transferEncoding:
        return this.codings(bytes, base, at, end);
      case Known.connection:
        this.connection(bytes, base + at, base + end);
        return true;
      case Known.expect:
        if (equalsIgnoreCase(bytes, base + at, base + end, "100-continue")) this.expectContinue = true;
        else this.expectOther = true;
        return true;
      case Known.upgrade:
        this.upgradeField = end > at;
        return true;
      default:
        return true;
    }
  }

  /** RFC 9112 §3.2: exactly one Host, and it looks like one. */
  private host(bytes: Uint8Array, base: number, at: number, end: number, index: number): boolean {
    if (this.head.hostField >= 0) return this.refusal.set(400, "more than one Host", at);
    for (let i = at; i < end; i++) {
      if (!HOST[bytes[base + i]]) return this.refusal.set(400, "invalid Host", i);
    }
    this.head.hostField = index;
    return true;
  }

  /** RFC 9110 §8.6: digits only; the same value twice is one value, two different ones are an attack. */
  private contentLength(bytes: Uint8Array, base: number, at: number, end: number): boolean {
    let length = 0;
    for (let i = at; i < end; i++) {
      const digit = bytes[base + i] - ZERO;
      if (digit < 0 || digit > 9) return this.refusal.set(400, "invalid Content-Length", badByte(bytes, base, i, end));
      length = length * 10 + digit;
      if (length >= LENGTH_MAX) return this.refusal.set(400, "Content-Length past 2^64", i);
    }
    if (at === end) return this.refusal.set(400, "empty Content-Length", at);
    const before = this.head.contentLength;
    if (before >= 0 && before !== length) return this.refusal.set(400, "two different Content-Length values", at);
    this.head.contentLength = length;
    return true;
  }

  /** RFC 9112 §6.1: chunked comes last and once; not even an empty element may follow, which others refuse. */
  private codings(bytes: Uint8Array, base: number, at: number, end: number): boolean {
    let from = at;
    while (from <= end) {
      let to = from;
      while (to < end && bytes[base + to] !== COMMA) to++;
      const first = skipSpace(bytes, base, from, to);
      const last = trimSpace(bytes, base, first, to);
      if (this.endsChunked) return this.refusal.set(400, "chunked is not the last transfer coding", from);
      if (equalsIgnoreCase(bytes, base + first, base + last, "chunked")) this.endsChunked = true;
      else if (last > first) this.unknownCoding = true;
      from = to + 1;
    }
    return true;
  }

  private connection(bytes: Uint8Array, at: number, end: number): void {
    let from = at;
    while (from < end) {
      let to = from;
      while (to < end && TOKEN[bytes[to]]) to++;
      if (equalsIgnoreCase(bytes, from, to, "close")) this.close = true;
      else if (equalsIgnoreCase(bytes, from, to, "keep-alive")) this.keepAlive = true;
      else if (equalsIgnoreCase(bytes, from, to, "upgrade")) this.upgradeToken = true;
      from = to + 1;
    }
  }

  /** The head is complete, its last byte before offset `end`: decides the framing. False when it is refused. */
  finish(limits: RequestLimits, end: number): boolean {
    const { head, refusal } = this;
    const http10 = head.minorVersion === 0;
    if (!http10 && head.hostField < 0) return refusal.set(400, "no Host", end);
    if (this.transferEncoding) {
      if (!this.endsChunked) return refusal.set(400, "Transfer-Encoding does not end in chunked", end);
      if (http10) return refusal.set(400, "Transfer-Encoding in HTTP/1.0", end);
      if (this.unknownCoding) return refusal.set(501, "transfer coding not implemented", end);
    }
    if (head.contentLength > limits.bodyBytes) return refusal.set(413, "body over the limit", end);
    head.chunked = this.transferEncoding;
    head.keepAlive = !this.close && (!http10 || this.keepAlive);
    head.upgrade = this.upgradeToken && this.upgradeField && !http10;
    // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
    if (this.expectOther && !http10) return refusal.set(417, "unknown expectation", end);
    head.expectContinue = this.expectContinue && !http10 && head.hasBody;
    if (head.isMethod("CONNECT")) {
      // RFC 9110 §9.3.6: what follows is not a body but the tunnel, which nobody here opens.
      head.chunked = false;
      head.contentLength = -1;
      head.expectContinue = false;
      head.keepAlive = false;
    }
    return true;
  }

  /** RFC 9112 §3.2: the form of the target fits the method. Offsets from the head's base. */
  target(): boolean {
    const { bytes, base, targetAt, targetEnd } = this.head;
    const first = bytes[base + targetAt];
    if (first === SLASH || this.head.isMethod("CONNECT")) return true;
    if (targetEnd - targetAt === 1 && first === ASTERISK) {
      return this.head.isMethod("OPTIONS") || this.refusal.set(400, "target * is for OPTIONS", targetAt);
    }
    const from = base + targetAt;
    const end = base + targetEnd;
    if (startsWith(bytes, from, end, "http://")) return this.authority(targetAt + "http://".length);
    if (startsWith(bytes, from, end, "https://")) return this.authority(targetAt + "https://".length);
    return this.refusal.set(400, "invalid request target", targetAt);
  }

  /** RFC 3986 §3.2, RFC 9110 §4.2.1: a host, maybe a user before it; never nobody. Offset from the head's base. */
  private authority(from: number): boolean {
    const { bytes, base, targetEnd } = this.head;
    let at = from;
    while (at < targetEnd && HOST[bytes[base + at]]) at++;
    let hostAt = from;
    if (at < targetEnd && bytes[base + at] === AT) {
      hostAt = ++at;
      while (at < targetEnd && HOST[bytes[base + at]]) at++;
    }
    const isOver = at === targetEnd || bytes[base + at] === SLASH || bytes[base + at] === QUESTION;
    return (at > hostAt && isOver) || this.refusal.set(400, "invalid request target", at);
  }
}

function startsWith(bytes: Uint8Array, at: number, end: number, lower: string): boolean {
  return end - at > lower.length && equalsIgnoreCase(bytes, at, at + lower.length, lower);
}

function skipSpace(bytes: Uint8Array, base: number, at: number, end: number): number {
  while (at < end && (bytes[base + at] === SP || bytes[base + at] === HTAB)) at++;
  return at;
}

function trimSpace(bytes: Uint8Array, base: number, at: number, end: number): number {
  while (end > at && (bytes[base + end - 1] === SP || bytes[base + end - 1] === HTAB)) end--;
  return end;
}

/** White space inside a number is no error yet: the byte after it is. */
function badByte(bytes: Uint8Array, base: number, at: number, end: number): number {
  const past = skipSpace(bytes, base, at, end);
  return past < end ? past : at;
}
