/**
 * Runs socket programs on our stack: one host, its loopback device, one process, virtual time in which work takes no
 * time. The calls are those of `kernel.py`, and each is followed by the same millisecond of rest.
 */
import { type Address, parseAddress } from "../../src/base/address.ts";
import { MIB_NAMES, type MibName } from "../../src/base/mib.ts";
import { MILLISECOND } from "../../src/base/time.ts";
import { FREE_COSTS } from "../../src/sim/cost-model.ts";
import { Sim } from "../../src/sim/sim.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import * as k from "../../src/socket/constants.ts";
import { EpollEvents } from "../../src/socket/epoll.ts";
import { SocketName } from "../../src/socket/file.ts";
import { InetStream } from "../../src/socket/inet-stream.ts";
import type { Process } from "../../src/socket/process.ts";
import type { Stack } from "../../src/stack.ts";
import { Topology } from "../../src/topology.ts";
import type { SocketRow } from "../../src/transport/port.ts";
import type { Tcb } from "../../src/transport/tcp/tcp.ts";
import type { Step } from "./program.ts";

export type Result = number | string | Result[];

/** What a program came to on one side. */
export interface Run {
  readonly results: readonly Result[];
  readonly counters: Readonly<Record<string, number>>;
}

const LOOPBACK = parseAddress("127.0.0.1") as Address;
const POLL = k.EPOLLIN | k.EPOLLOUT | k.EPOLLRDHUP;
const ALWAYS = k.EPOLLERR | k.EPOLLHUP;
const REST_NS = MILLISECOND;
/** Ports from here on are chosen by the kernel (ip_local_port_range). */
const FIRST_CHOSEN_PORT = 32768;
const OPERATIONS: Readonly<Record<string, number>> = {
  add: k.EPOLL_CTL_ADD,
  mod: k.EPOLL_CTL_MOD,
  del: k.EPOLL_CTL_DEL,
};

/** `sysctls`: the kernel's; those we know are set to the same. */
export function runOurs(steps: readonly Step[], sysctls: Readonly<Record<string, string>>): Run {
  const machine = new Machine(sysctls);
  const results = steps.map((step) => machine.call(step));
  return { results, counters: machine.counters() };
}

class Machine {
  private readonly fds = new Map<string, number>();
  private readonly sim: Sim;
  private readonly host: Stack;
  private readonly process: Process;
  private readonly atStart: Float64Array;

  constructor(sysctls: Readonly<Record<string, string>>) {
    const clockOf = () => new VirtualClock(FREE_COSTS);
    const topology = new Topology({ hosts: [{ name: "host", nics: [] }], links: [] }, { seed: 1, clockOf });
    this.sim = new Sim(topology);
    this.host = topology.host("host");
    this.process = this.host.processes.create("program");
    for (const { name } of this.host.env.sysctl.list()) {
      const value = sysctls[name];
      if (value !== undefined) this.sysctl(name, value);
    }
    this.rest(MILLISECOND);
    this.atStart = this.host.env.mib.values.slice();
  }

  call([call, ...args]: Step): Result {
    const method = this[call as keyof this] as ((...args: (string | number)[]) => Result) | undefined;
    if (method === undefined) throw new Error(`no call "${call}"`);
    const result = method.apply(this, args);
    this.rest(REST_NS);
    return result;
  }

  /** Every counter under nstat's name, since the start. */
  counters(): Record<string, number> {
    const { values } = this.host.env.mib;
    return Object.fromEntries(MIB_NAMES.map(({ name }, i) => [name, values[i] - this.atStart[i]]));
  }

  private rest(ns: number): void {
    this.sim.runUntil(this.sim.nowNs + ns);
  }

  private fd(name: string): number {
    return this.fds.get(name) ?? -1;
  }

  /** Keeps a descriptor under a name. */
  private keep(name: string, fd: number): number {
    if (fd < 0) return fd;
    this.fds.set(name, fd);
    return 0;
  }

  // ── calls (the public ones of kernel.py) ──────────────────────────────────────────────────────────────────────

  socket(name: string, kind: string): number {
    return this.keep(name, this.process.socket(k.AF_INET, kind === "tcp" ? k.SOCK_STREAM : k.SOCK_DGRAM));
  }

  bind(name: string, port: number, address: string): number {
    return this.process.bind(this.fd(name), parseAddress(address) as Address, port);
  }

  listen(name: string, backlog: number): number {
    return this.process.listen(this.fd(name), backlog);
  }

