/**
 * Test tools of TCP: one host behind a wire of templates, and two hosts behind a lossy one. Not part of the package.
 *
 *   const peer = new TestPeer(new TestHost());          // we play the other end, segment by segment
 *   peer.send({ flags: "S", seq: 1000, mss: 1460 });
 *   peer.expect({ flags: "S.", ack: 1001 });
 *
 *   const wire = new TestWire(a, b, { delayNs, lossRate, … }, seed);  // two Tcps talk
 *   wire.runFor(10 * SECOND);
 */
import { type Address, parseAddress } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { finish, sum } from "../../base/checksum.ts";
import { Mib, MibId, type MibName } from "../../base/mib.ts";
import { Prng } from "../../base/prng.ts";
import { Sysctls } from "../../base/sysctl.ts";
import { ManualClock, MILLISECOND, NEVER, type Ns } from "../../base/time.ts";
import { Timers } from "../../base/timers.ts";
import { NO_TRACE, type Tracepoints } from "../../base/tracepoints.ts";
import type { IpLayer, OutputOptions, Route, TransportProtocol } from "../../network/port.ts";
import { Arena, type ArenaLimits } from "../../skb/arena.ts";
import { DropCounters } from "../../skb/drop.ts";
import type { HostEnv } from "../../skb/host-env.ts";
import { type SkBuff, SkBuffPool, Summed } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import type { SocketUpcalls } from "../port.ts";
import { type Tcb, Tcp } from "./tcp.ts";

const PROTOCOL_TCP = 6;

/** 6 MB: made for every test, so no larger than most of them need. */
const TEST_ARENA: ArenaLimits = { smallSlots: 1024, frameSlots: 2048, pageSlots: 24 };

/** The mutable parts of a test's route. */
export interface TestRoute extends Route {
  mtu: number;
  valid: boolean;
}

/** IP that only records: what TCP sends lands in `sent`. */
export class FakeIp implements IpLayer {
  readonly local: Address;
  handler: TransportProtocol | null = null;
  mtu = 1500;
  /** What the route says it takes as a super-segment; 0: none. */
  gsoMaxBytes = 0;
  /** -errno that `route` answers, 0 = there is a route. */
  routeError = 0;
  readonly routes: TestRoute[] = [];
  /**
   * Takes what is sent: a copy of the segment's bytes, from the TCP header on, its checksum completed as a device does;
   * `gsoSize` > 0 if it is a super-segment.
   */
  onSegment: (bytes: Uint8Array, destination: Address, gsoSize: number) => void = () => {};
  readonly icmpErrors: { type: number; code: number }[] = [];
  private readonly env: HostEnv;

  constructor(env: HostEnv, local: Address) {
    this.env = env;
    this.local = local;
  }

  register(_protocol: number, handler: TransportProtocol): void {
    this.handler = handler;
  }

  route(destination: Address, source: Address | null, _ifindex: number): Route | number {
    if (this.routeError !== 0) return this.routeError;
    const route: TestRoute = {
      destination,
      source: source ?? this.local,
      ifindex: 2,
      mtu: this.mtu,
      gsoMaxBytes: this.gsoMaxBytes,
      valid: true,
    };
    this.routes.push(route);
    if (this.routes.length > 64) this.routes.shift();
    return route;
  }

  output(skb: SkBuff, route: Route, _protocol: number, _options: OutputOptions): number {
    const bytes = skb.bytes.slice(skb.data, skb.tail);
    const { gsoSize } = skb;
    if (skb.summed === Summed.partial) completeChecksum(bytes);
    this.env.pool.release(skb);
    this.onSegment(bytes, route.destination, gsoSize);
    return 0;
  }

  sendIcmpError(_skb: SkBuff, type: number, code: number): void {
    this.icmpErrors.push({ type, code });
  }

  isLocal(address: Address): boolean {
    return address.equals(this.local);
  }

  ifindexOf(): number {
    return 2;
  }
}

