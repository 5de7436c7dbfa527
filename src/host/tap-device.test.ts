/** The TAP driver over a descriptor of our own: what the kernel would do is said by the test. */
import { describe, expect, it } from "vitest";
import { type DeviceBench, deviceConformance, numbered, numberOf } from "../../tests/conformance/device.ts";
import { Lan, macOf, makeEnv, runUntil, SMALL_ARENA } from "../../tests/conformance/lan.ts";
import { finish, fold, pseudoHeaderV4, sum } from "../base/checksum.ts";
import { DropReason } from "../base/drop-reasons.ts";
import { Errno } from "../base/errno.ts";
import { Arena, FRAME_SLOT, PAGE_SLOT, SMALL_SLOT } from "../skb/arena.ts";
import { type SkBuff, Summed } from "../skb/skb.ts";
import * as ethernet from "../wire/ethernet.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";
import type { FrameFd } from "./frame-fd.ts";
import { TapDevice } from "./tap-device.ts";

const HEADER_BYTES = 10;

/** A virtio header, as the kernel writes it. */
function virtio(fields: { flags?: number; type?: number; size?: number; start?: number; offset?: number } = {}) {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint8(0, fields.flags ?? 0);
  view.setUint8(1, fields.type ?? 0);
  view.setUint16(4, fields.size ?? 0, true);
  view.setUint16(6, fields.start ?? 0, true);
  view.setUint16(8, fields.offset ?? 0, true);
  return header;
}

function joined(header: Uint8Array, frame: Uint8Array): Uint8Array {
  return Uint8Array.from([...header, ...frame]);
}

/** The kernel's side of a TAP: two queues, and what write(2) answers. */
class FakeTap implements FrameFd {
  readonly fd = 99;
  readonly incoming: Uint8Array[] = [];
  readonly written: Uint8Array[] = [];
  reads = 0;
  /** What the next writes answer instead of taking the frame: -errno, or 0 to take it. */
  writeError = 0;
  readError = 0;
  isClosed = false;
  private readonly arena: Arena;

  constructor(arena: Arena) {
    this.arena = arena;
  }

  read(at: number, len: number): number {
    this.reads++;
    if (this.readError !== 0) return -this.readError;
    const bytes = this.incoming.shift();
    if (bytes === undefined) return -Errno.EAGAIN;
    this.arena.bytes.set(bytes.subarray(0, len), at);
    return bytes.length;
  }

  write(at: number, len: number): number {
    if (this.writeError !== 0) return -this.writeError;
    this.written.push(this.arena.bytes.slice(at, at + len));
    return len;
  }

  close(): void {
    this.isClosed = true;
  }
}

function world(limits = SMALL_ARENA) {
  const arena = new Arena(limits);
  const env = makeEnv("host", arena);
  const tap = new FakeTap(arena);
  const options = { fd: tap.fd, name: "tap0", mac: new Uint8Array([2, 0, 0, 0, 0, 1]), mtu: 1500 };
  const device = new TapDevice(env, options, tap);
  /** Takes what is there; the skbs are the caller's. */
  const receive = (budget = 64): SkBuff[] => {
    const skbs: SkBuff[] = [];
    device.receive(budget, (skb) => skbs.push(skb));
    return skbs;
  };
  const skbOf = (bytes: Uint8Array): SkBuff => {
    const skb = env.pool.alloc(bytes.length) as SkBuff;
    skb.bytes.set(bytes, skb.put(bytes.length));
    return skb;
  };
  return { arena, env, tap, device, receive, skbOf };
}

function bench(): DeviceBench {
  const { arena, env, tap, device } = world();
  return {
    env,
    device,
    fullReason: null,
    refuses: true,
    hold: () => {
      tap.writeError = Errno.EAGAIN;
    },
    unhold: () => {
      tap.writeError = 0;
    },
    arrive: (frame) => tap.incoming.push(joined(virtio(), frame)),
    settle() {
      device.poll();
      runUntil([env], env.clock.nowNs + 1e9);
    },
    sent: () => tap.written.map((bytes) => bytes.slice(HEADER_BYTES)),
    // One 64 KB slot is posted once anything was read.
    outstanding: () => Math.max(0, arena.outstanding - 1),
    outstandingAfterClose: () => arena.outstanding + env.pool.outstanding,
  };
}

deviceConformance("TapDevice on a fake descriptor", bench);

