/**
 * How an input is changed: by chance, at the places that lie best, and with parts of other inputs.
 */
import type { Prng } from "../../src/base/prng.ts";
import type { Draft } from "./input.ts";

/** A number in the format, big-endian: a length, an offset, a kind. `at` from the start of the input. */
export interface Field {
  readonly at: number;
  readonly bytes: 1 | 2 | 4;
}

/** Where programs go wrong: around zero, the sign, the end of a type, the sizes of headers, the size of a page. */
const EDGES = [
  0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 19, 20, 21, 27, 28, 40, 41, 60, 61, 63, 64, 127, 128, 255, 256, 536, 1460,
  1500, 0x1fff, 0x2000, 0x3fff, 0x4000, 0x7fff, 0x8000, 0xfff7, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe,
  0xffffffff,
] as const;

/** A whole number in [0, n), one draw. */
export function pick(prng: Prng, n: number): number {
  return Math.floor((prng.u32() / 0x100000000) * n);
}

export function pickOf<T>(prng: Prng, list: readonly T[]): T {
  return list[pick(prng, list.length)];
}

/** Writes the lower `bytes` bytes of `value` at `at`, as far as they are inside of the input. */
function setNumber(draft: Draft, at: number, bytes: number, value: number): void {
  for (let i = 0; i < bytes && at + i < draft.len; i++) {
    draft.bytes[at + i] = bytes - 1 - i > 3 ? 0 : value >>> (8 * (bytes - 1 - i));
  }
}

function getNumber(draft: Draft, at: number, bytes: number): number {
  let value = 0;
  for (let i = 0; i < bytes && at + i < draft.len; i++) value = value * 256 + draft.bytes[at + i];
  return value;
}

/** Makes room for `count` bytes at `at`; what does not fit falls off the end. */
function open(draft: Draft, at: number, count: number): number {
  const room = Math.min(count, draft.maxBytes - at);
  draft.bytes.copyWithin(at + room, at, Math.min(draft.len, draft.maxBytes - room));
  draft.len = Math.min(draft.maxBytes, draft.len + room);
  return room;
}

function remove(draft: Draft, at: number, count: number): void {
  draft.bytes.copyWithin(at, at + count, draft.len);
  draft.len -= count;
}

/** A length up to 16 mostly, sometimes up to all of it. */
function shortLen(prng: Prng, most: number): number {
  if (most <= 1) return most;
  return 1 + pick(prng, prng.u32() < 0xe0000000 ? Math.min(most, 16) : most);
}

type Mutation = (draft: Draft, prng: Prng, fields: readonly Field[], other: Uint8Array) => void;

const MUTATIONS: readonly Mutation[] = [
  function flipBit(draft, prng) {
    const bit = pick(prng, draft.len * 8);
    draft.bytes[bit >>> 3] ^= 1 << (bit & 7);
  },
  function randomByte(draft, prng) {
    draft.bytes[pick(prng, draft.len)] = prng.u32();
  },
  function edgeNumber(draft, prng) {
    setNumber(draft, pick(prng, draft.len), 1 << pick(prng, 3), pickOf(prng, EDGES));
  },
  function nearNumber(draft, prng) {
    const at = pick(prng, draft.len);
    const bytes = 1 << pick(prng, 3);
    setNumber(draft, at, bytes, getNumber(draft, at, bytes) + pick(prng, 17) - 8);
  },
  function lieInField(draft, prng, fields) {
    if (fields.length === 0) return;
    const { at, bytes } = pickOf(prng, fields);
    const honest = prng.u32() < 0x80000000 ? getNumber(draft, at, bytes) : draft.len - at;
    const lie = prng.u32() < 0x80000000 ? honest + pick(prng, 17) - 8 : pickOf(prng, EDGES);
    setNumber(draft, at, bytes, lie);
  },
  function truncate(draft, prng) {
    draft.len = pick(prng, draft.len + 1);
  },
  function extend(draft, prng) {
    const from = draft.len;
    draft.len += shortLen(prng, draft.maxBytes - draft.len);
    const fill = prng.u32();
    for (let i = from; i < draft.len; i++) draft.bytes[i] = fill & 1 ? fill >>> 8 : prng.u32();
  },
  function removeRange(draft, prng) {
    const at = pick(prng, draft.len);
    remove(draft, at, shortLen(prng, draft.len - at));
  },
  function repeatRange(draft, prng) {
    const at = pick(prng, draft.len);
    const count = shortLen(prng, draft.len - at);
    const times = 1 + pick(prng, 3);
    for (let i = 0; i < times && draft.len < draft.maxBytes; i++) {
      open(draft, Math.min(at + count, draft.maxBytes), count);
      draft.bytes.copyWithin(at + count, at, at + count);
    }
  },
  function moveRange(draft, prng) {
    const at = pick(prng, draft.len);
    const count = shortLen(prng, draft.len - at);
    draft.bytes.copyWithin(pick(prng, Math.max(1, draft.len - count)), at, at + count);
  },
  function spliceTail(draft, prng, _fields, other) {
    const cut = pick(prng, draft.len + 1);
    const from = prng.u32() < 0xc0000000 ? Math.min(cut, other.length) : pick(prng, other.length + 1);
    const count = Math.min(other.length - from, draft.maxBytes - cut);
    for (let i = 0; i < count; i++) draft.bytes[cut + i] = other[from + i];
    draft.len = cut + count;
  },
  function insertOfOther(draft, prng, _fields, other) {
    if (other.length === 0) return;
    const from = pick(prng, other.length);
    const at = pick(prng, draft.len + 1);
    const count = open(draft, at, shortLen(prng, other.length - from));
    for (let i = 0; i < count; i++) draft.bytes[at + i] = other[from + i];
  },
  function copyOfOther(draft, prng, _fields, other) {
    if (other.length === 0) return;
    const from = pick(prng, other.length);
    const at = pick(prng, draft.len);
    const count = Math.min(shortLen(prng, other.length - from), draft.len - at);
    for (let i = 0; i < count; i++) draft.bytes[at + i] = other[from + i];
  },
];

/** Changes the input one to eight times, mostly once or twice; `other` lends parts. */
export function mutate(draft: Draft, prng: Prng, fields: readonly Field[], other: Uint8Array): void {
  let more = prng.u32();
  do {
    if (draft.len === 0) {
      draft.len = 1;
      draft.bytes[0] = prng.u32();
    }
    pickOf(prng, MUTATIONS)(draft, prng, fields, other);
    more >>>= 1;
  } while ((more & 1) !== 0 && (more & 0x7f) !== 0);
}
