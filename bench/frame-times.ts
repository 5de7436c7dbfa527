/**
 * What a frame and an interrupt cost, timed inside a running stack: two hosts on one cable, turned by hand, one step
 * (one timer) at a time, so that the softirq of one host can be timed alone.
 */
import { ANY_V4 } from "../src/base/address.ts";
import type { NetDevice } from "../src/netdev/net-device.ts";
import type { Conn } from "../src/runtime/port.ts";
import { FREE_COSTS } from "../src/sim/cost-model.ts";
import * as linux from "../src/socket/constants.ts";
import type { Stack } from "../src/stack.ts";
import { connectMany, STREAM_PORT } from "./load.ts";
import { oneLink, World } from "./world.ts";

const CONNECTIONS = 32;
/** Bursts in one round; each sends one segment on every connection. */
const BURSTS = 400;
/** Segments in the bursts that tell an interrupt from its frames. */
const FEW = 4;
const WARM_UP_BURSTS = 4000;

export interface FrameTimes {
  /** ns per frame received in softirq, in batches; per interrupt beside its frames; per half of a transmission. */
  readonly receive: number[];
  readonly interrupt: number[];
  readonly transmit: number[];
}

/** Times of segments with `payloadBytes`, in `rounds` rounds. */
export async function frameTimes(payloadBytes: number, rounds: number): Promise<FrameTimes> {
  const bench = await FrameBench.open(payloadBytes);
  for (let i = 0; i < WARM_UP_BURSTS; i++) bench.burst([CONNECTIONS, 1, FEW][i % 3] as number);
  const times: FrameTimes = { receive: [], interrupt: [], transmit: [] };
  for (let round = 0; round < rounds; round++) {
    const many = bench.round(CONNECTIONS);
    // A softirq run with few frames on warm connections: what it costs beside them is the interrupt's.
    const one = bench.round(1);
    const few = bench.round(FEW);
    const besideFrames = one.softirqNs - (few.softirqNs - one.softirqNs) / (FEW - 1);
    times.interrupt.push(one.interruptNs + Math.max(0, besideFrames));
    times.receive.push((many.softirqNs - Math.max(0, besideFrames)) / CONNECTIONS);
    times.transmit.push((many.sendNs / CONNECTIONS - bench.callNs()) / 2);
  }
  bench.close();
  return times;
}

class FrameBench {
  private readonly world: World;
  private readonly client: Stack;
  private readonly server: Stack;
  private readonly conns: readonly Conn[];
  private readonly payload: Uint8Array;
  private readonly clockNs: number;
  private readonly calls: (conn: Conn) => number;
  private readonly send: (conn: Conn) => number;
  private softirqNs = 0;
  private softirqs = 0;
  private interruptNs = 0;
  private interrupts = 0;
  private sendNs = 0;

  private constructor(world: World, conns: readonly Conn[], payloadBytes: number) {
    this.world = world;
    this.client = world.topology.host("client");
    this.server = world.topology.host("server");
    this.conns = conns;
    this.payload = new Uint8Array(payloadBytes).fill(0x61);
    this.clockNs = clockReadingNs();
    const process = this.client.processes.get(world.client.pid);
    if (process === undefined) throw new Error("the client has no process");
    this.send = (conn) => process.send(conn.fd, this.payload, 0, payloadBytes);
    this.calls = (conn) => process.getsockopt(conn.fd, linux.SOL_SOCKET, linux.SO_KEEPALIVE);
  }

  static async open(payloadBytes: number): Promise<FrameBench> {
    // Free: all segments of a burst are on the cable at one instant, so that one interrupt brings them.
    const world = new World({ time: "virtual", topology: oneLink(), costs: FREE_COSTS });
    const listener = await world.run(world.server.network.listen(ANY_V4, STREAM_PORT));
    const scratch = new Uint8Array(65_536);
    const accepting = Promise.all(Array.from({ length: CONNECTIONS }, () => listener.accept()));
    const conns = await connectMany(world, STREAM_PORT, CONNECTIONS);
    for (const conn of await world.run(accepting)) {
      world.server.spawn("sink", (g) => {
        while (conn.tryRead(g, scratch, 0, scratch.length) > 0);
      });
    }
    return new FrameBench(world, conns, payloadBytes);
  }

  /** `BURSTS` bursts of `count` segments: ns per softirq run, per interrupt raised by its timer, per burst sent. */
  round(count: number): { softirqNs: number; interruptNs: number; sendNs: number } {
    this.softirqNs = this.softirqs = this.interruptNs = this.interrupts = this.sendNs = 0;
    for (let i = 0; i < BURSTS; i++) this.burst(count);
    return {
      softirqNs: this.softirqNs / this.softirqs,
      interruptNs: this.interruptNs / this.interrupts,
      sendNs: this.sendNs / BURSTS,
    };
  }

  /** Sends one segment on each of `count` connections, then lets everything happen. */
  burst(count: number): void {
    const { conns, send } = this;
    const from = now();
    for (let i = 0; i < count; i++) if (send(conns[i] as Conn) < 0) throw new Error("a send failed");
    this.sendNs += now() - from - this.clockNs;
    this.settle(count);
  }

  /** ns of a cheap call on the same process: what `send` costs besides sending. */
  callNs(): number {
    const { conns, calls } = this;
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 10; round++) {
      const from = now();
      for (let i = 0; i < 1000; i++) calls(conns[i % conns.length] as Conn);
      best = Math.min(best, (now() - from) / 1000);
    }
    return best;
  }

  close(): void {
    this.world.close();
  }

  /** Turns both hosts until a second has nothing more to bring, timing the server's softirq over `count` frames. */
  private settle(count: number): void {
    const { client, server } = this;
    const { stat } = server.net.softirq;
    const card = (server.net.devices.find((dev) => !dev.isLoopback) as NetDevice).device.stats;
    for (;;) {
      const due = Math.min(client.deadline(), server.deadline());
      // Delayed ACKs are taken in with the burst; what is later (retransmission) is never due.
      if (due > Math.max(client.env.clock.nowNs, server.env.clock.nowNs) + 45e6) return;
      const host = client.deadline() === due ? client : server;
      const { runs, processed } = stat;
      const { interrupts } = card;
      const from = now();
      host.step(due);
      const ns = now() - from - this.clockNs;
      if (card.interrupts !== interrupts && stat.runs === runs) {
        this.interruptNs += ns;
        this.interrupts++;
      }
      if (stat.runs === runs || stat.processed - processed !== count) continue;
      this.softirqNs += ns;
      this.softirqs++;
    }
  }
}

function now(): number {
  return Number(process.hrtime.bigint() - ORIGIN);
}

const ORIGIN = process.hrtime.bigint();

/** What two readings of the clock add to a time. */
function clockReadingNs(): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 20; round++) {
    const from = now();
    for (let i = 0; i < 1000; i++) now();
    best = Math.min(best, (now() - from) / 1000);
  }
  return best;
}
