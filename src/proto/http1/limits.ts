/** What one request may cost, and the status that says it was too much (contract §4). */
export interface RequestLimits {
  /** Method, target and version, without CRLF. Over → 414. */
  readonly requestLineBytes: number;
  /** Request line and fields, blank line included; the same for a trailer section. Over → 431. */
  readonly headBytes: number;
  /** Field lines; the same for a trailer section. Over → 431. */
  readonly fields: number;
  /** Body after decoding. Over → 413. */
  readonly bodyBytes: number;
}

export const DEFAULT_LIMITS: RequestLimits = {
  requestLineBytes: 8192,
  headBytes: 65_536,
  fields: 100,
  bodyBytes: 2 ** 30,
};

/** Empty lines (CRLF) ignored before a request line: RFC 9112 §2.2 asks for at least one. Over → 400. */
export const EMPTY_LINES_MAX = 8;

/** One chunk-size line with its extensions, in bytes. Over → 400. */
export const CHUNK_LINE_MAX_BYTES = 4096;

/**
 * Framing bytes a chunked body may cost beyond its data: 16 KiB plus twice the data. Without a bound a peer makes a
 * server read gigabytes of extensions for a body of a few bytes. Over → 400.
 */
export const CHUNK_OVERHEAD_BYTES = 16_384;
