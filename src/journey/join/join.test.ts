import { describe, expect, it } from "vitest";
import { DropReason } from "../../base/drop-reasons.ts";
import { Ending, Held, Parked } from "../../base/tracepoints.ts";
import { brief, RecordScript } from "../testing/record-script.ts";

/** Connection 1: SYN at 1000, established at 1500, accepted at 1600. */
function opened(script = new RecordScript()): RecordScript {
  script.at(1030).syn(1, 1000, 1020).synAck(1);
  script.at(1500).established(1);
  return script;
}

/** Response [0,100) of request 1: written 2420–2430, cut 2440, qdisc 2445–2450, ring 2452–2470, acked 2900. */
function answered(script: RecordScript, conn = 1, req = 1): RecordScript {
  script.at(2410).responseBegin(req, 0).response(conn, req, 0, 100);
  script.at(2420).write(conn, 0, 100);
  script.at(2430).writeEnd(conn, 100);
  script.at(2440);
  const frame = script.cut(conn, 0, 100);
  script.at(2450).qdiscLeft(frame, 2445);
  script.at(2470).transmitted(frame, 2452);
  return script.at(2900).acked(conn, 100);
}

/** Connection 1 accepted at 1600; its request [0,50) is processed at 2030, read at 2100, parsed at 2120. */
function served(script = opened()): RecordScript {
  script.at(1600).accepted(1);
  script.at(2030).segment(1, 0, 50, 2000, 2020);
  script.at(2090).enter();
  script.at(2100).read(1, 0, 50);
  script.at(2105).readEnd(1, 50);
  script.at(2107).parseBegin(1, 0);
  script.at(2120).request(1, 1, 0, 50, 50, "/hello?name=secret");
  script.at(2125).routed(1);
  return script.at(2130).begin(1);
}

const TAIL = [
  "20 encode",
  "10 write",
  "15 output",
  "5 qdisc(qdisc)",
  "2 output",
  "18 tx-ring(tx-ring)",
  "430 ack-wait(ack-wait)",
];
const HANDSHAKE = ["20 rx-ring(irq)", "10 softirq", "470 syn-queue(handshake)", "500 client(client)"];
const HEAD = [
  ...HANDSHAKE,
  "20 rx-ring(irq)",
  "10 softirq",
  "0 accept-queue(reader-not-woken)",
  "0 accept",
  "70 receive-queue(reader-not-woken)",
  "5 copy",
  "15 parse",
  "10 route",
];

describe("a first request on an idle server", () => {
  it("passes every stage, in order, and sums exactly", () => {
    const script = served();
    script.at(2400).end(1);
    const journey = answered(script).journey(1);
    expect(brief(journey.segments)).toEqual([
      "20 rx-ring(irq)",
      "10 softirq",
      "470 syn-queue(handshake)",
      "500 client(client)",
      "20 rx-ring(irq)",
      "10 softirq",
      "0 accept-queue(reader-not-woken)",
      "0 accept",
      "70 receive-queue(reader-not-woken)",
      "5 copy",
      "15 parse",
      "10 route",
      "270 process",
      ...TAIL,
    ]);
    expect(journey).toMatchObject({
      id: 1,
      outcome: "ok",
      precision: "exact",
      sampling: 1,
      truth: "simulated",
      connection: { id: 1, local: "10.0.0.1:3000", remote: "10.0.0.2:40001", protocol: "tcp", reused: false },
      request: { method: "GET", target: "/hello?name=secret", bytes: 50 },
      response: { status: 200, bytes: 100 },
      startNs: 1000,
      totalNs: 1900,
      respondedNs: 1470,
      frames: { received: 2, sent: 2, retransmitted: 0, dropped: 0 },
    });
    expect(journey.unobserved).toBeUndefined();
  });

  it("hides query values unless asked", () => {
    const script = served();
    script.at(2400).end(1);
    answered(script).journeys();
    expect(script.collector.byId(1)?.request?.target).toBe("/hello?name=…");
    expect(script.collector.byId(1, true)?.request?.target).toBe("/hello?name=secret");
  });

  it("has the true residence of each queue as spans, and marks", () => {
    const script = served();
    script.at(2400).end(1);
    const { spans, marks } = answered(script).journey(1);
    expect(spans).toContainEqual({ stage: "syn-queue", startNs: 1030, endNs: 1500 });
    expect(spans).toContainEqual({ stage: "accept-queue", startNs: 1500, endNs: 1600, depth: 1, limit: 129 });
    expect(spans).toContainEqual({ stage: "receive-queue", startNs: 2030, endNs: 2100, depth: 50 });
    expect(spans).toContainEqual({ stage: "qdisc", startNs: 2445, endNs: 2450, depth: 0 });
    expect(spans).toContainEqual({ stage: "tx-ring", startNs: 2452, endNs: 2470, depth: 1 });
    expect(spans).toContainEqual({ stage: "ack-wait", startNs: 2470, endNs: 2900 });
    expect(marks.map((m) => `${m.name} ${m.atNs}`)).toEqual([
      "syn 1000",
      "syn-ack 1030",
      "established 1500",
      "accepted 1600",
      "head-parsed 2120",
      "routed 2125",
      "handler-start 2130",
      "handler-end 2400",
      "response-begin 2410",
      "first-byte 2470",
      "last-byte 2470",
      "acked 2900",
    ]);
  });

  it("is in flight until its last byte is acknowledged", () => {
    const script = served();
    script.collector.drain(2200);
    const [journey] = script.collector.inFlight();
    expect(journey).toMatchObject({ id: 1, outcome: "in-flight", response: null, respondedNs: null, totalNs: 1200 });
    expect(brief(journey?.segments ?? []).at(-1)).toBe("70 process");
    expect(script.collector.list()).toEqual([]);
  });
});

