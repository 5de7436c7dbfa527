/**
 * The HTTP/1.1 request machine. The same bytes must give the same events however they are cut; limits must hold and be
 * blamed on what broke them; and no head may be accepted that a second reader could frame in another way.
 */
import type { Prng } from "../../../src/base/prng.ts";
import { Headers, LocalProtocolError } from "../../../src/proto/http1/headers.ts";
import { DEFAULT_LIMITS, type RequestLimits } from "../../../src/proto/http1/limits.ts";
import { ParseEvent, RequestParser } from "../../../src/proto/http1/request-parser.ts";
import type { FuzzTarget } from "../engine.ts";
import type { Draft, Exact } from "../input.ts";
import { pick, pickOf } from "../mutations.ts";

const latin1 = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));
const textOf = (bytes: Uint8Array, at: number, end: number) => Buffer.from(bytes.subarray(at, end)).toString("latin1");

/** What requests are made of, and what attackers put into them. */
const WORDS = [
  "\r\n",
  "\r",
  "\n",
  "\r\n\r\n",
  " ",
  "\t",
  ":",
  ",",
  ";",
  "=",
  '"',
  "\0",
  "\x7f",
  "\xff",
  "0",
  "1",
  "5",
  "a",
  "\\",
  "GET / HTTP/1.1\r\n",
  "POST /x HTTP/1.1\r\n",
  "HTTP/1.0",
  "HTTP/1.1",
  "HTTP/2.0",
  "Host: a\r\n",
  "host:b\r\n",
  "Content-Length: 5\r\n",
  "content-length:0\r\n",
  "Content-Length: +5\r\n",
  "Content-Length: 5, 5\r\n",
  "Content-Length: 18446744073709551616\r\n",
  "Transfer-Encoding: chunked\r\n",
  "Transfer-Encoding : chunked\r\n",
  "Transfer-Encoding: gzip, chunked\r\n",
  "Transfer-Encoding:\tchunked\r\n",
  "transfer-encoding: chunked, identity\r\n",
  "Transfer-Encoding: xchunked\r\n",
  " folded\r\n",
  "Connection: close\r\n",
  "Connection: keep-alive, Upgrade\r\n",
  "Upgrade: websocket\r\n",
  "Expect: 100-continue\r\n",
  "Expect: pie\r\n",
  "0\r\n\r\n",
  "5\r\nhello\r\n",
  "5;a=b\r\n",
  '5;a="b;c"\r\n',
  "ffffffffffffffff\r\n",
  "00005\r\n",
  "5 \r\n",
  "-1\r\n",
  "0x5\r\n",
  "X-Trailer: 1\r\n",
  "OPTIONS *",
  "CONNECT a:1",
  "http://h/p",
  "#",
  "?a=%zz",
  "HEAD",
].map(latin1);

const BASE = "Host: a\r\n";
/** Messages that are whole, one after another where more than one is written. */
export const HTTP_SEEDS: readonly Uint8Array[] = [
  `GET / HTTP/1.1\r\n${BASE}\r\n`,
  `GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /d HTTP/1.0\r\n\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Content-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\n${BASE}\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y;z="q\\"r"\r\nabc\r\n0\r\n\r\n`,
  `PUT /t HTTP/1.1\r\n${BASE}Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\nGET / HTTP/1.1\r\n${BASE}\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nabcGET / HTTP/1.1\r\n`,
  `OPTIONS * HTTP/1.1\r\n${BASE}\r\n\r\n\r\nHEAD http://a/b HTTP/1.1\r\n${BASE}\r\n`,
  `CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nxyz`,
  `GET / HTTP/1.1\r\n${BASE}Upgrade: h2c\r\nConnection: Upgrade, close\r\nX: \t a b \t\r\nEmpty:\r\n\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`,
  `POST / HTTP/1.1\r\n${BASE}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!`,
  `GET / HTTP/1.1\r\n${BASE}A: b\r\n c\r\n\r\n`,
  `POST / HTTP/1.1\r\n${BASE}Transfer-Encoding: chunked\r\n\r\n0000000000000000005\r\nhello\r\n00\r\n\r\n`,
].map(latin1);

