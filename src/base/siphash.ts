/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012) over 32-bit words: a keyed hash that a peer cannot steer.
 *
 * ISNs (RFC 6528), ephemeral ports (RFC 6056), SYN cookies and hash tables use it, as Linux does (lib/siphash.c). The
 * message is the words in order, each little-endian; the result is the low 32 bits of the 64-bit tag.
 */
import { assert } from "./assert.ts";

export class SipHash {
  /** Key words k0 low, k0 high, k1 low, k1 high. */
  private readonly key = new Int32Array(4);
  /** v0 low, v0 high, … v3 low, v3 high. */
  private readonly v = new Int32Array(8);

  /** `key16` is 16 secret bytes; they are copied. */
  constructor(key16: Uint8Array) {
    assert(key16.length === 16, "a SipHash key is 16 bytes");
    for (let i = 0; i < 16; i++) this.key[i >> 2] |= key16[i] << ((i & 3) * 8);
  }

  /** Hashes the first `count` words of `w`; unsigned 32 bit. */
  words(w: Int32Array, count: number): number {
    const { v, key } = this;
    v[0] = key[0] ^ 0x70736575;
    v[1] = key[1] ^ 0x736f6d65;
    v[2] = key[2] ^ 0x6e646f6d;
    v[3] = key[3] ^ 0x646f7261;
    v[4] = key[0] ^ 0x6e657261;
    v[5] = key[1] ^ 0x6c796765;
    v[6] = key[2] ^ 0x79746573;
    v[7] = key[3] ^ 0x74656462;
    let i = 0;
    for (; i + 1 < count; i += 2) compress(v, w[i], w[i + 1]);
    // The last block holds the remaining word and, in its top byte, the length in bytes.
    compress(v, i < count ? w[i] : 0, (count * 4) << 24);
    v[4] ^= 0xff;
    for (let round = 0; round < 4; round++) sipRound(v);
    return (v[0] ^ v[2] ^ v[4] ^ v[6]) >>> 0;
  }
}

function compress(v: Int32Array, low: number, high: number): void {
  v[6] ^= low;
  v[7] ^= high;
  sipRound(v);
  sipRound(v);
  v[0] ^= low;
  v[1] ^= high;
}

/** One SipRound on 64-bit lanes held as pairs of 32-bit words. */
function sipRound(v: Int32Array): void {
  add(v, 0, 2);
  add(v, 4, 6);
  rotateXor(v, 2, 13, 0);
  rotateXor(v, 6, 16, 4);
  swapHalves(v, 0);
  add(v, 4, 2);
  add(v, 0, 6);
  rotateXor(v, 2, 17, 4);
  rotateXor(v, 6, 21, 0);
  swapHalves(v, 4);
}

/** v[a] += v[b], 64 bit. */
function add(v: Int32Array, a: number, b: number): void {
  const low = (v[a] >>> 0) + (v[b] >>> 0);
  v[a] = low;
  v[a + 1] = v[a + 1] + v[b + 1] + (low > 0xffffffff ? 1 : 0);
}

/** v[a] = (v[a] <<< bits) ^ v[b], 64 bit, 0 < bits < 32. */
function rotateXor(v: Int32Array, a: number, bits: number, b: number): void {
  const low = v[a];
  const high = v[a + 1];
  v[a] = ((low << bits) | (high >>> (32 - bits))) ^ v[b];
  v[a + 1] = ((high << bits) | (low >>> (32 - bits))) ^ v[b + 1];
}

/** v[a] <<< 32. */
function swapHalves(v: Int32Array, a: number): void {
  const low = v[a];
  v[a] = v[a + 1];
  v[a + 1] = low;
}
