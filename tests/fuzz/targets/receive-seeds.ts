/** Scripts of ordinary and of sad lives: what the mutations of the receive path start from. */
import * as arp from "../../../src/wire/arp.ts";
import { EtherType } from "../../../src/wire/ethernet.ts";
import * as tcp from "../../../src/wire/tcp.ts";
import * as udp from "../../../src/wire/udp.ts";
import {
  Call,
  call,
  etherFrame,
  frameOp,
  icmpOp,
  ipFrame,
  type SegmentPlan,
  segmentOp,
  superSegmentOp,
  udpOp,
  wait,
} from "./receive-script.ts";
import { BEHIND, DNS_PORT, HOST, HTTP_PORT, OWN_PORT, PEER, PEER_PORT } from "./receive-world.ts";

const { fin, syn, rst, psh, ack } = tcp.Flag;
const MSS: tcp.TcpOption = { kind: "mss", mss: 1460 };
const NOP: tcp.TcpOption = { kind: "nop" };
const STAMPS: tcp.TcpOption = { kind: "timestamps", tsVal: 1000, tsEcr: 0 };
const SYN_OPTIONS: readonly tcp.TcpOption[] = [
  MSS,
  { kind: "sackPermitted" },
  STAMPS,
  NOP,
  { kind: "windowScale", shift: 7 },
];

/** Handshake and accept. */
function open(port = 40_000, options: readonly tcp.TcpOption[] = [MSS]): number[] {
  return [
    ...segmentOp({ flags: syn, port, options }),
    ...segmentOp({ flags: ack, port, options: stamped(options) }),
    ...call(Call.accept),
  ];
}

/** Timestamps in every segment, if the SYN had them. */
function stamped(options: readonly tcp.TcpOption[]): readonly tcp.TcpOption[] {
  return options.includes(STAMPS) ? [NOP, NOP, STAMPS] : [];
}

function data(seq: number, len: number, more: Partial<SegmentPlan> = {}): number[] {
  return segmentOp({ flags: ack | psh, seq, len, ...more });
}

function arpFrame(operation: number, senderIp: number, targetIp: number): number[] {
  const mac = "02:00:00:00:02:00";
  const message = arp.emit({ operation, senderMac: mac, senderIp, targetMac: "00:00:00:00:00:00", targetIp });
  return frameOp(etherFrame(EtherType.arp, message, new Uint8Array(6).fill(255)));
}

/** A segment of the host's connection to the peer, as an ICMP error quotes it. */
function quoted(srcPort: number, dstPort: number): Uint8Array {
  return ipFrame(6, new Uint8Array(0), {
    src: HOST.v4,
    dst: PEER.v4,
    payload: Uint8Array.of(srcPort >>> 8, srcPort, dstPort >>> 8, dstPort, 0, 0, 0, 0),
  }).slice(14);
}

/** Both ends finish in turn; in the other order; at the same time. */
function closings(): number[][] {
  return [
    [
      ...open(),
      ...segmentOp({ flags: fin | ack }),
      ...call(Call.read),
      ...call(Call.close),
      ...segmentOp({ flags: ack, seq: 1, ack: 1 }),
    ],
    [
      ...open(),
      ...call(Call.shutdown),
      ...segmentOp({ flags: ack, ack: 1 }),
      ...segmentOp({ flags: fin | ack, ack: 1 }),
      ...call(Call.close),
      ...segmentOp({ flags: syn, seq: 50_000 }),
      ...wait(8),
    ],
    [
      ...open(),
      ...call(Call.close),
      ...segmentOp({ flags: fin | ack }),
      ...segmentOp({ flags: ack, seq: 1, ack: 1 }),
      ...wait(8),
    ],
    [...open(), ...data(0, 10), ...call(Call.close)],
    [...open(), ...call(Call.write), ...call(Call.abort)],
    [...open(), ...call(Call.lingerZero), ...call(Call.close)],
    [...open(), ...call(Call.close), ...segmentOp({ flags: ack, ack: 1 }), ...data(0, 30), ...wait(7)],
    [...open(), ...segmentOp({ flags: rst, seq: 0 }), ...call(Call.read)],
    [...open(), ...segmentOp({ flags: rst, seq: 100 }), ...segmentOp({ flags: syn, seq: 100 }), ...call(Call.write)],
  ];
}

