/**
 * What a TCP segment on a cable says, for the benches and judges that look at wires: header fields as a plain record.
 */
import * as ethernet from "../../src/wire/ethernet.ts";
import * as ipv4 from "../../src/wire/ipv4.ts";
import * as tcp from "../../src/wire/tcp.ts";

const IP_PROTOCOL_TCP = 6;

export interface SegmentView {
  /** Addresses as unsigned numbers. */
  readonly src: number;
  readonly dst: number;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly flags: number;
  readonly seq: number;
  readonly ack: number;
  /** As it stands in the header: unscaled. */
  readonly window: number;
  readonly payloadBytes: number;
}

/** The TCP segment in the Ethernet frame [at, at + len), or null: another frame, or one that a wire has damaged. */
export function viewSegment(bytes: Uint8Array, at: number, len: number): SegmentView | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = at + len;
  if (ethernet.check(view, at, end) !== 0 || ethernet.etherType(view, at) !== ethernet.EtherType.ipv4) return null;
  const ip = at + ethernet.HEADER_LEN;
  if (ipv4.check(view, ip, end) !== 0 || ipv4.protocol(view, ip) !== IP_PROTOCOL_TCP) return null;
  if (ipv4.isFragment(view, ip)) return null;
  const segment = ip + ipv4.ihl(view, ip);
  const segmentLen = ipv4.totalLen(view, ip) - ipv4.ihl(view, ip);
  const [src, dst] = [ipv4.src(view, ip), ipv4.dst(view, ip)];
  if (tcp.check(view, segment, segment + segmentLen) !== 0) return null;
  if (!tcp.hasGoodChecksumV4(bytes, segment, segmentLen, src, dst)) return null;
  return {
    src,
    dst,
    srcPort: tcp.srcPort(view, segment),
    dstPort: tcp.dstPort(view, segment),
    flags: tcp.flags(view, segment),
    seq: tcp.seq(view, segment),
    ack: tcp.ack(view, segment),
    window: tcp.window(view, segment),
    payloadBytes: segmentLen - tcp.dataOffset(view, segment),
  };
}

/** "SA 1448 bytes, seq 17 ack 4 win 502": one segment for messages. */
export function describeSegment(s: SegmentView): string {
  return `${tcp.flagLetters(s.flags)} ${s.payloadBytes} bytes, seq ${s.seq} ack ${s.ack} win ${s.window}`;
}
