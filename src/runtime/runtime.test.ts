import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { FakeSyscallPort, type Submitted } from "../../tests/support/fake-syscall-port.ts";
import { Address, ANY_V4 } from "../base/address.ts";
import { Errno } from "../base/errno.ts";
import { ManualClock, MILLISECOND } from "../base/time.ts";
import { Point, type Tracepoints } from "../base/tracepoints.ts";
import { MSG_MORE } from "../socket/constants.ts";
import { CompletionFlag } from "../socket/syscall-port.ts";
import { type Conn, type Goroutine, type Listener, PARKED } from "./port.ts";
import { GoRuntime } from "./runtime.ts";

const CLIENT = Address.v4(0x0a000001);
const SERVER = Address.v4(0x0a000002);

class Notes implements Tracepoints {
  mask = 0;
  readonly lines: string[] = [];
  private readonly names = new Map<number, string>(Object.entries(Point).map(([k, v]) => [v, k]));
  stamp(point: Point, id: number, a: number, b: number): void {
    this.lines.push(`${this.names.get(point)} ${id} ${a} ${b}`);
  }
  link(point: Point, child: number, parent: number, lo: number, hi: number): void {
    this.lines.push(`${this.names.get(point)} ${child} ${parent} [${lo},${hi})`);
  }
  drop(): void {}
  label(): void {}
}

let port: FakeSyscallPort;
let clock: ManualClock;
let trace: Notes;
let wakes: number;
let runtime: GoRuntime;

beforeEach(() => {
  port = new FakeSyscallPort();
  clock = new ManualClock(1000);
  trace = new Notes();
  wakes = 0;
  let requests = 0;
  runtime = new GoRuntime({
    port,
    clock,
    trace,
    pid: 7,
    nextRequestId: () => ++requests,
    burn: () => Promise.resolve(),
    wakeMe: () => wakes++,
  });
});

/** Lets promises go on and the runtime run until both are quiet. */
async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) {
    await Promise.resolve();
    runtime.run(clock.nowNs);
  }
}

/** A kernel that answers the set-up calls: fds count up from 3. */
function answerSetUp(): void {
  let fd = 3;
  port.onSubmit = (s: Submitted) => {
    if (s.token === 0) return;
    if (s.name === "socket" || s.name === "epollCreate") port.complete(s.token, { result: fd++ });
    else if (["setsockopt", "bind", "listen", "close", "shutdown"].includes(s.name))
      port.complete(s.token, { result: 0 });
    else if (s.name === "getsockname") port.complete(s.token, { result: 0, peer: [SERVER, 80] });
  };
}

async function listen(): Promise<Listener> {
  answerSetUp();
  const pending = runtime.network.listen(SERVER, 80);
  await settle();
  return pending;
}

function offerConn(fd: number, connId: number, synNs = 0, establishedNs = 0): void {
  port.complete(port.last("acceptArm").token, {
    result: fd,
    data: connId,
    arrivedNs: synNs,
    queuedNs: establishedNs,
    flags: CompletionFlag.more,
    peer: [CLIENT, 40000 + connId],
    local: [SERVER, 80],
  });
}

/** Accepts one connection on fd 10 with connId 1. */
async function connection(): Promise<{ conn: Conn; receive: number }> {
  const listener = await listen();
  let conn: Conn | undefined;
  runtime.spawn("accept", (g) => {
    const c = listener.tryAccept(g);
    if (c === null) return;
    conn = c as Conn;
    runtime.exit(g);
  });
  runtime.run(clock.nowNs);
  offerConn(10, 1, 500, 700);
  runtime.run(clock.nowNs);
  return { conn: conn as Conn, receive: port.last("receiveArm").token };
}

const text = (s: string) => new TextEncoder().encode(s);

