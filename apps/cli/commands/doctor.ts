/**
 * `sojourn doctor`: what this machine allows, and what each missing thing would enable. Exit code 1 only if the main
 * job (`sojourn serve` without root) cannot work.
 */
import { spawnSync } from "node:child_process";
import { accessSync, closeSync, constants, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { delimiter, join } from "node:path";
import { Command } from "commander";
import { HostDeviceError } from "../../../src/host/host-device-error.ts";
import { libc } from "../../../src/host/libc.ts";
import { openTap } from "../../../src/host/open-tap.ts";
import { listenOnLoopback } from "../../control/control-server.ts";
import { CommandError, ExitCode } from "../../control/exit-codes.ts";
import { readRunRecords, runDirectory } from "../../control/token-file.ts";
import { coloursOf, columns, json, type Terminal } from "../terminal.ts";

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** A failed required check means that `serve` cannot work. */
  readonly required: boolean;
  readonly found: string;
  /** What to do, or what it would enable; "" when ok. */
  readonly next: string;
}

/** Fewer open files than this end a load test early. */
const FEW_DESCRIPTORS = 1024;
/** Linux capability numbers (linux/capability.h). */
const CAP_NET_ADMIN = 12n;

export function doctorCommand(terminal: Terminal): Command {
  return new Command("doctor")
    .description("what this machine allows, and what to do about the rest")
    .option("--json", "print JSON")
    .action(async (options: { json?: boolean }) => {
      const checks = await runChecks();
      terminal.out(options.json ? json(checks) : formatChecks(checks, terminal));
      if (checks.some((check) => check.required && !check.ok)) {
        throw new CommandError(
          ExitCode.failed,
          "this machine cannot run `sojourn serve`",
          "a required check failed",
          "follow the lines marked FAIL",
        );
      }
    });
}

async function runChecks(): Promise<Check[]> {
  return [
    checkNode(),
    checkSharedMemory(),
    await checkPort(3000, "the site"),
    await checkPort(4000, "the control API"),
    checkRunning(),
    checkFileDescriptors(),
    checkStream(),
    checkTap(),
    checkCapability("CAP_NET_ADMIN", CAP_NET_ADMIN, "serve --tap needs it: sudo, or a TAP made for your user"),
    checkFile("/dev/net/tun", "serve --tap needs it: sudo modprobe tun"),
    checkKoffi(),
    checkNamespaces(),
    ...Object.entries(PROGRAMS).map(checkProgram),
  ];
}

/** Programs the tests use as real clients, and the Debian package of each. */
const PROGRAMS: Readonly<Record<string, string>> = {
  curl: "curl",
  wrk: "wrk",
  ab: "apache2-utils",
  h2load: "nghttp2-client",
  nc: "netcat-openbsd",
  ping: "iputils-ping",
  traceroute: "traceroute",
  ip: "iproute2",
  ss: "iproute2",
  tcpdump: "tcpdump",
  tshark: "tshark",
  python3: "python3",
  chromium: "chromium",
};

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return {
    name: "Node",
    ok,
    required: true,
    found: process.versions.node,
    next: ok ? "" : "install Node 20.19 or newer",
  };
}

function checkSharedMemory(): Check {
  const ok = typeof SharedArrayBuffer === "function" && typeof Atomics.wait === "function";
  return {
    name: "shared memory",
    ok,
    required: true,
    found: ok ? "SharedArrayBuffer and Atomics" : "none",
    next: ok ? "" : "run with --kernel inline",
  };
}

async function checkPort(port: number, what: string): Promise<Check> {
  const server = createServer();
  const name = `port ${port}`;
  try {
    await listenOnLoopback(server, port, true, name);
    return { name, ok: true, required: false, found: "free", next: "" };
  } catch {
    return { name, ok: false, required: false, found: "taken", next: `${what} moves to the next free port` };
  } finally {
    server.close();
  }
}

