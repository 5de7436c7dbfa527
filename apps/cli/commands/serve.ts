/**
 * `sojourn serve`: starts the stack, the site and the control API, shows a first journey, and runs until Ctrl-C.
 */
import { Command, Option } from "commander";
import type { Journey } from "../../../src/journey/journey.ts";
import type { LinkSettings } from "../../control/backend.ts";
import { type ControlServer, startControlServer } from "../../control/control-server.ts";
import { UsageError } from "../../control/exit-codes.ts";
import { removeRunRecord, writeRunRecord } from "../../control/token-file.ts";
import * as values from "../../control/values.ts";
import type { Uplink } from "../../serve/placement.ts";
import { type RunningServer, type ServeOptions, startServer } from "../../serve/serve-session.ts";
import { DEFAULT_CONTROL_PORT } from "../control-client.ts";
import { firstScreen } from "../first-screen.ts";
import type { Terminal } from "../terminal.ts";

const DEFAULT_PORT = 3000;
/** As Go, which takes net.core.somaxconn. */
const DEFAULT_BACKLOG = 4096;
const FIRST_JOURNEY_MS = 3000;

/** The command line as commander hands it over. */
interface ServeFlags {
  readonly port?: number;
  readonly controlPort?: number;
  readonly tap?: string;
  readonly address?: string;
  readonly gateway?: string;
  readonly router?: boolean;
  readonly stream?: string;
  readonly link: LinkSettings;
  readonly kernel: "thread" | "inline";
  readonly workers: number;
  readonly backlog: number;
  readonly seed?: number;
  readonly quiet?: boolean;
  readonly maxBody: number;
  readonly headerTimeout: number;
  readonly bodyTimeout: number;
}

export function serveCommand(terminal: Terminal): Command {
  const port = (flag: string) => (text: string) => values.parsePort(flag, text);
  const duration = (flag: string) => (text: string) => values.parseDurationNs(flag, text);
  return new Command("serve")
    .description("serve the built-in site through our own stack, and show where each request's time goes")
    .option("--port <n>", `the site's port (default: ${DEFAULT_PORT}, or the next free one)`, port("--port"))
    .option(
      "--control-port <n>",
      `the control API's port (default: ${DEFAULT_CONTROL_PORT}, or the next free one)`,
      port("--control-port"),
    )
    .option("--tap <name>", "serve on this TAP device instead of the simulated topology (needs CAP_NET_ADMIN)")
    .option("--stream <path>", "serve on a framed stream socket (QEMU's -netdev stream): a path, or HOST:PORT")
    .option("--address <cidr>", `with --tap or --stream: the server's address, e.g. ${DEFAULT_STREAM_ADDRESS}`)
    .option("--gateway <address>", "with --tap or --stream: the default gateway", (text) =>
      values.parseIpv4("--gateway", text),
    )
    .option("--router", "with --tap or --stream: put the router between that link and the server")
    .addOption(
      new Option("--link <settings>", "the wires, e.g. delay=10ms,rate=10mbit,loss=1%")
        .argParser((text) => values.parseLinkSettings("--link", values.splitPairs("--link", text)))
        .default({}, "delay=2.5ms"),
    )
    .addOption(
      new Option("--kernel <mode>", "the kernel in a thread of its own, or inline")
        .choices(["thread", "inline"])
        .default("thread"),
    )
    .option(
      "--workers <n>",
      "server processes, each with its own listener (SO_REUSEPORT)",
      (text) => values.parseInteger("--workers", text, 1, 64),
      1,
    )
    .option(
      "--backlog <n>",
      "listen(2) backlog: the accept queue holds one more",
      (text) => values.parseInteger("--backlog", text, 0, 65535),
      DEFAULT_BACKLOG,
    )
    .option("--seed <n>", "seed of the stack's random numbers", (text) =>
      values.parseInteger("--seed", text, 0, 0xffffffff),
    )
    .option("--quiet", "print one line with the addresses")
    .addOption(
      new Option("--max-body <size>", "largest request body")
        .argParser((text) => values.parseBytes("--max-body", text))
        .default(2 ** 30, "1GiB"),
    )
    .addOption(
      new Option("--header-timeout <duration>", "a request's head must arrive within")
        .argParser(duration("--header-timeout"))
        .default(10e9, "10s"),
    )
    .addOption(
      new Option("--body-timeout <duration>", "a body may pause for")
        .argParser(duration("--body-timeout"))
        .default(30e9, "30s"),
    )
    .action((flags: ServeFlags) => serve(flags, terminal));
}

/** A framed socket has two ends of ours to choose: the server's address may be left out there (RFC 2544). */
const DEFAULT_STREAM_ADDRESS = "198.18.0.2/24";

/** Flags that make no sense without, or with, each other; then the options below the control server. */
export function toServeOptions(flags: ServeFlags): ServeOptions {
  const uplink = uplinkOf(flags);
  if (flags.port !== undefined && flags.port !== 0 && flags.port === flags.controlPort) {
    throw new UsageError(
      `--port and --control-port are both ${flags.port}`,
      "the site and the control API need a port each",
      "choose two ports",
    );
  }
  return {
    port: flags.port ?? DEFAULT_PORT,
    portAsked: flags.port !== undefined,
    ...(uplink === undefined ? {} : { uplink }),
    link: flags.link,
    kernel: flags.kernel,
    workers: flags.workers,
    backlog: flags.backlog,
    ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    maxBodyBytes: flags.maxBody,
    headerTimeoutNs: flags.headerTimeout,
    bodyTimeoutNs: flags.bodyTimeout,
  };
}

