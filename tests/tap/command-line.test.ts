/** `serve --tap` and `--stream` as commands: what they print, whom they become, what they say when they cannot. */
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { run, serve, serveAloud, sojourn } from "../support/serve.ts";
import { TAP_NEEDS, TapSite } from "../support/tap-site.ts";

const MAIN = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "dist", "apps", "cli", "main.js");
const PEER_MAC = "020000000001";
const TAP = ["serve", "--tap", "tap0", "--address", "198.18.0.2/24", "--control-port", "0"];
/** Runs a program as a user without any right. */
const AS_NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups"];

describe.skipIf(requires(...TAP_NEEDS, "curl"))("the first screen on a TAP", () => {
  it("prints commands that work as they stand, and no journey that nobody asked for", async () => {
    const site = await TapSite.start();
    try {
      expect(site.out).toContain("site     http://198.18.0.2/\n");
      expect(site.out).toContain("root was dropped: this process is now nobody (uid 65534)");
      const commands = site.out.split("\n").filter((line) => line.startsWith("ip "));
      expect(commands).toEqual(["ip addr add 198.18.0.1/24 dev tap0", "ip link set tap0 up"]);
      expect(site.out.split("\n").length).toBeLessThanOrEqual(25);
      expect(await site.journeys()).toEqual([]);
    } finally {
      const { code, out } = await site.stop();
      // What the kernel says of itself over IPv6 is nobody's here: UNHANDLED_PROTO.
      expect([code, out]).toEqual([0, expect.stringContaining("\nstopped: 0 requests on 0 connections, ")]);
    }
  });

  it("is found by the other commands of root, though it runs as nobody", async () => {
    const site = await TapSite.start("--quiet");
    try {
      await site.curl("http://198.18.0.2/hello");
      const { out } = await site.exec(process.execPath, [MAIN, "ss", "-a", "--json"], { env: site.env });
      expect((JSON.parse(out) as { state: string }[]).map((row) => row.state)).toContain("LISTEN");
      // Changing state needs the token of the run.
      const set = await site.exec(process.execPath, [MAIN, "sysctl", "net.core.somaxconn=64"], { env: site.env });
      expect([set.code, set.err]).toEqual([0, ""]);
    } finally {
      await site.stop();
    }
  });

  it("reconnects to nothing: an interface that is taken away leaves a server that still stops well", async () => {
    const site = await TapSite.start("--quiet");
    await site.curl("http://198.18.0.2/hello");
    await run("ip", ["-n", site.namespace, "link", "del", "tap0"]);
    expect((await site.sojourn("ss")).code).toBe(0);
    expect((await site.stop()).code).toBe(0);
  });
});

describe.skipIf(requires(...TAP_NEEDS, "setpriv", "unshare"))("a TAP that cannot be had", () => {
  it("without the privilege: exit code 3, and how to get a TAP of one's own", async () => {
    const { code, err } = await run("setpriv", [...AS_NOBODY, process.execPath, MAIN, ...TAP]);
    expect(code).toBe(3);
    expect(err).toContain("needs CAP_NET_ADMIN");
    expect(err).toContain("next: run it with sudo, or make the interface for yourself: sudo ip tuntap add dev tap0");
  });

  it("a TAP made for the user needs no privilege at all", async () => {
    const script = [
      "ip tuntap add dev tap0 mode tap user 65534 && ip link set lo up &&",
      `setpriv ${AS_NOBODY.join(" ")} timeout -s INT 3 "$0" "$@" --quiet`,
    ].join(" ");
    const { code, out, err } = await run("unshare", ["--net", "sh", "-c", script, process.execPath, MAIN, ...TAP]);
    expect([out.slice(0, 30), err]).toEqual(["site http://198.18.0.2:3000/ c", ""]);
    expect([0, 124]).toContain(code);
  });

  it("a name that another program holds", async () => {
    const site = await TapSite.start("--quiet");
    try {
      const { code, err } = await site.exec(process.execPath, [MAIN, ...TAP]);
      expect(code).toBe(1);
      expect(err).toMatch(/tap0[\s\S]*why: [\s\S]*next: /);
    } finally {
      await site.stop();
    }
  });

  it("no /dev/net/tun", async () => {
    const script = 'mount -t tmpfs none /dev/net && exec "$0" "$@"';
    const { code, err } = await run("unshare", [
      "--mount",
      "--net",
      "sh",
      "-c",
      script,
      process.execPath,
      MAIN,
      ...TAP,
    ]);
    expect(code).toBe(1);
    expect(err).toContain("cannot open /dev/net/tun");
    expect(err).toContain("modprobe tun");
  });
});

describe("serve --stream", () => {
  it("takes one peer at a socket of its owner's alone, and removes it at the end", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sojourn-stream-"));
    const path = join(directory, "wire");
    try {
      const server = await serve("--stream", path);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      const ethernet = `ffffffffffff${PEER_MAC}0806`;
      // Who has 198.18.0.2? Tell 198.18.0.1 (RFC 826: Ethernet, IPv4, lengths 6 and 4, request).
      const arp = `0001080006040001${PEER_MAC}c6120001000000000000c6120002`;
      const ask = Buffer.from(`0000002a${ethernet}${arp}`, "hex");
      const answer = await new Promise<Buffer>((resolve, reject) => {
        const peer = connect(path, () => peer.write(ask));
        peer.once("data", (bytes) => {
          resolve(bytes);
          peer.destroy();
        });
        peer.once("error", reject);
      });
      // An ARP reply: 198.18.0.2 is at 02:00 and its four bytes.
      expect(answer.subarray(24, 26).toString("hex")).toBe("0002");
      expect(answer.subarray(26, 36).toString("hex")).toBe("0200c6120002c6120002");
      const second = await sojourn("serve", "--stream", path, "--control-port", "0");
      expect([second.code, second.err]).toEqual([1, expect.stringMatching(/why: [\s\S]*next: /)]);
      expect((await server.stop()).code).toBe(0);
      expect(existsSync(path)).toBe(false);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it("says how a virtual machine joins, and what became of one that spoke nonsense", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sojourn-stream-"));
    const path = join(directory, "wire");
    try {
      const server = await serveAloud("--stream", path);
      await expect.poll(() => server.out).toContain("Ctrl-C stops");
      expect(server.out).toContain(`-netdev stream,id=n0,server=off,addr.type=unix,addr.path=${path}`);
      // A frame of no bytes at all.
      const peer = connect(path, () => peer.write(new Uint8Array(4)));
      await new Promise((resolve) => peer.once("close", resolve));
      await expect.poll(() => server.err).toMatch(/^stream .*: .*closed/m);
      expect((await server.stop()).code).toBe(0);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
