/**
 * The fault checklist (reference: performance.md §9) against the real kernel over a TAP: with Linux as the client of
 * our stack and as its server. What takes minutes by Linux's defaults is played here in seconds, on both sides by
 * sysctl.
 */
import { existsSync } from "node:fs";
import { afterAll, describe, expect } from "vitest";
import { seqDiff } from "../../src/base/seq.ts";
import { MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import type { FaultBenchKind, Way } from "../support/fault-bench.ts";
import { playChecklist, playRows } from "../support/fault-checklist.ts";
import {
  bytesOf,
  codeOf,
  connected,
  expectSame,
  expectTook,
  type FaultRow,
  hasData,
  isSyn,
  nth,
  PORT,
  readAll,
  resent,
  transfer,
} from "../support/fault-play.ts";
import { EXTENSION_ROWS } from "../support/fault-rows-extended.ts";
import { requires } from "../support/requires.ts";
import {
  type LinuxRole,
  TAP_FAULT_NEEDS,
  type TapFaultBench,
  type TapFaultBenchOptions,
  tapBench,
} from "../support/tap-fault-bench.ts";

interface TapRow extends FaultRow {
  readonly options?: TapFaultBenchOptions;
  play(bench: TapFaultBench): Promise<void>;
}

/** A row of the checklist, to be played otherwise. */
function rowOf(number: string): FaultRow {
  return EXTENSION_ROWS.find((row) => row.number === number) as FaultRow;
}

/** Linux before 6.5 has no SYNs a second apart. */
const HAS_LINEAR_SYNS = existsSync("/proc/sys/net/ipv4/tcp_syn_linear_timeouts");

/** One retry has 1 + 2 s by the clock (Linux tcp_model_timeout); linear timeouts put two of them into that time. */
function silent(role: LinuxRole): TapRow {
  const synSeconds = role === "server" || HAS_LINEAR_SYNS ? [0, 1, 2] : [0, 1];
  return {
    number: "7, short",
    text: `connect to a silent host, tcp_syn_retries 1: SYNs after ${synSeconds.join(", ")} s, ETIMEDOUT after 3 s`,
    options: { sysctls: { "net.ipv4.tcp_syn_retries": "1" } },
    async play(bench) {
      bench.wire.lose("to-server", isSyn, Number.POSITIVE_INFINITY);
      const startNs = bench.nowNs;
      expect(await codeOf(bench.client.dial(PORT))).toBe("ETIMEDOUT");
      expectTook(bench, bench.nowNs - startNs, 3 * SECOND);
      const syns = bench.wire.seen.filter(isSyn);
      expect(syns).toHaveLength(synSeconds.length);
      for (const [i, syn] of syns.entries()) {
        expectTook(bench, syn.atNs - startNs, (synSeconds[i] as number) * SECOND);
        expect(syn.seq).toBe(syns[0].seq);
      }
    },
  };
}

const synAckDropped: TapRow = {
  number: "5, SYN-ACK",
  text: "first SYN-ACK dropped: connects after 1 s",
  async play(bench) {
    bench.wire.lose("to-client", isSyn);
    const startNs = bench.nowNs;
    const pair = await connected(bench);
    expectTook(bench, bench.nowNs - startNs, SECOND + bench.rttNs);
    await transfer(pair.client, pair.server, 1000);
    pair.close();
  },
};

/** How long each kind of sender tried to reach a peer that had gone silent, for the figure. */
const patienceNs: Partial<Record<LinuxRole, Ns>> = {};

/**
 * tcp_retries2 = 3 means (2 << 3) − 1 = 15 times the least RTO, 3 s, since the first retransmission (Linux
 * tcp_model_timeout). The retransmission timer looks at 1, 3, 7 and 15 RTOs: with an RTO of 200 ms and the round trip,
 * the last of them ends it, 14 RTOs after the first.
 */
function gone(role: LinuxRole): TapRow {
  return {
    number: "7, established",
    text: "peer goes silent, tcp_retries2 3: ETIMEDOUT when 3 s of retransmissions are over",
    options: { sysctls: { "net.ipv4.tcp_retries2": "3" } },
    async play(bench) {
      const pair = await connected(bench);
      await pair.client.write(bytesOf(1000));
      expect((await pair.server.read(1000)).length).toBe(1000);
      bench.wire.lose("to-server", () => true, Number.POSITIVE_INFINITY);
      const startNs = bench.nowNs;
      await pair.client.write(bytesOf(1000));
      expect(await codeOf(pair.client.read(1))).toBe("ETIMEDOUT");
      patienceNs[role] = bench.nowNs - startNs;
      const tries = resent(bench.wire.seen, "to-server");
      const [firstNs, lastNs] = [tries[0].atNs - startNs, (tries.at(-1)?.atNs ?? 0) - startNs];
      expect(firstNs).toBeLessThan(bench.rttNs + 200 * MILLISECOND + bench.slackNs);
      expect(lastNs).toBeLessThan(3 * SECOND);
      expect(patienceNs[role]).toBeGreaterThan(3 * SECOND);
      expect(patienceNs[role]).toBeLessThan(15 * (bench.rttNs + 200 * MILLISECOND) + 2 * bench.slackNs);
      pair.client.close();
      pair.listener.close();
      // The server never learns of it: a close with unread bytes or an abort is all that ends its side.
      pair.server.abort();
    },
  };
}

/** The MTU of the kernel's own interface falls: `ip link set mtu`. */
function interfaceMtu(way: Way): TapRow {
  return {
    number: "E2, interface",
    text: "Linux's interface gets an MTU of 1000 in mid-stream: smaller segments from it, intact data both ways",
    async play(bench) {
      const pair = await connected(bench);
      const sent = bytesOf(400_000);
      await Promise.all([pair.client.write(sent.subarray(0, 50_000)), pair.server.write(sent.subarray(0, 50_000))]);
      await bench.netns.exec("ip", "link", "set", bench.tapName, "mtu", "1000");
      const changed = bench.wire.seen.length;
      const write = async (conn: typeof pair.client): Promise<void> => {
        await conn.write(sent.subarray(50_000));
        conn.end();
      };
      const ends = [pair.client, pair.server];
      const [, , ...got] = await Promise.all([...ends.map(write), ...ends.map(readAll)]);
      for (const bytes of got) expectSame(bytes as Uint8Array, sent);
      // Timestamps: 12 bytes of options. What stood in the queue of the interface was cut before.
      const late = bench.wire.seen.slice(changed).filter((s) => s.way === way && hasData(s));
      expect(Math.min(...late.map((s) => s.payloadBytes))).toBeLessThanOrEqual(1000 - 52);
      expect(Math.max(...late.slice(-20).map((s) => s.payloadBytes))).toBeLessThanOrEqual(1000 - 52);
      pair.close();
    },
  };
}

const sipping: TapRow = {
  number: "E3, short",
  text: "a reader that sips from a window of 16 kB, which closes and opens again and again: intact data",
  options: { receiveBufferBytes: 16_384 },
  async play(bench) {
    const pair = await connected(bench);
    const sent = bytesOf(60_000);
    const write = pair.client.write(sent).then(() => pair.client.end());
    const parts: Uint8Array[] = [];
    for (let part = await pair.server.read(8000); part.length > 0; part = await pair.server.read(8000)) {
      parts.push(part.slice());
      await bench.sleep(400 * MILLISECOND);
    }
    await write;
    expectSame(Buffer.concat(parts), sent);
    expect(bench.wire.seen.filter((s) => s.way === "to-client" && s.window === 0).length).toBeGreaterThan(0);
    pair.close();
  },
};

/** Linux chooses its own numbers as a server: only ours can be made to wrap. */
const ownWrap: TapRow = {
  number: "E4, one way",
  text: "our sequence numbers wrap at 4 GiB towards a server of Linux, with 2 % loss: intact data",
  options: { initialSequence: 2 ** 32 - 100_000 },
  async play(bench) {
    bench.wire.impair({ loss: 0.02 });
    const pair = await connected(bench);
    await transfer(pair.client, pair.server, 200_000);
    const past = bench.wire.seen.filter((s) => s.way === "to-server" && hasData(s)).map((s) => seqDiff(s.seq, 0));
    expect([Math.min(...past) < 0, Math.max(...past) > 0]).toEqual([true, true]);
    pair.close();
  },
};

/** That the faults reach the kernel: it says what it got. */
const counted: TapRow = {
  number: "1 and 3b, counted",
  text: "a swapped and a duplicated frame: Linux counts one out of order, and one it had",
  async play(bench) {
    const before = await bench.linux.counters();
    const pair = await connected(bench);
    bench.wire.swap("to-server", nth(12, hasData));
    bench.wire.duplicate("to-server", nth(24, hasData));
    await transfer(pair.client, pair.server, 200_000);
    pair.close();
    const after = await bench.linux.counters();
    const counts = ["TcpExtTCPOFOQueue", "TcpExtTCPDSACKOldSent"].map((name) => after[name] - before[name]);
    expect(counts).toEqual([1, 1]);
  },
};

const blackHole: TapRow = { ...rowOf("E2b"), needs: [] };

/** On a wire as short as the machine allows, or the loss alone would make it last for minutes. */
const flat: TapRow = {
  ...rowOf("E6"),
  needs: [],
  text: `${rowOf("E6").text}, with 0.1 % loss`,
  options: { isUnseen: true, delayNs: 0 },
  play(bench) {
    bench.wire.impair({ loss: 0.001 });
    return rowOf("E6").play(bench);
  },
};

const thousand: TapRow = {
  ...rowOf("E7"),
  number: "E7, lossy",
  text: `${rowOf("E7").text}, with 1 % loss`,
  play(bench) {
    bench.wire.impair({ loss: 0.01 });
    return rowOf("E7").play(bench);
  },
};

function rowsOf(role: LinuxRole): TapRow[] {
  const linuxSends: Way = role === "client" ? "to-server" : "to-client";
  const always = [
    silent(role),
    synAckDropped,
    gone(role),
    interfaceMtu(linuxSends),
    blackHole,
    sipping,
    thousand,
    flat,
  ];
  return role === "server" ? [...always, ownWrap, counted] : always;
}

describe.skipIf(requires(...TAP_FAULT_NEEDS))("fault checklist over a TAP", () => {
  for (const role of ["client", "server"] as const) {
    describe(`Linux as ${role}`, () => {
      const kind: FaultBenchKind = tapBench(role);
      playChecklist(kind);
      playRows(kind, rowsOf(role));
    });
  }

  afterAll(() => {
    const { client, server } = patienceNs;
    if (client === undefined || server === undefined) return;
    const [linux, ours] = [client, server].map((ns) => (ns / SECOND).toFixed(2));
    const ratio = (server / client).toFixed(2);
    process.stderr.write(`[figure] ETIMEDOUT with tcp_retries2 3: Linux after ${linux} s, ours ${ours} s (${ratio})\n`);
  });
});
