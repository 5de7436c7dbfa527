import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeHost } from "../../tests/support/fake-tcp.ts";
import { Errno } from "../base/errno.ts";

describe("descriptors", () => {
  it("the first user descriptor is 3", () => {
    expect(fakeHost().table.create("p").socket(2, 1)).toBe(3);
  });

  it("property: always the lowest free number, EMFILE at the limit", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constantFrom("open", "dup"), fd: fc.nat(20) }),
      fc.record({ do: fc.constant("close"), fd: fc.nat(20) }),
      fc.record({ do: fc.constant("limit"), fd: fc.nat(20) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const process = fakeHost().table.create("p");
        const open = new Set([0, 1, 2]);
        let limit = 1024;
        const lowest = () => {
          let fd = 0;
          while (open.has(fd)) fd++;
          return fd < limit ? fd : -Errno.EMFILE;
        };
        for (const s of steps) {
          if (s.do === "limit") {
            limit = s.fd;
            expect(process.fds.setSoftLimit(limit)).toBe(0);
          } else if (s.do === "close") {
            expect(process.close(s.fd)).toBe(open.delete(s.fd) ? 0 : -Errno.EBADF);
          } else {
            const expected = s.do === "dup" && !open.has(s.fd) ? -Errno.EBADF : lowest();
            const fd = s.do === "dup" ? process.dup(s.fd) : process.socket(2, 1);
            expect(fd).toBe(expected);
            if (fd >= 0) open.add(fd);
          }
          expect(process.fds.entries().map((e) => e.fd)).toEqual([...open].sort((a, b) => a - b));
          expect(process.fds.size).toBe(open.size);
        }
      }),
    );
  });

  it("a reserved descriptor is skipped until it is given back", () => {
    const { fds } = fakeHost().table.create("p");
    expect(fds.reserve()).toBe(3);
    expect(fds.lowestFree()).toBe(4);
    fds.unreserve(3);
    expect(fds.lowestFree()).toBe(3);
  });

  it("the limit is 1024 and can be set", () => {
    const { fds } = fakeHost().table.create("p");
    expect(fds.softLimit).toBe(1024);
    expect(fds.setSoftLimit(-1)).toBe(-Errno.EINVAL);
    expect(fds.setSoftLimit(1048577)).toBe(-Errno.EINVAL);
  });

  it("a file closes with its last descriptor", () => {
    const { table } = fakeHost();
    const process = table.create("p");
    const fd = process.socket(2, 1);
    const copy = process.dup(fd);
    process.close(fd);
    expect(table.counts.sockets).toBe(1);
    process.close(copy);
    expect(table.counts.sockets).toBe(0);
  });
});
