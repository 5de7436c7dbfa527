/**
 * `listenAndServe`, in Go's shape: an accept loop and one goroutine per connection over a runtime's network.
 *
 *     const mux = new ServeMux();
 *     mux.handle("GET /hello/{name}", (w, r) => { w.write(`Hello ${r.pathValue("name")}\n`); });
 *     const server = await listenAndServe(runtime, ":3000", mux);
 */
import { type Address, ANY_V4, parseAddress } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { DEFAULT_LIMITS, type RequestLimits } from "../proto/http1/limits.ts";
import type { Endpoint, Goroutine, Listener, ListenOptions, Runtime } from "../runtime/port.ts";
import { DateLine } from "./http-date.ts";
import type { Handler, ServeMux } from "./mux.ts";
import type { Request } from "./request.ts";
import { ServeConn } from "./serve-conn.ts";
import { ServerCore, type ServerStats, type Timeouts } from "./server-core.ts";

export const DEFAULT_TIMEOUTS: Timeouts = {
  headNs: 10 * SECOND,
  bodyNs: 30 * SECOND,
  idleNs: 5 * SECOND,
  lingerNs: 2 * SECOND,
};

/** After a failed accept: 5 ms, doubling to 1 s (Go net/http Server.Serve). */
const BACK_OFF_MIN_NS = 5 * MILLISECOND;
const BACK_OFF_MAX_NS = SECOND;

export interface ServerOptions {
  readonly limits?: Partial<RequestLimits>;
  readonly timeouts?: Partial<Timeouts>;
  readonly listen?: ListenOptions;
  /** Wall-clock time at which the runtime's clock was 0, ns since 1970; without it no Date is sent. */
  readonly originUnixNs?: number | bigint;
  /** Send `Server-Timing` with every answer; default true. */
  readonly serverTiming?: boolean;
  /** Told what a handler threw (its client got 500). */
  readonly onError?: (error: unknown, request: Request) => void;
}

export class Server {
  readonly listener: Listener;
  readonly stats: Readonly<ServerStats>;
  private readonly core: ServerCore;
  private isClosed = false;

  constructor(core: ServerCore, listener: Listener) {
    this.core = core;
    this.listener = listener;
    this.stats = core.stats;
    core.runtime.spawn(
      "acceptLoop",
      acceptLoop(core, listener, () => this.isClosed),
    );
  }

  /** Where it listens. */
  get addr(): Endpoint {
    return this.listener.local;
  }

  /** Connections open now. */
  get connections(): number {
    return this.core.living.size;
  }

  /** Stops listening and resets every connection. */
  close(): void {
    this.stopListening();
    for (const conn of [...this.core.living]) conn.kill();
  }

  /** Stops listening, closes idle connections, lets the present requests finish; resolves when none is left. */
  shutdown(): Promise<void> {
    this.stopListening();
    if (this.core.living.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.core.onEmpty = () => {
        resolve();
        this.core.runtime.resumed?.();
      };
      for (const conn of this.core.living) if (conn.isIdle) conn.wake();
    });
  }

  private stopListening(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.core.isClosing = true;
    this.listener.close();
  }
}

function acceptLoop(core: ServerCore, listener: Listener, isClosed: () => boolean): (g: Goroutine) => void {
  const { runtime } = core;
  let backOffNs: Ns = 0;
  return (g) => {
    for (;;) {
      if (isClosed()) return runtime.exit(g);
      const accepted = listener.tryAccept(g);
      if (accepted === null) return;
      if (typeof accepted === "number") {
        if (isClosed() || accepted === -Errno.EBADF) return runtime.exit(g);
        backOffNs = Math.min(BACK_OFF_MAX_NS, backOffNs === 0 ? BACK_OFF_MIN_NS : 2 * backOffNs);
        runtime.after(runtime.clock.nowNs + backOffNs, () => runtime.ready(g));
        return runtime.park(g, "accept back-off");
      }
      backOffNs = 0;
      const served = new ServeConn(core, accepted);
      core.living.add(served);
      core.stats.connections++;
      runtime.spawn("serveConn", served);
    }
  };
}

/** ":3000", "127.0.0.1:3000" or "[::1]:3000" as address and port. Throws `RangeError`. */
export function parseListenAddress(text: string): { address: Address; port: number } {
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, Math.max(0, colon)).replace(/^\[(.*)\]$/, "$1");
  const port = text.slice(colon + 1);
  const address = host === "" ? ANY_V4 : parseAddress(host);
  if (colon < 0 || address === undefined || !/^[0-9]{1,5}$/.test(port) || Number(port) > 65_535) {
    throw new RangeError(`not an address to listen on: ${JSON.stringify(text)} (write ":3000" or "127.0.0.1:3000")`);
  }
  return { address, port: Number(port) };
}

/**
 * Listens on `addr` and serves every connection with `handler`. Rejects with `SyscallError` if listening fails
 * (EADDRINUSE), with `RangeError` for an address that is none.
 */
export async function listenAndServe(
  runtime: Runtime,
  addr: string,
  handler: Handler | ServeMux,
  options: ServerOptions = {},
): Promise<Server> {
  const { address, port } = parseListenAddress(addr);
  const listener = await runtime.network.listen(address, port, options.listen);
  return serve(runtime, listener, handler, options);
}

/** Serves the connections of a listener, which is *taken*. */
export function serve(
  runtime: Runtime,
  listener: Listener,
  handler: Handler | ServeMux,
  options: ServerOptions = {},
): Server {
  const core = new ServerCore(
    runtime,
    handler,
    { ...DEFAULT_LIMITS, ...options.limits },
    { ...DEFAULT_TIMEOUTS, ...options.timeouts },
    options.serverTiming ?? true,
    options.originUnixNs === undefined ? null : new DateLine(options.originUnixNs),
    options.onError ?? (() => {}),
  );
  return new Server(core, listener);
}
