/**
 * A NIC's descriptor ring: a circle of {address, length, status} shared by the device and its driver.
 *
 *        tail (producer writes here)
 *          ▼
 *   ┌──┬──┬──┬──┬──┬──┬──┬──┐      used = filled and not yet taken
 *   │  │  │  │▓▓│▓▓│▓▓│  │  │      RX: the device fills, the driver takes and posts an empty slot in its place
 *   └──┴──┴──┴──┴──┴──┴──┴──┘      TX: the driver fills, the device takes
 *              ▲
 *             head (consumer takes here)
 *
 * Plain typed arrays, one column per field: nothing is allocated per frame. All descriptors can be in use at once (a
 * count says so), as on NICs that own a descriptor-done bit.
 */
import { assert } from "../base/assert.ts";

/** Smallest, default and largest number of descriptors; see `ethtool -g`. */
export const MIN_RING_SIZE = 64;
export const DEFAULT_RING_SIZE = 256;
export const MAX_RING_SIZE = 8192;

export class DescriptorRing {
  readonly size: number;
  /** Arena address of the slot the descriptor points to; 0 = none posted. */
  readonly address: Uint32Array;
  /** Where the frame starts within the slot, in bytes. */
  readonly offset: Uint32Array;
  /** Length of the frame in bytes. */
  readonly length: Uint32Array;
  /** What the checksum hardware says (`Summed`). */
  readonly status: Uint8Array;
  /** When the frame arrived (RX). */
  readonly timeNs: Float64Array;
  /** Index of the oldest filled descriptor. */
  head = 0;
  /** Index of the next descriptor to fill. */
  tail = 0;
  /** Filled descriptors. */
  used = 0;

  constructor(size: number) {
    assert(
      Number.isInteger(size) && size >= MIN_RING_SIZE && size <= MAX_RING_SIZE,
      `a descriptor ring has ${MIN_RING_SIZE} to ${MAX_RING_SIZE} descriptors, not ${size}`,
    );
    this.size = size;
    this.address = new Uint32Array(size);
    this.offset = new Uint32Array(size);
    this.length = new Uint32Array(size);
    this.status = new Uint8Array(size);
    this.timeNs = new Float64Array(size);
  }

  /** Marks the descriptor at `tail` filled; its fields are set. The ring must not be full. */
  produce(): void {
    this.tail = this.after(this.tail);
    this.used++;
  }

  /** Gives up the descriptor at `head`. The ring must not be empty. */
  consume(): void {
    this.head = this.after(this.head);
    this.used--;
  }

  /** The index behind `index`. */
  after(index: number): number {
    return index + 1 === this.size ? 0 : index + 1;
  }
}
