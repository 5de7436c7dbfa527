/** What the kernel says about a connection (tracepoints), and ICMP errors about its segments. */
import { describe, expect, test } from "vitest";
import { Address } from "../../base/address.ts";
import { DropReason } from "../../base/drop-reasons.ts";
import { Errno } from "../../base/errno.ts";
import { MILLISECOND, SECOND } from "../../base/time.ts";
import { Ending, Held, Label, Point, type Tracepoints } from "../../base/tracepoints.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpState } from "../port.ts";
import type { Tcb } from "./tcp.ts";
import { TestHost, TestPeer } from "./tcp-testing.ts";

const NAMES = Object.fromEntries(Object.entries(Point).map(([name, id]) => [id, name]));

/** Writes every point down as a line of text. */
class Log implements Tracepoints {
  mask = 0;
  readonly lines: string[] = [];
  readonly tuples: Uint8Array[] = [];
  stamp(point: Point, id: number, a: number, b: number): void {
    this.lines.push(`${NAMES[point]} ${id} ${a} ${b}`);
  }
  link(point: Point, child: number, parent: number, lo: number, hi: number): void {
    this.lines.push(`${NAMES[point]} f${child} c${parent} [${lo},${hi})`);
  }
  drop(reason: number, id: number): void {
    this.lines.push(`drop ${reason} ${id}`);
  }
  label(kind: Label, id: number, bytes: Uint8Array, at: number, len: number): void {
    this.lines.push(`label ${kind} ${id} ${len}`);
    this.tuples.push(bytes.slice(at, at + len));
  }
  /** The lines since the last call. */
  take(): string[] {
    return this.lines.splice(0);
  }
}

function traced(backlog = 8): { host: TestHost; peer: TestPeer; log: Log; listener: Tcb } {
  const log = new Log();
  const host = new TestHost({ trace: log });
  return { host, peer: new TestPeer(host), log, listener: host.listen(80, backlog) };
}

describe("tracepoints", () => {
  test("one exchange, from SYN to the end", () => {
    const { host, peer, log, listener } = traced();
    const t0 = host.clock.nowNs;
    peer.send({ flags: "S", seq: 1000, mss: 1460 });
    // The listener is connection 1.
    expect(log.take()).toEqual([`synReceived 2 ${t0} ${t0}`, `label ${Label.tuple} 2 44`, "synAckSent 2 0 0"]);
    const view = new DataView(log.tuples[0].buffer);
    expect(Address.read(view, 0).toString()).toBe("10.0.0.1");
    expect(Address.read(view, 16).toString()).toBe("10.0.0.2");
    expect([view.getUint16(32), view.getUint16(34)]).toEqual([80, 40000]);

    const { seq: iss } = peer.expect({ flags: "S." });
    expect([view.getUint32(36), view.getUint32(40)]).toEqual([1000, iss]);
    host.advance(5 * MILLISECOND);
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 });
    expect(log.take()).toEqual(["established 2 1 9"]);
    const tcb = host.accept(listener);
    expect([tcb.connId, tcb.synReceivedNs, tcb.establishedNs]).toEqual([2, t0, t0 + 5 * MILLISECOND]);

    const t1 = host.clock.nowNs;
    peer.send({ flags: "P.", seq: 1001, ack: iss + 1, data: "GET /" });
    expect(log.take()).toEqual([`frameReceived 2 ${t1} ${t1}`, "segmentReceived f2 c2 [0,5)", "delivered 2 5 5"]);
    host.read(tcb);
    host.write(tcb, "200 OK");
    expect(log.take()).toEqual(["segmentSent f3 c2 [0,6)"]);
    host.write(tcb, "more");
    expect(log.take()).toEqual([`held 2 ${Held.nagle} 6`]);
    host.write(tcb, "!");
    expect(log.take()).toEqual([]);
    peer.send({ flags: ".", seq: 1006, ack: iss + 7 });
    expect(log.take()).toEqual([`acked 2 6 ${10 * 1460}`, "segmentSent f4 c2 [6,11)"]);
    host.advance(300 * MILLISECOND);
    expect(log.take()).toEqual(["lost 2 6 11", "segmentSent f5 c2 [6,11)"]);
    peer.send({ flags: "F.", seq: 1006, ack: iss + 12 });
    expect(log.take().slice(-1)).toEqual(["finReceived 2 5 0"]);
    host.tcp.close(tcb);
    expect(log.take()).toEqual(["finSent 2 11 0"]);
    peer.send({ flags: ".", seq: 1007, ack: iss + 13 });
    expect(log.take().slice(-1)).toEqual([`closed 2 ${Ending.fin} 11`]);
  });

  test("a SYN that is dropped tells when it came, and whose it was by the packet's first bytes", () => {
    const { host, peer, log, listener } = traced(0);
    peer.open(listener);
    host.listen(81, 0);
    log.take();
    const connect = (srcPort: number) => {
      peer.send({ flags: "S", seq: 1, mss: 1460, srcPort, dstPort: 81 });
      const { seq } = peer.expect({ flags: "S." });
      peer.send({ flags: ".", seq: 2, ack: seq + 1, srcPort, dstPort: 81 });
    };
    connect(5000);
    log.take();
    peer.send({ flags: "S", seq: 1, mss: 1460, srcPort: 5001, dstPort: 81 });
    const lines = log.take();
    expect(lines.map((line) => line.split(" ")[0])).toEqual(["frameReceived", "label", "drop"]);
    expect(lines[1]).toMatch(new RegExp(`^label ${Label.packet} `));
    expect(lines[2]).toMatch(new RegExp(`^drop ${DropReason.tcpListenOverflow} `));
  });

  test("a final ACK that meets a full accept queue: handshakeHeld", () => {
    const { peer, log } = traced(0);
    peer.send({ flags: "S", seq: 1, mss: 1460, srcPort: 5000 });
    const { seq } = peer.expect({ flags: "S." });
    peer.send({ flags: "S", seq: 1, mss: 1460, srcPort: 5001 });
    const { seq: other } = peer.expect({ flags: "S." });
    peer.send({ flags: ".", seq: 2, ack: other + 1, srcPort: 5001 });
    log.take();
    peer.send({ flags: ".", seq: 2, ack: seq + 1, srcPort: 5000 });
    expect(log.take()).toContain("handshakeHeld 2 1 1");
  });

  test("why output waits: rwnd, cwnd, cork, full queue; a closed window is its own point", () => {
    const { host, peer, log, listener } = traced();
    const { tcb, iss } = peer.open(listener);
    log.take();
    host.tcp.setOption(tcb, 6, 3, 1);
    host.write(tcb, "corked");
    expect(log.take()).toEqual([`held 2 ${Held.cork} 0`]);
    host.tcp.setOption(tcb, 6, 3, 0);
    log.take();
    host.write(tcb, new Uint8Array(50_000));
    expect(log.take().slice(-1)).toEqual([`held 2 ${Held.cwnd} ${6 + 9 * 1460}`]);
    peer.send({ flags: ".", seq: 1001, ack: iss + 7 + 9 * 1460, window: 0 });
    expect(log.take()).toEqual(["zeroWindow 2 1 13146", `acked 2 13146 ${20 * 1460}`, `held 2 ${Held.rwnd} 13146`]);
    while (host.write(tcb, new Uint8Array(50_000)) > 0);
    expect(log.take()).toEqual([`held 2 ${Held.fullQueue} ${tcb.writtenOffset}`]);
  });

  test("mask −1 records nothing and gives no frame ids", () => {
    const { host, peer, log, listener } = traced();
    log.mask = -1;
    const { tcb } = peer.open(listener);
    host.write(tcb, "x");
    expect(log.take()).toEqual([]);
    expect(host.env.nextFrameId()).toBe(1);
  });

  test("endings: refused, timed out, reset", () => {
    const { host, peer, log } = traced();
    const refused = host.connect(peer.address, 81);
    const syn = peer.expect({ flags: "S" });
    peer.send({ flags: "R.", ack: syn.seq + 1, srcPort: 81, dstPort: syn.srcPort });
    expect(log.take()).toContain(`closed ${refused.connId} ${Ending.refused} 0`);
    const silent = host.connect(peer.address, 82);
    host.advance(140 * SECOND);
    expect(log.take()).toContain(`closed ${silent.connId} ${Ending.timeout} 0`);
  });
});

