/**
 * What every `SyscallPort` must do, whoever implements it: inline, or across shared memory to another thread.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Address, ANY_V4 } from "../../src/base/address.ts";
import { Errno } from "../../src/base/errno.ts";
import * as k from "../../src/socket/constants.ts";
import { CompletionFlag, type SyscallPort, SysOp } from "../../src/socket/syscall-port.ts";

/** Two processes that can reach each other. */
export interface SyscallPortWorld {
  readonly server: SyscallPort;
  readonly client: SyscallPort;
  /** Where the server listens and the client connects. */
  readonly address: Address;
  /** A port nobody listens on. */
  readonly closedPort: number;
  /** Lets kernel and network run until nothing is left to do. The ports were flushed. */
  settle(): void | Promise<void>;
  /** Both processes are gone: fails if anything is left open. */
  close(): void | Promise<void>;
}

/** A completion, copied out of the port's reused record. */
interface Taken {
  readonly token: number;
  readonly result: number;
  readonly more: boolean;
  readonly fd: number;
  readonly data: number;
  readonly address: number;
  readonly offset: number;
  readonly peer: string;
  readonly peerPort: number;
  readonly local: string;
  readonly localPort: number;
}

/** One process: makes calls and keeps what completes until it is asked for. */
class Caller {
  readonly port: SyscallPort;
  private readonly settle: () => void | Promise<void>;
  private tokens = 0;
  private inbox: Taken[] = [];

  constructor(port: SyscallPort, settle: () => void | Promise<void>) {
    this.port = port;
    this.settle = settle;
  }

  nextToken(): number {
    return ++this.tokens;
  }

  /** Makes a call with a completion and returns it. */
  async call(op: SysOp, fd: number, a = 0, b = 0, c = 0, d = 0): Promise<Taken> {
    const token = this.nextToken();
    expect(this.port.submit(op, fd, token, 0, a, b, c, d)).toBe(true);
    return this.completion(token);
  }

  async callWithAddress(op: SysOp, fd: number, address: Address, port: number): Promise<Taken> {
    const token = this.nextToken();
    expect(this.port.submitWithAddress(op, fd, token, 0, address, port)).toBe(true);
    return this.completion(token);
  }

  /** Submits and returns the token, for calls that complete later or often. */
  start(op: SysOp, fd: number, a = 0): number {
    const token = this.nextToken();
    expect(this.port.submit(op, fd, token, 0, a)).toBe(true);
    return token;
  }

  /** Everything of this token that has completed, after letting the world settle. */
  async of(token: number): Promise<Taken[]> {
    this.port.flush();
    await this.settle();
    this.reapAll();
    const mine = this.inbox.filter((c) => c.token === token);
    this.inbox = this.inbox.filter((c) => c.token !== token);
    return mine;
  }

  /** The one completion of this token. */
  async completion(token: number): Promise<Taken> {
    const all = await this.of(token);
    expect(all, `completions of token ${token}`).toHaveLength(1);
    return all[0] as Taken;
  }

  private reapAll(): void {
    const { port } = this;
    while (port.reap()) {
      const c = port.completion;
      const text = (w: Int32Array) =>
        new Address(w[0] as number, w[1] as number, w[2] as number, w[3] as number).toString();
      this.inbox.push({
        token: c.token,
        result: c.result,
        more: (c.flags & CompletionFlag.more) !== 0,
        fd: c.fd,
        data: c.data,
        address: c.address,
        offset: c.offset,
        peer: text(c.peerWords),
        peerPort: c.peerPort,
        local: text(c.localWords),
        localPort: c.localPort,
      });
    }
  }
}

const PORT = 8080;

