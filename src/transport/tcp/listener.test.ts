/** Rows 1–21 of Linux's server-side behaviour: SYN queue, accept queue, their overflow and every counter. */
import { describe, expect, test } from "vitest";
import type { MibName } from "../../base/mib.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import type { Tcb } from "./tcp.ts";
import { type SegmentTemplate, TestHost, TestPeer } from "./tcp-testing.ts";

function setUp(backlog: number, sysctl: Partial<Sysctls> = {}): { host: TestHost; peer: TestPeer; listener: Tcb } {
  const host = new TestHost({ sysctl });
  const peer = new TestPeer(host);
  return { host, peer, listener: host.listen(80, backlog) };
}

/** Counter deltas of what `act` does, zeros left out. InSegs and OutSegs are everywhere, so they are left out too. */
function deltas(host: TestHost, act: () => void): Partial<Record<MibName, number>> {
  const before = host.mib.snapshot();
  act();
  const after = host.mib.snapshot();
  const out: Partial<Record<MibName, number>> = {};
  for (const name of Object.keys(after) as MibName[]) {
    if (name === "TcpInSegs" || name === "TcpOutSegs") continue;
    if (after[name] !== before[name]) out[name] = after[name] - before[name];
  }
  return out;
}

const syn = (srcPort: number, seq = 1000): SegmentTemplate => ({ flags: "S", seq, mss: 1460, srcPort });

/** A client's whole handshake from `srcPort`. */
function connect(peer: TestPeer, srcPort: number): void {
  peer.send(syn(srcPort));
  const { seq } = peer.expect({ flags: "S.", dstPort: srcPort });
  peer.send({ flags: ".", seq: 1001, ack: seq + 1, srcPort });
}

