import { describe, expect, it } from "vitest";
import { ManualClock, SECOND } from "../base/time.ts";
import { Ending, Parked, Point } from "../base/tracepoints.ts";
import { Collector } from "./collector.ts";
import { Recorder } from "./recorder.ts";
import { brief, RecordScript } from "./testing/record-script.ts";

/** A whole small request on connection and with id `n`, starting at `at`, 100 ns long. */
function exchange(script: RecordScript, n: number, at: number): void {
  script.at(at).syn(n, at, at).established(n).accepted(n);
  script
    .at(at + 10)
    .segment(n, 0, 50, at + 10, at + 10)
    .read(n, 0, 50)
    .readEnd(n, 50)
    .parseBegin(n, 0);
  script.request(n, n, 0, 50, 50).routed(n).begin(n);
  script
    .at(at + 30)
    .end(n)
    .responseBegin(n, 0)
    .response(n, n, 0, 10)
    .write(n, 0, 10)
    .writeEnd(n, 10);
  const frame = script.cut(n, 0, 10);
  script
    .at(at + 50)
    .transmitted(frame, at + 40)
    .at(at + 100)
    .acked(n, 10);
}

describe("the collector", () => {
  it("tells a story only when every ring has been drained past its end", () => {
    const script = new RecordScript({ graceNs: 50 });
    exchange(script, 1, 1000);
    script.collector.drain(1140);
    expect(script.collector.list()).toEqual([]);
    script.collector.drain(1151);
    expect(script.collector.list().map((j) => j.id)).toEqual([1]);
  });

  it("gives journeys newest first, by outcome, slowness, stage and id", () => {
    const script = new RecordScript();
    for (let n = 1; n <= 5; n++) exchange(script, n, n * 1000);
    script.at(9000).syn(9, 9000, 9000).at(9500).closed(9, Ending.handshakeExpired);
    const seen: number[] = [];
    const stop = script.collector.subscribe((j) => seen.push(j.id));
    script.collector.flush();
    const { collector } = script;
    expect(collector.list({ limit: 3 }).map((j) => j.id)).toEqual([-1, 5, 4]);
    expect(collector.list({ outcome: "timeout" }).map((j) => j.id)).toEqual([-1]);
    expect(collector.list({ stage: "process", slowerNs: 20 })).toHaveLength(5);
    expect(collector.list({ stage: "process", slowerNs: 21 })).toHaveLength(0);
    expect(collector.list({ slowerNs: 51 }).map((j) => j.id)).toEqual([-1]);
    expect(collector.byId(3)?.id).toBe(3);
    expect(collector.byId(77)).toBeUndefined();
    expect(seen).toEqual([1, 2, 3, 4, 5, -1]);
    stop();
    expect(collector.stats()).toEqual({
      finished: 6,
      outcomes: { ok: 5, timeout: 1 },
      respondedNs: { p50: 50, p90: 50, p99: 50, max: 50 },
    });
  });

  it("keeps no more journeys than asked", () => {
    const script = new RecordScript({ journeys: 3 });
    for (let n = 1; n <= 10; n++) exchange(script, n, n * 1000);
    expect(script.journeys().map((j) => j.id)).toEqual([8, 9, 10]);
    expect(script.collector.byId(7)).toBeUndefined();
    expect(script.collector.store.size).toBe(3);
  });

  it("merges rings by time", () => {
    const clocks = [new ManualClock(), new ManualClock()];
    const recorders = clocks.map((clock) => new Recorder(clock));
    const collector = new Collector({ graceNs: 0 });
    recorders.forEach((recorder, i) => collector.attach(recorder.buffer, `ring ${i}`));
    for (let t = 0; t < 1000; t++) {
      const i = t % 7 < 3 ? 0 : 1;
      (clocks[i] as ManualClock).nowNs = t;
      (recorders[i] as Recorder).stamp(Point.processEnter, 1, 0, 0);
    }
    expect(collector.drain(999)).toBe(1000);
    expect(collector.counters()).toMatchObject({ records: 1000, late: 0, lostRecords: 0 });
  });

  it("samples fewer connections above its budget and more again below", () => {
    const script = new RecordScript({ budgetPerSecond: 1000 });
    for (let i = 0; i < 4000; i++) script.at(i * 1000).enter();
    script.collector.drain(SECOND);
    expect(script.collector.counters().sampling).toBe(4);
    script.kernel.sync();
    expect(script.kernel.mask).toBe(3);
    exchange(script, 8, SECOND + 1000);
    exchange(script, 9, SECOND + 2000); // not guarded here, so it must be ignored
    script.collector.drain(2 * SECOND);
    expect(script.collector.list().map((j) => [j.id, j.sampling])).toEqual([[8, 4]]);
    // A second with some 60 records, a sixteenth of the budget: every connection again, at once.
    expect(script.collector.counters().sampling).toBe(1);
  });

  it("knows what it costs: samples fewer connections above its share of the time, however few records those are", () => {
    // Each look at the clock is 5 ms after the one before while there are records: so long does a drain take.
    let cpuNs = 0;
    const isRecorded = () => script.kernel.mask !== -1;
    const readNs = () => {
      cpuNs += isRecorded() ? 5e6 : 0;
      return cpuNs;
    };
    const script = new RecordScript({ budgetPerSecond: 5000, budgetShare: 0.02, readNs });
    const second = (n: number): void => {
      const { collector } = script;
      for (let tenth = 1; tenth <= 10; tenth++) {
        for (let i = 0; isRecorded() && i < 1000; i++) script.at((n + (tenth - 1) / 10) * SECOND + i * 1000).enter();
        cpuNs += isRecorded() ? 90e6 : 100e6;
        collector.drain((n + tenth / 10) * SECOND);
        script.kernel.sync();
      }
    };
    // 10 drains of 5 ms are 2.5 budgets of 20 ms: one second of it is a burst; a second one quarters.
    second(0);
    expect(script.collector.counters()).toMatchObject({ sampling: 1, pauses: 0 });
    expect(script.collector.counters().share).toBeCloseTo(0.05, 6);
    second(1);
    // It stopped when the budget was spent: after 5,000 records, in the middle of the second. All of them were twice
    // what is always affordable, which is less than 2.5: half as many connections do.
    expect(script.collector.counters()).toMatchObject({ sampling: 2, pauses: 1 });
  });

  it("at human rates records every connection, whatever it costs", () => {
    let spentNs = 0;
    const readNs = () => {
      spentNs += 50e6;
      return spentNs;
    };
    const script = new RecordScript({ budgetPerSecond: 5000, readNs });
    for (let tenth = 1; tenth <= 50; tenth++) {
      for (let i = 0; i < 499; i++) script.at(((tenth - 1) / 10) * SECOND + i * 1000).enter();
      script.collector.drain((tenth / 10) * SECOND);
    }
    expect(script.collector.counters()).toMatchObject({ sampling: 1, pauses: 0 });
  });

  it("keeps its level when no time was used, and finds one when a second stopped at its very start", () => {
    const still = new RecordScript({ budgetPerSecond: 1000, readNs: () => 0 });
    still.collector.drain(SECOND);
    still.collector.drain(2 * SECOND);
    expect(still.collector.counters()).toMatchObject({ sampling: 1, share: 0 });
    const early = new RecordScript({ budgetPerSecond: 1000 });
    early.collector.drain(SECOND);
    for (let i = 0; i < 4000; i++) early.at(SECOND).enter();
    early.collector.drain(SECOND);
    early.collector.drain(2 * SECOND);
    // 4 budgets in a millisecond would be 4,000 in the second: one connection in 2^12.
    expect(early.collector.counters()).toMatchObject({ sampling: 4096, pauses: 1 });
  });

  it("stops for the rest of a second that has cost a whole burst, and forgets what was open meanwhile", () => {
    const script = new RecordScript({ budgetPerSecond: 1000 });
    const { collector, kernel } = script;
    exchange(script, 4, 1000);
    script.at(2000).syn(8, 2000, 2000);
    for (let i = 0; i < 4000; i++) script.at(10_000 + i * 1000).enter();
    collector.drain(SECOND / 2);
    kernel.sync();
    expect([kernel.mask, collector.counters().pauses, collector.inFlight().length]).toEqual([-1, 1, 0]);
    collector.drain(SECOND);
    kernel.sync();
    // More than eight budgets in such a second, had it gone on: one connection in sixteen from now on.
    expect([kernel.mask, collector.counters().sampling]).toEqual([15, 16]);
    expect(collector.list().map((j) => j.id)).toEqual([4]);
  });

  it("what was open while recording was off is not told", () => {
    const script = new RecordScript();
    script.at(10).syn(1, 10, 10);
    script.collector.drain(20);
    script.collector.setRecording(false);
    script.collector.drain(30);
    expect(script.collector.inFlight()).toHaveLength(1);
    script.collector.setRecording(true);
    expect(script.collector.inFlight()).toHaveLength(0);
  });

  it("finds journeys by connection, finished and not, with the place of their bytes", () => {
    const script = new RecordScript();
    exchange(script, 4, 1000);
    script.at(3000).syn(5, 3000, 3000);
    script.collector.drain(4000);
    const found = script.collector.byConnection();
    const ids = [...found].map(([key, placed]) => [key, placed.map(({ journey }) => journey.id)]);
    expect(ids).toEqual([
      ["10.0.0.2:40004 10.0.0.1:3000", [4]],
      ["10.0.0.2:40005 10.0.0.1:3000", [-5]],
    ]);
    const place = found.get("10.0.0.2:40004 10.0.0.1:3000")?.[0]?.place;
    expect(place).toMatchObject({ receiveIsn: 1000, sendIsn: 0xffff_fff0, headLo: 0, responseLo: 0 });
  });

  it("a request half seen is counted, not guessed", () => {
    const script = new RecordScript();
    script.at(10).segment(1, 50, 80, 10, 10).request(1, 1, 0, 60, 60).begin(1).end(1).responseBegin(1, 0);
    script.response(1, 1, 0, 10).write(1, 0, 10).writeEnd(1, 10).at(20).acked(1, 10);
    expect(script.journeys()).toEqual([]);
    expect(script.collector.counters()).toMatchObject({ incomplete: 1 });
  });

  it("a kept-alive connection first seen in the middle is told from the next whole request on", () => {
    const script = new RecordScript();
    script.at(10).segment(1, 500, 550, 5, 8).read(1, 500, 550).readEnd(1, 550).parseBegin(1, 500);
    script.request(1, 1, 500, 550, 550).begin(1).end(1).responseBegin(1, 900).response(1, 1, 900, 910);
    script.write(1, 900, 910).writeEnd(1, 910);
    script
      .transmitted(script.cut(1, 900, 910), 10)
      .at(20)
      .acked(1, 910);
    expect(script.journey(1)).toMatchObject({ startNs: 5, totalNs: 15, connection: { reused: true }, outcome: "ok" });
  });

  it("lost records end what was open, with a count; later connections are whole again", () => {
    const clock = new ManualClock();
    const recorder = new Recorder(clock, Recorder.newBuffer(false, 64, 1024));
    const collector = new Collector({ graceNs: 0 });
    collector.attach(recorder.buffer, "kernel");
    recorder.stamp(Point.synReceived, 1, 0, 0);
    for (let i = 0; i < 100; i++) recorder.stamp(Point.delivered, 1, i, 0);
    collector.drain(1);
    recorder.stamp(Point.synReceived, 2, 0, 0);
    collector.drain(2);
    expect(collector.counters()).toMatchObject({ lostRecords: 101 - 63 });
    expect(collector.inFlight().map((j) => j.connection.id)).toEqual([2]);
  });
});

