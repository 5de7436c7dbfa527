/**
 * The clients: goroutines in step style that cost as little as a client can, so that the figures are the stack's.
 *
 * A client knows the end of an answer without parsing it: it asked one question at a time, and the last bytes of what
 * has come are the empty line and a body of known length.
 */
import { ANY_V4 as ANY } from "../src/base/address.ts";
import { type Conn, type Goroutine, PARKED } from "../src/runtime/port.ts";
import { ServeMux, serve } from "../src/server/index.ts";
import { SERVER_OPTIONS, type World } from "./world.ts";

export const HTTP_PORT = 80;
export const STREAM_PORT = 9;
export const ECHO_PORT = 7;

const HELLO = "Hello from sojourn\n";
const CR = 13;
const LF = 10;
const READ_BYTES = 65_536;

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const KEEP_ALIVE = ascii("GET /hello HTTP/1.1\r\nHost: server\r\n\r\n");
const ONCE = ascii("GET /hello HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");

/** Work shared by the clients of one round: so many answers in all, then everybody stops. */
class Quota {
  left: number;
  unfinished: number;
  readonly over: Promise<void>;
  private resolve: () => void = () => {};
  private reject: (error: unknown) => void = () => {};

  constructor(units: number, clients: number) {
    this.left = units;
    this.unfinished = clients;
    this.over = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** One client has nothing left to do. */
  leave(): void {
    if (--this.unfinished === 0) this.resolve();
  }

  fail(what: string): void {
    this.reject(new Error(what));
  }
}

/** Serves `GET /hello` as `sojourn serve` does. */
export async function serveHello(world: World): Promise<void> {
  const mux = new ServeMux();
  mux.handle("GET /hello", (w) => {
    w.header().set("Content-Type", "text/plain; charset=utf-8");
    w.write(HELLO);
  });
  const listener = await world.run(world.server.network.listen(ANY, HTTP_PORT));
  serve(world.server, listener, mux, SERVER_OPTIONS);
}

/** Sends back what comes, without a protocol above TCP. */
export async function serveEcho(world: World): Promise<void> {
  const { server } = world;
  const listener = await world.run(server.network.listen(ANY, ECHO_PORT));
  const scratch = new Uint8Array(READ_BYTES);
  const echo = (conn: Conn) => (g: Goroutine) => {
    for (;;) {
      const n = conn.tryRead(g, scratch, 0, scratch.length);
      if (n === PARKED) return;
      if (n <= 0) break;
      conn.write(scratch, 0, n);
    }
    conn.close();
    server.exit(g);
  };
  server.spawn("accept", (g) => {
    for (;;) {
      const conn = listener.tryAccept(g);
      if (conn === null) return;
      if (typeof conn === "number") break;
      server.spawn("echo", echo(conn));
    }
    server.exit(g);
  });
}

/** What a client says, and how it knows that the answer to it is whole. */
export interface Question {
  readonly bytes: Uint8Array;
  isWhole(answer: Uint8Array, len: number): boolean;
}

const GET_HELLO: Question = { bytes: KEEP_ALIVE, isWhole: isWholeAnswer };

/** `len` bytes that are to come back. */
export function echoOf(len: number): Question {
  return { bytes: new Uint8Array(len).fill(0x61), isWhole: (_answer, n) => n === len };
}

/** Opens `count` connections, 64 at a time. */
export function connectMany(world: World, port: number, count: number): Promise<Conn[]> {
  const conns: Conn[] = [];
  const some = async (): Promise<void> => {
    while (conns.length < count) {
      const batch = Math.min(64, count - conns.length);
      conns.push(...(await Promise.all(Array.from({ length: batch }, () => world.dial(port)))));
    }
  };
  return world.run(some()).then(() => conns);
}

/** `total` questions over `conns`, each connection one at a time. Rejects at any failure. */
export function roundTrips(
  world: World,
  conns: readonly Conn[],
  total: number,
  question: Question = GET_HELLO,
): Promise<void> {
  const quota = new Quota(total, conns.length);
  const scratch = new Uint8Array(READ_BYTES);
  for (const conn of conns) {
    world.client.spawn("client", new Asker(world, conn, question, quota, scratch).step);
  }
  return world.run(quota.over);
}

/** Asks again and again on one connection. */
class Asker {
  readonly step: (g: Goroutine) => void;
  private readonly conn: Conn;
  private readonly question: Question;
  private readonly quota: Quota;
  private waits = false;

