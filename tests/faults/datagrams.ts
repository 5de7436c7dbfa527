/**
 * UDP datagrams both ways in a seeded run: each that arrives is one that was sent, whole, and none arrives more often
 * than the cables carried it.
 *
 * Readers look every few milliseconds only, so that datagrams wait in receive queues, which the books must know.
 */
import { type Address, ANY_V4 } from "../../src/base/address.ts";
import type { Prng } from "../../src/base/prng.ts";
import { MILLISECOND, type Ns } from "../../src/base/time.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { Stack } from "../../src/stack.ts";
import type { UdpSocket } from "../../src/transport/udp/udp-socket.ts";
import type { Lore } from "./talk.ts";

const PORT = 9000;
const NAME_BYTES = 4;
const LARGEST_BYTES = 4000;
const LOOK_EVERY_NS: Ns = 20 * MILLISECOND;
/** When the last one was sent, everything on the way arrives within this: delays, rates and fragments included. */
const LAST_LOOK_NS: Ns = 10_000 * MILLISECOND;
const NO_OPTIONS = { reuseAddress: false, reusePort: false, ifindex: 0 };
const DEAF = { readable() {}, writable() {}, stateChanged() {} };

export interface DatagramCounts {
  sent: number;
  received: number;
  readonly faults: string[];
}

/** One host's socket. */
class Post {
  readonly counts: DatagramCounts;
  readonly sizes: number[] = [];
  private readonly host: Stack;
  private readonly socket: UdpSocket;
  private readonly lore: Lore;
  private readonly into = new Uint8Array(65_536);
  private readonly from = { address: ANY_V4, port: 0 };

  constructor(host: Stack, lore: Lore, counts: DatagramCounts) {
    this.host = host;
    this.lore = lore;
    this.counts = counts;
    this.socket = host.udp.create(DEAF);
    const error = host.udp.bind(this.socket, ANY_V4, PORT, NO_OPTIONS);
    if (error !== 0) throw new Error(`bind: ${error}`);
  }

  send(to: Address, len: number): void {
    const index = this.sizes.length;
    this.sizes.push(len);
    const bytes = Uint8Array.from(this.lore.stream(1000 + index, Math.max(NAME_BYTES, len)));
    new DataView(bytes.buffer).setUint32(0, index);
    const sent = this.host.udp.send(this.socket, bytes, 0, bytes.length, to, PORT);
    if (sent === bytes.length) this.counts.sent++;
  }

  /** Reads what waits; `sizes` are those the other host has sent. */
  look(sizes: readonly number[]): void {
    const { udp } = this.host;
    for (;;) {
      const n = udp.receive(this.socket, this.into, 0, this.into.length, this.from);
      if (n < 0) break;
      this.counts.received++;
      const index = new DataView(this.into.buffer).getUint32(0);
      const len = Math.max(NAME_BYTES, sizes[index] ?? -1);
      const want = this.lore.stream(1000 + index, len).subarray(NAME_BYTES);
      if (len !== n || Buffer.compare(want, this.into.subarray(NAME_BYTES, n)) !== 0) {
        this.counts.faults.push(`${this.host.name} received a datagram of ${n} bytes that nobody sent`);
      }
    }
  }

  close(): void {
    this.host.udp.close(this.socket);
  }
}

/** Sends `count` datagrams each way at random times; resolves when nothing can be on its way any more. */
export async function playDatagrams(
  count: number,
  hosts: readonly (readonly [Stack, Address])[],
  user: Runtime,
  lore: Lore,
  prng: Prng,
): Promise<DatagramCounts> {
  const counts: DatagramCounts = { sent: 0, received: 0, faults: [] };
  if (count === 0) return counts;
  const [a, b] = hosts.map(([host]) => new Post(host, lore, counts)) as [Post, Post];
  const [toA, toB] = hosts.map(([, address]) => address) as [Address, Address];
  for (let left = count; left > 0; left--) {
    a.send(toB, prng.below(LARGEST_BYTES));
    if (prng.chance(0.7)) b.send(toA, prng.below(LARGEST_BYTES));
    await user.sleep(prng.below(3) * LOOK_EVERY_NS);
    a.look(b.sizes);
    b.look(a.sizes);
  }
  await user.sleep(LAST_LOOK_NS);
  a.look(b.sizes);
  b.look(a.sizes);
  a.close();
  b.close();
  return counts;
}