describe("goroutines", () => {
  it("run in the order they became runnable, and are gone after exit", () => {
    const order: string[] = [];
    for (const name of ["a", "b", "c"]) {
      runtime.spawn(name, (g) => {
        order.push(name);
        runtime.exit(g);
      });
    }
    expect(runtime.goroutines().map((g) => g.state)).toEqual(["runnable", "runnable", "runnable"]);
    runtime.run(clock.nowNs);
    expect(order).toEqual(["a", "b", "c"]);
    expect(runtime.goroutines()).toEqual([]);
  });

  it("do not lose a wake-up that comes between the test and the park", () => {
    let steps = 0;
    runtime.spawn("early", (g) => {
      if (++steps === 1) {
        runtime.ready(g);
        runtime.park(g, "something");
      } else runtime.exit(g);
    });
    runtime.run(clock.nowNs);
    expect(steps).toBe(2);
  });

  it("use records again, but never wake the wrong life of one", () => {
    const first = runtime.spawn("first", (g) => runtime.park(g, "x"));
    runtime.run(clock.nowNs);
    const firstId = first.id;
    runtime.exit(first);
    const second = runtime.spawn("second", (g) => runtime.park(g, "y"));
    expect(second).toBe(first);
    expect(second.id).not.toBe(firstId);
  });

  it("give the CPU back after a slice, and say so", () => {
    let steps = 0;
    runtime.spawn("greedy", () => {
      steps++;
    });
    expect(runtime.run(clock.nowNs)).toBe(true);
    expect(steps).toBe(1024);
    expect(runtime.deadline()).toBeLessThanOrEqual(clock.nowNs);
  });

  it("let an error of a step out of run, and stay usable", () => {
    runtime.spawn("bad", () => {
      throw new Error("oops");
    });
    let ran = false;
    runtime.spawn("good", (g) => {
      ran = true;
      runtime.exit(g);
    });
    expect(() => runtime.run(clock.nowNs)).toThrow("oops");
    runtime.run(clock.nowNs);
    expect(ran).toBe(true);
    expect(runtime.goroutines()).toEqual([]);
  });

  it("sleep until their time in order, and the deadline says when", async () => {
    const order: number[] = [];
    for (const ms of [30, 10, 20]) {
      runtime.go(`sleep ${ms}`, async () => {
        await runtime.sleep(ms * MILLISECOND);
        order.push(ms);
      });
    }
    await settle();
    expect(runtime.goroutines().map((g) => g.parkedOn)).toEqual(["await", "await", "await"]);
    expect(runtime.deadline()).toBe(1000 + 10 * MILLISECOND);
    clock.nowNs = 1000 + 25 * MILLISECOND;
    await settle();
    expect(order).toEqual([10, 20]);
    clock.nowNs += 10 * MILLISECOND;
    await settle();
    expect(order).toEqual([10, 20, 30]);
    expect(runtime.goroutines()).toEqual([]);
  });
});

