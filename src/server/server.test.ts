import { describe, expect, it } from "vitest";
import { ManualClock, MILLISECOND, SECOND } from "../base/time.ts";
import { Label, Parked, Point, type Tracepoints } from "../base/tracepoints.ts";
import { type Handler, ServeMux } from "./mux.ts";
import type { Request } from "./request.ts";
import { RequestError } from "./request.ts";
import { listenAndServe, parseListenAddress, type Server, type ServerOptions } from "./server.ts";
import { type FakeConn, FakeRuntime } from "./server-testing.ts";

interface Bench {
  runtime: FakeRuntime;
  server: Server;
  conn: FakeConn;
}

const PLAIN: ServerOptions = { serverTiming: false };

async function start(
  handler: Handler | ServeMux,
  options: ServerOptions = PLAIN,
  runtime = new FakeRuntime(),
  connId = 0,
): Promise<Bench> {
  const server = await listenAndServe(runtime, ":3000", handler, options);
  const conn = runtime.network.connect(3000, connId);
  await runtime.settle();
  return { runtime, server, conn };
}

/** Sends text and gives what came back once nothing moves. */
async function exchange(bench: Bench, text: string): Promise<string> {
  bench.conn.send(text);
  await bench.runtime.settle();
  return bench.conn.receiveText();
}

