/**
 * The system-call log of one host: the last calls of all its processes, in numbers, bounded.
 *
 * Nothing is formatted until somebody asks. An armed call that finds nothing shows as the call with EAGAIN and a
 * `park`, then `ready`, then the call with its result: what a Go program under strace looks like.
 */
import { Address } from "../base/address.ts";
import { errnoName } from "../base/errno.ts";
import type { Ns } from "../base/time.ts";

/** Calls by number. `park` and `ready` are not system calls but what the runtime's goroutine does around them. */
export const CALL_NAMES = [
  "none",
  "socket",
  "bind",
  "listen",
  "accept4",
  "connect",
  "read",
  "write",
  "sendto",
  "recvfrom",
  "shutdown",
  "close",
  "setsockopt",
  "getsockopt",
  "getsockname",
  "getpeername",
  "fcntl",
  "dup",
  "pipe2",
  "epoll_create1",
  "epoll_ctl",
  "epoll_wait",
  "openat",
  "exit_group",
  "park",
  "ready",
] as const;
export type CallName = (typeof CALL_NAMES)[number];

/** `Call.accept4` is the number under which the log keeps it. */
export const Call = Object.freeze(Object.fromEntries(CALL_NAMES.map((name, i) => [name, i]))) as {
  readonly [N in CallName]: number;
};

/** Words of one record. */
const WORDS = 14;
const At = {
  pid: 0,
  gid: 1,
  call: 2,
  fd: 3,
  a: 4,
  b: 5,
  c: 6,
  result: 7,
  address: 8,
  port: 12,
  hasAddress: 13,
} as const;

/** One call, for `strace --json`. */
export interface SyscallRecord {
  /** Position in the log since the host started; rises by one per call. */
  readonly sequence: number;
  readonly timeNs: Ns;
  readonly pid: number;
  /** Goroutine; 0 = none. */
  readonly gid: number;
  readonly call: CallName;
  readonly fd: number;
  /** Arguments after the fd, as numbers. */
  readonly args: readonly [number, number, number];
  /** n ≥ 0 or -errno. */
  readonly result: number;
  /** errno's name if the call failed. */
  readonly error?: string;
  readonly address?: string;
  readonly port?: number;
}

export class SyscallLog {
  /** Records kept. */
  readonly capacity: number;
  /** Calls logged since the host started. */
  total = 0;
  /** Off: `add` does nothing. */
  enabled = true;
  private readonly words: Int32Array;
  private readonly times: Float64Array;

  constructor(capacity = 4096) {
    this.capacity = capacity;
    this.words = new Int32Array(capacity * WORDS);
    this.times = new Float64Array(capacity);
  }

  /** Logs one call: arguments and result as numbers. */
  add(
    timeNs: Ns,
    pid: number,
    gid: number,
    call: number,
    fd: number,
    a: number,
    b: number,
    c: number,
    result: number,
  ): void {
    if (!this.enabled) return;
    const slot = this.total++ % this.capacity;
    const at = slot * WORDS;
    const words = this.words;
    this.times[slot] = timeNs;
    words[at + At.pid] = pid;
    words[at + At.gid] = gid;
    words[at + At.call] = call;
    words[at + At.fd] = fd;
    words[at + At.a] = a;
    words[at + At.b] = b;
    words[at + At.c] = c;
    words[at + At.result] = result;
    words[at + At.hasAddress] = 0;
  }

  /** Adds the address to the call just logged. */
  addAddress(address: Address, port: number): void {
    if (!this.enabled || this.total === 0) return;
    const at = ((this.total - 1) % this.capacity) * WORDS;
    const words = this.words;
    words[at + At.address] = address.w0;
    words[at + At.address + 1] = address.w1;
    words[at + At.address + 2] = address.w2;
    words[at + At.address + 3] = address.w3;
    words[at + At.port] = port;
    words[at + At.hasAddress] = 1;
  }

  /** The last `limit` calls, oldest first; `after` skips those with a sequence up to it (for `--follow`). */
  records(limit = this.capacity, after = 0): SyscallRecord[] {
    const first = Math.max(this.total - Math.min(limit, this.capacity, this.total), after);
    const rows: SyscallRecord[] = [];
    for (let i = first; i < this.total; i++) rows.push(this.record(i));
    return rows;
  }

  private record(index: number): SyscallRecord {
    const slot = index % this.capacity;
    const at = slot * WORDS;
    const word = (i: number) => this.words[at + i] as number;
    const result = word(At.result);
    const address =
      word(At.hasAddress) === 1
        ? new Address(word(At.address), word(At.address + 1), word(At.address + 2), word(At.address + 3))
        : undefined;
    return {
      sequence: index + 1,
      timeNs: this.times[slot] as number,
      pid: word(At.pid),
      gid: word(At.gid),
      call: CALL_NAMES[word(At.call)] ?? "none",
      fd: word(At.fd),
      args: [word(At.a), word(At.b), word(At.c)],
      result,
      ...(result < 0 ? { error: errnoName(result) } : {}),
      ...(address ? { address: address.toString(), port: word(At.port) } : {}),
    };
  }
}
