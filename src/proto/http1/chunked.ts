/**
 * The chunked transfer coding, RFC 9112 §7.1: sizes, extensions (checked, then ignored) and data. The trailer section
 * is left to the parser, which reads field lines anyway.
 */
import { CHUNK_LINE_MAX_BYTES, CHUNK_OVERHEAD_BYTES } from "./limits.ts";
import { BACKSLASH, CR, DQUOTE, EQUALS, FIELD_VALUE, HEX, HTAB, LF, SEMICOLON, SP, TOKEN } from "./tables.ts";

const State = {
  sizeStart: 0,
  size: 1,
  /** White space after a size or a value: only ";" may follow (RFC 9112 §7.1.1, BWS). */
  space: 2,
  nameStart: 3,
  name: 4,
  /** White space after an extension's name: "=" or ";" may follow. */
  nameSpace: 5,
  valueStart: 6,
  value: 7,
  quoted: 8,
  escape: 9,
  quotedEnd: 10,
  lineFeed: 11,
  data: 12,
  dataCr: 13,
  dataLf: 14,
  trailers: 15,
} as const;
type State = (typeof State)[keyof typeof State];

/** What `next` found. */
export const Chunk = { needData: 0, data: 1, trailers: 2, bad: 3, tooLarge: 4 } as const;
export type Chunk = (typeof Chunk)[keyof typeof Chunk];

export class ChunkedDecoder {
  private state: State = State.sizeStart;
  private remaining = 0;
  private lineBytes = 0;
  private overhead = 0;
  private limit = 0;
  /** Data bytes so far. */
  total = 0;
  /** Position in the fed bytes after the last call: consumed, or the byte that was refused. */
  at = 0;
  /** The data found, in the fed bytes. */
  dataAt = 0;
  dataEnd = 0;
  /** Why it was refused. */
  reason = "";

  /** Starts a body of at most `limitBytes`. */
  begin(limitBytes: number): void {
    this.state = State.sizeStart;
    this.remaining = 0;
    this.lineBytes = 0;
    this.overhead = 0;
    this.total = 0;
    this.limit = limitBytes;
  }

  /** Reads on; yields at most one run of data. After `trailers` the field lines begin at `at`. */
  next(bytes: Uint8Array, at: number, end: number): Chunk {
    this.at = at;
    while (this.at < end) {
      if (this.state === State.data) return this.takeData(end);
      const found = this.state > State.data ? this.afterData(bytes[this.at]) : this.sizeLine(bytes, end);
      if (found !== Chunk.needData) return found;
    }
    return Chunk.needData;
  }

  private takeData(end: number): Chunk {
    const length = Math.min(end - this.at, this.remaining);
    this.dataAt = this.at;
    this.at += length;
    this.dataEnd = this.at;
    this.total += length;
    this.remaining -= length;
    if (this.remaining === 0) this.state = State.dataCr;
    return Chunk.data;
  }

  private afterData(byte: number): Chunk {
    if (byte !== (this.state === State.dataCr ? CR : LF)) return this.refuse("chunk data does not end with CRLF");
    this.at++;
    if (this.state === State.dataCr) {
      this.state = State.dataLf;
    } else {
      this.state = State.sizeStart;
      this.lineBytes = 0;
    }
    return Chunk.needData;
  }

  private sizeLine(bytes: Uint8Array, end: number): Chunk {
    while (this.at < end) {
      if (this.lineBytes === CHUNK_LINE_MAX_BYTES) return this.refuse("chunk-size line too long");
      const byte = bytes[this.at];
      if (this.state === State.lineFeed) return this.endOfLine(byte);
      const next = this.step(byte);
      if (next < 0) return this.refuse(this.state <= State.size ? "invalid chunk size" : "invalid chunk extension");
      this.state = next as State;
      this.lineBytes++;
      this.at++;
    }
    return Chunk.needData;
  }

  private endOfLine(byte: number): Chunk {
    if (byte !== LF) return this.refuse("bare CR in a chunk-size line");
    this.at++;
    this.overhead += this.lineBytes + 1;
    if (this.overhead > CHUNK_OVERHEAD_BYTES + 2 * (this.total + this.remaining)) {
      return this.refuse("too much chunk framing for too little data");
    }
    if (this.total + this.remaining > this.limit) return Chunk.tooLarge;
    this.state = this.remaining === 0 ? State.trailers : State.data;
    return this.remaining === 0 ? Chunk.trailers : Chunk.needData;
  }

  /** The state after one byte of a chunk-size line, or -1. */
  private step(byte: number): number {
    const space = byte === SP || byte === HTAB;
    switch (this.state) {
      case State.sizeStart:
      case State.size: {
        const digit = HEX[byte];
        if (digit >= 0) {
          // A size past 2^53 is no longer exact but stays past every limit.
          this.remaining = this.remaining * 16 + digit;
          return State.size;
        }
        return this.state === State.sizeStart ? -1 : endOfElement(byte, space);
      }
      case State.space:
        return space ? State.space : byte === SEMICOLON ? State.nameStart : -1;
      case State.nameStart:
        return space ? State.nameStart : TOKEN[byte] ? State.name : -1;
      case State.name:
        if (TOKEN[byte]) return State.name;
        if (byte === EQUALS) return State.valueStart;
        return space ? State.nameSpace : endOfElement(byte, false);
      case State.nameSpace:
        if (space) return State.nameSpace;
        return byte === EQUALS ? State.valueStart : byte === SEMICOLON ? State.nameStart : -1;
      case State.valueStart:
        if (space) return State.valueStart;
        return byte === DQUOTE ? State.quoted : TOKEN[byte] ? State.value : -1;
      case State.value:
        return TOKEN[byte] ? State.value : endOfElement(byte, space);
      case State.quoted:
        if (byte === DQUOTE) return State.quotedEnd;
        return byte === BACKSLASH ? State.escape : FIELD_VALUE[byte] ? State.quoted : -1;
      case State.escape:
        return FIELD_VALUE[byte] ? State.quoted : -1;
      case State.quotedEnd:
        return endOfElement(byte, space);
      default:
        return -1;
    }
  }

  private refuse(reason: string): Chunk {
    this.reason = reason;
    return Chunk.bad;
  }
}

/** What may follow a size or an extension's value. */
function endOfElement(byte: number, space: boolean): number {
  if (byte === CR) return State.lineFeed;
  if (byte === SEMICOLON) return State.nameStart;
  return space ? State.space : -1;
}
