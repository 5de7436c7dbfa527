/**
 * Every way a connection ends: FIN and RST in each state, half-close, orphans, TIME_WAIT (RFC 9293 §3.6; Linux rows
 * 22–27, 34, 35).
 */
import { describe, expect, test } from "vitest";
import { Errno } from "../../base/errno.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { CountedUpcalls, type Opened, type SegmentTemplate, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

const LINGER = 13;
const SOL_SOCKET = 1;
const SOL_TCP = 6;
const TCP_LINGER2 = 8;

interface Setup extends Opened {
  readonly host: TestHost;
  readonly peer: TestPeer;
  /** Sends with our next sequence number `seqOffset` and acknowledging `ackOffset` bytes. */
  say(flags: string, seqOffset: number, ackOffset: number, more?: Partial<SegmentTemplate>): void;
}

function established(sysctl: Partial<Sysctls> = {}, syn: Partial<SegmentTemplate> = {}): Setup {
  const host = new TestHost({ sysctl });
  const peer = new TestPeer(host);
  const opened = peer.open(host.listen(80), syn);
  const say = (flags: string, seqOffset: number, ackOffset: number, more: Partial<SegmentTemplate> = {}) =>
    peer.send({ flags, seq: opened.isn + 1 + seqOffset, ack: opened.iss + 1 + ackOffset, ...more });
  return { host, peer, say, ...opened };
}

/** Row states without the listener. */
function states(host: TestHost): string[] {
  return host.tcp
    .rows()
    .map((r) => r.state)
    .filter((s) => s !== "LISTEN");
}

describe("FIN", () => {
  test("active close: FIN_WAIT1, FIN_WAIT2, TIME_WAIT for 60 s, then nothing is left", () => {
    const { host, peer, tcb, say } = established();
    expect(host.tcp.shutdown(tcb, 1)).toBe(0);
    expect(tcb.state).toBe(TcpState.finWait1);
    peer.expect({ flags: "F." });
    say(".", 0, 1);
    expect(tcb.state).toBe(TcpState.finWait2);
    say("F.", 0, 1);
    peer.expect({ flags: "." });
    expect(tcb.state).toBe(TcpState.close);
    expect(states(host)).toEqual(["TIME-WAIT"]);
    expect(host.read(tcb)).toBe(0);
    host.tcp.close(tcb);
    host.advance(59.9 * SECOND);
    expect(states(host)).toEqual(["TIME-WAIT"]);
    host.advance(0.2 * SECOND);
    expect(states(host)).toEqual([]);
    expect(host.counter("TcpExtTW")).toBe(1);
    expect(host.counter("TcpCurrEstab")).toBe(0);
    expect(host.counter("TcpEstabResets")).toBe(0);
  });

  test("passive close: CLOSE_WAIT, end of file, half-close works, LAST_ACK, gone", () => {
    const { host, peer, tcb, say } = established();
    say("F.", 0, 0);
    expect(tcb.state).toBe(TcpState.closeWait);
    expect(host.read(tcb)).toBe(0);
    // Pingpong after a FIN: the ACK waits for what we may still say.
    host.write(tcb, "still talking");
    peer.expect({ flags: "P.", data: "still talking", ack: 1002 });
    say(".", 1, 13);
    host.tcp.close(tcb);
    peer.expect({ flags: "F." });
    expect(tcb.state).toBe(TcpState.lastAck);
    say(".", 1, 14);
    expect(states(host)).toEqual([]);
    expect(host.env.timers.armedCount()).toBe(0);
    expect(host.env.pool.arena.outstanding).toBe(0);
  });

  test("simultaneous close: FIN_WAIT1, CLOSING, TIME_WAIT", () => {
    const { host, peer, tcb, say } = established();
    host.tcp.shutdown(tcb, 1);
    peer.expect({ flags: "F." });
    say("F.", 0, 0);
    expect(tcb.state).toBe(TcpState.closing);
    peer.expect({ flags: ".", ack: 1002 });
    say(".", 1, 1);
    expect(tcb.state).toBe(TcpState.close);
    expect(states(host)).toEqual(["TIME-WAIT"]);
  });

  test("FIN and its ACK in one segment: FIN_WAIT1 straight to TIME_WAIT", () => {
    const { host, peer, tcb, say } = established();
    host.tcp.close(tcb);
    peer.expect({ flags: "F." });
    say("F.", 0, 1);
    peer.expect({ flags: ".", ack: 1002 });
    expect(states(host)).toEqual(["TIME-WAIT"]);
  });

  test("the FIN rides on the last data and is retransmitted with it", () => {
    const { host, peer, tcb, say } = established({ tcpTimestamps: 0 });
    host.write(tcb, "a".repeat(1460));
    host.write(tcb, "b");
    host.tcp.shutdown(tcb, 1);
    peer.expect({ len: 1460 });
    peer.expect({ flags: "P.", data: "b" });
    peer.expect({ flags: "F.", len: 0 });
    say(".", 0, 1461);
    host.advance(SECOND);
    peer.expect({ flags: "F.", len: 0 });
  });

  test("a FIN out of order counts only when its turn comes", () => {
    const { host, tcb, say } = established();
    say("F.", 5, 0);
    expect(tcb.state).toBe(TcpState.established);
    say("P.", 0, 0, { data: "hello" });
    expect(tcb.state).toBe(TcpState.closeWait);
    expect(host.readText(tcb)).toBe("hello");
    expect(host.read(tcb)).toBe(0);
  });

  test("send after shutdown: EPIPE; shutdown of a closed socket: ENOTCONN", () => {
    const { host, tcb } = established();
    host.tcp.shutdown(tcb, 1);
    expect(host.write(tcb, "x")).toBe(-Errno.EPIPE);
    const fresh = host.tcp.create(new CountedUpcalls());
    expect(host.tcp.shutdown(fresh, 2)).toBe(-Errno.ENOTCONN);
  });
});

