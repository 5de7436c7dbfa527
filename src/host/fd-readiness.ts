/**
 * Tells Node's event loop when a descriptor it does not know is readable, without a thread: for devices of the inline
 * kernel.
 *
 * Node watches sockets, so it is given one that stands for all: a UDP socket, adopted by `dgram` and then replaced
 * (dup3) by an epoll(7) instance before the loop first looks at it. When a device is readable the epoll is; libuv tries
 * recvmsg on it, gets ENOTSOCK, and says so: one `error` event per turn of the loop, for as long as frames wait
 * (level-triggered: nothing to re-arm, so no wake-up to lose between a last look and a re-arming).
 */
import { createSocket, type Socket } from "node:dgram";
import type { PollSource } from "./kernel-machine.ts";
import {
  AF_INET,
  callMemory,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  type Libc,
  libc,
  O_CLOEXEC,
  O_NONBLOCK,
  SOCK_DGRAM,
} from "./libc.ts";

/** struct epoll_event has 12 bytes on x86-64 and 16 elsewhere; the events come first. */
const EPOLL_EVENT_BYTES = 16;

export class FdReadiness {
  private readonly libc: Libc = libc();
  private readonly sources: readonly PollSource[];
  /** The descriptor under which each source is registered; -1: none. */
  private readonly registered: number[];
  private readonly socket: Socket;
  private readonly epollFd: number;
  private readonly event = new Int32Array(callMemory(EPOLL_EVENT_BYTES));
  private readonly eventAt: number;

  /** Calls `onReadable` once per turn of the event loop while any source is readable. */
  constructor(sources: readonly PollSource[], onReadable: () => void) {
    const system = this.libc;
    this.sources = sources;
    this.registered = sources.map(() => -1);
    this.event[0] = EPOLLIN;
    this.eventAt = system.addressOf(this.event);
    const epoll = this.checked("epoll_create1", system.epollCreate(O_CLOEXEC));
    this.epollFd = this.checked("socket", system.socket(AF_INET, SOCK_DGRAM | O_NONBLOCK | O_CLOEXEC, 0));
    this.socket = createSocket("udp4");
    this.socket.on("error", onReadable);
    this.socket.bind({ fd: this.epollFd });
    // Same tick: libuv registers the descriptor when the loop turns next.
    this.checked("dup3", system.dup3(epoll, this.epollFd, O_CLOEXEC));
    system.close(epoll);
    this.refresh();
  }

  /** Sources come and go (a device that is gone has no descriptor any more): to be called at the end of a turn. */
  refresh(): void {
    for (let i = 0; i < this.sources.length; i++) {
      const { fd } = this.sources[i];
      const known = this.registered[i];
      if (fd === known) continue;
      this.registered[i] = fd;
      // A descriptor that was closed meanwhile has left the epoll by itself: nothing to check.
      if (known >= 0) this.libc.epollControl(this.epollFd, EPOLL_CTL_DEL, known, this.eventAt);
      if (fd >= 0) this.checked("epoll_ctl", this.libc.epollControl(this.epollFd, EPOLL_CTL_ADD, fd, this.eventAt));
    }
  }

  close(): void {
    this.socket.close();
  }

  private checked(call: string, result: number): number {
    if (result < 0) throw new Error(`${call} failed with errno ${-result}`);
    return result;
  }
}
