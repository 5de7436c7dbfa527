/** What a server process thread runs: the built-in site, as a process app. @worker */
import type { ProcessApp } from "../../src/host/process-control.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import { type SiteOptions, main as site } from "../site/main.ts";

/** Rejects with `SyscallError` if the site cannot listen. */
export async function main(runtime: Runtime, options: unknown): Promise<ProcessApp> {
  const server = await site(runtime, options as SiteOptions);
  return {
    control: (method) => {
      if (method === "stats") return { ...server.stats };
      throw new Error(`the site answers no "${method}"`);
    },
    stop: () => server.close(),
  };
}
