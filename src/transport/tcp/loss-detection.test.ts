/** RACK and tail loss probes at exact times (RFC 8985), needless retransmissions undone (RFC 2883, 3522, 5682). */
import { describe, expect, test } from "vitest";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, type Ns } from "../../base/time.ts";
import { checkEveryAck } from "./retransmit-queue-testing.ts";
import { CaState } from "./tcb.ts";
import { type SegmentTemplate, TestHost, TestPeer } from "./tcp-testing.ts";

const MSS = 1000;
const RTT_MS = 100;

/** A connection with SACK, without timestamps, MSS 1000, whose handshake took 100 ms: RTO 300 ms. */
function established(sysctl: Partial<Sysctls> = {}, syn: Partial<SegmentTemplate> = { sack: true }) {
  const host = new TestHost({ sysctl: { tcpCongestionControl: "reno", ...sysctl } });
  checkEveryAck(host);
  const peer = new TestPeer(host);
  const listener = host.listen(80);
  peer.send({ flags: "S", seq: 1000, mss: MSS, ...syn });
  const { seq: iss } = peer.expect({ flags: "S." });
  host.advance(RTT_MS * MILLISECOND);
  peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
  const tcb = host.accept(listener);
  const startNs: Ns = host.clock.nowNs;
  /** Acknowledges `upTo` segments; `blocks` are ranges of segments. */
  const ack = (upTo: number, ...blocks: [number, number][]) =>
    peer.send({
      flags: ".",
      seq: 1001,
      ack: iss + 1 + upTo * MSS,
      ...(blocks.length > 0
        ? { blocks: blocks.map(([l, r]) => [(iss + 1 + l * MSS) >>> 0, (iss + 1 + r * MSS) >>> 0] as const) }
        : {}),
    });
  /** What was sent since the last look: [ms since the start, number of the segment]. */
  const sent = () => peer.sent.splice(0).map((s) => [(s.atNs - startNs) / MILLISECOND, ((s.seq - iss - 1) | 0) / MSS]);
  const at = (ms: number) => host.advanceTo(startNs + ms * MILLISECOND);
  const write = (segments: number) => host.write(tcb, new Uint8Array(segments * MSS));
  return { host, peer, tcb, iss, ack, sent, at, write };
}

