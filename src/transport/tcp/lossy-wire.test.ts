/**
 * Two Tcps over a bad wire: whatever it loses, doubles, delays or reorders, both streams arrive byte for byte, both
 * ends come to an end, and every slot goes back to the pool.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Prng } from "../../base/prng.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import type { Tcb } from "./tcp.ts";
import { type TestHost, TestWire, type WireOptions } from "./tcp-testing.ts";

/**
 * One end's application: writes `out` in pieces as room comes, reads in pieces, closes its side after the last byte.
 */
class Pump {
  readonly host: TestHost;
  readonly tcb: Tcb;
  private readonly out: Uint8Array;
  private readonly prng: Prng;
  private written = 0;
  private shut = false;
  readonly got: Uint8Array;
  gotLen = 0;
  sawEnd = false;

  constructor(host: TestHost, tcb: Tcb, out: Uint8Array, expectLen: number, seed: number) {
    this.host = host;
    this.tcb = tcb;
    this.out = out;
    this.prng = new Prng(seed);
    this.got = new Uint8Array(expectLen + 1);
    host.tcp.setUpcalls(tcb, { readable() {}, writable() {}, stateChanged() {} });
  }

  /** What a process does when it runs: bounded, at random. */
  turn(): void {
    const { tcp } = this.host;
    for (let i = 0; i < 4 && this.written < this.out.length; i++) {
      const piece = Math.min(1 + this.prng.below(20_000), this.out.length - this.written);
      const n = tcp.send(this.tcb, this.out, this.written, piece, 0);
      if (n <= 0) break;
      this.written += n;
    }
    if (this.written === this.out.length && !this.shut) this.shut = tcp.shutdown(this.tcb, 1) === 0;
    for (let i = 0; i < 4 && !this.sawEnd; i++) {
      const n = tcp.receive(
        this.tcb,
        this.got,
        this.gotLen,
        Math.min(1 + this.prng.below(30_000), this.got.length - this.gotLen),
        0,
      );
      if (n < 0) break;
      if (n === 0) this.sawEnd = true;
      this.gotLen += n;
    }
  }

  get done(): boolean {
    return this.shut && this.sawEnd;
  }
}

function pattern(len: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(len);
  new Prng(seed).fill(bytes);
  return bytes;
}

function transfer(
  options: WireOptions,
  seed: number,
  upLen: number,
  downLen: number,
  sysctl: Partial<Sysctls>,
  gsoMaxBytes = 0,
): TestWire {
  const wire = new TestWire(options, seed, { a: { sysctl }, b: { sysctl } });
  wire.a.ip.gsoMaxBytes = gsoMaxBytes;
  wire.b.ip.gsoMaxBytes = gsoMaxBytes;
  const [client, server] = wire.pair();
  const up = pattern(upLen, seed + 10);
  const down = pattern(downLen, seed + 11);
  const a = new Pump(wire.a, client, up, downLen, seed + 12);
  const b = new Pump(wire.b, server, down, upLen, seed + 13);
  for (let rounds = 0; !(a.done && b.done); rounds++) {
    if (rounds > 60_000)
      throw new Error(`stalled: ${JSON.stringify([wire.a.tcp.info(client), wire.b.tcp.info(server)])}`);
    a.turn();
    b.turn();
    wire.runFor(5 * MILLISECOND);
  }
  expect(b.gotLen).toBe(upLen);
  expect(a.gotLen).toBe(downLen);
  expect(Buffer.compare(b.got.subarray(0, upLen), up)).toBe(0);
  expect(Buffer.compare(a.got.subarray(0, downLen), down)).toBe(0);
  wire.a.tcp.close(client);
  wire.b.tcp.close(server);
  // However badly the last FINs fare, both ends are gone after their retries and TIME_WAIT.
  wire.runFor(1000 * SECOND);
  for (const host of [wire.a, wire.b]) {
    expect(host.tcp.rows().filter((r) => r.state !== "LISTEN")).toEqual([]);
    expect(host.env.pool.outstanding).toBe(0);
    expect(host.env.pool.arena.outstanding).toBe(0);
    expect(host.env.timers.armedCount()).toBe(0);
  }
  return wire;
}

const features = fc.constantFrom<Partial<Sysctls>>(
  {},
  { tcpSack: 0 },
  { tcpTimestamps: 0 },
  { tcpSack: 0, tcpTimestamps: 0 },
  { tcpWindowScaling: 0, tcpSack: 0 },
);

/** What the path takes, and whether the wire carries it whole. */
const superSegments = fc.constantFrom<[number, boolean]>(
  [0, false],
  [0, false],
  [65535, false],
  [65535, true],
  [5000, true],
);

describe("transfer over a bad wire", () => {
  test("any loss, duplication and reordering: streams are byte-equal, nothing leaks", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 0, max: 10 }),
        fc.constantFrom(0, 200_000, 2_000_000, 20_000_000),
        fc.integer({ min: 0, max: 80_000 }),
        fc.integer({ min: 0, max: 80_000 }),
        features,
        superSegments,
        (seed, lossPercent, duplicatePercent, jitterNs, upLen, downLen, sysctl, [gsoMaxBytes, whole]) => {
          const lossRate = lossPercent / 100;
          const duplicateRate = duplicatePercent / 100;
          const options = { lossRate, duplicateRate, jitterNs, delayNs: MILLISECOND, whole };
          transfer(options, seed, upLen, downLen, sysctl, gsoMaxBytes);
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test("a clean wire never retransmits", () => {
    const wire = transfer({ delayNs: 10 * MILLISECOND }, 5, 400_000, 400_000, {});
    expect(wire.a.counter("TcpRetransSegs") + wire.b.counter("TcpRetransSegs")).toBe(0);
    expect(wire.b.counter("TcpExtTCPHPHits")).toBeGreaterThan(0);
  });
});
