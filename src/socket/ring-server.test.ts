import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FakeTcb, fakeHost } from "../../tests/support/fake-tcp.ts";
import { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { Cost } from "../base/time.ts";
import { NO_TRACE, Point, type Tracepoints } from "../base/tracepoints.ts";
import { EPOLL_CTL_ADD, EPOLLIN, EPOLLOUT } from "./constants.ts";
import { RingPort } from "./ring-port.ts";
import { RingServer } from "./ring-server.ts";
import { SyscallRings } from "./rings.ts";
import { CompletionFlag, SysOp } from "./syscall-port.ts";

interface Reaped {
  readonly token: number;
  readonly result: number;
  readonly more: boolean;
  readonly data: number;
  readonly address: number;
  readonly offset: number;
  readonly peerPort: number;
}

function inline(trace: Tracepoints = NO_TRACE) {
  const host = fakeHost({}, trace);
  const process = host.table.create("server");
  const rings = new SyscallRings({ submissions: 64, completions: 64, stagingBytes: 4096 });
  const server = new RingServer(rings, process, { toProcess: () => {} });
  const port = new RingPort(process.pid, rings, host.tcp.arena, host.clock, { onSubmit: () => server.consume() });
  const reap = (): Reaped[] => {
    const out: Reaped[] = [];
    while (port.reap()) {
      const { token, result, flags, data, address, offset, peerPort } = port.completion;
      out.push({ token, result, more: flags === CompletionFlag.more, data, address, offset, peerPort });
    }
    return out;
  };
  const listener = () => {
    const fd = process.socket(2, 1);
    process.bind(fd, Address.v4(0), 80);
    process.listen(fd, 128);
    return { fd, tcb: host.tcp.tcbs.at(-1) as FakeTcb };
  };
  const connection = () => {
    const l = listener();
    host.tcp.arrive(l.tcb, 1000);
    const fd = process.accept4(l.fd);
    return { fd, tcb: host.tcp.tcbs.at(-1) as FakeTcb };
  };
  return { ...host, process, rings, server, port, reap, listener, connection };
}

describe("armed accept", () => {
  it("offers a queued connection with fd, id and names, and leaves it in the accept queue until it is taken", () => {
    const { tcp, port, reap, listener, process } = inline();
    const { fd, tcb } = listener();
    port.submit(SysOp.acceptArm, fd, 7, 5);
    expect(reap()).toEqual([]);
    const child = tcp.arrive(tcb, 1234);
    expect(reap()).toEqual([
      { token: 7, result: 4, more: true, data: child.connId, address: 0, offset: 65536, peerPort: 1234 },
    ]);
    expect(tcb.acceptQueue).toHaveLength(1);
    expect(process.fds.get(4)).toBe(null);
    port.submit(SysOp.acceptTake, fd, 8, 5, 4);
    expect(reap()).toEqual([]);
    expect(tcb.acceptQueue).toHaveLength(0);
    expect(process.fds.get(4)?.kind).toBe("tcp");
  });

  it("offers at most 16 connections; the rest stay in the queue until some are taken", () => {
    const { tcp, port, reap, listener } = inline();
    const { fd, tcb } = listener();
    port.submit(SysOp.acceptArm, fd, 1, 0);
    for (let i = 0; i < 20; i++) tcp.arrive(tcb, i + 1);
    const offers = reap();
    expect(offers.map((o) => o.result)).toEqual(Array.from({ length: 16 }, (_, i) => 4 + i));
    expect(tcb.acceptQueue).toHaveLength(20);
    port.submit(SysOp.acceptTake, fd, 0, 0, 4);
    expect(reap().map((o) => o.peerPort)).toEqual([17]);
  });

  it("disarm withdraws: taking fails with EAGAIN, the fd is free, the connection is offered again", () => {
    const { tcp, port, reap, listener, process } = inline();
    const { fd, tcb } = listener();
    port.submit(SysOp.acceptArm, fd, 1, 0);
    tcp.arrive(tcb, 9);
    port.submit(SysOp.acceptDisarm, fd, 2, 0);
    port.submit(SysOp.acceptTake, fd, 3, 0, 4);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [1, 4],
      [2, 0],
      [3, -Errno.EAGAIN],
    ]);
    expect(tcb.acceptQueue).toHaveLength(1);
    expect(process.socket(2, 1)).toBe(4);
    port.submit(SysOp.acceptArm, fd, 4, 0);
    expect(reap().map((c) => [c.token, c.result])).toEqual([[4, 5]]);
  });

  it("fails with EMFILE only when the process has nothing left to take", () => {
    const { tcp, port, reap, listener, process } = inline();
    const { fd, tcb } = listener();
    process.fds.setSoftLimit(5);
    port.submit(SysOp.acceptArm, fd, 1, 0);
    tcp.arrive(tcb, 1);
    tcp.arrive(tcb, 2);
    expect(reap().map((c) => c.result)).toEqual([4]);
    port.submit(SysOp.acceptTake, fd, 0, 0, 4);
    expect(reap()).toMatchObject([{ token: 1, result: -Errno.EMFILE, more: false }]);
    process.close(4);
    port.submit(SysOp.acceptArm, fd, 2, 0);
    expect(reap().map((c) => [c.token, c.result])).toEqual([[2, 4]]);
  });

  it("two processes on one listener are never offered the same connection", () => {
    const a = inline();
    const { fd, tcb } = a.listener();
    const other = a.table.create("worker");
    const rings = new SyscallRings({ submissions: 8, completions: 64, stagingBytes: 64 });
    const server = new RingServer(rings, other, { toProcess: () => {} });
    const port = new RingPort(other.pid, rings, a.tcp.arena, a.clock, { onSubmit: () => server.consume() });
    const file = a.process.fileOf(fd);
    if (!file) throw new Error("no listener");
    const otherFd = other.adopt(file);
    a.port.submit(SysOp.acceptArm, fd, 1, 0);
    port.submit(SysOp.acceptArm, otherFd, 1, 0);
    for (let i = 0; i < 32; i++) a.tcp.arrive(tcb, i + 1);
    const mine = a.reap().map((c) => c.data);
    const theirs: number[] = [];
    while (port.reap()) theirs.push(port.completion.data);
    expect(mine).toHaveLength(16);
    expect(theirs).toHaveLength(16);
    expect(new Set([...mine, ...theirs]).size).toBe(32);
    a.port.submit(SysOp.acceptDisarm, fd, 0, 0);
    // Nothing is lost: what was withdrawn is offered again as the other makes room.
    port.submit(SysOp.acceptTake, otherFd, 0, 0, 4);
    expect(port.reap()).toBe(true);
    expect(mine).toContain(port.completion.data);
  });

  it.each([
    ["EBADF", 99, Errno.EBADF],
    ["ENOTSOCK", 0, Errno.ENOTSOCK],
    ["EINVAL when not listening", 3, Errno.EINVAL],
  ])("arming fails: %s", (_name, fd, errno) => {
    const { port, reap, process } = inline();
    process.socket(2, 1);
    port.submit(SysOp.acceptArm, fd, 1, 0);
    expect(reap()).toMatchObject([{ token: 1, result: -errno, more: false }]);
  });

  it("arming twice is EALREADY, and shutdown of the listener ends it with EINVAL", () => {
    const { port, reap, listener } = inline();
    const { fd } = listener();
    port.submit(SysOp.acceptArm, fd, 1, 0);
    port.submit(SysOp.acceptArm, fd, 2, 0);
    port.submit(SysOp.shutdown, fd, 3, 0, 2);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [2, -Errno.EALREADY],
      [1, -Errno.EINVAL],
      [3, 0],
    ]);
  });
});

