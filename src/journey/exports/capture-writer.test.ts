import { describe, expect, it } from "vitest";
import { RecordScript } from "../testing/record-script.ts";
import { CaptureWriter } from "./capture-writer.ts";
import { completeChecksum } from "./frame-checksum.ts";
import { frameComments, stageAt, tcpHeadOf } from "./frame-comments.ts";

const CLIENT = 0x0a000002;
const SERVER = 0x0a000001;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
/** Initial sequence numbers of `RecordScript`: the server's stream comes round after 15 bytes. */
const CLIENT_ISN = 1000;
const SERVER_ISN = 0xffff_fff0;

interface Segment {
  fromServer?: boolean;
  port?: number;
  seq: number;
  ack?: number;
  flags: number;
  data?: number;
}

/** An Ethernet frame with `data` bytes of payload, checksums zero. */
function frame({ fromServer = false, port = 40_001, seq, ack = 0, flags, data = 0 }: Segment): Uint8Array {
  const bytes = new Uint8Array(14 + 40 + data).fill(0xa5, 54);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, 40 + data);
  view.setUint8(23, 6);
  view.setUint32(26, fromServer ? SERVER : CLIENT);
  view.setUint32(30, fromServer ? CLIENT : SERVER);
  view.setUint16(34, fromServer ? 3000 : port);
  view.setUint16(36, fromServer ? port : 3000);
  view.setUint32(38, seq);
  view.setUint32(42, ack);
  view.setUint8(46, 0x50);
  view.setUint8(47, flags);
  return bytes;
}

/** RFC 1071 word by word: the one's-complement sum of a TCP or UDP packet with its pseudo header; 0xffff is good. */
function sumOfAll(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const len = view.getUint16(16) - 20;
  let total = view.getUint8(23) + len;
  for (let at = 26; at < 34; at += 2) total += view.getUint16(at);
  for (let i = 0; i < len; i++) total += i % 2 === 0 ? view.getUint8(34 + i) * 256 : view.getUint8(34 + i);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  return total;
}

/** A request of 50 bytes and a response of 30, on connection 1: SYN at 100, end at 200. */
function exchange(): RecordScript {
  const script = new RecordScript();
  script.at(100).syn(1, 100, 100).synAck(1).at(110).established(1).at(115).accepted(1);
  script.at(120).segment(1, 0, 50, 120, 120).at(125).read(1, 0, 50).readEnd(1, 50).parseBegin(1, 0);
  script.request(1, 1, 0, 50, 50, "/hello?q=secret").routed(1).at(130).begin(1).at(150).end(1);
  script.responseBegin(1, 0).response(1, 1, 0, 30).write(1, 0, 30).writeEnd(1, 30);
  script.at(160).transmitted(script.cut(1, 0, 30), 160);
  return script.at(200).acked(1, 30);
}

function comments(script: RecordScript, segment: Segment, atNs: number, again = false): string[] {
  const bytes = frame(segment);
  const head = tcpHeadOf(bytes, 0, bytes.length);
  const journeys = script.collector.byConnection();
  if (head === null) throw new Error("no TCP frame");
  return frameComments({ head, atNs, again }, ({ local, remote }) => journeys.get(`${remote} ${local}`) ?? []);
}

describe("the comments of a frame", () => {
  it("name the journey, what the frame is to it, and where the frontier was", () => {
    const script = exchange();
    script.journeys();
    const head = { seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1, flags: ACK, data: 50 };
    const name = "journey 1 GET /hello?q=…";
    expect(comments(script, { seq: CLIENT_ISN, flags: SYN }, 99)).toEqual([`${name}: SYN, before its start`]);
    expect(comments(script, head, 119)).toEqual([`${name}: request head, stage client`]);
    expect(comments(script, { ...head, data: 20 }, 119)).toEqual([`${name}: request head bytes 0–19, stage client`]);
    expect(comments(script, head, 122, true)).toEqual([`${name}: retransmitted request head, stage receive-queue`]);
    const response = { fromServer: true, seq: SERVER_ISN + 1, ack: CLIENT_ISN + 51, flags: ACK };
    expect(comments(script, response, 140)).toEqual([`${name}: ACK of the request, stage process`]);
    // Bytes 20 to 29 lie behind the 32-bit border.
    expect(comments(script, { ...response, seq: 5, data: 10 }, 160)).toEqual([
      `${name}: response bytes 20–29, stage output → ack-wait`,
    ]);
    const last = { seq: CLIENT_ISN + 51, ack: SERVER_ISN + 31 - 0x1_0000_0000, flags: ACK };
    expect(comments(script, last, 190)).toEqual([
      `${name}: last response byte acknowledged: ends the journey, stage ack-wait`,
    ]);
    expect(comments(script, last, 201)).toEqual([]);
    expect(comments(script, { ...last, ack: SERVER_ISN + 11 }, 190)).toEqual([
      `${name}: ACK of response bytes 0–9, stage ack-wait`,
    ]);
    expect(comments(script, { ...last, flags: FIN | ACK }, 300)).toEqual([]);
  });

  it("say what is not there yet: a handshake, a request", () => {
    const script = new RecordScript();
    script.at(100).syn(1, 100, 100);
    script.collector.drain(1000);
    const syn = { seq: CLIENT_ISN, flags: SYN };
    expect(comments(script, syn, 500)).toEqual(["journey -1 (connecting): SYN, stage syn-queue"]);
    expect(comments(script, { ...syn, seq: 7 }, 500)).toEqual([]); // another connection of that tuple
    script.at(1500).established(1);
    script.collector.drain(2000);
    const ack = { seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1, flags: ACK };
    expect(comments(script, ack, 1400)).toEqual(["journey -1 (connecting): ACK of the SYN-ACK, stage syn-queue"]);
    expect(comments(script, { ...ack, flags: RST | ACK }, 1600)[0]).toMatch(
      /^journey -1 \(no request yet\): .*RST, stage/,
    );
  });

  it("no journey, no comment: strangers, other ports, other protocols", () => {
    const script = exchange();
    script.journeys();
    expect(comments(script, { port: 40_009, seq: CLIENT_ISN, flags: SYN }, 100)).toEqual([]);
    expect(comments(script, { seq: CLIENT_ISN + 900, ack: 1, flags: ACK, data: 5 }, 900)).toEqual([]);
    const udp = frame({ seq: 0, flags: 0 });
    udp[23] = 17;
    expect(tcpHeadOf(udp, 0, udp.length)).toBeNull();
    expect(tcpHeadOf(udp, 0, 10)).toBeNull();
  });

  it("the stage at every instant is that of the journey's segment", () => {
    const journey = exchange().journey(1);
    for (const { stage, startNs, endNs } of journey.segments) {
      for (let ns = startNs + 1; ns < endNs; ns++) expect(stageAt(journey, ns)).toBe(`stage ${stage}`);
    }
    expect(stageAt(journey, journey.startNs - 1)).toBe("before its start");
    expect(stageAt(journey, journey.startNs + journey.totalNs + 1)).toBe("after its end");
  });
});

