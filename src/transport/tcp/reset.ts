/**
 * RST in answer to a segment that fits no connection (RFC 9293 §3.5.2; Linux tcp_v4_send_reset).
 */
import { Address } from "../../base/address.ts";
import { MibId } from "../../base/mib.ts";
import type { SkBuff } from "../../skb/skb.ts";
import * as ipv4 from "../../wire/ipv4.ts";
import * as wire from "../../wire/tcp.ts";
import type { TcpContext } from "./context.ts";
import { bareSegment, sendBare } from "./segment.ts";
import type { Segment } from "./segment-info.ts";

const { Flag } = wire;

/** Answers with RST, unless the segment is one. *Borrows* the skb. */
export function sendResetReply(tcp: TcpContext, skb: SkBuff, segment: Segment): void {
  if (segment.has(Flag.rst)) return;
  const view = skb.view;
  const local = Address.v4(ipv4.dst(view, skb.net));
  const remote = Address.v4(ipv4.src(view, skb.net));
  const route = tcp.ip.route(remote, local, 0);
  if (typeof route === "number") return;
  const reply = bareSegment(tcp, wire.HEADER_LEN);
  if (reply === null) return;
  const at = skb.transport;
  // <SEQ=SEG.ACK><CTL=RST> if it has an ACK, else <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
  const acked = segment.has(Flag.ack);
  wire.writeHeader(
    reply.view,
    reply.transport,
    wire.dstPort(view, at),
    wire.srcPort(view, at),
    acked ? segment.ack : 0,
    acked ? 0 : segment.end,
    wire.HEADER_LEN,
    acked ? Flag.rst : Flag.rst | Flag.ack,
    0,
  );
  tcp.count(MibId.TcpOutRsts);
  sendBare(tcp, reply, route, local.v4, remote.v4);
}