/** A TCP segment over IPv4 with `payload` bytes, headers without options, complete but for the TCP checksum. */
function segment(payload: number, flags: number = tcp.Flag.ack): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 20 + payload);
  const view = new DataView(frame.buffer);
  view.setUint16(12, ethernet.EtherType.ipv4);
  ipv4.writeHeader(frame, view, 14, 40 + payload, 0, ipv4.FLAG_DF, 64, 6, 0xc6120002, 0xc6120001, 0);
  view.setUint16(34, 1000);
  view.setUint16(36, 80);
  tcp.setDataOffset(view, 34, 20);
  tcp.setFlags(view, 34, flags);
  return frame;
}

describe("what a TAP says about a frame it hands over", () => {
  it.each([
    ["nothing", {}, Summed.none],
    ["the sum is good", { flags: 2 }, Summed.unnecessary],
    ["the field holds the pseudo-header sum", { flags: 1, start: 34, offset: 16 }, Summed.partial],
  ])("%s", (_what, fields, summed) => {
    const { tap, receive } = world();
    tap.incoming.push(joined(virtio(fields), segment(100)));
    const [skb] = receive();
    expect([skb.summed, skb.gsoSize, skb.len]).toEqual([summed, 0, 154]);
  });

  it("a super-segment stays in its 64 KB slot and says its segment size", () => {
    const { tap, receive, arena } = world();
    const frame = segment(64000);
    frame[64053] = 7;
    tap.incoming.push(joined(virtio({ flags: 1, type: 1, size: 1448, start: 34, offset: 16 }), frame));
    const [skb] = receive();
    expect([skb.gsoSize, skb.summed, skb.len]).toEqual([1448, Summed.partial, 64054]);
    expect(arena.slotSize(skb.head)).toBe(PAGE_SLOT);
    expect(skb.bytes[skb.tail - 1]).toBe(7);
  });

  it.each([
    [60, SMALL_SLOT],
    [246, SMALL_SLOT],
    [247, FRAME_SLOT],
    [1514, FRAME_SLOT],
    [2038, FRAME_SLOT],
    [2039, PAGE_SLOT],
  ])("a frame of %i bytes is kept in a slot of %i, its IP header at a multiple of four", (len, slot) => {
    const { tap, receive, arena } = world();
    tap.incoming.push(joined(virtio(), new Uint8Array(len).fill(9)));
    const [skb] = receive();
    expect([skb.len, arena.slotSize(skb.head), (skb.data + 14) % 4]).toEqual([len, slot, 0]);
    expect(skb.bytes.slice(skb.data, skb.tail)).toEqual(new Uint8Array(len).fill(9));
  });

  it.each([
    ["a checksum beyond the frame", virtio({ flags: 1, start: 34, offset: 200 })],
    ["a kind of super-segment that was not offered", virtio({ flags: 1, type: 5, size: 1000, start: 34, offset: 6 })],
    ["a super-segment of nothing", virtio({ flags: 1, type: 1, size: 0, start: 34, offset: 16 })],
    ["a super-segment whose sum is finished", virtio({ type: 1, size: 1448 })],
  ])("drops a header that makes no sense: %s", (_what, header) => {
    const { tap, receive, device, env } = world();
    tap.incoming.push(joined(header, segment(100)), joined(virtio(), numbered(5)));
    expect(receive().map((skb) => numberOf(skb.bytes.slice(skb.data, skb.tail)))).toEqual([5]);
    expect([device.stats.rxErrors, env.drops.counts[DropReason.devHdr]]).toEqual([1, 1]);
  });

  it("a frame larger than the slot is dropped, not read past", () => {
    const { tap, receive, device, env } = world();
    tap.incoming.push(new Uint8Array(PAGE_SLOT + 1), joined(virtio(), numbered(1)));
    expect(receive()).toHaveLength(1);
    expect([device.stats.rxErrors, env.drops.counts[DropReason.devHdr]]).toEqual([1, 1]);
  });
});

