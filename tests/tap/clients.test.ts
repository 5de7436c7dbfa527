/**
 * Real clients of the Linux kernel over a TAP: every frame is the kernel's own, in a network namespace.
 */
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { run } from "../support/serve.ts";
import { SERVER_ADDRESS, SITE, TAP_NEEDS, TapSite } from "../support/tap-site.ts";

const MODES = [
  { mode: "thread", args: ["--quiet"] },
  { mode: "inline", args: ["--quiet", "--kernel", "inline"] },
];
/** `nobody`, whom root becomes. */
const NOBODY = "65534";
const GIGABYTE = 1_000_000_000;

describe.skipIf(requires(...TAP_NEEDS, "curl", "ss")).each(MODES)("curl over a TAP, $mode", ({ args }) => {
  let site: TapSite;
  beforeAll(async () => {
    site = await TapSite.start(...args);
  });
  afterAll(async () => {
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  it("gets 200 from a host that listens on nothing", async () => {
    const { out, code } = await site.curl("-i", `${SITE}/hello`);
    expect([code, out.split("\r\n")[0]]).toEqual([0, "HTTP/1.1 200 OK"]);
    expect(out).toContain("Hello from sojourn\n");
    const { out: listeners } = await site.exec("ss", ["-Hltn"]);
    // Only the control API: no socket of the kernel listens on the site's port, nor on its address.
    expect(listeners.split("\n").filter((line) => line !== "" && !line.includes("127.0.0.1:"))).toEqual([]);
    expect(listeners).not.toMatch(/:80\b/);
  });

  it("has its journey, which adds up", async () => {
    await site.curl(`${SITE}/about`);
    await expect.poll(async () => (await site.journeys()).find((j) => j.request?.target === "/about")).toBeDefined();
    const journey = (await site.journeys()).find((j) => j.request?.target === "/about");
    const sum = journey?.segments.reduce((total, { startNs, endNs }) => total + endNs - startNs, 0);
    expect([journey?.outcome, journey?.truth, sum]).toEqual(["ok", "user-space", journey?.totalNs]);
  });

  it("posts a body and gets it back", async () => {
    const { out } = await site.curl("--data-binary", "over the wire", `${SITE}/echo`);
    expect(out).toBe("over the wire");
  });

  it("has given up root in every thread", () => {
    const tasks = `/proc/${site.pid}/task`;
    const uids = readdirSync(tasks).map(
      (id) => /^Uid:\s+(.*)$/m.exec(readFileSync(join(tasks, id, "status"), "utf8"))?.[1],
    );
    const four = Array(4).fill(NOBODY).join("\t");
    expect(new Set(uids)).toEqual(new Set([four]));
  });
});

describe.skipIf(requires(...TAP_NEEDS, "curl", "wrk", "ab", "h2load")).each(MODES)(
  "load over a TAP, $mode",
  ({ mode, args }) => {
    let site: TapSite;
    beforeAll(async () => {
      site = await TapSite.start(...args);
    });
    afterAll(async () => {
      const { code, err } = await site.stop();
      expect([code, err]).toEqual([0, ""]);
    });

    it("wrk: 64 connections for 3 s without an error", async () => {
      const cpuBefore = site.cpuMicros();
      const { out, code } = await site.exec("wrk", ["-c", "64", "-t", "1", "-d", "3s", "--latency", `${SITE}/hello`]);
      expect(code).toBe(0);
      expect(out).not.toMatch(/Socket errors|Non-2xx/);
      const requests = Number(/(\d+) requests in/.exec(out)?.[1]);
      expect(requests).toBeGreaterThan(1000);
      const cpu = ((site.cpuMicros() - cpuBefore) / requests).toFixed(1);
      const rate = /Requests\/sec:\s+([\d.]+)/.exec(out)?.[1];
      const p99 = /99%\s+(\S+)/.exec(out)?.[1];
      process.stderr.write(`[figure] TAP ${mode}, wrk -c64: ${rate} requests/s, ${cpu} µs CPU each, p99 ${p99}\n`);
    });

    it("ab: a connection each, and kept alive", async () => {
      for (const options of [[], ["-k"]]) {
        const { out, code } = await site.exec("ab", ["-q", ...options, "-n", "2000", "-c", "50", `${SITE}/hello`]);
        expect(code).toBe(0);
        expect(out).toMatch(/^Complete requests: +2000$/m);
        expect(out).toMatch(/^Failed requests: +0$/m);
        expect(out).not.toContain("Non-2xx");
      }
    });

    it("h2load --h1: 1,000 connections at once, pipelined by none", async () => {
      const { out } = await site.exec("h2load", ["--h1", "-n", "5000", "-c", "1000", "-t", "1", `${SITE}/hello`]);
      expect(out).toMatch(/5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout/);
    });

    it("is itself again afterwards", async () => {
      expect((await site.curl(`${SITE}/hello`)).out).toBe("Hello from sojourn\n");
      const counters = await site.counters();
      expect([counters["TcpExtListenDrops"], counters["TcpInCsumErrors"], counters["IpInHdrErrors"]]).toEqual([
        0, 0, 0,
      ]);
    });
  },
);

describe.skipIf(requires(...TAP_NEEDS, "curl"))("bulk over a TAP", () => {
  let site: TapSite;
  let directory: string;
  beforeAll(async () => {
    site = await TapSite.start("--quiet");
    directory = mkdtempSync(join(tmpdir(), "sojourn-bulk-"));
  });
  afterAll(async () => {
    rmSync(directory, { recursive: true, force: true });
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  it("1 GB down: the bytes are the right ones", { timeout: 120_000 }, async () => {
    const line = "sojourn: the time a customer spends in a system, waiting and being served.\n";
    const block = Buffer.from(line.repeat(Math.ceil(65_536 / line.length))).subarray(0, 65_536);
    const expected = createHash("sha256");
    for (let left = GIGABYTE; left > 0; left -= block.length)
      expected.update(block.subarray(0, Math.min(left, block.length)));
    const startMs = performance.now();
    const { out } = await site.exec("sh", ["-c", `curl -sS --max-time 100 ${SITE}/bytes/${GIGABYTE} | sha256sum`], {
      timeoutMs: 110_000,
    });
    const seconds = (performance.now() - startMs) / 1000;
    process.stderr.write(`[figure] TAP down: 1 GB in ${seconds.toFixed(1)} s\n`);
    expect(out.split(" ")[0]).toBe(expected.digest("hex"));
  });

  it("1 GB up and back: SHA-256 equal, memory flat", { timeout: 180_000 }, async () => {
    const file = join(directory, "gigabyte");
    await run("sh", ["-c", `head -c ${GIGABYTE} /dev/urandom > ${file}`], { timeoutMs: 60_000 });
    const expected = createHash("sha256");
    for await (const chunk of createReadStream(file)) expected.update(chunk as Buffer);
    const before = site.residentBytes();
    const startMs = performance.now();
    const { out } = await site.exec(
      "sh",
      ["-c", `curl -sS --max-time 150 -H 'Expect:' -T ${file} -X POST ${SITE}/echo | sha256sum`],
      { timeoutMs: 160_000 },
    );
    const seconds = (performance.now() - startMs) / 1000;
    const grown = (site.residentBytes() - before) / 2 ** 20;
    process.stderr.write(
      `[figure] TAP both ways: 1 GB in ${seconds.toFixed(1)} s, resident memory ${grown.toFixed(0)} MiB more\n`,
    );
    expect(out.split(" ")[0]).toBe(expected.digest("hex"));
    expect(grown).toBeLessThan(200);
  });
});

describe.skipIf(requires(...TAP_NEEDS, "ping", "nc", "python3", "curl", "ss"))("by hand over a TAP", () => {
  let site: TapSite;
  beforeAll(async () => {
    site = await TapSite.start("--quiet");
  });
  afterAll(async () => {
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  it.each([
    ["small", "56"],
    ["in three fragments", "4000"],
    ["as large as IP allows", "65507"],
  ])("ping, %s", async (_, size) => {
    const { out } = await site.exec("ping", ["-n", "-c", "5", "-i", "0.05", "-W", "2", "-s", size, SERVER_ADDRESS]);
    expect(out).toContain("5 packets transmitted, 5 received, 0% packet loss");
    expect(out).not.toMatch(/wrong data|DUP/);
  });

  it("ping -f: a thousand, none lost", async () => {
    const { out } = await site.exec("ping", ["-n", "-f", "-c", "1000", SERVER_ADDRESS]);
    expect(out).toContain("1000 packets transmitted, 1000 received, 0% packet loss");
  });

  it("nc by hand, and half-close: the request ends with a FIN, the answer still comes", async () => {
    const request = Buffer.from("GET /slow?ms=200 HTTP/1.0\r\n\r\n");
    const { out } = await site.exec("nc", ["-N", "-w", "5", SERVER_ADDRESS, "80"], { input: request });
    expect(out).toMatch(/^HTTP\/1\.[01] 200 OK\r\n/);
  });

  it("a port nobody listens on refuses at once", async () => {
    const { err, code, ms } = await site.curl(`http://${SERVER_ADDRESS}:81/`);
    expect(code).toBe(7);
    expect(err).toMatch(/refused|Failed to connect/i);
    expect(ms).toBeLessThan(2000);
  });

  it("1,000 connections at once stay open, and each is answered", async () => {
    const script = `
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
conns = [socket.create_connection(("${SERVER_ADDRESS}", 80)) for _ in range(1000)]
for c in conns: c.sendall(b"GET /hello HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print(sum(b"Hello from sojourn" in c.recv(65536) for c in conns), flush=True)
import subprocess
print(subprocess.run(["ss", "-Htn", "state", "established", "dst", "${SERVER_ADDRESS}"], capture_output=True, text=True).stdout.count("${SERVER_ADDRESS}:80"))
`;
    const { out } = await site.exec("python3", ["-c", script]);
    expect(out.split("\n").slice(0, 2)).toEqual(["1000", "1000"]);
  });
});

describe.skipIf(requires(...TAP_NEEDS, "traceroute", "ping", "curl"))("through our router over a TAP", () => {
  let site: TapSite;
  beforeAll(async () => {
    site = await TapSite.start("--quiet", "--router", "--link", "delay=5ms");
  });
  afterAll(async () => {
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  it.each([
    ["UDP", []],
    ["ICMP", ["-I"]],
    ["TCP", ["-T", "-p", "80"]],
  ])("traceroute by %s sees the router, then the server", async (_, options) => {
    const { out } = await site.exec("traceroute", ["-n", "-q", "1", "-w", "2", ...options, SERVER_ADDRESS]);
    const hops = out
      .split("\n")
      .slice(1, 3)
      .map((line) => line.trim().split(/\s+/).slice(0, 2));
    expect(hops).toEqual([
      ["1", "198.18.0.254"],
      ["2", SERVER_ADDRESS],
    ]);
  });

  it("a ping takes the wire's 10 ms there and back, and one hop", async () => {
    const { out } = await site.exec("ping", ["-n", "-c", "3", "-i", "0.1", SERVER_ADDRESS]);
    expect(out).toContain("3 received");
    expect(out).toContain("ttl=63");
    expect(Number(/rtt min\/avg\/max\/mdev = ([\d.]+)/.exec(out)?.[1])).toBeGreaterThanOrEqual(10);
  });

  it("curl is answered, in large pieces too: super-segments are cut for the wire behind the router", async () => {
    expect((await site.curl(`${SITE}/hello`)).out).toBe("Hello from sojourn\n");
    const body = Buffer.alloc(3_000_000, "sojourn ");
    const { outBytes } = await site.exec("curl", ["-sS", "-H", "Expect:", "--data-binary", "@-", `${SITE}/echo`], {
      input: body,
    });
    expect(outBytes.equals(body)).toBe(true);
  });
});

describe.skipIf(requires(...TAP_NEEDS, "curl", "tshark"))("captures over a TAP", () => {
  it("hold no malformed frame and no wrong checksum, and name request and stage", async () => {
    const site = await TapSite.start("--quiet");
    const directory = mkdtempSync(join(tmpdir(), "sojourn-capture-"));
    const file = join(directory, "tap.pcapng");
    try {
      const capture = site.sojourn("capture", file, "--for", "2s");
      await new Promise((resolve) => setTimeout(resolve, 700));
      await site.curl(`${SITE}/hello`);
      await site.curl("-o", "/dev/null", `${SITE}/bytes/3000000`);
      await site.exec("curl", ["-sS", "-o", "/dev/null", "-H", "Expect:", "--data-binary", "@-", `${SITE}/echo`], {
        input: Buffer.alloc(1_000_000, 7),
      });
      expect((await capture).code).toBe(0);
      const sums = ["ip", "tcp", "udp"].flatMap((protocol) => ["-o", `${protocol}.check_checksum:TRUE`]);
      const wrong = '_ws.malformed || ip.checksum.status == "Bad" || tcp.checksum.status == "Bad"';
      const complaints = await run("tshark", ["-r", file, ...sums, "-Y", wrong]);
      expect(complaints.out).toBe("");
      const { out } = await run("tshark", ["-r", file, "-T", "fields", "-e", "frame.len", "-e", "frame.comment"]);
      const lengths = out.split("\n").map((line) => Number(line.split("\t")[0]));
      // Super-segments crossed the device whole.
      expect(Math.max(...lengths)).toBeGreaterThan(10_000);
      expect(out).toMatch(/journey \d+ .*GET \/hello/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
      const { code, err } = await site.stop();
      expect([code, err]).toEqual([0, ""]);
    }
  });
});
