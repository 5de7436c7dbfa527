/** Kernel and processes in threads of their own: the rings cross for real, the clock is the machine's. */
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { Address } from "../../src/base/address.ts";
import type { KernelHandle } from "../../src/host/kernel-handle.ts";
import type { MainProcess } from "../../src/host/main-process.ts";
import type { PortForward } from "../../src/host/port-forward.ts";
import type { ProcessHandle } from "../../src/host/process-handle.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { connConformance } from "../conformance/conn.ts";
import { buildFixture, builtSource, isBuilt } from "../support/built.ts";

const LOOPBACK = Address.v4(0x7f000001);
const PORT = 80;

interface Modules {
  readonly KernelHandle: typeof KernelHandle;
  readonly MainProcess: typeof MainProcess;
  readonly PortForward: typeof PortForward;
  readonly ProcessHandle: typeof ProcessHandle;
}

async function load(): Promise<Modules & { factory: URL; echo: URL }> {
  const names = ["kernel-handle", "main-process", "port-forward", "process-handle"];
  const modules = await Promise.all(names.map((name) => import(builtSource(`src/host/${name}`).href)));
  buildFixture("tests/support/memory-tcp.ts");
  const factory = buildFixture("tests/support/memory-kernel.ts");
  const echo = buildFixture("tests/support/echo-app.ts");
  return { ...(Object.assign({}, ...modules) as Modules), factory, echo };
}

const suite = isBuilt() ? describe : describe.skip;

