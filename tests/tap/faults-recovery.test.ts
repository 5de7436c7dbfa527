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
import { type LinuxRole, onTapBench, TAP_FAULT_NEEDS, type TapFaultBench } from "../support/tap-fault-bench.ts";

const BULK_BYTES = 150_000;
const ROUNDS = 3;

const RTT_NS: Ns = 44 * MILLISECOND;
/** tcp_rto_min_us; also what a tail loss probe waits longer for an ACK that may be delayed (Linux). */
const RTO_MIN_NS: Ns = 200 * MILLISECOND;

interface Loss {
  readonly name: string;
  /** How many frames, and which. */
  readonly count: number;
  test(bench: TapFaultBench): SegmentTest;
  /** When the first of them should go out again. */
  readonly repairNs: Ns;
}

/** True for the last segment of the client's stream, each time it goes out. */
function isLast({ wire }: TapFaultBench): SegmentTest {
  const isn = wire.seen.find((s) => s.way === "to-server" && isSyn(s))?.seq ?? 0;
  return (s) => hasData(s) && seqDiff(s.seq + s.payloadBytes, isn + 1 + BULK_BYTES) === 0;
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

// Flights are of 10, 20, 40 … frames: the 40th has enough behind it to be missed after one round trip.
const LOSSES: readonly Loss[] = [
  { name: "one frame", count: 1, test: () => nth(40, hasData), repairNs: RTT_NS },
  { name: "five frames in a row", count: 5, test: () => from(40), repairNs: RTT_NS },
  // Nothing is sent behind it that could be acknowledged: a tail loss probe (Linux tcp_schedule_loss_probe).
  { name: "the last frame", count: 1, test: isLast, repairNs: 2 * RTT_NS + RTO_MIN_NS },
  // The probe is lost too: the retransmission timeout, which starts with the probe.
  { name: "the last frame twice", count: 2, test: isLast, repairNs: 3 * RTT_NS + 2 * RTO_MIN_NS },
];

interface Recovery {
  /** From the departure of the first frame that was lost until it departed and was not. */
  readonly tookNs: Ns;
  readonly resentFrames: number;
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
  for (let i = 0; i < ROUNDS; i++)
    rounds.push(await onTapBench(role, { delayNs: RTT_NS / 2 }, (bench) => send(bench, loss)));
  return rounds.reduce((a, b) => (a.tookNs <= b.tookNs ? a : b));
}

describe.skipIf(requires(...TAP_FAULT_NEEDS))("recovery beside Linux's, over a TAP", () => {
  it.each(LOSSES.map((loss) => [loss.name, loss] as const))(
    "%s lost: repaired as soon as by Linux",
    async (_, loss) => {
      const linux = await best("client", loss);
      const ours = await best("server", loss);
      const [theirMs, ourMs] = [linux, ours].map(({ tookNs }) => (tookNs / MILLISECOND).toFixed(0));
      const ratio = ours.tookNs / linux.tookNs;
      const frames = `frames sent again: Linux ${linux.resentFrames}, ours ${ours.resentFrames}`;
      const times = `Linux ${theirMs} ms, ours ${ourMs} ms (${ratio.toFixed(2)})`;
      process.stderr.write(`[figure] ${loss.name} lost: sent again after: ${times}; ${frames}\n`);
      for (const { tookNs } of [linux, ours]) {
        expect(tookNs).toBeGreaterThan(0.95 * loss.repairNs);
        expect(tookNs).toBeLessThan(1.6 * loss.repairNs);
      }
      expect(ratio).toBeLessThan(1.5);
      expect(ours.resentFrames).toBeLessThanOrEqual(linux.resentFrames + 1);
    },
  );
});