/** What a device with checksum offload does: the field holds the sum of the pseudo header. */
function completeChecksum(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  wire.setChecksum(view, 0, finish(sum(bytes, 0, bytes.length)));
}

export interface TestHostOptions {
  readonly address?: string;
  readonly clock?: ManualClock;
  readonly seed?: number;
  readonly sysctl?: Partial<Sysctls>;
  readonly trace?: Tracepoints;
  /** Packet memory; the default is 6 MB. */
  readonly arena?: ArenaLimits;
}

/** One host with a Tcp, a hand-driven clock and a small arena. */
export class TestHost {
  readonly clock: ManualClock;
  readonly env: HostEnv;
  readonly ip: FakeIp;
  readonly tcp: Tcp;
  readonly address: Address;
  readonly mib = new Mib();

  constructor(options: TestHostOptions = {}) {
    this.clock = options.clock ?? new ManualClock(1_000_000_000);
    this.address = parseAddress(options.address ?? "10.0.0.1") as Address;
    const pool = new SkBuffPool(new Arena(options.arena ?? TEST_ARENA));
    const trace = options.trace ?? NO_TRACE;
    const sysctl = Object.assign(new Sysctls(), options.sysctl);
    let frames = 0;
    let conns = 0;
    const secret = new Uint8Array(16).fill(7);
    const prng = new Prng(options.seed ?? 1);
    prng.fill(secret);
    this.env = {
      name: "test",
      clock: this.clock,
      timers: new Timers(),
      prng,
      pool,
      trace,
      mib: this.mib,
      sysctl,
      drops: new DropCounters(pool, trace),
      secret,
      nextFrameId: () => ++frames,
      nextConnId: () => ++conns,
    } as HostEnv;
    this.ip = new FakeIp(this.env, this.address);
    this.tcp = new Tcp(this.env, this.ip);
  }

  /** Hands a TCP segment to the stack as IP would; a super-segment with a `gsoSize`, its checksum vouched for. */
  receive(segment: Uint8Array, from: Address, gsoSize = 0): void {
    const { pool } = this.env;
    const skb = pool.alloc(ipv4.HEADER_LEN + segment.length, 0);
    assert(skb !== null, "test host: out of packet memory");
    const at = skb.put(ipv4.HEADER_LEN + segment.length);
    ipv4.writeHeader(
      skb.bytes,
      skb.view,
      at,
      ipv4.HEADER_LEN + segment.length,
      0,
      ipv4.FLAG_DF,
      64,
      PROTOCOL_TCP,
      from.v4,
      this.address.v4,
      0,
    );
    skb.bytes.set(segment, at + ipv4.HEADER_LEN);
    skb.net = at;
    skb.pull(ipv4.HEADER_LEN);
    skb.transport = skb.data;
    skb.ifindex = 2;
    skb.arrivedNs = this.clock.nowNs;
    skb.polledNs = this.clock.nowNs;
    skb.gsoSize = gsoSize;
    if (gsoSize > 0) skb.summed = Summed.unnecessary;
    (this.ip.handler as TransportProtocol).receive(skb);
  }

  /** Moves time to `toNs`, firing what is due on the way. */
  advanceTo(toNs: Ns): void {
    for (let at = this.env.timers.deadline(); at <= toNs; at = this.env.timers.deadline()) {
      this.clock.nowNs = Math.max(at, this.clock.nowNs);
      this.env.timers.fireOne(this.clock.nowNs);
    }
    this.clock.nowNs = Math.max(toNs, this.clock.nowNs);
  }

  advance(ns: Ns): void {
    this.advanceTo(this.clock.nowNs + ns);
  }

  /** A counter by its nstat name. */
  counter(name: MibName): number {
    return this.mib.values[MibId[name]];
  }

