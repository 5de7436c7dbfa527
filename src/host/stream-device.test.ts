import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DeviceBench, deviceConformance, numbered, numberOf } from "../../tests/conformance/device.ts";
import { macOf, makeEnv, SMALL_ARENA, type TestEnv } from "../../tests/conformance/lan.ts";
import { FrameReader, framed, joined } from "../../tests/support/stream-peer.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Arena } from "../skb/arena.ts";
import type { SkBuff } from "../skb/skb.ts";
import { StreamDevice } from "./stream-device.ts";
import { StreamRings } from "./stream-rings.ts";

/** Rings so small that they fill in a test. */
const SIZES = { fromPeerBytes: 1 << 17, toPeerBytes: 4096 };

/** A device and, in place of the pump, a peer that reads and writes the rings' far ends. */
class Rig {
  readonly env: TestEnv;
  readonly rings: StreamRings;
  readonly far: StreamRings;
  readonly device: StreamDevice;
  /** Bytes of the peer that found no room yet. */
  private outside: Uint8Array = new Uint8Array(0);
  readonly sent: Uint8Array[] = [];
  private readonly reader = new FrameReader();
  isHeld = false;
  interrupts = 0;

  constructor({ arena = SMALL_ARENA, mtu = 1500, sizes = SIZES } = {}) {
    this.rings = new StreamRings(undefined, sizes);
    this.far = new StreamRings(this.rings.buffer, sizes);
    this.env = makeEnv("a", new Arena(arena));
    this.device = new StreamDevice(this.env, { name: "eth0", mac: macOf(1), mtu, rings: this.rings });
    this.device.onInterrupt = () => this.interrupts++;
    this.plug();
  }

  /** A peer comes, or goes with what it had not said yet. */
  plug(): void {
    this.outside = new Uint8Array(0);
    this.far.nextSession();
    this.device.poll();
  }

  say(bytes: Uint8Array): void {
    this.outside = joined([this.outside, bytes]);
    const n = Math.min(this.outside.length, this.far.fromPeer.free);
    this.far.fromPeer.copyIn(0, this.outside, 0, n);
    this.far.fromPeer.publish(n);
    this.outside = this.outside.slice(n);
  }

  /** The peer reads, writes what waits, and the kernel takes its turn, until nothing moves. */
  settle(): void {
    for (let moved = true; moved; ) {
      const waiting = this.outside.length;
      this.say(new Uint8Array(0));
      moved = this.outside.length < waiting;
      const n = this.isHeld ? 0 : this.far.toPeer.used;
      const bytes = new Uint8Array(n);
      this.far.toPeer.copyOut(0, bytes, 0, n);
      this.far.toPeer.release(n);
      this.sent.push(...this.reader.push(bytes));
      this.device.poll();
      moved ||= n > 0;
    }
  }

  /** A NAPI poll. */
  take(budget = 1000): Uint8Array[] {
    const frames: Uint8Array[] = [];
    const taken = this.device.receive(budget, (skb) => {
      frames.push(skb.bytes.slice(skb.data, skb.tail));
      this.env.drops.consume(skb);
    });
    if (taken < budget) this.device.enableInterrupts();
    return frames;
  }

  post(frame: Uint8Array): boolean {
    const skb = this.env.pool.alloc(frame.length) as SkBuff;
    skb.bytes.set(frame, skb.put(frame.length));
    const isTaken = this.device.transmit(skb);
    if (!isTaken) this.env.pool.release(skb);
    return isTaken;
  }

  dropped(reason: number): number {
    return this.env.drops.counts[reason];
  }

  get outstanding(): number {
    return this.env.pool.arena.outstanding + this.env.pool.outstanding;
  }
}

function bench(): DeviceBench {
  const rig = new Rig();
  const { env, device } = rig;
  return {
    env,
    device,
    fullReason: null,
    refuses: true,
    hold: () => {
      rig.isHeld = true;
    },
    unhold: () => {
      rig.isHeld = false;
    },
    arrive: (frame) => rig.say(framed(frame)),
    settle: () => rig.settle(),
    sent: () => rig.sent,
    outstanding: () => rig.outstanding,
    outstandingAfterClose: () => rig.outstanding,
  };
}

deviceConformance("StreamDevice", bench);

/** A frame of `len` bytes that starts with a number. */
function frameOf(n: number, len: number): Uint8Array {
  const frame = Uint8Array.from({ length: len }, (_, i) => (i * 7 + n) & 255);
  frame.set(numbered(n).subarray(0, Math.min(len, 16)));
  return frame;
}

const lengths = fc.array(fc.integer({ min: 14, max: 1514 }), { minLength: 1, maxLength: 40 });
const cuts = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 30 });