/** An ICMP error that quotes the last segment `host` sent. */
function icmpAbout(
  host: TestHost,
  peer: TestPeer,
  seq: number,
  ports: readonly [number, number],
  type: number,
  code: number,
  mtu = 0,
): void {
  const skb = host.env.pool.alloc(64);
  if (skb === null) throw new Error("out of memory");
  const at = skb.put(28);
  ipv4.writeHeader(skb.bytes, skb.view, at, 1500, 0, ipv4.FLAG_DF, 64, 6, host.address.v4, peer.address.v4, 0);
  wire.setSrcPort(skb.view, at + 20, ports[0]);
  wire.setDstPort(skb.view, at + 20, ports[1]);
  wire.setSeq(skb.view, at + 20, seq >>> 0);
  host.ip.handler?.icmpError(skb, at, at + 20, type, code, mtu);
  host.env.pool.release(skb);
}

describe("ICMP errors", () => {
  test("hard while connecting", () => {
    const { host, peer } = traced();
    const tcb = host.connect(peer.address, 81);
    const syn = peer.expect({ flags: "S" });
    icmpAbout(host, peer, syn.seq, [syn.srcPort, 81], 3, 1);
    expect(tcb.state).toBe(TcpState.close);
    expect(tcb.takeError()).toBe(Errno.EHOSTUNREACH);
  });

  test("soft once established: it only explains a later timeout", () => {
    const { host, peer, listener } = traced();
    const { tcb, iss } = peer.open(listener);
    host.write(tcb, "x");
    icmpAbout(host, peer, iss + 1, [80, 40000], 3, 1);
    expect(tcb.state).toBe(TcpState.established);
    host.advance(1200 * SECOND);
    expect(tcb.takeError()).toBe(Errno.EHOSTUNREACH);
  });

  test("a sequence number that is not in flight is not believed", () => {
    const { host, peer } = traced();
    const tcb = host.connect(peer.address, 81);
    const syn = peer.expect({ flags: "S" });
    icmpAbout(host, peer, syn.seq + 1000, [syn.srcPort, 81], 3, 1);
    expect(tcb.state).toBe(TcpState.synSent);
    expect(host.counter("TcpExtOutOfWindowIcmps")).toBe(1);
  });

  test("fragmentation needed: the MSS shrinks and the bytes go again at once, in smaller pieces", () => {
    const { host, peer, listener } = traced();
    const { tcb, iss } = peer.open(listener);
    host.write(tcb, new Uint8Array(1460));
    peer.expect({ len: 1460 });
    icmpAbout(host, peer, iss + 1, [80, 40000], 3, 4, 1000);
    expect(peer.sent.map((s) => [s.seq - iss - 1, s.len])).toEqual([
      [0, 960],
      [960, 500],
    ]);
    expect(tcb.cwndSegments).toBe(10);
    peer.send({ flags: ".", seq: 1001, ack: iss + 1 + 1460 });
    expect(tcb.sendQueue.length).toBe(0);
    peer.forget();
    host.write(tcb, new Uint8Array(2000));
    expect(peer.sent.map((s) => s.len)).toEqual([960, 960, 80]);
  });
});