  /** A listener on `port`, with its upcalls counted. */
  listen(port: number, backlog = 128): Tcb {
    const tcb = this.tcp.create(new CountedUpcalls());
    const any = parseAddress("0.0.0.0") as Address;
    const bound = this.tcp.bind(tcb, any, port, { reuseAddress: true, reusePort: false, ifindex: 0 });
    assert(bound === 0, `bind: ${bound}`);
    const listening = this.tcp.listen(tcb, backlog);
    assert(listening === 0, `listen: ${listening}`);
    return tcb;
  }

  /** accept(2) of the oldest connection. */
  accept(listener: Tcb): Tcb {
    const child = this.tcp.acceptPeek(listener, 0);
    assert(child !== null, "accept: nothing queued");
    this.tcp.acceptTake(listener, child);
    this.tcp.setUpcalls(child, new CountedUpcalls());
    return child;
  }

  connect(address: Address, port: number): Tcb {
    const tcb = this.tcp.create(new CountedUpcalls());
    const result = this.tcp.connect(tcb, address, port);
    assert(result === -115, `connect: ${result}`);
    return tcb;
  }

  write(tcb: Tcb, data: string | Uint8Array, flags = 0): number {
    const bytes = typeof data === "string" ? ascii(data) : data;
    return this.tcp.send(tcb, bytes, 0, bytes.length, flags);
  }

  /** Reads everything there is; the bytes, or -errno / 0 as a number when there are none. */
  read(tcb: Tcb, most = 1 << 20): Uint8Array | number {
    const into = new Uint8Array(Math.min(most, Math.max(1, this.tcp.readableBytes(tcb))));
    const n = this.tcp.receive(tcb, into, 0, into.length, 0);
    return n > 0 ? into.subarray(0, n) : n;
  }

  readText(tcb: Tcb): string {
    const got = this.read(tcb);
    return typeof got === "number" ? `<${got}>` : text(got);
  }
}

export class CountedUpcalls implements SocketUpcalls {
  readables = 0;
  writables = 0;
  changes = 0;
  readable(): void {
    this.readables++;
  }
  writable(): void {
    this.writables++;
  }
  stateChanged(): void {
    this.changes++;
  }
}

/** Latin-1 bytes of a string, and back. */
export function ascii(s: string): Uint8Array {
  return Uint8Array.from(s, (c) => c.charCodeAt(0));
}

export function text(bytes: Uint8Array): string {
  let s = "";
  for (const byte of bytes) s += String.fromCharCode(byte);
  return s;
}

// ── templates ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** A segment as a test writes it. Flags in tcpdump's letters: "S", "S.", ".", "P.", "F.", "R", "R.". */
export interface SegmentTemplate {
  readonly flags: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  readonly mss?: number;
  readonly windowScale?: number;
  readonly sack?: boolean;
  /** TSval and TSecr. */
  readonly ts?: readonly [tsVal: number, tsEcr: number];
  /** SACK blocks. */
  readonly blocks?: readonly (readonly [left: number, right: number])[];
  readonly data?: string;
  readonly srcPort?: number;
  readonly dstPort?: number;
  /** A super-segment: `data` is many segments of this size. */
  readonly gsoSize?: number;
}

/** What came out of the stack, parsed. */
export interface SentSegmentView {
  readonly atNs: Ns;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly flags: string;
  readonly seq: number;
  readonly ack: number;
  readonly window: number;
  readonly len: number;
  readonly data: string;
  readonly mss: number;
  readonly windowScale: number;
  readonly sack: boolean;
  readonly ts: readonly [number, number] | null;
  readonly blocks: readonly (readonly [number, number])[];
  readonly optionKinds: readonly string[];
  /** > 0: a super-segment of segments of so many bytes. */
  readonly gsoSize: number;
}

const LETTERS: Readonly<Record<string, number>> = {
  F: wire.Flag.fin,
  S: wire.Flag.syn,
  R: wire.Flag.rst,
  P: wire.Flag.psh,
  ".": wire.Flag.ack,
  U: wire.Flag.urg,
};

