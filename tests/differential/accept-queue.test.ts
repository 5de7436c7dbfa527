/** The accept queue: what fits, what is dropped, and what the client believes meanwhile. */
import { differential } from "./differential.ts";
import { program } from "./program.ts";

const clients = (n: number) => Array.from({ length: n }, (_, i) => `c${i + 1}`);

differential("accept queue", [
  {
    name: "a connection, accepted",
    program: program().pair().ss().info("c").info("s").names("c").names("s").poll("c").poll("s"),
  },
  ...[0, 1, 4].map((backlog) => ({
    name: `listen(${backlog}), nobody accepts, the SYN is sent again after 1 s`,
    program: program()
      .listener("l", backlog)
      .client(...clients(backlog + 3))
      .ss()
      .poll(`c${backlog + 1}`)
      .poll(`c${backlog + 3}`)
      .count("TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPSynRetrans")
      .wait(1200)
      .count("TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPSynRetrans")
      .ss(),
    expects: { TcpExtListenOverflows: 4, TcpExtListenDrops: 4, TcpExtTCPSynRetrans: 2, TcpPassiveOpens: backlog + 1 },
  })),
]);
