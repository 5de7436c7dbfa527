/** CUBIC's curve and HyStart against values worked out by hand (RFC 9438; Linux tcp_cubic.c). */
import { describe, expect, test } from "vitest";
import { MILLISECOND, type Ns, SECOND } from "../../../base/time.ts";
import type { Tcb } from "../tcb.ts";
import { TestHost, TestPeer } from "../tcp-testing.ts";
import { Cubic } from "./cubic.ts";

/** A connection to play with: the window is always the limit. */
function connection() {
  const host = new TestHost();
  const tcb: Tcb = new TestPeer(host).open(host.listen(80)).tcb;
  tcb.cwndLimited = true;
  tcb.ssthreshSegments = 2;
  const cubic = new Cubic();
  cubic.start(tcb);
  tcb.congestion = cubic;
  return { host, tcp: host.tcp.context, tcb, cubic };
}

/** Acknowledges the whole window once per `rttNs` until `untilNs` after now. */
function run(c: ReturnType<typeof connection>, rttNs: Ns, forNs: Ns): void {
  const { host, tcp, tcb, cubic } = c;
  const endNs = host.clock.nowNs + forNs;
  while (host.clock.nowNs + rttNs <= endNs) {
    // One ACK per two segments, spread over the round trip.
    const acks = Math.ceil(tcb.cwndSegments / 2);
    for (let i = 0; i < acks; i++) {
      host.clock.nowNs += Math.floor(rttNs / acks);
      cubic.onRtt(tcp, tcb, rttNs);
      cubic.onAck(tcp, tcb, 2);
    }
  }
}

describe("CUBIC", () => {
  test("it is the default, and sysctl and the listener's choice decide", () => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    const listener = host.listen(80);
    expect(peer.open(listener).tcb.congestion.name).toBe("cubic");
    host.env.sysctl.set("net.ipv4.tcp_congestion_control", "reno");
    peer.port++;
    expect(peer.open(listener).tcb.congestion.name).toBe("reno");
    expect(host.tcp.rows().map((row) => row.info?.["congestion"])).toContain("reno");
    expect(host.tcp.setCongestionControl(listener, "vegas")).toBe(-2);
    expect(host.tcp.setCongestionControl(listener, "cubic")).toBe(0);
    peer.port++;
    expect(peer.open(listener).tcb.congestion.name).toBe("cubic");
  });

  test("a loss leaves 717/1024 of the window, at least two segments", () => {
    const { tcb, cubic } = connection();
    tcb.cwndSegments = 100;
    expect(cubic.ssthresh(tcb)).toBe(70);
    tcb.cwndSegments = 10;
    expect(cubic.ssthresh(tcb)).toBe(7);
    tcb.cwndSegments = 2;
    expect(cubic.ssthresh(tcb)).toBe(2);
  });

  test("it is back at the old window after K = cbrt(0.3 W / 0.4), nearly flat there, and grows beyond", () => {
    const c = connection();
    c.tcb.cwndSegments = 1000;
    c.tcb.cwndSegments = c.cubic.ssthresh(c.tcb);
    expect(c.tcb.cwndSegments).toBe(700);
    // K = cbrt(300 / (410/1024)) = 9.08 s. Reno would take 300 · 1.875 round trips: 56 s.
    run(c, 100 * MILLISECOND, 4.5 * SECOND);
    // 1000 − 0.4 · (9.08 − 4.6)³ = 964.
    expect(c.tcb.cwndSegments).toBeGreaterThan(945);
    expect(c.tcb.cwndSegments).toBeLessThan(970);
    run(c, 100 * MILLISECOND, 4.5 * SECOND);
    expect(c.tcb.cwndSegments).toBeGreaterThanOrEqual(985);
    expect(c.tcb.cwndSegments).toBeLessThanOrEqual(1003);
    run(c, 100 * MILLISECOND, 5 * SECOND);
    // 1000 + 0.4 · (14 − 9.08)³ = 1048.
    expect(c.tcb.cwndSegments).toBeGreaterThan(1030);
    expect(c.tcb.cwndSegments).toBeLessThan(1055);
  });

  test("fast convergence: a second loss below the first remembers 0.85 of the window", () => {
    const c = connection();
    c.tcb.cwndSegments = 1000;
    c.cubic.ssthresh(c.tcb);
    c.tcb.cwndSegments = 800;
    c.tcb.cwndSegments = c.cubic.ssthresh(c.tcb);
    expect(c.tcb.cwndSegments).toBe(560);
    // Origin 800 · (1 + 0.7) / 2 = 680, K = cbrt(120 / 0.4) = 6.7 s: flat around 680 then.
    run(c, 100 * MILLISECOND, 6.6 * SECOND);
    expect(c.tcb.cwndSegments).toBeGreaterThanOrEqual(670);
    expect(c.tcb.cwndSegments).toBeLessThanOrEqual(683);
  });

  test("on a short path it grows as Reno with β = 0.7 would: a segment per 1.875 windows", () => {
    const c = connection();
    c.tcb.cwndSegments = 20;
    c.tcb.cwndSegments = c.cubic.ssthresh(c.tcb);
    expect(c.tcb.cwndSegments).toBe(14);
    // 50 round trips of 20 ms: the curve (K = 2.5 s) is still below 20; Reno gains 50 / 1.875 = 27 segments.
    run(c, 20 * MILLISECOND, SECOND);
    expect(c.tcb.cwndSegments).toBeGreaterThanOrEqual(38);
    expect(c.tcb.cwndSegments).toBeLessThanOrEqual(44);
  });

  test("an idle time does not move it along the curve", () => {
    const c = connection();
    c.tcb.cwndSegments = 1000;
    c.tcb.cwndSegments = c.cubic.ssthresh(c.tcb);
    run(c, 100 * MILLISECOND, SECOND);
    const before = c.tcb.cwndSegments;
    c.host.clock.nowNs += 60 * SECOND;
    c.cubic.onRestart(c.tcp, c.tcb, 60 * SECOND);
    run(c, 100 * MILLISECOND, 200 * MILLISECOND);
    expect(c.tcb.cwndSegments).toBeLessThan(before + 40);
  });
});