describe("a blind real-time kernel", () => {
  it("says what it could not see and who was in the way", () => {
    const script = new RecordScript({ blindWhileBusy: true });
    exchange(script, 1, 1000);
    script
      .at(2000)
      .syn(2, 2000, 2000)
      .established(2)
      .accepted(2)
      .segment(2, 0, 9, 2000, 2000)
      .read(2, 0, 9)
      .readEnd(2, 9);
    script.request(2, 2, 0, 9, 9).begin(2).at(9000).end(2);
    exchange(script, 3, 9000);
    const third = script.journey(3);
    expect(third.unobserved).toEqual({ maxNs: 7000, reason: "loop-busy", by: 2 });
    expect(script.collector.byId(1)?.unobserved).toBeUndefined();
  });
});

describe("big bodies", () => {
  it("an upload of 70,000 frames stays linear and bounded", () => {
    const script = new RecordScript();
    script.at(10).syn(1, 10, 10).established(1).accepted(1).segment(1, 0, 50, 10, 10).read(1, 0, 50).readEnd(1, 50);
    script.parseBegin(1, 0).request(1, 1, 0, 50).begin(1).park(1, Parked.body).parsed(1, 50);
    const frame = 1400;
    let at = 50;
    for (let i = 0; i < 70_000; i++) {
      const now = 100 + i * 100;
      script.at(now).segment(1, at, at + frame, now - 20, now - 10);
      script
        .at(now + 10)
        .read(1, at, at + frame)
        .readEnd(1, at + frame)
        .parseBegin(1, at)
        .at(now + 20)
        .parsed(1, at + frame);
      at += frame;
      if (i % 1000 === 999) script.collector.drain(now);
    }
    script
      .requestEnd(1, at)
      .ready(1)
      .run(1)
      .end(1)
      .responseBegin(1, 0)
      .response(1, 1, 0, 10)
      .write(1, 0, 10)
      .writeEnd(1, 10);
    script
      .transmitted(script.cut(1, 0, 10), 7_000_200)
      .at(8_000_000)
      .acked(1, 10);
    const journey = script.journey(1);
    expect(journey).toMatchObject({ outcome: "ok", precision: "coarse", frames: { received: 70_002 } });
    expect(journey.request?.bytes).toBe(70_000 * frame + 50);
    expect(journey.segments.length).toBeLessThanOrEqual(1024);
    expect(journey.segments.reduce((sum, s) => sum + s.endNs - s.startNs, 0)).toBe(journey.totalNs);
    expect(journey.spans.length).toBeLessThan(100);
  });

  it("a download of 70,000 frames too", () => {
    const script = new RecordScript();
    script.at(10).syn(1, 10, 10).established(1).accepted(1).segment(1, 0, 50, 10, 10).read(1, 0, 50).readEnd(1, 50);
    script.parseBegin(1, 0).request(1, 1, 0, 50, 50).begin(1).end(1).responseBegin(1, 0).response(1, 1, 0, 98_000_000);
    script.write(1, 0, 98_000_000).writeEnd(1, 98_000_000);
    for (let i = 0; i < 70_000; i++) {
      script.at(100 + i * 100);
      const frame = script.cut(1, i * 1400, i * 1400 + 1400);
      script
        .at(150 + i * 100)
        .transmitted(frame, 120 + i * 100)
        .acked(1, i * 1400);
      if (i % 1000 === 999) script.collector.drain(150 + i * 100);
    }
    script.at(8_000_000).acked(1, 98_000_000);
    const journey = script.journey(1);
    expect(journey).toMatchObject({
      outcome: "ok",
      totalNs: 7_999_990,
      respondedNs: 7_000_050 - 10,
      frames: { sent: 70_000 },
    });
    expect(brief(journey.segments).at(-1)).toBe("999950 ack-wait(ack-wait)");
    expect(journey.segments.reduce((sum, s) => sum + s.endNs - s.startNs, 0)).toBe(journey.totalNs);
  });
});
