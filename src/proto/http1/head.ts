/** The head of one request: request line, fields, and the framing decided from them. One record per parser, reused. */
import { FieldBlock } from "./field-block.ts";
import { latin1 } from "./text.ts";

/** Methods made without a new string. */
const METHODS: readonly string[] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];

export class RequestHead extends FieldBlock {
  /** Stream offset of its first byte. */
  offset = 0;
  methodEnd = 0;
  targetAt = 0;
  targetEnd = 0;
  /** The y of HTTP/1.y. */
  minorVersion = 1;
  /** The connection may carry another request after this one. */
  keepAlive = false;
  /** The body is chunked. */
  chunked = false;
  /** Length of the body in bytes, or -1 when no Content-Length was given. */
  contentLength = -1;
  /** The client waits for 100 Continue before it sends the body. */
  expectContinue = false;
  /** Connection: upgrade with an Upgrade field. Nobody has to follow it (RFC 9110 §7.8). */
  upgrade = false;
  /** Index of the Host field, or -1. */
  hostField = -1;

  override clear(): void {
    super.clear();
    this.minorVersion = 1;
    this.keepAlive = false;
    this.chunked = false;
    this.contentLength = -1;
    this.expectContinue = false;
    this.upgrade = false;
    this.hostField = -1;
    this.methodEnd = 0;
    this.targetAt = 0;
    this.targetEnd = 0;
  }

  /** True if the method is exactly `name` (methods are case-sensitive, RFC 9110 §9.1). */
  isMethod(name: string): boolean {
    if (this.methodEnd !== name.length) return false;
    for (let i = 0; i < name.length; i++) {
      if (this.bytes[this.base + i] !== name.charCodeAt(i)) return false;
    }
    return true;
  }

  /** The request method. */
  get method(): string {
    for (const name of METHODS) if (this.isMethod(name)) return name;
    return latin1(this.bytes, this.base, this.base + this.methodEnd);
  }

  /** The request target as it was sent. */
  get target(): string {
    return latin1(this.bytes, this.base + this.targetAt, this.base + this.targetEnd);
  }

  /** "HTTP/1.1" or "HTTP/1.0". */
  get version(): string {
    return this.minorVersion === 0 ? "HTTP/1.0" : "HTTP/1.1";
  }

  /** The Host field's value, or "". */
  get host(): string {
    return this.hostField < 0 ? "" : this.value(this.hostField);
  }

  /** True if a body follows. */
  get hasBody(): boolean {
    return this.chunked || this.contentLength > 0;
  }
}
