/** Our kernel and the real one, face to face over a TAP, in a network namespace. */
import { createHash } from "node:crypto";
import { closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import type { KernelHandle } from "../../src/host/kernel-handle.ts";
import type { Kernel } from "../../src/host/kernel-machine.ts";
import { openTap, type TapHandle } from "../../src/host/open-tap.ts";
import type { ProcessHandle } from "../../src/host/process-handle.ts";
import type { LinkRow } from "../../src/netdev/net-device.ts";
import { buildFixture, builtSource, isBuilt } from "../support/built.ts";
import { Netns } from "../support/netns.ts";
import { requires } from "../support/requires.ts";
import { createKernelMachine } from "../support/tap-kernel.ts";

const THEIRS = "198.18.61.1";
const OURS = "198.18.61.2";
const TCP_PORT = 80;
const NOBODY = 65534;
const BULK_BYTES = 200 << 20;

interface Stats {
  readonly link: LinkRow;
  readonly drops: Readonly<Record<string, number>>;
  readonly superSegments: { readonly received: number; readonly sent: number };
  readonly outstanding: number;
  readonly isGone: boolean;
}

interface World {
  readonly netns: Netns;
  readonly tap: TapHandle;
  readonly kernel: Kernel;
  stats(): Promise<Stats>;
  close(): Promise<void>;
}

async function makeWorld(start: (options: unknown) => Promise<Kernel>): Promise<World> {
  const netns = new Netns();
  const tap = netns.tap(`${THEIRS}/24`);
  const kernel = await start({ tap, cidr: `${OURS}/24`, seed: 1 });
  return {
    netns,
    tap,
    kernel,
    stats: async () => structuredClone((await kernel.control("stats")) as Stats),
    close: async () => {
      await kernel.stop();
      netns.close();
    },
  };
}

async function startThread(options: unknown): Promise<KernelHandle> {
  const { KernelHandle: Handle } = await import(builtSource("src/host/kernel-handle").href);
  return Handle.start({ factory: buildFixture("tests/support/tap-kernel.ts"), options });
}

async function startInline(options: unknown): Promise<Kernel> {
  return new InlineKernel({ factory: createKernelMachine, options });
}

function figure(text: string): void {
  process.stderr.write(`[figure] ${text}\n`);
}

// ── the kernel's own clients ──────────────────────────────────────────────────────────────────────────────────────

/** Datagrams of the given sizes, one at a time; prints "ok", or what was wrong. */
const UDP_ECHO = `
import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1], 7))
for size in map(int, sys.argv[2].split(',')):
    sent = os.urandom(size); s.send(sent)
    if s.recv(65536) != sent: print('wrong at', size); sys.exit()
print('ok')`;

/** argv: address, round trips; prints the median in ns. */
const UDP_LATENCY = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1], 7))
times = []; now = time.perf_counter_ns
for i in range(int(sys.argv[2])):
    t = now(); s.send(b'x' * 64); s.recv(100); times.append(now() - t)
times.sort(); print(times[len(times) // 2])`;

const UDP_FLOOD = `
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 9))
n = 0; until = time.time() + float(sys.argv[2])
while time.time() < until:
    try: s.send(b'x' * 64)
    except OSError: pass
    n += 1
print(n)`;

const TCP_ECHO = `
import os, socket, sys
s = socket.create_connection((sys.argv[1], 80), 10)
for size in map(int, sys.argv[2].split(',')):
    sent = os.urandom(size); s.sendall(sent); got = b''
    while len(got) < size:
        more = s.recv(65536)
        if not more: print('end at', size); sys.exit()
        got += more
    if got != sent: print('wrong at', size); sys.exit()
s.shutdown(socket.SHUT_WR)
print('ok' if s.recv(1) == b'' else 'no end')`;

/** argv: address, round trips; prints the median and the longest in ns. */
const TCP_LATENCY = `
import socket, sys, time
s = socket.create_connection((sys.argv[1], 80), 10); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []; now = time.perf_counter_ns
for i in range(int(sys.argv[2])):
    t = now(); s.send(b'x' * 64); s.recv(100); times.append(now() - t)
times.sort(); print(times[len(times) // 2], times[-1])`;

/** argv: address, bytes; prints our hash, theirs, and the seconds it took. */
const TCP_UPLOAD = `
import hashlib, os, socket, sys, time
count = int(sys.argv[2]); block = os.urandom(1 << 20); h = hashlib.sha256()
s = socket.create_connection((sys.argv[1], 80), 10); s.settimeout(30); t = time.time()
s.sendall(b'up %d\\n' % count)
for at in range(0, count, 1 << 20):
    s.sendall(block); h.update(block)
got = b''
while len(got) < 64: got += s.recv(64)
print(h.hexdigest(), got.decode(), time.time() - t)`;

/** argv: address, bytes; prints the hash of what came, its length, and the seconds it took. */
const TCP_DOWNLOAD = `
import hashlib, socket, sys, time
count = int(sys.argv[2]); h = hashlib.sha256(); n = 0
s = socket.create_connection((sys.argv[1], 80), 10); s.settimeout(30); t = time.time()
s.sendall(b'down %d\\n' % count)
while n < count:
    more = s.recv(1 << 18)
    if not more: break
    h.update(more); n += len(more)
print(h.hexdigest(), n, time.time() - t)`;

function patternHash(count: number): string {
  const block = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 7 + (i >> 8)) & 255);
  const hash = createHash("sha256");
  for (let at = 0; at < count; at += block.length) hash.update(block.subarray(0, Math.min(block.length, count - at)));
  return hash.digest("hex");
}