/** Puts a word in, or over what is there; mostly leaves it to the bytewise mutations. */
export function mutateRequest(draft: Draft, prng: Prng): boolean {
  if (pick(prng, 3) === 0) return false;
  const word = pickOf(prng, WORDS);
  const at = pick(prng, draft.len + 1);
  const over = pick(prng, 4) === 0 ? Math.min(word.length, draft.len - at) : 0;
  const len = Math.min(draft.maxBytes, draft.len + word.length - over);
  draft.bytes.copyWithin(at + word.length, at + over, draft.len);
  draft.bytes.set(word.subarray(0, Math.max(0, draft.maxBytes - at)), at);
  draft.len = len;
  return true;
}

/** Everything the machine said about a stream. */
export interface Story {
  /** One line per head, body and end, with offsets. */
  log: string;
  readonly messages: HttpMessage[];
  status: number;
  reason: string;
  /** Stream offset of the byte that was refused. */
  refusedAt: number;
  /** Yielded `closed`: there were bytes after the last message. */
  isClosed: boolean;
}

/** A message of a stream. */
export interface HttpMessage {
  readonly method: string;
  readonly target: string;
  body: string;
  isWhole: boolean;
  /** Content-Length twice with the same value, or framing fields in the trailers: we are more generous than others. */
  isGenerous: boolean;
}

/** How the bytes come: how many at most next, of those that are left. */
type Cutter = (left: number) => number;

const PIECE_ROOM = 8192;
/** Garbage that is valid everywhere in a head: reading over the end of a piece would go on happily. */
const POISON = 0x61;

class Teller {
  private readonly limits: RequestLimits;
  private readonly scratch = new Uint8Array(PIECE_ROOM);

  constructor(limits: RequestLimits) {
    this.limits = limits;
  }

  /** Reads [at, end) of `bytes` in one piece from where it is, or in pieces that vanish after each was read. */
  tell(bytes: Uint8Array, at: number, end: number, cut: Cutter | null): Story {
    const parser = new RequestParser(this.limits);
    const story: Story = { log: "", messages: [], status: 0, reason: "", refusedAt: -1, isClosed: false };
    if (cut === null) {
      this.feed(parser, bytes, at, end, story);
      return story;
    }
    const { scratch } = this;
    for (let from = at; from < end; ) {
      const len = cut(end - from);
      const room = 1 + ((from * 7) % 64);
      scratch.fill(POISON, 0, room + len + 64);
      scratch.set(bytes.subarray(from, from + len), room);
      from += len;
      if (!this.feed(parser, scratch, room, room + len, story)) break;
    }
    return story;
  }

  /** False when nothing follows. */
  private feed(parser: RequestParser, bytes: Uint8Array, from: number, end: number, story: Story): boolean {
    let at = from;
    for (let events = 0; ; events++) {
      if (events > 2 * (end - from) + 4) throw new Error("events without end");
      const event = parser.next(bytes, at, end);
      if (event !== ParseEvent.error && (parser.at < at || parser.at > end))
        throw new Error("position out of the piece");
      at = parser.at;
      if (event === ParseEvent.needData) {
        if (at !== end) throw new Error("wants more although it has some");
        return true;
      }
      if (event === ParseEvent.closed) story.isClosed = true;
      if (event === ParseEvent.error) this.tellError(parser, story);
      if (event === ParseEvent.closed || event === ParseEvent.error) return false;
      if (event === ParseEvent.head) this.tellHead(parser, story, bytes);
      else this.tellBody(parser, story, bytes, event);
    }
  }

  private tellHead(parser: RequestParser, story: Story, bytes: Uint8Array): void {
    const { head } = parser;
    // The contract: whoever keeps a head beyond its bytes detaches it.
    if (bytes === this.scratch) head.detach();
    checkFraming(parser);
    checkHeadLimits(parser, this.limits);
    const fields = Array.from(
      { length: head.count },
      (_, i) => `${head.nameAt(i)}:${head.name(i)}=${head.valueAt(i)}:${head.value(i)}`,
    );
    const flags = [
      head.minorVersion,
      head.keepAlive,
      head.chunked,
      head.contentLength,
      head.expectContinue,
      head.upgrade,
      head.hostField,
    ];
    story.log += `head@${head.offset} ${head.method} ${head.target} ${flags} ${fields}\n`;
    const lengths = [...head].filter(([name]) => name.toLowerCase() === "content-length").length;
    story.messages.push({
      method: head.method,
      target: head.target,
      body: "",
      isWhole: false,
      isGenerous: lengths > 1,
    });
  }

