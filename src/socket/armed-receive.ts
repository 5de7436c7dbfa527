/**
 * A receive that is armed once and offers every run of bytes.
 *
 * Offered bytes stay in the receive queue — they count in Recv-Q and against the window — until the process takes them.
 */
import { Errno } from "../base/errno.ts";
import { Point } from "../base/tracepoints.ts";
import type { ReceivedRun } from "../transport/port.ts";
import type { CompletionQueue, Stallable } from "./completion-queue.ts";
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP } from "./constants.ts";
import type { InetStream } from "./inet-stream.ts";
import type { Process } from "./process.ts";
import { Call } from "./strace.ts";
import { CompletionFlag } from "./syscall-port.ts";
import { WaitEntry } from "./wait-queue.ts";

/** Runs and bytes offered and not yet taken, at most, per connection. */
export const MAX_RECEIVE_RUNS = 16;
export const MAX_RECEIVE_BYTES = 512 * 1024;
/** Free records of offered runs a process keeps. */
const IDLE_RUNS = 1024;

const NOTHING = new Uint8Array(1);
const KEYS = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

/** The runs offered and not taken of one connection. */
class OfferedRuns {
  bytes = 0;
  count = 0;
  /** What is left of the oldest run; lengths of those behind it, oldest first. */
  private firstBytes = 0;
  private later: number[] | null = null;

  push(length: number): void {
    this.bytes += length;
    if (this.count++ === 0) {
      this.firstBytes = length;
      return;
    }
    this.later ??= [];
    this.later.push(length);
  }

  /** Takes the oldest `bytes`. */
  take(bytes: number): void {
    this.bytes -= bytes;
    let left = bytes;
    while (left > 0 && left >= this.firstBytes) {
      left -= this.firstBytes;
      this.firstBytes = this.later?.shift() ?? 0;
      this.count--;
    }
    this.firstBytes -= left;
  }
}

/** What the armed receives of one process share: a connection of which nothing is offered has no `OfferedRuns`. */
export class ReceiveContext {
  readonly process: Process;
  readonly completions: CompletionQueue;
  /** The reused record of `receivePeek`. */
  readonly run: ReceivedRun = { address: 0, len: 0, offset: 0, arrivedNs: 0, queuedNs: 0 };
  private readonly idleRuns: OfferedRuns[] = [];

  constructor(process: Process, completions: CompletionQueue) {
    this.process = process;
    this.completions = completions;
  }

  takeRuns(): OfferedRuns {
    return this.idleRuns.pop() ?? new OfferedRuns();
  }

  /** Takes back what is empty. */
  giveRuns(runs: OfferedRuns): void {
    if (this.idleRuns.length < IDLE_RUNS) this.idleRuns.push(runs);
  }
}

export class ArmedReceive extends WaitEntry implements Stallable {
  private readonly context: ReceiveContext;
  private readonly stream: InetStream;
  private readonly fd: number;
  private token = 0;
  private gid = 0;
  /** What is offered; null if nothing is. */
  private runs: OfferedRuns | null = null;
  private parked = false;
  /** The end of the stream was posted. */
  private atEnd = false;

  constructor(context: ReceiveContext, stream: InetStream, fd: number) {
    super();
    this.context = context;
    this.stream = stream;
    this.fd = fd;
  }

  /** Armed: it stands in the wait queue. */
  private get armed(): boolean {
    return this.queued;
  }

  private get offeredBytes(): number {
    return this.runs === null ? 0 : this.runs.bytes;
  }

  /** Arms; -EALREADY if it is. */
  arm(token: number, gid: number): number {
    if (this.armed) return -Errno.EALREADY;
    this.token = token;
    this.gid = gid;
    this.stream.waiters.add(this);
    this.pump();
    return 0;
  }

  override wake(key: number): boolean {
    return (key === 0 || (key & KEYS) !== 0) && this.pump();
  }

  /** Offers what can be offered, then the end; true if anything was posted. */
  pump(): boolean {
    const { completions, process, run } = this.context;
    const { tcp } = process.context;
    let posted = false;
    while (this.armed && this.mayOffer) {
      if (!tcp.receivePeek(this.stream.tcb, this.offeredBytes, run)) {
        if (this.finish()) return true;
        break;
      }
      if (!completions.hasRoom && completions.stall(this)) break;
      this.offer();
      posted = true;
    }
    if (!this.parked && this.runs === null && this.armed) this.park();
    return posted;
  }

  private get mayOffer(): boolean {
    const { runs } = this;
    return runs === null || (runs.count < MAX_RECEIVE_RUNS && runs.bytes < MAX_RECEIVE_BYTES);
  }

  /** read: takes `bytes` of the oldest offers. 0, or -EINVAL if less was offered. */
  take(bytes: number, gid: number): number {
    if (bytes < 0 || bytes > this.offeredBytes) return -Errno.EINVAL;
    const { process } = this.context;
    this.gid = gid;
    if (this.runs !== null) {
      this.runs.take(bytes);
      if (this.runs.count === 0) this.dropRuns(this.runs);
    }
    process.context.tcp.receiveTake(this.stream.tcb, bytes);
    process.leave(Call.read, this.fd, bytes, 0, 0, bytes);
    this.readEnd();
    this.pump();
    return 0;
  }

  private dropRuns(runs: OfferedRuns): void {
    this.runs = null;
    this.context.giveRuns(runs);
  }

  /** Leaves the wait queue. What was offered may still be taken. */
  disarm(): void {
    this.stream.waiters.remove(this);
    this.context.completions.unstall(this);
  }

  private offer(): void {
    const { stream } = this;
    const { run, completions, process } = this.context;
    const { trace } = process.context.env;
    const { connId } = stream.tcb;
    const len = Math.min(run.len, MAX_RECEIVE_BYTES - this.offeredBytes);
    this.runs ??= this.context.takeRuns();
    this.runs.push(len);
    if (this.parked) {
      this.parked = false;
      this.log(Call.ready, 0);
    }
    if ((connId & trace.mask) === 0 && completions.isProcessAsleep) {
      trace.stamp(Point.readerWoken, connId, process.pid, 0);
    }
    completions.begin(this.token, len, CompletionFlag.more, this.fd);
    completions.setData(connId);
    completions.setBytes(run.address, run.offset);
    completions.setTimes(run.arrivedNs, run.queuedNs);
    completions.publish();
  }

  /** All bytes are offered: posts the end of the stream or the error, if it has come; true if it did. */
  private finish(): boolean {
    const end = this.stream.endBehind(this.offeredBytes);
    if (end === -Errno.EAGAIN) return false;
    if (end === 0) this.atEnd = true;
    this.readEnd();
    if (this.parked) {
      this.parked = false;
      this.log(Call.ready, 0);
    }
    this.log(Call.read, end);
    this.disarm();
    const { completions } = this.context;
    completions.begin(this.token, end, 0, this.fd);
    completions.setData(this.stream.tcb.connId);
    completions.publish();
    return true;
  }

  /** The reader has taken all bytes and been told of the end: as far as read(2) would have got. */
  private readEnd(): void {
    if (!this.atEnd || this.offeredBytes > 0) return;
    this.context.process.context.tcp.receive(this.stream.tcb, NOTHING, 0, 1, 0);
  }

  private park(): void {
    this.parked = true;
    this.log(Call.read, -Errno.EAGAIN);
    this.log(Call.park, 0);
  }

  private log(call: number, result: number): void {
    this.context.process.logAs(this.gid, call, this.fd, 0, 0, 0, result);
  }
}
