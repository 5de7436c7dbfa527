/**
 * Pages: arena slots that hold bytes of a byte stream, for the send queue and for received payload that was copied out
 * of its frame (law 3). A short queue gets by with a 256 B or 2 KB slot, so that ten thousand idle connections do not
 * hold ten thousand 64 KB pages.
 */
import { type Arena, FRAME_SLOT, PAGE_SLOT, SMALL_SLOT } from "../../skb/arena.ts";

/** From this many queued bytes on a queue takes whole 64 KB pages. */
const BULK_BYTES = 8 * FRAME_SLOT;

/**
 * Takes a slot for `wanted` more bytes of a queue that already holds `queuedBytes`. Falls back to other slots when the
 * fitting class is used up but for its reserve; 0 when all are. The slot may be smaller than `wanted`.
 */
export function takePage(arena: Arena, wanted: number, queuedBytes: number): number {
  const total = queuedBytes + wanted;
  const size = total <= SMALL_SLOT ? SMALL_SLOT : total <= BULK_BYTES ? FRAME_SLOT : PAGE_SLOT;
  if (arena.isRoomy(size)) return arena.alloc(size);
  if (arena.isRoomy(FRAME_SLOT)) return arena.alloc(FRAME_SLOT);
  return isShort(queuedBytes) && arena.isRoomy(SMALL_SLOT) ? arena.alloc(SMALL_SLOT) : 0;
}

/** True while `takePage` finds a slot: what would have to stay in the reserve is refused before. */
export function hasPage(arena: Arena, queuedBytes: number): boolean {
  return arena.isRoomy(FRAME_SLOT) || (isShort(queuedBytes) && arena.isRoomy(SMALL_SLOT));
}

/** The small slots are for short requests and answers: long queues that had all others leave them alone. */
function isShort(queuedBytes: number): boolean {
  return queuedBytes < FRAME_SLOT;
}
