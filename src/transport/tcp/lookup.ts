/**
 * Socket look-up: which connection, or else which listener, a segment belongs to (Linux __inet_lookup). @hot
 *
 * Established, half-open and TIME_WAIT sockets live in one table of open addressing over an Int32Array; a slot is four
 * words, compared in place:
 *
 *     0              1              2                       3
 *   +--------------+--------------+-----------------------+---------------+
 *   | remote IPv4  | local IPv4   | remote port|local port| entry + 1     |
 *   +--------------+--------------+-----------------------+---------------+
 *
 * `entry` indexes the array of sockets, 0 means empty. Linear probing, load at most one half, deletion by shifting the
 * followers back (Knuth 6.4 R): no tombstones. The hash is keyed, so that a peer cannot choose collisions.
 * IPv6 gets a second table with wider slots; callers see addresses only as words or `Address`.
 */

import type { Address } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";

/** What the table keeps: anything with a 4-tuple. */
export interface Entry {
  readonly localAddress: Address;
  readonly localPort: number;
  readonly remoteAddress: Address;
  readonly remotePort: number;
}

const SLOT_WORDS = 4;
const INITIAL_SLOTS = 1024;

export class ConnectionTable<T extends Entry> {
  private words = new Int32Array(INITIAL_SLOTS * SLOT_WORDS);
  private mask = INITIAL_SLOTS - 1;
  private readonly entries: (T | null)[] = [];
  private readonly freeEntries: number[] = [];
  private readonly key: number;
  private readonly limit: number;
  /** Sockets in the table. */
  size = 0;

  /** `key` is a secret; at most `limit` sockets. */
  constructor(key: number, limit: number) {
    this.key = key | 0;
    this.limit = limit;
  }

  get full(): boolean {
    return this.size >= this.limit;
  }

  /** The socket of this 4-tuple, or null. Addresses as the signed words of the IPv4 header. */
  find(remoteV4: number, localV4: number, remotePort: number, localPort: number): T | null {
    const words = this.words;
    const ports = (remotePort << 16) | localPort;
    let slot = this.hash(remoteV4, localV4, ports) & this.mask;
    for (;;) {
      const at = slot * SLOT_WORDS;
      const entry = words[at + 3];
      if (entry === 0) return null;
      if (words[at] === remoteV4 && words[at + 1] === localV4 && words[at + 2] === ports)
        return this.entries[entry - 1];
      slot = (slot + 1) & this.mask;
    }
  }

  /** Adds a socket whose 4-tuple is not in the table; false when the table is full. */
  add(socket: T): boolean {
    if (this.full) return false;
    if ((this.size + 1) * 2 > this.mask + 1) this.grow();
    const entry = this.freeEntries.pop() ?? this.entries.length;
    this.entries[entry] = socket;
    this.place(
      socket.remoteAddress.w3,
      socket.localAddress.w3,
      (socket.remotePort << 16) | socket.localPort,
      entry + 1,
    );
    this.size++;
    return true;
  }

  /** Puts `socket` in the place of another one with the same 4-tuple. */
  replace(old: T, socket: T): void {
    const at = this.slotOf(old) * SLOT_WORDS;
    this.entries[this.words[at + 3] - 1] = socket;
  }

  remove(socket: T): void {
    const words = this.words;
    let hole = this.slotOf(socket);
    const entry = words[hole * SLOT_WORDS + 3] - 1;
    this.entries[entry] = null;
    this.freeEntries.push(entry);
    this.size--;
    for (let slot = (hole + 1) & this.mask; words[slot * SLOT_WORDS + 3] !== 0; slot = (slot + 1) & this.mask) {
      const at = slot * SLOT_WORDS;
      const home = this.hash(words[at], words[at + 1], words[at + 2]) & this.mask;
      // The follower may move into the hole unless its home lies between the two.
      if (((slot - home) & this.mask) >= ((slot - hole) & this.mask)) {
        words.copyWithin(hole * SLOT_WORDS, at, at + SLOT_WORDS);
        hole = slot;
      }
    }
    words.fill(0, hole * SLOT_WORDS, (hole + 1) * SLOT_WORDS);
  }

  /** Calls `visit` for every socket, in order of entry numbers (deterministic). */
  forEach(visit: (socket: T) => void): void {
    for (const socket of this.entries) if (socket !== null) visit(socket);
  }

  private place(remoteV4: number, localV4: number, ports: number, entry: number): void {
    const words = this.words;
    let slot = this.hash(remoteV4, localV4, ports) & this.mask;
    while (words[slot * SLOT_WORDS + 3] !== 0) slot = (slot + 1) & this.mask;
    const at = slot * SLOT_WORDS;
    words[at] = remoteV4;
    words[at + 1] = localV4;
    words[at + 2] = ports;
    words[at + 3] = entry;
  }

