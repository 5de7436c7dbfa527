/**
 * Files: open file descriptions (Linux struct file), what a descriptor names. Several descriptors may name one (dup).
 *
 * A kind of file says what read, write and poll mean; all are non-blocking and return -errno. Whoever wants to hear of
 * readiness adds an entry to `waiters`.
 */
import type { Address } from "../base/address.ts";
import { ANY_V4 } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { O_NONBLOCK } from "./constants.ts";
import type { SocketContext } from "./context.ts";
import { WaitQueue } from "./wait-queue.ts";

export type FileKind = "tcp" | "udp" | "pipe" | "epoll" | "file" | "tty";

/** An epoll item's hold on the file it watches; released when the last descriptor closes. */
export interface FileWatch {
  /** The next one on the same file. */
  nextWatch: FileWatch | null;
  release(): void;
}

/** A file is its own wait queue: one object less per socket. */
export abstract class File extends WaitQueue {
  abstract readonly kind: FileKind;
  /** Number of this open file, unique on its host (the `12` of `socket:[12]`). */
  readonly inode: number;
  /** File status flags as fcntl(F_GETFL) shows them: access mode and O_NONBLOCK. */
  flags: number;
  /** Epoll items that watch it; mostly one. */
  private firstWatch: FileWatch | null = null;
  declare protected readonly context: SocketContext;
  private references = 0;

  constructor(context: SocketContext, flags: number) {
    super(context);
    this.flags = flags;
    this.inode = context.nextInode();
    context.counts.files++;
  }

  /** Who wants to hear of its readiness. */
  get waiters(): WaitQueue {
    return this;
  }

  /** False for files that are always ready: epoll refuses them with EPERM. */
  get pollable(): boolean {
    return true;
  }

  get nonBlocking(): boolean {
    return (this.flags & O_NONBLOCK) !== 0;
  }

  /** One more descriptor names this file. */
  hold(): void {
    this.references++;
  }

  /** One descriptor less; the last one closes the file (Linux __fput). */
  drop(): void {
    if (--this.references > 0) return;
    for (let watch = this.firstWatch; watch !== null; watch = watch.nextWatch) watch.release();
    this.context.counts.files--;
    this.release();
  }

  /** An epoll item watches it from now on. */
  addWatch(watch: FileWatch): void {
    watch.nextWatch = this.firstWatch;
    this.firstWatch = watch;
  }

  /** … and no longer. */
  removeWatch(watch: FileWatch): void {
    if (this.firstWatch === watch) this.firstWatch = watch.nextWatch;
    for (let before = this.firstWatch; before !== null; before = before.nextWatch) {
      if (before.nextWatch === watch) before.nextWatch = watch.nextWatch;
    }
  }

  /** How many epoll items watch it. */
  get watchCount(): number {
    let count = 0;
    for (let watch = this.firstWatch; watch !== null; watch = watch.nextWatch) count++;
    return count;
  }

  /** Reads at most `len` bytes: bytes, 0 at the end, -EAGAIN. */
  read(_into: Uint8Array, _at: number, _len: number): number {
    return -Errno.EINVAL;
  }

  /** Writes at most `len` bytes: bytes, -EAGAIN. */
  write(_bytes: Uint8Array, _at: number, _len: number): number {
    return -Errno.EINVAL;
  }

  /** Readiness now, as EPOLL* bits. */
  abstract poll(): number;
  /** The last descriptor is gone. */
  protected abstract release(): void;
  /** What /proc/PID/fd shows: `socket:[12]`. */
  abstract describe(): string;
}

/** An address and a port, filled in by calls that return one. */
export class SocketName {
  address: Address = ANY_V4;
  port = 0;

  set(address: Address, port: number): void {
    this.address = address;
    this.port = port;
  }
}

/** A file that is a socket (Linux struct proto_ops). What a kind does not support is EOPNOTSUPP. */
export abstract class Socket extends File {
  /** AF_*. */
  readonly domain: number;
  /** SOCK_STREAM or SOCK_DGRAM. */
  abstract readonly type: number;

  constructor(context: SocketContext, domain: number, flags: number) {
    super(context, flags);
    this.domain = domain;
    context.counts.sockets++;
  }

  abstract bind(address: Address, port: number): number;
  abstract connect(address: Address, port: number): number;
  abstract send(bytes: Uint8Array, at: number, len: number, flags: number, to: Address | null, port: number): number;
  abstract receive(into: Uint8Array, at: number, len: number, flags: number, from: SocketName | null): number;
  abstract shutdown(how: number): number;
  abstract setOption(level: number, name: number, value: number, value2: number): number;
  abstract getOption(level: number, name: number): number;
  abstract localName(out: SocketName): number;
  abstract peerName(out: SocketName): number;

  listen(_backlog: number): number {
    return -Errno.EOPNOTSUPP;
  }

  override read(into: Uint8Array, at: number, len: number): number {
    return this.receive(into, at, len, 0, null);
  }

  override write(bytes: Uint8Array, at: number, len: number): number {
    return this.send(bytes, at, len, 0, null, 0);
  }

  override describe(): string {
    return `socket:[${this.inode}]`;
  }

  protected override release(): void {
    this.context.counts.sockets--;
  }
}