describe("armed receive", () => {
  it("offers runs that stay in the receive queue until taken, then the end of the stream", () => {
    const { tcp, port, reap, connection } = inline();
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    tcp.deliver(tcb, [1, 2, 3]);
    tcp.deliver(tcb, [4, 5]);
    tcp.finish(tcb);
    const offers = reap();
    expect(offers.map((o) => [o.result, o.offset, o.more])).toEqual([
      [3, 0, true],
      [2, 3, true],
      [0, 0, false],
    ]);
    expect(tcp.readableBytes(tcb)).toBe(5);
    const into = new Uint8Array(5);
    port.copyOut(offers[0]?.address as number, 3, into, 0);
    port.copyOut(offers[1]?.address as number, 2, into, 3);
    expect([...into]).toEqual([1, 2, 3, 4, 5]);
    port.submit(SysOp.receiveTake, fd, 2, 0, 5);
    expect(tcp.readableBytes(tcb)).toBe(0);
    expect(reap()).toEqual([]);
  });

  it("a reset shows after the bytes that came before it, as on Linux", () => {
    const { tcp, port, reap, connection } = inline();
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    tcp.deliver(tcb, [1, 2, 3]);
    tcp.reset(tcb);
    expect(reap().map((c) => c.result)).toEqual([3]);
    port.submit(SysOp.receiveTake, fd, 0, 0, 3);
    expect(reap()).toMatchObject([{ token: 1, result: -Errno.ECONNRESET, more: false }]);
    port.submit(SysOp.receiveArm, fd, 2, 0);
    expect(reap()).toMatchObject([{ token: 2, result: 0, more: false }]);
  });

  it("a writer that comes before the bytes were read gets ECONNRESET, then EPIPE; the reader then gets the end", () => {
    const { tcp, port, reap, connection, process } = inline();
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    tcp.deliver(tcb, [1]);
    tcp.reset(tcb);
    reap();
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.ECONNRESET);
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.EPIPE);
    port.submit(SysOp.receiveTake, fd, 0, 0, 1);
    expect(reap()).toMatchObject([{ token: 1, result: 0 }]);
  });

  it("bounds what is offered: 16 runs, 512 KB", () => {
    const { tcp, port, reap, connection } = inline();
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    for (let i = 0; i < 20; i++) tcp.deliver(tcb, [i]);
    expect(reap()).toHaveLength(16);
    const big = connection();
    port.submit(SysOp.receiveArm, big.fd, 2, 0);
    for (let i = 0; i < 12; i++) tcp.deliver(big.tcb, new Uint8Array(50_000));
    expect(reap().reduce((sum, c) => sum + c.result, 0)).toBe(512 * 1024);
  });

  it("taking more than was offered is EINVAL and takes nothing", () => {
    const { tcp, port, reap, connection } = inline();
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    tcp.deliver(tcb, [1, 2, 3]);
    port.submit(SysOp.receiveTake, fd, 2, 0, 4);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [1, 3],
      [2, -Errno.EINVAL],
    ]);
    expect(tcp.readableBytes(tcb)).toBe(3);
  });

  it("property: whatever arrives and is taken, the process reads exactly the stream", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("deliver" as const), n: fc.integer({ min: 1, max: 5000 }) }),
      fc.record({ do: fc.constant("take" as const), n: fc.integer({ min: 1, max: 9000 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { tcp, port, connection } = inline();
        const { fd, tcb } = connection();
        port.submit(SysOp.receiveArm, fd, 1, 0);
        const offers: { address: number; len: number }[] = [];
        const read: number[] = [];
        let next = 0;
        let outstanding = 0;
        const take = (want: number) => {
          while (port.reap()) {
            offers.push({ address: port.completion.address, len: port.completion.result });
            outstanding += port.completion.result;
          }
          let left = Math.min(want, outstanding);
          const taken = left;
          while (left > 0) {
            const offer = offers[0] as { address: number; len: number };
            const part = Math.min(left, offer.len);
            const into = new Uint8Array(part);
            port.copyOut(offer.address, part, into, 0);
            read.push(...into);
            offer.address += part;
            offer.len -= part;
            left -= part;
            if (offer.len === 0) offers.shift();
          }
          outstanding -= taken;
          port.submit(SysOp.receiveTake, fd, 0, 0, taken);
          return taken;
        };
        for (const s of steps) {
          if (s.do === "take") take(s.n);
          else
            tcp.deliver(
              tcb,
              Array.from({ length: s.n }, () => next++ & 255),
            );
        }
        while (take(1 << 20) > 0);
        expect(read).toEqual(Array.from({ length: next }, (_, i) => i & 255));
        expect(tcp.readableBytes(tcb)).toBe(0);
      }),
    );
  });

  it("stops offering when the completion ring is full and goes on when there is room", () => {
    const { tcp, port, reap, listener, process } = inline();
    const { fd, tcb } = listener();
    const fds: number[] = [];
    for (let i = 0; i < 8; i++) {
      tcp.arrive(tcb, i + 1);
      fds.push(process.accept4(fd));
    }
    const children = tcp.tcbs.slice(-8);
    for (const [i, child] of fds.entries()) port.submit(SysOp.receiveArm, child, i + 1, 0);
    for (let n = 0; n < 12; n++) for (const child of children) tcp.deliver(child, [n]);
    // 96 runs, a ring of 64.
    expect(port.rings.completed).toBe(64);
    expect(reap()).toHaveLength(96);
  });
});

