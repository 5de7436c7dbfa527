/**
 * Both sides of the three-way handshake: shapes, schedules, failures. Expected values: linux-tcp facts and RFC 9293.
 */
import { describe, expect, test } from "vitest";
import { Errno } from "../../base/errno.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { CountedUpcalls, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

function passive(sysctl = {}): { host: TestHost; peer: TestPeer } {
  const host = new TestHost({ sysctl });
  return { host, peer: new TestPeer(host) };
}

describe("passive open", () => {
  test("SYN-ACK has Linux's shape: MSS, SACK-permitted, timestamps, NOP, window scale; window 65160", () => {
    const { host, peer } = passive();
    host.listen(80);
    peer.send({ flags: "S", seq: 1000, mss: 1460, sack: true, ts: [5, 0], windowScale: 7 });
    const synAck = peer.expect({ flags: "S.", ack: 1001, mss: 1460, window: 65160, windowScale: 7, sack: true });
    expect(synAck.optionKinds).toEqual(["mss", "sackPermitted", "timestamps", "nop", "windowScale"]);
    expect(synAck.ts?.[1]).toBe(5);
  });

  test("without timestamps the window is 64240; without any option there is only our MSS", () => {
    const { host, peer } = passive();
    host.listen(80);
    peer.send({ flags: "S", seq: 1000 });
    const synAck = peer.expect({ flags: "S.", window: 64240, windowScale: -1, sack: false });
    expect(synAck.optionKinds).toEqual(["mss"]);
  });

  test("an option we switched off is not agreed to", () => {
    const { host, peer } = passive({ tcpSack: 0, tcpTimestamps: 0, tcpWindowScaling: 0 });
    host.listen(80);
    peer.send({ flags: "S", seq: 1000, mss: 1460, sack: true, ts: [5, 0], windowScale: 7 });
    expect(peer.expect({ flags: "S." }).optionKinds).toEqual(["mss"]);
  });

  test("the final ACK establishes; data on it is delivered", () => {
    const { host, peer } = passive();
    const listener = host.listen(80);
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    const { seq: iss } = peer.expect({ flags: "S." });
    peer.send({ flags: "P.", seq: 1001, ack: iss + 1, data: "hello" });
    expect(host.readText(host.accept(listener))).toBe("hello");
    expect(host.counter("TcpPassiveOpens")).toBe(1);
    expect(host.counter("TcpCurrEstab")).toBe(1);
  });

  test("SYN-ACKs go again at 1, 3, 7, 15, 31 s and the request is gone at 63 s, silently", () => {
    const { host, peer } = passive();
    const listener = host.listen(80);
    const start = host.clock.nowNs;
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    host.advance(62.9 * SECOND);
    expect(peer.sent.map((s) => (s.atNs - start) / SECOND)).toEqual([0, 1, 3, 7, 15, 31]);
    expect(listener.listener?.requests.size).toBe(1);
    host.advance(0.2 * SECOND);
    expect(listener.listener?.requests.size).toBe(0);
    expect(peer.sent.length).toBe(6);
    expect(host.counter("TcpExtTCPSynRetrans")).toBe(5);
    expect(host.counter("TcpRetransSegs")).toBe(5);
    expect(host.counter("TcpExtTCPTimeouts")).toBe(6);
    expect(host.counter("TcpAttemptFails")).toBe(0);
    expect(host.env.pool.outstanding).toBe(0);
  });

  test("a repeated SYN is answered at once with the same ISN", () => {
    const { host, peer } = passive();
    host.listen(80);
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    const first = peer.expect({ flags: "S." });
    host.advance(600 * MILLISECOND);
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    peer.expect({ flags: "S.", seq: first.seq });
    peer.expectNothing();
  });

  test("first data after a retransmitted SYN-ACK has an RTO of 3 s (RFC 6298 §5.7)", () => {
    const { host, peer } = passive();
    const listener = host.listen(80);
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    host.advance(1.5 * SECOND);
    peer.expect({ flags: "S." });
    const { seq: iss } = peer.expect({ flags: "S." });
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
    const tcb = host.accept(listener);
    const start = host.clock.nowNs;
    host.write(tcb, "x");
    peer.expect({ flags: "P.", data: "x" });
    host.advance(3.5 * SECOND);
    expect(peer.expect({ flags: "P.", data: "x" }).atNs - start).toBe(3 * SECOND);
  });
});

