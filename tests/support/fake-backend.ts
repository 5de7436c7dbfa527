/**
 * A `Backend` of constants, for tests of the control server and the CLI: no kernel, no time.
 */
import type {
  Backend,
  JourneyQuery,
  LinkRow,
  LinkSettings,
  RejectMode,
  SyscallRow,
} from "../../apps/control/backend.ts";
import { Refusal } from "../../apps/control/backend.ts";
import { DROP_REASONS } from "../../src/base/drop-reasons.ts";
import { STAGES } from "../../src/base/stages.ts";
import { sectionHeader } from "../../src/journey/exports/pcapng.ts";
import type { Journey } from "../../src/journey/journey.ts";
import type { SocketRow } from "../../src/transport/port.ts";

/** GET /hello, 100 µs: 60 in the accept queue, 10 parsing, 30 in the handler. */
export function sampleJourney(id: number, target = "/hello"): Journey {
  const startNs = id * 1e6;
  return {
    id,
    outcome: "ok",
    precision: "switch",
    sampling: 1,
    truth: "user-space",
    connection: { id, local: "10.0.1.2:80", remote: "10.0.0.2:40000", protocol: "http/1.1", reused: false },
    request: { method: "GET", target, bytes: 80 },
    response: { status: 200, bytes: 120 },
    startNs,
    totalNs: 100_000,
    respondedNs: 100_000,
    segments: [
      {
        stage: "accept-queue",
        group: "accept",
        kind: "wait",
        startNs,
        endNs: startNs + 60_000,
        reason: "loop-busy",
        by: "process 2",
      },
      { stage: "parse", group: "parse", kind: "work", startNs: startNs + 60_000, endNs: startNs + 70_000 },
      { stage: "process", group: "process", kind: "work", startNs: startNs + 70_000, endNs: startNs + 100_000 },
    ],
    spans: [],
    marks: [],
    frames: { received: 3, sent: 3, retransmitted: 0, dropped: 0 },
  };
}

export const SAMPLE_SOCKETS: readonly SocketRow[] = [
  {
    protocol: "tcp",
    state: "LISTEN",
    receiveQueue: 5,
    sendQueue: 4,
    localAddress: "0.0.0.0",
    localPort: 80,
    remoteAddress: "0.0.0.0",
    remotePort: 0,
  },
  {
    protocol: "tcp",
    state: "ESTAB",
    receiveQueue: 0,
    sendQueue: 1448,
    localAddress: "10.0.1.2",
    localPort: 80,
    remoteAddress: "10.0.0.2",
    remotePort: 40000,
    info: { cubic: "", rto: 204, rtt: "0.04/0.02", cwnd: 10 },
  },
];

/** The loopback interface of a real machine, for a byte-by-byte comparison with `ip -s link show lo`. */
export const SAMPLE_LINKS: readonly LinkRow[] = [
  {
    ifindex: 1,
    name: "lo",
    flags: ["LOOPBACK", "UP", "LOWER_UP"],
    mtu: 65536,
    qdisc: "noqueue",
    state: "UNKNOWN",
    qlen: 1000,
    kind: "loopback",
    address: "00:00:00:00:00:00",
    broadcast: "00:00:00:00:00:00",
    inet: "127.0.0.1/8",
    rx: { bytes: 3193, packets: 29, errors: 0, dropped: 0, missed: 0, mcast: 0 },
    tx: { bytes: 3193, packets: 29, errors: 0, dropped: 0, carrier: 0, collsns: 0 },
    interrupts: 0,
    fullPolls: 0,
    rxRing: { used: 0, size: 256 },
    txRing: { used: 0, size: 256 },
  },
  {
    ifindex: 4,
    name: "eth0",
    flags: ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
    mtu: 1400,
    qdisc: "pfifo_fast",
    state: "UP",
    qlen: 1000,
    kind: "ether",
    address: "02:fc:00:00:00:01",
    broadcast: "ff:ff:ff:ff:ff:ff",
    inet: "10.0.1.2/24",
    rx: { bytes: 176122683, packets: 5208, errors: 0, dropped: 0, missed: 0, mcast: 0 },
    tx: { bytes: 331437, packets: 2999, errors: 0, dropped: 0, carrier: 0, collsns: 0 },
    interrupts: 0,
    fullPolls: 0,
    rxRing: { used: 0, size: 256 },
    txRing: { used: 0, size: 256 },
  },
];