describe("who is to blame", () => {
  it("accept queue: the request that held the loop, by id", () => {
    const script = new RecordScript();
    script
      .at(100)
      .syn(7, 100, 100)
      .established(7)
      .accepted(7)
      .segment(7, 0, 10, 100, 100)
      .read(7, 0, 10)
      .readEnd(7, 10);
    script.request(7, 7, 0, 10, 10).begin(7);
    opened(script).at(1550).segment(1, 0, 50, 1540, 1545).at(1580).end(7);
    script.at(1600).accepted(1).at(1610).read(1, 0, 50).readEnd(1, 50).at(1620).request(1, 1, 0, 50, 50).begin(1);
    script.at(2400).end(1);
    expect(brief(answered(script).journey(1).segments)).toEqual([
      "20 rx-ring(irq)",
      "10 softirq",
      "470 syn-queue(handshake)",
      "40 client(client)",
      "5 rx-ring(irq)",
      "5 softirq",
      "30 accept-queue(loop-busy by 7)",
      "20 accept-queue(reader-not-woken)",
      "0 accept",
      "10 receive-queue(reader-not-woken)",
      "0 copy",
      "10 parse",
      "780 process",
      ...TAIL,
    ]);
  });

  it("accept queue: accept() is paused", () => {
    const script = new RecordScript();
    script.at(900).pauseAccept(true);
    opened(script).at(1520).segment(1, 0, 50, 1510, 1515);
    script.at(5000).pauseAccept(false).at(5010).accepted(1).at(5020).read(1, 0, 50).readEnd(1, 50);
    script.at(5030).request(1, 1, 0, 50, 50).begin(1).end(1).responseBegin(1, 0).response(1, 1, 0, 10);
    script.write(1, 0, 10).writeEnd(1, 10);
    const frame = script.cut(1, 0, 10);
    script.transmitted(frame, 5030).at(5100).acked(1, 10);
    const journey = script.journey(1);
    expect(brief(journey.segments).slice(3, 10)).toEqual([
      "10 client(client)",
      "5 rx-ring(irq)",
      "5 softirq",
      "3480 accept-queue(accept-paused)",
      "10 accept-queue(reader-not-woken)",
      "0 accept",
      "10 receive-queue(reader-not-woken)",
    ]);
    expect(journey.spans).toContainEqual({ stage: "receive-queue", startNs: 1520, endNs: 5020, depth: 50 });
  });

  it("receive queue: pipelined requests wait for the one before, then answer in order", () => {
    const script = opened().at(1600).accepted(1);
    script.at(2000).segment(1, 0, 100, 1990, 1995);
    script.at(2010).enter().read(1, 0, 100).at(2020).readEnd(1, 100).parseBegin(1, 0);
    script.at(2030).request(1, 1, 0, 50, 50).routed(1).begin(1);
    script.at(2100).end(1).responseBegin(1, 0).response(1, 1, 0, 10).write(1, 0, 10).at(2110).writeEnd(1, 10);
    const a = script.cut(1, 0, 10);
    script.at(2120).parsed(1, 50).parseBegin(1, 50);
    script.at(2130).request(1, 2, 50, 100, 100).routed(2).begin(2);
    script.at(2200).end(2).responseBegin(2, 10).response(1, 2, 10, 20).write(1, 10, 20).at(2210).writeEnd(1, 20);
    const b = script.cut(1, 10, 20);
    script.at(2300).transmitted(a, 2110).at(2310).transmitted(b, 2210).at(2400).acked(1, 20);
    const [, second] = script.journeys();
    expect(second).toMatchObject({ id: 2, startNs: 1990, connection: { reused: true }, outcome: "ok" });
    expect(brief(second?.segments ?? [])).toEqual([
      "5 rx-ring(irq)",
      "5 softirq",
      "10 receive-queue(pipeline by 1)",
      "10 copy",
      "90 receive-queue(pipeline by 1)",
      "20 parse",
      "0 route",
      "70 process",
      "100 send-queue(pipeline by 1)",
      "0 encode",
      "0 write",
      "0 output",
      "10 tx-ring(tx-ring)",
      "90 ack-wait(ack-wait)",
    ]);
  });

  it("a slow client is the client's fault, byte by byte", () => {
    const script = opened().at(1600).accepted(1);
    script.at(2000).segment(1, 0, 20, 2000, 2000).read(1, 0, 20).readEnd(1, 20).parseBegin(1, 0).parsed(1, 0);
    script.at(9000).segment(1, 20, 50, 9000, 9000).read(1, 20, 50).readEnd(1, 50).parseBegin(1, 0);
    script
      .request(1, 1, 0, 50, 50)
      .begin(1)
      .end(1)
      .responseBegin(1, 0)
      .response(1, 1, 0, 10)
      .write(1, 0, 10)
      .writeEnd(1, 10);
    script
      .transmitted(script.cut(1, 0, 10), 9000)
      .at(9100)
      .acked(1, 10);
    const client = script.journey(1).segments.filter((s) => s.stage === "client");
    expect(client.map((s) => s.endNs - s.startNs)).toEqual([500, 7000]);
  });

  it("a lost frame of the head is a retransmission once a later byte is here", () => {
    const script = opened().at(1600).accepted(1);
    script.at(2000).segment(1, 20, 50, 2000, 2000, -1);
    script.at(3000).segment(1, 0, 20, 3000, 3000, 50).read(1, 0, 50).readEnd(1, 50).parseBegin(1, 0);
    script
      .request(1, 1, 0, 50, 50)
      .begin(1)
      .end(1)
      .responseBegin(1, 0)
      .response(1, 1, 0, 10)
      .write(1, 0, 10)
      .writeEnd(1, 10);
    script
      .transmitted(script.cut(1, 0, 10), 3000)
      .at(3100)
      .acked(1, 10);
    const journey = script.journey(1);
    expect(brief(journey.segments)).toContain("1000 retransmission(retransmission)");
    expect(journey.spans).toContainEqual({ stage: "reassembly", startNs: 2000, endNs: 3000 });
    expect(journey.frames.received).toBe(3);
  });
});

