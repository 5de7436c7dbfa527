/**
 * A kernel machine of one host on a TAP, for tests against the real kernel: processes in threads for TCP, and a UDP
 * echo on port 7 inside the kernel itself, so that what is measured is the way through device and stack.
 */
import { ANY_V4 } from "../../src/base/address.ts";
import type { KernelContext, KernelMachine, PollSource } from "../../src/host/kernel-machine.ts";
import type { TapHandle } from "../../src/host/open-tap.ts";
import { TapDevice } from "../../src/host/tap-device.ts";
import { Arena, DEFAULT_ARENA_LIMITS } from "../../src/skb/arena.ts";
import type { RingServer } from "../../src/socket/ring-server.ts";
import { SyscallRings } from "../../src/socket/rings.ts";
import type { Stack } from "../../src/stack.ts";
import { Topology } from "../../src/topology.ts";
import type { SocketUpcalls } from "../../src/transport/port.ts";

export interface TapKernelOptions {
  readonly tap: TapHandle;
  readonly cidr: string;
  readonly seed: number;
  readonly sysctls?: Readonly<Record<string, string>>;
}

const ECHO_PORT = 7;
const HOST = "server";

export function createKernelMachine(options: unknown, { clock, wake }: KernelContext): KernelMachine {
  const { tap, cidr, seed, sysctls } = options as TapKernelOptions;
  const arena = new Arena(DEFAULT_ARENA_LIMITS, true);
  const pollSources: PollSource[] = [];
  const superSegments = { received: 0, sent: 0 };
  const topology = new Topology(
    { hosts: [{ name: HOST, nics: [{ name: tap.name, cidr }], ...(sysctls ? { sysctls } : {}) }], links: [] },
    {
      seed,
      arena,
      clockOf: () => clock,
      openDevice(env) {
        const device = new TapDevice(env, { ...tap, mac: new Uint8Array([2, 0, 0, 0, 0, 2]) });
        pollSources.push(device);
        return device;
      },
    },
  );
  const stack = topology.host(HOST);
  const dev = stack.net.devices[1];
  dev.addTap((outgoing, skb) => {
    if (skb.gsoSize > 0) superSegments[outgoing ? "sent" : "received"]++;
  });
  echoDatagrams(stack);
  const servers = new Set<RingServer>();
  const toRing: SyscallRings[] = [];
  return {
    shared: { arena: arena.buffer as SharedArrayBuffer },
    pollSources,
    deadline: () => topology.deadline(),
    advance(nowNs) {
      topology.advance(nowNs);
      for (const rings of toRing) rings.ringProcess();
      toRing.length = 0;
    },
    consume() {
      let didWork = false;
      for (const server of servers) didWork = server.consume(256) > 0 || didWork;
      return didWork;
    },
    control(method) {
      wake();
      if (method !== "stats") throw new Error(`no such method "${method}"`);
      const { outstanding } = stack.env.pool;
      const isGone = (dev.device as TapDevice).isGone;
      return { link: dev.stats(), drops: stack.env.drops.rows(), superSegments, outstanding, isGone };
    },
    attachProcess(_host, name, buffer) {
      const rings = new SyscallRings(undefined, buffer);
      const server = stack.attachProcess(name, rings, () => toRing.push(rings));
      servers.add(server);
      return { pid: server.process.pid };
    },
    detachProcess(pid) {
      for (const server of servers) if (server.process.pid === pid) servers.delete(server);
      stack.detachProcess(pid);
    },
    close: () => topology.close(),
  };
}

/** RFC 862, without a process. */
function echoDatagrams({ udp }: Stack): void {
  const bytes = new Uint8Array(65536);
  const from = { address: ANY_V4, port: 0 };
  const upcalls: SocketUpcalls = {
    readable() {
      const n = udp.receive(sock, bytes, 0, bytes.length, from);
      if (n >= 0) udp.send(sock, bytes, 0, n, from.address, from.port);
    },
    writable() {},
    stateChanged() {},
  };
  const sock = udp.create(upcalls);
  if (udp.bind(sock, ANY_V4, ECHO_PORT, { reuseAddress: false, reusePort: false, ifindex: 0 }) !== 0) {
    throw new Error("the echo port is taken");
  }
}
