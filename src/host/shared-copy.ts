/**
 * A `CopyBytes` for memory that threads share: memmove(3), by address.
 *
 * What threads hand each other is copied by one at a time (law 3), so the C library's copy is as safe as the engine's;
 * 64 KB take it 0.6 µs, the engine 25 to 35 µs where they do not lie alike within a word.
 */
import { type CopyBytes, copyBytes } from "../base/copy.ts";
import { type Libc, libc } from "./libc.ts";

/** From here on a call into the C library is cheaper than the engine's copy. */
const NATIVE_FROM_BYTES = 256;

/** The fastest there is: the C library's, or the engine's where that cannot be reached. */
export function sharedCopy(): CopyBytes {
  const system = reachLibc();
  if (system === null) return copyBytes;
  // Memory does not move; a buffer that is transferred or replaced is another object.
  const addresses = new WeakMap<ArrayBufferLike, number>();
  const addressOf = ({ buffer }: Uint8Array): number => {
    let address = addresses.get(buffer);
    if (address === undefined) {
      address = system.addressOf(new Uint8Array(buffer));
      addresses.set(buffer, address);
    }
    return address;
  };
  return (src, srcAt, dst, dstAt, len) => {
    if (len < NATIVE_FROM_BYTES) {
      copyBytes(src, srcAt, dst, dstAt, len);
      return;
    }
    checkRange(src, srcAt, len);
    checkRange(dst, dstAt, len);
    system.memmove(addressOf(dst) + dst.byteOffset + dstAt, addressOf(src) + src.byteOffset + srcAt, len);
  };
}

/** What the engine would check: an array that was detached has no bytes at all. */
function checkRange(bytes: Uint8Array, at: number, len: number): void {
  if (!(at >= 0 && at + len <= bytes.length)) throw new RangeError(`${len} bytes at ${at} of ${bytes.length}`);
}

function reachLibc(): Libc | null {
  try {
    return libc();
  } catch {
    return null;
  }
}