async function ping(netns: Netns, ...options: string[]): Promise<string> {
  return netns.exec("ping", "-q", "-i", "0.02", "-W", "2", ...options, OURS).catch((e: { stdout: string }) => e.stdout);
}

/** CPU this whole process used in so many ms, as a share of one CPU. */
async function cpuShare(ms: number): Promise<number> {
  const before = process.cpuUsage();
  const startMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, ms));
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e3 / (performance.now() - startMs);
}

async function measureEcho(world: World, how: string): Promise<void> {
  const rounds = 20_000;
  await world.netns.python(UDP_LATENCY, OURS, "3000");
  const before = process.cpuUsage();
  const p50Ns = Number(await world.netns.python(UDP_LATENCY, OURS, String(rounds)));
  const { user, system } = process.cpuUsage(before);
  const cpu = ((user + system) / rounds).toFixed(1);
  figure(`UDP echo of 64 B over a TAP, ${how}: p50 ${(p50Ns / 1e3).toFixed(1)} us, CPU ${cpu} us per echo`);
  expect(p50Ns).toBeGreaterThan(0);
}

// ── what every kernel must do on a TAP ────────────────────────────────────────────────────────────────────────────

function speaksWithTheKernel(how: string, start: (options: unknown) => Promise<Kernel>): void {
  let world: World;
  beforeAll(async () => {
    world = await makeWorld(start);
  });
  afterAll(() => world.close());

  it("answers ping, also in fragments", async () => {
    expect(await ping(world.netns, "-c", "20")).toContain("20 received, 0% packet loss");
    expect(await ping(world.netns, "-c", "5", "-s", "4000")).toContain("5 received, 0% packet loss");
    expect(await ping(world.netns, "-c", "5", "-s", "60000")).toContain("5 received, 0% packet loss");
  });

  it("echoes datagrams of every size", async () => {
    const sizes = "0,1,17,64,65,1471,1472,1473,2000,2960,9000,65000";
    expect(await world.netns.python(UDP_ECHO, OURS, sizes)).toBe("ok\n");
  });

  it("is quick, and idle when nothing comes", async () => {
    await measureEcho(world, how);
    const share = await cpuShare(1500);
    figure(`idle on a TAP, ${how}: ${(share * 100).toFixed(1)} % of a CPU`);
    expect(share).toBeLessThan(0.1);
  });

  it("drops while the interface is down, and goes on when it is up again", async () => {
    world.netns.ip("link", "set", world.tap.name, "down");
    expect(await ping(world.netns, "-c", "1")).not.toContain("1 received");
    world.netns.ip("link", "set", world.tap.name, "up");
    expect(await ping(world.netns, "-c", "5")).toContain("5 received");
  });

  it("loses no frame: what is in the pool is what waits", async () => {
    expect((await world.stats()).outstanding).toBe(0);
  });

  it("survives that its interface is deleted, without spinning", async () => {
    world.netns.ip("link", "del", world.tap.name);
    // One more turn of the kernel, and it knows.
    await world.stats();
    await expect.poll(async () => (await world.stats()).isGone).toBe(true);
    expect(await cpuShare(1000)).toBeLessThan(0.1);
  });
}

