/**
 * The routing table: longest prefix match over IPv4 (Linux fib_table_lookup).
 *
 * One map per prefix length that is in use, longest first: at most 33 probes, and in practice two or three. Looking up
 * allocates nothing; every change raises `generation`, which is how cached routes learn that they are old.
 */
import { formatV4 } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import type { NetDevice } from "../netdev/net-device.ts";
import { maskOf } from "./local-addresses.ts";

/** Who made a route, as `ip route` names it. */
export type RouteProtocol = "kernel" | "static";

/** One entry of the table (Linux fib_info). */
export interface RouteEntry {
  /** Network address and prefix length; 0/0 is the default route. */
  readonly network: number;
  readonly prefix: number;
  /** Next hop, or 0 if the destination itself is on the link. */
  readonly gateway: number;
  readonly dev: NetDevice;
  /** Preferred source address, or 0. */
  readonly source: number;
  /** Among routes to one network the least wins. */
  readonly metric: number;
  readonly protocol: RouteProtocol;
}

/** One row of `ip route`. */
export interface RouteRow {
  readonly destination: string;
  readonly via: string | null;
  readonly dev: string;
  readonly protocol: RouteProtocol;
  readonly scope: "global" | "link";
  readonly source: string | null;
  readonly metric: number;
  /** The line as `ip route` prints it. */
  readonly text: string;
}

/** Most routes of one host. */
export const MAX_ROUTES = 1 << 16;

export class RouteTable {
  /** Raised by every change; starts at 1. */
  generation = 1;
  private count = 0;
  /** Prefix lengths in use, longest first, with their networks; routes to one network by metric. */
  private lengths: { readonly prefix: number; readonly mask: number; readonly networks: Map<number, RouteEntry[]> }[] =
    [];

  /** 0, -EINVAL (host bits set), -EEXIST (same network and metric), -ENOSPC (table full). */
  add(entry: RouteEntry): number {
    if ((entry.network & maskOf(entry.prefix)) >>> 0 !== entry.network) return -Errno.EINVAL;
    if (this.count >= MAX_ROUTES) return -Errno.ENOSPC;
    const { networks } = this.lengthOf(entry.prefix);
    const same = networks.get(entry.network) ?? [];
    if (same.some((e) => e.metric === entry.metric)) return -Errno.EEXIST;
    networks.set(
      entry.network,
      [...same, entry].sort((a, b) => a.metric - b.metric),
    );
    this.count++;
    this.generation++;
    return 0;
  }

  /** Removes the first route to network/prefix that `matches`. 0 or -ESRCH. */
  remove(network: number, prefix: number, matches: (entry: RouteEntry) => boolean): number {
    const length = this.lengths.find((l) => l.prefix === prefix);
    const same = length?.networks.get(network);
    const entry = same?.find(matches);
    if (length === undefined || same === undefined || entry === undefined) return -Errno.ESRCH;
    const rest = same.filter((e) => e !== entry);
    if (rest.length > 0) length.networks.set(network, rest);
    else length.networks.delete(network);
    this.lengths = this.lengths.filter((l) => l.networks.size > 0);
    this.count--;
    this.generation++;
    return 0;
  }

  /** Everything learned about paths is to be asked again (an interface went down, a path's MTU shrank). */
  invalidate(): void {
    this.generation++;
  }

  /** The best route to `u32`, out by device `ifindex` unless 0; null if there is none. */
  lookup(u32: number, ifindex: number): RouteEntry | null {
    const { lengths } = this;
    for (let i = 0; i < lengths.length; i++) {
      const same = lengths[i].networks.get((u32 & lengths[i].mask) >>> 0);
      if (same === undefined) continue;
      for (let j = 0; j < same.length; j++) {
        const entry = same[j];
        if (entry.dev.isUp && (ifindex === 0 || entry.dev.ifindex === ifindex)) return entry;
      }
    }
    return null;
  }

  /** As `ip route`: the default first, then by network. */
  rows(): RouteRow[] {
    const entries = this.lengths.flatMap((l) => [...l.networks.values()].flat());
    entries.sort((a, b) => a.network - b.network || a.prefix - b.prefix || a.metric - b.metric);
    return entries.map(rowOf);
  }

  private lengthOf(prefix: number): { readonly networks: Map<number, RouteEntry[]> } {
    let length = this.lengths.find((l) => l.prefix === prefix);
    if (length === undefined) {
      length = { prefix, mask: maskOf(prefix), networks: new Map() };
      this.lengths.push(length);
      this.lengths.sort((a, b) => b.prefix - a.prefix);
    }
    return length;
  }
}

function rowOf(entry: RouteEntry): RouteRow {
  const host = entry.prefix === 32 ? "" : `/${entry.prefix}`;
  const destination = entry.prefix === 0 ? "default" : `${formatV4(entry.network)}${host}`;
  const via = entry.gateway === 0 ? null : formatV4(entry.gateway);
  const source = entry.source === 0 ? null : formatV4(entry.source);
  const words = [destination];
  if (via !== null) words.push("via", via);
  words.push("dev", entry.dev.name);
  if (entry.protocol === "kernel") words.push("proto kernel");
  if (via === null) words.push("scope link");
  if (source !== null) words.push("src", source);
  if (entry.metric !== 0) words.push("metric", String(entry.metric));
  return {
    destination,
    via,
    dev: entry.dev.name,
    protocol: entry.protocol,
    scope: via === null ? "link" : "global",
    source,
    metric: entry.metric,
    text: words.join(" "),
  };
}