/** Data in order, out of order, doubled, overlapping, beyond the window; acknowledged, lost, probed. */
function transfers(): number[][] {
  const selective = (left: number, right: number): Partial<SegmentPlan> => ({
    flags: ack,
    options: [NOP, NOP, STAMPS, NOP, NOP, { kind: "sack", blocks: [[left, right]] }],
  });
  const stampedOpen = open(40_001, SYN_OPTIONS);
  const onStamped = (plan: Partial<SegmentPlan>) =>
    segmentOp({ flags: ack, port: 40_001, options: [NOP, NOP, STAMPS], ...plan });
  return [
    [
      ...open(),
      ...data(0, 100),
      ...call(Call.read),
      ...call(Call.write),
      ...segmentOp({ flags: ack, seq: 100, ack: 100 }),
    ],
    [...open(), ...data(0, 1460), ...data(1460, 1460), ...wait(3), ...call(Call.read)],
    [
      ...open(),
      ...data(200, 100),
      ...data(100, 100),
      ...data(400, 50),
      ...data(0, 250),
      ...data(250, 200),
      ...call(Call.read),
    ],
    [...open(), ...data(0, 100), ...data(50, 100), ...data(0, 300), ...call(Call.readOne), ...call(Call.read)],
    [
      ...open(),
      ...call(Call.smallBuffer),
      ...data(0, 1460),
      ...data(1460, 1460),
      ...data(2920, 1460),
      ...call(Call.read),
    ],
    [...open(), ...data(60_000, 1460), ...data(70_000, 1), ...data(-1, 1), ...wait(4)],
    [
      ...open(),
      ...segmentOp({ flags: ack, window: 0 }),
      ...call(Call.writeMuch),
      ...wait(6),
      ...wait(9),
      ...segmentOp({ flags: ack, window: 9000 }),
    ],
    [...open(), ...call(Call.keepAlive), ...wait(8), ...segmentOp({ flags: ack }), ...wait(10)],
    [
      ...stampedOpen,
      ...onStamped({ flags: ack | psh, len: 20 }),
      ...call(Call.writeMuch),
      ...onStamped({ seq: 20, ...selective(1448, 2896) }),
      ...onStamped({ seq: 20, ...selective(1448, 5792) }),
      ...onStamped({ seq: 20, ...selective(1448, 8688) }),
      ...wait(4),
      ...onStamped({ seq: 20, ack: 20_000 }),
    ],
    [
      ...stampedOpen,
      ...call(Call.writeMuch),
      ...onStamped({ ack: 0 }),
      ...onStamped({ ack: 0 }),
      ...onStamped({ ack: 0 }),
      ...onStamped({ ack: 1448 }),
      ...wait(5),
      ...wait(6),
    ],
    [
      ...stampedOpen,
      ...call(Call.cork),
      ...call(Call.write),
      ...call(Call.cork),
      ...call(Call.noDelay),
      ...call(Call.write),
      ...onStamped({ ack: 200 }),
    ],
  ];
}

/** Super-segments: received, doubled, out of order; passed on to a smaller link, with and without leave to cut. */
function superSegments(): number[][] {
  const push = { flags: ack | psh };
  const read = call(Call.read);
  return [
    [
      ...open(),
      ...superSegmentOp({ ...push, seq: 0 }, 14_600, 1460),
      ...read,
      ...superSegmentOp({ ...push, seq: 7300 }, 14_600, 1460),
      ...read,
    ],
    [
      ...open(),
      ...superSegmentOp({ ...push, seq: 3000 }, 9000, 1000),
      ...superSegmentOp({ ...push, seq: 0 }, 3500, 700),
      ...read,
    ],
    [...open(), ...superSegmentOp({ flags: ack | fin, seq: 0 }, 60_000, 1448), ...read, ...call(Call.close)],
    [...superSegmentOp(push, 30_000, 1400, BEHIND), ...superSegmentOp(push, 9000, 500, BEHIND)],
  ];
}

