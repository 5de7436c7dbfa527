/**
 * Completes the checksum of a captured frame. A frame seen at a device with checksum offload holds only the sum of its
 * pseudo header: right on the way to the device, wrong for whoever reads the capture.
 */
import { finish, sum } from "../../base/checksum.ts";

const ETHERNET_HEADER_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const TCP = 6;
const UDP = 17;
const TCP_CHECKSUM_AT = 16;
const UDP_CHECKSUM_AT = 6;
const V6_HEADER_BYTES = 40;

/** Writes the TCP or UDP checksum of the Ethernet frame `bytes[at … at+len)`; any other frame stays as it is. */
export function completeChecksum(bytes: Uint8Array, at: number, len: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, len);
  if (len < ETHERNET_HEADER_BYTES + 20) return;
  const net = ETHERNET_HEADER_BYTES;
  const etherType = view.getUint16(12);
  if (etherType === ETHERTYPE_IPV4) completeV4(bytes, at, view, net);
  else if (etherType === ETHERTYPE_IPV6 && len >= net + V6_HEADER_BYTES) {
    const protocol = view.getUint8(net + 6);
    const payloadBytes = view.getUint16(net + 4);
    complete(bytes, at, view, net + V6_HEADER_BYTES, payloadBytes, protocol, sum(bytes, at + net + 8, 32));
  }
}

function completeV4(bytes: Uint8Array, at: number, view: DataView, net: number): void {
  const headerLen = (view.getUint8(net) & 15) * 4;
  const payloadBytes = view.getUint16(net + 2) - headerLen;
  const isFragment = (view.getUint16(net + 6) & 0x3fff) !== 0;
  if (isFragment || headerLen < 20) return;
  complete(bytes, at, view, net + headerLen, payloadBytes, view.getUint8(net + 9), sum(bytes, at + net + 12, 8));
}

/** RFC 9293 §3.1, RFC 768: `addresses` is the partial sum of both addresses. */
function complete(
  bytes: Uint8Array,
  at: number,
  view: DataView,
  transport: number,
  payloadBytes: number,
  protocol: number,
  addresses: number,
): void {
  const field = protocol === TCP ? TCP_CHECKSUM_AT : protocol === UDP ? UDP_CHECKSUM_AT : -1;
  if (field < 0 || payloadBytes < field + 2 || transport + payloadBytes > view.byteLength) return;
  view.setUint16(transport + field, 0);
  const checksum = finish(sum(bytes, at + transport, payloadBytes, addresses + protocol + payloadBytes));
  view.setUint16(transport + field, protocol === UDP && checksum === 0 ? 0xffff : checksum);
}
