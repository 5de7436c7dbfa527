/** Socket options, keep-alive, buffers, and what callers may not do. */
import { describe, expect, test } from "vitest";
import { ANY_V4 } from "../../base/address.ts";
import { Errno } from "../../base/errno.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { TcpState } from "../port.ts";
import { SOL_SOCKET, SOL_TCP, SocketOption as So, TcpOption as To } from "./options.ts";
import { CountedUpcalls, TestHost, TestPeer, TestWire } from "./tcp-testing.ts";

const NO_OPTIONS = { reuseAddress: false, reusePort: false, ifindex: 0 };

function established() {
  const host = new TestHost();
  const peer = new TestPeer(host);
  return { host, peer, ...peer.open(host.listen(80)) };
}

describe("setsockopt", () => {
  test("what is set can be read", () => {
    const { host, tcb } = established();
    const { tcp } = host;
    const cases: [number, number, number, number][] = [
      [SOL_TCP, To.noDelay, 1, 1],
      [SOL_TCP, To.cork, 1, 1],
      [SOL_TCP, To.cork, 0, 0],
      [SOL_TCP, To.keepIdle, 10, 10],
      [SOL_TCP, To.keepIntvl, 3, 3],
      [SOL_TCP, To.keepCnt, 4, 4],
      [SOL_TCP, To.linger2, 30, 30],
      [SOL_TCP, To.userTimeout, 1234, 1234],
      [SOL_TCP, To.synCnt, 3, 3],
      [SOL_TCP, To.deferAccept, 3, 3],
      [SOL_SOCKET, So.keepAlive, 1, 1],
      [SOL_SOCKET, So.reuseAddr, 1, 1],
      [SOL_SOCKET, So.reusePort, 1, 1],
      // socket(7): buffers are doubled, clamped to rmem_max and wmem_max (212992).
      [SOL_SOCKET, So.rcvBuf, 100_000, 200_000],
      [SOL_SOCKET, So.sndBuf, 1_000_000, 425_984],
      [SOL_SOCKET, So.rcvBuf, 1, 2304],
      [SOL_SOCKET, So.sndBuf, 1, 4608],
    ];
    for (const [level, name, value, read] of cases) {
      expect(tcp.setOption(tcb, level, name, value)).toBe(0);
      expect(tcp.getOption(tcb, level, name)).toBe(read);
    }
  });

  test("defaults are Linux's", () => {
    const { host, tcb } = established();
    const get = (name: number) => host.tcp.getOption(tcb, SOL_TCP, name);
    expect([get(To.keepIdle), get(To.keepIntvl), get(To.keepCnt), get(To.linger2)]).toEqual([7200, 75, 9, 60]);
    expect(host.tcp.getOption(tcb, SOL_SOCKET, So.rcvBuf)).toBe(131072);
    // tcp_sndbuf_expand: 2 · 10 · 4352.
    expect(host.tcp.getOption(tcb, SOL_SOCKET, So.sndBuf)).toBe(87040);
  });

  test("bad values and unknown names", () => {
    const { host, tcb } = established();
    expect(host.tcp.setOption(tcb, SOL_TCP, To.keepIdle, 0)).toBe(-Errno.EINVAL);
    expect(host.tcp.setOption(tcb, SOL_TCP, To.keepIntvl, 40_000)).toBe(-Errno.EINVAL);
    expect(host.tcp.setOption(tcb, SOL_TCP, To.maxSeg, 10)).toBe(-Errno.EINVAL);
    expect(host.tcp.setOption(tcb, SOL_TCP, 999, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(host.tcp.setOption(tcb, 99, 1, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(host.tcp.getOption(tcb, SOL_TCP, 999)).toBe(-Errno.ENOPROTOOPT);
  });

  test("TCP_MAXSEG limits what is announced and what is sent", () => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    const listener = host.listen(80);
    host.tcp.setOption(listener, SOL_TCP, To.maxSeg, 500);
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    const { seq: iss } = peer.expect({ flags: "S.", mss: 500 });
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
    host.write(host.accept(listener), "x".repeat(1200));
    expect(peer.sent.map((s) => s.len)).toEqual([500, 500, 200]);
  });

  test("SO_ERROR tells once", () => {
    const { host, peer, tcb } = established();
    peer.send({ flags: "R", seq: 1001 });
    expect(host.tcp.getOption(tcb, SOL_SOCKET, So.error)).toBe(Errno.ECONNRESET);
    expect(host.tcp.getOption(tcb, SOL_SOCKET, So.error)).toBe(0);
  });
});

describe("keep-alive", () => {
  test("probes after the idle time, at intervals; an answer resets the count", () => {
    const { host, peer, tcb, iss } = established();
    host.tcp.setOption(tcb, SOL_TCP, To.keepIdle, 10);
    host.tcp.setOption(tcb, SOL_TCP, To.keepIntvl, 2);
    host.tcp.setOption(tcb, SOL_TCP, To.keepCnt, 3);
    host.tcp.setOption(tcb, SOL_SOCKET, So.keepAlive, 1);
    const start = host.clock.nowNs;
    host.advance(10 * SECOND);
    const probe = peer.expect({ flags: ".", seq: iss >>> 0, len: 0 });
    expect(probe.atNs - start).toBe(10 * SECOND);
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
    host.advance(9.9 * SECOND);
    peer.expectNothing();
    expect(tcb.state).toBe(TcpState.established);
  });

  test("unanswered: RST after the probes, ETIMEDOUT", () => {
    const { host, peer, tcb } = established();
    for (const [name, value] of [
      [To.keepIdle, 10],
      [To.keepIntvl, 2],
      [To.keepCnt, 3],
    ]) {
      host.tcp.setOption(tcb, SOL_TCP, name, value);
    }
    host.tcp.setOption(tcb, SOL_SOCKET, So.keepAlive, 1);
    const start = host.clock.nowNs;
    host.advance(30 * SECOND);
    expect(peer.sent.map((s) => [s.flags, (s.atNs - start) / SECOND])).toEqual([
      [".", 10],
      [".", 12],
      [".", 14],
      ["R.", 16],
    ]);
    expect(tcb.takeError()).toBe(Errno.ETIMEDOUT);
    expect(host.counter("TcpExtTCPKeepAlive")).toBe(3);
  });

  test("off by default", () => {
    const { host, peer } = established();
    host.advance(20_000 * SECOND);
    peer.expectNothing();
  });
});

describe("buffers", () => {
  test("send refuses when full, and calls back when a third is free", () => {
    const { host, peer, tcb, iss } = established();
    host.tcp.setOption(tcb, SOL_SOCKET, So.sndBuf, 10_000);
    expect(host.write(tcb, new Uint8Array(50_000))).toBe(20_000);
    expect(host.write(tcb, "x")).toBe(-Errno.EAGAIN);
    expect(host.tcp.isWritable(tcb)).toBe(false);
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 + 1460 });
    expect((tcb.upcalls as CountedUpcalls).writables).toBe(0);
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 + 7300 });
    expect((tcb.upcalls as CountedUpcalls).writables).toBe(1);
    expect(host.tcp.isWritable(tcb)).toBe(true);
  });

  test("the receive buffer grows with a reader that keeps up, to tcp_rmem[2]; a fixed one does not", () => {
    for (const [fixed, grows] of [
      [false, true],
      [true, false],
    ] as const) {
      const arena = { smallSlots: 1024, frameSlots: 16384, pageSlots: 100 };
      const wire = new TestWire({ delayNs: 10 * MILLISECOND }, 1, { a: { arena }, b: { arena } });
      const [client, server] = wire.pair();
      if (fixed) wire.b.tcp.setOption(server, SOL_SOCKET, So.rcvBuf, 65536);
      const bytes = new Uint8Array(60_000);
      let got = 0;
      for (let i = 0; i < 150; i++) {
        wire.a.write(client, bytes);
        wire.runFor(MILLISECOND);
        const read = wire.b.read(server);
        if (typeof read !== "number") got += read.length;
      }
      expect(server.rcvbufBytes > 300_000).toBe(grows);
      expect(server.rcvbufBytes).toBeLessThanOrEqual(6_291_456);
      expect(got).toBeGreaterThan(300_000);
    }
  });
});