describe("the framing", () => {
  it("gives the same frames however the stream is cut", () => {
    fc.assert(
      fc.property(lengths, cuts, fc.nat(SIZES.fromPeerBytes), (sizes, pieces, lead) => {
        const rig = new Rig();
        // Anywhere in the ring: its end falls into lengths and frames.
        rig.far.fromPeer.publish(lead);
        rig.rings.fromPeer.release(lead);
        const frames = sizes.map((len, n) => frameOf(n, len));
        const stream = joined(frames.map(framed));
        const taken: Uint8Array[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const len = pieces[turn % pieces.length] as number;
          rig.say(stream.subarray(at, at + len));
          at += len;
          rig.settle();
          taken.push(...rig.take(1 + (turn % 3)));
        }
        taken.push(...rig.take());
        expect(taken).toEqual(frames);
        expect(rig.outstanding).toBe(0);
      }),
    );
  });

  it("writes each frame behind its length, whatever room there is", () => {
    fc.assert(
      fc.property(lengths, fc.nat(SIZES.toPeerBytes), (sizes, lead) => {
        const rig = new Rig();
        rig.rings.toPeer.publish(lead);
        rig.far.toPeer.release(lead);
        const frames = sizes.map((len, n) => frameOf(n, len));
        for (const frame of frames) expect(rig.post(frame)).toBe(true);
        rig.device.flush();
        rig.settle();
        expect(rig.sent).toEqual(frames);
        expect(rig.device.txRing.used).toBe(0);
      }),
    );
  });

  it("is u32 big-endian and the frame, nothing else", () => {
    const rig = new Rig();
    rig.post(frameOf(1, 300));
    rig.device.flush();
    const bytes = new Uint8Array(304);
    expect(rig.far.toPeer.used).toBe(304);
    rig.far.toPeer.copyOut(0, bytes, 0, 304);
    expect([...bytes.subarray(0, 10)]).toEqual([0, 0, 1, 44, 2, 0, 0, 0, 0, 1]);
  });

  it("takes the largest frame and the smallest", () => {
    const rig = new Rig({ mtu: 65_514, sizes: { fromPeerBytes: 1 << 17, toPeerBytes: 1 << 17 } });
    const frames = [frameOf(1, 65_528), frameOf(2, 14)];
    rig.say(joined(frames.map(framed)));
    rig.settle();
    expect(rig.take()).toEqual(frames);
  });
});

describe("a hostile peer", () => {
  for (const len of [0, 1, 13, 65_551, 0x7fffffff, 0xffffffff]) {
    it(`that announces a frame of ${len} bytes is closed; what came before counts`, () => {
      const rig = new Rig();
      const bad = new Uint8Array(200).fill(0x55);
      new DataView(bad.buffer).setUint32(0, len);
      rig.say(joined([framed(numbered(1)), bad]));
      rig.settle();
      expect(rig.take().map(numberOf)).toEqual([1]);
      expect(rig.far.expelledFor).toBe(len);
      expect([rig.device.stats.rxErrors, rig.dropped(DropReason.devHdr)]).toEqual([1, 1]);
      expect(rig.device.carrier).toBe(false);
      // Whatever it says until it is gone is thrown away, and does not fill the ring.
      for (let i = 0; i < 10; i++) {
        rig.say(new Uint8Array(100_000));
        rig.settle();
      }
      expect([rig.take(), rig.far.fromPeer.used, rig.device.stats.rxErrors]).toEqual([[], 0, 1]);
      rig.plug();
      rig.plug();
      rig.say(framed(numbered(2)));
      rig.settle();
      expect([rig.take().map(numberOf), rig.far.expelledFor]).toEqual([[2], -1]);
    });
  }

  it("that sends more than the MTU loses that frame and no other", () => {
    const rig = new Rig();
    rig.say(joined([frameOf(1, 1514), frameOf(2, 1515), frameOf(3, 65_550), frameOf(4, 60)].map(framed)));
    rig.settle();
    expect(rig.take().map(numberOf)).toEqual([1, 4]);
    expect([rig.device.stats.rxErrors, rig.dropped(DropReason.pktTooBig)]).toEqual([2, 2]);
    expect(rig.device.carrier).toBe(true);
  });

  it("that leaves in the middle of a frame: whole frames count, the half is dropped, the next peer starts afresh", () => {
    const rig = new Rig();
    rig.say(joined([framed(numbered(1)), framed(numbered(2)), framed(numbered(3)).subarray(0, 30)]));
    rig.plug();
    expect([rig.device.carrier, rig.far.isFollowed]).toEqual([false, false]);
    expect(rig.take(1).map(numberOf)).toEqual([1]);
    expect(rig.far.isFollowed).toBe(false);
    expect(rig.take().map(numberOf)).toEqual([2]);
    expect(rig.far.isFollowed).toBe(true);
    expect([rig.device.stats.rxErrors, rig.dropped(DropReason.pktTooSmall)]).toEqual([1, 1]);
    rig.plug();
    rig.say(framed(numbered(4)));
    rig.settle();
    expect(rig.take().map(numberOf)).toEqual([4]);
    expect(rig.device.stats.rxErrors).toBe(1);
  });

  it("that says anything at all neither crashes nor stalls the device", () => {
    const noise = fc.array(
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 400 }),
        fc.integer({ min: 0, max: 1600 }).map((n) => Uint8Array.of(0, 0, n >> 8, n & 255)),
        fc.integer({ min: 14, max: 1514 }).map((n) => framed(frameOf(n, n))),
        fc.constant<"plug">("plug"),
      ),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(noise, (steps) => {
        const rig = new Rig();
        for (const step of steps) {
          // The pump plugs a peer in only when the device has followed the last one.
          if (step !== "plug") {
            if (rig.far.session % 2 !== 0) rig.say(step);
          } else if (rig.far.session % 2 !== 0 || rig.far.isFollowed) rig.plug();
          rig.settle();
          rig.take(2);
        }
        if (rig.far.session % 2 !== 0) rig.plug();
        rig.settle();
        rig.take();
        expect([rig.far.isFollowed, rig.far.fromPeer.used, rig.outstanding]).toEqual([true, 0, 0]);
        rig.plug();
        rig.say(framed(numbered(9)));
        rig.settle();
        expect(rig.take().map(numberOf)).toEqual([9]);
      }),
    );
  });
});

