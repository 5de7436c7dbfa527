/** `/echo`: the body comes back as it arrives, with its own type and, if it had one, its length. */
import type { Handler } from "../../src/server/index.ts";

const BLOCK_BYTES = 65_536;

export const echo: Handler = (w, r) => {
  const { length } = r.body;
  w.header().set("Content-Type", r.header("content-type") ?? "application/octet-stream");
  w.header().set("X-Content-Type-Options", "nosniff");
  if (length >= 0) w.header().set("Content-Length", length);
  if (length === 0) return;
  return copyBack(w, r, new Uint8Array(length < 0 ? BLOCK_BYTES : Math.min(length, BLOCK_BYTES)));
};

async function copyBack(w: Parameters<Handler>[0], r: Parameters<Handler>[1], block: Uint8Array): Promise<void> {
  for (let n = await r.body.read(block); n > 0; n = await r.body.read(block)) {
    await w.write(block.subarray(0, n));
  }
}
