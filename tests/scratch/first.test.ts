import { test } from "vitest";
import { Topology, defaultTopology } from "/work/main/src/topology.ts";
import { VirtualClock } from "/work/main/src/sim/virtual-clock.ts";
import { Sim } from "/work/main/src/sim/sim.ts";
import { Recorder } from "/work/main/src/journey/recorder.ts";
import { Collector } from "/work/main/src/journey/collector.ts";
import { waterfall, flowLine } from "/work/main/src/journey/render.ts";
import { parseAddress } from "/work/main/src/base/address.ts";
import { siteMux } from "/work/main/apps/site/main.ts";
test("first", async () => {
  const recs: Recorder[] = [];
  const topo = new Topology(defaultTopology(), { seed: 1, clockOf: () => new VirtualClock(), traceOf: (h, c) => { if (h !== "server") return undefined; const r = new Recorder(c); recs.push(r); return r; } });
  const sim = new Sim(topo);
  const col = new Collector({ graceNs: 0 });
  col.attach(recs[0].buffer, "kernel");
  const server = topo.host("server");
  await sim.run(server.listenAndServe(":3000", siteMux()) as any);
  const client = topo.host("client").spawn({ name: "curl" });
  const go = async (path: string) => {
    const conn = await client.runtime.network.dial(parseAddress("198.51.100.10")!, 3000);
    conn.writeLatin1(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`); conn.flush();
    const b = new Uint8Array(65536); const n = await conn.read(b);
    console.log(Buffer.from(b.subarray(0, n)).toString().slice(0, 400));
    conn.close();
  };
  await sim.run(go("/hello"));
  await sim.run(client.runtime.sleep(1e9));
  col.drain(sim.nowNs + 1e9); col.flush();
  for (const j of col.list({ limit: 10 })) { console.log(JSON.stringify(j, null, 1)); console.log(waterfall(j, {})); console.log(flowLine(j)); }
  console.log(col.counters());
});
