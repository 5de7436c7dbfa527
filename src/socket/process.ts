/**
 * Processes and the system calls they make (Linux net/socket.c and friends, as methods).
 *
 * Every call returns n ≥ 0 or -errno and never blocks: what would block is -EAGAIN whatever the descriptor's flags say,
 * because waiting is the business of the port above (`ring-server.ts`). Each call charges the cost of entering the
 * kernel and is kept in the host's system-call log.
 */
import type { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { Cost, type Ns } from "../base/time.ts";
import * as k from "./constants.ts";
import type { SocketContext } from "./context.ts";
import { type EpollEvents, EpollFile } from "./epoll.ts";
import { FdTable } from "./fd-table.ts";
import { type File, Socket, SocketName } from "./file.ts";
import { InetDatagram } from "./inet-datagram.ts";
import { InetStream } from "./inet-stream.ts";
import { PipeEnd } from "./pipe.ts";
import { RegularFile, Terminal } from "./regular-file.ts";
import { Call } from "./strace.ts";

const TYPE_FLAGS = k.SOCK_NONBLOCK | k.SOCK_CLOEXEC;

export class Process {
  readonly pid: number;
  readonly name: string;
  readonly fds = new FdTable();
  readonly context: SocketContext;
  /** The goroutine that makes the next call, for the log; 0 = none. */
  gid = 0;
  /** When the process made the next call, if that is known better than "now" (a submission); 0 = now. */
  calledNs: Ns = 0;
  /** True after `exit`. */
  exited = false;
  /** Told before a descriptor closes: armed calls on it are withdrawn. */
  onClose: ((fd: number) => void) | null = null;
  private readonly scratchName = new SocketName();
  private readonly onExit: (process: Process) => void;

  constructor(context: SocketContext, pid: number, name: string, onExit: (process: Process) => void = () => {}) {
    this.context = context;
    this.pid = pid;
    this.name = name;
    this.onExit = onExit;
    const terminal = new Terminal(context);
    for (let fd = 0; fd < 3; fd++) this.fds.add(terminal);
  }

  // ── sockets ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** socket(2) → fd. EAFNOSUPPORT, EINVAL, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EMFILE. */
  socket(domain: number, type: number, protocol = 0): number {
    return this.leave(Call.socket, -1, domain, type, protocol, this.doSocket(domain, type, protocol));
  }

  /** bind(2) → 0. EBADF, ENOTSOCK, EINVAL (bound already), EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT. */
  bind(fd: number, address: Address, port: number): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.bind(address, port);
    return this.leaveWithName(Call.bind, fd, 0, 0, 0, result, address, port);
  }

  /** listen(2) → 0. EBADF, ENOTSOCK, EINVAL (connected), EADDRINUSE, EOPNOTSUPP (datagram). */
  listen(fd: number, backlog: number): number {
    const socket = this.socketOf(fd);
    return this.leave(Call.listen, fd, backlog, 0, 0, typeof socket === "number" ? socket : socket.listen(backlog));
  }

  /**
   * accept4(2) → fd of the oldest connection in the accept queue; `peer` gets its address. EBADF, EINVAL (flags, or not
   * listening), EMFILE (also when the queue is empty, as Linux), ENOTSOCK, EOPNOTSUPP (datagram), EAGAIN.
   */
  accept4(fd: number, flags = 0, peer: SocketName | null = null): number {
    const name = peer ?? this.scratchName;
    const result = this.doAccept(fd, flags, name);
    if (result < 0) return this.leave(Call.accept4, fd, flags, 0, 0, result);
    return this.leaveWithName(Call.accept4, fd, flags, 0, 0, result, name.address, name.port);
  }

  /**
   * connect(2), never waiting: EINPROGRESS; then EALREADY, 0 once, EISCONN, or the reason it failed (ECONNREFUSED,
   * ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET, ECONNABORTED). EBADF, ENOTSOCK, EAFNOSUPPORT, EADDRNOTAVAIL (no
   * port left).
   */
  connect(fd: number, address: Address, port: number): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.connect(address, port);
    return this.leaveWithName(Call.connect, fd, 0, 0, 0, result, address, port);
  }

  /** shutdown(2) → 0. EBADF, ENOTSOCK, EINVAL (how), ENOTCONN. */
  shutdown(fd: number, how: number): number {
    const socket = this.socketOf(fd);
    return this.leave(Call.shutdown, fd, how, 0, 0, typeof socket === "number" ? socket : socket.shutdown(how));
  }

  /** getsockname(2) → 0 and the name in `out`. EBADF, ENOTSOCK. */
  getsockname(fd: number, out: SocketName): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.localName(out);
    return this.leaveWithName(Call.getsockname, fd, 0, 0, 0, result, out.address, out.port);
  }

  /** getpeername(2) → 0 and the name in `out`. EBADF, ENOTSOCK, ENOTCONN. */
  getpeername(fd: number, out: SocketName): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.peerName(out);
    return this.leaveWithName(Call.getpeername, fd, 0, 0, 0, result, out.address, out.port);
  }

  /**
   * setsockopt(2) → 0; `value2` is the second number of a struct (SO_LINGER: l_onoff, l_linger). EBADF, ENOTSOCK,
   * ENOPROTOOPT, EINVAL.
   */
  setsockopt(fd: number, level: number, name: number, value: number, value2 = 0): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.setOption(level, name, value, value2);
    return this.leave(Call.setsockopt, fd, level, name, value, result);
  }

  /** getsockopt(2) → the value. EBADF, ENOTSOCK, ENOPROTOOPT, EOPNOTSUPP (level). */
  getsockopt(fd: number, level: number, name: number): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.getOption(level, name);
    return this.leave(Call.getsockopt, fd, level, name, 0, result);
  }

  /** setsockopt(SO_BINDTODEVICE) with a device's name, "" for any → 0. EBADF, ENOTSOCK, ENODEV. */
  bindToDevice(fd: number, name: string): number {
    const socket = this.socketOf(fd);
    const ifindex = name === "" ? 0 : this.context.ip.ifindexOf(name);
    let result: number;
    if (typeof socket === "number") result = socket;
    else if (name !== "" && ifindex === 0) result = -Errno.ENODEV;
    else result = socket.setOption(k.SOL_SOCKET, k.SO_BINDTOIFINDEX, ifindex, 0);
    return this.leave(Call.setsockopt, fd, k.SOL_SOCKET, k.SO_BINDTODEVICE, ifindex, result);
  }

  // ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * read(2) → bytes, 0 at the end. EBADF, EAGAIN, EINVAL (epoll), ENOTCONN, ECONNRESET and what else ended the
   * connection, EIO.
   */
  read(fd: number, into: Uint8Array, at = 0, len = into.length - at): number {
    const file = this.fds.get(fd);
    const result = file ? file.read(into, at, len) : -Errno.EBADF;
    if (result > 0) this.context.env.clock.charge(Cost.copyByte, result);
    return this.leave(Call.read, fd, len, 0, 0, result);
  }

  /**
   * write(2) → bytes taken. EBADF, EAGAIN, EINVAL (epoll), EPIPE, ECONNRESET (once, then EPIPE), EDESTADDRREQ,
   * EMSGSIZE.
   */
  write(fd: number, bytes: Uint8Array, at = 0, len = bytes.length - at): number {
    const file = this.fds.get(fd);
    const result = file ? file.write(bytes, at, len) : -Errno.EBADF;
    if (result > 0) this.context.env.clock.charge(Cost.copyByte, result);
    return this.leave(Call.write, fd, len, 0, 0, result);
  }

  /** send(2) → bytes taken; as write, with MSG_* flags. ENOTSOCK, EOPNOTSUPP (MSG_OOB). */
  send(fd: number, bytes: Uint8Array, at: number, len: number, flags = 0): number {
    return this.sendto(fd, bytes, at, len, flags, null, 0);
  }

  /** recv(2) → bytes, 0 at the end; as read, with MSG_* flags. ENOTSOCK. */
  recv(fd: number, into: Uint8Array, at: number, len: number, flags = 0): number {
    return this.recvfrom(fd, into, at, len, flags, null);
  }

  /**
   * sendto(2) → bytes taken. EBADF, ENOTSOCK, EAGAIN, EPIPE, ECONNRESET; datagrams: EDESTADDRREQ, EMSGSIZE, EACCES
   * (broadcast), EINVAL (port 0), EAFNOSUPPORT, ENETUNREACH, EHOSTUNREACH, ECONNREFUSED. A stream ignores the address.
   */
  sendto(
    fd: number,
    bytes: Uint8Array,
    at: number,
    len: number,
    flags: number,
    to: Address | null,
    port: number,
  ): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.send(bytes, at, len, flags, to, port);
    if (result > 0) this.context.env.clock.charge(Cost.copyByte, result);
    if (to === null) return this.leave(Call.sendto, fd, len, flags, 0, result);
    return this.leaveWithName(Call.sendto, fd, len, flags, 0, result, to, port);
  }

  /**
   * recvfrom(2) → bytes; `from` gets a datagram's sender. EBADF, ENOTSOCK, EAGAIN, ENOTCONN, ECONNRESET, ECONNREFUSED.
   */
  recvfrom(fd: number, into: Uint8Array, at: number, len: number, flags: number, from: SocketName | null): number {
    const socket = this.socketOf(fd);
    const result = typeof socket === "number" ? socket : socket.receive(into, at, len, flags, from);
    if (result > 0) this.context.env.clock.charge(Cost.copyByte, result);
    if (from === null || result < 0) return this.leave(Call.recvfrom, fd, len, flags, 0, result);
    return this.leaveWithName(Call.recvfrom, fd, len, flags, 0, result, from.address, from.port);
  }

  // ── descriptors ───────────────────────────────────────────────────────────────────────────────────────────────

  /** close(2) → 0. EBADF. */
  close(fd: number): number {
    if (!this.fds.get(fd)) return this.leave(Call.close, fd, 0, 0, 0, -Errno.EBADF);
    this.onClose?.(fd);
    this.fds.remove(fd)?.drop();
    return this.leave(Call.close, fd, 0, 0, 0, 0);
  }

  /** dup(2) → fd. EBADF, EMFILE. */
  dup(fd: number): number {
    const file = this.fds.get(fd);
    return this.leave(Call.dup, fd, 0, 0, 0, file ? this.fds.add(file) : -Errno.EBADF);
  }

  /** fcntl(2): F_GETFL → flags, F_SETFL (O_NONBLOCK only) → 0, F_GETFD, F_SETFD. EBADF, EINVAL. */
  fcntl(fd: number, command: number, argument = 0): number {
    return this.leave(Call.fcntl, fd, command, argument, 0, this.doFcntl(fd, command, argument));
  }

  /** pipe2(2) → 0; `fds[0]` reads, `fds[1]` writes. EINVAL (flags), EMFILE. */
  pipe2(fds: Int32Array | [number, number], flags = 0): number {
    const result = this.doPipe(fds, flags);
    return this.leave(
      Call.pipe2,
      -1,
      result === 0 ? (fds[0] as number) : -1,
      result === 0 ? (fds[1] as number) : -1,
      flags,
      result,
    );
  }

  /** open(2), reading only → fd. ENOENT, EACCES, EISDIR, ENOTDIR, ELOOP, EMFILE. */
  open(path: string, flags = k.O_RDONLY): number {
    return this.leave(Call.openat, -1, flags, 0, 0, this.doOpen(path, flags));
  }

  /** Gives an open file of another process a descriptor here (SCM_RIGHTS, or fork): → fd. EMFILE. */
  adopt(file: File): number {
    return this.fds.add(file);
  }

  // ── epoll ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** epoll_create1(2) → fd. EINVAL (flags), EMFILE. */
  epollCreate1(flags = 0): number {
    const result = (flags & ~k.O_CLOEXEC) !== 0 ? -Errno.EINVAL : this.install(() => new EpollFile(this.context));
    return this.leave(Call.epoll_create1, -1, flags, 0, 0, result);
  }

  /**
   * epoll_ctl(2) → 0. EBADF, EPERM (regular file), EINVAL (no epoll, itself, another epoll, exclusive misuse), EEXIST,
   * ENOENT, ENOSPC.
   */
  epollCtl(epfd: number, op: number, fd: number, events: number, data: number): number {
    const epoll = this.fds.get(epfd);
    const file = this.fds.get(fd);
    let result: number;
    if (!epoll || !file) result = -Errno.EBADF;
    else if (!file.pollable) result = -Errno.EPERM;
    else if (!(epoll instanceof EpollFile) || epoll === file) result = -Errno.EINVAL;
    else result = epoll.control(op, fd, file, events, data);
    return this.leave(Call.epoll_ctl, epfd, op, fd, events, result);
  }

  /** epoll_wait(2) with timeout 0 → number of events put in `out`. EBADF, EINVAL (no epoll, or maxEvents < 1). */
  epollWait(epfd: number, out: EpollEvents, maxEvents = out.events.length): number {
    const epoll = this.fds.get(epfd);
    let result: number;
    if (maxEvents < 1) result = -Errno.EINVAL;
    else if (!epoll) result = -Errno.EBADF;
    else if (!(epoll instanceof EpollFile)) result = -Errno.EINVAL;
    else result = epoll.wait(out, Math.min(maxEvents, out.events.length));
    return this.leave(Call.epoll_wait, epfd, maxEvents, 0, 0, result);
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** exit_group(2): closes every descriptor. */
  exit(status = 0): void {
    if (this.exited) return;
    this.leave(Call.exit_group, -1, status, 0, 0, 0);
    for (const { fd } of this.fds.entries()) {
      this.onClose?.(fd);
      this.fds.remove(fd)?.drop();
    }
    this.exited = true;
    this.onExit(this);
  }

  /** The file of `fd`, for the kernel's side of a port. */
  fileOf(fd: number): File | null {
    return this.fds.get(fd);
  }

  /** Charges one call and logs it; returns `result`. */
  leave(call: number, fd: number, a: number, b: number, c: number, result: number): number {
    const { env } = this.context;
    env.clock.charge(Cost.syscall, 1);
    this.log(call, fd, a, b, c, result);
    return result;
  }

  /** Logs a line that is no call of the process: `park`, `ready`, and what an armed call found, at the present time. */
  logAs(gid: number, call: number, fd: number, a: number, b: number, c: number, result: number): void {
    this.context.log.add(this.context.env.clock.nowNs, this.pid, gid, call, fd, a, b, c, result);
  }

  private log(call: number, fd: number, a: number, b: number, c: number, result: number): void {
    const timeNs = this.calledNs > 0 ? this.calledNs : this.context.env.clock.nowNs;
    this.context.log.add(timeNs, this.pid, this.gid, call, fd, a, b, c, result);
  }

  private leaveWithName(
    call: number,
    fd: number,
    a: number,
    b: number,
    c: number,
    result: number,
    address: Address,
    port: number,
  ): number {
    this.leave(call, fd, a, b, c, result);
    this.context.log.addAddress(address, port);
    return result;
  }

  private socketOf(fd: number): Socket | number {
    const file = this.fds.get(fd);
    if (!file) return -Errno.EBADF;
    return file instanceof Socket ? file : -Errno.ENOTSOCK;
  }

  /** Makes a file only if there is a descriptor for it. */
  private install(make: () => File): number {
    const fd = this.fds.lowestFree();
    return fd < 0 ? fd : this.fds.add(make());
  }

  private doSocket(domain: number, typeAndFlags: number, protocol: number): number {
    const type = typeAndFlags & k.SOCK_TYPE_MASK;
    if ((typeAndFlags & ~(k.SOCK_TYPE_MASK | TYPE_FLAGS)) !== 0) return -Errno.EINVAL;
    if (domain < 0 || domain >= k.AF_MAX) return -Errno.EAFNOSUPPORT;
    if (type >= k.SOCK_MAX || type < 0) return -Errno.EINVAL;
    if (domain !== k.AF_INET && domain !== k.AF_INET6) return -Errno.EAFNOSUPPORT;
    if (protocol < 0 || protocol >= k.IPPROTO_MAX) return -Errno.EINVAL;
    const { udp } = this.context;
    const flags = typeAndFlags & k.SOCK_NONBLOCK;
    if (type === k.SOCK_STREAM) {
      if (protocol !== 0 && protocol !== k.IPPROTO_TCP) return -Errno.EPROTONOSUPPORT;
      return this.install(() => new InetStream(this.context, domain, flags, null));
    }
    if (type === k.SOCK_DGRAM) {
      if (!udp || (protocol !== 0 && protocol !== k.IPPROTO_UDP)) return -Errno.EPROTONOSUPPORT;
      return this.install(() => new InetDatagram(this.context, udp, domain, flags));
    }
    return type === k.SOCK_RAW ? -Errno.EPROTONOSUPPORT : -Errno.ESOCKTNOSUPPORT;
  }

  private doAccept(fd: number, flags: number, peer: SocketName): number {
    const file = this.fds.get(fd);
    if (!file) return -Errno.EBADF;
    if ((flags & ~TYPE_FLAGS) !== 0) return -Errno.EINVAL;
    if (this.fds.lowestFree() < 0) return -Errno.EMFILE;
    if (!(file instanceof Socket)) return -Errno.ENOTSOCK;
    if (!(file instanceof InetStream)) return -Errno.EOPNOTSUPP;
    if (!file.listening) return -Errno.EINVAL;
    const child = file.firstUnoffered();
    if (child === null) return -Errno.EAGAIN;
    peer.set(child.remoteAddress, child.remotePort);
    const accepted = file.accept(child, flags & k.SOCK_NONBLOCK);
    return accepted === null ? -Errno.ECONNABORTED : this.fds.add(accepted);
  }

  private doFcntl(fd: number, command: number, argument: number): number {
    const file = this.fds.get(fd);
    if (!file) return -Errno.EBADF;
    switch (command) {
      case k.F_GETFL:
        return file.flags;
      case k.F_SETFL:
        file.flags = (file.flags & ~k.O_NONBLOCK) | (argument & k.O_NONBLOCK);
        return 0;
      case k.F_GETFD:
      case k.F_SETFD:
        return 0;
      default:
        return -Errno.EINVAL;
    }
  }

  private doPipe(fds: Int32Array | [number, number], flags: number): number {
    if ((flags & ~(k.O_NONBLOCK | k.O_CLOEXEC)) !== 0) return -Errno.EINVAL;
    const first = this.fds.reserve();
    const second = this.fds.reserve();
    if (second < 0) {
      if (first >= 0) this.fds.unreserve(first);
      return -Errno.EMFILE;
    }
    const [reader, writer] = PipeEnd.pair(this.context, flags & k.O_NONBLOCK);
    this.fds.install(first, reader);
    this.fds.install(second, writer);
    fds[0] = first;
    fds[1] = second;
    return 0;
  }

  private doOpen(path: string, flags: number): number {
    const fd = this.fds.lowestFree();
    if (fd < 0) return fd;
    if ((flags & k.O_ACCMODE) !== k.O_RDONLY) return -Errno.EACCES;
    const open = this.context.files?.open(path, flags) ?? -Errno.ENOENT;
    return typeof open === "number" ? open : this.fds.add(new RegularFile(this.context, path, open));
  }
}