describe("what a caller may not do", () => {
  test("bind: twice, a foreign address, a taken port", () => {
    const host = new TestHost();
    const peer = new TestPeer(host);
    const fresh = () => host.tcp.create(new CountedUpcalls());
    const tcb = fresh();
    expect(host.tcp.bind(tcb, peer.address, 80, NO_OPTIONS)).toBe(-Errno.EADDRNOTAVAIL);
    expect(host.tcp.bind(tcb, ANY_V4, 80, NO_OPTIONS)).toBe(0);
    expect(host.tcp.bind(tcb, ANY_V4, 81, NO_OPTIONS)).toBe(-Errno.EINVAL);
    expect(host.tcp.bind(fresh(), host.address, 80, NO_OPTIONS)).toBe(-Errno.EADDRINUSE);
    host.tcp.close(tcb);
    expect(host.tcp.bind(fresh(), host.address, 80, NO_OPTIONS)).toBe(0);
  });

  test("listen on port 0 chooses one; two listeners never share a port without SO_REUSEPORT", () => {
    const host = new TestHost();
    const a = host.tcp.create(new CountedUpcalls());
    expect(host.tcp.listen(a, 5)).toBe(0);
    expect(a.localPort).toBeGreaterThanOrEqual(32768);
    const reuse = { ...NO_OPTIONS, reuseAddress: true };
    const b = host.tcp.create(new CountedUpcalls());
    const c = host.tcp.create(new CountedUpcalls());
    expect(host.tcp.bind(b, ANY_V4, 80, reuse)).toBe(0);
    expect(host.tcp.bind(c, ANY_V4, 80, reuse)).toBe(0);
    expect(host.tcp.listen(b, 5)).toBe(0);
    expect(host.tcp.listen(c, 5)).toBe(-Errno.EADDRINUSE);
  });

  test("send and receive on what is not connected", () => {
    const host = new TestHost();
    const tcb = host.tcp.create(new CountedUpcalls());
    expect(host.write(tcb, "x")).toBe(-Errno.EPIPE);
    expect(host.tcp.receive(tcb, new Uint8Array(1), 0, 1, 0)).toBe(-Errno.ENOTCONN);
    host.tcp.close(tcb);
    expect(host.env.pool.arena.outstanding).toBe(0);
  });
});
