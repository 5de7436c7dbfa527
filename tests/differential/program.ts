/**
 * A socket program: calls in a row, run by `kernel.py` on Linux and by `ours.ts` on our stack, so that it is the same
 * program on both by construction. Sockets have names; whatever a call returns is its result, nothing throws.
 *
 *   program().listener("l", 1).client("a").ss()
 */
import * as k from "../../src/socket/constants.ts";

/** A call's name and arguments. */
export type Step = readonly [call: string, ...args: (string | number)[]];

/** The port listeners of these programs use. */
export const PORT = 80;
const LOOPBACK = "127.0.0.1";

export class Program {
  readonly steps: Step[] = [];

  private call(...step: Step): this {
    this.steps.push(step);
    return this;
  }

  // ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

  socket(name: string, kind: "tcp" | "udp" = "tcp"): this {
    return this.call("socket", name, kind);
  }

  bind(name: string, port = PORT, address = LOOPBACK): this {
    return this.call("bind", name, port, address);
  }

  listen(name: string, backlog = 8): this {
    return this.call("listen", name, backlog);
  }

  connect(name: string, port = PORT, address = LOOPBACK): this {
    return this.call("connect", name, port, address);
  }

  accept(listener: string, name: string): this {
    return this.call("accept", listener, name);
  }

  send(name: string, text: string, flags = 0): this {
    return this.call("send", name, text, flags);
  }

  /** Sends until nothing more is taken; the result is why. */
  fill(name: string): this {
    return this.call("fill", name);
  }

  sendto(name: string, text: string, port: number): this {
    return this.call("sendto", name, text, port);
  }

  recv(name: string, most = 100, flags = 0): this {
    return this.call("recv", name, most, flags);
  }

  shutdown(name: string, how: number): this {
    return this.call("shutdown", name, how);
  }

  close(...names: string[]): this {
    for (const name of names) this.call("close", name);
    return this;
  }

  set(name: string, level: number, option: number, value: number): this {
    return this.call("set", name, level, option, value);
  }

  linger(name: string, on: number, seconds: number): this {
    return this.call("linger", name, on, seconds);
  }

  get(name: string, level: number, option: number): this {
    return this.call("get", name, level, option);
  }

  /** SO_ERROR. */
  error(name: string): this {
    return this.get(name, k.SOL_SOCKET, k.SO_ERROR);
  }

  /** TCP_INFO: state, snd_wscale, rcv_wscale, unacked, snd_cwnd. */
  info(name: string): this {
    return this.call("info", name);
  }

  /** Whether getsockname and getpeername know a port. */
  names(name: string): this {
    return this.call("names", name);
  }

  /** What is true of POLLIN, POLLOUT, POLLERR, POLLHUP and POLLRDHUP now. */
  poll(name: string): this {
    return this.call("poll", name);
  }

  /** Waits for an event; the time it took is compared with a tolerance. */
  until(name: string, events: number, mostMs = 1000): this {
    return this.call("until", name, events, mostMs);
  }

  epoll(name: string): this {
    return this.call("epoll", name);
  }

  ctl(name: string, operation: "add" | "mod" | "del", target: string, events: number): this {
    return this.call("ctl", name, operation, target, events);
  }

  /** epoll_wait without waiting. */
  events(name: string): this {
    return this.call("events", name);
  }

  sysctl(name: string, value: string): this {
    return this.call("sysctl", name, value);
  }

  wait(ms: number): this {
    return this.call("wait", ms);
  }

  /** Rows of `ss -tan`: state, Recv-Q, Send-Q, ports (`*`: chosen by the kernel). */
  ss(): this {
    return this.call("ss");
  }

  /** Counters by nstat's name, since the program began. */
  count(...names: string[]): this {
    return this.call("count", ...names);
  }

  // ── calls that often come together ────────────────────────────────────────────────────────────────────────────

  /** A socket that listens on `port`. */
  listener(name: string, backlog = 8, port = PORT): this {
    return this.socket(name).bind(name, port).listen(name, backlog);
  }

  /** Sockets that connect to `PORT`, one after the other. */
  client(...names: string[]): this {
    for (const name of names) this.socket(name).connect(name);
    return this;
  }

  /** A connection: `c` on the client's side, `s` accepted from listener `l`. */
  pair(): this {
    return this.listener("l").client("c").accept("l", "s");
  }
}

export function program(): Program {
  return new Program();
}
