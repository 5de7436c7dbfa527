/**
 * How the kernel thread sleeps while devices have file descriptors: in ppoll(2), on them and on an eventfd that is its
 * doorbell.
 *
 * No wake-up is lost. A frame: poll(2) is level-triggered, a descriptor with an unread frame ends the sleep whenever
 * the frame came. A ring: either it counted before the mark was made, then `prepareToPoll` sees it; or it sees the mark
 * and writes to the eventfd, which stays readable until it is read. A write that comes late (its ringer was slow, the
 * kernel woke for another reason) ends the next sleep at once, and that is all it does.
 */
import { type Ns, SECOND } from "../base/time.ts";
import type { KernelDoorbell } from "./doorbell.ts";
import type { PollSource } from "./kernel-machine.ts";
import { callMemory, type Libc, libc, O_CLOEXEC, O_NONBLOCK, POLLIN } from "./libc.ts";

/** struct pollfd in 32-bit words: fd, then events and revents as halves. */
const POLLFD_WORDS = 2;
/** struct timespec in 32-bit words; seconds and nanoseconds both fit their low halves. */
const TIMESPEC_WORDS = 4;
/** How long `close` waits for a ringer that has taken the mark and not yet written. */
const LATE_WRITE_NS: Ns = SECOND;

export class FdWait {
  private readonly libc: Libc = libc();
  private readonly doorbell: KernelDoorbell;
  private readonly sources: readonly PollSource[];
  private readonly eventFd: number;
  /** The eventfd first, then the sources. poll(2) ignores negative descriptors. */
  private readonly pollfds: Int32Array;
  private readonly pollfdsAt: number;
  private readonly timespec = new Int32Array(callMemory(4 * TIMESPEC_WORDS));
  private readonly timespecAt: number;
  private readonly count = new Uint8Array(callMemory(8));
  private readonly countAt: number;
  /** Writes to the eventfd that were announced and have not come yet. */
  private owedWrites = 0;

  constructor(doorbell: KernelDoorbell, sources: readonly PollSource[]) {
    this.doorbell = doorbell;
    this.sources = sources;
    this.pollfds = new Int32Array(callMemory(4 * POLLFD_WORDS * (1 + sources.length)));
    this.pollfdsAt = this.libc.addressOf(this.pollfds);
    this.timespecAt = this.libc.addressOf(this.timespec);
    this.countAt = this.libc.addressOf(this.count);
    this.eventFd = this.libc.eventfd(0, O_NONBLOCK | O_CLOEXEC);
    if (this.eventFd < 0) throw new Error(`eventfd failed with errno ${-this.eventFd}`);
  }

  /** Blocks this thread until a device is readable or somebody rings after `seen`, at most `timeoutNs`. */
  wait(seen: number, timeoutNs: Ns): void {
    if (this.doorbell.prepareToPoll(seen, this.eventFd)) {
      this.sources.forEach((source, i) => this.setPollfd(i + 1, source.fd));
      this.poll(timeoutNs, 1 + this.sources.length);
    }
    if (this.doorbell.endPoll()) this.owedWrites++;
  }

  /** Gives the eventfd back; a ringer that is still to write to it must not hit a stranger's descriptor. */
  close(): void {
    if (this.owedWrites > 0) this.poll(LATE_WRITE_NS, 1);
    if (this.owedWrites === 0) this.libc.close(this.eventFd);
  }

  private poll(timeoutNs: Ns, count: number): void {
    const { pollfds, timespec } = this;
    this.setPollfd(0, this.eventFd);
    timespec[0] = Math.floor(timeoutNs / SECOND);
    timespec[2] = timeoutNs % SECOND;
    this.libc.ppoll(this.pollfdsAt, count, this.timespecAt);
    if (pollfds[1] >>> 16 !== 0) this.takeWrites();
  }

  private setPollfd(index: number, fd: number): void {
    this.pollfds[index * POLLFD_WORDS] = fd;
    this.pollfds[index * POLLFD_WORDS + 1] = POLLIN;
  }

  private takeWrites(): void {
    if (this.libc.read(this.eventFd, this.countAt, this.count.length) > 0) this.owedWrites -= this.count[0];
  }
}
