import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeHost } from "../../tests/support/fake-tcp.ts";
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";

function pipe() {
  const { table } = fakeHost();
  const process = table.create("p");
  const fds: [number, number] = [0, 0];
  expect(process.pipe2(fds, k.O_NONBLOCK)).toBe(0);
  return { table, process, reader: fds[0], writer: fds[1] };
}

describe("pipe", () => {
  it("carries bytes, is EAGAIN when empty, ends when the writer closes", () => {
    const { process, reader, writer } = pipe();
    const into = new Uint8Array(8);
    expect(process.read(reader, into)).toBe(-Errno.EAGAIN);
    expect(process.write(writer, Uint8Array.of(1, 2, 3))).toBe(3);
    expect(process.read(reader, into, 0, 2)).toBe(2);
    process.close(writer);
    expect(process.read(reader, into)).toBe(1);
    expect(process.read(reader, into)).toBe(0);
  });

  it("holds 64 KiB; writes up to PIPE_BUF are all or nothing, longer ones may be partial", () => {
    const { process, reader, writer } = pipe();
    expect(process.write(writer, new Uint8Array(65536 - 4095))).toBe(65536 - 4095);
    expect(process.write(writer, new Uint8Array(4096))).toBe(-Errno.EAGAIN);
    expect(process.write(writer, new Uint8Array(5000))).toBe(4095);
    expect(process.write(writer, new Uint8Array(1))).toBe(-Errno.EAGAIN);
    expect(process.read(reader, new Uint8Array(1))).toBe(1);
    expect(process.write(writer, new Uint8Array(1))).toBe(1);
  });

  it("says EPIPE without a reader, EBADF at the wrong end, EINVAL and EMFILE when it cannot be made", () => {
    const { process, reader, writer } = pipe();
    expect(process.write(reader, new Uint8Array(1))).toBe(-Errno.EBADF);
    expect(process.read(writer, new Uint8Array(1))).toBe(-Errno.EBADF);
    process.close(reader);
    expect(process.write(writer, new Uint8Array(1))).toBe(-Errno.EPIPE);
    expect(process.pipe2([0, 0], 1)).toBe(-Errno.EINVAL);
    process.fds.setSoftLimit(4);
    expect(process.pipe2([0, 0])).toBe(-Errno.EMFILE);
    process.fds.setSoftLimit(1024);
    const fds: [number, number] = [0, 0];
    process.pipe2(fds);
    expect(fds).toEqual([3, 5]);
  });

  it("polls as Linux: IN, OUT, HUP for the reader, ERR for the writer", () => {
    const { process, reader, writer } = pipe();
    const poll = (fd: number) => process.fileOf(fd)?.poll();
    expect([poll(reader), poll(writer)]).toEqual([0, 0x104]);
    process.write(writer, new Uint8Array(65536));
    expect([poll(reader), poll(writer)]).toEqual([0x41, 0]);
    process.close(writer);
    expect(poll(reader)).toBe(0x51);
    const other = pipe();
    other.process.close(other.reader);
    expect(other.process.fileOf(other.writer)?.poll()).toBe(0x10c);
  });

  it("wakes the other end and leaves nothing behind", () => {
    const { table, process, reader, writer } = pipe();
    const epfd = process.epollCreate1();
    process.epollCtl(epfd, k.EPOLL_CTL_ADD, reader, k.EPOLLIN | k.EPOLLET, 1);
    process.write(writer, new Uint8Array(10));
    expect(process.fileOf(epfd)?.poll()).not.toBe(0);
    process.exit();
    expect(table.counts).toEqual({ files: 0, sockets: 0, waitEntries: 0, epollItems: 0, pipeBytes: 0 });
  });

  it("property: what comes out is what went in, across wraps", () => {
    const step = fc.record({ write: fc.boolean(), n: fc.integer({ min: 1, max: 30000 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { process, reader, writer } = pipe();
        let written = 0;
        let read = 0;
        for (const { write, n } of steps) {
          if (write) {
            const bytes = Uint8Array.from({ length: n }, (_, i) => (written + i) % 251);
            written += Math.max(0, process.write(writer, bytes));
          } else {
            const into = new Uint8Array(n);
            const got = Math.max(0, process.read(reader, into));
            const start = read;
            if (!into.subarray(0, got).every((byte, i) => byte === (start + i) % 251)) throw new Error("bytes differ");
            read += got;
          }
          expect(written - read).toBeLessThanOrEqual(65536);
        }
      }),
      { numRuns: 50 },
    );
  });
});
