/**
 * This host's IPv4 addresses, per interface (Linux in_device, in_ifaddr).
 *
 * Few per host, asked for every packet: plain loops over small arrays.
 */
import { type Address, type Cidr, formatV4 } from "../base/address.ts";
import type { NetDevice } from "../netdev/net-device.ts";

export const BROADCAST = 0xffffffff;

/** Network mask of a prefix length, unsigned. */
export function maskOf(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}

/** True for 127/8. */
export function isLoopbackAddress(u32: number): boolean {
  return u32 >>> 24 === 127;
}

/** True for 224/4. */
export function isMulticastAddress(u32: number): boolean {
  return u32 >>> 28 === 14;
}

export interface InterfaceAddress {
  readonly dev: NetDevice;
  readonly address: number;
  readonly prefix: number;
  readonly mask: number;
  /** Directed broadcast, or 0 where the prefix is too long to have one. */
  readonly broadcast: number;
}

export class LocalAddresses {
  private list: InterfaceAddress[] = [];
  /** The addresses alone, as signed words, for the packet path. */
  private locals: number[] = [];
  private broadcasts: number[] = [];

  /** False if the interface has that address already. */
  add(dev: NetDevice, cidr: Cidr): boolean {
    const address = cidr.address.v4;
    if (this.list.some((row) => row.dev === dev && row.address === address)) return false;
    const mask = maskOf(cidr.prefix);
    const broadcast = cidr.prefix <= 30 && !dev.isLoopback ? (address | ~mask) >>> 0 : 0;
    this.list.push({ dev, address, prefix: cidr.prefix, mask, broadcast });
    this.index();
    return true;
  }

  /** The removed row, or null. */
  remove(dev: NetDevice, address: Address): InterfaceAddress | null {
    const row = this.list.find((r) => r.dev === dev && r.address === address.v4);
    if (row === undefined) return null;
    this.list = this.list.filter((r) => r !== row);
    this.index();
    return row;
  }

  private index(): void {
    this.locals = this.list.map((row) => row.address | 0);
    this.broadcasts = this.list.map((row) => row.broadcast | 0).filter((b) => b !== 0);
  }

  /** Ours: on any interface (Linux's weak host model), or 127/8. `address` is a 32-bit word, signed or not. */
  isLocal(address: number): boolean {
    const { locals } = this;
    const word = address | 0;
    for (let i = 0; i < locals.length; i++) if (locals[i] === word) return true;
    return isLoopbackAddress(word);
  }

  /** 255.255.255.255 or the broadcast address of a network of ours. `address` is a 32-bit word, signed or not. */
  isBroadcast(address: number): boolean {
    const word = address | 0;
    if (word === (BROADCAST | 0)) return true;
    const { broadcasts } = this;
    for (let i = 0; i < broadcasts.length; i++) if (broadcasts[i] === word) return true;
    return false;
  }

  /** The address `dev` speaks from to `peer`: of the network `peer` is in, else its first; 0 if it has none. */
  sourceFor(dev: NetDevice, peer: number): number {
    let first = 0;
    for (const row of this.list) {
      if (row.dev !== dev) continue;
      if (((row.address ^ peer) & row.mask) === 0) return row.address;
      if (first === 0) first = row.address;
    }
    return first;
  }

  /** As `ip addr`. */
  rows(): { readonly dev: string; readonly ifindex: number; readonly address: string }[] {
    return this.list.map((row) => ({
      dev: row.dev.name,
      ifindex: row.dev.ifindex,
      address: `${formatV4(row.address)}/${row.prefix}`,
    }));
  }
}
