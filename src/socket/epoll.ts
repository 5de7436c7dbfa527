/**
 * Epoll (Linux fs/eventpoll.c): one set of watched files and a list of those that may be ready.
 *
 * A watched file's wait queue holds one entry per item; a wake-up puts the item on the ready list, and `wait` asks the
 * file what is true now. Level-triggered items go back to the end of the list after being reported, edge-triggered ones
 * only come back with the next wake-up, one-shot items are disabled until EPOLL_CTL_MOD, exclusive ones use up a
 * wake-up. Nesting (an epoll watched by another) is refused with EINVAL; Linux allows five levels.
 */
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import type { SocketContext } from "./context.ts";
import { File, type FileKind, type FileWatch } from "./file.ts";
import { WaitEntry } from "./wait-queue.ts";

/** Flags that are not events (Linux EP_PRIVATE_BITS). */
const PRIVATE_BITS = k.EPOLLWAKEUP | k.EPOLLONESHOT | k.EPOLLET | k.EPOLLEXCLUSIVE;
/** What may stand beside EPOLLEXCLUSIVE. */
const EXCLUSIVE_OK = k.EPOLLIN | k.EPOLLOUT | k.EPOLLERR | k.EPOLLHUP | k.EPOLLWAKEUP | k.EPOLLET | k.EPOLLEXCLUSIVE;
/** Reported whether asked for or not. */
const ALWAYS = k.EPOLLERR | k.EPOLLHUP;

/** Where `wait` puts events: parallel arrays, the caller's. */
export class EpollEvents {
  readonly events: Int32Array;
  readonly data: Int32Array;

  constructor(capacity: number) {
    this.events = new Int32Array(capacity);
    this.data = new Int32Array(capacity);
  }
}

/** A watched file (Linux struct epitem), standing in the file's wait queue. */
export class EpollItem extends WaitEntry implements FileWatch {
  readonly epoll: EpollFile;
  readonly fd: number;
  events: number;
  data: number;
  /** Stands in the ready list. */
  ready = false;
  /** @internal ready list */
  nextReady: EpollItem | null = null;
  /** @internal ready list */
  prevReady: EpollItem | null = null;
  /** @internal items of the same file */
  nextWatch: FileWatch | null = null;
  /** @internal items of the same descriptor */
  nextOfFd: EpollItem | null = null;

  constructor(epoll: EpollFile, fd: number, events: number, data: number) {
    super();
    this.epoll = epoll;
    this.fd = fd;
    this.events = events;
    this.data = data;
  }

  /** The file; a file is its own wait queue. Not once the item is forgotten. */
  get file(): File {
    return this.queue as File;
  }

  override wake(key: number): boolean {
    return this.epoll.itemWoken(this, key);
  }

  release(): void {
    this.epoll.forget(this);
  }
}

export class EpollFile extends File {
  /**
   * Items by fd. An fd can name another file after close and reopen, so each fd keeps a list (Linux keys by file and
   * fd).
   */
  private readonly items: (EpollItem | null | undefined)[] = [];
  private count = 0;
  private readyHead: EpollItem | null = null;
  private readyTail: EpollItem | null = null;

  constructor(context: SocketContext) {
    super(context, k.O_RDWR);
  }

  override get kind(): FileKind {
    return "epoll";
  }

  /** Watched files. */
  get size(): number {
    return this.count;
  }

  /** epoll_ctl(2) after the descriptors were looked up: EEXIST, ENOENT, EINVAL, EPERM, ENOSPC. */
  control(op: number, fd: number, file: File, events: number, data: number): number {
    if (!file.pollable) return -Errno.EPERM;
    if (file instanceof EpollFile) return -Errno.EINVAL;
    if ((events & k.EPOLLEXCLUSIVE) !== 0 && op !== k.EPOLL_CTL_DEL) {
      if (op === k.EPOLL_CTL_MOD || (events & ~EXCLUSIVE_OK) !== 0) return -Errno.EINVAL;
    }
    const item = this.itemOf(fd, file);
    switch (op) {
      case k.EPOLL_CTL_ADD:
        return item ? -Errno.EEXIST : this.addItem(fd, file, events, data);
      case k.EPOLL_CTL_DEL:
        if (!item) return -Errno.ENOENT;
        this.forget(item);
        file.removeWatch(item);
        return 0;
      case k.EPOLL_CTL_MOD:
        if (!item) return -Errno.ENOENT;
        return (item.events & k.EPOLLEXCLUSIVE) !== 0 ? -Errno.EINVAL : this.modifyItem(item, events, data);
      default:
        return -Errno.EINVAL;
    }
  }

