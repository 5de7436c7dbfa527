/** Port scans and echo floods: answered as RFC 9293 and Linux say, limited where Linux limits, nothing remembered. */
import { afterEach, describe, expect, it } from "vitest";
import { formatV4 } from "../../src/base/address.ts";
import { MICROSECOND, MILLISECOND, type Ns, SECOND } from "../../src/base/time.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { type Answer, echoFrame, readAnswer, tcpFrame, udpFrame } from "../support/raw-frames.ts";
import { type Felt, FloodWorld, feltText, figure, PORT, spoofed, VICTIM } from "./flood-world.ts";

const { syn, ack, rst, psh, fin, urg } = tcp.Flag;
const FROM = "198.18.7.7";
const EVERY_NS: Ns = 20 * MICROSECOND;
const TWO_POLLS_NS: Ns = 2 * 64 * 1.8 * MICROSECOND;
/** Ports 1 to 65535, the open one among them. */
const PORTS = 65_535;

let world: FloodWorld;
afterEach(() => world.close());

/** Sends them while clients ask; what was answered, and what the clients felt. */
async function scan(count: number, frame: (n: number) => Uint8Array): Promise<{ answers: Answer[]; felt: Felt }> {
  world = await FloodWorld.open();
  const quiet = await world.honest(100);
  const answers: Answer[] = [];
  world.raw.onFrame = (bytes) => {
    const answer = readAnswer(bytes);
    if (answer !== null) answers.push(answer);
  };
  world.raw.flood({ count, everyNs: EVERY_NS, frame });
  const felt = await world.honest(Math.ceil((count * EVERY_NS) / (10 * MILLISECOND)) + 10);
  expect(felt.failed).toBe(0);
  expect(felt.connect.p99).toBeLessThan(quiet.connect.p99 + TWO_POLLS_NS);
  expect(felt.answer.p99).toBeLessThan(quiet.answer.p99 + TWO_POLLS_NS);
  return { answers, felt };
}

/** A scan of both kinds of port, each 1,000 times. */
function flagScan(flags: number): Promise<{ answers: Answer[] }> {
  return scan(2000, (n) =>
    tcpFrame(world.raw.ends, {
      ...{ from: FROM, fromPort: 5000 + n, to: VICTIM, toPort: n % 2 === 0 ? PORT : 81, flags, seq: n, ack: 77 },
    }),
  );
}

function flagsFrom(answers: readonly Answer[], port: number): number[] {
  return answers.flatMap(({ tcp: s }) => (s?.srcPort === port ? [s.flags] : []));
}

describe("scans of TCP ports", () => {
  it("65,535 SYNs: 65,534 resets, one SYN-ACK, one half-open connection", { timeout: 60_000 }, async () => {
    const { answers, felt } = await scan(PORTS, (n) =>
      tcpFrame(world.raw.ends, { from: FROM, fromPort: 5000, to: VICTIM, toPort: n + 1, flags: syn, seq: n }),
    );
    figure(`SYN scan of 65,535 ports: ${feltText(felt)}`);
    const first = new Map(answers.flatMap(({ tcp: s }) => (s ? [[s.srcPort, s.flags] as const] : [])));
    expect(first.size).toBe(PORTS);
    expect([...first].filter(([, flags]) => flags !== (rst | ack))).toEqual([[PORT, syn | ack]]);
    expect(world.counters().TcpOutRsts).toBe(PORTS - 1);
    await world.sim.sleep(64 * SECOND);
    await world.settle();
    expect([world.server.tcp.context.connections.size, world.server.env.timers.armedCount()]).toEqual([0, 0]);
  });

  // RFC 9293 §3.10.7.1 and §3.10.7.2: a closed port answers all but RST; LISTEN only SYN, and ACK with RST.
  it.each([
    ["NULL", 0],
    ["FIN", fin],
    ["XMAS", fin | psh | urg],
  ])("%s: resets from the closed port, silence from the open one", async (_, flags) => {
    const { answers } = await flagScan(flags);
    expect(flagsFrom(answers, 81)).toEqual(Array(1000).fill(rst | ack));
    expect(flagsFrom(answers, PORT)).toEqual([]);
    expect(world.server.env.drops.rows()).toEqual({ TCP_FLAGS: 1000, NO_SOCKET: 1000 });
  });

  it.each([
    ["ACK", ack],
    ["FIN+ACK (Maimon)", fin | ack],
  ])("%s: resets from both, with the number that was acknowledged", async (_, flags) => {
    const { answers } = await flagScan(flags);
    expect(flagsFrom(answers, 81)).toEqual(Array(1000).fill(rst));
    expect(flagsFrom(answers, PORT)).toEqual(Array(1000).fill(rst));
    expect(answers.every(({ tcp: s }) => s?.seq === 77)).toBe(true);
  });

  it("SYN+FIN: a reset from the closed port, silence from the open one", async () => {
    const { answers } = await flagScan(syn | fin);
    expect(flagsFrom(answers, 81)).toHaveLength(1000);
    expect(flagsFrom(answers, PORT)).toEqual([]);
  });
});

