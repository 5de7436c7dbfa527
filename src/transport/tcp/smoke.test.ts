import { expect, test } from "vitest";
import { TcpState } from "../port.ts";
import { SECOND } from "../../base/time.ts";
import { TestWire } from "./tcp-testing.ts";

test("connect, exchange bytes, close both ways: everything comes back", () => {
  const wire = new TestWire();
  const [client, server] = wire.pair();
  expect(client.state).toBe(TcpState.established);
  expect(server.state).toBe(TcpState.established);
  wire.a.write(client, "GET / HTTP/1.1\r\n\r\n");
  wire.runFor(SECOND);
  expect(wire.b.readText(server)).toBe("GET / HTTP/1.1\r\n\r\n");
  wire.b.write(server, "HTTP/1.1 200 OK\r\n\r\n");
  wire.runFor(SECOND);
  expect(wire.a.readText(client)).toBe("HTTP/1.1 200 OK\r\n\r\n");
  wire.b.tcp.close(server);
  wire.runFor(SECOND);
  expect(client.state).toBe(TcpState.closeWait);
  expect(wire.a.read(client)).toBe(0);
  wire.a.tcp.close(client);
  wire.runFor(SECOND);
  expect(wire.b.tcp.rows().map((r) => r.state)).toEqual(["LISTEN", "TIME-WAIT"]);
  wire.runFor(61 * SECOND);
  expect(wire.b.tcp.rows().map((r) => r.state)).toEqual(["LISTEN"]);
  expect(wire.a.tcp.rows()).toEqual([]);
  expect(wire.a.env.pool.arena.outstanding + wire.b.env.pool.arena.outstanding).toBe(0);
});
