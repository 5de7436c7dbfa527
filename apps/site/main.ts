/**
 * The site `sojourn serve` serves: small handlers that each make one part of a journey visible. A program like any
 * other on the runtime; it knows nothing of how its bytes travel.
 */
import type { Runtime } from "../../src/runtime/port.ts";
import { listenAndServe, ServeMux, type Server, type ServerOptions } from "../../src/server/index.ts";
import { about } from "./about.ts";
import { bytes } from "./bytes.ts";
import { details } from "./details.ts";
import { echo } from "./echo.ts";
import { home } from "./home.ts";
import { cpu, slow } from "./slow.ts";

export interface SiteOptions extends ServerOptions {
  /** Where to listen; ":3000" by default. */
  readonly addr?: string;
}

/** The built-in routes. Whatever they do not name is `404 page not found`. */
export function siteMux(): ServeMux {
  const mux = new ServeMux();
  mux.handle("GET /{$}", home);
  mux.handle("GET /hello", (w) => {
    w.header().set("Content-Type", "text/plain; charset=utf-8");
    w.write("Hello from sojourn\n");
  });
  mux.handle("GET /about", about);
  mux.handle("GET /details", details);
  mux.handle("/echo", echo);
  mux.handle("GET /slow", slow);
  mux.handle("GET /cpu", cpu);
  mux.handle("GET /bytes/{n}", bytes);
  return mux;
}

/** Starts the site as a process of the server host. Rejects with `SyscallError` if it cannot listen. */
export function main(runtime: Runtime, options: SiteOptions = {}): Promise<Server> {
  return listenAndServe(runtime, options.addr ?? ":3000", siteMux(), options);
}