describe("the handler", () => {
  it("waits of its own, sleeps, and waits for whoever holds the process", () => {
    const script = served();
    script.at(2200).park(1, Parked.own).at(2210).leave();
    script.at(2215).enter().syn(9, 2215, 2215).established(9).accepted(9).segment(9, 0, 5, 2215, 2215).read(9, 0, 5);
    script.readEnd(9, 5).request(9, 9, 0, 5, 5).at(2220).begin(9);
    script.at(2250).ready(1).at(2300).end(9).at(2310).run(1);
    script.at(2320).park(1, Parked.sleep).at(2390).ready(1).run(1).at(2400).end(1);
    expect(brief(answered(script).journey(1).segments)).toEqual([
      ...HEAD,
      "70 process",
      "50 handler(handler)",
      "50 run-queue(loop-busy by 9)",
      "10 run-queue(loop-busy by process 2)",
      "10 process",
      "70 handler(sleep)",
      "10 process",
      ...TAIL,
    ]);
  });

  it("parked on its body follows the body's bytes", () => {
    const script = opened().at(1600).accepted(1);
    script.at(2000).segment(1, 0, 50, 2000, 2000).read(1, 0, 50).readEnd(1, 50).parseBegin(1, 0);
    script.request(1, 1, 0, 50).begin(1).at(2010).park(1, Parked.body).parsed(1, 50);
    script.at(2130).segment(1, 50, 90, 2110, 2120);
    script
      .at(2150)
      .read(1, 50, 90)
      .at(2155)
      .readEnd(1, 90)
      .parseBegin(1, 50)
      .at(2160)
      .requestEnd(1, 90)
      .parsed(1, 90)
      .ready(1);
    script.at(2170).run(1).at(2400).end(1);
    expect(brief(answered(script).journey(1).segments).slice(6)).toEqual([
      "10 process",
      "100 client(client)",
      "10 rx-ring(irq)",
      "10 softirq",
      "20 receive-queue(reader-not-woken)",
      "5 copy",
      "5 parse",
      "10 run-queue(reader-not-woken)",
      "230 process",
      ...TAIL,
    ]);
  });
});