/** Remembers what was set, so that a test can ask. */
export class FakeBackend implements Backend {
  paused = false;
  readonly rejected: { port: number; with: RejectMode }[] = [];
  readonly linkSettings: { name: string; settings: LinkSettings }[] = [];
  readonly sysctls = new Map([
    ["net.core.somaxconn", "4096"],
    ["net.ipv4.tcp_rmem", "4096\t131072\t6291456"],
  ]);
  readonly listeners = new Set<(journey: Journey) => void>();
  readonly captures = new Set<(chunk: Uint8Array) => void>();
  readonly kept = [sampleJourney(2, "/slow?ms=…"), sampleJourney(1)];
  syscallRows: SyscallRow[] = [
    {
      seq: 1,
      atNs: 1_500_000,
      pid: 2,
      gid: 1,
      text: "accept4(3, {sa_family=AF_INET, …}, [16], SOCK_NONBLOCK) = 7",
    },
  ];
  asked: unknown;

  info() {
    return {
      version: "0.0.0",
      originUnixNs: "1700000000000000000",
      node: process.version,
      mode: "inline",
      truth: "user-space",
      site: "http://127.0.0.1:3000/",
      hosts: ["client", "router", "server"],
      acceptPaused: this.paused,
    } as const;
  }
  journeys(query: JourneyQuery) {
    this.asked = query;
    return this.kept.slice(0, query.limit);
  }
  journey(id: number) {
    return this.kept.find((journey) => journey.id === id) ?? null;
  }
  subscribe(listener: (journey: Journey) => void) {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
  sockets(host: string) {
    return host === "server" ? SAMPLE_SOCKETS : [];
  }
  counters() {
    return { IpInReceives: 5234, IpForwarding: 0, TcpExtListenOverflows: 7 };
  }
  links() {
    return SAMPLE_LINKS;
  }
  processes() {
    return [{ pid: 2, name: "server", state: "S", fds: 4, sockets: 1, table: [] }];
  }
  neighbours() {
    return [{ address: "10.0.1.1", dev: "eth0", mac: "02:00:00:00:00:02", state: "REACHABLE" }];
  }
  routes() {
    return [{ destination: "default", via: "10.0.1.1", dev: "eth0", source: "10.0.1.2", metric: 0 }];
  }
  syscalls(_host: string, limit: number) {
    return this.syscallRows.slice(-limit);
  }
  goroutines() {
    return [
      { id: 1, name: "accept loop", state: "parked", parkedOn: "accept fd 3", forNs: 1_500_000_000, requestId: 0 },
    ];
  }
  sysctlList() {
    return [...this.sysctls].map(([name, value]) => ({ name, value }));
  }
  sysctlSet(_host: string, name: string, value: string) {
    if (!/^[0-9]+$/.test(value)) return "Invalid argument";
    this.sysctls.set(name, value);
    return null;
  }
  setLink(name: string, settings: LinkSettings) {
    if (!SAMPLE_LINKS.some((link) => link.name === name))
      throw new Refusal(404, `no link ${name}`, "no such interface", "GET /api/links");
    this.linkSettings.push({ name, settings });
    return SAMPLE_LINKS.filter((link) => link.name === name);
  }
  setAccept(paused: boolean) {
    this.paused = paused;
    return { paused };
  }
  setReject(port: number, mode: RejectMode) {
    this.rejected.push({ port, with: mode });
    return { port, with: mode };
  }
  capture(_what: unknown, onChunk: (chunk: Uint8Array) => void) {
    this.captures.add(onChunk);
    onChunk(sectionHeader());
    return () => void this.captures.delete(onChunk);
  }
  metrics() {
    return "# TYPE node_netstat_TcpExt_ListenOverflows untyped\nnode_netstat_TcpExt_ListenOverflows 7\n";
  }
  stages() {
    return STAGES;
  }
  dropReasons() {
    return DROP_REASONS;
  }
}
