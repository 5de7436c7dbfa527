/**
 * Whatever a wire loses, doubles and reorders: streams are equal, the retransmission queue's counts are right after
 * every segment, and nobody waits longer than the losses explain.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Prng } from "../../base/prng.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { MILLISECOND, type Ns, SECOND } from "../../base/time.ts";
import { checkEveryAck } from "./retransmit-queue-testing.ts";
import { TestWire, type WireOptions } from "./tcp-testing.ts";

const ARENA = { smallSlots: 2048, frameSlots: 4096, pageSlots: 64 };
const NO_UPCALLS = { readable() {}, writable() {}, stateChanged() {} };

/** One transfer from a to b over 10 ms of round trip; how long it took, and its longest pause. */
function transfer(len: number, options: WireOptions, seed: number, sysctl: Partial<Sysctls> = {}) {
  const wire = new TestWire({ delayNs: 5 * MILLISECOND }, seed, {
    a: { sysctl, arena: ARENA },
    b: { sysctl, arena: ARENA },
  });
  const [client, server] = wire.pair();
  wire.options = { delayNs: 5 * MILLISECOND, ...options };
  wire.a.tcp.setUpcalls(client, NO_UPCALLS);
  checkEveryAck(wire.a);
  checkEveryAck(wire.b);
  const data = new Uint8Array(len);
  new Prng(seed).fill(data);
  const got = new Uint8Array(len + 1);
  const startNs = wire.clock.nowNs;
  let written = 0;
  let gotLen = 0;
  let lastNs: Ns = startNs;
  let pauseNs: Ns = 0;
  for (let rounds = 0; gotLen < len; rounds++) {
    if (rounds > 1_000_000) throw new Error(`seed ${seed}: stalled at ${gotLen} of ${len}`);
    for (let n = 1; n > 0 && written < len; ) {
      n = wire.a.tcp.send(client, data, written, len - written, 0);
      if (n > 0) written += n;
    }
    for (;;) {
      const n = wire.b.tcp.receive(server, got, gotLen, got.length - gotLen, 0);
      if (n <= 0) break;
      gotLen += n;
      pauseNs = Math.max(pauseNs, wire.clock.nowNs - lastNs);
      lastNs = wire.clock.nowNs;
    }
    wire.runFor(MILLISECOND);
  }
  expect(Buffer.compare(got.subarray(0, len), data), `seed ${seed}: the stream differs`).toBe(0);
  return { wire, ns: wire.clock.nowNs - startNs, pauseNs };
}

const features = fc.constantFrom<Partial<Sysctls>>(
  {},
  { tcpTimestamps: 0 },
  { tcpSack: 0 },
  { tcpRecovery: 0 },
  { tcpDsack: 0, tcpEarlyRetrans: 0 },
  { tcpFrto: 0, tcpCongestionControl: "reno" },
  { tcpSack: 0, tcpTimestamps: 0, tcpCongestionControl: "reno" },
);

describe("loss recovery", () => {
  test("any loss, duplication and reordering: equal streams, right counts after every segment", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.integer({ min: 0, max: 15 }),
        fc.integer({ min: 0, max: 15 }),
        fc.constantFrom(0, 0.2, 2, 20, 60),
        fc.integer({ min: 1, max: 150_000 }),
        features,
        (seed, lossPercent, duplicatePercent, jitterMs, len, sysctl) => {
          const lossRate = lossPercent / 100;
          transfer(
            len,
            { lossRate, duplicateRate: duplicatePercent / 100, jitterNs: jitterMs * MILLISECOND },
            seed,
            sysctl,
          );
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  // The timeout is 210 ms: one, two, three of them, doubled, in a row are 210, 630, 1470 ms.
  test.each([
    [1, 300],
    [3, 700],
    [5, 1500],
  ])("%i percent lost of 300 kB: no pause beyond %i ms in 12 seeds", (lossPercent, mostMs) => {
    let pauseNs = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const run = transfer(300_000, { lossRate: lossPercent / 100 }, seed);
      expect(run.ns, `seed ${seed}`).toBeLessThan(10 * SECOND);
      pauseNs = Math.max(pauseNs, run.pauseNs);
    }
    expect(pauseNs / MILLISECOND).toBeLessThanOrEqual(mostMs);
  });

  test("the flight's tail is lost: a probe, no timeout", () => {
    let seen = 0;
    // 8000 bytes are five segments of 1448 and one of 760.
    const drop: WireOptions["drop"] = (s, _, fromA) => fromA && s.len > 0 && ++seen >= 5 && seen <= 6;
    const { wire, ns } = transfer(8000, { drop }, 3);
    expect(wire.a.counter("TcpExtTCPLossProbes")).toBe(1);
    expect(wire.a.counter("TcpExtTCPSackRecovery")).toBe(1);
    expect(wire.a.counter("TcpRetransSegs")).toBe(2);
    expect(wire.a.counter("TcpExtTCPTimeouts")).toBe(0);
    // First ACKs at 10, probe 22 later, its SACK at 42, the hole is filled at 47 and perhaps a reordering window later.
    expect(ns).toBeLessThanOrEqual(55 * MILLISECOND);
  });

  test("a path that delays by up to 4 of 10 ms more reorders: less than a tenth is sent twice", () => {
    const { wire } = transfer(1_000_000, { jitterNs: 4 * MILLISECOND }, 4);
    expect(wire.a.counter("TcpExtTCPSACKReorder")).toBeGreaterThan(0);
    expect(wire.a.counter("TcpRetransSegs")).toBeLessThan(0.1 * wire.a.counter("TcpExtTCPOrigDataSent"));
    expect(wire.a.counter("TcpExtTCPTimeouts")).toBe(0);
  });
});
