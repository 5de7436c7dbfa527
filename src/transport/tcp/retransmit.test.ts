/** Loss and its repair, at exact times (RFC 6298, 5681, 6582, 3042, 2018, 6675), and give-up (row 26). */
import { describe, expect, test } from "vitest";
import { Errno } from "../../base/errno.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { type SegmentTemplate, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

const MSS = 1000;

/** A connection without timestamps, MSS 1000, whose handshake took `rttNs`. */
function established(rttNs = 0, sysctl: Partial<Sysctls> = {}, syn: Partial<SegmentTemplate> = {}) {
  const host = new TestHost({ sysctl: { tcpCongestionControl: "reno", ...sysctl } });
  const peer = new TestPeer(host);
  const listener = host.listen(80);
  peer.send({ flags: "S", seq: 1000, mss: MSS, ...syn });
  const { seq: iss } = peer.expect({ flags: "S." });
  host.advance(rttNs);
  peer.send({ flags: ".", seq: 1001, ack: iss + 1, window: syn.window ?? 65535 });
  const tcb = host.accept(listener);
  const ack = (bytes: number, more: Partial<SegmentTemplate> = {}) =>
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 + bytes, ...more });
  /** Stream offset of what was sent. */
  const offsets = () => peer.sent.splice(0).map((s) => (s.seq - iss - 1) | 0);
  return { host, peer, tcb, iss, ack, offsets };
}

describe("retransmission timeout", () => {
  test("first RTO after a 100 ms handshake is 300 ms; it doubles; the same bytes go", () => {
    // RFC 6298 §2.2: SRTT = R, RTTVAR = R/2, RTO = R + max(4·RTTVAR, 200 ms) = 100 + 200.
    const { host, peer, tcb, iss } = established(100 * MILLISECOND);
    const start = host.clock.nowNs;
    host.write(tcb, "hello");
    host.advance(10 * SECOND);
    const times = peer.sent.map((s) => (s.atNs - start) / MILLISECOND);
    expect(times).toEqual([0, 300, 900, 2100, 4500, 9300]);
    for (const s of peer.sent) expect([s.seq, s.data]).toEqual([(iss + 1) >>> 0, "hello"]);
    expect(host.counter("TcpRetransSegs")).toBe(5);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(5);
  });

  test("the RTO is never below 200 ms + RTT", () => {
    const { host, peer, tcb } = established(1 * MILLISECOND);
    const start = host.clock.nowNs;
    host.write(tcb, "x");
    host.advance(300 * MILLISECOND);
    expect(peer.sent.map((s) => (s.atNs - start) / MILLISECOND)).toEqual([0, 201]);
  });

  test("tcp_retries2 = 15: ETIMEDOUT after 924.6 s of retransmissions, RTO capped at 120 s", () => {
    const { host, peer, tcb } = established(1 * MILLISECOND);
    host.write(tcb, "x");
    host.advance(900 * SECOND);
    expect(tcb.state).toBe(TcpState.established);
    const gaps = peer.sent.map((s, i) => (i === 0 ? 0 : s.atNs - peer.sent[i - 1].atNs));
    expect(Math.max(...gaps)).toBe(120 * SECOND);
    host.advance(200 * SECOND);
    expect(tcb.state).toBe(TcpState.close);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
    expect(host.counter("TcpExtTCPAbortOnTimeout")).toBe(1);
  });

  test("TCP_USER_TIMEOUT ends it earlier", () => {
    const { host, tcb } = established(1 * MILLISECOND);
    host.tcp.setOption(tcb, 6, 18, 5000);
    host.write(tcb, "x");
    host.advance(5 * SECOND);
    expect(tcb.state).toBe(TcpState.established);
    host.advance(1 * SECOND);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
  });

  test("Karn: an ACK of a retransmitted segment gives no sample, the backed-off RTO stays for new data", () => {
    const { host, tcb, ack } = established(100 * MILLISECOND);
    host.write(tcb, "hello");
    host.advance(400 * MILLISECOND);
    expect(tcb.rtoNs).toBe(600 * MILLISECOND);
    ack(5);
    expect(tcb.srttNs).toBe(100 * MILLISECOND);
    expect(tcb.rtoNs).toBe(600 * MILLISECOND);
  });

  test("after an RTO the window is one segment and slow start repairs the rest", () => {
    const { host, peer, tcb, ack, offsets } = established(10 * MILLISECOND);
    host.write(tcb, new Uint8Array(10 * MSS));
    expect(peer.sent.length).toBe(10);
    peer.forget();
    host.advance(210 * MILLISECOND);
    expect(offsets()).toEqual([0]);
    expect(tcb.ssthreshSegments).toBe(5);
    ack(1 * MSS);
    expect(offsets()).toEqual([1 * MSS, 2 * MSS]);
    ack(3 * MSS);
    expect(offsets()).toEqual([3 * MSS, 4 * MSS, 5 * MSS, 6 * MSS]);
    ack(10 * MSS);
    expect(host.counter("TcpExtTCPSlowStartRetrans")).toBe(6);
    expect(tcb.sendQueue.length).toBe(0);
  });
});

