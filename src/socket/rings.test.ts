import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type FakeTcb, fakeHost } from "../../tests/support/fake-tcp.ts";
import { Errno } from "../base/errno.ts";
import { ManualClock } from "../base/time.ts";
import { RingPort } from "./ring-port.ts";
import { RingServer } from "./ring-server.ts";
import { type RingSizes, SyscallRings } from "./rings.ts";
import { SysOp } from "./syscall-port.ts";

/** The two sides over one memory, each with views of its own, as two threads have them. */
function twoSides(sizes: RingSizes) {
  const host = fakeHost();
  const process = host.table.create("p");
  const kernelRings = SyscallRings.shared(sizes);
  const processRings = new SyscallRings(sizes, kernelRings.buffer);
  let doorbells = 0;
  let notified = 0;
  const server = new RingServer(kernelRings, process, { toProcess: () => notified++ });
  const port = new RingPort(process.pid, processRings, host.tcp.arena, new ManualClock(1), {
    toKernel: () => doorbells++,
  });
  return { host, process, server, port, doorbells: () => doorbells, notified: () => notified };
}

const SMALL: RingSizes = { submissions: 4, completions: 2, stagingBytes: 64 };

describe("SyscallRings", () => {
  it("refuses sizes that are no power of two", () => {
    expect(() => new SyscallRings({ submissions: 3, completions: 4, stagingBytes: 64 })).toThrow("powers of two");
  });

  it("in the kernel's thread the answer to the newest call can be taken at once, and does not come again", () => {
    const host = fakeHost();
    const process = host.table.create("p");
    const rings = new SyscallRings(SMALL);
    const server = new RingServer(rings, process, { toProcess: () => {} });
    const port = new RingPort(process.pid, rings, host.tcp.arena, new ManualClock(1), {
      onSubmit: () => void server.consume(),
    });
    expect(port.reapNewest(7)).toBe(false);
    port.submit(SysOp.nop, -1, 7, 0);
    expect([port.reapNewest(8), port.reapNewest(7), port.completion.result]).toEqual([false, true, 0]);
    expect([port.reap(), port.reapNewest(7)]).toEqual([false, false]);
    // An older one waits: it keeps its place.
    port.submit(SysOp.nop, -1, 1, 0);
    port.submit(SysOp.close, 99, 2, 0);
    expect([port.reapNewest(2), port.completion.token, port.completion.result]).toEqual([true, 2, -Errno.EBADF]);
    const reaped: number[] = [];
    while (port.reap()) reaped.push(port.completion.token);
    expect(reaped.filter((token) => token > 0)).toEqual([1]);
  });

  it("in a thread of its own nobody's answer is taken out of turn", () => {
    const { server, port } = twoSides(SMALL);
    port.submit(SysOp.nop, -1, 7, 0);
    server.consume();
    expect(port.reapNewest(7)).toBe(false);
    expect([port.reap(), port.completion.token]).toEqual([true, 7]);
  });

  it("every submission completes once, in order, whatever the interleaving and however small the rings", () => {
    const step = fc.constantFrom("submit", "consume", "reap", "flush");
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), (steps) => {
        const { server, port } = twoSides(SMALL);
        const reaped: number[] = [];
        let submitted = 0;
        const reap = () => {
          if (!port.reap()) return false;
          reaped.push(port.completion.token);
          return true;
        };
        for (const s of steps) {
          if (s === "submit" && port.submit(SysOp.nop, -1, submitted + 1, 0)) submitted++;
          if (s === "consume") server.consume(3);
          if (s === "reap") reap();
          if (s === "flush") port.flush();
          expect(port.rings.submitted).toBeLessThanOrEqual(SMALL.submissions);
          expect(port.rings.completed).toBeLessThanOrEqual(SMALL.completions);
        }
        for (let idle = 0; idle < 2; ) {
          const did = server.consume();
          let got = 0;
          while (reap()) got++;
          idle = did === 0 && got === 0 ? idle + 1 : 0;
        }
        expect(reaped).toEqual(Array.from({ length: submitted }, (_, i) => i + 1));
      }),
    );
  });

  it("a full completion ring holds back submissions instead of growing without bound", () => {
    const { server, port } = twoSides({ submissions: 64, completions: 4, stagingBytes: 64 });
    for (let i = 1; i <= 64; i++) expect(port.submit(SysOp.nop, -1, i, 0)).toBe(true);
    server.consume(1000);
    // 4 in the ring, 4 overflowed, the rest not consumed.
    expect(port.rings.completed).toBe(4);
    expect(port.rings.submitted).toBe(56);
  });

  it("asks the kernel for what overflowed as soon as the ring is empty", () => {
    const { server, port, doorbells } = twoSides({ submissions: 8, completions: 2, stagingBytes: 64 });
    for (let i = 1; i <= 4; i++) port.submit(SysOp.nop, -1, i, 0);
    port.flush();
    server.consume();
    expect(doorbells()).toBe(1);
    expect([port.reap(), port.reap(), port.reap()]).toEqual([true, true, false]);
    expect(doorbells()).toBe(2);
    server.consume();
    expect([port.reap(), port.reap(), port.reap()]).toEqual([true, true, false]);
    expect(doorbells()).toBe(2);
  });

  it("rings the kernel once per flush, and not when nothing was submitted", () => {
    const { port, doorbells } = twoSides(SMALL);
    port.flush();
    port.submit(SysOp.nop, -1, 1, 0);
    port.submit(SysOp.nop, -1, 2, 0);
    port.flush();
    port.flush();
    expect(doorbells()).toBe(1);
  });

  it("tells the process once until it has seen the ring empty, and never loses a wake-up", () => {
    const { server, port, notified } = twoSides({ submissions: 8, completions: 8, stagingBytes: 64 });
    for (let i = 1; i <= 3; i++) port.submit(SysOp.nop, -1, i, 0);
    server.consume();
    expect(notified()).toBe(1);
    expect(port.prepareSleep()).toBe(false);
    while (port.reap());
    expect(port.prepareSleep()).toBe(true);
    port.submit(SysOp.nop, -1, 9, 0);
    server.consume();
    expect(notified()).toBe(2);
  });

  it("a submission ring that is full says so", () => {
    const { port } = twoSides(SMALL);
    for (let i = 1; i <= 4; i++) expect(port.submit(SysOp.nop, -1, i, 0)).toBe(true);
    expect(port.submit(SysOp.nop, -1, 5, 0)).toBe(false);
  });
});

