import { createServer, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeBackend, sampleJourney } from "../../tests/support/fake-backend.ts";
import { type ControlServer, startControlServer } from "./control-server.ts";

let backend: FakeBackend;
let control: ControlServer;

beforeEach(async () => {
  backend = new FakeBackend();
  control = await startControlServer({ port: 0, portAsked: true, backend });
});
afterEach(() => control.close());

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly body: Record<string, unknown>;
}

/** One exchange; the response stays open for the caller if `open`. */
function send(
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const call = httpRequest({ host: "127.0.0.1", port: control.port, method, path, headers, agent: false }, resolve);
    call.on("error", reject);
    call.end(body);
  });
}

async function ask(method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer> {
  const response = await send(method, path, headers, body);
  let text = "";
  for await (const chunk of response) text += String(chunk);
  const isJson = response.headers["content-type"]?.startsWith("application/json") === true && text !== "";
  return { status: response.statusCode ?? 0, headers: response.headers, text, body: isJson ? JSON.parse(text) : {} };
}

const put = (path: string, body: unknown) =>
  ask("PUT", path, { Authorization: `Bearer ${control.token}` }, JSON.stringify(body));

/** Every refusal says what happened, why, and what next. */
function expectRefusal(answer: Answer, status: number): void {
  expect(answer.status).toBe(status);
  expect(Object.keys(answer.body).sort()).toEqual(["error", "next", "why"]);
  for (const text of Object.values(answer.body)) expect(text).toMatch(/\S/);
}

describe("who may ask", () => {
  it("answers to its own names only", async () => {
    for (const host of ["127.0.0.1", "localhost", "[::1]"]) {
      expect((await ask("GET", "/api/info", { Host: `${host}:${control.port}` })).status).toBe(200);
    }
    for (const host of [
      "evil.example",
      `evil.example:${control.port}`,
      "127.0.0.1",
      "127.0.0.1:1",
      `127.0.0.1.evil.example:${control.port}`,
    ]) {
      expectRefusal(await ask("GET", "/api/info", { Host: host }), 403);
    }
  });

  it("refuses a foreign Origin, also with the token", async () => {
    const token = { Authorization: `Bearer ${control.token}` };
    const own = { ...token, Origin: control.url };
    expect((await ask("PUT", "/api/accept", own, '{"paused":true}')).status).toBe(200);
    for (const origin of ["https://evil.example", "null", `https://127.0.0.1:${control.port}`, "http://127.0.0.1:1"]) {
      expectRefusal(await ask("PUT", "/api/accept", { ...token, Origin: origin }, '{"paused":false}'), 403);
      expectRefusal(await ask("GET", "/api/journeys", { Origin: origin }), 403);
    }
    expect(backend.paused).toBe(true);
  });

  it("refuses what a browser sends from another site, but lets a link open the page", async () => {
    const cross = { "Sec-Fetch-Site": "cross-site" };
    expectRefusal(await ask("GET", "/api/journeys", { ...cross, "Sec-Fetch-Mode": "no-cors" }), 403);
    expectRefusal(await ask("GET", "/", { ...cross, "Sec-Fetch-Mode": "no-cors" }), 403);
    expect((await ask("GET", "/", { ...cross, "Sec-Fetch-Mode": "navigate" })).status).toBe(200);
    expect((await ask("GET", "/api/journeys", { "Sec-Fetch-Site": "same-origin" })).status).toBe(200);
  });

  it("changes nothing without the token", async () => {
    const calls = [
      ["/api/accept", '{"paused":true}'],
      ["/api/sysctl", '{"name":"net.core.somaxconn","value":1}'],
      ["/api/links/eth0", '{"loss":1}'],
      ["/api/reject", '{"port":80,"with":"drop"}'],
    ] as const;
    for (const [path, body] of calls) {
      for (const headers of [
        {},
        { Authorization: "Bearer wrong" },
        { Authorization: control.token },
        { Authorization: `Bearer ${control.token}x` },
      ]) {
        const answer = await ask("PUT", path, headers as Record<string, string>, body);
        expectRefusal(answer, 401);
        expect(answer.headers["www-authenticate"]).toContain("Bearer");
      }
    }
    expect([backend.paused, backend.rejected, backend.linkSettings, backend.sysctls.get("net.core.somaxconn")]).toEqual(
      [false, [], [], "4096"],
    );
  });

  it("sends no CORS header and never lets a page be framed or cached", async () => {
    for (const path of ["/", "/api/info", "/metrics", "/nowhere"]) {
      const { headers } = await ask("GET", path, { Origin: control.url });
      expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
      expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
      expect(headers["cache-control"]).toBe("no-store");
      expect(headers["x-content-type-options"]).toBe("nosniff");
    }
    expect((await ask("OPTIONS", "/api/accept", { Authorization: `Bearer ${control.token}` })).status).toBe(405);
  });
});

describe("what it answers", () => {
  it("serves every table of the contract", async () => {
    for (const name of [
      "stages",
      "drop-reasons",
      "journeys",
      "sockets",
      "links",
      "processes",
      "neighbours",
      "routes",
      "syscalls",
      "goroutines",
      "sysctl",
    ]) {
      const answer = await ask("GET", `/api/${name}`);
      expect([name, answer.status, Array.isArray(answer.body)]).toEqual([name, 200, true]);
    }
    expect((await ask("GET", "/api/info")).body).toMatchObject({
      originUnixNs: "1700000000000000000",
      mode: "inline",
      node: process.version,
    });
    expect((await ask("GET", "/api/journeys/1")).body).toEqual(sampleJourney(1));
    expect((await ask("GET", "/api/sockets?host=client")).body).toEqual([]);
    const metrics = await ask("GET", "/metrics");
    expect([metrics.headers["content-type"], metrics.text]).toEqual([
      "text/plain; version=0.0.4; charset=utf-8",
      backend.metrics(),
    ]);
  });

  it("passes filters on and refuses bad ones", async () => {
    await ask("GET", "/api/journeys?limit=5&outcome=reset&slower=10ms&stage=accept-queue");
    expect(backend.asked).toEqual({ limit: 5, outcome: "reset", slowerNs: 10_000_000, stage: "accept-queue" });
    await ask("GET", "/api/journeys?slower=1500&outcome=&stage=");
    expect(backend.asked).toEqual({ limit: 100, slowerNs: 1500 });
    await ask("GET", "/api/journeys?limit=1000");
    for (const query of [
      "limit=0",
      "limit=1001",
      "limit=x",
      "limit=-1",
      "outcome=lost",
      "stage=nowhere",
      "slower=fast",
      "colour=red",
    ]) {
      expectRefusal(await ask("GET", `/api/journeys?${query}`), 400);
    }
    expectRefusal(await ask("GET", "/api/sockets?host=mars"), 400);
    expectRefusal(await ask("GET", "/api/syscalls?limit=10001"), 400);
  });

  it("says 404 and 405 with what is allowed", async () => {
    for (const path of [
      "/nowhere",
      "/api",
      "/api/journeys/99",
      "/api/journeys/x",
      "/api/journeys/1/2",
      "/api/journeys/",
    ])
      expectRefusal(await ask("GET", path), 404);
    expectRefusal(await ask("GET", "/api/journeys/%zz"), 400);
    expect((await ask("GET", "/api/accept")).headers.allow).toBe("PUT");
    const post = await ask("POST", "/api/sysctl", { Authorization: `Bearer ${control.token}` });
    expect([post.status, post.headers.allow]).toEqual([405, "GET, HEAD, PUT"]);
    const head = await ask("HEAD", "/api/info");
    expect([head.status, head.text, Number(head.headers["content-length"]) > 0]).toEqual([200, "", true]);
  });

  it("changes state and answers with the new one", async () => {
    expect((await put("/api/accept", { paused: true })).body).toEqual({ paused: true });
    expect((await put("/api/sysctl", { name: "net.core.somaxconn", value: 4 })).body).toEqual({
      name: "net.core.somaxconn",
      value: "4",
    });
    expect((await put("/api/reject", { port: 80, with: "tcp-reset" })).body).toEqual({ port: 80, with: "tcp-reset" });
    expect((await put("/api/links/eth0", { delay: "10ms", loss: 0.01, rate: "10mbit" })).status).toBe(200);
    expect(backend.linkSettings).toEqual([
      { name: "eth0", settings: { delayNs: 10_000_000, loss: 0.01, rateBitsPerSecond: 10_000_000 } },
    ]);
  });

  it("refuses bad settings, and what the kernel refuses, in words", async () => {
    expectRefusal(await put("/api/sysctl", { name: "net.core.nothing", value: 1 }), 404);
    const refused = await put("/api/sysctl", { name: "net.core.somaxconn", value: "many" });
    expectRefusal(refused, 400);
    expect(refused.body["why"]).toBe("Invalid argument");
    expectRefusal(await put("/api/links/eth9", { delay: "1ms" }), 404);
    for (const body of [{ delay: "fast" }, { colour: "red" }, { loss: 2 }, { delay: null }, {}])
      expectRefusal(await put("/api/links/eth0", body), 400);
    for (const body of [
      { port: 0, with: "drop" },
      { port: 80, with: "love" },
      { port: "80", with: "drop" },
    ])
      expectRefusal(await put("/api/reject", body), 400);
    for (const body of [{}, { paused: "yes" }, [], "x", null]) expectRefusal(await put("/api/accept", body), 400);
  });

  it("refuses a body that is no JSON or too long, and goes on", async () => {
    const token = { Authorization: `Bearer ${control.token}` };
    for (const body of ["", "{", "[1]", '{"paused":tru'])
      expectRefusal(await ask("PUT", "/api/accept", token, body), 400);
    expectRefusal(await ask("PUT", "/api/accept", token, `{"paused":true,"x":"${"x".repeat(70_000)}"}`), 413);
    expect((await ask("GET", "/api/info")).status).toBe(200);
  });

  it("answers 500 in the same shape when the backend has a bug, and goes on", async () => {
    backend.counters = () => {
      throw new Error("boom");
    };
    const answer = await ask("GET", "/api/counters");
    expectRefusal(answer, 500);
    expect(answer.body["why"]).toBe("boom");
    expect((await ask("GET", "/api/info")).status).toBe(200);
  });
});

describe("streams", () => {
  it("sends each finished journey as an event and unsubscribes at the end", async () => {
    const stream = await send("GET", "/api/journeys/stream");
    expect(stream.headers["content-type"]).toContain("text/event-stream");
    for (const listener of backend.listeners) listener(sampleJourney(7));
    let text = "";
    for await (const chunk of stream) {
      text += String(chunk);
      if (text.includes("event: journey")) break;
    }
    const data = /id: 7\nevent: journey\ndata: (.*)\n\n/.exec(text)?.[1] ?? "";
    expect(JSON.parse(data)).toEqual(sampleJourney(7));
    await expect.poll(() => backend.listeners.size).toBe(0);
  });

  it("streams a capture until the reader hangs up", async () => {
    const stream = await send("GET", "/api/capture");
    const [first] = await stream[Symbol.asyncIterator]()
      .next()
      .then((result) => [result.value as Buffer]);
    expect([...(first ?? []).subarray(0, 4)]).toEqual([0x0a, 0x0d, 0x0d, 0x0a]);
    stream.destroy();
    await expect.poll(() => backend.captures.size).toBe(0);
  });

  it("opens at most sixteen at a time", async () => {
    const streams = [];
    for (let i = 0; i < 16; i++) streams.push(await send("GET", "/api/journeys/stream"));
    expectRefusal(await ask("GET", "/api/capture"), 503);
    for (const stream of streams) stream.destroy();
    await expect.poll(async () => (await ask("HEAD", "/api/capture")).status).toBe(200);
  });

  it("ends open streams when it closes", async () => {
    const stream = await send("GET", "/api/journeys/stream");
    const ended = new Promise((resolve) => stream.once("close", resolve));
    stream.resume();
    await control.close();
    await ended;
    expect(backend.listeners.size).toBe(0);
  });
});

describe("the page", () => {
  it("lists the API, loads nothing from elsewhere, and runs only its own script", async () => {
    const { headers, text } = await ask("GET", "/");
    expect(headers["content-type"]).toBe("text/html; charset=utf-8");
    const nonce = /script-src 'nonce-([^']+)'/.exec(headers["content-security-policy"] as string)?.[1] as string;
    expect(text.match(/<(script|style)[^>]*>/g)?.every((tag) => tag.includes(`nonce="${nonce}"`))).toBe(true);
    expect(text).not.toMatch(/(src|href)=|https?:\/\//);
    for (const path of ["/api/journeys/stream", "/api/capture", "/metrics"]) expect(text).toContain(path);
    expect((await ask("GET", "/")).text).not.toContain(nonce);
  });

  it("has a script that parses", async () => {
    const { text } = await ask("GET", "/");
    const script = text.slice(text.lastIndexOf('">') + 2, text.lastIndexOf("</script>"));
    expect(script).toContain("EventSource");
    expect(() => new Function(script)).not.toThrow();
  });
});

describe("ports", () => {
  it("refuses a taken port that was asked for, and moves on from one that was not", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    try {
      await expect(startControlServer({ port, portAsked: true, backend })).rejects.toMatchObject({
        exitCode: 1,
        message: expect.stringContaining(`${port} is taken`),
      });
      const moved = await startControlServer({ port, portAsked: false, backend });
      expect(moved.port).toBeGreaterThan(port);
      await moved.close();
    } finally {
      other.close();
    }
  });
});
