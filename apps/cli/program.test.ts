import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeBackend, sampleJourney } from "../../tests/support/fake-backend.ts";
import { type ControlServer, startControlServer } from "../control/control-server.ts";
import { readRunRecords, removeRunRecord, writeRunRecord } from "../control/token-file.ts";
import { runCommandLine } from "./program.ts";

// The commands are tested here, not the stack below `serve`.
vi.mock("../serve/serve-session.ts", () => ({
  startServer: () => Promise.reject(new Error("no session in this test")),
}));

let directory: string;
let backend: FakeBackend;
let control: ControlServer;
let record: string;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "sojourn-test-"));
  vi.stubEnv("XDG_RUNTIME_DIR", directory);
  vi.stubEnv("TMPDIR", directory);
  backend = new FakeBackend();
  control = await startControlServer({ port: 0, portAsked: true, backend });
  record = writeRunRecord(control.port, { url: control.url, token: control.token, pid: process.pid });
});
afterEach(async () => {
  await control.close();
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = "";
  let err = "";
  const terminal = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    width: 100,
    isInteractive: false,
    hasColour: false,
  };
  const code = await runCommandLine(args, terminal);
  return { code, out, err };
}

describe("usage errors", () => {
  const cases: readonly (readonly [args: string, what: string])[] = [
    ["", "no command"],
    ["frobnicate", "unknown command 'frobnicate'"],
    ["serve --prot 3000", "unknown option '--prot'"],
    ["ss --frob", "unknown option '--frob'"],
    ["ss extra", "too many arguments"],
    ["serve --port http", '--port: "http" is not accepted'],
    ["serve --port 65536", '--port: "65536" is not accepted'],
    ["serve --port", "argument missing"],
    ["serve --port 3000 --control-port 3000", "--port and --control-port are both 3000"],
    ["serve --tap tap0", "--tap without --address"],
    ["serve --tap tap0 --address 10.9.0.300/24", '--address: "10.9.0.300/24" is not an address with prefix'],
    ["serve --tap tap0 --address 10.9.0.2", '--address: "10.9.0.2" is not an address with prefix'],
    ["serve --tap tap0 --address 10.9.0.2/33", '--address: "10.9.0.2/33" is not an address with prefix'],
    ["serve --tap a-name-that-is-too-long --address 10.9.0.2/24", "is not an interface name"],
    ["serve --tap tap0 --address 10.9.0.2/24 --gateway here", '--gateway: "here" is not an IPv4 address'],
    ["serve --address 10.9.0.2/24", "--address without --tap or --stream"],
    ["serve --tap tap0 --stream s --address 10.9.0.2/24", "--tap and --stream together"],
    ["serve --tap tap0 --address 10.9.0.2/24 --link delay=1ms", "--link with a real link"],
    ["serve --router", "--router without --tap or --stream"],
    ["serve --link delay", '--link: "delay" is not key=value'],
    ["serve --link speed=1", '--link: bad link setting "speed=1"'],
    ["serve --link delay=soon", '--link: bad link setting "delay=soon"'],
    ["serve --link loss=101%", '--link: bad link setting "loss=101%"'],
    ["serve --link rate=fast", '--link: bad link setting "rate=fast"'],
    ["serve --kernel fibre", "is invalid"],
    ["serve --workers 0", '--workers: "0" is not accepted'],
    ["serve --seed -1", '--seed: "-1" is not accepted'],
    ["serve --max-body lots", '--max-body: "lots" is not a size'],
    ["serve --header-timeout 10", '--header-timeout: "10" is not a duration'],
    ["journeys --last 0", '--last: "0" is not accepted'],
    ["journeys --id x", '--id: "x" is not a journey id'],
    ["ss --host mars", '--host: unknown host "mars"'],
    ["ss --control http://10.0.0.1:4000", '--control: "http://10.0.0.1:4000" is not a control address'],
    ["sysctl net.core.nothing", 'unknown sysctl "net.core.nothing"'],
    ["accept stop", "is invalid"],
    ["accept", "missing required argument"],
    ["link eth9", 'Device "eth9" does not exist.'],
    ["link set eth0 speed=1", 'link set: bad link setting "speed=1"'],
    ["capture", "missing required argument"],
    ["capture --json -", "--json with -"],
  ];
  it.each(cases)("sojourn %s → exit 2, three lines", async (args, what) => {
    const { code, out, err } = await run(...args.split(" ").filter((word) => word !== ""));
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).toContain(what);
    expect(err).toMatch(/^sojourn: \S.*\n {2}why: {2}\S.*\n {2}next: \S.*\n$/);
  });

  it("suggests what was probably meant", async () => {
    expect((await run("serve", "--prot", "1")).err).toContain("--port");
    expect((await run("sysctl", "somaxconn")).err).toContain("did you mean net.core.somaxconn?");
  });
});

