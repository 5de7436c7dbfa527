/** The accept queue: what fits, what is dropped, and what the client believes meanwhile. */
import { IPPROTO_TCP, TCP_DEFER_ACCEPT } from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { program } from "./program.ts";

const clients = (n: number) => Array.from({ length: n }, (_, i) => `c${i + 1}`);
const OVERFLOW = ["TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPSynRetrans", "TcpOutRsts"];

/**
 * Two clients whose handshakes end at a listener that already holds one connection more than `listen(0)` lets it: their
 * ACKs were put off by TCP_DEFER_ACCEPT, and the backlog shrank meanwhile.
 */
function lateOverflow(abortOnOverflow: string) {
  return program()
    .sysctl("net.ipv4.tcp_abort_on_overflow", abortOnOverflow)
    .listener("l", 8)
    .set("l", IPPROTO_TCP, TCP_DEFER_ACCEPT, 10)
    .client("c1", "c2")
    .ss()
    .set("l", IPPROTO_TCP, TCP_DEFER_ACCEPT, 0)
    .listen("l", 0)
    .send("c1", "first")
    .ss();
}

differential("accept queue", [
  {
    name: "a connection, accepted",
    program: program().pair().ss().info("c").info("s").names("c").names("s").poll("c").poll("s"),
    expects: { TcpActiveOpens: 1, TcpPassiveOpens: 1 },
  },
  ...[0, 1, 4].map((backlog) => ({
    name: `listen(${backlog}), nobody accepts: ${backlog + 1} fit, the SYNs of others are sent again after 1 s`,
    program: program()
      .listener("l", backlog)
      .client(...clients(backlog + 3))
      .ss()
      .poll(`c${backlog + 1}`)
      .poll(`c${backlog + 3}`)
      .count(...OVERFLOW)
      .wait(1200)
      .count(...OVERFLOW)
      .ss(),
    expects: { TcpExtListenOverflows: 4, TcpExtListenDrops: 4, TcpExtTCPSynRetrans: 2, TcpPassiveOpens: backlog + 1 },
  })),
  {
    name: "tcp_abort_on_overflow does nothing for a SYN",
    program: program()
      .sysctl("net.ipv4.tcp_abort_on_overflow", "1")
      .listener("l", 0)
      .client("c1", "c2")
      .poll("c2")
      .error("c2")
      .ss(),
    expects: { TcpExtListenOverflows: 1, TcpExtListenDrops: 1, TcpOutRsts: 0 },
  },
  {
    name: "a final ACK that finds the queue full is dropped; the client believes it is connected",
    program: lateOverflow("0").send("c2", "second").poll("c2").error("c2").ss(),
    expects: { TcpExtListenOverflows: 1, TcpExtListenDrops: 1, TcpOutRsts: 0 },
  },
  {
    name: "tcp_abort_on_overflow: a final ACK that finds the queue full is answered with RST",
    program: lateOverflow("1").send("c2", "second").poll("c2").recv("c2").send("c2", "third").ss(),
    expects: { TcpExtListenOverflows: 1, TcpExtListenDrops: 1, TcpOutRsts: 1, TcpExtEmbryonicRsts: 1 },
  },
  {
    name: "the SYN-ACK comes again after 1 s, and the client challenges it",
    program: lateOverflow("0")
      .wait(1200)
      .count(...OVERFLOW)
      .count("TcpExtTCPSYNChallenge", "TcpExtTCPChallengeACK", "TcpInErrs")
      .accept("l", "s1")
      .recv("s1")
      .accept("l", "s2")
      .ss(),
    expects: { TcpExtTCPSYNChallenge: 1, TcpExtListenOverflows: 1 },
  },
  {
    name: "room in the queue: the SYN that is sent again gets in",
    program: program()
      .listener("l", 0)
      .client("c1", "c2")
      .accept("l", "s1")
      .until("c2", 4, 2000)
      .accept("l", "s2")
      .accept("l", "s3")
      .ss(),
    expects: { TcpExtListenOverflows: 1, TcpExtTCPSynRetrans: 1, TcpPassiveOpens: 2 },
  },
  {
    name: "a full SYN queue without cookies drops the SYN",
    program: program()
      .sysctl("net.ipv4.tcp_syncookies", "0")
      .listener("l", 1)
      .set("l", IPPROTO_TCP, TCP_DEFER_ACCEPT, 10)
      .client("c1", "c2", "c3")
      .ss(),
    expects: { TcpExtTCPReqQFullDrop: 1, TcpExtListenDrops: 1, TcpExtListenOverflows: 0 },
  },
  {
    name: "a full SYN queue with cookies answers and remembers nothing",
    program: program()
      .listener("l", 1)
      .set("l", IPPROTO_TCP, TCP_DEFER_ACCEPT, 10)
      .client("c1", "c2", "c3")
      .ss()
      .accept("l", "s")
      .send("c3", "hello")
      .recv("s"),
    expects: { TcpExtTCPReqQFullDoCookies: 1, TcpExtSyncookiesSent: 1, TcpExtListenDrops: 0 },
  },
  {
    name: "tcp_syncookies=2: every connection is made from a cookie",
    program: program().sysctl("net.ipv4.tcp_syncookies", "2").pair().send("c", "hello").recv("s").info("s").ss(),
    expects: { TcpExtSyncookiesSent: 1, TcpExtSyncookiesRecv: 1 },
  },
]);