  connect(name: string, port: number, address: string): number {
    return this.process.connect(this.fd(name), parseAddress(address) as Address, port);
  }

  accept(listener: string, name: string): number {
    return this.keep(name, this.process.accept4(this.fd(listener)));
  }

  send(name: string, text: string, flags: number): number {
    const bytes = Buffer.from(text);
    return this.process.send(this.fd(name), bytes, 0, bytes.length, flags | k.MSG_NOSIGNAL);
  }

  fill(name: string): number {
    const bytes = new Uint8Array(65536);
    for (;;) {
      const result = this.process.send(this.fd(name), bytes, 0, bytes.length, k.MSG_NOSIGNAL);
      if (result < 0) return result;
    }
  }

  sendto(name: string, text: string, port: number): number {
    const bytes = Buffer.from(text);
    return this.process.sendto(this.fd(name), bytes, 0, bytes.length, 0, LOOPBACK, port);
  }

  recv(name: string, most: number, flags: number): Result {
    const into = Buffer.alloc(most);
    const result = this.process.recv(this.fd(name), into, 0, most, flags);
    return result < 0 ? result : into.toString("utf8", 0, result);
  }

  shutdown(name: string, how: number): number {
    return this.process.shutdown(this.fd(name), how);
  }

  close(name: string): number {
    return this.process.close(this.fd(name));
  }

  set(name: string, level: number, option: number, value: number): number {
    return this.process.setsockopt(this.fd(name), level, option, value);
  }

  linger(name: string, on: number, seconds: number): number {
    return this.process.setsockopt(this.fd(name), k.SOL_SOCKET, k.SO_LINGER, on, seconds);
  }

  get(name: string, level: number, option: number): number {
    return this.process.getsockopt(this.fd(name), level, option);
  }

  info(name: string): Result {
    const file = this.process.fileOf(this.fd(name));
    if (!(file instanceof InetStream)) return -1;
    const info = this.host.tcp.info(file.tcb as Tcb);
    return [info.state, info.sndWscale, info.rcvWscale, info.unacked, info.sndCwnd];
  }

  names(name: string): Result {
    const out = new SocketName();
    const known = (result: number) => (result < 0 ? result : out.port > 0 ? "a port" : "no port");
    const local = known(this.process.getsockname(this.fd(name), out));
    return [local, known(this.process.getpeername(this.fd(name), out))];
  }

  poll(name: string): number {
    return this.ready(name, POLL);
  }

  until(name: string, events: number, mostMs: number): Result {
    const startNs = this.sim.nowNs;
    const endNs = startNs + mostMs * MILLISECOND;
    while (this.ready(name, events) === 0 && this.sim.nowNs < endNs) this.rest(MILLISECOND / 10);
    return [this.ready(name, events), (this.sim.nowNs - startNs) / MILLISECOND];
  }

  epoll(name: string): number {
    return this.keep(name, this.process.epollCreate1());
  }

  ctl(name: string, operation: string, target: string, events: number): number {
    const fd = this.fd(target);
    return this.process.epollCtl(this.fd(name), OPERATIONS[operation], fd, events, fd);
  }

  events(name: string): Result {
    const out = new EpollEvents(16);
    const n = this.process.epollWait(this.fd(name), out);
    const names = new Map([...this.fds].map(([key, fd]) => [fd, key]));
    const rows = Array.from({ length: n }, (_, i): Result => [names.get(out.data[i]) ?? "?", out.events[i]]);
    return rows.sort();
  }

  sysctl(name: string, value: string): number {
    const error = this.host.env.sysctl.set(name, value);
    if (error !== null) throw new Error(error);
    return 0;
  }

  wait(ms: number): number {
    this.rest(ms * MILLISECOND);
    return 0;
  }

  ss(): Result {
    const port = (n: number) => (n === 0 || n >= FIRST_CHOSEN_PORT ? "*" : n);
    // /proc/net/tcp does not show a listener's backlog.
    const sent = (r: SocketRow) => (r.state === "LISTEN" ? 0 : r.sendQueue);
    const rows = this.host.tcp.rows();
    return rows.map((r) => `${r.state} ${r.receiveQueue} ${sent(r)} ${port(r.localPort)} ${port(r.remotePort)}`).sort();
  }

  count(...names: string[]): Result {
    return names.map((name) => this.counters()[name as MibName]);
  }

  private ready(name: string, events: number): number {
    return (this.process.fileOf(this.fd(name))?.poll() ?? 0) & (events | ALWAYS);
  }
}