describe("help", () => {
  it("exists for every command and names its options", async () => {
    const { code, out } = await run("--help");
    expect(code).toBe(0);
    for (const name of [
      "serve",
      "journeys",
      "ss",
      "nstat",
      "link",
      "sysctl",
      "accept",
      "strace",
      "goroutines",
      "capture",
      "doctor",
    ]) {
      expect(out).toContain(`  ${name}`);
      const help = await run(name, "--help");
      expect([help.code, help.err]).toEqual([0, ""]);
      expect(help.out).toContain(`Usage: sojourn ${name}`);
      if (name !== "serve") expect(help.out).toContain("--json");
    }
    expect((await run("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it("names every flag of the contract for serve", async () => {
    const { out } = await run("serve", "--help");
    const flags =
      "port control-port tap address gateway router stream link kernel workers seed quiet max-body header-timeout body-timeout";
    for (const flag of flags.split(" ")) expect(out).toContain(`--${flag} `);
  });
});

describe("reading commands", () => {
  it("ss prints what ss(8) prints", async () => {
    expect((await run("ss", "-ltn")).out).toBe(
      "State  Recv-Q Send-Q Local Address:Port Peer Address:Port\n" +
        "LISTEN 5      4            0.0.0.0:80        0.0.0.0:*\n",
    );
    const all = (await run("ss", "-ai")).out.split("\n");
    expect(all[0]).toMatch(/^Netid State +Recv-Q Send-Q +Local Address:Port +Peer Address:Port$/);
    expect(all[2]).toMatch(/^tcp +ESTAB +0 +1448 +10\.0\.1\.2:80 +10\.0\.0\.2:40000$/);
    expect(all[3]).toBe("\t cubic rto:204 rtt:0.04/0.02 cwnd:10");
    expect((await run("ss", "-tH")).out).toMatch(/^ESTAB .*\n$/);
    expect((await run("ss", "-ul")).out.split("\n")).toHaveLength(2);
    expect(JSON.parse((await run("ss", "-a", "--json")).out)).toHaveLength(2);
    expect(JSON.parse((await run("ss", "-a", "--json", "--host", "client")).out)).toEqual([]);
  });

  it("nstat prints what nstat(8) -a prints", async () => {
    expect((await run("nstat")).out).toBe(
      "#kernel\n" +
        "IpInReceives                    5234               0.0\n" +
        "TcpExtListenOverflows           7                  0.0\n",
    );
    expect((await run("nstat", "-az", "ip*")).out).toBe(
      "#kernel\n" +
        "IpInReceives                    5234               0.0\n" +
        "IpForwarding                    0                  0.0\n",
    );
    expect(JSON.parse((await run("nstat", "--json", "*Overflows")).out)).toEqual({
      kernel: { TcpExtListenOverflows: 7 },
    });
  });

  it("link prints what `ip -s link` prints", async () => {
    // Copied from iproute2 6.1 on Linux 6.18 for interfaces with these numbers.
    const expected = `\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    RX:  bytes packets errors dropped  missed   mcast${" ".repeat(11)}
          3193      29      0       0       0       0${" "}
    TX:  bytes packets errors dropped carrier collsns${" ".repeat(11)}
          3193      29      0       0       0       0${" "}
4: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 qdisc pfifo_fast state UP mode DEFAULT group default qlen 1000
    link/ether 02:fc:00:00:00:01 brd ff:ff:ff:ff:ff:ff
    RX:  bytes packets errors dropped  missed   mcast${" ".repeat(11)}
     176122683    5208      0       0       0       0${" "}
    TX:  bytes packets errors dropped carrier collsns${" ".repeat(11)}
        331437    2999      0       0       0       0${" "}
`;
    expect((await run("link")).out).toBe(expected);
    expect(JSON.parse((await run("link", "lo", "--json")).out)).toMatchObject([{ name: "lo", mtu: 65536 }]);
  });

  it("sysctl reads and sets", async () => {
    expect((await run("sysctl", "net.core.somaxconn")).out).toBe("net.core.somaxconn = 4096\n");
    expect((await run("sysctl", "-w", "net/core/somaxconn=4")).out).toBe("net.core.somaxconn = 4\n");
    expect(backend.sysctls.get("net.core.somaxconn")).toBe("4");
    expect((await run("sysctl")).out).toBe("net.core.somaxconn = 4\nnet.ipv4.tcp_rmem = 4096\t131072\t6291456\n");
    const refused = await run("sysctl", "net.core.somaxconn=many");
    expect([refused.code, refused.err.includes("Invalid argument")]).toEqual([1, true]);
  });

  it("accept pauses and resumes; link set turns knobs", async () => {
    expect((await run("accept", "pause")).code).toBe(0);
    expect(backend.paused).toBe(true);
    expect(JSON.parse((await run("accept", "resume", "--json")).out)).toEqual({ paused: false });
    const set = await run("link", "set", "eth0", "delay=10ms", "loss=1%,rate=10mbit", "--json");
    expect([set.code, set.err]).toEqual([0, ""]);
    expect(backend.linkSettings).toEqual([
      { name: "eth0", settings: { delayNs: 1e7, loss: 0.01, rateBitsPerSecond: 1e7 } },
    ]);
    expect(JSON.parse(set.out)).toMatchObject([{ name: "eth0" }]);
  });

  it("strace prints what strace -f -tt prints, with the goroutine, control characters made visible", async () => {
    backend.syscallRows.push({
      seq: 2,
      atNs: 2e6,
      pid: 2,
      gid: 1,
      text: 'write(7, "\x1b[2J", 4) = 4',
    });
    const lines = (await run("strace")).out.split("\n");
    expect(lines[0]).toMatch(
      /^\[pid 2 g1\] \d\d:\d\d:\d\d\.001500 accept4\(3, \{sa_family=AF_INET, …\}, \[16\], SOCK_NONBLOCK\) = 7$/,
    );
    expect(lines[1]).toContain('write(7, "\\x1b[2J", 4) = 4');
    expect(JSON.parse((await run("strace", "--last", "1", "--json")).out)).toMatchObject([{ seq: 2 }]);
  });

  it("goroutines says who waits for what", async () => {
    const [titles, row] = (await run("goroutines")).out.split("\n");
    expect(titles).toMatch(/^GID +STATE +FOR +REQUEST +WAITS FOR +NAME$/);
    expect(row).toMatch(/^ +1 +parked +1\.50 s +- +accept fd 3 +accept loop$/);
  });

  it("journeys lists, shows one, and prints one per line", async () => {
    const [titles, first] = (await run("journeys")).out.split("\n");
    expect(titles).toMatch(/^ +ID +REQUEST +STATUS +RESPONDED +LONGEST WAIT$/);
    expect(first).toMatch(/^ +2 +GET \/slow\?ms=… +200 +100 µs +60\.0 µs accept-queue/);
    expect(JSON.parse((await run("journeys", "--json", "--last", "1")).out)).toEqual([sampleJourney(2, "/slow?ms=…")]);
    expect(JSON.parse((await run("journeys", "--json", "--id", "1")).out)).toEqual(sampleJourney(1));
    expect((await run("journeys", "--line")).out.trim().split("\n")).toHaveLength(2);
    expect((await run("journeys", "--id", "1")).out).toContain("accept-queue");
    backend.kept.unshift(sampleJourney(3, "/\x1b[2J\x9b"));
    expect((await run("journeys", "--id", "3")).out).toContain("GET /\\x1b[2J\\x9b");
    const missing = await run("journeys", "--id", "99");
    expect([missing.code, missing.err.includes("no journey 99")]).toEqual([1, true]);
  });

  it("journeys --follow prints one JSON object per line as they finish", async () => {
    const following = run("journeys", "--follow", "--json");
    await expect.poll(() => backend.listeners.size).toBe(1);
    for (const id of [7, 8]) for (const listener of backend.listeners) listener(sampleJourney(id));
    await control.close();
    const { code, out } = await following;
    expect(code).toBe(0);
    expect(
      out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).id),
    ).toEqual([7, 8]);
  });

  it("capture writes the file readable by its owner only", async () => {
    const file = join(directory, "out.pcapng");
    const { code, err } = await run("capture", file, "--for", "50ms");
    const written = readFileSync(file);
    expect([code, err.includes(`${written.length} bytes`)]).toEqual([0, true]);
    expect([...written.subarray(0, 4)]).toEqual([0x0a, 0x0d, 0x0d, 0x0a]);
    // One whole block: its length stands at both its ends.
    expect([written.readUInt32LE(4), written.readUInt32LE(written.length - 4)]).toEqual([
      written.length,
      written.length,
    ]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const refused = await run("capture", join(directory, "no", "such", "place"), "--for", "50ms");
    expect([refused.code, refused.err.includes("ENOENT")]).toEqual([1, true]);
  });

  it("doctor says what is there", async () => {
    const { code, out } = await run("doctor");
    expect(code).toBe(0);
    expect(out).toMatch(/^ok +Node +\d+/m);
    const checks = JSON.parse((await run("doctor", "--json")).out) as { name: string; ok: boolean }[];
    expect(checks.find((check) => check.name === "running server")?.ok).toBe(true);
  });
});

describe("finding the server", () => {
  it("writes the token for its user only and leaves nothing behind", () => {
    expect(statSync(record).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "sojourn")).mode & 0o777).toBe(0o700);
    expect(readRunRecords()).toEqual([{ url: control.url, token: control.token, pid: process.pid }]);
    removeRunRecord(record);
    expect(readdirSync(join(directory, "sojourn"))).toEqual([]);
    expect(readRunRecords()).toEqual([]);
  });

  it("forgets records of dead processes", () => {
    writeRunRecord(1, { url: "http://127.0.0.1:1", token: "x", pid: 0x7ffffff0 });
    expect(readRunRecords()).toHaveLength(1);
  });

  it("without a server says so and how to start one: exit 1", async () => {
    removeRunRecord(record);
    const { code, err } = await run("ss", "--control", "http://127.0.0.1:1");
    expect(code).toBe(1);
    expect(err).toMatch(/no sojourn server at http:\/\/127\.0\.0\.1:1\n.*\n.*sojourn serve/);
  });

  it("without the token may read, not change: exit 3", async () => {
    removeRunRecord(record);
    expect((await run("ss", "--control", control.url)).code).toBe(0);
    expect((await run("accept", "pause", "--control", control.url)).code).toBe(3);
    expect(backend.paused).toBe(false);
  });
});
