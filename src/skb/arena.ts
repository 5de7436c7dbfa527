/**
 * The arena: the one buffer in which every frame, stream page and ring slot of a kernel thread lives (law 3).
 *
 * Memory is handed out in slots of three sizes; an address is a byte offset into the arena, so the size class of a slot
 * follows from its address and nobody has to remember it. A slot has exactly one owner at any moment; every hand-over
 * *takes*. In thread mode the buffer is shared, so that a process copies received bytes out of kernel pages itself.
 */
import { assert } from "../base/assert.ts";
import { type CopyBytes, copyBytes } from "../base/copy.ts";

/** Slot sizes in bytes: bare ACKs and control frames; one MTU; stream pages and super-segments. */
export const SMALL_SLOT = 256;
export const FRAME_SLOT = 2048;
export const PAGE_SLOT = 65536;

export interface ArenaLimits {
  /** Number of 256 B slots. */
  readonly smallSlots: number;
  /** Number of 2 KB slots. */
  readonly frameSlots: number;
  /** Number of 64 KB slots. */
  readonly pageSlots: number;
}

/** 96 MiB: 32,768 small, 16,384 frame and 896 page slots. */
export const DEFAULT_ARENA_LIMITS: ArenaLimits = { smallSlots: 32768, frameSlots: 16384, pageSlots: 896 };

/** 0 of address space is never handed out, so that 0 can mean "no slot". */
const FIRST_ADDRESS = PAGE_SLOT;

export class Arena {
  readonly buffer: ArrayBufferLike;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** How bytes are copied into, out of and within the arena. */
  readonly copy: CopyBytes;
  private readonly frameStart: number;
  private readonly pageStart: number;
  private readonly free: readonly [FreeList, FreeList, FreeList];

  /** `shared` makes the buffer a SharedArrayBuffer; then the driver may know a better `copy` than the engine's. */
  constructor(limits: ArenaLimits = DEFAULT_ARENA_LIMITS, shared = false, copy: CopyBytes = copyBytes) {
    const smallStart = FIRST_ADDRESS;
    this.frameStart = smallStart + limits.smallSlots * SMALL_SLOT;
    this.pageStart = this.frameStart + limits.frameSlots * FRAME_SLOT;
    const size = this.pageStart + limits.pageSlots * PAGE_SLOT;
    this.buffer = shared ? new SharedArrayBuffer(size) : new ArrayBuffer(size);
    this.bytes = new Uint8Array(this.buffer);
    this.copy = copy;
    this.view = new DataView(this.buffer);
    this.free = [
      new FreeList(smallStart, SMALL_SLOT, limits.smallSlots),
      new FreeList(this.frameStart, FRAME_SLOT, limits.frameSlots),
      new FreeList(this.pageStart, PAGE_SLOT, limits.pageSlots),
    ];
  }

  /**
   * Takes the smallest slot of at least `bytes` bytes; 0 if the fitting class (and any larger) is empty or `bytes` > 64
   * KB.
   */
  alloc(bytes: number): number {
    if (bytes > PAGE_SLOT) return 0;
    for (let cls = bytes <= SMALL_SLOT ? 0 : bytes <= FRAME_SLOT ? 1 : 2; cls < 3; cls++) {
      const address = (this.free[cls] as FreeList).take();
      if (address !== 0) return address;
    }
    return 0;
  }

  /** Gives a slot back. `address` must be the start of a slot that is out. */
  release(address: number): void {
    (this.free[this.classOf(address)] as FreeList).put(address);
  }

  /** Size in bytes of the slot that starts at `address`. */
  slotSize(address: number): number {
    return address < this.frameStart ? SMALL_SLOT : address < this.pageStart ? FRAME_SLOT : PAGE_SLOT;
  }

  /** How many slots are out, all classes: 0 when everything came back. */
  get outstanding(): number {
    return this.free[0].outstanding + this.free[1].outstanding + this.free[2].outstanding;
  }

  /**
   * True while more than a quarter of the slots of this size are free. What waits for somebody's pleasure (stream
   * pages, segments behind a hole, fragments, packets without a MAC address) may take one only then: the last quarter
   * is for frames in motion, or a few peers that do not read could leave the whole host deaf.
   */
  isRoomy(slotBytes: number): boolean {
    const list = this.free[slotBytes === SMALL_SLOT ? 0 : slotBytes === FRAME_SLOT ? 1 : 2] as FreeList;
    return list.outstanding * 4 < list.capacity * 3;
  }

  private classOf(address: number): 0 | 1 | 2 {
    return address < this.frameStart ? 0 : address < this.pageStart ? 1 : 2;
  }
}

/** A stack of free slot addresses of one size. */
class FreeList {
  readonly capacity: number;
  private readonly stack: Uint32Array;
  private depth: number;
  /** One byte per slot, 1 while it is out: catches a double release at once. */
  private readonly out: Uint8Array;
  private readonly start: number;
  private readonly size: number;

  constructor(start: number, size: number, count: number) {
    this.start = start;
    this.size = size;
    this.capacity = count;
    this.stack = new Uint32Array(count);
    this.out = new Uint8Array(count);
    this.depth = count;
    for (let i = 0; i < count; i++) this.stack[i] = start + (count - 1 - i) * size;
  }

  get outstanding(): number {
    return this.capacity - this.depth;
  }

  take(): number {
    if (this.depth === 0) return 0;
    const address = this.stack[--this.depth] as number;
    this.out[(address - this.start) / this.size] = 1;
    return address;
  }

  put(address: number): void {
    const index = (address - this.start) / this.size;
    assert(this.out[index] === 1, "slot released twice, or never taken");
    this.out[index] = 0;
    this.stack[this.depth++] = address;
  }
}
