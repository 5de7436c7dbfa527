import { describe, expect, it } from "vitest";
import { type FakeTcb, FakeTcp, fakeHost } from "../../tests/support/fake-tcp.ts";
import { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import { EpollEvents } from "./epoll.ts";
import { SocketName } from "./file.ts";
import type { FileSystem } from "./file-system.ts";
import { ProcessTable } from "./process-table.ts";

const PEER = Address.v4(0x0a000002);

function setUp() {
  const host = fakeHost();
  const process = host.table.create("p");
  const last = () => host.tcp.tcbs.at(-1) as FakeTcb;
  const stream = () => process.socket(k.AF_INET, k.SOCK_STREAM);
  const listener = (port = 80) => {
    const fd = stream();
    process.bind(fd, Address.v4(0), port);
    process.listen(fd, 10);
    return { fd, tcb: last() };
  };
  const connection = () => {
    const l = listener();
    host.tcp.arrive(l.tcb, 999);
    const tcb = last();
    return { fd: process.accept4(l.fd), tcb };
  };
  const pipe = () => {
    const fds: [number, number] = [0, 0];
    process.pipe2(fds);
    return fds;
  };
  const poll = (fd: number) => process.fileOf(fd)?.poll();
  return { ...host, process, last, stream, listener, connection, pipe, poll };
}

// The expected errno of every row was read from Linux 6.18 with the same calls.
describe("socket(2)", () => {
  it.each([
    [99, 1, 0, Errno.EAFNOSUPPORT],
    [-1, 1, 0, Errno.EAFNOSUPPORT],
    [k.AF_INET, 99, 0, Errno.EINVAL],
    [k.AF_INET, 1 | 0o100, 0, Errno.EINVAL],
    [k.AF_INET, 1, 300, Errno.EINVAL],
    [k.AF_INET, 1, 17, Errno.EPROTONOSUPPORT],
    [k.AF_INET, 3, 0, Errno.EPROTONOSUPPORT],
    [k.AF_INET, 5, 0, Errno.ESOCKTNOSUPPORT],
  ])("socket(%i, %i, %i) fails with %i", (domain, type, protocol, errno) => {
    expect(setUp().process.socket(domain, type, protocol)).toBe(-errno);
  });

  it("EMFILE at the limit, but a bad family first", () => {
    const { process } = setUp();
    process.fds.setSoftLimit(3);
    expect(process.socket(k.AF_INET, k.SOCK_STREAM)).toBe(-Errno.EMFILE);
    expect(process.socket(99, 1)).toBe(-Errno.EAFNOSUPPORT);
  });

  it("a fresh socket: options, name, poll", () => {
    const { process, stream, poll } = setUp();
    const fd = stream();
    const name = new SocketName();
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_TYPE)).toBe(k.SOCK_STREAM);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_DOMAIN)).toBe(k.AF_INET);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_PROTOCOL)).toBe(k.IPPROTO_TCP);
    expect(process.getsockname(fd, name)).toBe(0);
    expect([name.address.toString(), name.port]).toEqual(["0.0.0.0", 0]);
    expect(poll(fd)).toBe(0x114);
  });
});

