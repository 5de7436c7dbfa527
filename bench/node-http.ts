/** node:http with the same answers as our site, for `bench tap`. @worker */
import { createServer } from "node:http";

const HELLO = "Hello from sojourn\n";
const MEBIBYTE = Buffer.alloc(1 << 20, "sojourn: the time a customer spends in a system, waiting and being served.\n");
const [host = "127.0.0.1", port = "0"] = process.argv.slice(2);

const server = createServer((request, response) => {
  if (request.url === "/hello") {
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "Content-Length": HELLO.length });
    response.end(HELLO);
  } else {
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8", "Content-Length": MEBIBYTE.length });
    response.end(MEBIBYTE);
  }
});
server.listen(Number(port), host, () => process.stdout.write("listening\n"));
process.once("SIGINT", () => process.exit());
