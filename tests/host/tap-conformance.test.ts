/** TapDevice on real TAPs: two of them on a bridge of the kernel, one driven by the suite. */
import { afterEach, describe } from "vitest";
import { HostFrameFd } from "../../src/host/frame-fd.ts";
import { TapDevice } from "../../src/host/tap-device.ts";
import { Arena, PAGE_SLOT } from "../../src/skb/arena.ts";
import { type DeviceBench, deviceConformance } from "../conformance/device.ts";
import { makeEnv, runUntil, SMALL_ARENA } from "../conformance/lan.ts";
import { Netns } from "../support/netns.ts";
import { requires } from "../support/requires.ts";

const VIRTIO_BYTES = 10;
/** How long a frame may take through the bridge before it counts as not sent, and how often that is looked at. */
const PATIENCE_MS = 6;
const STEP_MS = 2;

const sleeping = new Int32Array(new SharedArrayBuffer(4));
const open: (() => void)[] = [];

/** A bridge says things of its own; the suite's frames have an EtherType for experiments. */
class SuiteFrames extends HostFrameFd {
  private readonly bytes: Uint8Array;

  constructor(fd: number, arena: Arena) {
    super(fd, arena);
    this.bytes = arena.bytes;
  }

  override read(at: number, len: number): number {
    const etherType = at + VIRTIO_BYTES + 12;
    for (;;) {
      const n = super.read(at, len);
      if (n <= 0 || (this.bytes[etherType] === 0x88 && this.bytes[etherType + 1] === 0xb5)) return n;
    }
  }
}

function bridgedTaps(): DeviceBench {
  const netns = new Netns();
  netns.ip("link", "add", "br0", "type", "bridge");
  netns.ip("link", "set", "br0", "up");
  const plug = () => {
    const tap = netns.tap();
    netns.ip("link", "set", tap.name, "master", "br0");
    return tap;
  };
  const arena = new Arena(SMALL_ARENA);
  const env = makeEnv("host", arena);
  const near = plug();
  const options = { ...near, mac: new Uint8Array([2, 0, 0, 0, 0, 1]) };
  const device = new TapDevice(env, options, new SuiteFrames(near.fd, arena));
  const farArena = new Arena(SMALL_ARENA);
  const far = new SuiteFrames(plug().fd, farArena);
  const slot = farArena.alloc(PAGE_SLOT);
  const sent: Uint8Array[] = [];
  open.push(() => {
    device.close();
    far.close();
    netns.close();
  });
  return {
    env,
    device,
    fullReason: null,
    refuses: false,
    hold() {},
    unhold() {},
    arrive(frame) {
      farArena.bytes.fill(0, slot, slot + VIRTIO_BYTES).set(frame, slot + VIRTIO_BYTES);
      far.write(slot, VIRTIO_BYTES + frame.length);
    },
    settle() {
      for (let ms = 0; ms < PATIENCE_MS; ms += STEP_MS) {
        Atomics.wait(sleeping, 0, 0, STEP_MS);
        device.poll();
        runUntil([env], env.clock.nowNs + 1e6);
      }
    },
    sent() {
      for (let n = far.read(slot, PAGE_SLOT); n > 0; n = far.read(slot, PAGE_SLOT)) {
        sent.push(farArena.bytes.slice(slot + VIRTIO_BYTES, slot + n));
      }
      return sent;
    },
    outstanding: () => Math.max(0, arena.outstanding - 1),
    outstandingAfterClose: () => arena.outstanding + env.pool.outstanding,
  };
}

describe.skipIf(requires("tap", "netns"))("on a bridge of the kernel", () => {
  afterEach(() => {
    for (const close of open.splice(0)) close();
  });
  deviceConformance("TapDevice on /dev/net/tun", bridgedTaps);
});
