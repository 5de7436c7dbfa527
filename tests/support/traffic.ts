/**
 * Random traffic: what clients do to the site, as plans that fast-check can draw and shrink, and who carries them out.
 */
import fc from "fast-check";
import { Prng } from "../../src/base/prng.ts";
import { MICROSECOND, MILLISECOND, type Ns } from "../../src/base/time.ts";
import type { LinkSettings } from "../../src/device/link-settings.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { type Appetite, ResponseReader, type TestResponse } from "./response-reader.ts";
import type { World } from "./sim-bench.ts";

/** A port nobody listens on. */
const CLOSED_PORT = 9;

/** Nothing is written in more pieces: a run must end. */
const PIECES_MAX = 100;

/** One request, and what must come back. */
export type Ask =
  | { readonly kind: "hello" | "head" | "missing" }
  | { readonly kind: "bytes"; readonly n: number }
  | { readonly kind: "echo"; readonly n: number; readonly chunked: boolean }
  | { readonly kind: "slow" | "cpu"; readonly ms: number };

/** How a client ends its connection when it has its answers. */
export type Farewell = "close" | "half-close" | "idle";

export type ClientPlan =
  | {
      readonly kind: "talk";
      readonly startMs: number;
      readonly asks: readonly Ask[];
      readonly pipelined: boolean;
      /** Sizes of the pieces its bytes are written in, in turn; and the pause between two of them. */
      readonly pieces: readonly number[];
      readonly gapUs: number;
      /** Reads so many bytes at a time, with a pause in between. */
      readonly sipBytes: number;
      readonly sipPauseUs: number;
      readonly farewell: Farewell;
      /** Resets the connection so long after the start, whatever is going on; 0 = never. */
      readonly abortMs: number;
    }
  | { readonly kind: "refused"; readonly startMs: number }
  /** Connects, sends the beginning of a head (or nothing), and goes. */
  | { readonly kind: "mute"; readonly startMs: number; readonly text: string; readonly stayMs: number };

export interface TrafficPlan {
  readonly seed: number;
  readonly delayUs: number;
  readonly link: Partial<LinkSettings>;
  /** listen(2)'s; null: as many as can come. */
  readonly backlog: number | null;
  /** accept() is paused from `atMs` for `ms`. */
  readonly pause: { readonly atMs: number; readonly ms: number } | null;
  readonly clients: readonly ClientPlan[];
}

const ask: fc.Arbitrary<Ask> = fc.oneof(
  fc.record({ kind: fc.constantFrom("hello" as const, "head" as const, "missing" as const) }),
  fc.record({
    kind: fc.constant("bytes" as const),
    n: fc.oneof(
      { weight: 4, arbitrary: fc.nat(3000) },
      { weight: 4, arbitrary: fc.nat(100_000) },
      // More than a process keeps pending: its handler has to wait.
      { weight: 1, arbitrary: fc.integer({ min: 300_000, max: 700_000 }) },
    ),
  }),
  fc.record({
    kind: fc.constant("echo" as const),
    n: fc.oneof(fc.nat(100), fc.nat(6000), fc.nat(60_000)),
    chunked: fc.boolean(),
  }),
  fc.record({ kind: fc.constantFrom("slow" as const, "cpu" as const), ms: fc.integer({ min: 1, max: 60 }) }),
);

const talk: fc.Arbitrary<ClientPlan> = fc.record({
  kind: fc.constant("talk" as const),
  startMs: fc.nat(50),
  asks: fc.array(ask, { minLength: 1, maxLength: 5 }),
  pipelined: fc.boolean(),
  pieces: fc.oneof(
    fc.constant([100_000]),
    fc.array(fc.oneof(fc.integer({ min: 8, max: 60 }), fc.integer({ min: 500, max: 4000 })), {
      minLength: 1,
      maxLength: 4,
    }),
  ),
  gapUs: fc.constantFrom(0, 1, 300, 7000),
  sipBytes: fc.constantFrom(65_536, 65_536, 4096, 900),
  sipPauseUs: fc.constantFrom(0, 0, 100, 2000),
  farewell: fc.constantFrom<Farewell>("close", "half-close", "idle"),
  abortMs: fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 80 }) },
  ),
});

