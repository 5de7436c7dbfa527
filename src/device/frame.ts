/**
 * What a device knows of the frames it moves: the Ethernet header's size, and how to show a discarded one.
 *
 * Devices stand below `wire`, so the two constants of Ethernet they need are here.
 */
import { Label, type Tracepoints } from "../base/tracepoints.ts";
import type { DeviceStats } from "./port.ts";

/** Destination MAC, source MAC, EtherType. */
export const ETHERNET_HEADER_BYTES = 14;
/** Where the EtherType stands. */
export const ETHER_TYPE_OFFSET = 12;
/** The EtherType of ARP, whose packets carry no checksum of their own. */
export const ETHER_TYPE_ARP = 0x0806;
/** Bytes of a dropped packet a label shows, from the network header on. */
const LABEL_BYTES = 64;

/** Tells the recorder which packet was discarded: its first bytes, then the reason. *Borrows* the bytes. */
export function traceDrop(
  trace: Tracepoints,
  id: number,
  reason: number,
  bytes: Uint8Array,
  frameAt: number,
  frameLen: number,
): void {
  const len = Math.min(LABEL_BYTES, frameLen - ETHERNET_HEADER_BYTES);
  if (len > 0) trace.label(Label.packet, id, bytes, frameAt + ETHERNET_HEADER_BYTES, len);
  trace.drop(reason, id);
}

/** All counters at zero. */
export function emptyDeviceStats(): DeviceStats {
  return {
    rxPackets: 0,
    rxBytes: 0,
    rxErrors: 0,
    rxDropped: 0,
    rxMissed: 0,
    txPackets: 0,
    txBytes: 0,
    txErrors: 0,
    txDropped: 0,
    interrupts: 0,
    fullPolls: 0,
  };
}