describe("SYN queue", () => {
  test("holds backlog + 1; the next SYN is dropped without cookies: row 3", () => {
    const { host, peer, listener } = setUp(3, { tcpSyncookies: 0 });
    for (let i = 0; i < 4; i++) peer.send(syn(5000 + i));
    expect(listener.listener?.requests.size).toBe(4);
    peer.forget();
    expect(deltas(host, () => peer.send(syn(5010)))).toEqual({ TcpExtTCPReqQFullDrop: 1, TcpExtListenDrops: 1 });
    peer.expectNothing();
    expect(listener.listener?.drops).toBe(1);
  });

  test("full with cookies: a stateless SYN-ACK, no ListenDrops: row 2; its ACK connects", () => {
    const { host, peer, listener } = setUp(1);
    peer.send(syn(5000));
    peer.send(syn(5001));
    peer.forget();
    expect(deltas(host, () => peer.send(syn(5002)))).toEqual({
      TcpExtTCPReqQFullDoCookies: 1,
      TcpExtSyncookiesSent: 1,
    });
    expect(listener.listener?.requests.size).toBe(2);
    const cookie = peer.expect({ flags: "S.", ack: 1001, mss: 1460 });
    host.advance(30 * SECOND);
    peer.forget();
    const got = deltas(host, () =>
      peer.send({ flags: "P.", seq: 1001, ack: cookie.seq + 1, srcPort: 5002, data: "hi" }),
    );
    expect(got).toMatchObject({ TcpExtSyncookiesRecv: 1, TcpPassiveOpens: 1, TcpCurrEstab: 1 });
    expect(host.readText(host.accept(listener))).toBe("hi");
  });

  test("an ACK with a wrong cookie: SyncookiesFailed and RST: row 10", () => {
    const { host, peer } = setUp(0);
    peer.send(syn(5000));
    peer.send(syn(5001));
    const cookie = peer.sent[1];
    peer.forget();
    const ack = { flags: ".", seq: 1001, ack: cookie.seq + 2, srcPort: 5001 };
    expect(deltas(host, () => peer.send(ack))).toEqual({ TcpExtSyncookiesFailed: 1, TcpOutRsts: 1 });
    peer.expect({ flags: "R", seq: (cookie.seq + 2) >>> 0 });
  });

  test("a cookie is too old after two minutes", () => {
    const { host, peer } = setUp(0);
    peer.send(syn(5000));
    peer.send(syn(5001));
    const cookie = peer.sent[1];
    // A later one, so that cookies are looked at when the first comes back.
    host.advance(61 * SECOND);
    peer.send(syn(5002));
    host.advance(60 * SECOND);
    peer.forget();
    peer.send({ flags: ".", seq: 1001, ack: cookie.seq + 1, srcPort: 5001 });
    peer.expect({ flags: "R" });
    expect([host.counter("TcpExtSyncookiesSent"), host.counter("TcpExtSyncookiesFailed")]).toEqual([2, 1]);
  });

  test("who has sent no cookie for two minutes does not look for one", () => {
    const { host, peer } = setUp(0);
    peer.send(syn(5000));
    peer.send(syn(5001));
    const cookie = peer.sent[1];
    host.advance(121 * SECOND);
    peer.forget();
    peer.send({ flags: ".", seq: 1001, ack: cookie.seq + 1, srcPort: 5001 });
    peer.expect({ flags: "R" });
    expect(host.counter("TcpExtSyncookiesFailed")).toBe(0);
  });

  test("cookies keep window scale and SACK in the timestamp", () => {
    const { host, peer, listener } = setUp(0);
    peer.send(syn(5000));
    peer.send({ ...syn(5001), ts: [77, 0], sack: true, windowScale: 5 });
    peer.expect({ flags: "S." });
    const cookie = peer.expect({ flags: "S.", sack: true, windowScale: 7 });
    peer.send({
      flags: ".",
      seq: 1001,
      ack: cookie.seq + 1,
      srcPort: 5001,
      ts: [78, cookie.ts?.[0] ?? 0],
      window: 100,
    });
    const tcb = host.accept(listener);
    expect([tcb.sndWindowScale, tcb.sackOk, tcb.timestampsOk, tcb.sndWnd]).toEqual([5, true, true, 3200]);
  });

  test("tcp_syncookies=2: a cookie for every SYN: row 5", () => {
    const { host, peer, listener } = setUp(10, { tcpSyncookies: 2 });
    expect(deltas(host, () => peer.send(syn(5000)))).toEqual({
      TcpExtTCPReqQFullDoCookies: 1,
      TcpExtSyncookiesSent: 1,
    });
    expect(listener.listener?.requests.size).toBe(0);
  });

  test("without cookies the last quarter of tcp_max_syn_backlog is kept free: 13 of 16: row 4", () => {
    const { host, peer, listener } = setUp(100, { tcpSyncookies: 0, tcpMaxSynBacklog: 16 });
    for (let i = 0; i < 13; i++) peer.send(syn(5000 + i));
    expect(deltas(host, () => peer.send(syn(6000)))).toEqual({ TcpExtListenDrops: 1 });
    expect(listener.listener?.requests.size).toBe(13);
  });

  test("half full: old requests are given up early: row 15", () => {
    const { host, peer, listener } = setUp(16);
    // 12 of 17, all equally old: 12·2 > 16, none young after the first timeout.
    for (let i = 0; i < 12; i++) peer.send(syn(5000 + i));
    host.advance(6.9 * SECOND);
    expect(listener.listener?.requests.size).toBe(12);
    // Retries are cut to 2 (SYN-ACKs at 1 and 3 s, gone at 7 s) until 8 are left: 8·2 is not more than 16.
    host.advance(0.2 * SECOND);
    expect(listener.listener?.requests.size).toBe(8);
    host.advance(55 * SECOND);
    expect(listener.listener?.requests.size).toBe(8);
    host.advance(2 * SECOND);
    expect(listener.listener?.requests.size).toBe(0);
  });
});

