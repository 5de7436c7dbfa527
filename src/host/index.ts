/**
 * sojourn on Node: the kernel in a thread of its own or inline, processes in theirs, real time, the port forward,
 * files. Nothing here is loaded by the pure entry, and nothing platform-only is loaded before it is asked for.
 */
export { DiskFiles } from "./disk-files.ts";
export { HostDeviceError } from "./host-device-error.ts";
export { InlineKernel, type InlineKernelOptions } from "./inline-driver.ts";
export { KernelHandle, type KernelHandleOptions } from "./kernel-handle.ts";
export { ControlError, type Kernel, type KernelFactory, type KernelMachine } from "./kernel-machine.ts";
export { MainProcess } from "./main-process.ts";
export { openTap, type TapHandle, type TapOptions } from "./open-tap.ts";
export { OUTSIDE_LEG, PortForward, type PortForwardOptions, type PortForwardStats } from "./port-forward.ts";
export type { ProcessApp, ProcessMain } from "./process-control.ts";
export { ProcessHandle, type ProcessHandleOptions } from "./process-handle.ts";
export { RealClock } from "./real-clock.ts";
export { parseStreamAddress, type StreamAddress } from "./stream-address.ts";
export { StreamDevice, type StreamDeviceOptions } from "./stream-device.ts";
export { StreamPump, type StreamPumpOptions, type StreamPumpStats } from "./stream-pump.ts";
export { StreamRings } from "./stream-rings.ts";
export { TapDevice, type TapDeviceOptions } from "./tap-device.ts";
