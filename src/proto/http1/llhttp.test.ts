/**
 * The request cases of llhttp's suite, read at test time from ../shared/conformance beside the repository (they are not
 * ours to copy). Whole and byte by byte: the same spans, the same verdict, the error at the same offset, but for the
 * cases of docs/http-strictness.md.
 */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { ParseEvent, RequestParser } from "./request-parser.ts";
import { latin1, latin1Bytes } from "./text.ts";

const FILE = resolve(import.meta.dirname, "../../../../shared/conformance/llhttp-request-half.json");

interface Row {
  file: string;
  name: string;
  input_latin1: string;
  expected_log: string[];
}

/** What both sides are reduced to. */
interface Outcome {
  /** Method, target, fields, body and trailers with their offsets, in order; pieces of one span joined. */
  spans: string[];
  headAt: number;
  endsAt: number[];
  /** Offset of the refusal, or -1. */
  errorAt: number;
}

/** Where we refuse and llhttp does not, or earlier than it: by row name, with the clause of docs/http-strictness.md. */
const STRICTER: Record<string, { status: number; clause: string }> = {
  "ICE protocol and GET method": { status: 400, clause: "RFC 9112 §2.3" },
  "RTSP protocol and PUT method": { status: 400, clause: "RFC 9112 §2.3" },
  "SOURCE request with ICE": { status: 400, clause: "RFC 9112 §2.3" },
  "ANNOUNCE request with RTSP": { status: 400, clause: "RFC 9112 §2.3" },
  "Fragment in URI": { status: 400, clause: "RFC 9112 §3.2" },
  "POST with `Transfer-Encoding` and `Content-Length`": { status: 400, clause: "RFC 9112 §3.2" },
  "POST with `chunked` before other transfer coding names": { status: 400, clause: "RFC 9112 §3.2" },
  "POST with `chunked` as last transfer-encoding": { status: 400, clause: "RFC 9112 §3.2" },
  "POST with `chunkedchunked` as transfer-encoding": { status: 400, clause: "RFC 9112 §3.2" },
};

/** The target of four rows has a fragment only in passing: they are run again with "?" for "#", which moves nothing. */
const FRAGMENT_IN_PASSING = /^POST with/;
const UNKNOWN_CODING = "POST with `chunked` as last transfer-encoding";
/** RFC 9110 §9.1: a method is any token. llhttp knows a list; ours is refused later, by a handler. */
const ANY_METHOD = "Invalid method";
/** Rows where llhttp names the byte after the one it refuses. */
const ONE_LATE = new Set([
  "Error on `Content-Length` overflow",
  "Invalid space after start line",
  "Empty headers separated by LF",
  "No extension after semicolon",
  "Unbalanced chunk extensions quoting",
]);

function lastName(row: Row): string {
  return row.name.split(" > ").at(-1) as string;
}

function expected(row: Row): Outcome {
  const outcome: Outcome = { spans: [], headAt: -1, endsAt: [], errorAt: -1 };
  let open = "";
  for (const line of row.expected_log) {
    const span = /^off=(\d+) len=(\d+) span\[(method|url|header_field|header_value|body)\]="([^]*)"$/.exec(line);
    const off = Number(/^off=(\d+)/.exec(line)?.[1]);
    if (span) {
      const kind = span[3] as string;
      const at = Number(span[1]);
      const text = row.input_latin1.slice(at, at + Number(span[2]));
      if (open === kind && kind !== "body") outcome.spans[outcome.spans.length - 1] += text;
      else if (kind === "body") joinBody(outcome.spans, text);
      else outcome.spans.push(`${kind}@${at} ${text}`);
      open = kind;
    } else {
      if (/complete$/.test(line)) open = "";
      if (/ headers complete /.test(line)) outcome.headAt = off;
      if (/ message complete$/.test(line)) outcome.endsAt.push(off);
      // 22: pause on CONNECT and upgrade; 5: data after the last message. Neither is a refusal of this message.
      const error = /error code=(\d+)/.exec(line);
      if (error && error[1] !== "22" && error[1] !== "5") outcome.errorAt = off;
    }
  }
  // A value's trailing white space belongs to llhttp's span, not to the value (RFC 9112 §5); an empty one has no place.
  outcome.spans = outcome.spans.map((text) => (text.startsWith("header_value") ? text.replace(/[ \t]+$/, "") : text));
  return outcome;
}

function joinBody(spans: string[], text: string): void {
  const last = spans.at(-1);
  if (last?.startsWith("body ")) spans[spans.length - 1] += text;
  else spans.push(`body ${text}`);
}

