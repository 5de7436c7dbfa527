import { type DeviceBench, deviceConformance } from "../../tests/conformance/device.ts";
import { macOf, makeEnv, runUntil, SMALL_ARENA } from "../../tests/conformance/lan.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Prng } from "../base/prng.ts";
import { Arena } from "../skb/arena.ts";
import { Loopback } from "./loopback.ts";
import { Nic } from "./nic.ts";
import { WireLink } from "./wire-link.ts";

function nicOnLink(): DeviceBench {
  const arena = new Arena(SMALL_ARENA);
  const env = makeEnv("a", arena);
  const peerEnv = makeEnv("b", arena);
  const device = new Nic(env, "eth0", { mac: macOf(1), rxRingSize: 64, txRingSize: 64 });
  const peer = new Nic(peerEnv, "eth0", { mac: macOf(2), rxRingSize: 512, txRingSize: 512 });
  const link = new WireLink("wire", device, peer, new Prng(1), { delayNs: 1000 });
  const sent: Uint8Array[] = [];
  const posted = arena.outstanding;
  return {
    env,
    device,
    fullReason: DropReason.fullRing,
    refuses: true,
    // A frame takes 480 µs, and no time passes until the test settles.
    hold: () => link.set({ rateBitsPerSecond: 1e6 }),
    unhold() {},
    arrive(frame) {
      const skb = peerEnv.pool.alloc(frame.length);
      if (skb === null) throw new Error("no memory");
      skb.bytes.set(frame, skb.put(frame.length));
      peer.transmit(skb);
      peer.flush();
    },
    settle: () => runUntil([env, peerEnv], env.clock.nowNs + 1e9),
    sent() {
      peer.receive(10000, (skb) => {
        sent.push(skb.bytes.slice(skb.data, skb.tail));
        peerEnv.drops.consume(skb);
      });
      return sent;
    },
    outstanding() {
      this.sent();
      return arena.outstanding - posted;
    },
    outstandingAfterClose() {
      peer.close();
      link.close();
      return arena.outstanding + env.pool.outstanding + peerEnv.pool.outstanding;
    },
  };
}

function loopback(): DeviceBench {
  const arena = new Arena(SMALL_ARENA);
  const env = makeEnv("a", arena);
  env.sysctl.netdevMaxBacklog = 63;
  const device = new Loopback(env);
  const sent: Uint8Array[] = [];
  return {
    env,
    device,
    fullReason: DropReason.cpuBacklog,
    refuses: false,
    hold() {},
    unhold() {},
    arrive(frame) {
      const skb = env.pool.alloc(frame.length);
      if (skb === null) throw new Error("no memory");
      skb.bytes.set(frame, skb.put(frame.length));
      device.transmit(skb);
      device.flush();
    },
    settle: () => runUntil([env], env.clock.nowNs + 1e6),
    sent() {
      device.receive(10000, (skb) => {
        sent.push(skb.bytes.slice(skb.data, skb.tail));
        env.drops.consume(skb);
      });
      return sent;
    },
    outstanding: () => arena.outstanding,
    outstandingAfterClose: () => arena.outstanding + env.pool.outstanding,
  };
}

deviceConformance("Nic on a WireLink", nicOnLink);
deviceConformance("Loopback", loopback);
