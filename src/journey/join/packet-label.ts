/** Reads the borrowed bytes of `tuple` and `packet` labels: who spoke to whom. */
import { Address } from "../../base/address.ts";

/** A TCP 4-tuple as text, seen from the server. */
export interface Tuple {
  local: string;
  remote: string;
}

/** The head of a dropped packet, as far as it was kept. */
export interface PacketHead extends Tuple {
  syn: boolean;
  ack: boolean;
  /** Carries payload (or would have: the label may be cut). */
  data: boolean;
}

const FLAG_SYN = 2;
const FLAG_ACK = 16;

/** "10.0.0.1:3000", "[fe80::1]:3000". */
function endpoint(address: Address, port: number): string {
  const text = address.toString();
  return text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`;
}

/** A `Label.tuple`: local address, remote address, local port, remote port. */
export function parseTuple(bytes: Uint8Array): Tuple | null {
  if (bytes.length < 36) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    local: endpoint(Address.read(view, 0), view.getUint16(32)),
    remote: endpoint(Address.read(view, 16), view.getUint16(34)),
  };
}

/** A `Label.packet` of a TCP packet on its way in; null for anything else or less. */
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
    syn: (flags & FLAG_SYN) !== 0,
    ack: (flags & FLAG_ACK) !== 0,
    data: len > (view.getUint8(at + 12) >>> 4) * 4,
  };
}

/** Latin-1 bytes as text; control characters become "?" so that a target cannot draw on a terminal. */
export function labelText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte < 32 || (byte >= 127 && byte < 160) ? "?" : String.fromCharCode(byte);
  return text;
}