/** Half-open, full, simultaneous, refused. */
function openings(): number[][] {
  const flood = Array.from({ length: 6 }, (_, i) => segmentOp({ flags: syn, port: 41_000 + i, options: SYN_OPTIONS }));
  return [
    flood.flat(),
    [
      ...open(1),
      ...open(2),
      ...segmentOp({ flags: syn, port: 3 }),
      ...segmentOp({ flags: ack, port: 3 }),
      ...wait(5),
      ...call(Call.accept),
    ],
    [...flood.flat(), ...wait(5), ...wait(6), ...wait(9)],
    [...segmentOp({ flags: syn }), ...segmentOp({ flags: ack, ack: 77 }), ...segmentOp({ flags: rst }), ...wait(8)],
    [...segmentOp({ flags: syn | ack, port: 5 }), ...segmentOp({ flags: ack, port: 6, hostPort: 81, len: 4 })],
    [
      ...call(Call.connect),
      ...segmentOp({ flags: syn | ack, port: PEER_PORT, hostPort: OWN_PORT, options: [MSS] }),
      ...call(Call.write),
      ...segmentOp({ flags: ack, port: PEER_PORT, hostPort: OWN_PORT, ack: 100 }),
    ],
    [
      ...call(Call.connect),
      ...segmentOp({ flags: syn, port: PEER_PORT, hostPort: OWN_PORT }),
      ...segmentOp({ flags: ack, port: PEER_PORT, hostPort: OWN_PORT }),
    ],
    [...call(Call.connect), ...segmentOp({ flags: rst | ack, port: PEER_PORT, hostPort: OWN_PORT })],
    // The quote is cut off before the sequence number; the frame before had it at that place.
    [
      ...call(Call.connect),
      ...icmpOp({ type: 3, code: 4, rest: 1500, payload: quoted(OWN_PORT, PEER_PORT) }),
      ...icmpOp({ type: 3, code: 3, rest: 0, payload: quoted(OWN_PORT, PEER_PORT).slice(0, 24) }),
    ],
    [...call(Call.connect), ...wait(9), ...icmpOp({ type: 3, code: 3, rest: 0, payload: quoted(OWN_PORT, PEER_PORT) })],
    [
      ...open(),
      ...call(Call.writeMuch),
      ...icmpOp({ type: 3, code: 4, rest: 600, payload: quoted(HTTP_PORT, 40_000) }),
      ...wait(5),
    ],
  ];
}

/** Everything that is not TCP. */
function others(): number[][] {
  const ping = { type: 8, code: 0, rest: 0x10001, payload: new Uint8Array(56) };
  const behind = { dst: BEHIND.v4 };
  const datagram = udp.emit({ srcPort: 5000, dstPort: DNS_PORT, checksum: 0, payload: new Uint8Array(1000) });
  const piece = (from: number, to: number): number[] =>
    frameOp(
      ipFrame(17, datagram.slice(from, to), { id: 9, fragmentOffset: from, moreFragments: to < datagram.length }),
    );
  return [
    [...icmpOp(ping), ...icmpOp({ ...ping, payload: new Uint8Array(1400) }), ...icmpOp(ping, { dst: 0xc61200ff })],
    [...udpOp(DNS_PORT, 100), ...udpOp(9, 30), ...call(Call.datagrams), ...udpOp(DNS_PORT, 9, { dst: 0xc61200ff })],
    [
      ...udpOp(OWN_PORT, 9, {}, PEER_PORT),
      ...call(Call.sendDatagram, 2),
      ...icmpOp({ type: 3, code: 3, rest: 0, payload: quoted(OWN_PORT, PEER_PORT) }),
    ],
    [
      ...arpFrame(1, PEER.v4, HOST.v4),
      ...arpFrame(2, PEER.v4, HOST.v4),
      ...arpFrame(1, 0, HOST.v4),
      ...arpFrame(1, 0xc6120005, 0xc6120005),
    ],
    [
      ...udpOp(7, 1200, behind),
      ...udpOp(7, 100, { ...behind, ttl: 1 }),
      ...udpOp(7, 1200, { ...behind, dontFragment: true }),
      ...udpOp(7, 5, { dst: 0x08080808 }),
    ],
    [...udpOp(7, 50, { dst: 0xc6120163 }), ...wait(6), ...udpOp(7, 50, { dst: 0xc6120163 }), ...wait(8)],
    [...piece(0, 504), ...piece(504, 1008), ...call(Call.datagrams)],
    [...piece(504, 1008), ...piece(496, 800), ...piece(0, 504), ...wait(7)],
    [...piece(0, 504), ...wait(7)],
    [
      ...udpOp(DNS_PORT, 4, { src: 0x7f000001 }),
      ...udpOp(DNS_PORT, 4, { dst: 0xe0000001 }),
      ...udpOp(DNS_PORT, 4, { src: HOST.v4 }),
    ],
    [
      ...udpOp(7, 300, { ...behind, options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) }),
      ...frameOp(ipFrame(132, new Uint8Array(20))),
    ],
    frameOp(etherFrame(EtherType.ipv6, new Uint8Array(60))),
    // No header fits.
    frameOp(new Uint8Array(13), 0),
  ];
}

export function receiveSeeds(): readonly Uint8Array[] {
  return [...openings(), ...transfers(), ...closings(), ...superSegments(), ...others()].map((script) =>
    Uint8Array.from(script),
  );
}
