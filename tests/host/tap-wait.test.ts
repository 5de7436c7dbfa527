/** How a kernel sleeps on descriptors: it sleeps through no frame and no ring. An eventfd stands for a TAP. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { KernelDoorbell } from "../../src/host/doorbell.ts";
import { FdReadiness } from "../../src/host/fd-readiness.ts";
import { FdWait } from "../../src/host/fd-wait.ts";
import type { PollSource } from "../../src/host/kernel-machine.ts";
import { callMemory, libc, O_CLOEXEC, O_NONBLOCK } from "../../src/host/libc.ts";
import { builtSource, isBuilt } from "../support/built.ts";
import { requires } from "../support/requires.ts";

const MS = 1e6;

/** A source that can be made readable and empty. */
class Eventfd implements PollSource {
  fd = libc().eventfd(0, O_NONBLOCK | O_CLOEXEC);
  private readonly bytes = new Uint8Array(callMemory(8)).fill(1, 0, 1);
  private readonly own = this.fd;

  fill(): void {
    libc().write(this.own, libc().addressOf(this.bytes), 8);
  }
  empty(): void {
    libc().read(this.own, libc().addressOf(new Uint8Array(callMemory(8))), 8);
  }
  poll(): boolean {
    return false;
  }
  close(): void {
    libc().close(this.own);
  }
}

describe.skipIf(requires("linux"))("sleeping on descriptors", () => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  function eventfd(): Eventfd {
    const source = new Eventfd();
    ends.push(() => source.close());
    return source;
  }

  function sleeper(...sources: PollSource[]) {
    const doorbell = new KernelDoorbell();
    const fdWait = new FdWait(doorbell, sources);
    ends.push(() => fdWait.close());
    const sleptMs = (seen: number, ms: number): number => {
      const startMs = performance.now();
      fdWait.wait(seen, ms * MS);
      return performance.now() - startMs;
    };
    return { doorbell, fdWait, sleptMs };
  }

  it("sleeps as long as it is told, to less than a millisecond", () => {
    const { sleptMs, doorbell } = sleeper(eventfd());
    expect(sleptMs(doorbell.sequence, 30)).toBeGreaterThanOrEqual(29.9);
    const short = Array.from({ length: 20 }, () => sleptMs(doorbell.sequence, 0.2)).sort((a, b) => a - b);
    expect(short[0]).toBeGreaterThanOrEqual(0.19);
    expect(short[5]).toBeLessThan(5);
  });

  it("does not sleep while a descriptor is readable, and sleeps again when it is not", () => {
    const first = eventfd();
    const second = eventfd();
    const { sleptMs, doorbell } = sleeper(first, second);
    second.fill();
    expect(sleptMs(doorbell.sequence, 1000)).toBeLessThan(500);
    expect(sleptMs(doorbell.sequence, 1000)).toBeLessThan(500);
    second.empty();
    expect(sleptMs(doorbell.sequence, 20)).toBeGreaterThanOrEqual(19);
  });

  it("leaves out a descriptor that has gone", () => {
    const source = eventfd();
    const { sleptMs, doorbell } = sleeper(source);
    source.fill();
    source.fd = -1;
    expect(sleptMs(doorbell.sequence, 20)).toBeGreaterThanOrEqual(19);
  });

  it("does not sleep through a ring that came before it", () => {
    const { sleptMs, doorbell } = sleeper(eventfd());
    const seen = doorbell.sequence;
    doorbell.ring();
    expect(sleptMs(seen, 1000)).toBeLessThan(500);
    // That ring made no system call, and leaves nothing behind.
    expect(sleptMs(doorbell.sequence, 20)).toBeGreaterThanOrEqual(19);
  });

  it("a write that comes late ends the next sleep, once", () => {
    const { sleptMs, fdWait, doorbell } = sleeper(eventfd());
    // A ring between mark and sleep: its write is not read in this round.
    const prepare = doorbell.prepareToPoll.bind(doorbell);
    doorbell.prepareToPoll = (seen, fd) => {
      prepare(seen, fd);
      doorbell.ring();
      return false;
    };
    fdWait.wait(doorbell.sequence, 1000 * MS);
    doorbell.prepareToPoll = prepare;
    expect(sleptMs(doorbell.sequence, 1000)).toBeLessThan(500);
    expect(sleptMs(doorbell.sequence, 20)).toBeGreaterThanOrEqual(19);
  });

  it.skipIf(!isBuilt())("hears every one of 30,000 rings of another thread", async () => {
    const { doorbell, fdWait } = sleeper(eventfd());
    const words = new Int32Array(new SharedArrayBuffer(8));
    const count = 30_000;
    // Rings, waits until it was heard, works for a while that differs each time, rings again.
    const worker = new Worker(
      `const { workerData } = require("node:worker_threads");
       import(workerData.module).then(({ KernelDoorbell }) => {
         const doorbell = new KernelDoorbell(workerData.doorbell);
         const words = new Int32Array(workerData.words);
         for (let i = 0; i < ${count}; i++) {
           for (let work = (i * 7919) % 1000; work > 0; work--) Atomics.load(words, 0);
           Atomics.store(words, 1, i + 1);
           doorbell.ring();
           while (Atomics.load(words, 0) !== i + 1) Atomics.wait(words, 0, i, 1000);
         }
       });`,
      {
        eval: true,
        workerData: {
          module: builtSource("src/host/doorbell").href,
          doorbell: doorbell.buffer,
          words: words.buffer,
        },
      },
    );
    const ended = once(worker, "exit");
    let lost = 0;
    for (let heard = 0; heard < count; ) {
      const seen = doorbell.sequence;
      const rung = Atomics.load(words, 1);
      if (rung > heard) {
        heard = rung;
        Atomics.store(words, 0, heard);
        Atomics.notify(words, 0);
        continue;
      }
      const startMs = performance.now();
      fdWait.wait(seen, 2000 * MS);
      if (performance.now() - startMs > 1900) lost++;
    }
    await ended;
    expect(lost).toBe(0);
  });

  it("tells Node's loop, again and again while it is readable, and not when it has gone", async () => {
    const source = eventfd();
    let calls = 0;
    const readiness = new FdReadiness([source], () => calls++);
    ends.push(() => readiness.close());
    const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    await wait(20);
    expect(calls).toBe(0);
    source.fill();
    await expect.poll(() => calls).toBeGreaterThan(2);
    source.empty();
    await wait(5);
    const before = calls;
    await wait(20);
    expect(calls).toBe(before);
    source.fill();
    await expect.poll(() => calls).toBeGreaterThan(before);
    source.fd = -1;
    readiness.refresh();
    await wait(5);
    const gone = calls;
    await wait(20);
    expect(calls).toBe(gone);
  });
});
