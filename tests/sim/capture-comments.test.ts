/**
 * A capture of a simulated run in which each frame names its journey: written by `CaptureWriter` from the frames at the
 * server's card, read by tshark, who checks every checksum.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MILLISECOND, SECOND } from "../../src/base/time.ts";
import { CaptureWriter } from "../../src/journey/exports/capture-writer.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { loseNext } from "../../src/sim/link-faults.ts";
import { Summed } from "../../src/skb/skb.ts";
import { requires } from "../support/requires.ts";
import { ResponseReader } from "../support/response-reader.ts";
import { World } from "../support/sim-bench.ts";

const SEED = 3;
const BAD_OR_UNVERIFIED = /[^1,]/;

interface Row {
  readonly comments: readonly string[];
  readonly isFromServer: boolean;
  readonly len: number;
}

/** Captures at the server's card while `work` runs; blocks are written every 10 ms. */
async function capture(world: World, work: () => Promise<void>): Promise<Uint8Array> {
  const writer = new CaptureWriter({ originUnixNs: 0n, journeys: () => world.collector.byConnection() });
  const card = world.server.net.devices.find((dev) => !dev.isLoopback);
  if (card === undefined) throw new Error("the server has no card");
  const iface = writer.addInterface("eth0", "server");
  const untap = card.addTap((outgoing, skb) => {
    const direction = outgoing ? "outbound" : "inbound";
    const partial = skb.summed === Summed.partial;
    const atNs = world.server.env.clock.nowNs;
    writer.push({ iface, atNs, direction, bytes: skb.bytes, at: skb.data, len: skb.len, partial });
  });
  const pieces: Uint8Array[] = [];
  let over = false;
  const flush = async (): Promise<void> => {
    while (!over) {
      await world.user.sleep(10 * MILLISECOND);
      world.drain();
      pieces.push(writer.flush(world.sim.nowNs));
    }
  };
  const all = async (): Promise<void> => {
    await work();
    await world.user.sleep(SECOND);
    over = true;
  };
  await world.sim.run(Promise.all([flush(), all()]));
  untap();
  world.drain();
  pieces.push(writer.finish());
  return Buffer.concat(pieces);
}

/** Runs tshark over a capture with every checksum checked. It reads files only. */
function tshark(capture: Uint8Array, ...args: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), "sojourn-capture-"));
  const file = join(directory, "run.pcapng");
  const checks = ["tcp", "ip", "udp"].flatMap((name) => ["-o", `${name}.check_checksum:TRUE`]);
  try {
    writeFileSync(file, capture);
    const { status, stdout, stderr } = spawnSync("tshark", ["-r", file, ...checks, ...args], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    if (status !== 0) throw new Error(`tshark: ${stderr}`);
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** What tshark reads, after it has found nothing wrong with any frame. */
function read(file: Uint8Array): Row[] {
  expect(tshark(file, "-Y", "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0")).toBe("");
  const fields = ["ip.src", "tcp.len", "tcp.checksum.status", "ip.checksum.status", "frame.comment"];
  const out = tshark(
    file,
    "-Y",
    "tcp",
    "-T",
    "fields",
    "-E",
    "aggregator=|",
    ...fields.flatMap((field) => ["-e", field]),
  );
  return out
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [source, len, tcpSum = "", ipSum = "", comments = ""] = line.split("\t");
      expect(`${tcpSum},${ipSum}`).not.toMatch(BAD_OR_UNVERIFIED);
      return {
        comments: comments === "" ? [] : comments.split("|"),
        isFromServer: source === "198.51.100.10",
        len: Number(len),
      };
    });
}

