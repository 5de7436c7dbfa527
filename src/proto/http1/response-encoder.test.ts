import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Headers, LocalProtocolError } from "./headers.ts";
import { Framing, ResponseEncoder } from "./response-encoder.ts";
import { TextBuffer } from "./text-buffer.ts";

function encode(
  status: number,
  length: number,
  set: Record<string, string> = {},
  from: { head?: boolean; minor?: number; keep?: boolean } = {},
) {
  const encoder = new ResponseEncoder();
  encoder.begin(from.head ?? false, from.minor ?? 1, from.keep ?? true);
  const headers = new Headers();
  for (const [name, value] of Object.entries(set)) headers.append(name, value);
  const out = new TextBuffer();
  encoder.beginHead(out, status);
  out.add("Date: x\r\n");
  encoder.endHead(out, status, headers, length);
  return { encoder, lines: out.toString().split("\r\n") };
}

describe("response encoder", () => {
  it("frames by length when it is known", () => {
    const { encoder, lines } = encode(200, 5, { "X-A": "b" });
    expect(lines).toEqual(["HTTP/1.1 200 OK", "Date: x", "X-A: b", "Content-Length: 5", "", ""]);
    expect(encoder.framing).toBe(Framing.length);
  });

  it("frames by chunks in 1.1 and by the end of the connection in 1.0 when it is not", () => {
    expect(encode(200, -1).lines).toContain("Transfer-Encoding: chunked");
    const old = encode(200, -1, {}, { minor: 0 });
    expect(old.encoder.framing).toBe(Framing.close);
    expect(old.lines).toEqual(["HTTP/1.1 200 OK", "Date: x", "Connection: close", "", ""]);
  });

  it("says keep-alive to 1.0 clients that asked for it, close when it closes", () => {
    expect(encode(200, 1, {}, { minor: 0 }).lines).toContain("Connection: keep-alive");
    expect(encode(200, 1, {}, { keep: false }).lines).toContain("Connection: close");
    const asked = encode(200, 1, { Connection: "Close" });
    expect(asked.encoder.keepAlive).toBe(false);
    expect(asked.lines.filter((line) => /^connection/i.test(line))).toEqual(["Connection: close"]);
  });

  it("sends no body for HEAD but its length", () => {
    const { encoder, lines } = encode(200, 7, {}, { head: true });
    expect(lines).toContain("Content-Length: 7");
    expect(encoder.take(7)).toBe(false);
  });

  it("sends neither body nor length with 204, no body with 304", () => {
    expect(encode(204, 0).lines).toEqual(["HTTP/1.1 204 No Content", "Date: x", "", ""]);
    expect(() => encode(204, 0).encoder.take(1)).toThrow(LocalProtocolError);
    expect(encode(304, 0).lines.join()).not.toContain("Content-Length");
    expect(encode(304, -1, { "Content-Length": "9" }).lines).toContain("Content-Length: 9");
  });

  it("refuses what would make another message of it", () => {
    expect(() => new Headers().set("X", "a\r\nY: b")).toThrow(LocalProtocolError);
    expect(() => new Headers().set("X", "a\nb")).toThrow(LocalProtocolError);
    expect(() => new Headers().set("X", "a\0")).toThrow(LocalProtocolError);
    expect(() => new Headers().set("X", "€")).toThrow(LocalProtocolError);
    expect(() => new Headers().set("X Y", "a")).toThrow(LocalProtocolError);
    expect(() => new Headers().set("", "a")).toThrow(LocalProtocolError);
    expect(() => encode(200, 1, { "Transfer-Encoding": "chunked" })).toThrow(LocalProtocolError);
    expect(() => encode(200, 1, { "Content-Length": "1x" })).toThrow(LocalProtocolError);
    expect(() => encode(199, 1)).toThrow(LocalProtocolError);
  });

  it("holds a handler to its promised length", () => {
    const { encoder } = encode(200, -1, { "Content-Length": "3" });
    expect(encoder.take(2)).toBe(true);
    expect(encoder.short).toBe(true);
    expect(() => encoder.take(2)).toThrow(LocalProtocolError);
  });

  it("writes interim responses without fields", () => {
    expect(new ResponseEncoder().interim(100)).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    expect(() => new ResponseEncoder().interim(200)).toThrow(LocalProtocolError);
  });
});

describe("text buffer", () => {
  it("is what its pieces would be as one string, whatever they are", () => {
    const piece = fc.oneof(
      fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)) }),
      fc.nat(),
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        const out = new TextBuffer();
        for (const each of pieces) typeof each === "string" ? out.add(each) : out.addNumber(each);
        expect(out.toString()).toBe(pieces.join(""));
      }),
    );
  });

  it("grows, and keeps nothing of what was cleared", () => {
    const out = new TextBuffer();
    out.add("x".repeat(5000)).clear();
    expect(out.add("a").addNumber(7, 3).addNumber(12_345, 3).toString()).toBe("a00712345");
  });
});

describe("headers", () => {
  it("is an ordered, case-insensitive multi-map", () => {
    const headers = new Headers();
    headers.append("Set-Cookie", "a=1");
    headers.append("set-cookie", "b=2");
    headers.set("X", 1);
    expect(headers.get("SET-COOKIE")).toBe("a=1, b=2");
    expect([...headers]).toEqual([
      ["Set-Cookie", "a=1"],
      ["set-cookie", "b=2"],
      ["X", "1"],
    ]);
    headers.append("X", 2);
    headers.set("x", 3);
    expect(headers.get("X")).toBe("3");
    headers.delete("Set-Cookie");
    expect([headers.has("set-cookie"), headers.count]).toEqual([false, 1]);
  });
});
