/**
 * The received segment being processed: header fields read once, in one reused record per host (law 3).
 */

import { seqAdd } from "../../base/seq.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as wire from "../../wire/tcp.ts";
import { TcpOptions } from "../../wire/tcp.ts";

export class Segment {
  /** Sequence and acknowledgement numbers: signed words. */
  seq = 0;
  /** One past the last sequence number: payload, SYN and FIN counted. */
  end = 0;
  ack = 0;
  flags = 0;
  /** As on the wire, not scaled. */
  window = 0;
  headerLen = 0;
  payloadLen = 0;
  readonly options = new TcpOptions();

  /**
   * Reads the header; options are read by `readOptions`. `skb.transport` is the header, `skb.tail` the segment's end.
   */
  read(skb: SkBuff): void {
    const view = skb.view;
    const at = skb.transport;
    this.seq = wire.seq(view, at) | 0;
    this.ack = wire.ack(view, at) | 0;
    this.flags = wire.flags(view, at);
    this.window = wire.window(view, at);
    this.headerLen = wire.dataOffset(view, at);
    this.payloadLen = skb.tail - at - this.headerLen;
    this.end = segmentEnd(this.seq, this.payloadLen, this.flags);
    this.options.hasTimestamps = false;
    this.options.sackCount = 0;
  }

  readOptions(skb: SkBuff): void {
    wire.parseOptions(skb.view, skb.transport, skb.transport + this.headerLen, this.options);
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }
}

/** Sequence number one past a segment's last: payload plus SYN plus FIN. */
export function segmentEnd(seq: number, payloadLen: number, flags: number): number {
  return seqAdd(seq, payloadLen + ((flags & wire.Flag.syn) !== 0 ? 1 : 0) + ((flags & wire.Flag.fin) !== 0 ? 1 : 0));
}
