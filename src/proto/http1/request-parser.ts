/**
 * The HTTP/1.1 request machine: bytes in, events out. RFC 9112 (messages), RFC 9110 (meaning of the fields it reads).
 *
 * Feed it any split of the stream: `next(bytes, at, end)` consumes from `at`, yields one event and leaves in `at` where
 * it stopped. The same stream gives the same events however it is cut. After `end` the bytes of the next request stay
 * where they are until `next` is called again, so that a server answers one request at a time (pipelining).
 *
 *      start ──► method ► target ► version ► fields ──head──► body ──end──► start | closed
 *                └───────────── error (400 413 414 417 431 501 505): nothing follows ─────────┘
 *
 * It never knows sockets, time, or who answers. Whole heads are read in place; only one cut by a read is collected.
 */
import { Chunk, ChunkedDecoder } from "./chunked.ts";
import type { FieldBlock } from "./field-block.ts";
import { FieldBlock as Trailers } from "./field-block.ts";
import { Framing, Known, Refusal } from "./framing.ts";
import { RequestHead } from "./head.ts";
import { DEFAULT_LIMITS, EMPTY_LINES_MAX, type RequestLimits } from "./limits.ts";
import { COLON, CR, FIELD_VALUE, HTAB, LF, SP, TARGET, TOKEN, ZERO } from "./tables.ts";

/** What `next` yields. */
export const ParseEvent = {
  /** Everything fed is consumed and the message goes on. */
  needData: 0,
  /** The head is complete: see `head`. */
  head: 1,
  /** Body bytes [bodyAt, bodyEnd) of the fed buffer, decoded. */
  body: 2,
  /** The message is complete. */
  end: 3,
  /** The peer broke the protocol: answer `refusal.status` and close. Comes again at every call. */
  error: 4,
  /** The message before this was the last one (Connection: close): the rest is not a request. */
  closed: 5,
} as const;
export type ParseEvent = (typeof ParseEvent)[keyof typeof ParseEvent];

const State = {
  start: 0,
  startLf: 1,
  method: 2,
  target: 3,
  version: 4,
  fieldStart: 5,
  name: 6,
  valueStart: 7,
  value: 8,
  valueLf: 9,
  blockLf: 10,
  bodyLength: 11,
  bodyChunked: 12,
  end: 13,
  error: 14,
  closed: 15,
} as const;
type State = (typeof State)[keyof typeof State];

/** "HTTP/d.d" CR LF, by position in the version part; 0 stands for a digit. */
const VERSION = [0x48, 0x54, 0x54, 0x50, 0x2f, 0, 0x2e, 0, CR, LF] as const;
const MAJOR_AT = 5;
const MINOR_AT = 7;

export class RequestParser {
  readonly head = new RequestHead();
  /** Trailer fields, valid at `end` of a chunked message; never merged into the head (RFC 9110 §6.5.1). */
  readonly trailers: FieldBlock = new Trailers();
  /** Why `error` was yielded. */
  readonly refusal = new Refusal();
  /** Position in the fed bytes after the last call. */
  at = 0;
  /** Stream offset of the next byte to consume. After `error`: of the byte that was refused. */
  offset = 0;
  bodyAt = 0;
  bodyEnd = 0;
  /** Body bytes of this message so far, decoded. */
  bodyBytes = 0;

  private readonly limits: RequestLimits;
  private readonly framing: Framing;
  private readonly chunks = new ChunkedDecoder();
  private state: State = State.start;
  private emptyLines = 0;
  /** The block being read: the head, or the trailers. */
  private block: FieldBlock = this.head;
  private blockOffset = 0;
  /** The block came in pieces and is collected in its own store. */
  private collecting = false;
  /** Offset from the block's base of the next byte to look at, and of the parts of the current field. */
  private pos = 0;
  private nameAt = 0;
  private nameEnd = 0;
  private valueAt = 0;
  private versionAt = 0;
  private known: Known = Known.other;

  constructor(limits: RequestLimits = DEFAULT_LIMITS) {
    this.limits = limits;
    this.framing = new Framing(this.head, this.refusal);
  }

  /** Nothing of a next request has come yet (empty lines apart). */
  get idle(): boolean {
    return this.state <= State.startLf;
  }

