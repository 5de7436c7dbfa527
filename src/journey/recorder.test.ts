import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ManualClock } from "../base/time.ts";
import { Label, Point } from "../base/tracepoints.ts";
import { KIND_FACTOR, Kind, LABEL_MAX_BYTES, OP_GAP, RingReader } from "./record-ring.ts";
import { Recorder } from "./recorder.ts";

function small(records = 8, labels = 32): { clock: ManualClock; recorder: Recorder; reader: RingReader } {
  const clock = new ManualClock();
  const recorder = new Recorder(clock, Recorder.newBuffer(true, records, labels));
  return { clock, recorder, reader: new RingReader(recorder.buffer, "test") };
}

function takeAll(reader: RingReader): { timeNs: number; op: number; id: number; a: number; b: number; c: number }[] {
  const out = [];
  reader.refresh();
  while (reader.load()) {
    const { timeNs, op, id, a, b, c } = reader;
    out.push({ timeNs, op, id, a, b, c });
    reader.take();
  }
  reader.release();
  return out;
}

describe("the recorder", () => {
  it("writes stamps, links and drops with the clock's time", () => {
    const { clock, recorder, reader } = small();
    clock.nowNs = 5;
    recorder.stamp(Point.delivered, 1, 2, 3);
    clock.nowNs = 6;
    recorder.link(Point.read, 9, 1, 100, 200);
    recorder.drop(17, 4);
    expect(takeAll(reader)).toEqual([
      { timeNs: 5, op: Point.delivered, id: 1, a: 2, b: 3, c: 0 },
      { timeNs: 6, op: KIND_FACTOR * Kind.link + Point.read, id: 9, a: 1, b: 100, c: 200 },
      { timeNs: 6, op: KIND_FACTOR * Kind.drop + 17, id: 4, a: 0, b: 0, c: 0 },
    ]);
  });

  it("copies labels, round the end of their ring, and cuts long ones", () => {
    const { recorder, reader } = small(8, 2048);
    const read = (text: string) => {
      const bytes = Uint8Array.from(`__${text}`, (c) => c.charCodeAt(0));
      recorder.label(Label.target, 1, bytes, 2, text.length);
      bytes.fill(0);
      reader.refresh();
      expect(reader.load()).toBe(true);
      const copy = String.fromCharCode(...reader.labelBytes());
      reader.take();
      reader.release();
      return copy;
    };
    for (let i = 0; i < 10; i++) expect(read(`${i}`.repeat(300))).toBe(`${i}`.repeat(300));
    expect(read("x".repeat(5000))).toBe("x".repeat(LABEL_MAX_BYTES));
  });

  it("never blocks: a full ring loses, counts, and confesses with a gap record", () => {
    const { clock, recorder, reader } = small();
    for (let i = 1; i <= 12; i++) {
      clock.nowNs = i;
      recorder.stamp(Point.acked, i, 0, 0);
    }
    expect(recorder.lost).toBe(12 - 7);
    expect(takeAll(reader).map((r) => r.id)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    clock.nowNs = 13;
    recorder.stamp(Point.acked, 13, 0, 0);
    expect(takeAll(reader)).toEqual([
      { timeNs: 13, op: OP_GAP, id: 5, a: 8, b: 12, c: 0 },
      { timeNs: 13, op: Point.acked, id: 13, a: 0, b: 0, c: 0 },
    ]);
  });

  it("takes over the collector's mask at sync, not before", () => {
    const { recorder, reader } = small();
    reader.setMask(7);
    expect(recorder.mask).toBe(0);
    recorder.sync();
    expect(recorder.mask).toBe(7);
  });

  it("hands over every record once and in order, however reading and writing interleave", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -20, max: 20 }), { maxLength: 60 }), (script) => {
        const { recorder, reader } = small(16);
        let written = 0;
        const got: number[] = [];
        for (const step of script) {
          for (let i = 0; i < step; i++) recorder.stamp(Point.acked, ++written, 0, 0);
          if (step >= 0) continue;
          reader.refresh();
          for (let i = step; i < 0 && reader.load(); i++) {
            got.push(reader.op === OP_GAP ? -reader.id : reader.id);
            reader.take();
          }
          reader.release();
        }
        for (const r of takeAll(reader)) got.push(r.op === OP_GAP ? -r.id : r.id);
        let at = 0;
        for (const id of got) {
          if (id < 0) at -= id;
          else expect(id).toBe(++at);
        }
        expect(written - at).toBeGreaterThanOrEqual(0);
        expect(got.filter((id) => id > 0).length + recorder.lost).toBe(written);
      }),
    );
  });
});
