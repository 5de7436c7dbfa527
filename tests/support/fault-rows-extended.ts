/**
 * The rows that extend the fault checklist: random faults, path MTU, closed windows, wrapped sequence numbers, bytes
 * past the window, flat memory, a thousand connections, and that every promise settles.
 */
import { expect } from "vitest";
import { seqDiff } from "../../src/base/seq.ts";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import { Flag } from "../../src/wire/tcp.ts";
import type { FaultBench, FaultConn, Impairment, SeenSegment } from "./fault-bench.ts";
import {
  bytesOf,
  codeOf,
  connected,
  expectSame,
  expectTook,
  type FaultRow,
  hasData,
  PORT,
  probeWaits,
  readAll,
  readExactly,
  resent,
  transfer,
} from "./fault-play.ts";

/** tcp_rto_max_ms: no probe waits longer. */
const RTO_MAX_NS: Ns = 120 * SECOND;
const IP_AND_TCP_BYTES = 40;
const TIMESTAMPS_BYTES = 12;

/** One kind of random fault, both ways, both directions of bytes. */
function impaired(number: string, text: string, impairment: Impairment): FaultRow {
  return {
    number,
    text: `${text}, 150 kB each way: intact data`,
    needs: ["impair"],
    async play(bench) {
      bench.wire.impair(impairment);
      for (const turn of [0, 1, 2]) {
        const pair = await connected(bench, PORT + turn);
        const [a, b] = turn % 2 === 0 ? [pair.client, pair.server] : [pair.server, pair.client];
        await transfer(a, b, 50_000, turn);
        pair.close();
      }
    },
  };
}

/** The largest packet that left towards the server in [from, to) of what was seen. */
function largestPacket(seen: readonly SeenSegment[], fromNs: Ns): number {
  const data = seen.filter((s) => s.way === "to-server" && hasData(s) && s.atNs >= fromNs);
  return Math.max(...data.map((s) => s.payloadBytes + IP_AND_TCP_BYTES + TIMESTAMPS_BYTES));
}

const pathMtu: FaultRow = {
  number: "E2a",
  text: "path MTU falls in mid-stream, the router says so: smaller segments, intact data, no time-out",
  needs: ["path-mtu"],
  options: { hasRouter: true },
  async play(bench) {
    const pair = await connected(bench);
    const sent = bytesOf(200_000);
    await pair.client.write(sent.subarray(0, 100_000));
    expectSame(await readExactly(pair.server, 100_000), sent.subarray(0, 100_000));
    expect(largestPacket(bench.wire.seen, 0)).toBe(1500);
    const fromNs = bench.nowNs;
    bench.wire.setPathMtu(1000, true);
    await pair.client.write(sent.subarray(100_000));
    pair.client.end();
    expectSame(await readAll(pair.server), sent.subarray(100_000));
    // What was on its way when the router's word came was still too large: one initial burst at most.
    const late = bench.wire.seen.filter((s) => s.atNs > fromNs + bench.rttNs + bench.slackNs);
    expect(largestPacket(late, 0)).toBeLessThanOrEqual(1000);
    expect(bench.nowNs - fromNs).toBeLessThan(SECOND);
    pair.close();
  },
};

const blackHole: FaultRow = {
  number: "E2b",
  text: "path MTU falls silently and recovers: what was too large is sent again, intact data",
  needs: ["path-mtu", "minutes"],
  options: { hasRouter: true },
  async play(bench) {
    const pair = await connected(bench);
    const sent = bytesOf(100_000);
    bench.wire.setPathMtu(1000, false);
    const write = pair.client.write(sent).then(() => pair.client.end());
    await bench.sleep(5 * SECOND);
    bench.wire.setPathMtu(1500, false);
    const [, got] = await Promise.all([write, readAll(pair.server)]);
    expectSame(got, sent);
    // tcp_mtu_probing = 0: nothing but full segments is tried, by the retransmission timer.
    expect(resent(bench.wire.seen, "to-server").length).toBeGreaterThan(2);
    pair.close();
  },
};

