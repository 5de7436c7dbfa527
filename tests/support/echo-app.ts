/** A process that sends back what it gets; `burn:<ms>` as the first bytes holds its CPU first, `die` kills it. */
import { ANY_V4 } from "../../src/base/address.ts";
import { MILLISECOND } from "../../src/base/time.ts";
import type { ProcessApp } from "../../src/host/process-control.ts";
import { type Conn, PARKED, type Runtime } from "../../src/runtime/port.ts";

export async function main(runtime: Runtime, options: unknown): Promise<ProcessApp> {
  const { port } = options as { port: number };
  if (port < 0) throw new Error("echo-app was asked to fail");
  const listener = await runtime.network.listen(ANY_V4, port);
  let served = 0;
  runtime.spawn("accept", (g) => {
    for (;;) {
      const conn = listener.tryAccept(g);
      if (conn === null) return;
      if (typeof conn === "number") return runtime.exit(g);
      served++;
      echo(runtime, conn);
    }
  });
  return {
    control: (method) => (method === "served" ? served : null),
    stop: () => listener.close(),
  };
}

function echo(runtime: Runtime, conn: Conn): void {
  const buffer = new Uint8Array(65536);
  runtime.spawn("echo", (g) => {
    for (;;) {
      if (conn.tryDrain(g, 262144) === PARKED) return;
      const n = conn.tryRead(g, buffer, 0, buffer.length);
      if (n === PARKED) return;
      if (n <= 0) {
        runtime.exit(g);
        return n === 0 ? conn.close() : conn.abort();
      }
      const command = String.fromCharCode(...buffer.subarray(0, Math.min(n, 16)));
      if (command.startsWith("die")) throw new Error("echo-app was told to die");
      if (command.startsWith("reset")) {
        runtime.exit(g);
        return conn.abort();
      }
      if (command.startsWith("burn:")) void runtime.burn(Number.parseInt(command.slice(5), 10) * MILLISECOND);
      conn.write(buffer, 0, n);
    }
  });
}
