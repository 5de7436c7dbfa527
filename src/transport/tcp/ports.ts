/**
 * Ports: who is bound where (Linux inet_bind_bucket), the rules of SO_REUSEADDR and SO_REUSEPORT
 * (inet_csk_bind_conflict), and ephemeral ports by RFC 6056 algorithm 4, double hash (inet_hash_connect).
 */
import type { Address } from "../../base/address.ts";
import { assert } from "../../base/assert.ts";
import { Errno } from "../../base/errno.ts";
import type { Prng } from "../../base/prng.ts";
import type { Sysctls } from "../../base/sysctl.ts";
import { TcpState } from "../port.ts";

/** Anything that holds a port: a bound socket, an accepted connection, a TIME_WAIT socket. */
export interface PortOwner {
  readonly state: TcpState;
  readonly localAddress: Address;
  readonly localPort: number;
  readonly boundIfindex: number;
  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  /** @internal neighbours among the owners of the port; the first names itself as the one before, null: owns none. */
  prevOwner: PortOwner | null;
  /** @internal */
  nextOwner: PortOwner | null;
}

/** Size of RFC 6056's table of perturbations (INET_TABLE_PERTURB_SIZE, smaller: one entry per destination class). */
const PERTURB_SIZE = 1024;

export class PortTable {
  /**
   * The first owner of each port in use, by who made it so: bind(), or connect(), whose ports other connects may share
   * while their 4-tuples differ, and bind() may not. The owners are a list through themselves: most ports have one.
   */
  private readonly bound = new Map<number, PortOwner>();
  private readonly connected = new Map<number, PortOwner>();
  private readonly prng: Prng;
  private readonly sysctl: Sysctls;
  private readonly perturb = new Uint32Array(PERTURB_SIZE);

  constructor(prng: Prng, sysctl: Sysctls) {
    this.prng = prng;
    this.sysctl = sysctl;
    for (let i = 0; i < PERTURB_SIZE; i++) this.perturb[i] = prng.u32();
  }

  /** Claims `port` for a socket that bind() names it for. 0, or -EADDRINUSE. */
  claim(owner: PortOwner, port: number): number {
    if (conflicts(this.firstOwner(port), owner)) return -Errno.EADDRINUSE;
    this.insert(owner, port, false);
    return 0;
  }

  /** True if a listener may start on the port `owner` holds: SO_REUSEADDR does not let two sockets listen. */
  mayListen(owner: PortOwner): boolean {
    for (let other = this.firstOwner(owner.localPort); other !== null; other = other.nextOwner) {
      if (other === owner || other.state !== TcpState.listen || !overlap(other, owner)) continue;
      if (!(other.reusePort && owner.reusePort)) return false;
    }
    return true;
  }

  /** Adds an accepted connection or a TIME_WAIT socket to the port it inherits. */
  inherit(owner: PortOwner): void {
    this.insert(owner, owner.localPort, false);
  }

  /** Gives back the port `owner` holds, if it does. */
  release(owner: PortOwner): void {
    const { localPort, prevOwner: prev, nextOwner: next } = owner;
    if (prev === null) return;
    if (next !== null) next.prevOwner = prev === owner ? next : prev;
    if (prev !== owner) prev.nextOwner = next;
    else {
      const ports = this.bound.get(localPort) === owner ? this.bound : this.connected;
      if (next === null) ports.delete(localPort);
      else ports.set(localPort, next);
    }
    owner.prevOwner = owner.nextOwner = null;
  }

  /**
   * A free port for bind(0): random start, odd ports first: the even ones are left to connect(), as Linux does. 0 when
   * none is free.
   */
  chooseForBind(owner: PortOwner): number {
    const low = this.sysctl.ipLocalPortRangeMin;
    const count = this.sysctl.ipLocalPortRangeMax - low + 1;
    const start = this.prng.below(count);
    for (let parity = 0; parity < 2; parity++) {
      for (let i = 0; i < count; i++) {
        const port = low + ((start + i) % count);
        if ((port & 1) === parity) continue;
        if (conflicts(this.firstOwner(port), owner)) continue;
        this.insert(owner, port, false);
        return port;
      }
    }
    return 0;
  }

  /**
   * A port for connect(): `destinationHash` is a keyed hash of both addresses and the remote port; `isTaken` says
   * whether a port's 4-tuple is in use. 0 when none is free (-EADDRNOTAVAIL).
   */
  chooseForConnect(owner: PortOwner, destinationHash: number, isTaken: (port: number) => boolean): number {
    const low = this.sysctl.ipLocalPortRangeMin;
    const count = (this.sysctl.ipLocalPortRangeMax - low + 1) & ~1;
    const index = destinationHash % PERTURB_SIZE;
    const offset = ((this.perturb[index] + destinationHash) % count) & ~1;
    for (let parity = 0; parity < 2; parity++) {
      for (let i = 0; i < count; i += 2) {
        const port = low + ((offset + i + parity) % count);
        if (this.bound.has(port)) continue;
        if (this.connected.has(port) && isTaken(port)) continue;
        this.insert(owner, port, true);
        // A random even step keeps the next port for this destination from being guessed exactly (RFC 7739 discussion).
        this.perturb[index] += i + 2 * (1 + this.prng.below(8));
        return port;
      }
    }
    return 0;
  }

  private firstOwner(port: number): PortOwner | null {
    return this.bound.get(port) ?? this.connected.get(port) ?? null;
  }

  private insert(owner: PortOwner, port: number, byConnect: boolean): void {
    assert(owner.prevOwner === null, "ports: the owner has a port already");
    const first = this.firstOwner(port);
    if (first === null) {
      (byConnect ? this.connected : this.bound).set(port, owner);
      owner.prevOwner = owner;
      return;
    }
    owner.prevOwner = first;
    owner.nextOwner = first.nextOwner;
    if (first.nextOwner !== null) first.nextOwner.prevOwner = owner;
    first.nextOwner = owner;
  }
}

function conflicts(first: PortOwner | null, owner: PortOwner): boolean {
  for (let other = first; other !== null; other = other.nextOwner) {
    if (other === owner || !overlap(other, owner)) continue;
    if (other.reuseAddress && owner.reuseAddress && other.state !== TcpState.listen) continue;
    if (other.reusePort && owner.reusePort) continue;
    return true;
  }
  return false;
}

/** True if the two could receive the same segment: neither is tied to another device or another address. */
function overlap(a: PortOwner, b: PortOwner): boolean {
  if (a.boundIfindex !== 0 && b.boundIfindex !== 0 && a.boundIfindex !== b.boundIfindex) return false;
  return a.localAddress.isWildcard || b.localAddress.isWildcard || a.localAddress.equals(b.localAddress);
}
