/**
 * What the outside may see of a topology and turn in it: rows as Linux tools print them, and knobs.
 *
 * Runs where the topology runs (kernel thread, browser worker, simulation); everything in and out is plain data that
 * can be cloned to another thread. `control` is the one entry; it throws `InspectError` for the caller's mistakes.
 */
import type { LinkSettings } from "./device/link-settings.ts";
import type { WireLink } from "./device/wire-link.ts";
import type { NetDevice } from "./netdev/net-device.ts";
import { formatCall } from "./socket/strace-format.ts";
import { type FdRow, fdRows, type OwnedSocketRow, processRows, socketRows } from "./socket/tables.ts";
import type { Stack } from "./stack.ts";
import type { Topology } from "./topology.ts";

/** A mistake of the caller: becomes `{ error, why, next }` with `status`. */
export class InspectError extends Error {
  override readonly name = "InspectError";
  readonly status: number;
  readonly error: string;
  readonly why: string;
  readonly next: string;

  constructor(status: number, error: string, why: string, next: string) {
    super(`${error}: ${why}`);
    this.status = status;
    this.error = error;
    this.why = why;
    this.next = next;
  }
}

/** One interface as `ip -s link` shows it. */
export interface LinkRow {
  readonly ifindex: number;
  readonly name: string;
  /** Without the angle brackets: BROADCAST, MULTICAST, UP, LOWER_UP. */
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly qdisc: string;
  readonly state: "UP" | "DOWN" | "UNKNOWN";
  readonly qlen: number;
  readonly kind: "ether" | "loopback";
  readonly address: string;
  readonly broadcast: string;
  /** a.b.c.d/n of the interface, or "". */
  readonly inet: string;
  readonly rx: {
    readonly bytes: number;
    readonly packets: number;
    readonly errors: number;
    readonly dropped: number;
    readonly missed: number;
    readonly mcast: number;
  };
  readonly tx: {
    readonly bytes: number;
    readonly packets: number;
    readonly errors: number;
    readonly dropped: number;
    readonly carrier: number;
    readonly collsns: number;
  };
  /** `ethtool -S` and `-g`: interrupts, polls that used their whole budget, descriptors in use and in all. */
  readonly interrupts: number;
  readonly fullPolls: number;
  readonly rxRing: { readonly used: number; readonly size: number };
  readonly txRing: { readonly used: number; readonly size: number };
  /** Name and settings of the wire behind it; absent for `lo`. */
  readonly wire?: Readonly<Record<string, string | number | boolean>>;
}

export interface ProcessRow {
  readonly pid: number;
  readonly name: string;
  readonly state: string;
  readonly fds: number;
  readonly sockets: number;
  /** Its descriptor table, as /proc/PID/fd. */
  readonly table: readonly FdRow[];
}

export interface NeighbourRow {
  readonly address: string;
  readonly dev: string;
  readonly mac: string;
  /** REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED, PERMANENT. */
  readonly state: string;
}

export interface RouteRow {
  /** a.b.c.d/n or "default". */
  readonly destination: string;
  readonly via: string;
  readonly dev: string;
  readonly source: string;
  readonly metric: number;
}

/** One system call as strace writes it, or a goroutine's `park` and `ready`, without time and process. */
export interface SyscallRow {
  /** Counts up; a follower asks for what is newer than the last it saw. */
  readonly seq: number;
  readonly atNs: number;
  readonly pid: number;
  readonly gid: number;
  readonly text: string;
}

export interface SysctlRow {
  readonly name: string;
  readonly value: string;
}

/** What meets a SYN to a rejected port. */
export const REJECT_MODES = ["none", "tcp-reset", "icmp-port-unreachable", "drop"] as const;
export type RejectMode = (typeof REJECT_MODES)[number];

/** Totals for a summary. */
export interface Totals {
  readonly framesDropped: number;
  /** Frames by Linux drop reason, those that occurred. */
  readonly drops: Readonly<Record<string, number>>;
  readonly passiveOpens: number;
}

type Params = Readonly<Record<string, unknown>>;

/** Method → what it does. `params.host` names the host, "server" by default. */
const METHODS: Readonly<Record<string, (topology: Topology, host: Stack, params: Params) => unknown>> = {
  sockets: (_, host): OwnedSocketRow[] => socketRows(host.processes),
  counters: (_, host) => host.env.mib.snapshot(),
  mib: (_, host) => host.env.mib.values,
  links: (topology, host) => linkRows(topology, host),
  processes: (_, host) => processTable(host),
  neighbours: (_, host) => neighbourRows(host),
  routes: (_, host) => routeRows(host),
  syscalls: (_, host, params) => syscallRows(host, Number(params["limit"] ?? 100)),
  sysctls: (_, host): SysctlRow[] => host.env.sysctl.list(),
  setSysctl: (_, host, params) => host.env.sysctl.set(String(params["name"]), String(params["value"])),
  setLink: (topology, _, params) =>
    setLink(topology, String(params["name"]), params["settings"] as Partial<LinkSettings>),
  setReject: (_, host, params) => setReject(host, Number(params["port"]), params["with"] as RejectMode),
  totals: (_, host) => totals(host),
};