const hello: Handler = (w) => void w.write("hello\n");
const echo: Handler = async (w, r) => {
  const block = new Uint8Array(1000);
  for (let n = await r.body.read(block); n > 0; n = await r.body.read(block)) await w.write(block.subarray(0, n));
};
const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: a\r\n${more}\r\n`;
const statusOf = (answer: string) => Number(answer.slice(9, 12));
const bodyOf = (answer: string) => answer.slice(answer.indexOf("\r\n\r\n") + 4);
const HELLO = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n\r\nhello\n";

describe("connections", () => {
  it("answers one request after another on the same connection", async () => {
    const bench = await start(hello);
    expect(await exchange(bench, get("/"))).toBe(HELLO);
    expect(await exchange(bench, get("/"))).toBe(HELLO);
    expect(bench.conn.serverEnd).toBe("open");
    expect(bench.server.stats.requests).toBe(2);
  });

  it("takes a request byte by byte", async () => {
    const bench = await start(hello);
    for (const byte of get("/")) {
      expect(bench.conn.receiveText()).toBe("");
      bench.conn.send(byte);
      await bench.runtime.settle();
    }
    expect(bench.conn.receiveText()).toBe(HELLO);
  });

  it("answers pipelined requests in order, however long the first takes", async () => {
    const bench = await start(async (w, r) => {
      if (r.path === "/slow") await r.sleep(SECOND);
      w.write(r.path);
    });
    expect(await exchange(bench, get("/slow") + get("/2") + get("/3"))).toBe("");
    await bench.runtime.advance(SECOND);
    expect(
      bench.conn
        .receiveText()
        .split("\r\n\r\n")
        .slice(1)
        .map((text) => text.replace(/HTTP.*/s, "")),
    ).toEqual(["/slow", "/2", "/3"]);
  });

  it("serves hundreds of pipelined requests, other goroutines in between", async () => {
    const bench = await start(hello);
    const answer = await exchange(bench, get("/").repeat(500));
    expect(answer).toBe(HELLO.repeat(500));
  });

  it("closes after Connection: close and in HTTP/1.0", async () => {
    const first = await start(hello);
    expect(await exchange(first, get("/", "Connection: close\r\n"))).toContain("Connection: close\r\n");
    expect(first.conn.serverEnd).toBe("closed");
    const second = await start(hello);
    expect(await exchange(second, "GET / HTTP/1.0\r\n\r\n")).toContain("Connection: close\r\n");
    expect(second.conn.serverEnd).toBe("closed");
    const third = await start(hello);
    expect(await exchange(third, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")).toContain(
      "Connection: keep-alive\r\n",
    );
    expect(third.conn.serverEnd).toBe("open");
  });

  it("answers a client that has finished sending, then closes", async () => {
    const bench = await start(async (w, r) => {
      await r.sleep(SECOND);
      w.write("late");
    });
    bench.conn.send(get("/"));
    bench.conn.end();
    await bench.runtime.advance(SECOND);
    expect(bodyOf(bench.conn.receiveText())).toBe("late");
    expect(bench.conn.serverEnd).toBe("closed");
    expect(bench.server.connections).toBe(0);
  });

  it("leaves no goroutine behind", async () => {
    const bench = await start(hello);
    await exchange(bench, get("/"));
    bench.conn.end();
    await bench.runtime.settle();
    expect(bench.runtime.goroutines().map((g) => g.name)).toEqual(["acceptLoop"]);
  });
});

describe("bodies", () => {
  const chunkedPost = (...parts: string[]) =>
    `POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${parts.map((p) => `${p.length.toString(16)}\r\n${p}\r\n`).join("")}`;

  it("streams a chunked upload back while it arrives", async () => {
    const bench = await start(async (w, r) => {
      const block = new Uint8Array(100);
      for (let n = await r.body.read(block); n > 0; n = await r.body.read(block)) {
        w.write(block.subarray(0, n));
        w.flush();
      }
    });
    const first = await exchange(bench, chunkedPost("Wiki", "pedia"));
    expect(first).toContain("Transfer-Encoding: chunked\r\n");
    expect(bodyOf(first)).toBe("9\r\nWikipedia\r\n");
    expect(await exchange(bench, "3\r\n!!!\r\n")).toBe("3\r\n!!!\r\n");
    expect(await exchange(bench, "0\r\n\r\n")).toBe("0\r\n\r\n");
    expect(statusOf(await exchange(bench, chunkedPost() + "0\r\n\r\n"))).toBe(200);
  });

  it("gives a body back byte by byte, and the next request is not eaten", async () => {
    const bench = await start(echo);
    const text = `${chunkedPost("abc", "defgh")}0\r\nX: y\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nZZ`;
    for (const byte of text) {
      bench.conn.send(byte);
      await bench.runtime.settle();
    }
    const answers = bench.conn.receiveText().split("HTTP/1.1 200 OK").slice(1).map(bodyOf);
    expect(answers).toEqual(["abcdefgh", "ZZ"]);
  });

  it("keeps the head readable while the body streams through the shared buffer", async () => {
    const seen: (string | undefined)[] = [];
    const bench = await start(async (w, r) => {
      await r.body.readAll();
      seen.push(r.method, r.target, r.header("x-late"));
      w.write("ok");
    });
    bench.conn.send("PUT /late HTTP/1.1\r\nHost: a\r\nX-Late: still here\r\nContent-Length: 9000\r\n\r\n");
    const other = bench.runtime.network.connect(3000);
    await bench.runtime.settle();
    other.send("GET /other HTTP/1.1\r\nHost: b\r\nX-Late: of somebody else, longer than the first\r\n\r\n");
    bench.conn.send("x".repeat(9000));
    await bench.runtime.settle();
    expect(seen).toContain("still here");
    expect(seen.slice(seen.indexOf("PUT"), seen.indexOf("PUT") + 3)).toEqual(["PUT", "/late", "still here"]);
  });

  it("leaves an unread body with the client", async () => {
    const bench = await start(async (w, r) => {
      await r.sleep(SECOND);
      w.write(String((await r.body.readAll()).length));
    });
    bench.conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
    await bench.runtime.settle();
    bench.conn.send("x".repeat(500_000));
    await bench.runtime.settle();
    expect(bench.conn.unreadBytes).toBe(500_000);
    await bench.runtime.advance(SECOND);
    expect(bodyOf(bench.conn.receiveText())).toBe("500000");
  });

  it("drains a small unread body and keeps the connection", async () => {
    const bench = await start(hello);
    expect(await exchange(bench, `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345${get("/")}`)).toBe(
      HELLO + HELLO,
    );
  });

  it("closes instead of draining more than 256 KiB, and lets the answer arrive first", async () => {
    const bench = await start(hello);
    const answer = await exchange(bench, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\nxxx");
    expect(answer).toContain("Connection: close\r\n");
    expect(bench.conn.serverEnd).toBe("fin");
    bench.conn.end();
    await bench.runtime.settle();
    expect(bench.conn.serverEnd).toBe("closed");
  });

  it("stops draining a chunked body after 256 KiB", async () => {
    const bench = await start(hello);
    await exchange(bench, chunkedPost("x".repeat(200_000), "x".repeat(200_000)));
    expect(bench.conn.serverEnd).toBe("fin");
    await bench.runtime.advance(2 * SECOND);
    expect(bench.conn.serverEnd).toBe("closed");
  });

  it("says 100 Continue when the handler wants the body, not before", async () => {
    const post = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    const bench = await start(echo);
    expect(await exchange(bench, post)).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    expect(bodyOf(await exchange(bench, "ok"))).toBe("ok");
    const other = await start((w) => w.error(403, "no"));
    const answer = await exchange(other, post);
    expect(statusOf(answer)).toBe(403);
    expect(answer).toContain("Connection: close");
  });

  it("answers what is wrong with a body: 400, 413 above the limit", async () => {
    const bench = await start(echo);
    expect(statusOf(await exchange(bench, `${chunkedPost("a")}zz\r\n`))).toBe(400);
    expect(bench.conn.serverEnd).toBe("fin");
    const small = await start(echo, { ...PLAIN, limits: { bodyBytes: 10 } });
    expect(statusOf(await exchange(small, chunkedPost("0123456", "0123456")))).toBe(413);
    const declared = await start(echo, { ...PLAIN, limits: { bodyBytes: 10 } });
    expect(statusOf(await exchange(declared, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"))).toBe(413);
    const own = await start(async (_w, r) => void (await r.body.readAll(3)));
    expect(statusOf(await exchange(own, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"))).toBe(413);
  });
});

describe("answers", () => {
  it("sends no body for HEAD but the length a GET would have", async () => {
    const bench = await start(hello);
    const answer = await exchange(bench, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(answer).toBe(HELLO.replace("hello\n", ""));
    expect(await exchange(bench, get("/"))).toBe(HELLO);
  });

  it("chunks a large answer of unknown length, sends one of known length as it is", async () => {
    const large = "é".repeat(5000);
    const bench = await start((w, r) => {
      if (r.path === "/known") w.header().set("Content-Length", 10_000);
      w.write(large);
    });
    expect(await exchange(bench, get("/"))).toContain("Transfer-Encoding: chunked\r\n\r\n2710\r\n\xc3\xa9");
    expect(bodyOf(await exchange(bench, get("/known"))).length).toBe(10_000);
  });

  it("ends an unknown length with the connection in HTTP/1.0", async () => {
    const bench = await start((w) => {
      w.write("a");
      w.flush();
      w.write("b");
    });
    expect(bodyOf(await exchange(bench, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))).toBe("ab");
    expect(bench.conn.serverEnd).toBe("closed");
  });

  it("sends Date only if it was told the time", async () => {
    const bench = await start(hello, { ...PLAIN, originUnixNs: 784_111_777n * 1_000_000_000n });
    expect(await exchange(bench, get("/"))).toContain("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
  });

  it("tells the stages it knows in Server-Timing", async () => {
    const runtime = new FakeRuntime(undefined, new ManualClock(SECOND));
    const bench = await start(
      async (w, r) => {
        await r.sleep(20 * MILLISECOND);
        await r.burn(3 * MILLISECOND);
        w.write("x");
      },
      {},
      runtime,
    );
    bench.conn.timing.synNs = SECOND - 5 * MILLISECOND;
    bench.conn.timing.establishedNs = SECOND - 2 * MILLISECOND;
    bench.conn.send(get("/"));
    await runtime.advance(20 * MILLISECOND);
    const first = /Server-Timing: (.*)\r\n/.exec(bench.conn.receiveText())?.[1];
    expect(first).toContain("syn-queue;dur=3.000, accept-queue;dur=2.000");
    expect(first).toContain("process;dur=3.000, handler;dur=20.000");
    bench.conn.send(get("/"));
    await runtime.advance(30 * MILLISECOND);
    expect(/Server-Timing: (.*)\r\n/.exec(bench.conn.receiveText())?.[1]).not.toContain("syn-queue");
  });

  it("answers 500 when a handler throws, and lives on", async () => {
    const errors: unknown[] = [];
    const bench = await start(
      (w, r) => {
        w.write("half an answer");
        if (r.path === "/async") return Promise.reject(new Error("later"));
        throw new Error("now");
      },
      { ...PLAIN, onError: (error) => errors.push(error) },
    );
    for (const path of ["/sync", "/async"]) {
      const answer = await exchange(bench, get(path));
      expect([statusOf(answer), bodyOf(answer)]).toEqual([500, "500 Internal Server Error\n"]);
    }
    expect(bench.server.stats.handlerErrors).toBe(2);
    expect(errors.map(String)).toEqual(["Error: now", "Error: later"]);
  });

  it("answers a RequestError with its status", async () => {
    const bench = await start(() => {
      throw new RequestError(422, "not like this");
    });
    expect(bodyOf(await exchange(bench, get("/")))).toBe("422 Unprocessable Content: not like this\n");
  });

  it("resets the connection rather than let half an answer look whole", async () => {
    const short = await start((w) => {
      w.header().set("Content-Length", 10);
      w.write("abc");
    });
    await exchange(short, get("/"));
    expect(short.conn.serverEnd).toBe("reset");
    const thrown = await start((w) => {
      w.write("abc");
      w.flush();
      throw new Error("in the middle");
    });
    expect(await exchange(thrown, get("/"))).not.toContain("0\r\n\r\n");
    expect(thrown.conn.serverEnd).toBe("reset");
  });

  it("refuses a handler's header injection with 500", async () => {
    const bench = await start((w) => {
      w.header().set("X", "a\r\nSet-Cookie: b");
      w.write("x");
    });
    const answer = await exchange(bench, get("/"));
    expect(statusOf(answer)).toBe(500);
    expect(answer).not.toContain("Set-Cookie");
  });

  it("ignores what a handler does after its end", async () => {
    let late: (() => void) | undefined;
    const bench = await start((w, r) => {
      w.write("first");
      late ??= () => {
        w.write("LATE");
        w.flush();
        expect(r.header("host")).toBeUndefined();
      };
    });
    await exchange(bench, get("/"));
    late?.();
    expect(bodyOf(await exchange(bench, get("/")))).toBe("first");
  });

  it("waits for a slow reader with bounded memory, and goes on when it reads", async () => {
    const block = new Uint8Array(50_000).fill(0x61);
    let written = 0;
    const bench = await start(async (w) => {
      w.header().set("Content-Length", 100 * block.length);
      for (let i = 0; i < 100; i++) {
        await w.write(block);
        written += block.length;
      }
    });
    bench.conn.windowBytes = 10_000;
    bench.conn.send(get("/"));
    await bench.runtime.settle();
    expect(written).toBeLessThan(400_000);
    expect(bench.conn.pendingBytes).toBeLessThan(400_000);
    let received = 0;
    for (let i = 0; i < 1000 && received < 5_000_000; i++) {
      received += bench.conn.receive().length;
      await bench.runtime.settle();
    }
    expect(written).toBe(5_000_000);
    expect(bench.conn.serverEnd).toBe("open");
  });

  it("does not read further requests of a client that takes no answers", async () => {
    const bench = await start((w) => void w.write("x".repeat(4000)));
    bench.conn.windowBytes = 1;
    for (let i = 0; i < 40; i++) bench.conn.send(get("/").repeat(100));
    await bench.runtime.settle();
    expect(bench.conn.unreadBytes).toBeGreaterThan(40_000);
    expect(bench.server.stats.requests).toBeLessThan(100);
  });

  it("notices a client that went away: aborted, writes do nothing, the handler ends", async () => {
    let seen: Request | undefined;
    let turns = 0;
    const bench = await start(async (w, r) => {
      seen = r;
      while (!r.aborted && turns < 100) {
        await r.sleep(SECOND);
        w.write("tick\n");
        w.flush();
        turns++;
      }
    });
    bench.conn.send(get("/"));
    await bench.runtime.advance(3 * SECOND);
    expect(seen?.aborted).toBe(false);
    bench.conn.reset();
    await bench.runtime.advance(5 * SECOND);
    expect([seen?.aborted, turns]).toEqual([true, 4]);
    expect(bench.server.connections).toBe(0);
  });

  it("wakes a writer whose client went away", async () => {
    let isOver = false;
    const bench = await start(async (w) => {
      for (let i = 0; i < 20; i++) await w.write(new Uint8Array(50_000));
      isOver = true;
    });
    bench.conn.windowBytes = 1;
    bench.conn.send(get("/"));
    await bench.runtime.settle();
    expect(isOver).toBe(false);
    bench.conn.reset();
    await bench.runtime.settle();
    expect([isOver, bench.server.connections]).toEqual([true, 0]);
  });
});

describe("refusals and time", () => {
  const cases: [number, string][] = [
    [400, "GET / HTTP/1.1\r\n\r\n"],
    [505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n"],
    [414, `GET /${"a".repeat(9000)} HTTP/1.1\r\nHost: a\r\n\r\n`],
    [431, get("/", `X: ${"a".repeat(70_000)}\r\n`)],
    [431, get("/", "X: y\r\n".repeat(100))],
    [413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741825\r\n\r\n"],
    [417, get("/", "Expect: tea\r\n")],
    [501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"],
    [405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"],
    [405, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"],
  ];
  it.each(cases)("%d", async (status, text) => {
    const bench = await start(hello);
    const answer = await exchange(bench, text);
    expect(statusOf(answer)).toBe(status);
    expect(answer.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    if (status === 405) expect(answer).toContain("Allow: ");
    else expect(answer).toContain("Connection: close\r\n");
  });

  it("gives a head 10 s from its first byte, then 408", async () => {
    const bench = await start(hello);
    await bench.runtime.advance(4 * SECOND);
    bench.conn.send("GET / HT");
    await bench.runtime.advance(9 * SECOND);
    bench.conn.send("TP");
    await bench.runtime.advance(SECOND - 1);
    expect(bench.conn.receiveText()).toBe("");
    await bench.runtime.advance(2);
    expect(statusOf(bench.conn.receiveText())).toBe(408);
    await bench.runtime.advance(2 * SECOND);
    expect(bench.conn.serverEnd).toBe("closed");
  });

  it("closes a connection that is idle for 5 s, without a word", async () => {
    const bench = await start(hello);
    await exchange(bench, get("/"));
    await bench.runtime.advance(5 * SECOND - 1);
    expect(bench.conn.serverEnd).toBe("open");
    await bench.runtime.advance(2);
    expect([bench.conn.serverEnd, bench.conn.receiveText()]).toEqual(["closed", ""]);
  });

  it("does not time out a handler that takes its time", async () => {
    const bench = await start(async (w, r) => {
      await r.sleep(60 * SECOND);
      w.write("ok");
    });
    bench.conn.send(get("/"));
    await bench.runtime.advance(60 * SECOND);
    expect(bodyOf(bench.conn.receiveText())).toBe("ok");
  });

  it("gives a body 30 s between two pieces, then 408", async () => {
    const bench = await start(echo);
    bench.conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    await bench.runtime.advance(29 * SECOND);
    bench.conn.send("b");
    await bench.runtime.advance(29 * SECOND);
    expect(bench.conn.receiveText()).toBe("");
    await bench.runtime.advance(2 * SECOND);
    expect(statusOf(bench.conn.receiveText())).toBe(408);
  });

  it("shuts down: idle connections close, the present request ends, then it resolves", async () => {
    const bench = await start(async (w, r) => {
      await r.sleep(SECOND);
      w.write("ok");
    });
    const idle = bench.runtime.network.connect(3000);
    bench.conn.send(get("/"));
    await bench.runtime.settle();
    let isDown = false;
    void bench.server.shutdown().then(() => {
      isDown = true;
    });
    await bench.runtime.settle();
    expect([idle.serverEnd, bench.conn.serverEnd, isDown]).toEqual(["closed", "open", false]);
    await bench.runtime.advance(SECOND);
    expect(bench.conn.receiveText()).toContain("Connection: close");
    expect([bench.conn.serverEnd, isDown]).toEqual(["closed", true]);
    expect(bench.runtime.goroutines()).toEqual([]);
  });

  it("closes at once, requests or not", async () => {
    const bench = await start(async (_w, r) => void (await r.body.readAll()));
    await exchange(bench, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    bench.server.close();
    await bench.runtime.settle();
    expect([bench.conn.serverEnd, bench.server.connections]).toEqual(["reset", 0]);
    expect(bench.runtime.goroutines()).toEqual([]);
  });

  it("rejects an address that is none", () => {
    expect(parseListenAddress(":80").address.isWildcard).toBe(true);
    expect(String(parseListenAddress("[::1]:80").address)).toBe("::1");
    for (const bad of ["3000", "a:80", ":x", ":70000", ""]) expect(() => parseListenAddress(bad)).toThrow(RangeError);
  });
});

describe("the mux on a server", () => {
  it("routes, redirects, and answers 404 and 405", async () => {
    const mux = new ServeMux();
    mux.handle("GET /items/{id}", (w, r) => void w.write(`${r.pattern} ${r.pathValue("id")} ${r.queryValue("q")}`));
    mux.handle("/dir/", hello);
    const bench = await start(mux);
    expect(bodyOf(await exchange(bench, get("/items/a%2Fb?q=1+2")))).toBe("GET /items/{id} a/b 1 2");
    expect(bodyOf(await exchange(bench, get("/none")))).toBe("404 page not found\n");
    const refused = await exchange(bench, "POST /items/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    expect([statusOf(refused), /Allow: (.*)\r\n/.exec(refused)?.[1]]).toEqual([405, "GET, HEAD"]);
    const moved = await exchange(bench, get("/dir?x=1"));
    expect([statusOf(moved), /Location: (.*)\r\n/.exec(moved)?.[1]]).toEqual([301, "/dir/?x=1"]);
    expect(statusOf(await exchange(bench, get("//dir/../dir/")))).toBe(301);
  });
});

describe("tracepoints", () => {
  class Recorder implements Tracepoints {
    mask = 0;
    readonly lines: string[] = [];
    stamp(point: Point, id: number, a: number, b: number): void {
      this.lines.push(`${name(point)} ${id} ${a} ${b}`);
    }
    link(point: Point, child: number, parent: number, lo: number, hi: number): void {
      this.lines.push(`${name(point)} ${child} of ${parent} [${lo},${hi})`);
    }
    drop(): void {}
    label(kind: Label, id: number, bytes: Uint8Array, at: number, len: number): void {
      const key = Object.entries(Label).find(([, value]) => value === kind)?.[0];
      this.lines.push(`label ${key} ${id} ${String.fromCharCode(...bytes.slice(at, at + len))}`);
    }
  }
  const name = (point: Point) => Object.entries(Point).find(([, value]) => value === point)?.[0];

  it("tells the life of a request, for traced connections only", async () => {
    const trace = new Recorder();
    const mux = new ServeMux();
    mux.handle("/", hello);
    const bench = await start(mux, PLAIN, new FakeRuntime(trace), 5);
    const request = get("/x");
    const answer = await exchange(bench, request);
    const n = request.length;
    expect(trace.lines).toEqual([
      "parseBegin 5 0 0",
      `parsed 5 ${n} 0`,
      `request 1 of 5 [0,${n})`,
      "label method 1 GET",
      "label target 1 /x",
      `requestEnd 1 ${n} 0`,
      "routed 1 0 0",
      expect.stringMatching(/^handlerBegin 1 7 \d+$/),
      "handlerEnd 1 0 0",
      "responseBegin 1 0 0",
      `response 1 of 5 [0,${answer.length})`,
      "status 1 200 6",
    ]);
    trace.lines.length = 0;
    await exchange(bench, request);
    expect(trace.lines).toContain(`request 2 of 5 [${n},${2 * n})`);
    expect(trace.lines).toContain(`response 2 of 5 [${answer.length},${2 * answer.length})`);
    trace.mask = 1;
    trace.lines.length = 0;
    await exchange(bench, request);
    expect(trace.lines).toEqual([]);
  });

  it("tells what a handler waits for", async () => {
    const trace = new Recorder();
    const bench = await start(
      async (w, r) => {
        await r.body.readAll();
        await r.sleep(SECOND);
        await new Promise<void>((resolve) => bench.runtime.after(bench.runtime.clock.nowNs + SECOND, resolve));
        w.write("x");
      },
      PLAIN,
      new FakeRuntime(trace),
      1,
    );
    bench.conn.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    await bench.runtime.advance(SECOND);
    bench.conn.send("x");
    await bench.runtime.advance(3 * SECOND);
    const waits = trace.lines.filter((line) => /^handler/.test(line)).map((line) => line.replace(/ 0$/, ""));
    const wait = (what: number) => [`handlerPark 1 ${what}`, "handlerReady 1 0", "handlerRun 1 0"];
    expect(waits.slice(1)).toEqual([
      ...wait(Parked.body),
      ...wait(Parked.body),
      ...wait(Parked.sleep),
      ...wait(Parked.own),
      "handlerEnd 1 0",
    ]);
    expect(trace.lines).toContain("requestEnd 1 48 1");
  });

  it("tells refusals, with their reason", async () => {
    const trace = new Recorder();
    const bench = await start(hello, PLAIN, new FakeRuntime(trace), 1);
    await exchange(bench, "GET / HTTP/1.1\r\n\r\n");
    expect(trace.lines).toEqual([
      "parseBegin 1 0 0",
      "parsed 1 18 0",
      "request 1 of 1 [0,18)",
      "label method 1 GET",
      "label target 1 /",
      "label reason 1 no Host",
      "responseBegin 1 0 0",
      expect.stringMatching(/^response 1 of 1/),
      "status 1 400 25",
    ]);
  });

  it("marks the goroutine with the request it works for", async () => {
    const ids: number[] = [];
    const bench = await start(async (w, r) => {
      ids.push(
        ...bench.runtime
          .goroutines()
          .filter((g) => g.name === "serveConn")
          .map((g) => g.requestId),
      );
      await r.sleep(1);
      w.write("x");
    });
    bench.conn.send(get("/"));
    await bench.runtime.advance(10);
    expect(ids).toEqual([1]);
    expect(bench.runtime.goroutines().map((g) => g.requestId)).toEqual([0, 0]);
  });
});