  private tellBody(parser: RequestParser, story: Story, bytes: Uint8Array, event: ParseEvent): void {
    const message = story.messages[story.messages.length - 1];
    if (event === ParseEvent.body) {
      if (parser.bodyEnd <= parser.bodyAt) throw new Error("a body event of nothing");
      message.body += textOf(bytes, parser.bodyAt, parser.bodyEnd);
      if (message.body.length !== parser.bodyBytes) throw new Error("bodyBytes is wrong");
      if (parser.bodyBytes > this.limits.bodyBytes) throw new Error("body over its limit");
      return;
    }
    message.isWhole = true;
    if (parser.head.chunked) message.isGenerous ||= [...parser.trailers].some(([name]) => FRAMING.test(name));
    const trailers = parser.head.chunked ? [...parser.trailers].join(";") : "";
    story.log += `end@${parser.offset} ${message.body.length} ${message.body} ${trailers}\n`;
  }

  private tellError(parser: RequestParser, story: Story): void {
    story.status = parser.refusal.status;
    story.reason = parser.refusal.reason;
    story.refusedAt = parser.offset;
    if (!KNOWN_STATUS.has(story.status)) throw new Error(`refused with ${story.status}`);
    story.log += `refused@${parser.offset} ${story.status} ${story.reason}\n`;
  }
}

const KNOWN_STATUS = new Set([400, 413, 414, 417, 431, 501, 505]);
const FRAMING = /^(content-length|transfer-encoding)$/i;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const FIELD_VALUE = /^[^\0-\x08\x0a-\x1f\x7f]*$/;

/** RFC 9112 §6 read a second time: an accepted head has one framing, and it is the one the machine took. */
function checkFraming({ head }: RequestParser): void {
  if (!TOKEN.test(head.method)) throw new Error(`accepted the method "${head.method}"`);
  if (!/^[\x21-\x7e]+$/.test(head.target)) throw new Error(`accepted the target "${head.target}"`);
  const lengths: string[] = [];
  const codings: string[] = [];
  let hosts = 0;
  for (const [name, value] of head) {
    if (!TOKEN.test(name) || !FIELD_VALUE.test(value)) throw new Error(`accepted the field "${name}: ${value}"`);
    if (/^[ \t]|[ \t]$/.test(value)) throw new Error(`white space around the value of ${name}`);
    const lower = name.toLowerCase();
    if (lower === "content-length") lengths.push(value);
    if (lower === "transfer-encoding")
      codings.push(
        ...value
          .toLowerCase()
          .split(",")
          .map((c) => c.replace(/^[ \t]+|[ \t]+$/g, "")),
      );
    if (lower === "host") hosts++;
  }
  const isHttp11 = head.minorVersion === 1;
  if (hosts > 1 || (isHttp11 && hosts === 0)) throw new Error(`accepted ${hosts} Host fields`);
  if (lengths.length > 0 && codings.length > 0) throw new Error("accepted two framings");
  if (
    codings.length > 0 &&
    (!isHttp11 || codings.filter((c) => c !== "").join() !== "chunked" || codings.at(-1) === "")
  )
    throw new Error(`accepted ${codings}`);
  if (lengths.some((text) => !/^[0-9]+$/.test(text) || Number(text) !== Number(lengths[0])))
    throw new Error(`accepted lengths ${lengths}`);
  if (head.method === "CONNECT") return;
  if (head.chunked !== codings.length > 0) throw new Error("chunked is wrong");
  if (head.contentLength !== (lengths.length > 0 ? Number(lengths[0]) : -1)) throw new Error("contentLength is wrong");
}

