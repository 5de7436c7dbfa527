/** UDP, and the ICMP errors it hears of. */
import * as k from "../../src/socket/constants.ts";
import { differential } from "./differential.ts";
import { PORT, program } from "./program.ts";

const reuse = (name: string) => [name, k.SOL_SOCKET, k.SO_REUSEADDR, 1] as const;

differential("udp", [
  {
    name: "a closed port: a connected socket hears ECONNREFUSED once",
    program: program().socket("a", "udp").connect("a").send("a", "x").poll("a").recv("a").recv("a").poll("a"),
    expects: { UdpNoPorts: 1, IcmpOutDestUnreachs: 1, IcmpInDestUnreachs: 1, UdpOutDatagrams: 1 },
  },
  {
    name: "a closed port: the next send tells, and sends nothing",
    program: program()
      .socket("a", "udp")
      .connect("a")
      .send("a", "x")
      .send("a", "y")
      .send("a", "z")
      .error("a")
      .error("a"),
  },
  {
    name: "a closed port: a socket that is not connected hears nothing",
    program: program().socket("a", "udp").sendto("a", "x", PORT).recv("a").error("a").poll("a").names("a"),
    expects: { UdpNoPorts: 1, IcmpOutDestUnreachs: 1 },
  },
  {
    name: "datagrams keep their borders; what does not fit is lost",
    program: program()
      .socket("s", "udp")
      .bind("s")
      .socket("c", "udp")
      .connect("c")
      .send("c", "one")
      .send("c", "three")
      .send("c", "")
      .send("c", "last")
      .poll("s")
      .recv("s")
      .recv("s", 2)
      .recv("s")
      .recv("s", 100, k.MSG_PEEK)
      .recv("s")
      .recv("s")
      .names("c"),
    expects: { UdpInDatagrams: 4, UdpOutDatagrams: 4 },
  },
  {
    name: "a connected socket takes datagrams of its peer only",
    program: program()
      .socket("a", "udp")
      .bind("a", 90)
      .connect("a", 91)
      .socket("b", "udp")
      .bind("b", 91)
      .socket("x", "udp")
      .bind("x", 92)
      .sendto("x", "stranger", 90)
      .recv("x")
      .sendto("b", "peer", 90)
      .recv("a")
      .recv("a"),
  },
  {
    name: "calls that make no sense",
    program: program()
      .socket("a", "udp")
      .send("a", "x")
      .recv("a")
      .listen("a")
      .accept("a", "b")
      .shutdown("a", k.SHUT_WR)
      .sendto("a", "x", 0)
      .names("a")
      .bind("a")
      .bind("a", 81)
      .sendto("a", "x".repeat(65508), PORT)
      .connect("a", PORT, "255.255.255.255")
      .connect("a", PORT, "192.0.2.1"),
    differs: [
      {
        why: "Permission to broadcast is asked before the route",
        lines: { 12: ["ENETUNREACH", "EACCES"] },
        counters: { IpOutNoRoutes: [2, 1] },
      },
    ],
  },
  {
    name: "a datagram of 65494 bytes over loopback",
    program: program()
      .socket("s", "udp")
      .bind("s")
      .socket("c", "udp")
      .sendto("c", "x".repeat(65494), PORT)
      .recv("s", 70000),
  },
  {
    name: "the largest datagram over loopback",
    program: program().socket("s", "udp").bind("s").socket("c", "udp").sendto("c", "x".repeat(65507), PORT),
    differs: [
      {
        why: "The largest datagram over lo is 65494 bytes",
        lines: { 4: ["65507", "EMSGSIZE"] },
        counters: {
          IpInReceives: [1, 0],
          IpInDelivers: [1, 0],
          IpOutRequests: [1, 0],
          IpOutTransmits: [1, 0],
          UdpOutDatagrams: [1, 0],
          IpExtInOctets: [65535, 0],
          IpExtOutOctets: [65535, 0],
          IpExtInNoECTPkts: [1, 0],
        },
      },
    ],
  },
  {
    name: "two sockets on a port: EADDRINUSE, unless both have SO_REUSEADDR",
    program: program()
      .socket("a", "udp")
      .bind("a")
      .socket("b", "udp")
      .bind("b")
      .set(...reuse("b"))
      .bind("b")
      .set(...reuse("a"))
      .bind("b"),
  },
  {
    name: "shutdown for writing: EPIPE; for reading: still EAGAIN, as nothing blocks",
    program: program()
      .socket("a", "udp")
      .connect("a")
      .shutdown("a", k.SHUT_WR)
      .send("a", "x")
      .recv("a")
      .shutdown("a", k.SHUT_RD)
      .recv("a")
      .poll("a"),
    differs: [{ why: "A send after shutdown() reaches no floor that counts", counters: { IpOutDiscards: [1, 0] } }],
  },
]);
