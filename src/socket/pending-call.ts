/**
 * Calls that were submitted once and complete once, when what they wait for has come: connect, awaitWritable,
 * epoll_wait, recvfrom. Each stands in one wait queue as a blocked thread would.
 */
import type { File } from "./file.ts";
import { WaitEntry } from "./wait-queue.ts";

/** Asks whether the call can complete now, and completes it: true. */
export type Attempt = (call: PendingCall) => boolean;

export class PendingCall extends WaitEntry {
  readonly op: number;
  readonly file: File;
  readonly fd: number;
  readonly token: number;
  readonly gid: number;
  private readonly keys: number;
  private readonly attempt: Attempt;

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
    super();
    this.op = op;
    this.file = file;
    this.fd = fd;
    this.token = token;
    this.gid = gid;
    this.keys = keys;
    this.attempt = attempt;
    file.waiters.add(this, exclusive);
  }

  override wake(key: number): boolean {
    return (key === 0 || (key & this.keys) !== 0) && this.attempt(this);
  }

  /** Leaves the wait queue. */
  end(): void {
    this.file.waiters.remove(this);
  }
}