const hour: FaultRow = {
  number: "E3",
  text: "window closed for an hour: probes at doubling intervals up to 120 s, nobody gives up, intact data",
  needs: ["minutes", "small-buffers"],
  options: { receiveBufferBytes: 16_384 },
  async play(bench) {
    const pair = await connected(bench);
    const sent = bytesOf(200_000);
    const write = pair.client.write(sent).then(() => pair.client.end());
    await bench.sleep(3600 * SECOND);
    const [, got] = await Promise.all([write, readAll(pair.server)]);
    expectSame(got, sent);
    const waits = probeWaits(bench, "to-server");
    for (const [i, wait] of waits.slice(1).entries()) {
      expectTook(bench, wait, Math.min(2 * (waits[i] as Ns), RTO_MAX_NS) - bench.slackNs / 2);
    }
    expect(waits.at(-1)).toBeGreaterThan(RTO_MAX_NS - bench.slackNs);
    pair.close();
  },
};

/** Both directions at once, over the whole of a row's sequence numbers. */
async function bothWays(bench: FaultBench, len: number): Promise<void> {
  const pair = await connected(bench);
  const ends: readonly (readonly [FaultConn, FaultConn])[] = [
    [pair.client, pair.server],
    [pair.server, pair.client],
  ];
  await Promise.all(
    ends.map(async ([from, to], i) => {
      const sent = bytesOf(len, i);
      const send = from.write(sent).then(() => from.end());
      const [got] = await Promise.all([readAll(to), send]);
      expectSame(got, sent);
    }),
  );
  pair.close();
}

/** Sequence numbers start so far before `at`, and cross it in mid-stream. */
function crossing(number: string, text: string, at: number): FaultRow {
  const before = 100_000;
  return {
    number,
    text: `sequence numbers ${text} in mid-stream both ways, with 2 % loss: intact data`,
    needs: ["initial-sequence", "impair"],
    options: { initialSequence: (at - before) >>> 0 },
    async play(bench) {
      bench.wire.impair({ loss: 0.02 });
      await bothWays(bench, 2 * before);
      for (const way of ["to-server", "to-client"]) {
        const past = bench.wire.seen.filter((s) => s.way === way && hasData(s)).map((s) => seqDiff(s.seq, at >>> 0));
        expect([Math.min(...past) < 0, Math.max(...past) > 0]).toEqual([true, true]);
      }
    },
  };
}

const beyond: FaultRow = {
  number: "E5",
  text: "bytes past the window: answered by an ACK, dropped, the stream is not touched",
  needs: ["inject"],
  async play(bench) {
    const pair = await connected(bench);
    await pair.client.write(bytesOf(1000));
    expectSame(await readExactly(pair.server, 1000), bytesOf(1000));
    await bench.sleep(SECOND);
    const { seen } = bench.wire;
    const last = seen.filter((s) => s.way === "to-server").at(-1) as SeenSegment;
    const next = (last.seq + last.payloadBytes) >>> 0;
    // No window offered so far is as large as 4 MB.
    bench.wire.inject("to-server", { seq: (next + 4e6) >>> 0, flags: Flag.ack, payload: bytesOf(500, 9) });
    const sofar = seen.length;
    await bench.sleep(bench.rttNs + bench.slackNs);
    const answers = seen.slice(sofar);
    expect(answers.map((s) => [s.way, s.ack, s.payloadBytes, s.flags])).toEqual([["to-client", next, 0, Flag.ack]]);
    await transfer(pair.client, pair.server, 100_000, 2);
    pair.close();
  },
};

/** Moves `total` bytes through one connection: `block` again and again. */
async function pour(from: FaultConn, to: FaultConn, block: Uint8Array, total: number): Promise<void> {
  const send = async (): Promise<void> => {
    for (let sent = 0; sent < total; sent += block.length) await from.write(block);
  };
  const check = async (): Promise<void> => {
    for (let at = 0; at < total; ) {
      const part = await to.read(1 << 16);
      if (part.length === 0) throw new Error(`the stream ended at ${at} of ${total}`);
      const lo = at % block.length;
      const head = Math.min(part.length, block.length - lo);
      const isSame =
        Buffer.compare(part.subarray(0, head), block.subarray(lo, lo + head)) === 0 &&
        Buffer.compare(part.subarray(head), block.subarray(0, part.length - head)) === 0;
      if (!isSame) throw new Error(`other bytes than were sent after ${at}`);
      at += part.length;
    }
  };
  await Promise.all([send(), check()]);
}

