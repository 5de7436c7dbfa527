/**
 * What the rows of the fault checklist are made of: a row, two connected ends, streams whose every byte is known.
 */
import { expect } from "vitest";
import { Prng } from "../../src/base/prng.ts";
import { seqDiff } from "../../src/base/seq.ts";
import type { Ns } from "../../src/base/time.ts";
import { Flag } from "../../src/wire/tcp.ts";
import type { FaultBench, FaultBenchOptions, FaultConn, FaultListener, SeenSegment, Verb, Way } from "./fault-bench.ts";
import type { SegmentView } from "./segment-view.ts";

export interface FaultRow {
  /** "7", or "E3" for an extension. */
  readonly number: string;
  readonly text: string;
  readonly needs?: readonly Verb[];
  readonly options?: FaultBenchOptions;
  /** Real time the row may take, in ms; default vitest's. */
  readonly timeoutMs?: number;
  play(bench: FaultBench): Promise<void>;
}

export const PORT = 7000;
const READ_BYTES = 65_536;

export interface Pair {
  readonly client: FaultConn;
  readonly server: FaultConn;
  readonly listener: FaultListener;
  close(): void;
}

/** Two connected ends. */
export async function connected(bench: FaultBench, port = PORT): Promise<Pair> {
  const listener = await bench.server.listen(port);
  const [client, server] = await Promise.all([bench.client.dial(port), listener.accept()]);
  const close = (): void => {
    client.close();
    server.close();
    listener.close();
  };
  return { client, server, listener, close };
}

/** `len` random bytes of a seed. */
export function bytesOf(len: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(len);
  new Prng(seed).fill(bytes);
  return bytes;
}

/** Reads to the end of the stream. */
export async function readAll(conn: FaultConn): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let part = await conn.read(READ_BYTES); part.length > 0; part = await conn.read(READ_BYTES)) {
    parts.push(part.slice());
  }
  return Buffer.concat(parts);
}

/** Reads exactly `len` bytes; throws if the stream ends before. */
export async function readExactly(conn: FaultConn, len: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let left = len; left > 0; ) {
    const part = await conn.read(Math.min(left, READ_BYTES));
    if (part.length === 0) throw new Error(`the stream ended ${left} bytes too early`);
    parts.push(part.slice());
    left -= part.length;
  }
  return Buffer.concat(parts);
}

/** One end writes all and says FIN, the other reads to the end and says FIN: the bytes must be the same. */
export async function transfer(from: FaultConn, to: FaultConn, len: number, seed = 1): Promise<void> {
  const sent = bytesOf(len, seed);
  const send = async (): Promise<void> => {
    await from.write(sent);
    from.end();
  };
  const [, got] = await Promise.all([send(), readAll(to)]);
  expectSame(got, sent);
  to.end();
  expect((await from.read(1)).length).toBe(0);
}

/** vitest's own comparison of large arrays is slow, and nobody reads its answer. */
export function expectSame(got: Uint8Array, sent: Uint8Array): void {
  expect(got.length).toBe(sent.length);
  if (Buffer.compare(got, sent) === 0) return;
  const at = got.findIndex((byte, i) => byte !== sent[i]);
  expect.fail(`byte ${at} of ${sent.length} is ${got[at]} instead of ${sent[at]}`);
}

/** The code of the error `promise` must reject with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "no error";
}

/** Expects something to have taken `expectedNs`: never less, and at most the bench's slack more. */
export function expectTook(bench: FaultBench, tookNs: Ns, expectedNs: Ns): void {
  expect(tookNs).toBeGreaterThanOrEqual(expectedNs);
  expect(tookNs).toBeLessThanOrEqual(expectedNs + bench.slackNs);
}

export const isSyn = (s: SegmentView): boolean => (s.flags & Flag.syn) !== 0;
export const isFin = (s: SegmentView): boolean => (s.flags & Flag.fin) !== 0;
export const hasData = (s: SegmentView): boolean => s.payloadBytes > 0;
export const isBareAck = (s: SegmentView): boolean =>
  s.payloadBytes === 0 && (s.flags & (Flag.syn | Flag.fin | Flag.rst)) === 0;

/** The `n`th segment (from 1) for which `test` holds, and only that one. */
export function nth(n: number, test: (s: SegmentView) => boolean): (s: SegmentView) => boolean {
  let count = 0;
  return (s) => test(s) && ++count === n;
}

/** Segments in `way` with sequence space that had been sent before. */
export function resent(seen: readonly SeenSegment[], way: Way): SeenSegment[] {
  let highest: number | null = null;
  return seen.filter((s) => {
    const len = s.payloadBytes + (isSyn(s) ? 1 : 0) + (isFin(s) ? 1 : 0);
    if (s.way !== way || len === 0) return false;
    const isOld = highest !== null && seqDiff(s.seq, highest) < 0;
    if (!isOld) highest = (s.seq + len) >>> 0;
    return isOld;
  });
}

/** The longest time between two segments with data in `way`: a stall shows here. */
export function longestPauseNs(seen: readonly SeenSegment[], way: Way): Ns {
  const times = seen.filter((s) => s.way === way && hasData(s)).map((s) => s.atNs);
  return Math.max(0, ...times.slice(1).map((at, i) => at - (times[i] as Ns)));
}

/**
 * The waits before the probes into the first window that was closed to `way`: each from the probe before it, or from
 * the answer to that one, which starts the persist timer anew (Linux tcp_ack_probe).
 */
export function probeWaits(bench: FaultBench, way: Way): Ns[] {
  const { seen } = bench.wire;
  const closed = seen.findIndex((s) => s.way !== way && s.window === 0 && !isSyn(s));
  const waits: Ns[] = [];
  let heardNs = (seen[closed] as SeenSegment).atNs + bench.rttNs / 2;
  for (const s of seen.slice(closed + 1)) {
    if (s.way === way) {
      waits.push(s.atNs - heardNs);
      heardNs = s.atNs;
    } else if (s.window > 0) break;
    else heardNs = s.atNs + bench.rttNs / 2;
  }
  return waits;
}