describe("the response", () => {
  const reasons = [
    [Held.cwnd, "send-queue(cwnd)"],
    [Held.rwnd, "send-queue(rwnd)"],
    [Held.nagle, "send-queue(nagle)"],
    [Held.cork, "send-queue(cork)"],
    [Held.pacing, "send-queue(pacing)"],
    [Held.smallQueue, "send-queue(small-queue)"],
  ] as const;
  it.each(reasons)("held by test %i waits as %s", (code, text) => {
    const script = served();
    script.at(2400).end(1).responseBegin(1, 0).response(1, 1, 0, 100).write(1, 0, 100).writeEnd(1, 100);
    const a = script.cut(1, 0, 60);
    script.held(1, code, 60).at(2410).transmitted(a, 2400).at(3400);
    const b = script.cut(1, 60, 100);
    script.at(3450).transmitted(b, 3400).at(3900).acked(1, 100);
    const { segments } = script.journey(1);
    expect(brief(segments).slice(-4)).toEqual([
      "10 tx-ring(tx-ring)",
      `990 ${text}`,
      "50 tx-ring(tx-ring)",
      "450 ack-wait(ack-wait)",
    ]);
  });

  it("a writer parked on a full send queue waits for the window, not for itself", () => {
    const script = served();
    script.at(2200).responseBegin(1, 0).write(1, 0, 60).writeEnd(1, 60);
    const a = script.cut(1, 0, 30);
    script.held(1, Held.rwnd, 30).park(1, Parked.write).at(2210).transmitted(a, 2200);
    script.at(2700);
    const b = script.cut(1, 30, 60);
    script
      .at(2710)
      .transmitted(b, 2700)
      .ready(1)
      .run(1)
      .at(2720)
      .write(1, 60, 100)
      .writeEnd(1, 100)
      .response(1, 1, 0, 100)
      .end(1);
    const c = script.cut(1, 60, 100);
    script.at(2730).transmitted(c, 2720).at(2800).acked(1, 100);
    expect(brief(script.journey(1).segments)).toEqual([
      ...HEAD,
      "70 process",
      "0 write",
      "0 output",
      "10 tx-ring(tx-ring)",
      "490 send-queue(rwnd)",
      "10 tx-ring(tx-ring)",
      "10 process",
      "10 tx-ring(tx-ring)",
      "70 ack-wait(ack-wait)",
    ]);
  });

  it("marked lost after it was on the wire: retransmission until the acknowledgement", () => {
    const script = served();
    script.at(2400).end(1);
    script.responseBegin(1, 0).response(1, 1, 0, 100).write(1, 0, 100).writeEnd(1, 100);
    script.transmitted(script.cut(1, 0, 100), 2400);
    script.at(202_400).lost(1, 0, 100);
    script
      .transmitted(script.cut(1, 0, 100), 202_400)
      .at(203_000)
      .acked(1, 100);
    const journey = script.journey(1);
    expect(brief(journey.segments).slice(-2)).toEqual([
      "200000 ack-wait(ack-wait)",
      "600 retransmission(retransmission)",
    ]);
    expect(journey.frames).toMatchObject({ sent: 3, retransmitted: 1 });
    expect(journey.respondedNs).toBe(1400);
  });

  it("dropped by the qdisc: retransmission until it is cut again", () => {
    const script = served();
    script.at(2400).end(1).responseBegin(1, 0).response(1, 1, 0, 100).write(1, 0, 100).writeEnd(1, 100);
    const frame = script.cut(1, 0, 100);
    script.kernel.drop(DropReason.qdiscDrop, frame);
    script.at(3400);
    const again = script.cut(1, 0, 100);
    script.at(3410).transmitted(again, 3405).at(3500).acked(1, 100);
    expect(brief(script.journey(1).segments).slice(-4)).toEqual([
      "1000 retransmission(retransmission)",
      "5 output",
      "5 tx-ring(tx-ring)",
      "90 ack-wait(ack-wait)",
    ]);
  });
});