function optionsOf(t: SegmentTemplate): wire.TcpOption[] {
  const options: wire.TcpOption[] = [];
  if (t.mss !== undefined) options.push({ kind: "mss", mss: t.mss });
  if (t.sack) options.push({ kind: "nop" }, { kind: "nop" }, { kind: "sackPermitted" });
  if (t.ts) options.push({ kind: "nop" }, { kind: "nop" }, { kind: "timestamps", tsVal: t.ts[0], tsEcr: t.ts[1] });
  if (t.windowScale !== undefined) options.push({ kind: "nop" }, { kind: "windowScale", shift: t.windowScale });
  if (t.blocks) options.push({ kind: "nop" }, { kind: "nop" }, { kind: "sack", blocks: t.blocks });
  return options;
}

/** A connection `open` made. */
export interface Opened {
  readonly tcb: Tcb;
  /** Our initial sequence number, and the host's. */
  readonly isn: number;
  readonly iss: number;
}

/** The other end of a wire with one TestHost: sends templates, expects segments. */
export class TestPeer {
  readonly host: TestHost;
  readonly address: Address;
  port = 40000;
  hostPort = 80;
  /** What the host sent and no `expect` has taken. */
  readonly sent: SentSegmentView[] = [];

  constructor(host: TestHost, address = "10.0.0.2") {
    this.host = host;
    this.address = parseAddress(address) as Address;
    host.ip.onSegment = (bytes, _destination, gsoSize) => {
      assert(
        wire.hasGoodChecksumV4(bytes, 0, bytes.length, host.address.v4, this.address.v4),
        "sent with a bad checksum",
      );
      this.sent.push(viewSegment(bytes, host.clock.nowNs, gsoSize));
    };
  }

  send(t: SegmentTemplate): void {
    const flags = [...t.flags].reduce((bits, letter) => bits | (LETTERS[letter] ?? 0), 0);
    const bytes = wire.emit({
      srcPort: t.srcPort ?? this.port,
      dstPort: t.dstPort ?? this.hostPort,
      seq: (t.seq ?? 0) >>> 0,
      ack: (t.ack ?? 0) >>> 0,
      reserved: 0,
      flags,
      window: t.window ?? 65535,
      checksum: 0,
      urgent: 0,
      options: optionsOf(t),
      payload: ascii(t.data ?? ""),
    });
    const view = new DataView(bytes.buffer);
    wire.fillChecksumV4(bytes, view, 0, bytes.length, this.address.v4, this.host.address.v4);
    this.host.receive(bytes, this.address, t.gsoSize);
  }

  /** The next segment the host sent must have these fields; returns it. */
  expect(fields: Partial<SentSegmentView>): SentSegmentView {
    const got = this.sent.shift();
    assert(got !== undefined, `expected ${JSON.stringify(fields)}, but nothing was sent`);
    for (const [key, value] of Object.entries(fields)) {
      const actual = JSON.stringify(got[key as keyof SentSegmentView]);
      assert(
        actual === JSON.stringify(value),
        `${key}: expected ${JSON.stringify(value)}, sent ${JSON.stringify(got)}`,
      );
    }
    return got;
  }

  /** Drops what was sent so far. */
  forget(): void {
    this.sent.length = 0;
  }

  /**
   * Opens a connection to a listener of the host: SYN, SYN-ACK, ACK, accept. Sequence numbers of the templates that
   * follow: ours start at `isn + 1`, the host's at `iss + 1`.
   */
  open(listener: Tcb, syn: Partial<SegmentTemplate> = {}, isn = 1000): Opened {
    this.send({ flags: "S", seq: isn, mss: 1460, ...syn });
    const { seq: iss, ts } = this.expect({ flags: "S.", ack: (isn + 1) >>> 0 });
    const echo = syn.ts ? { ts: [syn.ts[0] + 1, ts?.[0] ?? 0] as const } : {};
    this.send({ flags: ".", seq: isn + 1, ack: iss + 1, window: syn.window ?? 65535, ...echo });
    return { tcb: this.host.accept(listener), isn, iss };
  }

