/**
 * The conformance suite over our rings: inline, as two threads have them (views of their own, run by turns), and inline
 * on two hosts of a topology, over the real transport.
 */
import { expect } from "vitest";
import { type SyscallPortWorld, syscallPortConformance } from "../../tests/conformance/syscall-port.ts";
import { MemoryTcp } from "../../tests/support/memory-tcp.ts";
import { type Address, parseAddress } from "../base/address.ts";
import { ManualClock, NEVER, SECOND } from "../base/time.ts";
import { NO_TRACE } from "../base/tracepoints.ts";
import { defaultTopology, Topology } from "../topology.ts";
import { ProcessTable } from "./process-table.ts";
import { RingPort } from "./ring-port.ts";
import { RingServer } from "./ring-server.ts";
import { DEFAULT_RING_SIZES, type RingSizes, SyscallRings } from "./rings.ts";

function world(mode: "inline" | "by turns", sizes: RingSizes = DEFAULT_RING_SIZES): SyscallPortWorld {
  const clock = new ManualClock(1);
  const tcp = new MemoryTcp(clock, new ArrayBuffer(64 * 65536));
  const table = new ProcessTable({ env: { name: "host", clock, trace: NO_TRACE }, tcp, ip: { ifindexOf: () => 0 } });
  const servers: RingServer[] = [];
  const port = (name: string) => {
    const process = table.create(name);
    const rings = SyscallRings.shared(sizes);
    const server = new RingServer(rings, process, { toProcess: () => {} });
    servers.push(server);
    if (mode === "inline") {
      return new RingPort(process.pid, rings, tcp.arena, clock, { onSubmit: () => void server.consume() });
    }
    return new RingPort(process.pid, new SyscallRings(sizes, rings.buffer), tcp.arena, new ManualClock(1));
  };
  return {
    server: port("server"),
    client: port("client"),
    address: tcp.address,
    closedPort: 9,
    settle: () => {
      do {
        tcp.advance();
        for (const server of servers) server.consume();
      } while (tcp.isPending || servers.some((s) => s.hasSubmissions));
    },
    close: () => {
      expect(table.list()).toEqual([]);
      expect(table.counts).toEqual({ files: 0, sockets: 0, waitEntries: 0, epollItems: 0, pipeBytes: 0 });
    },
  };
}

syscallPortConformance("inline rings", () => world("inline"));
syscallPortConformance("rings by turns", () => world("by turns"));
syscallPortConformance("small rings by turns", () =>
  world("by turns", { submissions: 8, completions: 8, stagingBytes: 32768 }),
);

/** Client and server of the default topology; `settle` lets a second pass, more than any round trip here takes. */
function topologyWorld(): SyscallPortWorld {
  const topology = new Topology(defaultTopology(), { seed: 1, clockOf: () => new ManualClock(1) });
  const hosts = [topology.host("server"), topology.host("client")];
  const port = (name: string) => {
    const host = topology.host(name);
    const rings = new SyscallRings();
    const server = host.attachProcess(name, rings, () => {});
    return new RingPort(server.process.pid, rings, topology.arena.bytes, host.env.clock, {
      onSubmit: () => void server.consume(),
    });
  };
  let nowNs = 1;
  const settle = (durationNs = SECOND) => {
    nowNs += durationNs;
    topology.advance(nowNs);
    for (const host of topology.hosts) host.env.clock.nowNs = Math.max(host.env.clock.nowNs, nowNs);
  };
  return {
    server: port("server"),
    client: port("client"),
    address: parseAddress("198.51.100.10") as Address,
    closedPort: 9,
    settle: () => settle(),
    close: () => {
      for (const host of hosts) {
        expect(host.processes.list()).toEqual([]);
        expect(host.processes.counts).toEqual({ files: 0, sockets: 0, waitEntries: 0, epollItems: 0, pipeBytes: 0 });
      }
      // Orphans and TIME_WAIT end on their own.
      for (let i = 0; i < 20 && topology.deadline() !== NEVER; i++) settle(60 * SECOND);
      for (const host of hosts) expect(host.tcp.rows()).toEqual([]);
      topology.close();
      for (const { env } of topology.hosts) expect(env.pool.outstanding).toBe(0);
      expect(topology.arena.outstanding).toBe(0);
    },
  };
}

syscallPortConformance("inline rings on two hosts", topologyWorld);