/** The real link the flags ask for; undefined for the simulated topology. Throws `UsageError`. */
function uplinkOf(flags: ServeFlags): Uplink | undefined {
  const { tap, stream } = flags;
  if (tap === undefined && stream === undefined) {
    const stray = (["address", "gateway", "router"] as const).find((name) => flags[name] !== undefined);
    if (stray === undefined) return undefined;
    throw new UsageError(
      `--${stray} without --tap or --stream`,
      `--${stray} says how the server stands on a real link`,
      "add --tap NAME --address CIDR, or --stream PATH",
    );
  }
  if (tap !== undefined && stream !== undefined) {
    throw new UsageError("--tap and --stream together", "the server stands on one link", "choose one of them");
  }
  if (tap !== undefined && !/^[A-Za-z0-9_.-]{1,15}$/.test(tap)) {
    throw new UsageError(
      `--tap: "${tap}" is not an interface name`,
      "Linux allows 1 to 15 letters, digits, _ . -",
      "write it like --tap tap0",
    );
  }
  if (tap !== undefined && flags.address === undefined) {
    throw new UsageError(
      "--tap without --address",
      "the server needs an address on that link",
      `add --address ${DEFAULT_STREAM_ADDRESS}`,
    );
  }
  if (flags.router !== true && Object.keys(flags.link).length > 0) {
    throw new UsageError(
      "--link with a real link",
      "--link sets the wires of a simulated topology; here the link is what it is",
      "leave it out, or add --router: then it sets the wire between our router and the server",
    );
  }
  const { address, prefix } = values.parseNetwork("--address", flags.address ?? DEFAULT_STREAM_ADDRESS);
  return {
    device: tap !== undefined ? { kind: "tap", name: tap } : { kind: "stream", path: stream ?? "" },
    address: address.toString(),
    prefix,
    ...(flags.gateway === undefined ? {} : { gateway: flags.gateway }),
    router: flags.router === true,
  };
}

async function serve(flags: ServeFlags, terminal: Terminal): Promise<void> {
  const options = toServeOptions(flags);
  if (terminal.isInteractive && !flags.quiet) terminal.err("starting\r");
  const running = await startServer(options, (note) => flags.quiet || terminal.err(`${note}\n`));
  const stop = signals();
  const cleanups: (() => void | Promise<void>)[] = [() => running.close(), stop.release];
  try {
    const control = await startControlServer({
      port: flags.controlPort ?? DEFAULT_CONTROL_PORT,
      portAsked: flags.controlPort !== undefined,
      backend: running.backend,
    });
    cleanups.unshift(() => control.close());
    const record = writeRunRecord(control.port, { url: control.url, token: control.token, pid: process.pid });
    const forget = () => removeRunRecord(record);
    // Also when the process ends in another way: a closed pipe, a second Ctrl-C, a bug.
    process.once("exit", forget);
    cleanups.unshift(forget, () => void process.removeListener("exit", forget));
    await greet(flags, running, control, terminal, stop.first);
    await Promise.race([stop.first, running.ended]);
    if (!flags.quiet) terminal.out(await farewell(running));
  } finally {
    for (const cleanup of cleanups) await cleanup();
  }
}

async function greet(
  flags: ServeFlags,
  running: RunningServer,
  control: ControlServer,
  terminal: Terminal,
  stopped: Promise<void>,
): Promise<void> {
  if (flags.quiet) {
    terminal.out(`site ${running.siteUrl} control ${control.url}/#token=${control.token}\n`);
    return;
  }
  const moved = flags.controlPort === undefined && control.port !== DEFAULT_CONTROL_PORT;
  const notes = moved
    ? [`port ${DEFAULT_CONTROL_PORT} is taken: the control API moved to ${control.port}`, ...running.notes]
    : running.notes;
  const journey = running.firstRequest && (await firstJourney(running, running.firstRequest, stopped));
  terminal.out(firstScreen({ running, control, notes, journey }, terminal));
}

/**
 * Sends one request and waits, not long, for its journey. None: the screen says so, and the site is up all the same.
 */
async function firstJourney(
  running: RunningServer,
  request: () => Promise<void>,
  stopped: Promise<void>,
): Promise<Journey | undefined> {
  let unsubscribe = () => {};
  let timer: NodeJS.Timeout | undefined;
  const finished = new Promise<Journey | undefined>((resolve) => {
    unsubscribe = running.backend.subscribe(resolve);
    timer = setTimeout(() => resolve(undefined), FIRST_JOURNEY_MS);
  });
  try {
    const failed = request().then(
      () => finished,
      () => undefined,
    );
    return await Promise.race([finished, failed, stopped.then(() => undefined)]);
  } finally {
    clearTimeout(timer);
    unsubscribe();
  }
}

async function farewell(running: RunningServer): Promise<string> {
  const { requests, connections, drops } = await running.summary();
  const reasons = Object.entries(drops).map(([reason, count]) => `${reason} ${count}`);
  const dropped = reasons.length === 0 ? "no frame dropped" : `frames dropped: ${reasons.join(", ")}`;
  return `\nstopped: ${counted(requests, "request")} on ${counted(connections, "connection")}, ${dropped}\n`;
}

function counted(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** Waits for the first Ctrl-C (or TERM, HUP); a second one ends the process at once. `release` stops listening. */
function signals(): { readonly first: Promise<void>; readonly release: () => void } {
  const names = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  let count = 0;
  let resolveFirst = () => {};
  const first = new Promise<void>((resolve) => {
    resolveFirst = resolve;
  });
  const onSignal = () => {
    if (++count > 1) process.exit(130);
    resolveFirst();
  };
  for (const name of names) process.on(name, onSignal);
  return { first, release: () => names.forEach((name) => process.removeListener(name, onSignal)) };
}