const client: fc.Arbitrary<ClientPlan> = fc.oneof(
  { weight: 6, arbitrary: talk },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("refused" as const), startMs: fc.nat(50) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("mute" as const),
      startMs: fc.nat(50),
      text: fc.constantFrom("", "GET /hel", "POST /echo HTTP/1.1\r\nHost: s"),
      stayMs: fc.nat(300),
    }),
  },
);

const chance = (most: number) =>
  fc.oneof(
    fc.constant(0),
    fc.integer({ min: 1, max: 1000 }).map((n) => (n * most) / 1000),
  );

export const traffic: fc.Arbitrary<TrafficPlan> = fc.record({
  seed: fc.nat(1_000_000),
  delayUs: fc.integer({ min: 20, max: 5000 }),
  link: fc.record({
    loss: chance(0.04),
    duplicate: chance(0.05),
    reorder: chance(0.05),
    corrupt: chance(0.01),
    jitterNs: fc.constantFrom(0, 0, 5000, 400_000),
    rateBitsPerSecond: fc.constantFrom(0, 0, 0, 20e6),
  }),
  backlog: fc.option(fc.nat(2), { freq: 2 }),
  pause: fc.option(fc.record({ atMs: fc.nat(40), ms: fc.integer({ min: 1, max: 200 }) }), { freq: 2 }),
  clients: fc.array(client, { minLength: 1, maxLength: 5 }),
});

/** One exchange as the client saw it. */
export interface Exchange {
  readonly ask: Ask;
  /** Bytes of the request on the wire. */
  readonly sentBytes: number;
  /** The request's body: what an echo must return. */
  readonly body: Uint8Array;
  response: TestResponse | null;
}

/** What became of a client. */
export interface ClientStory {
  readonly plan: ClientPlan;
  readonly exchanges: Exchange[];
  /** Its port, 0 if it never connected. */
  port: number;
  /** Why it ended early: an errno, or a truncated answer. */
  failure: string;
}

/** Carries the plan out; resolves when every client has gone. Await it under `Sim.run`. */
export async function runTraffic(world: World, plan: TrafficPlan): Promise<ClientStory[]> {
  const prng = new Prng(plan.seed);
  const work: Promise<unknown>[] = [];
  const stories = plan.clients.map((clientPlan) => {
    const story: ClientStory = { plan: clientPlan, exchanges: [], port: 0, failure: "" };
    work.push(new Client(world, story, prng.fork()).run());
    return story;
  });
  if (plan.pause !== null) work.push(pauseAccept(world, plan.pause));
  await Promise.all(work);
  return stories;
}

async function pauseAccept(world: World, pause: { readonly atMs: number; readonly ms: number }): Promise<void> {
  await world.user.sleep(pause.atMs * MILLISECOND);
  world.pauseAccept(true);
  await world.user.sleep(pause.ms * MILLISECOND);
  world.pauseAccept(false);
}

class Client {
  private readonly world: World;
  private readonly story: ClientStory;
  private readonly prng: Prng;
  private turn = 0;

  constructor(world: World, story: ClientStory, prng: Prng) {
    this.world = world;
    this.story = story;
    this.prng = prng;
  }

  async run(): Promise<void> {
    const { story } = this;
    await this.sleep(story.plan.startMs * MILLISECOND);
    let conn: Conn | null = null;
    try {
      conn = await this.world.dial(story.plan.kind === "refused" ? CLOSED_PORT : undefined);
      story.port = conn.local.port;
      if (story.plan.kind === "mute") await this.beMute(conn, story.plan);
      else if (story.plan.kind === "talk") await this.talk(conn, story.plan);
    } catch (error) {
      const { code, name } = error as { code?: string; name: string };
      if (code === undefined && name !== "TruncatedError") throw error;
      story.failure = code ?? name;
    } finally {
      conn?.close();
    }
  }

  private async beMute(conn: Conn, plan: Extract<ClientPlan, { kind: "mute" }>): Promise<void> {
    conn.writeLatin1(plan.text);
    conn.flush();
    await this.sleep(plan.stayMs * MILLISECOND);
  }