async function ask(conn: Conn, text: string, answers = 1): Promise<void> {
  const reader = new ResponseReader(conn);
  conn.writeLatin1(text);
  conn.flush();
  for (let i = 0; i < answers; i++) await reader.next("GET");
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: s\r\n\r\n`;

/** The comments of all frames, one line each, without the name they must begin with. */
function whats(rows: readonly Row[], name: string): string[] {
  return rows.map(({ isFromServer, comments }) => {
    const texts = comments.map((comment) => {
      expect(comment.startsWith(`${name}: `)).toBe(true);
      return comment.slice(name.length + 2);
    });
    return `${isFromServer ? "<" : ">"} ${texts.join(" + ")}`;
  });
}

describe.skipIf(requires("tshark"))("a capture with comments, read by tshark", () => {
  it("one request from its SYN to the last ACK; query values hidden; what is nobody's has no comment", async () => {
    const world = await World.open({ seed: SEED, delayNs: 5 * MILLISECOND });
    const file = await capture(world, async () => {
      const conn = await world.dial();
      await ask(conn, get("/hello?q=secret"));
      await world.user.sleep(100 * MILLISECOND);
      conn.close();
    });
    const rows = read(file);
    const responseLen = rows.find((row) => row.isFromServer && row.len > 0)?.len ?? 0;
    expect(whats(rows, "journey 1 GET /hello?q=…")).toEqual([
      // A card's tap sits behind the cost of taking the frame: for a SYN the moment it enters the queue.
      "> SYN, stage softirq → syn-queue",
      "< SYN-ACK, stage syn-queue",
      "> ACK of the SYN-ACK, stage syn-queue → rx-ring",
      "> request head, stage softirq → accept-queue",
      "< ACK of the request, stage accept-queue",
      `< response bytes 0–${responseLen - 1}, stage output → ack-wait`,
      "> last response byte acknowledged: ends the journey, stage ack-wait",
      "> ", // the client closes: idle time belongs to nobody
      "< ",
      "> ",
    ]);
    world.close();
  });

  it("two requests in one segment: two comments, each with its own stage", async () => {
    const world = await World.open({ seed: SEED, delayNs: 5 * MILLISECOND });
    const file = await capture(world, async () => {
      const conn = await world.dial();
      await ask(conn, get("/hello") + get("/about"), 2);
      await world.user.sleep(100 * MILLISECOND);
      conn.close();
    });
    const rows = read(file);
    const head = rows.find((row) => !row.isFromServer && row.len > 0);
    expect(head?.comments.map((comment) => comment.replace(/, stage.*/, ""))).toEqual([
      "journey 1 GET /hello: request head",
      "journey 2 GET /about: request head",
    ]);
    world.close();
  });

  it("a response that was lost on the wire goes again, and says so", async () => {
    const world = await World.open({ seed: SEED, delayNs: 5 * MILLISECOND });
    const file = await capture(world, async () => {
      const conn = await world.dial();
      loseNext(world.link("server-link"), 1, true);
      await ask(conn, get("/hello"));
      await world.user.sleep(100 * MILLISECOND);
      conn.close();
    });
    const responses = read(file).filter((row) => row.isFromServer && row.len > 0);
    const [first = "", second = ""] = responses.map((row) => row.comments[0]?.replace(/, stage.*/, ""));
    expect(responses).toHaveLength(2);
    expect(first).toMatch(/^journey 1 GET \/hello: response bytes 0–\d+$/);
    expect(second).toBe(first.replace("response", "retransmitted response"));
    expect(responses[1]?.comments[0]).toMatch(/stage ack-wait → retransmission$/);
    world.close();
  });

  it("the frames of bodies tile them: every byte once, in order", async () => {
    const world = await World.open({ seed: SEED, delayNs: 5 * MILLISECOND });
    const body = "x".repeat(20_000);
    const file = await capture(world, async () => {
      const conn = await world.dial();
      const head = `POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: ${body.length}\r\n\r\n`;
      await ask(conn, head + body);
      await ask(conn, get("/bytes/100000"));
      await world.user.sleep(100 * MILLISECOND);
      conn.close();
    });
    const rows = read(file);
    const journeys = world.journeys();
    expect(tiled(rows, /journey 1 POST \/echo: (?:request head and )?request body bytes (\d+)–(\d+)/)).toBe(20_000);
    expect(tiled(rows, /journey 1 POST \/echo: response bytes (\d+)–(\d+)/)).toBe(journeys[0]?.response?.bytes);
    expect(tiled(rows, /journey 2 GET \/bytes\/100000: response bytes (\d+)–(\d+)/)).toBe(journeys[1]?.response?.bytes);
    world.close();
  });
});

/** Each comment's first byte follows the last one of the comment before: how many bytes they are. */
function tiled(rows: readonly Row[], pattern: RegExp): number {
  let next = 0;
  for (const [, from, to] of rows.flatMap((row) => row.comments.map((text) => pattern.exec(text) ?? []))) {
    if (from === undefined) continue;
    expect(Number(from)).toBe(next);
    next = Number(to) + 1;
  }
  return next;
}
