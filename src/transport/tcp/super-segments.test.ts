/** Super-segments (Linux TSO and GRO): what TCP makes of a path that takes them, and of the ones it receives. */
import { describe, expect, test } from "vitest";
import { MILLISECOND } from "../../base/time.ts";
import { NO_TRACE, Point } from "../../base/tracepoints.ts";
import { type SegmentTemplate, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

const MSS = 1000;

/** A connection on a path that takes super-segments; no timestamps, MSS 1000, cwnd 10, whose handshake took `rttNs`. */
function established(gsoMaxBytes = 65535, syn: Partial<SegmentTemplate> = {}, rttNs = 0, trace = NO_TRACE) {
  const host = new TestHost({ trace });
  host.ip.gsoMaxBytes = gsoMaxBytes;
  const peer = new TestPeer(host);
  const listener = host.listen(80);
  peer.send({ flags: "S", seq: 1000, mss: MSS, ...syn });
  const { seq: iss } = peer.expect({ flags: "S." });
  host.advance(rttNs);
  peer.send({ flags: ".", seq: 1001, ack: iss + 1, window: syn.window ?? 65535 });
  const tcb = host.accept(listener);
  const ack = (bytes: number, more: Partial<SegmentTemplate> = {}) =>
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 + bytes, ...more });
  /** What was sent: [offset, bytes, gsoSize, flags]. */
  const frames = () => peer.sent.splice(0).map((s) => [(s.seq - iss - 1) | 0, s.len, s.gsoSize, s.flags] as const);
  return { host, peer, tcb, iss, ack, frames };
}

const letters = (n: number) => Array.from({ length: n }, (_, i) => String.fromCharCode(97 + (i % 26))).join("");

