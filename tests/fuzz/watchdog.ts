/**
 * Bounded time: an input that never ends would hang the test run without a word. A second thread looks whether inputs
 * go by; if the same one runs for too long it says which, and ends the process.
 */
import { Worker } from "node:worker_threads";
import type { Draft } from "./input.ts";

/** So much longer than any input takes that a busy machine is no alarm. */
const PATIENCE_MS = 20_000;

/** Runs in the other thread: plain JavaScript, as it starts without the test runner. */
const WATCH = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const { progress, bytes, name, patienceMs } = workerData;
let before = -1;
setInterval(() => {
  const now = Atomics.load(progress, 0);
  if (now !== before) { before = now; return; }
  const hex = Buffer.from(bytes.slice(0, Atomics.load(progress, 1))).toString("hex");
  writeSync(2, "\\n" + name + ": input " + now + " runs for more than " + patienceMs / 1000 + " s\\n");
  writeSync(2, "replay: SOJOURN_FUZZ=" + name + ":" + hex + " npx vitest run --project sim tests/fuzz/replay.test.ts\\n");
  process.kill(process.pid, "SIGKILL");
}, patienceMs);
`;

export class Watchdog {
  private readonly progress = new Int32Array(new SharedArrayBuffer(8));
  private readonly worker: Worker;

  /** Watches `draft`, which must lie in shared memory, on behalf of the target `name`. */
  constructor(name: string, draft: Draft) {
    const workerData = { progress: this.progress, bytes: draft.bytes, name, patienceMs: PATIENCE_MS };
    this.worker = new Worker(WATCH, { eval: true, workerData });
    this.worker.unref();
  }

  /** The next input begins: `draft.len` bytes. */
  next(len: number): void {
    Atomics.store(this.progress, 1, len);
    Atomics.add(this.progress, 0, 1);
  }

  async stop(): Promise<void> {
    await this.worker.terminate();
  }
}
