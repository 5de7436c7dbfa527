/**
 * sojourn: a network server stack in which every request carries its own itinerary.
 *
 * This entry is pure: it runs in Node, in a browser worker and in virtual time. What needs Node is `sojourn/host`.
 */
export { Address, parseAddress, parseCidr } from "./base/address.ts";
export { SyscallError } from "./base/errno.ts";
export { STAGES, type StageName, WAIT_REASONS, type WaitReason } from "./base/stages.ts";
export { type Clock, ManualClock, MICROSECOND, MILLISECOND, type Ns, SECOND } from "./base/time.ts";
export { type LinkSettings, parseLinkSettings } from "./device/link-settings.ts";
export { control } from "./inspect.ts";
export { Collector, type CollectorOptions } from "./journey/collector.ts";
export type { Journey, Mark, Outcome, Segment, Span } from "./journey/journey.ts";
export { Recorder } from "./journey/recorder.ts";
export { renderFlow, renderLine, renderWaterfall } from "./journey/render.ts";
export type { Conn, Listener, Network, Runtime } from "./runtime/port.ts";
export * from "./server/index.ts";
export { MemoryFiles } from "./sim/memory-files.ts";
export { DeadlockError, Sim, type SimOptions } from "./sim/sim.ts";
export { VirtualClock } from "./sim/virtual-clock.ts";
export { Stack } from "./stack.ts";
export { defaultTopology, type HostSpec, type LinkSpec, Topology, type TopologySpec } from "./topology.ts";
