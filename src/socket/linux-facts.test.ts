/**
 * What Linux 6.18 answered to the same calls over loopback, asked of our calls over our own TCP and UDP. Every expected
 * value was read from the kernel.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { type Address, parseAddress } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { ManualClock, SECOND } from "../base/time.ts";
import { defaultTopology, Topology } from "../topology.ts";
import * as k from "./constants.ts";
import { EpollEvents } from "./epoll.ts";
import { SocketName } from "./file.ts";
import type { Process } from "./process.ts";
import { socketRows } from "./tables.ts";

const SERVER = parseAddress("198.51.100.10") as Address;
const ANY = parseAddress("0.0.0.0") as Address;

let topology: Topology;
let nowNs: number;
let client: Process;
let server: Process;

/** Lets a second pass on all hosts. */
function settle(): void {
  nowNs += SECOND;
  topology.advance(nowNs);
  for (const host of topology.hosts) host.env.clock.nowNs = Math.max(host.env.clock.nowNs, nowNs);
}

beforeEach(() => {
  nowNs = 1;
  topology = new Topology(defaultTopology(), { seed: 1, clockOf: () => new ManualClock(1) });
  client = topology.host("client").processes.create("client");
  server = topology.host("server").processes.create("server");
});

function listen(port = 80): number {
  const fd = server.socket(k.AF_INET, k.SOCK_STREAM);
  expect(server.bind(fd, ANY, port)).toBe(0);
  expect(server.listen(fd, 5)).toBe(0);
  return fd;
}

/** The client's and the server's descriptor of one connection. */
function connect(): { c: number; s: number; l: number } {
  const l = listen();
  const c = client.socket(k.AF_INET, k.SOCK_STREAM);
  expect(client.connect(c, SERVER, 80)).toBe(-Errno.EINPROGRESS);
  settle();
  const s = server.accept4(l);
  expect(s).toBeGreaterThan(l);
  return { c, s, l };
}

/** The client resets the connection. */
function reset(c: number): void {
  client.setsockopt(c, k.SOL_SOCKET, k.SO_LINGER, 1, 0);
  client.close(c);
  settle();
}

function poll(process: Process, fd: number): number | undefined {
  return process.fileOf(fd)?.poll();
}

const byte = Uint8Array.of(120);

