/**
 * Many TCP peers on one hostile host that do as much of the protocol as it takes to be let in, and then what they were
 * told: no kernel, no retransmission, no manners.
 */
import type { Ns } from "../../src/base/time.ts";
import * as tcp from "../../src/wire/tcp.ts";
import { readAnswer, tcpFrame } from "../support/raw-frames.ts";
import type { RawHost } from "../support/raw-host.ts";
import { PORT, spoofed, VICTIM } from "./flood-world.ts";

const { syn, ack, psh, rst, fin } = tcp.Flag;
const FIRST_PORT = 2000;
const NOTHING = new Uint8Array(0);

export interface PeerOptions {
  /** Whom they connect to; default the server. */
  readonly to?: string;
  readonly port?: number;
  /** The window they advertise, unscaled; default 65535. */
  readonly window?: number;
  readonly onEstablished?: (peer: Peer) => void;
  /** Payload came, in order or not; by default it is acknowledged up to its end. */
  readonly onData?: (peer: Peer, segment: tcp.Repr) => void;
}

/** One connection as its hostile end sees it. Sequence numbers as on the wire. */
export class Peer {
  readonly index: number;
  readonly from: number;
  /** Next sequence number to send, and the next expected. */
  seq: number;
  rcvNxt = 0;
  state: "syn-sent" | "established" | "closed" = "syn-sent";
  /** Bytes of payload that came; all of it, for small answers. */
  receivedBytes = 0;
  text = "";
  private readonly peers: Peers;

  constructor(peers: Peers, index: number) {
    this.peers = peers;
    this.index = index;
    this.from = spoofed(index);
    this.seq = index;
  }

  /** A segment; `seq` and `ack` are the peer's own unless said otherwise. */
  frame(flags: number, payload: Uint8Array = NOTHING, seq = this.seq, window = this.peers.window): Uint8Array {
    const { to, port, raw } = this.peers;
    const ports = { fromPort: FIRST_PORT, toPort: port };
    return tcpFrame(raw.ends, { from: this.from, to, ...ports, flags, seq, ack: this.rcvNxt, window, payload });
  }

  /** Sends bytes, in order. */
  say(payload: Uint8Array | string): void {
    const bytes = typeof payload === "string" ? Uint8Array.from(payload, (char) => char.charCodeAt(0)) : payload;
    this.peers.raw.send(this.frame(ack | psh, bytes));
    this.seq = (this.seq + bytes.length) >>> 0;
  }

  /** Sends bytes at a sequence number so many ahead of the next. */
  sayAhead(by: number, payload: Uint8Array): void {
    this.peers.raw.send(this.frame(ack | psh, payload, (this.seq + by) >>> 0));
  }

  /** Acknowledges what came. */
  acknowledge(window = this.peers.window): void {
    this.peers.raw.send(this.frame(ack, NOTHING, this.seq, window));
  }

  reset(): void {
    this.peers.raw.send(this.frame(rst | ack));
    this.state = "closed";
  }
}

export class Peers {
  readonly raw: RawHost;
  readonly to: string;
  readonly port: number;
  readonly window: number;
  readonly all: Peer[] = [];
  /** How many got so far; how many were reset or closed by the server. */
  readonly counts = { established: 0, closed: 0, reset: 0, probes: 0 };
  /** Window probes get their answer. */
  isAnswering = true;
  private readonly byAddress = new Map<number, Peer>();
  private readonly options: PeerOptions;

  constructor(raw: RawHost, options: PeerOptions = {}) {
    this.raw = raw;
    this.options = options;
    this.to = options.to ?? VICTIM;
    this.port = options.port ?? PORT;
    this.window = options.window ?? 65535;
    raw.onFrame = (frame) => this.hear(frame);
  }

  /** `count` more of them connect, one every `everyNs`. */
  connect(count: number, everyNs: Ns): void {
    const first = this.all.length;
    for (let n = first; n < first + count; n++) {
      const peer = new Peer(this, n);
      this.all.push(peer);
      this.byAddress.set(peer.from, peer);
    }
    this.raw.flood({ count, everyNs, frame: (n) => (this.all[first + n] as Peer).frame(syn) });
  }

  private hear(frame: Uint8Array): void {
    const answer = readAnswer(frame);
    const segment = answer?.tcp;
    const peer = this.byAddress.get(answer?.ip.dst ?? 0);
    if (!segment || !peer || segment.dstPort !== FIRST_PORT) return;
    if ((segment.flags & rst) !== 0) {
      this.counts.reset++;
      peer.state = "closed";
    } else if ((segment.flags & syn) !== 0) {
      if (peer.state === "syn-sent") this.establish(peer, segment);
    } else if (segment.payload.length > 0) {
      this.take(peer, segment);
    } else if ((segment.flags & fin) !== 0) {
      this.close(peer, segment);
    } else if (segment.seq !== peer.rcvNxt && this.isAnswering) {
      // A window probe: an old sequence number and no data, which asks for an ACK (RFC 9293 §3.8.6.1).
      this.counts.probes++;
      peer.acknowledge();
    }
  }

  private establish(peer: Peer, segment: tcp.Repr): void {
    peer.state = "established";
    peer.seq = (peer.seq + 1) >>> 0;
    peer.rcvNxt = (segment.seq + 1) >>> 0;
    this.counts.established++;
    this.raw.send(peer.frame(ack));
    this.options.onEstablished?.(peer);
  }

  private take(peer: Peer, segment: tcp.Repr): void {
    peer.receivedBytes += segment.payload.length;
    if (peer.text.length < 4096) peer.text += String.fromCharCode(...segment.payload.subarray(0, 4096));
    if (this.options.onData !== undefined) {
      this.options.onData(peer, segment);
      return;
    }
    peer.rcvNxt = (segment.seq + segment.payload.length) >>> 0;
    if ((segment.flags & fin) !== 0) this.close(peer, segment);
    else peer.acknowledge();
  }

  /** The server has had enough: its FIN is acknowledged and answered. */
  private close(peer: Peer, segment: tcp.Repr): void {
    if (peer.state === "closed") return;
    peer.state = "closed";
    this.counts.closed++;
    peer.rcvNxt = (segment.seq + segment.payload.length + 1) >>> 0;
    this.raw.send(peer.frame(fin | ack));
  }
}
