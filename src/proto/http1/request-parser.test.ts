import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_LIMITS, type RequestLimits } from "./limits.ts";
import { ParseEvent, RequestParser } from "./request-parser.ts";
import { latin1, latin1Bytes } from "./text.ts";

/** Everything a stream means, in words: one line per event, body bytes of one message joined. */
function meaning(
  stream: Uint8Array,
  cuts: readonly number[],
  limits: Partial<RequestLimits> = {},
  parser = new RequestParser({ ...DEFAULT_LIMITS, ...limits }),
): string[] {
  const lines: string[] = [];
  let body = "";
  let at = 0;
  // A buffer that is overwritten after every feed: nothing may be remembered by reference.
  const window = new Uint8Array(stream.length + 1);
  for (const end of [...cuts, stream.length]) {
    window.fill(0x7e);
    window.set(stream.subarray(at, end), at);
    for (let event = parser.next(window, at, end); ; event = parser.next(window, at, end)) {
      at = parser.at;
      if (event === ParseEvent.needData) break;
      if (event === ParseEvent.head) {
        const { head } = parser;
        body = "";
        lines.push(
          `${head.method} ${head.target} ${head.version} ${head.offset}-${parser.offset} keep=${head.keepAlive}`,
        );
        for (const [name, value] of head) lines.push(`  ${name}=${value}`);
      } else if (event === ParseEvent.body) {
        body += latin1(window, parser.bodyAt, parser.bodyEnd);
      } else if (event === ParseEvent.end) {
        lines.push(`end ${parser.offset} body=${body} ${[...parser.trailers].join()}`);
        parser.trailers.clear();
      } else if (event === ParseEvent.error) {
        return [...lines, `error ${parser.refusal.status} ${parser.refusal.reason} at ${parser.offset}`];
      } else {
        return [...lines, "closed"];
      }
    }
  }
  return lines;
}

function whole(text: string, limits?: Partial<RequestLimits>): string[] {
  return meaning(latin1Bytes(text), [], limits);
}

/** The status a stream is refused with, or 0; the same whole and byte by byte. */
function refusal(text: string, limits?: Partial<RequestLimits>): number {
  const bytes = latin1Bytes(text);
  const once = meaning(bytes, [], limits);
  const bytewise = meaning(bytes, Array.from(bytes.keys()), limits);
  expect(bytewise).toEqual(once);
  return Number(/^error (\d+)/.exec(once.at(-1) ?? "")?.[1] ?? 0);
}

