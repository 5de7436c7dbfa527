/**
 * A server, a client and a router in virtual time: one request, and where its time went.
 *
 *     npm run build && node dist/examples/first-journey.js
 *
 * Deterministic: the same output on every machine, without root, ports or waiting.
 */
import {
  Collector,
  defaultTopology,
  parseAddress,
  Recorder,
  renderWaterfall,
  ServeMux,
  Sim,
  Topology,
  VirtualClock,
} from "../src/index.ts";

// One clock per host; the server's kernel and processes record what they do.
const clock = new VirtualClock();
const recorder = new Recorder(clock);
const topology = new Topology(defaultTopology({ delayNs: 10e6 }), {
  seed: 1,
  clockOf: (host) => (host === "server" ? clock : new VirtualClock()),
  traceOf: (host) => (host === "server" ? recorder : undefined),
});
const sim = new Sim(topology);
const collector = new Collector({ graceNs: 0, truth: "simulated", precision: "exact" });
collector.attach(recorder.buffer, "server");

// The server: Go's shape. It sleeps 5 ms before it answers.
const mux = new ServeMux();
mux.handle("GET /hello/{name}", async (w, r) => {
  await r.sleep(5e6);
  w.write(`Hello ${r.pathValue("name")}\n`);
});
await sim.run(topology.host("server").listenAndServe(":3000", mux));

// The client: a process of the client host.
const { runtime } = topology.host("client").spawn({ name: "client" });
const answer = await sim.run(get("/hello/world"));
await sim.run(runtime.sleep(1e9));

console.log(answer.split("\r\n\r\n")[1]);
collector.drain(sim.nowNs);
for (const journey of collector.list()) console.log(renderWaterfall(journey).join("\n"));

async function get(path: string): Promise<string> {
  const address = parseAddress("198.51.100.10");
  if (!address) throw new Error("not an address");
  const conn = await runtime.network.dial(address, 3000);
  conn.writeLatin1(`GET ${path} HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n`);
  conn.flush();
  const buffer = new Uint8Array(4096);
  let text = "";
  for (let n = await conn.read(buffer); n > 0; n = await conn.read(buffer)) {
    text += new TextDecoder().decode(buffer.subarray(0, n));
  }
  conn.close();
  return text;
}