describe("calls on what is no socket", () => {
  it.each<[string, (p: ReturnType<typeof setUp>["process"], fd: number) => number]>([
    ["bind", (p, fd) => p.bind(fd, PEER, 1)],
    ["listen", (p, fd) => p.listen(fd, 1)],
    ["accept4", (p, fd) => p.accept4(fd)],
    ["connect", (p, fd) => p.connect(fd, PEER, 1)],
    ["shutdown", (p, fd) => p.shutdown(fd, 9)],
    ["send", (p, fd) => p.send(fd, new Uint8Array(1), 0, 1)],
    ["recv", (p, fd) => p.recv(fd, new Uint8Array(1), 0, 1)],
    ["sendto", (p, fd) => p.sendto(fd, new Uint8Array(1), 0, 1, 0, PEER, 1)],
    ["recvfrom", (p, fd) => p.recvfrom(fd, new Uint8Array(1), 0, 1, 0, null)],
    ["setsockopt", (p, fd) => p.setsockopt(fd, 1, 2, 0)],
    ["getsockopt", (p, fd) => p.getsockopt(fd, 1, 2)],
    ["getsockname", (p, fd) => p.getsockname(fd, new SocketName())],
    ["getpeername", (p, fd) => p.getpeername(fd, new SocketName())],
    ["bindToDevice", (p, fd) => p.bindToDevice(fd, "eth0")],
  ])("%s is EBADF without a file and ENOTSOCK on a pipe", (_name, call) => {
    const { process, pipe } = setUp();
    expect(call(process, 99)).toBe(-Errno.EBADF);
    expect(call(process, pipe()[0])).toBe(-Errno.ENOTSOCK);
  });

  it("read, write, close, dup, fcntl of nothing are EBADF", () => {
    const { process } = setUp();
    expect(process.read(9, new Uint8Array(1))).toBe(-Errno.EBADF);
    expect(process.write(9, new Uint8Array(1))).toBe(-Errno.EBADF);
    expect([process.close(9), process.dup(9), process.fcntl(9, k.F_GETFL)]).toEqual([-9, -9, -9]);
  });
});

describe("bind(2), listen(2)", () => {
  it("EINVAL when bound, EADDRNOTAVAIL, EADDRINUSE, EAFNOSUPPORT", () => {
    const { process, stream } = setUp();
    const fd = stream();
    expect(process.bind(fd, Address.v4(0x09090909), 1)).toBe(-Errno.EADDRNOTAVAIL);
    expect(process.bind(fd, Address.v4(0), 80)).toBe(0);
    expect(process.bind(fd, Address.v4(0), 81)).toBe(-Errno.EINVAL);
    expect(process.bind(stream(), Address.v4(0), 80)).toBe(-Errno.EADDRINUSE);
    expect(process.bind(stream(), new Address(0x20010db8, 0, 0, 1), 80)).toBe(-Errno.EAFNOSUPPORT);
  });

  it("listen binds an ephemeral port, may be called again, and is EINVAL when connected", () => {
    const { process, stream, connection, last } = setUp();
    const fd = stream();
    expect(process.listen(fd, 5)).toBe(0);
    expect(last().localPort).toBeGreaterThan(0);
    expect(process.listen(fd, 7)).toBe(0);
    expect(last().backlog).toBe(7);
    expect(process.bind(fd, Address.v4(0), 1)).toBe(-Errno.EINVAL);
    expect(process.listen(connection().fd, 1)).toBe(-Errno.EINVAL);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ACCEPTCONN)).toBe(1);
  });
});

describe("accept4(2)", () => {
  it("EAGAIN when empty, then the oldest connection with its peer", () => {
    const { process, listener, tcp } = setUp();
    const { fd, tcb } = listener();
    expect(process.accept4(fd)).toBe(-Errno.EAGAIN);
    tcp.arrive(tcb, 1);
    tcp.arrive(tcb, 2);
    const peer = new SocketName();
    expect(process.accept4(fd, k.SOCK_NONBLOCK, peer)).toBe(4);
    expect(peer.port).toBe(1);
    expect(process.fcntl(4, k.F_GETFL)).toBe(k.O_RDWR | k.O_NONBLOCK);
    expect(process.accept4(fd)).toBe(5);
    expect(process.fcntl(5, k.F_GETFL)).toBe(k.O_RDWR);
  });

  it("EINVAL for flags and when not listening; EMFILE even when empty and before ENOTSOCK, but after EINVAL", () => {
    const { process, listener, stream, pipe } = setUp();
    const { fd } = listener();
    expect(process.accept4(fd, 1)).toBe(-Errno.EINVAL);
    expect(process.accept4(stream())).toBe(-Errno.EINVAL);
    const [reader] = pipe();
    process.fds.setSoftLimit(4);
    expect(process.accept4(fd)).toBe(-Errno.EMFILE);
    expect(process.accept4(reader)).toBe(-Errno.EMFILE);
    expect(process.accept4(fd, 1)).toBe(-Errno.EINVAL);
  });
});

