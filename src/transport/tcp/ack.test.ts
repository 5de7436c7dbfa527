/** When ACKs leave: quick ones first, then every second segment or 40–200 ms; Nagle, cork, and how they meet. */
import { describe, expect, test } from "vitest";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { Reno } from "./congestion/reno.ts";
import { type SegmentTemplate, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

const MSS = 1000;
const MORE = 0x8000;
const SOL_TCP = 6;
const NODELAY = 1;
const CORK = 3;
const QUICKACK = 12;

function established(syn: Partial<SegmentTemplate> = {}) {
  const host = new TestHost();
  const peer = new TestPeer(host);
  const opened = peer.open(host.listen(80), { mss: MSS, ...syn });
  let next = opened.isn + 1;
  /** Data from the peer, the next in order. */
  const data = (len: number, flags = "P.") => {
    peer.send({ flags, seq: next, ack: opened.iss + 1, data: "d".repeat(len) });
    next += len;
  };
  const ack = (bytes: number) => peer.send({ flags: ".", seq: next, ack: opened.iss + 1 + bytes });
  return { host, peer, data, ack, ...opened };
}

describe("delayed ACK", () => {
  test("the first segments are acknowledged at once", () => {
    const { peer, data } = established();
    for (let i = 0; i < 4; i++) {
      data(100);
      peer.expect({ flags: ".", len: 0 });
    }
  });

  test("once the process answers (pingpong), ACKs wait 40 ms for data to ride on", () => {
    const { host, peer, data, tcb } = established();
    data(100);
    host.write(tcb, "answer");
    peer.forget();
    host.advance(5 * MILLISECOND);
    data(100);
    peer.expectNothing();
    host.advance(39 * MILLISECOND);
    peer.expectNothing();
    host.advance(1 * MILLISECOND);
    peer.expect({ flags: ".", len: 0, ack: 1201 });
    expect(host.counter("TcpExtDelayedACKs")).toBe(1);
  });

  test("an answer in time carries the ACK", () => {
    const { host, peer, data, ack, tcb } = established();
    data(100);
    host.write(tcb, "answer");
    ack(6);
    peer.forget();
    data(100);
    host.advance(10 * MILLISECOND);
    host.write(tcb, "again");
    peer.expect({ flags: "P.", ack: 1201 });
    host.advance(SECOND);
    expect(host.counter("TcpExtDelayedACKs")).toBe(0);
  });

  test("every second full segment is acknowledged at once, in pingpong mode too", () => {
    const { host, peer, data, ack, tcb } = established();
    data(MSS);
    host.write(tcb, "answer");
    ack(6);
    host.read(tcb);
    peer.forget();
    data(MSS, ".");
    peer.expectNothing();
    data(MSS, ".");
    peer.expect({ flags: ".", len: 0, ack: 1001 + 3 * MSS });
  });

  test("a segment behind a hole is acknowledged at once, and the one that fills it", () => {
    const { host, peer, ack, tcb, iss } = established();
    peer.send({ flags: "P.", seq: 1001, ack: iss + 1, data: "a" });
    host.write(tcb, "answer");
    ack(6);
    peer.forget();
    peer.send({ flags: "P.", seq: 1012, ack: iss + 7, data: "later" });
    peer.expect({ flags: ".", ack: 1002 });
    peer.send({ flags: "P.", seq: 1002, ack: iss + 7, data: "0123456789" });
    peer.expect({ flags: ".", ack: 1017 });
  });

  test("old data is acknowledged again at once", () => {
    const { peer, data, iss } = established();
    data(100);
    peer.forget();
    peer.send({ flags: "P.", seq: 1001, ack: iss + 1, data: "d".repeat(100) });
    peer.expect({ flags: ".", ack: 1101 });
  });

  test("TCP_QUICKACK sends what is pending and is not sticky", () => {
    const { host, peer, data, ack, tcb } = established();
    data(100);
    host.write(tcb, "answer");
    ack(6);
    peer.forget();
    data(100);
    peer.expectNothing();
    host.tcp.setOption(tcb, SOL_TCP, QUICKACK, 1);
    peer.expect({ flags: ".", ack: 1201 });
  });

  test("a gap longer than the RTO starts quick ACKs again: the sender is in slow start", () => {
    const { host, peer, data, ack, tcb } = established();
    data(100);
    host.write(tcb, "answer");
    ack(6);
    host.advance(60 * MILLISECOND);
    data(100);
    host.advance(100 * MILLISECOND);
    peer.forget();
    expect(host.tcp.getOption(tcb, SOL_TCP, QUICKACK)).toBe(1);
    host.advance(10 * SECOND);
    data(100);
    peer.expect({ flags: "." });
  });
});

describe("Nagle", () => {
  test("a small segment waits while a small one is unacknowledged", () => {
    const { host, peer, ack, tcb } = established();
    host.write(tcb, "one");
    host.write(tcb, "two");
    host.write(tcb, "three");
    peer.expect({ flags: "P.", data: "one" });
    peer.expectNothing();
    ack(3);
    peer.expect({ flags: "P.", data: "twothree" });
  });

  test("Minshall: a small segment behind full ones only does not wait", () => {
    const { host, peer, tcb } = established();
    host.write(tcb, "f".repeat(2 * MSS) + "tail");
    expect(peer.sent.map((s) => s.len)).toEqual([MSS, MSS, 4]);
    peer.forget();
    host.write(tcb, "next");
    peer.expectNothing();
  });

  test("TCP_NODELAY sends at once, and what is held when it is set", () => {
    const { host, peer, tcb } = established();
    host.write(tcb, "one");
    host.write(tcb, "two");
    peer.expect({ data: "one" });
    peer.expectNothing();
    host.tcp.setOption(tcb, SOL_TCP, NODELAY, 1);
    peer.expect({ data: "two" });
    host.write(tcb, "three");
    peer.expect({ data: "three" });
  });

  test("TCP_CORK holds a partial segment, lets full ones go, and uncorking sends the rest", () => {
    const { host, peer, tcb } = established();
    host.tcp.setOption(tcb, SOL_TCP, CORK, 1);
    host.tcp.setOption(tcb, SOL_TCP, NODELAY, 1);
    host.write(tcb, "head");
    peer.expectNothing();
    host.write(tcb, "b".repeat(MSS));
    peer.expect({ len: MSS });
    peer.expectNothing();
    host.tcp.setOption(tcb, SOL_TCP, CORK, 0);
    peer.expect({ len: 4 });
  });

  test("a forgotten cork is pulled by the persist timer: after the RTO, 200 ms and a little", () => {
    const { host, peer, tcb } = established();
    expect(tcb.rtoNs).toBeLessThanOrEqual(200.001 * MILLISECOND);
    host.tcp.setOption(tcb, SOL_TCP, CORK, 1);
    host.write(tcb, "head");
    host.advance(199 * MILLISECOND);
    peer.expectNothing();
    host.advance(2 * MILLISECOND);
    peer.expect({ data: "head" });
  });

  test("MSG_MORE is a cork for one write", () => {
    const { host, peer, tcb } = established();
    host.write(tcb, "head", MORE);
    peer.expectNothing();
    host.write(tcb, "body");
    peer.expect({ flags: "P.", data: "headbody" });
  });

  test("write-write-read over a wire: Nagle × delayed ACK costs one delayed ACK, NODELAY none", () => {
    const took = (noDelay: boolean): number => {
      const wire = new TestWire({ delayNs: MILLISECOND });
      const [client, server] = wire.pair();
      if (noDelay) wire.a.tcp.setOption(client, SOL_TCP, NODELAY, 1);
      const exchange = () => {
        const start = wire.clock.nowNs;
        wire.a.write(client, "head");
        wire.a.write(client, "body");
        let got = "";
        wire.runFor(SECOND, () => {
          const more = wire.b.read(server);
          if (typeof more !== "number") got += String.fromCharCode(...more);
          return got.length === 8;
        });
        wire.b.write(server, "ok");
        wire.runFor(SECOND, () => wire.a.tcp.readableBytes(client) > 0);
        wire.a.read(client);
        return (wire.clock.nowNs - start) / MILLISECOND;
      };
      let last = 0;
      for (let i = 0; i < 30; i++) last = exchange();
      return last;
    };
    expect(took(true)).toBeCloseTo(2, 1);
    // head, delayed ACK after 40 ms, body, answer.
    expect(took(false)).toBeGreaterThan(40);
    expect(took(false)).toBeLessThan(50);
  });
});

describe("window and urgency of output", () => {
  test("PSH stands on the segment that ends a write", () => {
    const { host, peer, tcb } = established();
    host.write(tcb, "x".repeat(2 * MSS));
    peer.expect({ flags: ".", len: MSS });
    peer.expect({ flags: "P.", len: MSS });
  });

  test("never more than the peer's window, never more than the congestion window (IW10)", () => {
    const narrow = established({ window: 3500 });
    // Half of the largest window bounds the segment: 1000 < 1750.
    narrow.host.write(narrow.tcb, "x".repeat(8000));
    expect(narrow.peer.sent.reduce((sum, s) => sum + s.len, 0)).toBe(3000);
    const wide = established();
    wide.host.write(wide.tcb, "x".repeat(30_000));
    expect(wide.peer.sent.length).toBe(10);
  });

  test("slow start: each acknowledged segment lends one more", () => {
    const { host, peer, ack, tcb } = established();
    host.write(tcb, "x".repeat(60_000));
    peer.forget();
    ack(2 * MSS);
    expect(peer.sent.length).toBe(4);
    expect(tcb.cwndSegments).toBe(12);
  });

  test("congestion avoidance: one segment per window", () => {
    const { host, peer, ack, tcb } = established();
    tcb.congestion = new Reno();
    tcb.ssthreshSegments = 10;
    host.write(tcb, "x".repeat(60_000));
    peer.forget();
    ack(5 * MSS);
    expect(tcb.cwndSegments).toBe(10);
    ack(10 * MSS);
    expect(tcb.cwndSegments).toBe(11);
  });

  test("slow-start restart after idle: half per RTO, down to the initial window", () => {
    const { host, peer, ack, tcb } = established();
    tcb.cwndSegments = 64;
    host.write(tcb, "x");
    ack(1);
    host.advance(tcb.rtoNs * 2.5);
    host.write(tcb, "y");
    expect(tcb.cwndSegments).toBe(16);
    peer.forget();
    ack(2);
    host.advance(100 * SECOND);
    host.write(tcb, "z");
    expect(tcb.cwndSegments).toBe(10);
  });
});