describe("RACK", () => {
  test("three sacked segments make the one below them lost at once, as duplicate ACKs would", () => {
    const { host, tcb, ack, sent, at, write } = established();
    write(10);
    sent();
    at(100);
    ack(0, [1, 2]);
    ack(0, [1, 3]);
    expect(sent()).toEqual([]);
    ack(0, [1, 4]);
    expect(sent()).toEqual([[100, 0]]);
    expect(tcb.caState).toBe(CaState.recovery);
    expect(tcb.ssthreshSegments).toBe(5);
    expect(host.counter("TcpExtTCPSackRecovery")).toBe(1);
    ack(0, [1, 10]);
    ack(10);
    expect([tcb.caState, tcb.cwndSegments]).toEqual([CaState.open, 5]);
  });

  test("a lost retransmission is found by what was sent after it, one round trip later", () => {
    const { host, ack, sent, at, write } = established();
    write(20);
    sent();
    at(100);
    ack(0, [1, 4]);
    // PRR: 3 delivered of a window of 10 that falls to 5 lend ⌈5 · 3 / 10⌉ = 2.
    expect(sent()).toEqual([
      [100, 0],
      [100, 10],
    ]);
    ack(0, [1, 10]);
    sent();
    at(200);
    // Segment 10, sent after the copy of 0, has arrived: the copy has not.
    ack(0, [1, 11]);
    expect(sent()[0]).toEqual([200, 0]);
    expect(host.counter("TcpExtTCPLostRetransmit")).toBe(1);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(0);
  });

  test("one sacked segment: the hole has a quarter of the least RTT, and 2 ms, to arrive", () => {
    const { tcb, ack, sent, at, write } = established();
    write(3);
    sent();
    at(100);
    ack(0, [1, 2]);
    expect(tcb.caState).toBe(CaState.disorder);
    at(126);
    expect(sent()).toEqual([]);
    at(200);
    expect(sent()).toEqual([[127, 0]]);
    expect(tcb.caState).toBe(CaState.recovery);
  });

  test("a hole filled by the original is reordering; three duplicates are no proof from then on", () => {
    const { host, tcb, ack, sent, at, write } = established();
    write(4);
    sent();
    at(100);
    ack(0, [1, 3]);
    at(110);
    ack(4);
    expect(tcb.reorderingSeen).toBe(true);
    expect(host.counter("TcpExtTCPSACKReorder")).toBe(1);
    expect(sent()).toEqual([]);
    write(8);
    sent();
    at(210);
    ack(4, [5, 9]);
    expect(sent()).toEqual([]);
    // rack.rtt 100 + least RTT 100 / 4 + 2 after the send at 110.
    at(260);
    expect(sent()).toEqual([[237, 4]]);
  });

  test("the window of a path that reorders grows with each round's DSACK", () => {
    const { host, tcb, ack, at, write } = established();
    tcb.reorderingSeen = true;
    write(4);
    at(100);
    ack(0, [1, 2]);
    at(127);
    expect(host.counter("TcpRetransSegs")).toBe(1);
    at(130);
    ack(4);
    ack(4, [0, 1]);
    expect(host.counter("TcpExtTCPDSACKRecv")).toBe(1);
    expect(host.counter("TcpExtTCPDSACKUndo")).toBe(1);
    expect([tcb.reorderingWindowSteps, tcb.reorderingWindowPersist]).toEqual([2, 16]);
  });

  test("tcp_recovery = 0: three segments above, and no timer (RFC 6675)", () => {
    const { tcb, ack, sent, at, write } = established({ tcpRecovery: 0 });
    write(10);
    sent();
    at(100);
    ack(0, [1, 3]);
    at(190);
    expect(sent()).toEqual([]);
    ack(0, [1, 4]);
    expect(sent()).toEqual([[190, 0]]);
    expect(tcb.caState).toBe(CaState.recovery);
  });

  test("a peer that throws away what it reported: half a round trip later everything goes again", () => {
    const { host, ack, sent, at, write } = established();
    write(4);
    sent();
    at(100);
    ack(0, [1, 4]);
    expect(sent()).toEqual([[100, 0]]);
    at(200);
    // 0 is acknowledged, 1 was sacked and is not.
    ack(1);
    at(249);
    expect(sent()).toEqual([]);
    at(250);
    expect(sent()).toEqual([[250, 1]]);
    expect(host.counter("TcpExtTCPSACKReneging")).toBe(1);
    at(350);
    ack(2);
    expect(sent().map(([, n]) => n)).toEqual([2, 3]);
  });
});

describe("tail loss probe", () => {
  test("two round trips and 2 ms after a lost tail its last segment goes again, then the timeout runs anew", () => {
    const { host, sent, at, write } = established();
    write(3);
    at(1000);
    // PTO = 2 · 100 + 2; RTO 300 from there; doubled.
    expect(sent()).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
      [202, 2],
      [502, 0],
    ]);
    expect(host.counter("TcpExtTCPLossProbes")).toBe(1);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(1);
  });

  test("a lone segment may meet a delayed ACK: 200 ms more, but no later than the timeout", () => {
    const { tcb, sent, at, write } = established();
    // RTO = 100 + 400 here: the probe of 2 · 100 + 200 comes first.
    tcb.rtoNs = 500 * MILLISECOND;
    write(1);
    at(600);
    expect(sent()).toEqual([
      [0, 0],
      [400, 0],
    ]);
    const short = established();
    short.write(1);
    short.at(350);
    expect(short.sent()).toEqual([
      [0, 0],
      [300, 0],
    ]);
    expect(short.host.counter("TcpExtTCPTimeouts")).toBe(0);
  });

  test("new data is the better probe, beyond the congestion window", () => {
    const { host, tcb, sent, at, write } = established();
    write(20);
    expect(sent().length).toBe(10);
    at(202);
    expect(sent()).toEqual([[202, 10]]);
    expect(host.counter("TcpRetransSegs")).toBe(0);
    expect(tcb.retransmitQueue.packetsOut).toBe(11);
  });

  test("a sacked probe tells RACK that the rest of the tail is lost: no timeout", () => {
    const { host, ack, sent, at, write } = established();
    write(4);
    at(202);
    sent();
    at(302);
    ack(1, [3, 4]);
    // The last round trip seen is that of segment 0: what was sent with it has 25 ms, and 2, more.
    at(430);
    expect(sent()).toEqual([[329, 1]]);
    ack(2, [3, 4]);
    expect(sent()).toEqual([[430, 2]]);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(0);
  });

  test("a probe that repaired a loss costs as much as the loss; one that was needless nothing", () => {
    const repaired = established();
    repaired.write(2);
    repaired.at(202);
    repaired.at(302);
    repaired.ack(2);
    expect(repaired.tcb.cwndSegments).toBeGreaterThanOrEqual(10);
    repaired.write(1);
    repaired.at(402);
    repaired.ack(3);
    expect(repaired.host.counter("TcpExtTCPLossProbeRecovery")).toBe(1);
    expect(repaired.tcb.cwndSegments).toBeLessThanOrEqual(6);

    const needless = established();
    needless.write(2);
    needless.at(202);
    needless.at(210);
    needless.ack(2);
    needless.at(302);
    needless.ack(2, [1, 2]);
    needless.write(1);
    needless.at(402);
    needless.ack(3);
    expect(needless.host.counter("TcpExtTCPLossProbeRecovery")).toBe(0);
    expect(needless.tcb.cwndSegments).toBeGreaterThanOrEqual(10);
  });

  test.each([
    ["tcp_early_retrans = 0", { tcpEarlyRetrans: 0 }, { sack: true }],
    ["no SACK", {}, {}],
  ])("%s: none", (_, sysctl, syn) => {
    const { host, sent, at, write } = established(sysctl, syn);
    write(3);
    at(350);
    expect(sent().at(-1)).toEqual([300, 0]);
    expect(host.counter("TcpExtTCPLossProbes")).toBe(0);
  });
});

