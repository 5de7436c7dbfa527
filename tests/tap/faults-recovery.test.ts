/**
 * The same loss for two senders, our stack and the real kernel, each towards the other over a TAP: how long until the
 * lost frame goes out again, and how many frames go out twice.
 */
import { describe, expect, it } from "vitest";
import { seqDiff } from "../../src/base/seq.ts";
import { MILLISECOND, type Ns } from "../../src/base/time.ts";
import type { SegmentTest } from "../support/fault-bench.ts";
import { bytesOf, connected, expectSame, hasData, isSyn, nth, readExactly, resent } from "../support/fault-play.ts";
import { requires } from "../support/requires.ts";
import { type LinuxRole, TAP_FAULT_NEEDS, type TapFaultBench, tapBench } from "../support/tap-fault-bench.ts";

const BULK_BYTES = 150_000;
const ROUNDS = 3;

interface Loss {
  readonly name: string;
  /** How many frames, and which. */
  readonly count: number;
  test(bench: TapFaultBench): SegmentTest;
  /** Linux's way of repair, and its time in round trips beyond which it was another. */
  readonly mostRtts: number;
}

/** The first sequence number behind the client's stream. */
function endOfStream({ wire }: TapFaultBench): number {
  const syn = wire.seen.find((s) => s.way === "to-server" && isSyn(s));
  return ((syn?.seq ?? 0) + 1 + BULK_BYTES) >>> 0;
}

/** True from the `n`th segment with data on. */
function from(n: number): SegmentTest {
  const isNth = nth(n, hasData);
  let isPast = false;
  return (s) => {
    isPast ||= isNth(s);
    return isPast && hasData(s);
  };
}

const LOSSES: readonly Loss[] = [
  // Three duplicate ACKs: one round trip, and what RACK waits for reordering, a quarter of one.
  { name: "one frame", count: 1, test: () => nth(30, hasData), mostRtts: 2 },
  { name: "five frames in a row", count: 5, test: () => from(30), mostRtts: 2 },
  // Nothing behind it is acknowledged: a tail loss probe after two round trips (RFC 8985 §7.2).
  {
    name: "the last frame",
    count: 1,
    test: (bench) => {
      const end = endOfStream(bench);
      return (s) => hasData(s) && seqDiff(s.seq + s.payloadBytes, end) === 0;
    },
    mostRtts: 4,
  },
  // The tail loss probe is lost too: a retransmission timeout, 200 ms and the round trip after it.
  {
    name: "the last frame twice",
    count: 2,
    test: (bench) => {
      const end = endOfStream(bench);
      return (s) => hasData(s) && seqDiff(s.seq + s.payloadBytes, end) === 0;
    },
    mostRtts: 12,
  },
];

interface Recovery {
  /** From the departure of the first frame that was lost until it departed and was not. */
  readonly tookNs: Ns;
  readonly resentFrames: number;
}

async function recover(role: LinuxRole, loss: Loss): Promise<Recovery> {
  const bench = await tapBench(role).open({});
  try {
    return await bench.run(send(bench, loss));
  } finally {
    await bench.close();
  }
}

/** The client sends, so that it is Linux in one role and ours in the other. */
async function send(bench: TapFaultBench, loss: Loss): Promise<Recovery> {
  const pair = await connected(bench);
  bench.wire.lose("to-server", loss.test(bench), loss.count);
  const sent = bytesOf(BULK_BYTES);
  const [got] = await Promise.all([readExactly(pair.server, BULK_BYTES), pair.client.write(sent)]);
  expectSame(got, sent);
  const { seen } = bench.wire;
  const lost = seen.filter((s) => s.lost);
  expect(lost).toHaveLength(loss.count);
  const repaired = seen.find((s) => s.way === "to-server" && !s.lost && s.seq === lost[0].seq);
  pair.close();
  return { tookNs: (repaired?.atNs ?? 0) - lost[0].atNs, resentFrames: resent(seen, "to-server").length };
}

/** The quickest of some rounds: a busy machine only ever makes it longer. */
async function best(role: LinuxRole, loss: Loss): Promise<Recovery> {
  const rounds: Recovery[] = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push(await recover(role, loss));
  return rounds.reduce((a, b) => (a.tookNs <= b.tookNs ? a : b));
}

describe.skipIf(requires(...TAP_FAULT_NEEDS))("recovery beside Linux's, over a TAP", () => {
  it.each(LOSSES)("$name lost: repaired as soon, and with as few frames", async (loss) => {
    const linux = await best("client", loss);
    const ours = await best("server", loss);
    const [theirMs, ourMs] = [linux, ours].map(({ tookNs }) => (tookNs / MILLISECOND).toFixed(0));
    const ratio = (ours.tookNs / linux.tookNs).toFixed(2);
    const frames = `frames sent again: Linux ${linux.resentFrames}, ours ${ours.resentFrames}`;
    process.stderr.write(`[figure] ${loss.name} lost: Linux ${theirMs} ms, ours ${ourMs} ms (${ratio}); ${frames}\n`);
    const rttNs = 44 * MILLISECOND;
    expect(linux.tookNs).toBeLessThan(loss.mostRtts * rttNs);
    expect(ours.tookNs).toBeLessThan(loss.mostRtts * rttNs);
    expect(ours.tookNs / linux.tookNs).toBeLessThan(1.5);
    expect(ours.resentFrames).toBeLessThanOrEqual(linux.resentFrames + 1);
  });
});
