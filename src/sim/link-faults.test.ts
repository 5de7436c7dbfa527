import { expect, it } from "vitest";
import type { LinkDirection, LinkTap, WireLink } from "../device/wire-link.ts";
import * as ethernet from "../wire/ethernet.ts";
import * as ipv4 from "../wire/ipv4.ts";
import * as tcp from "../wire/tcp.ts";
import * as udp from "../wire/udp.ts";
import { loseNext, tcpPayloadBytes } from "./link-faults.ts";

function packet(protocol: number, payload: Uint8Array): Uint8Array {
  const ip = ipv4.emit({
    src: 1,
    dst: 2,
    protocol,
    ttl: 64,
    tos: 0,
    id: 0,
    reservedFlag: false,
    dontFragment: true,
    moreFragments: false,
    fragmentOffset: 0,
    options: new Uint8Array(0),
    payload,
  });
  const macs = { dst: "02:00:00:00:00:01", src: "02:00:00:00:00:02" };
  const frame = ethernet.emit({ ...macs, etherType: ethernet.EtherType.ipv4, payload: ip });
  // Padded as on a real wire: padding is no payload.
  const padded = new Uint8Array(Math.max(frame.length, ethernet.MIN_FRAME_LEN));
  padded.set(frame);
  return padded;
}

function segment(payloadBytes: number): Uint8Array {
  const header = { srcPort: 1, dstPort: 2, seq: 0, ack: 0, reserved: 0, flags: tcp.Flag.ack, window: 0, checksum: 0 };
  return packet(
    6,
    tcp.emit({ ...header, urgent: 0, options: [{ kind: "nop" }], payload: new Uint8Array(payloadBytes) }),
  );
}

it("knows the TCP payload of a frame", () => {
  const of = (frame: Uint8Array): number => tcpPayloadBytes(frame, 0, frame.length);
  expect([of(segment(0)), of(segment(1)), of(segment(1000))]).toEqual([0, 1, 1000]);
  expect(of(packet(17, udp.emit({ srcPort: 1, dstPort: 2, checksum: 0, payload: new Uint8Array(100) })))).toBe(0);
  expect(of(new Uint8Array(60))).toBe(0);
  expect(of(new Uint8Array(5))).toBe(0);
});

/** A cable that carries or loses by its `down` setting, as the real one does. */
function cable() {
  const down: [boolean, boolean] = [false, false];
  const taps: LinkTap[] = [];
  const link = {
    set(change: { down?: boolean }, direction: LinkDirection) {
      down[direction] = change.down ?? down[direction];
      return null;
    },
    addTap(tap: LinkTap) {
      taps.push(tap);
      return () => {};
    },
  } as unknown as WireLink;
  const send = (direction: LinkDirection, frame: Uint8Array): boolean => {
    const lost = down[direction];
    for (const tap of taps) tap(direction, frame, 0, frame.length, 0, lost);
    return !lost;
  };
  return { link, send };
}

it("loses the next frame of one direction, once", () => {
  const { link, send } = cable();
  const loss = loseNext(link, 1, false);
  expect(send(0, segment(5))).toBe(true);
  expect(loss.done).toBe(false);
  expect(send(1, segment(0))).toBe(false);
  expect(loss).toMatchObject({ done: true, lostFrames: 1 });
  expect(send(1, segment(0))).toBe(true);
});

it("waits for a frame with payload, losing the bare ACKs before it", () => {
  const { link, send } = cable();
  const loss = loseNext(link, 0, true);
  expect([send(0, segment(0)), send(0, segment(9)), send(0, segment(9))]).toEqual([false, false, true]);
  expect(loss.lostFrames).toBe(2);
});

it("can be cancelled", () => {
  const { link, send } = cable();
  const loss = loseNext(link, 0, true);
  loss.cancel();
  expect(send(0, segment(9))).toBe(true);
});
