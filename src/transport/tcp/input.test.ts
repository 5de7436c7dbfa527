/** Segment acceptance: windows, PAWS, overlaps, old ACKs, wrap-around, and the receive side's memory. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { type ReceivedRun, TcpState } from "../port.ts";
import { ascii, type SegmentTemplate, TestHost, TestPeer, text } from "./tcp-testing.ts";

function established(syn: Partial<SegmentTemplate> = {}, isn = 1000) {
  const host = new TestHost();
  const peer = new TestPeer(host);
  const opened = peer.open(host.listen(80), syn, isn);
  const data = (offset: number, payload: string, more: Partial<SegmentTemplate> = {}) =>
    peer.send({ flags: "P.", seq: isn + 1 + offset, ack: opened.iss + 1, data: payload, ...more });
  return { host, peer, data, ...opened };
}

describe("acceptance", () => {
  test("header prediction takes in-order data and pure ACKs", () => {
    const { host, peer, data, tcb, iss } = established();
    data(0, "one");
    data(3, "two");
    expect(host.counter("TcpExtTCPHPHits")).toBe(2);
    host.write(tcb, "answer");
    peer.send({ flags: ".", seq: 1007, ack: iss + 7 });
    expect(host.counter("TcpExtTCPHPAcks")).toBe(1);
    expect(host.readText(tcb)).toBe("onetwo");
  });

  test("beyond the window: dropped and acknowledged", () => {
    const { host, peer, data } = established();
    data(70_000, "far");
    peer.expect({ flags: ".", ack: 1001 });
    expect(host.env.pool.outstanding).toBe(0);
  });

  test("an ACK of what was never sent is dropped", () => {
    const { host, peer, iss, tcb } = established();
    peer.send({ flags: "P.", seq: 1001, ack: iss + 500, data: "x" });
    expect(host.tcp.readableBytes(tcb)).toBe(0);
  });

  test("a very old ACK is challenged (RFC 5961 §5.2)", () => {
    const { host, peer, iss } = established({ window: 1000 });
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 - 5000 });
    peer.expect({ flags: ".", ack: 1001 });
    expect(host.counter("TcpExtTCPChallengeACK")).toBe(1);
  });

  test("a segment without ACK is dropped", () => {
    const { host, tcb } = established();
    const before = host.tcp.readableBytes(tcb);
    host.tcp.context.env.drops.counts.fill(0);
    new TestPeer(host).send({ flags: "P", seq: 1001, data: "x" });
    expect(host.tcp.readableBytes(tcb)).toBe(before);
  });

  test("data into a closed window: TCPZeroWindowDrop (row 30), acknowledged", () => {
    const { host, peer, tcb, iss } = established();
    let at = 0;
    while (tcb.receiveWindow() > 0 && at < 200_000) {
      const len = Math.min(1000, tcb.receiveWindow());
      peer.send({ flags: "P.", seq: 1001 + at, ack: iss + 1, data: "d".repeat(len) });
      at += len;
      // A reader that sleeps is acknowledged late: what the last ACK offered may be used up before the next.
      if (tcb.receiveWindow() === 0) host.advance(200 * MILLISECOND);
    }
    expect(tcb.receiveWindow()).toBe(0);
    peer.forget();
    const dropped = host.counter("TcpExtTCPZeroWindowDrop") + host.counter("TcpExtTCPRcvQDrop");
    peer.send({ flags: "P.", seq: 1001 + tcb.rcvNxtOffset, ack: iss + 1, data: "probe" });
    host.advance(200 * MILLISECOND);
    peer.expect({ flags: ".", window: 0 });
    expect(host.counter("TcpExtTCPZeroWindowDrop") + host.counter("TcpExtTCPRcvQDrop")).toBe(dropped + 1);
  });
});

describe("PAWS (RFC 7323 §5)", () => {
  test("an older timestamp is rejected and acknowledged; the same bytes with a newer one are taken", () => {
    const { host, peer, data, tcb } = established({ ts: [1000, 0] });
    data(0, "first", { ts: [2000, 0] });
    peer.forget();
    data(5, "old", { ts: [1500, 0] });
    peer.expect({ flags: ".", ack: 1006 });
    expect(host.counter("TcpExtPAWSEstab")).toBe(1);
    data(5, "new", { ts: [2000, 0] });
    expect(host.readText(tcb)).toBe("firstnew");
  });

  test("a timestamp is forgotten after 24 days", () => {
    const { host, data, tcb } = established({ ts: [1000, 0] });
    data(0, "first", { ts: [2000, 0] });
    host.advance(25 * 86_400 * SECOND);
    data(5, "x", { ts: [1, 0] });
    expect(host.readText(tcb)).toBe("firstx");
  });

  test("a RST is accepted whatever its timestamp", () => {
    const { peer, tcb, iss } = established({ ts: [1000, 0] });
    peer.send({ flags: "R.", seq: 1001, ack: iss + 1, ts: [1, 0] });
    expect(tcb.state).toBe(TcpState.close);
  });

  test("TSecr echoes the segment that left the window's left edge (RFC 7323 §4.3), not one behind a hole", () => {
    const { peer, data } = established({ ts: [1000, 0] });
    data(0, "a", { ts: [2000, 0] });
    expect(peer.expect({ flags: "." }).ts?.[1]).toBe(2000);
    data(5, "later", { ts: [3000, 0] });
    expect(peer.expect({ flags: "." }).ts?.[1]).toBe(2000);
    data(1, "hole", { ts: [4000, 0] });
    expect(peer.expect({ flags: ".", ack: 1011 }).ts?.[1]).toBe(4000);
  });
});

describe("out of order", () => {
  test("any order, overlap and repetition of pieces gives the stream (property)", () => {
    const stream = Uint8Array.from({ length: 5000 }, (_, i) => 33 + ((i * 7) % 90));
    const piece = fc.tuple(fc.integer({ min: 0, max: 4999 }), fc.integer({ min: 1, max: 1460 }));
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 60 }),
        fc.boolean(),
        fc.integer({ min: 0, max: 0xffffffff }),
        (pieces, sack, isn) => {
          const { host, data, tcb } = established({ sack }, isn);
          const all = [...pieces];
          for (let at = 0; at < stream.length; at += 1000) all.push([at, 1000]);
          let got = "";
          for (const [at, len] of all) {
            data(at, text(stream.subarray(at, at + len)));
            if (at % 3 === 0 && host.tcp.readableBytes(tcb) > 0) got += host.readText(tcb);
          }
          if (host.tcp.readableBytes(tcb) > 0) got += host.readText(tcb);
          expect(got).toBe(text(stream));
          expect(tcb.reassembly.length).toBe(0);
          expect(tcb.reassembly.memoryBytes).toBe(0);
          host.tcp.abort(tcb);
          host.tcp.close(tcb);
          expect(host.env.pool.outstanding).toBe(0);
          expect(host.env.pool.arena.outstanding).toBe(0);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("the queue is bounded by the receive buffer: tiny pieces cannot eat the pool", () => {
    const { host, data, tcb } = established();
    for (let i = 0; i < 3000; i++) data(2 + 2 * i, "x");
    expect(tcb.reassembly.memoryBytes).toBeLessThanOrEqual(tcb.rcvbufBytes + 2048);
    expect(host.counter("TcpExtTCPOFODrop") + host.counter("TcpExtOfoPruned")).toBeGreaterThan(0);
    host.tcp.abort(tcb);
    host.tcp.close(tcb);
    expect(host.env.pool.arena.outstanding).toBe(0);
  });
});

describe("wrap-around", () => {
  test("sequence numbers pass 2^32 in both directions, offsets go on", () => {
    const { host, peer, tcb, iss } = established({}, 0xffffff00);
    // Lift the connection to just below 4 GiB sent and received.
    const far = 2 ** 32 - 100;
    let seq = 0xffffff01;
    for (let i = 0; i < 5; i++) {
      peer.send({ flags: "P.", seq, ack: iss + 1, data: "r".repeat(100) });
      seq = (seq + 100) >>> 0;
      expect(host.readText(tcb)).toBe("r".repeat(100));
    }
    expect(tcb.rcvNxt).toBe((0xffffff01 + 500) | 0);
    expect(tcb.rcvNxtOffset).toBe(500);
    tcb.setSndUna(far);
    tcb.setSndNxt(far);
    tcb.writtenOffsetAtRest = far;
    tcb.smallSentOffset = 0;
    host.tcp.setOption(tcb, 6, 1, 1);
    peer.forget();
    host.write(tcb, "s".repeat(150));
    host.write(tcb, "after");
    peer.expect({ seq: (iss + 1 + far) >>> 0, len: 150 });
    peer.expect({ seq: (iss + 1 + far + 150) >>> 0, data: "after" });
    peer.send({ flags: ".", seq, ack: (iss + 1 + far + 155) >>> 0 });
    expect(tcb.sendQueue.length).toBe(0);
    expect(tcb.sndUnaOffset).toBe(far + 155);
  });
});

describe("received bytes", () => {
  const run: ReceivedRun = { address: 0, len: 0, offset: 0, arrivedNs: 0, queuedNs: 0 };

  test("peek offers runs with offsets and times and takes nothing; take frees", () => {
    const { host, data, tcb } = established();
    data(0, "first");
    const t0 = host.clock.nowNs;
    host.advance(7 * MILLISECOND);
    data(5, "second");
    const bytes = host.env.pool.arena.bytes;
    expect(host.tcp.receivePeek(tcb, 0, run)).toBe(true);
    expect([run.offset, run.arrivedNs, text(bytes.subarray(run.address, run.address + run.len))]).toEqual([
      0,
      t0,
      "first",
    ]);
    expect(host.tcp.receivePeek(tcb, 7, run)).toBe(true);
    expect([run.offset, run.arrivedNs, text(bytes.subarray(run.address, run.address + run.len))]).toEqual([
      7,
      t0 + 7 * MILLISECOND,
      "cond",
    ]);
    expect(host.tcp.receivePeek(tcb, 11, run)).toBe(false);
    host.tcp.receiveTake(tcb, 6);
    expect(host.readText(tcb)).toBe("econd");
    expect(host.env.pool.arena.outstanding).toBe(0);
  });

  test("law 3: a full frame keeps its slot, a small payload gives its slot back", () => {
    const { host, data, tcb } = established({ mss: 1460 });
    data(0, "s".repeat(100));
    // One small page instead of a 2 KB slot.
    expect(tcb.receiveQueue.memoryBytes).toBe(100);
    data(100, "b".repeat(1460));
    expect(tcb.receiveQueue.memoryBytes).toBe(100 + 2048);
    expect(host.env.pool.outstanding).toBe(0);
    expect(host.readText(tcb).length).toBe(1560);
    expect(tcb.receiveQueue.memoryBytes).toBe(0);
    expect(host.env.pool.arena.outstanding).toBe(0);
  });

  test("MSG_PEEK leaves the bytes", () => {
    const { host, data, tcb } = established();
    data(0, "hello");
    const into = new Uint8Array(10);
    expect(host.tcp.receive(tcb, into, 0, 10, 2)).toBe(5);
    expect(host.readText(tcb)).toBe("hello");
    expect(host.tcp.receive(tcb, into, 0, 10, 0)).toBe(-11);
    expect(ascii("x")).toEqual(Uint8Array.of(120));
  });
});
