/** The other commands beside a running server, and what `serve` says when it starts, ends, or cannot. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { curl, run, type Served, serve, serveAloud, sleep, sojourn } from "../support/serve.ts";

const directory = mkdtempSync(join(tmpdir(), "sojourn-cli-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("serve, on the screen", () => {
  it.each([
    ["thread", []],
    ["inline", ["--kernel", "inline"]],
  ])("shows at most 24 lines of 80 columns with a first journey, and on Ctrl-C a summary (%s)", async (_mode, args) => {
    const server = await serveAloud(...args);
    await expect.poll(() => server.out, { timeout: 10_000 }).toContain("Ctrl-C stops.");
    const lines = server.out.trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(24);
    expect(lines.filter((line) => [...line].length > 80)).toEqual([]);
    expect(server.out).toContain(`${server.site}/`);
    expect(server.out).toContain(`${server.control}/#token=${server.token}`);
    expect(server.out).toMatch(/^#\d+ {2}GET \/hello {2}200 {2}ok$/m);
    expect(server.out).toMatch(/^ *[\d.]+ [mµ]s syn-queue +░+ +[\d.]+ ms handshake$/m);
    expect(server.out).toMatch(/^Client.*→NIC→RAM Buffer/m);
    const answer = await fetch(`${server.site}/hello`);
    expect(await answer.text()).toBe("Hello from sojourn\n");
    const { code, out, err } = await server.stop();
    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(/\nstopped: 2 requests on 2 connections, no frame dropped\n$/);
  });

  it.skipIf(requires("curl"))("SIGTERM ends it as Ctrl-C does, also with clients connected", async () => {
    const server = await serve();
    const pending = curl(`${server.site}/slow?ms=30000`);
    await sleep(300);
    expect((await server.stop("SIGTERM")).code).toBe(0);
    expect((await pending).code).not.toBe(0);
  });
});

describe("serve, when it cannot", () => {
  const three = (err: string) => expect(err).toMatch(/^sojourn: .+\n {2}why: {2}.+\n {2}next: .+\n$/);

  it("says so of a busy port, and moves if the port was not asked for", async () => {
    const busy = createServer();
    const port = await new Promise<number>((resolve) => {
      busy.listen(0, "127.0.0.1", () => resolve((busy.address() as { port: number }).port));
    });
    try {
      const site = await sojourn("serve", "--port", String(port), "--control-port", "0");
      expect([site.code, site.out]).toEqual([1, ""]);
      three(site.err);
      expect(site.err).toContain(`port ${port} is taken`);
      const control = await sojourn("serve", "--port", "0", "--control-port", String(port));
      expect(control.code).toBe(1);
      three(control.err);
      expect(control.err).toContain(`port ${port} is taken`);
    } finally {
      busy.close();
    }
  });

  it.each([
    [["serve", "--frobnicate"], "unknown option '--frobnicate'"],
    [["serve", "--port", "99999"], '--port: "99999"'],
    [["serve", "--tap", "tap0", "--address", "10.0.0.300/24"], '--address: "10.0.0.300/24"'],
    [["serve", "--tap", "tap0", "--address", "10.0.0.3"], '--address: "10.0.0.3"'],
    [["serve", "--link", "loss=110%"], '"110%" is more than 1'],
    [["serve", "--backlog", "-1"], '--backlog: "-1"'],
    [["serve", "--kernel", "magic"], "--kernel"],
    [["frobnicate"], "unknown command 'frobnicate'"],
    [[], "no command"],
  ])("says so of %j", async (args, what) => {
    const { code, out, err } = await sojourn(...args);
    expect([code, out]).toEqual([2, ""]);
    three(err);
    expect(err).toContain(what);
  });

  it("says so when there is no server to ask", async () => {
    const { code, err } = await sojourn("journeys", "--control", "http://127.0.0.1:9");
    expect(code).toBe(1);
    three(err);
  });
});

describe.skipIf(requires("curl")).each([
  { mode: "thread", args: [] },
  { mode: "inline", args: ["--kernel", "inline"] },
])("commands beside a server, $mode", ({ args }) => {
  let server: Served;
  beforeAll(async () => {
    server = await serve(...args);
  });
  afterAll(async () => {
    expect(await server.stop()).toMatchObject({ code: 0, err: "" });
  });

  it("journeys: a table, one as a waterfall, lines, JSON", async () => {
    await curl(`${server.site}/about`);
    const journey = await server.journey((j) => j.request?.target === "/about");
    const table = await server.sojourn("journeys", "--last", "5");
    expect(table.out).toMatch(new RegExp(`^ +${journey.id} {2}GET /about +200 +[\\d.]+ [mµ]s {2}`, "m"));
    const one = await server.sojourn("journeys", "--id", String(journey.id));
    expect(one.out).toMatch(/^#\d+ {2}GET \/about {2}200 {2}ok\n192\.0\.2\.10:\d+ → 198\.51\.100\.10:3000 /);
    for (const { stage } of journey.segments) expect(one.out).toContain(` ${stage} `);
    const lines = await server.sojourn("journeys", "--line");
    expect(lines.out).toMatch(/^#\d+ GET \/about ok: Client .*→Handler.* \| Handler.*→Client/m);
    const json = JSON.parse((await server.sojourn("journeys", "--json", "--id", String(journey.id))).out);
    expect([json].flat()[0]).toEqual(journey);
    expect(await server.sojourn("journeys", "--id", "987654321")).toMatchObject({ code: 1, out: "" });
  });

  it("journeys --follow: each as it ends", async () => {
    const follower = spawn(process.execPath, followArguments(server), {
      env: { PATH: process.env["PATH"] },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    follower.stdout.on("data", (chunk) => void (text += chunk));
    await sleep(800);
    await curl(`${server.site}/details`);
    await expect.poll(() => text, { timeout: 5000 }).toContain('"target":"/details"');
    await ended(follower, "SIGINT");
    for (const line of text.trimEnd().split("\n")) expect(JSON.parse(line)).toHaveProperty("segments");
  });

  it("strace tells Go's story: accept4 in vain, park, ready, accept4 again, for one goroutine", async () => {
    await curl(`${server.site}/hello`);
    await sleep(100);
    const { out, code } = await server.sojourn("strace", "--last", "400");
    expect(code).toBe(0);
    const gid = /^\[pid \d+ (g\d+)\] \S+ accept4\(3, .*\) = \d+$/m.exec(out)?.[1] ?? "none";
    const story = out
      .split("\n")
      .filter((line) => line.includes(` ${gid}] `))
      .filter((line) => /accept4|(park|ready) fd 3$/.test(line))
      .map((line) => line.replace(/^\[pid \d+ g\d+\] \S+ /, "").replace(/sin_port=htons\(\d+\)/, "sin_port"));
    const told = story.join("\n");
    expect(told).toMatch(
      /accept4\(3, …, SOCK_NONBLOCK\) = -1 EAGAIN \(Resource temporarily unavailable\)\npark fd 3\nready fd 3\naccept4\(3, \{sa_family=AF_INET, sin_port, sin_addr="192\.0\.2\.10"\}, SOCK_NONBLOCK\) = \d+/,
    );
    expect(out).toMatch(/ read\(\d+, …, \d+\) = \d+/);
    expect(out).toMatch(/ write\(\d+, …, \d+\) = \d+/);
  });

  it("goroutines: the accept loop is parked; a handler that sleeps says so", async () => {
    const pending = curl(`${server.site}/slow?ms=1500`);
    await expect
      .poll(async () => (await server.sojourn("goroutines")).out, { timeout: 5000 })
      .toMatch(/^ *\d+ +parked +[\d.]+ [mµ]?s +#\d+ +handler +serveConn$/m);
    expect((await server.sojourn("goroutines")).out).toMatch(
      /^ *\d+ +parked +[\d.]+ [mµ]?s +- +accept fd 3 +acceptLoop$/m,
    );
    await pending;
  });

  it("ss, nstat, link, sysctl: the numbers of a kernel that has worked", async () => {
    await curl(`${server.site}/hello`);
    expect((await server.sojourn("ss", "-ltn")).out).toMatch(/^LISTEN 0 +4096 +0\.0\.0\.0:3000 +0\.0\.0\.0:\*$/m);
    expect((await server.sojourn("ss", "-tan")).out).toMatch(/^TIME-WAIT |^LISTEN /m);
    expect((await server.sojourn("nstat")).out).toMatch(/^TcpPassiveOpens +[1-9]\d* +0\.0$/m);
    expect((await server.sojourn("link", "--host", "router")).out).toMatch(
      /^2: eth0: <BROADCAST.*\n(.*\n)*^3: eth1: /m,
    );
    const set = await server.sojourn("sysctl", "-w", "net.ipv4.tcp_keepalive_time=600");
    expect(set.out).toBe("net.ipv4.tcp_keepalive_time = 600\n");
    const unknown = await server.sojourn("sysctl", "net.ipv4.tcp_keepalive_tim");
    expect(unknown.code).toBe(2);
    expect(unknown.err).toMatch(/unknown sysctl.*\n.*\n {2}next: did you mean net\.ipv4\.tcp_keepalive_time/);
  });

  it("link set: a slower wire is a slower answer", async () => {
    const timed = async () =>
      Number((await curl("-o", "/dev/null", "-w", "%{time_total}", `${server.site}/hello`)).out);
    const set = await server.sojourn("link", "set", "router-server", "delay=100ms");
    expect(set).toMatchObject({ code: 0, err: "" });
    expect(await timed()).toBeGreaterThan(0.4);
    await server.sojourn("link", "set", "router-server", "delay=2.5ms");
    expect(await timed()).toBeLessThan(0.4);
  });
});

describe.skipIf(requires("curl", "tcpdump", "tshark"))("capture", () => {
  it("writes what tcpdump and tshark read without a complaint", async () => {
    const server = await serve();
    try {
      const file = join(directory, "server.pcapng");
      const capture = server.sojourn("capture", file, "--for", "4s");
      await sleep(1500);
      await curl(`${server.site}/hello`);
      await curl("-o", "/dev/null", `${server.site}/bytes/300000`);
      expect(await capture).toMatchObject({ code: 0 });
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(readFileSync(file).length).toBeGreaterThan(300_000);
      const tcpdump = await run("tcpdump", ["-nr", file]);
      expect(tcpdump.code).toBe(0);
      expect(tcpdump.out).toMatch(
        /192\.0\.2\.10\.\d+ > 198\.51\.100\.10\.3000: Flags \[S\], seq \d+, win 64240, options \[mss 1460,sackOK,TS val \d+ ecr 0,nop,wscale 7\]/,
      );
      const shown = await run("tshark", [
        "-r",
        file,
        "-Y",
        "http",
        "-T",
        "fields",
        "-e",
        "http.request.uri",
        "-e",
        "http.response.code",
      ]);
      expect(shown.out.split("\n").map((line) => line.trim())).toEqual(
        ["/hello", "200\t/hello", "/bytes/300000", "200\t/bytes/300000", ""].map((x) =>
          expect.stringContaining(x.split("\t")[0] as string),
        ),
      );
      const checks = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"];
      const wrong = "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0 || tcp.analysis.flags";
      const complaints = await run("tshark", ["-r", file, ...checks, "-Y", wrong]);
      expect(complaints.out).toBe("");
    } finally {
      expect((await server.stop()).code).toBe(0);
    }
  });
});

function followArguments(server: Served): string[] {
  const main = new URL("../../dist/apps/cli/main.js", import.meta.url).pathname;
  return [main, "journeys", "--follow", "--json", "--control", server.control];
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  const end = new Promise((resolve) => child.once("close", resolve));
  child.kill(signal);
  await end;
}