  expectNothing(): void {
    assert(this.sent.length === 0, `expected silence, but sent ${JSON.stringify(this.sent[0])}`);
  }
}

function viewSegment(bytes: Uint8Array, atNs: Ns, gsoSize: number): SentSegmentView {
  const r = wire.parse(bytes);
  const find = <K extends wire.TcpOption["kind"]>(kind: K) =>
    r.options.find((o) => o.kind === kind) as Extract<wire.TcpOption, { kind: K }> | undefined;
  const ts = find("timestamps");
  return {
    atNs,
    srcPort: r.srcPort,
    dstPort: r.dstPort,
    flags: wire.flagLetters(r.flags),
    seq: r.seq,
    ack: r.ack,
    window: r.window,
    len: r.payload.length,
    mss: find("mss")?.mss ?? 0,
    windowScale: find("windowScale")?.shift ?? -1,
    sack: find("sackPermitted") !== undefined,
    ts: ts ? [ts.tsVal, ts.tsEcr] : null,
    blocks: find("sack")?.blocks ?? [],
    optionKinds: r.options.map((o) => o.kind),
    gsoSize,
    // Made only when a test looks at it.
    get data() {
      return text(r.payload);
    },
  };
}

// ── two hosts ─────────────────────────────────────────────────────────────────────────────────────────────────────

export interface WireOptions {
  readonly delayNs?: Ns;
  /** Random extra delay: reorders. */
  readonly jitterNs?: Ns;
  readonly lossRate?: number;
  readonly duplicateRate?: number;
  /** Super-segments are carried whole; otherwise the wire cuts them, and each segment has its own fate. */
  readonly whole?: boolean;
  /** Bytes per second, 0 = unlimited. */
  readonly rateBytes?: number;
  /** Says which segments to drop; counts every segment from 0 in the order sent. */
  readonly drop?: (segment: SentSegmentView, index: number, fromA: boolean) => boolean;
}

interface Flight {
  readonly atNs: Ns;
  readonly bytes: Uint8Array;
  readonly gsoSize: number;
  readonly to: TestHost;
  readonly from: TestHost;
}

/** Two hosts on one clock, joined by a wire that may delay, lose, duplicate and reorder, by a seed. */
export class TestWire {
  readonly a: TestHost;
  readonly b: TestHost;
  readonly clock: ManualClock;
  /** Every segment sent, in order. */
  readonly log: { readonly fromA: boolean; readonly segment: SentSegmentView; readonly dropped: boolean }[] = [];
  options: WireOptions;
  private readonly flights: Flight[] = [];
  private readonly prng: Prng;
  private readonly busyUntilNs = new Map<TestHost, Ns>();

  constructor(options: WireOptions = {}, seed = 1, hosts: { a?: TestHostOptions; b?: TestHostOptions } = {}) {
    this.clock = new ManualClock(1_000_000_000);
    this.a = new TestHost({ address: "10.0.0.1", seed: seed + 1, ...hosts.a, clock: this.clock });
    this.b = new TestHost({ address: "10.0.0.2", seed: seed + 2, ...hosts.b, clock: this.clock });
    this.prng = new Prng(seed);
    this.options = options;
    this.a.ip.onSegment = (bytes, _, gsoSize) => this.send(bytes, gsoSize, this.a, this.b);
    this.b.ip.onSegment = (bytes, _, gsoSize) => this.send(bytes, gsoSize, this.b, this.a);
  }

  /** Runs until nothing is due before `untilNs`, or `isDone` says so after an event. */
  runUntil(untilNs: Ns, isDone: () => boolean = () => false): void {
    for (let steps = 0; !isDone(); steps++) {
      assert(steps < 5_000_000, "test wire: does not come to rest");
      const next = this.nextNs();
      if (next > untilNs) break;
      this.clock.nowNs = Math.max(this.clock.nowNs, next);
      this.step();
    }
    if (!isDone()) this.clock.nowNs = Math.max(this.clock.nowNs, untilNs);
  }

