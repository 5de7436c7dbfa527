/** What every `CopyBytes` must do. */
import fc from "fast-check";
import { expect } from "vitest";
import type { CopyBytes } from "./copy.ts";

/** Right bytes, and no other, for any place and length, within an array and between two. */
export function copies(copy: CopyBytes, newArray: (bytes: number) => Uint8Array): void {
  const places = fc.record({ len: fc.nat(3000), from: fc.nat(9), to: fc.nat(9), isSame: fc.boolean() });
  fc.assert(
    fc.property(places, ({ len, from, to, isSame }) => {
      const src = newArray(2 * len + 32);
      const dst = isSame ? src : newArray(2 * len + 32);
      for (let i = 0; i < src.length; i++) src[i] = i * 7 + 1;
      const before = dst.slice();
      const dstAt = len + 12 + to;
      const wanted = src.slice(from, from + len);
      copy(src, from, dst, dstAt, len);
      expect(dst.slice(dstAt, dstAt + len)).toEqual(wanted);
      expect(dst.slice(0, dstAt)).toEqual(before.slice(0, dstAt));
      expect(dst.slice(dstAt + len)).toEqual(before.slice(dstAt + len));
    }),
  );
}
