/** What the control API tells of real requests obeys the contract (docs: the journey, §1). */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STAGES, type StageName, WAIT_REASONS } from "../../src/base/stages.ts";
import { type Journey, OUTCOMES } from "../../src/journey/journey.ts";
import { requires } from "../support/requires.ts";
import { curl, exchange, type Served, serve, sleep } from "../support/serve.ts";

/** Throws unless `journey` has every field of the contract and its segments add up. */
function checkContract(journey: Journey): void {
  expect(journey).toMatchObject({ precision: "switch", truth: "user-space" });
  expect(OUTCOMES).toContain(journey.outcome);
  expect(Number.isSafeInteger(journey.id)).toBe(true);
  expect(journey.sampling).toBeGreaterThanOrEqual(1);
  expect(journey.connection).toEqual({
    id: expect.any(Number),
    local: expect.stringMatching(/^198\.51\.100\.10:3000$/),
    remote: expect.stringMatching(/^192\.0\.2\.10:\d+$/),
    protocol: expect.any(String),
    reused: expect.any(Boolean),
  });
  const counts = [journey.frames.received, journey.frames.sent, journey.frames.retransmitted, journey.frames.dropped];
  for (const count of counts) expect(count).toBeGreaterThanOrEqual(0);
  const times = [journey.startNs, journey.totalNs, journey.respondedNs ?? 0];
  for (const time of times) expect(Number.isSafeInteger(time) && time >= 0).toBe(true);
  checkSegments(journey);
  for (const span of journey.spans) {
    expect(STAGES.map((stage) => stage.name)).toContain(span.stage);
    expect(span.endNs).toBeGreaterThanOrEqual(span.startNs);
  }
  for (const mark of journey.marks)
    expect([typeof mark.name, Number.isSafeInteger(mark.atNs)]).toEqual(["string", true]);
}

function checkSegments({ segments, startNs, totalNs }: Journey): void {
  let atNs = startNs;
  for (const segment of segments) {
    const stage = STAGES.find((one) => one.name === segment.stage);
    expect(stage).toMatchObject({ group: segment.group, kind: segment.kind });
    expect([segment.startNs, Number.isSafeInteger(segment.endNs)]).toEqual([atNs, true]);
    expect(segment.endNs).toBeGreaterThanOrEqual(segment.startNs);
    if (segment.kind === "wait") expect(Object.keys(WAIT_REASONS)).toContain(segment.reason);
    if (segment.reason === "pipeline") expect(segment.by).toBeDefined();
    atNs = segment.endNs;
  }
  expect(atNs).toBe(startNs + totalNs);
}

function timeIn(journey: Journey, ...stages: StageName[]): number {
  const segments = journey.segments.filter((segment) => stages.includes(segment.stage));
  return segments.reduce((total, { startNs, endNs }) => total + endNs - startNs, 0);
}

const MS = 1e6;

