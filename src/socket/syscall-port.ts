/**
 * SyscallPort: the boundary between a process and the kernel (law 2), in io_uring's shape.
 *
 * Submissions go in, completions come out; a call that would block completes later. Both directions are rings of
 * fixed-size integer records, so that one implementation serves a process in the kernel's own thread (`inline`: the
 * submission runs as it is made) and one in a thread of its own (`thread`: shared memory and a doorbell).
 *
 * Two calls are *armed* once and complete many times: accept and receive. Armed, the kernel **offers** a queued
 * connection or received bytes without taking them from their queue; the process takes what it was offered when it
 * really runs. A process that is busy therefore leaves its accept queue and Recv-Q to grow, as on Linux, while a
 * process that sleeps needs one crossing per batch instead of a call per read.
 *
 * Frozen in docs/adr/0004.
 */
import type { Address } from "../base/address.ts";

/** Operation codes. Arguments a..d are integers; `→` says what `result` is on success; every failure is -errno. */
export const SysOp = {
  nop: 0,
  /** socket(a = domain, b = type | SOCK_NONBLOCK | SOCK_CLOEXEC, c = protocol) → fd */
  socket: 1,
  /** bind(fd, address, port) → 0 */
  bind: 2,
  /** listen(fd, a = backlog) → 0 */
  listen: 3,
  /**
   * Arms accept on a listener: an offer for each queued connection. Offer: result = the fd it will get, fields below.
   */
  acceptArm: 4,
  /** accept4: takes the offered connection `a` = its offered fd. No completion on success. */
  acceptTake: 5,
  /** Disarms accept on fd (accept paused). Offers not taken are withdrawn: taking them fails with -EAGAIN. → 0 */
  acceptDisarm: 6,
  /**
   * connect(fd, address, port) → 0 when established (`data`, `offset` and both names as for accept), or the reason it
   * failed.
   */
  connect: 7,
  /** Arms receive: an offer for each run of bytes, then result 0 at end of file, or -errno. */
  receiveArm: 8,
  /** read: `a` bytes of the oldest offer are copied out. No completion on success. */
  receiveTake: 9,
  /**
   * write(fd, staging bytes at a, length b, c = MSG_* flags) → bytes accepted (may be fewer), or -EAGAIN when none
   * were.
   */
  send: 10,
  /** Asks for one completion when the send queue has room again (EPOLLOUT) → free bytes. */
  awaitWritable: 11,
  /** shutdown(fd, a = SHUT_*) → 0 */
  shutdown: 12,
  /** close(fd) → 0 */
  close: 13,
  /** setsockopt(fd, a = level, b = name, c = value, d = second value of a struct) → 0 */
  setsockopt: 14,
  /** getsockopt(fd, a = level, b = name) → value */
  getsockopt: 15,
  /** getsockname(fd) → 0, address and port in the completion. */
  getsockname: 16,
  /** getpeername(fd) → 0, address and port in the completion. */
  getpeername: 17,
  /** epoll_create1(a = flags) → fd */
  epollCreate: 18,
  /** epoll_ctl(fd = epfd, a = op, b = fd, c = events, d = data) → 0 */
  epollCtl: 19,
  /** epoll_wait(fd = epfd, a = max events): one completion per ready event: result = events, `data` = its data. */
  epollWait: 20,
  /** sendto(fd, staging a, length b, c = flags, address, port) → bytes */
  sendto: 21,
  /**
   * recvfrom(fd, a = flags): completes when a datagram is there: result = bytes, offered like received bytes, with the
   * sender's address.
   */
  recvfrom: 22,
  /** _exit: closes every fd of the process → 0 */
  exit: 23,
} as const;
export type SysOp = (typeof SysOp)[keyof typeof SysOp];

/** Completion flags. */
export const CompletionFlag = {
  /** The armed operation stays armed: more completions of this token will come. */
  more: 1,
} as const;

/** One completion, read out of the ring into this reused record (*borrowed* until the next `reap`). */
export interface Completion {
  /** The submission's token. */
  token: number;
  /** As the operation says; negative is -errno. */
  result: number;
  flags: number;
  /** The fd the submission named. */
  fd: number;
  /** Accept: connection id. Epoll: the event's data. */
  data: number;
  /** Receive: arena address of the offered bytes. */
  address: number;
  /** Receive: stream offset of the first offered byte. Accept: bytes the send queue can take at once. */
  offset: number;
  /**
   * Accept: arrival of the first SYN. Receive: arrival from the wire of the frame with the first offered byte. In ns, 0
   * = unknown.
   */
  arrivedNs: number;
  /** Accept: entry into the accept queue. Receive: when that byte was in order in the receive queue. */
  queuedNs: number;
  /** Accept, getsockname, getpeername, recvfrom: peer (or asked) address and port; accept also the local one. */
  readonly peerWords: Int32Array;
  peerPort: number;
  readonly localWords: Int32Array;
  localPort: number;
}

/** The process's side of the boundary. Synchronous; a process uses one port from one thread. */
export interface SyscallPort {
  readonly pid: number;
  readonly completion: Completion;
  /**
   * Queues one submission. `token` (> 0) comes back in its completions; token 0 asks for no completion on success.
   * `gid` names the goroutine for the system-call log. False when the submission ring is full: flush and try later.
   */
  submit(op: SysOp, fd: number, token: number, gid: number, a?: number, b?: number, c?: number, d?: number): boolean;
  /** The same with an address and port (bind, connect, sendto). */
  submitWithAddress(
    op: SysOp,
    fd: number,
    token: number,
    gid: number,
    address: Address,
    port: number,
    a?: number,
    b?: number,
    c?: number,
  ): boolean;
  /**
   * Copies `len` bytes into the staging area shared with the kernel (copy_from_user) for a `send` that must be the next
   * submission; returns their offset, or -1 when there is no room until the kernel has consumed earlier ones.
   */
  stage(bytes: Uint8Array, at: number, len: number): number;
  /** copy_to_user: copies `len` offered bytes from kernel pages. */
  copyOut(address: number, len: number, into: Uint8Array, at: number): void;
  /** Rings the kernel's doorbell if anything was submitted since the last flush. One per batch. */
  flush(): void;
  /** Takes the next completion into `completion`; false when there is none. */
  reap(): boolean;
  /**
   * Takes the newest completion into `completion` out of turn if it is the only one of `token`: a kernel in the
   * process's own thread answers a call while it is submitted, and the caller need not be looked up again.
   */
  reapNewest?(token: number): boolean;
  /**
   * The process is going to sleep: what completes from now on wakes it (charged, and stamped `readerWoken`). False if
   * something is there to reap: it stays awake. Optional: without it nobody knows who sleeps.
   */
  prepareSleep?(): boolean;
  /** The process runs again. */
  awake?(): void;
}