describe("output", () => {
  test("ten segments of initial window are one frame; PSH at its end; each is booked alone", () => {
    const { host, tcb, frames } = established();
    host.write(tcb, letters(10 * MSS));
    expect(frames()).toEqual([[0, 10 * MSS, MSS, "P."]]);
    expect(host.tcp.info(tcb)).toMatchObject({ unacked: 10, sndCwnd: 10, segsOut: 10 });
    expect(host.counter("TcpExtTCPOrigDataSent")).toBe(10);
    // SYN-ACK and ten segments.
    expect(host.counter("TcpOutSegs")).toBe(11);
  });

  test("a path that takes none gets segments", () => {
    const { host, tcb, frames } = established(0);
    host.write(tcb, letters(3 * MSS));
    expect(frames()).toEqual([
      [0, MSS, 0, "."],
      [MSS, MSS, 0, "."],
      [2 * MSS, MSS, 0, "P."],
    ]);
  });

  test("one segment's worth is no super-segment, and its checksum is good all the same", () => {
    const { host, tcb, frames } = established();
    host.write(tcb, letters(MSS));
    expect(frames()).toEqual([[0, MSS, 0, "P."]]);
  });

  test("limits: the device's size in whole segments, the congestion window, the peer's window", () => {
    // 40 bytes of headers: 3,000 bytes of payload fit in 3,999, and 959 do not help.
    const byDevice = established(3999);
    byDevice.host.write(byDevice.tcb, letters(5500));
    expect(byDevice.frames()).toEqual([
      [0, 3 * MSS, MSS, "."],
      [3 * MSS, 2500, MSS, "P."],
    ]);
    const byCwnd = established();
    byCwnd.host.write(byCwnd.tcb, letters(14 * MSS));
    expect(byCwnd.frames()).toEqual([[0, 10 * MSS, MSS, "."]]);
    const byWindow = established(65535, { window: 3700 });
    byWindow.host.write(byWindow.tcb, letters(6 * MSS));
    expect(byWindow.frames()).toEqual([[0, 3 * MSS, MSS, "."]]);
  });

  test("Nagle holds the rest back; TCP_NODELAY lets it ride; the FIN takes it along", () => {
    const nagle = established();
    nagle.host.write(nagle.tcb, letters(1));
    nagle.frames();
    nagle.host.write(nagle.tcb, letters(2500));
    expect(nagle.frames()).toEqual([[1, 2 * MSS, MSS, "."]]);
    nagle.ack(1 + 2 * MSS);
    expect(nagle.frames()).toEqual([[1 + 2 * MSS, 500, 0, "P."]]);

    const noDelay = established();
    noDelay.tcb.nonagle = 1;
    noDelay.host.write(noDelay.tcb, letters(1));
    noDelay.frames();
    noDelay.host.write(noDelay.tcb, letters(2500));
    expect(noDelay.frames()).toEqual([[1, 2500, MSS, "P."]]);

    const fin = established(65535, { window: 1000 });
    fin.host.write(fin.tcb, letters(3500));
    fin.frames();
    fin.host.tcp.shutdown(fin.tcb, 1);
    fin.ack(MSS, { window: 65535 });
    expect(fin.frames()).toEqual([[MSS, 2500, MSS, "FP."]]);
    fin.ack(3501);
    expect(fin.host.tcp.info(fin.tcb)).toMatchObject({ unacked: 0 });
  });

  test("a hole inside is one segment again, not the frame (SACK)", () => {
    const { host, tcb, iss, ack, frames } = established(65535, { sack: true });
    host.write(tcb, letters(10 * MSS));
    frames();
    // The fourth segment is missing.
    const at = (offset: number) => (iss + 1 + offset) >>> 0;
    host.advance(1 * MILLISECOND);
    ack(3 * MSS);
    ack(3 * MSS, { blocks: [[at(4 * MSS), at(10 * MSS)]] });
    expect(frames()).toEqual([[3 * MSS, MSS, 0, "."]]);
    ack(10 * MSS);
    expect(host.tcp.info(tcb)).toMatchObject({ unacked: 0, totalRetrans: 1 });
  });

  test("a journey sees one frame with all the bytes", () => {
    const links: (readonly [lo: number, hi: number])[] = [];
    const link = (point: Point, _frame: number, _conn: number, lo: number, hi: number): void => {
      if (point === Point.segmentSent) links.push([lo, hi]);
    };
    const { host, tcb } = established(65535, {}, 0, { ...NO_TRACE, mask: 0, link });
    host.write(tcb, letters(4 * MSS));
    expect(links).toEqual([[0, 4 * MSS]]);
  });

  test("without a large slot it sends segments", () => {
    const { host, tcb, frames } = established();
    const { arena } = host.env.pool;
    host.write(tcb, letters(MSS));
    frames();
    const taken: number[] = [];
    for (let slot = arena.alloc(65536); slot !== 0; slot = arena.alloc(65536)) taken.push(slot);
    host.write(tcb, letters(3 * MSS));
    expect(frames()).toEqual([
      [MSS, MSS, 0, "."],
      [2 * MSS, MSS, 0, "."],
      [3 * MSS, MSS, 0, "P."],
    ]);
    expect(host.env.drops.total).toBe(0);
    for (const slot of taken) arena.release(slot);
  });

  test("less than a third of a window waits for more while the next ACK is due soon (tcp_tso_should_defer)", () => {
    const { host, tcb, ack, frames } = established(65535, {}, 10 * MILLISECOND);
    host.write(tcb, letters(16 * MSS));
    expect(frames()).toEqual([[0, 10 * MSS, MSS, "."]]);
    host.advance(10 * MILLISECOND);
    ack(1 * MSS);
    // cwnd 11, 9 in flight: two segments leave, since nothing was sent lately.
    expect(frames()).toEqual([[10 * MSS, 2 * MSS, MSS, "."]]);
    ack(2 * MSS);
    // Two more might; a millisecond has not passed, and the head was sent a round trip ago: its ACK is due.
    expect(frames()).toEqual([]);
    ack(4 * MSS);
    // cwnd 14, 8 in flight: that is more than a third, and all there is.
    expect(frames()).toEqual([[12 * MSS, 4 * MSS, MSS, "P."]]);
  });

  test("nothing waits for an ACK that is more than half a round trip away", () => {
    const { host, tcb, ack, frames } = established(65535, {}, 10 * MILLISECOND);
    host.tcp.setOption(tcb, 1, 7, 1 << 20);
    host.write(tcb, letters(40 * MSS));
    host.advance(10 * MILLISECOND);
    ack(10 * MSS);
    expect(frames()).toEqual([
      [0, 10 * MSS, MSS, "."],
      [10 * MSS, 20 * MSS, MSS, "."],
    ]);
    // cwnd 22, 18 in flight: less than a third, but the head was sent just now.
    ack(12 * MSS);
    expect(frames()).toEqual([[30 * MSS, 4 * MSS, MSS, "."]]);
  });
});

