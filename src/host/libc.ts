/**
 * The C library, as far as the host's devices need it: the only file that loads koffi, and only when it is asked to.
 *
 * Calls answer like system calls: a result, or -errno. Memory is passed by address, as a number (`addressOf`), so that
 * a call per frame allocates nothing; whoever passes an address keeps the memory alive. A call costs what the system
 * call costs and 30 ns; a read that finds nothing is a number here, where `fs.readSync` would throw.
 */
import { createRequire } from "node:module";
import { HostDeviceError } from "./host-device-error.ts";

/** Flags of open(2), eventfd(2), epoll_create1(2), poll(2), the same on x86-64 and arm64. */
export const O_RDWR = 2;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;
export const POLLIN = 1;
export const EPOLLIN = 1;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const AF_INET = 2;
export const SOCK_DGRAM = 2;

/** Every function answers a result ≥ 0 or -errno; `…At` is an address. */
export interface Libc {
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** `argument` is a number or an address, as the request says. */
  ioctl(fd: number, request: number, argument: number): number;
  read(fd: number, at: number, len: number): number;
  write(fd: number, at: number, len: number): number;
  /** Copies `len` bytes from one address to another. */
  memmove(toAt: number, fromAt: number, len: number): void;
  /** Waits for `count` pollfds as long as the timespec at `timeoutAt` says. */
  ppoll(pollfdsAt: number, count: number, timeoutAt: number): number;
  eventfd(initial: number, flags: number): number;
  epollCreate(flags: number): number;
  epollControl(epollFd: number, op: number, fd: number, eventAt: number): number;
  dup3(from: number, to: number, flags: number): number;
  socket(domain: number, type: number, protocol: number): number;
  /** Where the first byte lies. The memory must outlive the number. */
  addressOf(memory: Uint8Array | Int32Array): number;
}

/** What of koffi is used here; it is optional, so its types are too. */
interface Koffi {
  load(library: null): { func(definition: string): (...values: (number | string)[]) => number };
  errno(): number;
  address(memory: unknown): bigint;
}

let bound: Libc | null = null;

/** Binds the C library, once per thread. Throws `{ code, error, why, next }` where that cannot be. */
export function libc(): Libc {
  bound ??= bind();
  return bound;
}

/** Memory for what a system call reads or writes: never inside the moving part of the heap. */
export function callMemory(bytes: number): ArrayBuffer {
  return new ArrayBuffer(bytes);
}

function bind(): Libc {
  const koffi = loadKoffi();
  const library = koffi.load(null);
  const checked = (definition: string) => {
    const call = library.func(definition);
    return (...values: (number | string)[]) => answer(call(...values), koffi);
  };
  const read = library.func("long read(int fd, intptr_t buffer, size_t count)");
  const write = library.func("long write(int fd, intptr_t buffer, size_t count)");
  const memmove = library.func("intptr_t memmove(intptr_t to, intptr_t from, size_t count)");
  const ppoll = library.func("int ppoll(intptr_t fds, ulong count, intptr_t timeout, intptr_t signals)");
  return {
    open: checked("int open(const char *path, int flags)"),
    close: checked("int close(int fd)"),
    ioctl: checked("int ioctl(int fd, ulong request, intptr_t argument)"),
    read: (fd, at, len) => answer(read(fd, at, len), koffi),
    write: (fd, at, len) => answer(write(fd, at, len), koffi),
    memmove: (toAt, fromAt, len) => {
      memmove(toAt, fromAt, len);
    },
    ppoll: (pollfdsAt, count, timeoutAt) => answer(ppoll(pollfdsAt, count, timeoutAt, 0), koffi),
    eventfd: checked("int eventfd(uint initial, int flags)"),
    epollCreate: checked("int epoll_create1(int flags)"),
    epollControl: checked("int epoll_ctl(int epoll, int op, int fd, intptr_t event)"),
    dup3: checked("int dup3(int from, int to, int flags)"),
    socket: checked("int socket(int domain, int type, int protocol)"),
    addressOf: (memory) => Number(koffi.address(memory)),
  };
}

function answer(result: number, koffi: Koffi): number {
  return result < 0 ? -koffi.errno() : result;
}

function loadKoffi(): Koffi {
  if (process.platform !== "linux") {
    const why = `devices of the host are reached by Linux system calls, and this is ${process.platform}`;
    throw new HostDeviceError("ENOSYS", "no such device here", why, "leave out --tap, or run it on Linux");
  }
  try {
    return createRequire(import.meta.url)("koffi") as Koffi;
  } catch (thrown) {
    const why = `the optional package koffi, which makes system calls, cannot be loaded (${(thrown as Error).message})`;
    throw new HostDeviceError("ENOSYS", "no access to devices of the host", why, "npm install koffi");
  }
}