describe("RST", () => {
  test("with the exact sequence number it resets: data stays readable, then ECONNRESET once, then end", () => {
    const { host, peer, tcb, say } = established();
    say("P.", 0, 0, { data: "last words" });
    peer.forget();
    say("R", 10, 0);
    expect(tcb.state).toBe(TcpState.close);
    expect(host.readText(tcb)).toBe("last words");
    expect(host.read(tcb)).toBe(-Errno.ECONNRESET);
    expect(host.read(tcb)).toBe(0);
    expect(host.write(tcb, "x")).toBe(-Errno.EPIPE);
    expect(host.counter("TcpEstabResets")).toBe(1);
    peer.expectNothing();
  });

  test("in the window but not exact: challenge ACK, at most one per 500 ms (RFC 5961)", () => {
    const { host, peer, tcb, say } = established();
    say("R", 100, 0);
    peer.expect({ flags: ".", ack: 1001 });
    say("R", 200, 0);
    peer.expectNothing();
    expect(tcb.state).toBe(TcpState.established);
    expect(host.counter("TcpExtTCPChallengeACK")).toBe(1);
    expect(host.counter("TcpExtTCPACKSkippedChallenge")).toBe(1);
    host.advance(500 * MILLISECOND);
    say("R", 100, 0);
    peer.expect({ flags: "." });
  });

  test("outside the window: ignored", () => {
    const { peer, tcb, say } = established();
    say("R", 1_000_000, 0);
    say("R", -5, 0);
    expect(tcb.state).toBe(TcpState.established);
    peer.expectNothing();
  });

  test("in CLOSE_WAIT it is EPIPE, also with the FIN's own sequence number", () => {
    const { tcb, say } = established();
    say("F.", 0, 0);
    say("R", 0, 0);
    expect(tcb.state).toBe(TcpState.close);
    expect(tcb.takeError()).toBe(Errno.EPIPE);
  });

  test("SYN in a synchronised state: challenge ACK, TCPSYNChallenge", () => {
    const { host, peer, tcb, say } = established();
    say("S", 50, 0);
    peer.expect({ flags: ".", ack: 1001 });
    expect(tcb.state).toBe(TcpState.established);
    expect(host.counter("TcpExtTCPSYNChallenge")).toBe(1);
  });

  test("close with unread data: RST, TCPAbortOnClose, EstabResets (row 22)", () => {
    const { host, peer, tcb, say } = established();
    say("P.", 0, 0, { data: "unread" });
    peer.forget();
    host.tcp.close(tcb);
    peer.expect({ flags: "R." });
    expect(host.counter("TcpExtTCPAbortOnClose")).toBe(1);
    expect(host.counter("TcpEstabResets")).toBe(1);
    expect(host.counter("TcpOutRsts")).toBe(1);
    expect(states(host)).toEqual([]);
  });

  test("SO_LINGER {1, 0}: RST, TCPAbortOnData (row 23)", () => {
    const { host, peer, tcb } = established();
    expect(host.tcp.setOption(tcb, SOL_SOCKET, LINGER, 1, 0)).toBe(0);
    host.tcp.close(tcb);
    peer.expect({ flags: "R." });
    expect(host.counter("TcpExtTCPAbortOnData")).toBe(1);
    expect(states(host)).toEqual([]);
  });

  test("abort: RST now, the holder sees ECONNABORTED", () => {
    const { host, peer, tcb } = established();
    host.tcp.abort(tcb);
    peer.expect({ flags: "R." });
    expect(tcb.takeError()).toBe(Errno.ECONNABORTED);
    host.tcp.close(tcb);
    expect(host.env.pool.arena.outstanding).toBe(0);
  });
});

