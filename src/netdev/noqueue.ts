/** `noqueue`: virtual devices such as `lo` need no queue (Linux noqueue_qdisc_ops). */
import type { SkBuff } from "../skb/skb.ts";
import { emptyQdiscStats, type Qdisc } from "./qdisc.ts";

export class NoQueue implements Qdisc {
  readonly kind = "noqueue";
  readonly isDirect = true;
  readonly length = 0;
  readonly backlogBytes = 0;
  readonly stats = emptyQdiscStats();

  enqueue(_skb: SkBuff): boolean {
    return false;
  }
  dequeue(): SkBuff | null {
    return null;
  }
  peek(): SkBuff | null {
    return null;
  }
  requeue(_skb: SkBuff): void {}
}
