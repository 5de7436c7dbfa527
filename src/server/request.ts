/**
 * A request as a handler sees it. Strings are made when they are asked for; the body arrives while it is read.
 *
 * Valid until the handler ends: afterwards what was asked for before stays, the rest is empty.
 */
import type { Ns } from "../base/time.ts";
import type { RequestHead } from "../proto/http1/head.ts";
import { SLASH } from "../proto/http1/tables.ts";
import type { ConnTiming, Endpoint } from "../runtime/port.ts";

/** The peer's fault, met in the middle of a request: answered with `status` unless the handler deals with it. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** What a request needs from the connection it came on. */
export interface RequestSource {
  readonly connection: ConnectionInfo;
  /** Copies body bytes; a number at once when some are here, 0 at the end. Rejects with `RequestError`. */
  readBody(into: Uint8Array): number | Promise<number>;
  /** Waits without, or with, the CPU, and says so in the journey. */
  sleep(durationNs: Ns): Promise<void>;
  burn(durationNs: Ns): Promise<void>;
  serverTiming(): string;
}

/** The connection a request came on. */
export interface ConnectionInfo {
  readonly id: number;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** Requests begun on it, this one included. */
  readonly requests: number;
  readonly timing: Readonly<ConnTiming>;
}

/** Default limit of `readAll`. */
export const READ_ALL_LIMIT_BYTES = 2 ** 20;
const READ_ALL_STEP_BYTES = 16_384;

/** The body, read while it arrives: what is not read stays with the client (back-pressure reaches TCP). */
export class RequestBody {
  /** Length in bytes, or -1 if it is not known before the end (chunked). */
  readonly length: number;
  private source: RequestSource | null;

  constructor(source: RequestSource, length: number) {
    this.source = source;
    this.length = length;
  }

  /** Reads at most `into.length` bytes; 0 at the end. Rejects with `RequestError` 400, 408, 413; 499: client gone. */
  read(into: Uint8Array): Promise<number> {
    if (this.source === null || into.length === 0) return Promise.resolve(0);
    const n = this.source.readBody(into);
    if (typeof n === "number") return Promise.resolve(n);
    // A handler that left without waiting must not take the process down with an unhandled rejection.
    n.catch(() => {});
    return n;
  }

  /** The whole body; rejects with `RequestError` 413 above `limitBytes`. */
  async readAll(limitBytes: number = READ_ALL_LIMIT_BYTES): Promise<Uint8Array> {
    if (this.length > limitBytes) throw new RequestError(413, `body over ${limitBytes} bytes`);
    let bytes = new Uint8Array(Math.min(limitBytes + 1, this.length >= 0 ? this.length + 1 : READ_ALL_STEP_BYTES));
    let length = 0;
    for (;;) {
      if (length === bytes.length) {
        const grown = new Uint8Array(Math.min(limitBytes + 1, 2 * bytes.length));
        grown.set(bytes);
        bytes = grown;
      }
      const n = await this.read(bytes.subarray(length));
      if (n === 0) return bytes.subarray(0, length);
      length += n;
      if (length > limitBytes) throw new RequestError(413, `body over ${limitBytes} bytes`);
    }
  }

  /** The handler is over: reads give nothing any more. */
  release(): void {
    this.source = null;
  }
}

const NO_VALUES: ReadonlyMap<string, string> = new Map();

export class Request {
  /** Unique in the whole server; the id of the journey. */
  readonly id: number;
  readonly body: RequestBody;
  readonly connection: ConnectionInfo;
  /** The client went away: writes do nothing any more. */
  aborted = false;
  /** The pattern the mux matched, or "". */
  pattern = "";
  private head: RequestHead | null;
  private readonly source: RequestSource;
  private values = NO_VALUES;
  private methodText: string | undefined;
  private targetText: string | undefined;

  constructor(id: number, head: RequestHead, source: RequestSource) {
    this.id = id;
    this.head = head;
    this.source = source;
    this.connection = source.connection;
    this.body = new RequestBody(source, head.chunked ? -1 : Math.max(0, head.contentLength));
  }

