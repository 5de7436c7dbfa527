import { describe, expect, it } from "vitest";
import { SocketCounts } from "./counts.ts";
import { WaitEntry, WaitQueue } from "./wait-queue.ts";

class Listener extends WaitEntry {
  override readonly wake: () => boolean;

  constructor(wake: () => boolean) {
    super();
    this.wake = wake;
  }
}

function queue() {
  const counts = new SocketCounts();
  const waiters = new WaitQueue({ counts });
  const told: string[] = [];
  const add = (name: string, exclusive: boolean, accepts = true) => {
    const entry = new Listener(() => {
      told.push(name);
      return accepts;
    });
    waiters.add(entry, exclusive);
    return entry;
  };
  const wake = (exclusives?: number) => {
    told.length = 0;
    waiters.wake(1, exclusives);
    return [...told];
  };
  return { counts, waiters, add, wake };
}

describe("wait queue", () => {
  it("tells all ordinary entries, newest first, and one exclusive entry, oldest first", () => {
    const { add, wake } = queue();
    add("x1", true);
    add("a", false);
    add("x2", true);
    add("b", false);
    expect(wake()).toEqual(["b", "a", "x1"]);
    expect(wake(2)).toEqual(["b", "a", "x1", "x2"]);
  });

  it("an exclusive entry that woke nobody passes the wake-up on", () => {
    const { add, wake } = queue();
    add("idle", true, false);
    add("busy", true);
    add("later", true);
    expect(wake()).toEqual(["idle", "busy"]);
  });

  it("entries may leave while they are told", () => {
    const { counts, waiters, wake } = queue();
    const told: number[] = [];
    const entries = [0, 1, 2].map((i) => {
      const entry: WaitEntry = new Listener(() => {
        told.push(i);
        waiters.remove(entry);
        if (i === 2) waiters.remove(entries[1] as WaitEntry);
        return true;
      });
      waiters.add(entry);
      return entry;
    });
    wake();
    expect(told).toEqual([2, 0]);
    expect(waiters.length).toBe(0);
    expect(counts.waitEntries).toBe(0);
  });

  it("removing twice is harmless, adding twice is a bug", () => {
    const { waiters, add } = queue();
    const entry = add("a", false);
    expect(() => waiters.add(entry)).toThrow("in a queue already");
    waiters.remove(entry);
    waiters.remove(entry);
    expect(waiters.length).toBe(0);
  });
});
