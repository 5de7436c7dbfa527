/**
 * `Network` over the system-call port: listen is socket, setsockopt, bind, listen; dial is socket, connect.
 */
import type { Address } from "../base/address.ts";
import * as linux from "../socket/constants.ts";
import { SysOp } from "../socket/syscall-port.ts";
import { StreamConn } from "./conn.ts";
import { StreamListener } from "./listener.ts";
import { type Netpoll, TimeKind } from "./netpoll.ts";
import type { Conn, Listener, ListenOptions, Network } from "./port.ts";

/** listen(2) backlog when none is asked for: what Go reads from net.core.somaxconn. */
const DEFAULT_BACKLOG = 4096;

const STREAM = linux.SOCK_STREAM | linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC;

export class StackNetwork implements Network {
  private readonly netpoll: Netpoll;
  /** Listeners not yet closed by their owner, for `accept pause`. */
  readonly listeners = new Set<StreamListener>();

  constructor(netpoll: Netpoll) {
    this.netpoll = netpoll;
  }

  /** A listening socket. Rejects with `SyscallError` (EADDRINUSE, EADDRNOTAVAIL, EINVAL, EMFILE …). */
  async listen(address: Address, port: number, options: ListenOptions = {}): Promise<Listener> {
    const { netpoll } = this;
    const fd = await this.socket(address);
    try {
      const setUp = [netpoll.call("setsockopt", SysOp.setsockopt, fd, linux.SOL_SOCKET, linux.SO_REUSEADDR, 1)];
      if (options.reusePort) {
        setUp.push(netpoll.call("setsockopt", SysOp.setsockopt, fd, linux.SOL_SOCKET, linux.SO_REUSEPORT, 1));
      }
      setUp.push(netpoll.callWithAddress("bind", SysOp.bind, fd, address, port));
      await Promise.all(setUp);
      await netpoll.call("listen", SysOp.listen, fd, options.backlog ?? DEFAULT_BACKLOG);
      netpoll.watch(fd);
      const local = (await netpoll.call("getsockname", SysOp.getsockname, fd)).peer;
      const listener = new StreamListener(netpoll, fd, local);
      this.listeners.add(listener);
      listener.onClose = () => this.listeners.delete(listener);
      return listener;
    } catch (error) {
      netpoll.submit(SysOp.close, fd, 0);
      throw error;
    }
  }

  /** A connection to `address`. Rejects with `SyscallError`: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, EADDRNOTAVAIL … */
  async dial(address: Address, port: number): Promise<Conn> {
    const { netpoll } = this;
    const fd = await this.socket(address);
    try {
      const connected = await netpoll.callWithAddress("connect", SysOp.connect, fd, address, port);
      const conn = new StreamConn(netpoll, fd, connected.data, connected.local, { address, port });
      conn.note(TimeKind.established, netpoll.clock.nowNs);
      conn.start();
      return conn;
    } catch (error) {
      netpoll.submit(SysOp.close, fd, 0);
      throw error;
    }
  }

  private async socket(address: Address): Promise<number> {
    const domain = address.isV4 ? linux.AF_INET : linux.AF_INET6;
    return (await this.netpoll.call("socket", SysOp.socket, -1, domain, STREAM, 0)).result;
  }
}
