/**
 * One TCP connection of a seeded run: two ends that say what the plan tells them, every byte of which is known, and
 * what became of each.
 *
 * The client speaks first: two bytes say which talk it is. So it always waits for an answer and never believes in a
 * connection that the server has forgotten.
 */
import { MICROSECOND, MILLISECOND, NEVER, type Ns, SECOND } from "../../src/base/time.ts";
import type { Conn, Listener, Runtime } from "../../src/runtime/port.ts";
import type { TalkPlan, Thirst } from "./fault-plan.ts";

/** Bytes that name the talk, at the beginning of the client's stream. */
const NAME_BYTES = 2;
/** When one end has ended, the other must find out by itself within this: longer than tcp_retries2 lasts (924.6 s). */
const PATIENCE_NS: Ns = 2000 * SECOND;
/** Of these bytes every stream is a part; a prime, so that nothing repeats in step with a segment. */
const LORE_BYTES = 262_139;

export class Lore {
  private readonly bytes: Uint8Array;

  /** `fill` makes random bytes. */
  constructor(fill: (bytes: Uint8Array) => void) {
    this.bytes = new Uint8Array(LORE_BYTES);
    fill(this.bytes);
  }

  /** Stream number `key`: `len` bytes that are like no other's. *Borrowed*. */
  stream(key: number, len: number): Uint8Array {
    const at = (key * 7919) % (LORE_BYTES - len);
    return this.bytes.subarray(at, at + len);
  }
}

/** One end of a talk. */
export class TalkEnd {
  readonly side: "client" | "server";
  conn: Conn | null = null;
  /** What it must read, and how much of it came. */
  readonly expected: Uint8Array;
  gotBytes = 0;
  sawEnd = false;
  /** Of the first byte that was not what it should be; -1 if all were. */
  wrongAt = -1;
  /** When it was done or failed; NEVER before. */
  endedNs: Ns = NEVER;
  /** Why it failed ("ETIMEDOUT"), "" if it did not. */
  failure = "";
  /** The bench reset it because its peer was gone. */
  isAbandoned = false;

  constructor(side: "client" | "server", expected: Uint8Array) {
    this.side = side;
    this.expected = expected;
  }

  get isWell(): boolean {
    return this.failure === "" && this.sawEnd && this.gotBytes === this.expected.length && this.wrongAt < 0;
  }

  take(bytes: Uint8Array, len: number): void {
    const want = this.expected.subarray(this.gotBytes, this.gotBytes + len);
    if (Buffer.compare(want, bytes.subarray(0, len)) !== 0 && this.wrongAt < 0) this.wrongAt = this.gotBytes;
    this.gotBytes += len;
  }
}

export class Talk {
  readonly plan: TalkPlan;
  readonly index: number;
  readonly client: TalkEnd;
  readonly server: TalkEnd;
  /** The client's port; 0 if it never connected. */
  port = 0;
  /** When it began to connect. */
  dialedNs: Ns = 0;
  private readonly up: Uint8Array;
  private readonly down: Uint8Array;
  private readonly user: Runtime;
  /** Wakes the client's sender, which waits for answers; the client reads no more of them. */
  private sender: (() => void) | null = null;
  private isDeaf = false;
  private requests = 0;

  constructor(plan: TalkPlan, index: number, lore: Lore, user: Runtime) {
    this.plan = plan;
    this.index = index;
    this.user = user;
    const [up, down] = sizesOf(plan);
    this.up = Uint8Array.from([...[index >> 8, index & 255], ...lore.stream(2 * index, up)]);
    this.down = plan.kind === "echo" ? this.up.subarray(NAME_BYTES) : lore.stream(2 * index + 1, down);
    this.client = new TalkEnd("client", this.down);
    this.server = new TalkEnd("server", this.up);
  }

  get ends(): readonly [TalkEnd, TalkEnd] {
    return [this.client, this.server];
  }

  /** Neither end is doing anything any more. */
  get isOver(): boolean {
    return this.ends.every((end) => end.endedNs !== NEVER || end.conn === null);
  }

  /** The client's life. Never rejects. */
  async runClient(dial: () => Promise<Conn>): Promise<void> {
    await this.user.sleep(this.plan.startMs * MILLISECOND);
    this.dialedNs = this.user.clock.nowNs;
    await this.live(this.client, async () => {
      const conn = await dial();
      this.client.conn = conn;
      this.port = conn.local.port;
      await both(this.receiveDown(conn), this.sendUp(conn));
    });
  }

  /** The server's life, its name being read. Never rejects. */
  async runServer(conn: Conn): Promise<void> {
    this.server.conn = conn;
    await this.live(this.server, async () => {
      await both(this.receiveUp(conn), this.sendDown(conn));
    });
  }

