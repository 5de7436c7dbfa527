/**
 * `sojourn serve --tap --router` behind a bad wire, in both modes: real clients get every byte, and the journeys of
 * requests that were lost, damaged and sent again still add up.
 */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requires } from "../support/requires.ts";
import { SITE, TAP_NEEDS, TapSite } from "../support/tap-site.ts";

const MODES = [
  ["thread", []],
  ["inline", ["--kernel", "inline"]],
] as const;
const WIRE = "delay=5ms,jitter=1ms,loss=2%,reorder=5%,duplicate=5%,corrupt=1%";
const CLIENTS = 20;
const BODY_BYTES = 50_000;

describe.skipIf(requires(...TAP_NEEDS, "curl")).each(MODES)("a bad wire behind a TAP, %s", (_, args) => {
  let site: TapSite;
  beforeAll(async () => {
    site = await TapSite.start("--quiet", "--router", "--link", WIRE, ...args);
  });
  afterAll(async () => {
    const { code, err } = await site.stop();
    expect([code, err]).toEqual([0, ""]);
  });

  /** What `POST /echo` makes of `body`. */
  async function echo(body: Buffer): Promise<Buffer> {
    const args = ["-sS", "--max-time", "45", "-H", "Expect:", "--data-binary", "@-", `${SITE}/echo`];
    const { outBytes, err } = await site.exec("curl", args, { input: body });
    expect(err).toBe("");
    return outBytes;
  }

  it("echoes a megabyte", async () => {
    const body = randomBytes(1_000_000);
    expect((await echo(body)).equals(body)).toBe(true);
  });

  it(`echoes to ${CLIENTS} clients at once, to each its own`, async () => {
    const bodies = Array.from({ length: CLIENTS }, () => randomBytes(BODY_BYTES));
    const answers = await Promise.all(bodies.map(echo));
    expect(answers.map((answer, i) => answer.equals(bodies[i]))).toEqual(bodies.map(() => true));
  });

  it("had to send again, and noticed the damage", async () => {
    const { TcpRetransSegs, TcpInCsumErrors } = await site.counters();
    expect(TcpRetransSegs).toBeGreaterThan(0);
    expect(TcpInCsumErrors).toBeGreaterThan(0);
  });

  it("has a journey of each request, and each adds up", async () => {
    await expect.poll(async () => (await site.journeys()).length).toBe(1 + CLIENTS);
    for (const journey of await site.journeys()) {
      const sum = journey.segments.reduce((total, { startNs, endNs }) => total + endNs - startNs, 0);
      expect([journey.outcome, sum]).toEqual(["ok", journey.totalNs]);
    }
  });
});
