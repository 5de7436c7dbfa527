/**
 * Our own requests through the stack: to let the JIT compile the path before anybody looks, and to have one to show.
 */
import type { Address } from "../../src/base/address.ts";
import type { Runtime } from "../../src/runtime/port.ts";

export interface WarmUpClient {
  readonly runtime: Runtime;
  readonly siteAddress: Address;
  readonly sitePort: number;
}

/** Connections at once at most: enough to overlap the wire's delay. */
const MAX_PARALLEL = 20;
const REQUEST = "GET /hello HTTP/1.1\r\nHost: sojourn\r\nUser-Agent: sojourn\r\nConnection: close\r\n\r\n";

/**
 * Sends `count` requests for /hello, one connection each and at most `parallel` at once, so that no accept queue
 * overflows before anybody looks; resolves when all were answered.
 */
export async function warmUp(client: WarmUpClient, count: number, parallel = MAX_PARALLEL): Promise<void> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) await request(client);
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(parallel, MAX_PARALLEL, count)) }, worker));
}

async function request({ runtime, siteAddress, sitePort }: WarmUpClient): Promise<void> {
  const conn = await runtime.network.dial(siteAddress, sitePort);
  try {
    conn.writeLatin1(REQUEST);
    conn.flush();
    const buffer = new Uint8Array(4096);
    while ((await conn.read(buffer)) > 0) {}
  } finally {
    conn.close();
  }
}
