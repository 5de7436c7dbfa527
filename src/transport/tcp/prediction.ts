/**
 * Header prediction's expectation (Van Jacobson; Linux tcp_fast_path_on): the third header word of the next segment if
 * nothing unusual happens — header length, ACK alone, the window unchanged.
 */
import { Flag } from "../../wire/tcp.ts";
import { fixedOptionsLen } from "./segment.ts";
import type { Tcb } from "./tcb.ts";
import { freeSpace } from "./window.ts";

/** Bits that are compared: header length, flags without PSH, window; not the reserved bits. */
export const PREDICTION_MASK = 0xf0f7ffff | 0;

/** Turns prediction on if the connection is in its usual state: nothing out of order, room, an open window. */
export function setPredictionFlags(tcb: Tcb): void {
  if (tcb.reassembly.length > 0 || tcb.rcvWnd === 0 || freeSpace(tcb) === 0 || tcb.finReceived) return;
  const words = (20 + fixedOptionsLen(tcb)) >>> 2;
  tcb.predFlags = (words << 28) | (Flag.ack << 16) | (tcb.sndWnd >>> tcb.sndWindowScale);
}
