/** The predicted times are the true ones: of data, of SYNs and of SYN-ACKs, to the nanosecond. */
import { describe, expect, test } from "vitest";
import { Errno } from "../../base/errno.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { dataSchedule, handshakeSchedule } from "./rto-schedule-testing.ts";
import { TestHost, TestPeer } from "./tcp-testing.ts";

const DEFAULTS = { retries: 15, rtoMinNs: 200 * MILLISECOND, rtoMaxNs: 120 * SECOND };

/** Writes into silence; the times of what went out again and of the end, since the write. */
function silence(rttMs: number, sysctl: Partial<Sysctls>, userTimeoutMs: number, sack: boolean, orphan = false) {
  const host = new TestHost({ sysctl });
  const peer = new TestPeer(host);
  const listener = host.listen(80);
  peer.send({ flags: "S", seq: 1000, mss: 1000, sack });
  const { seq: iss } = peer.expect({ flags: "S." });
  host.advance(rttMs * MILLISECOND);
  peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
  const tcb = host.accept(listener);
  host.tcp.setOption(tcb, 6, 18, userTimeoutMs);
  const startNs = host.clock.nowNs;
  const rtoNs = tcb.rtoNs;
  host.write(tcb, "x");
  if (orphan) host.tcp.close(tcb);
  while (tcb.state !== TcpState.close && host.env.timers.deadline() < 5000 * SECOND) {
    host.advanceTo(host.env.timers.deadline());
  }
  const giveUpNs = host.clock.nowNs - startNs;
  if (!orphan) expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
  const resentNs = peer.sent.filter((s) => s.atNs > startNs).map((s) => s.atNs - startNs);
  return { rtoNs, resentNs, giveUpNs };
}

describe("data", () => {
  test("by hand: RTO 0.3 s doubles to 120 s; 924.6 s after the first copy the next timeout is the last", () => {
    const { resentNs, giveUpNs } = dataSchedule({ ...DEFAULTS, rtoNs: 300 * MILLISECOND });
    expect(resentNs.slice(0, 4).map((ns) => ns / MILLISECOND)).toEqual([300, 900, 2100, 4500]);
    // 0.3 · (2^9 − 1) = 153.3 s for nine timeouts, then every 120 s: 153.3 + 7 · 120 = 993.3 ≥ 0.3 + 924.6.
    expect(giveUpNs / MILLISECOND).toBe(993_300);
    expect(resentNs.length).toBe(15);
  });

  test.each([
    ["RTT 100 ms", 100, {}, 0, false],
    ["RTT 1 ms", 1, {}, 0, false],
    ["RTT 1.7 s", 1700, {}, 0, false],
    ["tcp_retries2 = 3", 100, { tcpRetries2: 3 }, 0, false],
    ["tcp_rto_max_ms = 5000", 100, { tcpRtoMaxMs: 5000 }, 0, false],
    ["TCP_USER_TIMEOUT 5 s", 100, {}, 5000, false],
    ["after a probe", 100, {}, 0, true],
    ["after a probe, TCP_USER_TIMEOUT 5 s", 100, {}, 5000, true],
  ] as const)("as it happens: %s", (_, rttMs, sysctl: Partial<Sysctls>, userTimeoutMs, sack) => {
    const truth = silence(rttMs, sysctl, userTimeoutMs, sack);
    const predicted = dataSchedule({
      rtoNs: truth.rtoNs,
      retries: sysctl.tcpRetries2 ?? DEFAULTS.retries,
      rtoMinNs: DEFAULTS.rtoMinNs,
      rtoMaxNs: (sysctl.tcpRtoMaxMs ?? 120_000) * MILLISECOND,
      userTimeoutNs: userTimeoutMs * MILLISECOND,
      // 2 · 100 + 200 ms is later than the timeout.
      probeNs: sack ? truth.rtoNs : 0,
    });
    expect(truth.resentNs).toEqual(predicted.resentNs);
    expect(truth.giveUpNs).toBe(predicted.giveUpNs);
  });

  test("an orphan gives up after 8 retries' time: 102.2 s", () => {
    const truth = silence(100, {}, 0, false, true);
    // The FIN went with nothing to carry it: two segments; the schedule is that of the head.
    expect(truth.giveUpNs).toBe(dataSchedule({ ...DEFAULTS, rtoNs: truth.rtoNs, retries: 8 }).giveUpNs);
  });
});

describe("handshake", () => {
  test("SYN: 1, 2, 3, 4, 5, 7, 11, 19, 35, 67 s, ETIMEDOUT at 131 s", () => {
    const predicted = handshakeSchedule(SECOND, 10, 4, 120 * SECOND);
    expect(predicted.resentNs.map((ns) => ns / SECOND)).toEqual([1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    expect(predicted.giveUpNs / SECOND).toBe(131);
    const host = new TestHost();
    const peer = new TestPeer(host);
    const startNs = host.clock.nowNs;
    const tcb = host.connect(peer.address, 80);
    while (tcb.state !== TcpState.close) host.advanceTo(host.env.timers.deadline());
    expect(peer.sent.slice(1).map((s) => s.atNs - startNs)).toEqual(predicted.resentNs);
    expect(host.clock.nowNs - startNs).toBe(predicted.giveUpNs);
  });

  // Times of Linux 6.18: few retries are over by the clock, 2^(n+1) − 1 s since the first SYN; so is a user timeout.
  test.each([
    [1, 0, [1, 2], 3],
    [2, 0, [1, 2, 3, 4, 5], 7],
    [3, 0, [1, 2, 3, 4, 5, 7, 11], 19],
    [6, 2500, [1, 2], 2.5],
    [1, 5000, [1, 2, 3, 4], 5],
  ])("SYN with TCP_SYNCNT %i, TCP_USER_TIMEOUT %i ms: again after %j s, ETIMEDOUT at %f s", (count, ms, again, end) => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    host.advance(SECOND);
    const startNs = host.clock.nowNs;
    host.env.sysctl.tcpSynRetries = count;
    const tcb = host.connect(peer.address, 80);
    host.tcp.setOption(tcb, 6, 18, ms);
    while (tcb.state !== TcpState.close) host.advanceTo(host.env.timers.deadline());
    expect(peer.sent.slice(1).map((s) => (s.atNs - startNs) / SECOND)).toEqual(again);
    expect((host.clock.nowNs - startNs) / SECOND).toBe(end);
  });

  test("SYN-ACK: 1, 3, 7, 15, 31 s, forgotten at 63 s", () => {
    const predicted = handshakeSchedule(SECOND, 5, 0, 120 * SECOND);
    expect(predicted.resentNs.map((ns) => ns / SECOND)).toEqual([1, 3, 7, 15, 31]);
    expect(predicted.giveUpNs / SECOND).toBe(63);
    const host = new TestHost();
    const peer = new TestPeer(host);
    const listener = host.listen(80);
    const startNs = host.clock.nowNs;
    peer.send({ flags: "S", seq: 1000 });
    while (listener.listener?.requests.size === 1) host.advanceTo(host.env.timers.deadline());
    expect(peer.sent.slice(1).map((s) => s.atNs - startNs)).toEqual(predicted.resentNs);
    expect(host.clock.nowNs - startNs).toBe(predicted.giveUpNs);
  });
});
