/**
 * What each kind of work of `src/sim/cost-model.ts` costs on this machine, measured on our own code with a real clock.
 *
 * Short operations run in loops of at least a few milliseconds, the cost of the empty loop subtracted; frames and
 * interrupts are timed per batch inside a running stack, the two clock readings subtracted. Minimum (a quiet machine)
 * and median of the rounds.
 */
import { ManualClock } from "../src/base/time.ts";
import { Headers } from "../src/proto/http1/headers.ts";
import { ParseEvent, RequestParser } from "../src/proto/http1/request-parser.ts";
import { ResponseEncoder } from "../src/proto/http1/response-encoder.ts";
import { TextBuffer } from "../src/proto/http1/text-buffer.ts";
import { Scheduler } from "../src/runtime/scheduler.ts";
import { ChunkPool, WriteBuffer } from "../src/runtime/write-buffer.ts";
import { ServeMux } from "../src/server/index.ts";
import { Request, type RequestSource } from "../src/server/request.ts";
import * as linux from "../src/socket/constants.ts";
import { RingPort } from "../src/socket/ring-port.ts";
import { SyscallRings } from "../src/socket/rings.ts";
import { SysOp } from "../src/socket/syscall-port.ts";
import { frameTimes } from "./frame-times.ts";
import { quantile } from "./measure.ts";
import { wakeupTimes } from "./wakeup-times.ts";
import { oneLink, World } from "./world.ts";

export interface CalibrationRow {
  /** The `Cost` kind, or "" for a row that stands beside it for comparison. */
  readonly kind: string;
  readonly minimumNs: number;
  readonly medianNs: number;
  /** What one unit was. */
  readonly what: string;
}

export interface Calibration {
  readonly name: "calibrate";
  readonly rows: readonly CalibrationRow[];
}

const ROUNDS = 9;
/** One timed loop lasts at least so long. */
const LOOP_NS = 20e6;

/** A request as a browser sends it (of its fields only the usual ones), and the smallest sensible one. */
const BROWSER_REQUEST = [
  "GET /hello HTTP/1.1",
  "Host: 127.0.0.1:3000",
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  "Accept-Language: en-US,en;q=0.5",
  "Accept-Encoding: gzip, deflate, br, zstd",
  "Connection: keep-alive",
  "Upgrade-Insecure-Requests: 1",
  "",
  "",
].join("\r\n");

const ROUTES = [
  "GET /{$}",
  "GET /hello",
  "GET /about",
  "GET /details",
  "/echo",
  "GET /slow",
  "GET /cpu",
  "GET /bytes/{n}",
];

export async function calibrate(): Promise<Calibration> {
  const small = await frameTimes(36, ROUNDS);
  const full = await frameTimes(1448, ROUNDS);
  const rows = [
    row("irq", small.interrupt, "interrupt, NAPI scheduled, softirq run and left, beside its frames"),
    row(
      "rxFrame",
      small.receive,
      "a TCP segment of 36 B (102 B on the wire), descriptor to receive queue, reader told",
    ),
    row("", full.receive, "… the same with 1,448 B (1,514 B on the wire): checksum over all of it"),
    row("txFrame", small.transmit, "half of: segment of 36 B cut, built, summed, routed, queued, posted, on the wire"),
    row("", full.transmit, "… the same with 1,448 B"),
    ...syscallRows(),
    row("wakeup", wakeupTimes(ROUNDS), "doorbell rung until the sleeping process's thread runs"),
    row("parseByte", parseTimes(), `RequestParser over a browser's request of ${BROWSER_REQUEST.length} B, per byte`),
    row("route", routeTimes(), `ServeMux.route of a fresh Request, ${ROUTES.length} patterns, path known`),
    row("encode", encodeTimes(), "ResponseEncoder.head with 2 fields, Date and Server-Timing, into the write buffer"),
    row("goroutineSwitch", switchTimes(), "Scheduler: one step of a goroutine that makes another ready and parks"),
  ];
  return { name: "calibrate", rows };
}

function row(kind: string, samplesNs: readonly number[], what: string): CalibrationRow {
  return { kind, minimumNs: Math.min(...samplesNs), medianNs: quantile(samplesNs, 0.5), what };
}

/** Nanoseconds per call of `body`, in `ROUNDS` rounds, without the loop around it. */
function loopTimes(body: (i: number) => number): number[] {
  const empty = Math.min(...timeLoop((i) => i));
  return timeLoop(body).map((ns) => Math.max(0, ns - empty));
}