describe("input", () => {
  test("counts as its segments: rcv_mss from their size, and an ACK at once", () => {
    const { host, peer, tcb, iss, frames } = established(0);
    const send = (offset: number, data: string, gsoSize: number) =>
      peer.send({ flags: "P.", seq: 1001 + offset, ack: iss + 1, data, gsoSize });
    send(0, letters(5 * MSS), MSS);
    expect(host.tcp.info(tcb)).toMatchObject({ rcvMss: MSS, bytesReceived: 5 * MSS, segsIn: 6 });
    expect(peer.sent.splice(0).map((s) => s.ack)).toEqual([1001 + 5 * MSS]);
    expect(host.readText(tcb)).toBe(letters(5 * MSS));
    // Slow start's quick ACKs are over and the talk is interactive: two segments in one frame still are two.
    tcb.quickAcks = 0;
    tcb.pingpong = true;
    frames();
    send(5 * MSS, letters(MSS), 0);
    expect(frames()).toHaveLength(0);
    send(6 * MSS, letters(2 * MSS), MSS);
    expect(peer.sent.splice(0).map((s) => s.ack)).toEqual([1001 + 8 * MSS]);
  });

  test("64 KB behind a hole wait, and are one block", () => {
    const { host, peer, tcb, iss } = established(0, { sack: true, mss: 1460 });
    host.tcp.setOption(tcb, 1, 8, 1 << 20);
    peer.send({ flags: ".", seq: 1001 + 1460, ack: iss + 1, data: letters(20 * 1460), gsoSize: 1460 });
    const block = [1001 + 1460, 1001 + 21 * 1460];
    peer.expect({ flags: ".", ack: 1001, blocks: [block as [number, number]] });
    peer.send({ flags: ".", seq: 1001, ack: iss + 1, data: letters(1460) });
    peer.expect({ flags: ".", ack: 1001 + 21 * 1460, blocks: [] });
    expect(host.tcp.readableBytes(tcb)).toBe(21 * 1460);
  });

  test("a short super-segment behind a hole does not hold a 64 KB slot", () => {
    const { peer, tcb, iss } = established(0);
    peer.send({ flags: ".", seq: 1001 + MSS, ack: iss + 1, data: letters(1900), gsoSize: MSS });
    expect(tcb.reassembly.memoryBytes).toBe(2048);
  });
});

describe("a stream", () => {
  /** 400,000 bytes from a to b; what both ends know afterwards. */
  function run(gsoMaxBytes: number, whole: boolean) {
    const wire = new TestWire({ delayNs: 5 * MILLISECOND, whole });
    wire.a.ip.gsoMaxBytes = gsoMaxBytes;
    const [client, server] = wire.pair();
    const sent = Uint8Array.from({ length: 400_000 }, (_, i) => (i * 31 + (i >> 8)) & 255);
    const got: Uint8Array[] = [];
    let written = 0;
    for (let turns = 0; turns < 5000 && server.readOffset < sent.length; turns++) {
      const n = wire.a.tcp.send(client, sent, written, sent.length - written, 0);
      if (n > 0) written += n;
      wire.runFor(MILLISECOND);
      const read = wire.b.read(server);
      if (typeof read !== "number") got.push(read);
    }
    const info = wire.b.tcp.info(server);
    return {
      same: Buffer.compare(Buffer.concat(got), sent) === 0,
      received: info.bytesReceived,
      rcvMss: info.rcvMss,
      segments: wire.a.tcp.info(client).segsOut,
      retransmitted: wire.a.counter("TcpRetransSegs"),
      outOfOrder: wire.b.counter("TcpExtTCPOFOQueue"),
      dropped: wire.b.env.drops.total,
      frames: wire.log.filter((entry) => entry.fromA && entry.segment.len > 0).length,
    };
  }

  test("is the same in super-segments, in what the wire cuts of them, and in segments", () => {
    const segments = run(0, false);
    const cut = run(65535, false);
    const whole = run(65535, true);
    expect(segments).toMatchObject({ same: true, received: 400_000, rcvMss: 1448, retransmitted: 0, dropped: 0 });
    for (const other of [cut, whole]) {
      expect(other).toMatchObject({ same: true, received: 400_000, rcvMss: 1448, retransmitted: 0, outOfOrder: 0 });
      expect(other.dropped).toBe(0);
    }
    // 277 segments of 1,448 bytes: cut they are as many frames, whole a small part.
    expect(segments.frames).toBeGreaterThanOrEqual(277);
    expect(cut.frames).toBeGreaterThanOrEqual(277);
    expect(whole.frames).toBeLessThan(80);
  });
});