describe("fast retransmit without SACK (RFC 6582)", () => {
  test("three duplicate ACKs send the first hole again; two only lend new segments (RFC 3042)", () => {
    const { host, tcb, ack, offsets } = established(10 * MILLISECOND);
    host.write(tcb, new Uint8Array(20 * MSS));
    expect(offsets().length).toBe(10);
    ack(0);
    expect(offsets()).toEqual([10 * MSS]);
    ack(0);
    expect(offsets()).toEqual([11 * MSS]);
    ack(0);
    expect(offsets()).toEqual([0]);
    expect(tcb.ssthreshSegments).toBe(5);
    expect(host.counter("TcpExtTCPRenoRecovery")).toBe(1);
    expect(host.counter("TcpExtTCPFastRetrans")).toBe(1);
  });

  test("a partial ACK sends the next hole at once, without three more duplicates", () => {
    const { host, tcb, ack, offsets } = established(10 * MILLISECOND);
    host.write(tcb, new Uint8Array(10 * MSS));
    offsets();
    // Segments 0 and 4 are lost.
    for (let i = 0; i < 8; i++) ack(0);
    expect(offsets()).toEqual([0]);
    ack(4 * MSS);
    expect(offsets()).toEqual([4 * MSS]);
    ack(10 * MSS);
    expect(offsets()).toEqual([]);
    expect(host.counter("TcpExtTCPFastRetrans")).toBe(2);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(0);
    // The state is kept until something above the recovery point is acknowledged (RFC 6582 §6).
    host.write(tcb, "x");
    ack(10 * MSS + 1);
    expect(tcb.caState).toBe(0);
    expect(tcb.cwndSegments).toBeLessThanOrEqual(6);
  });

  test("a window update or data is no duplicate ACK", () => {
    const { host, peer, tcb, iss, ack, offsets } = established(10 * MILLISECOND, {}, { window: 20000 });
    host.write(tcb, new Uint8Array(10 * MSS));
    offsets();
    for (const window of [30000, 40000, 50000, 60000]) ack(0, { window });
    for (let i = 0; i < 4; i++) peer.send({ flags: "P.", seq: 1001 + i, ack: iss + 1, data: "x", window: 60000 });
    expect(offsets().filter((offset) => offset === 0)).toEqual([]);
    expect(host.counter("TcpExtTCPFastRetrans")).toBe(0);
  });
});

describe("SACK (RFC 2018, 6675)", () => {
  const sacked = () => {
    const setup = established(10 * MILLISECOND, {}, { sack: true });
    const block = (left: number, right: number): readonly [number, number] => [
      (setup.iss + 1 + left) >>> 0,
      (setup.iss + 1 + right) >>> 0,
    ];
    return { ...setup, block };
  };

  test("every hole with three segments sacked above it goes again in one round trip", () => {
    const { host, tcb, ack, offsets, block } = sacked();
    host.write(tcb, new Uint8Array(10 * MSS));
    offsets();
    // 0 and 2 are lost.
    ack(0, { blocks: [block(1 * MSS, 2 * MSS)] });
    ack(0, { blocks: [block(3 * MSS, 4 * MSS), block(1 * MSS, 2 * MSS)] });
    expect(offsets()).toEqual([]);
    ack(0, { blocks: [block(3 * MSS, 5 * MSS), block(1 * MSS, 2 * MSS)] });
    expect(offsets()).toEqual([0]);
    ack(0, { blocks: [block(3 * MSS, 6 * MSS), block(1 * MSS, 2 * MSS)] });
    ack(0, { blocks: [block(3 * MSS, 8 * MSS), block(1 * MSS, 2 * MSS)] });
    expect(offsets()).toEqual([2 * MSS]);
    expect(host.counter("TcpExtTCPSackRecovery")).toBe(1);
    ack(10 * MSS);
    expect(tcb.caState).toBe(0);
    expect(tcb.cwndSegments).toBe(5);
    expect(host.counter("TcpRetransSegs")).toBe(2);
  });

  test("blocks beyond what was sent are discarded", () => {
    const { host, tcb, ack, block } = sacked();
    host.write(tcb, new Uint8Array(4 * MSS));
    ack(0, { blocks: [block(3 * MSS, 9 * MSS)] });
    expect(host.counter("TcpExtTCPSACKDiscard")).toBe(1);
    expect(tcb.retransmitQueue.sackedOut).toBe(0);
  });

  test("a receiver reports its holes, newest block first", () => {
    const { host, peer, iss } = sacked();
    const data = (offset: number) => peer.send({ flags: ".", seq: 1001 + offset, ack: iss + 1, data: "x".repeat(100) });
    data(100);
    expect(peer.expect({ ack: 1001 }).blocks).toEqual([[1101, 1201]]);
    data(300);
    expect(peer.expect({ ack: 1001 }).blocks).toEqual([
      [1301, 1401],
      [1101, 1201],
    ]);
    data(200);
    expect(peer.expect({ ack: 1001 }).blocks).toEqual([[1101, 1401]]);
    data(0);
    expect(peer.expect({ ack: 1401 }).blocks).toEqual([]);
    expect(host.counter("TcpExtTCPOFOQueue")).toBe(3);
  });
});