describe("orphans", () => {
  test("FIN_WAIT2 of a closed socket is a mini-socket for tcp_fin_timeout", () => {
    const { host, peer, tcb, say } = established({ tcpFinTimeout: 10 });
    host.tcp.close(tcb);
    peer.expect({ flags: "F." });
    say(".", 0, 1);
    expect(states(host)).toEqual(["FIN-WAIT-2"]);
    host.advance(9.9 * SECOND);
    expect(states(host)).toEqual(["FIN-WAIT-2"]);
    host.advance(0.2 * SECOND);
    expect(states(host)).toEqual([]);
  });

  test("data for it: RST, no TCPAbortOnData (row 24)", () => {
    const { host, peer, tcb, say } = established();
    host.tcp.close(tcb);
    say(".", 0, 1);
    peer.forget();
    say("P.", 0, 1, { data: "too late" });
    peer.expect({ flags: "R" });
    expect(host.counter("TcpOutRsts")).toBe(1);
    expect(host.counter("TcpExtTCPAbortOnData")).toBe(0);
    expect(states(host)).toEqual([]);
  });

  test("data in FIN_WAIT1 after close: RST, TCPAbortOnData", () => {
    const { host, peer, tcb, say } = established();
    host.tcp.close(tcb);
    peer.expect({ flags: "F." });
    say("P.", 0, 0, { data: "too late" });
    peer.expect({ flags: "R" });
    expect(host.counter("TcpExtTCPAbortOnData")).toBe(1);
    expect(states(host)).toEqual([]);
  });

  test("the FIN of an orphan's FIN_WAIT2 starts a full TIME_WAIT", () => {
    const { host, peer, tcb, say } = established({ tcpFinTimeout: 10 });
    host.tcp.close(tcb);
    say(".", 0, 1);
    peer.forget();
    host.advance(5 * SECOND);
    say("F.", 0, 1);
    peer.expect({ flags: ".", ack: 1002 });
    expect(states(host)).toEqual(["TIME-WAIT"]);
    host.advance(59.9 * SECOND);
    expect(states(host)).toEqual(["TIME-WAIT"]);
    host.advance(0.2 * SECOND);
    expect(states(host)).toEqual([]);
  });

  test("TCP_LINGER2 < 0: no FIN_WAIT2 at all", () => {
    const { host, peer, tcb, say } = established();
    host.tcp.setOption(tcb, SOL_TCP, TCP_LINGER2, -1);
    host.tcp.close(tcb);
    peer.expect({ flags: "F." });
    say(".", 0, 1);
    // Linux answers the ACK with a RST and counts it as data; TCPAbortOnLinger is for a close that finds FIN_WAIT2.
    peer.expect({ flags: "R" });
    expect([host.counter("TcpExtTCPAbortOnData"), host.counter("TcpExtTCPAbortOnLinger")]).toEqual([1, 0]);
    expect(states(host)).toEqual([]);
  });

  test("too many orphans: RST, TCPAbortOnMemory (row 25)", () => {
    const { host, peer, tcb } = established({ tcpMaxOrphans: 0 });
    host.tcp.close(tcb);
    expect(peer.sent.map((s) => s.flags)).toEqual(["F.", "R."]);
    expect(host.counter("TcpExtTCPAbortOnMemory")).toBe(1);
    expect(host.tcp.context.orphanCount).toBe(0);
  });

  test("an orphan whose peer is silent is given up after what 8 retries take (102 s)", () => {
    const { host, tcb } = established();
    host.tcp.close(tcb);
    host.advance(100 * SECOND);
    expect(states(host)).toEqual(["FIN-WAIT-1"]);
    host.advance(150 * SECOND);
    expect(states(host)).toEqual([]);
    expect(host.counter("TcpExtTCPAbortOnTimeout")).toBe(1);
  });
});

