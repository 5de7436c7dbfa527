/** The pump on real sockets; the device lives in an inline kernel, the peer speaks the framing by hand. */
import { once } from "node:events";
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createKernelMachine, type StreamKernelMachine } from "../../tests/support/stream-kernel.ts";
import { FrameReader, framed, joined } from "../../tests/support/stream-peer.ts";
import { InlineKernel } from "./inline-driver.ts";
import { formatStreamAddress, parseStreamAddress } from "./stream-address.ts";
import { StreamPump, type StreamPumpOptions } from "./stream-pump.ts";
import { StreamRings } from "./stream-rings.ts";

const OURS = [198, 18, 0, 1];
const OUR_MAC = [2, 0, 0, 0, 0, 1];
const THEIRS = [198, 18, 0, 2];
const THEIR_MAC = [2, 0, 0, 0, 0, 2];

let directory: string;
let path: string;
let rings: StreamRings;
let kernel: InlineKernel;
let notes: string[];
const ends: (() => unknown)[] = [];

beforeEach(() => {
  directory = mkdtempSync("/tmp/sojourn-stream-");
  path = join(directory, "n.sock");
  rings = new StreamRings();
  notes = [];
  kernel = new InlineKernel({
    factory: createKernelMachine,
    options: { cidr: "198.18.0.1/24", mac: 1, rings: rings.buffer },
  });
  ends.push(() => rmSync(directory, { recursive: true }));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  const { pool } = (kernel.machine as StreamKernelMachine).host.env;
  await kernel.stop();
  expect(pool.outstanding).toBe(0);
});

async function pump(options: Partial<StreamPumpOptions> = {}): Promise<StreamPump> {
  const started = await StreamPump.start({
    rings,
    address: { path },
    ringKernel: () => kernel.wake(),
    onNote: (note) => notes.push(note),
    ...options,
  });
  ends.push(() => started.close());
  return started;
}

/** A host that is nothing but a socket and a hand that writes frames. */
class HandMadeHost {
  readonly socket: Socket;
  readonly frames: Uint8Array[] = [];
  isClosed = false;

  constructor(socket: Socket) {
    const reader = new FrameReader();
    this.socket = socket;
    socket.on("data", (bytes) => this.frames.push(...reader.push(bytes)));
    socket.on("close", () => {
      this.isClosed = true;
    });
    socket.on("error", () => {});
    ends.push(() => socket.destroy());
  }

  static async dial(to: { path: string } | { host: string; port: number } = { path }): Promise<HandMadeHost> {
    const socket = connect({ ...to });
    await once(socket, "connect");
    return new HandMadeHost(socket);
  }

  send(...frames: readonly Uint8Array[]): void {
    this.socket.write(joined(frames.map(framed)));
  }

  /** The next frame that satisfies `test`, and takes it. */
  async next(test: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    let found: Uint8Array | undefined;
    await until(() => {
      const at = this.frames.findIndex(test);
      if (at >= 0) [found] = this.frames.splice(at, 1);
      return found !== undefined;
    });
    return found as Uint8Array;
  }
}

