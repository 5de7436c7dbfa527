import { describe, expect, it } from "vitest";
import { type FakeTcb, fakeHost } from "../../tests/support/fake-tcp.ts";
import { Address } from "../base/address.ts";
import * as k from "./constants.ts";
import { RingPort } from "./ring-port.ts";
import { RingServer } from "./ring-server.ts";
import { SyscallRings } from "./rings.ts";
import { SyscallLog } from "./strace.ts";
import { formatSyscall } from "./strace-format.ts";
import { SysOp } from "./syscall-port.ts";

describe("system-call log", () => {
  it("tells the story of an accept that had to wait", () => {
    const { tcp, clock, table } = fakeHost({ firstPid: 2 });
    const process = table.create("server");
    const rings = new SyscallRings();
    const server = new RingServer(rings, process, { toProcess: () => {} });
    const port = new RingPort(process.pid, rings, tcp.arena, clock, { onSubmit: () => server.consume() });
    const fd = process.socket(k.AF_INET, k.SOCK_STREAM | k.SOCK_NONBLOCK, k.IPPROTO_TCP);
    process.bind(fd, Address.v4(0), 3000);
    process.listen(fd, 128);
    const listener = tcp.tcbs.at(-1) as FakeTcb;
    table.log.total = 0;
    clock.nowNs = 12_003_417_000;
    port.submit(SysOp.acceptArm, fd, 1, 5);
    clock.nowNs = 12_500_000_000;
    tcp.arrive(listener, 40000);
    port.reap();
    clock.nowNs = 12_500_020_000;
    port.submit(SysOp.acceptTake, fd, 2, 5, port.completion.result);
    const peer = '{sa_family=AF_INET, sin_port=htons(40000), sin_addr="10.0.0.9"}';
    expect(table.log.records().map(formatSyscall)).toEqual([
      "12.003417 [pid 2 g5] accept4(3, …, SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)",
      "12.003417 [pid 2 g5] park fd 3",
      "12.500000 [pid 2 g5] ready fd 3",
      `12.500020 [pid 2 g5] accept4(3, ${peer}, SOCK_NONBLOCK) = 4`,
      "12.500020 [pid 2 g5] accept4(3, …, SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)",
      "12.500020 [pid 2 g5] park fd 3",
    ]);
  });

  it("writes calls as strace does", () => {
    const { table, clock } = fakeHost();
    clock.nowNs = 1_000_000_000;
    const process = table.create("p");
    const fd = process.socket(k.AF_INET, k.SOCK_STREAM | k.SOCK_CLOEXEC | k.SOCK_NONBLOCK, 0);
    process.setsockopt(fd, k.SOL_SOCKET, k.SO_REUSEADDR, 1);
    process.bind(fd, Address.v4(0x7f000001), 80);
    process.listen(fd, 4096);
    process.epollCreate1(k.O_CLOEXEC);
    process.epollCtl(4, k.EPOLL_CTL_ADD, fd, k.EPOLLIN | k.EPOLLOUT | k.EPOLLRDHUP | k.EPOLLET, 9);
    process.fcntl(fd, k.F_GETFL);
    process.shutdown(fd, k.SHUT_WR);
    process.close(77);
    const lines = table.log
      .records()
      .map(formatSyscall)
      .map((line) => line.replace(/^1\.000000 \[pid 1\] /, ""));
    expect(lines).toEqual([
      "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 3",
      "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
      'bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr="127.0.0.1"}, 16) = 0',
      "listen(3, 4096) = 0",
      "epoll_create1(EPOLL_CLOEXEC) = 4",
      "epoll_ctl(4, EPOLL_CTL_ADD, 3, {events=EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET}) = 0",
      "fcntl(3, F_GETFL) = 2050",
      "shutdown(3, SHUT_WR) = 0",
      "close(77) = -1 EBADF (Bad file descriptor)",
    ]);
  });

  it("keeps the last records only, and gives JSON rows after a sequence number", () => {
    const log = new SyscallLog(4);
    for (let i = 1; i <= 6; i++) log.add(i, 1, 0, 11, i, 0, 0, 0, 0);
    expect(log.records().map((r) => r.fd)).toEqual([3, 4, 5, 6]);
    expect(log.records(4, 5)).toEqual([
      { sequence: 6, timeNs: 6, pid: 1, gid: 0, call: "close", fd: 6, args: [0, 0, 0], result: 0 },
    ]);
    expect(log.records(2).map((r) => r.sequence)).toEqual([5, 6]);
    log.enabled = false;
    log.add(7, 1, 0, 11, 7, 0, 0, 0, 0);
    expect(log.total).toBe(6);
  });
});
