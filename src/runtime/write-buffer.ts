/**
 * Bytes a connection was given to write and the kernel has not taken yet: a chain of pooled chunks, copied into once.
 *
 * A chunk fits what is written or is the next size after the one before: a short answer touches 1 KB, bulk moves in
 * 64 KB pieces. The pool keeps a bounded number of each size.
 */
import { copyBytes } from "../base/copy.ts";

/** Sizes of chunks, smallest first. */
const CHUNK_BYTES = [1024, 8192, 65536] as const;
/** How many idle chunks of each size a process keeps: 1, 2 and 4 MiB. */
const POOL_CHUNKS = [1024, 256, 64] as const;

/** Empty write buffers a process keeps. */
const POOL_BUFFERS = 1024;

/** One chunk; unsent bytes are [start, end). */
export class Chunk {
  readonly bytes: Uint8Array;
  /** Index of its size in CHUNK_BYTES. */
  readonly size: number;
  start = 0;
  end = 0;
  next: Chunk | null = null;

  constructor(size: number) {
    this.size = size;
    this.bytes = new Uint8Array(CHUNK_BYTES[size]);
  }
}

/** The chunks of one process, and the buffers made of them: a connection with nothing to send has neither. */
export class ChunkPool {
  private readonly buffers: WriteBuffer[] = [];
  private readonly idle: readonly Chunk[][] = CHUNK_BYTES.map(() => []);

  /** A chunk for `wanted` bytes (or the largest there is), larger than `after` unless that is the largest. */
  take(wanted: number, after: Chunk | null): Chunk {
    const last = CHUNK_BYTES.length - 1;
    let size = after === null ? 0 : Math.min(after.size + 1, last);
    while (size < last && wanted > CHUNK_BYTES[size]) size++;
    return this.idle[size].pop() ?? new Chunk(size);
  }

  takeBuffer(): WriteBuffer {
    return this.buffers.pop() ?? new WriteBuffer(this);
  }

  /** Takes back a buffer that is empty. */
  giveBuffer(buffer: WriteBuffer): void {
    if (this.buffers.length < POOL_BUFFERS) this.buffers.push(buffer);
  }

  release(chunk: Chunk): void {
    const idle = this.idle[chunk.size];
    chunk.start = chunk.end = 0;
    chunk.next = null;
    if (idle.length < POOL_CHUNKS[chunk.size]) idle.push(chunk);
  }
}

/** First-in-first-out bytes. */
export class WriteBuffer {
  /** Bytes held. */
  length = 0;
  /** The chunk with the oldest bytes, or null. */
  head: Chunk | null = null;
  private tail: Chunk | null = null;
  private readonly pool: ChunkPool;

  constructor(pool: ChunkPool) {
    this.pool = pool;
  }

  /** Appends, copying. */
  append(bytes: Uint8Array, at: number, len: number): void {
    let from = at;
    let left = len;
    while (left > 0) {
      const chunk = this.room(left);
      const n = Math.min(left, chunk.bytes.length - chunk.end);
      copyBytes(bytes, from, chunk.bytes, chunk.end, n);
      chunk.end += n;
      from += n;
      left -= n;
    }
    this.length += len;
  }

  /** Appends text, one byte per character (the low eight bits of its code). */
  appendLatin1(text: string): void {
    let from = 0;
    while (from < text.length) {
      const chunk = this.room(text.length - from);
      const n = Math.min(text.length - from, chunk.bytes.length - chunk.end);
      const bytes = chunk.bytes;
      const base = chunk.end - from;
      for (let i = from; i < from + n; i++) bytes[base + i] = text.charCodeAt(i);
      chunk.end += n;
      from += n;
    }
    this.length += text.length;
  }

  /** Drops the `n` oldest bytes. */
  consume(n: number): void {
    this.length -= n;
    let left = n;
    while (left > 0) {
      const chunk = this.head as Chunk;
      const held = chunk.end - chunk.start;
      if (left < held) {
        chunk.start += left;
        return;
      }
      left -= held;
      this.dropHead(chunk);
    }
  }

  clear(): void {
    while (this.head !== null) this.dropHead(this.head);
    this.length = 0;
  }

  private dropHead(chunk: Chunk): void {
    this.head = chunk.next;
    if (this.head === null) this.tail = null;
    this.pool.release(chunk);
  }

  private room(wanted: number): Chunk {
    const tail = this.tail;
    if (tail !== null && tail.end < tail.bytes.length) return tail;
    const chunk = this.pool.take(wanted, tail);
    if (tail === null) this.head = chunk;
    else tail.next = chunk;
    this.tail = chunk;
    return chunk;
  }
}
