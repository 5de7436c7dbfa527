import { describe, expect, it } from "vitest";
import { copies } from "../base/copy-testing.ts";
import { sharedCopy } from "./shared-copy.ts";

describe("sharedCopy", () => {
  it("copies within shared memory, any length at any place", () => {
    copies(sharedCopy(), (bytes) => new Uint8Array(new SharedArrayBuffer(bytes)));
  });

  it("copies between arrays that begin inside their buffers", () => {
    copies(sharedCopy(), (bytes) => new Uint8Array(new ArrayBuffer(bytes + 24), 11, bytes));
  });

  it("refuses a range that is not in the array, as the engine does, and touches nothing", () => {
    const copy = sharedCopy();
    const [src, dst] = [new Uint8Array(4096).fill(7), new Uint8Array(4096)];
    for (const [from, to, len] of [
      [0, 1, 4096],
      [1, 0, 4096],
      [-1, 0, 512],
      [0, Number.NaN, 512],
    ] as const) {
      expect(() => copy(src, from, dst, to, len)).toThrow(RangeError);
    }
    expect(dst.every((byte) => byte === 0)).toBe(true);
  });

  it("refuses an array whose buffer was given away", () => {
    const src = new Uint8Array(4096).fill(7);
    const dst = new Uint8Array(4096);
    const copy = sharedCopy();
    copy(src, 0, dst, 0, 4096);
    structuredClone(src.buffer, { transfer: [src.buffer] });
    expect(() => copy(src, 0, dst, 0, 4096)).toThrow(RangeError);
    expect(dst.every((byte) => byte === 7)).toBe(true);
  });
});