  /** Between two messages without a trace of a next one: `reset(offset)` would change nothing. */
  get isFresh(): boolean {
    return this.state === State.start && this.emptyLines === 0;
  }

  /** Begins with another stream (or goes on with one) at stream offset `offset`: the next byte is a message's first. */
  reset(offset: number): void {
    this.offset = offset;
    this.at = 0;
    this.state = State.start;
    this.emptyLines = 0;
    this.block = this.head;
    this.collecting = false;
    this.bodyBytes = 0;
    this.head.clear();
    this.trailers.clear();
    this.refusal.set(0, "", 0);
  }

  /** The head is known and the message is not over. */
  get inBody(): boolean {
    return this.state >= State.bodyLength && this.state <= State.end ? true : this.block === this.trailers;
  }

  /** Body bytes still to come, or -1 if unknown (chunked). Meaningful while `inBody`. */
  get bodyRemaining(): number {
    return this.head.chunked ? -1 : Math.max(0, this.head.contentLength - this.bodyBytes);
  }

  /** Consumes from [at,end) of `bytes` (*borrowed*, the head until `head.detach()`), yields one event. */
  next(bytes: Uint8Array, at: number, end: number): ParseEvent {
    this.at = at;
    const event = this.state <= State.blockLf ? this.nextInBlock(bytes, end) : this.nextInBody(bytes, end);
    if (event === ParseEvent.error) this.offset = this.blockOffset + this.refusal.at;
    return event;
  }

  private nextInBlock(bytes: Uint8Array, end: number): ParseEvent {
    if (this.state <= State.startLf && !this.skipEmptyLines(bytes, end)) {
      return this.refusal.status ? this.fail() : ParseEvent.needData;
    }
    const before = this.enterBlock(bytes, end);
    if (this.state <= State.version) this.readRequestLine();
    if (this.state >= State.fieldStart && this.state <= State.blockLf) this.readFields();
    if (this.refusal.status) return this.fail();
    if (this.state <= State.blockLf) {
      // Out of bytes in the middle: keep what was borrowed before the feeder takes its buffer back.
      this.block.detach();
      this.collecting = true;
      this.advance(end);
      return ParseEvent.needData;
    }
    this.advance(this.at + this.pos - before);
    this.block.length = this.pos;
    return this.block === this.head ? this.endOfHead() : this.endOfTrailers();
  }

  /** Makes the block cover the fed bytes; returns how many bytes of it were there before. */
  private enterBlock(bytes: Uint8Array, end: number): number {
    const before = this.block.length;
    if (this.collecting) this.block.append(bytes, this.at, Math.min(end - this.at, this.limits.headBytes + 1 - before));
    else this.block.borrow(bytes, this.at, end - this.at);
    return this.collecting ? before : 0;
  }

  private advance(at: number): void {
    this.offset += at - this.at;
    this.at = at;
  }

  private beginBlock(block: FieldBlock, state: State): void {
    block.clear();
    this.block = block;
    this.blockOffset = this.offset;
    this.collecting = false;
    this.pos = 0;
    this.known = Known.other;
    this.state = state;
  }

  /** RFC 9112 §2.2: empty lines before the request line are ignored. False: out of bytes or refused. */
  private skipEmptyLines(bytes: Uint8Array, end: number): boolean {
    for (; this.at < end; this.advance(this.at + 1)) {
      const byte = bytes[this.at];
      if (this.state === State.startLf) {
        if (byte !== LF) return this.refuseAtStart("bare CR");
        this.state = State.start;
      } else if (byte === CR) {
        if (++this.emptyLines > EMPTY_LINES_MAX) return this.refuseAtStart("too many empty lines");
        this.state = State.startLf;
      } else {
        this.emptyLines = 0;
        this.beginBlock(this.head, State.method);
        this.head.offset = this.offset;
        this.framing.begin();
        this.bodyBytes = 0;
        return true;
      }
    }
    return false;
  }

  private refuseAtStart(reason: string): false {
    this.head.clear();
    this.blockOffset = this.offset;
    this.head.offset = this.offset;
    return this.refusal.set(400, reason, 0);
  }

