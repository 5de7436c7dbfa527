/**
 * The real link of `--tap` or `--stream`, opened on the main thread while it still has the privilege; and what the
 * outside must do to reach the server.
 */

import { HostDeviceError } from "../../src/host/host-device-error.ts";
import { InlineKernel } from "../../src/host/inline-driver.ts";
import { KernelHandle } from "../../src/host/kernel-handle.ts";
import type { Kernel } from "../../src/host/kernel-machine.ts";
import { openTap } from "../../src/host/open-tap.ts";
import { formatStreamAddress, parseStreamAddress } from "../../src/host/stream-address.ts";
import { StreamPump } from "../../src/host/stream-pump.ts";
import { StreamRings } from "../../src/host/stream-rings.ts";
import { CommandError, ExitCode } from "../control/exit-codes.ts";
import type { DeviceSpec } from "./device-spec.ts";
import type { Placement, Uplink } from "./placement.ts";

/** An open link. */
export interface OpenUplink {
  readonly device: DeviceSpec;
  /** Root served to open it, and serves nothing more. */
  readonly usedRoot: boolean;
  /** The kernel runs: whoever fills its rings may ring it. */
  attach(kernel: Kernel): void;
  /** What to type so that the outside reaches the server. `isRoot`: the reader needs no sudo. */
  guide(isRoot: boolean): readonly string[];
  /** Closes what the kernel did not take. */
  close(): Promise<void>;
}

/** Rejects with `CommandError`: what is missing and how to get it; exit code 3 for a privilege. */
export async function openUplink(
  asked: Uplink,
  placement: Placement,
  onNote: (note: string) => void,
): Promise<OpenUplink> {
  const nic = placement.uplinkNic as NonNullable<Placement["uplinkNic"]>;
  try {
    return asked.device.kind === "tap"
      ? tapUplink(asked.device.name, nic.mac, placement)
      : await streamUplink(asked.device.path, nic, placement, onNote);
  } catch (thrown) {
    if (!(thrown instanceof HostDeviceError)) throw thrown;
    const isPrivilege = thrown.code === "EPERM" || thrown.code === "EACCES";
    const exitCode = isPrivilege ? ExitCode.privilege : ExitCode.failed;
    throw new CommandError(exitCode, thrown.error, thrown.why, thrown.next);
  }
}

function tapUplink(name: string, mac: Uint8Array, { outsideCidr }: Placement): OpenUplink {
  const tap = openTap({ name });
  return {
    device: { kind: "tap", mac, ...tap },
    usedRoot: true,
    attach() {},
    guide(isRoot) {
      const sudo = isRoot ? "" : "sudo ";
      return [
        `The other side of ${name} is this machine's kernel. Give it an address, in another terminal:`,
        "",
        `${sudo}ip addr add ${outsideCidr} dev ${name}`,
        `${sudo}ip link set ${name} up`,
      ];
    },
    // The device owns the descriptor, and the kernel closes its devices.
    async close() {},
  };
}

async function streamUplink(
  text: string,
  { name, mac }: NonNullable<Placement["uplinkNic"]>,
  { outsideCidr }: Placement,
  onNote: (note: string) => void,
): Promise<OpenUplink> {
  const rings = new StreamRings();
  let ringKernel = () => {};
  const address = parseStreamAddress(text);
  const pump = await StreamPump.start({ rings, address, onNote, ringKernel: () => ringKernel() });
  return {
    device: { kind: "stream", name, mac, rings: rings.buffer },
    usedRoot: false,
    attach(kernel) {
      if (kernel instanceof KernelHandle) ringKernel = () => kernel.doorbell.ring();
      else if (kernel instanceof InlineKernel) ringKernel = () => kernel.wake();
      ringKernel();
    },
    guide() {
      const { address } = pump;
      const where =
        "path" in address
          ? `addr.type=unix,addr.path=${address.path}`
          : `addr.type=inet,addr.host=${address.host},addr.port=${address.port}`;
      return [
        `Frames behind their length (u32, big-endian) are taken at ${formatStreamAddress(address)}. A virtual machine joins with:`,
        "",
        `qemu-system-x86_64 … -netdev stream,id=n0,server=off,${where} -device virtio-net,netdev=n0`,
        "",
        `and in the guest: ip addr add ${outsideCidr} dev eth0; ip link set eth0 up`,
      ];
    },
    close: () => pump.close(),
  };
}
