/** A kernel machine of one host without a network (`memory-tcp.ts`), for tests of drivers and threads. */
import type { Ns } from "../../src/base/time.ts";
import { Timers } from "../../src/base/timers.ts";
import { NO_TRACE } from "../../src/base/tracepoints.ts";
import type { KernelContext, KernelMachine } from "../../src/host/kernel-machine.ts";
import { InlineProcess } from "../../src/runtime/inline-process.ts";
import { ProcessTable } from "../../src/socket/process-table.ts";
import { RingPort } from "../../src/socket/ring-port.ts";
import { RingServer } from "../../src/socket/ring-server.ts";
import { SyscallRings } from "../../src/socket/rings.ts";
import { MemoryTcp } from "./memory-tcp.ts";

export interface MemoryKernelMachine extends KernelMachine {
  /** A process in the kernel's own thread. */
  createProcess(name: string, onBusy?: (startNs: Ns, endNs: Ns) => void): InlineProcess;
}

export function createKernelMachine(_options: unknown, { clock, wake }: KernelContext): MemoryKernelMachine {
  const arena = new SharedArrayBuffer(1024 * 65536);
  const tcp = new MemoryTcp(clock, arena);
  const timers = new Timers();
  const table = new ProcessTable({ env: { name: "host", clock, trace: NO_TRACE }, tcp, ip: { ifindexOf: () => 0 } });
  const servers = new Set<RingServer>();
  return {
    shared: { arena },
    deadline: () => (tcp.isPending ? clock.nowNs : timers.deadline()),
    advance(nowNs) {
      do {
        tcp.advance();
      } while (timers.fireOne(nowNs) || tcp.isPending);
    },
    consume() {
      let didWork = false;
      for (const server of servers) didWork = server.consume() > 0 || didWork;
      return didWork;
    },
    control(method, params) {
      if (method === "ping") return { pong: params };
      if (method === "processes") return table.list().map((p) => ({ pid: p.pid, name: p.name, fds: p.fds.size }));
      if (method === "bug") throw new Error("a bug in control");
      const failure = { error: `no such method "${method}"`, why: "the test kernel knows ping", next: "ask ping" };
      throw Object.assign(new Error(failure.error), failure);
    },
    attachProcess(_host, name, buffer) {
      const rings = new SyscallRings(undefined, buffer);
      const process = table.create(name);
      servers.add(new RingServer(rings, process, { toProcess: () => rings.ringProcess() }));
      return { pid: process.pid };
    },
    detachProcess(pid) {
      table.get(pid)?.exit();
      for (const server of servers) if (server.process.pid === pid) servers.delete(server);
    },
    createProcess(name, onBusy) {
      const kernelSide = table.create(name);
      const rings = new SyscallRings();
      const server = new RingServer(rings, kernelSide, { toProcess: () => process.wake() });
      const submit = (): void => {
        server.consume();
        wake();
      };
      const port = new RingPort(kernelSide.pid, rings, tcp.arena, clock, { onSubmit: submit });
      let requests = 0;
      const process: InlineProcess = new InlineProcess({
        port,
        clock,
        timers,
        trace: NO_TRACE,
        pid: kernelSide.pid,
        nextRequestId: () => ++requests,
        wakeDriver: wake,
        burn: (durationNs) => {
          const untilNs = clock.nowNs + durationNs;
          while (clock.nowNs < untilNs) clock.tick();
          return Promise.resolve();
        },
        ...(onBusy ? { onBusy } : {}),
      });
      return process;
    },
    close() {
      for (const process of table.list()) process.exit();
    },
  };
}
