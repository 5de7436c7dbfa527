/**
 * Opens a TAP interface of the host: the kernel on one side, a `TapDevice` on the other (Linux Documentation
 * networking/tuntap.rst).
 */
import { Errno, errnoMessage, errnoName } from "../base/errno.ts";
import { PAGE_SLOT } from "../skb/arena.ts";
import { HostDeviceError } from "./host-device-error.ts";
import { AF_INET, callMemory, type Libc, libc, O_CLOEXEC, O_NONBLOCK, O_RDWR, SOCK_DGRAM } from "./libc.ts";
import { VIRTIO_NET_HEADER_BYTES } from "./virtio-net-header.ts";

const TUN = "/dev/net/tun";
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const SIOCGIFMTU = 0x8921;
const SIOCSIFMTU = 0x8922;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** What the kernel may leave to us: unfinished checksums, and TCP over IPv4 in super-segments. */
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
/** struct ifreq: a name of 16 bytes, then flags or MTU. */
const IFREQ_BYTES = 40;
const IFREQ_VALUE = 16;
/** IFNAMSIZ without the terminating zero. */
const MAX_NAME_BYTES = 15;
const ETHERNET_HEADER_BYTES = 14;
/** A frame with both its headers fits a 64 KB slot. */
const MAX_MTU = PAGE_SLOT - ETHERNET_HEADER_BYTES - VIRTIO_NET_HEADER_BYTES;
const MIN_MTU = 68;

export interface TapOptions {
  /** Name of the interface; it is made if it does not exist. */
  readonly name: string;
  /** MTU to give it, 68 to 65512 bytes; without, the one it has. */
  readonly mtu?: number;
}

/** An open TAP: numbers that may be handed to another thread of this process. */
export interface TapHandle {
  readonly fd: number;
  readonly name: string;
  readonly mtu: number;
}

/**
 * Opens `name`; the caller owns the fd until a `TapDevice` takes it. Needs CAP_NET_ADMIN, or an interface that was made
 * for this user. Throws `HostDeviceError`.
 */
export function openTap({ name, mtu }: TapOptions): TapHandle {
  checkName(name);
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= MIN_MTU && mtu <= MAX_MTU)) {
    const why = `an MTU is ${MIN_MTU} (RFC 791) to ${MAX_MTU} bytes here`;
    throw new HostDeviceError("EINVAL", `${mtu} is no MTU for ${name}`, why, "leave it out, or take 1500");
  }
  const system = libc();
  const fd = system.open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw notOpened(name, -fd);
  try {
    attach(system, fd, name);
    return { fd, name, mtu: settleMtu(system, name, mtu) };
  } catch (error) {
    system.close(fd);
    throw error;
  }
}

function checkName(name: string): void {
  if (/^[A-Za-z0-9_.-]+$/.test(name) && name.length <= MAX_NAME_BYTES && name !== "." && name !== "..") return;
  const why = `a name has 1 to ${MAX_NAME_BYTES} letters, digits, dots, dashes and underscores`;
  throw new HostDeviceError("EINVAL", `"${name}" is no name of an interface`, why, "take a name such as tap0");
}

/** Makes or finds the interface and says what we can do. */
function attach(system: Libc, fd: number, name: string): void {
  const request = new Ifreq(name);
  request.value = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  const attached = request.call(system, fd, TUNSETIFF);
  if (attached < 0) throw notAttached(name, -attached);
  const size = new Int32Array(callMemory(4)).fill(VIRTIO_NET_HEADER_BYTES);
  const sized = system.ioctl(fd, TUNSETVNETHDRSZ, system.addressOf(size));
  const offloaded = sized < 0 ? sized : system.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4);
  if (offloaded < 0) {
    const why = `checksum or segmentation offload was refused: ${errnoMessage(-offloaded)}`;
    throw new HostDeviceError(errnoName(-offloaded), `${name} cannot be used`, why, "check: ethtool -k " + name);
  }
}

/** The interface's MTU, after setting it if asked. */
function settleMtu(system: Libc, name: string, asked: number | undefined): number {
  const socket = system.socket(AF_INET, SOCK_DGRAM, 0);
  if (socket < 0) throw noMtu(name, -socket);
  try {
    const request = new Ifreq(name);
    const got = request.call(system, socket, SIOCGIFMTU);
    if (got < 0) throw noMtu(name, -got);
    const wanted = asked ?? Math.min(request.value, MAX_MTU);
    if (wanted === request.value) return wanted;
    request.value = wanted;
    const set = request.call(system, socket, SIOCSIFMTU);
    if (set < 0) throw noMtu(name, -set);
    return wanted;
  } finally {
    system.close(socket);
  }
}

/** The argument of an interface's ioctls. */
class Ifreq {
  private readonly bytes = new Uint8Array(callMemory(IFREQ_BYTES));
  private readonly view = new DataView(this.bytes.buffer);

  constructor(name: string) {
    this.bytes.set(Buffer.from(name, "latin1"));
  }

  get value(): number {
    return this.view.getInt32(IFREQ_VALUE, true);
  }

  set value(value: number) {
    this.view.setInt32(IFREQ_VALUE, value, true);
  }

  call(system: Libc, fd: number, request: number): number {
    return system.ioctl(fd, request, system.addressOf(this.bytes));
  }
}

// ── what went wrong ───────────────────────────────────────────────────────────────────────────────────────────────

function notOpened(name: string, errno: number): HostDeviceError {
  const code = errnoName(errno);
  const error = `cannot open ${TUN}`;
  if (errno === Errno.ENOENT || errno === Errno.ENODEV) {
    const next = "sudo modprobe tun; in a container, start it with --device /dev/net/tun";
    return new HostDeviceError(code, error, "this kernel offers no TUN/TAP devices here", next);
  }
  return new HostDeviceError(code, error, errnoMessage(errno), privilegeAdvice(name));
}

function notAttached(name: string, errno: number): HostDeviceError {
  const code = errnoName(errno);
  const error = `cannot open the TAP interface ${name}`;
  switch (errno) {
    case Errno.EPERM: {
      const why = "to make an interface, or to take another user's, needs CAP_NET_ADMIN";
      return new HostDeviceError(code, error, why, privilegeAdvice(name));
    }
    case Errno.EBUSY: {
      const next = `stop that process (who: sudo lsof ${TUN}), or take another name`;
      return new HostDeviceError(code, error, "another process has it open", next);
    }
    case Errno.EINVAL: {
      const next = `take another name, or delete it: sudo ip link del ${name}`;
      return new HostDeviceError(code, error, "an interface of that name exists and is no TAP of one queue", next);
    }
    default:
      return new HostDeviceError(code, error, errnoMessage(errno), "take another name such as tap0");
  }
}

function noMtu(name: string, errno: number): HostDeviceError {
  const next = errno === Errno.EPERM ? privilegeAdvice(name) : `look at it: ip link show ${name}`;
  return new HostDeviceError(errnoName(errno), `cannot set the MTU of ${name}`, errnoMessage(errno), next);
}

function privilegeAdvice(name: string): string {
  return `run it with sudo, or make the interface for yourself: sudo ip tuntap add dev ${name} mode tap user $USER`;
}