describe("what a TAP is told about a frame", () => {
  const sentHeader = (skb: SkBuff, w: ReturnType<typeof world>): DataView => {
    w.device.transmit(skb);
    w.device.flush();
    const [bytes] = w.tap.written;
    return new DataView(bytes.buffer, 0, HEADER_BYTES);
  };
  const asTcp = (skb: SkBuff): SkBuff => {
    skb.net = skb.data + 14;
    skb.transport = skb.net + 20;
    return skb;
  };

  it("nothing, if it is complete", () => {
    const w = world();
    const header = sentHeader(w.skbOf(segment(10)), w);
    expect(new Uint8Array(header.buffer, 0, HEADER_BYTES)).toEqual(new Uint8Array(HEADER_BYTES));
    expect(w.tap.written[0].slice(HEADER_BYTES)).toEqual(segment(10));
  });

  it("where the sum is to go: TCP at 34 + 16, UDP at 34 + 6", () => {
    for (const [protocol, offset] of [
      [6, 16],
      [17, 6],
    ]) {
      const w = world();
      const bytes = segment(10);
      bytes[14 + 9] = protocol;
      const skb = asTcp(w.skbOf(bytes));
      skb.summed = Summed.partial;
      const header = sentHeader(skb, w);
      expect([header.getUint8(0), header.getUint16(6, true), header.getUint16(8, true)]).toEqual([1, 34, offset]);
      expect([header.getUint8(1), header.getUint16(4, true)]).toEqual([0, 0]);
    }
  });

  it.each([
    [tcp.Flag.ack, 1],
    [tcp.Flag.ack | tcp.Flag.cwr, 0x81],
  ])("how to cut a super-segment with flags %i", (flags, type) => {
    const w = world();
    const skb = asTcp(w.skbOf(segment(20000, flags)));
    skb.summed = Summed.partial;
    skb.gsoSize = 1448;
    const header = sentHeader(skb, w);
    expect([header.getUint8(1), header.getUint16(2, true), header.getUint16(4, true)]).toEqual([type, 54, 1448]);
    expect(w.device.stats.txBytes).toBe(20054);
  });

  it("makes room for the header where there is none, and refuses what fills its slot", () => {
    const w = world();
    const bytes = numbered(3);
    const skb = w.env.pool.alloc(bytes.length, 4) as SkBuff;
    skb.bytes.set(bytes, skb.put(bytes.length));
    w.device.transmit(skb);
    w.device.flush();
    expect(w.tap.written[0]).toEqual(joined(virtio(), bytes));
    const full = w.env.pool.alloc(SMALL_SLOT, 0) as SkBuff;
    full.put(SMALL_SLOT);
    expect(w.device.transmit(full)).toBe(true);
    expect(w.env.drops.counts[DropReason.pktTooBig]).toBe(1);
  });

  it("refuses frames over the MTU and super-segments over a slot, with a reason", () => {
    const w = world();
    expect(w.device.transmit(w.skbOf(new Uint8Array(1515)))).toBe(true);
    const huge = w.env.pool.alloc(PAGE_SLOT - HEADER_BYTES + 1, 9) as SkBuff;
    huge.put(PAGE_SLOT - HEADER_BYTES + 1);
    huge.gsoSize = 1448;
    expect(w.device.transmit(huge)).toBe(true);
    expect([w.env.drops.counts[DropReason.pktTooBig], w.device.stats.txErrors]).toEqual([2, 2]);
  });
});

describe("what a TAP left unfinished is finished before it leaves by a cable", () => {
  /** A router between the TAP and a cable that takes neither unfinished sums nor super-segments. */
  function router() {
    const lan = new Lan();
    const host = lan.host("router");
    const far = lan.host("far");
    host.addNic(1, "10.1.0.1/24");
    far.addNic(2, "10.1.0.2/24");
    host.env.sysctl.ipForward = 1;
    const tap = new FakeTap(lan.arena);
    const mac = macOf(3);
    const device = new TapDevice(host.env, { fd: tap.fd, name: "tap0", mac, mtu: 1500 }, tap);
    host.net.addNic(device, "10.0.0.1/24");
    const passed: Uint8Array[] = [];
    lan.link(host.nics[0], far.nics[0]).addTap((_direction, bytes, at, len) => {
      if (bytes[at + 12] === 8 && bytes[at + 13] === 0) passed.push(bytes.slice(at, at + len));
    });
    /** A packet from 10.0.0.2 to 10.1.0.2, its transport checksum left at the pseudo-header's sum. */
    const forward = (protocol: number, field: number, header: Parameters<typeof virtio>[0], transport: Uint8Array) => {
      const frame = Uint8Array.from([...mac, ...macOf(4), 8, 0, ...new Uint8Array(20), ...transport]);
      const view = new DataView(frame.buffer);
      const [src, dst] = [0x0a000002, 0x0a010002];
      ipv4.writeHeader(frame, view, 14, 20 + transport.length, 1, ipv4.FLAG_DF, 64, protocol, src, dst, 0);
      view.setUint16(34 + field, fold(pseudoHeaderV4(src, dst, protocol, transport.length)));
      tap.incoming.push(joined(virtio({ flags: 1, start: 34, offset: field, ...header }), frame));
      device.poll();
      lan.runFor(1e9);
      // The whole of a segment and its pseudo header sums to zero.
      return passed.map((bytes) => {
        const len = bytes.length - 34;
        return { len, residue: finish(sum(bytes, 34, len, pseudoHeaderV4(src, dst, protocol, len))), bytes };
      });
    };
    return { forward };
  }

  it("a checksum", () => {
    const datagram = Uint8Array.from([0x13, 0x88, 0, 9, 0, 19, 0, 0, ...Buffer.from("hello world")]);
    const [{ len, residue }, ...more] = router().forward(17, 6, {}, datagram);
    expect([len, residue, more.length]).toEqual([19, 0, 0]);
  });

  it("a super-segment", () => {
    const payload = Uint8Array.from({ length: 3000 }, (_, i) => (i * 31) & 255);
    const bare = segment(3000, tcp.Flag.ack | tcp.Flag.psh).slice(34);
    bare.set(payload, 20);
    const pieces = router().forward(6, 16, { type: 1, size: 1448 }, bare);
    expect(pieces.map(({ len }) => len - 20)).toEqual([1448, 1448, 104]);
    expect(pieces.map(({ residue }) => residue)).toEqual([0, 0, 0]);
    expect(Buffer.concat(pieces.map(({ bytes }) => bytes.slice(54)))).toEqual(Buffer.from(payload));
  });
});