describe.skipIf(requires("tap", "netns", "ping", "python3"))("a TAP", () => {
  describe.skipIf(!isBuilt())("and a kernel thread", () => {
    speaksWithTheKernel("kernel thread", startThread);
  });

  describe("and an inline kernel", () => {
    speaksWithTheKernel("inline", startInline);
  });

  describe.skipIf(!isBuilt())("and a process in a thread of its own", () => {
    let world: World;
    let server: ProcessHandle;
    beforeAll(async () => {
      world = await makeWorld(startThread);
      const { ProcessHandle: Handle } = await import(builtSource("src/host/process-handle").href);
      const module = buildFixture("tests/support/bulk-app.ts");
      server = await Handle.start({
        kernel: world.kernel as KernelHandle,
        host: "server",
        name: "bulk",
        module,
        options: { port: TCP_PORT },
      });
    });
    afterAll(async () => {
      await server.stop();
      await world.close();
    });

    it("echoes a stream", async () => {
      expect(await world.netns.python(TCP_ECHO, OURS, "1,2,1000,1448,1449,70000,1000000")).toBe("ok\n");
    });

    it("never sleeps through the answer of a process", async () => {
      const [p50Ns, longestNs] = (await world.netns.python(TCP_LATENCY, OURS, "5000")).split(" ").map(Number);
      figure(`TCP echo through a process thread over a TAP: p50 ${(p50Ns / 1e3).toFixed(1)} us`);
      // A ring that is slept through is noticed a second later.
      expect(longestNs).toBeLessThan(0.9e9);
    });

    it("takes 200 MB, in super-segments", async () => {
      const before = await world.stats();
      const [ours, theirs, seconds] = (await world.netns.python(TCP_UPLOAD, OURS, String(BULK_BYTES))).split(" ");
      const { superSegments, drops } = await world.stats();
      figure(`upload of 200 MB over a TAP: ${mbits(seconds)} Mbit/s, drops ${JSON.stringify(drops)}`);
      expect(theirs).toBe(ours);
      expect(superSegments.received).toBeGreaterThan(before.superSegments.received);
    });

    it("gives 200 MB, in super-segments", async () => {
      const before = await world.stats();
      const [hash, bytes, seconds] = (await world.netns.python(TCP_DOWNLOAD, OURS, String(BULK_BYTES))).split(" ");
      const { superSegments } = await world.stats();
      figure(`download of 200 MB over a TAP: ${mbits(seconds)} Mbit/s`);
      expect([hash, Number(bytes)]).toEqual([patternHash(BULK_BYTES), BULK_BYTES]);
      expect(superSegments.sent).toBeGreaterThan(before.superSegments.sent);
    });

    it("serves, and answers control calls, through a flood", async () => {
      const flood = world.netns.python(UDP_FLOOD, OURS, "2");
      await new Promise((resolve) => setTimeout(resolve, 500));
      const before = await world.stats();
      const startMs = performance.now();
      expect(await world.netns.python(TCP_ECHO, OURS, "1,1000,100000")).toBe("ok\n");
      const after = await world.stats();
      expect(performance.now() - startMs).toBeLessThan(5000);
      expect(after.link.rx.packets - before.link.rx.packets).toBeGreaterThan(1000);
      figure(`flood: ${(await flood).trim()} datagrams in 2 s`);
    });
  });

  it("says what is wrong with a name, a busy interface, and one that is no TAP", () => {
    for (const name of ["", "a/b", "a b", "sixteen-letters-", "..", "tap%d"]) {
      expect(refusal(name), name).toMatchObject({ code: "EINVAL", next: expect.stringContaining("tap0") });
    }
    expect(refusal("tap0", 10)).toMatchObject({ code: "EINVAL" });
    expect(refusal("lo")).toMatchObject({ code: "EINVAL", why: expect.stringContaining("is no TAP") });
    const netns = new Netns();
    const jumbo = netns.tap(undefined, 9000);
    expect(jumbo.mtu).toBe(9000);
    expect(netns.ip("link", "show", jumbo.name)).toContain("mtu 9000");
    closeSync(jumbo.fd);
    netns.close();
    const held = openTap({ name: `held${process.pid}` });
    expect(held.mtu).toBe(1500);
    expect(refusal(held.name)).toMatchObject({ code: "EBUSY", next: expect.stringContaining("another name") });
    closeSync(held.fd);
  });

  it("says what to do without the privilege", () => {
    process.seteuid?.(NOBODY);
    try {
      expect(refusal(`mine${process.pid}`)).toMatchObject({
        code: "EPERM",
        why: expect.stringContaining("CAP_NET_ADMIN"),
        next: expect.stringContaining(`ip tuntap add dev mine${process.pid} mode tap user`),
      });
    } finally {
      process.seteuid?.(0);
    }
  });
});

describe.skipIf(requires("linux") || !isBuilt())("without koffi", () => {
  it("says what to install", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sojourn-"));
    writeFileSync(join(directory, "package.json"), '{"type":"module"}');
    for (const name of ["libc", "host-device-error"]) {
      const built = readFileSync(builtSource(`src/host/${name}`), "utf8");
      writeFileSync(join(directory, `${name}.js`), built.replace(/^\/\/# source.*$/m, ""));
    }
    const { libc } = await import(join(directory, "libc.js"));
    expect(() => libc()).toThrow(expect.objectContaining({ code: "ENOSYS", next: "npm install koffi" }));
    rmSync(directory, { recursive: true });
  });
});

/** What openTap throws. */
function refusal(name: string, mtu?: number): unknown {
  try {
    openTap(mtu === undefined ? { name } : { name, mtu });
  } catch (error) {
    return error;
  }
  return undefined;
}

function mbits(seconds: string): string {
  return ((BULK_BYTES * 8) / 1e6 / Number(seconds)).toFixed(0);
}