/** What the heap may differ by: compiled code, pools that grew once. A tenth of a gigabyte is 90,000 frames. */
const FLAT_BYTES = 8 << 20;
const GIGABYTE = 2 ** 30;
/** A gigabyte takes some ten seconds: CI has them. The nightly run also takes the stream past 2^32. */
const POURED_GIGABYTES = process.env["SOJOURN_NIGHTLY"] ? 4.5 : process.env["CI"] ? 1 : 0.125;

const flat: FaultRow = {
  number: "E6",
  text: `${POURED_GIGABYTES} GB through one connection: intact data, memory flat`,
  needs: ["bulk", "memory"],
  options: { isUnseen: true },
  timeoutMs: 300_000,
  async play(bench) {
    const pair = await connected(bench);
    const block = bytesOf(1 << 20);
    await pour(pair.client, pair.server, block, GIGABYTE / 16);
    await bench.sleep(SECOND);
    const before = bench.memory();
    await pour(pair.client, pair.server, block, (POURED_GIGABYTES - 1 / 16) * GIGABYTE);
    await bench.sleep(SECOND);
    const after = bench.memory();
    expect(after.packetBytes).toBeLessThanOrEqual(before.packetBytes);
    expect(after.heapBytes - before.heapBytes).toBeLessThan(FLAT_BYTES);
    pair.close();
  },
};

const CONNECTIONS = 1000;

const thousand: FaultRow = {
  number: "E7",
  text: "1,000 connections at once: each gets its own bytes back, nothing is left",
  needs: ["thousands"],
  options: { isUnseen: true },
  async play(bench) {
    const listener = await bench.server.listen(PORT);
    const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => bench.client.dial(PORT)));
    const servers: FaultConn[] = [];
    for (let i = 0; i < CONNECTIONS; i++) servers.push(await listener.accept());
    const echoes = servers.map(async (server) => {
      await server.write(await readExactly(server, 1000));
      server.end();
    });
    const asked = clients.map(async (client, i) => {
      await client.write(bytesOf(1000, i));
      expectSame(await readAll(client), bytesOf(1000, i));
    });
    await Promise.all([...echoes, ...asked]);
    for (const conn of [...clients, ...servers]) conn.close();
    listener.close();
  },
};

const settled: FaultRow = {
  number: "E8",
  text: "every promise settles: a read and an accept whose socket is closed, a write whose peer resets",
  async play(bench) {
    const pair = await connected(bench);
    const [client, server] = await Promise.all([bench.client.dial(PORT), pair.listener.accept()]);
    const read = codeOf(pair.client.read(1));
    const accept = codeOf(pair.listener.accept());
    const write = codeOf(client.write(bytesOf(8_000_000)));
    await bench.sleep(SECOND);
    pair.client.close();
    pair.listener.close();
    server.abort();
    expect([await read, await accept]).toEqual(["EBADF", "EBADF"]);
    expect(["EPIPE", "ECONNRESET"]).toContain(await write);
    expect(await codeOf(pair.listener.accept())).toBe("EBADF");
    expect((await pair.server.read(1)).length).toBe(0);
    pair.server.close();
    client.close();
  },
};

export const EXTENSION_ROWS: readonly FaultRow[] = [
  impaired("E1a", "10 % loss", { loss: 0.1 }),
  impaired("E1b", "20 % of frames overtake others", { reorder: 0.2 }),
  impaired("E1c", "20 % duplicates", { duplicate: 0.2 }),
  impaired("E1d", "delays of 5 ms ± 4 ms", { jitterNs: 4 * MILLISECOND }),
  impaired("E1e", "2 % damaged frames", { corrupt: 0.02 }),
  impaired("E1f", "all of it at once", {
    loss: 0.05,
    reorder: 0.1,
    duplicate: 0.1,
    corrupt: 0.01,
    jitterNs: 2 * MILLISECOND,
  }),
  pathMtu,
  blackHole,
  hour,
  crossing("E4a", "wrap at 4 GiB", 2 ** 32),
  crossing("E4b", "become negative as int32 at 2 GiB", 2 ** 31),
  beyond,
  flat,
  thousand,
  settled,
];