  /**
   * epoll_wait(2) without waiting: fills `out` with at most `maxEvents` ready events and returns how many
   * (ep_send_events).
   */
  wait(out: EpollEvents, maxEvents: number): number {
    const last = this.readyTail;
    let filled = 0;
    while (this.readyHead !== null && filled < maxEvents) {
      const item: EpollItem = this.readyHead;
      this.unready(item);
      const events = item.file.poll() & item.events & ~PRIVATE_BITS;
      if (events !== 0) {
        out.events[filled] = events;
        out.data[filled++] = item.data;
        if ((item.events & k.EPOLLONESHOT) !== 0) item.events &= PRIVATE_BITS;
        else if ((item.events & k.EPOLLET) === 0) this.pushReady(item);
      }
      if (item === last) break;
    }
    return filled;
  }

  /**
   * @internal A watched file's readiness changed (ep_poll_callback). True if somebody who waits on this epoll was told.
   */
  itemWoken(item: EpollItem, key: number): boolean {
    if ((item.events & ~PRIVATE_BITS) === 0) return false;
    if (key !== 0 && (key & item.events) === 0) return false;
    if (!item.ready) this.pushReady(item);
    const told = this.hasWaiters;
    if (told) this.waiters.wake(k.EPOLLIN | k.EPOLLRDNORM);
    return told || (item.events & k.EPOLLEXCLUSIVE) === 0;
  }

  /** @internal Drops an item: EPOLL_CTL_DEL, or its file was closed. */
  forget(item: EpollItem): void {
    if (!this.unlist(item)) return;
    this.unready(item);
    item.file.waiters.remove(item);
    this.count--;
    this.context.counts.epollItems--;
  }

  /** Ready if any listed item is true now (ep_eventpoll_poll). */
  override poll(): number {
    for (let item = this.readyHead; item !== null; item = item.nextReady) {
      if ((item.file.poll() & item.events & ~PRIVATE_BITS) !== 0) return k.EPOLLIN | k.EPOLLRDNORM;
    }
    return 0;
  }

  override describe(): string {
    return "anon_inode:[eventpoll]";
  }

  protected override release(): void {
    for (const fd of this.items.keys()) {
      for (let item = this.items[fd]; item; item = this.items[fd]) {
        const { file } = item;
        this.forget(item);
        file.removeWatch(item);
      }
    }
  }

  private itemOf(fd: number, file: File): EpollItem | null {
    let item = this.items[fd] ?? null;
    while (item !== null && item.file !== file) item = item.nextOfFd;
    return item;
  }

  /** Takes `item` out of its descriptor's list; false if it is not there. */
  private unlist(item: EpollItem): boolean {
    const first = this.items[item.fd] ?? null;
    if (first === item) {
      this.items[item.fd] = item.nextOfFd;
      return true;
    }
    for (let before = first; before !== null; before = before.nextOfFd) {
      if (before.nextOfFd !== item) continue;
      before.nextOfFd = item.nextOfFd;
      return true;
    }
    return false;
  }

  private addItem(fd: number, file: File, events: number, data: number): number {
    if (this.count >= k.MAX_EPOLL_WATCHES) return -Errno.ENOSPC;
    const item = new EpollItem(this, fd, events | ALWAYS, data);
    item.nextOfFd = this.items[fd] ?? null;
    while (this.items.length < fd) this.items.push(null);
    this.items[fd] = item;
    this.count++;
    this.context.counts.epollItems++;
    file.addWatch(item);
    file.waiters.add(item, (events & k.EPOLLEXCLUSIVE) !== 0);
    this.listIfReady(item);
    return 0;
  }

  private modifyItem(item: EpollItem, events: number, data: number): number {
    item.events = events | ALWAYS;
    item.data = data;
    this.listIfReady(item);
    return 0;
  }

  private listIfReady(item: EpollItem): void {
    if (item.ready || (item.file.poll() & item.events & ~PRIVATE_BITS) === 0) return;
    this.pushReady(item);
    this.waiters.wake(k.EPOLLIN | k.EPOLLRDNORM);
  }

  private pushReady(item: EpollItem): void {
    item.ready = true;
    item.prevReady = this.readyTail;
    if (this.readyTail) this.readyTail.nextReady = item;
    else this.readyHead = item;
    this.readyTail = item;
  }

  private unready(item: EpollItem): void {
    if (!item.ready) return;
    if (item.prevReady) item.prevReady.nextReady = item.nextReady;
    else this.readyHead = item.nextReady;
    if (item.nextReady) item.nextReady.prevReady = item.prevReady;
    else this.readyTail = item.prevReady;
    item.nextReady = item.prevReady = null;
    item.ready = false;
  }
}
