/**
 * Copying bytes between two arrays.
 *
 * Engines copy memory that threads share in a way of their own: by whole words where source and destination lie alike
 * within a word, else byte by byte, forty times slower than the C library (V8's relaxed copy). A driver whose memory is
 * shared may therefore put its own `CopyBytes` in place of `copyBytes`.
 */

/** Copies `len` bytes (*borrows* both); within one array the ranges may not overlap. */
export type CopyBytes = (src: Uint8Array, srcAt: number, dst: Uint8Array, dstAt: number, len: number) => void;

/** Below this many bytes a loop beats the view that `set` needs. */
const LOOP_BELOW_BYTES = 64;

/** The engine's copy. */
export function copyBytes(src: Uint8Array, srcAt: number, dst: Uint8Array, dstAt: number, len: number): void {
  if (len < LOOP_BELOW_BYTES) for (let i = 0; i < len; i++) dst[dstAt + i] = src[srcAt + i] as number;
  else if (src === dst) dst.copyWithin(dstAt, srcAt, srcAt + len);
  else if (srcAt === 0 && len === src.length) dst.set(src, dstAt);
  else dst.set(src.subarray(srcAt, srcAt + len), dstAt);
}
