import { describe, expect, it } from "vitest";
import { Mib, MibId } from "../../base/mib.ts";
import { Statistics } from "../statistics.ts";
import { RecordScript } from "../testing/record-script.ts";
import { enhancedPacket, interfaceDescription, sectionHeader } from "./pcapng.ts";
import { prometheusText } from "./prometheus.ts";

/** Reads a block's type, body and both lengths. */
function readBlock(bytes: Uint8Array): { type: number; view: DataView; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(4, true);
  expect(length).toBe(bytes.length);
  expect(length % 4).toBe(0);
  expect(view.getUint32(length - 4, true)).toBe(length);
  return { type: view.getUint32(0, true), view, length };
}

/** Options from `at` as [code, bytes]. */
function readOptions(bytes: Uint8Array, at: number): [number, number[]][] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const options: [number, number[]][] = [];
  for (;;) {
    const code = view.getUint16(at, true);
    const len = view.getUint16(at + 2, true);
    if (code === 0) return options;
    options.push([code, [...bytes.subarray(at + 4, at + 4 + len)]]);
    at += 4 + ((len + 3) & ~3);
  }
}

const ascii = (text: string) => [...text].map((c) => c.charCodeAt(0));

describe("pcapng", () => {
  it("section header: magic, version 1.0, length not given", () => {
    const { type, view } = readBlock(sectionHeader());
    expect(type).toBe(0x0a0d0d0a);
    expect(view.getUint32(8, true)).toBe(0x1a2b3c4d);
    expect([view.getUint16(12, true), view.getUint16(14, true)]).toEqual([1, 0]);
    expect(view.getBigInt64(16, true)).toBe(-1n);
    expect(readOptions(sectionHeader(), 24)).toEqual([[4, ascii("sojourn")]]);
  });

  it("interface: Ethernet, a name, nanoseconds", () => {
    const bytes = interfaceDescription("eth0", "server");
    const { type, view } = readBlock(bytes);
    expect([type, view.getUint16(8, true)]).toEqual([1, 1]);
    expect(readOptions(bytes, 16)).toEqual([
      [2, ascii("eth0")],
      [3, ascii("server")],
      [9, [9]],
    ]);
  });

  it("packet: interface, 64-bit Unix nanoseconds, padded bytes, comment and direction", () => {
    const frame = Uint8Array.of(9, 1, 2, 3, 4, 5, 9);
    const origin = 1_700_000_000_000_000_000n;
    const bytes = enhancedPacket(1, 123_456_789, origin, frame, 1, 5, {
      comment: "é",
      direction: "outbound",
      originalLength: 60,
    });
    const { type, view } = readBlock(bytes);
    expect([type, view.getUint32(8, true)]).toEqual([6, 1]);
    expect((BigInt(view.getUint32(12, true)) << 32n) | BigInt(view.getUint32(16, true))).toBe(
      1_700_000_000_123_456_789n,
    );
    expect([view.getUint32(20, true), view.getUint32(24, true)]).toEqual([5, 60]);
    expect([...bytes.subarray(28, 36)]).toEqual([1, 2, 3, 4, 5, 0, 0, 0]);
    expect(readOptions(bytes, 36)).toEqual([
      [1, [0xc3, 0xa9]],
      [2, [2, 0, 0, 0]],
    ]);
  });

  it("a packet without options ends after its bytes", () => {
    expect(enhancedPacket(0, 0, 0n, new Uint8Array(4), 0, 4)).toHaveLength(36);
  });
});

describe("prometheus", () => {
  it("counts a journey into cumulative buckets and names counters as node_exporter does", () => {
    const script = new RecordScript();
    const statistics = new Statistics();
    script.at(1000).syn(1, 1000, 1000).at(3_001_000).closed(1, 6);
    const [victim] = script.journeys();
    statistics.add({
      ...(victim as NonNullable<typeof victim>),
      request: { method: "GET", target: "/", bytes: 1 },
      respondedNs: 5,
    });
    const mib = new Mib();
    mib.values[MibId.TcpExtListenOverflows] = 7;
    const text = prometheusText({ statistics, counters: script.collector.counters(), mib: mib.values });
    const lines = text.split("\n");
    const series = 'sojourn_stage_duration_seconds_bucket{stage="syn-queue",group="accept",kind="wait"';
    expect(lines).toContain(`${series},le="0.0025"} 0`);
    expect(lines).toContain(`${series},le="0.005"} 1`);
    expect(lines).toContain(`${series},le="+Inf"} 1`);
    expect(lines).toContain('sojourn_stage_duration_seconds_sum{stage="syn-queue",group="accept",kind="wait"} 0.003');
    expect(lines).toContain('sojourn_journeys_total{outcome="timeout"} 1');
    expect(lines).toContain("node_netstat_TcpExt_ListenOverflows 7");
    expect(lines).toContain("sojourn_sampling 1");
    for (const line of lines)
      expect(line).toMatch(/^$|^# (HELP|TYPE) \w+ .+$|^\w+(\{(\w+="[^"]*",?)*\})? -?[\d.e+-]+$/);
  });
});
