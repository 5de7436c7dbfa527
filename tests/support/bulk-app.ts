/**
 * A process that takes or gives many bytes: "up N\n" and N bytes are answered by their SHA-256 in hex; "down N\n" by N
 * bytes of a pattern; anything else is echoed.
 */
import { createHash } from "node:crypto";
import { ANY_V4 } from "../../src/base/address.ts";
import type { ProcessApp } from "../../src/host/process-control.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";

const CHUNK = 65536;
/** Byte `i` of what "down" gives is `(i * 7 + (i >> 8)) & 255`, repeated every megabyte. */
const PATTERN = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 255);

export async function main(runtime: Runtime, options: unknown): Promise<ProcessApp> {
  const listener = await runtime.network.listen(ANY_V4, (options as { port: number }).port);
  runtime.go("accept", async () => {
    for (;;) {
      const conn = await listener.accept();
      runtime.go("serve", () => serve(conn).catch(() => conn.abort()));
    }
  });
  return { stop: () => listener.close() };
}

async function serve(conn: Conn): Promise<void> {
  const buffer = new Uint8Array(CHUNK);
  for (;;) {
    const n = await conn.read(buffer);
    if (n === 0) return conn.close();
    const [, verb, count, rest] =
      /^(up|down) (\d+)\n([^]*)$/.exec(Buffer.from(buffer.buffer, 0, n).toString("latin1")) ?? [];
    if (verb === "up") await take(conn, buffer, Number(count), n - rest.length, n);
    else if (verb === "down") await give(conn, Number(count));
    else await conn.writeAll(buffer.subarray(0, n));
  }
}

async function take(conn: Conn, buffer: Uint8Array, count: number, from: number, to: number): Promise<void> {
  const hash = createHash("sha256").update(buffer.subarray(from, to));
  for (let left = count - (to - from); left > 0; ) {
    const n = await conn.read(buffer, 0, Math.min(buffer.length, left));
    if (n === 0) return conn.abort();
    hash.update(buffer.subarray(0, n));
    left -= n;
  }
  await conn.writeAll(Buffer.from(hash.digest("hex")));
}

async function give(conn: Conn, count: number): Promise<void> {
  for (let at = 0; at < count; at += CHUNK) {
    const from = at % PATTERN.length;
    await conn.writeAll(PATTERN.subarray(from, from + Math.min(CHUNK, count - at)));
  }
}