function checkHeadLimits({ head }: RequestParser, limits: RequestLimits): void {
  const lineBytes = head.targetEnd + " HTTP/1.1".length;
  if (lineBytes > limits.requestLineBytes) throw new Error(`accepted a request line of ${lineBytes} bytes`);
  if (head.length > limits.headBytes) throw new Error(`accepted a head of ${head.length} bytes`);
  if (head.count > limits.fields) throw new Error(`accepted ${head.count} fields`);
  if (head.contentLength > limits.bodyBytes) throw new Error(`accepted a length of ${head.contentLength}`);
}

/** A limit may only be blamed if there is that much. */
function checkBlame(story: Story, bytes: Uint8Array, limits: RequestLimits): void {
  if (story.status === 414 && bytes.length <= limits.requestLineBytes) throw new Error("414 for a short line");
  if (story.status !== 431) return;
  const lines = textOf(bytes, 0, bytes.length).split("\n").length - 1;
  if (bytes.length < limits.headBytes && lines <= limits.fields) throw new Error("431 for a small head");
}

/** An outcome: what was read of how many messages, and why it ended. */
export function outcomeOf(story: Story): number {
  let hash = story.status;
  for (let i = 0; i < story.reason.length; i++) hash = (Math.imul(hash, 31) + story.reason.charCodeAt(i)) | 0;
  for (const { body, isWhole, method } of story.messages) {
    hash = (Math.imul(hash, 31) + Math.min(3, body.length) * 4 + (isWhole ? 2 : 0) + method.length * 16) | 0;
  }
  return hash;
}

function requestTarget(name: string, limits: RequestLimits): FuzzTarget {
  const teller = new Teller(limits);
  return {
    name,
    maxBytes: 600,
    seeds: () => HTTP_SEEDS,
    mutate: mutateRequest,
    run(input: Exact) {
      const { bytes, at, end } = input;
      const whole = teller.tell(bytes, at, end, null);
      checkBlame(whole, bytes.subarray(at, end), limits);
      // Two ways to cut: byte by byte, and by the bytes themselves.
      let turn = bytes[at] ?? 0;
      const cuts: Cutter[] = [() => 1, (left) => Math.min(left, 1 + ((turn = (turn * 5 + 3) & 63) >>> 1))];
      for (const cut of cuts) {
        const pieces = teller.tell(bytes, at, end, cut);
        const same = pieces.log === whole.log && pieces.isClosed === whole.isClosed;
        if (!same) throw new Error(`cut in pieces:\n${pieces.log}whole:\n${whole.log}`);
        const last = whole.messages.length - 1;
        if (last >= 0 && pieces.messages[last].body !== whole.messages[last].body) throw new Error("another body");
      }
      return outcomeOf(whole);
    },
  };
}

export const HTTP_REQUEST = requestTarget("http-request", DEFAULT_LIMITS);

/** So small that every limit is met. */
export const HTTP_LIMITS = requestTarget("http-limits", {
  requestLineBytes: 40,
  headBytes: 120,
  fields: 4,
  bodyBytes: 20,
});

/** Names and values of a response: what could break a line never comes through. */
export const HTTP_HEADERS: FuzzTarget = {
  name: "http-headers",
  maxBytes: 64,
  seeds: () => ["X-Name:value", "Set-Cookie:a=b; Path=/", "A: \t\xff"].map(latin1),
  run({ bytes, at, end }) {
    const text = textOf(bytes, at, end);
    const colon = text.indexOf(":");
    const name = text.slice(0, Math.max(0, colon));
    const value = text.slice(colon + 1);
    const headers = new Headers();
    const isFine = TOKEN.test(name) && FIELD_VALUE.test(value);
    let isTaken = true;
    try {
      headers.append(name, value);
    } catch (error) {
      if (!(error instanceof LocalProtocolError)) throw error;
      isTaken = false;
    }
    if (isTaken !== isFine) throw new Error(`${isTaken ? "took" : "refused"} ${JSON.stringify(text)}`);
    if (isTaken && headers.get(name.toUpperCase()) !== value) throw new Error("another value came back");
    return (isTaken ? 256 : 0) + Math.min(255, name.length * 8 + Math.min(7, value.length));
  },
};

/** What the machine makes of a stream, for the comparison with others. */
export function tellRequests({ bytes, at, end }: Exact, limits: RequestLimits = DEFAULT_LIMITS): Story {
  return new Teller(limits).tell(bytes, at, end, null);
}
