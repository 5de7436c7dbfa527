/** A network namespace of the real kernel, for tests; needs root (`requires("netns")`). */
import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";
import { openTap, type TapHandle } from "../../src/host/open-tap.ts";

const run = promisify(execFile);
let made = 0;

export class Netns {
  /** Unique on this machine. */
  readonly name = `sojourn-${process.pid}-${++made}`;

  constructor() {
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link", "set", "lo", "up");
    // Nothing but what a test sends.
    const off = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $f ] || echo 1 > $f; done";
    this.execSync("sh", "-c", off);
  }

  /** `ip -n NAME …`. */
  ip(...args: string[]): string {
    return execFileSync("ip", ["-n", this.name, ...args], { encoding: "utf8" });
  }

  /** Runs a program in the namespace; its standard output. Throws what it wrote to standard error. */
  execSync(...command: string[]): string {
    return execFileSync("ip", ["netns", "exec", this.name, ...command], { encoding: "utf8" });
  }

  async exec(...command: string[]): Promise<string> {
    const { stdout } = await run("ip", ["netns", "exec", this.name, ...command], { maxBuffer: 1 << 26 });
    return stdout;
  }

  /** A Python program in the namespace; its standard output. */
  python(program: string, ...args: string[]): Promise<string> {
    return this.exec("python3", "-c", program, ...args);
  }

  /**
   * A TAP whose interface is in the namespace, up, with `cidr` on the kernel's side. (It is made outside and moved: an
   * open descriptor moves along.)
   */
  tap(cidr?: string, mtu?: number): TapHandle {
    const tap = openTap({ name: `t${process.pid}x${++made}`, ...(mtu === undefined ? {} : { mtu }) });
    execFileSync("ip", ["link", "set", tap.name, "netns", this.name]);
    if (cidr !== undefined) this.ip("address", "add", cidr, "dev", tap.name);
    this.ip("link", "set", tap.name, "up");
    return tap;
  }

  close(): void {
    execFileSync("ip", ["netns", "del", this.name]);
  }
}
