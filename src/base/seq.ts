/**
 * Sequence-number arithmetic: comparisons modulo 2^32 (RFC 9293 §3.4; Linux before(), after()).
 *
 * A sequence number is any 32-bit integer, signed or unsigned: only differences count. `a` is "less" than `b` if the
 * shorter way from `a` to `b` around the circle goes up; meaningful while they are less than 2^31 apart. TCP keeps them
 * as signed words, which the engine stores in place; an unsigned number above 2^31 would be an object.
 */

/** a < b on the circle. */
export function seqLt(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** a ≤ b on the circle. */
export function seqLeq(a: number, b: number): boolean {
  return ((a - b) | 0) <= 0;
}

/** a > b on the circle. */
export function seqGt(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

/** a ≥ b on the circle. */
export function seqGeq(a: number, b: number): boolean {
  return ((a - b) | 0) >= 0;
}

/** a + n modulo 2^32, signed. */
export function seqAdd(a: number, n: number): number {
  return (a + n) | 0;
}

/** How far `a` is ahead of `b`: signed, negative if behind. */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}