  private async live(end: TalkEnd, life: () => Promise<void>): Promise<void> {
    try {
      await life();
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === undefined) throw error;
      end.failure = code;
    }
    end.endedNs = this.user.clock.nowNs;
    end.conn?.close();
    const other = end === this.client ? this.server : this.client;
    if (other.conn === null || other.endedNs !== NEVER) return;
    await this.user.sleep(PATIENCE_NS);
    if (other.endedNs !== NEVER) return;
    other.isAbandoned = true;
    other.conn.abort();
  }

  private async sendUp(conn: Conn): Promise<void> {
    const { plan, up } = this;
    if (plan.kind !== "pipelined") {
      await this.send(conn, up, plan);
      conn.closeWrite();
      return;
    }
    // So many requests ahead of the answers, the rest as answers come.
    const { requestBytes, depth } = plan;
    const count = Math.ceil((up.length - NAME_BYTES) / requestBytes);
    const answersTo = (n: number): number => Math.floor((n * this.down.length) / count);
    let at = 0;
    for (let i = 0; i <= count; i++) {
      const to = Math.min(NAME_BYTES + i * requestBytes, up.length);
      while (i > depth && this.client.gotBytes < answersTo(i - depth) && !this.isDeaf) await this.answered();
      await this.send(conn, up.subarray(at, to), plan);
      at = to;
    }
    conn.closeWrite();
  }

  /** Resolves when more of an answer came, or when nothing more will. */
  private answered(): Promise<void> {
    return new Promise((resolve) => {
      this.sender = () => {
        this.sender = null;
        resolve();
      };
    });
  }

  private async receiveDown(conn: Conn): Promise<void> {
    try {
      await this.receive(conn, this.client, this.plan.client, () => this.sender?.());
    } finally {
      this.isDeaf = true;
      this.sender?.();
    }
  }

  private async receiveUp(conn: Conn): Promise<void> {
    await this.receive(conn, this.server, this.plan.server, (bytes, len) => {
      if (this.plan.kind === "echo") conn.write(bytes, 0, len);
      if (this.plan.kind === "pipelined") this.answer(conn);
    });
    const { kind, server } = this.plan;
    if (kind === "after-fin") await this.send(conn, this.down, this.plan);
    if (kind !== "free") {
      if (server.pauseUs > 0) await this.user.sleep(server.pauseUs * MICROSECOND);
      conn.closeWrite();
    }
  }

  /** Answers every request that is complete. */
  private answer(conn: Conn): void {
    const { requestBytes } = this.plan;
    const asked = this.up.length - NAME_BYTES;
    const count = Math.ceil(asked / requestBytes);
    const got = this.server.gotBytes - NAME_BYTES;
    const complete = got === asked ? count : Math.floor(got / requestBytes);
    if (complete <= this.requests) return;
    const at = (n: number): number => (n === count ? this.down.length : Math.floor((n * this.down.length) / count));
    conn.write(this.down, at(this.requests), at(complete) - at(this.requests));
    this.requests = complete;
  }

  private async sendDown(conn: Conn): Promise<void> {
    if (this.plan.kind !== "free") return;
    await this.send(conn, this.down, this.plan);
    conn.closeWrite();
  }

  private async send(conn: Conn, bytes: Uint8Array, plan: TalkPlan): Promise<void> {
    for (let at = 0; at < bytes.length; at += plan.pieceBytes) {
      await conn.writeAll(bytes.subarray(at, at + plan.pieceBytes));
      conn.flush();
      if (plan.gapUs > 0) await this.user.sleep(plan.gapUs * MICROSECOND);
    }
  }

  private async receive(
    conn: Conn,
    end: TalkEnd,
    thirst: Thirst,
    got: (bytes: Uint8Array, len: number) => void,
  ): Promise<void> {
    const into = new Uint8Array(thirst.sipBytes);
    for (let n = await conn.read(into); n > 0; n = await conn.read(into)) {
      end.take(into, n);
      got(into, n);
      if (thirst.pauseUs > 0) await this.user.sleep(thirst.pauseUs * MICROSECOND);
    }
    end.sawEnd = true;
  }
}

/**
 * Waits for both, whatever becomes of the other: a promise that never settles must not be forgotten. Throws what the
 * reader says, if it says anything: the error of a socket is told once, and then a writer hears EPIPE.
 */
async function both(reading: Promise<void>, writing: Promise<void>): Promise<void> {
  for (const result of await Promise.allSettled([reading, writing])) {
    if (result.status === "rejected") throw result.reason;
  }
}

/** Bytes up (without the name) and down. */
function sizesOf(plan: TalkPlan): readonly [number, number] {
  if (plan.kind === "echo") return [plan.upBytes, plan.upBytes];
  if (plan.kind === "pipelined" && plan.upBytes === 0) return [0, 0];
  return [plan.upBytes, plan.downBytes];
}

/** Accepts for ever and hands each connection to the talk it names. Ends when the listener is closed. */
export async function serveTalks(listener: Listener, talks: readonly Talk[]): Promise<void> {
  const lives: Promise<void>[] = [];
  const nameless = new Set<Conn>();
  const serve = async (conn: Conn): Promise<void> => {
    nameless.add(conn);
    const talk = await nameOf(conn, talks);
    nameless.delete(conn);
    if (talk === null) conn.close();
    else await talk.runServer(conn);
  };
  for (;;) {
    let conn: Conn;
    try {
      conn = await listener.accept();
    } catch {
      break;
    }
    lives.push(serve(conn));
  }
  // Clients that gave up before their first bytes arrived.
  for (const conn of nameless) conn.abort();
  await Promise.all(lives);
}

/** Reads the name; null if the connection failed before it was said. */
async function nameOf(conn: Conn, talks: readonly Talk[]): Promise<Talk | null> {
  const name = new Uint8Array(NAME_BYTES);
  try {
    for (let got = 0; got < NAME_BYTES; ) {
      const n = await conn.read(name, got, NAME_BYTES - got);
      if (n === 0) return null;
      got += n;
    }
  } catch {
    return null;
  }
  const talk = talks[((name[0] as number) << 8) | (name[1] as number)];
  if (talk === undefined) throw new Error(`nobody is called ${name.join()}`);
  talk.server.take(name, NAME_BYTES);
  return talk;
}
