/** curl, as anybody uses it, against every way to run `serve`. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { curl, exchange, type Served, serve } from "../support/serve.ts";

const MEGABYTE = 1_000_000;
const directory = mkdtempSync(join(tmpdir(), "sojourn-curl-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A file of `size` bytes that differ: returns its path and the SHA-256 of its bytes. */
function payload(size: number): { path: string; digest: string } {
  const path = join(directory, `${size}.bin`);
  const bytes = Buffer.alloc(size);
  let x = 0x9e3779b9;
  for (let i = 0; i + 4 <= size; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes.writeInt32LE(x | 0, i);
  }
  writeFileSync(path, bytes);
  return { path, digest: digestOf(bytes) };
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe.skipIf(requires("curl")).each([
  { mode: "thread", args: [] },
  { mode: "inline", args: ["--kernel", "inline"] },
  { mode: "two workers", args: ["--workers", "2"] },
])("curl and serve, $mode", ({ args }) => {
  let server: Served;
  beforeAll(async () => {
    server = await serve(...args);
  });
  afterAll(async () => {
    expect(await server.stop()).toMatchObject({ code: 0, err: "" });
  });

  it("gets the built-in pages", async () => {
    expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
    expect((await curl(`${server.site}/about`)).out).toMatch(/^sojourn: a complete network server stack/);
    const details = await curl(`${server.site}/details`);
    expect(details.out).toMatch(/^GET \/details HTTP\/1\.1\nHost: 127\.0\.0\.1:\d+\n/);
    expect(details.out).toMatch(/\nfrom +192\.0\.2\.10:\d+\nto +198\.51\.100\.10:3000\n/);
  });

  it("gets a page of HTML at /, whose links all answer", async () => {
    const page = await curl("-i", `${server.site}/`);
    expect(page.out).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(page.out).toMatch(/\r\nContent-Type: text\/html; charset=utf-8\r\n/);
    expect(page.out).toMatch(/\r\n\r\n<!doctype html>\n<html lang="en">/);
    const links = [...page.out.matchAll(/href="(\/[^"]*)"/g)].map(([, href]) => href as string);
    expect(links).toEqual(expect.arrayContaining(["/hello", "/about", "/details", "/echo"]));
    for (const link of links) {
      const answer = await curl("-o", "/dev/null", "-w", "%{http_code}", server.site + link);
      expect([link, answer.out]).toEqual([link, link === "/nowhere" ? "404" : "200"]);
    }
  });

  it("gets 404 page not found for what is not there", async () => {
    const answer = await curl("-w", "|%{http_code}", `${server.site}/not/there`);
    expect(answer.out).toBe("404 page not found\n|404");
  });

  it("is answered the head alone for HEAD", async () => {
    const answer = await curl("-I", `${server.site}/hello`);
    expect(answer).toMatchObject({ code: 0, err: "" });
    expect(answer.out).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)*Content-Length: 19\r\n(?:[^\r\n]+\r\n)*\r\n$/);
  });

  it("sees the stages known so far in Server-Timing", async () => {
    const { out } = await curl("-o", "/dev/null", "-D", "-", `${server.site}/hello`);
    const line = /^Server-Timing: (.*)\r$/m.exec(out)?.[1] ?? "";
    const names = line.split(", ").map((item) => /^([a-z-]+);dur=[0-9]+\.[0-9]+$/.exec(item)?.[1]);
    expect(names).toEqual(expect.arrayContaining(["syn-queue", "accept-queue", "receive-queue", "parse", "process"]));
  });

  it("may speak HTTP/1.0", async () => {
    const answer = await curl("--http1.0", "-i", `${server.site}/hello`);
    expect(answer.code).toBe(0);
    expect(answer.out).toMatch(/^HTTP\/1\.[01] 200 OK\r\n/);
    expect(answer.out).toMatch(/\r\n\r\nHello from sojourn\n$/);
  });

  it("keeps one connection for two requests", async () => {
    const url = `${server.site}/hello`;
    const answer = await curl("-w", "[%{num_connects}]", url, url);
    expect(answer.out).toBe("Hello from sojourn\n[1]Hello from sojourn\n[0]");
  });

  it("uploads in chunks", async () => {
    const { path, digest } = payload(MEGABYTE);
    const answer = await curl("-H", "Transfer-Encoding: chunked", "--data-binary", `@${path}`, `${server.site}/echo`);
    expect(digestOf(answer.outBytes)).toBe(digest);
  });

  it("waits for 100 Continue and gets it", async () => {
    const { path, digest } = payload(MEGABYTE);
    const answer = await curl(
      ...["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "20"],
      ...["--data-binary", `@${path}`, `${server.site}/echo`],
    );
    expect(answer.err).toContain("< HTTP/1.1 100 Continue");
    expect(answer.ms).toBeLessThan(15_000);
    expect(digestOf(answer.outBytes)).toBe(digest);
  });

  it("gets the answers of pipelined requests in their order", async () => {
    const request = (path: string, last = false) =>
      `GET ${path} HTTP/1.1\r\nHost: x\r\n${last ? "Connection: close\r\n" : ""}\r\n`;
    const all = ["/hello", "/slow?ms=50", "/nowhere", "/hello"];
    const text = await exchange(server.port, all.map((path, i) => request(path, i === all.length - 1)).join(""));
    expect(text.match(/^HTTP\/1\.1 \d+/gm)).toEqual([200, 200, 404, 200].map((code) => `HTTP/1.1 ${code}`));
    const bodies = ["Hello from sojourn", "Slept 50 ms", "404 page not found", "Hello from sojourn"];
    expect(text.match(/Hello from sojourn|Slept 50 ms|404 page not found/g)).toEqual(bodies);
  });

  it("moves 100 MB through /echo, byte exact", async () => {
    const { path, digest } = payload(100 * MEGABYTE);
    const out = join(directory, "echoed.bin");
    const answer = await curl("-H", "Expect:", "--data-binary", `@${path}`, "-o", out, `${server.site}/echo`);
    expect(answer).toMatchObject({ code: 0, err: "" });
    expect(digestOf(readFileSync(out))).toBe(digest);
    process.stderr.write(`[figure] 100 MB through /echo, ${args.join(" ") || "thread"}: ${Math.round(answer.ms)} ms\n`);
  }, 60_000);

  it("gets as many bytes as it asks for, and may hang up in the middle", async () => {
    const answer = await curl("-o", "/dev/null", "-w", "%{size_download}", `${server.site}/bytes/10000000`);
    expect(answer.out).toBe("10000000");
    const cut = await curl("-r", "0-9", "--max-filesize", "5", `${server.site}/bytes/10000000`);
    expect(cut.code).toBe(63);
    await new Promise<void>((resolve) => {
      const socket = connect(server.port, "127.0.0.1", () =>
        socket.write("GET /bytes/10000000000 HTTP/1.1\r\nHost: x\r\n\r\n"),
      );
      socket.once("data", () => {
        socket.resetAndDestroy();
        resolve();
      });
    });
    expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
  });

  it("is refused what is too large, with the status that says so", async () => {
    const status = async (...options: string[]) =>
      (await curl("-o", "/dev/null", "-w", "%{http_code}", ...options)).out;
    expect(await status(`${server.site}/${"a".repeat(9000)}`)).toBe("414");
    expect(await status("-H", `X-Long: ${"a".repeat(70_000)}`, `${server.site}/hello`)).toBe("431");
    const fields = Array.from({ length: 101 }, (_, i) => ["-H", `X-${i}: 1`]).flat();
    expect(await status(...fields, `${server.site}/hello`)).toBe("431");
    const huge = await exchange(server.port, `POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: ${2 ** 31}\r\n\r\n`);
    expect(huge).toMatch(/^HTTP\/1\.1 413 /);
  });

  it.each([
    ["no version", "GET /hello\r\n\r\n", 400],
    ["no host", "GET /hello HTTP/1.1\r\n\r\n", 400],
    ["two lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400],
    [
      "length and chunks",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
    ],
    ["a NUL", "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400],
    ["a chunk size that is none", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400],
    ["a version of tomorrow", "GET /hello HTTP/3.0\r\nHost: x\r\n\r\n", 505],
    ["the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400],
    ["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400],
  ])("answers malformed requests (%s) and goes on", async (_name, request, status) => {
    const answer = await exchange(server.port, Buffer.from(request, "latin1"));
    expect(answer.match(/^HTTP\/1\.1 (\d+)/)?.[1]).toBe(String(status));
    expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
  });

  it("is not killed by garbage", async () => {
    let x = 12345;
    const garbage = Buffer.from(
      Array.from({ length: 20_000 }, () => {
        x = (x * 1103515245 + 12345) & 0x7fffffff;
        return (x >> 16) & 255;
      }),
    );
    await Promise.all(Array.from({ length: 10 }, (_, i) => exchange(server.port, garbage.subarray(i * 2000), 3000)));
    expect((await curl(`${server.site}/hello`)).out).toBe("Hello from sojourn\n");
  });

  it("is refused TRACE and CONNECT at /echo", async () => {
    const answer = await curl("-X", "TRACE", "-o", "/dev/null", "-w", "%{http_code}", `${server.site}/echo`);
    expect(answer.out).toBe("405");
  });
});

describe.skipIf(requires("curl"))("serve with its own limits", () => {
  it("answers 408 when a head or a body does not come, 413 over --max-body", async () => {
    const server = await serve("--header-timeout", "1s", "--body-timeout", "500ms", "--max-body", "1KiB");
    try {
      const startMs = performance.now();
      const head = await exchange(server.port, "GET /hello HTTP/1.1\r\nHo");
      expect(head).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
      expect(performance.now() - startMs).toBeGreaterThan(950);
      expect(performance.now() - startMs).toBeLessThan(3000);
      const body = await exchange(server.port, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
      expect(body).toMatch(/^HTTP\/1\.1 (408|200) /);
      const large = await curl("-d", "a".repeat(2000), "-o", "/dev/null", "-w", "%{http_code}", `${server.site}/echo`);
      expect(large.out).toBe("413");
    } finally {
      expect((await server.stop()).code).toBe(0);
    }
  });
});
