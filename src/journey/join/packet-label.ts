/** Reads the borrowed bytes of `tuple` and `packet` labels: who spoke to whom. */
import { Address } from "../../base/address.ts";

/** A TCP 4-tuple as text, seen from the server. */
export interface Tuple {
  local: string;
  remote: string;
}

/** What the label of a connection says. */
export interface TupleLabel extends Tuple {
  /** Initial sequence numbers, received and sent: byte 0 of a stream follows its own. −1 if they are not known. */
  receiveIsn: number;
  sendIsn: number;
}

/** The head of a TCP packet, as far as it was kept; `local` is where it goes to. */
export interface PacketHead extends Tuple {
  syn: boolean;
  ack: boolean;
  fin: boolean;
  rst: boolean;
  seq: number;
  ackSeq: number;
  /** Bytes of payload it carries (or would have: the label may be cut). */
  dataBytes: number;
}

/** Flags of byte 13 of the TCP header (RFC 9293 §3.1). */
const Flag = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

/** "10.0.0.1:3000", "[fe80::1]:3000". */
function endpoint(address: Address, port: number): string {
  const text = address.toString();
  return text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`;
}

/** A `Label.tuple`: local address, remote address, local port, remote port, maybe initial sequence numbers. */
export function parseTuple(bytes: Uint8Array): TupleLabel | null {
  if (bytes.length < 36) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    local: endpoint(Address.read(view, 0), view.getUint16(32)),
    remote: endpoint(Address.read(view, 16), view.getUint16(34)),
    receiveIsn: bytes.length >= 44 ? view.getUint32(36) : -1,
    sendIsn: bytes.length >= 44 ? view.getUint32(40) : -1,
  };
}

/** The key of a connection in maps: its tuple as the server sees it. */
export function tupleKey({ local, remote }: Tuple): string {
  return `${remote} ${local}`;
}

/** The bytes of a TCP packet from its network header on (a `Label.packet`); null for anything else or less. */
export function parsePacket(bytes: Uint8Array): PacketHead | null {
  if (bytes.length < 40) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint8(0) >>> 4;
  if (version === 4) return parseV4(view);
  return version === 6 && bytes.length >= 60 ? parseV6(view) : null;
}

function parseV4(view: DataView): PacketHead | null {
  const headerLen = (view.getUint8(0) & 15) * 4;
  const first = (view.getUint16(6) & 0x1fff) === 0;
  if (view.getUint8(9) !== 6 || !first || headerLen < 20 || view.byteLength < headerLen + 14) return null;
  const source = Address.v4(view.getUint32(12));
  const destination = Address.v4(view.getUint32(16));
  return tcpHead(view, headerLen, view.getUint16(2) - headerLen, source, destination);
}

function parseV6(view: DataView): PacketHead | null {
  if (view.getUint8(6) !== 6) return null;
  return tcpHead(view, 40, view.getUint16(4), Address.read(view, 8), Address.read(view, 24));
}

function tcpHead(view: DataView, at: number, len: number, source: Address, destination: Address): PacketHead {
  const flags = view.getUint8(at + 13);
  return {
    local: endpoint(destination, view.getUint16(at + 2)),
    remote: endpoint(source, view.getUint16(at)),
    syn: (flags & Flag.syn) !== 0,
    ack: (flags & Flag.ack) !== 0,
    fin: (flags & Flag.fin) !== 0,
    rst: (flags & Flag.rst) !== 0,
    seq: view.getUint32(at + 4),
    ackSeq: view.getUint32(at + 8),
    dataBytes: Math.max(0, len - (view.getUint8(at + 12) >>> 4) * 4),
  };
}

/** Latin-1 bytes as text; control characters become "?" so that a target cannot draw on a terminal. */
export function labelText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte < 32 || (byte >= 127 && byte < 160) ? "?" : String.fromCharCode(byte);
  return text;
}
