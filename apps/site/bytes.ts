/** `/bytes/N`: N bytes, as fast as the client takes them and no faster. */
import type { Handler } from "../../src/server/index.ts";
import { wholeNumber } from "./parameters.ts";

const N_MAX = 10 * 2 ** 30;
const BLOCK_BYTES = 65_536;
const LINE = "sojourn: the time a customer spends in a system, waiting and being served.\n";

/** The same text over and over: it compresses, it is greppable, and a missing byte shows. */
const BLOCK = Uint8Array.from({ length: BLOCK_BYTES }, (_, i) => LINE.charCodeAt(i % LINE.length));

export const bytes: Handler = async (w, r) => {
  const n = wholeNumber("N in /bytes/N", r.pathValue("n"), N_MAX);
  w.header().set("Content-Type", "text/plain; charset=utf-8");
  w.header().set("Content-Length", n);
  if (r.method === "HEAD") return;
  for (let left = n; left > 0 && !r.aborted; left -= BLOCK_BYTES) {
    await w.write(left >= BLOCK_BYTES ? BLOCK : BLOCK.subarray(0, left));
  }
};