describe("carrier", () => {
  it("without it frames are dropped with DEV_READY; with it they flow", () => {
    const rig = new Rig();
    rig.plug();
    expect([rig.device.carrier, rig.post(numbered(1))]).toEqual([false, true]);
    rig.device.flush();
    expect([rig.device.stats.txDropped, rig.dropped(DropReason.devReady), rig.far.toPeer.used]).toEqual([1, 1, 0]);
    rig.plug();
    rig.post(numbered(2));
    rig.device.flush();
    rig.settle();
    expect(rig.sent.map(numberOf)).toEqual([2]);
  });

  it("when it goes, what waited to be sent is dropped and a stopped queue is woken", () => {
    const rig = new Rig();
    let woken = 0;
    rig.device.onTransmitSpace = () => woken++;
    rig.isHeld = true;
    let posted = 0;
    while (rig.post(frameOf(posted, 1514))) {
      rig.device.flush();
      posted++;
    }
    // Two frames of 1518 bytes fit in 4096.
    expect(posted).toBe(rig.device.txRing.size + 2);
    rig.plug();
    expect(rig.dropped(DropReason.devReady)).toBe(rig.device.txRing.size);
    expect([rig.device.txRing.used, woken, rig.outstanding]).toEqual([0, 1, 0]);
  });
});

describe("back-pressure", () => {
  it("a kernel that does not poll leaves frames with the sender, and loses none", () => {
    const rig = new Rig();
    const frames = Array.from({ length: 200 }, (_, n) => frameOf(n, 1400));
    rig.say(joined(frames.map(framed)));
    rig.settle();
    expect(rig.far.fromPeer.free).toBe(0);
    const taken: Uint8Array[] = [];
    while (taken.length < frames.length) {
      taken.push(...rig.take(64));
      rig.settle();
    }
    expect(taken).toEqual(frames);
    expect(rig.device.stats.rxDropped + rig.device.stats.rxErrors).toBe(0);
  });

  it("rings a pump that waits, once a quarter of the ring is free", () => {
    const rig = new Rig();
    rig.say(joined(Array.from({ length: 100 }, (_, n) => framed(frameOf(n, 1400)))));
    rig.far.pumpWaits();
    expect(rig.far.hasRoomFromPeer).toBe(false);
    const before = rig.far.pumpRings;
    rig.take(10);
    expect(rig.far.pumpRings).toBe(before);
    rig.take(14);
    // 24 × 1404 bytes of 131,072 are more than a quarter.
    expect([rig.far.hasRoomFromPeer, rig.far.pumpRings]).toEqual([true, before + 1]);
  });

  it("out of memory drops with NOMEM, and the budget bounds that too", () => {
    const rig = new Rig({ arena: { smallSlots: 0, frameSlots: 2, pageSlots: 0 } });
    rig.say(joined(Array.from({ length: 10 }, (_, n) => framed(numbered(n)))));
    rig.settle();
    const kept: SkBuff[] = [];
    expect(rig.device.receive(4, (skb) => kept.push(skb))).toBe(4);
    expect([kept.length, rig.dropped(DropReason.noMem), rig.device.stats.rxDropped]).toEqual([2, 2, 2]);
    for (const skb of kept) rig.env.drops.consume(skb);
    expect(rig.take(1).map(numberOf)).toEqual([4]);
  });
});
