/** The port forward over an inline kernel: real host sockets outside, our sockets inside. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connConformance } from "../../tests/conformance/conn.ts";
import { createKernelMachine, type MemoryKernelMachine } from "../../tests/support/memory-kernel.ts";
import { Address, ANY_V4 } from "../base/address.ts";
import { MILLISECOND, type Ns } from "../base/time.ts";
import type { Conn, Listener, Runtime } from "../runtime/port.ts";
import { InlineKernel } from "./inline-driver.ts";
import { PortForward } from "./port-forward.ts";

const LOOPBACK = Address.v4(0x7f000001);

let kernel: InlineKernel;
let server: Runtime;
let client: Runtime;
let forward: PortForward;
let listener: Listener;

beforeEach(async () => {
  kernel = new InlineKernel({ factory: createKernelMachine });
  const machine = kernel.machine as MemoryKernelMachine;
  server = machine.createProcess("server").runtime;
  client = machine.createProcess("client").runtime;
  listener = await server.network.listen(ANY_V4, 80);
  forward = await PortForward.start({ runtime: client, address: LOOPBACK, port: 80, hostPort: 0, maxConnections: 3 });
});

afterEach(async () => {
  await forward.close();
  expect(forward.stats.open).toBe(0);
  await kernel.stop();
});

/** A host connection and its other end inside. */
async function pair(): Promise<{ outside: Socket; inside: Conn }> {
  const outside = connect({ port: forward.hostPort, host: "127.0.0.1", allowHalfOpen: true });
  await once(outside, "connect");
  return { outside, inside: await listener.accept() };
}

async function readAll(conn: Conn): Promise<string> {
  const into = new Uint8Array(65536);
  let text = "";
  for (let n = await conn.read(into); n > 0; n = await conn.read(into))
    text += Buffer.from(into.subarray(0, n)).toString();
  return text;
}

/** What comes until FIN. (Iterating a socket would destroy it at the end.) */
function textOf(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    socket.on("data", (chunk) => (text += chunk));
    socket.on("end", () => resolve(text));
    socket.on("error", reject);
  });
}

describe("port forward", () => {
  it("half-close from outside: the answer still comes", async () => {
    const { outside, inside } = await pair();
    outside.end("question");
    expect(await readAll(inside)).toBe("question");
    inside.writeLatin1("answer");
    inside.close();
    expect(await textOf(outside)).toBe("answer");
  });

  it("half-close from inside: the outside can still write", async () => {
    const { outside, inside } = await pair();
    inside.writeLatin1("greeting");
    inside.closeWrite();
    expect(await textOf(outside)).toBe("greeting");
    outside.end("late");
    expect(await readAll(inside)).toBe("late");
    inside.close();
  });

  it("a reset inside resets outside", async () => {
    const { outside, inside } = await pair();
    const failed = once(outside, "error");
    inside.abort();
    expect((await failed)[0]).toMatchObject({ code: "ECONNRESET" });
    expect(forward.stats.resetsOut).toBe(1);
  });

  it("a reset outside resets inside", async () => {
    const { outside, inside } = await pair();
    outside.resetAndDestroy();
    await expect(inside.read(new Uint8Array(1))).rejects.toMatchObject({ code: "ECONNRESET" });
    expect(forward.stats.resetsIn).toBe(1);
  });

  it("refused inside resets outside", async () => {
    listener.close();
    const outside = connect(forward.hostPort, "127.0.0.1");
    const [error] = await once(outside, "error");
    expect(error).toMatchObject({ code: "ECONNRESET" });
    expect(forward.stats.dialFailures).toEqual({ ECONNREFUSED: 1 });
  });

  it("a reader inside that does not read stops the writer outside", async () => {
    const { outside, inside } = await pair();
    const block = Buffer.alloc(1 << 20);
    let taken = 0;
    const write = (): void => {
      outside.write(block, () => {
        taken += block.length;
        if (taken < 64 << 20) write();
      });
    };
    write();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(forward.stats.bytesIn).toBeLessThan(8 << 20);
    expect(taken).toBeLessThan(32 << 20);
    inside.abort();
    await once(outside, "close").catch(() => {});
  });

  it("a reader outside that does not read stops the writer inside", async () => {
    const { outside, inside } = await pair();
    outside.pause();
    let written = 0;
    let isOver = false;
    void (async () => {
      const block = new Uint8Array(1 << 18);
      while (!isOver) {
        await inside.writeAll(block);
        written += block.length;
      }
    })().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(written).toBeLessThan(32 << 20);
    isOver = true;
    outside.destroy();
  });

  it("more connections than allowed are closed at once", async () => {
    const sockets = [await pair(), await pair(), await pair()];
    const extra = connect(forward.hostPort, "127.0.0.1");
    await once(extra, "close");
    expect(forward.stats).toMatchObject({ open: 3, rejected: 1 });
    for (const { outside } of sockets) outside.destroy();
  });

  it("takes the next free port, unless that very port was asked for", async () => {
    const blocker = createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as { port: number };
    const options = { runtime: client, address: LOOPBACK, port: 80, hostPort: port };
    const moved = await PortForward.start(options);
    expect(moved.hostPort).toBeGreaterThan(port);
    await moved.close();
    await expect(PortForward.start({ ...options, exact: true })).rejects.toMatchObject({ code: "EADDRINUSE" });
    blocker.close();
  });

  it("close ends what is open and frees the port", async () => {
    const { outside, inside } = await pair();
    outside.on("error", () => {});
    const closed = new Promise((resolve) => outside.on("close", resolve));
    await forward.close();
    await closed;
    await expect(inside.read(new Uint8Array(1))).rejects.toMatchObject({ code: "ECONNRESET" });
    const again = createServer().listen(forward.hostPort, "127.0.0.1");
    await once(again, "listening");
    again.close();
  });
});

describe("inline kernel", () => {
  it("reports the stretch in which a handler held the loop", async () => {
    const stretches: [Ns, Ns][] = [];
    const busy = new InlineKernel({ factory: createKernelMachine, onBusy: (from, to) => stretches.push([from, to]) });
    const { runtime } = (busy.machine as MemoryKernelMachine).createProcess("busy");
    await new Promise<void>((resolve) => {
      runtime.spawn("burner", (g) => {
        void runtime.burn(50 * MILLISECOND);
        runtime.exit(g);
        resolve();
      });
    });
    await runtime.sleep(5 * MILLISECOND);
    const longest = Math.max(...stretches.map(([from, to]) => to - from));
    expect(longest).toBeGreaterThanOrEqual(50 * MILLISECOND);
    await busy.stop();
  });

  it("ends with the error that came out of the machine", async () => {
    const broken = new InlineKernel({
      factory: (options, context) => ({
        ...createKernelMachine(options, context),
        advance() {
          throw new Error("broken machine");
        },
      }),
    });
    await expect(broken.ended).rejects.toThrow("broken machine");
  });

  it("answers control calls as the kernel thread does", async () => {
    expect(await kernel.control("ping", 7)).toEqual({ pong: 7 });
    await expect(kernel.control("nonsense")).rejects.toMatchObject({ name: "ControlError", next: "ask ping" });
  });
});

connConformance("inline kernel in real time", () => {
  const own = new InlineKernel({ factory: createKernelMachine });
  const machine = own.machine as MemoryKernelMachine;
  return {
    server: machine.createProcess("server").runtime,
    client: machine.createProcess("client").runtime,
    address: LOOPBACK,
    closedPort: 9,
    run: (work) => work(),
    close: () => own.stop(),
  };
});
