import { test } from "vitest";
import { Topology, defaultTopology } from "../../src/topology.ts";
import { VirtualClock } from "../../src/sim/virtual-clock.ts";
import { Sim } from "../../src/sim/sim.ts";
import { parseAddress } from "../../src/base/address.ts";
import { siteMux } from "../../apps/site/main.ts";
test("bulk", async () => {
  const topo = new Topology(defaultTopology({ loss: 0.01 }), { seed: 1, clockOf: () => new VirtualClock() });
  const sim = new Sim(topo);
  const server = topo.host("server");
  await sim.run(server.listenAndServe(":3000", siteMux()) as any);
  const client = topo.host("client").spawn({ name: "curl" });
  const N = 20_000_000;
  const go = async () => {
    const conn = await client.runtime.network.dial(parseAddress("198.51.100.10")!, 3000);
    conn.writeLatin1(`POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: ${N}\r\n\r\n`);
    let sent = 0;
    const w = (async () => { const b = new Uint8Array(65536).fill(97); while (sent < N) { const n = Math.min(b.length, N - sent); await conn.writeAll(b.subarray(0, n)); sent += n; } })();
    let got = 0; const b = new Uint8Array(65536);
    while (got < N) { const n = await conn.read(b); if (n === 0) break; got += n; }
    console.log("got", got, "sent", sent, "t", sim.nowNs / 1e6, "ms");
  };
  const t0 = Date.now();
  try { await sim.run(go(), 20e9); } catch (e) { console.log(String(e).slice(0, 600)); }
  console.log("wall", Date.now() - t0, "virtual ms", sim.nowNs / 1e6);
  for (const h of topo.hosts) { console.log(h.name, h.env.drops.rows()); console.log(JSON.stringify(h.tcp.rows().filter(r=>r.state==="ESTAB"))); const m = h.env.mib.snapshot(); for (const k of Object.keys(m)) if (m[k as "TcpInSegs"] > 0 && /Retrans|Timeouts|Recover|OFO|Prune|ZeroWindow|WinProbe|Loss|Undo/.test(k)) console.log(" ", k, m[k as "TcpInSegs"]); }
}, 60000);
