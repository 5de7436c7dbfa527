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

export class SocketOptions implements BindOptions {
  /** Not an option kept here: ask the transport. */
  static readonly UNKNOWN = -0x7fffffff;

  reuseAddress = false;
  reusePort = false;
  /** SO_BINDTODEVICE; 0 = any. */
  ifindex = 0;
  broadcast = false;
  private v6Only = false;

  /** 0, -errno, or UNKNOWN. */
  set(level: number, name: number, value: number): number {
    if (level === k.IPPROTO_IPV6) return this.setV6(name, value);
    if (level !== k.SOL_SOCKET) return SocketOptions.UNKNOWN;
    switch (name) {
      case k.SO_REUSEADDR:
        this.reuseAddress = value !== 0;
        return 0;
      case k.SO_REUSEPORT:
        this.reusePort = value !== 0;
        return 0;
      case k.SO_BROADCAST:
        this.broadcast = value !== 0;
        return 0;
      case k.SO_BINDTOIFINDEX:
        if (value < 0) return -Errno.EINVAL;
        this.ifindex = value;
        return 0;
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

  /** An accepted connection has its listener's options. */
  inherit(parent: SocketOptions): void {
    this.reuseAddress = parent.reuseAddress;
    this.reusePort = parent.reusePort;
    this.ifindex = parent.ifindex;
    this.broadcast = parent.broadcast;
    this.v6Only = parent.v6Only;
  }

  bindOptions(): BindOptions {
    return { reuseAddress: this.reuseAddress, reusePort: this.reusePort, ifindex: this.ifindex };
  }

  private setV6(name: number, value: number): number {
    if (name !== k.IPV6_V6ONLY) return SocketOptions.UNKNOWN;
    this.v6Only = value !== 0;
    return 0;
  }
}