async function until(isTrue: () => boolean, timeoutMs = 5000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!isTrue()) {
    if (performance.now() > endMs) throw new Error(`did not come true: ${isTrue}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Who has 198.18.0.1? RFC 826, in bytes. */
const arpRequest = Uint8Array.of(
  ...[255, 255, 255, 255, 255, 255, ...THEIR_MAC, 8, 6],
  ...[0, 1, 8, 0, 6, 4, 0, 1, ...THEIR_MAC, ...THEIRS, 0, 0, 0, 0, 0, 0, ...OURS],
);
const isArpReply = (f: Uint8Array): boolean => f[12] === 8 && f[13] === 6 && f[21] === 2;

/** One's complement of the one's complement sum (RFC 1071). */
function checksum(bytes: readonly number[]): number[] {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return [(~sum >>> 8) & 255, ~sum & 255];
}

/** ICMP echo request `n` with `size` bytes (RFC 792 in RFC 791), in bytes. */
function ping(n: number, size = 32): Uint8Array {
  const payload = Array.from({ length: size }, (_, i) => (i + n) & 255);
  const echo = [0x12, 0x34, n >> 8, n & 255, ...payload];
  const icmp = [8, 0, ...checksum([8, 0, 0, 0, ...echo]), ...echo];
  const length = 20 + icmp.length;
  const head = [0x45, 0, length >> 8, length & 255, n >> 8, n & 255, 0, 0, 64, 1];
  const addresses = [...THEIRS, ...OURS];
  const sum = checksum([...head, 0, 0, ...addresses]);
  return Uint8Array.of(...OUR_MAC, ...THEIR_MAC, 8, 0, ...head, ...sum, ...addresses, ...icmp);
}
const isEchoReply = (f: Uint8Array): boolean => f[12] === 8 && f[13] === 0 && f[23] === 1 && f[34] === 0;
const numberOfPing = (f: Uint8Array): number => ((f[40] as number) << 8) | (f[41] as number);

/** Asks for our MAC (so that the kernel knows theirs) and pings once. */
async function talks(host: HandMadeHost, n: number): Promise<void> {
  host.send(arpRequest);
  const reply = await host.next(isArpReply);
  expect([...reply.subarray(22, 32)]).toEqual([...OUR_MAC, ...OURS]);
  host.send(ping(n));
  const pong = await host.next((frame) => isEchoReply(frame) && numberOfPing(frame) === n);
  expect(pong.length).toBe(74);
  expect([...pong.subarray(42)]).toEqual([...ping(n).subarray(42)]);
}

describe("a peer that speaks the framing by hand", () => {
  for (const name of ["unix", "tcp"]) {
    it(`gets answers to ARP and ping, over ${name}`, async () => {
      const p = await pump({ address: parseStreamAddress(name === "unix" ? path : "127.0.0.1:0") });
      await talks(await HandMadeHost.dial(p.address), 7);
      expect(p.stats).toMatchObject({ peers: 1, bytesIn: 4 + 42 + 4 + 74, bytesOut: 4 + 42 + 4 + 74 });
    });
  }

  it("may listen while we connect, and we come again when it was away", async () => {
    const server = createServer();
    ends.push(() => server.close());
    server.listen(path);
    await once(server, "listening");
    const came = async () => new HandMadeHost((await once(server, "connection"))[0] as Socket);
    const first = came();
    const p = await pump({ role: "connect", reconnectMs: 20 });
    const host = await first;
    await talks(host, 1);
    const second = came();
    host.socket.destroy();
    await talks(await second, 2);
    expect(p.stats.peers).toBe(2);
  });

  it("may cut its bytes anywhere", async () => {
    await pump();
    const host = await HandMadeHost.dial();
    host.socket.setNoDelay(true);
    for (const byte of joined([framed(arpRequest), framed(ping(1))])) {
      host.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(numberOfPing(await host.next(isEchoReply))).toBe(1);
  });

  it("may send faster than we answer: nothing is lost, and it is held back", async () => {
    const p = await pump();
    const host = await HandMadeHost.dial();
    await talks(host, 0);
    // More than a ring holds; answers the peer is slow to read fit in ring, TX ring (256) and qdisc (1000).
    const count = 2200;
    for (let n = 1; n <= count; n++) host.send(ping(n, 1000));
    await until(() => host.frames.length >= count, 20_000);
    const answered = host.frames.map(numberOfPing);
    expect(answered).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    expect(p.stats.bytesIn).toBe(4 + 42 + 4 + 74 + count * 1046);
  });
});

describe("peers come and go", () => {
  it("one that goes takes the carrier with it; the next one finds everything in order", async () => {
    const p = await pump();
    const host = await HandMadeHost.dial();
    await talks(host, 1);
    host.socket.end(framed(ping(2)).subarray(0, 20));
    await until(() => !p.hasPeer);
    expect(notes.at(-1)).toContain("carrier down");
    await talks(await HandMadeHost.dial(), 3);
    const { env, net } = (kernel.machine as StreamKernelMachine).host;
    expect(env.drops.rows()).toEqual({ PKT_TOO_SMALL: 1 });
    expect(net.devices[1]?.device.stats.rxErrors).toBe(1);
  });

  it("a second one waits until the first has gone, a third is refused", async () => {
    const p = await pump();
    const first = await HandMadeHost.dial();
    await talks(first, 1);
    const second = await HandMadeHost.dial();
    second.send(arpRequest);
    await until(() => notes.some((note) => note.includes("waits until")));
    const third = await HandMadeHost.dial();
    await until(() => third.isClosed);
    expect([p.stats.refused, second.frames.length]).toEqual([1, 0]);
    await talks(first, 2);
    first.socket.destroy();
    await second.next(isArpReply);
    await talks(second, 3);
  });

  it("one that loses the framing is closed with a note, and the next one is served", async () => {
    const p = await pump();
    const host = await HandMadeHost.dial();
    await talks(host, 1);
    host.socket.write("GET / HTTP/1.1\r\n\r\n");
    await until(() => host.isClosed && !p.hasPeer);
    // "GET " as a number.
    expect(notes.find((note) => note.includes("framing is lost"))).toContain(`${0x47455420} bytes`);
    expect(p.stats.expelled).toBe(1);
    await talks(await HandMadeHost.dial(), 2);
  });

  it("one that dies while the ring is full leaves a device that works", async () => {
    const p = await pump();
    for (let round = 1; round <= 3; round++) {
      const host = await HandMadeHost.dial();
      await talks(host, 5000 + round);
      // It does not read: answers fill the socket, the ring, the TX ring and the qdisc.
      host.socket.pause();
      for (let n = 0; n < 4000; n++) host.send(ping(n, 1400));
      await new Promise((resolve) => setTimeout(resolve, 50));
      host.socket.destroy();
      await until(() => !p.hasPeer);
    }
    expect(p.stats.discardedBytes).toBeGreaterThan(0);
    // What the kernel still had to say to the last one, it says to this one, as on a cable that was plugged in again.
    await talks(await HandMadeHost.dial(), 9000);
  });
});

describe("the address", () => {
  it("is the owner's alone whatever the umask, and gone after close", async () => {
    const before = process.umask(0);
    try {
      const p = await pump();
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(process.umask()).toBe(0);
      await p.close();
      expect(existsSync(path)).toBe(false);
    } finally {
      process.umask(before);
    }
  });

  it("in use is refused, and its owner is left alone", async () => {
    await pump();
    const error = { code: "EADDRINUSE", error: `${path} is in use`, why: expect.stringContaining("another process") };
    await expect(pump()).rejects.toMatchObject(error);
    await talks(await HandMadeHost.dial(), 1);
    const tcp = await StreamPump.start({
      rings: new StreamRings(),
      address: { host: "127.0.0.1", port: 0 },
      ringKernel() {},
    });
    ends.push(() => tcp.close());
    await expect(pump({ address: tcp.address })).rejects.toMatchObject({
      code: "EADDRINUSE",
      next: expect.stringContaining("choose another port"),
    });
  });

  it("left behind by a dead process is taken over", async () => {
    const other = createServer();
    other.listen(path);
    await once(other, "listening");
    // A process that is killed leaves its file; so does a listener whose file was renamed away and back.
    const away = `${path}.away`;
    renameSync(path, away);
    await new Promise((resolve) => other.close(resolve));
    renameSync(away, path);
    await pump();
    await talks(await HandMadeHost.dial(), 1);
  });

  it("that is a file is not touched", async () => {
    writeFileSync(path, "precious");
    await expect(pump()).rejects.toMatchObject({ code: "EEXIST", why: expect.stringContaining("no socket") });
    expect(statSync(path).size).toBe(8);
  });

  it("without a directory, without a listener: says what to do", async () => {
    const address = { path: join(directory, "none", "n.sock") };
    await expect(pump({ address })).rejects.toMatchObject({ next: expect.stringContaining("director") });
    await expect(pump({ role: "connect" })).rejects.toMatchObject({
      code: "ENOENT",
      next: expect.stringContaining("QEMU"),
    });
  });

  it.each([
    ["/tmp/a.sock", { path: "/tmp/a.sock" }],
    ["a.sock", { path: "a.sock" }],
    ["./a:1", { path: "./a:1" }],
    ["127.0.0.1:5000", { host: "127.0.0.1", port: 5000 }],
    ["localhost:0", { host: "localhost", port: 0 }],
    ["[::1]:5000", { host: "::1", port: 5000 }],
  ])("%s is understood, and written the same way", (text, address) => {
    expect(parseStreamAddress(text)).toEqual(address);
    expect(formatStreamAddress(parseStreamAddress(text))).toBe(text);
  });

  it.each([
    ["", "EINVAL"],
    ["a\0b", "EINVAL"],
    ["0.0.0.0:5000", "EINVAL"],
    ["example.com:5000", "EINVAL"],
    ["127.0.0.1:65536", "EINVAL"],
    [`/tmp/${"x".repeat(103)}`, "ENAMETOOLONG"],
  ])("%j is refused with %s", (text, code) => {
    expect(() => parseStreamAddress(text)).toThrow(expect.objectContaining({ code }));
  });
});
