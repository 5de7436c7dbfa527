/**
 * DiskFiles: the host's disk as the file system of a simulated host, read only, below one directory.
 */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import { resolve, sep } from "node:path";
import { Errno, type ErrnoName } from "../base/errno.ts";
import type { FileSystem, OpenFile } from "../socket/file-system.ts";

export class DiskFiles implements FileSystem {
  private readonly root: string;

  /** Paths are taken below `root` ("/" of the simulated host); nothing outside of it is reached, by links neither. */
  constructor(root: string) {
    this.root = realpathSync(root);
  }

  open(path: string, _flags: number): OpenFile | number {
    try {
      const real = realpathSync(resolve(this.root, `.${sep}${path}`));
      if (real !== this.root && !real.startsWith(this.root + sep)) return -Errno.EACCES;
      const fd = openSync(real, "r");
      const stat = fstatSync(fd);
      if (stat.isFile()) return openFd(fd, stat.size);
      closeSync(fd);
      return stat.isDirectory() ? -Errno.EISDIR : -Errno.EACCES;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code as ErrnoName;
      return -(Errno[code] ?? Errno.EIO);
    }
  }
}

function openFd(fd: number, sizeBytes: number): OpenFile {
  return {
    sizeBytes,
    read(position, into, at, len) {
      try {
        return readSync(fd, into, at, len, position);
      } catch {
        return -Errno.EIO;
      }
    },
    close: () => closeSync(fd),
  };
}
