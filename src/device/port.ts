/**
 * The Device port: what every NIC offers netdev, be it a ring model on a memory link, a TAP or AF_XDP.
 * Frozen in docs/adr/0003; `tests/conformance/device.ts` is its suite.
 */
import type { SkBuff } from "../skb/skb.ts";

export interface DeviceCapabilities {
  /** Transmit accepts `Summed.partial`; receive marks good checksums `Summed.unnecessary`. */
  readonly checksum: boolean;
  /** Largest frame transmit takes, in bytes with the Ethernet header. */
  readonly maxFrameBytes: number;
  /**
   * Largest super-segment (`skb.gsoSize` > 0, checksum `Summed.partial`) transmit takes, in bytes with the Ethernet
   * header; 0: none, netdev cuts them (Linux NETIF_F_TSO, gso_max_size). Such a device may also deliver them.
   */
  readonly gsoMaxBytes: number;
  /** Received frames carry the time they arrived from the wire; otherwise `arrivedNs` is the time of the poll. */
  readonly arrivalTimes: boolean;
}

/** Counters as `ip -s link` and `ethtool -S` show them. */
export interface DeviceStats {
  rxPackets: number;
  rxBytes: number;
  rxErrors: number;
  rxDropped: number;
  /** No free descriptor (rx_missed_errors). */
  rxMissed: number;
  txPackets: number;
  txBytes: number;
  txErrors: number;
  txDropped: number;
  interrupts: number;
  /** Polls that used their whole budget. */
  fullPolls: number;
}

export interface Device {
  readonly name: string;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  /** Largest IP packet in bytes. */
  readonly mtu: number;
  readonly capabilities: DeviceCapabilities;
  readonly stats: DeviceStats;
  /** Descriptors in use and in all. */
  readonly rxRing: { readonly used: number; readonly size: number };
  readonly txRing: { readonly used: number; readonly size: number };

  /** netdev installs its interrupt handler here. After it ran, interrupts stay off until `enableInterrupts`. */
  onInterrupt: () => void;
  /** netdev installs what to do when a full TX ring has room again. */
  onTransmitSpace: () => void;

  /**
   * NAPI poll: takes up to `budget` frames out of the RX ring, oldest first, hands each to `sink` (which *takes* it)
   * and returns how many. `skb.data` is the Ethernet header; `arrivedNs` and `polledNs` are set.
   */
  receive(budget: number, sink: (skb: SkBuff) => void): number;
  /** Interrupts on again; if frames arrived meanwhile the interrupt comes at once. */
  enableInterrupts(): void;
  /** Posts a frame in the TX ring. True: the device *takes* it. False: the ring is full, the caller keeps it. */
  transmit(skb: SkBuff): boolean;
  /** Rings the doorbell for all frames posted since the last flush. */
  flush(): void;
  /** Drops what the device still owns (frames in its rings), with reason `devReady`. */
  close(): void;
}