  private async talk(conn: Conn, plan: Extract<ClientPlan, { kind: "talk" }>): Promise<void> {
    let isOver = false;
    if (plan.abortMs > 0) {
      void this.sleep(plan.abortMs * MILLISECOND).then(() => {
        if (!isOver) conn.abort();
      });
    }
    try {
      const reader = new ResponseReader(conn, this.appetite(plan));
      const wanted = plan.asks.map((one) => this.prepare(one));
      this.story.exchanges.push(...wanted.map(({ exchange }) => exchange));
      if (plan.pipelined) {
        const all = join(wanted.map(({ bytes }) => bytes));
        await Promise.all([this.send(conn, all, plan), this.readAll(reader)]);
      } else {
        for (const { exchange, bytes } of wanted) {
          const answer = reader.next(methodOf(exchange.ask));
          [exchange.response] = await Promise.all([answer, this.send(conn, bytes, plan)]);
          if (exchange.response === null) break;
        }
      }
      await this.leave(conn, plan.farewell);
    } finally {
      isOver = true;
    }
  }

  private async readAll(reader: ResponseReader): Promise<void> {
    for (const exchange of this.story.exchanges) {
      exchange.response = await reader.next(methodOf(exchange.ask));
      if (exchange.response === null) return;
    }
  }

  /** `half-close`: says that it is done and waits for the server's FIN. `idle`: waits until the server has enough. */
  private async leave(conn: Conn, farewell: Farewell): Promise<void> {
    if (farewell === "close") return;
    if (farewell === "half-close") conn.closeWrite();
    const n = await conn.read(new Uint8Array(16));
    if (n !== 0) throw new Error(`${n} bytes nobody asked for`);
  }

  private async send(conn: Conn, bytes: Uint8Array, plan: Extract<ClientPlan, { kind: "talk" }>): Promise<void> {
    const least = Math.ceil(bytes.length / PIECES_MAX);
    for (let at = 0; at < bytes.length; ) {
      const size = Math.max(least, plan.pieces[this.turn++ % plan.pieces.length] as number);
      if (at > 0 && plan.gapUs > 0) await this.sleep(plan.gapUs * MICROSECOND);
      await conn.writeAll(bytes.subarray(at, at + size));
      conn.flush();
      at += size;
    }
  }

  private appetite(plan: Extract<ClientPlan, { kind: "talk" }>): Appetite {
    const { sipBytes, sipPauseUs } = plan;
    return {
      bytes: sipBytes,
      pause: () => (sipPauseUs === 0 ? Promise.resolve() : this.sleep(sipPauseUs * MICROSECOND)),
    };
  }

  private prepare(one: Ask): { exchange: Exchange; bytes: Uint8Array } {
    const body = new Uint8Array(one.kind === "echo" ? one.n : 0);
    this.prng.fill(body);
    const head = `${methodOf(one)} ${targetOf(one)} HTTP/1.1\r\nHost: server\r\n`;
    let bytes: Uint8Array = latin1Bytes(`${head}\r\n`);
    if (one.kind === "echo" && !one.chunked) {
      bytes = join([latin1Bytes(`${head}Content-Length: ${one.n}\r\n\r\n`), body]);
    } else if (one.kind === "echo") {
      bytes = join([latin1Bytes(`${head}Transfer-Encoding: chunked\r\n\r\n`), ...this.chunks(body)]);
    }
    return { exchange: { ask: one, sentBytes: bytes.length, body, response: null }, bytes };
  }

  private chunks(body: Uint8Array): Uint8Array[] {
    const parts: Uint8Array[] = [];
    for (let at = 0; at < body.length; ) {
      const part = body.subarray(at, at + 1 + this.prng.below(9000));
      parts.push(latin1Bytes(`${part.length.toString(16)}\r\n`), part, latin1Bytes("\r\n"));
      at += part.length;
    }
    return [...parts, latin1Bytes("0\r\n\r\n")];
  }

  private sleep(durationNs: Ns): Promise<void> {
    return this.world.user.sleep(durationNs);
  }
}

export function methodOf(one: Ask): string {
  return one.kind === "echo" ? "POST" : one.kind === "head" ? "HEAD" : "GET";
}

export function targetOf(one: Ask): string {
  switch (one.kind) {
    case "hello":
    case "head":
      return "/hello";
    case "missing":
      return "/nowhere";
    case "bytes":
      return `/bytes/${one.n}`;
    case "echo":
      return "/echo";
    case "slow":
    case "cpu":
      return `/${one.kind}?ms=${one.ms}`;
  }
}

function latin1Bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
