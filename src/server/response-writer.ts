/**
 * What a handler answers with. Small answers are collected, so that they leave with their length in one piece; a larger
 * one streams. `write` returns a promise only when the connection is full: await it and memory stays bounded.
 */

import { Headers } from "../proto/http1/headers.ts";
import { chunkHead, Framing, LAST_CHUNK, type ResponseEncoder } from "../proto/http1/response-encoder.ts";
import { statusText } from "../proto/http1/status-text.ts";
import type { TextBuffer } from "../proto/http1/text-buffer.ts";
import type { Conn } from "../runtime/port.ts";
import { utf8, utf8Length, writeUtf8 } from "./utf8.ts";

/** Body bytes collected before the head is sent without knowing the length (Go: 2 KiB). */
export const COLLECT_BYTES = 4096;
/** A write that leaves more pending returns a promise, fulfilled when `LOW_WATER_BYTES` or less are. */
export const HIGH_WATER_BYTES = 262_144;
export const LOW_WATER_BYTES = 65_536;
/** A handler that never awaits its writes is stopped here. */
export const PENDING_MAX_BYTES = 64 * 2 ** 20;

/** What a response needs from the connection it leaves on. */
export interface ResponseSink {
  readonly conn: Conn;
  readonly encoder: ResponseEncoder;
  readonly aborted: boolean;
  /** The handler did something: it is running. */
  touch(): void;
  /** The last moment to decide whether the connection stays. */
  beforeHead(): void;
  /** Where a head is put together; used up before anything else runs. */
  readonly headText: TextBuffer;
  /** Appends Date and Server-Timing lines. */
  addOwnFields(out: TextBuffer): void;
  /** The head is made and will be written from stream offset `p0`. */
  headMade(p0: number): void;
  /** Resolves when at most `LOW_WATER_BYTES` are pending or the client is gone. */
  drained(): Promise<void>;
  /** A buffer of `COLLECT_BYTES`, and back. */
  takeBuffer(): Uint8Array;
  giveBuffer(buffer: Uint8Array): void;
}

export class ResponseWriter {
  /** The status that was or will be sent. */
  status = 200;
  private sink: ResponseSink | null;
  private readonly fields = new Headers();
  private isStatusSet = false;
  private buffer: Uint8Array | null = null;
  private buffered = 0;
  private isText = true;

  constructor(sink: ResponseSink) {
    this.sink = sink;
  }

  /** Fields of the head: set them before the first write that sends it. */
  header(): Headers {
    return this.fields;
  }

  /** The head is on its way: status and fields are decided. */
  get headSent(): boolean {
    return this.sink === null || this.sink.encoder.started;
  }

  /**
   * Sets the status (200 by default). 100 to 199 is sent at once, the final one with the head. Only the first final
   * one counts. Throws `RangeError` for what is no status.
   */
  writeHeader(status: number): void {
    const { sink } = this;
    if (!Number.isInteger(status) || status < 100 || status > 999 || status === 101)
      throw new RangeError(`invalid status ${status}`);
    if (sink === null || sink.aborted || sink.encoder.started || this.isStatusSet) return;
    sink.touch();
    if (status < 200) {
      sink.conn.writeLatin1(sink.encoder.interim(status));
      sink.conn.flush();
      return;
    }
    this.status = status;
    this.isStatusSet = true;
  }

  /**
   * Writes body bytes (*borrowed*: copied before it returns) or text as UTF-8. Undefined, or a promise to await before
   * writing more. After the client is gone it does nothing. Throws `LocalProtocolError` for a body the status or the
   * declared length does not allow.
   */
  write(data: Uint8Array | string): void | Promise<void> {
    const { sink } = this;
    if (sink === null || sink.aborted) return;
    sink.touch();
    const isText = typeof data === "string";
    const length = isText ? utf8Length(data) : data.length;
    if (length === 0) return;
    this.isText &&= isText;
    if (!sink.encoder.started) {
      if (this.buffered + length <= COLLECT_BYTES) return this.collect(sink, data);
      this.sendHead(sink, -1);
    }
    this.emit(sink, isText ? utf8(data) : data, length);
    if (sink.conn.pendingBytes <= HIGH_WATER_BYTES) return;
    if (sink.conn.pendingBytes > PENDING_MAX_BYTES)
      throw new Error(`handler writes without awaiting: ${PENDING_MAX_BYTES} bytes pending`);
    return sink.drained();
  }

