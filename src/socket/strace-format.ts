/**
 * How strace writes a call: for `sojourn strace`. Only for people; nothing here is on a path of a request.
 */
import { errnoMessage, errnoName } from "../base/errno.ts";
import * as k from "./constants.ts";
import type { SyscallRecord } from "./strace.ts";

const DOMAINS: Readonly<Record<number, string>> = { 1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6" };
const TYPES: Readonly<Record<number, string>> = { 1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW" };
const PROTOCOLS: Readonly<Record<number, string>> = { 0: "IPPROTO_IP", 6: "IPPROTO_TCP", 17: "IPPROTO_UDP" };
const HOWS: Readonly<Record<number, string>> = { 0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR" };
const LEVELS: Readonly<Record<number, string>> = {
  0: "SOL_IP",
  1: "SOL_SOCKET",
  6: "SOL_TCP",
  17: "SOL_UDP",
  41: "SOL_IPV6",
};
const CONTROLS: Readonly<Record<number, string>> = { 1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD" };
const COMMANDS: Readonly<Record<number, string>> = {
  0: "F_DUPFD",
  1: "F_GETFD",
  2: "F_SETFD",
  3: "F_GETFL",
  4: "F_SETFL",
};

const SOCKET_OPTIONS: Readonly<Record<number, string>> = {
  2: "SO_REUSEADDR",
  3: "SO_TYPE",
  4: "SO_ERROR",
  6: "SO_BROADCAST",
  7: "SO_SNDBUF",
  8: "SO_RCVBUF",
  9: "SO_KEEPALIVE",
  13: "SO_LINGER",
  15: "SO_REUSEPORT",
  25: "SO_BINDTODEVICE",
  30: "SO_ACCEPTCONN",
  38: "SO_PROTOCOL",
  39: "SO_DOMAIN",
  62: "SO_BINDTOIFINDEX",
};
const TCP_OPTIONS: Readonly<Record<number, string>> = {
  1: "TCP_NODELAY",
  2: "TCP_MAXSEG",
  3: "TCP_CORK",
  4: "TCP_KEEPIDLE",
  5: "TCP_KEEPINTVL",
  6: "TCP_KEEPCNT",
  7: "TCP_SYNCNT",
  8: "TCP_LINGER2",
  9: "TCP_DEFER_ACCEPT",
  10: "TCP_WINDOW_CLAMP",
  11: "TCP_INFO",
  12: "TCP_QUICKACK",
  13: "TCP_CONGESTION",
  18: "TCP_USER_TIMEOUT",
  25: "TCP_NOTSENT_LOWAT",
};

/** Bits and their names, in the order strace prints them. */
type Flags = readonly (readonly [number, string])[];
const TYPE_FLAGS: Flags = [
  [k.SOCK_CLOEXEC, "SOCK_CLOEXEC"],
  [k.SOCK_NONBLOCK, "SOCK_NONBLOCK"],
];
const OPEN_FLAGS: Flags = [
  [1, "O_WRONLY"],
  [2, "O_RDWR"],
  [k.O_NONBLOCK, "O_NONBLOCK"],
  [k.O_CLOEXEC, "O_CLOEXEC"],
];
const MESSAGE_FLAGS: Flags = [
  [k.MSG_OOB, "MSG_OOB"],
  [k.MSG_PEEK, "MSG_PEEK"],
  [k.MSG_TRUNC, "MSG_TRUNC"],
  [k.MSG_DONTWAIT, "MSG_DONTWAIT"],
  [k.MSG_WAITALL, "MSG_WAITALL"],
  [k.MSG_NOSIGNAL, "MSG_NOSIGNAL"],
  [k.MSG_MORE, "MSG_MORE"],
];
const EPOLL_FLAGS: Flags = [
  [k.EPOLLIN, "EPOLLIN"],
  [k.EPOLLPRI, "EPOLLPRI"],
  [k.EPOLLOUT, "EPOLLOUT"],
  [k.EPOLLERR, "EPOLLERR"],
  [k.EPOLLHUP, "EPOLLHUP"],
  [k.EPOLLRDNORM, "EPOLLRDNORM"],
  [k.EPOLLWRNORM, "EPOLLWRNORM"],
  [k.EPOLLWRBAND, "EPOLLWRBAND"],
  [k.EPOLLRDHUP, "EPOLLRDHUP"],
  [k.EPOLLEXCLUSIVE, "EPOLLEXCLUSIVE"],
  [k.EPOLLWAKEUP, "EPOLLWAKEUP"],
  [k.EPOLLONESHOT, "EPOLLONESHOT"],
  [k.EPOLLET, "EPOLLET"],
];

/** One line as strace -r prints it: `12.003417 [pid 2 g5] accept4(3, …, SOCK_NONBLOCK) = 5`. */
export function formatSyscall(record: SyscallRecord): string {
  const seconds = Math.floor(record.timeNs / 1e9);
  const micros = Math.floor((record.timeNs - seconds * 1e9) / 1e3);
  const who = record.gid > 0 ? `pid ${record.pid} g${record.gid}` : `pid ${record.pid}`;
  return `${seconds}.${String(micros).padStart(6, "0")} [${who}] ${formatCall(record)}`;
}

/** The call itself: `accept4(3, …, SOCK_NONBLOCK) = 5`, or `park fd 3`. */
export function formatCall(record: SyscallRecord): string {
  const fd = record.fd >= 0 ? ` fd ${record.fd}` : "";
  if (record.call === "park" || record.call === "ready") return `${record.call}${fd}`;
  if (record.call === "exit_group") return `exit_group(${record.args[0]}) = ?`;
  return `${record.call}(${formatArguments(record)}) = ${formatResult(record.result)}`;
}

function formatResult(result: number): string {
  return result >= 0 ? String(result) : `-1 ${errnoName(result)} (${errnoMessage(result)})`;
}

/** The text between the parentheses. */
function formatArguments(record: SyscallRecord): string {
  const {
    fd,
    args: [a, b, c],
  } = record;
  const name = record.address === undefined ? "…" : formatName(record.address, record.port ?? 0);
  switch (record.call) {
    case "socket":
      return `${named(DOMAINS, a)}, ${formatType(b)}, ${named(PROTOCOLS, c)}`;
    case "bind":
    case "connect":
      return `${fd}, ${name}, 16`;
    case "getsockname":
    case "getpeername":
      return `${fd}, ${name}, [16]`;
    case "listen":
      return `${fd}, ${a}`;
    case "accept4":
      return `${fd}, ${name}, ${flags(TYPE_FLAGS, a)}`;
    case "read":
    case "write":
      return `${fd}, …, ${a}`;
    case "sendto":
    case "recvfrom":
      return `${fd}, …, ${a}, ${flags(MESSAGE_FLAGS, b)}, ${record.address === undefined ? "NULL, 0" : `${name}, 16`}`;
    case "shutdown":
      return `${fd}, ${named(HOWS, a)}`;
    case "close":
    case "dup":
      return `${fd}`;
    case "setsockopt":
      return `${fd}, ${named(LEVELS, a)}, ${formatOption(a, b)}, [${c}], 4`;
    case "getsockopt":
      return `${fd}, ${named(LEVELS, a)}, ${formatOption(a, b)}, …, [4]`;
    case "fcntl":
      return `${fd}, ${named(COMMANDS, a)}${a === k.F_SETFL ? `, ${openFlags(b)}` : a === k.F_GETFL ? "" : `, ${b}`}`;
    case "pipe2":
      return `[${a}, ${b}], ${flags(OPEN_FLAGS, c)}`;
    case "epoll_create1":
      return a === k.O_CLOEXEC ? "EPOLL_CLOEXEC" : String(a);
    case "epoll_ctl":
      return `${fd}, ${named(CONTROLS, a)}, ${b}, {events=${flags(EPOLL_FLAGS, c)}}`;
    case "epoll_wait":
      return `${fd}, …, ${a}, ${b}`;
    case "openat":
      return `AT_FDCWD, …, ${openFlags(a)}`;
    default:
      return `${fd}, ${a}, ${b}, ${c}`;
  }
}

function formatName(address: string, port: number): string {
  const family = address.includes(":") ? "AF_INET6" : "AF_INET";
  return `{sa_family=${family}, sin_port=htons(${port}), sin_addr="${address}"}`;
}

function formatType(type: number): string {
  const rest = type & ~k.SOCK_TYPE_MASK;
  const base = named(TYPES, type & k.SOCK_TYPE_MASK);
  return rest === 0 ? base : `${base}|${flags(TYPE_FLAGS, rest)}`;
}

function formatOption(level: number, name: number): string {
  return named(level === k.SOL_SOCKET ? SOCKET_OPTIONS : level === k.IPPROTO_TCP ? TCP_OPTIONS : {}, name);
}

function openFlags(value: number): string {
  return (value & k.O_ACCMODE) === k.O_RDONLY
    ? ["O_RDONLY", ...(value === 0 ? [] : [flags(OPEN_FLAGS, value)])].join("|")
    : flags(OPEN_FLAGS, value);
}

function named(table: Readonly<Record<number, string>>, value: number): string {
  return table[value] ?? String(value);
}

/** Names of the bits set, `0` for none; bits without a name in hexadecimal. */
function flags(table: Flags, value: number): string {
  const names: string[] = [];
  let rest = value;
  for (const [bit, name] of table) {
    if ((rest & bit) === 0) continue;
    names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) names.push(`0x${(rest >>> 0).toString(16)}`);
  return names.length === 0 ? "0" : names.join("|");
}
