import { expect, it } from "vitest";
import { SipHash } from "./siphash.ts";

/**
 * The first four bytes of the reference vectors of SipHash-2-4 (key 00 01 … 0f, message 00 01 … n−1) for message
 * lengths that are whole words, as `openssl mac -macopt size:8 SIPHASH` prints them too.
 */
const VECTORS: readonly (readonly [words: number, firstFour: string])[] = [
  [0, "310e0edd"],
  [1, "b7877127"],
  [2, "6224939a"],
  [3, "fbe50e86"],
  [4, "db9bc257"],
  [5, "98eea21a"],
  [9, "b4a31508"],
  [15, "e1915f5c"],
];

it.each(VECTORS)("agrees with the reference for %i words", (count, firstFour) => {
  const key = Uint8Array.from({ length: 16 }, (_, i) => i);
  const message = Uint8Array.from({ length: 4 * count }, (_, i) => i);
  const view = new DataView(message.buffer);
  const words = Int32Array.from({ length: count }, (_, i) => view.getInt32(4 * i, true));
  const expected = new DataView(Uint8Array.from(firstFour.match(/../g) ?? [], (h) => Number.parseInt(h, 16)).buffer);
  expect(new SipHash(key).words(words, count)).toBe(expected.getUint32(0, true));
});

it("depends on the key and hashes only the words asked for", () => {
  const words = Int32Array.of(1, 2, 3, 4);
  const zero = new SipHash(new Uint8Array(16));
  expect(zero.words(words, 3)).toBe(zero.words(Int32Array.of(1, 2, 3), 3));
  expect(zero.words(words, 4)).not.toBe(new SipHash(new Uint8Array(16).fill(1)).words(words, 4));
  expect(() => new SipHash(new Uint8Array(15))).toThrow("16 bytes");
});