describe("connect(2)", () => {
  it("EINPROGRESS, EALREADY, 0 once, EISCONN; SO_ERROR is 0", () => {
    const { process, stream, last, tcp, poll } = setUp();
    const fd = stream();
    expect(process.connect(fd, PEER, 80)).toBe(-Errno.EINPROGRESS);
    expect(process.connect(fd, PEER, 80)).toBe(-Errno.EALREADY);
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.EAGAIN);
    expect(process.read(fd, new Uint8Array(1))).toBe(-Errno.EAGAIN);
    expect(poll(fd)).toBe(0);
    expect(process.getpeername(fd, new SocketName())).toBe(-Errno.ENOTCONN);
    tcp.answer(last());
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(0);
    expect(process.connect(fd, PEER, 80)).toBe(0);
    expect(process.connect(fd, PEER, 80)).toBe(-Errno.EISCONN);
  });

  it("refused: poll shows it, the second connect tells it, the socket can be used again", () => {
    const { process, stream, last, tcp, poll } = setUp();
    const fd = stream();
    process.connect(fd, PEER, 1);
    tcp.answer(last());
    expect(poll(fd)).toBe(0x201d | 0x140);
    expect(process.connect(fd, PEER, 1)).toBe(-Errno.ECONNREFUSED);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(0);
    expect(process.connect(fd, PEER, 80)).toBe(-Errno.EINPROGRESS);
  });

  it("ECONNABORTED when SO_ERROR took the reason", () => {
    const { process, stream, last, tcp } = setUp();
    const fd = stream();
    process.connect(fd, PEER, 1);
    tcp.answer(last());
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(Errno.ECONNREFUSED);
    expect(process.connect(fd, PEER, 1)).toBe(-Errno.ECONNABORTED);
  });

  it("EISCONN on a listener, EAFNOSUPPORT for an IPv6 address on AF_INET", () => {
    const { process, listener, stream } = setUp();
    expect(process.connect(listener().fd, PEER, 1)).toBe(-Errno.EISCONN);
    expect(process.connect(stream(), new Address(1, 2, 3, 4), 1)).toBe(-Errno.EAFNOSUPPORT);
  });
});

describe("reading and writing a stream", () => {
  it("never connected: ENOTCONN, EPIPE; a listener the same", () => {
    const { process, stream, listener } = setUp();
    for (const fd of [stream(), listener().fd]) {
      expect(process.read(fd, new Uint8Array(1))).toBe(-Errno.ENOTCONN);
      expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.EPIPE);
      expect(process.getpeername(fd, new SocketName())).toBe(-Errno.ENOTCONN);
    }
  });

  it("reset with bytes queued: the bytes, ECONNRESET once, then the end; writes EPIPE", () => {
    const { process, connection, tcp, poll } = setUp();
    const { fd, tcb } = connection();
    tcp.deliver(tcb, [1, 2, 3, 4, 5]);
    tcp.reset(tcb);
    expect(poll(fd)).toBe(0x215d);
    const into = new Uint8Array(10);
    expect(process.read(fd, into, 0, 3)).toBe(3);
    expect(process.read(fd, into)).toBe(2);
    expect(process.read(fd, into)).toBe(-Errno.ECONNRESET);
    expect(process.read(fd, into)).toBe(0);
    expect(process.write(fd, into)).toBe(-Errno.EPIPE);
    expect(poll(fd)).toBe(0x2155);
    expect(process.shutdown(fd, k.SHUT_WR)).toBe(-Errno.ENOTCONN);
    expect(process.getpeername(fd, new SocketName())).toBe(-Errno.ENOTCONN);
  });

  it("write after a reset: ECONNRESET once, then EPIPE; the reader then gets the end", () => {
    const { process, connection, tcp } = setUp();
    const { fd, tcb } = connection();
    tcp.reset(tcb);
    const bytes = new Uint8Array(1);
    expect(process.write(fd, bytes)).toBe(-Errno.ECONNRESET);
    expect(process.write(fd, bytes)).toBe(-Errno.EPIPE);
    expect(process.read(fd, bytes)).toBe(0);
  });

  it("SO_ERROR takes the error: write is EPIPE, read the end", () => {
    const { process, connection, tcp } = setUp();
    const { fd, tcb } = connection();
    tcp.reset(tcb);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(Errno.ECONNRESET);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(0);
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.EPIPE);
    expect(process.read(fd, new Uint8Array(1))).toBe(0);
  });

  it("shutdown: the way, the reader's end, the writer's EPIPE, the poll bits", () => {
    const { process, connection, tcp, stream, poll } = setUp();
    const { fd, tcb } = connection();
    expect(process.shutdown(fd, 3)).toBe(-Errno.EINVAL);
    expect(process.shutdown(stream(), k.SHUT_WR)).toBe(-Errno.ENOTCONN);
    tcp.deliver(tcb, [1, 2, 3]);
    expect(process.shutdown(fd, k.SHUT_RD)).toBe(0);
    expect(process.read(fd, new Uint8Array(10))).toBe(3);
    expect(process.read(fd, new Uint8Array(10))).toBe(0);
    expect(poll(fd)).toBe(0x2145);
    process.shutdown(fd, k.SHUT_WR);
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.EPIPE);
    expect(poll(fd)).toBe(0x2155);
  });

  it("a full send queue: partial, then EAGAIN", () => {
    const { process, connection } = setUp();
    const { fd, tcb } = connection();
    tcb.sendRoom = 10;
    expect(process.send(fd, new Uint8Array(16), 0, 16)).toBe(10);
    expect(process.send(fd, new Uint8Array(16), 0, 16)).toBe(-Errno.EAGAIN);
    expect(process.send(fd, new Uint8Array(1), 0, 1, k.MSG_OOB)).toBe(-Errno.EOPNOTSUPP);
  });
});

