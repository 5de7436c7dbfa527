/**
 * The header in front of each frame of a TAP: what checksums and super-segments leave to the other side (virtio 1.2
 * §5.1.6, struct virtio_net_hdr; Linux include/linux/virtio_net.h).
 *
 * ```
 *  0      1         2        4         6            8              10
 *  │flags │gso type │hdr len │gso size │csum start  │csum offset   │ Ethernet header …
 * ```
 * Little-endian on the machines we run on. With 10 bytes of it the IP header behind stands at a multiple of four.
 */
import { type SkBuff, Summed } from "../skb/skb.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";

export const VIRTIO_NET_HEADER_BYTES = 10;

const FLAGS = 0;
const GSO_TYPE = 1;
const HEADER_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;
/** The checksum field holds the pseudo-header sum; the rest is to be summed. */
const NEEDS_CSUM = 1;
/** The checksum was verified. */
const DATA_VALID = 2;
const GSO_NONE = 0;
const GSO_TCPV4 = 1;
/** A super-segment with CWR: only its first segment shall carry it. */
const GSO_ECN = 0x80;
const IPPROTO_TCP = 6;
/** Offset of the checksum in a UDP header. */
const UDP_CHECKSUM = 6;

/**
 * Writes the header of a frame about to leave into the 10 bytes in front of its data. *Borrows* the skb; a partial
 * checksum needs `net` and `transport`.
 */
export function writeVirtioHeader(skb: SkBuff): void {
  const { view } = skb;
  const at = skb.data - VIRTIO_NET_HEADER_BYTES;
  const isPartial = skb.summed === Summed.partial;
  const isSuper = skb.gsoSize > 0;
  const start = isPartial ? skb.transport - skb.data : 0;
  view.setUint8(at + FLAGS, isPartial ? NEEDS_CSUM : 0);
  view.setUint8(at + GSO_TYPE, isSuper ? gsoType(skb) : GSO_NONE);
  view.setUint16(at + HEADER_LEN, isSuper ? start + tcp.dataOffset(view, skb.transport) : 0, true);
  view.setUint16(at + GSO_SIZE, skb.gsoSize, true);
  view.setUint16(at + CSUM_START, start, true);
  view.setUint16(at + CSUM_OFFSET, isPartial ? checksumOffset(skb) : 0, true);
}

/**
 * Reads the header in front of a received frame: what is known of its checksum, and whether it stands for many.
 * *Borrows* the skb. False if it makes no sense.
 */
export function readVirtioHeader(skb: SkBuff): boolean {
  const { view } = skb;
  const at = skb.data - VIRTIO_NET_HEADER_BYTES;
  const flags = view.getUint8(at + FLAGS);
  if ((flags & NEEDS_CSUM) !== 0) {
    const field = view.getUint16(at + CSUM_START, true) + view.getUint16(at + CSUM_OFFSET, true);
    if (field + 2 > skb.len) return false;
    skb.summed = Summed.partial;
  } else if ((flags & DATA_VALID) !== 0) {
    skb.summed = Summed.unnecessary;
  }
  const type = view.getUint8(at + GSO_TYPE) & ~GSO_ECN;
  if (type === GSO_NONE) return true;
  skb.gsoSize = view.getUint16(at + GSO_SIZE, true);
  // Nothing else was offered, and the edge can cut only what has an unfinished sum.
  return type === GSO_TCPV4 && skb.gsoSize > 0 && skb.summed === Summed.partial;
}

function gsoType(skb: SkBuff): number {
  return (tcp.flags(skb.view, skb.transport) & tcp.Flag.cwr) !== 0 ? GSO_TCPV4 | GSO_ECN : GSO_TCPV4;
}

function checksumOffset(skb: SkBuff): number {
  return ipv4.protocol(skb.view, skb.net) === IPPROTO_TCP ? tcp.CHECKSUM : UDP_CHECKSUM;
}
