/** Two of our stacks joined by a socket: one in a kernel thread, one inline in this thread; real clocks and sockets. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { parseAddress } from "../../src/base/address.ts";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import type { KernelHandle } from "../../src/host/kernel-handle.ts";
import type { Kernel } from "../../src/host/kernel-machine.ts";
import type { MainProcess } from "../../src/host/main-process.ts";
import type { ProcessHandle } from "../../src/host/process-handle.ts";
import type { StreamAddress } from "../../src/host/stream-address.ts";
import { StreamPump } from "../../src/host/stream-pump.ts";
import { StreamRings } from "../../src/host/stream-rings.ts";
import type { LinkRow } from "../../src/inspect.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import { buildFixture, builtSource, isBuilt } from "../support/built.ts";
import { main as echoApp } from "../support/echo-app.ts";
import { createKernelMachine, type StreamKernelMachine } from "../support/stream-kernel.ts";

const PORT = 80;
const MEGABYTE = 1_000_000;
const suite = isBuilt() ? describe : describe.skip; // isBuilt() has said that the package must be built

interface Side {
  readonly kernel: Kernel;
  readonly ringKernel: () => void;
  readonly rings: StreamRings;
  readonly address: string;
  /** A process in which this test dials. */
  client(): Promise<Runtime>;
  /** The echo server. */
  serve(): Promise<void>;
}

suite("two stacks on a stream socket", () => {
  const ends: (() => unknown)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function threadSide(mac: number): Promise<Side> {
    const rings = new StreamRings();
    const names = ["kernel-handle", "main-process", "process-handle"];
    const [handle, mainProcess, processHandle] = await Promise.all(
      names.map((name) => import(builtSource(`src/host/${name}`).href)),
    );
    const address = `198.18.0.${mac}`;
    const kernel: KernelHandle = await (handle.KernelHandle as typeof KernelHandle).start({
      factory: buildFixture("tests/support/stream-kernel.ts"),
      options: { cidr: `${address}/24`, mac, rings: rings.buffer },
    });
    ends.push(() => kernel.stop());
    return {
      kernel,
      rings,
      address,
      ringKernel: () => kernel.doorbell.ring(),
      async client() {
        const Process = mainProcess.MainProcess as typeof MainProcess;
        const client = await Process.start({ kernel, host: "host", name: "client" });
        ends.push(() => client.stop());
        return client.runtime;
      },
      async serve() {
        const Handle = processHandle.ProcessHandle as typeof ProcessHandle;
        const module = buildFixture("tests/support/echo-app.ts");
        const server = await Handle.start({ kernel, host: "host", name: "echo", module, options: { port: PORT } });
        ends.push(() => server.stop());
      },
    };
  }

  function inlineSide(mac: number): Side {
    const rings = new StreamRings();
    const address = `198.18.0.${mac}`;
    const kernel = new InlineKernel({
      factory: createKernelMachine,
      options: { cidr: `${address}/24`, mac, rings: rings.buffer },
    });
    ends.push(() => kernel.stop());
    const { host } = kernel.machine as StreamKernelMachine;
    const spawn = (name: string) => host.spawn({ name, wakeDriver: () => kernel.wake() }).runtime;
    return {
      kernel,
      rings,
      address,
      ringKernel: () => kernel.wake(),
      client: async () => spawn("client"),
      serve: async () => void (await echoApp(spawn("echo"), { port: PORT })),
    };
  }

  async function plug(side: Side, address: StreamAddress, role: "listen" | "connect"): Promise<StreamPump> {
    const { rings, ringKernel } = side;
    const pump = await StreamPump.start({ rings, address, role, ringKernel, reconnectMs: 50 });
    ends.push(() => pump.close());
    return pump;
  }

  function unixPath(): StreamAddress {
    const directory = mkdtempSync("/tmp/sojourn-stream-");
    ends.push(() => rmSync(directory, { recursive: true }));
    return { path: join(directory, "wire.sock") };
  }

  /** A wire that can be cut: bytes pass through, and `cut` ends both sides at once, in the middle of a frame. */
  async function relay(to: StreamAddress): Promise<{ address: StreamAddress; cut: () => void }> {
    const sockets = new Set<Socket>();
    const cut = (): void => {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    };
    const server = createServer((near) => {
      const far = connect({ ...to });
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(socket);
        socket.pipe(other);
        socket.on("error", () => {});
        socket.on("close", () => other.destroy());
      }
    });
    const address = unixPath();
    await new Promise<void>((resolve) => server.listen({ ...address }, resolve));
    ends.push(() => new Promise((resolve) => server.close(resolve)), cut);
    return { address, cut };
  }

  async function dial(from: Side, to: Side): Promise<Conn> {
    const client = await from.client();
    const address = parseAddress(to.address);
    if (!address) throw new Error(`no address: ${to.address}`);
    return client.network.dial(address, PORT);
  }

  /** The kernel's link as `ip -s link` shows it. */
  async function linkOf({ kernel }: Side): Promise<LinkRow> {
    const rows = (await kernel.control("links")) as LinkRow[];
    return rows.find(({ name }) => name === "eth0") as LinkRow;
  }

  const wires: { name: string; address: () => StreamAddress; client: (mac: number) => Side | Promise<Side> }[] = [
    { name: "unix socket, client inline, server in a thread", address: unixPath, client: inlineSide },
    {
      name: "TCP, client in a thread, server inline",
      address: () => ({ host: "127.0.0.1", port: 0 }),
      client: threadSide,
    },
  ];

  for (const { name, address, client: makeClient } of wires) {
    it(`${name}: 100 MB there and back arrive byte exact`, async () => {
      const client = await makeClient(1);
      const server = makeClient === inlineSide ? await threadSide(2) : inlineSide(2);
      const listening = await plug(client, address(), "listen");
      await plug(server, listening.address, "connect");
      await server.serve();
      const conn = await dial(client, server);
      const startMs = performance.now();
      const cpu = process.cpuUsage();
      const { sent, echoed } = await alive(echo(conn, 100 * MEGABYTE), client, server);
      const seconds = (performance.now() - startMs) / 1000;
      const { user, system } = process.cpuUsage(cpu);
      expect(echoed).toBe(sent);
      conn.close();
      const rate = (100 / seconds).toFixed(1);
      const cpuSeconds = ((user + system) / 1e6).toFixed(1);
      process.stderr.write(`[figure] stream, ${name}: ${rate} MB/s each way at once, ${cpuSeconds} s CPU in all\n`);
      for (const side of [client, server]) {
        const { rx, tx } = await linkOf(side);
        expect([rx.errors, rx.dropped, rx.missed, tx.errors]).toEqual([0, 0, 0, 0]);
      }
    });
  }

  it("a socket cut in mid-transfer three times: TCP goes on when it is there again", async () => {
    const client = inlineSide(1);
    const server = await threadSide(2);
    const listening = await plug(client, unixPath(), "listen");
    const wire = await relay(listening.address);
    const connecting = await plug(server, wire.address, "connect");
    await server.serve();
    const conn = await dial(client, server);
    const transfer = alive(echo(conn, 6 * MEGABYTE), client, server);
    for (let cut = 1; cut <= 3; cut++) {
      await Promise.race([transfer, waitFor(() => conn.receivedBytes > cut * MEGABYTE)]);
      wire.cut();
      await Promise.race([transfer, waitFor(() => listening.stats.peers === cut + 1)]);
    }
    const { sent, echoed } = await transfer;
    expect(echoed).toBe(sent);
    conn.close();
    expect([listening.stats.peers, connecting.stats.peers]).toEqual([4, 4]);
    const counters = (await client.kernel.control("counters")) as Record<string, number>;
    const served = (await server.kernel.control("counters")) as Record<string, number>;
    expect((counters["TcpRetransSegs"] as number) + (served["TcpRetransSegs"] as number)).toBeGreaterThan(0);
  });
});

