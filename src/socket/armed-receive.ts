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

const NOTHING = new Uint8Array(1);
const KEYS = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

export class ArmedReceive implements Stallable {
  readonly stream: InetStream;
  private readonly process: Process;
  private readonly completions: CompletionQueue;
  private readonly fd: number;
  private readonly run: ReceivedRun;
  private token = 0;
  private gid = 0;
  /** Lengths of the runs offered and not taken, oldest at `firstRun`. */
  private readonly runs = new Int32Array(MAX_RECEIVE_RUNS);
  private firstRun = 0;
  private runCount = 0;
  private offeredBytes = 0;
  private armed = false;
  private parked = false;
  /** The end of the stream was posted. */
  private atEnd = false;
  private readonly entry: WaitEntry;

  /** `run` is the server's reused record. */
  constructor(process: Process, completions: CompletionQueue, stream: InetStream, fd: number, run: ReceivedRun) {
    this.process = process;
    this.completions = completions;
    this.stream = stream;
    this.fd = fd;
    this.run = run;
    this.entry = new WaitEntry((key) => (key === 0 || (key & KEYS) !== 0) && this.pump());
  }

  /** Arms; -EALREADY if it is. */
  arm(token: number, gid: number): number {
    if (this.armed) return -Errno.EALREADY;
    this.token = token;
    this.gid = gid;
    this.armed = true;
    this.stream.waiters.add(this.entry);
    this.pump();
    return 0;
  }

  /** Offers what can be offered, then the end; true if anything was posted. */
  pump(): boolean {
    const { tcp } = this.process.context;
    let posted = false;
    while (this.armed && this.runCount < MAX_RECEIVE_RUNS && this.offeredBytes < MAX_RECEIVE_BYTES) {
      if (!tcp.receivePeek(this.stream.tcb, this.offeredBytes, this.run)) {
        if (this.finish()) return true;
        break;
      }
      if (!this.completions.hasRoom && this.completions.stall(this)) break;
      this.offer();
      posted = true;
    }
    if (this.armed && this.runCount === 0 && !this.parked) this.park();
    return posted;
  }

  /** read: takes `bytes` of the oldest offers. 0, or -EINVAL if less was offered. */
  take(bytes: number, gid: number): number {
    if (bytes < 0 || bytes > this.offeredBytes) return -Errno.EINVAL;
    const { process } = this;
    this.gid = gid;
    this.offeredBytes -= bytes;
    for (let left = bytes; left > 0; ) {
      const length = this.runs[this.firstRun] as number;
      const part = Math.min(left, length);
      this.runs[this.firstRun] = length - part;
      left -= part;
      if (part < length) break;
      this.firstRun = (this.firstRun + 1) % MAX_RECEIVE_RUNS;
      this.runCount--;
    }
    process.context.tcp.receiveTake(this.stream.tcb, bytes);
    process.leave(Call.read, this.fd, bytes, 0, 0, bytes);
    this.readEnd();
    this.pump();
    return 0;
  }

  /** Leaves the wait queue. What was offered may still be taken. */
  disarm(): void {
    this.armed = false;
    this.stream.waiters.remove(this.entry);
    this.completions.unstall(this);
  }

  private offer(): void {
    const { run, completions, process, stream } = this;
    const { trace } = process.context.env;
    const { connId } = stream.tcb;
    const len = Math.min(run.len, MAX_RECEIVE_BYTES - this.offeredBytes);
    this.runs[(this.firstRun + this.runCount++) % MAX_RECEIVE_RUNS] = len;
    this.offeredBytes += len;
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
    this.completions.begin(this.token, end, 0, this.fd);
    this.completions.setData(this.stream.tcb.connId);
    this.completions.publish();
    return true;
  }

  /** The reader has taken all bytes and been told of the end: as far as read(2) would have got. */
  private readEnd(): void {
    if (this.atEnd && this.offeredBytes === 0) this.process.context.tcp.receive(this.stream.tcb, NOTHING, 0, 1, 0);
  }

  private park(): void {
    this.parked = true;
    this.log(Call.read, -Errno.EAGAIN);
    this.log(Call.park, 0);
  }

  private log(call: number, result: number): void {
    this.process.logAs(this.gid, call, this.fd, 0, 0, 0, result);
  }
}