  private readRequestLine(): void {
    const { head, limits } = this;
    const { bytes, base } = head;
    const lineStop = limits.requestLineBytes + 2;
    const stop = Math.min(head.length, lineStop);
    let pos = this.pos;
    if (this.state === State.method) {
      while (pos < stop && TOKEN[bytes[base + pos]]) pos++;
      if (pos < stop) {
        if (bytes[base + pos] !== SP || pos === 0) return this.refuse(400, "invalid method", pos);
        head.methodEnd = pos++;
        head.targetAt = pos;
        this.state = State.target;
      }
    }
    if (this.state === State.target) {
      while (pos < stop && TARGET[bytes[base + pos]]) pos++;
      if (pos < stop) {
        if (bytes[base + pos] !== SP || pos === head.targetAt) return this.refuse(400, "invalid request target", pos);
        head.targetEnd = pos++;
        this.versionAt = pos;
        this.state = State.version;
        if (!this.framing.target()) return;
      }
    }
    if (this.state === State.version) pos = this.readVersion(bytes, base, pos, stop);
    this.pos = pos;
    if (this.state <= State.version && pos === lineStop) this.refuse(414, "request line too long", pos);
  }

  private readVersion(bytes: Uint8Array, base: number, from: number, stop: number): number {
    let pos = from;
    for (; pos < stop; pos++) {
      const index = pos - this.versionAt;
      const byte = bytes[base + pos];
      const wanted = VERSION[index];
      if (wanted === 0 ? byte < ZERO || byte > ZERO + 9 : byte !== wanted) {
        this.refuse(400, index < 8 ? "invalid HTTP version" : "request line does not end with CRLF", pos);
        return pos;
      }
      if (index === VERSION.length - 1) {
        const at = base + this.versionAt;
        if (bytes[at + MAJOR_AT] !== ZERO + 1)
          this.refuse(505, "only HTTP/1 is spoken here", this.versionAt + MAJOR_AT);
        // RFC 9112 §2.3: a higher minor version is read as the highest one known.
        this.head.minorVersion = bytes[at + MINOR_AT] === ZERO ? 0 : 1;
        this.state = State.fieldStart;
        return pos + 1;
      }
    }
    return pos;
  }

  /** Field lines up to the empty line: of the head or of the trailer section. */
  private readFields(): void {
    const { block } = this;
    const { bytes, base } = block;
    const stop = Math.min(block.length, this.limits.headBytes);
    while (this.pos < stop && this.refusal.status === 0) {
      switch (this.state) {
        case State.fieldStart:
          this.fieldStart(bytes[base + this.pos]);
          break;
        case State.name:
          this.fieldName(bytes, base, stop);
          break;
        case State.valueStart:
        case State.value:
          this.fieldValue(bytes, base, stop);
          break;
        case State.valueLf:
          if (bytes[base + this.pos] !== LF) return this.refuse(400, "bare CR in a field line", this.pos);
          this.pos++;
          this.state = State.fieldStart;
          this.endOfField(bytes, base);
          break;
        default:
          if (bytes[base + this.pos] !== LF) return this.refuse(400, "bare CR after the fields", this.pos);
          this.pos++;
          this.state = State.end;
          return;
      }
    }
    if (this.pos === this.limits.headBytes) this.refuse(431, "fields too large", this.pos);
  }

  private fieldStart(byte: number): void {
    if (byte === CR) {
      this.state = State.blockLf;
      this.pos++;
    } else if (byte === SP || byte === HTAB) {
      // RFC 9112 §5.2 (obs-fold) and §2.2 (white space after the start line).
      this.refuse(400, "line folding is not allowed", this.pos);
    } else if (this.block.count === this.limits.fields) {
      this.refuse(431, "too many fields", this.pos);
    } else {
      this.nameAt = this.pos;
      this.state = State.name;
    }
  }

  private fieldName(bytes: Uint8Array, base: number, stop: number): void {
    let pos = this.pos;
    while (pos < stop && TOKEN[bytes[base + pos]]) pos++;
    this.pos = pos;
    if (pos === stop) return;
    if (bytes[base + pos] !== COLON || pos === this.nameAt) {
      const space = bytes[base + pos] === SP || bytes[base + pos] === HTAB;
      return this.refuse(400, space ? "white space before a colon" : "invalid field name", pos);
    }
    this.nameEnd = pos++;
    this.pos = pos;
    this.state = State.valueStart;
    if (this.block !== this.head) return;
    const known = this.framing.name(bytes, base, this.nameAt, this.nameEnd, pos);
    if (known >= 0) this.known = known as Known;
  }

