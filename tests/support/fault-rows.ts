/**
 * The fourteen numbered rows of the fault checklist: what is done to the wire or to an end, and what must come of it.
 *
 * Expected numbers are Linux's: initial RTO 1 s, four SYNs more a second apart (tcp_syn_linear_timeouts), then doubling
 * up to tcp_syn_retries; no RTO below 200 ms, so a pause of less was repaired without a timer.
 */
import { expect } from "vitest";
import { seqDiff } from "../../src/base/seq.ts";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { FaultBench, SeenSegment } from "./fault-bench.ts";
import {
  bytesOf,
  codeOf,
  connected,
  expectSame,
  expectTook,
  type FaultRow,
  hasData,
  isBareAck,
  isFin,
  isSyn,
  longestPauseNs,
  nth,
  PORT,
  probeWaits,
  readAll,
  readExactly,
  resent,
  transfer,
} from "./fault-play.ts";

/** tcp_rto_min_us: a shorter pause in a transfer was not ended by a retransmission timer. */
const RTO_MIN_NS: Ns = 200 * MILLISECOND;
const BULK_BYTES = 200_000;
/** tcp_syn_retries 6, tcp_syn_linear_timeouts 4: when the SYNs go, and when the call gives up. */
const SYN_SECONDS = [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67];
const GIVE_UP_SECONDS = 131;

/** A bulk transfer to the server over whatever `disturb` does; nothing may wait for a timer. */
async function bulk(bench: FaultBench, disturb: () => void): Promise<void> {
  const pair = await connected(bench);
  disturb();
  await transfer(pair.client, pair.server, BULK_BYTES);
  expect(longestPauseNs(bench.wire.seen, "to-server")).toBeLessThan(RTO_MIN_NS);
  pair.close();
}

const swapped: FaultRow = {
  number: "1",
  text: "one frame swapped with the next: intact data, no stall, nothing sent again",
  needs: ["swap"],
  async play(bench) {
    await bulk(bench, () => bench.wire.swap("to-server", nth(12, hasData)));
    expect(resent(bench.wire.seen, "to-server")).toEqual([]);
  },
};

const dropped: FaultRow = {
  number: "2",
  text: "one frame dropped: intact data, that frame sent again once, without a time-out",
  async play(bench) {
    await bulk(bench, () => bench.wire.lose("to-server", nth(12, hasData)));
    const { seen } = bench.wire;
    const lost = seen.filter((s) => s.lost);
    expect(lost).toHaveLength(1);
    expect(resent(seen, "to-server").map((s) => s.seq)).toEqual(lost.map((s) => s.seq));
  },
};

const ackDropped: FaultRow = {
  number: "3a",
  text: "one ACK dropped: intact data, nothing sent again",
  async play(bench) {
    await bulk(bench, () => bench.wire.lose("to-client", nth(8, isBareAck)));
    expect(bench.wire.seen.filter((s) => s.lost)).toHaveLength(1);
    expect(resent(bench.wire.seen, "to-server")).toEqual([]);
  },
};

const duplicated: FaultRow = {
  number: "3b",
  text: "one frame duplicated: intact data, nothing sent again",
  needs: ["duplicate"],
  async play(bench) {
    await bulk(bench, () => bench.wire.duplicate("to-server", nth(12, hasData)));
    expect(resent(bench.wire.seen, "to-server")).toEqual([]);
  },
};

const lossy: FaultRow = {
  number: "4",
  text: "5 % loss, 60 kB each way: intact data",
  needs: ["impair"],
  async play(bench) {
    const pair = await connected(bench);
    bench.wire.impair({ loss: 0.05 });
    await transfer(pair.client, pair.server, 60_000);
    pair.close();
    const second = await connected(bench, PORT + 1);
    await transfer(second.server, second.client, 60_000, 2);
    second.close();
    expect(bench.wire.seen.filter((s) => s.lost).length).toBeGreaterThan(0);
  },
};

const synDropped: FaultRow = {
  number: "5",
  text: "first SYN dropped: connects after 1 s",
  async play(bench) {
    bench.wire.lose("to-server", isSyn);
    const listener = await bench.server.listen(PORT);
    const startNs = bench.nowNs;
    const client = await bench.client.dial(PORT);
    expectTook(bench, bench.nowNs - startNs, SECOND + bench.rttNs);
    const server = await listener.accept();
    await transfer(client, server, 1000);
    client.close();
    server.close();
    listener.close();
  },
};

const refused: FaultRow = {
  number: "6",
  text: "connect to a closed port: ECONNREFUSED within one round trip",
  async play(bench) {
    const startNs = bench.nowNs;
    expect(await codeOf(bench.client.dial(PORT))).toBe("ECONNREFUSED");
    expectTook(bench, bench.nowNs - startNs, bench.rttNs);
  },
};

