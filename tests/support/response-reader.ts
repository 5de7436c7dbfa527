/**
 * A client's half of HTTP/1.1 for tests: small, strict, and written apart from the server's machine, so that it can
 * prove it wrong.
 */
import type { Conn } from "../../src/runtime/port.ts";

export interface TestResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly fields: ReadonlyMap<string, string>;
  readonly body: Uint8Array;
  /** On the wire, head and framing included. */
  readonly wireBytes: number;
}

/** How a reader takes its bytes: at most `bytes` at a time, `pause()` between two reads. */
export interface Appetite {
  readonly bytes: number;
  pause(): Promise<void>;
}

const EAGER: Appetite = { bytes: 65_536, pause: () => Promise.resolve() };

/** The connection ended in the middle of a response. */
export class TruncatedError extends Error {
  override readonly name = "TruncatedError";
}

export class ResponseReader {
  /** Bytes read so far. */
  readBytes = 0;
  private readonly conn: Conn;
  private readonly appetite: Appetite;
  private readonly scratch: Uint8Array;
  private window = new Uint8Array(0);

  constructor(conn: Conn, appetite: Appetite = EAGER) {
    this.conn = conn;
    this.appetite = appetite;
    this.scratch = new Uint8Array(appetite.bytes);
  }

  /** The answer to a request of that method. Null when the server closed in order before its first byte. */
  async next(method: string): Promise<TestResponse | null> {
    let headEnd = -1;
    while (headEnd < 0) {
      headEnd = find(this.window, "\r\n\r\n");
      if (headEnd >= 0) break;
      if (await this.fill()) continue;
      if (this.window.length === 0) return null;
      throw new TruncatedError(`the head ends after ${this.window.length} bytes`);
    }
    const lines = latin1(this.take(headEnd + 4)).split("\r\n");
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(lines[0] as string)?.[1]);
    const fields = new Map<string, string>();
    for (const line of lines.slice(1)) {
      const colon = line.indexOf(":");
      if (colon > 0) fields.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
    }
    let wireBytes = headEnd + 4;
    let body = new Uint8Array(0);
    if (method !== "HEAD" && status !== 204 && status !== 304) {
      if (fields.get("transfer-encoding") === "chunked") {
        const chunked = await this.chunked();
        body = new Uint8Array(chunked.body);
        wireBytes += chunked.wireBytes;
      } else {
        body = new Uint8Array(await this.exactly(Number(fields.get("content-length"))));
        wireBytes += body.length;
      }
    }
    return { status, fields, body, wireBytes };
  }

  private async chunked(): Promise<{ body: Uint8Array; wireBytes: number }> {
    const parts: Uint8Array[] = [];
    let wireBytes = 0;
    for (;;) {
      const line = await this.line();
      const length = Number.parseInt(line, 16);
      if (!/^[0-9a-f]+$/i.test(line)) throw new Error(`not a chunk length: ${JSON.stringify(line)}`);
      wireBytes += line.length + 2 + length + 2;
      const part = await this.exactly(length);
      if (latin1(await this.exactly(2)) !== "\r\n") throw new Error("a chunk does not end with CRLF");
      if (length === 0) return { body: join(parts), wireBytes };
      parts.push(part.slice());
    }
  }

  private async line(): Promise<string> {
    for (;;) {
      const end = find(this.window, "\r\n");
      if (end >= 0) return latin1(this.take(end + 2)).slice(0, -2);
      if (!(await this.fill())) throw new TruncatedError("the stream ends in a line");
    }
  }

  private async exactly(length: number): Promise<Uint8Array> {
    if (!Number.isInteger(length)) throw new Error("a response without a length");
    const parts: Uint8Array[] = [];
    let missing = length;
    for (;;) {
      const part = this.take(Math.min(missing, this.window.length));
      parts.push(part);
      missing -= part.length;
      if (missing === 0) return parts.length === 1 ? (parts[0] as Uint8Array) : join(parts);
      if (!(await this.fill())) throw new TruncatedError(`${missing} of ${length} bytes of the body are missing`);
    }
  }

  private take(length: number): Uint8Array {
    const taken = this.window.subarray(0, length);
    this.window = this.window.subarray(length);
    return taken;
  }

  private async fill(): Promise<boolean> {
    if (this.readBytes > 0) await this.appetite.pause();
    const n = await this.conn.read(this.scratch);
    if (n === 0) return false;
    this.readBytes += n;
    this.window = join([this.window, this.scratch.subarray(0, n)]);
    return true;
  }
}

export function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function find(bytes: Uint8Array, text: string): number {
  for (let at = 0; at + text.length <= bytes.length; at++) {
    let same = 0;
    while (same < text.length && bytes[at + same] === text.charCodeAt(same)) same++;
    if (same === text.length) return at;
  }
  return -1;
}
