/**
 * The JavaScript heap after a collection: what is really kept, for tests that want memory to stay flat.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: (() => void) | null = null;

/** Bytes of living objects, arrays outside of the heap included. */
export function collectedHeapBytes(): number {
  if (collect === null) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** The same after a turn of the event loop: memory of large arrays is counted until its collector has been there. */
export async function restingHeapBytes(): Promise<number> {
  collectedHeapBytes();
  await new Promise((resolve) => setImmediate(resolve));
  return collectedHeapBytes();
}
