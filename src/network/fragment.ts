/**
 * Cutting a packet that is larger than the next link takes (RFC 791 §3.2; Linux ip_do_fragment).
 */
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { MibId } from "../base/mib.ts";
import type { HostEnv } from "../skb/host-env.ts";
import { HEADROOM, type SkBuff } from "../skb/skb.ts";
import * as ipv4 from "../wire/ipv4.ts";

/** Option numbers with this bit are copied into every fragment; the others are blanked out but in the first. */
const OPTION_COPIED = 0x80;
const OPTION_END = 0;
const OPTION_NOP = 1;

/**
 * Cuts the packet at `skb.net` (which `data` must equal) into pieces of at most `mtu` bytes and hands each to `send`,
 * which *takes* it and returns 0 or -errno. *Takes* the skb. 0, -ENOBUFS, or the first error of `send`.
 */
export function fragmentPacket(env: HostEnv, skb: SkBuff, mtu: number, send: (piece: SkBuff) => number): number {
  const { view, net } = skb;
  const headerLen = ipv4.ihl(view, net);
  const payload = ipv4.totalLen(view, net) - headerLen;
  const step = (mtu - headerLen) & ~7;
  const field = ipv4.fragment(view, net);
  const baseUnits = field & ipv4.OFFSET_MASK;
  const moreAfter = field & ipv4.FLAG_MF;
  const { mib } = env;
  let result = step > 0 ? 0 : -Errno.EMSGSIZE;
  for (let at = 0; at < payload && result === 0; at += step) {
    const len = Math.min(step, payload - at);
    const piece = env.pool.alloc(headerLen + len, HEADROOM);
    if (piece === null) {
      result = -Errno.ENOBUFS;
      break;
    }
    const to = piece.put(headerLen + len);
    piece.bytes.copyWithin(to, net, net + headerLen);
    piece.bytes.copyWithin(to + headerLen, net + headerLen + at, net + headerLen + at + len);
    piece.net = to;
    piece.priority = skb.priority;
    piece.packetType = skb.packetType;
    piece.ifindex = skb.ifindex;
    if (at === 0) piece.id = skb.id;
    else blankOptions(piece.bytes, to + ipv4.HEADER_LEN, to + headerLen);
    const more = at + len < payload ? ipv4.FLAG_MF : moreAfter;
    ipv4.setTotalLen(view, to, headerLen + len);
    ipv4.setFragment(view, to, (baseUnits + (at >>> 3)) | more);
    ipv4.fillChecksum(piece.bytes, view, to);
    mib.values[MibId.IpFragCreates]++;
    result = send(piece);
  }
  mib.values[result === 0 ? MibId.IpFragOKs : MibId.IpFragFails]++;
  // The pieces carry on for it; what could not be cut is a drop.
  if (result === -Errno.ENOBUFS) env.drops.drop(skb, DropReason.noMem);
  else if (step <= 0) env.drops.drop(skb, DropReason.pktTooBig);
  else env.pool.release(skb);
  return result;
}

/** Replaces options that belong to the first fragment only by NOPs (Linux ip_options_fragment). */
function blankOptions(bytes: Uint8Array, from: number, end: number): void {
  for (let at = from; at < end; ) {
    const kind = bytes[at];
    if (kind === OPTION_END) return;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    const len = at + 1 < end ? bytes[at + 1] : 0;
    if (len < 2 || at + len > end) return;
    if ((kind & OPTION_COPIED) === 0) bytes.fill(OPTION_NOP, at, at + len);
    at += len;
  }
}