describe("accept queue", () => {
  test("holds backlog + 1, listen(0) one; a SYN that finds it full is dropped whatever the sysctls say: row 6", () => {
    for (const sysctl of [{}, { tcpSyncookies: 0 }, { tcpSyncookies: 2 }, { tcpAbortOnOverflow: 1 }]) {
      const { host, peer, listener } = setUp(0, sysctl);
      connect(peer, 5000);
      expect(host.tcp.acceptQueueLength(listener)).toBe(1);
      const got = deltas(host, () => peer.send(syn(5001)));
      expect(got).toMatchObject({ TcpExtListenOverflows: 1, TcpExtListenDrops: 1 });
      peer.expectNothing();
    }
  });

  test("a final ACK that finds it full is dropped, the request stays, SYN-ACK goes again: row 7", () => {
    const { host, peer, listener } = setUp(0);
    peer.send(syn(5000));
    const first = peer.expect({ flags: "S." });
    connect(peer, 5001);
    const finalAck = { flags: ".", seq: 1001, ack: first.seq + 1, srcPort: 5000 };
    const drops = listener.listener?.drops ?? 0;
    expect(deltas(host, () => peer.send(finalAck))).toEqual({ TcpExtListenOverflows: 1, TcpExtListenDrops: 1 });
    expect((listener.listener?.drops ?? 0) - drops).toBe(2);
    peer.expectNothing();
    const later = deltas(host, () => host.advance(1 * SECOND));
    expect(later).toEqual({ TcpExtTCPSynRetrans: 1, TcpExtTCPTimeouts: 1, TcpRetransSegs: 1 });
    peer.expect({ flags: "S.", seq: first.seq });
    // Room comes: the client's answer to the repeated SYN-ACK completes the handshake.
    host.accept(listener);
    peer.send(finalAck);
    expect(host.accept(listener).remotePort).toBe(5000);
  });

  test("… with tcp_abort_on_overflow=1 it is answered by RST: row 8", () => {
    const { host, peer, listener } = setUp(0, { tcpAbortOnOverflow: 1 });
    peer.send(syn(5000));
    const first = peer.expect({ flags: "S." });
    connect(peer, 5001);
    expect(deltas(host, () => peer.send({ flags: ".", seq: 1001, ack: first.seq + 1, srcPort: 5000 }))).toEqual({
      TcpExtListenOverflows: 1,
      TcpExtListenDrops: 1,
      TcpExtEmbryonicRsts: 1,
      TcpOutRsts: 1,
    });
    peer.expect({ flags: "R", dstPort: 5000 });
    expect(listener.listener?.requests.size).toBe(0);
  });

  test("listen(2): clamped to somaxconn, -1 gives somaxconn, a second call changes it", () => {
    const { host, listener } = setUp(5, { somaxconn: 100 });
    expect(listener.listener?.backlog).toBe(5);
    host.tcp.listen(listener, 1000);
    expect(listener.listener?.backlog).toBe(100);
    host.tcp.listen(listener, -1);
    expect(listener.listener?.backlog).toBe(100);
    expect(host.tcp.rows()).toMatchObject([{ state: "LISTEN", receiveQueue: 0, sendQueue: 100 }]);
  });

  test("closing the listener resets queued connections: row 21", () => {
    const { host, peer, listener } = setUp(5);
    connect(peer, 5000);
    connect(peer, 5001);
    peer.send(syn(5002));
    peer.forget();
    expect(deltas(host, () => host.tcp.close(listener))).toEqual({
      TcpEstabResets: 2,
      TcpOutRsts: 2,
      TcpCurrEstab: -2,
    });
    expect(peer.sent.map((s) => s.flags)).toEqual(["R.", "R."]);
    expect(host.tcp.rows()).toEqual([]);
    expect(host.env.pool.arena.outstanding).toBe(0);
    expect(host.env.timers.armedCount()).toBe(0);
  });
});