function timeLoop(body: (i: number) => number): number[] {
  let iterations = 1000;
  while (timeOnce(body, iterations) < LOOP_NS) iterations *= 2;
  return Array.from({ length: ROUNDS }, () => timeOnce(body, iterations) / iterations);
}

/** The sum keeps the compiler from dropping the work. */
function timeOnce(body: (i: number) => number, iterations: number): number {
  let sum = 0;
  const from = process.hrtime.bigint();
  for (let i = 0; i < iterations; i++) sum += body(i);
  const ns = Number(process.hrtime.bigint() - from);
  if (Number.isNaN(sum)) throw new Error("unreachable");
  return ns;
}

/** The crossing and the copies, over a real process's rings. */
function syscallRows(): CalibrationRow[] {
  const world = new World({ time: "virtual", topology: oneLink() });
  const host = world.topology.host("server");
  const rings = new SyscallRings();
  const server = host.attachProcess("calibrate", rings, () => {});
  const { bytes } = host.env.pool.arena;
  const port = new RingPort(server.process.pid, rings, bytes, host.env.clock, { onSubmit: () => server.consume() });
  const fd = server.process.socket(linux.AF_INET, linux.SOCK_STREAM);
  const call = loopTimes(() => {
    port.submit(SysOp.getsockopt, fd, 1, 0, linux.SOL_SOCKET, linux.SO_KEEPALIVE);
    let result = 0;
    while (port.reap()) result += port.completion.result;
    return result;
  });
  const into = new Uint8Array(65_536);
  const copy = (len: number): number[] =>
    loopTimes(() => {
      port.copyOut(65_536, len, into, 0);
      return into[0] as number;
    }).map((ns) => ns / len);
  const rows = [
    row("syscall", call, "getsockopt through the rings, inline: submitted, run, logged, completed, reaped"),
    row("copyByte", copy(1460), "RingPort.copyOut of 1,460 B in the cache, per byte"),
    row("", copy(300), "… of 300 B"),
    row("", copy(65_536), "… of 64 KiB"),
  ];
  world.close();
  return rows;
}

function parseTimes(): number[] {
  const bytes = Uint8Array.from(BROWSER_REQUEST, (c) => c.charCodeAt(0));
  const parser = new RequestParser();
  return loopTimes(() => {
    const event = parser.next(bytes, 0, bytes.length);
    if (event !== ParseEvent.head) throw new Error("the request is wrong");
    return parser.next(bytes, parser.at, bytes.length);
  }).map((ns) => ns / bytes.length);
}

function routeTimes(): number[] {
  const mux = new ServeMux();
  for (const pattern of ROUTES) mux.handle(pattern, () => {}, "calibrate");
  const { head } = parsed();
  const source = {} as RequestSource;
  return loopTimes((i) => mux.route(new Request(i, head, source)).pattern.length);
}

/** A parser that has just read a head. */
function parsed(): RequestParser {
  const parser = new RequestParser();
  const bytes = Uint8Array.from(BROWSER_REQUEST, (c) => c.charCodeAt(0));
  parser.next(bytes, 0, bytes.length);
  return parser;
}

function encodeTimes(): number[] {
  const encoder = new ResponseEncoder();
  const out = new TextBuffer();
  const buffer = new WriteBuffer(new ChunkPool());
  return loopTimes((i) => {
    const headers = new Headers();
    headers.set("Content-Type", "text/plain; charset=utf-8");
    headers.set("X-Content-Type-Options", "nosniff");
    encoder.begin(false, 1, true);
    encoder.beginHead(out, 200);
    out
      .add("Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n")
      .add("Server-Timing: softirq;dur=0.0")
      .addNumber(i % 90);
    out.add(", parse;dur=0.001, route;dur=0.000, process;dur=0.001\r\n");
    encoder.endHead(out, 200, headers, 19);
    buffer.append(out.bytes, 0, out.length);
    const { length } = buffer;
    buffer.consume(length);
    return length;
  });
}

function switchTimes(): number[] {
  const scheduler = new Scheduler(new ManualClock());
  scheduler.running = true;
  const partners = [0, 1].map((i) =>
    scheduler.spawn(`partner ${i}`, (g) => {
      const other = partners[1 - i];
      if (other !== undefined) scheduler.ready(other);
      scheduler.park(g, "partner");
    }),
  );
  const never = (): boolean => false;
  scheduler.runBatch(4, never);
  const [first] = partners;
  return loopTimes(() => {
    if (first?.state === "parked") scheduler.ready(first);
    return scheduler.runBatch(100, never);
  }).map((ns) => ns / 100);
}
