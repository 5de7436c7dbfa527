/**
 * A UDP socket: its names, and the datagrams that wait for a reader (Linux struct udp_sock).
 *
 * Only `Udp` and `UdpTable` write its fields; sockets read them.
 */
import { Address, ANY_V4 } from "../../base/address.ts";
import type { Route } from "../../network/port.ts";
import type { SkBuff } from "../../skb/skb.ts";
import type { SocketUpcalls } from "../port.ts";

export class UdpSocket {
  upcalls: SocketUpcalls;
  localAddress: Address = ANY_V4;
  /** 0 = not bound. */
  localPort = 0;
  remoteAddress: Address = ANY_V4;
  remotePort = 0;
  /** True after connect(): only the peer is heard, and ICMP errors are reported. */
  connected = false;
  /** The addresses as unsigned numbers, for the packet path; 0 = any. */
  localV4 = 0;
  remoteV4 = 0;
  reuseAddress = false;
  reusePort = false;
  /** SO_BINDTODEVICE; 0 = any. */
  boundIfindex = 0;
  /** The pending errno (positive; Linux sk_err), 0 if none. */
  error = 0;
  closed = false;
  /** Limit of `memoryBytes` (Linux sk_rcvbuf): net.core.rmem_default at birth. */
  receiveBufferBytes: number;
  /** Memory of the waiting datagrams, in bytes of slots (Linux sk_rmem_alloc, which counts truesize). */
  memoryBytes = 0;
  /** Datagrams refused by a full queue (`ss -m`: d). */
  drops = 0;
  /** The path to the connected peer, kept while it is valid. */
  route: Route | null = null;
  /** @internal next in the chain of its hash bucket. */
  next: UdpSocket | null = null;

  private first: SkBuff | null = null;
  private last: SkBuff | null = null;
  /** The last sender's address: most datagrams of a socket in a row come from the same one. */
  private lastSender: Address = ANY_V4;

  /** @internal made by `Udp.create`. */
  constructor(upcalls: SocketUpcalls, receiveBufferBytes: number) {
    this.upcalls = upcalls;
    this.receiveBufferBytes = receiveBufferBytes;
  }

  /** SO_ERROR: the pending errno (positive), once; 0 if none. */
  takeError(): number {
    const { error } = this;
    this.error = 0;
    return error;
  }

  /** How many datagrams wait. */
  get waitingDatagrams(): number {
    let count = 0;
    for (let skb = this.first; skb !== null; skb = skb.next) count++;
    return count;
  }

  /** The oldest datagram; `data` is its payload. */
  get oldest(): SkBuff | null {
    return this.first;
  }

  /**
   * Appends a datagram, unless there is no room: an empty queue takes one of any size (Linux
   * __udp_enqueue_schedule_skb). True: *takes* the skb. False: the caller keeps it.
   */
  enqueue(skb: SkBuff): boolean {
    // Closed by the upcall of a neighbour that got the same broadcast.
    if (this.closed) return false;
    const slotBytes = skb.end - skb.head;
    if (this.memoryBytes > 0 && this.memoryBytes + slotBytes > this.receiveBufferBytes) return false;
    this.memoryBytes += slotBytes;
    skb.next = null;
    if (this.last === null) this.first = skb;
    else this.last.next = skb;
    this.last = skb;
    return true;
  }

  /** Takes the oldest datagram out of the queue; it is the caller's now. Null if there is none. */
  dequeue(): SkBuff | null {
    const skb = this.first;
    if (skb === null) return null;
    this.first = skb.next;
    if (this.first === null) this.last = null;
    skb.next = null;
    this.memoryBytes -= skb.end - skb.head;
    return skb;
  }

  /** `u32` as an `Address`, made anew only when the sender changes. */
  senderOf(u32: number): Address {
    if (this.connected && u32 === this.remoteV4) return this.remoteAddress;
    if (this.lastSender.v4 !== u32) this.lastSender = Address.v4(u32);
    return this.lastSender;
  }
}
