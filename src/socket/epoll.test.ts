import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fakeHost } from "../../tests/support/fake-tcp.ts";
import { Errno } from "../base/errno.ts";
import * as k from "./constants.ts";
import { EpollEvents, EpollFile } from "./epoll.ts";
import { File, type FileKind } from "./file.ts";

/** A file whose readiness the test sets; what turns on is a wake-up, as in every kind of file. */
class Lamp extends File {
  override readonly kind: FileKind = "pipe";
  private events = 0;

  override poll(): number {
    return this.events;
  }

  set(events: number): void {
    const risen = events & ~this.events;
    this.events = events;
    if (risen !== 0) this.waiters.wake(risen);
  }

  /** More of the same: the events stay, the waiters are told again. */
  again(): void {
    if (this.events !== 0) this.waiters.wake(this.events);
  }

  override describe(): string {
    return "lamp";
  }

  protected override release(): void {}
}

function setUp(count: number) {
  const { table } = fakeHost();
  const { context } = table;
  const epoll = new EpollFile(context);
  const lamps = Array.from({ length: count }, () => new Lamp(context, 0));
  for (const lamp of lamps) lamp.hold();
  const out = new EpollEvents(64);
  const wait = (max = 64) => {
    const n = epoll.wait(out, max);
    return Array.from({ length: n }, (_, i) => [out.data[i] as number, out.events[i] as number] as const);
  };
  const add = (i: number, events: number) => epoll.control(k.EPOLL_CTL_ADD, i, lamps[i] as Lamp, events, i);
  const modify = (i: number, events: number) => epoll.control(k.EPOLL_CTL_MOD, i, lamps[i] as Lamp, events, i);
  const remove = (i: number) => epoll.control(k.EPOLL_CTL_DEL, i, lamps[i] as Lamp, 0, 0);
  return { table, epoll, lamps, wait, add, modify, remove };
}

