/**
 * Ports: who is bound where (Linux inet_bind_bucket), the rules of SO_REUSEADDR and SO_REUSEPORT
 * (inet_csk_bind_conflict), and ephemeral ports by RFC 6056 algorithm 4, double hash (inet_hash_connect).
 */
import type { Address } from "../../base/address.ts";
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
}

interface Bucket {
  readonly owners: Set<PortOwner>;
  /** Made by connect(): other connects may share the port while their 4-tuples differ; bind() may not. */
  readonly byConnect: boolean;
}

/** Size of RFC 6056's table of perturbations (INET_TABLE_PERTURB_SIZE, smaller: one entry per destination class). */
const PERTURB_SIZE = 1024;

export class PortTable {
  private readonly buckets = new Map<number, Bucket>();
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
    const bucket = this.buckets.get(port);
    if (bucket !== undefined && conflicts(bucket, owner)) return -Errno.EADDRINUSE;
    this.insert(owner, port, false);
    return 0;
  }

  /** True if a listener may start on the port `owner` holds: SO_REUSEADDR does not let two sockets listen. */
  mayListen(owner: PortOwner): boolean {
    const bucket = this.buckets.get(owner.localPort);
    if (bucket === undefined) return true;
    for (const other of bucket.owners) {
      if (other === owner || other.state !== TcpState.listen || !overlap(other, owner)) continue;
      if (!(other.reusePort && owner.reusePort)) return false;
    }
    return true;
  }

  /** Adds an accepted connection or a TIME_WAIT socket to the port it inherits. */
  inherit(owner: PortOwner): void {
    this.insert(owner, owner.localPort, false);
  }

  release(owner: PortOwner): void {
    const bucket = this.buckets.get(owner.localPort);
    if (bucket === undefined || !bucket.owners.delete(owner)) return;
    if (bucket.owners.size === 0) this.buckets.delete(owner.localPort);
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
        const bucket = this.buckets.get(port);
        if (bucket !== undefined && conflicts(bucket, owner)) continue;
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
        const bucket = this.buckets.get(port);
        if (bucket !== undefined && !bucket.byConnect) continue;
        if (bucket !== undefined && isTaken(port)) continue;
        this.insert(owner, port, true);
        // A random even step keeps the next port for this destination from being guessed exactly (RFC 7739 discussion).
        this.perturb[index] += i + 2 * (1 + this.prng.below(8));
        return port;
      }
    }
    return 0;
  }

  private insert(owner: PortOwner, port: number, byConnect: boolean): void {
    const bucket = this.buckets.get(port);
    if (bucket === undefined) this.buckets.set(port, { owners: new Set([owner]), byConnect });
    else bucket.owners.add(owner);
  }
}

function conflicts(bucket: Bucket, owner: PortOwner): boolean {
  for (const other of bucket.owners) {
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