describe("staging", () => {
  it("delivers every byte in order through a small area, with wraps", () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 32 }), { minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(sizes, fc.array(fc.boolean(), { minLength: 80, maxLength: 80 }), (lengths, consumes) => {
        const { host, process, server, port } = twoSides({ submissions: 8, completions: 128, stagingBytes: 64 });
        const fd = process.socket(2, 1);
        const tcb = host.tcp.tcbs.at(-1) as FakeTcb;
        tcb.state = 1;
        const expected: number[] = [];
        let next = 0;
        for (const [i, len] of lengths.entries()) {
          const bytes = Uint8Array.from({ length: len }, () => next++ & 255);
          let at = port.stage(bytes, 0, len);
          if (at < 0) {
            server.consume();
            at = port.stage(bytes, 0, len);
          }
          expect(at, "a consumed area has room for half its size").toBeGreaterThanOrEqual(0);
          if (!port.submit(SysOp.send, fd, 0, 0, at, len)) {
            server.consume();
            expect(port.submit(SysOp.send, fd, 0, 0, at, len)).toBe(true);
          }
          expected.push(...bytes);
          if (consumes[i]) server.consume();
        }
        server.consume();
        expect(tcb.sent).toEqual(expected);
      }),
    );
  });

  it("refuses more than half the area, and what does not fit until the kernel has consumed", () => {
    const { process, server, port, host } = twoSides({ submissions: 8, completions: 8, stagingBytes: 64 });
    const fd = process.socket(2, 1);
    (host.tcp.tcbs.at(-1) as FakeTcb).state = 1;
    const bytes = new Uint8Array(40);
    expect(port.stage(bytes, 0, 33)).toBe(-1);
    expect(port.stage(bytes, 0, 32)).toBe(0);
    port.submit(SysOp.send, fd, 0, 0, 0, 32);
    expect(port.stage(bytes, 0, 32)).toBe(32);
    port.submit(SysOp.send, fd, 0, 0, 32, 32);
    expect(port.stage(bytes, 0, 1)).toBe(-1);
    server.consume();
    expect(port.stage(bytes, 0, 1)).toBe(0);
  });
});