describe("HyStart", () => {
  test("round trips longer by an eighth, at least 4 ms, end slow start: after eight samples of a round", () => {
    const { host, tcp, tcb, cubic } = connection();
    tcb.ssthreshSegments = 0x7fffffff;
    tcb.cwndSegments = 100;
    // The ACKs are 3 ms apart: no train. Of the first round the least RTT is 40 ms, so the limit is 45.
    const ack = (rttMs: number) => {
      host.clock.nowNs += 3 * MILLISECOND;
      cubic.onRtt(tcp, tcb, rttMs * MILLISECOND);
    };
    ack(40);
    for (let i = 0; i < 20; i++) ack(44);
    expect(tcb.ssthreshSegments).toBe(0x7fffffff);
    tcb.setSndNxt(5000);
    tcb.setSndUna(1000);
    for (let i = 0; i < 8; i++) ack(46);
    expect(tcb.ssthreshSegments).toBe(0x7fffffff);
    ack(46);
    expect(tcb.ssthreshSegments).toBe(100);
    expect(host.counter("TcpExtTCPHystartDelayDetect")).toBe(1);
    expect(host.counter("TcpExtTCPHystartDelayCwnd")).toBe(100);
  });

  test("a train of ACKs longer than half the least round trip ends it; one below 16 segments does not", () => {
    for (const [cwnd, found] of [
      [100, 1],
      [15, 0],
    ]) {
      const { host, tcp, tcb, cubic } = connection();
      tcb.ssthreshSegments = 0x7fffffff;
      tcb.cwndSegments = cwnd;
      tcb.srttNs = 40 * MILLISECOND;
      tcb.mssBytes = 1460;
      // 4 · 64 KB take longer than a millisecond at this rate, so that one is added: (40 + 1) / 2 = 20.5 ms.
      for (let i = 0; i <= 20; i++) {
        cubic.onRtt(tcp, tcb, 40 * MILLISECOND);
        host.clock.nowNs += MILLISECOND;
      }
      expect(host.counter("TcpExtTCPHystartTrainDetect")).toBe(0);
      cubic.onRtt(tcp, tcb, 40 * MILLISECOND);
      expect(host.counter("TcpExtTCPHystartTrainDetect")).toBe(found);
    }
  });
});
