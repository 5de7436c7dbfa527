/**
 * MemoryFiles: the files of a host that has no disk (simulation, browser, tests). Absolute paths, no links.
 */
import { Errno } from "../base/errno.ts";
import type { FileSystem, OpenFile } from "../socket/file-system.ts";

export class MemoryFiles implements FileSystem {
  private readonly files = new Map<string, Uint8Array>();

  /** Puts (or replaces) a file. A file that is open keeps the bytes it was opened with, as an unlinked one does. */
  set(path: string, bytes: Uint8Array): void {
    this.files.set(path, bytes);
  }

  open(path: string, _flags: number): OpenFile | number {
    const bytes = this.files.get(path);
    if (bytes !== undefined) return openBytes(bytes);
    for (const other of this.files.keys()) {
      if (path === "/" || other.startsWith(`${path}/`)) return -Errno.EISDIR;
      if (path.startsWith(`${other}/`)) return -Errno.ENOTDIR;
    }
    return -Errno.ENOENT;
  }
}

function openBytes(bytes: Uint8Array): OpenFile {
  return {
    sizeBytes: bytes.length,
    read(position, into, at, len) {
      const end = Math.min(bytes.length, position + len);
      if (end <= position) return 0;
      into.set(bytes.subarray(position, end), at);
      return end - position;
    },
    close() {},
  };
}