function checkRunning(): Check {
  const urls = readRunRecords().map((record) => record.url);
  const found = urls.length > 0 ? urls.join(" ") : "none";
  return {
    name: "running server",
    ok: urls.length > 0,
    required: false,
    found,
    next: urls.length > 0 ? "" : `start one with: sojourn serve (its token goes to ${runDirectory()})`,
  };
}

function checkCapability(name: string, bit: bigint, next: string): Check {
  const ok = (effectiveCapabilities() & (1n << bit)) !== 0n;
  return { name, ok, required: false, found: ok ? "yes" : "no", next: ok ? "" : next };
}

function effectiveCapabilities(): bigint {
  try {
    const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
    return BigInt(`0x${match?.[1] ?? "0"}`);
  } catch {
    return 0n;
  }
}

/** Opens a TAP and closes it again: the one test that cannot be wrong. */
function checkTap(): Check {
  const name = "serve --tap";
  const probe = `sojourn-${process.pid % 1e6}`;
  try {
    const { fd } = openTap({ name: probe });
    closeSync(fd);
    return { name, ok: true, required: false, found: "ready: a TAP was opened and closed again", next: "" };
  } catch (thrown) {
    if (!(thrown instanceof HostDeviceError)) throw thrown;
    const found = `not ready: ${thrown.why}`;
    return { name, ok: false, required: false, found, next: thrown.next.replaceAll(probe, "tap0") };
  }
}

/** Needs nothing but a socket. */
function checkStream(): Check {
  const found = "ready: frames over a unix or TCP socket, for a virtual machine";
  return { name: "serve --stream", ok: true, required: false, found, next: "" };
}

function checkKoffi(): Check {
  const name = "koffi";
  try {
    libc();
    return { name, ok: true, required: false, found: "loads", next: "" };
  } catch (thrown) {
    if (!(thrown instanceof HostDeviceError)) throw thrown;
    return { name, ok: false, required: false, found: thrown.why, next: thrown.next };
  }
}

/** Where the tests keep the kernel's packets to themselves. */
function checkNamespaces(): Check {
  const made = spawnSync("unshare", ["--net", "true"], { stdio: "ignore" }).status === 0;
  return {
    name: "network namespaces",
    ok: made,
    required: false,
    found: made ? "yes" : "none may be made",
    next: made ? "" : "tests over a TAP need one: run them as root",
  };
}

/** One per connection of the outside when the port forward is used. */
function checkFileDescriptors(): Check {
  const limit = /^Max open files\s+(\d+|unlimited)/m.exec(readLimits())?.[1] ?? "unknown";
  const ok = limit === "unlimited" || limit === "unknown" || Number(limit) >= FEW_DESCRIPTORS;
  const next = ok ? "" : `the port forward needs one per connection: ulimit -n ${FEW_DESCRIPTORS * 4}`;
  return { name: "open files", ok, required: false, found: limit, next };
}

function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    return "";
  }
}

function checkFile(path: string, next: string): Check {
  const ok = existsSync(path);
  return { name: path, ok, required: false, found: ok ? "there" : "missing", next: ok ? "" : next };
}

function checkProgram([name, debian]: [string, string]): Check {
  const found = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find(isExecutable);
  return {
    name,
    ok: found !== undefined,
    required: false,
    found: found ?? "missing",
    next: found ? "" : `tests that use it are skipped; on Debian: sudo apt install ${debian}`,
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function formatChecks(checks: readonly Check[], terminal: Terminal): string {
  const colours = coloursOf(terminal);
  const rows = checks.map((check) => [
    check.ok ? "ok" : check.required ? "FAIL" : "-",
    check.name,
    check.found,
    check.next,
  ]);
  const text = columns(rows, ["left", "left", "left", "left"]);
  return text.replace(/^ok/gm, colours.green("ok")).replace(/^FAIL/gm, colours.red("FAIL"));
}