export function syscallPortConformance(
  name: string,
  factory: () => SyscallPortWorld | Promise<SyscallPortWorld>,
): void {
  describe(`SyscallPort conformance: ${name}`, () => {
    let world: SyscallPortWorld;
    let server: Caller;
    let client: Caller;

    beforeEach(async () => {
      world = await factory();
      const settle = () => world.settle();
      server = new Caller(world.server, settle);
      client = new Caller(world.client, settle);
    });
    afterEach(async () => {
      await server.call(SysOp.exit, -1);
      await client.call(SysOp.exit, -1);
      await world.close();
    });

    async function listen(port = PORT): Promise<number> {
      const { result: fd } = await server.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM | k.SOCK_NONBLOCK);
      expect((await server.callWithAddress(SysOp.bind, fd, ANY_V4, port)).result).toBe(0);
      expect((await server.call(SysOp.listen, fd, 128)).result).toBe(0);
      return fd;
    }

    async function dial(port = PORT): Promise<{ fd: number; connected: Taken }> {
      const { result: fd } = await client.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM | k.SOCK_NONBLOCK);
      return { fd, connected: await client.callWithAddress(SysOp.connect, fd, world.address, port) };
    }

    /** A connection: the client's fd, and the server's after it took the offer. */
    async function connect(): Promise<{ outside: number; inside: number }> {
      const listener = await listen();
      const armed = server.start(SysOp.acceptArm, listener);
      const { fd: outside } = await dial();
      const offer = await server.completion(armed);
      server.port.submit(SysOp.acceptTake, listener, server.nextToken(), 0, offer.result);
      return { outside, inside: offer.result };
    }

    /** Sends all bytes, waiting for room as often as needed; the reader is given a chance each time. */
    async function sendAll(from: Caller, fd: number, bytes: Uint8Array, meanwhile: () => Promise<void>): Promise<void> {
      for (let sent = 0; sent < bytes.length; ) {
        const len = Math.min(16384, bytes.length - sent);
        const at = from.port.stage(bytes, sent, len);
        expect(at).toBeGreaterThanOrEqual(0);
        const { result } = await from.call(SysOp.send, fd, at, len);
        if (result === -Errno.EAGAIN) {
          const room = from.start(SysOp.awaitWritable, fd);
          let there = await from.of(room);
          for (let tries = 0; there.length === 0 && tries < 1000; tries++) {
            await meanwhile();
            there = await from.of(room);
          }
          expect(there[0]?.result).toBeGreaterThan(0);
        } else {
          expect(result).toBeGreaterThan(0);
          sent += result;
        }
      }
    }

    /** Reads what is offered under `armed` and takes it; returns the bytes and how the stream ended, if it did. */
    async function read(by: Caller, fd: number, armed: number): Promise<{ bytes: Uint8Array; end: number | null }> {
      const parts: number[] = [];
      let end: number | null = null;
      for (const offer of await by.of(armed)) {
        if (offer.result <= 0) {
          expect(offer.more).toBe(false);
          end = offer.result;
          continue;
        }
        const part = new Uint8Array(offer.result);
        by.port.copyOut(offer.address, offer.result, part, 0);
        by.port.submit(SysOp.receiveTake, fd, 0, 0, offer.result);
        parts.push(...part);
      }
      return { bytes: Uint8Array.from(parts), end };
    }

    it("the first descriptor is 3, and closed ones come back", async () => {
      expect((await server.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM)).result).toBe(3);
      expect((await server.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM)).result).toBe(4);
      expect((await server.call(SysOp.close, 3)).result).toBe(0);
      expect((await server.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM)).result).toBe(3);
    });

    it("failures come as -errno", async () => {
      expect((await server.call(SysOp.close, 99)).result).toBe(-Errno.EBADF);
      expect((await server.call(SysOp.socket, -1, 99, 1)).result).toBe(-Errno.EAFNOSUPPORT);
      expect((await server.call(SysOp.receiveArm, 99)).result).toBe(-Errno.EBADF);
      expect((await server.call(SysOp.acceptArm, 0)).result).toBe(-Errno.ENOTSOCK);
      expect((await server.call(SysOp.getsockopt, 0, 1, 4)).result).toBe(-Errno.ENOTSOCK);
    });

    it("token 0 is silent on success", async () => {
      server.port.submit(SysOp.socket, -1, 0, 0, k.AF_INET, k.SOCK_STREAM);
      expect(await server.of(0)).toEqual([]);
      expect((await server.call(SysOp.close, 3)).result).toBe(0);
    });

    it("a second listener on a port is refused", async () => {
      await listen();
      const { result: fd } = await server.call(SysOp.socket, -1, k.AF_INET, k.SOCK_STREAM);
      const bound = await server.callWithAddress(SysOp.bind, fd, ANY_V4, PORT);
      const listening = await server.call(SysOp.listen, fd, 1);
      expect([bound.result, listening.result]).toContain(-Errno.EADDRINUSE);
    });

    it("offers a connection with the names of both ends", async () => {
      const listener = await listen();
      const armed = server.start(SysOp.acceptArm, listener);
      const { fd, connected } = await dial();
      expect(connected.result).toBe(0);
      expect(connected.data).toBeGreaterThan(0);
      const outside = await client.call(SysOp.getsockname, fd);
      const offer = await server.completion(armed);
      expect(offer).toMatchObject({
        fd: listener,
        more: true,
        peer: outside.peer,
        peerPort: outside.peerPort,
        local: world.address.toString(),
        localPort: PORT,
      });
      expect(offer.data).toBeGreaterThan(0);
      const token = server.nextToken();
      server.port.submit(SysOp.acceptTake, listener, token, 0, offer.result);
      const peer = await server.call(SysOp.getpeername, offer.result);
      expect(peer).toMatchObject({ result: 0, peer: outside.peer, peerPort: outside.peerPort });
      expect(await server.of(token)).toEqual([]);
    });

    it("a connection made before accept was armed is offered at once", async () => {
      const listener = await listen();
      expect((await dial()).connected.result).toBe(0);
      const armed = server.start(SysOp.acceptArm, listener);
      expect((await server.completion(armed)).more).toBe(true);
    });

    it("disarmed, it offers nothing and withdraws what it offered; armed again, it offers all", async () => {
      const listener = await listen();
      const armed = server.start(SysOp.acceptArm, listener);
      await dial();
      const offer = await server.completion(armed);
      expect((await server.call(SysOp.acceptDisarm, listener)).result).toBe(0);
      expect((await server.call(SysOp.acceptTake, listener, offer.result)).result).toBe(-Errno.EAGAIN);
      await dial();
      expect(await server.of(armed)).toEqual([]);
      expect(await server.of(server.start(SysOp.acceptArm, listener))).toHaveLength(2);
    });

    it("a closed port refuses", async () => {
      expect((await dial(world.closedPort)).connected.result).toBe(-Errno.ECONNREFUSED);
    });

    it("carries bytes both ways, then the end of the stream", async () => {
      const { outside, inside } = await connect();
      const there = server.start(SysOp.receiveArm, inside);
      const back = client.start(SysOp.receiveArm, outside);
      await sendAll(client, outside, Uint8Array.of(1, 2, 3), async () => {});
      expect([...(await read(server, inside, there)).bytes]).toEqual([1, 2, 3]);
      await sendAll(server, inside, Uint8Array.of(9), async () => {});
      expect([...(await read(client, outside, back)).bytes]).toEqual([9]);
      expect((await client.call(SysOp.shutdown, outside, k.SHUT_WR)).result).toBe(0);
      expect((await read(server, inside, there)).end).toBe(0);
      await sendAll(server, inside, Uint8Array.of(7), async () => {});
      expect([...(await read(client, outside, back)).bytes]).toEqual([7]);
    });

    it("carries a megabyte through full queues, every byte in its place", async () => {
      const { outside, inside } = await connect();
      const armed = server.start(SysOp.receiveArm, inside);
      const bytes = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 255);
      const got = new Uint8Array(bytes.length);
      let length = 0;
      const drain = async () => {
        const part = await read(server, inside, armed);
        got.set(part.bytes, length);
        length += part.bytes.length;
      };
      await sendAll(client, outside, bytes, drain);
      for (let before = -1; before !== length; ) {
        before = length;
        await drain();
      }
      expect(length).toBe(bytes.length);
      expect(got.every((byte, i) => byte === bytes[i])).toBe(true);
    });

    it("bytes offered and not taken stay in the queue: the sender fills it and waits", async () => {
      const { outside, inside } = await connect();
      server.start(SysOp.receiveArm, inside);
      const chunk = new Uint8Array(16384);
      let refused = false;
      for (let i = 0; i < 2000 && !refused; i++) {
        const at = client.port.stage(chunk, 0, chunk.length);
        refused = (await client.call(SysOp.send, outside, at, chunk.length)).result === -Errno.EAGAIN;
      }
      expect(refused).toBe(true);
    });

    it("a reset shows as ECONNRESET to the reader, and sends fail", async () => {
      const { outside, inside } = await connect();
      const armed = server.start(SysOp.receiveArm, inside);
      expect((await client.call(SysOp.setsockopt, outside, k.SOL_SOCKET, k.SO_LINGER, 1, 0)).result).toBe(0);
      expect((await client.call(SysOp.close, outside)).result).toBe(0);
      expect((await read(server, inside, armed)).end).toBe(-Errno.ECONNRESET);
      const at = server.port.stage(new Uint8Array(4), 0, 4);
      expect((await server.call(SysOp.send, inside, at, 4)).result).toBe(-Errno.EPIPE);
    });

    it("taking more than was offered is EINVAL", async () => {
      const { inside } = await connect();
      server.start(SysOp.receiveArm, inside);
      expect((await server.call(SysOp.receiveTake, inside, 1)).result).toBe(-Errno.EINVAL);
    });

    it("epoll reports a connection to accept", async () => {
      const listener = await listen();
      const { result: epfd } = await server.call(SysOp.epollCreate, -1);
      expect((await server.call(SysOp.epollCtl, epfd, k.EPOLL_CTL_ADD, listener, k.EPOLLIN, 42)).result).toBe(0);
      const waiting = server.start(SysOp.epollWait, epfd, 8);
      expect(await server.of(waiting)).toEqual([]);
      await dial();
      expect(await server.completion(waiting)).toMatchObject({ result: k.EPOLLIN, data: 42, more: false });
    });

    it("a listener that closes ends its armed accept silently", async () => {
      const listener = await listen();
      const armed = server.start(SysOp.acceptArm, listener);
      expect((await server.call(SysOp.close, listener)).result).toBe(0);
      await dial();
      expect(await server.of(armed)).toEqual([]);
    });

    it("flush and reap are harmless when there is nothing", () => {
      world.server.flush();
      world.server.flush();
      expect(world.server.reap()).toBe(false);
    });
  });
}