suite("a kernel thread and its processes", () => {
  const ends: (() => Promise<unknown>)[] = [];

  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  async function start() {
    const modules = await load();
    const kernel = await modules.KernelHandle.start({ factory: modules.factory });
    ends.push(() => kernel.stop());
    const server = await modules.ProcessHandle.start({
      kernel,
      host: "host",
      name: "server",
      module: modules.echo,
      options: { port: PORT },
    });
    ends.push(() => server.stop());
    const client = await modules.MainProcess.start({ kernel, host: "host", name: "client" });
    ends.push(() => client.stop());
    const dial = () => client.runtime.network.dial(LOOPBACK, PORT);
    return { ...modules, kernel, server, client, dial };
  }

  it("carries bytes between two threads through a third", async () => {
    const { dial, server } = await start();
    const conn = await dial();
    expect(await echo(conn, "hello")).toBe("hello");
    expect(await server.request("served")).toBe(1);
    conn.close();
  });

  it("answers control calls, and gives the caller's mistakes and its own bugs back", async () => {
    const { kernel } = await start();
    expect(await kernel.control("ping", { n: 1 })).toEqual({ pong: { n: 1 } });
    await expect(kernel.control("nonsense")).rejects.toMatchObject({
      name: "ControlError",
      error: 'no such method "nonsense"',
      next: "ask ping",
    });
    const error = (await kernel.control("bug").catch((e: unknown) => e)) as Error;
    expect(error.message).toBe("a bug in control");
    expect(error.stack).toContain("memory-kernel");
  });

  it("shows the goroutines of a process, and what they wait for", async () => {
    const { dial, server } = await start();
    const conn = await dial();
    await echo(conn, "x");
    const rows = await server.goroutines();
    expect(rows.map((g) => [g.name, g.state, g.parkedOn.replace(/\d+/, "N")])).toEqual([
      ["accept", "parked", "accept fd N"],
      ["echo", "parked", "read fd N"],
    ]);
    conn.close();
  });

  it("a handler that holds its CPU holds its process and nobody else", async () => {
    const { dial, server, kernel, client } = await start();
    const busy = await dial();
    const startMs = performance.now();
    busy.writeLatin1("burn:300");
    await client.runtime.sleep(30e6);
    // The kernel answers and makes connections meanwhile; the busy process accepts none of them.
    const waiting = await dial();
    expect(await kernel.control("ping")).toEqual({ pong: undefined });
    expect(performance.now() - startMs).toBeLessThan(250);
    expect(await echo(waiting, "after")).toBe("after");
    expect(performance.now() - startMs).toBeGreaterThan(290);
    expect(await server.request("served")).toBe(2);
  });

  it("pauses accept: connections wait in the queue until it goes on", async () => {
    const { dial, server } = await start();
    expect(await server.setAcceptPaused(true)).toMatchObject({ paused: true, listeners: ["0.0.0.0:80"] });
    const conn = await dial();
    const echoed = echo(conn, "patience");
    const early = await Promise.race([echoed, new Promise((resolve) => setTimeout(() => resolve("nothing"), 60))]);
    expect(early).toBe("nothing");
    await server.setAcceptPaused(false);
    expect(await echoed).toBe("patience");
  });

  it("a process that dies tells the main side why, and its sockets are closed", async () => {
    const { dial, server, kernel } = await start();
    const conn = await dial();
    conn.writeLatin1("die");
    const error = (await server.ended.catch((e: unknown) => e)) as Error;
    expect(error.message).toContain("told to die");
    expect(error.stack).toContain("echo-app");
    // The kernel closed its end: FIN or reset, but never silence.
    await conn.read(new Uint8Array(1)).catch((e: { code: string }) => expect(e.code).toBe("ECONNRESET"));
    expect(await kernel.control("processes")).toMatchObject([{ name: "client" }]);
    await expect(server.goroutines()).rejects.toThrow();
  });

  it("a process whose main fails never starts, and says why", async () => {
    const { kernel, ProcessHandle: Handle, echo: module } = await start();
    const started = Handle.start({ kernel, host: "host", name: "bad", module, options: { port: -1 } });
    await expect(started).rejects.toThrow("asked to fail");
  });

  it("a kernel whose factory fails never starts, and says why", async () => {
    const { KernelHandle: Handle } = await load();
    await expect(Handle.start({ factory: new URL("file:///nowhere.js") })).rejects.toThrow("nowhere.js");
  });

  it("stopping twice, and asking after it, is answered", async () => {
    const { kernel, server } = await start();
    await Promise.all([server.stop(), server.stop()]);
    await server.ended;
    await expect(server.goroutines()).rejects.toThrow("has ended");
    await Promise.all([kernel.stop(), kernel.stop()]);
    await kernel.ended;
    await expect(kernel.control("ping")).rejects.toThrow("has ended");
  });

  it("forwards a host port", async () => {
    const { client, PortForward: Forward } = await start();
    const forward = await Forward.start({ runtime: client.runtime, address: LOOPBACK, port: PORT, hostPort: 0 });
    ends.push(() => forward.close());
    const socket = connect(forward.hostPort, "127.0.0.1");
    socket.end("through the forward");
    let text = "";
    for await (const chunk of socket) text += chunk;
    expect(text).toBe("through the forward");
  });

  it("moves 64 MB through two crossings, byte exact", async () => {
    const { client, PortForward: Forward } = await start();
    const forward = await Forward.start({ runtime: client.runtime, address: LOOPBACK, port: PORT, hostPort: 0 });
    ends.push(() => forward.close());
    const socket = connect(forward.hostPort, "127.0.0.1");
    const block = Buffer.alloc(1 << 20);
    for (let i = 0; i < block.length; i++) block[i] = (i * 7 + (i >> 8)) & 255;
    const sending = (async () => {
      for (let i = 0; i < 64; i++) if (!socket.write(block)) await once(socket, "drain");
      socket.end();
    })();
    let at = 0;
    let wrong = 0;
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      for (let i = 0; i < chunk.length; i += 997) if (chunk[i] !== block[(at + i) % block.length]) wrong++;
      at += chunk.length;
    }
    await sending;
    expect([at, wrong]).toEqual([64 << 20, 0]);
  });
});

if (isBuilt()) {
  connConformance("threads, from the main thread to the main thread", async () => {
    const modules = await load();
    const kernel = await modules.KernelHandle.start({ factory: modules.factory });
    const server = await modules.MainProcess.start({ kernel, host: "host", name: "server" });
    const client = await modules.MainProcess.start({ kernel, host: "host", name: "client" });
    return {
      server: server.runtime,
      client: client.runtime,
      address: LOOPBACK,
      closedPort: 9,
      run: (work) => work(),
      close: async () => {
        await Promise.all([server.stop(), client.stop()]);
        expect(await kernel.control("processes")).toEqual([]);
        await kernel.stop();
      },
    };
  });
}

async function echo(conn: Conn, text: string): Promise<string> {
  conn.writeLatin1(text);
  const into = new Uint8Array(text.length);
  let at = 0;
  while (at < into.length) {
    const n = await conn.read(into, at);
    if (n === 0) break;
    at += n;
  }
  return Buffer.from(into.subarray(0, at)).toString("latin1");
}