describe("completing a checksum", () => {
  it.each([0, 1, 63, 64, 1460, 65_495])("TCP with %i bytes of payload, whatever stands in the field", (data) => {
    const bytes = frame({ seq: 1, ack: 2, flags: ACK, data });
    new DataView(bytes.buffer).setUint16(50, 0x1234);
    const padded = new Uint8Array(bytes.length + 11);
    padded.set(bytes, 5);
    completeChecksum(padded, 5, bytes.length);
    expect(sumOfAll(padded.subarray(5, 5 + bytes.length))).toBe(0xffff);
    expect(Buffer.compare(padded.subarray(5 + 52, 5 + bytes.length), bytes.subarray(52))).toBe(0);
  });

  it("UDP: a sum of zero is sent as 0xffff (RFC 768)", () => {
    const bytes = new Uint8Array(14 + 20 + 10);
    const view = new DataView(bytes.buffer);
    view.setUint16(12, 0x0800);
    view.setUint8(14, 0x45);
    view.setUint16(16, 30);
    view.setUint8(23, 17);
    view.setUint16(38, 10);
    // Protocol 17, length 10 twice: 37. A payload of 0xffff − 37 makes the sum 0xffff, so the checksum 0.
    view.setUint16(42, 0xffff - 37);
    completeChecksum(bytes, 0, bytes.length);
    expect(view.getUint16(40)).toBe(0xffff);
  });

  it("leaves alone what has none, fragments, and frames that are cut", () => {
    const cut = frame({ seq: 1, flags: ACK, data: 100 }).slice(0, 100);
    const fragment = frame({ seq: 1, flags: ACK, data: 100 });
    fragment[20] = 0x20;
    const arp = frame({ seq: 1, flags: ACK, data: 100 });
    arp[13] = 0x06;
    for (const bytes of [cut, fragment, arp, new Uint8Array(20)]) {
      const before = bytes.slice();
      completeChecksum(bytes, 0, bytes.length);
      expect(bytes).toEqual(before);
    }
  });
});

describe("the capture writer", () => {
  const open = (heldBytes?: number) =>
    new CaptureWriter({
      originUnixNs: 0n,
      journeys: () => new Map(),
      holdNs: 100,
      ...(heldBytes ? { heldBytes } : {}),
    });
  const bytes = frame({ seq: 1, flags: ACK, data: 46 });
  const seen = (atNs: number) => ({ iface: 0, atNs, bytes, at: 0, len: bytes.length, partial: true });
  /** Packet blocks (type 6) of a piece, their text. */
  const packets = (piece: Uint8Array): string[] => {
    const view = new DataView(piece.buffer, piece.byteOffset, piece.byteLength);
    const found: string[] = [];
    for (let at = 0; at < piece.length; at += view.getUint32(at + 4, true)) {
      const block = piece.subarray(at, at + view.getUint32(at + 4, true));
      if (view.getUint32(at, true) === 6) found.push(Buffer.from(block).toString("latin1"));
    }
    return found;
  };

  it("holds a frame so long, then writes it; heads once", () => {
    const writer = open();
    expect(writer.addInterface("eth0")).toBe(0);
    writer.push(seen(1000));
    writer.push(seen(1050));
    expect(packets(writer.flush(1099))).toHaveLength(0);
    expect(packets(writer.flush(1100))).toHaveLength(1);
    expect(writer.flush(1149)).toHaveLength(0);
    expect(packets(writer.finish())).toHaveLength(1);
    expect(writer.finish()).toHaveLength(0);
  });

  it("leaves out what is above its limit, and the next frame says how many", () => {
    const writer = open(2 * bytes.length);
    writer.addInterface("eth0");
    expect([1, 2, 3, 4].map((ns) => writer.push(seen(ns)))).toEqual([true, true, false, false]);
    expect(packets(writer.flush(200))).toHaveLength(2);
    expect(writer.push(seen(300))).toBe(true);
    expect(packets(writer.finish())[0]).toContain("2 frames before this one left out");
  });

  it("leaves the bytes of whoever captures alone, and completes the checksum of its copy", () => {
    const before = bytes.slice();
    const writer = open();
    writer.push(seen(1));
    expect(bytes).toEqual(before);
    const completed = bytes.slice();
    completeChecksum(completed, 0, completed.length);
    expect(packets(writer.finish())[0]).toContain(Buffer.from(completed).toString("latin1"));
  });
});