describe("F-RTO (RFC 5682)", () => {
  test("a timeout after which originals are acknowledged was spurious: the window is as before", () => {
    const { host, tcb, ack, sent, at, write } = established({ tcpEarlyRetrans: 0 });
    write(10);
    write(10);
    sent();
    at(300);
    expect(sent()).toEqual([[300, 0]]);
    expect([tcb.caState, tcb.cwndSegments]).toEqual([CaState.loss, 1]);
    // The first ACK may be for either copy: new data goes, not the next hole.
    at(310);
    ack(1);
    expect(sent().map(([, n]) => n)).toEqual([10, 11]);
    // The second is for data that was sent once.
    ack(3);
    expect(host.counter("TcpExtTCPSpuriousRTOs")).toBe(1);
    expect(tcb.caState).toBe(CaState.open);
    expect(tcb.cwndSegments).toBeGreaterThanOrEqual(10);
    expect(tcb.ssthreshSegments).toBeGreaterThan(1000);
    expect(tcb.retransmitQueue.lostOut).toBe(0);
  });

  test("a duplicate instead shows that the loss was real: slow start", () => {
    const { host, ack, sent, at, write } = established({ tcpEarlyRetrans: 0 });
    write(20);
    sent();
    at(300);
    ack(1);
    sent();
    at(400);
    ack(1, [10, 11]);
    expect(sent().map(([, n]) => n)).toEqual([1]);
    expect(host.counter("TcpExtTCPSpuriousRTOs")).toBe(0);
  });

  test("tcp_frto = 0: the next hole at once", () => {
    const { ack, sent, at, write } = established({ tcpEarlyRetrans: 0, tcpFrto: 0 });
    write(20);
    sent();
    at(300);
    sent();
    at(310);
    ack(1);
    expect(sent().map(([, n]) => n)).toEqual([1, 2]);
  });
});

describe("DSACK (RFC 2883), as a receiver", () => {
  test.each([
    ["below the acknowledged", {}, [[1001, 1101]], "TcpExtTCPDSACKOldSent"],
    ["tcp_dsack = 0", { tcpDsack: 0 }, [], null],
  ] as const)("data that came twice, %s", (_, sysctl, blocks, counter) => {
    const { host, peer, iss } = established(sysctl);
    const data = () => peer.send({ flags: ".", seq: 1001, data: "x".repeat(100), ack: iss + 1 });
    data();
    peer.forget();
    data();
    expect(peer.expect({ ack: 1101 }).blocks).toEqual(blocks);
    if (counter !== null) expect(host.counter(counter)).toBe(1);
  });

  test("out of order: the DSACK stands before the block that contains it", () => {
    const { host, peer, iss } = established();
    const data = () => peer.send({ flags: ".", seq: 1201, data: "x".repeat(100), ack: iss + 1 });
    data();
    peer.forget();
    data();
    expect(peer.expect({ ack: 1001 }).blocks).toEqual([
      [1201, 1301],
      [1201, 1301],
    ]);
    expect(host.counter("TcpExtTCPDSACKOfoSent")).toBe(1);
  });
});