describe("stories without a happy end", () => {
  it.each([
    [Ending.resetReceived, "reset"],
    [Ending.resetSent, "reset"],
    [Ending.timeout, "timeout"],
    [Ending.aborted, "aborted"],
    [Ending.fin, "aborted"],
  ] as const)("ending %i of a connection with a request is %s", (ending, outcome) => {
    const script = served();
    script.at(2500).closed(1, ending);
    const journey = script.journey(1);
    expect(journey).toMatchObject({ outcome, totalNs: 1500, respondedNs: null, response: null });
    expect(brief(journey.segments).at(-1)).toBe("370 process");
  });

  it("a handshake that expires is a timeout spent in the SYN queue", () => {
    const script = new RecordScript();
    script.at(1010).syn(1, 1000, 1005).synAck(1).at(64_000).closed(1, Ending.handshakeExpired);
    const [journey] = script.journeys();
    expect(journey).toMatchObject({ outcome: "timeout", request: null, startNs: 1000, totalNs: 63_000 });
    expect(brief(journey?.segments ?? [])).toEqual(["5 rx-ring(irq)", "5 softirq", "62990 syn-queue(handshake)"]);
  });

  it("a flood of them is told as ten and a count", () => {
    const script = new RecordScript();
    for (let i = 1; i <= 200; i++) script.at(i).syn(i, i, i);
    for (let i = 1; i <= 200; i++) script.at(1000 + i).closed(i, Ending.handshakeExpired);
    const journeys = script.journeys();
    expect(journeys).toHaveLength(10);
    expect(journeys.reduce((sum, j) => sum + (j.count ?? 1), 0)).toBe(200);
    expect(script.collector.stats().outcomes).toEqual({ timeout: 200 });
  });

  it("dropped SYNs start the journey of the client that gets in later", () => {
    const script = new RecordScript();
    script.at(10).droppedSyn(1, DropReason.tcpListenOverflow).at(500).droppedSyn(1, DropReason.tcpListenOverflow);
    script.collector.drain(600);
    served(opened(script)).at(2400).end(1);
    const journey = answered(script).journey(1);
    expect(journey).toMatchObject({ startNs: 10, totalNs: 2890, frames: { dropped: 2 } });
    expect(brief(journey.segments)[0]).toBe("990 retransmission(retransmission)");
    expect(journey.marks[0]).toEqual({ name: "dropped", atNs: 10, reason: "TCP_LISTEN_OVERFLOW", value: 2 });
  });

  it("dropped SYNs without a later try are a dropped connection; without a listener a refused one", () => {
    const script = new RecordScript();
    script.at(10).droppedSyn(1, DropReason.tcpReqQFull).droppedSyn(2, DropReason.noSocket);
    expect(
      script
        .journeys()
        .map((j) => j.outcome)
        .sort(),
    ).toEqual(["dropped", "refused"]);
  });

  it("half a head is a journey without a request", () => {
    const script = opened().at(1600).accepted(1);
    script.at(2000).segment(1, 0, 20, 2000, 2000).read(1, 0, 20).readEnd(1, 20).parseBegin(1, 0).parsed(1, 0);
    script.at(12_000).closed(1, Ending.aborted);
    const [journey] = script.journeys();
    expect(journey).toMatchObject({ outcome: "aborted", request: null, totalNs: 11_000 });
    expect(brief(journey?.segments ?? []).at(-1)).toBe("10000 client(client)");
  });

  it("an idle connection that closes after its requests has no journey of its own", () => {
    const script = served();
    script.at(2400).end(1);
    answered(script).at(9000).closed(1);
    expect(script.journeys().map((j) => j.id)).toEqual([1]);
  });
});

describe("what other floors really stamp", () => {
  it("a SYN is told as an empty segment before its connection: it does not open half a connection", () => {
    const script = new RecordScript();
    script.at(1030).segment(1, 0, 0, 1000, 1020, -1);
    const journey = answered(served(opened(script)).at(2400).end(1)).journey(1);
    expect(journey).toMatchObject({ startNs: 1000, outcome: "ok", frames: { received: 2 } });
  });

  it("a handler that burns the CPU without parking holds the process even if the runtime sleeps", () => {
    const script = opened().at(1510).syn(7, 1500, 1505).established(7).accepted(7).segment(7, 0, 9, 1500, 1505);
    script.enter().read(7, 0, 9).readEnd(7, 9).request(7, 7, 0, 9, 9).begin(7).at(1515).leave();
    script.at(1550).segment(1, 0, 50, 1540, 1545).at(1580).enter().end(7);
    script.at(1600).accepted(1).at(1610).read(1, 0, 50).readEnd(1, 50).at(1620).request(1, 1, 0, 50, 50).begin(1);
    script.at(2400).end(1);
    expect(brief(answered(script).journey(1).segments)).toContain("30 accept-queue(loop-busy by 7)");
  });
});