describe("calls that complete later", () => {
  it("connect: 0 with the connection's id when established, the reason when refused", () => {
    const { tcp, port, reap, process } = inline();
    const a = process.socket(2, 1);
    const first = tcp.tcbs.at(-1) as FakeTcb;
    const b = process.socket(2, 1);
    const second = tcp.tcbs.at(-1) as FakeTcb;
    port.submitWithAddress(SysOp.connect, a, 1, 0, Address.v4(0x0a000002), 80);
    port.submitWithAddress(SysOp.connect, b, 2, 0, Address.v4(0x0a000002), 1);
    expect(reap()).toEqual([]);
    tcp.answer(first);
    tcp.answer(second);
    expect(reap()).toMatchObject([
      { token: 1, result: 0, data: first.connId, peerPort: 80 },
      { token: 2, result: -Errno.ECONNREFUSED },
    ]);
  });

  it("send takes what fits, then EAGAIN; awaitWritable completes when the queue has room", () => {
    const { tcp, port, reap, connection } = inline();
    const { fd, tcb } = connection();
    tcb.sendRoom = 10;
    const at = port.stage(new Uint8Array(16), 0, 16);
    port.submit(SysOp.send, fd, 1, 0, at, 16);
    const again = port.stage(new Uint8Array(6), 0, 6);
    port.submit(SysOp.send, fd, 2, 0, again, 6);
    port.submit(SysOp.awaitWritable, fd, 3, 0);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [1, 10],
      [2, -Errno.EAGAIN],
    ]);
    tcp.acknowledge(tcb, 8);
    expect(reap()).toMatchObject([{ token: 3, offset: 0, result: 8 }]);
  });

  it("send with bytes outside the staging area is EFAULT", () => {
    const { port, reap, connection } = inline();
    const { fd } = connection();
    port.submit(SysOp.send, fd, 1, 0, 4090, 100);
    expect(reap()).toMatchObject([{ token: 1, result: -Errno.EFAULT }]);
  });

  it("epollWait waits, then completes once per ready event", () => {
    const { tcp, port, reap, connection, process } = inline();
    const one = connection();
    const epfd = process.epollCreate1();
    process.epollCtl(epfd, EPOLL_CTL_ADD, one.fd, EPOLLIN, 77);
    port.submit(SysOp.epollWait, epfd, 1, 0, 8);
    expect(reap()).toEqual([]);
    tcp.deliver(one.tcb, [1]);
    expect(reap()).toMatchObject([{ token: 1, result: EPOLLIN, data: 77, more: false }]);
    process.epollCtl(epfd, EPOLL_CTL_ADD, process.socket(2, 1), EPOLLOUT, 78);
    port.submit(SysOp.epollWait, epfd, 2, 0, 8);
    expect(reap().map((c) => [c.data, c.more])).toEqual([
      [77, true],
      [78, false],
    ]);
  });

  it("close completes what waits with EBADF and ends armed calls silently", () => {
    const { port, reap, connection, listener, process, table } = inline();
    const { fd, tcb } = connection();
    tcb.sendRoom = 0;
    const l = listener();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    port.submit(SysOp.awaitWritable, fd, 2, 0);
    port.submit(SysOp.acceptArm, l.fd, 3, 0);
    port.submit(SysOp.close, fd, 4, 0);
    port.submit(SysOp.close, l.fd, 5, 0);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [2, -Errno.EBADF],
      [4, 0],
      [5, 0],
    ]);
    expect(table.counts.waitEntries).toBe(0);
    process.exit();
    expect(table.counts).toMatchObject({ files: 0, sockets: 0, waitEntries: 0, epollItems: 0 });
  });

  it("exit closes everything, withdraws offers and leaves nothing behind", () => {
    const { tcp, port, reap, listener, process, table } = inline();
    const { fd, tcb } = listener();
    port.submit(SysOp.acceptArm, fd, 1, 0);
    tcp.arrive(tcb, 5);
    port.submit(SysOp.exit, -1, 2, 0);
    expect(reap().map((c) => [c.token, c.result])).toEqual([
      [1, 4],
      [2, 0],
    ]);
    expect(tcp.tcbs[0]?.closed).toBe(true);
    expect(table.list()).toEqual([]);
    expect(table.counts).toMatchObject({ files: 0, sockets: 0, waitEntries: 0 });
    expect(process.exited).toBe(true);
    port.submit(SysOp.socket, -1, 3, 0, 2, 1);
    expect(reap()).toMatchObject([{ token: 3, result: -Errno.ESRCH }]);
  });

  it("token 0 is silent on success and still reports failure", () => {
    const { port, reap } = inline();
    port.submit(SysOp.socket, -1, 0, 0, 2, 1);
    port.submit(SysOp.close, 99, 0, 0);
    expect(reap()).toMatchObject([{ token: 0, result: -Errno.EBADF }]);
  });

  it("an unknown operation is EINVAL", () => {
    const { port, reap } = inline();
    port.submit(999 as SysOp, 3, 1, 0);
    expect(reap()).toMatchObject([{ token: 1, result: -Errno.EINVAL }]);
  });
});

