/**
 * Options a socket keeps itself, because they matter before there is a connection or bound port.
 */
import type { Address } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import type { BindOptions } from "../transport/port.ts";
import * as k from "./constants.ts";

/** True if a socket of `domain` takes `address`: AF_INET wants IPv4 (or the wildcard in any form). */
export function isUsableAddress(domain: number, address: Address): boolean {
  return domain === k.AF_INET6 || address.isV4 || address.isWildcard;
}

/** Immutable: sockets with the same options share them, as an accepted connection does with its listener. */
export class SocketOptions implements BindOptions {
  /** Not an option kept here: ask the transport. */
  static readonly UNKNOWN = -0x7fffffff;
  /** What a fresh socket has. */
  static readonly DEFAULTS = new SocketOptions({});

  readonly reuseAddress: boolean;
  readonly reusePort: boolean;
  /** SO_BINDTODEVICE; 0 = any. */
  readonly ifindex: number;
  readonly broadcast: boolean;
  private readonly v6Only: boolean;

  private constructor(from: Partial<SocketOptions>, v6Only = false) {
    this.reuseAddress = from.reuseAddress ?? false;
    this.reusePort = from.reusePort ?? false;
    this.ifindex = from.ifindex ?? 0;
    this.broadcast = from.broadcast ?? false;
    this.v6Only = v6Only;
  }

  /** The options with one changed; or -errno, or UNKNOWN. */
  with(level: number, name: number, value: number): SocketOptions | number {
    if (level === k.IPPROTO_IPV6) {
      return name === k.IPV6_V6ONLY ? new SocketOptions(this, value !== 0) : SocketOptions.UNKNOWN;
    }
    if (level !== k.SOL_SOCKET) return SocketOptions.UNKNOWN;
    switch (name) {
      case k.SO_REUSEADDR:
        return this.changed({ reuseAddress: value !== 0 });
      case k.SO_REUSEPORT:
        return this.changed({ reusePort: value !== 0 });
      case k.SO_BROADCAST:
        return this.changed({ broadcast: value !== 0 });
      case k.SO_BINDTOIFINDEX:
        return value < 0 ? -Errno.EINVAL : this.changed({ ifindex: value });
      case k.SO_TYPE:
      case k.SO_ERROR:
      case k.SO_DOMAIN:
      case k.SO_PROTOCOL:
      case k.SO_ACCEPTCONN:
        return -Errno.ENOPROTOOPT;
      default:
        return SocketOptions.UNKNOWN;
    }
  }

  /** The value, or UNKNOWN. */
  get(level: number, name: number): number {
    if (level === k.IPPROTO_IPV6 && name === k.IPV6_V6ONLY) return this.v6Only ? 1 : 0;
    if (level !== k.SOL_SOCKET) return SocketOptions.UNKNOWN;
    switch (name) {
      case k.SO_REUSEADDR:
        return this.reuseAddress ? 1 : 0;
      case k.SO_REUSEPORT:
        return this.reusePort ? 1 : 0;
      case k.SO_BROADCAST:
        return this.broadcast ? 1 : 0;
      // Known, and never set.
      case k.SO_DEBUG:
      case k.SO_DONTROUTE:
        return 0;
      case k.SO_SNDLOWAT:
        return 1;
      case k.SO_BINDTOIFINDEX:
      case k.SO_BINDTODEVICE:
        return this.ifindex;
      default:
        return SocketOptions.UNKNOWN;
    }
  }

  bindOptions(): BindOptions {
    return { reuseAddress: this.reuseAddress, reusePort: this.reusePort, ifindex: this.ifindex };
  }

  private changed(by: Partial<SocketOptions>): SocketOptions {
    return new SocketOptions({ ...this, ...by }, this.v6Only);
  }
}