describe("scans of UDP ports", () => {
  const probe = (n: number, from: number | string) =>
    udpFrame(world.raw.ends, { from, fromPort: 5000, to: VICTIM, toPort: 1 + (n % PORTS) });

  it("from one address: six answers, then one per second", async () => {
    const { answers } = await scan(50_000, (n) => probe(n, FROM));
    const told = answers.filter(({ icmp }) => icmp?.type === 3 && icmp.code === 3).length;
    // 50,000 × 20 µs are a second: six at once, and one more when it has passed.
    expect([6, 7]).toContain(told);
    const counters = world.counters();
    expect(counters.UdpNoPorts).toBe(50_000);
    expect(counters.IcmpOutDestUnreachs).toBe(told);
    expect(counters.IcmpOutRateLimitGlobal + counters.IcmpOutRateLimitHost + told).toBe(50_000);
  });

  it("from 50,000 addresses: icmp_msgs_burst at once, icmp_msgs_per_sec after that", async () => {
    const { answers, felt } = await scan(50_000, (n) => probe(n, spoofed(n)));
    figure(`UDP scan from 50,000 addresses: ${feltText(felt)}`);
    const told = answers.filter(({ icmp }) => icmp?.type === 3).length;
    expect(told).toBeGreaterThan(1000);
    expect(told).toBeLessThanOrEqual(50 + 1000);
    const counters = world.counters();
    expect([counters.UdpNoPorts, counters.IcmpOutRateLimitGlobal]).toEqual([50_000, 50_000 - told]);
    await world.settle();
    expect(world.server.env.timers.armedCount()).toBe(0);
  });
});

describe("echo floods", () => {
  it("20,000 requests from anywhere are answered (type 0 is not in icmp_ratemask)", async () => {
    const { answers, felt } = await scan(20_000, (n) =>
      echoFrame(world.raw.ends, spoofed(n), VICTIM, n, new Uint8Array(1000)),
    );
    figure(`20,000 echo requests of 1,000 bytes: ${feltText(felt)}`);
    expect(answers.filter(({ icmp }) => icmp?.type === 0)).toHaveLength(20_000);
    expect(new Set(answers.map(({ ip }) => formatV4(ip.dst))).size).toBe(20_000);
    expect(world.counters()).toMatchObject({ IcmpInEchos: 20_000, IcmpOutEchoReps: 20_000, IcmpOutRateLimitGlobal: 0 });
  });

  it("requests to the broadcast address are not (smurf)", async () => {
    const { answers } = await scan(1000, (n) => echoFrame(world.raw.ends, FROM, "198.18.255.255", n));
    expect([answers.length, world.counters().IcmpInEchos]).toEqual([0, 1000]);
  });
});
