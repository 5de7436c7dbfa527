/**
 * A file descriptor that carries frames: one read(2) takes one, one write(2) sends one (a TAP, a seqpacket socket).
 *
 * A port, so that a device can be tested without the kernel.
 */
import type { Arena } from "../skb/arena.ts";
import { libc } from "./libc.ts";

export interface FrameFd {
  /** What poll(2) waits on. */
  readonly fd: number;
  /** Takes the next frame into the arena at `at`, at most `len` bytes; its bytes, or -errno. */
  read(at: number, len: number): number;
  /** Sends `len` bytes of the arena as one frame; bytes, or -errno. */
  write(at: number, len: number): number;
  close(): void;
}

/** The descriptor of this process. *Takes* the fd. It must be non-blocking. */
export class HostFrameFd implements FrameFd {
  readonly fd: number;
  private readonly libc = libc();
  /** Where the arena begins. Its memory never moves, and this keeps it alive. */
  private readonly base: number;
  private readonly arena: Arena;

  constructor(fd: number, arena: Arena) {
    this.fd = fd;
    this.arena = arena;
    this.base = this.libc.addressOf(this.arena.bytes);
  }

  read(at: number, len: number): number {
    return this.libc.read(this.fd, this.base + at, len);
  }

  write(at: number, len: number): number {
    return this.libc.write(this.fd, this.base + at, len);
  }

  close(): void {
    this.libc.close(this.fd);
  }
}
