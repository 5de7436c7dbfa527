/** Which call fails when, and with which errno. */
import * as k from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { PORT, program } from "./program.ts";

const reuse = (name: string) => [name, k.SOL_SOCKET, k.SO_REUSEADDR, 1] as const;
const share = (name: string) => [name, k.SOL_SOCKET, k.SO_REUSEPORT, 1] as const;

/** A server's connection in TIME_WAIT on `PORT`, the listener gone. */
const serverInTimeWait = () => program().pair().close("s").wait(10).close("c", "l");

differential("connect", [
  {
    name: "a closed port: ECONNREFUSED once, in SO_ERROR",
    program: program().client("c").poll("c").error("c").error("c").poll("c").recv("c").send("c", "x"),
    expects: { TcpOutRsts: 1, TcpAttemptFails: 1 },
  },
  {
    name: "a closed port: the second connect tells, the third tries again",
    program: program().client("c").connect("c").connect("c").error("c").names("c").ss(),
    expects: { TcpOutRsts: 2, TcpAttemptFails: 2 },
  },
  {
    name: "a closed port: recv takes the reason",
    program: program().client("c").recv("c").recv("c").connect("c"),
  },
  {
    name: "a closed port: send takes the reason",
    program: program().client("c").send("c", "x").send("c", "x").recv("c"),
  },
  {
    name: "connect twice: 0 once, then EISCONN",
    program: program().listener("l").client("c").connect("c").connect("c").connect("c", 81),
  },
  {
    name: "connect while it is in progress: EALREADY",
    program: program()
      .listener("l", 0)
      .client("c1", "c2")
      .connect("c2")
      .send("c2", "x")
      .recv("c2")
      .names("c2")
      .poll("c2")
      .shutdown("c2", k.SHUT_WR)
      .poll("c2")
      .ss(),
    differs: [{ why: "shutdown() while connecting leaves no error", lines: { 14: ["28", "20"] } }],
  },
  { name: "close while it is in progress", program: program().listener("l", 0).client("c1", "c2").close("c2").ss() },
  {
    name: "the wildcard means this host",
    program: program().listener("l").socket("c").connect("c", PORT, "0.0.0.0").accept("l", "s").ss(),
  },
  {
    name: "addresses nobody can connect to",
    program: program()
      .socket("a")
      .connect("a", PORT, "192.0.2.1")
      .connect("a", PORT, "255.255.255.255")
      .connect("a", PORT, "224.0.0.1")
      .names("a")
      .connect("a", 0)
      .error("a"),
  },
  {
    name: "a listener, a connected socket and a fresh one refuse each other's calls",
    program: program()
      .pair()
      .connect("l")
      .listen("s")
      .listen("c")
      .accept("c", "x")
      .accept("l", "x")
      .bind("c", 81)
      .bind("l", 81)
      .send("l", "x")
      .recv("l")
      .names("l")
      .socket("f")
      .accept("f", "x")
      .send("f", "x")
      .recv("f")
      .names("f")
      .poll("f")
      .poll("l"),
  },
  {
    name: "a socket that connects to itself",
    program: program().socket("a").bind("a").connect("a").error("a").send("a", "me").recv("a").ss(),
    expects: { TcpActiveOpens: 1 },
    differs: [
      {
        why: "A connection to oneself needs one ACK less",
        lines: { 7: ['["ESTAB 0 0 80 80"]', '["ESTAB 0 2 80 80"]'] },
        counters: {
          IpInReceives: [5, 4],
          IpInDelivers: [5, 4],
          IpOutRequests: [5, 4],
          IpOutTransmits: [5, 4],
          TcpInSegs: [5, 4],
          TcpOutSegs: [4, 3],
          TcpExtTCPHPAcks: [1, 0],
          IpExtInOctets: [290, 238],
          IpExtOutOctets: [290, 238],
          IpExtInNoECTPkts: [5, 4],
        },
      },
    ],
  },
]);

