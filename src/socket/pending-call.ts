/**
 * Calls that were submitted once and complete once, when what they wait for has come: connect, awaitWritable,
 * epoll_wait, recvfrom. Each stands in one wait queue as a blocked thread would.
 */
import type { File } from "./file.ts";
import { WaitEntry } from "./wait-queue.ts";

/** Asks whether the call can complete now, and completes it: true. */
export type Attempt = (call: PendingCall) => boolean;

export class PendingCall {
  readonly op: number;
  readonly file: File;
  readonly fd: number;
  readonly token: number;
  readonly gid: number;
  private readonly entry: WaitEntry;

  /** `keys` are the EPOLL* bits that are worth another attempt. */
  constructor(
    op: number,
    file: File,
    fd: number,
    token: number,
    gid: number,
    keys: number,
    attempt: Attempt,
    exclusive: boolean,
  ) {
    this.op = op;
    this.file = file;
    this.fd = fd;
    this.token = token;
    this.gid = gid;
    this.entry = new WaitEntry((key) => (key === 0 || (key & keys) !== 0) && attempt(this));
    file.waiters.add(this.entry, exclusive);
  }

  /** Leaves the wait queue. */
  end(): void {
    this.file.waiters.remove(this.entry);
  }
}
