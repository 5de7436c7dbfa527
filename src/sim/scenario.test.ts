import { describe, expect, it } from "vitest";
import { STAGES, WAIT_REASONS } from "../base/stages.ts";
import { MILLISECOND, type Ns, SECOND } from "../base/time.ts";
import { Timer, Timers } from "../base/timers.ts";
import { INJECTION_KINDS } from "./faults.ts";
import {
  type Bench,
  type BenchConnection,
  type JourneyFacts,
  judge,
  play,
  type Scenario,
  scenarioOf,
} from "./scenario.ts";
import { Sim } from "./sim.ts";

const SEEDS = Array.from({ length: 280 }, (_, seed) => seed);

describe("scenarios", () => {
  it("are a function of the seed", () => {
    for (const seed of SEEDS) expect(scenarioOf(seed)).toEqual(scenarioOf(seed));
  });

  it("cover every kind, and every variant of it", () => {
    const scenarios = SEEDS.map(scenarioOf);
    for (const kind of INJECTION_KINDS) {
      expect(scenarios.filter((s) => s.injection.kind === kind).length).toBe(SEEDS.length / INJECTION_KINDS.length);
    }
    const variants = new Set(
      scenarios.map(({ injection: i }) => {
        if (i.kind === "link-loss") return `${i.target} on ${i.place}`;
        if (i.kind === "slow-handler") return i.how;
        return i.kind === "loop-block" || i.kind === "slow-client" ? `${i.kind} ${i.fresh}` : i.kind;
      }),
    );
    expect(variants.size).toBe(3 * 2 + 2 + 2 * 2 + 3);
  });

  it("expect labels that exist, with a reason for every wait, for a time that makes sense", () => {
    for (const { expected, delayNs, seed } of SEEDS.map(scenarioOf)) {
      for (const label of expected.labels) {
        const stage = STAGES.find((s) => s.name === label.stage);
        expect(stage, `seed ${seed}`).toBeDefined();
        expect(label.reason !== undefined, `seed ${seed}`).toBe(stage?.kind === "wait");
        if (label.reason !== undefined) expect(WAIT_REASONS).toHaveProperty(label.reason);
      }
      expect(expected.atLeastNs, `seed ${seed}`).toBeGreaterThanOrEqual(delayNs);
      expect(expected.atMostNs, `seed ${seed}`).toBeGreaterThan(expected.atLeastNs);
      expect(expected.atMostNs, `seed ${seed}`).toBeLessThan(4 * SECOND);
      // What is injected stands out of a handshake and a round trip.
      if (expected.dominant) expect(expected.atLeastNs, `seed ${seed}`).toBeGreaterThan(3 * delayNs);
    }
  });
});

/** A bench that only writes down what was asked of it, and when. */
class Diary implements Bench {
  readonly lines: string[] = [];
  private readonly timers = new Timers();
  private connections = 0;
  private nowNs: Ns = 0;
  readonly sim = new Sim({
    deadline: () => this.timers.deadline(),
    advance: (nowNs) => {
      this.nowNs = nowNs;
      while (this.timers.fireOne(nowNs));
    },
  });

  private note(text: string): void {
    this.lines.push(`${this.nowNs / MILLISECOND} ${text}`);
  }
  sleep(durationNs: Ns): Promise<void> {
    return new Promise((resolve) => this.timers.arm(new Timer(() => resolve()), this.nowNs + durationNs));
  }
  async connect(options?: { readonly receiveBufferBytes?: number }): Promise<BenchConnection> {
    const id = ++this.connections;
    this.note(
      `connect ${id}${options?.receiveBufferBytes === undefined ? "" : ` rcvbuf ${options.receiveBufferBytes}`}`,
    );
    return {
      write: (text) => this.note(`${id} ${text.split("\r\n")[0]}${text.endsWith("\r\n\r\n") ? "" : " …"}`),
      readResponse: async () => this.note(`${id} reads`),
      close: () => this.note(`${id} closes`),
    };
  }
  pauseAccept(paused: boolean): void {
    this.note(paused ? "accept paused" : "accept resumed");
  }
  loseNext(to: string, place: string, payload: boolean): void {
    this.note(`lose next to ${to} on ${place}${payload ? " with payload" : ""}`);
  }
  async settle(): Promise<void> {
    this.note("settle");
  }
  journeys(): readonly JourneyFacts[] {
    return [];
  }
}

async function diaryOf(scenario: Scenario): Promise<string[]> {
  const diary = new Diary();
  await diary.sim.run(play(scenario, diary));
  return diary.lines;
}

const base = scenarioOf(0);

