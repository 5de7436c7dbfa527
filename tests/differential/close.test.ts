/** How connections end: FIN or RST, who learns of it and with which errno, what stays behind. */
import { SHUT_RD, SHUT_RDWR, SHUT_WR } from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { program } from "./program.ts";

differential("close", [
  {
    name: "close with unread data resets",
    program: program().pair().send("c", "unread").close("s").poll("c").recv("c").recv("c").send("c", "x").ss(),
    expects: { TcpExtTCPAbortOnClose: 1, TcpOutRsts: 1, TcpEstabResets: 2 },
  },
  {
    name: "close with data the peer has not read: FIN",
    program: program().pair().send("s", "last words").close("s").ss().poll("c").recv("c").recv("c").close("c").ss(),
    expects: { TcpOutRsts: 0, TcpExtTCPAbortOnClose: 0 },
  },
  {
    name: "SO_LINGER {1, 0} resets",
    program: program().pair().linger("c", 1, 0).close("c").poll("s").error("s").error("s").recv("s").ss(),
    expects: { TcpExtTCPAbortOnData: 1, TcpOutRsts: 1 },
  },
  {
    name: "SO_LINGER {1, 0} with unread data",
    program: program().pair().send("s", "unread").linger("c", 1, 0).close("c").recv("s").ss(),
    expects: { TcpExtTCPAbortOnClose: 1, TcpExtTCPAbortOnData: 0 },
  },
  {
    name: "SO_LINGER {1, 5} waits for the FIN's ACK",
    program: program().pair().linger("c", 1, 5).close("c").recv("s").ss(),
    expects: { TcpOutRsts: 0 },
  },
  {
    name: "a reset behind data: the data, ECONNRESET once, the end",
    program: program().pair().send("c", "data").linger("c", 1, 0).close("c").poll("s").recv("s").recv("s").recv("s"),
  },
  {
    name: "write after a reset: ECONNRESET, then EPIPE",
    program: program().pair().linger("c", 1, 0).close("c").send("s", "1").send("s", "2").recv("s").names("s").poll("s"),
  },
  {
    name: "read after a reset: ECONNRESET, then the end; write EPIPE",
    program: program().pair().linger("c", 1, 0).close("c").recv("s").recv("s").send("s", "1").poll("s"),
  },
  {
    name: "half-close: the other way stays open for a reply",
    program: program()
      .pair()
      .send("c", "ping")
      .shutdown("c", SHUT_WR)
      .ss()
      .send("c", "more")
      .recv("s")
      .recv("s")
      .ss()
      .send("s", "pong")
      .recv("c")
      .poll("c")
      .poll("s")
      .close("s")
      .recv("c")
      .poll("c")
      .ss()
      .close("c")
      .ss(),
    expects: { TcpExtTW: 1, TcpOutRsts: 0 },
  },
  {
    name: "shutdown of both ways, by one side",
    program: program()
      .pair()
      .shutdown("c", SHUT_RDWR)
      .poll("c")
      .recv("c")
      .send("c", "x")
      .ss()
      .send("s", "late")
      .recv("s")
      .recv("c")
      .ss(),
  },
  {
    name: "shutdown for reading sends nothing, and data is still taken",
    program: program()
      .pair()
      .shutdown("s", SHUT_RD)
      .recv("s")
      .send("c", "still")
      .poll("s")
      .recv("s")
      .recv("s")
      .send("s", "yes")
      .recv("c")
      .ss(),
    expects: { TcpOutRsts: 0 },
  },
  {
    name: "shutdown twice, and what it says of a socket that was never connected",
    program: program()
      .pair()
      .shutdown("c", SHUT_WR)
      .shutdown("c", SHUT_WR)
      .shutdown("c", SHUT_RD)
      .shutdown("s", 7)
      .socket("u")
      .shutdown("u", SHUT_WR)
      .close("s")
      .shutdown("c", SHUT_WR)
      .poll("c"),
  },
  {
    name: "data after a full close: RST; the writer reads the reset first",
    program: program().pair().close("c").wait(10).ss().send("s", "1").ss().recv("s").send("s", "2").recv("s"),
    expects: { TcpOutRsts: 1, TcpExtTCPAbortOnData: 0 },
  },
  {
    name: "data after a full close: RST; the writer writes on",
    program: program()
      .pair()
      .close("c")
      .wait(10)
      .send("s", "1")
      .poll("s")
      .send("s", "2")
      .send("s", "3")
      .recv("s")
      .error("s"),
    expects: { TcpOutRsts: 1 },
  },
  {
    name: "data after a full close, the end was read before",
    program: program()
      .pair()
      .close("c")
      .wait(10)
      .recv("s")
      .send("s", "1")
      .error("s")
      .send("s", "2")
      .recv("s")
      .poll("s"),
  },
  {
    name: "TIME_WAIT is on the side that closes first",
    program: program().pair().close("c").wait(10).ss().close("s").ss(),
    expects: { TcpExtTW: 1 },
  },
  {
    name: "TIME_WAIT on the server's side",
    program: program().pair().close("s").wait(10).ss().close("c").ss(),
    expects: { TcpExtTW: 1 },
  },
  {
    name: "TIME_WAIT from FIN_WAIT2 of a socket that is still held",
    program: program()
      .pair()
      .shutdown("c", SHUT_WR)
      .wait(10)
      .shutdown("s", SHUT_WR)
      .ss()
      .poll("c")
      .recv("c")
      .names("c")
      .close("c", "s")
      .ss(),
  },
  {
    name: "an orphan in FIN_WAIT2, by SO_LINGER2 for a second, is gone after it",
    program: program().pair().set("c", 6, 8, 1).close("c").wait(10).ss().wait(1300).ss().send("s", "x").recv("s"),
  },
  {
    name: "LINGER2 below zero: no FIN_WAIT2 at all; the ACK of the FIN is answered with RST",
    program: program().pair().set("c", 6, 8, -1).close("c").wait(60).ss().recv("s").recv("s").send("s", "x"),
    expects: { TcpExtTCPAbortOnData: 1, TcpExtTCPAbortOnLinger: 0, TcpOutRsts: 1 },
  },
  {
    name: "close(listener) resets the connections nobody accepted",
    program: program()
      .listener("l")
      .client("c1", "c2")
      .send("c1", "hello")
      .ss()
      .close("l")
      .poll("c1")
      .recv("c1")
      .recv("c2")
      .client("c3")
      .error("c3")
      .ss(),
    expects: { TcpOutRsts: 3, TcpEstabResets: 4 },
  },
  {
    name: "close(listener) leaves accepted connections alone",
    program: program().pair().close("l").send("c", "hello").recv("s").ss(),
  },
  {
    name: "shutdown of a listener: it stops, the descriptor stays, it may listen again",
    program: program()
      .listener("l")
      .client("c")
      .shutdown("l", SHUT_RD)
      .recv("c")
      .ss()
      .accept("l", "s")
      .listen("l", 3)
      .client("d")
      .accept("l", "s")
      .ss(),
  },
  {
    name: "a client gives up while it waits in the accept queue: accept, then the end",
    program: program().listener("l").client("c").close("c").wait(10).ss().accept("l", "s").recv("s").names("s").ss(),
  },
  {
    name: "a client resets while it waits in the accept queue: accept, then ECONNRESET",
    program: program()
      .listener("l")
      .client("c")
      .linger("c", 1, 0)
      .close("c")
      .ss()
      .poll("l")
      .accept("l", "s")
      .recv("s")
      .names("s")
      .ss(),
  },
  {
    name: "data waits in the accept queue",
    program: program()
      .listener("l")
      .client("c")
      .send("c", "early")
      .close("c")
      .ss()
      .accept("l", "s")
      .ss()
      .recv("s")
      .recv("s"),
  },
]);
