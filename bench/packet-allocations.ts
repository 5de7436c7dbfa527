/**
 * Bytes of JavaScript heap allocated per packet by the kernel alone, device to TCP at both ends: law 3, counted. No
 * process, no socket, no HTTP, so that one object per packet shows.
 *
 * `node --expose-gc --min-semi-space-size=128 --max-semi-space-size=128 dist/bench/packet-allocations.js`: a young
 * generation larger than what is allocated meanwhile is never collected, so growth of the heap is allocation. Prints
 * JSON: per kind of traffic the least of a few rounds.
 */
import { parseAddress } from "../src/base/address.ts";
import { assert } from "../src/base/assert.ts";
import { ManualClock } from "../src/base/time.ts";
import { Topology } from "../src/topology.ts";
import type { ReceivedRun, SocketUpcalls } from "../src/transport/port.ts";
import type { Tcb, Tcp } from "../src/transport/tcp/tcp.ts";
import { oneLink } from "./world.ts";

const PORT = 80;
const CONNECTIONS = 100;
const WARM_UPS = 4;
const ROUNDS = 3;
const EXCHANGES = 20_000;
const BULK_BYTES = 30e6;
/** So short that send(2) copies it without a view; a longer one costs a view per call, not per packet. */
const REQUEST_BYTES = 60;
const IN_PROGRESS = -115;

/** One end of a connection and what its host would tell the process. */
class End implements SocketUpcalls {
  readonly tcp: Tcp;
  readonly tcb: Tcb;
  /** Bytes arrived, or room to send. */
  due = false;

  constructor(tcp: Tcp, tcb: Tcb) {
    this.tcp = tcp;
    this.tcb = tcb;
    tcp.setUpcalls(tcb, this);
  }
  readable(): void {
    this.due = true;
  }
  writable(): void {
    this.due = true;
  }
  stateChanged(): void {}

  /** Takes what has arrived, without a copy; how much it was. */
  takeAll(run: ReceivedRun): number {
    const { tcp, tcb } = this;
    let taken = 0;
    while (tcp.receivePeek(tcb, 0, run)) {
      tcp.receiveTake(tcb, run.len);
      taken += run.len;
    }
    return taken;
  }
}

class Kernels {
  readonly clients: End[] = [];
  readonly servers: End[] = [];
  private readonly topology: Topology;
  private readonly run: ReceivedRun = { address: 0, len: 0, offset: 0, arrivedNs: 0, queuedNs: 0 };
  private readonly block = new Uint8Array(65536).fill(0x61);

  constructor(connections: number) {
    this.topology = new Topology(oneLink(), { seed: 1, clockOf: () => new ManualClock() });
    const { tcp: client } = this.topology.host("client");
    const { tcp: server } = this.topology.host("server");
    const address = parseAddress("192.0.2.20");
    assert(address !== undefined, "an address");
    const nobody = { readable() {}, writable() {}, stateChanged() {} };
    const listener = server.create(nobody);
    const options = { reuseAddress: true, reusePort: false, ifindex: 0 };
    assert(server.bind(listener, address, PORT, options) === 0 && server.listen(listener, 4096) === 0, "it listens");
    for (let i = 0; i < connections; i++) {
      const tcb = client.create(nobody);
      assert(client.connect(tcb, address, PORT) === IN_PROGRESS, "it connects");
      this.clients.push(new End(client, tcb));
      while (server.acceptQueueLength(listener) === 0) this.turn();
      const child = server.acceptPeek(listener, 0);
      assert(child !== null && server.acceptTake(listener, child), "it accepts");
      this.servers.push(new End(server, child));
    }
  }

  /** Packets that left either card. */
  get packets(): number {
    const [link] = this.topology.links;
    return link === undefined ? 0 : link.stats(0).sentFrames + link.stats(1).sentFrames;
  }

  /** Each client sends a request when it has its answer. */
  exchange(total: number): void {
    const { clients, servers, block, run } = this;
    let begun = 0;
    let over = 0;
    for (let i = 0; i < clients.length; i++, begun++) this.send(clients[i] as End, REQUEST_BYTES);
    while (over < begun) {
      this.turn();
      for (let i = 0; i < servers.length; i++) {
        const server = servers[i] as End;
        if (server.due && server.takeAll(run) > 0) server.tcp.send(server.tcb, block, 0, REQUEST_BYTES, 0);
        server.due = false;
        const client = clients[i] as End;
        if (client.due && client.takeAll(run) > 0) {
          over++;
          if (begun < total) {
            begun++;
            client.tcp.send(client.tcb, block, 0, REQUEST_BYTES, 0);
          }
        }
        client.due = false;
      }
    }
  }

  /** The first client sends `total` bytes, as fast as they go. */
  pour(total: number): void {
    const client = this.clients[0] as End;
    const server = this.servers[0] as End;
    let sent = 0;
    for (let got = 0; got < total; ) {
      for (let n = 1; n > 0 && sent < total; ) {
        n = client.tcp.send(client.tcb, this.block, 0, Math.min(this.block.length, total - sent), 0);
        if (n > 0) sent += n;
      }
      this.turn();
      got += server.takeAll(this.run);
    }
  }

  close(): void {
    this.topology.close();
  }

  private send(end: End, len: number): void {
    const sent = end.tcp.send(end.tcb, this.block, 0, len, 0);
    assert(sent === len, "a request fits");
  }

  private turn(): void {
    this.topology.advance(this.topology.deadline());
  }
}

interface Figure {
  readonly packets: number;
  readonly bytesPerPacket: number;
}

function measure(connections: number, work: (kernels: Kernels) => void): Figure {
  const kernels = new Kernels(connections);
  for (let i = 0; i < WARM_UPS; i++) work(kernels);
  let best: Figure = { packets: 0, bytesPerPacket: Number.POSITIVE_INFINITY };
  for (let i = 0; i < ROUNDS; i++) {
    globalThis.gc?.();
    const heap = process.memoryUsage().heapUsed;
    const before = kernels.packets;
    work(kernels);
    const packets = kernels.packets - before;
    const bytesPerPacket = (process.memoryUsage().heapUsed - heap) / packets;
    if (bytesPerPacket < best.bytesPerPacket) best = { packets, bytesPerPacket };
  }
  kernels.close();
  return best;
}

if (globalThis.gc === undefined) throw new Error("start it with --expose-gc");
const bulk = measure(1, (kernels) => kernels.pour(BULK_BYTES));
const roundTrips = measure(CONNECTIONS, (kernels) => kernels.exchange(EXCHANGES));
process.stdout.write(`${JSON.stringify({ bulk, roundTrips })}\n`);
