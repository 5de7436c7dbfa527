/** Socket options: defaults, limits, errors, and what a connection inherits from its listener. */
import * as k from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { type Program, program } from "./program.ts";

const SOCKET_OPTIONS = [
  k.SO_DEBUG,
  k.SO_REUSEADDR,
  k.SO_TYPE,
  k.SO_ERROR,
  k.SO_DONTROUTE,
  k.SO_BROADCAST,
  k.SO_SNDBUF,
  k.SO_RCVBUF,
  k.SO_KEEPALIVE,
  k.SO_REUSEPORT,
  k.SO_RCVLOWAT,
  k.SO_SNDLOWAT,
  k.SO_ACCEPTCONN,
  k.SO_PROTOCOL,
  k.SO_DOMAIN,
  k.SO_BINDTOIFINDEX,
];
const TCP_OPTIONS = [
  k.TCP_NODELAY,
  k.TCP_MAXSEG,
  k.TCP_CORK,
  k.TCP_KEEPIDLE,
  k.TCP_KEEPINTVL,
  k.TCP_KEEPCNT,
  k.TCP_SYNCNT,
  k.TCP_LINGER2,
  k.TCP_DEFER_ACCEPT,
  k.TCP_WINDOW_CLAMP,
  k.TCP_QUICKACK,
  k.TCP_USER_TIMEOUT,
  k.TCP_NOTSENT_LOWAT,
];

/** Asks a socket for every option. */
function all(p: Program, name: string): Program {
  for (const option of SOCKET_OPTIONS) p.get(name, k.SOL_SOCKET, option);
  for (const option of TCP_OPTIONS) p.get(name, k.IPPROTO_TCP, option);
  return p;
}

/** Sets an option to values and reads it back after each. */
function values(level: number, option: number, ...list: number[]): Program {
  const p = program().socket("a");
  for (const value of list) p.set("a", level, option, value).get("a", level, option);
  return p;
}

const inherited = () =>
  program()
    .socket("l")
    .set("l", k.SOL_SOCKET, k.SO_RCVBUF, 20_000)
    .set("l", k.SOL_SOCKET, k.SO_SNDBUF, 30_000)
    .set("l", k.SOL_SOCKET, k.SO_KEEPALIVE, 1)
    .set("l", k.SOL_SOCKET, k.SO_REUSEADDR, 1)
    .set("l", k.SOL_SOCKET, k.SO_RCVLOWAT, 3)
    .set("l", k.IPPROTO_TCP, k.TCP_NODELAY, 1)
    .set("l", k.IPPROTO_TCP, k.TCP_KEEPIDLE, 77)
    .set("l", k.IPPROTO_TCP, k.TCP_KEEPINTVL, 7)
    .set("l", k.IPPROTO_TCP, k.TCP_KEEPCNT, 3)
    .set("l", k.IPPROTO_TCP, k.TCP_USER_TIMEOUT, 5000)
    .set("l", k.IPPROTO_TCP, k.TCP_MAXSEG, 1000)
    .set("l", k.IPPROTO_TCP, k.TCP_NOTSENT_LOWAT, 4000)
    .bind("l")
    .listen("l")
    .client("c")
    .accept("l", "s");

differential("options", [
  { name: "defaults of a fresh TCP socket", program: all(program().socket("a"), "a") },
  { name: "defaults of a listener", program: all(program().listener("a"), "a") },
  {
    name: "defaults of a connection, client's side",
    program: all(program().pair(), "c"),
    differs: [{ why: "The MSS of lo is 65360", lines: { 24: ["32741", "32668"] } }],
  },
  { name: "defaults of a connection, server's side", program: all(program().pair(), "s") },
  {
    name: "defaults of a UDP socket",
    program: SOCKET_OPTIONS.reduce((p, option) => p.get("a", k.SOL_SOCKET, option), program().socket("a", "udp")),
    differs: [{ why: "UDP sockets have no send buffer", lines: { 8: ["212992", "ENOPROTOOPT"] } }],
  },
  {
    name: "IP options",
    program: program().socket("a").get("a", k.IPPROTO_IP, k.IP_TTL).get("a", k.IPPROTO_IP, k.IP_TOS),
    differs: [{ why: "IP_TTL and IP_TOS cannot be set", lines: { 2: ["64", "ENOPROTOOPT"], 3: ["0", "ENOPROTOOPT"] } }],
  },
  {
    name: "an accepted connection inherits",
    program: all(inherited(), "s").info("s").info("c"),
    differs: [{ why: "The window may take the whole share of the buffer", lines: { 44: ["19012", "20000"] } }],
  },
  { name: "SO_RCVBUF is doubled and clamped", program: values(k.SOL_SOCKET, k.SO_RCVBUF, 1, 5000, 100_000, 1 << 30) },
  { name: "SO_SNDBUF is doubled and clamped", program: values(k.SOL_SOCKET, k.SO_SNDBUF, 1, 5000, 100_000, 1 << 30) },
  { name: "SO_RCVLOWAT", program: values(k.SOL_SOCKET, k.SO_RCVLOWAT, 0, 1, 5, -1) },
  { name: "read-only options", program: values(k.SOL_SOCKET, k.SO_TYPE, 1) },
  { name: "options nobody knows", program: values(k.SOL_SOCKET, 999, 1) },
  { name: "TCP options nobody knows", program: values(k.IPPROTO_TCP, 999, 1) },
  { name: "levels nobody knows", program: values(77, 1, 1) },
  { name: "TCP_MAXSEG", program: values(k.IPPROTO_TCP, k.TCP_MAXSEG, 47, 88, 1000, 32767, 32768, 0, -1) },
  { name: "TCP_KEEPIDLE", program: values(k.IPPROTO_TCP, k.TCP_KEEPIDLE, 0, 1, 32767, 32768) },
  { name: "TCP_KEEPINTVL", program: values(k.IPPROTO_TCP, k.TCP_KEEPINTVL, 0, 1, 32767, 32768) },
  { name: "TCP_KEEPCNT", program: values(k.IPPROTO_TCP, k.TCP_KEEPCNT, 0, 1, 127, 128) },
  { name: "TCP_SYNCNT", program: values(k.IPPROTO_TCP, k.TCP_SYNCNT, 0, 1, 127, 128) },
  { name: "TCP_LINGER2", program: values(k.IPPROTO_TCP, k.TCP_LINGER2, 0, 1, 120, 121, -5) },
  { name: "TCP_DEFER_ACCEPT", program: values(k.IPPROTO_TCP, k.TCP_DEFER_ACCEPT, 0, 1, 2, 3, 4, 10, 1000, -1) },
  { name: "TCP_WINDOW_CLAMP", program: values(k.IPPROTO_TCP, k.TCP_WINDOW_CLAMP, 0, 1, 5000) },
  { name: "TCP_USER_TIMEOUT", program: values(k.IPPROTO_TCP, k.TCP_USER_TIMEOUT, 0, 1, 5000, -1) },
  { name: "TCP_QUICKACK", program: values(k.IPPROTO_TCP, k.TCP_QUICKACK, 0, 1, 2) },
  { name: "TCP_NODELAY", program: values(k.IPPROTO_TCP, k.TCP_NODELAY, 1, 2, 0) },
  { name: "TCP_CORK", program: values(k.IPPROTO_TCP, k.TCP_CORK, 1, 2, 0) },
]);
