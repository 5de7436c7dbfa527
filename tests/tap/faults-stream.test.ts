/**
 * Faults on the other device that leads out of the process, the framed stream: two kernels of ours on sockets, and
 * between them a relay that loses, repeats, swaps and damages whole frames by a seed.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { type Address, parseAddress } from "../../src/base/address.ts";
import { Prng } from "../../src/base/prng.ts";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import { StreamPump } from "../../src/host/stream-pump.ts";
import { StreamRings } from "../../src/host/stream-rings.ts";
import type { Conn, Runtime } from "../../src/runtime/port.ts";
import * as ethernet from "../../src/wire/ethernet.ts";
import { main as echoApp } from "../support/echo-app.ts";
import { createKernelMachine, type StreamKernelMachine } from "../support/stream-kernel.ts";
import { FrameReader, framed } from "../support/stream-peer.ts";

const PORT = 80;
const STREAM_BYTES = 500_000;
const SEEDS = [1, 2, 3];
const LOSS = 0.02;
const DUPLICATE = 0.05;
const SWAP = 0.05;
const CORRUPT = 0.01;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A kernel whose card listens on a socket of `directory`. */
async function makeSide(directory: string, mac: number): Promise<{ runtime: Runtime; path: string }> {
  const rings = new StreamRings();
  const options = { cidr: `198.18.0.${mac}/24`, mac, rings: rings.buffer };
  const kernel = new InlineKernel({ factory: createKernelMachine, options });
  ends.push(() => kernel.stop());
  const path = join(directory, `${mac}.sock`);
  const pump = await StreamPump.start({ rings, address: { path }, ringKernel: () => kernel.wake() });
  ends.push(() => pump.close());
  const { host } = kernel.machine as StreamKernelMachine;
  return { path, runtime: host.spawn({ name: "process", wakeDriver: () => kernel.wake() }).runtime };
}

interface Tally {
  frames: number;
  faults: number;
}

/** Carries frames from one socket to the other, not all of them well. */
function relay(from: Socket, to: Socket, prng: Prng, tally: Tally): void {
  const reader = new FrameReader();
  let held: Uint8Array | null = null;
  const carry = (frame: Uint8Array): void => {
    tally.frames++;
    // ARP has no checksum that a damaged bit would offend, and is asked for again only after a second.
    const isIp = new DataView(frame.buffer, frame.byteOffset).getUint16(12) === ethernet.EtherType.ipv4;
    const isStruck = (chance: number): boolean => {
      const isHit = isIp && prng.chance(chance);
      if (isHit) tally.faults++;
      return isHit;
    };
    if (isStruck(LOSS)) return;
    if (isStruck(CORRUPT)) frame[ethernet.HEADER_LEN + prng.below(frame.length - ethernet.HEADER_LEN)] ^= 1;
    if (isStruck(DUPLICATE)) to.write(framed(frame));
    if (held === null && isStruck(SWAP)) {
      held = frame;
      return;
    }
    to.write(framed(frame));
    if (held !== null) to.write(framed(held));
    held = null;
  };
  from.on("data", (bytes) => reader.push(bytes).forEach(carry));
}

async function echoed(conn: Conn, sent: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  const write = conn.writeAll(sent).then(() => conn.closeWrite());
  const buffer = new Uint8Array(65_536);
  for (let n = await conn.read(buffer); n > 0; n = await conn.read(buffer)) hash.update(buffer.subarray(0, n));
  await write;
  conn.close();
  return hash.digest("hex");
}

describe("faults on a framed stream", () => {
  it.each(SEEDS)("seed %i: a stream comes back byte by byte", async (seed) => {
    const directory = mkdtempSync(join(tmpdir(), "sojourn-faults-"));
    ends.push(() => rmSync(directory, { recursive: true }));
    const [client, server] = [await makeSide(directory, 1), await makeSide(directory, 2)];
    const [near, far] = [client, server].map(({ path }) => connect(path));
    ends.push(() => [near, far].map((socket) => socket.destroy()));
    const prng = new Prng(seed);
    const tally = { frames: 0, faults: 0 };
    relay(near, far, prng.fork(), tally);
    relay(far, near, prng.fork(), tally);
    const app = await echoApp(server.runtime, { port: PORT });
    ends.push(() => app.stop?.());
    // No letters: the echo obeys some words.
    const sent = randomBytes(STREAM_BYTES).map((byte) => byte | 0x80);
    const conn = await client.runtime.network.dial(parseAddress("198.18.0.2") as Address, PORT);
    expect(await echoed(conn, sent)).toBe(createHash("sha256").update(sent).digest("hex"));
    // At least two ways of 343 segments, and a twelfth of them struck.
    expect(tally.frames).toBeGreaterThan(600);
    expect(tally.faults).toBeGreaterThan(20);
  });
});
