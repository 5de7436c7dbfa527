/**
 * Faults by seed between our stack and the real kernel, over a TAP: each seed draws who is the client, a wire, its
 * faults and some connections; every stream must arrive byte by byte, and nothing may be left over on either side.
 *
 * The seed draws the same plan for ever, and our wire the same luck per frame; which frame comes when is up to two
 * real clocks. 20 seeds here, 50 under CI, 200 with SOJOURN_NIGHTLY=1; SOJOURN_SEED=42 repeats one.
 */
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { MILLISECOND, type Ns } from "../../src/base/time.ts";
import type { FaultConn, Impairment } from "../support/fault-bench.ts";
import { bytesOf, PORT, readAll } from "../support/fault-play.ts";
import { requires } from "../support/requires.ts";
import { seedToReplay } from "../support/seeds.ts";
import { type LinuxRole, onTapBench, TAP_FAULT_NEEDS, type TapFaultBench } from "../support/tap-fault-bench.ts";

const FILE = "tests/tap/faults-seeded.test.ts";
const NIGHTLY_SEEDS = 200;
const CI_SEEDS = 50;
const DEFAULT_SEEDS = 20;
const LARGEST_STREAM_BYTES = 200_000;
/** Loss of a SYN's copies and of those of a FIN may each cost some seconds. */
const TIMEOUT_MS = 60_000;

interface TalkPlan {
  readonly upBytes: number;
  readonly downBytes: number;
  /** How one end reads: so many bytes, then a pause. */
  readonly sipBytes: number;
  readonly pauseNs: Ns;
}

interface Plan {
  readonly seed: number;
  readonly role: LinuxRole;
  readonly delayNs: Ns;
  readonly impairment: Impairment;
  readonly sysctls: Readonly<Record<string, string>>;
  /** A router's MTU falls in mid-stream, and says so; 0: it does not. */
  readonly pathMtu: number;
  readonly talks: readonly TalkPlan[];
}

function planOf(seed: number): Plan {
  const prng = new Prng(seed);
  const often = (chance: number, most: number): number => (prng.chance(chance) ? most * prng.float() : 0);
  const delayNs = Math.round((1 + 24 * prng.float()) * MILLISECOND);
  const off = (name: string): Record<string, string> => (prng.chance(0.2) ? { [name]: "0" } : {});
  return {
    seed,
    delayNs,
    role: prng.chance(0.5) ? "client" : "server",
    impairment: {
      loss: often(0.7, 0.06),
      reorder: often(0.4, 0.2),
      duplicate: often(0.4, 0.2),
      corrupt: often(0.4, 0.02),
      jitterNs: Math.round(often(0.3, delayNs)),
    },
    sysctls: { ...off("net.ipv4.tcp_timestamps"), ...off("net.ipv4.tcp_sack"), ...off("net.ipv4.tcp_window_scaling") },
    pathMtu: prng.chance(0.3) ? 600 + prng.below(900) : 0,
    talks: Array.from({ length: 1 + prng.below(4) }, () => ({
      upBytes: Math.round(LARGEST_STREAM_BYTES * prng.float() ** 2),
      downBytes: Math.round(LARGEST_STREAM_BYTES * prng.float() ** 2),
      sipBytes: prng.chance(0.3) ? 500 + prng.below(10_000) : 65_536,
      pauseNs: prng.chance(0.3) ? prng.below(20 * MILLISECOND) : 0,
    })),
  };
}

function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function send(conn: FaultConn, bytes: Uint8Array): Promise<void> {
  await conn.write(bytes);
  conn.end();
}

async function sip(bench: TapFaultBench, conn: FaultConn, { sipBytes, pauseNs }: TalkPlan): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let part = await conn.read(sipBytes); part.length > 0; part = await conn.read(sipBytes)) {
    parts.push(part.slice());
    if (pauseNs > 0) await bench.sleep(pauseNs);
  }
  return Buffer.concat(parts);
}

/** One connection, both streams at once. */
async function talk(bench: TapFaultBench, plan: TalkPlan, port: number): Promise<void> {
  const listener = await bench.server.listen(port);
  const [client, server] = await Promise.all([bench.client.dial(port), listener.accept()]);
  const [up, down] = [bytesOf(plan.upBytes, 2 * port), bytesOf(plan.downBytes, 2 * port + 1)];
  const [gotUp, gotDown] = await Promise.all([
    sip(bench, server, plan),
    readAll(client),
    send(client, up),
    send(server, down),
  ]);
  expect([gotUp.length, gotDown.length]).toEqual([up.length, down.length]);
  expect([hashOf(gotUp), hashOf(gotDown)]).toEqual([hashOf(up), hashOf(down)]);
  for (const end of [client, server, listener]) end.close();
}

async function play(bench: TapFaultBench, plan: Plan): Promise<void> {
  bench.wire.impair(plan.impairment);
  const talks = plan.talks.map((one, i) => talk(bench, one, PORT + i));
  if (plan.pathMtu > 0) {
    await bench.sleep(6 * plan.delayNs);
    bench.wire.setPathMtu(plan.pathMtu, true);
  }
  await Promise.all(talks);
}

function seedsToRun(): readonly number[] {
  const { SOJOURN_NIGHTLY, CI } = process.env;
  const one = seedToReplay();
  const count = SOJOURN_NIGHTLY ? NIGHTLY_SEEDS : CI ? CI_SEEDS : DEFAULT_SEEDS;
  return one === null ? Array.from({ length: count }, (_, i) => i + 1) : [one];
}

describe.skipIf(requires(...TAP_FAULT_NEEDS))("faults by seed over a TAP", () => {
  it.each(seedsToRun())("seed %i", { timeout: TIMEOUT_MS }, async (seed) => {
    const plan = planOf(seed);
    try {
      await onTapBench(plan.role, plan, (bench) => play(bench, plan));
    } catch (error) {
      const replay = `SOJOURN_SEED=${seed} npx vitest run --project system ${FILE}`;
      process.stderr.write(`seed ${seed} failed: ${JSON.stringify(plan)}\n  ${replay}\n`);
      throw error;
    }
  });
});