const silent: FaultRow = {
  number: "7",
  text: "connect to a silent host: ETIMEDOUT after the SYN schedule, 131 s",
  needs: ["minutes"],
  async play(bench) {
    bench.wire.lose("to-server", () => true, Number.POSITIVE_INFINITY);
    const startNs = bench.nowNs;
    expect(await codeOf(bench.client.dial(PORT))).toBe("ETIMEDOUT");
    expectTook(bench, bench.nowNs - startNs, GIVE_UP_SECONDS * SECOND);
    const syns = bench.wire.seen.filter(isSyn);
    expect(syns).toHaveLength(SYN_SECONDS.length);
    for (const [i, syn] of syns.entries()) {
      expectTook(bench, syn.atNs - startNs, (SYN_SECONDS[i] as number) * SECOND);
      expect(syn.seq).toBe(syns[0]?.seq);
    }
  },
};

const halfClosed: FaultRow = {
  number: "8",
  text: "client FIN, then the server replies: the reply is delivered",
  async play(bench) {
    const pair = await connected(bench);
    await pair.client.write(bytesOf(1000));
    pair.client.end();
    expectSame(await readAll(pair.server), bytesOf(1000));
    await bench.sleep(500 * MILLISECOND);
    await transfer(pair.server, pair.client, 100_000, 2);
    pair.close();
  },
};

const written: FaultRow = {
  number: "9",
  text: "write 40 kB, then end(): all bytes, then FIN",
  async play(bench) {
    const pair = await connected(bench);
    await transfer(pair.client, pair.server, 40_000);
    const sent = bench.wire.seen.filter((s) => s.way === "to-server");
    const isn = sent.find(isSyn)?.seq ?? 0;
    const fin = sent.find(isFin) as SeenSegment;
    expect(seqDiff(fin.seq + fin.payloadBytes, isn)).toBe(1 + 40_000);
    pair.close();
  },
};

const reset: FaultRow = {
  number: "10",
  text: "RST on an open connection: ECONNRESET, later writes fail",
  async play(bench) {
    const pair = await connected(bench);
    const pending = codeOf(pair.client.read(1));
    await pair.client.write(bytesOf(10));
    expect(await readExactly(pair.server, 10)).toHaveLength(10);
    pair.server.abort();
    expect(await pending).toBe("ECONNRESET");
    expect(["EPIPE", "ECONNRESET"]).toContain(await codeOf(pair.client.write(bytesOf(10))));
    expect(["EPIPE", "ECONNRESET"]).toContain(await codeOf(pair.client.write(bytesOf(10))));
    pair.client.close();
    pair.listener.close();
  },
};

const paused: FaultRow = {
  number: "11",
  text: "reader pauses 3 s: back-pressure, zero-window probes at doubling intervals, no loss",
  async play(bench) {
    const pair = await connected(bench);
    const sent = bytesOf(4_000_000);
    let isWritten = false;
    const write = pair.client.write(sent).then(() => {
      isWritten = true;
      pair.client.end();
    });
    await bench.sleep(3 * SECOND);
    expect(isWritten).toBe(false);
    const [, got] = await Promise.all([write, readAll(pair.server)]);
    expectSame(got, sent);
    pair.close();
    const waits = probeWaits(bench, "to-server");
    // The RTO is srtt + 200 ms: probes after 0.2, 0.4, 0.8 and 1.6 s and a bit; three of them fit into 3 s.
    expect(waits).toHaveLength(3);
    expect(waits[0]).toBeGreaterThan(RTO_MIN_NS);
    for (const [i, wait] of waits.slice(1).entries()) expectTook(bench, wait, 2 * (waits[i] as Ns) - bench.slackNs / 2);
  },
};

const padded: FaultRow = {
  number: "12",
  text: "frames padded to 60 B: padding ignored, the length is the IP header's",
  needs: ["pad"],
  async play(bench) {
    bench.wire.pad();
    const pair = await connected(bench);
    for (const len of [1, 2, 3, 6, 100]) {
      await pair.client.write(bytesOf(len, len));
      expectSame(await readExactly(pair.server, len), bytesOf(len, len));
      await pair.server.write(bytesOf(len, len));
      expectSame(await readExactly(pair.client, len), bytesOf(len, len));
    }
    await transfer(pair.client, pair.server, 60_001);
    pair.close();
  },
};

const early: FaultRow = {
  number: "13",
  text: "connection and bytes before anybody accepts: queued, and yielded at once",
  async play(bench) {
    const listener = await bench.server.listen(PORT);
    const client = await bench.client.dial(PORT);
    await client.write(bytesOf(5000));
    await bench.sleep(SECOND);
    const beforeNs = bench.nowNs;
    const server = await listener.accept();
    expectSame(await readExactly(server, 5000), bytesOf(5000));
    expectTook(bench, bench.nowNs - beforeNs, 0);
    client.close();
    server.close();
    listener.close();
  },
};

const inUse: FaultRow = {
  number: "14",
  text: "second listen on a port: EADDRINUSE, and the first goes on",
  async play(bench) {
    const pair = await connected(bench);
    expect(await codeOf(bench.server.listen(PORT))).toBe("EADDRINUSE");
    const [again, accepted] = await Promise.all([bench.client.dial(PORT), pair.listener.accept()]);
    await transfer(again, accepted, 1000);
    again.close();
    accepted.close();
    pair.close();
  },
};

export const NUMBERED_ROWS: readonly FaultRow[] = [
  swapped,
  dropped,
  ackDropped,
  duplicated,
  lossy,
  synDropped,
  refused,
  silent,
  halfClosed,
  written,
  reset,
  paused,
  padded,
  early,
  inUse,
];