  private fieldValue(bytes: Uint8Array, base: number, stop: number): void {
    let pos = this.pos;
    if (this.state === State.valueStart) {
      while (pos < stop && (bytes[base + pos] === SP || bytes[base + pos] === HTAB)) pos++;
      this.pos = pos;
      if (pos === stop) return;
      this.valueAt = pos;
      this.state = State.value;
    }
    while (pos < stop && FIELD_VALUE[bytes[base + pos]]) pos++;
    this.pos = pos;
    if (pos === stop) return;
    const byte = bytes[base + pos];
    if (byte !== CR)
      return this.refuse(400, byte === LF ? "bare LF in a field line" : "control character in a field value", pos);
    this.pos++;
    this.state = State.valueLf;
  }

  private endOfField(bytes: Uint8Array, base: number): void {
    let end = this.pos - 2;
    while (end > this.valueAt && (bytes[base + end - 1] === SP || bytes[base + end - 1] === HTAB)) end--;
    this.block.push(this.nameAt, this.nameEnd, this.valueAt, end);
    if (this.known === Known.other) return;
    this.framing.value(this.known, bytes, base, this.valueAt, end, this.block.count - 1);
    this.known = Known.other;
  }

  private endOfHead(): ParseEvent {
    if (!this.framing.finish(this.limits, this.pos)) return this.fail();
    this.state = State.end;
    if (this.head.chunked) {
      this.chunks.begin(this.limits.bodyBytes);
      this.trailers.clear();
      this.state = State.bodyChunked;
    } else if (this.head.contentLength > 0) {
      this.state = State.bodyLength;
    }
    return ParseEvent.head;
  }

  private endOfTrailers(): ParseEvent {
    this.block = this.head;
    return this.endOfMessage();
  }

  private endOfMessage(): ParseEvent {
    this.state = this.head.keepAlive ? State.start : State.closed;
    return ParseEvent.end;
  }

  private nextInBody(bytes: Uint8Array, end: number): ParseEvent {
    switch (this.state) {
      case State.bodyLength:
        return this.bodyOfLength(end);
      case State.bodyChunked:
        return this.bodyOfChunks(bytes, end);
      case State.end:
        return this.endOfMessage();
      case State.closed:
        return this.at < end ? ParseEvent.closed : ParseEvent.needData;
      default:
        return ParseEvent.error;
    }
  }

  private bodyOfLength(end: number): ParseEvent {
    if (this.at === end) return ParseEvent.needData;
    const length = Math.min(end - this.at, this.head.contentLength - this.bodyBytes);
    this.bodyAt = this.at;
    this.bodyEnd = this.at + length;
    this.bodyBytes += length;
    this.advance(this.bodyEnd);
    if (this.bodyBytes === this.head.contentLength) this.state = State.end;
    return ParseEvent.body;
  }

  private bodyOfChunks(bytes: Uint8Array, end: number): ParseEvent {
    const found = this.chunks.next(bytes, this.at, end);
    this.advance(this.chunks.at);
    switch (found) {
      case Chunk.needData:
        return ParseEvent.needData;
      case Chunk.data:
        this.bodyAt = this.chunks.dataAt;
        this.bodyEnd = this.chunks.dataEnd;
        this.bodyBytes = this.chunks.total;
        return ParseEvent.body;
      case Chunk.trailers:
        this.beginBlock(this.trailers, State.fieldStart);
        return this.nextInBlock(bytes, end);
      default:
        this.blockOffset = this.offset;
        if (found === Chunk.tooLarge) this.refusal.set(413, "body over the limit", 0);
        else this.refusal.set(400, this.chunks.reason, 0);
        return this.fail();
    }
  }

  private refuse(status: number, reason: string, at: number): void {
    this.refusal.set(status, reason, at);
  }

  private fail(): ParseEvent {
    this.state = State.error;
    return ParseEvent.error;
  }
}