describe("spurious retransmission", () => {
  test("Eifel: a delayed original undoes the reduction (timestamps)", () => {
    const wire = new TestWire({ delayNs: 20 * MILLISECOND });
    const [client] = wire.pair();
    wire.runFor(SECOND);
    wire.options = { delayNs: 500 * MILLISECOND };
    wire.a.write(client, new Uint8Array(5000));
    wire.runFor(3 * SECOND);
    expect(wire.a.counter("TcpExtTCPTimeouts")).toBeGreaterThan(0);
    expect(wire.a.counter("TcpExtTCPLossUndo")).toBe(1);
    expect(client.cwndSegments).toBeGreaterThanOrEqual(10);
  });
});

describe("zero window", () => {
  test("probes at RTO intervals, backed off; they do not kill while answered; data flows when it opens", () => {
    const { host, peer, tcb, iss, ack } = established(10 * MILLISECOND);
    ack(0, { window: 0 });
    const start = host.clock.nowNs;
    host.write(tcb, "waiting");
    peer.expectNothing();
    host.advance(2 * SECOND);
    const probes = peer.sent.splice(0);
    expect(probes.map((p) => (p.atNs - start) / MILLISECOND)).toEqual([210, 630, 1470]);
    for (const p of probes) expect([p.len, p.seq, p.flags]).toEqual([0, iss >>> 0, "."]);
    expect(host.counter("TcpExtTCPWinProbe")).toBe(3);
    ack(0, { window: 65535 });
    peer.expect({ flags: "P.", data: "waiting" });
  });

  test("a window smaller than the segment: sent only as a probe, in the window's size", () => {
    const { host, peer, tcb, iss } = established(10 * MILLISECOND);
    // Only a newer segment may shrink the window (RFC 9293 SND.WL1).
    peer.send({ flags: "P.", seq: 1001, ack: iss + 1, data: "x" });
    peer.send({ flags: "P.", seq: 1002, ack: iss + 1, data: "y", window: 300 });
    peer.forget();
    host.write(tcb, new Uint8Array(MSS));
    peer.expectNothing();
    host.advance(210 * MILLISECOND);
    peer.expect({ len: 300 });
  });

  test("unanswered probes end in ETIMEDOUT", () => {
    const { host, tcb, ack } = established(10 * MILLISECOND);
    ack(0, { window: 0 });
    host.write(tcb, "waiting");
    host.advance(2000 * SECOND);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
  });

  test("a full reader closes the window, and opens it by at least half when it reads (silly-window avoidance)", () => {
    const wire = new TestWire({ delayNs: MILLISECOND }, 1, { b: { sysctl: { tcpModerateRcvbuf: 0 } } });
    const [client, server] = wire.pair();
    wire.a.tcp.setOption(client, 1, 7, 212_992);
    const data = new Uint8Array(300_000);
    const sent = wire.a.tcp.send(client, data, 0, data.length, 0);
    wire.runFor(5 * SECOND);
    expect(client.sndWnd).toBe(0);
    expect(wire.b.counter("TcpExtTCPToZeroWindowAdv")).toBeGreaterThan(0);
    let got = 0;
    for (let i = 0; i < 1000 && got < sent; i++) {
      const read = wire.b.read(server, 1000);
      if (typeof read !== "number") got += read.length;
      wire.runFor(500 * MILLISECOND);
    }
    expect(got).toBe(sent);
    const windows = wire.log.filter((l) => !l.fromA && l.segment.len === 0).map((l) => l.segment.window << 7);
    // Never a sliver: a closed window opens by at least a sixteenth of the buffer.
    const opened = windows.filter((w, i) => i > 0 && windows[i - 1] === 0 && w > 0);
    expect(opened.length).toBeGreaterThan(0);
    expect(Math.min(...opened)).toBeGreaterThanOrEqual(65536 / 16);
  });
});
