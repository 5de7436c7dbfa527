/** Waits that backend engineers know: Nagle against delayed ACKs, corks, SYN retransmission. */
import * as k from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { type Program, program } from "./program.ts";

/** Requests and replies, until both sides delay their ACKs (pingpong). */
function warm(p: Program): Program {
  for (let i = 0; i < 4; i++) p.send("c", "ping").recv("s").send("s", "pong").recv("c");
  return p;
}

differential("timing", [
  {
    name: "write, write, read: the second write waits for a delayed ACK, 40 ms",
    program: warm(program().pair()).send("c", "head").send("c", "body").recv("s").until("s", k.EPOLLIN).recv("s"),
  },
  {
    name: "write, write, read with TCP_NODELAY: at once",
    program: warm(program().pair().set("c", k.IPPROTO_TCP, k.TCP_NODELAY, 1))
      .send("c", "head")
      .send("c", "body")
      .until("s", k.EPOLLIN)
      .recv("s"),
  },
  {
    name: "write, write, read on a new connection: the first ACKs are quick",
    program: program().pair().send("c", "head").send("c", "body").recv("s").until("s", k.EPOLLIN).recv("s"),
  },
  {
    name: "TCP_QUICKACK on the reader",
    program: warm(program().pair())
      .set("s", k.IPPROTO_TCP, k.TCP_QUICKACK, 1)
      .send("c", "head")
      .send("c", "body")
      .recv("s")
      .until("s", k.EPOLLIN)
      .recv("s"),
  },
  {
    name: "TCP_CORK holds for 200 ms",
    program: program()
      .pair()
      .set("c", k.IPPROTO_TCP, k.TCP_CORK, 1)
      .send("c", "head")
      .send("c", "body")
      .until("s", k.EPOLLIN)
      .recv("s"),
  },
  {
    name: "TCP_CORK taken away sends at once",
    program: program()
      .pair()
      .set("c", k.IPPROTO_TCP, k.TCP_CORK, 1)
      .send("c", "head")
      .send("c", "body")
      .recv("s")
      .set("c", k.IPPROTO_TCP, k.TCP_CORK, 0)
      .recv("s"),
  },
  {
    name: "MSG_MORE is a cork for one call",
    program: program().pair().send("c", "head", k.MSG_MORE).recv("s").send("c", "body").recv("s"),
  },
  {
    name: "SYNs to a full accept queue: the first five go out a second apart",
    program: program()
      .listener("l", 0)
      .client("c1", "c2")
      .wait(2300)
      .count("TcpExtTCPSynRetrans")
      .accept("l", "s")
      .until("c2", k.EPOLLOUT, 3000)
      .count("TcpExtTCPSynRetrans"),
  },
  {
    name: "an idle connection says nothing for 100 ms",
    program: program().pair().send("c", "x").recv("s").wait(100).ss(),
  },
]);