describe.skipIf(requires("curl")).each([
  { mode: "thread", args: [] },
  { mode: "inline", args: ["--kernel", "inline"] },
  { mode: "two workers", args: ["--workers", "2"] },
])("journeys of real requests, $mode", ({ args }) => {
  let server: Served;
  beforeAll(async () => {
    server = await serve(...args);
  });
  afterAll(async () => {
    expect(await server.stop()).toMatchObject({ code: 0, err: "" });
  });

  it("has one of a request, with every field of the contract", async () => {
    const { ms } = await curl(`${server.site}/details?secret=4711`);
    const journey = await server.journey((j) => j.request?.target.startsWith("/details") === true);
    checkContract(journey);
    expect(journey).toMatchObject({
      outcome: "ok",
      sampling: 1,
      request: { method: "GET", target: "/details?secret=…" },
      response: { status: 200 },
      connection: { reused: false },
    });
    expect(journey.totalNs).toBeLessThan((ms + 50) * MS);
    // Two wires of 2.5 ms: a handshake waits for one way there and one back.
    expect(timeIn(journey, "syn-queue")).toBeGreaterThanOrEqual(10 * MS);
    expect(timeIn(journey, "ack-wait")).toBeGreaterThanOrEqual(10 * MS);
    expect(journey.respondedNs).toBeLessThanOrEqual(journey.totalNs - 10 * MS);
    const met: StageName[] = ["accept-queue", "accept", "receive-queue", "copy", "parse", "route", "process", "write"];
    expect(journey.segments.map((segment) => segment.stage)).toEqual(expect.arrayContaining(met));
    expect(await server.get(`/api/journeys/${journey.id}`)).toEqual(journey);
  });

  it("answers 404 for one it does not know", async () => {
    const answer = await fetch(`${server.control}/api/journeys/987654321`);
    expect([answer.status, await answer.json()]).toEqual([
      404,
      { error: "no journey 987654321", why: expect.any(String), next: expect.any(String) },
    ]);
  });

  it("sends each over the event stream as it ends", async () => {
    const controller = new AbortController();
    const stream = await fetch(`${server.control}/api/journeys/stream`, { signal: controller.signal });
    expect(stream.headers.get("content-type")).toMatch(/^text\/event-stream/);
    const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
    await curl(`${server.site}/about`);
    let text = "";
    const decoder = new TextDecoder();
    while (!/\n\n$/.test(text) || !text.includes("/about")) {
      const { value, done } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    controller.abort();
    const data = /^event: journey\ndata: (\{.*"target":"\/about".*\})$/m.exec(text)?.[1] ?? "null";
    const journey = JSON.parse(data) as Journey;
    checkContract(journey);
    expect(journey.request?.target).toBe("/about");
  });

  it("charges the handshake to the first request of a connection only, and idle time to nobody", async () => {
    const request = "GET /hello?kept HTTP/1.1\r\nHost: x\r\n\r\n";
    const socket = await import("node:net").then(({ connect }) => connect(server.port, "127.0.0.1"));
    socket.write(request);
    await sleep(300);
    socket.end(request);
    await sleep(200);
    socket.destroy();
    const second = await server.journey((j) => j.request?.target.startsWith("/hello?") === true && j.connection.reused);
    const first = await server.journey((j) => j.connection.id === second.connection.id && !j.connection.reused);
    for (const journey of [first, second]) checkContract(journey);
    expect(timeIn(first, "syn-queue")).toBeGreaterThanOrEqual(10 * MS);
    expect(timeIn(second, "syn-queue", "accept-queue", "accept")).toBe(0);
    expect(second.totalNs).toBeLessThan(200 * MS);
    expect(second.startNs).toBeGreaterThan(first.startNs + first.totalNs);
  });

  it("says that a pipelined request waits for the one before", async () => {
    const get = (target: string, close = "") => `GET ${target} HTTP/1.1\r\nHost: x\r\n${close}\r\n`;
    await exchange(server.port, get("/slow?ms=200") + get("/about?behind", "Connection: close\r\n"));
    const behind = await server.journey((j) => j.request?.target.startsWith("/about?") === true);
    const before = await server.journey((j) => j.connection.id === behind.connection.id && j.id !== behind.id);
    for (const journey of [behind, before]) checkContract(journey);
    const waits = behind.segments.filter((segment) => segment.reason === "pipeline" && segment.by === before.id);
    const waitedNs = waits.reduce((total, { startNs, endNs }) => total + endNs - startNs, 0);
    expect(waitedNs).toBeGreaterThanOrEqual(190 * MS);
    expect(timeIn(before, "handler")).toBeGreaterThanOrEqual(195 * MS);
  });

  it("tells of a client that hangs up, and of one that says nothing", async () => {
    const { connect } = await import("node:net");
    const aborted = connect(server.port, "127.0.0.1", () =>
      aborted.write("GET /slow?ms=3000 HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    await sleep(200);
    aborted.resetAndDestroy();
    const reset = await server.journey((j) => j.request?.target.startsWith("/slow?") === true && j.outcome !== "ok");
    checkContract(reset);
    expect(reset.outcome).toBe("reset");
    await exchange(server.port, "", 100);
    const silent = await server.journey((j) => j.request === null);
    checkContract(silent);
    expect([silent.id < 0, silent.response]).toEqual([true, null]);
  });

  it("shows a request in flight", async () => {
    const pending = curl(`${server.site}/slow?ms=700`);
    await sleep(350);
    const flying = await server.journeys("outcome=in-flight&limit=10");
    const slow = flying.find((j) => j.request?.target.startsWith("/slow?") === true);
    expect(slow).toMatchObject({ outcome: "in-flight", response: null });
    checkSegments(slow as Journey);
    expect(slow?.segments.at(-1)).toMatchObject({ stage: "handler", reason: "sleep" });
    expect((await pending).out).toBe("Slept 700 ms\n");
  });

  it("adds up for hundreds of requests, whatever happened to them", async () => {
    await Promise.all(
      Array.from({ length: 10 }, () => {
        const target = (n: number) => `${server.site}/${["hello", "nowhere", "bytes/200000", "details"][n % 4]}`;
        return curl("-o", "/dev/null", ...Array.from({ length: 20 }, (_, n) => target(n)));
      }),
    );
    await sleep(300);
    const journeys = await server.journeys("limit=1000");
    expect(journeys.length).toBeGreaterThan(150);
    for (const journey of journeys) checkContract(journey);
    const ids = journeys.map((journey) => journey.id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});
