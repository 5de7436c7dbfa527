import { describe, expect, it } from "vitest";
import { type FakeTcp, fakeHost } from "../../tests/support/fake-tcp.ts";
import { FakeUdp, type FakeUdpSocket } from "../../tests/support/fake-udp.ts";
import { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import { SocketName } from "./file.ts";
import { ProcessTable } from "./process-table.ts";
import { RingPort } from "./ring-port.ts";
import { RingServer } from "./ring-server.ts";
import { SyscallRings } from "./rings.ts";
import { SysOp } from "./syscall-port.ts";

const PEER = Address.v4(0x0a000002);
const BROADCAST = Address.v4(0xffffffff);

function setUp() {
  const host = fakeHost();
  const tcp: FakeTcp = host.tcp;
  const udp = new FakeUdp(tcp.arena);
  const table = new ProcessTable({ env: host.table.context.env, tcp, udp, ip: { ifindexOf: () => 0 } });
  const process = table.create("p");
  const fd = process.socket(k.AF_INET, k.SOCK_DGRAM);
  const socket = udp.sockets[0] as FakeUdpSocket;
  return { ...host, udp, table, process, fd, socket };
}

describe("datagram sockets", () => {
  it("a fresh one: poll, name, and what it cannot do", () => {
    const { process, fd } = setUp();
    expect(fd).toBe(3);
    expect(process.fileOf(fd)?.poll()).toBe(0x304);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_TYPE)).toBe(k.SOCK_DGRAM);
    expect(process.listen(fd, 1)).toBe(-Errno.EOPNOTSUPP);
    expect(process.accept4(fd)).toBe(-Errno.EOPNOTSUPP);
    expect(process.shutdown(fd, k.SHUT_WR)).toBe(-Errno.ENOTCONN);
    expect(process.getpeername(fd, new SocketName())).toBe(-Errno.ENOTCONN);
    expect(process.recv(fd, new Uint8Array(1), 0, 1)).toBe(-Errno.EAGAIN);
  });

  it("sendto's errno list", () => {
    const { process, fd } = setUp();
    const bytes = new Uint8Array(65508);
    expect(process.send(fd, bytes, 0, 1)).toBe(-Errno.EDESTADDRREQ);
    expect(process.sendto(fd, bytes, 0, 65508, 0, PEER, 9)).toBe(-Errno.EMSGSIZE);
    expect(process.sendto(fd, bytes, 0, 1, 0, PEER, 0)).toBe(-Errno.EINVAL);
    expect(process.sendto(fd, bytes, 0, 1, 0, BROADCAST, 9)).toBe(-Errno.EACCES);
    expect(process.sendto(fd, bytes, 0, 1, 0, new Address(1, 2, 3, 4), 9)).toBe(-Errno.EAFNOSUPPORT);
    expect(process.setsockopt(fd, k.SOL_SOCKET, k.SO_BROADCAST, 1)).toBe(0);
    expect(process.sendto(fd, bytes, 0, 1, 0, BROADCAST, 9)).toBe(1);
    expect(process.sendto(fd, bytes, 0, 0, 0, PEER, 9)).toBe(0);
  });

  it("binds itself at the first send; connect sets the peer and may be repeated", () => {
    const { process, fd, socket } = setUp();
    expect(process.connect(fd, PEER, 53)).toBe(0);
    expect(socket.localPort).toBe(40000);
    expect(process.write(fd, Uint8Array.of(1, 2))).toBe(2);
    expect(process.connect(fd, PEER, 54)).toBe(0);
    process.write(fd, Uint8Array.of(3));
    expect(socket.sent).toEqual([
      { bytes: [1, 2], to: "10.0.0.2:53" },
      { bytes: [3], to: "10.0.0.2:54" },
    ]);
    expect(process.bind(fd, Address.v4(0), 1)).toBe(-Errno.EINVAL);
  });

  it("receives one datagram per call, with its sender; a short buffer loses the rest", () => {
    const { process, fd, udp, socket } = setUp();
    process.bind(fd, Address.v4(0), 53);
    udp.deliver(socket, Uint8Array.of(1, 2, 3), PEER, 7);
    udp.deliver(socket, Uint8Array.of(4), PEER, 8);
    const into = new Uint8Array(8);
    const from = new SocketName();
    expect(process.recvfrom(fd, into, 0, 2, 0, from)).toBe(2);
    expect(from.port).toBe(7);
    expect(process.recvfrom(fd, into, 0, 8, 0, from)).toBe(1);
    expect([into[0], from.port]).toEqual([4, 8]);
  });

  it("ECONNREFUSED from ICMP, once", () => {
    const { process, fd, udp, socket } = setUp();
    process.connect(fd, PEER, 1);
    udp.refuse(socket);
    expect(process.getsockopt(fd, k.SOL_SOCKET, k.SO_ERROR)).toBe(Errno.ECONNREFUSED);
    udp.refuse(socket);
    expect(process.write(fd, new Uint8Array(1))).toBe(-Errno.ECONNREFUSED);
    expect(process.write(fd, new Uint8Array(1))).toBe(1);
  });

  it("SOCK_DGRAM without a UDP below is EPROTONOSUPPORT", () => {
    expect(fakeHost().table.create("p").socket(k.AF_INET, k.SOCK_DGRAM)).toBe(-Errno.EPROTONOSUPPORT);
  });

  it("over rings: recvfrom waits, offers with the sender, is taken; sendto sends", () => {
    const { process, fd, udp, socket, tcp, clock, table } = setUp();
    process.bind(fd, Address.v4(0), 53);
    const rings = new SyscallRings();
    const server = new RingServer(rings, process, { toProcess: () => {} });
    const port = new RingPort(process.pid, rings, tcp.arena, clock, { onSubmit: () => void server.consume() });
    port.submit(SysOp.recvfrom, fd, 1, 0);
    expect(port.reap()).toBe(false);
    udp.deliver(socket, Uint8Array.of(5, 6), PEER, 99);
    udp.deliver(socket, Uint8Array.of(7), PEER, 98);
    expect(port.reap()).toBe(true);
    expect(port.completion).toMatchObject({ token: 1, result: 2, flags: 0, peerPort: 99 });
    const into = new Uint8Array(2);
    port.copyOut(port.completion.address, 2, into, 0);
    expect([...into]).toEqual([5, 6]);
    port.submit(SysOp.recvfrom, fd, 2, 0);
    expect(port.reap() && port.completion.result).toBe(-Errno.EALREADY);
    port.submit(SysOp.receiveTake, fd, 0, 0, 2);
    port.submit(SysOp.recvfrom, fd, 3, 0);
    expect(port.reap() && port.completion.peerPort).toBe(98);
    const at = port.stage(Uint8Array.of(8), 0, 1);
    port.submitWithAddress(SysOp.sendto, fd, 4, 0, PEER, 53, at, 1);
    expect(port.reap() && port.completion.result).toBe(1);
    expect(socket.sent).toEqual([{ bytes: [8], to: "10.0.0.2:53" }]);
    port.submit(SysOp.exit, -1, 0, 0);
    expect(table.counts).toMatchObject({ files: 0, sockets: 0, waitEntries: 0 });
    expect(socket.closed).toBe(true);
  });
});
