/**
 * Pipes (pipe(7)): 64 KiB of bytes between two files of one host.
 *
 * A byte ring instead of Linux's sixteen pages: all 65,536 bytes can be used whatever the size of the writes. Writes of
 * at most PIPE_BUF bytes are atomic; longer ones may be partial.
 */
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import type { SocketContext } from "./context.ts";
import { File, type FileKind } from "./file.ts";

const READABLE = k.EPOLLIN | k.EPOLLRDNORM;
const WRITABLE = k.EPOLLOUT | k.EPOLLWRNORM;

/** The bytes and the two ends. */
class PipeBuffer {
  readonly bytes = new Uint8Array(k.PIPE_CAPACITY_BYTES);
  head = 0;
  length = 0;
  reader: PipeEnd | null = null;
  writer: PipeEnd | null = null;
}

export class PipeEnd extends File {
  override readonly kind: FileKind = "pipe";
  private readonly pipe: PipeBuffer;
  private readonly isReader: boolean;

  private constructor(context: SocketContext, pipe: PipeBuffer, isReader: boolean, flags: number) {
    super(context, flags | (isReader ? k.O_RDONLY : k.O_WRONLY));
    this.pipe = pipe;
    this.isReader = isReader;
    if (isReader) pipe.reader = this;
    else pipe.writer = this;
  }

  /** The two ends of a new pipe: what reads, what writes. */
  static pair(context: SocketContext, flags: number): readonly [PipeEnd, PipeEnd] {
    const pipe = new PipeBuffer();
    return [new PipeEnd(context, pipe, true, flags), new PipeEnd(context, pipe, false, flags)];
  }

  /** read(2): bytes; 0 when empty and the writer is closed; EAGAIN; EBADF on the writing end. */
  override read(into: Uint8Array, at: number, len: number): number {
    const { pipe } = this;
    if (!this.isReader) return -Errno.EBADF;
    if (len === 0) return 0;
    if (pipe.length === 0) return pipe.writer === null ? 0 : -Errno.EAGAIN;
    const taken = Math.min(len, pipe.length);
    const first = Math.min(taken, pipe.bytes.length - pipe.head);
    into.set(pipe.bytes.subarray(pipe.head, pipe.head + first), at);
    into.set(pipe.bytes.subarray(0, taken - first), at + first);
    pipe.head = (pipe.head + taken) % pipe.bytes.length;
    pipe.length -= taken;
    this.context.counts.pipeBytes -= taken;
    pipe.writer?.waiters.wake(WRITABLE);
    return taken;
  }

  /** write(2): bytes (fewer only above PIPE_BUF); EAGAIN; EPIPE without a reader; EBADF on the reading end. */
  override write(bytes: Uint8Array, at: number, len: number): number {
    const { pipe } = this;
    if (this.isReader) return -Errno.EBADF;
    if (pipe.reader === null) return -Errno.EPIPE;
    const room = pipe.bytes.length - pipe.length;
    if (len === 0) return 0;
    if (room === 0 || (len <= k.PIPE_BUF && room < len)) return -Errno.EAGAIN;
    const taken = Math.min(len, room);
    const tail = (pipe.head + pipe.length) % pipe.bytes.length;
    const first = Math.min(taken, pipe.bytes.length - tail);
    pipe.bytes.set(bytes.subarray(at, at + first), tail);
    pipe.bytes.set(bytes.subarray(at + first, at + taken), 0);
    pipe.length += taken;
    this.context.counts.pipeBytes += taken;
    pipe.reader.waiters.wake(READABLE);
    return taken;
  }

  /** Linux pipe_poll: HUP for a reader without writer, ERR for a writer without reader. Writable: room for PIPE_BUF. */
  override poll(): number {
    const { pipe } = this;
    if (this.isReader) return (pipe.length > 0 ? READABLE : 0) | (pipe.writer === null ? k.EPOLLHUP : 0);
    const room = pipe.bytes.length - pipe.length >= k.PIPE_BUF;
    return (room ? WRITABLE : 0) | (pipe.reader === null ? k.EPOLLERR : 0);
  }

  override describe(): string {
    return `pipe:[${this.inode}]`;
  }

  protected override release(): void {
    const { pipe } = this;
    if (this.isReader) {
      pipe.reader = null;
      this.context.counts.pipeBytes -= pipe.length;
      pipe.length = 0;
      pipe.writer?.waiters.wake(WRITABLE | k.EPOLLERR, Number.MAX_SAFE_INTEGER);
    } else {
      pipe.writer = null;
      pipe.reader?.waiters.wake(READABLE | k.EPOLLHUP, Number.MAX_SAFE_INTEGER);
    }
  }
}