/** Answers one call of the control plane. */
export function control(topology: Topology, method: string, params: Params = {}): unknown {
  const run = METHODS[method];
  if (run === undefined)
    throw new InspectError(404, `no method "${method}"`, "the kernel does not answer it", "see src/inspect.ts");
  return run(topology, hostOf(topology, String(params["host"] ?? "server")), params);
}

function hostOf(topology: Topology, name: string): Stack {
  const host = topology.hosts.find((h) => h.name === name);
  if (host) return host;
  const names = topology.hosts.map((h) => h.name).join(", ");
  throw new InspectError(404, `no host "${name}"`, `this topology has ${names}`, "name one of them");
}

function linkRows(topology: Topology, host: Stack): LinkRow[] {
  const addresses = host.net.ip.addressRows();
  return host.net.devices.map((dev) => {
    const inet = addresses.find((row) => row.ifindex === dev.ifindex);
    const wire = wireOf(topology, dev);
    return { ...interfaceRow(dev), inet: inet?.address ?? "", ...(wire ? { wire } : {}) };
  });
}

function interfaceRow(dev: NetDevice): Omit<LinkRow, "inet" | "wire"> {
  const row = dev.stats();
  const up = row.state === "UP" ? ["UP", "LOWER_UP"] : [];
  return {
    ifindex: row.ifindex,
    name: row.name,
    flags: dev.isLoopback ? ["LOOPBACK", ...up] : ["BROADCAST", "MULTICAST", ...up],
    mtu: row.mtu,
    qdisc: row.qdisc,
    state: dev.isLoopback && row.state === "UP" ? "UNKNOWN" : row.state,
    qlen: row.txQueueLen,
    kind: dev.isLoopback ? "loopback" : "ether",
    address: row.mac,
    broadcast: dev.isLoopback ? "00:00:00:00:00:00" : "ff:ff:ff:ff:ff:ff",
    rx: { ...row.rx, mcast: 0 },
    tx: { ...row.tx, carrier: 0, collsns: 0 },
    interrupts: row.interrupts,
    fullPolls: row.fullPolls,
    rxRing: row.rxRing,
    txRing: row.txRing,
  };
}

/** The outgoing direction of the wire a card is plugged into. */
function wireOf(topology: Topology, dev: NetDevice): LinkRow["wire"] {
  for (const link of topology.links) {
    const at = link.ends.findIndex((nic) => nic === dev.device);
    if (at >= 0) return { name: link.name, ...link.settings(at === 0 ? 0 : 1) };
  }
  return undefined;
}

function processTable(host: Stack): ProcessRow[] {
  return processRows(host.processes).map((row) => {
    const process = host.processes.get(row.pid);
    return { ...row, state: "S", table: process ? fdRows(process) : [] };
  });
}

function neighbourRows(host: Stack): NeighbourRow[] {
  return host.net.ip.neighbours().map(({ address, dev, mac, state }) => ({ address, dev, mac: mac ?? "", state }));
}

function routeRows(host: Stack): RouteRow[] {
  return host.net.ip.routes().map(({ destination, via, dev, source, metric }) => ({
    destination,
    via: via ?? "",
    dev,
    source: source ?? "",
    metric,
  }));
}

function syscallRows(host: Stack, limit: number): SyscallRow[] {
  return host.processes.log.records(limit).map((record) => ({
    seq: record.sequence,
    atNs: record.timeNs,
    pid: record.pid,
    gid: record.gid,
    text: formatCall(record),
  }));
}

/** Sets a wire by its name, or every wire of a host's topology by "all"; returns the names that changed. */
function setLink(topology: Topology, name: string, settings: Partial<LinkSettings>): string[] {
  const links: readonly WireLink[] =
    name === "all" ? topology.links : topology.links.filter((link) => link.name === name);
  if (links.length === 0) {
    const names = topology.links.map((link) => link.name).join(", ");
    throw new InspectError(404, `no link "${name}"`, `this topology has ${names}`, "name one of them, or all");
  }
  for (const link of links) {
    const refused = link.set(settings);
    if (refused) throw new InspectError(400, refused.error, refused.why, refused.next);
  }
  return links.map((link) => link.name);
}

function setReject(host: Stack, port: number, mode: RejectMode): { port: number; with: RejectMode } {
  const result = mode === "none" ? host.net.ip.unreject(port) : host.net.ip.reject(port, mode);
  // Taking away a rule that is not there leaves the state the caller asked for.
  if (result < 0 && mode !== "none") {
    throw new InspectError(400, `port ${port} cannot be rejected`, "it is not a port from 1 to 65535", "name a port");
  }
  return { port, with: mode };
}

function totals(host: Stack): Totals {
  return {
    framesDropped: host.env.drops.total,
    drops: host.env.drops.rows(),
    passiveOpens: host.env.mib.get("TcpPassiveOpens"),
  };
}
