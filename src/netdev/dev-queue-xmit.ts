/**
 * The way out: qdisc, then TX ring, then one doorbell (Linux __dev_queue_xmit, __qdisc_run).
 */
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { Cost } from "../base/time.ts";
import { Point } from "../base/tracepoints.ts";
import type { SkBuff } from "../skb/skb.ts";
import { cutSuperSegment, mustCut } from "./gso.ts";
import type { NetDevice } from "./net-device.ts";

/** Frames one run of a qdisc moves before others get a turn (Linux dev_tx_weight). */
const TRANSMIT_QUOTA = 64;

/**
 * Sends a complete frame, in pieces if it is a super-segment the device does not take. *Takes* the skb. 0, or -ENOBUFS
 * (queue full, reason `qdiscDrop`), -ENETDOWN (`devReady`), or what `cutSuperSegment` says.
 */
export function devQueueXmit(dev: NetDevice, skb: SkBuff): number {
  const { env, qdisc } = dev;
  if (!dev.isUp) {
    dev.txDropped++;
    env.drops.drop(skb, DropReason.devReady);
    return -Errno.ENETDOWN;
  }
  const result = mustCut(dev, skb) ? cutSuperSegment(dev, skb, enqueue) : enqueue(dev, skb);
  if (result === 0 && !qdisc.isDirect) runQdisc(dev);
  return result;
}

/** Puts a frame in the qdisc, or where there is none in the ring. *Takes* the skb. 0 or -ENOBUFS. */
function enqueue(dev: NetDevice, skb: SkBuff): number {
  const { env, qdisc } = dev;
  env.clock.charge(Cost.txFrame, 1);
  skb.enqueuedNs = env.clock.nowNs;
  if (qdisc.isDirect) return transmitDirectly(dev, skb);
  if (!qdisc.enqueue(skb)) {
    dev.txDropped++;
    env.drops.drop(skb, DropReason.qdiscDrop);
    return -Errno.ENOBUFS;
  }
  return 0;
}

function transmitDirectly(dev: NetDevice, skb: SkBuff): number {
  const { env, device, qdisc } = dev;
  const len = skb.len;
  dev.show(true, skb);
  if (skb.id !== 0) dev.hasTracedFrame = true;
  if (!device.transmit(skb)) {
    dev.txDropped++;
    qdisc.stats.dropped++;
    env.drops.drop(skb, DropReason.qdiscDrop);
    return -Errno.ENOBUFS;
  }
  qdisc.stats.sentPackets++;
  qdisc.stats.sentBytes += len;
  dev.flush();
  return 0;
}

/** Moves frames from the qdisc to the TX ring while there are frames and room; one doorbell for all of them. */
export function runQdisc(dev: NetDevice): void {
  const { env, device, qdisc } = dev;
  const { txRing } = device;
  let posted = 0;
  let quota = TRANSMIT_QUOTA;
  while (qdisc.length > 0) {
    if (txRing.used >= txRing.size) {
      // A full ring cannot wait for the end of the batch: let the wire take what it can, then see if that made room.
      posted = 0;
      dev.ringDoorbell();
      if (txRing.used >= txRing.size) break;
    }
    if (quota-- === 0) {
      dev.softirq.scheduleTransmit(dev);
      break;
    }
    const skb = qdisc.dequeue() as SkBuff;
    if (skb.id !== 0) {
      env.trace.stamp(Point.qdiscLeft, skb.id, qdisc.length, skb.enqueuedNs);
      dev.hasTracedFrame = true;
    }
    dev.show(true, skb);
    if (!device.transmit(skb)) {
      qdisc.requeue(skb);
      break;
    }
    posted++;
  }
  if (posted > 0) dev.flush();
}
