/**
 * The one source of randomness (law 9): seeded, so that a run is a pure function of its seed.
 *
 * xoshiro128** by Blackman and Vigna: 128 bits of state, period 2^128 − 1; the seed is spread over the state by
 * splitmix32. Not for secrets: a real driver seeds it, and `HostEnv.secret`, from the machine's entropy.
 */
import { assert } from "./assert.ts";

export class Prng {
  private s0: number;
  private s1: number;
  private s2: number;
  private s3: number;

  /** `seed` is taken modulo 2^32. */
  constructor(seed: number) {
    let x = seed | 0;
    const next = (): number => {
      x = (x + 0x9e3779b9) | 0;
      let z = x ^ (x >>> 16);
      z = Math.imul(z, 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    };
    this.s0 = next();
    this.s1 = next();
    this.s2 = next();
    // splitmix32 is a permutation, so four outputs in a row are different: the state is never all zero.
    this.s3 = next();
  }

  /** A uniform unsigned 32-bit integer. */
  u32(): number {
    const product = Math.imul(this.s1, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9);
    const t = this.s1 << 9;
    this.s2 ^= this.s0;
    this.s3 ^= this.s1;
    this.s1 ^= this.s2;
    this.s0 ^= this.s3;
    this.s2 ^= t;
    this.s3 = (this.s3 << 11) | (this.s3 >>> 21);
    return result >>> 0;
  }

  /** A uniform integer in [0, n). `n` from 1 to 2^32; the bias is below n / 2^53. */
  below(n: number): number {
    assert(n >= 1 && n <= 0x100000000, "Prng.below needs 1 <= n <= 2^32");
    return Math.floor(this.float() * n);
  }

  /** A uniform double in [0, 1) with 53 random bits. */
  float(): number {
    const high = this.u32() >>> 5;
    const low = this.u32() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }

  /** True with probability `p`. Always draws, so that changing `p` does not shift later draws. */
  chance(p: number): boolean {
    return this.float() < p;
  }

  /** Fills `bytes` with random bytes. */
  fill(bytes: Uint8Array): void {
    for (let i = 0, word = 0; i < bytes.length; i++) {
      if ((i & 3) === 0) word = this.u32();
      bytes[i] = word >>> ((i & 3) * 8);
    }
  }

  /** A new generator for one consumer, so that its draws do not shift anybody else's. */
  fork(): Prng {
    return new Prng(this.u32());
  }
}
