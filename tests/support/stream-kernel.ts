/** A kernel machine of one host whose only card is a stream socket. */
import type { KernelContext, KernelMachine } from "../../src/host/kernel-machine.ts";
import { StreamDevice } from "../../src/host/stream-device.ts";
import { StreamRings } from "../../src/host/stream-rings.ts";
import { control } from "../../src/inspect.ts";
import { Arena, DEFAULT_ARENA_LIMITS } from "../../src/skb/arena.ts";
import type { RingServer } from "../../src/socket/ring-server.ts";
import { SyscallRings } from "../../src/socket/rings.ts";
import type { Stack } from "../../src/stack.ts";
import { Topology } from "../../src/topology.ts";

export interface StreamKernelOptions {
  /** Address with prefix, e.g. "198.18.0.1/24". */
  readonly cidr: string;
  /** Last byte of its MAC address, 02:00:00:00:00:NN. */
  readonly mac: number;
  /** The buffer of the `StreamRings` it shares with the pump. */
  readonly rings: SharedArrayBuffer;
}

export interface StreamKernelMachine extends KernelMachine {
  readonly host: Stack;
}

/** Its control is that of `src/inspect.ts`. */
export function createKernelMachine(options: unknown, { clock }: KernelContext): StreamKernelMachine {
  const { cidr, mac, rings } = options as StreamKernelOptions;
  const arena = new Arena(DEFAULT_ARENA_LIMITS, true);
  const pollSources: StreamDevice[] = [];
  const topology = new Topology(
    { hosts: [{ name: "host", nics: [{ name: "eth0", cidr }] }], links: [] },
    {
      seed: mac,
      arena,
      clockOf: () => clock,
      openDevice: (env, { name }) => {
        const address = new Uint8Array([2, 0, 0, 0, 0, mac]);
        const device = new StreamDevice(env, { name, mac: address, rings: new StreamRings(rings) });
        pollSources.push(device);
        return device;
      },
    },
  );
  const host = topology.host("host");
  const servers: RingServer[] = [];
  const toRing = new Set<SyscallRings>();
  return {
    host,
    pollSources,
    shared: { arena: arena.buffer as SharedArrayBuffer },
    deadline: () => topology.deadline(),
    advance(nowNs) {
      topology.advance(nowNs);
      for (const ring of toRing) ring.ringProcess();
      toRing.clear();
    },
    consume() {
      let didWork = false;
      for (const server of servers) didWork = server.consume() > 0 || didWork;
      return didWork;
    },
    control: (method, params) => control(topology, method, { host: "host", ...(params as object) }),
    attachProcess(_host, name, buffer) {
      const shared = new SyscallRings(undefined, buffer);
      const server = host.attachProcess(name, shared, () => toRing.add(shared));
      servers.push(server);
      return { pid: server.process.pid };
    },
    detachProcess(pid) {
      const at = servers.findIndex((server) => server.process.pid === pid);
      if (at >= 0) servers.splice(at, 1);
      host.detachProcess(pid);
    },
    close: () => topology.close(),
  };
}
