/**
 * A process's descriptor table (Linux struct files_struct): the lowest free number is always the next one.
 */
import { Errno } from "../base/errno.ts";
import { NOFILE_HARD, NOFILE_SOFT } from "./constants.ts";
import type { File } from "./file.ts";

export class FdTable {
  /** RLIMIT_NOFILE, soft: descriptors are below it. */
  private limit = NOFILE_SOFT;
  private readonly files: (File | null)[] = [];
  /** Descriptors promised to a connection that is offered and not yet taken. */
  private readonly reserved = new Set<number>();
  /** No free descriptor is below this one. */
  private lowest = 0;
  private used = 0;

  /** Open descriptors. */
  get size(): number {
    return this.used;
  }

  get softLimit(): number {
    return this.limit;
  }

  /** setrlimit(RLIMIT_NOFILE): 0 or -EINVAL. Descriptors above a lowered limit stay open. */
  setSoftLimit(limit: number): number {
    if (!Number.isInteger(limit) || limit < 0 || limit > NOFILE_HARD) return -Errno.EINVAL;
    this.limit = limit;
    return 0;
  }

  get(fd: number): File | null {
    return this.files[fd] ?? null;
  }

  /** Gives `file` the lowest free descriptor; -EMFILE. */
  add(file: File): number {
    const fd = this.lowestFree();
    if (fd >= 0) this.put(fd, file);
    return fd;
  }

  /** The descriptor `add` would give now, or -EMFILE. */
  lowestFree(): number {
    let fd = this.lowest;
    while (this.files[fd] || this.reserved.has(fd)) fd++;
    this.lowest = fd;
    return fd < this.limit ? fd : -Errno.EMFILE;
  }

  /** Keeps the lowest free descriptor for later (get_unused_fd); -EMFILE. */
  reserve(): number {
    const fd = this.lowestFree();
    if (fd >= 0) this.reserved.add(fd);
    return fd;
  }

  /** Puts a file under a reserved descriptor (fd_install). */
  install(fd: number, file: File): void {
    this.reserved.delete(fd);
    this.put(fd, file);
  }

  /** Gives a reserved descriptor back (put_unused_fd). */
  unreserve(fd: number): void {
    if (this.reserved.delete(fd) && fd < this.lowest) this.lowest = fd;
  }

  /** Frees the descriptor and returns its file, which the caller drops; null if there is none. */
  remove(fd: number): File | null {
    const file = this.files[fd] ?? null;
    if (file === null) return null;
    this.files[fd] = null;
    this.used--;
    if (fd < this.lowest) this.lowest = fd;
    return file;
  }

  /** Open descriptors in ascending order. */
  entries(): { readonly fd: number; readonly file: File }[] {
    return this.files.flatMap((file, fd) => (file ? [{ fd, file }] : []));
  }

  private put(fd: number, file: File): void {
    while (this.files.length < fd) this.files.push(null);
    this.files[fd] = file;
    this.used++;
    file.hold();
  }
}