describe("play", () => {
  it("asks the victim's target exactly once in every scenario, closes all and settles", async () => {
    for (const scenario of SEEDS.map(scenarioOf)) {
      const lines = await diaryOf(scenario);
      expect(lines.filter((line) => line.includes(` GET ${scenario.victim} `)).length, `seed ${scenario.seed}`).toBe(1);
      const count = (what: RegExp): number => lines.filter((line) => what.test(line)).length;
      expect(count(/ closes$/)).toBe(count(/ connect /));
      expect(lines.at(-1)).toMatch(/ settle$/);
    }
  });

  it("pauses accept around the victim's arrival", async () => {
    const injection = { kind: "accept-pause", durationNs: 300 * MILLISECOND } as const;
    expect(await diaryOf({ ...base, injection, victim: "/about" })).toEqual([
      "0 accept paused",
      "0 connect 1",
      "0 1 GET /about HTTP/1.1",
      "300 accept resumed",
      "300 1 reads",
      "300 1 closes",
      "300 settle",
    ]);
  });

  it("lets a blocker start first", async () => {
    const durationNs = 500 * MILLISECOND;
    const injection = { kind: "loop-block", durationNs, headStartNs: 7 * MILLISECOND, fresh: true } as const;
    const lines = await diaryOf({ ...base, injection, victim: "/about" });
    expect(lines.filter((line) => !line.includes("/hello")).slice(-8)).toEqual([
      "0 1 GET /cpu?ms=500 HTTP/1.1",
      "7 connect 2",
      "7 2 GET /about HTTP/1.1",
      "7 2 reads",
      "7 2 closes",
      "7 1 reads",
      "7 1 closes",
      "7 settle",
    ]);
  });

  it("loses the first of two pieces of a head, not the handshake", async () => {
    const injection = { kind: "link-loss", target: "request", place: "client-link" } as const;
    expect(await diaryOf({ ...base, injection, delayNs: MILLISECOND, victim: "/about" })).toEqual([
      "0 connect 1",
      "2 lose next to server on client-link with payload",
      "2 1 GET /about HTTP/1.1 …",
      "2 1 st: server",
      "2 1 reads",
      "2 1 closes",
      "2 settle",
    ]);
  });
});

describe("judge", () => {
  const durationNs = 300 * MILLISECOND;
  const scenario: Scenario = {
    ...base,
    victim: "/about",
    injection: { kind: "loop-block", durationNs, headStartNs: 0, fresh: false },
    expected: {
      labels: [{ stage: "receive-queue", reason: "loop-busy" }],
      atLeastNs: 290 * MILLISECOND,
      atMostNs: 310 * MILLISECOND,
      dominant: true,
      byBlocker: true,
    },
  };
  const blocker: JourneyFacts = {
    id: 1,
    outcome: "ok",
    request: { target: "/cpu?ms=300" },
    startNs: 0,
    totalNs: 0,
    segments: [],
  };
  /** A journey of consecutive segments: label → milliseconds. */
  const journey = (
    parts: readonly (readonly [string, number, (number | string)?])[],
    target = "/about",
  ): JourneyFacts => {
    let atNs = 1000;
    const segments = parts.map(([label, ms, by]) => {
      const [stage, reason] = label.split("/");
      const startNs = atNs;
      atNs += ms * MILLISECOND;
      return { stage, reason, by, kind: reason ? "wait" : "work", startNs, endNs: atNs };
    });
    return { id: 2, outcome: "ok", request: { target }, startNs: 1000, totalNs: atNs - 1000, segments };
  };

  it("accepts the right label, for the right time, by the right request", () => {
    const victim = journey([
      ["softirq", 1],
      ["receive-queue/loop-busy", 200, 1],
      ["receive-queue/loop-busy", 100, 1],
      ["process", 5],
    ]);
    expect(judge(scenario, [blocker, victim])).toEqual({ ok: true, blamedNs: durationNs, why: "" });
  });

  it.each([
    [
      "too short",
      [
        ["receive-queue/loop-busy", 200, 1],
        ["accept-queue/loop-busy", 100, 1],
      ],
      "200.000ms instead of 290.000ms to 310.000ms",
    ],
    ["too long", [["receive-queue/loop-busy", 320, 1]], "320.000ms instead of"],
    ["another reason", [["receive-queue/reader-not-woken", 300]], "0.000ms instead of"],
    [
      "not the longest",
      [
        ["receive-queue/loop-busy", 300, 1],
        ["client/client", 400],
      ],
      "client/client took longer",
    ],
    ["the wrong culprit", [["receive-queue/loop-busy", 300, "process 2"]], "by process 2 instead of 1"],
    ["nobody", [["receive-queue/loop-busy", 300]], "by nobody instead of 1"],
  ] as const)("refuses %s", (_what, parts, why) => {
    const verdict = judge(scenario, [blocker, journey(parts)]);
    expect(verdict.ok).toBe(false);
    expect(verdict.why).toContain("seed 0 (loop-block): receive-queue/loop-busy: ");
    expect(verdict.why).toContain(why);
  });

  it("refuses a missing victim, two of them, and segments that do not add up", () => {
    const good = journey([["receive-queue/loop-busy", 300, 1]]);
    expect(judge(scenario, [blocker]).why).toContain("0 journeys of the victim");
    expect(judge(scenario, [blocker, good, good]).why).toContain("2 journeys of the victim");
    expect(judge(scenario, [blocker, { ...good, totalNs: 1 }]).why).toContain("do not sum");
    expect(judge(scenario, [blocker, { ...good, startNs: 999 }]).why).toContain("does not start where");
  });
});
