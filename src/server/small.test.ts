import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ManualClock } from "../base/time.ts";
import { TextBuffer } from "../proto/http1/text-buffer.ts";
import { escapeHtml } from "./html.ts";
import { DateLine, httpDate } from "./http-date.ts";
import { addMilliseconds } from "./server-timing.ts";
import { utf8, utf8Length } from "./utf8.ts";

describe("httpDate", () => {
  it("is the example of RFC 9110 §5.6.7", () => expect(httpDate(784_111_777)).toBe("Sun, 06 Nov 1994 08:49:37 GMT"));

  it("agrees with the language's own calendar", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 253_402_300_799 }), (seconds) => {
        expect(httpDate(seconds)).toBe(new Date(seconds * 1000).toUTCString());
      }),
    );
  });

  it("is made from the runtime's clock and its origin", () => {
    const clock = new ManualClock(1.5e9);
    const line = new DateLine(784_111_776_000_000_000n).at(clock.nowNs);
    expect(String.fromCharCode(...line)).toBe("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  });
});

describe("utf8", () => {
  it("agrees with TextEncoder, lone surrogates included", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((c) => String.fromCharCode(c)) }),
        (text) => {
          const bytes = new TextEncoder().encode(text);
          expect(utf8Length(text)).toBe(bytes.length);
          expect(Array.from(utf8(text))).toEqual(Array.from(bytes));
        },
      ),
    );
  });
});

describe("milliseconds", () => {
  it.each([
    [0, "0.000"],
    [499, "0.000"],
    [1_500, "0.002"],
    [12_345_678, "12.346"],
    [1e9, "1000.000"],
    [-5, "0.000"],
  ])("%d ns is %s", (ns, text) => {
    const out = new TextBuffer();
    addMilliseconds(out, ns);
    expect(out.toString()).toBe(text);
  });
});

it("escapeHtml leaves nothing that could open a tag or close an attribute", () => {
  expect(escapeHtml(`<a href="x" id='y'>&`)).toBe("&#60;a href=&#34;x&#34; id=&#39;y&#39;&#62;&#38;");
});