  private slotOf(socket: T): number {
    const words = this.words;
    const remote = socket.remoteAddress.w3;
    const local = socket.localAddress.w3;
    const ports = (socket.remotePort << 16) | socket.localPort;
    let slot = this.hash(remote, local, ports) & this.mask;
    for (;;) {
      const at = slot * SLOT_WORDS;
      assert(words[at + 3] !== 0, "connection table: socket is not in it");
      if (words[at] === remote && words[at + 1] === local && words[at + 2] === ports) {
        assert(this.entries[words[at + 3] - 1] === socket, "connection table: another socket has this 4-tuple");
        return slot;
      }
      slot = (slot + 1) & this.mask;
    }
  }

  private grow(): void {
    const old = this.words;
    this.words = new Int32Array(old.length * 2); // tidy-allow hot: once per doubling of the connections
    this.mask = this.words.length / SLOT_WORDS - 1;
    for (let at = 0; at < old.length; at += SLOT_WORDS) {
      if (old[at + 3] !== 0) this.place(old[at], old[at + 1], old[at + 2], old[at + 3]);
    }
  }

  /** A keyed multiply-and-xorshift mix of the three words; the finisher is that of MurmurHash3. */
  private hash(remoteV4: number, localV4: number, ports: number): number {
    let h = Math.imul(remoteV4 ^ this.key, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15) ^ localV4, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 13) ^ ports, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    return h ^ (h >>> 16);
  }
}

/** What a listener must show to be chosen. */
export interface ListenerEntry {
  readonly localAddress: Address;
  readonly localPort: number;
  readonly boundIfindex: number;
  readonly reusePort: boolean;
}

/** Listening sockets by port (Linux lhash2). A port has few listeners; the best score wins. */
export class ListenerTable<T extends ListenerEntry> {
  private readonly byPort = new Map<number, T[]>();

  add(listener: T): void {
    const list = this.byPort.get(listener.localPort);
    if (list === undefined)
      this.byPort.set(listener.localPort, [listener]); // tidy-allow hot: once per listen(2)
    else list.push(listener);
  }

  remove(listener: T): void {
    const list = this.byPort.get(listener.localPort);
    const at = list === undefined ? -1 : list.indexOf(listener);
    if (list === undefined || at < 0) return;
    list.splice(at, 1);
    if (list.length === 0) this.byPort.delete(listener.localPort);
  }

  /**
   * The best listener for a segment to `localV4`:`localPort` that came in by `ifindex`: a bound device and a bound
   * address each count more than none (Linux compute_score). Among equals that share the port by SO_REUSEPORT the
   * 4-tuple's hash chooses, so that a client's retransmitted SYN meets the same listener (Linux reuseport_select_sock).
   */
  find(localV4: number, localPort: number, ifindex: number, tupleHash: number): T | null {
    const list = this.byPort.get(localPort);
    if (list === undefined) return null;
    let best: T | null = null;
    let bestScore = -1;
    let equals = 0;
    for (const listener of list) {
      const score = scoreOf(listener, localV4, ifindex);
      if (score < 0 || score < bestScore) continue;
      if (score > bestScore) equals = 0;
      else if (!listener.reusePort) continue;
      if (score > bestScore) best = listener;
      bestScore = score;
      equals++;
    }
    if (best === null || equals < 2 || !best.reusePort) return best;
    return this.pick(list, localV4, ifindex, bestScore, reciprocalScale(tupleHash, equals));
  }

  forEach(visit: (listener: T) => void): void {
    for (const list of this.byPort.values()) for (const listener of list) visit(listener);
  }

  private pick(list: readonly T[], localV4: number, ifindex: number, score: number, index: number): T | null {
    let left = index;
    for (const listener of list) {
      if (scoreOf(listener, localV4, ifindex) !== score || !listener.reusePort) continue;
      if (left-- === 0) return listener;
    }
    return null;
  }
}

function scoreOf(listener: ListenerEntry, localV4: number, ifindex: number): number {
  let score = 0;
  if (listener.boundIfindex !== 0) {
    if (listener.boundIfindex !== ifindex) return -1;
    score += 2;
  }
  if (!listener.localAddress.isWildcard) {
    if (listener.localAddress.w3 !== localV4) return -1;
    score += 1;
  }
  return score;
}

/** Maps a 32-bit hash to [0, n) without a division's bias towards its low bits (Linux reciprocal_scale). */
function reciprocalScale(hash: number, n: number): number {
  return Math.floor(((hash >>> 0) * n) / 0x100000000);
}