describe("epoll", () => {
  it("level-triggered: reports as long as it is true", () => {
    const { lamps, wait, add } = setUp(1);
    add(0, k.EPOLLIN);
    expect(wait()).toEqual([]);
    lamps[0]?.set(k.EPOLLIN | k.EPOLLOUT);
    expect(wait()).toEqual([[0, k.EPOLLIN]]);
    expect(wait()).toEqual([[0, k.EPOLLIN]]);
    lamps[0]?.set(k.EPOLLOUT);
    expect(wait()).toEqual([]);
  });

  it("edge-triggered: reports once per wake-up, also when more of the same arrives", () => {
    const { lamps, wait, add } = setUp(1);
    lamps[0]?.set(k.EPOLLOUT);
    add(0, k.EPOLLIN | k.EPOLLOUT | k.EPOLLET);
    expect(wait()).toEqual([[0, k.EPOLLOUT]]);
    expect(wait()).toEqual([]);
    lamps[0]?.set(k.EPOLLOUT | k.EPOLLIN);
    expect(wait()).toEqual([[0, k.EPOLLIN | k.EPOLLOUT]]);
    expect(wait()).toEqual([]);
    lamps[0]?.again();
    expect(wait()).toEqual([[0, k.EPOLLIN | k.EPOLLOUT]]);
  });

  it("one-shot: reports once until modified", () => {
    const { lamps, wait, add, modify } = setUp(1);
    add(0, k.EPOLLIN | k.EPOLLONESHOT);
    lamps[0]?.set(k.EPOLLIN);
    expect(wait()).toEqual([[0, k.EPOLLIN]]);
    lamps[0]?.again();
    lamps[0]?.set(k.EPOLLIN | k.EPOLLHUP);
    expect(wait()).toEqual([]);
    modify(0, k.EPOLLIN | k.EPOLLONESHOT);
    expect(wait()).toEqual([[0, k.EPOLLIN | k.EPOLLHUP]]);
    expect(wait()).toEqual([]);
  });

  it("HUP and ERR are reported unasked", () => {
    const { lamps, wait, add } = setUp(1);
    add(0, 0);
    lamps[0]?.set(k.EPOLLHUP | k.EPOLLERR | k.EPOLLIN);
    expect(wait()).toEqual([[0, k.EPOLLHUP | k.EPOLLERR]]);
  });

  it("is fair: with one event per call, ready files take turns", () => {
    const { lamps, wait, add } = setUp(5);
    for (let i = 0; i < 5; i++) {
      add(i, k.EPOLLIN);
      lamps[i]?.set(k.EPOLLIN);
    }
    const seen = Array.from({ length: 10 }, () => wait(1)[0]?.[0]);
    expect(seen).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
  });

  it("exclusive: one wake-up reaches one of several epolls somebody waits on, an ordinary item all", () => {
    const { table, lamps } = setUp(1);
    const lamp = lamps[0] as Lamp;
    const epolls = [1, 2, 3].map(() => new EpollFile(table.context));
    const woken: number[] = [];
    for (const [i, epoll] of epolls.entries()) {
      epoll.control(k.EPOLL_CTL_ADD, 3, lamp, k.EPOLLIN | k.EPOLLEXCLUSIVE, i);
      epoll.waiters.wake = () => void woken.push(i);
      Object.defineProperty(epoll.waiters, "hasWaiters", { value: true });
    }
    lamp.set(k.EPOLLIN);
    expect(woken).toEqual([0]);
    expect(epolls.map((e) => e.wait(new EpollEvents(1), 1))).toEqual([1, 0, 0]);
  });

  it("says what is wrong", () => {
    const { table, epoll, add, modify, remove, lamps } = setUp(2);
    expect(modify(0, k.EPOLLIN)).toBe(-Errno.ENOENT);
    expect(remove(0)).toBe(-Errno.ENOENT);
    expect(add(0, k.EPOLLIN)).toBe(0);
    expect(add(0, k.EPOLLIN)).toBe(-Errno.EEXIST);
    expect(epoll.control(9, 0, lamps[0] as Lamp, 0, 0)).toBe(-Errno.EINVAL);
    expect(epoll.control(k.EPOLL_CTL_ADD, 7, new EpollFile(table.context), k.EPOLLIN, 0)).toBe(-Errno.EINVAL);
    expect(add(1, k.EPOLLIN | k.EPOLLRDHUP | k.EPOLLEXCLUSIVE)).toBe(-Errno.EINVAL);
    expect(add(1, k.EPOLLIN | k.EPOLLEXCLUSIVE)).toBe(0);
    expect(modify(1, k.EPOLLIN)).toBe(-Errno.EINVAL);
    expect(modify(0, k.EPOLLIN | k.EPOLLEXCLUSIVE)).toBe(-Errno.EINVAL);
  });

  it("forgets a file that is closed, and everything when it is closed itself", () => {
    const { table, epoll, lamps, add, wait } = setUp(3);
    epoll.hold();
    for (let i = 0; i < 3; i++) {
      add(i, k.EPOLLIN);
      lamps[i]?.set(k.EPOLLIN);
    }
    lamps[1]?.drop();
    expect(wait().map(([data]) => data)).toEqual([0, 2]);
    expect(table.counts).toMatchObject({ epollItems: 2, waitEntries: 2 });
    epoll.drop();
    expect(table.counts).toMatchObject({ epollItems: 0, waitEntries: 0 });
    expect(lamps[0]?.watchCount).toBe(0);
  });

  it("property: agrees with a naive model of level, edge and one-shot", () => {
    const EVENTS = [k.EPOLLIN, k.EPOLLOUT, k.EPOLLIN | k.EPOLLOUT, k.EPOLLRDHUP, 0];
    const MODES = [0, k.EPOLLET, k.EPOLLONESHOT, k.EPOLLET | k.EPOLLONESHOT];
    const READY = [0, k.EPOLLIN, k.EPOLLOUT, k.EPOLLIN | k.EPOLLOUT, k.EPOLLIN | k.EPOLLRDHUP, k.EPOLLHUP];
    const step = fc.record({
      do: fc.constantFrom("add", "modify", "remove", "set", "again", "wait"),
      file: fc.nat(2),
      events: fc.constantFrom(...EVENTS),
      mode: fc.constantFrom(...MODES),
      ready: fc.constantFrom(...READY),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const { lamps, wait, add, modify, remove } = setUp(3);
        /** asked, mode, and whether something happened since it was last looked at. */
        const model = new Map<number, { asked: number; mode: number; edge: boolean; off: boolean }>();
        const ready = [0, 0, 0];
        const always = k.EPOLLERR | k.EPOLLHUP;
        for (const s of steps) {
          const lamp = lamps[s.file] as Lamp;
          const item = model.get(s.file);
          if (s.do === "add" && !item) {
            add(s.file, s.events | s.mode);
            model.set(s.file, { asked: s.events | always, mode: s.mode, edge: true, off: false });
          } else if (s.do === "modify" && item) {
            modify(s.file, s.events | s.mode);
            Object.assign(item, { asked: s.events | always, mode: s.mode, off: false });
            if ((ready[s.file] as number) & item.asked) item.edge = true;
          } else if (s.do === "remove" && item) {
            remove(s.file);
            model.delete(s.file);
          } else if (s.do === "set") {
            const risen = s.ready & ~(ready[s.file] as number);
            ready[s.file] = s.ready;
            lamp.set(s.ready);
            if (item && !item.off && risen & item.asked) item.edge = true;
          } else if (s.do === "again") {
            lamp.again();
            if (item && !item.off && (ready[s.file] as number) & item.asked) item.edge = true;
          } else if (s.do === "wait") {
            const expected: (readonly [number, number])[] = [];
            for (const [file, i] of model) {
              const events = (ready[file] as number) & i.asked;
              const isEdge = (i.mode & k.EPOLLET) !== 0;
              if (!i.off && events !== 0 && (!isEdge || i.edge)) {
                expected.push([file, events]);
                if ((i.mode & k.EPOLLONESHOT) !== 0) i.off = true;
              }
              i.edge = false;
            }
            expect(wait().sort((a, b) => a[0] - b[0])).toEqual(expected.sort((a, b) => a[0] - b[0]));
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
