/**
 * The HTTP/1.1 response machine: decides how a response is framed (RFC 9112 §6) and writes its head.
 *
 * It makes heads and counts body bytes; the server sends both. It has no clock (the Date text is given) and never lets
 * through what would make the peer see another message: see `Headers` for the characters.
 */
import { type Headers, LocalProtocolError } from "./headers.ts";
import { statusText } from "./status-text.ts";
import { latin1Bytes } from "./text.ts";
import type { TextBuffer } from "./text-buffer.ts";

/** How the peer knows where the body ends. */
export const Framing = {
  /** No body bytes follow the head (HEAD, 204, 304). */
  none: 0,
  /** Content-Length. */
  length: 1,
  chunked: 2,
  /** The end of the connection: HTTP/1.0 with unknown length. */
  close: 3,
} as const;
export type Framing = (typeof Framing)[keyof typeof Framing];

/** What closes every chunked body (no trailers). */
export const LAST_CHUNK = "0\r\n\r\n";

/** What nearly every head has, as bytes. */
const STATUS_200 = latin1Bytes("HTTP/1.1 200 OK\r\n");
const CONTENT_LENGTH = latin1Bytes("Content-Length: ");
const COLON = latin1Bytes(": ");
const CRLF = latin1Bytes("\r\n");

export class ResponseEncoder {
  framing: Framing = Framing.none;
  /** The connection carries a request after this response. */
  keepAlive = false;
  /** Body bytes the handler made, sent or not (HEAD). */
  bodyBytes = 0;
  /** What Content-Length promised, or -1. */
  contentLength = -1;
  /** The head is made. */
  started = false;

  private headRequest = false;
  private minorVersion = 1;

  /** Begins a response to a request. `keepAlive`: the request and the server allow another one. */
  begin(headRequest: boolean, minorVersion: number, keepAlive: boolean): void {
    this.headRequest = headRequest;
    this.minorVersion = minorVersion;
    this.keepAlive = keepAlive;
    this.framing = Framing.none;
    this.bodyBytes = 0;
    this.contentLength = -1;
    this.started = false;
  }

  /** An interim response without fields (100 Continue, 102, 103): RFC 9110 §15.2. */
  interim(status: number): string {
    if (status < 100 || status > 199 || status === 101)
      throw new LocalProtocolError(`${status} is not an interim status`);
    return `HTTP/1.1 ${status} ${statusText(status)}\r\n\r\n`;
  }

  /**
   * Begins the final head in `out`: status line; complete field lines of the server (Date, Server-Timing) may follow,
   * then `endHead`. Throws `LocalProtocolError`.
   */
  beginHead(out: TextBuffer, status: number): void {
    if (this.started) throw new LocalProtocolError("the response head was sent before");
    if (!Number.isInteger(status) || status < 200 || status > 999)
      throw new LocalProtocolError(`invalid final status ${status}`);
    out.clear();
    if (status === 200) out.addBytes(STATUS_200);
    else out.add("HTTP/1.1 ").addNumber(status).add(" ").add(statusText(status)).add("\r\n");
  }

  /**
   * The fields, the framing and the end of the head. `bodyLength`: all body bytes if they are known, else -1. Throws
   * `LocalProtocolError`: then `out` holds no head.
   */
  endHead(out: TextBuffer, status: number, headers: Headers, bodyLength: number): void {
    let declared = -1;
    for (let i = 0; i < headers.count; i++) {
      const name = headers.nameAt(i);
      const value = headers.valueAt(i);
      if (name.length === 10 && name.toLowerCase() === "connection") {
        if (hasClose(value)) this.keepAlive = false;
        else addField(out, name, value);
      } else if (name.length === 14 && name.toLowerCase() === "content-length") {
        declared = declaredLength(value, declared);
      } else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") {
        throw new LocalProtocolError("Transfer-Encoding is decided by the server");
      } else {
        addField(out, name, value);
      }
    }
    this.frame(out, status, declared >= 0 ? declared : bodyLength);
    if (!this.keepAlive) out.add("Connection: close\r\n");
    else if (this.minorVersion === 0) out.add("Connection: keep-alive\r\n");
    out.addBytes(CRLF);
    this.started = true;
  }

  /** Counts body bytes the handler made; false if they must not be sent (HEAD). Throws past the declared length. */
  take(length: number): boolean {
    this.bodyBytes += length;
    if (this.framing === Framing.none) {
      if (this.headRequest || length === 0) return false;
      throw new LocalProtocolError("this status has no body");
    }
    if (this.framing === Framing.length && this.bodyBytes > this.contentLength) {
      throw new LocalProtocolError(`body longer than its Content-Length of ${this.contentLength}`);
    }
    return length > 0;
  }

  /** True if a declared length was not reached: the connection can only be given up. */
  get short(): boolean {
    return this.framing === Framing.length && this.bodyBytes < this.contentLength;
  }

  private frame(out: TextBuffer, status: number, length: number): void {
    this.contentLength = length;
    this.framing = Framing.none;
    // RFC 9110 §8.6: no Content-Length in 204; RFC 9110 §15.4.5: 304 may repeat what a 200 would have had.
    if (status === 204) return;
    if (status === 304 || this.headRequest) {
      if (length > 0 || (length === 0 && status !== 304)) addLength(out, length);
    } else if (length >= 0) {
      this.framing = Framing.length;
      addLength(out, length);
    } else if (this.minorVersion > 0) {
      this.framing = Framing.chunked;
      out.add("Transfer-Encoding: chunked\r\n");
    } else {
      this.framing = Framing.close;
      this.keepAlive = false;
    }
  }
}

function addField(out: TextBuffer, name: string, value: string): void {
  out.add(name).addBytes(COLON).add(value).addBytes(CRLF);
}

function addLength(out: TextBuffer, length: number): void {
  out.addBytes(CONTENT_LENGTH).addNumber(length).addBytes(CRLF);
}

/** The chunk-size line before `length` data bytes. */
export function chunkHead(length: number): string {
  return `${length.toString(16)}\r\n`;
}

function hasClose(value: string): boolean {
  return value.split(",").some((token) => token.trim().toLowerCase() === "close");
}

function declaredLength(value: string, before: number): number {
  const length = Number(value);
  if (!/^[0-9]+$/.test(value) || !Number.isSafeInteger(length) || (before >= 0 && before !== length)) {
    throw new LocalProtocolError(`invalid Content-Length ${JSON.stringify(value)}`);
  }
  return length;
}
