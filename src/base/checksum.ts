/**
 * The Internet checksum (RFC 1071), incremental update (RFC 1624). @hot
 *
 * A *partial sum* is the sum of big-endian 16-bit words, not yet folded; partial sums of even-length pieces add up.
 * Long runs are summed as native 32-bit words in four independent accumulators: the one's-complement sum does not care
 * about the byte order (RFC 1071 §2 B), so a little-endian sum is swapped once at the end.
 */

/** Below this many bytes a plain loop is faster than finding the 32-bit view of the buffer. */
const WORDS_FROM = 64;

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** The 32-bit view of each buffer that was ever summed: a cache, no state — it changes no result. */
const VIEWS = new WeakMap<ArrayBufferLike, Uint32Array>();

function wordsOf(buffer: ArrayBufferLike): Uint32Array {
  let words = VIEWS.get(buffer);
  if (words === undefined) {
    words = new Uint32Array(buffer, 0, buffer.byteLength >>> 2); // tidy-allow hot: once per buffer, then cached
    VIEWS.set(buffer, words);
  }
  return words;
}

/**
 * Adds `len` bytes at `at`, read as big-endian words (an odd last byte is the high half of one), to the partial sum
 * `initial`. Any alignment, any length; the result stays small enough for chains of calls.
 */
export function sum(bytes: Uint8Array, at: number, len: number, initial = 0): number {
  if (len >= WORDS_FROM) return sumWords(bytes, at, len, initial);
  return sumBytes(bytes, at, at + len, initial);
}

function sumBytes(bytes: Uint8Array, from: number, end: number, initial: number): number {
  let total = initial;
  let at = from;
  for (const last = end - 1; at < last; at += 2) total += (bytes[at] << 8) | bytes[at + 1];
  return at < end ? total + (bytes[at] << 8) : total;
}

function sumWords(bytes: Uint8Array, at: number, len: number, initial: number): number {
  const start = bytes.byteOffset + at;
  const lead = -start & 3;
  const count = (len - lead) >>> 2;
  const body = sumAligned(wordsOf(bytes.buffer), (start + lead) >>> 2, count);
  const head = sumBytes(bytes, at, at + lead, initial);
  const rest = fold(sumBytes(bytes, at + lead + (count << 2), at + len, body));
  // After an odd lead every byte of the rest stands in the other half of its word.
  return head + ((lead & 1) === 0 ? rest : swap16(rest));
}

/** Folded big-endian sum of `count` aligned native words from index `from`. Exact up to 2^21 words: below 2^53. */
function sumAligned(words: Uint32Array, from: number, count: number): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let i = from;
  const end = from + count;
  for (const last = end - 3; i < last; i += 4) {
    a += words[i];
    b += words[i + 1];
    c += words[i + 2];
    d += words[i + 3];
  }
  for (; i < end; i++) a += words[i];
  return foldNative(a + b + c + d);
}

/** Folds a sum of native 32-bit words (up to 2^53) to a big-endian 16-bit one; 2^32 ≡ 1 modulo 2^16 − 1. */
function foldNative(total: number): number {
  const folded = fold(fold(total >>> 0) + fold(Math.floor(total / 0x100000000)));
  return LITTLE_ENDIAN ? swap16(folded) : folded;
}

function swap16(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}

/** Folds a partial sum (below 2^32) to 16 bits. */
export function fold(partial: number): number {
  let folded = (partial & 0xffff) + (partial >>> 16);
  folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** The checksum of a partial sum: folded and inverted, 0 to 0xffff. Over data whose checksum is right it gives 0. */
export function finish(partial: number): number {
  return ~fold(partial) & 0xffff;
}

/**
 * Partial sum of the IPv4 pseudo header (RFC 9293 §3.1): addresses (32-bit words, signed or not), protocol, transport
 * length in bytes.
 */
export function pseudoHeaderV4(src: number, dst: number, protocol: number, len: number): number {
  return (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff) + protocol + len;
}

/** The checksum after one 16-bit word it covers changed from `oldWord` to `newWord` (RFC 1624 equation 3). */
export function update16(check: number, oldWord: number, newWord: number): number {
  return finish((~check & 0xffff) + (~oldWord & 0xffff) + (newWord & 0xffff));
}