describe("segments that are no handshake", () => {
  test("a bad ACK number in SYN_RECV: RST from the listener, the request stays: row 12", () => {
    const { host, peer, listener } = setUp(5);
    peer.send(syn(5000));
    const { seq } = peer.expect({ flags: "S." });
    expect(deltas(host, () => peer.send({ flags: ".", seq: 1001, ack: seq + 5, srcPort: 5000 }))).toEqual({
      TcpOutRsts: 1,
    });
    peer.expect({ flags: "R", seq: (seq + 5) >>> 0 });
    expect(listener.listener?.requests.size).toBe(1);
  });

  test("RST in SYN_RECV: exact removes the request, inexact is challenged: row 13", () => {
    const { host, peer, listener } = setUp(5);
    peer.send(syn(5000));
    peer.expect({ flags: "S." });
    expect(deltas(host, () => peer.send({ flags: "R", seq: 1005, srcPort: 5000 }))).toEqual({
      TcpExtTCPChallengeACK: 1,
    });
    peer.expect({ flags: ".", ack: 1001 });
    expect(deltas(host, () => peer.send({ flags: "R", seq: 1001, srcPort: 5000 }))).toEqual({
      TcpAttemptFails: 1,
      TcpExtEmbryonicRsts: 1,
    });
    expect(listener.listener?.requests.size).toBe(0);
    expect(host.env.timers.armedCount()).toBe(0);
  });

  test("TCP_DEFER_ACCEPT: a bare ACK is dropped until data comes: row 14", () => {
    const { host, peer, listener } = setUp(5);
    expect(host.tcp.setOption(listener, 6, 9, 5)).toBe(0);
    peer.send(syn(5000));
    const { seq } = peer.expect({ flags: "S." });
    const ack = { flags: ".", seq: 1001, ack: seq + 1, srcPort: 5000 };
    expect(deltas(host, () => peer.send(ack))).toEqual({ TcpExtTCPDeferAcceptDrop: 1 });
    expect(host.tcp.acceptQueueLength(listener)).toBe(0);
    peer.send({ ...ack, flags: "P.", data: "x" });
    expect(host.readText(host.accept(listener))).toBe("x");
  });

  test("SYN to a closed port: RST+ACK, seq 0, ack seq+1: row 16", () => {
    const { host, peer } = setUp(5);
    expect(deltas(host, () => peer.send({ ...syn(5000), dstPort: 81 }))).toEqual({ TcpOutRsts: 1 });
    peer.expect({ flags: "R.", seq: 0, ack: 1001, window: 0 });
  });

  test("ACK to a closed port or to LISTEN: RST with seq = ack: row 17", () => {
    const { host, peer } = setUp(5);
    for (const dstPort of [80, 81]) {
      peer.send({ flags: ".", seq: 5, ack: 777, dstPort });
      peer.expect({ flags: "R", seq: 777 });
    }
    expect(host.counter("TcpOutRsts")).toBe(2);
  });

  test("FIN, SYN+FIN and no flags at all to LISTEN: silence: row 18; RST anywhere: ignored: row 19", () => {
    const { host, peer } = setUp(5);
    for (const flags of ["F", "SF", "", "R", "R."])
      expect(deltas(host, () => peer.send({ flags, seq: 1 }))).toEqual({});
    peer.send({ flags: "R", seq: 1, dstPort: 81 });
    peer.expectNothing();
    expect(host.env.pool.outstanding).toBe(0);
  });

  test("bad sizes and checksums are counted and dropped", () => {
    const { host, peer } = setUp(5);
    const bytes = new Uint8Array(20);
    bytes[12] = 0x50;
    bytes[13] = 2;
    expect(deltas(host, () => host.receive(bytes, peer.address))).toEqual({ TcpInCsumErrors: 1, TcpInErrs: 1 });
    expect(deltas(host, () => host.receive(new Uint8Array(12), peer.address))).toEqual({ TcpInErrs: 1 });
    expect(host.env.pool.outstanding).toBe(0);
  });
});

describe("SO_REUSEPORT", () => {
  test("the 4-tuple chooses among listeners, always the same one", () => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    const listeners = [0, 1, 2].map(() => {
      const tcb = host.tcp.create({ readable() {}, writable() {}, stateChanged() {} });
      expect(host.tcp.bind(tcb, host.address, 80, { reuseAddress: false, reusePort: true, ifindex: 0 })).toBe(0);
      expect(host.tcp.listen(tcb, 1000)).toBe(0);
      return tcb;
    });
    for (let i = 0; i < 300; i++) connect(peer, 10_000 + i);
    const lengths = listeners.map((l) => host.tcp.acceptQueueLength(l));
    expect(lengths.reduce((a, b) => a + b)).toBe(300);
    for (const length of lengths) expect(length).toBeGreaterThan(50);
  });

  test("all must ask for it", () => {
    const { host } = setUp(5);
    const tcb = host.tcp.create({ readable() {}, writable() {}, stateChanged() {} });
    expect(host.tcp.bind(tcb, host.address, 80, { reuseAddress: true, reusePort: true, ifindex: 0 })).toBe(-98);
    expect(tcb.state).toBe(TcpState.close);
  });
});
