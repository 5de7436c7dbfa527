/**
 * What random traffic once found, each as small as it can be told: a fault stays found when the seeds change.
 */
import { describe, expect, it } from "vitest";
import { MICROSECOND, MILLISECOND, SECOND } from "../../src/base/time.ts";
import { loseNext } from "../../src/sim/link-faults.ts";
import { breaches } from "../support/journey-contract.ts";
import { latin1, ResponseReader } from "../support/response-reader.ts";
import { SERVER_PORT, World } from "../support/sim-bench.ts";
import { WireWitness } from "../support/wire-witness.ts";

const REQUEST = "GET /hello HTTP/1.1\r\nHost: server\r\n\r\n";
const open = () => World.open({ seed: 1, delayNs: 2 * MILLISECOND, conservation: true });

describe("found by random traffic", () => {
  it("a FIN that overtakes the bytes before it takes none of them from the reader", async () => {
    const world = await open();
    const ask = async (): Promise<string> => {
      const conn = await world.dial();
      await world.user.sleep(10 * MILLISECOND);
      loseNext(world.link("client-link"), 0, true);
      conn.writeLatin1(REQUEST);
      conn.flush();
      await world.user.sleep(MILLISECOND);
      conn.closeWrite();
      const response = await new ResponseReader(conn).next("GET");
      conn.close();
      return latin1(response?.body ?? new Uint8Array(0));
    };
    expect(await world.sim.run(ask())).toBe("Hello from sojourn\n");
    await world.expectNothingLeft();
    expect(world.journeys().map((j) => [j.outcome, j.request?.bytes])).toEqual([["ok", REQUEST.length]]);
    world.close();
  });

  it("a SYN whose millisecond ends while it is sent still knows the echo of its timestamp", async () => {
    const world = await open();
    for (let beforeNs = 0; beforeNs <= 20 * MICROSECOND; beforeNs += 400) {
      const next = Math.ceil(world.sim.nowNs / MILLISECOND + 1) * MILLISECOND;
      await world.sim.sleep(next - beforeNs - world.sim.nowNs);
      const conn = await world.sim.run(world.dial());
      conn.close();
      await world.sim.sleep(50 * MILLISECOND);
    }
    expect(world.client.env.mib.get("TcpExtPAWSActive")).toBe(0);
    expect(world.client.env.mib.get("TcpExtTCPSynRetrans")).toBe(0);
    await world.expectNothingLeft();
    world.close();
  });

  it("a loss long ago does not shorten the patience for the next one", async () => {
    const world = await World.open({
      seed: 1,
      delayNs: 2 * MILLISECOND,
      site: { timeouts: { idleNs: 3600 * SECOND } },
    });
    const ask = async (): Promise<number> => {
      const conn = await world.dial();
      const reader = new ResponseReader(conn);
      for (const isLost of [false, true, false]) {
        if (isLost) loseNext(world.link("server-link"), 1, true);
        conn.writeLatin1(REQUEST);
        conn.flush();
        await reader.next("GET");
      }
      // An hour later the server closes; its FIN is lost more than once.
      world.link("server-link").set({ down: true }, 1);
      await world.user.sleep(3603 * SECOND);
      world.link("server-link").set({ down: false }, 1);
      const n = await conn.read(new Uint8Array(1));
      conn.close();
      return n;
    };
    expect(await world.sim.run(ask())).toBe(0);
    expect(world.server.env.mib.get("TcpExtTCPTimeouts")).toBeGreaterThan(2);
    expect(world.server.env.mib.get("TcpExtTCPAbortOnTimeout")).toBe(0);
    await world.expectNothingLeft();
    world.close();
  });

  it("segments that overtake each other by a millisecond are not old ones", async () => {
    const world = await World.open({ seed: 7, delayNs: 2 * MILLISECOND, link: { jitterNs: 400 * MICROSECOND } });
    const body = "x".repeat(100_000);
    const ask = async (): Promise<number | undefined> => {
      const conn = await world.dial();
      conn.writeLatin1(`POST /echo HTTP/1.1\r\nHost: s\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      conn.flush();
      const response = await new ResponseReader(conn).next("POST");
      conn.close();
      return response?.body.length;
    };
    expect(await world.sim.run(ask())).toBe(body.length);
    expect(world.server.env.mib.get("TcpExtTCPOFOQueue")).toBeGreaterThan(0);
    for (const host of world.topology.hosts) expect(host.env.mib.get("TcpExtPAWSEstab"), host.name).toBe(0);
    world.close();
  });

  it("a story that begins with a dropped SYN begins when that SYN came, to the nanosecond", async () => {
    const world = await World.open({ seed: 1, delayNs: 2 * MILLISECOND, site: { listen: { backlog: 0 } } });
    world.server.env.sysctl.tcpSyncookies = 0;
    const witness = new WireWitness(world.link("server-link"), SERVER_PORT);
    world.pauseAccept(true);
    const first = await world.sim.run(world.dial());
    await world.sim.sleep(10 * MILLISECOND);
    const second = world.dial();
    await world.sim.sleep(100 * MILLISECOND);
    world.pauseAccept(false);
    const conn = await world.sim.run(second);
    conn.writeLatin1(REQUEST);
    conn.flush();
    await world.sim.run(new ResponseReader(conn).next("GET"));
    conn.close();
    first.close();
    await world.expectNothingLeft();
    const syns = witness.of(conn.local.port).filter((s) => s.inward && s.flags === 2);
    const journey = world.journeys().find((j) => j.request !== null);
    expect(syns.length).toBe(2);
    expect(world.server.env.mib.get("TcpExtListenOverflows")).toBe(1);
    expect(journey?.startNs).toBe(syns[0]?.atNs);
    expect(journey?.marks[0]).toMatchObject({ name: "dropped", reason: "TCP_LISTEN_OVERFLOW", value: 1 });
    expect(breaches(journey as NonNullable<typeof journey>, new Set([1]))).toEqual([]);
    world.close();
  });

  it("a refused SYN has a journey from its arrival to its reset", async () => {
    const world = await open();
    const failure = await world.sim.run(world.dial(9).then(String, (error: { code: string }) => error.code));
    expect(failure).toBe("ECONNREFUSED");
    await world.sim.sleep(SECOND);
    const [journey] = world.journeys();
    expect(journey).toMatchObject({ outcome: "refused", request: null, frames: { received: 1, dropped: 1 } });
    expect(journey?.segments.map((s) => [s.stage, s.endNs > s.startNs])).toEqual([
      ["rx-ring", true],
      ["softirq", true],
    ]);
    await world.expectNothingLeft();
    world.close();
  });
});
