import { describe, expect, it } from "vitest";
import { type FakeTcb, fakeHost } from "../../tests/support/fake-tcp.ts";
import { Address } from "../base/address.ts";
import type { SocketRow } from "../transport/port.ts";
import * as k from "./constants.ts";
import { fdRows, processRows, socketRows } from "./tables.ts";

function row(tcb: FakeTcb): SocketRow {
  return {
    protocol: "tcp",
    state: "",
    receiveQueue: 0,
    sendQueue: 0,
    localAddress: tcb.localAddress.toString(),
    localPort: tcb.localPort,
    remoteAddress: tcb.remoteAddress.toString(),
    remotePort: tcb.remotePort,
  };
}

describe("tables", () => {
  it("ss knows who owns a socket, also several of one port, and leaves orphans alone", () => {
    const { tcp, table } = fakeHost();
    tcp.rows = () => tcp.tcbs.map(row);
    const a = table.create("a");
    const b = table.create("b");
    for (const process of [a, b]) {
      const fd = process.socket(k.AF_INET, k.SOCK_STREAM);
      process.setsockopt(fd, k.SOL_SOCKET, k.SO_REUSEPORT, 1);
      process.bind(fd, Address.v4(0), 80);
      process.listen(fd, 1);
    }
    tcp.arrive(tcp.tcbs[0] as FakeTcb, 5);
    tcp.arrive(tcp.tcbs[0] as FakeTcb, 6);
    a.dup(a.accept4(3));
    expect(socketRows(table).map((r) => r.owners)).toEqual([
      [{ process: "a", pid: 1, fd: 3 }],
      [{ process: "b", pid: 2, fd: 3 }],
      [
        { process: "a", pid: 1, fd: 4 },
        { process: "a", pid: 1, fd: 5 },
      ],
      [],
    ]);
  });

  it("fd tables and processes", () => {
    const { tcp, table } = fakeHost();
    const process = table.create("server");
    const fd = process.socket(k.AF_INET, k.SOCK_STREAM | k.SOCK_NONBLOCK);
    process.bind(fd, Address.v4(0x0a000002), 80);
    process.listen(fd, 1);
    tcp.arrive(tcp.tcbs[0] as FakeTcb, 1234);
    const epfd = process.epollCreate1();
    process.epollCtl(epfd, k.EPOLL_CTL_ADD, fd, k.EPOLLIN, 0);
    process.accept4(fd);
    const rows = fdRows(process);
    expect(rows.map((r) => [r.fd, r.kind, r.detail])).toEqual([
      [0, "tty", ""],
      [1, "tty", ""],
      [2, "tty", ""],
      [3, "tcp", "10.0.0.2:80"],
      [4, "epoll", "1 file"],
      [5, "tcp", "10.0.0.2:80 → 10.0.0.9:1234"],
    ]);
    expect(rows[3]).toMatchObject({
      flags: k.O_RDWR | k.O_NONBLOCK,
      target: expect.stringMatching(/^socket:\[\d+\]$/),
    });
    expect(processRows(table)).toEqual([{ pid: 1, name: "server", fds: 6, fdLimit: 1024, sockets: 2 }]);
  });
});