describe("listener", () => {
  it("makes the calls Go makes, and arms accept when somebody wants a connection", async () => {
    const listener = await listen();
    expect(port.submitted.map((s) => s.name)).toEqual([
      "socket",
      "setsockopt",
      "bind",
      "listen",
      "epollCreate",
      "getsockname",
      "epollCtl",
    ]);
    expect(port.last("bind")).toMatchObject({ fd: 3, address: "10.0.0.2", port: 80 });
    expect(port.last("listen").args[0]).toBe(4096);
    expect(port.last("epollCtl")).toMatchObject({ fd: 4, args: [1, 3, 0x2005 | (1 << 31), 3] });
    const g = runtime.spawn("accept", (self) => {
      listener.tryAccept(self);
    });
    runtime.run(clock.nowNs);
    expect(g.parkedOn).toBe("accept fd 3");
    expect(port.of("acceptArm")).toHaveLength(1);
  });

  it("rejects with the errno of the call that failed and closes the socket", async () => {
    port.onSubmit = (s) => {
      if (s.token === 0) return;
      const result = s.name === "socket" ? 3 : s.name === "bind" ? -Errno.EADDRINUSE : 0;
      port.complete(s.token, { result });
    };
    const pending = runtime.network.listen(ANY_V4, 80);
    const outcome = expect(pending).rejects.toMatchObject({ code: "EADDRINUSE", syscall: "bind" });
    await settle();
    await outcome;
    expect(port.last("close").fd).toBe(3);
    expect(port.of("listen")).toHaveLength(0);
  });

  it("takes a connection only when a goroutine runs that wants it", async () => {
    const { conn } = await connection();
    expect(conn.fd).toBe(10);
    expect(conn.remote.address.toString()).toBe("10.0.0.1");
    expect(conn.timing).toMatchObject({ synNs: 500, establishedNs: 700, acceptedNs: 1000 });
    expect(port.last("acceptTake")).toMatchObject({ fd: 3, args: [10, 0, 0, 0] });
    expect(trace.lines).toContain("accepted 1 7 10");
    // The next one is offered while nobody accepts: it stays in the accept queue.
    offerConn(11, 2);
    runtime.run(clock.nowNs);
    expect(port.of("acceptTake")).toHaveLength(1);
  });

  it("waits 5 ms, then twice as long, up to 1 s, when descriptors are out", async () => {
    const listener = await listen();
    runtime.spawn("accept", (g) => {
      listener.tryAccept(g);
    });
    runtime.run(clock.nowNs);
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      port.complete(port.last("acceptArm").token, { result: -Errno.EMFILE });
      runtime.run(clock.nowNs);
      waits.push((runtime.deadline() - clock.nowNs) / MILLISECOND);
      clock.nowNs = runtime.deadline();
      const arms = port.of("acceptArm").length;
      runtime.run(clock.nowNs);
      expect(port.of("acceptArm")).toHaveLength(arms + 1);
    }
    expect(waits).toEqual([5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
  });

  it("paused, withdraws its offers and takes none, also none that were under way", async () => {
    const listener = await listen();
    const accepted: number[] = [];
    runtime.spawn("accept", (g) => {
      for (let c = listener.tryAccept(g); c !== null; c = listener.tryAccept(g)) accepted.push((c as Conn).connId);
    });
    runtime.run(clock.nowNs);
    const oldToken = port.last("acceptArm").token;
    listener.setPaused(true);
    expect(listener.paused).toBe(true);
    expect(port.of("acceptDisarm")).toHaveLength(1);
    port.complete(oldToken, { result: 10, data: 1, flags: CompletionFlag.more });
    runtime.run(clock.nowNs);
    listener.setPaused(false);
    runtime.run(clock.nowNs);
    expect(accepted).toEqual([]);
    offerConn(10, 1);
    runtime.run(clock.nowNs);
    expect(accepted).toEqual([1]);
    expect(trace.lines.filter((l) => l.startsWith("acceptPaused"))).toEqual([
      "acceptPaused 7 1 3",
      "acceptPaused 7 0 3",
    ]);
  });

  it("closed, tells those who wait", async () => {
    const listener = await listen();
    const outcome = expect(listener.accept()).rejects.toMatchObject({ code: "EBADF", syscall: "accept" });
    await settle();
    listener.close();
    await settle();
    await outcome;
    expect(runtime.network.listeners.size).toBe(0);
  });
});

describe("reading", () => {
  it("parks until bytes are offered, then copies all runs and takes them with one call", async () => {
    const { conn, receive } = await connection();
    const into = new Uint8Array(100);
    const got: number[] = [];
    const g = runtime.spawn("reader", (self) => {
      const n = conn.tryRead(self, into, 0, 100);
      if (n !== PARKED) got.push(n);
      if (n === 0) runtime.exit(self);
    });
    runtime.run(clock.nowNs);
    expect(g.parkedOn).toBe("read fd 10");
    port.offer(receive, text("hello "), 4096, 2000, 2100);
    port.offer(receive, text("world"), 9000, 3000, 3100);
    clock.nowNs = 5000;
    runtime.run(clock.nowNs);
    expect(got).toEqual([11]);
    expect(new TextDecoder().decode(into.subarray(0, 11))).toBe("hello world");
    expect(port.of("receiveTake").map((s) => s.args[0])).toEqual([11]);
    expect(conn.timing).toMatchObject({ arrivedNs: 2000, queuedNs: 2100, readNs: 5000 });
    expect(conn.receivedBytes).toBe(11);
    expect(trace.lines).toContain("read 7 1 [0,11)");
    expect(trace.lines).toContain("readEnd 1 11 0");
    port.complete(receive, { result: 0 });
    runtime.run(clock.nowNs);
    expect(got).toEqual([11, 0]);
  });

  it("gives what was received before a reset, then the reset", async () => {
    const { conn, receive } = await connection();
    port.offer(receive, text("last words"), 4096);
    port.complete(receive, { result: -Errno.ECONNRESET });
    runtime.run(clock.nowNs);
    const into = new Uint8Array(4);
    const got: number[] = [];
    runtime.spawn("reader", (g) => {
      for (let i = 0; i < 4; i++) got.push(conn.tryRead(g, into, 0, 4));
      runtime.exit(g);
    });
    runtime.run(clock.nowNs);
    expect(got).toEqual([4, 4, 2, -Errno.ECONNRESET]);
    await expect(conn.read(into)).rejects.toMatchObject({ code: "ECONNRESET", syscall: "read" });
  });

  it("times out at its deadline, and not when the deadline is taken back", async () => {
    const { conn } = await connection();
    const got: number[] = [];
    runtime.spawn("reader", (g) => {
      const n = conn.tryRead(g, new Uint8Array(4), 0, 4);
      if (n === PARKED) return;
      got.push(n);
      runtime.exit(g);
    });
    conn.setReadDeadline(clock.nowNs + 10 * MILLISECOND);
    runtime.run(clock.nowNs);
    conn.setReadDeadline(clock.nowNs + 30 * MILLISECOND);
    clock.nowNs += 20 * MILLISECOND;
    runtime.run(clock.nowNs);
    expect(got).toEqual([]);
    clock.nowNs += 10 * MILLISECOND;
    runtime.run(clock.nowNs);
    expect(got).toEqual([-Errno.ETIMEDOUT]);
  });

  it("serves several promise reads in the order they were asked", async () => {
    const { conn, receive } = await connection();
    const a = new Uint8Array(3);
    const b = new Uint8Array(3);
    const both = Promise.all([conn.read(a), conn.read(b)]);
    await settle();
    port.offer(receive, text("abcdef"), 4096);
    await settle();
    expect(await both).toEqual([3, 3]);
    expect([new TextDecoder().decode(a), new TextDecoder().decode(b)]).toEqual(["abc", "def"]);
  });
});

describe("writing", () => {
  it("sends what a step wrote once, at its end, with one doorbell", async () => {
    const { conn } = await connection();
    const before = port.flushes;
    runtime.spawn("writer", (g) => {
      conn.writeLatin1("HTTP/1.1 ");
      conn.write(text("xx200 OKxx"), 2, 6);
      expect(port.of("send")).toHaveLength(0);
      runtime.exit(g);
    });
    runtime.run(clock.nowNs);
    const sends = port.of("send");
    expect(sends).toHaveLength(1);
    expect(new TextDecoder().decode(port.bytesOf(sends[0] as Submitted))).toBe("HTTP/1.1 200 OK");
    expect(port.flushes).toBe(before + 1);
    expect(conn.sentBytes).toBe(15);
    expect(conn.pendingBytes).toBe(15);
    port.complete((sends[0] as Submitted).token, { result: 15 });
    runtime.run(clock.nowNs);
    expect(conn.pendingBytes).toBe(0);
  });

  it("keeps one send outstanding; a partial one waits for room and goes on where it stopped", async () => {
    const { conn } = await connection();
    conn.writeLatin1("abcdef");
    conn.flush();
    conn.writeLatin1("ghi");
    runtime.run(clock.nowNs);
    expect(port.of("send")).toHaveLength(1);
    port.complete(port.last("send").token, { result: 4 });
    runtime.run(clock.nowNs);
    expect(port.of("send")).toHaveLength(1);
    expect(trace.lines).toContain("held 1 8 4");
    port.complete(port.last("awaitWritable").token, { result: 100 });
    runtime.run(clock.nowNs);
    expect(new TextDecoder().decode(port.bytesOf(port.last("send")))).toBe("efghi");
    expect(trace.lines).toContain("write 0 1 [4,9)");
  });

  it("parks who drains until few enough bytes are pending", async () => {
    const { conn } = await connection();
    let drained = PARKED;
    const g = runtime.spawn("writer", (self) => {
      if (conn.sentBytes === 0) conn.write(new Uint8Array(150_000), 0, 150_000);
      drained = conn.tryDrain(self, 20_000);
      if (drained !== PARKED) runtime.exit(self);
    });
    runtime.run(clock.nowNs);
    expect(g.parkedOn).toBe("write fd 10");
    for (let sent = 0; drained === PARKED; ) {
      const send = port.last("send");
      sent += send.args[1];
      expect(sent).toBeLessThanOrEqual(150_000);
      port.complete(send.token, { result: send.args[1] });
      runtime.run(clock.nowNs);
    }
    expect(drained).toBe(0);
    expect(conn.pendingBytes).toBeLessThanOrEqual(20_000);
  });

  it("shows an error of the kernel to who drains, and drops what was pending", async () => {
    const { conn } = await connection();
    conn.writeLatin1("lost");
    runtime.run(clock.nowNs);
    await Promise.resolve();
    port.complete(port.last("send").token, { result: -Errno.EPIPE });
    runtime.run(clock.nowNs);
    expect(conn.pendingBytes).toBe(0);
    await expect(conn.writeAll(text("more"))).rejects.toMatchObject({ code: "EPIPE", syscall: "write" });
  });

  it("from a promise's continuation leaves in one microtask batch, and asks no run for it", async () => {
    const { conn } = await connection();
    const before = port.flushes;
    conn.writeLatin1("a");
    conn.writeLatin1("b");
    expect(port.of("send")).toHaveLength(0);
    await Promise.resolve();
    await Promise.resolve();
    expect(port.of("send")).toHaveLength(1);
    expect(port.flushes).toBe(before + 1);
  });

  it("piece by piece leaves together, the next piece announced with each but the last", async () => {
    const { conn } = await connection();
    const before = port.flushes;
    for (let i = 0; i < 4; i++) {
      conn.write(new Uint8Array(65536).fill(i), 0, 65536);
      // What `await w.write(…)` comes to while there is room.
      await undefined;
      expect(port.of("send")).toHaveLength(0);
    }
    await Promise.resolve();
    await Promise.resolve();
    expect(port.flushes).toBe(before + 1);
    expect(port.last("send").args[2]).toBe(MSG_MORE);
    for (let left = 4 * 65536; left > 0; ) {
      const { token, args } = port.last("send");
      left -= args[1] as number;
      expect(args[2]).toBe(left > 0 ? MSG_MORE : 0);
      port.complete(token, { result: args[1] as number });
      runtime.run(clock.nowNs);
    }
    expect(conn.pendingBytes).toBe(0);
  });

  it("is byte exact whatever the kernel takes (property)", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 90_000 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 0, max: 70_000 }), { minLength: 1, maxLength: 40 }),
        async (writes, takes) => {
          port = new FakeSyscallPort();
          clock = new ManualClock(0);
          runtime = new GoRuntime({
            port,
            clock,
            trace: new Notes(),
            pid: 7,
            nextRequestId: () => 1,
            burn: () => Promise.resolve(),
          });
          const { conn } = await connection();
          const taken: Uint8Array[] = [];
          let turn = 0;
          port.onSubmit = (s) => {
            if (s.name === "awaitWritable") port.complete(s.token, { result: 1 });
            if (s.name !== "send") return;
            const bytes = port.bytesOf(s);
            const n = Math.min(bytes.length, takes[turn++ % takes.length] as number) || (turn % 2 === 0 ? 1 : 0);
            taken.push(bytes.slice(0, n));
            port.complete(s.token, { result: n === 0 ? -Errno.EAGAIN : n });
          };
          let value = 0;
          const all: number[] = [];
          for (const len of writes) {
            const bytes = Uint8Array.from({ length: len }, () => (value = (value * 31 + 7) & 255));
            for (const b of bytes) all.push(b);
            conn.write(bytes, 0, len);
            runtime.run(clock.nowNs);
          }
          for (let i = 0; i < 400_000 && conn.pendingBytes > 0; i++) runtime.run(clock.nowNs);
          expect(Buffer.concat(taken).equals(Buffer.from(all))).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe("the end of a connection", () => {
  it("close sends what was written first, and closes once", async () => {
    const { conn } = await connection();
    conn.writeLatin1("bye");
    conn.close();
    conn.close();
    runtime.run(clock.nowNs);
    expect(port.of("send")).toHaveLength(1);
    expect(port.of("close")).toHaveLength(0);
    port.complete(port.last("send").token, { result: 3 });
    runtime.run(clock.nowNs);
    expect(port.of("close").map((s) => s.fd)).toEqual([10]);
    await expect(conn.read(new Uint8Array(1))).rejects.toMatchObject({ code: "EBADF" });
  });

  it("closeWrite sends FIN after what was written, and a later write does not hurt it", async () => {
    const { conn } = await connection();
    conn.writeLatin1("bye");
    conn.closeWrite();
    conn.writeLatin1("too late");
    runtime.run(clock.nowNs);
    expect(port.of("shutdown")).toHaveLength(0);
    port.complete(port.last("send").token, { result: 3 });
    runtime.run(clock.nowNs);
    expect(port.last("shutdown")).toMatchObject({ fd: 10, args: [1, 0, 0, 0] });
    expect(port.of("send")).toHaveLength(1);
  });

  it("abort resets: linger 0, then close; nothing more is sent", async () => {
    const { conn } = await connection();
    conn.writeLatin1("never");
    conn.abort();
    runtime.run(clock.nowNs);
    expect(port.of("send")).toHaveLength(0);
    expect(port.submitted.slice(-2).map((s) => [s.name, ...s.args])).toEqual([
      ["setsockopt", 1, 13, 1, 0],
      ["close", 0, 0, 0, 0],
    ]);
  });

  it("ignores what the kernel says of a connection after its close completed, also when the slot is used again", async () => {
    const { conn, receive } = await connection();
    conn.close();
    runtime.run(clock.nowNs);
    port.complete(port.last("close").token, { result: 0 });
    runtime.run(clock.nowNs);
    const listener = await listen();
    runtime.spawn("accept", (g) => {
      listener.tryAccept(g);
    });
    runtime.run(clock.nowNs);
    port.complete(receive, { result: -Errno.ECONNRESET });
    runtime.run(clock.nowNs);
    expect(listener.paused).toBe(false);
  });

  it("a write deadline ends a close that cannot send", async () => {
    const { conn } = await connection();
    conn.writeLatin1("stuck");
    conn.close();
    conn.setWriteDeadline(clock.nowNs + MILLISECOND);
    runtime.run(clock.nowNs);
    clock.nowNs += MILLISECOND;
    runtime.run(clock.nowNs);
    expect(port.submitted.slice(-2).map((s) => s.name)).toEqual(["setsockopt", "close"]);
  });
});

describe("a full boundary", () => {
  it("keeps the order of submissions that met a full ring, and looks again soon", async () => {
    const { conn } = await connection();
    port.submitted.length = 0;
    port.ringRoom = 1;
    conn.setNoDelay(false);
    conn.setNoDelay(true);
    conn.writeLatin1("x");
    runtime.run(clock.nowNs);
    expect(port.submitted.map((s) => s.name)).toEqual(["setsockopt"]);
    expect(runtime.deadline()).toBeLessThan(clock.nowNs + MILLISECOND);
    port.ringRoom = 100;
    runtime.run(clock.nowNs);
    expect(port.submitted.map((s) => [s.name, s.args[2]])).toEqual([
      ["setsockopt", 0],
      ["setsockopt", 1],
      ["send", 0],
    ]);
  });

  it("sends again when staging has room", async () => {
    const { conn } = await connection();
    port.stagingRoom = 2;
    conn.writeLatin1("abc");
    runtime.run(clock.nowNs);
    runtime.run(clock.nowNs);
    expect(port.of("send")).toHaveLength(0);
    port.stagingRoom = 100;
    runtime.run(clock.nowNs);
    expect(new TextDecoder().decode(port.bytesOf(port.last("send")))).toBe("abc");
    expect(port.of("send")).toHaveLength(1);
  });
});

describe("dial", () => {
  it("connects, knows both endpoints and the connection id", async () => {
    port.onSubmit = (s) => {
      if (s.token === 0) return;
      if (s.name === "socket") port.complete(s.token, { result: 3 });
      if (s.name === "connect") port.complete(s.token, { result: 0, data: 42, local: [CLIENT, 50000] });
    };
    const pending = runtime.network.dial(SERVER, 80);
    await settle();
    const conn = await pending;
    expect(conn).toMatchObject({ fd: 3, connId: 42, local: { port: 50000 }, remote: { port: 80 } });
    expect(port.last("receiveArm").fd).toBe(3);
  });

  it("rejects with where it could not connect to", async () => {
    port.onSubmit = (s) => {
      if (s.token === 0) return;
      port.complete(s.token, { result: s.name === "connect" ? -Errno.ECONNREFUSED : 3 });
    };
    const outcome = expect(runtime.network.dial(SERVER, 81)).rejects.toMatchObject({
      code: "ECONNREFUSED",
      syscall: "connect",
      message: expect.stringContaining("10.0.0.2:81"),
    });
    await settle();
    await outcome;
    expect(port.last("close").fd).toBe(3);
  });
});

it("tells the recorder when the process has the CPU", () => {
  runtime.run(clock.nowNs);
  expect(trace.lines).toEqual(["processEnter 7 0 0", "processLeave 7 0 0"]);
});

it("asks for a run when a goroutine becomes runnable outside of one, once", () => {
  let g: Goroutine | undefined;
  runtime.spawn("parked", (self) => {
    g = self;
    runtime.park(self, "x");
  });
  expect(wakes).toBe(1);
  runtime.run(clock.nowNs);
  runtime.ready(g as Goroutine);
  runtime.spawn("other", (self) => runtime.exit(self));
  expect(wakes).toBe(2);
});
