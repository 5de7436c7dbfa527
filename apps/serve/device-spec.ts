/** How an open link travels to the thread of the kernel, and becomes a device there. */
import type { Device } from "../../src/device/port.ts";
import type { PollSource } from "../../src/host/kernel-machine.ts";
import { StreamDevice } from "../../src/host/stream-device.ts";
import { StreamRings } from "../../src/host/stream-rings.ts";
import { TapDevice } from "../../src/host/tap-device.ts";
import type { HostEnv } from "../../src/skb/host-env.ts";

/** What the kernel needs to make the device: structured-cloneable. */
export type DeviceSpec = { readonly name: string; readonly mac: Uint8Array } & (
  | { readonly kind: "tap"; readonly fd: number; readonly mtu: number }
  | { readonly kind: "stream"; readonly rings: SharedArrayBuffer }
);

/** The device, in the thread of its kernel. */
export function openDevice(spec: DeviceSpec, env: HostEnv): Device & PollSource {
  if (spec.kind === "tap") return new TapDevice(env, spec);
  return new StreamDevice(env, { name: spec.name, mac: spec.mac, rings: new StreamRings(spec.rings) });
}
