/**
 * The server's side of a connection under hostile streams, over a runtime in memory. Whatever comes: nothing throws but
 * what a handler throws, every answer can be read by a client that was written apart from the encoder, there are never
 * more answers than heads, and when the client is gone nothing of the connection is left.
 */
import { SECOND } from "../../../src/base/time.ts";
import type { Handler } from "../../../src/server/mux.ts";
import { listenAndServe } from "../../../src/server/server.ts";
import { type FakeConn, FakeRuntime } from "../../../src/server/server-testing.ts";
import type { FuzzTarget } from "../engine.ts";
import type { Exact } from "../input.ts";
import { HTTP_SEEDS, mutateRequest, tellRequests } from "./http.ts";

const PORT = 3000;
const LIMITS = { requestLineBytes: 300, headBytes: 500, fields: 20, bodyBytes: 200 };

/** Reads the body and sends it back; what the target asks for is done to it on the way. */
const handler: Handler = async (w, r) => {
  if (r.target.startsWith("/x")) return void w.write("without the body\n");
  if (r.target.startsWith("/2")) throw new Error("a handler's mistake");
  const block = new Uint8Array(16);
  for (let n = await r.body.read(block); n > 0; n = await r.body.read(block)) await w.write(block.subarray(0, n));
  if (r.target.startsWith("/a")) w.flush();
  await w.write("end\n");
};

interface Answers {
  /** Status of each, 100 included. */
  readonly statuses: number[];
  /** The last one is whole. */
  readonly isWhole: boolean;
}

/** Reads answers as a client does that knows which method it asked; the connection is over. */
function readAnswers(text: string, methodOf: (index: number) => string): Answers {
  const statuses: number[] = [];
  let answered = 0;
  for (let at = 0; at < text.length; ) {
    const headEnd = text.indexOf("\r\n\r\n", at);
    if (headEnd < 0) return { statuses, isWhole: false };
    const [line, ...fields] = text.slice(at, headEnd).split("\r\n");
    const status = Number(/^HTTP\/1\.1 ([1-5][0-9][0-9]) [ -~]*$/.exec(line)?.[1] ?? 0);
    if (status === 0) throw new Error(`not a status line: ${JSON.stringify(line)}`);
    for (const field of fields)
      if (!/^[!-9;-~]+: [\t -~\x80-\xff]*$/.test(field)) throw new Error(`not a field: ${JSON.stringify(field)}`);
    const lengths = fields.filter((field) => /^content-length:/i.test(field));
    const isChunked = fields.some((field) => /^transfer-encoding: chunked$/i.test(field));
    if (lengths.length + (isChunked ? 1 : 0) > 1) throw new Error(`answered with two framings: ${fields}`);
    statuses.push(status);
    at = headEnd + 4;
    if (status < 200) continue;
    const hasBody = methodOf(answered++) !== "HEAD" && status !== 204 && status !== 304;
    if (!hasBody) continue;
    const end = isChunked ? chunksEnd(text, at) : lengths.length > 0 ? at + Number(lengths[0].slice(15)) : text.length;
    if (end < 0 || end > text.length) return { statuses, isWhole: false };
    at = end;
  }
  return { statuses, isWhole: true };
}

/** Where a chunked body ends, or -1. */
function chunksEnd(text: string, from: number): number {
  for (let at = from; ; ) {
    const line = /^([0-9a-f]+)\r\n/i.exec(text.slice(at, at + 20));
    if (line === null) return -1;
    const len = Number.parseInt(line[1], 16);
    at += line[0].length + len;
    if (text.slice(at, at + 2) !== "\r\n") return -1;
    at += 2;
    if (len === 0) return at;
  }
}

/** One input. It gets a runtime of its own: the one in memory remembers every connection it ever had. */
class ServeRun {
  private readonly runtime = new FakeRuntime();
  private text = "";

  async run(input: Exact): Promise<number> {
    const { bytes, at, end } = input;
    const { runtime } = this;
    const server = await listenAndServe(runtime, `:${PORT}`, handler, { serverTiming: false, limits: LIMITS });
    await runtime.settle();
    const resting = runtime.goroutines().length;
    const conn = runtime.network.connect(PORT);
    // In three pieces, so that heads and bodies are cut and handlers wait.
    const third = Math.ceil((end - at) / 3);
    for (let from = at; from < end; from += third) {
      conn.send(bytes.slice(from, Math.min(end, from + third)));
      await this.settle(conn);
    }
    const isReset = (bytes[end - 1] & 3) === 0;
    if (isReset) conn.reset();
    else conn.end();
    await this.settle(conn);
    await runtime.advance(120 * SECOND);
    await this.settle(conn);
    if (runtime.goroutines().length !== resting) throw new Error("a goroutine outlives its connection");
    const { serverEnd } = conn;
    if (serverEnd !== "closed" && serverEnd !== "reset") throw new Error(`the server's end is ${serverEnd}`);
    const { messages } = tellRequests(input, LIMITS);
    const answers = readAnswers(this.text, (index) => messages[index]?.method ?? "GET");
    const final = answers.statuses.filter((status) => status >= 200).length;
    const heads = server.stats.requests + server.stats.refused;
    if (final > heads) throw new Error(`${final} answers to ${heads} requests`);
    if (!answers.isWhole && !isReset && serverEnd !== "reset") throw new Error("an answer was cut short in order");
    server.close();
    return answers.statuses.reduce((hash, status) => (hash * 31 + status) | 0, serverEnd.length + (isReset ? 64 : 0));
  }

  private async settle(conn: FakeConn): Promise<void> {
    await this.runtime.settle();
    this.text += conn.receiveText();
  }
}

export const SERVE_CONN: FuzzTarget = {
  name: "serve-conn",
  maxBytes: 900,
  seeds: () => HTTP_SEEDS,
  mutate: mutateRequest,
  run: (input) => (input.len === 0 ? 0 : new ServeRun().run(input)),
};