/** Sends random-looking bytes, reads the echo meanwhile; hashes of both. */
async function echo(conn: Conn, bytes: number): Promise<{ sent: string; echoed: string }> {
  const block = new Uint8Array(MEGABYTE);
  let state = 1;
  for (let i = 0; i < block.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    block[i] = state >>> 24;
  }
  const sent = createHash("sha256");
  const echoed = createHash("sha256");
  const sending = (async () => {
    for (let at = 0; at < bytes; at += block.length) {
      block[0] = at / block.length;
      sent.update(block);
      await conn.writeAll(block);
    }
  })();
  const into = new Uint8Array(1 << 18);
  for (let at = 0; at < bytes; ) {
    const n = await conn.read(into);
    if (n === 0) throw new Error(`the echo ended after ${at} bytes`);
    echoed.update(into.subarray(0, n));
    at += n;
  }
  await sending;
  return { sent: sent.digest("hex"), echoed: echoed.digest("hex") };
}

/** As `work`, unless a kernel dies of an error meanwhile: then that is the outcome. */
function alive<T>(work: Promise<T>, ...sides: readonly Side[]): Promise<T> {
  return Promise.race([work, ...sides.map(({ kernel }) => kernel.ended.then(() => work))]);
}

async function waitFor(isTrue: () => boolean): Promise<void> {
  const endMs = performance.now() + 30_000;
  while (!isTrue() && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 1));
}