describe("costs and tracepoints", () => {
  it("charges one system call per submission, bytes at the copy, one wake-up per sleep", () => {
    const { tcp, port, clock, connection, reap } = inline();
    const { fd, tcb } = connection();
    const charged = new Map<number, number>();
    clock.charge = (kind, units) => void charged.set(kind, (charged.get(kind) ?? 0) + units);
    const at = port.stage(new Uint8Array(100), 0, 100);
    port.submit(SysOp.send, fd, 0, 0, at, 100);
    expect(charged.get(Cost.syscall)).toBe(1);
    expect(charged.get(Cost.copyByte)).toBe(100);
    port.submit(SysOp.receiveArm, fd, 1, 0);
    expect(port.prepareSleep()).toBe(true);
    tcp.deliver(tcb, [1, 2, 3]);
    tcp.deliver(tcb, [4]);
    expect(charged.get(Cost.wakeup)).toBe(1);
    port.awake();
    const [offer] = reap();
    port.copyOut(offer?.address as number, 3, new Uint8Array(3), 0);
    expect(charged.get(Cost.copyByte)).toBe(103);
  });

  it("stamps readerWoken only for traced connections offered to a sleeping process", () => {
    const stamps: (readonly number[])[] = [];
    const trace: Tracepoints = { ...NO_TRACE, mask: 0, stamp: (...args) => void stamps.push(args) };
    const { tcp, port, connection, reap, process } = inline(trace);
    const { fd, tcb } = connection();
    port.submit(SysOp.receiveArm, fd, 1, 0);
    tcp.deliver(tcb, [1]);
    expect(stamps).toEqual([]);
    reap();
    port.prepareSleep();
    tcp.deliver(tcb, [2]);
    expect(stamps).toEqual([[Point.readerWoken, tcb.connId, process.pid, 0]]);
    trace.mask = -1;
    tcp.deliver(tcb, [3]);
    expect(stamps).toHaveLength(1);
  });
});
