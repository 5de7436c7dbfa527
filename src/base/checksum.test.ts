import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { finish, fold, pseudoHeaderV4, sum, update16 } from "./checksum.ts";

/** RFC 1071, byte by byte: the definition, with nothing clever. */
function naive(bytes: Uint8Array, at: number, len: number, initial = 0): number {
  let total = initial;
  for (let i = 0; i < len; i++) total += i % 2 === 0 ? bytes[at + i] * 256 : bytes[at + i];
  while (total > 0xffff) total = Math.floor(total / 65536) + (total % 65536);
  return total;
}

/** Bytes inside a larger buffer, so that every alignment of the backing store occurs. */
const placed = fc
  .record({ data: fc.uint8Array({ maxLength: 600 }), before: fc.nat(9), offset: fc.nat(7), after: fc.nat(5) })
  .map(({ data, before, offset, after }) => {
    const whole = new Uint8Array(before + offset + data.length + after).fill(0xa5);
    const bytes = whole.subarray(before);
    bytes.set(data, offset);
    return { bytes, at: offset, len: data.length };
  });

describe("checksum", () => {
  it("gives the example of RFC 1071 §3", () => {
    const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
    expect(sum(bytes, 0, 8)).toBe(0x2ddf0);
    expect(fold(sum(bytes, 0, 8))).toBe(0xddf2);
    expect(finish(sum(bytes, 0, 8))).toBe(0x220d);
  });

  it("equals the definition at any alignment and length", () => {
    fc.assert(
      fc.property(placed, fc.nat(0xfffff), ({ bytes, at, len }, initial) => {
        expect(fold(sum(bytes, at, len, initial))).toBe(naive(bytes, at, len, initial));
      }),
      { numRuns: 1000 },
    );
  });

  it.each([0, 1, 2, 3])("equals the definition for all-ones and zero data at offset %i", (at) => {
    for (const fill of [0, 0xff]) {
      const bytes = new Uint8Array(70000).fill(fill);
      for (const len of [63, 64, 65, 66, 67, 1460, 65535, 65536]) {
        expect(fold(sum(bytes, at, len))).toBe(naive(bytes, at, len));
      }
    }
  });

  it("works on shared memory", () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(301)).map((_, i) => i * 7);
    expect(fold(sum(bytes, 1, 300))).toBe(naive(bytes, 1, 300));
  });

  it("adds up over even-length pieces", () => {
    fc.assert(
      fc.property(placed, fc.nat(300), ({ bytes, at, len }, half) => {
        const cut = Math.min(2 * half, len - (len % 2));
        const pieces = sum(bytes, at + cut, len - cut, sum(bytes, at, cut));
        expect(fold(pieces)).toBe(naive(bytes, at, len));
      }),
    );
  });

  it("sums the pseudo header word by word", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 12, maxLength: 12 }), (header) => {
        header[8] = 0;
        const v = new DataView(header.buffer);
        const partial = pseudoHeaderV4(v.getUint32(0), v.getUint32(4), header[9], v.getUint16(10));
        expect(fold(partial)).toBe(naive(header, 0, 12));
      }),
    );
  });

  it("updates incrementally to what a recomputation gives", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), fc.nat(8), fc.nat(0xffff), (header, word, value) => {
        // One word that never changes keeps the header from being all zeros, where 0 and 0xffff mean the same sum.
        header[18] = 0x45;
        const v = new DataView(header.buffer);
        const old = v.getUint16(2 * word);
        const before = ~naive(header, 0, 20) & 0xffff;
        v.setUint16(2 * word, value);
        expect(update16(before, old, value)).toBe(~naive(header, 0, 20) & 0xffff);
      }),
    );
  });

  it("gives the example of RFC 1624 §4", () => {
    expect(update16(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });
});
