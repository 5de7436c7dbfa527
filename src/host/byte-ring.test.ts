import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteRing } from "./byte-ring.ts";

const CAPACITY = 64;

function twoEnds(capacityBytes = CAPACITY): { writer: ByteRing; reader: ByteRing } {
  const buffer = new SharedArrayBuffer(ByteRing.bytesFor(capacityBytes));
  return { writer: new ByteRing(buffer, 0, capacityBytes), reader: new ByteRing(buffer, 0, capacityBytes) };
}

describe("ByteRing", () => {
  it("shows nothing before it is published, and is full at its capacity", () => {
    const { writer, reader } = twoEnds();
    writer.copyIn(0, new Uint8Array(CAPACITY).fill(7), 0, CAPACITY);
    expect([reader.used, writer.free]).toEqual([0, CAPACITY]);
    writer.publish(CAPACITY);
    expect([reader.used, writer.free]).toEqual([CAPACITY, 0]);
    expect(() => writer.publish(1)).toThrow("written over its end");
    reader.release(CAPACITY);
    expect(() => reader.release(1)).toThrow("read over its end");
    expect([reader.used, writer.free]).toEqual([0, CAPACITY]);
  });

  it("carries numbers most significant byte first, across its end too", () => {
    const { writer, reader } = twoEnds();
    for (let start = 0; start < CAPACITY; start++) {
      writer.putUint32(0, 0xfe010203);
      writer.publish(4);
      const bytes = new Uint8Array(4);
      reader.copyOut(0, bytes, 0, 4);
      expect([...bytes]).toEqual([0xfe, 1, 2, 3]);
      expect(reader.getUint32(0)).toBe(0xfe010203);
      reader.release(4);
      writer.publish(1);
      reader.release(1);
    }
  });

  it("counts on past 2^32", () => {
    const { writer, reader } = twoEnds(1 << 30);
    for (let i = 0; i < 9; i++) {
      writer.publish(1 << 30);
      expect([reader.used, writer.free]).toEqual([1 << 30, 0]);
      reader.release(1 << 30);
    }
    writer.copyIn(0, Uint8Array.of(1, 2, 3), 0, 3);
    writer.publish(3);
    expect([reader.used, reader.getUint32(0) >>> 8]).toEqual([3, 0x010203]);
  });

  it("gives back the stream that was written, however it is cut", () => {
    const cuts = fc.array(fc.tuple(fc.integer({ min: 1, max: CAPACITY }), fc.integer({ min: 1, max: CAPACITY })));
    fc.assert(
      fc.property(cuts, (steps) => {
        const { writer, reader } = twoEnds();
        const seen: number[] = [];
        let written = 0;
        for (const [toWrite, toRead] of steps) {
          const n = Math.min(toWrite, writer.free);
          writer.copyIn(
            0,
            Uint8Array.from({ length: n + 2 }, (_, i) => written + i - 1),
            1,
            n,
          );
          writer.publish(n);
          written += n;
          const m = Math.min(toRead, reader.used);
          const into = new Uint8Array(m + 1);
          reader.copyOut(0, into, 1, m);
          reader.release(m);
          seen.push(...into.subarray(1));
        }
        expect(seen).toEqual(seen.map((_, i) => i & 255));
        expect(seen.length).toBe(written - reader.used);
      }),
    );
  });
});
