/**
 * Opens the real link of `--tap` or `--stream` on the main thread, while it still has the privilege, and says what the
 * outside must do to reach the server.
 */
import type { Kernel } from "../../src/host/kernel-machine.ts";
import type { Placement, Uplink } from "./placement.ts";

/** What the kernel needs to make the device: structured-cloneable. */
export type DeviceSpec = { readonly kind: "tap" } | { readonly kind: "stream" };

/** An open link. */
export interface OpenUplink {
  readonly device: DeviceSpec;
  /** The kernel runs: whoever fills its rings may wake it. */
  attach(kernel: Kernel): void;
  /** What to type so that the outside reaches the server; commands start in the first column. */
  commands(dropped: boolean): readonly string[];
  close(): Promise<void>;
}

export async function openUplink(_asked: Uplink, _placement: Placement): Promise<OpenUplink> {
  throw new Error("not wired yet");
}
