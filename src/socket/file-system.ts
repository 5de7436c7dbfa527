/**
 * FileSystem: the port through which a process opens files. Disk in `host`, memory in `sim`.
 *
 * Synchronous, because the kernel floors are; a host implementation reads with readFileSync-like calls or from a cache.
 */

/** One open regular file. */
export interface OpenFile {
  /** Size in bytes, now. */
  readonly sizeBytes: number;
  /** Reads at most `len` bytes from `position` to `into[at…]`: bytes, 0 at the end, -EIO. The buffer is *borrowed*. */
  read(position: number, into: Uint8Array, at: number, len: number): number;
  close(): void;
}

export interface FileSystem {
  /** Opens `path` for reading, or -ENOENT, -EACCES, -EISDIR, -ENOTDIR, -ELOOP. `flags` are O_*. */
  open(path: string, flags: number): OpenFile | number;
}