  /** A whole body at once, so that its length goes ahead of it. As `write`. */
  send(data: Uint8Array | string): void | Promise<void> {
    if (!this.headSent) this.fields.set("Content-Length", typeof data === "string" ? utf8Length(data) : data.length);
    return this.write(data);
  }

  /** Sends what was written so far without waiting for more. */
  flush(): void {
    const { sink } = this;
    if (sink === null || sink.aborted) return;
    sink.touch();
    if (!sink.encoder.started) this.sendHead(sink, -1);
    sink.conn.flush();
  }

  /** A whole plain-text answer: `status` and one line. Fields set before stay, a length or type among them does not. */
  error(status: number, line: string): void {
    if (this.headSent) return;
    this.discard();
    this.fields.delete("Content-Length");
    this.fields.set("Content-Type", "text/plain; charset=utf-8");
    this.fields.set("X-Content-Type-Options", "nosniff");
    this.isStatusSet = false;
    this.writeHeader(status);
    this.write(`${line}\n`);
  }

  /** 3xx to `location`. */
  redirect(location: string, status = 302): void {
    this.fields.set("Location", location);
    this.error(status, `${statusText(status)}: ${location}`);
  }

  /** The handler is over: sends what is left and the end of the body. False if the promised length was not reached. */
  finish(): boolean {
    const { sink } = this;
    if (sink === null) return true;
    const { encoder, conn } = sink;
    if (!encoder.started) this.sendHead(sink, this.buffered);
    if (encoder.framing === Framing.chunked) conn.writeLatin1(LAST_CHUNK);
    return !encoder.short;
  }

  /** Drops what was collected; only before the head. */
  discard(): void {
    this.buffered = 0;
    this.isText = true;
  }

  /** Later writes do nothing. */
  release(): void {
    if (this.buffer !== null) this.sink?.giveBuffer(this.buffer);
    this.buffer = null;
    this.sink = null;
  }

  private collect(sink: ResponseSink, data: Uint8Array | string): void {
    this.buffer ??= sink.takeBuffer();
    if (typeof data === "string") this.buffered = writeUtf8(data, this.buffer, this.buffered);
    else {
      this.buffer.set(data, this.buffered);
      this.buffered += data.length;
    }
  }

  private sendHead(sink: ResponseSink, bodyLength: number): void {
    sink.beforeHead();
    const mayHaveBody = this.status !== 204 && this.status !== 304;
    if (mayHaveBody && (this.buffered > 0 || bodyLength < 0) && !this.fields.has("Content-Type")) {
      this.fields.set("Content-Type", this.isText ? "text/plain; charset=utf-8" : "application/octet-stream");
    }
    const { encoder, headText, conn } = sink;
    encoder.beginHead(headText, this.status);
    sink.addOwnFields(headText);
    encoder.endHead(headText, this.status, this.fields, bodyLength);
    sink.headMade(conn.sentBytes);
    conn.write(headText.bytes, 0, headText.length);
    if (this.buffered > 0) this.emit(sink, this.buffer as Uint8Array, this.buffered);
    this.buffered = 0;
  }

  private emit(sink: ResponseSink, bytes: Uint8Array, length: number): void {
    const { conn, encoder } = sink;
    if (!encoder.take(length)) return;
    if (encoder.framing === Framing.chunked) {
      conn.writeLatin1(chunkHead(length));
      conn.write(bytes, 0, length);
      conn.writeLatin1("\r\n");
    } else conn.write(bytes, 0, length);
  }
}