describe("options", () => {
  it("ENOPROTOOPT for what does not exist or cannot be set, EOPNOTSUPP for an unknown level", () => {
    const { process, connection } = setUp();
    const { fd } = connection();
    expect(process.setsockopt(fd, k.SOL_SOCKET, 9999, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(process.setsockopt(fd, k.IPPROTO_TCP, 9999, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(process.setsockopt(fd, k.SOL_SOCKET, k.SO_ERROR, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(process.setsockopt(fd, k.SOL_SOCKET, k.SO_TYPE, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(process.getsockopt(fd, 99, 1)).toBe(-Errno.EOPNOTSUPP);
  });

  it("SO_REUSEPORT reaches bind, bindToDevice knows devices by name", () => {
    const { process, listener, stream } = setUp();
    listener(80);
    const fd = stream();
    expect(process.setsockopt(fd, k.SOL_SOCKET, k.SO_REUSEPORT, 1)).toBe(0);
    expect(process.bind(fd, Address.v4(0), 80)).toBe(0);
    expect(process.bindToDevice(fd, "nodev")).toBe(-Errno.ENODEV);
    expect(process.bindToDevice(fd, "eth0")).toBe(0);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_BINDTOIFINDEX)).toBe(2);
    expect(process.bindToDevice(fd, "")).toBe(0);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_BINDTOIFINDEX)).toBe(0);
  });

  it("fcntl: F_GETFL, F_SETFL sets O_NONBLOCK only, EINVAL", () => {
    const { process, stream } = setUp();
    const fd = stream();
    expect(process.fcntl(fd, k.F_GETFL)).toBe(k.O_RDWR);
    expect(process.fcntl(fd, k.F_SETFL, k.O_NONBLOCK | k.O_WRONLY)).toBe(0);
    expect(process.fcntl(fd, k.F_GETFL)).toBe(k.O_RDWR | k.O_NONBLOCK);
    expect(process.fcntl(fd, 9999)).toBe(-Errno.EINVAL);
  });
});

describe("epoll calls", () => {
  it("errno lists of epoll_create1, epoll_ctl, epoll_wait, read, write", () => {
    const { process, stream } = setUp();
    const fd = stream();
    expect(process.epollCreate1(1)).toBe(-Errno.EINVAL);
    const epfd = process.epollCreate1(k.O_CLOEXEC);
    const ctl = (ep: number, op: number, target: number) => process.epollCtl(ep, op, target, k.EPOLLIN, 0);
    expect(ctl(99, k.EPOLL_CTL_ADD, fd)).toBe(-Errno.EBADF);
    expect(ctl(epfd, k.EPOLL_CTL_ADD, 99)).toBe(-Errno.EBADF);
    expect(ctl(epfd, k.EPOLL_CTL_ADD, epfd)).toBe(-Errno.EINVAL);
    expect(ctl(fd, k.EPOLL_CTL_ADD, fd)).toBe(-Errno.EINVAL);
    const out = new EpollEvents(4);
    expect(process.epollWait(99, out, 0)).toBe(-Errno.EINVAL);
    expect(process.epollWait(99, out)).toBe(-Errno.EBADF);
    expect(process.epollWait(fd, out)).toBe(-Errno.EINVAL);
    expect(process.read(epfd, new Uint8Array(1))).toBe(-Errno.EINVAL);
    expect(process.write(epfd, new Uint8Array(1))).toBe(-Errno.EINVAL);
    process.fds.setSoftLimit(3);
    expect(process.epollCreate1()).toBe(-Errno.EMFILE);
  });

  it("edge-triggered on a connection: OUT first, IN again whenever bytes arrive, read or not", () => {
    const { process, connection, tcp } = setUp();
    const { fd, tcb } = connection();
    const epfd = process.epollCreate1();
    const out = new EpollEvents(4);
    const wait = () => (process.epollWait(epfd, out) === 1 ? out.events[0] : 0);
    process.epollCtl(epfd, k.EPOLL_CTL_ADD, fd, k.EPOLLIN | k.EPOLLOUT | k.EPOLLET, 4);
    expect([wait(), wait()]).toEqual([k.EPOLLOUT, 0]);
    tcp.deliver(tcb, new Uint8Array(4000));
    expect([wait(), wait()]).toEqual([k.EPOLLIN | k.EPOLLOUT, 0]);
    process.read(fd, new Uint8Array(1000));
    expect(wait()).toBe(0);
    tcp.deliver(tcb, new Uint8Array(2000));
    expect([wait(), wait()]).toEqual([k.EPOLLIN | k.EPOLLOUT, 0]);
  });
});

describe("files", () => {
  const files: FileSystem = {
    open: (path) =>
      path === "/a"
        ? {
            sizeBytes: 3,
            read: (position, into, at, len) => {
              const part = Uint8Array.of(7, 8, 9).subarray(position, position + len);
              into.set(part, at);
              return part.length;
            },
            close: () => {},
          }
        : -Errno.ENOENT,
  };

  it("open and read through the FileSystem port; EPERM for epoll", () => {
    const { table, tcp, clock } = fakeHost();
    const ip = { ifindexOf: () => 0 };
    const process = new ProcessTable({ env: { ...table.context.env, clock }, tcp, ip, files }).create("p");
    const fd = process.open("/a");
    const into = new Uint8Array(4);
    expect([process.read(fd, into, 0, 2), process.read(fd, into, 2, 2), process.read(fd, into)]).toEqual([2, 1, 0]);
    expect([...into]).toEqual([7, 8, 9, 0]);
    expect(process.write(fd, into)).toBe(-Errno.EBADF);
    expect(process.epollCtl(process.epollCreate1(), k.EPOLL_CTL_ADD, fd, k.EPOLLIN, 0)).toBe(-Errno.EPERM);
    expect(process.open("/b")).toBe(-Errno.ENOENT);
    expect(process.open("/a", k.O_RDWR)).toBe(-Errno.EACCES);
  });

  it("without a file system every path is ENOENT", () => {
    expect(setUp().process.open("/a")).toBe(-Errno.ENOENT);
  });
});

describe("life", () => {
  it("exit closes everything and leaves the table", () => {
    const { process, table, connection, pipe, tcp } = setUp();
    const { fd } = connection();
    process.dup(fd);
    pipe();
    process.epollCtl(process.epollCreate1(), k.EPOLL_CTL_ADD, fd, k.EPOLLIN, 0);
    expect(new FakeTcp().tcbs).toEqual([]);
    process.exit();
    process.exit();
    expect(table.get(process.pid)).toBeUndefined();
    expect(table.counts).toEqual({ files: 0, sockets: 0, waitEntries: 0, epollItems: 0, pipeBytes: 0 });
    expect(tcp.tcbs.filter((t) => !t.closed)).toEqual([]);
  });
});
