import { expect, it } from "vitest";
import { FakeSyscallPort } from "../../tests/support/fake-syscall-port.ts";
import { Cost, ManualClock, MILLISECOND, type Ns } from "../base/time.ts";
import { Timers } from "../base/timers.ts";
import { NO_TRACE } from "../base/tracepoints.ts";
import { InlineProcess } from "./inline-process.ts";

/** A host in virtual time: its timers, its clock, and whether foreign code wants its microtasks. */
function host(startNs: Ns = 0) {
  const clock = new ManualClock(0);
  const timers = new Timers();
  const port = new FakeSyscallPort();
  let resumed = false;
  const process = new InlineProcess({
    port,
    clock,
    timers,
    trace: NO_TRACE,
    pid: 7,
    startNs,
    nextRequestId: () => 1,
    onResume: () => {
      resumed = true;
    },
  });
  /** Jumps from deadline to deadline; lets promises go on only when told that foreign code was resumed. */
  const run = async (untilNs: Ns): Promise<void> => {
    for (;;) {
      if (resumed) {
        resumed = false;
        for (let i = 0; i < 20; i++) await Promise.resolve();
      }
      const due = timers.deadline();
      if (due > untilNs) break;
      clock.nowNs = Math.max(clock.nowNs, due);
      timers.fireOne(clock.nowNs);
    }
    clock.nowNs = untilNs;
  };
  return { clock, timers, port, process, run };
}

it("does not run before its start", async () => {
  const { process, run, clock } = host(5 * MILLISECOND);
  let ranAtNs = -1;
  process.runtime.spawn("first", (g) => {
    ranAtNs = clock.nowNs;
    process.runtime.exit(g);
  });
  await run(100 * MILLISECOND);
  expect(ranAtNs).toBe(5 * MILLISECOND);
});

it("burning holds the CPU: others wait, and who burnt goes on first", async () => {
  const { process, run, clock } = host();
  const { runtime } = process;
  const log: string[] = [];
  const note = (what: string) => log.push(`${what} ${clock.nowNs / MILLISECOND}`);
  runtime.go("burner", async () => {
    note("burn");
    await runtime.burn(50 * MILLISECOND);
    note("burnt");
  });
  runtime.spawn("other", (g) => {
    note("other");
    runtime.exit(g);
  });
  await run(100 * MILLISECOND);
  expect(log).toEqual(["burn 0", "burnt 50", "other 50"]);
});

it("a doorbell during a burn is answered at its end", async () => {
  const { process, run, clock, port } = host();
  const { runtime } = process;
  const slept: number[] = [];
  runtime.go("sleeper", async () => {
    await runtime.sleep(10 * MILLISECOND);
    slept.push(clock.nowNs / MILLISECOND);
  });
  runtime.go("burner", () => runtime.burn(30 * MILLISECOND));
  await run(5 * MILLISECOND);
  port.complete(1, { result: 0 });
  process.wake();
  await run(100 * MILLISECOND);
  expect(slept).toEqual([30]);
});

it("two burns add up", async () => {
  const { process, run, clock } = host();
  const { runtime } = process;
  const ends: number[] = [];
  for (const ms of [20, 30]) {
    runtime.go(`burn ${ms}`, async () => {
      await runtime.burn(ms * MILLISECOND);
      ends.push(clock.nowNs / MILLISECOND);
    });
  }
  await run(200 * MILLISECOND);
  expect(ends).toEqual([20, 50]);
});

it("sleeping leaves the CPU to others", async () => {
  const { process, run, clock } = host();
  const { runtime } = process;
  const ends: number[] = [];
  for (const ms of [20, 30]) {
    runtime.go(`sleep ${ms}`, async () => {
      await runtime.sleep(ms * MILLISECOND);
      ends.push(clock.nowNs / MILLISECOND);
    });
  }
  await run(200 * MILLISECOND);
  expect(ends).toEqual([20, 30]);
});

it("what its work costs occupies it", () => {
  const { process, timers, clock } = host();
  clock.charge = (kind) => {
    if (kind === Cost.goroutineSwitch) clock.nowNs += 100;
  };
  process.runtime.spawn("work", (g) => process.runtime.exit(g));
  timers.fireOne(0);
  expect(process.busyUntilNs).toBe(100);
});

it("stopped, never runs again", async () => {
  const { process, run, port } = host();
  let ran = false;
  process.runtime.spawn("never", (g) => {
    ran = true;
    process.runtime.exit(g);
  });
  process.stop();
  process.wake();
  await run(MILLISECOND);
  expect(ran).toBe(false);
  expect(port.last("exit").fd).toBe(-1);
});