describe("request parser", () => {
  it("reads a plain request without a body", () => {
    expect(whole("GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nAccept:  */* \r\n\r\n")).toEqual([
      "GET /a?b=c HTTP/1.1 0-49 keep=true",
      "  Host=x:1",
      "  Accept=*/*",
      "end 49 body= ",
    ]);
  });

  it("stops after each message, so that pipelined requests wait", () => {
    const stream = latin1Bytes("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    const parser = new RequestParser();
    expect(parser.next(stream, 0, stream.length)).toBe(ParseEvent.head);
    expect(parser.next(stream, parser.at, stream.length)).toBe(ParseEvent.end);
    expect(parser.at).toBe(28);
    expect(parser.idle).toBe(true);
    expect(parser.next(stream, parser.at, stream.length)).toBe(ParseEvent.head);
    expect(parser.head.target).toBe("/2");
    expect(parser.head.offset).toBe(28);
  });

  it("joins the values of repeated fields and finds names in any case", () => {
    const stream = latin1Bytes("GET / HTTP/1.1\r\nhOST: a\r\nX-One: 1\r\nx-one: 2\r\n\r\n");
    const parser = new RequestParser();
    parser.next(stream, 0, stream.length);
    expect(parser.head.header("X-ONE")).toBe("1, 2");
    expect(parser.head.header("none")).toBeUndefined();
  });

  it("keeps a detached head when the buffer it came in is used again", () => {
    const stream = latin1Bytes("PUT /kept HTTP/1.1\r\nHost: a\r\nX-Kept: yes\r\nContent-Length: 1\r\n\r\n");
    const parser = new RequestParser();
    expect(parser.next(stream, 0, stream.length)).toBe(ParseEvent.head);
    expect(parser.head.borrowed).toBe(true);
    parser.head.detach();
    stream.fill(0);
    expect([parser.head.method, parser.head.target, parser.head.header("x-kept")]).toEqual(["PUT", "/kept", "yes"]);
  });

  it("decodes chunks with extensions and trailers", () => {
    const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
    expect(whole(`${chunked}4;a=b ; c="x\\"y"\r\nWiki\r\n06\r\npedia!\r\n0\r\nX-Sum: 7\r\n\r\n`).at(-1)).toMatch(
      /^end \d+ body=Wikipedia! X-Sum,7$/,
    );
  });

  it("closes HTTP/1.0 unless asked to stay", () => {
    expect(whole("GET / HTTP/1.0\r\n\r\nGET")).toEqual(["GET / HTTP/1.0 0-18 keep=false", "end 18 body= ", "closed"]);
    expect(whole("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")[0]).toContain("keep=true");
    expect(whole("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n")[0]).toContain("keep=false");
  });

  it("knows who waits for 100 Continue, and ignores it in HTTP/1.0 and without a body", () => {
    const expects = (text: string) => {
      const bytes = latin1Bytes(text);
      const parser = new RequestParser();
      expect(parser.next(bytes, 0, bytes.length)).toBe(ParseEvent.head);
      return parser.head.expectContinue;
    };
    expect(expects("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n")).toBe(true);
    expect(expects("PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")).toBe(false);
    expect(expects("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n")).toBe(false);
  });
});

describe("what is refused", () => {
  const H = "Host: a\r\n";
  const cases: [status: number, what: string, text: string][] = [
    [400, "no Host in 1.1", "GET / HTTP/1.1\r\n\r\n"],
    [400, "two Hosts", `GET / HTTP/1.1\r\n${H}${H}\r\n`],
    [400, "Host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"],
    [400, "Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"],
    [400, "CL then TE", `POST / HTTP/1.1\r\n${H}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`],
    [400, "TE then CL", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n`],
    [400, "two different lengths", `POST / HTTP/1.1\r\n${H}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`],
    [400, "a list of lengths", `POST / HTTP/1.1\r\n${H}Content-Length: 1, 1\r\n\r\n`],
    [400, "a signed length", `POST / HTTP/1.1\r\n${H}Content-Length: +1\r\n\r\n`],
    [400, "an empty length", `POST / HTTP/1.1\r\n${H}Content-Length:\r\n\r\n`],
    [400, "a hexadecimal length", `POST / HTTP/1.1\r\n${H}Content-Length: 0x1\r\n\r\n`],
    [400, "chunked twice", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked, chunked\r\n\r\n`],
    [
      400,
      "chunked in two lines",
      `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
    ],
    [
      400,
      "identity after chunked",
      `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n`,
    ],
    [400, "TE that does not end in chunked", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: xchunked\r\n\r\n`],
    [400, "TE in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"],
    [501, "an unknown coding under chunked", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: gzip, chunked\r\n\r\n`],
    [400, "space before a colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"],
    [400, "an empty field name", `GET / HTTP/1.1\r\n${H}: x\r\n\r\n`],
    [400, "a folded line", `GET / HTTP/1.1\r\n${H}X: a\r\n b\r\n\r\n`],
    [400, "a bare LF after the request line", `GET / HTTP/1.1\n${H}\r\n`],
    [400, "a bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n"],
    [400, "a bare CR in a value", `GET / HTTP/1.1\r\n${H}X: a\rb\r\n\r\n`],
    [400, "NUL in a value", `GET / HTTP/1.1\r\n${H}X: a\0b\r\n\r\n`],
    [400, "DEL in a value", `GET / HTTP/1.1\r\n${H}X: \x7f\r\n\r\n`],
    [400, "a control character in the target", `GET /\x01 HTTP/1.1\r\n${H}\r\n`],
    [400, "a byte above ASCII in the target", `GET /\xe4 HTTP/1.1\r\n${H}\r\n`],
    [400, "a fragment", `GET /#x HTTP/1.1\r\n${H}\r\n`],
    [400, "a relative target", `GET a HTTP/1.1\r\n${H}\r\n`],
    [400, "* with GET", `GET * HTTP/1.1\r\n${H}\r\n`],
    [400, "a method that is no token", `G@T / HTTP/1.1\r\n${H}\r\n`],
    [400, "two spaces in the request line", `GET  / HTTP/1.1\r\n${H}\r\n`],
    [400, "no version", "GET /\r\n\r\n"],
    [400, "a lower-case protocol name", `GET / http/1.1\r\n${H}\r\n`],
    [505, "HTTP/2.0", `GET / HTTP/2.0\r\n${H}\r\n`],
    [505, "HTTP/0.9", `GET / HTTP/0.9\r\n${H}\r\n`],
    [417, "an unknown expectation", `GET / HTTP/1.1\r\n${H}Expect: tea\r\n\r\n`],
    [400, "a chunk size that is none", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\nx\r\n`],
    [400, "an empty chunk size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n\r\n`],
    [400, "0x before a chunk size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n0x1\r\nA\r\n`],
    [400, "a minus before a chunk size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n-1\r\nA\r\n`],
    [400, "space after a chunk size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n1 \r\nA\r\n`],
    [400, "a bare LF after a chunk size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n1\nA\r\n`],
    [400, "chunk data longer than its size", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n1\r\nAB\r\n`],
    [400, "a bare LF in a trailer", `POST / HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n`],
    [400, "bytes of TLS", "\x16\x03\x01\x02\x00\x01"],
  ];
  it.each(cases)("%d: %s", (status, _what, text) => expect(refusal(text)).toBe(status));

  const accepted: [what: string, text: string][] = [
    ["the same length twice", `POST / HTTP/1.1\r\n${H}Content-Length: 1\r\nContent-Length: 01\r\n\r\nA`],
    ["* with OPTIONS", `OPTIONS * HTTP/1.1\r\n${H}\r\n`],
    ["an absolute target", "GET http://a:80/x HTTP/1.1\r\nHost: b\r\n\r\n"],
    ["an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"],
    ["an IPv6 Host", "GET / HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n"],
    ["HTTP/1.2", `GET / HTTP/1.2\r\n${H}\r\n`],
    ["a method nobody knows", `BREW / HTTP/1.1\r\n${H}\r\n`],
    ["empty lines before", `\r\n\r\nGET / HTTP/1.1\r\n${H}\r\n`],
    ["bytes above ASCII in a value", `GET / HTTP/1.1\r\n${H}X: \xe4\xff\r\n\r\n`],
  ];
  it.each(accepted)("not %s", (_what, text) => expect(refusal(text)).toBe(0));
});

describe("limits", () => {
  const line = (bytes: number) => `GET /${"a".repeat(bytes - 14)} HTTP/1.1\r\nHost: a\r\n\r\n`;
  const head = (bytes: number) => {
    const start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    return `${start}${"x".repeat(bytes - start.length - 4)}\r\n\r\n`;
  };
  const fields = (count: number) => `GET / HTTP/1.1\r\nHost: a\r\n${"X: y\r\n".repeat(count - 1)}\r\n`;
  const sized = (length: number) => `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`;
  const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

  it("request line: 8192 bytes pass, 8193 are 414", () => {
    expect(refusal(line(8192))).toBe(0);
    expect(refusal(line(8193))).toBe(414);
  });

  it("head: 65536 bytes pass, 65537 are 431", () => {
    expect(head(65_536).length).toBe(65_536);
    expect(refusal(head(65_536))).toBe(0);
    expect(refusal(head(65_537))).toBe(431);
  });

  it("fields: 100 pass, 101 are 431", () => {
    expect(refusal(fields(100))).toBe(0);
    expect(refusal(fields(101))).toBe(431);
  });

  it("body: the limit passes, one more byte is 413, whichever way it is framed", () => {
    expect(refusal(sized(10), { bodyBytes: 10 })).toBe(0);
    expect(refusal(sized(11), { bodyBytes: 10 })).toBe(413);
    expect(refusal(sized(2 ** 60), { bodyBytes: 10 })).toBe(413);
    expect(refusal(`${chunked}a\r\n0123456789\r\n0\r\n\r\n`, { bodyBytes: 10 })).toBe(0);
    expect(refusal(`${chunked}5\r\n01234\r\n6\r\n`, { bodyBytes: 10 })).toBe(413);
    expect(refusal(`${chunked}ffffffffffffffffffff\r\n`)).toBe(413);
  });

  it("chunk lines: one too long, or too much framing for the data, is 400", () => {
    expect(refusal(`${chunked}1;${"a".repeat(5000)}\r\nA\r\n0\r\n\r\n`)).toBe(400);
    expect(refusal(`${chunked}${`1;${"a".repeat(1000)}\r\nA\r\n`.repeat(30)}0\r\n\r\n`)).toBe(400);
  });

  it("trailers have the head's limits", () => {
    expect(refusal(`${chunked}0\r\n${"X: y\r\n".repeat(101)}\r\n`)).toBe(431);
  });
});

describe("properties", () => {
  const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/);
  const value = fc.stringMatching(/^[\x20-\x7e\t]{0,30}$/);
  const fieldLine = fc.tuple(token, value).map(([name, text]) => `X${name}:${text}\r\n`);
  const data = fc.uint8Array({ maxLength: 40 }).map((bytes) => latin1(bytes, 0, bytes.length));
  const body = fc.oneof(
    fc.constant(["", ""]),
    data.map((text) => [`Content-Length: ${text.length}\r\n`, text]),
    fc
      .array(
        data.filter((text) => text !== ""),
        { maxLength: 4 },
      )
      .map((parts) => [
        "Transfer-Encoding: chunked\r\n",
        `${parts.map((part) => `${part.length.toString(16)};x=y\r\n${part}\r\n`).join("")}0\r\nT: 1\r\n\r\n`,
      ]),
  );
  const request = fc
    .tuple(
      fc.constantFrom("GET", "POST", "PUT", "BREW"),
      fc.stringMatching(/^\/[a-z0-9?=&%]{0,20}$/),
      fc.array(fieldLine, { maxLength: 5 }),
      body,
    )
    .map(
      ([method, target, lines, [framing, text]]) =>
        `${method} ${target} HTTP/1.1\r\nHost: a\r\n${framing}${lines.join("")}\r\n${text}`,
    );
  /** Valid requests, some with one byte changed, so that refusals are split too. */
  const stream = fc
    .tuple(
      fc.array(request, { minLength: 1, maxLength: 3 }),
      fc.option(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))),
    )
    .map(([requests, damage]) => {
      const bytes = latin1Bytes(requests.join(""));
      if (damage !== null) bytes[damage[0] % bytes.length] = damage[1];
      return bytes;
    });

  it("any split gives the same events", () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat(1000), { maxLength: 12 }), (bytes, places) => {
        const cuts = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
        expect(meaning(bytes, cuts)).toEqual(meaning(bytes, []));
      }),
      { numRuns: 500 },
    );
  });

  it("undamaged streams give every request back", () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 4 }), (requests) => {
        const lines = meaning(latin1Bytes(requests.join("")), []);
        expect(lines.filter((text) => text.startsWith("end ")).length).toBe(requests.length);
        expect(lines.some((text) => text.startsWith("error"))).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it("reset, a parser is like a new one, wherever another stream left it", () => {
    const trailers = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n";
    const streams = [
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
      "GET / HTTP/1.0\r\n\r\n",
      trailers,
      "\r\n\r\n",
      "GET /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n",
      "",
    ];
    fc.assert(
      fc.property(fc.constantFrom(...streams), fc.nat(200), request, (before, cut, after) => {
        const used = new RequestParser();
        meaning(latin1Bytes(before.slice(0, cut)), [], {}, used);
        used.reset(0);
        expect(used.isFresh).toBe(true);
        expect(meaning(latin1Bytes(after), [], {}, used)).toEqual(meaning(latin1Bytes(after), []));
      }),
      { numRuns: 500 },
    );
  });

  it("never loops or throws on arbitrary bytes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        (bytes) =>
          void meaning(
            bytes,
            [7, 50].filter((n) => n < bytes.length),
          ),
      ),
    );
  });
});
