/**
 * Addresses: 16 bytes in every representation, IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
 *
 * An `Address` is made once per interface, route, socket or connection, never per packet: the packet path compares the
 * 32-bit words in place. Text follows RFC 5952; an IPv4-mapped address prints as dotted quad.
 */

/** One immutable address. Words are signed 32-bit integers in network order, as `DataView.getInt32(at)` reads them. */
export class Address {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
  private text: string | undefined;

  constructor(w0: number, w1: number, w2: number, w3: number) {
    this.w0 = w0 | 0;
    this.w1 = w1 | 0;
    this.w2 = w2 | 0;
    this.w3 = w3 | 0;
  }

  /** From the 32-bit value of an IPv4 address (any integer; taken modulo 2^32). */
  static v4(u32: number): Address {
    return new Address(0, 0, 0xffff, u32);
  }

  /** Reads 16 bytes at `at`. */
  static read(view: DataView, at: number): Address {
    return new Address(view.getInt32(at), view.getInt32(at + 4), view.getInt32(at + 8), view.getInt32(at + 12));
  }

  /** Writes 16 bytes at `at`. */
  write(view: DataView, at: number): void {
    view.setInt32(at, this.w0);
    view.setInt32(at + 4, this.w1);
    view.setInt32(at + 8, this.w2);
    view.setInt32(at + 12, this.w3);
  }

  /** True for ::ffff:0:0/96. */
  get isV4(): boolean {
    return this.w0 === 0 && this.w1 === 0 && this.w2 === 0xffff;
  }

  /** The IPv4 address as an unsigned number; meaningful only if `isV4` (or for the wildcard, 0). */
  get v4(): number {
    return this.w3 >>> 0;
  }

  /** True for :: and for 0.0.0.0. */
  get isWildcard(): boolean {
    return this.w0 === 0 && this.w1 === 0 && (this.w2 === 0 || this.w2 === 0xffff) && this.w3 === 0;
  }

  equals(other: Address): boolean {
    return this.w3 === other.w3 && this.w2 === other.w2 && this.w1 === other.w1 && this.w0 === other.w0;
  }

  toString(): string {
    this.text ??= this.isV4 ? formatV4(this.v4) : formatV6(this);
    return this.text;
  }
}

/** 0.0.0.0, the IPv4 wildcard (INADDR_ANY). */
export const ANY_V4 = Address.v4(0);

/** Dotted quad of an unsigned 32-bit number. */
export function formatV4(u32: number): string {
  return `${u32 >>> 24}.${(u32 >>> 16) & 255}.${(u32 >>> 8) & 255}.${u32 & 255}`;
}

/**
 * The unsigned 32-bit number of a dotted quad, or -1 if `text` is not one (exactly four decimal octets, no leading
 * zeros).
 */
export function parseV4(text: string): number {
  const parts = text.split(".");
  if (parts.length !== 4) return -1;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part)) return -1;
    const octet = Number(part);
    if (octet > 255) return -1;
    value = value * 256 + octet;
  }
  return value;
}

/** Parses dotted quad or RFC 4291 text; `undefined` if it is neither. */
export function parseAddress(text: string): Address | undefined {
  const v4 = parseV4(text);
  if (v4 >= 0) return Address.v4(v4);
  return parseV6(text);
}

/** An IPv4 network written as a.b.c.d/n. */
export interface Cidr {
  readonly address: Address;
  /** Prefix length in bits, 0 to 32. */
  readonly prefix: number;
}

/** Parses a.b.c.d/n; `undefined` if malformed. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const v4 = parseV4(text.slice(0, slash));
  const bits = text.slice(slash + 1);
  if (v4 < 0 || !/^(0|[1-9][0-9]?)$/.test(bits) || Number(bits) > 32) return undefined;
  return { address: Address.v4(v4), prefix: Number(bits) };
}

function parseV6(text: string): Address | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  // Dotted quad may stand only at the very end.
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const word = (i: number) => ((groups[i] as number) << 16) | (groups[i + 1] as number);
  return new Address(word(0), word(2), word(4), word(6));
}

function parseGroups(text: string, endsInV4: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    const v4 = endsInV4 && i === parts.length - 1 ? parseV4(part) : -1;
    if (v4 >= 0) groups.push(v4 >>> 16, v4 & 0xffff);
    else if (/^[0-9a-fA-F]{1,4}$/.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as "::" (the first of equals). */
function formatV6(a: Address): string {
  const groups = [a.w0, a.w1, a.w2, a.w3].flatMap((w) => [w >>> 16, w & 0xffff]);
  let best = -1;
  let bestLen = 1;
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLen) {
      best = i;
      bestLen = j - i;
    }
    i = j + 1;
  }
  const hex = groups.map((g) => g.toString(16));
  if (best < 0) return hex.join(":");
  return `${hex.slice(0, best).join(":")}::${hex.slice(best + bestLen).join(":")}`;
}