  runFor(ns: Ns, isDone?: () => boolean): void {
    this.runUntil(this.clock.nowNs + ns, isDone);
  }

  /** An established pair: [client on a, server on b]. */
  pair(port = 80): [Tcb, Tcb] {
    const listener = this.b.listen(port);
    const client = this.a.connect(this.b.address, port);
    this.runFor(300_000 * MILLISECOND, () => this.b.tcp.acceptQueueLength(listener) > 0);
    return [client, this.b.accept(listener)];
  }

  private nextNs(): Ns {
    const timers = Math.min(this.a.env.timers.deadline(), this.b.env.timers.deadline());
    const flight = this.flights.length > 0 ? this.flights[this.flights.length - 1].atNs : NEVER;
    const next = Math.min(timers, flight);
    return next === NEVER ? Number.MAX_VALUE : next;
  }

  private step(): void {
    const now = this.clock.nowNs;
    const flight = this.flights[this.flights.length - 1];
    if (flight !== undefined && flight.atNs <= now) {
      this.flights.pop();
      flight.to.receive(flight.bytes, flight.from.address, flight.gsoSize);
    } else if (!this.a.env.timers.fireOne(now)) {
      this.b.env.timers.fireOne(now);
    }
  }

  /** Keeps the flights sorted, the next to land last; of equals the first sent lands first. */
  private launch(flight: Flight): void {
    let low = 0;
    for (let high = this.flights.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if (this.flights[middle].atNs > flight.atNs) low = middle + 1;
      else high = middle;
    }
    this.flights.splice(low, 0, flight);
  }

  private send(bytes: Uint8Array, gsoSize: number, from: TestHost, to: TestHost): void {
    if (gsoSize === 0 || this.options.whole) {
      this.carry(bytes, gsoSize, from, to);
      return;
    }
    for (const piece of cutByHand(bytes, gsoSize, from.address, to.address)) this.carry(piece, 0, from, to);
  }

  private carry(bytes: Uint8Array, gsoSize: number, from: TestHost, to: TestHost): void {
    const { options, prng } = this;
    const view = viewSegment(bytes, this.clock.nowNs, gsoSize);
    const lost =
      prng.chance(options.lossRate ?? 0) || (options.drop?.(view, this.log.length, from === this.a) ?? false);
    this.log.push({ fromA: from === this.a, segment: view, dropped: lost });
    if (lost) return;
    const copies = prng.chance(options.duplicateRate ?? 0) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      let at = this.clock.nowNs + (options.delayNs ?? MILLISECOND);
      if (options.rateBytes) {
        const start = Math.max(this.clock.nowNs, this.busyUntilNs.get(from) ?? 0);
        const end = start + ((bytes.length + 40) / options.rateBytes) * 1e9;
        this.busyUntilNs.set(from, end);
        at += end - this.clock.nowNs;
      }
      if (options.jitterNs) at += prng.float() * options.jitterNs;
      this.launch({ atNs: at, bytes, gsoSize, to, from });
    }
  }
}

/** Cuts a super-segment, by records instead of in place: the judge of `netdev/gso.ts`. */
export function cutByHand(bytes: Uint8Array, gsoSize: number, from: Address, to: Address): Uint8Array[] {
  const whole = wire.parse(bytes);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < whole.payload.length; at += gsoSize) {
    const payload = whole.payload.subarray(at, at + gsoSize);
    const isLast = at + gsoSize >= whole.payload.length;
    let { flags } = whole;
    if (at > 0) flags &= ~wire.Flag.cwr;
    if (!isLast) flags &= ~(wire.Flag.psh | wire.Flag.fin);
    const piece = wire.emit({ ...whole, seq: (whole.seq + at) >>> 0, flags, payload });
    wire.fillChecksumV4(piece, new DataView(piece.buffer), 0, piece.length, from.v4, to.v4);
    pieces.push(piece);
  }
  return pieces;
}
