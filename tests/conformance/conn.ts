/**
 * What every `Network`, `Listener` and `Conn` must do, whoever implements them: our stack in any driver, the host
 * kernel's sockets, TLS over either.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Address } from "../../src/base/address.ts";
import { MILLISECOND } from "../../src/base/time.ts";
import { type Conn, type Listener, PARKED, type Runtime } from "../../src/runtime/port.ts";

/** Two processes that can reach each other. */
export interface ConnWorld {
  readonly server: Runtime;
  readonly client: Runtime;
  /** Where the server process listens and the client dials. */
  readonly address: Address;
  /** A port nobody listens on. */
  readonly closedPort: number;
  /** Drives the world until `work` has settled; rejects when it cannot. */
  run<T>(work: () => Promise<T>): Promise<T>;
  /** Everything closed, nothing left. */
  close(): Promise<void>;
}

export interface ConnConformanceOptions {
  /** Skips with this reason what the implementation does not claim. */
  readonly skip?: { readonly reset?: string; readonly large?: string };
}

const PORT = 3000;

export function connConformance(
  name: string,
  factory: () => ConnWorld | Promise<ConnWorld>,
  options: ConnConformanceOptions = {},
): void {
  describe(`Conn conformance: ${name}`, () => {
    let world: ConnWorld;

    beforeEach(async () => {
      world = await factory();
    });
    afterEach(() => world.close());

    /** A listener, the server's end of one connection and the client's. */
    async function connect(port = PORT): Promise<{ listener: Listener; inside: Conn; outside: Conn }> {
      const listener = await world.server.network.listen(world.address, port);
      const accepted = listener.accept();
      const outside = await world.client.network.dial(world.address, port);
      return { listener, inside: await accepted, outside };
    }

    it("carries bytes both ways and names both ends alike", () =>
      world.run(async () => {
        const { listener, inside, outside } = await connect();
        expect(inside.remote.port).toBe(outside.local.port);
        expect(inside.remote.address.equals(outside.local.address)).toBe(true);
        expect(outside.remote.port).toBe(PORT);
        await outside.writeAll(bytes("ping"));
        expect(await readText(inside, 4)).toBe("ping");
        await inside.writeAll(bytes("pong"));
        expect(await readText(outside, 4)).toBe("pong");
        expect([inside.receivedBytes, inside.sentBytes]).toEqual([4, 4]);
        listener.close();
      }));

    it("accepts a connection that was made before anybody accepted", () =>
      world.run(async () => {
        const listener = await world.server.network.listen(world.address, PORT);
        const outside = await world.client.network.dial(world.address, PORT);
        await outside.writeAll(bytes("early"));
        const inside = await listener.accept();
        expect(await readText(inside, 5)).toBe("early");
      }));

    it("half-close: after FIN the other direction still carries bytes", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        outside.writeLatin1("request");
        outside.closeWrite();
        expect(await readToEnd(inside)).toBe("request");
        inside.writeLatin1("a late answer");
        inside.close();
        expect(await readToEnd(outside)).toBe("a late answer");
      }));

    it("close sends everything written before it", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        const body = pattern(300_000);
        inside.write(body, 0, body.length);
        inside.close();
        expect(Buffer.compare(await readAll(outside), body)).toBe(0);
      }));

    it.skipIf(options.skip?.large)("carries a megabyte with back-pressure, byte exact", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        const body = pattern(1 << 20);
        const sending = (async () => {
          for (let at = 0; at < body.length; at += 50_000) await outside.writeAll(body.subarray(at, at + 50_000));
          outside.closeWrite();
        })();
        const received = await readAll(inside);
        await sending;
        expect(received.length).toBe(body.length);
        expect(Buffer.compare(received, body)).toBe(0);
      }),
    );

    it("a refused connection rejects with ECONNREFUSED", () =>
      world.run(async () => {
        await expect(world.client.network.dial(world.address, world.closedPort)).rejects.toMatchObject({
          code: "ECONNREFUSED",
          syscall: "connect",
        });
      }));

    it("a second listener on a port rejects with EADDRINUSE", () =>
      world.run(async () => {
        await world.server.network.listen(world.address, PORT);
        await expect(world.server.network.listen(world.address, PORT)).rejects.toMatchObject({ code: "EADDRINUSE" });
      }));

    it("a read deadline passes, and a later read still works", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        inside.setReadDeadline(world.server.clock.nowNs + 20 * MILLISECOND);
        await expect(inside.read(new Uint8Array(1))).rejects.toMatchObject({ code: "ETIMEDOUT" });
        inside.setReadDeadline(Number.POSITIVE_INFINITY);
        await outside.writeAll(bytes("x"));
        expect(await readText(inside, 1)).toBe("x");
      }));

    it.skipIf(options.skip?.reset)("abort resets: the peer reads ECONNRESET", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        const reading = inside.read(new Uint8Array(1));
        outside.abort();
        await expect(reading).rejects.toMatchObject({ code: "ECONNRESET", syscall: "read" });
      }),
    );

    it("steps: a goroutine that would block parks and runs again", () =>
      world.run(async () => {
        const { inside, outside } = await connect();
        const echoed = new Promise<void>((resolve) => {
          const buffer = new Uint8Array(64);
          world.server.spawn("echo", (g) => {
            for (;;) {
              const n = inside.tryRead(g, buffer, 0, buffer.length);
              if (n === PARKED) return;
              if (n <= 0) {
                world.server.exit(g);
                inside.close();
                return resolve();
              }
              inside.write(buffer, 0, n);
            }
          });
        });
        for (const word of ["one", "two", "three"]) {
          await outside.writeAll(bytes(word));
          expect(await readText(outside, word.length)).toBe(word);
        }
        outside.closeWrite();
        await echoed;
        expect(await readToEnd(outside)).toBe("");
      }));

    it("a paused listener lets connections wait, and gives them out when it goes on", () =>
      world.run(async () => {
        const listener = await world.server.network.listen(world.address, PORT);
        listener.setPaused(true);
        let accepted = 0;
        const accepting = listener.accept().then((conn) => {
          accepted++;
          return conn;
        });
        const outside = await world.client.network.dial(world.address, PORT);
        await world.server.sleep(20 * MILLISECOND);
        expect(accepted).toBe(0);
        listener.setPaused(false);
        const inside = await accepting;
        await inside.writeAll(bytes("at last"));
        expect(await readText(outside, 7)).toBe("at last");
      }));

    it("fifty connections at once are fifty", () =>
      world.run(async () => {
        const listener = await world.server.network.listen(world.address, PORT);
        const serving = (async () => {
          for (let i = 0; i < 50; i++) void serveOnce(await listener.accept());
        })();
        const answers = await Promise.all(
          Array.from({ length: 50 }, async (_, i) => {
            const conn = await world.client.network.dial(world.address, PORT);
            conn.writeLatin1(`${i}\n`);
            conn.closeWrite();
            return readToEnd(conn);
          }),
        );
        await serving;
        expect(answers).toEqual(Array.from({ length: 50 }, (_, i) => `${i}\n`));
      }));

    it("using a closed connection is EBADF, closing it again is nothing", () =>
      world.run(async () => {
        const { inside, listener } = await connect();
        inside.close();
        inside.close();
        await expect(inside.read(new Uint8Array(1))).rejects.toMatchObject({ code: "EBADF" });
        listener.close();
        await expect(listener.accept()).rejects.toMatchObject({ code: "EBADF" });
      }));
  });
}

/** Sends back all it gets, then closes. */
async function serveOnce(conn: Conn): Promise<void> {
  const all = await readAll(conn);
  await conn.writeAll(all);
  conn.close();
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** Bytes in which every offset differs from its neighbours, so that a lost or repeated chunk shows. */
function pattern(len: number): Uint8Array {
  const out = new Uint8Array(len);
  for (let i = 0; i < len; i++) out[i] = (i * 31 + (i >>> 8) * 7 + (i >>> 16)) & 255;
  return out;
}

async function readText(conn: Conn, len: number): Promise<string> {
  const into = new Uint8Array(len);
  let at = 0;
  while (at < len) {
    const n = await conn.read(into, at, len - at);
    if (n === 0) break;
    at += n;
  }
  return Buffer.from(into.subarray(0, at)).toString("latin1");
}

async function readAll(conn: Conn): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const into = new Uint8Array(40_000);
  for (let n = await conn.read(into); n > 0; n = await conn.read(into)) parts.push(into.slice(0, n));
  return Buffer.concat(parts);
}

async function readToEnd(conn: Conn): Promise<string> {
  return Buffer.from(await readAll(conn)).toString("latin1");
}
