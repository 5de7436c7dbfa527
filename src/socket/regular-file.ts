/**
 * RegularFile: an open file of the host's `FileSystem` behind a descriptor, with its position.
 */
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import type { SocketContext } from "./context.ts";
import { File, type FileKind } from "./file.ts";
import type { OpenFile } from "./file-system.ts";

export class RegularFile extends File {
  override readonly kind: FileKind = "file";
  readonly path: string;
  private readonly open: OpenFile;
  private position = 0;

  constructor(context: SocketContext, path: string, open: OpenFile) {
    super(context, k.O_RDONLY);
    this.path = path;
    this.open = open;
  }

  override get pollable(): boolean {
    return false;
  }

  get sizeBytes(): number {
    return this.open.sizeBytes;
  }

  override read(into: Uint8Array, at: number, len: number): number {
    const result = this.open.read(this.position, into, at, len);
    if (result > 0) this.position += result;
    return result;
  }

  override write(_bytes: Uint8Array, _at: number, _len: number): number {
    return -Errno.EBADF;
  }

  override poll(): number {
    return k.EPOLLIN | k.EPOLLRDNORM;
  }

  override describe(): string {
    return this.path;
  }

  protected override release(): void {
    this.open.close();
  }
}

/** Descriptors 0, 1 and 2: there so that the first socket is 3. */
export class Terminal extends File {
  override readonly kind: FileKind = "tty";

  constructor(context: SocketContext) {
    super(context, k.O_RDWR);
  }

  /** End of file: nobody types. */
  override read(_into: Uint8Array, _at: number, _len: number): number {
    return 0;
  }

  /** Takes everything and shows nothing. */
  override write(_bytes: Uint8Array, _at: number, len: number): number {
    return len;
  }

  override poll(): number {
    return k.EPOLLOUT | k.EPOLLWRNORM;
  }

  override describe(): string {
    return "/dev/pts/0";
  }

  protected override release(): void {}
}