describe("trouble", () => {
  it("keeps frames the kernel has no room for and sends them in order a millisecond later", () => {
    const w = world();
    w.tap.writeError = Errno.ENOBUFS;
    for (let n = 0; n < 3; n++) w.device.transmit(w.skbOf(numbered(n)));
    w.device.flush();
    expect(w.device.txRing.used).toBe(3);
    w.tap.writeError = 0;
    runUntil([w.env], 0.9e6);
    expect(w.tap.written).toEqual([]);
    runUntil([w.env], 1e6);
    expect(w.tap.written.map((bytes) => numberOf(bytes.slice(HEADER_BYTES)))).toEqual([0, 1, 2]);
  });

  it("drops frames while the interface is down, as a card without carrier", () => {
    const w = world();
    w.tap.writeError = Errno.EIO;
    w.device.transmit(w.skbOf(numbered(1)));
    w.device.flush();
    expect([w.device.stats.txDropped, w.env.drops.counts[DropReason.devReady]]).toEqual([1, 1]);
    w.tap.writeError = 0;
    w.device.transmit(w.skbOf(numbered(2)));
    w.device.flush();
    expect(w.tap.written).toHaveLength(1);
  });

  it("counts a frame the kernel refuses for itself as an error", () => {
    const w = world();
    w.tap.writeError = Errno.EINVAL;
    w.device.transmit(w.skbOf(numbered(1)));
    w.device.flush();
    expect([w.device.stats.txErrors, w.env.drops.counts[DropReason.notSpecified]]).toEqual([1, 1]);
  });

  it.each(["read", "write"])("learns at a %s that the interface was deleted, and holds nothing from then on", (how) => {
    const w = world();
    w.tap.incoming.push(joined(virtio(), numbered(0)));
    w.device.poll();
    for (let n = 0; n < 3; n++) w.device.transmit(w.skbOf(numbered(n)));
    if (how === "read") {
      w.tap.readError = Errno.EBADFD;
      expect(w.receive()).toHaveLength(1);
    } else {
      w.tap.writeError = Errno.EBADFD;
      w.device.flush();
    }
    expect([w.device.isGone, w.device.fd, w.device.txRing.used]).toEqual([true, -1, 0]);
    w.device.transmit(w.skbOf(numbered(9)));
    expect(w.env.drops.counts[DropReason.devReady]).toBe(4);
    w.device.close();
    expect(w.tap.isClosed).toBe(true);
  });

  it("leaves frames outside, and is not slept on, while there is no memory to read into", () => {
    const w = world({ smallSlots: 8, frameSlots: 2, pageSlots: 1 });
    const page = w.arena.alloc(PAGE_SLOT);
    let interrupts = 0;
    w.device.onInterrupt = () => interrupts++;
    w.tap.incoming.push(joined(virtio(), numbered(1)));
    expect([w.device.poll(), w.tap.reads, w.device.fd]).toEqual([false, 0, -1]);
    runUntil([w.env], 5e6);
    expect([w.tap.reads, w.device.fd]).toEqual([0, -1]);
    w.arena.release(page);
    runUntil([w.env], 6e6);
    expect([interrupts, w.device.fd]).toEqual([1, 99]);
    expect(w.receive()).toHaveLength(1);
  });

  it("makes no read to learn what it knows", () => {
    const w = world();
    w.device.onInterrupt = () => {};
    w.tap.incoming.push(joined(virtio(), numbered(1)));
    w.device.poll();
    w.receive();
    w.device.enableInterrupts();
    // One frame, one "nothing": not a third.
    expect(w.tap.reads).toBe(2);
    // While interrupts are off nobody looks.
    w.tap.incoming.push(joined(virtio(), numbered(2)));
    expect(w.device.poll()).toBe(true);
    w.device.poll();
    expect(w.tap.reads).toBe(3);
  });
});