describe("TIME_WAIT", () => {
  function timeWait(sysctl: Partial<Sysctls> = {}, syn: Partial<SegmentTemplate> = {}): Setup {
    const setup = established(sysctl, syn);
    setup.host.tcp.close(setup.tcb);
    setup.peer.forget();
    setup.say("F.", 0, 1, syn.ts ? { ts: [syn.ts[0] + 2, 0] } : {});
    setup.peer.expect({ flags: "." });
    expect(states(setup.host)).toEqual(["TIME-WAIT"]);
    return setup;
  }

  test("a retransmitted FIN is acknowledged and the 60 s start again", () => {
    const { host, peer, say } = timeWait();
    host.advance(40 * SECOND);
    say("F.", 0, 1);
    peer.expect({ flags: ".", ack: 1002 });
    host.advance(50 * SECOND);
    expect(states(host)).toEqual(["TIME-WAIT"]);
    host.advance(11 * SECOND);
    expect(states(host)).toEqual([]);
  });

  test("RST kills it, unless tcp_rfc1337 (row 35)", () => {
    const plain = timeWait();
    plain.say("R", 1, 1);
    expect(states(plain.host)).toEqual([]);
    const hardened = timeWait({ tcpRfc1337: 1 });
    hardened.say("R", 1, 1);
    expect(states(hardened.host)).toEqual(["TIME-WAIT"]);
  });

  test("a SYN with a newer sequence number takes the 4-tuple over, ISN = sndNxt + 65537 (row 34)", () => {
    const { host, peer, iss, say } = timeWait();
    peer.send({ flags: "S", seq: 5000, mss: 1460 });
    // Our FIN had iss + 1, so sndNxt is iss + 2.
    peer.expect({ flags: "S.", seq: (iss + 2 + 65537) >>> 0, ack: 5001 });
    expect(states(host)).toEqual(["SYN-RECV"]);
    expect(host.counter("TcpExtPAWSEstab")).toBe(0);
    void say;
  });

  test("an old SYN is acknowledged, not accepted", () => {
    const { host, peer } = timeWait();
    peer.send({ flags: "S", seq: 500, mss: 1460 });
    peer.expect({ flags: ".", ack: 1002 });
    expect(states(host)).toEqual(["TIME-WAIT"]);
  });

  test("a SYN with an old sequence number but a newer timestamp is accepted", () => {
    const { peer } = timeWait({}, { ts: [100, 0] });
    peer.send({ flags: "S", seq: 500, mss: 1460, ts: [200, 0] });
    peer.expect({ flags: "S.", ack: 501 });
  });

  test("tcp_max_tw_buckets: closed at once, TCPTimeWaitOverflow (row 27)", () => {
    const { host, tcb, say } = established({ tcpMaxTwBuckets: 0 });
    host.tcp.close(tcb);
    say("F.", 0, 1);
    expect(states(host)).toEqual([]);
    expect(host.counter("TcpExtTCPTimeWaitOverflow")).toBe(1);
  });

  test("its port cannot be bound without SO_REUSEADDR, and can with it", () => {
    const wire = new TestWire();
    const [client, server] = wire.pair(80);
    wire.b.tcp.close(server);
    wire.runFor(SECOND);
    wire.a.tcp.close(client);
    wire.runFor(SECOND);
    const listener = wire.b.tcp.rows().find((r) => r.state === "LISTEN");
    expect(listener).toBeDefined();
    wire.b.tcp.context.listeners.forEach((l) => wire.b.tcp.close(l));
    expect(wire.b.tcp.rows().map((r) => r.state)).toEqual(["TIME-WAIT"]);
    const again = wire.b.tcp.create(new CountedUpcalls());
    const any = { reuseAddress: false, reusePort: false, ifindex: 0 };
    expect(wire.b.tcp.bind(again, wire.b.address, 80, any)).toBe(-Errno.EADDRINUSE);
    expect(wire.b.tcp.bind(again, wire.b.address, 80, { ...any, reuseAddress: true })).toBe(0);
    expect(wire.b.tcp.listen(again, 5)).toBe(0);
  });
});