/** Our events in the same words. `added`: bytes of a Host line put in behind the request line, and where. */
function actual(input: string, step: number, hostAt: number, added: number): Outcome & { status: number } {
  const parser = new RequestParser();
  const bytes = latin1Bytes(input);
  const back = (offset: number): number => (hostAt >= 0 && offset >= hostAt + added ? offset - added : offset);
  const outcome = { spans: [] as string[], headAt: -1, endsAt: [] as number[], errorAt: -1, status: 0 };
  for (let at = 0, end = Math.min(step, bytes.length); ; ) {
    const event = parser.next(bytes, at, end);
    at = parser.at;
    if (event === ParseEvent.head) {
      headSpans(parser, outcome.spans, back, hostAt);
      outcome.headAt = back(parser.offset);
    } else if (event === ParseEvent.body) {
      joinBody(outcome.spans, latin1(bytes, parser.bodyAt, parser.bodyEnd));
    } else if (event === ParseEvent.end) {
      outcome.endsAt.push(back(parser.offset));
      if (parser.head.upgrade || parser.head.isMethod("CONNECT")) break;
    } else if (event === ParseEvent.error) {
      outcome.errorAt = back(parser.offset);
      outcome.status = parser.refusal.status;
      break;
    } else if (event === ParseEvent.closed || end === bytes.length) {
      break;
    } else {
      end = Math.min(end + step, bytes.length);
    }
  }
  return outcome;
}

function headSpans(parser: RequestParser, spans: string[], back: (offset: number) => number, hostAt: number): void {
  const { head } = parser;
  const at = (offset: number) => back(head.offset + offset);
  spans.push(`method@${at(0)} ${head.method}`, `url@${at(head.targetAt)} ${head.target}`);
  for (let i = 0; i < head.count; i++) {
    if (head.offset + head.nameAt(i) === hostAt) continue;
    spans.push(`header_field@${at(head.nameAt(i))} ${head.name(i)}`);
    if (head.value(i) !== "") spans.push(`header_value@${at(head.valueAt(i))} ${head.value(i)}`);
  }
}

const HOST = "Host: a\r\n";

/** Where a Host line has to be put so that an HTTP/1.1 request of the suite has one, or -1. */
function hostPlace(input: string): number {
  const line = /^(\r\n)*[^\r\n]* HTTP\/1\.1\r\n/.exec(input);
  return line && !/\r\nhost:/i.test(input) ? line[0].length : -1;
}

function withHost(input: string, place: number): string {
  return place < 0 ? input : input.slice(0, place) + HOST + input.slice(place);
}

const rows = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Row[]) : [];
if (rows.length === 0) console.warn(`SKIPPED: llhttp request cases, ${FILE} is not there`);

describe.skipIf(rows.length === 0)("llhttp request cases", () => {
  it("are all there", () => expect(rows.length).toBe(60));

  for (const row of rows) {
    for (const step of [Number.MAX_SAFE_INTEGER, 1]) {
      const name = lastName(row);
      const how = step === 1 ? "byte by byte" : "whole";
      const stricter = STRICTER[name];
      if (stricter) {
        it(`${name}, ${how}: refused with ${stricter.status} (${stricter.clause})`, () => {
          expect(actual(row.input_latin1, step, -1, 0).status).toBe(stricter.status);
        });
        if (!FRAGMENT_IN_PASSING.test(name)) continue;
      }
      it(`${name}, ${how}`, () => compare({ ...row, input_latin1: adapted(row.input_latin1) }, step));
    }
  }
});

/** "#" made "?" (see above); and the one row whose offsets count a character as its two UTF-8 bytes. */
function adapted(input: string): string {
  return input.replace("#hey", "?hey").replace("\u00ffValue2", "\u00c3\u00bfValue2");
}

function compare(row: Row, step: number): void {
  const want = expected(row);
  // Only a complete head misses its Host.
  const place = want.headAt < 0 && lastName(row) !== ANY_METHOD ? -1 : hostPlace(row.input_latin1);
  const got = actual(withHost(row.input_latin1, place), step, place, HOST.length);
  if (lastName(row) === ANY_METHOD) {
    expect(got.spans[0]).toBe("method@0 MKCOLA");
    return;
  }
  if (lastName(row) === UNKNOWN_CODING) {
    expect([got.errorAt, got.status]).toEqual([want.headAt, 501]);
    return;
  }
  expect(got.errorAt).toBe(want.errorAt >= 0 && ONE_LATE.has(lastName(row)) ? want.errorAt - 1 : want.errorAt);
  if (want.headAt < 0) {
    expect(got.headAt).toBe(-1);
    return;
  }
  if (got.headAt < 0)
    expect(got.errorAt).toBe(want.headAt); // Refused when the head was complete: llhttp says both.
  else {
    const { headAt, spans, endsAt } = got;
    expect({ headAt, spans, endsAt }).toEqual({ headAt: want.headAt, spans: want.spans, endsAt: want.endsAt });
  }
}

describe.skipIf(rows.length === 0)("without the Host we add", () => {
  for (const row of rows.filter((r) => hostPlace(r.input_latin1) >= 0 && expected(r).headAt >= 0)) {
    it(`${lastName(row)}: 400 (RFC 9112 §3.2)`, () => {
      expect(actual(row.input_latin1, 1, -1, 0).status).toBe(400);
    });
  }
});
