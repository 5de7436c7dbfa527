import { describe, expect, it } from "vitest";
import { SECOND } from "../../src/base/time.ts";
import { FakeRuntime } from "../../src/server/server-testing.ts";
import { prefersJson } from "./details.ts";
import { main } from "./main.ts";

async function site() {
  const runtime = new FakeRuntime();
  const server = await main(runtime);
  const conn = runtime.network.connect(3000);
  await runtime.settle();
  return { runtime, server, conn };
}

async function ask(text: string, waitNs = 0) {
  const { runtime, conn } = await site();
  conn.send(text);
  await runtime.advance(waitNs);
  const answer = conn.receiveText();
  const [head, ...rest] = answer.split("\r\n\r\n");
  return { status: Number(head?.slice(9, 12)), head: head ?? "", body: rest.join("\r\n\r\n"), conn };
}

const get = (target: string, fields = "") => `GET ${target} HTTP/1.1\r\nHost: localhost:3000\r\n${fields}\r\n`;

describe("the site", () => {
  it("says hello", async () => {
    const { status, head, body } = await ask(get("/hello"));
    expect([status, body]).toEqual([200, "Hello from sojourn\n"]);
    expect(head).toContain("Content-Type: text/plain; charset=utf-8");
    expect(head).toMatch(/Server-Timing: .*process;dur=\d+\.\d{3}/);
  });

  it("has a page that links every handler and loads nothing from elsewhere", async () => {
    const { status, head, body } = await ask(get("/"));
    expect(status).toBe(200);
    expect(head).toContain("Content-Type: text/html; charset=utf-8");
    expect(body.startsWith("<!doctype html>")).toBe(true);
    for (const path of ["/hello", "/about", "/details", "/echo", "/slow?ms=", "/cpu?ms=", "/bytes/"]) {
      expect(body).toContain(`href="${path}`);
    }
    expect(body).not.toMatch(/(src|href)="https?:/);
    expect(body).toContain('<th scope="row">parse</th>');
  });

  it("answers 404 page not found for the rest, 405 for a wrong method", async () => {
    const { status, body } = await ask(get("/nowhere"));
    expect([status, body]).toEqual([404, "404 page not found\n"]);
    expect((await ask("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).head).toContain(
      "Allow: GET, HEAD",
    );
  });

  it("tells the details as text or as JSON, secrets left out", async () => {
    const text = await ask(get("/details?a=b"));
    expect(text.body).toContain("GET /details?a=b HTTP/1.1\n");
    expect(text.body).toContain("from        10.0.0.2:40000\n");
    const json = await ask(get("/details", "Accept: application/json\r\nCookie: secret=1\r\n"));
    expect(json.head).toContain("Content-Type: application/json");
    expect(JSON.parse(json.body).request).toMatchObject({ method: "GET", target: "/details", host: "localhost:3000" });
    expect(json.body).not.toContain("secret");
  });

  it("knows what a client would rather have", () => {
    expect(prefersJson("application/json")).toBe(true);
    expect(prefersJson("text/html, application/json;q=0.9")).toBe(false);
    expect(prefersJson("*/*")).toBe(false);
    expect(prefersJson(undefined)).toBe(false);
  });

  it("echoes with any method, keeps the type; HEAD without body; TRACE and CONNECT are 405", async () => {
    const sent = "BREW /echo HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\n\x00\xff\r\n!";
    const { status, head, body } = await ask(sent);
    expect([status, body]).toEqual([200, "\x00\xff\r\n!"]);
    expect(head).toContain("Content-Type: image/png");
    expect(head).toContain("Content-Length: 5");
    const chunked = await ask(
      "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    expect(chunked.body).toBe("abc");
    const headOnly = await ask("HEAD /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    expect([headOnly.status, headOnly.body]).toEqual([200, ""]);
    expect(headOnly.head).toContain("Content-Length: 3");
    expect((await ask("TRACE /echo HTTP/1.1\r\nHost: a\r\n\r\n")).status).toBe(405);
    expect((await ask("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")).status).toBe(405);
  });

  it("sleeps and burns for as long as it is told", async () => {
    expect((await ask(get("/slow?ms=250"), SECOND / 4 - 1)).head).toBe("");
    expect((await ask(get("/slow?ms=250"), SECOND / 4)).body).toBe("Slept 250 ms\n");
    expect((await ask(get("/cpu?ms=5"))).body).toBe("Held the CPU for 5 ms\n");
  });

  it("sends exactly N bytes, none for HEAD", async () => {
    const { head, body } = await ask(get("/bytes/200000"));
    expect(head).toContain("Content-Length: 200000");
    expect(body.length).toBe(200_000);
    const big = await ask(`HEAD /bytes/${10 * 2 ** 30} HTTP/1.1\r\nHost: a\r\n\r\n`);
    expect([big.status, big.body]).toEqual([200, ""]);
    expect(big.head).toContain("Content-Length: 10737418240");
  });

  it.each([
    "/slow?ms=x",
    "/slow?ms=-1",
    "/slow?ms=60001",
    "/cpu?ms=1e3",
    "/bytes/x",
    "/bytes/10737418241",
    "/slow?ms=",
  ])("answers 400 to %s and says why", async (target) => {
    const { status, body } = await ask(get(target));
    expect(status).toBe(400);
    expect(body).toContain("must be a whole number from 0 to");
  });
});