  get method(): string {
    this.methodText ??= this.head?.method;
    return this.methodText ?? "";
  }

  /** The request target as it was sent. */
  get target(): string {
    this.targetText ??= this.head?.target;
    return this.targetText ?? "";
  }

  /** "HTTP/1.1" or "HTTP/1.0". */
  get proto(): string {
    return this.head?.version ?? "";
  }

  /** Host and port asked for: of the target if it names one (RFC 9112 §3.2.2), else of the Host field. */
  get host(): string {
    const [, authority] = splitTarget(this.target);
    return authority ?? this.head?.host ?? "";
  }

  /** The path as it was sent, percent signs and all. */
  get escapedPath(): string {
    const { target } = this;
    if (target.charCodeAt(0) !== SLASH) return splitTarget(target)[0];
    const mark = target.indexOf("?");
    return mark < 0 ? target : target.slice(0, mark);
  }

  /** The path, percent-decoded as UTF-8 (as it came if it is not well-formed). */
  get path(): string {
    return decodePercent(this.escapedPath);
  }

  /** What follows "?" in the target, as it was sent. */
  get query(): string {
    const mark = this.target.indexOf("?");
    return mark < 0 ? "" : this.target.slice(mark + 1);
  }

  get remote(): Endpoint {
    return this.connection.remote;
  }

  /** The value of a field by name in any case, several joined by ", "; `undefined` if there is none. */
  header(name: string): string | undefined {
    return this.head?.header(name);
  }

  /** Fields in the order they came. */
  *headers(): IterableIterator<[name: string, value: string]> {
    if (this.head !== null) yield* this.head;
  }

  /** What a wildcard of the pattern matched; "" if there is none of that name. */
  pathValue(name: string): string {
    return this.values.get(name) ?? "";
  }

  /** The first value of a query parameter (form-decoded); `undefined` if there is none. */
  queryValue(name: string): string | undefined {
    for (const pair of this.query.split("&")) {
      const equals = pair.indexOf("=");
      const key = equals < 0 ? pair : pair.slice(0, equals);
      if (decodeForm(key) === name) return equals < 0 ? "" : decodeForm(pair.slice(equals + 1));
    }
    return undefined;
  }

  /** Waits without the CPU; the journey calls it `handler` (reason `sleep`). */
  sleep(durationNs: Ns): Promise<void> {
    return this.source.sleep(durationNs);
  }

  /** Holds the process; the journey calls it `process`. */
  burn(durationNs: Ns): Promise<void> {
    return this.source.burn(durationNs);
  }

  /** The stages of this request so far, as the value of a `Server-Timing` field: "parse;dur=0.012, …" (ms). */
  serverTiming(): string {
    return this.head === null ? "" : this.source.serverTiming();
  }

  /** The mux found its route. */
  matched(pattern: string, values: ReadonlyMap<string, string>): void {
    this.pattern = pattern;
    this.values = values;
  }

  /** The handler is over: the head belongs to the next request. */
  release(): void {
    this.head = null;
    this.body.release();
  }
}

/** Path (escaped) and, for an absolute target, authority. */
function splitTarget(target: string): [path: string, authority: string | undefined] {
  let rest = target;
  let authority: string | undefined;
  if (!target.startsWith("/") && target !== "*") {
    const from = target.indexOf("://");
    if (from < 0) return [target, undefined];
    const tail = target.slice(from + 3);
    const end = /[/?]/.exec(tail)?.index ?? tail.length;
    // RFC 9110 §4.2.4: user information is no part of where the request goes.
    authority = tail.slice(0, end).replace(/^.*@/, "");
    rest = tail.slice(end);
    if (!rest.startsWith("/")) rest = `/${rest}`;
  }
  const mark = rest.indexOf("?");
  return [mark < 0 ? rest : rest.slice(0, mark), authority];
}

function decodePercent(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function decodeForm(text: string): string {
  return decodePercent(text.includes("+") ? text.replaceAll("+", " ") : text);
}
