/**
 * Our request machine beside llhttp, as Node's http.Server drives it over a connection in memory: what both take they
 * must take alike, and where one refuses alone it must be for a reason of docs/http-strictness.md.
 */
import { createServer, type IncomingMessage, METHODS, type Server, type ServerResponse } from "node:http";
import { Duplex } from "node:stream";
import type { FuzzTarget } from "../engine.ts";
import type { Exact } from "../input.ts";
import { HTTP_SEEDS, type HttpMessage, mutateRequest, outcomeOf, type Story, tellRequests } from "./http.ts";

/** What we refuse and llhttp may let pass: the rows of docs/http-strictness.md, by our words. */
const STRICTER: readonly RegExp[] = [
  /^(no Host|more than one Host|invalid Host)$/,
  /^invalid HTTP version$/,
  /^only HTTP\/1 is spoken here$/,
  /^invalid request target$/,
  /^target \* is for OPTIONS$/,
  /^transfer coding not implemented$/,
  /^Transfer-Encoding in HTTP\/1\.0$/,
  /^(body over the limit|request line too long|too many fields|fields too large)$/,
  /^(too much chunk framing|chunk-size line too long)/,
  /^unknown expectation$/,
  // Lengths are doubles: the last thousand below 2^64 are past it, too.
  /^Content-Length past 2\^64$/,
  /^too many empty lines$/,
  /^Transfer-Encoding does not end in chunked$/,
];

/** Turns of Node's loop after which it has read and delivered everything. */
const TURNS = 5;
/** White space after a value is SP or HTAB (RFC 9112 §5); llhttp takes only SP after a length. */
const TAB_AFTER_LENGTH = /content-length:[ \t]*[0-9]+[ \t]*\t/i;
/** An empty line before a request may be a bare LF or CR to llhttp. */
const LF = 0x0a;
/**
 * Both end a connection after its last message: llhttp calls what follows an error, we never read it. A higher minor
 * version is 1.1 to us (RFC 9112 §2.3).
 */
const MORE_GENEROUS = ["HPE_CLOSED_CONNECTION", "HPE_INVALID_VERSION"];

/** A socket in memory: gives one input and takes whatever is written. */
class MemorySocket extends Duplex {
  constructor(bytes: Uint8Array) {
    super({ allowHalfOpen: true });
    this.push(Buffer.from(bytes));
    this.push(null);
  }

  override _read(): void {}

  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done();
  }

  /** http.Server asks its sockets for these. */
  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }
}

/** What llhttp made of a stream. */
interface Theirs {
  readonly messages: HttpMessage[];
  /** "HPE_…" or "". */
  error: string;
}

class Llhttp {
  private readonly server: Server;
  private theirs: Theirs = { messages: [], error: "" };

  constructor() {
    const take = (request: IncomingMessage, response: ServerResponse): void => this.take(request, response);
    this.server = createServer({ requireHostHeader: false, insecureHTTPParser: false }, take);
    this.server.on("checkContinue", take);
    this.server.on("checkExpectation", take);
    // The socket stays until `read` has seen what came before the error.
    this.server.on("clientError", (error: NodeJS.ErrnoException) => {
      this.theirs.error ||= error.code ?? error.message;
    });
  }

  async read(bytes: Uint8Array): Promise<Theirs> {
    const theirs: Theirs = { messages: [], error: "" };
    this.theirs = theirs;
    const socket = new MemorySocket(bytes);
    socket.on("error", () => {});
    this.server.emit("connection", socket);
    for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    return theirs;
  }

  private take(request: IncomingMessage, response: ServerResponse): void {
    const message = {
      method: request.method ?? "",
      target: request.url ?? "",
      body: "",
      isWhole: false,
      isGenerous: false,
    };
    this.theirs.messages.push(message);
    request.on("data", (chunk: Buffer) => {
      message.body += chunk.toString("latin1");
    });
    request.on("end", () => {
      message.isWhole = request.complete;
      response.end();
    });
    request.on("error", () => {});
  }
}

/** Throws if the two disagree in a way no document explains. */
function compare(ours: Story, theirs: Theirs, bytes: Uint8Array): void {
  for (let i = 0; i < Math.max(ours.messages.length, theirs.messages.length); i++) {
    const mine = ours.messages[i];
    const their = theirs.messages[i];
    // A tunnel ends what can be compared.
    if (mine?.method === "CONNECT" || their?.method === "CONNECT") return;
    if (mine === undefined) {
      if (ours.status === 0 && !ours.isClosed)
        throw new Error(`llhttp sees ${their.method} ${their.target}, we see none`);
      if (ours.status !== 0) checkStricter(ours, bytes);
      return;
    }
    if (their === undefined) return checkTheirError(mine, theirs, bytes);
    if (mine.method !== their.method || mine.target !== their.target) {
      throw new Error(`${mine.method} ${mine.target} to us, ${their.method} ${their.target} to llhttp`);
    }
    if (mine.isWhole && their.isWhole && mine.body !== their.body) {
      throw new Error(`body ${JSON.stringify(mine.body)} to us, ${JSON.stringify(their.body)} to llhttp`);
    }
    if (mine.isWhole && !their.isWhole) return checkTheirError(mine, theirs, bytes);
    if (!mine.isWhole && their.isWhole) return checkStricter(ours, bytes);
    if (!mine.isWhole) return;
  }
}

function checkStricter({ status, reason, refusedAt }: Story, bytes: Uint8Array): void {
  const isEmptyLine = reason === "bare CR" || (reason === "invalid method" && bytes[refusedAt] === LF);
  if (isEmptyLine || STRICTER.some((row) => row.test(reason))) return;
  throw new Error(`we refuse with ${status} "${reason}" what llhttp takes`);
}

/** llhttp stopped before the end of a message that is whole to us. */
function checkTheirError(mine: HttpMessage, theirs: Theirs, bytes: Uint8Array): void {
  const isGenerous = !METHODS.includes(mine.method) || mine.isGenerous;
  if (theirs.error === "HPE_INVALID_CONTENT_LENGTH" && TAB_AFTER_LENGTH.test(Buffer.from(bytes).toString("latin1")))
    return;
  if (isGenerous || !mine.isWhole || MORE_GENEROUS.includes(theirs.error)) return;
  throw new Error(`llhttp says ${theirs.error || "nothing"} to ${mine.method} ${mine.target}, which is whole to us`);
}

export function llhttpTarget(): FuzzTarget {
  const llhttp = new Llhttp();
  return {
    name: "http-llhttp",
    maxBytes: 600,
    seeds: () => HTTP_SEEDS,
    mutate: mutateRequest,
    async run(input: Exact) {
      const bytes = input.bytes.slice(input.at, input.end);
      const ours = tellRequests(input);
      const theirs = await llhttp.read(bytes);
      try {
        compare(ours, theirs, bytes);
      } catch (error) {
        const text = JSON.stringify(Buffer.from(bytes).toString("latin1"));
        throw new Error(`${(error as Error).message}
${text}`);
      }
      return outcomeOf(ours) ^ theirs.error.length;
    },
  };
}
