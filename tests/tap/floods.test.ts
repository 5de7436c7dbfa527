/**
 * Hostile peers on a real link: spoofed frames from a packet socket, and connections of the kernel without manners,
 * while an honest client of the same kernel asks and times its answers.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { KERNEL_ADDRESS, SERVER_ADDRESS, SITE, TAP_NEEDS, TapSite } from "../support/tap-site.ts";

const HOSTILE = join(fileURLToPath(import.meta.url), "..", "..", "floods", "hostile.py");
/** Nobody may lose as much as one frame to a full queue: a SYN would come again after a second. */
const SYN_TIMEOUT_MS = 1000;
/** Packet memory (96 MiB) that was never touched before, tables at their limits, and what V8 has not collected yet. */
const GROWTH_BYTES = (96 + 128) * 1024 * 1024;

interface Felt {
  readonly asked: number;
  readonly failures: readonly string[];
  readonly p50: number;
  readonly p99: number;
}

/** What became of connections: how many there were, were ended, were ended with a 408; or go on. */
interface Told {
  readonly connected: number;
  readonly over?: number;
  readonly refused?: number;
  readonly alive?: number;
}

type Counters = Readonly<Record<string, number>>;

describe.skipIf(requires(...TAP_NEEDS, "python3", "curl"))("hostile peers over a TAP", () => {
  let site: TapSite;
  let quiet: Felt;
  let rested: number;
  beforeAll(async () => {
    site = await TapSite.start("--quiet", "--gateway", KERNEL_ADDRESS);
    await site.curl(`${SITE}/hello`);
    await python<Felt>("honest", "1");
    quiet = await python<Felt>("honest", "2");
    rested = site.residentBytes();
  });
  afterAll(async () => {
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  async function python<T>(what: string, ...args: string[]): Promise<T> {
    const { out, err, code } = await site.exec("python3", [HOSTILE, what, SERVER_ADDRESS, ...args]);
    if (code !== 0) throw new Error(`hostile.py ${what}: ${err}`);
    return JSON.parse(out) as T;
  }

  /** Frames the kernel threw away before our device, whose queue was full. */
  async function lostFrames(): Promise<number> {
    return Number((await site.exec("cat", ["/sys/class/net/tap0/statistics/tx_dropped"])).out);
  }

  /** The attack, an honest client during `seconds` of it, and what the counters gained. */
  async function under<T>(name: string, seconds: number, what: string, ...args: string[]) {
    const lostBefore = await lostFrames();
    const before = await site.counters();
    const attack = python<T>(what, ...args);
    const felt = await python<Felt>("honest", String(seconds));
    const told = await attack;
    const after = await site.counters();
    const grown = site.residentBytes() - rested;
    const times = ({ p50, p99 }: Felt) => `${p50.toFixed(1)}/${p99.toFixed(1)} ms`;
    const memory = `memory ${(grown / 1e6).toFixed(0)} MB above rest`;
    process.stderr.write(`[figure] TAP, ${name}: quiet ${times(quiet)}, meanwhile ${times(felt)}, ${memory}\n`);
    expect(felt.failures).toEqual([]);
    expect(felt.asked).toBeGreaterThan(10);
    expect(felt.p99).toBeLessThan(SYN_TIMEOUT_MS);
    expect(grown).toBeLessThan(GROWTH_BYTES);
    const gained = (counter: string): number =>
      ((after as Counters)[counter] ?? 0) - ((before as Counters)[counter] ?? 0);
    return { told, gained, lost: (await lostFrames()) - lostBefore };
  }

  it("20,000 SYNs from 20,000 addresses: cookies once the queue is full", { timeout: 60_000 }, async () => {
    const { told, gained } = await under<{ sent: number }>("20,000 SYNs", 3, "syn_flood", "20000");
    expect(told.sent).toBe(20_000);
    // 4,097 are remembered (somaxconn and one); the first of them may have expired meanwhile.
    expect(gained("TcpExtSyncookiesSent")).toBeGreaterThan(20_000 - 4097 - 4097);
    expect(gained("TcpExtTCPReqQFullDoCookies")).toBe(gained("TcpExtSyncookiesSent"));
    expect([gained("TcpExtListenDrops"), gained("TcpExtSyncookiesFailed")]).toEqual([0, 0]);
  });

  it("a scan of 10,000 ports: a reset for each SYN that the kernel let through", { timeout: 60_000 }, async () => {
    const { told, gained, lost } = await under<{ sent: number }>("SYN scan of 10,000 ports", 2, "syn_scan", "10000");
    const answered = gained("TcpOutRsts");
    expect([told.sent, answered + lost >= 10_000, answered <= 10_000, answered > 5000]).toEqual([
      10_000,
      true,
      true,
      true,
    ]);
  });

  it("5,000 pairs of fragments that overlap: every packet goes", { timeout: 60_000 }, async () => {
    const { gained, lost } = await under("5,000 overlapping fragments", 2, "overlaps", "5000");
    const overlapping = gained("IpExtReasmOverlaps");
    expect([overlapping + lost >= 5000, overlapping > 2500]).toEqual([true, true]);
    expect([gained("IpReasmFails"), gained("IpReasmOKs")]).toEqual([overlapping, 0]);
  });

  it("10,000 first fragments: 4 MiB wait, the rest is dropped", { timeout: 60_000 }, async () => {
    const { gained } = await under("10,000 first fragments", 2, "holes", "10000");
    // ipfrag_high_thresh in slots of 2 KB, and the one that reached it; some may wait since the test before.
    const kept = gained("IpReasmReqds") - gained("IpReasmFails");
    expect(kept).toBeLessThanOrEqual(2049);
    expect(gained("IpReasmFails")).toBeGreaterThan(5000 - 2049);
  });

  it("2,000 connections that say nothing: closed after 10 s", { timeout: 60_000 }, async () => {
    const { told, gained } = await under<Told>("2,000 silent connections", 8, "idle", "2000", "13");
    expect(told).toEqual({ connected: 2000, over: 2000, refused: 0 });
    expect(gained("TcpPassiveOpens")).toBeGreaterThan(2000);
    expect([gained("TcpExtListenOverflows"), gained("TcpExtListenDrops")]).toEqual([0, 0]);
  });

  it("200 heads at a byte per second: 408", { timeout: 60_000 }, async () => {
    const { told } = await under<Told>("200 slow heads", 8, "slow_heads", "200", "12");
    expect(told).toEqual({ connected: 200, over: 200, refused: 200 });
  });

  it("100 readers that do not read: they wait, others are served", { timeout: 60_000 }, async () => {
    const { told, gained } = await under<Told>("100 slow readers", 6, "slow_reads", "100", "6");
    expect(told).toEqual({ connected: 100, alive: 100 });
    expect(gained("TcpExtTCPAbortOnMemory")).toBe(0);
  });

  it("is itself again afterwards", { timeout: 60_000 }, async () => {
    const after = await python<Felt>("honest", "2");
    expect(after.failures).toEqual([]);
    const { out } = await site.curl(`${SITE}/hello`);
    expect(out).toBe("Hello from sojourn\n");
    await expect
      .poll(
        async () => (await site.get<{ state: string }[]>("/api/sockets")).filter((row) => row.state === "ESTAB").length,
      )
      .toBe(0);
    const grown = (site.residentBytes() - rested) / 1e6;
    process.stderr.write(
      `[figure] TAP, after all floods: p50 ${after.p50.toFixed(1)} ms, memory ${grown.toFixed(0)} MB above rest\n`,
    );
  });
});