describe("active open", () => {
  test("the SYN has window 64240 and Linux's options", () => {
    const { host, peer } = passive();
    host.connect(peer.address, 80);
    const syn = peer.expect({ flags: "S", dstPort: 80, window: 64240, mss: 1460, windowScale: 7, ack: 0 });
    expect(syn.optionKinds).toEqual(["mss", "sackPermitted", "timestamps", "nop", "windowScale"]);
    expect(syn.srcPort).toBeGreaterThanOrEqual(32768);
    expect(syn.srcPort).toBeLessThanOrEqual(60999);
  });

  test("SYNs go at 0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67 s; ETIMEDOUT at 131 s", () => {
    const { host, peer } = passive();
    const start = host.clock.nowNs;
    const tcb = host.connect(peer.address, 80);
    host.advanceTo(start + 130.99 * SECOND);
    expect(peer.sent.map((s) => (s.atNs - start) / SECOND)).toEqual([0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    expect(tcb.state).toBe(TcpState.synSent);
    host.advanceTo(start + 131 * SECOND);
    expect(tcb.state).toBe(TcpState.close);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
    expect((tcb.upcalls as CountedUpcalls).changes).toBe(1);
    expect(host.counter("TcpAttemptFails")).toBe(1);
    expect(host.counter("TcpExtTCPAbortOnTimeout")).toBe(1);
  });

  test("without the linear part: 1, 3, 7, 15, 31, 63 s, then 127 s", () => {
    const { host, peer } = passive({ tcpSynLinearTimeouts: 0 });
    const start = host.clock.nowNs;
    const tcb = host.connect(peer.address, 80);
    host.advanceTo(start + 127 * SECOND);
    expect(peer.sent.map((s) => (s.atNs - start) / SECOND)).toEqual([0, 1, 3, 7, 15, 31, 63]);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
  });

  test("RST refuses: ECONNREFUSED", () => {
    const { host, peer } = passive();
    const tcb = host.connect(peer.address, 80);
    const syn = peer.expect({ flags: "S" });
    peer.send({ flags: "R.", ack: syn.seq + 1, srcPort: 80, dstPort: syn.srcPort });
    expect(tcb.state).toBe(TcpState.close);
    expect(tcb.takeError()).toBe(Errno.ECONNREFUSED);
    expect(host.counter("TcpAttemptFails")).toBe(1);
    expect(host.env.timers.armedCount()).toBe(0);
  });

  test("a RST that acknowledges something else is no answer", () => {
    const { host, peer } = passive();
    const tcb = host.connect(peer.address, 80);
    const syn = peer.expect({ flags: "S" });
    peer.send({ flags: "R.", ack: syn.seq + 2, srcPort: 80, dstPort: syn.srcPort });
    peer.send({ flags: "R", seq: 0, srcPort: 80, dstPort: syn.srcPort });
    expect(tcb.state).toBe(TcpState.synSent);
    // The first acknowledges what was not sent, but is a RST: never answered.
    peer.expectNothing();
  });

  test("an ACK of something else in SYN_SENT is answered by RST", () => {
    const { host, peer } = passive();
    host.connect(peer.address, 80);
    const syn = peer.expect({ flags: "S" });
    peer.send({ flags: "S.", seq: 7, ack: syn.seq + 99, srcPort: 80, dstPort: syn.srcPort });
    peer.expect({ flags: "R", seq: (syn.seq + 99) >>> 0 });
  });

  test("no route: the call fails at once", () => {
    const { host, peer } = passive();
    host.ip.routeError = -Errno.ENETUNREACH;
    const tcb = host.tcp.create(new CountedUpcalls());
    expect(host.tcp.connect(tcb, peer.address, 80)).toBe(-Errno.ENETUNREACH);
  });

  test("a second connect: EALREADY while connecting, EISCONN afterwards", () => {
    const { host, peer } = passive();
    const tcb = host.connect(peer.address, 80);
    expect(host.tcp.connect(tcb, peer.address, 80)).toBe(-Errno.EALREADY);
    const syn = peer.expect({ flags: "S" });
    peer.send({ flags: "S.", seq: 500, ack: syn.seq + 1, srcPort: 80, dstPort: syn.srcPort, mss: 1460 });
    expect(tcb.state).toBe(TcpState.established);
    peer.expect({ flags: ".", seq: syn.seq + 1, ack: 501 });
    expect(host.tcp.connect(tcb, peer.address, 80)).toBe(-Errno.EISCONN);
  });

  test("a repeated SYN-ACK in ESTABLISHED gets a challenge ACK (row 9)", () => {
    const { host, peer } = passive();
    host.connect(peer.address, 80);
    const syn = peer.expect({ flags: "S" });
    const synAck = { flags: "S.", seq: 500, ack: syn.seq + 1, srcPort: 80, dstPort: syn.srcPort, mss: 1460 };
    peer.send(synAck);
    peer.expect({ flags: "." });
    peer.send(synAck);
    peer.expect({ flags: ".", ack: 501 });
    expect(host.counter("TcpExtTCPSYNChallenge")).toBe(1);
    expect(host.counter("TcpExtTCPChallengeACK")).toBe(1);
    expect(host.counter("TcpInErrs")).toBe(1);
  });
});

describe("simultaneous open", () => {
  test("two crossing SYNs make one connection (RFC 9293 figure 8)", () => {
    const wire = new TestWire({ delayNs: 10 * MILLISECOND });
    const open = (host: TestHost, other: TestHost) => {
      const tcb = host.tcp.create(new CountedUpcalls());
      expect(host.tcp.bind(tcb, host.address, 5000, { reuseAddress: false, reusePort: false, ifindex: 0 })).toBe(0);
      expect(host.tcp.connect(tcb, other.address, 5000)).toBe(-Errno.EINPROGRESS);
      return tcb;
    };
    const a = open(wire.a, wire.b);
    const b = open(wire.b, wire.a);
    wire.runFor(15 * MILLISECOND);
    expect([a.state, b.state]).toEqual([TcpState.synReceived, TcpState.synReceived]);
    wire.runFor(SECOND);
    expect([a.state, b.state]).toEqual([TcpState.established, TcpState.established]);
    wire.a.write(a, "crossed");
    wire.runFor(SECOND);
    expect(wire.b.readText(b)).toBe("crossed");
  });

  test("a connection to itself", () => {
    const host = new TestHost();
    const queue: Uint8Array[] = [];
    host.ip.onSegment = (bytes) => queue.push(bytes);
    const tcb = host.tcp.create(new CountedUpcalls());
    host.tcp.bind(tcb, host.address, 5000, { reuseAddress: false, reusePort: false, ifindex: 0 });
    host.tcp.connect(tcb, host.address, 5000);
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) host.receive(next, host.address);
    expect(tcb.state).toBe(TcpState.established);
    host.write(tcb, "me");
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) host.receive(next, host.address);
    expect(host.readText(tcb)).toBe("me");
  });
});
