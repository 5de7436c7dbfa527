/**
 * Initial sequence numbers (RFC 6528) and timestamp offsets: a keyed hash of the 4-tuple plus, for ISNs, a clock that
 * ticks every 64 ns (Linux secure_tcp_seq, secure_tcp_ts_off).
 */
import type { Address } from "../../base/address.ts";
import type { SipHash } from "../../base/siphash.ts";
import type { Ns } from "../../base/time.ts";

/** RFC 6528 asks for 4 µs per tick; Linux uses 64 ns. */
const ISN_TICK_NS = 64;
/** Keeps the hash of one purpose apart from that of another under the same key. */
const PURPOSE_ISN = 1;
const PURPOSE_TIMESTAMP = 2;

export class IsnGenerator {
  private readonly sip: SipHash;
  private readonly message = new Int32Array(10);

  constructor(sip: SipHash) {
    this.sip = sip;
  }

  /** The ISN of a connection that opens now. */
  isn(local: Address, localPort: number, remote: Address, remotePort: number, nowNs: Ns): number {
    const hash = this.hash(local, remote, (localPort << 16) | remotePort, PURPOSE_ISN);
    return (hash + Math.floor(nowNs / ISN_TICK_NS)) >>> 0;
  }

  /** What is added to the millisecond clock to make TSval: the same for all connections of a pair of hosts. */
  timestampOffset(local: Address, remote: Address): number {
    return this.hash(local, remote, 0, PURPOSE_TIMESTAMP);
  }

  /** Keyed hash of a 4-tuple: SO_REUSEPORT selection and others. */
  tuple(local: Address, localPort: number, remote: Address, remotePort: number, purpose: number): number {
    return this.hash(local, remote, (localPort << 16) | remotePort, purpose);
  }

  /** Keyed hash of four words as they stand in a packet. */
  words(a: number, b: number, c: number, purpose: number): number {
    const m = this.message;
    m[0] = a;
    m[1] = b;
    m[2] = c;
    m[3] = purpose;
    return this.sip.words(m, 4);
  }

  private hash(local: Address, remote: Address, ports: number, purpose: number): number {
    const m = this.message;
    m[0] = local.w0;
    m[1] = local.w1;
    m[2] = local.w2;
    m[3] = local.w3;
    m[4] = remote.w0;
    m[5] = remote.w1;
    m[6] = remote.w2;
    m[7] = remote.w3;
    m[8] = ports;
    m[9] = purpose;
    return this.sip.words(m, 10);
  }
}
