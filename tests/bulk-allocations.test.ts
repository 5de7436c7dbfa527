/**
 * Law 3, counted: how much JavaScript heap a frame of a bulk transfer costs. A child process, because the count needs a
 * young generation that is never collected meanwhile.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { builtSource } from "./support/built.ts";

/**
 * A packet object with its closure, view and strings is well over this; boxed doubles, one view per read and the
 * driver's own promises (a third of it all) are well below.
 */
const BOUND_BYTES = 400;

const SCRIPT = fileURLToPath(builtSource("bench/allocations"));
const FLAGS = ["--expose-gc", "--min-semi-space-size=128", "--max-semi-space-size=128"];

function isRunnable(): boolean {
  const ok = existsSync(SCRIPT);
  if (!ok) process.stderr.write("SKIPPED: allocations per frame are counted in the built package: npm run build\n");
  return ok;
}

it.skipIf(!isRunnable())(`allocates less than ${BOUND_BYTES} bytes of heap per frame in bulk`, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, SCRIPT]);
  const { frames, bytesPerFrame } = JSON.parse(stdout) as { frames: number; bytesPerFrame: number };
  // 20 MB in segments of 1,448 bytes, each over two cables.
  expect(frames).toBeGreaterThan(2 * (20e6 / 1448));
  expect(bytesPerFrame).toBeGreaterThan(0);
  expect(bytesPerFrame).toBeLessThan(BOUND_BYTES);
});