differential("bind", [
  { name: "twice on one socket", program: program().socket("a").bind("a").bind("a").bind("a", 81).names("a") },
  { name: "two sockets", program: program().socket("a").bind("a").socket("b").bind("b").listen("b") },
  {
    name: "the wildcard against an address, and two addresses",
    program: program()
      .socket("a")
      .bind("a", PORT, "0.0.0.0")
      .socket("b")
      .bind("b")
      .socket("c")
      .bind("c", 81)
      .socket("d")
      .bind("d", 81, "127.0.0.2"),
  },
  { name: "an address of another host", program: program().socket("a").bind("a", PORT, "192.0.2.1").bind("a", PORT) },
  { name: "port 0", program: program().socket("a").bind("a", 0).names("a").listen("a").names("a").ss() },
  { name: "listen without bind", program: program().socket("a").listen("a").names("a").ss() },
  {
    name: "SO_REUSEADDR on both: both may bind, one may listen",
    program: program()
      .socket("a")
      .set(...reuse("a"))
      .bind("a")
      .socket("b")
      .set(...reuse("b"))
      .bind("b")
      .listen("a")
      .listen("b")
      .socket("c")
      .set(...reuse("c"))
      .bind("c")
      .ss(),
  },
  {
    name: "SO_REUSEADDR on one only",
    program: program()
      .socket("a")
      .bind("a")
      .socket("b")
      .set(...reuse("b"))
      .bind("b"),
  },
  {
    name: "SO_REUSEADDR set after bind",
    program: program()
      .socket("a")
      .bind("a")
      .set(...reuse("a"))
      .socket("b")
      .set(...reuse("b"))
      .bind("b"),
  },
  {
    name: "SO_REUSEPORT on both: both listen",
    program: program()
      .socket("a")
      .set(...share("a"))
      .listener("x", 8, 81)
      .bind("a")
      .listen("a")
      .socket("b")
      .set(...share("b"))
      .bind("b")
      .listen("b")
      .ss(),
  },
  {
    name: "SO_REUSEPORT on one only",
    program: program()
      .socket("a")
      .bind("a")
      .socket("b")
      .set(...share("b"))
      .bind("b"),
  },
  {
    name: "TIME_WAIT holds the port",
    program: serverInTimeWait().ss().socket("b").bind("b"),
    expects: { TcpExtTW: 1 },
  },
  {
    name: "TIME_WAIT, SO_REUSEADDR on the new socket only",
    program: serverInTimeWait()
      .socket("b")
      .set(...reuse("b"))
      .bind("b"),
  },
  {
    name: "TIME_WAIT, SO_REUSEADDR on the old listener and the new one",
    program: program()
      .socket("l")
      .set(...reuse("l"))
      .bind("l")
      .listen("l")
      .client("c")
      .accept("l", "s")
      .close("s")
      .wait(10)
      .close("c", "l")
      .ss()
      .socket("b")
      .set(...reuse("b"))
      .bind("b")
      .listen("b")
      .client("d")
      .accept("b", "t")
      .ss(),
  },
  {
    name: "an established connection holds the port when its listener is gone",
    program: program()
      .pair()
      .close("l")
      .socket("b")
      .bind("b")
      .set(...reuse("b"))
      .bind("b"),
  },
  {
    name: "the port of a socket that was closed is free",
    program: program().socket("a").bind("a").close("a").socket("b").bind("b").listen("b"),
  },
  {
    name: "connect from a bound port, while the peer still is in TIME_WAIT",
    program: program()
      .listener("l")
      .socket("c")
      .set(...reuse("c"))
      .bind("c", 90)
      .connect("c")
      .accept("l", "s")
      .close("c")
      .wait(10)
      .close("s")
      .ss()
      .socket("d")
      .set(...reuse("d"))
      .bind("d", 90)
      .connect("d")
      .ss(),
  },
]);

differential("epoll", [
  {
    name: "add twice, modify and delete what is not there",
    program: program()
      .epoll("e")
      .socket("a")
      .ctl("e", "mod", "a", k.EPOLLIN)
      .ctl("e", "del", "a", 0)
      .ctl("e", "add", "a", k.EPOLLIN)
      .ctl("e", "add", "a", k.EPOLLOUT)
      .ctl("e", "add", "e", k.EPOLLIN)
      .events("e")
      .ctl("e", "del", "a", 0)
      .events("e"),
  },
  {
    name: "a fresh socket hangs up",
    program: program()
      .epoll("e")
      .socket("a")
      .ctl("e", "add", "a", k.EPOLLIN | k.EPOLLOUT)
      .events("e")
      .events("e"),
  },
  {
    name: "level-triggered: reported while it is true",
    program: program()
      .pair()
      .epoll("e")
      .ctl("e", "add", "s", k.EPOLLIN | k.EPOLLRDHUP)
      .events("e")
      .send("c", "hello")
      .events("e")
      .events("e")
      .recv("s")
      .events("e")
      .close("c")
      .events("e"),
  },
  {
    name: "edge-triggered: reported once per arrival",
    program: program()
      .pair()
      .epoll("e")
      .ctl("e", "add", "s", k.EPOLLIN | k.EPOLLOUT | (k.EPOLLET >>> 0))
      .events("e")
      .events("e")
      .send("c", "hello")
      .events("e")
      .events("e")
      .send("c", "again")
      .events("e")
      .recv("s", 3)
      .events("e"),
  },
  {
    name: "one-shot: silent until it is modified",
    program: program()
      .pair()
      .epoll("e")
      .ctl("e", "add", "s", k.EPOLLIN | k.EPOLLONESHOT)
      .send("c", "hello")
      .events("e")
      .send("c", "again")
      .events("e")
      .ctl("e", "mod", "s", k.EPOLLIN | k.EPOLLONESHOT)
      .events("e"),
  },
  {
    name: "a listener is readable while somebody waits",
    program: program()
      .listener("l")
      .epoll("e")
      .ctl("e", "add", "l", k.EPOLLIN)
      .events("e")
      .client("c")
      .events("e")
      .accept("l", "s")
      .events("e"),
  },
  {
    name: "a closed descriptor leaves the set; a reset is ERR and HUP",
    program: program()
      .pair()
      .epoll("e")
      .ctl("e", "add", "s", k.EPOLLIN)
      .ctl("e", "add", "c", k.EPOLLIN)
      .linger("c", 1, 0)
      .close("c")
      .events("e"),
  },
  {
    name: "EPOLLEXCLUSIVE cannot be modified, nor stand beside EPOLLONESHOT",
    program: program()
      .listener("l")
      .epoll("e")
      .ctl("e", "add", "l", k.EPOLLIN | k.EPOLLEXCLUSIVE | k.EPOLLONESHOT)
      .ctl("e", "add", "l", k.EPOLLIN | k.EPOLLEXCLUSIVE)
      .ctl("e", "mod", "l", k.EPOLLIN)
      .ctl("e", "del", "l", 0),
  },
]);
