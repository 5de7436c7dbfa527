/** The runtime over the real rings and sockets, in virtual time; only TCP itself is a stand-in. */
import { expect, it } from "vitest";
import { type ConnWorld, connConformance } from "../../tests/conformance/conn.ts";
import { MemoryTcp } from "../../tests/support/memory-tcp.ts";
import { ManualClock, NEVER } from "../base/time.ts";
import { Timers } from "../base/timers.ts";
import { NO_TRACE } from "../base/tracepoints.ts";
import { ProcessTable } from "../socket/process-table.ts";
import { RingPort } from "../socket/ring-port.ts";
import { RingServer } from "../socket/ring-server.ts";
import { type RingSizes, SyscallRings } from "../socket/rings.ts";
import { InlineProcess } from "./inline-process.ts";

interface World extends ConnWorld {
  readonly table: ProcessTable;
  readonly inlineProcesses: readonly InlineProcess[];
}

function inlineWorld(sizes?: RingSizes): World {
  const clock = new ManualClock(0);
  const timers = new Timers();
  const tcp = new MemoryTcp(clock, new ArrayBuffer(256 * 65536));
  const table = new ProcessTable({ env: { name: "host", clock, trace: NO_TRACE }, tcp, ip: { ifindexOf: () => 0 } });
  const inlineProcesses = ["server", "client"].map((name) => {
    const kernelSide = table.create(name);
    const rings = new SyscallRings(sizes);
    const server = new RingServer(rings, kernelSide, { toProcess: () => process.wake() });
    const port = new RingPort(kernelSide.pid, rings, tcp.arena, clock, { onSubmit: () => void server.consume() });
    const process: InlineProcess = new InlineProcess({
      port,
      clock,
      timers,
      trace: NO_TRACE,
      pid: kernelSide.pid,
      nextRequestId: () => 1,
    });
    return process;
  });
  return {
    table,
    inlineProcesses,
    server: (inlineProcesses[0] as InlineProcess).runtime,
    client: (inlineProcesses[1] as InlineProcess).runtime,
    address: tcp.address,
    closedPort: 9,
    run: (work) => drive(clock, timers, tcp, work),
    close: async () => {
      for (const process of inlineProcesses) process.stop();
      tcp.advance();
      expect(table.list()).toEqual([]);
    },
  };
}

async function drive<T>(clock: ManualClock, timers: Timers, tcp: MemoryTcp, work: () => Promise<T>): Promise<T> {
  let isSettled = false;
  const result = work();
  result.then(
    () => (isSettled = true),
    () => (isSettled = true),
  );
  while (!isSettled) {
    for (let i = 0; i < 50; i++) await Promise.resolve();
    tcp.advance();
    const due = timers.deadline();
    if (due === NEVER && !tcp.isPending && !isSettled) {
      for (let i = 0; i < 200 && !isSettled; i++) await Promise.resolve();
      if (!isSettled && timers.deadline() === NEVER && !tcp.isPending) throw new Error("deadlock: nothing left to do");
      continue;
    }
    clock.nowNs = Math.max(clock.nowNs, due === NEVER ? 0 : due);
    timers.fireOne(clock.nowNs);
  }
  return result;
}

connConformance("our runtime over inline rings", () => inlineWorld());
connConformance("our runtime over very small rings", () =>
  inlineWorld({ submissions: 8, completions: 8, stagingBytes: 65536 }),
);

it("closes and forgets everything: no fd is left after many connections", async () => {
  const world = inlineWorld();
  await world.run(async () => {
    const listener = await world.server.network.listen(world.address, 80);
    for (let i = 0; i < 3000; i++) {
      const [inside, outside] = await Promise.all([listener.accept(), world.client.network.dial(world.address, 80)]);
      outside.close();
      expect(await inside.read(new Uint8Array(1))).toBe(0);
      inside.close();
    }
    listener.close();
    await world.client.sleep(1000);
  });
  // stdin, stdout, stderr and the epoll instance.
  expect(world.table.list().map((p) => p.fds.size)).toEqual([4, 4]);
  expect([...world.server.goroutines(), ...world.client.goroutines()]).toEqual([]);
  await world.close();
});

it("shows in the system-call log what Go's strace shows", async () => {
  const world = inlineWorld();
  await world.run(async () => {
    const listener = await world.server.network.listen(world.address, 80);
    const [inside, outside] = await Promise.all([listener.accept(), world.client.network.dial(world.address, 80)]);
    await outside.writeAll(new Uint8Array([1, 2, 3]));
    await inside.read(new Uint8Array(10));
    listener.close();
  });
  const calls = world.table.log
    .records()
    .filter((r) => r.pid === world.server.pid)
    .map((r) => (r.error ? `${r.call} ${r.error}` : r.call));
  expect(calls).toEqual([
    "socket",
    "setsockopt",
    "bind",
    "listen",
    "epoll_create1",
    "getsockname",
    "epoll_ctl",
    "accept4 EAGAIN",
    "park",
    "ready",
    "accept4",
    "accept4 EAGAIN",
    "park",
    "epoll_ctl",
    "setsockopt",
    "read EAGAIN",
    "park",
    "ready",
    "read",
    "read EAGAIN",
    "park",
    "close",
  ]);
  await world.close();
});