  constructor(world: World, conn: Conn, question: Question, quota: Quota, scratch: Uint8Array) {
    this.conn = conn;
    this.question = question;
    this.quota = quota;
    this.step = (g) => {
      if (this.turn(g, scratch)) return;
      world.client.exit(g);
      quota.leave();
    };
  }

  /** False when the quota is used up. */
  private turn(g: Goroutine, scratch: Uint8Array): boolean {
    for (;;) {
      if (!this.waits) {
        if (this.quota.left === 0) return false;
        this.quota.left--;
        this.waits = true;
        this.conn.write(this.question.bytes, 0, this.question.bytes.length);
      }
      const n = this.conn.tryRead(g, scratch, 0, scratch.length);
      if (n === PARKED) return true;
      if (n <= 0 || !this.question.isWhole(scratch, n)) {
        this.quota.fail(`a request failed (${n})`);
        return false;
      }
      this.waits = false;
    }
  }
}

/** `total` times connect, one request, close, by `clients` at once. The server closes first and keeps TIME_WAIT. */
export function connectAndClose(world: World, clients: number, total: number): Promise<void> {
  let left = total;
  const one = async (): Promise<void> => {
    const scratch = new Uint8Array(READ_BYTES);
    while (left > 0) {
      left--;
      const conn = await world.dial(HTTP_PORT);
      conn.write(ONCE, 0, ONCE.length);
      conn.flush();
      const n = await conn.read(scratch);
      if (!isWholeAnswer(scratch, n)) throw new Error(`a request failed (${n})`);
      if ((await conn.read(scratch)) !== 0) throw new Error("more than one answer");
      conn.close();
    }
  };
  return world.run(Promise.all(Array.from({ length: clients }, one)).then(() => {}));
}

function isWholeAnswer(bytes: Uint8Array, len: number): boolean {
  const at = len - HELLO.length - 4;
  return at > 0 && bytes[at] === CR && bytes[at + 1] === LF && bytes[at + 2] === CR && bytes[at + 3] === LF;
}

/** One connection whose server reads and throws away: the client's end and a count of what arrived. */
export class Stream {
  private readonly world: World;
  private readonly client: Conn;
  private received = 0;
  private wanted = 0;
  private sent = 0;
  private arrived: () => void = () => {};
  private readonly block = new Uint8Array(READ_BYTES).fill(0x61);
  private sum = 0;

  private constructor(world: World, client: Conn, server: Conn) {
    this.world = world;
    this.client = client;
    const scratch = new Uint8Array(READ_BYTES);
    world.server.spawn("sink", (g) => {
      for (;;) {
        const n = server.tryRead(g, scratch, 0, scratch.length);
        if (n <= 0) {
          if (n !== PARKED) world.server.exit(g);
          return;
        }
        this.received += n;
        this.sum += scratch[n - 1] as number;
        if (this.received >= this.wanted) this.arrived();
      }
    });
  }

  static async open(world: World): Promise<Stream> {
    const listener = await world.run(world.server.network.listen(ANY, STREAM_PORT));
    const [server, client] = await world.run(Promise.all([listener.accept(), world.dial(STREAM_PORT)]));
    return new Stream(world, client, server);
  }

  /** Sends `bytes` more and waits until the server's process has read them all. */
  send(bytes: number): Promise<void> {
    const { world, client, block } = this;
    this.wanted = this.received + bytes;
    this.sent = 0;
    const over = new Promise<void>((resolve) => {
      this.arrived = resolve;
    });
    world.client.spawn("source", (g) => {
      while (this.sent < bytes) {
        const room = client.tryDrain(g, READ_BYTES);
        if (room === PARKED) return;
        if (room < 0) throw new Error(`the stream broke (${room})`);
        const n = Math.min(block.length, bytes - this.sent);
        client.write(block, 0, n);
        this.sent += n;
      }
      world.client.exit(g);
    });
    return world.run(over);
  }
}
