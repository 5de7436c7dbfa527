/**
 * Losses that hit the one frame they are meant for, on the cables of `device`.
 */
import type { LinkDirection, WireLink } from "../device/wire-link.ts";
import * as ethernet from "../wire/ethernet.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";

/** A loss that was ordered. */
export interface OrderedLoss {
  /** True once the frame was lost and the cable carries again. */
  readonly done: boolean;
  /** Frames lost so far, the meant one included. */
  readonly lostFrames: number;
  /** Gives up waiting: the cable carries again. */
  cancel(): void;
}

const IP_PROTOCOL_TCP = 6;

/**
 * Loses the next frame in `direction`; with `payload`, the next one that carries TCP payload, and what departs before
 * it. Takes the cable down until then, and leaves it up.
 */
export function loseNext(link: WireLink, direction: LinkDirection, payload: boolean): OrderedLoss {
  const loss = { done: false, lostFrames: 0, cancel: () => finish() };
  const finish = (): void => {
    if (loss.done) return;
    loss.done = true;
    link.set({ down: false }, direction);
  };
  // The tap stays: a cable tells its taps in a loop that must not lose a member. It costs one test per frame.
  link.addTap((way, bytes, at, len) => {
    if (loss.done || way !== direction) return;
    loss.lostFrames++;
    if (!payload || tcpPayloadBytes(bytes, at, at + len) > 0) finish();
  });
  link.set({ down: true }, direction);
  return loss;
}

/** TCP payload of the Ethernet frame in [at, end) in bytes; 0 for any other frame. */
export function tcpPayloadBytes(bytes: Uint8Array, at: number, end: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (ethernet.check(view, at, end) !== 0 || ethernet.etherType(view, at) !== ethernet.EtherType.ipv4) return 0;
  const ip = at + ethernet.HEADER_LEN;
  if (ipv4.check(view, ip, end) !== 0 || ipv4.protocol(view, ip) !== IP_PROTOCOL_TCP) return 0;
  const segment = ip + ipv4.ihl(view, ip);
  const ipEnd = ip + ipv4.totalLen(view, ip);
  if (tcp.check(view, segment, ipEnd) !== 0) return 0;
  return ipEnd - segment - tcp.dataOffset(view, segment);
}