describe("as Linux", () => {
  it("a reset behind bytes: poll 0x215d, bytes, ECONNRESET, end; send EPIPE; poll 0x2155", () => {
    const { c, s } = connect();
    client.write(c, Uint8Array.of(1, 2, 3, 4, 5));
    settle();
    reset(c);
    expect(poll(server, s)).toBe(0x215d);
    const into = new Uint8Array(10);
    expect(server.read(s, into, 0, 3)).toBe(3);
    expect(server.read(s, into)).toBe(2);
    expect(server.read(s, into)).toBe(-Errno.ECONNRESET);
    expect(server.read(s, into)).toBe(0);
    expect([server.write(s, byte), server.write(s, byte)]).toEqual([-Errno.EPIPE, -Errno.EPIPE]);
    expect(poll(server, s)).toBe(0x2155);
    expect(server.getpeername(s, new SocketName())).toBe(-Errno.ENOTCONN);
    expect(server.shutdown(s, k.SHUT_WR)).toBe(-Errno.ENOTCONN);
  });

  it("write after a reset: ECONNRESET, EPIPE; then read gives the end", () => {
    const { c, s } = connect();
    reset(c);
    expect([server.write(s, byte), server.write(s, byte)]).toEqual([-Errno.ECONNRESET, -Errno.EPIPE]);
    expect(server.read(s, new Uint8Array(1))).toBe(0);
  });

  it("SO_ERROR after a reset: 104 once; then write EPIPE, read 0", () => {
    const { c, s } = connect();
    reset(c);
    const errors = [1, 2].map(() => server.getsockopt(s, k.SOL_SOCKET, k.SO_ERROR));
    expect(errors).toEqual([104, 0]);
    expect(server.write(s, byte)).toBe(-Errno.EPIPE);
    expect(server.read(s, new Uint8Array(1))).toBe(0);
  });

  it("a fresh socket polls 0x114, and knows no connection", () => {
    const fd = client.socket(k.AF_INET, k.SOCK_STREAM);
    expect(poll(client, fd)).toBe(0x114);
    expect(client.write(fd, byte)).toBe(-Errno.EPIPE);
    expect(client.read(fd, new Uint8Array(1))).toBe(-Errno.ENOTCONN);
    expect(client.shutdown(fd, k.SHUT_WR)).toBe(-Errno.ENOTCONN);
    expect(client.accept4(fd)).toBe(-Errno.EINVAL);
  });

  it("a listener: send EPIPE, recv ENOTCONN, connect EISCONN, poll 0, bind EINVAL, listen again 0", () => {
    const fd = listen();
    expect(server.write(fd, byte)).toBe(-Errno.EPIPE);
    expect(server.read(fd, new Uint8Array(1))).toBe(-Errno.ENOTCONN);
    expect(server.connect(fd, SERVER, 1)).toBe(-Errno.EISCONN);
    expect(poll(server, fd)).toBe(0);
    expect(server.accept4(fd)).toBe(-Errno.EAGAIN);
    expect(server.bind(fd, ANY, 81)).toBe(-Errno.EINVAL);
    expect(server.listen(fd, 9)).toBe(0);
    expect(server.shutdown(fd, k.SHUT_WR)).toBe(0);
    expect(server.accept4(fd)).toBe(-Errno.EAGAIN);
  });

  it("bind to a foreign address is EADDRNOTAVAIL, to a port that is listened on EADDRINUSE", () => {
    listen();
    const fd = server.socket(k.AF_INET, k.SOCK_STREAM);
    expect(server.bind(fd, parseAddress("9.9.9.9") as Address, 1)).toBe(-Errno.EADDRNOTAVAIL);
    expect(server.bind(fd, ANY, 80)).toBe(-Errno.EADDRINUSE);
  });

  it("refused: poll 0x215d, then ECONNREFUSED from the second connect, SO_ERROR 0", () => {
    const fd = client.socket(k.AF_INET, k.SOCK_STREAM);
    expect(client.connect(fd, SERVER, 1)).toBe(-Errno.EINPROGRESS);
    expect(client.connect(fd, SERVER, 1)).toBe(-Errno.EALREADY);
    settle();
    expect(poll(client, fd)).toBe(0x215d);
    expect(client.connect(fd, SERVER, 1)).toBe(-Errno.ECONNREFUSED);
    expect(client.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(0);
  });

  it("refused, SO_ERROR first: 111, then ECONNABORTED, and the socket can connect after all", () => {
    const fd = client.socket(k.AF_INET, k.SOCK_STREAM);
    client.connect(fd, SERVER, 1);
    settle();
    expect(client.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(111);
    expect(client.connect(fd, SERVER, 1)).toBe(-Errno.ECONNABORTED);
    listen();
    expect(client.connect(fd, SERVER, 80)).toBe(-Errno.EINPROGRESS);
    settle();
    expect([client.connect(fd, SERVER, 80), client.connect(fd, SERVER, 80)]).toEqual([0, -Errno.EISCONN]);
    expect(client.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(0);
  });

  it("shutdown: bytes, the end, poll 0x2145; both ways EPIPE and 0x2155", () => {
    const { c, s } = connect();
    client.write(c, Uint8Array.of(1, 2, 3));
    settle();
    expect(server.shutdown(s, k.SHUT_RD)).toBe(0);
    expect(server.read(s, new Uint8Array(10))).toBe(3);
    expect(server.read(s, new Uint8Array(10))).toBe(0);
    expect(poll(server, s)).toBe(0x2145);
    expect(server.shutdown(s, k.SHUT_WR)).toBe(0);
    expect(server.write(s, byte)).toBe(-Errno.EPIPE);
    expect(poll(server, s)).toBe(0x2155);
  });

  it("a FIN: IN and RDHUP, bytes first, then 0; the other direction still works", () => {
    const { c, s } = connect();
    client.write(c, byte);
    client.shutdown(c, k.SHUT_WR);
    settle();
    expect(poll(server, s)).toBe(0x2145);
    expect([server.read(s, new Uint8Array(9)), server.read(s, new Uint8Array(9))]).toEqual([1, 0]);
    expect(server.write(s, byte)).toBe(1);
    settle();
    expect(client.read(c, new Uint8Array(9))).toBe(1);
  });

  it("a full send queue becomes writable again and epoll hears of it, also one that only asked", () => {
    const { c, s } = connect();
    const epfd = client.epollCreate1();
    client.epollCtl(epfd, k.EPOLL_CTL_ADD, c, k.EPOLLOUT | k.EPOLLET, 7);
    const events = new EpollEvents(4);
    expect(client.epollWait(epfd, events)).toBe(1);
    const chunk = new Uint8Array(16384);
    let sent = 0;
    for (let n = 1; n > 0 || n === -Errno.EAGAIN; ) {
      n = client.write(c, chunk);
      if (n > 0) sent += n;
      else settle();
      if (n === -Errno.EAGAIN && client.write(c, chunk) === -Errno.EAGAIN) break;
    }
    client.epollWait(epfd, events);
    expect(poll(client, c)).toBe(0);
    let read = 0;
    for (let idle = 0; idle < 3; ) {
      const n = server.read(s, new Uint8Array(65536));
      if (n > 0) read += n;
      else {
        settle();
        idle++;
      }
    }
    expect(read).toBeGreaterThanOrEqual(sent);
    expect(client.epollWait(epfd, events)).toBe(1);
    expect(events.events[0]).toBe(k.EPOLLOUT);
  });

  it("edge-triggered: OUT, then IN|OUT at every arrival whether or not the reader drained", () => {
    const { c, s } = connect();
    const epfd = server.epollCreate1();
    const events = new EpollEvents(4);
    const wait = () => (server.epollWait(epfd, events) === 0 ? 0 : events.events[0]);
    server.epollCtl(epfd, k.EPOLL_CTL_ADD, s, k.EPOLLIN | k.EPOLLOUT | k.EPOLLET, 4);
    expect([wait(), wait()]).toEqual([k.EPOLLOUT, 0]);
    client.write(c, new Uint8Array(4000));
    settle();
    expect([wait(), wait()]).toEqual([k.EPOLLIN | k.EPOLLOUT, 0]);
    server.read(s, new Uint8Array(1000));
    expect(wait()).toBe(0);
    client.write(c, new Uint8Array(2000));
    settle();
    expect([wait(), wait()]).toEqual([k.EPOLLIN | k.EPOLLOUT, 0]);
  });

  it("UDP: poll 0x345 and a datagram with its sender, ECONNREFUSED once from a closed port", () => {
    const s = server.socket(k.AF_INET, k.SOCK_DGRAM);
    const c = client.socket(k.AF_INET, k.SOCK_DGRAM);
    expect(server.bind(s, ANY, 53)).toBe(0);
    expect(client.sendto(c, byte, 0, 1, 0, SERVER, 53)).toBe(1);
    settle();
    expect(poll(server, s)).toBe(0x345);
    const from = new SocketName();
    expect(server.recvfrom(s, new Uint8Array(9), 0, 9, 0, from)).toBe(1);
    expect(from.address.toString()).toBe("192.0.2.10");
    expect(client.connect(c, SERVER, 54)).toBe(0);
    expect(client.write(c, byte)).toBe(1);
    settle();
    expect([client.write(c, byte), client.write(c, byte)]).toEqual([-Errno.ECONNREFUSED, 1]);
  });

  it("options of the socket and of TCP", () => {
    const { s, l } = connect();
    expect(server.getsockopt(l, k.SOL_SOCKET, k.SO_ACCEPTCONN)).toBe(1);
    expect(server.getsockopt(s, k.SOL_SOCKET, k.SO_ACCEPTCONN)).toBe(0);
    expect(server.setsockopt(s, k.IPPROTO_TCP, k.TCP_NODELAY, 1)).toBe(0);
    expect(server.getsockopt(s, k.IPPROTO_TCP, k.TCP_NODELAY)).toBe(1);
    expect(server.setsockopt(s, k.SOL_SOCKET, 9999, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(server.setsockopt(s, k.IPPROTO_TCP, 9999, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(server.setsockopt(s, 99, 1, 1)).toBe(-Errno.ENOPROTOOPT);
    expect(server.getsockopt(s, 99, 1)).toBe(-Errno.EOPNOTSUPP);
    expect(server.bindToDevice(l, "nodev")).toBe(-Errno.ENODEV);
    expect(server.bindToDevice(l, "eth0")).toBe(0);
  });

  it("ss names the owners of both ends", () => {
    const { c, s, l } = connect();
    const rows = (name: string) => socketRows(topology.host(name).processes).map((r) => r.owners.map((o) => o.fd));
    expect(rows("server").sort()).toEqual([[l], [s]]);
    expect(rows("client")).toEqual([[c]]);
  });
});
